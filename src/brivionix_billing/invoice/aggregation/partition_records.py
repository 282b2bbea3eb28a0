"""Reads partitions: the records whose request ids have hashes that begin with the same byte, in tree order.

Partitions do not depend on each other, so several processes can read them in parallel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from brivionix_billing.invoice.aggregation.partitions import unpack_sorted
from brivionix_billing.invoice.aggregation.rows import COLUMN, UNBILLED, PackedRow, RecordRow

__all__ = ["AccountRecords", "Partition", "format_record_list", "read_partition"]

_ACCOUNT: Final = COLUMN["account"]
_UNACCOUNTED: Final = COLUMN["unaccounted"]
_key_of = itemgetter(COLUMN["key"])
_id_of = itemgetter(COLUMN["request_id"])
_leaf_of = itemgetter(COLUMN["leaf"])
_reference_of = itemgetter(COLUMN["at"], COLUMN["request_id"])


class AccountRecords(NamedTuple):
    """The billed records of one account in a partition, in tree order."""

    account: int
    """The number of the account."""
    leaves: bytes
    """The leaf hashes, packed."""
    lines: bytes
    """The lines of the list of records in UTF-8, empty if they were not requested."""
    first: tuple[str, str]
    last: tuple[str, str]
    """(time in UTC without Z, request id)."""


@dataclass(slots=True)
class Partition:
    """The billed records of a partition, in values that can be passed to another process."""

    accounts: list[AccountRecords] = field(default_factory=list)
    repeated: list[list[PackedRow]] = field(default_factory=list)
    """The records of each id that occurs more than once with the same content. The first is billed."""
    conflicts: list[list[PackedRow]] = field(default_factory=list)
    """The records of each id that has different contents. None is billed."""
    unaccounted: list[tuple[int, str, str]] = field(default_factory=list)
    """(number of the account, path, number as text) of what nothing is charged for."""
    notes: list[tuple[int, str, str, tuple[Any, ...]]] = field(default_factory=list)
    """(number of the account, request id, time in UTC without Z, notes of the comparison)."""


def read_partition(packed: Iterable[bytes], has_lines: bool) -> Partition:
    """Read the packed rows of a partition, and resolve its repeated ids."""
    rows = unpack_sorted(packed)
    partition = Partition()
    if len(set(map(_key_of, rows))) < len(rows):
        rows = list(_deduplicate(rows, partition))
    members = defaultdict[int, list[PackedRow]](list)
    for row in rows:
        members[row[_ACCOUNT]].append(row)
        if len(row) > _UNACCOUNTED:
            _add_further(RecordRow(*row), partition)
    members.pop(UNBILLED, None)
    for account, found in members.items():
        leaves, references = list(map(_leaf_of, found)), list(map(_reference_of, found))
        lines = format_record_list(leaves, map(_id_of, found)).encode() if has_lines else b""
        partition.accounts.append(AccountRecords(account, b"".join(leaves), lines, min(references), max(references)))
    return partition


def _add_further(row: RecordRow, partition: Partition) -> None:
    """Add what nothing is charged for, and notes."""
    partition.unaccounted += [(row.account, path, number) for path, number in row.unaccounted]
    if row.notes:
        partition.notes.append((row.account, row.request_id, row.at, row.notes))


def _deduplicate(rows: Iterable[PackedRow], partition: Partition) -> Iterator[PackedRow]:
    """Yield the rows with each id once: one of equal records, none of conflicting ones."""
    for _, group in groupby(rows, _key_of):
        same_id = list(group)
        if any(_leaf_of(row) != _leaf_of(same_id[0]) for row in same_id[1:]):
            partition.conflicts.append(same_id)
            continue
        if len(same_id) > 1:
            partition.repeated.append(same_id)
        yield same_id[0]


def format_record_list(leaves: Iterable[bytes], ids: Iterable[str]) -> str:
    """Return the lines of the list for records with these leaf hashes and request ids."""
    return "".join([f"{leaf.hex()} {request_id}\n" for leaf, request_id in zip(leaves, ids, strict=True)])
