"""Plans in the naive model of the ledger, in Fractions: periods, allowances, and changes of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger_model import Model, ModelOrder

DAY = 86_400
_MILLION = 10**6


@dataclass(frozen=True)
class ModelTerms:
    """The terms of a plan. ``price``: minor units of a period of one day; 0: the plan is free."""

    name: str
    credits: int
    price: int
    overflow: bool = True
    model: str | None = None

    def share(self, left: Fraction) -> tuple[int, Fraction]:
        """Return price and Credits of a part of a period, or nothing if either is nothing."""
        price = floor(self.price * left + Fraction(1, 2))
        credits = Fraction(floor(self.credits * left * _MILLION), _MILLION)
        return (price, credits) if price and credits else (0, Fraction(0))


@dataclass
class ModelPlan:
    """A subscription. Times are in seconds."""

    id: str
    terms: ModelTerms
    later: ModelTerms | None = None
    anchor: int | None = None
    starts: int | None = None
    ends: int | None = None
    since: int | None = None
    lots: list[str] = field(default_factory=list)
    order: str | None = None
    cancelled: bool = False

    def has_ended(self, now: int) -> bool:
        return self.cancelled and (self.ends is None or self.ends <= now)

    def binds(self, now: int) -> bool:
        """Return whether requests may use the lots of the plan only."""
        return self.starts is not None and not self.terms.overflow and not self.has_ended(now)

    def is_free_and_due(self, now: int) -> bool:
        return not self.cancelled and not (self.later or self.terms).price and (self.ends is None or self.ends <= now)

    def following(self, now: int) -> tuple[int, int]:
        """Return the period after the latest one, or the current one."""
        if self.anchor is None or self.ends is None:
            return now, now + DAY
        start = self.anchor + (max(now, self.ends) - self.anchor) // DAY * DAY
        return start, start + DAY

    def allow(self, model: Model, lot: str, starts: int, ends: int) -> None:
        """Add a lot of the allowance, which may begin a period."""
        before = self.lots
        if self.starts is None or starts > self.starts:
            self.anchor = starts if self.anchor is None else self.anchor
            self.terms, self.later = self.later or self.terms, None
            self.starts, self.ends, self.since, self.lots = starts, ends, starts, []
        if starts == self.starts:
            self.lots = [*self.lots, lot]
        self.bind(model, before)

    def bind(self, model: Model, lots: list[str]) -> None:
        if not self.terms.overflow:
            for id in lots:
                model.lot(id).plan = self.id

    def drop_order(self, orders: dict[str, ModelOrder], *, current: bool) -> None:
        order = None if self.order is None else orders[self.order]
        if order is not None and order.state == "open" and (current or order.starts != self.starts):
            order.state = "cancelled"

    def unused(self, model: Model, lot: str, now: int, most: int, taken: Fraction) -> tuple[Fraction, int]:
        """Return what a lot has for the rest of its period, and its price in minor units, up to ``most``."""
        of = model.lot(lot)
        free = model.room(frozenset([lot]))
        if not any(each.remaining and (each.model or each.plan) for each in model.lots):
            free = min(of.remaining, model.available - taken)
        if model.is_expired(of):
            free = Fraction(0)
        assert self.ends is not None
        assert self.since is not None
        part = Fraction(floor(of.credits * Fraction(self.ends - now, self.ends - self.since) * 10**18), 10**18)
        part = max(Fraction(0), min(free, part))
        before = of.worth
        of.remaining -= part
        money = before - of.worth
        of.remaining += part
        return (part, money) if money <= most else (model.bought_by(of, most), most)
