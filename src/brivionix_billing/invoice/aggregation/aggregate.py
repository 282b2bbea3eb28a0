"""Aggregates a usage file into what bills need: sums by rate card, and evidence. Memory does not grow with the file.

Every record goes into one of 256 partitions by the first byte of SHA-256 of its request id. Large partitions move to a
temporary file. At the end, each partition is sorted by that hash and read once. Equal ids are then next to each other,
and the order of the records does not depend on the order of the file. In this order they are the leaves of the
account's Merkle tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.invoice.aggregation.account_usage import (
    AggregatedUsage,
    DailyUsage,
    Duplicate,
    UsageBucket,
    card_identity,
)
from brivionix_billing.invoice.aggregation.buckets import BucketKey, stable_number
from brivionix_billing.invoice.aggregation.chunks import Chunk
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.aggregation.leaves import HASH_BYTES, Forest, LeafRun
from brivionix_billing.invoice.aggregation.opening import open_plain_rows
from brivionix_billing.invoice.aggregation.partition_records import Partition, read_partition
from brivionix_billing.invoice.aggregation.partitions import SpilledPartitions
from brivionix_billing.invoice.aggregation.reader import ChunkReader, Comparison, read_chunks, reading_workers
from brivionix_billing.invoice.aggregation.rows import UNBILLED, BucketSums, RecordRow, sum_rows
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.processes import Workers
from brivionix_billing.rating import RateCard
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records

__all__ = [
    "TREE_SCHEME",
    "NoteCallback",
    "aggregate_usage",
]

TREE_SCHEME: Final = "rfc6962-sha256; leaf: canonical JSON of the record; order: sha256(request_id)"
"""The construction of a bill's Merkle tree, in the words of the bill."""

_MAX_LISTED: Final = 1_000
_MAX_NAMED_LINES: Final = 10

LeafCallback = Callable[[str, list[bytes], list[str]], None]
LineCallback = Callable[[str, bytes | memoryview], None]
"""Gets (account, lines of its list of records in UTF-8)."""
RunCallback = Callable[[LeafRun], None]
NoteCallback = Callable[[str, str, str, tuple[Any, ...]], None]
"""Gets (account, request id, time in UTC without Z, notes of the comparison) of a billed request."""
ProgressCallback = Callable[[int, int], None]


def aggregate_usage(
    lines: Iterable[bytes],
    book: PriceBook,
    period: Period | None = None,
    *,
    account: str | None = None,
    on_rejected: Callable[[RejectedRecord], None] | None = None,
    on_leaves: LeafCallback | None = None,
    on_lines: LineCallback | None = None,
    progress: ProgressCallback | None = None,
    workers: int = 0,
    dimensions: Dimensions | None = None,
    comparison: Comparison | None = None,
    on_notes: NoteCallback | None = None,
    watch: str | None = None,
) -> AggregatedUsage:
    """Read a usage file once, and add it up by account.

    A ``period`` of ``None`` is all time, an ``account`` of ``None`` all accounts. ``on_rejected`` is called with every
    record that cannot be billed, which states the reason. ``on_leaves`` is called with (account, leaf hashes, request
    ids) of billed records in tree order, once or more per account, and ``on_lines`` with the same records as (account,
    lines of the list of records). ``progress`` is called with (lines, bytes) read so far. Buckets are split by
    ``dimensions``. ``comparison`` also prices every billed request in other price books, and ``on_notes`` is called
    with its notes. The lines of the request with the id ``watch`` are kept.

    ``workers`` is a number of additional processes. They import the calling script, so it must keep its own work
    under ``if __name__ == "__main__"``.
    """
    reader = ChunkReader(book, period, account, dimensions, comparison)
    on_run = _run_callback(on_leaves, on_lines)
    if comparison is None and on_notes is None:
        with open_plain_rows(lines, reader, progress) as plain:
            if plain is not None:
                aggregator = _Aggregator(period, account, on_rejected, plain.add_leaves, None)
                usage = aggregator.run(plain.other_chunks(), Workers())
                plain.add_to(usage, on_run)
                if watch is not None and _is_unicode(watch):
                    usage.watched += (line for line in plain.find_lines(watch) if _request_id_of(line) == watch)
                return usage
    watched: list[bytes] = []
    if watch is not None:
        lines = _watch(lines, watch, watched)
    with reading_workers(reader, workers) as processes:
        chunks = _report_progress(read_chunks(lines, reader, processes), progress)
        usage = _Aggregator(period, account, on_rejected, on_run, on_notes).run(chunks, processes)
    usage.watched = watched
    return usage


