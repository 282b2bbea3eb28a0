"""Reads a usage file in chunks: parses each record, finds its rate card, and packs it into a row.

Chunks do not depend on each other, so several processes can read them in parallel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, islice
from typing import Any, Final, NamedTuple, Protocol, cast

from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.aggregation.buckets import BucketKey, bill_quantities, bucket_number, stable_number
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.aggregation.partitions import (
    CHUNK_LINES,
    PARTITION_COUNT,
    PackedPartition,
    pack_partitions,
)
from brivionix_billing.invoice.aggregation.rows import UNBILLED, BucketSums, PackedRow, sum_rows
from brivionix_billing.meters import BASIC_METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.processes import Workers, running_workers
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.charge import Charge
from brivionix_billing.times import END_OF_TIME, CalendarDays, Period
from brivionix_billing.usage.record_file import Record, RejectedRecord, RequestAttributes, bounded_lines, read_records

__all__ = [
    "Chunk",
    "ChunkReader",
    "ComparedCharges",
    "Comparison",
    "read_chunks",
    "reading_workers",
]


class ComparedCharges(NamedTuple):
    """The charges of one request in other price books."""

    charges: tuple[tuple[str, Charge, tuple[str, ...]], ...]
    """(role, charge without parts, split). The split is appended to the values of the dimensions."""
    split: tuple[str, ...]
    """What is appended to these values for what is billed."""
    notes: tuple[Any, ...]
    """Plain values that the caller gets if the record is billed, not if it is a duplicate; empty: nothing."""


class Comparison(Protocol):
    """Prices every billed request in other price books."""

    def compare(self, record: Record, charge: Charge, line: bytes) -> ComparedCharges:
        """Return the other charges of a request."""


class FoundRecords(NamedTuple):
    """The times and accounts of records: what a file has, if it has nothing to bill."""

    first: str = ""
    """The earliest time in UTC, without Z; empty if there is no record."""
    last: str = ""
    accounts: frozenset[str] = frozenset()
    """The first accounts, at most a thousand."""

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
    buckets: dict[int, BucketKey]
    sums: dict[int, BucketSums]
    """By the numbers of ``buckets``."""
    partitions: list[PackedPartition]
    rejected: list[RejectedRecord]


class _CachedCard(NamedTuple):
    """A rate card, and the conditions under which it applies."""

    start: datetime
    end: datetime
    max_input_tokens: int
    card: RateCard | None


class _CachedBucket(NamedTuple):
    """The numbers of a bucket and its account, and the conditions under which a plain usage belongs to it."""

    start: datetime
    end: datetime
    max_input_tokens: int
    bucket: int
    account: int


_MAX_FOUND: Final = 1000
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_NO_CARD: Final = _CachedCard(_NEVER, _NEVER, -1, None)
_NO_BUCKET: Final = _CachedBucket(_NEVER, _NEVER, -1, UNBILLED, UNBILLED)


class ChunkReader:
    """Reads chunks for a price book, a period and an account.

    A period of ``None`` is all time, with days of UTC; an account of ``None`` is all accounts. Usage is split by the
    ``dimensions``. Raises ``invalid_period`` if the time zone of the period is unknown.
    """

    def __init__(
        self,
        book: PriceBook,
        period: Period | None,
        account: str | None,
        dimensions: Dimensions | None = None,
        comparison: Comparison | None = None,
    ) -> None:
        self.book, self.period, self.account = book, period, account
        self.dimensions, self.comparison = dimensions, comparison
        self.days = CalendarDays(period.zone if period else "UTC")

    def read(self, lines: list[bytes], numbers: Sequence[int]) -> Chunk:
        """Read some lines; ``numbers`` are theirs in the file, in rising order."""
        partitions: list[list[PackedRow]] = [[] for _ in range(PARTITION_COUNT)]
        buckets: dict[BucketKey, int] = {}
        rejected: list[RejectedRecord] = []
        # Two caches, because most records repeat the attributes of an earlier one. The first saves looking up the
        # price. The second holds for one date in UTC and one day of the zone, and saves looking up the bucket, too.
        cached_cards: dict[tuple[RequestAttributes, str | None], _CachedCard] = {}
        cached_buckets: dict[tuple[RequestAttributes, str | None, str, tuple[str, ...]], _CachedBucket] = {}
        account, caches_cards = self.account, self.book.priced_model == "requested" and self.comparison is None
        dimensions = self.dimensions
        start, end = (self.period.start, self.period.end) if self.period else (None, None)
        out_of_scope, first_at, last_at, accounts = 0, "", "", set[str]()
        for record in read_records(lines, numbers, conventions=self.book.conventions):
            if type(record) is not Record:
                unreadable = cast(RejectedRecord, record)
                rejected.append(unreadable)
                if unreadable.leaf is not None and unreadable.request_id is not None:
                    _add_unbilled(partitions, unreadable.request_id, unreadable.line, unreadable.leaf)
                continue
            # Unpacking is faster than reading each field.
            # fmt: off
            (line, request_id, at, origin, input_tokens, text_input, cache_read, text_output, _,
             served_tier, _, meters, estimated, region, mode, notes, leaf, at_text) = record
            # fmt: on
            if (account is not None and origin.account != account) or (start and end and not start <= at < end):
                out_of_scope += 1
                if not first_at or at_text < first_at:
                    first_at = at_text
                if at_text > last_at:
                    last_at = at_text
                if len(accounts) < _MAX_FOUND:
                    accounts.add(origin.account)
                _add_unbilled(partitions, request_id, line, leaf)
                continue
            split = () if dimensions is None else dimensions.values(record, lines[bisect_left(numbers, line)])
            since, until, most, bucket, owner = cached_buckets.get(
                (origin, served_tier, at_text[:10], split), _NO_BUCKET
            )
            is_usual = caches_cards and not (
                meters or estimated or region or mode or notes or origin.region or origin.mode
            )
            extra: tuple[Any, ...] = ()
            if not (is_usual and input_tokens <= most and since <= at < until):
                # The usage is not plain, or the card or the day differs from the cached one.
                priced = cached_cards.get((origin, served_tier), _NO_CARD) if is_usual else _NO_CARD
                card = priced.card
                if card is None or not (input_tokens <= priced.max_input_tokens and priced.start <= at < priced.end):
                    try:
                        charge = self.book.rate_record(record)
                    except BillingError as error:
                        names = error.code, str(error), None, origin.model, served_tier or origin.service_tier
                        rejected.append(RejectedRecord(line, request_id, origin.account, at, *names))
                        _add_unbilled(partitions, request_id, line, leaf)
                        continue
                    # What is billed may differ from what the usage states, such as by a price per request.
                    card = charge.card
                    billed = bill_quantities(card, charge.usage)
                    text_input, cache_read, text_output = (billed.pop(name, 0) for name in BASIC_METERS)
                    meters = tuple(billed.items())
                    priced = self._cached_card(origin, at, served_tier, card) if is_usual else _NO_CARD
                    if input_tokens <= priced.max_input_tokens:
                        cached_cards[origin, served_tier] = priced
                    if self.comparison is not None:
                        compared = self.comparison.compare(record, charge, lines[bisect_left(numbers, line)])
                        extra = self._extra(charge, origin.account, split, buckets, compared)
                        split += compared.split
                    elif notes is not None:
                        extra = self._extra(charge, origin.account, split, buckets)
                day = self.days.at(at)
                bucket = _bucket(buckets, BucketKey(origin.account, card, estimated, day.value, split))
                owner = stable_number(origin.account)
                if input_tokens <= priced.max_input_tokens:
                    cached_buckets[origin, served_tier, at_text[:10], split] = _CachedBucket(
                        max(priced.start, day.start), min(priced.end, day.end), priced.max_input_tokens, bucket, owner
                    )
            digest = sha256(request_id.encode()).digest()
            # The fields of a RecordRow. marshal cannot pack a NamedTuple.
            quantities = text_input, cache_read, text_output, meters
            partitions[digest[0]].append((digest, request_id, line, leaf, bucket, owner, at_text, *quantities, *extra))
        keys = {number: key for key, number in buckets.items()}
        found = FoundRecords(first_at, last_at, frozenset(accounts))
        size = sum(map(len, lines))
        sums = sum_rows(chain.from_iterable(partitions))
        return Chunk(len(lines), size, out_of_scope, found, keys, sums, pack_partitions(partitions), rejected)

    def _extra(
        self,
        charge: Charge,
        account: str,
        split: tuple[str, ...],
        buckets: dict[BucketKey, int],
        compared: ComparedCharges | None = None,
    ) -> tuple[Any, ...]:
        """Return the last fields of a row: parts of other models and books, what nothing is charged for, and notes."""
        day = self.days.at(charge.at).value
        charges = [("", part, compared.split if compared else ()) for part in charge.parts]
        charges += compared.charges if compared else ()
        parts = tuple(
            (
                _bucket(buckets, BucketKey(account, part.card, part.estimated, day, split + further, role)),
                tuple(
                    (name, quantity) for name, quantity in bill_quantities(part.card, part.usage).items() if quantity
                ),
            )
            for role, part, further in charges
        )
        unaccounted = tuple((path, str(value)) for path, value in charge.unaccounted)
        return parts, unaccounted, compared.notes if compared else ()

    def _cached_card(
        self, origin: RequestAttributes, at: datetime, served_tier: str | None, card: RateCard
    ) -> _CachedCard:
        """Return the conditions under which the usual request of these attributes has this card again."""
        tier = self.book.resolver.tiers.effective(served_tier, origin.service_tier)
        if self.book.is_router(origin.model):
            return _NO_CARD
        resolved = self.book.resolver.resolve(origin.model, origin.group, at, tier)
        if resolved.base_card is not card:
            return _NO_CARD
        return _CachedCard(resolved.start, resolved.end or END_OF_TIME, resolved.fast_path_max_input, card)


def _add_unbilled(partitions: list[list[PackedRow]], request_id: str, line: int, leaf: bytes) -> None:
    key = sha256(request_id.encode()).digest()
    partitions[key[0]].append((key, request_id, line, leaf, UNBILLED, UNBILLED, "", 0, 0, 0, ()))


def _bucket(buckets: dict[BucketKey, int], key: BucketKey) -> int:
    return buckets.get(key) or buckets.setdefault(key, bucket_number(key))


def reading_workers(reader: ChunkReader, count: int) -> AbstractContextManager[Workers]:
    """Return a context of ``count`` processes for :func:`read_chunks`; with 0, this process works."""
    return running_workers(count, _init_worker, (reader,))


def read_chunks(lines: Iterable[bytes], reader: ChunkReader, workers: Workers) -> Iterator[Chunk]:
    """Yield the chunks of a file in order."""
    return workers.run(_read_in_worker if workers.count else reader.read, _split_lines(lines))


def _split_lines(lines: Iterable[bytes]) -> Iterator[tuple[list[bytes], Sequence[int]]]:
    """Yield (lines of a chunk, their numbers in the file)."""
    remaining, first = iter(bounded_lines(lines)), 1
    while part := list(islice(remaining, CHUNK_LINES)):
        yield part, range(first, first + len(part))
        first += len(part)


_reader: ChunkReader | None = None
"""The reader of a worker process."""


def _init_worker(reader: ChunkReader) -> None:
    global _reader
    _reader = reader


def _read_in_worker(lines: list[bytes], numbers: Sequence[int]) -> Chunk:
    if _reader is None:
        raise RuntimeError("the worker process was not initialized by _init_worker")
    return _reader.read(lines, numbers)
