"""Aggregates a usage file into what bills need: sums by rate card, and evidence. Memory does not grow with the file.

Every record goes into one of 256 partitions by the first byte of SHA-256 of its request id. Large partitions move to a
temporary file. At the end, each partition is sorted by that hash and read once. Equal ids are then next to each other,
and the order of the records does not depend on the order of the file. In this order they are the leaves of the
account's Merkle tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from brivionix_billing.invoice.aggregation.account_usage import (
    AggregatedUsage,
    DailyUsage,
    Duplicate,
    UsageBucket,
    card_identity,
)
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.aggregation.opening import open_plain_rows
from brivionix_billing.invoice.aggregation.partitions import SpilledPartitions
from brivionix_billing.invoice.aggregation.reader import (
    UNBILLED,
    BucketKey,
    Chunk,
    ChunkReader,
    Comparison,
    PackedRow,
    RecordRow,
    read_chunks,
)
from brivionix_billing.invoice.aggregation.sorted_leaves import LeafRun
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records

__all__ = [
    "TREE_SCHEME",
    "NoteCallback",
    "aggregate_usage",
    "format_record_list",
]

TREE_SCHEME: Final = "rfc6962-sha256; leaf: canonical JSON of the record; order: sha256(request_id)"
"""The construction of a bill's Merkle tree, in the words of the bill."""

_MAX_LISTED: Final = 1_000
_MAX_NAMED_LINES: Final = 10
_key_of = itemgetter(0)

LeafCallback = Callable[[str, list[bytes], list[str]], None]
LineCallback = Callable[[str, bytes | memoryview], None]
"""Gets (account, lines of its list of records in UTF-8)."""
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
    if comparison is None and on_notes is None:
        with open_plain_rows(lines, reader, progress) as plain:
            if plain is not None:
                usage = _Aggregator(period, account, on_rejected, plain.add_leaves, None).run(
                    plain.other_chunks(), None
                )
                plain.add_to(usage, _run_callback(on_leaves, on_lines))
                if watch is not None and _is_unicode(watch):
                    usage.watched += (line for line in plain.find_lines(watch) if _request_id_of(line) == watch)
                return usage
    watched: list[bytes] = []
    if watch is not None:
        lines = _watch(lines, watch, watched)
    usage = _Aggregator(period, account, on_rejected, _leaf_callback(on_leaves, on_lines), on_notes).run(
        read_chunks(lines, reader, workers), progress
    )
    usage.watched = watched
    return usage


def _run_callback(on_leaves: LeafCallback | None, on_lines: LineCallback | None) -> Callable[[LeafRun], None] | None:
    """Return a callback for records that an engine sorted."""
    if on_leaves is None and on_lines is None:
        return None

    def call(run: LeafRun) -> None:
        if on_leaves is not None:
            on_leaves(run.account, run.split_leaves(), run.ids())
        if on_lines is not None:
            on_lines(run.account, run.lines)

    return call


def _leaf_callback(on_leaves: LeafCallback | None, on_lines: LineCallback | None) -> LeafCallback | None:
    """Return a callback for records that are read one by one."""
    if on_lines is None:
        return on_leaves

    def call(account: str, leaves: list[bytes], ids: list[str]) -> None:
        if on_leaves is not None:
            on_leaves(account, leaves, ids)
        on_lines(account, format_record_list(leaves, ids).encode())

    return call


def format_record_list(leaves: Sequence[bytes], ids: Sequence[str]) -> str:
    """Return the lines of the list for records with these leaf hashes and request ids."""
    return "".join([f"{leaf.hex()} {request_id}\n" for leaf, request_id in zip(leaves, ids, strict=True)])


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


class _PartitionRequests:
    """The billed requests of one account in the current partition, in tree order."""

    __slots__ = ("leaves", "references")

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.references: list[tuple[str, str]] = []
        """(time in UTC without Z, request id), as plain tuples for speed."""


class _BucketSum:
    """The sums of one bucket while rows are read. Fields of their own are faster than a vector of all meters."""

    __slots__ = ("add_leaf", "add_reference", "cache_read", "other_meters", "requests", "text_input", "text_output")

    def __init__(self, partition_requests: _PartitionRequests) -> None:
        self.add_leaf = partition_requests.leaves.append
        self.add_reference = partition_requests.references.append
        self.requests = self.text_input = self.cache_read = self.text_output = 0
        self.other_meters: dict[str, int] = {}
        """Meter -> quantity."""

    def quantities(self) -> list[tuple[str, int]]:
        """Return (meter, billed quantity)."""
        return [
            ("input", self.text_input),
            ("cache_read", self.cache_read),
            ("output", self.text_output),
            *self.other_meters.items(),
        ]