def _report_progress(chunks: Iterable[Chunk], progress: ProgressCallback | None) -> Iterator[Chunk]:
    lines = size = 0
    for chunk in chunks:
        yield chunk
        lines, size = lines + chunk.lines, size + chunk.size
        if progress:
            progress(lines, size)


def _run_callback(on_leaves: LeafCallback | None, on_lines: LineCallback | None) -> RunCallback | None:
    if on_leaves is None and on_lines is None:
        return None

    def call(run: LeafRun) -> None:
        if on_leaves is not None:
            on_leaves(run.account, run.split_leaves(), run.ids())
        if on_lines is not None:
            on_lines(run.account, run.lines)

    return call


def _watch(lines: Iterable[bytes], request_id: str, watched: list[bytes]) -> Iterator[bytes]:
    """Yield lines, and keep those of one request."""
    needle = request_id.encode("utf-8", "surrogatepass")
    for line in lines:
        # An id may be written with escapes, so a line with a backslash is parsed as well.
        if (needle in line or b"\\" in line) and _request_id_of(line) == request_id:
            watched.append(line)
        yield line


def _request_id_of(line: bytes) -> str | None:
    record = next(read_records([line]), None)
    return record.request_id if isinstance(record, Record) else None


def _is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates, which no table has."""
    return text == text.encode("utf-8", "replace").decode()


class _Aggregator:
    def __init__(
        self,
        period: Period | None,
        account: str | None,
        on_rejected: Callable[[RejectedRecord], None] | None,
        on_run: RunCallback | None,
        on_notes: NoteCallback | None,
    ) -> None:
        self.period, self.account = period, account
        self.on_rejected, self.on_run, self.on_notes = on_rejected, on_run, on_notes
        self.result = AggregatedUsage()
        self.bucket_keys: dict[int, BucketKey] = {}
        self.sums: dict[int, BucketSums] = {}
        """By the numbers of ``bucket_keys``."""
        self.cards: dict[tuple[Any, ...], RateCard] = {}
        self.accounts: dict[int, str] = {}
        """Number -> account."""

    def run(self, chunks: Iterable[Chunk], workers: Workers) -> AggregatedUsage:
        with SpilledPartitions() as partitions:
            for chunk in chunks:
                partitions.append(chunk.partitions)
                for key, number in chunk.buckets.items():
                    self._add_bucket(number, key)
                self._add_sums(chunk.sums)
                for record in chunk.rejected:
                    self._reject(record)
                self.result.out_of_scope += chunk.out_of_scope
                self.result.found = self.result.found.join(chunk.found)
                self.result.lines += chunk.lines
            tasks = ((packed, self.on_run is not None) for packed in partitions.iter_packed())
            forest = Forest()
            for partition in workers.run(read_partition, tasks):
                self._add_partition(partition, forest)
            forest.finish()
        self._group_by_account()
        return self.result

    def _add_bucket(self, number: int, key: BucketKey) -> None:
        known = self.bucket_keys.get(number)
        if known is None:
            # Each process has its own objects for the same card. Keep one of them.
            card = self.cards.setdefault(card_identity(key.card), key.card)
            self.bucket_keys[number] = key._replace(card=card)
            self.sums[number] = BucketSums()
            if self.accounts.setdefault(stable_number(key.account), key.account) != key.account:
                raise RuntimeError("two accounts have the same number")  # 56 bits of a hash
        elif _bucket_identity(key) != _bucket_identity(known):
            # The number is 56 bits of a hash. A collision must not add up two accounts.
            raise RuntimeError("two buckets have the same number")

    def _add_sums(self, found: Mapping[int, BucketSums], sign: int = 1) -> None:
        for number, sums in found.items():
            self.sums[number].add(sums.requests, sums.quantities.items(), sign)

    def _group_by_account(self) -> None:
        """Add the sums of buckets to each account: by rate card, and by day and model."""
        buckets: dict[tuple[str, str, RateCard, bool, tuple[str, ...]], UsageBucket] = {}
        for number, key in self.bucket_keys.items():
            sums = self.sums[number]
            if not sums.requests and not any(sums.quantities.values()):
                continue
            usage = self.result.account(key.account)
            identity = key.role, key.account, key.card, key.estimated, key.split
            bucket = buckets.get(identity)
            if bucket is None:
                bucket = buckets[identity] = UsageBucket(*identity[1:])
                (usage.compared.setdefault(key.role, []) if key.role else usage.buckets).append(bucket)
            if key.role:
                bucket.add(sums.requests, sums.quantities.items())
                continue
            day = usage.days.setdefault((key.day, key.card.model), DailyUsage())
            day.requests += sums.requests
            day.units += bucket.add(sums.requests, sums.quantities.items())

    def _add_partition(self, partition: Partition, forest: Forest) -> None:
        """Add the records of a partition, the sums of which are known but for its repeated ids."""
        for rows in partition.conflicts:
            self._add_sums(sum_rows(rows), -1)
            self._reject_conflict([RecordRow(*row) for row in rows])
        for rows in partition.repeated:
            self._add_sums(sum_rows(rows[1:]), -1)
            self._record_duplicates([RecordRow(*row) for row in rows])
        for number, path, value in partition.unaccounted:
            self.result.account(self.accounts[number]).add_unaccounted(path, Decimal(value))
        if self.on_notes:
            for number, request_id, at, notes in partition.notes:
                self.on_notes(self.accounts[number], request_id, at, notes)
        for records in partition.accounts:
            run = LeafRun(self.accounts[records.account], records.leaves, records.lines)
            usage = self.result.account(run.account)
            usage.add(len(run.leaves) // HASH_BYTES, records.first, records.last)
            forest.extend(usage.tree, run.leaves)
            if self.on_run:
                self.on_run(run)

    def _record_duplicates(self, rows: list[RecordRow]) -> None:
        first = rows[0]
        if first.bucket == UNBILLED:
            return  # each is counted already, as rejected or out of scope
        account = self.bucket_keys[first.bucket].account
        self.result.account(account).duplicates += len(rows) - 1
        self.result.duplicate_count += len(rows) - 1
        for repeated in rows[1:]:
            if len(self.result.duplicates) < _MAX_LISTED:
                self.result.duplicates.append(Duplicate(first.request_id, account, repeated.line))

    def _reject_conflict(self, rows: list[RecordRow]) -> None:
        request_id = rows[0].request_id
        lines = ", ".join(str(row.line) for row in rows[:_MAX_NAMED_LINES])
        message = f"the request id {request_id} has different contents in lines {lines}; none of them is billed"
        for row in rows:
            if row.bucket != UNBILLED:  # the others are counted already, as rejected or out of scope
                key, at = self.bucket_keys[row.bucket], parse_instant(row.at + "Z")
                reason = "duplicate_conflict", message, None, key.card.model, key.card.service_tier
                self._reject(RejectedRecord(row.line, row.request_id, key.account, at, *reason))

    def _reject(self, record: RejectedRecord) -> None:
        out_of_scope = (self.account is not None and record.account not in (self.account, None)) or (
            record.at is not None and self.period is not None and not self.period.contains(record.at)
        )
        if out_of_scope:
            self.result.out_of_scope += 1
            return
        self.result.rejected += 1
        if record.account is not None and record.at is not None:
            self.result.account(record.account).rejected += 1
        if self.on_rejected:
            self.on_rejected(record)


def _bucket_identity(key: BucketKey) -> tuple[Any, ...]:
    return key.account, card_identity(key.card), key.estimated, key.day, key.split, key.role
