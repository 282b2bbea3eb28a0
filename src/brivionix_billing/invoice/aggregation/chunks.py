"""Chunks: the rows, sums and rejections of some lines of a usage file, in values that can be passed to a process."""

from __future__ import annotations

from hashlib import sha256
from itertools import chain
from typing import Final, NamedTuple

from brivionix_billing.invoice.aggregation.buckets import BucketKey, bucket_number
from brivionix_billing.invoice.aggregation.partitions import PARTITION_COUNT, PackedPartition, pack_partitions
from brivionix_billing.invoice.aggregation.rows import UNBILLED, BucketSums, PackedRow, sum_rows
from brivionix_billing.usage.record_file import Record, RejectedRecord

__all__ = ["Chunk", "ChunkRows", "FoundRecords"]

_MAX_FOUND: Final = 1000


class FoundRecords(NamedTuple):
    """The times and accounts of records: what a file has, if it has nothing to bill."""

    first: str = ""
    """The earliest time in UTC, without Z; empty if there is no record."""
    last: str = ""
    accounts: frozenset[str] = frozenset()
    """The accounts, or some of them if they are a thousand or more."""

    def is_without(self, account: str) -> bool:
        """Return whether there is surely no record of an account."""
        return account not in self.accounts and len(self.accounts) < _MAX_FOUND

    def join(self, other: FoundRecords) -> FoundRecords:
        """Return both together."""
        firsts = [each.first for each in (self, other) if each.first]
        accounts = self.accounts if len(self.accounts) >= _MAX_FOUND else self.accounts | other.accounts
        return FoundRecords(min(firsts, default=""), max(self.last, other.last), accounts)


class Chunk(NamedTuple):
    """The content of some lines of a usage file."""

    lines: int
    size: int
    """Bytes."""
    out_of_scope: int
    """Number of records of other accounts or outside the period."""
    found: FoundRecords
    """The times and accounts of these records."""
    buckets: dict[BucketKey, int]
    """The numbers of those that no earlier chunk of the same reader had, or of more."""
    sums: dict[int, BucketSums]
    """By the numbers of the buckets."""
    partitions: list[PackedPartition]
    rejected: list[RejectedRecord]


class ChunkRows:
    """The rows of a chunk so far, and what has none."""

    def __init__(self, numbers: dict[BucketKey, int]) -> None:
        """``numbers`` are those of earlier buckets."""
        self.numbers = numbers
        self.partitions: list[list[PackedRow]] = [[] for _ in range(PARTITION_COUNT)]
        self.buckets: dict[BucketKey, int] = {}
        """The numbers of those that are new."""
        self.rejected: list[RejectedRecord] = []
        self.out_of_scope = 0
        self.first_at, self.last_at, self.accounts = "", "", set[str]()

    def number_bucket(self, key: BucketKey) -> int:
        """Return the number of a bucket."""
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = self.buckets[key] = bucket_number(key)
        return number

    def add_unbilled(self, request_id: str, line: int, leaf: bytes) -> None:
        """Add the row of a record that counts for duplicates only."""
        key = sha256(request_id.encode()).digest()
        self.partitions[key[0]].append((key, request_id, line, leaf, UNBILLED, UNBILLED, "", 0, 0, 0, ()))

    def add_out_of_scope(self, record: Record) -> None:
        """Add a record of another account or outside the period."""
        self.out_of_scope += 1
        if not self.first_at or record.at_text < self.first_at:
            self.first_at = record.at_text
        self.last_at = max(self.last_at, record.at_text)
        if len(self.accounts) < _MAX_FOUND:
            self.accounts.add(record.origin.account)
        self.add_unbilled(record.request_id, record.line, record.leaf)

    def add_rejected(self, record: RejectedRecord) -> None:
        """Add a line that cannot be billed."""
        self.rejected.append(record)
        if record.leaf is not None and record.request_id is not None:
            self.add_unbilled(record.request_id, record.line, record.leaf)

    def chunk(self, lines: int, size: int) -> Chunk:
        """Return the chunk, which has this number of lines and bytes."""
        found = FoundRecords(self.first_at, self.last_at, frozenset(self.accounts))
        sums = sum_rows(chain.from_iterable(self.partitions))
        packed = pack_partitions(self.partitions)
        return Chunk(lines, size, self.out_of_scope, found, self.buckets, sums, packed, self.rejected)