class _Aggregator:
    def __init__(
        self,
        period: Period | None,
        account: str | None,
        on_rejected: Callable[[RejectedRecord], None] | None,
        on_leaves: LeafCallback | None,
        on_notes: NoteCallback | None,
    ) -> None:
        self.period, self.account = period, account
        self.on_rejected, self.on_leaves, self.on_notes = on_rejected, on_leaves, on_notes
        self.result = AggregatedUsage()
        self.bucket_keys: dict[int, BucketKey] = {}
        self.sums: dict[int, _BucketSum] = {}
        """By the numbers of ``bucket_keys``."""
        self.cards: dict[tuple[Any, ...], RateCard] = {}
        self.partition_requests: dict[str, _PartitionRequests] = {}
        """By account."""

    def run(self, chunks: Iterable[Chunk], progress: ProgressCallback | None) -> AggregatedUsage:
        size = 0
        with SpilledPartitions() as partitions:
            for chunk in chunks:
                partitions.append(chunk.partitions)
                for number, key in chunk.buckets.items():
                    self._add_bucket(number, key)
                for record in chunk.rejected:
                    self._reject(record)
                self.result.out_of_scope += chunk.out_of_scope
                self.result.found = self.result.found.join(chunk.found)
                self.result.lines += chunk.lines
                size += chunk.size
                if progress:
                    progress(self.result.lines, size)
            for rows in partitions.iter_sorted():
                self._process_partition(rows)
        self._group_by_account()
        return self.result

    def _add_bucket(self, number: int, key: BucketKey) -> None:
        known = self.bucket_keys.get(number)
        if known is None:
            # Each process has its own objects for the same card. Keep one of them.
            card = self.cards.setdefault(card_identity(key.card), key.card)
            self.bucket_keys[number] = key._replace(card=card)
            self.sums[number] = _BucketSum(self.partition_requests.setdefault(key.account, _PartitionRequests()))
        elif _bucket_identity(key) != _bucket_identity(known):
            # The number is 56 bits of a hash. A collision must not add up two accounts.
            raise RuntimeError("two buckets have the same number")

    def _group_by_account(self) -> None:
        """Add the sums of buckets to each account: by rate card, and by day and model."""
        buckets: dict[tuple[str, str, RateCard, bool, tuple[str, ...]], UsageBucket] = {}
        for number, key in self.bucket_keys.items():
            sums = self.sums[number]
            if not sums.requests and not sums.other_meters:
                continue
            usage = self.result.account(key.account)
            identity = key.role, key.account, key.card, key.estimated, key.split
            bucket = buckets.get(identity)
            if bucket is None:
                bucket = buckets[identity] = UsageBucket(*identity[1:])
                (usage.compared.setdefault(key.role, []) if key.role else usage.buckets).append(bucket)
            if key.role:
                bucket.add(sums.requests, sums.quantities())
                continue
            day = usage.days.setdefault((key.day, key.card.model), DailyUsage())
            day.requests += sums.requests
            day.units += bucket.add(sums.requests, sums.quantities())

    def _process_partition(self, rows: list[PackedRow]) -> None:
        """Add up a partition that is sorted by key, after its repeated ids are resolved."""
        if len(set(map(_key_of, rows))) < len(rows):
            rows = self._deduplicate(rows)
        all_sums = self.sums
        for _, request_id, _, leaf, bucket, at, text_input, cache_read, text_output, other_meters, *extra in rows:
            if bucket != UNBILLED:
                sums = all_sums[bucket]
                sums.add_leaf(leaf)
                sums.add_reference((at, request_id))
                sums.requests += 1
                sums.text_input += text_input
                sums.cache_read += cache_read
                sums.text_output += text_output
                for name, quantity in other_meters:
                    sums.other_meters[name] = sums.other_meters.get(name, 0) + quantity
                if extra:
                    account = self.bucket_keys[bucket].account
                    self._add_extra(account, *extra[:2])
                    if self.on_notes and extra[2]:
                        self.on_notes(account, request_id, at, extra[2])
        for account, requests in self.partition_requests.items():
            if requests.leaves:
                self.result.account(account).add(requests.leaves, requests.references)
                if self.on_leaves:
                    self.on_leaves(
                        account, requests.leaves.copy(), [request_id for _, request_id in requests.references]
                    )
                requests.leaves.clear()
                requests.references.clear()

    def _add_extra(
        self,
        account: str,
        parts: Iterable[tuple[int, Iterable[tuple[str, int]]]],
        unaccounted: Iterable[tuple[str, str]],
    ) -> None:
        """Add the parts of a request that other models ran, and what nothing is charged for."""
        for bucket, quantities in parts:
            others = self.sums[bucket].other_meters
            for name, quantity in quantities:
                others[name] = others.get(name, 0) + quantity
        usage = self.result.account(account)
        for path, value in unaccounted:
            usage.add_unaccounted(path, Decimal(value))

    def _deduplicate(self, rows: list[PackedRow]) -> list[PackedRow]:
        """Return the rows with each id once: one of equal records, none of conflicting ones."""
        unique: list[PackedRow] = []
        for _, group in groupby(rows, _key_of):
            first, *others = group
            if others:
                same_id = [RecordRow(*row) for row in (first, *others)]
                if any(row.leaf != same_id[0].leaf for row in same_id):
                    self._reject_conflict(same_id)
                    continue
                self._record_duplicates(same_id)
            unique.append(first)
        return unique

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
