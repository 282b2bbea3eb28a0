"""From a usage file to what bills are made of: sums by rate card, and evidence. Memory does not grow with the file.

Every record is put into one of 256 heaps by the first byte of SHA-256 of its request id; full heaps go to a temporary
file. At the end each heap is sorted by that hash and walked once: equal ids meet, and the records come in one order
that does not depend on the order of the file. In that order they are the leaves of the account's Merkle tree.
"""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import IO, Any, Final, NamedTuple, cast

from brivionix_billing.errors import BillingError
from brivionix_billing.merkle import RootBuilder
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.card import decided_tier
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usagefile import Origin, Record, SetAside, records

__all__ = ["TREE", "AccountUsage", "Cell", "Collected", "Duplicate", "DuplicateWatch", "Repeated", "collect"]

TREE: Final = "rfc6962-sha256; leaf: canonical JSON of the record; order: sha256(request_id)"
"""How the Merkle root of a bill is made; the bill says it in these words."""

_HELD: Final = 65_536
_MAX_NAMED: Final = 1_000
Row = tuple[Any, ...]
"""One record: what it takes to sort it, to count it, and to name it. ``marshal`` can store it."""
_KEY, _ID, _LINE, _LEAF, _CELL, _AT, _TEXT, _READ, _OUT, _MORE = range(10)
_UNKNOWN: Final = (None, None, -1, -1)
OnLeaves = Callable[[str, list[bytes], list[str]], None]
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Cell:
    """What one account used at one rate card."""

    account: str
    card: RateCard
    requests: int = 0
    quantities: list[int] = field(default_factory=lambda: [0] * len(METERS))
    """How much of each meter, in the order of ``METERS``."""

    def add(self, rows: list[Row]) -> None:
        """Count rows in. A charge is linear in its tokens, so their sums are all that a bill needs."""
        self.requests += len(rows)
        sums = self.quantities
        for place, column in enumerate((_TEXT, _READ, _OUT)):
            sums[place] += sum(map(itemgetter(column), rows))
        for row in rows:
            for place, quantity in row[_MORE]:
                sums[place] += quantity


class Duplicate(NamedTuple):
    """A record that stands more than once in the file, word for word; it counts once."""

    request_id: str
    account: str | None
    line: int


@dataclass(slots=True)
class AccountUsage:
    """All that is billed to one account in the period."""

    account: str
    cells: list[Cell] = field(default_factory=list)
    requests: int = 0
    duplicates: int = 0
    set_aside: int = 0
    first: tuple[str, str] | None = None
    """(time in UTC without Z, request id) of the first request."""
    last: tuple[str, str] | None = None
    tree: RootBuilder = field(default_factory=RootBuilder)

    def add(self, rows: list[Row]) -> None:
        """Take in rows, which come in tree order."""
        self.requests += len(rows)
        self.tree.extend(map(itemgetter(_LEAF), rows))
        times = list(map(itemgetter(_AT, _ID), rows))
        first, last = min(times), max(times)
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)


@dataclass(slots=True)
class Collected:
    """The whole file: usage by account, and what was not billed."""

    accounts: dict[str, AccountUsage] = field(default_factory=dict)
    lines: int = 0
    elsewhere: int = 0
    """Records of other accounts or outside the period."""
    set_aside: int = 0
    duplicates: list[Duplicate] = field(default_factory=list)
    """The first thousand."""
    duplicate_count: int = 0


def collect(
    lines: Iterable[bytes],
    book: PriceBook,
    period: Period | None = None,
    *,
    account: str | None = None,
    on_set_aside: Callable[[SetAside], None] | None = None,
    on_leaves: OnLeaves | None = None,
    progress: Progress | None = None,
) -> Collected:
    """Read a usage file once, and sum it up.

    ``account`` takes in one account only; ``period`` of ``None`` takes in all time. ``on_set_aside`` gets every record
    that is not billed, with the reason; ``on_leaves`` gets (account, leaf hashes, request ids) of the billed records in
    tree order, some at a time; ``progress`` gets (lines, bytes) now and then.
    """
    return _Collector(book, period, account, on_set_aside, on_leaves).run(lines, progress)


