"""From a usage file to what bills are made of: sums by rate card, and evidence. Memory does not grow with the file.

Every record is put into one of 256 heaps by the first byte of SHA-256 of its request id; full heaps go to a temporary
file. At the end each heap is sorted by that hash and walked once: equal ids meet, and the records come in one order
that does not depend on the order of the file. In that order they are the leaves of the account's Merkle tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from brivionix_billing.invoice.aggregation.partitions import (
    AT,
    CELL,
    ID,
    KEY,
    LEAF,
    LINE,
    MORE,
    OUT,
    READ,
    TEXT,
    RecordRow,
    SpilledPartitions,
)
from brivionix_billing.invoice.aggregation.reader import BucketKey, Chunk, ChunkReader, read_chunks
from brivionix_billing.merkle import RootBuilder
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usage.record_file import RejectedRecord

__all__ = [
    "TREE_SCHEME",
    "AccountUsage",
    "UsageBucket",
    "AggregatedUsage",
    "DailyUsage",
    "Duplicate",
    "aggregate_usage",
]

TREE_SCHEME: Final = "rfc6962-sha256; leaf: canonical JSON of the record; order: sha256(request_id)"
"""How the Merkle root of a bill is made; the bill says it in these words."""

_MAX_LISTED: Final = 1_000
LeafCallback = Callable[[str, list[bytes], list[str]], None]
ProgressCallback = Callable[[int, int], None]


@dataclass(slots=True)
class UsageBucket:
    """What one account used at one rate card: of estimated requests, or of others."""

    account: str
    card: RateCard
    estimated: bool = False
    """All of its requests were estimated, or none."""
    requests: int = 0
    quantities: list[int] = field(default_factory=lambda: [0] * len(METERS))
    """How much of each meter, in the order of ``METERS``."""

    def add(self, requests: int, quantities: Iterable[tuple[int, int]]) -> int:
        """Count requests in, with (place of a meter, how much); gives the units (10^-18 Credit) of these.

        A charge is linear in its tokens, so their sums are all that a bill needs.
        """
        self.requests += requests
        units = 0
        for place, quantity in quantities:
            self.quantities[place] += quantity
            units += quantity * (self.card.unit_rates[place] or 0)
        return units


@dataclass(slots=True)
class DailyUsage:
    """What one account used of one model on one day."""

    requests: int = 0
    units: int = 0
    """10^-18 Credit."""


class Duplicate(NamedTuple):
    """A record that stands more than once in the file, word for word; it counts once."""

    request_id: str
    account: str | None
    line: int


@dataclass(slots=True)
class AccountUsage:
    """All that is billed to one account in the period."""

    account: str
    cells: list[UsageBucket] = field(default_factory=list)
    days: dict[tuple[str, str], DailyUsage] = field(default_factory=dict)
    """(calendar day of the period's zone, model) -> use."""
    requests: int = 0
    duplicates: int = 0
    rejected: int = 0
    first: tuple[str, str] | None = None
    """(time in UTC without Z, request id) of the first request."""
    last: tuple[str, str] | None = None
    tree: RootBuilder = field(default_factory=RootBuilder)

    def add(self, rows: list[RecordRow]) -> None:
        """Take in rows, which come in tree order."""
        self.requests += len(rows)
        self.tree.extend(map(itemgetter(LEAF), rows))
        times = list(map(itemgetter(AT, ID), rows))
        first, last = min(times), max(times)
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)


@dataclass(slots=True)
class AggregatedUsage:
    """The whole file: usage by account, and what was not billed."""

    accounts: dict[str, AccountUsage] = field(default_factory=dict)
    lines: int = 0
    out_of_scope: int = 0
    """Records of other accounts or outside the period."""
    rejected: int = 0
    duplicates: list[Duplicate] = field(default_factory=list)
    """The first thousand."""
    duplicate_count: int = 0


def aggregate_usage(
    lines: Iterable[bytes],
    book: PriceBook,
    period: Period | None = None,
    *,
    account: str | None = None,
    on_rejected: Callable[[RejectedRecord], None] | None = None,
    on_leaves: LeafCallback | None = None,
    progress: ProgressCallback | None = None,
    workers: int = 0,
) -> AggregatedUsage:
    """Read a usage file once, and sum it up.

    ``account`` takes in one account only; ``period`` of ``None`` takes in all time. ``on_rejected`` gets every record
    that is not billed, with the reason; ``on_leaves`` gets (account, leaf hashes, request ids) of the billed records in
    tree order, some at a time; ``progress`` gets (lines, bytes) now and then. ``workers`` processes read beside this
    one; they start clean, so a script that asks for them keeps its own work under ``if __name__ == "__main__"``.
    """
    return _Aggregator(period, account, on_rejected, on_leaves).run(
        read_chunks(lines, ChunkReader(book, period, account), workers), progress
    )


