"""Rows sorted by the hash of their request id, however many there are: 256 heaps, kept on disk when they grow.

A row begins with its key, SHA-256 of the request id; the first byte of the key names the heap.
"""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from brivionix_billing.usage.record_file import Record

__all__ = ["AT", "CELL", "CHUNK_LINES", "ID", "KEY", "LEAF", "LINE", "MORE", "OUT", "READ", "TEXT"]
__all__ += ["DuplicateDetector", "SpilledPartitions", "DuplicateReport", "RecordRow", "pack_rows"]

CHUNK_LINES: Final = 16_384
"""So many records are held at once."""
_MAX_MEMORY_BYTES: Final = 32 * 1024 * 1024
_MAX_NAMED: Final = 1_000

RecordRow = tuple[Any, ...]
"""One record: what it takes to sort it, to count it, and to name it. ``marshal`` can store it."""
KEY, ID, LINE, LEAF, CELL, AT, TEXT, READ, OUT, MORE = range(10)


def pack_rows(heaps: Iterable[list[RecordRow]]) -> list[tuple[int, bytes]]:
    """(heap, rows as bytes) of every heap that is not empty."""
    return [(number, marshal.dumps(heap)) for number, heap in enumerate(heaps) if heap]


class SpilledPartitions:
    """Packed rows by heap, in memory up to a bound and beyond it in a temporary file."""

    def __init__(self) -> None:
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(256)]
        self._file = tempfile.SpooledTemporaryFile(max_size=_MAX_MEMORY_BYTES)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> SpilledPartitions:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, heaps: Iterable[tuple[int, bytes]]) -> None:
        """Take in packed rows."""
        for number, data in heaps:
            self._places[number].append((self._file.tell(), len(data)))
            self._file.write(data)

    def iter_sorted(self) -> Iterator[list[RecordRow]]:
        """The heaps in order, each sorted by key, then id, then line."""
        for places in self._places:
            rows: list[RecordRow] = []
            for offset, size in places:
                self._file.seek(offset)
                rows += marshal.loads(self._file.read(size))  # noqa: S302  # written by ourselves, to a file of no name
            rows.sort()
            yield rows


class DuplicateReport(NamedTuple):
    """Request ids that stand more than once in a file."""

    same: int
    """Records that repeat an equal one."""
    conflicts: int
    """Ids with different contents."""
    named: list[tuple[str, list[int], bool]]
    """(request id, lines, whether all are equal) of the first thousand."""


class DuplicateDetector:
    """Finds request ids that stand more than once, in bounded memory, for those who read record by record."""

    def __init__(self) -> None:
        self._heaps = SpilledPartitions()
        self._held: list[list[RecordRow]] = [[] for _ in range(256)]
        self._count = 0

    def __enter__(self) -> DuplicateDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self._heaps.__exit__()

    def add(self, record: Record) -> None:
        """Take note of a record."""
        key = sha256(record.request_id.encode()).digest()
        self._held[key[0]].append((key, record.request_id, record.line, record.leaf))
        self._count += 1
        if not self._count % CHUNK_LINES:
            self._flush()

    def _flush(self) -> None:
        self._heaps.append(pack_rows(self._held))
        self._held = [[] for _ in range(256)]

    def report(self) -> DuplicateReport:
        """What stood more than once."""
        self._flush()
        same = conflicts = 0
        named: list[tuple[str, list[int], bool]] = []
        for heap in self._heaps.iter_sorted():
            for _, group in groupby(heap, itemgetter(KEY)):
                rows = list(group)
                if len(rows) > 1:
                    equal = all(row[LEAF] == rows[0][LEAF] for row in rows)
                    same += (len(rows) - 1) if equal else 0
                    conflicts += not equal
                    if len(named) < _MAX_NAMED:
                        named.append((rows[0][ID], [row[LINE] for row in rows], equal))
        return DuplicateReport(same, conflicts, named)
