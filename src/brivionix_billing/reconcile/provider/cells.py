"""Cells: what a report and our usage say about one day, model, tier, project and token kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from typing import Final, NamedTuple

from brivionix_billing.decimals import sum_exact
from brivionix_billing.errors import BillingError
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.reconcile.provider.alternatives import Part, amount_of
from brivionix_billing.reconcile.provider.periods import ReportPeriods, Span
from brivionix_billing.reconcile.provider.report import DIMENSIONS, TOTAL, Report, ReportLine
from brivionix_billing.reconcile.provider.usage_side import SLOT, UsageSide, slot_of, slot_start

__all__ = ["Cell", "CellKey", "CellTable"]

_DROP_ORDER: Final = ("tier", "project", "meter", "model")
"""Dimensions in the order in which our usage may lack a line of its own."""
_SAME_METER: Final = {"reasoning": "output"}
"""Meters that reports count as another one."""


class CellKey(NamedTuple):
    """What a cell is about, beside its period. ``None``: all, or what the report does not state."""

    model: str | None
    tier: str | None
    project: str | None
    meter: str | None


@dataclass(slots=True)
class Cell:
    """Both sides of one cell."""

    key: CellKey
    span: Span
    lines: list[ReportLine] = field(default_factory=list)
    parts: dict[tuple[RateCard, str], int] = field(default_factory=lambda: defaultdict(int))
    """(rate card, meter) -> our quantity."""

    @property
    def amount(self) -> Decimal | None:
        """The amount of the report, ``None`` if no line of the cell has one."""
        amounts = [line.amount for line in self.lines if line.amount is not None]
        return sum_exact(amounts) if amounts else None

    @property
    def list_amount(self) -> Decimal | None:
        """The amount before a discount, if every line with an amount states it."""
        lines = [line for line in self.lines if line.amount is not None]
        amounts = [line.list_amount for line in lines if line.list_amount is not None]
        return sum_exact(amounts) if amounts and len(amounts) == len(lines) else None

    @property
    def quantity(self) -> int | None:
        """The quantity of the report, ``None`` if no line of the cell has one."""
        quantities = [line.quantity for line in self.lines if line.quantity is not None]
        return sum(quantities) if quantities else None

    @property
    def requests(self) -> int:
        """Number of requests of the report, 0 if it does not state it."""
        return sum(line.requests for line in self.lines)

    @property
    def our_parts(self) -> list[Part]:
        """Our quantities with the rate cards of their requests."""
        return [(card, meter, quantity) for (card, meter), quantity in self.parts.items()]

    @property
    def our_quantity(self) -> int:
        """Our quantity: of the meter, or of all tokens if the cell is about all meters."""
        if self.key.meter is not None:
            return sum(self.parts.values())
        return sum(quantity for (_, meter), quantity in self.parts.items() if _is_token(meter))

    @property
    def our_amount(self) -> Fraction:
        """Our amount in the currency of the cost book."""
        return amount_of(self.our_parts)

    @property
    def name(self) -> str:
        """A name of the cell that is unique within its report."""
        return " ".join(filter(None, (self.span.label, *self.key)))


def _is_token(meter: str) -> bool:
    found = METERS.get(meter)
    return meter == "reasoning" or (found is not None and found.is_token)


class CellTable:
    """The cells of a report and of our usage."""

    def __init__(self, book: PriceBook, periods: ReportPeriods, *, with_projects: bool) -> None:
        self._book, self.periods, self._with_projects = book, periods, with_projects
        self.cells: dict[tuple[str, CellKey], Cell] = {}
        self.unknown_models: set[str] = set()
        self._known: set[CellKey] = set()
        self._dimensions: frozenset[str] = frozenset()
        self._targets: dict[CellKey, CellKey] = {}
        self._meters: dict[tuple[str, str], str] = {}
        self._unit = Fraction(book.nominal_per_credit) / 10**UNIT_DECIMALS
        self.slots: dict[CellKey, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        """Cell key -> quarter hour -> our amount in 10^-18 Credit, also outside of the report."""

    def add_report(self, report: Report, lines: Iterable[ReportLine]) -> None:
        """Add the lines of a report."""
        lines = list(lines)
        self._dimensions = _common_dimensions(lines)
        for line in lines:
            key = self.key_of(line)
            self._known.add(key)
            self._cell(line.bucket[0], key).lines.append(line)

    def key_of(self, line: ReportLine) -> CellKey:
        """Return the key of the cell that a line of the report belongs to."""
        model = self._model(line.model)
        values = {
            "model": model,
            "tier": self.tier(line.tier),
            "project": line.project if self._with_projects else None,
            "meter": None if line.meter == TOTAL else self._meter(model, line.meter, line.bucket[0]),
        }
        return CellKey(*(values[name] if name in self._dimensions else None for name in DIMENSIONS))

    def _model(self, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            return self._book.resolve_model(name)
        except BillingError:
            self.unknown_models.add(name)
            return name

    def _meter(self, model: str | None, meter: str | None, at: datetime) -> str | None:
        """Return the meter that is charged: images that a model has no price for are charged as its input."""
        if model is None or meter is None or meter not in METERS or model in self.unknown_models:
            return meter
        found = self._meters.get((model, meter))
        if found is None:
            priced = self._priced_meters(model, at)
            fallback = METERS[meter].fallback
            found = fallback if fallback and meter not in priced and fallback in priced else meter
            self._meters[model, meter] = found
        return found

    def _priced_meters(self, model: str, at: datetime) -> set[str]:
        found: set[str] = set()
        for group in self._book.group_names:
            with suppress(BillingError):
                for card in self._book.rate_cards(model, group=group, at=at):
                    found.update(card.unit_rates)
        return found

    def tier(self, name: str | None) -> str | None:
        """Return the tier that a report means; its own word if the cost book does not know it."""
        if name is None:
            return None
        try:
            return self._book.resolver.tiers.normalize(name)
        except BillingError:
            return name

    def _cell(self, when: datetime, key: CellKey) -> Cell:
        span = self.periods.at(when)
        assert span is not None  # noqa: S101  # the caller adds only what is within the report
        return self.cells.setdefault((span.label, key), Cell(key, span))

    def add_usage(self, side: UsageSide) -> int:
        """Add our usage. Returns the number of quarter hours outside of the report."""
        outside = set()
        for (slot, card, meter, project), quantity in side.quantities.items():
            key = self._target(CellKey(card.model, card.service_tier, project, _SAME_METER.get(meter, meter)))
            self.slots[key][slot] += card.unit_rates.get(meter, 0) * quantity
            start = slot_start(slot)
            if self.periods.at(start) is None:
                outside.add(slot)
                continue
            self._cell(start, key).parts[card, meter] += quantity
        return len(outside)

    def _target(self, own: CellKey) -> CellKey:
        """Return the key of the report that our usage belongs to: the most specific one that has any line."""
        found = self._targets.get(own)
        if found is None:
            found = next((key for key in _generalisations(own) if key in self._known), None)
            if found is None:
                found = CellKey(*(value if name in self._dimensions else None for name, value in own._asdict().items()))
                if not self._with_projects:
                    found = found._replace(project=None)
            self._targets[own] = found
        return found

    def amounts_between(self, key: CellKey, start: datetime, end: datetime) -> Fraction:
        """Return our amount of a cell key from ``start`` to before ``end``, rounded to quarter hours."""
        slots = self.slots.get(key, {})
        units, when = 0, start
        while when < end:
            units += slots.get(slot_of(when), 0)
            when += SLOT
        return units * self._unit

    def shifted(self, key: CellKey, offset: timedelta) -> dict[str, Fraction]:
        """Return our amounts of a cell key by period, with all times later by ``offset``."""
        found: dict[str, int] = defaultdict(int)
        for slot, units in self.slots.get(key, {}).items():
            span = self.periods.at(slot_start(slot) + offset)
            if span is not None:
                found[span.label] += units
        return {label: units * self._unit for label, units in found.items()}


def _generalisations(own: CellKey) -> Iterable[CellKey]:
    """Yield a key, and those with fewer dimensions, the most specific first."""
    for count in range(len(_DROP_ORDER) + 1):
        for dropped in combinations(_DROP_ORDER, count):
            yield own._replace(**dict.fromkeys(dropped))


def _common_dimensions(lines: Sequence[ReportLine]) -> frozenset[str]:
    """Return the dimensions that costs and usage both state; of a report that has only one of them, its own."""

    def stated(some: Sequence[ReportLine]) -> set[str]:
        return {name for name in DIMENSIONS for line in some if getattr(line, name) is not None}

    costs = [line for line in lines if line.amount is not None]
    usage = [line for line in lines if line.amount is None]
    return frozenset(stated(costs) & stated(usage) if costs and usage else stated(lines))