class _Aggregator:
    def __init__(
        self,
        period: Period | None,
        account: str | None,
        on_rejected: Callable[[RejectedRecord], None] | None,
        on_leaves: LeafCallback | None,
    ) -> None:
        self.period, self.account = period, account
        self.on_rejected, self.on_leaves = on_rejected, on_leaves
        self.out = AggregatedUsage()
        self.kinds: dict[int, BucketKey] = {}
        self.cards: dict[tuple[Any, ...], RateCard] = {}
        self.sums: dict[int, list[Any]] = {}
        """By the numbers of ``kinds``: what puts a row with those of its account, requests, then how much of the three
        usual meters, and of others by their place (``None``: nothing)."""
        self.rows: dict[str, list[RecordRow]] = {}

    def run(self, parts: Iterable[Chunk], progress: ProgressCallback | None) -> AggregatedUsage:
        size = 0
        with SpilledPartitions() as heaps:
            for chunk in parts:
                heaps.append(chunk.partitions)
                for number, kind in chunk.buckets.items():
                    known = self.kinds.get(number)
                    if known is None:
                        # Each chunk brings cards of its own; one of each is kept.
                        card = self.cards.setdefault(_card_key(kind.card), kind.card)
                        self.kinds[number] = kind._replace(card=card)
                        account = self.rows.setdefault(kind.account, [])
                        self.sums[number] = [account.append, 0, 0, 0, 0, None]
                    elif _bucket_identity(kind) != _bucket_identity(known):
                        raise RuntimeError("two cells have one number")  # one chance in 10^16; never silently
                for record in chunk.rejected:
                    self._reject(record)
                self.out.out_of_scope += chunk.out_of_scope
                self.out.lines += chunk.lines
                size += chunk.size
                if progress:
                    progress(self.out.lines, size)
            for heap in heaps.iter_sorted():
                self._process_partition(heap)
        self._group_by_account()
        return self.out

    def _group_by_account(self) -> None:
        """From sums by cell to those of each account by rate card, and by day and model."""
        cells: dict[tuple[str, RateCard, bool], UsageBucket] = {}
        for number, kind in self.kinds.items():
            _, requests, *usual, others = self.sums[number]
            if not requests:
                continue
            usage = self._account_usage(kind.account)
            cell = cells.get(kind[:3])
            if cell is None:
                cell = cells[kind[:3]] = UsageBucket(*kind[:3])
                usage.cells.append(cell)
            day = usage.days.setdefault((kind.day, kind.card.model), DailyUsage())
            day.requests += requests
            day.units += cell.add(requests, [*enumerate(usual), *(others or {}).items()])

    def _process_partition(self, heap: list[RecordRow]) -> None:
        """Count one heap, sorted by key: ids that stand more than once are looked at, then all is summed up."""
        if len(set(map(itemgetter(KEY), heap))) < len(heap):
            heap = self._deduplicate(heap)
        sums = self.sums
        for row in heap:
            place = row[CELL]
            if place >= 0:
                found = sums[place]
                found[0](row)
                found[1] += 1
                found[2] += row[TEXT]
                found[3] += row[READ]
                found[4] += row[OUT]
                if row[MORE]:
                    _add_other_meters(found, row[MORE])
        for account, rows in self.rows.items():
            if rows:
                self._account_usage(account).add(rows)
                if self.on_leaves:
                    self.on_leaves(account, [row[LEAF] for row in rows], [row[ID] for row in rows])
                rows.clear()

    def _deduplicate(self, heap: list[RecordRow]) -> list[RecordRow]:
        """The heap with every id once: of equal records one, of conflicting records none."""
        out: list[RecordRow] = []
        for _, group in groupby(heap, itemgetter(KEY)):
            same = list(group)
            if any(row[LEAF] != same[0][LEAF] for row in same):
                self._reject_conflict(same)
                continue
            if len(same) > 1:
                self._record_duplicates(same)
            out.append(same[0])
        return out

    def _account_usage(self, account: str) -> AccountUsage:
        usage = self.out.accounts.get(account)
        if usage is None:
            usage = self.out.accounts[account] = AccountUsage(account)
        return usage

    def _record_duplicates(self, same: list[RecordRow]) -> None:
        row = same[0]
        if row[CELL] < 0:
            return  # each is counted already, as elsewhere or as set aside
        account = self.kinds[row[CELL]].account
        self._account_usage(account).duplicates += len(same) - 1
        self.out.duplicate_count += len(same) - 1
        for other in same[1:]:
            if len(self.out.duplicates) < _MAX_LISTED:
                self.out.duplicates.append(Duplicate(row[ID], account, other[LINE]))

    def _reject_conflict(self, same: list[RecordRow]) -> None:
        lines = ", ".join(str(row[LINE]) for row in same[:10])
        message = (
            f"the request id {same[0][ID]} stands in lines {lines} with different contents; none of them is billed"
        )
        for row in same:
            if row[CELL] >= 0:  # the others are counted already, as elsewhere or as set aside
                account, at = self.kinds[row[CELL]].account, parse_instant(row[AT] + "Z")
                self._reject(RejectedRecord(row[LINE], row[ID], account, at, "duplicate_conflict", message))

    def _reject(self, record: RejectedRecord) -> None:
        elsewhere = (self.account is not None and record.account not in (self.account, None)) or (
            record.at is not None and self.period is not None and not self.period.contains(record.at)
        )
        if elsewhere:
            self.out.out_of_scope += 1
            return
        self.out.rejected += 1
        if record.account is not None and record.at is not None:
            self._account_usage(record.account).rejected += 1
        if self.on_rejected:
            self.on_rejected(record)


def _bucket_identity(kind: BucketKey) -> tuple[Any, ...]:
    return kind.account, _card_key(kind.card), kind.estimated, kind.day


def _card_key(card: RateCard) -> tuple[Any, ...]:
    """What tells the cards of one price book apart; the same card comes as another object from each process."""
    return card.model, card.group, card.service_tier, card.context_tier, card.start


def _add_other_meters(found: list[Any], more: tuple[tuple[int, int], ...]) -> None:
    """Take in what a row used of meters beyond the usual three."""
    others = found[5]
    if others is None:
        others = found[5] = {}
    for place, quantity in more:
        others[place] = others.get(place, 0) + quantity
