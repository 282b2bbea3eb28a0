"""Rows in 256 partitions by the hash of their request id, moved to a temporary file when they grow.

A row begins with its key, SHA-256 of the request id. The first byte of the key is the number of the partition.
"""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from brivionix_billing.usage.record_file import Record

__all__ = ["CHUNK_LINES", "PARTITION_COUNT", "DuplicateDetector", "DuplicateReport", "PackedPartition"]
__all__ += ["SpilledPartitions", "pack_partitions", "unpack_sorted"]

R = TypeVar("R", bound=tuple[Any, ...])

PARTITION_COUNT: Final = 256
CHUNK_LINES: Final = 16_384
"""Maximum number of records in memory before they are packed."""
_MAX_MEMORY_BYTES: Final = 32 * 1024 * 1024
_MAX_NAMED: Final = 1_000

_FORMAT: Final = 2
"""The last format of ``marshal`` that does not look for objects that occur more than once, which takes longer."""

PackedPartition = tuple[int, bytes]
"""(number of the partition, some of its rows as bytes)."""


def pack_partitions(partitions: Sequence[list[R]]) -> list[PackedPartition]:
    """Pack the rows of every partition that is not empty. A row must be a plain tuple: ``marshal`` takes no other."""
    return [(number, marshal.dumps(rows, _FORMAT)) for number, rows in enumerate(partitions) if rows]


class SpilledPartitions:
    """Packed rows by partition: in memory up to a limit, beyond it in a temporary file."""

    def __init__(self) -> None:
        self._locations: list[list[tuple[int, int]]] = [[] for _ in range(PARTITION_COUNT)]
        """By partition: (offset, size) of its packed rows."""
        self._file = tempfile.SpooledTemporaryFile(max_size=_MAX_MEMORY_BYTES)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> SpilledPartitions:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, packed: Iterable[PackedPartition]) -> None:
        """Add packed rows."""
        for number, data in packed:
            self._locations[number].append((self._file.tell(), len(data)))
            self._file.write(data)

    def iter_packed(self) -> Iterator[list[bytes]]:
        """Yield the packed rows of each partition that has some, in order of their numbers."""
        for locations in self._locations:
            packed = []
            for offset, size in locations:
                self._file.seek(offset)
                packed.append(self._file.read(size))
            if packed:
                yield packed


def unpack_sorted(packed: Iterable[bytes]) -> list[tuple[Any, ...]]:
    """Return the rows of a partition, sorted by key, then by the other fields."""
    rows: list[tuple[Any, ...]] = []
    for data in packed:
        rows += marshal.loads(data)  # noqa: S302  # packed by this program, and kept in an unnamed file
    rows.sort()
    return rows


class DuplicateReport(NamedTuple):
    """The request ids that occur more than once in a file."""

    same: int
    """Number of records that repeat an equal one."""
    conflicts: int
    """Number of ids that have different contents."""
    named: list[tuple[str, list[int], bool]]
    """(request id, lines, whether all are equal), at most the first thousand."""


class _SeenRecord(NamedTuple):
    key: bytes
    request_id: str
    line: int
    leaf: bytes


class DuplicateDetector:
    """Finds repeated request ids in bounded memory, for a caller that reads record by record."""

    def __init__(self) -> None:
        self._partitions = SpilledPartitions()
        self._unpacked: list[list[tuple[bytes, str, int, bytes]]] = [[] for _ in range(PARTITION_COUNT)]
        self._count = 0

    def __enter__(self) -> DuplicateDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self._partitions.__exit__()

    def add(self, record: Record) -> None:
        """Remember the id and the content of a record."""
        key = sha256(record.request_id.encode()).digest()
        self._unpacked[key[0]].append((key, record.request_id, record.line, record.leaf))
        self._count += 1
        if not self._count % CHUNK_LINES:
            self._pack()

    def _pack(self) -> None:
        self._partitions.append(pack_partitions(self._unpacked))
        self._unpacked = [[] for _ in range(PARTITION_COUNT)]

    def report(self) -> DuplicateReport:
        """Return the repeated ids of all records so far."""
        self._pack()
        same = conflicts = 0
        named: list[tuple[str, list[int], bool]] = []
        for packed in self._partitions.iter_packed():
            for _, group in groupby(unpack_sorted(packed), itemgetter(0)):
                records = [_SeenRecord._make(row) for row in group]
                if len(records) > 1:
                    equal = all(record.leaf == records[0].leaf for record in records)
                    same += (len(records) - 1) if equal else 0
                    conflicts += not equal
                    if len(named) < _MAX_NAMED:
                        named.append((records[0].request_id, [record.line for record in records], equal))
        return DuplicateReport(same, conflicts, named)