class _Collector:
    def __init__(
        self,
        book: PriceBook,
        period: Period | None,
        account: str | None,
        on_set_aside: Callable[[SetAside], None] | None,
        on_leaves: OnLeaves | None,
    ) -> None:
        self.book, self.period, self.account = book, period, account
        self.on_set_aside, self.on_leaves = on_set_aside, on_leaves
        self.out = Collected()
        self.cells: list[Cell] = []
        self.places: dict[tuple[str, int], int] = {}

    def run(self, lines: Iterable[bytes], progress: Progress | None) -> Collected:
        with _Heaps() as heaps:
            self._read(_counted(lines, progress) if progress else lines, heaps)
            for heap in heaps.sorted():
                self._settle(heap)
        for cell in self.cells:
            if cell.requests:
                self._usage_of(cell.account).cells.append(cell)
        return self.out

    def _read(self, lines: Iterable[bytes], heaps: _Heaps) -> None:
        held, wanted = heaps.held, self.account
        start, end = (self.period.start, self.period.end) if self.period else (None, None)
        known: dict[tuple[Origin, str | None], tuple[Any, ...]] = {}
        count = elsewhere = 0
        for record in records(lines):
            count += 1
            if type(record) is not Record:
                self._set_aside(cast(SetAside, record))
                continue
            (line, request_id, at, origin, total, text, read, out, _, served, _, meters, leaf, at_text) = record
            key = sha256(request_id.encode()).digest()
            if not count % _HELD:
                heaps.spill()
            if (wanted is not None and origin.account != wanted) or (start and end and not start <= at < end):
                # It is not billed here, but its id is taken.
                elsewhere += 1
                held[key[0]].append((key, request_id, line, leaf, -1, origin.account))
                continue
            begins, ends, limit, place = known.get((origin, served), _UNKNOWN)
            if meters or not (total <= limit and begins <= at and (ends is None or at < ends)):
                # Another card than the last one of its kind, or a usage that is not plain.
                group, model, tier = origin.group, origin.model, origin.service_tier
                try:
                    card = self.book.rate(record.usage, group=group, at=at, model=model, service_tier=tier).card
                except BillingError as error:
                    self._set_aside(SetAside(line, request_id, origin.account, at, error.code, error.message))
                    continue
                place = self._place(origin.account, card)
                resolved = self.book.resolved(model, group, at, decided_tier(served, tier))
                if total <= resolved.limit:
                    known[origin, served] = (resolved.start, resolved.end, resolved.limit, place)
            held[key[0]].append((key, request_id, line, leaf, place, at_text, text, read, out, meters))
        self.out.lines, self.out.elsewhere = count, self.out.elsewhere + elsewhere

    def _place(self, account: str, card: RateCard) -> int:
        place = self.places.get((account, id(card)))
        if place is None:
            place = self.places[account, id(card)] = len(self.cells)
            self.cells.append(Cell(account, card))  # the cell keeps the card, so its id stays its own
        return place

    def _settle(self, heap: list[Row]) -> None:
        """Count one heap, sorted by key: ids that stand more than once are looked at, then all is summed up."""
        if len(set(map(itemgetter(_KEY), heap))) < len(heap):
            heap = self._once(heap)
        by_cell: dict[int, list[Row]] = {}
        by_account: dict[str, list[Row]] = {}
        for row in heap:
            place = row[_CELL]
            if place >= 0:
                rows = by_cell.get(place)
                if rows is None:
                    rows = by_cell[place] = []
                rows.append(row)
        several = len({self.cells[place].account for place in by_cell}) < len(by_cell)
        for place, rows in by_cell.items():
            cell = self.cells[place]
            cell.add(rows)
            by_account.setdefault(cell.account, []).extend(rows)
        for account, rows in by_account.items():
            if several:
                rows.sort()
            self._usage_of(account).add(rows)
            if self.on_leaves:
                self.on_leaves(account, [row[_LEAF] for row in rows], [row[_ID] for row in rows])

    def _once(self, heap: list[Row]) -> list[Row]:
        """The heap with every id once: of equal records one, of conflicting records none."""
        out: list[Row] = []
        for _, group in groupby(heap, itemgetter(_KEY)):
            same = list(group)
            if any(row[_LEAF] != same[0][_LEAF] for row in same):
                self._conflict(same)
                continue
            if len(same) > 1:
                self._duplicates(same)
            out.append(same[0])
        return out

    def _usage_of(self, account: str) -> AccountUsage:
        usage = self.out.accounts.get(account)
        if usage is None:
            usage = self.out.accounts[account] = AccountUsage(account)
        return usage

    def _duplicates(self, same: list[Row]) -> None:
        row = same[0]
        account = self._account(row)
        if row[_CELL] >= 0:
            self._usage_of(self.cells[row[_CELL]].account).duplicates += len(same) - 1
        self.out.duplicate_count += len(same) - 1
        for other in same[1:]:
            if len(self.out.duplicates) < _MAX_NAMED:
                self.out.duplicates.append(Duplicate(row[_ID], account, other[_LINE]))

    def _conflict(self, same: list[Row]) -> None:
        lines = ", ".join(str(row[_LINE]) for row in same[:10])
        message = (
            f"the request id {same[0][_ID]} stands in lines {lines} with different contents; none of them is billed"
        )
        for row in same:
            at = parse_instant(row[_AT] + "Z") if row[_CELL] >= 0 else None
            self._set_aside(
                SetAside(row[_LINE], row[_ID], self._account(row), at, "duplicate_conflict", message),
                billable=row[_CELL] >= 0,
            )

    def _account(self, row: Row) -> str:
        # A row that is not billed here has its account where others have their time.
        account: str = self.cells[row[_CELL]].account if row[_CELL] >= 0 else row[_AT]
        return account

    def _set_aside(self, record: SetAside, *, billable: bool = True) -> None:
        elsewhere = (self.account is not None and record.account not in (self.account, None)) or (
            record.at is not None and self.period is not None and not self.period.holds(record.at)
        )
        if elsewhere or not billable:
            self.out.elsewhere += 1
            return
        self.out.set_aside += 1
        if record.account is not None and record.at is not None:
            self._usage_of(record.account).set_aside += 1
        if self.on_set_aside:
            self.on_set_aside(record)


