"""Reading a usage file chunk by chunk: parse, check, find the rate card, and pack each record into a row.

Chunks do not depend on each other, so several processes can read them side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Any, Final, NamedTuple, cast

from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.aggregation.partitions import CHUNK_LINES, RecordRow, pack_rows
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.rate_card import effective_service_tier
from brivionix_billing.times import END_OF_TIME, CalendarDays, Period
from brivionix_billing.usage.record_file import Record, RejectedRecord, RequestAttributes, bounded_lines, read_records

__all__ = ["OUT_OF_SCOPE", "Chunk", "ChunkReader", "BucketKey", "read_chunks"]

OUT_OF_SCOPE: Final = -1
"""The cell of a record that is not billed here. Its id is taken all the same."""
_NO_PRICE: Final = (None, None, -1, OUT_OF_SCOPE)
"""No input tokens are few enough for it, so its times are not looked at."""


class BucketKey(NamedTuple):
    """What the requests of one cell have in common."""

    account: str
    card: RateCard
    estimated: bool
    day: str
    """Calendar day of the period's zone: ``2026-10-25``."""


class Chunk(NamedTuple):
    """What some lines of a usage file hold."""

    lines: int
    size: int
    """Bytes."""
    out_of_scope: int
    buckets: dict[int, BucketKey]
    """What each cell stands for."""
    partitions: list[tuple[int, bytes]]
    rejected: list[RejectedRecord]


class ChunkReader:
    """Reads chunks by one price book, period (``None``: all time, days of UTC) and account (``None``: all accounts).

    Raises ``invalid_period`` for a period whose zone is none.
    """

    def __init__(self, book: PriceBook, period: Period | None, account: str | None) -> None:
        self.book, self.period, self.account = book, period, account
        self.days = CalendarDays(period.zone if period else "UTC")

    def read(self, lines: list[bytes], first: int) -> Chunk:
        """Read lines; ``first`` is the number of the first of them in the file."""
        held: list[list[RecordRow]] = [[] for _ in range(256)]
        cells: dict[BucketKey, int] = {}
        aside: list[RejectedRecord] = []
        # Origin and served tier -> from, until, most input tokens, card: while these hold, no price is looked up. With
        # the date in UTC the same again, but within one day of the zone, and for its cell: then nothing is looked up.
        priced: dict[tuple[RequestAttributes, str | None], tuple[Any, ...]] = {}
        known: dict[tuple[RequestAttributes, str | None, str], tuple[Any, ...]] = {}
        wanted = self.account
        start, end = (self.period.start, self.period.end) if self.period else (None, None)
        elsewhere = 0
        for record in read_records(lines, first):
            if type(record) is not Record:
                refused = cast(RejectedRecord, record)
                aside.append(refused)
                if refused.leaf is not None and refused.request_id is not None:
                    key = sha256(refused.request_id.encode()).digest()
                    name = refused.account or ""
                    held[key[0]].append((key, refused.request_id, refused.line, refused.leaf, OUT_OF_SCOPE, name))
                continue
            line, request_id, at, origin, total, text, read, out, _, served, _, meters, estimated, leaf, at_text = (
                record
            )
            key = sha256(request_id.encode()).digest()
            if (wanted is not None and origin.account != wanted) or (start and end and not start <= at < end):
                elsewhere += 1
                held[key[0]].append((key, request_id, line, leaf, OUT_OF_SCOPE, origin.account))
                continue
            begins, ends, limit, cell = known.get((origin, served, at_text[:10]), _NO_PRICE)
            if meters or estimated or not (total <= limit and begins <= at < ends):
                # Another card or day than the last one of its kind, or a usage that is not plain.
                begins, ends, limit, card = priced.get((origin, served), _NO_PRICE)
                plain = not meters and not estimated and total <= limit and begins <= at < ends
                if not plain:
                    group, model, tier = origin.group, origin.model, origin.service_tier
                    try:
                        card = self.book.rate(record.usage, group=group, at=at, model=model, service_tier=tier).card
                    except BillingError as error:
                        aside.append(RejectedRecord(line, request_id, origin.account, at, error.code, error.message))
                        held[key[0]].append((key, request_id, line, leaf, OUT_OF_SCOPE, origin.account))
                        continue
                    resolved = self.book.resolver.resolve(model, group, at, effective_service_tier(served, tier))
                    begins, ends, limit = resolved.start, resolved.end or END_OF_TIME, resolved.fast_path_max_input
                    plain = total <= limit and not estimated
                    if plain:
                        priced[origin, served] = (begins, ends, limit, card)
                day = self.days.at(at)
                kind = BucketKey(origin.account, card, estimated, day.value)
                cell = cells.get(kind) or cells.setdefault(kind, _bucket_id(kind))
                if plain:
                    known[origin, served, at_text[:10]] = max(begins, day.start), min(ends, day.end), limit, cell
            held[key[0]].append((key, request_id, line, leaf, cell, at_text, text, read, out, meters))
        kinds = {number: kind for kind, number in cells.items()}
        return Chunk(len(lines), sum(map(len, lines)), elsewhere, kinds, pack_rows(held), aside)


def _bucket_id(kind: BucketKey) -> int:
    """A number for the kind, the same in every process."""
    card = kind.card
    name = "\0".join((kind.account, card.model, card.group, card.service_tier, card.context_tier, kind.day))
    name += f"\0{card.start.isoformat()}\0{'estimated' if kind.estimated else ''}"
    return int.from_bytes(sha256(name.encode()).digest()[:7])


def read_chunks(lines: Iterable[bytes], reader: ChunkReader, workers: int) -> Iterator[Chunk]:
    """The chunks of a file, in order; read by so many processes beside this one (0: by this one)."""
    parts = _split_lines(lines)
    if not workers:
        for part, first in parts:
            yield reader.read(part, first)
        return
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing import get_context

    # "spawn" starts clean processes: a fork of a process with threads can hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), _init_worker, (reader,)) as pool:
        waiting: deque[Future[Chunk]] = deque()
        for part, first in parts:
            waiting.append(pool.submit(_read_in_worker, part, first))
            if len(waiting) > workers + 1:  # no more than is read soon is held
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _split_lines(lines: Iterable[bytes]) -> Iterator[tuple[list[bytes], int]]:
    rest, first = iter(bounded_lines(lines)), 1
    while part := list(islice(rest, CHUNK_LINES)):
        yield part, first
        first += len(part)


_reader: ChunkReader | None = None


def _init_worker(reader: ChunkReader) -> None:
    global _reader
    _reader = reader


def _read_in_worker(lines: list[bytes], first: int) -> Chunk:
    if _reader is None:
        raise RuntimeError("a worker was not started by _start")
    return _reader.read(lines, first)
