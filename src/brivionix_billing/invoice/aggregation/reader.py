"""Reads a usage file in chunks: parses each record, finds its rate card, and packs it into a row.

Chunks do not depend on each other, so several processes can read them in parallel. Each process keeps what it learns
from its chunks, such as prices, and states the number of a bucket with the first of them that has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, cast

from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.aggregation.buckets import BucketKey, bill_quantities, stable_number
from brivionix_billing.invoice.aggregation.chunks import Chunk, ChunkRows
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.aggregation.partitions import CHUNK_LINES
from brivionix_billing.invoice.aggregation.rows import UNBILLED
from brivionix_billing.meters import BASIC_METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.processes import Workers, running_workers
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.charge import Charge
from brivionix_billing.times import END_OF_TIME, CalendarDays, Period
from brivionix_billing.usage.record_file import (
    LineReader,
    Record,
    RejectedRecord,
    RequestAttributes,
    bounded_lines,
    line_blocks,
    split_lines,
)

__all__ = ["ChunkReader", "ComparedCharges", "Comparison", "read_chunks", "reading_workers"]


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


class _CachedCard(NamedTuple):
    """A rate card, and the conditions under which it applies."""

    start: datetime
    end: datetime
    max_input_tokens: int
    card: RateCard | None


class _CachedBucket(NamedTuple):
    """The numbers of a bucket and its account, and the conditions under which a plain usage belongs to it."""

    start: str
    """In UTC without Z, as ``end``."""
    end: str
    max_input_tokens: int
    bucket: int
    account: int
    origin: RequestAttributes


_MAX_CACHED: Final = 65_536
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_NO_CARD: Final = _CachedCard(_NEVER, _NEVER, -1, None)
_NO_BUCKET: Final = _CachedBucket("", "", -1, UNBILLED, UNBILLED, RequestAttributes("", "", "", None, False))


class _Cache:
    """What one process knows from earlier lines. Most records repeat the attributes of an earlier one."""

    def __init__(self, book: PriceBook) -> None:
        self.lines = LineReader(book.conventions)
        self.cards: dict[tuple[RequestAttributes, str | None], _CachedCard] = {}
        """Saves looking up the price."""
        self.buckets: dict[tuple[RequestAttributes, str | None, str, tuple[str, ...]], _CachedBucket] = {}
        """Saves looking up the bucket, too. It holds for one date in UTC and one day of the zone."""
        self.usual: dict[tuple[str, ...], _CachedBucket] = {}
        """The same for lines that are not parsed in full, without making a record of them."""
        self.numbers: dict[BucketKey, int] = {}

    def is_full(self) -> bool:
        """Return whether it must be emptied: a file with many made-up names must not fill the memory."""
        return len(self.cards) + len(self.buckets) + len(self.usual) + len(self.numbers) > _MAX_CACHED


class ChunkReader:
    """Reads chunks for a price book, a period and an account. A reader serves one aggregation.

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
        self._cache: _Cache | None = None
        # Otherwise the price of a record depends on more than its attributes.
        self._caches_cards = book.priced_model == "requested" and comparison is None

    def read_block(self, block: bytes | list[bytes], first: int) -> Chunk:
        """Read lines that follow one another from the line number ``first`` on."""
        lines = split_lines(block) if isinstance(block, bytes) else block
        return self.read(lines, range(first, first + len(lines)))

    def read(self, lines: list[bytes], numbers: Sequence[int]) -> Chunk:
        """Read some lines; ``numbers`` are theirs in the file, in rising order."""
        if self._cache is None or self._cache.is_full():
            self._cache = _Cache(self.book)
        rows, cache = ChunkRows(self._cache.numbers), self._cache
        partitions, usual_buckets, match, parse = rows.partitions, cache.usual, cache.lines.match, cache.lines.parse
        no_meters = ()
        for number, line in zip(numbers, lines, strict=True):
            usual = match(line)
            if usual is not None:
                # Unpacking is faster than reading each field.
                key, request_id, at_text, input_tokens, cache_read, text_output, _, _, meters, usage = usual
                start, end, max_input_tokens, bucket, owner, origin = usual_buckets.get(key, _NO_BUCKET)
                # A known bucket is one of the account that is read, and its bounds are within the period.
                if input_tokens <= max_input_tokens and start <= at_text < end and not meters:
                    leaf = origin.hash_record(at_text, request_id, usage)
                    digest = sha256(request_id.encode()).digest()
                    # The fields of a RecordRow. marshal cannot pack a NamedTuple.
                    quantities = input_tokens - cache_read, cache_read, text_output, no_meters
                    partitions[digest[0]].append(
                        (digest, request_id, number, leaf, bucket, owner, at_text, *quantities)
                    )
                    continue
            record = parse(number, line, usual)
            if record is None:
                continue
            if type(record) is not Record:
                rows.add_rejected(cast(RejectedRecord, record))
                continue
            found = self._add_record(record, line, rows, cache)
            if usual is not None and found is not None and self.dimensions is None:
                usual_buckets[usual.key] = found
        return rows.chunk(len(lines), sum(map(len, lines)))

    def _add_record(self, record: Record, line: bytes, rows: ChunkRows, cache: _Cache) -> _CachedBucket | None:
        """Add the row of any record. Return its bucket if the next one with these attributes may belong to it."""
        # fmt: off
        (number, request_id, at, origin, input_tokens, text_input, cache_read, text_output, _,
         served_tier, _, meters, estimated, region, mode, notes, leaf, at_text) = record
        # fmt: on
        if (self.account is not None and origin.account != self.account) or (
            self.period is not None and not self.period.contains(at)
        ):
            rows.add_out_of_scope(record)
            return None
        split = () if self.dimensions is None else self.dimensions.values(record, line)
        is_usual = self._caches_cards and not (
            meters or estimated or region or mode or notes or origin.region or origin.mode
        )
        found: _CachedBucket | None = None
        known = cache.buckets.get((origin, served_tier, at_text[:10], split), _NO_BUCKET) if is_usual else _NO_BUCKET
        extra: tuple[Any, ...] = ()
        if input_tokens <= known.max_input_tokens and known.start <= at_text < known.end:
            bucket, owner, found = known.bucket, known.account, known
        else:
            # The usage is not plain, or the card or the day differs from the cached one.
            priced = cache.cards.get((origin, served_tier), _NO_CARD) if is_usual else _NO_CARD
            card = priced.card
            if card is None or not (input_tokens <= priced.max_input_tokens and priced.start <= at < priced.end):
                try:
                    charge = self.book.rate_record(record)
                except BillingError as error:
                    names = error.code, str(error), leaf, origin.model, served_tier or origin.service_tier
                    rows.add_rejected(RejectedRecord(number, request_id, origin.account, at, *names))
                    return None
                # What is billed may differ from what the usage states, such as by a price per request.
                card = charge.card
                billed = bill_quantities(card, charge.usage)
                text_input, cache_read, text_output = (billed.pop(name, 0) for name in BASIC_METERS)
                meters = tuple(billed.items())
                priced = self._cached_card(origin, at, served_tier, card) if is_usual else _NO_CARD
                if input_tokens <= priced.max_input_tokens:
                    cache.cards[origin, served_tier] = priced
                if self.comparison is not None:
                    compared = self.comparison.compare(record, charge, line)
                    extra = self._extra(charge, origin.account, split, rows, compared)
                    split += compared.split
                elif notes is not None:
                    extra = self._extra(charge, origin.account, split, rows)
            day = self.days.at(at)
            bucket = rows.number_bucket(BucketKey(origin.account, card, estimated, day.value, split))
            owner = stable_number(origin.account)
            if input_tokens <= priced.max_input_tokens:
                start, end = max(priced.start, day.start), min(priced.end, day.end)
                if self.period is not None:
                    start, end = max(start, self.period.start), min(end, self.period.end)
                found = _CachedBucket(
                    _comparable_text(start), _comparable_text(end), priced.max_input_tokens, bucket, owner, origin
                )
                cache.buckets[origin, served_tier, at_text[:10], split] = found
        digest = sha256(request_id.encode()).digest()
        quantities = text_input, cache_read, text_output, meters
        rows.partitions[digest[0]].append(
            (digest, request_id, number, leaf, bucket, owner, at_text, *quantities, *extra)
        )
        return found

    def _extra(
        self,
        charge: Charge,
        account: str,
        split: tuple[str, ...],
        rows: ChunkRows,
        compared: ComparedCharges | None = None,
    ) -> tuple[Any, ...]:
        """Return the last fields of a row: parts of other models and books, what nothing is charged for, and notes."""
        day = self.days.at(charge.at).value
        charges = [("", part, compared.split if compared else ()) for part in charge.parts]
        charges += compared.charges if compared else ()
        parts = tuple(
            (
                rows.number_bucket(BucketKey(account, part.card, part.estimated, day, split + further, role)),
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


def _comparable_text(instant: datetime) -> str:
    """Return an instant in UTC without Z, with no zeros at its end: a time before it never sorts behind it.

    With such zeros, ``00:00.5`` would sort before ``00:00.500000``, and be priced like the times before it.
    """
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat()
    return text.rstrip("0") if "." in text else text


def reading_workers(reader: ChunkReader, count: int) -> AbstractContextManager[Workers]:
    """Return a context of ``count`` processes for :func:`read_chunks`; with 0, this process works."""
    return running_workers(count, _init_worker, (reader,))


def read_chunks(lines: Iterable[bytes], reader: ChunkReader, workers: Workers) -> Iterator[Chunk]:
    """Yield the chunks of a file in order."""
    return workers.run(_read_in_worker if workers.count else reader.read_block, _split(lines))


def _split(lines: Iterable[bytes]) -> Iterator[tuple[bytes | list[bytes], int]]:
    """Yield (lines of a chunk, number of the first in the file)."""
    blocks = line_blocks(lines)
    first = 1
    if blocks is None:
        remaining = iter(bounded_lines(lines))
        while part := list(islice(remaining, CHUNK_LINES)):
            yield part, first
            first += len(part)
        return
    parts: list[bytes] = []
    count = 0
    for block, found in _split_blocks(blocks):
        # A part of a long line has no end.
        if parts and (count + found > CHUNK_LINES or not parts[-1].endswith(b"\n")):
            yield b"".join(parts), first
            first, count = first + count, 0
            parts.clear()
        parts.append(block)
        count += found
    if parts:
        yield b"".join(parts), first


def _split_blocks(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield (block, number of its lines), of at most a chunk."""
    for block in blocks:
        found = block.count(b"\n") + (not block.endswith(b"\n"))
        if found <= CHUNK_LINES:
            yield block, found
            continue
        lines = split_lines(block)
        for start in range(0, found, CHUNK_LINES):
            part = lines[start : start + CHUNK_LINES]
            yield b"".join(part), len(part)


_reader: ChunkReader | None = None
"""The reader of a worker process."""


def _init_worker(reader: ChunkReader) -> None:
    global _reader
    _reader = reader


def _read_in_worker(block: bytes | list[bytes], first: int) -> Chunk:
    if _reader is None:
        raise RuntimeError("the worker process was not initialized by _init_worker")
    return _reader.read_block(block, first)