class _Heaps:
    """Rows in 256 heaps by the first byte of their key; beyond a bound they wait on disk."""

    def __init__(self) -> None:
        self.held: list[list[Row]] = [[] for _ in range(256)]
        self.spilled: list[list[tuple[int, int]]] = [[] for _ in range(256)]
        self.file: IO[bytes] | None = None

    def __enter__(self) -> _Heaps:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()

    def spill(self) -> None:
        """Write what is held to disk."""
        if self.file is None:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        for heap, places in zip(self.held, self.spilled, strict=True):
            if heap:
                data = marshal.dumps(heap)
                places.append((self.file.tell(), len(data)))
                self.file.write(data)
                heap.clear()

    def sorted(self) -> Iterator[list[Row]]:
        """The heaps in order, each sorted by key, then id, then line."""
        for heap, places in zip(self.held, self.spilled, strict=True):
            rows = heap
            file = self.file
            for offset, size in places if file else ():
                cast(IO[bytes], file).seek(offset)
                rows = marshal.loads(cast(IO[bytes], file).read(size)) + rows  # noqa: S302  # our own file
            rows.sort()
            yield rows
            heap.clear()


class Repeated(NamedTuple):
    """Request ids that stand more than once in a file."""

    same: int
    """Records that repeat an equal one."""
    conflicts: int
    """Ids with different contents."""
    named: list[tuple[str, list[int], bool]]
    """(request id, lines, whether all are equal) of the first thousand."""


class DuplicateWatch:
    """Finds request ids that stand more than once, in bounded memory, for those who read record by record."""

    def __init__(self) -> None:
        self._heaps = _Heaps()
        self._count = 0

    def __enter__(self) -> DuplicateWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._heaps.__exit__()

    def add(self, record: Record) -> None:
        """Take note of a record."""
        key = sha256(record.request_id.encode()).digest()
        self._heaps.held[key[0]].append((key, record.request_id, record.line, record.leaf))
        self._count += 1
        if not self._count % _HELD:
            self._heaps.spill()

    def found(self) -> Repeated:
        """What stood more than once."""
        same = conflicts = 0
        named: list[tuple[str, list[int], bool]] = []
        for heap in self._heaps.sorted():
            for _, group in groupby(heap, itemgetter(_KEY)):
                rows = list(group)
                if len(rows) > 1:
                    equal = all(row[_LEAF] == rows[0][_LEAF] for row in rows)
                    same += (len(rows) - 1) if equal else 0
                    conflicts += not equal
                    if len(named) < _MAX_NAMED:
                        named.append((rows[0][_ID], [row[_LINE] for row in rows], equal))
        return Repeated(same, conflicts, named)


def _counted(lines: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    size = 0
    count = 0
    for count, line in enumerate(lines, 1):
        size += len(line)
        if not count & 0x3FFF:
            progress(count, size)
        yield line
    progress(count, size)
