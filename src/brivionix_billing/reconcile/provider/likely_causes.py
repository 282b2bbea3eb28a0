"""Decides between another quantity and another price where a report has only amounts, or only tokens of all kinds.

A quantity is a whole number, a published price has few decimal places, and so has a factor on prices. A request has
several token kinds, so other requests change all of them, and by another ratio each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, Final

from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.provider.alternatives import amount_of
from brivionix_billing.reconcile.provider.cells import Cell
from brivionix_billing.reconcile.provider.findings import Finding
from brivionix_billing.reconcile.rows import State

__all__ = ["LikelyCauses", "Tolerance"]

_PRICE_GRID: Final = Fraction(1, 10_000)
"""Published prices have at most four decimal places per unit of price."""
_RATIO_GRID: Final = Fraction(1, 100)
"""A factor on prices has at most two decimal places."""
_MIN_PER_STEP: Final = 10
"""A ratio shows something only if many whole quantities lie between two steps of its grid."""
_TINY: Final = Fraction(1, 10)
_SHARP: Final = Fraction(1, 20)
"""The greatest error of a ratio that is compared with others, as a fraction of its distance from 1."""
_EXACT: Final = Fraction(1, 1000)
"""The same, where two of many ratios are compared."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The greatest difference of two amounts that agree."""

    absolute: Fraction
    """For one line of the report, in units of its currency."""
    ratio: Fraction
    """As a fraction of the amount."""
    per_request: Fraction
    """For each request, if the provider rounds each of them."""
    cap: Fraction | None = None
    """The most that ``absolute`` may be as a fraction of our amount; ``None``: no limit."""

    def of(self, cell: Cell, amount: Fraction) -> Fraction:
        """Return the tolerance of a cell."""
        lines = max(1, sum(line.amount is not None for line in cell.lines))
        absolute = self.absolute * lines
        if self.cap is not None:
            absolute = min(absolute, abs(amount) * self.cap)
        return max(absolute, abs(amount) * self.ratio, self.per_request * cell.requests)


class LikelyCauses:
    """Names ``price`` or ``quantity`` by what is likely."""

    def __init__(self, book: PriceBook, tolerance: Tolerance) -> None:
        self._book, self._tolerance = book, tolerance

    def of_amount(self, finding: Finding) -> str:
        """Return the cause of a cell of which only the amount is reported."""
        cell, reported, expected = finding.cell, finding.reported or Fraction(0), finding.expected or Fraction(0)
        quantity = cell.our_quantity
        if not quantity or not expected or cell.key.meter is None:
            return "quantity"
        tolerance = self._tolerance.of(cell, expected)
        meter = METERS.get(cell.key.meter) or self._book.meters.get(cell.key.meter) or METERS["input"]
        is_price = _is_on_grid(reported / quantity * meter.per, _PRICE_GRID, tolerance / quantity * meter.per)
        is_count = _is_on_grid(reported / expected * quantity, Fraction(1), tolerance / expected * quantity)
        finding.may_be_price = is_price is not False or is_count is False
        ratio = reported / expected
        is_factor = ratio.denominator > 1 and quantity * _RATIO_GRID >= _MIN_PER_STEP and is_count is not None
        if is_factor and _is_on_grid(ratio, _RATIO_GRID, tolerance / expected):
            return "price"
        # If the amount is too rounded to exclude a quantity, the other cells decide.
        return "price" if is_price and is_count is False else "quantity"

    def split_total(self, finding: Finding, more: int) -> None:
        """Split the difference of a cell of tokens of all kinds. ``more`` is by how many the report has more than we.

        Other quantities are a cause if the tokens that make the difference may have cost the difference.
        """
        cell, expected = finding.cell, finding.expected or Fraction(0)
        prices = [
            amount_of([(card, meter, quantity)]) / quantity for card, meter, quantity in cell.our_parts if quantity
        ]
        if more and min(prices) <= finding.difference / more <= max(prices):
            finding.cause, finding.quantity_part = "quantity", finding.difference
        else:
            finding.cause, finding.quantity_part = "price", expected * Fraction(more, cell.our_quantity)

    def review(self, findings: Sequence[Finding]) -> None:
        """Name the price where several cells together show that it is the cause."""
        days: dict[Any, list[Finding]] = defaultdict(list)
        meters: dict[Any, list[Finding]] = defaultdict(list)
        for finding in findings:
            key = finding.cell.key
            days[key].append(finding)
            meters[finding.cell.span.label, key._replace(meter=None)].append(finding)
        for own in days.values():
            self._find_constant_ratio(own)
        for own in meters.values():
            self._find_common_ratio(own)
            _find_single_meter(own)

    def _find_constant_ratio(self, findings: Iterable[Finding]) -> None:
        """Name the price if several periods differ by one ratio: quantities never do."""
        own = [finding for finding in findings if _is_by_amount(finding)]
        if len(own) > 1 and self._have_one_ratio(own):
            _name_price(own)
            return
        ratios: dict[Fraction, list[Finding]] = defaultdict(list)
        for finding in own:
            ratio = _ratio(finding)
            if self._error(finding) <= abs(ratio - 1) * _EXACT:
                ratios[round(ratio, 6)].append(finding)
        _name_price(chain.from_iterable(same for same in ratios.values() if len(same) > 1))

    def _find_common_ratio(self, findings: Iterable[Finding]) -> None:
        """Name the price if all that differs of a model on a day differs by one ratio that is not a whole number.

        A whole number is requests that were charged several times.
        """
        own = list(filter(_is_by_amount, findings))
        if len(own) < 2 or not self._have_one_ratio(own):
            return
        finest = min(own, key=self._error)
        ratio, error = _ratio(finest), self._error(finest)
        if error <= abs(ratio - 1) * _SHARP and abs(ratio - round(ratio)) > error:
            _name_price(own)

    def _have_one_ratio(self, findings: Iterable[Finding]) -> bool:
        spans = [(_ratio(finding), self._error(finding)) for finding in findings]
        return max(ratio - error for ratio, error in spans) <= min(ratio + error for ratio, error in spans)

    def _error(self, finding: Finding) -> Fraction:
        expected = finding.expected or Fraction(1)
        return self._tolerance.of(finding.cell, expected) / expected


def _ratio(finding: Finding) -> Fraction:
    return (finding.reported or Fraction(0)) / (finding.expected or Fraction(1))


def _is_by_amount(finding: Finding) -> bool:
    """Return whether the report has only an amount, which is not ours, and which no price of the cost book explains."""
    has_both = bool(finding.expected and finding.reported)
    return finding.cause in ("quantity", "price") and finding.cell.quantity is None and has_both


def _name_price(findings: Iterable[Finding]) -> None:
    for finding in findings:
        finding.cause, finding.quantity_part = "price", Fraction(0)


def _find_single_meter(findings: Sequence[Finding]) -> None:
    """Name the price if only one meter of a model differs on a day, and the amount may come from another price.

    What has a cause of its own says nothing about the other meters.
    """
    different = [finding for finding in findings if _is_by_amount(finding)]
    has_match = any(finding.state is State.MATCHED for finding in findings)
    if len(different) == 1 and has_match and different[0].may_be_price:
        _name_price(different)


def _is_on_grid(value: Fraction, grid: Fraction, error: Fraction) -> bool | None:
    """Return whether a value is a multiple of the grid within an error; ``None`` if the error is too large to tell."""
    if error >= grid * _TINY:
        return None
    return abs(value / grid - round(value / grid)) * grid <= error
