"""Compares the cells of a report with our usage: splits each difference, and names its cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Final

from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.provider.alternatives import Alternatives
from brivionix_billing.reconcile.provider.cells import Cell, CellKey, CellTable
from brivionix_billing.reconcile.provider.findings import Finding
from brivionix_billing.reconcile.provider.likely_causes import LikelyCauses, Tolerance
from brivionix_billing.reconcile.provider.usage_side import SLOT, UsageSide, slot_start
from brivionix_billing.reconcile.rows import NO_CAUSE, State

__all__ = ["Comparer"]

_OFFSETS: Final = [
    *(timedelta(hours=number) for number in range(-12, 15) if number),
    *(timedelta(minutes=30 * number) for number in (-19, -7, -5, 7, 9, 11, 13, 19, 21)),
    timedelta(hours=5, minutes=45),
]
"""Time zones that a report may be in instead of UTC."""
_MAX_PROBES: Final = 3


class Comparer:
    """Names the cause of every cell."""

    def __init__(
        self, book: PriceBook, table: CellTable, side: UsageSide, tolerance: Tolerance, delay: timedelta
    ) -> None:
        self._book, self._table, self._side = book, table, side
        self._tolerance, self._delay = tolerance, delay
        self._alternatives = Alternatives(book)
        self._likely = LikelyCauses(book, tolerance)
        self._has_amounts = any(line.amount is not None for cell in table.cells.values() for line in cell.lines)
        self.offset = timedelta(0)
        """The time zone that the report seems to be in."""

    def findings(self) -> list[Finding]:
        """Return the findings of all cells, by period and key."""
        cells = sorted(self._table.cells.values(), key=lambda cell: (cell.span.start, tuple(map(str, cell.key))))
        found = [self._compare(cell) for cell in cells]
        by_key: dict[CellKey, list[Finding]] = defaultdict(list)
        for finding in found:
            by_key[finding.cell.key].append(finding)
        for key, own in by_key.items():
            self._find_delays(key, own)
        self._find_time_zone(by_key)
        self._likely.review(found)
        self._find_partial_days(found)
        return found

    def _compare(self, cell: Cell) -> Finding:
        expected = cell.our_amount if cell.parts else None
        reported = self._reported(cell)
        if not cell.lines:
            return Finding(
                cell, State.ONLY_OURS, self._only_ours_cause(cell), None, expected, -(expected or Fraction(0))
            )
        if expected is None:
            if not reported and not cell.quantity:
                return Finding(cell, State.MATCHED, NO_CAUSE, reported, None)
            return Finding(
                cell, State.ONLY_THEIRS, self._only_theirs_cause(cell), reported, None, reported or Fraction(0)
            )
        finding = Finding(cell, State.MATCHED, NO_CAUSE, reported, expected)
        difference, tolerance = finding.difference, self._tolerance.of(cell, expected)
        if not self._has_amounts and cell.quantity != cell.our_quantity:
            finding.state, finding.cause, finding.quantity_part = State.DIFFERS, "quantity", difference
            return finding
        if abs(difference) <= tolerance:
            finding.cause = "rounding" if difference else NO_CAUSE
            return finding
        finding.state = State.DIFFERS
        self._split(finding, tolerance)
        return finding

    def _reported(self, cell: Cell) -> Fraction | None:
        if cell.amount is not None:
            return Fraction(cell.amount)
        if self._has_amounts:
            return Fraction(0) if cell.lines else None
        if cell.quantity is None:
            return None
        if cell.parts and cell.our_quantity:
            return cell.our_amount * Fraction(cell.quantity, cell.our_quantity)
        price = self._book_price(cell)
        return None if price is None else price * cell.quantity

    def _book_price(self, cell: Cell) -> Fraction | None:
        """Return the price of one unit of a cell that we have no usage in; ``None`` if it is not known."""
        model, tier, meter = cell.key.model, cell.key.tier, cell.key.meter
        if model is None or meter is None:
            return None
        for group in self._book.group_names:
            try:
                cards = self._book.rate_cards(model, group=group, at=cell.span.start, service_tier=tier)
            except Exception:  # noqa: S112  # a group without this model or tier
                continue
            rate = cards[0].unit_rates.get(meter)
            if rate is not None:
                return Fraction(rate, 10**18) * Fraction(cards[0].nominal_per_credit)
        return None

    def _split(self, finding: Finding, tolerance: Fraction) -> None:
        """Split a difference into quantity and price, and name its cause."""
        cell = finding.cell
        assert finding.reported is not None and finding.expected is not None  # noqa: S101, PT018  # both sides exist
        difference, ours, theirs = finding.difference, cell.our_quantity, cell.quantity
        if cell.amount is None or not finding.reported:
            finding.cause, finding.quantity_part = "not_billed", Fraction(0)
            return
        listed = cell.list_amount
        if listed is not None and listed != cell.amount and abs(Fraction(listed) - finding.expected) <= tolerance:
            finding.cause, finding.text = "discount", "the amount before the discount is ours"
            return
        if theirs is not None and ours and cell.key.meter is not None:
            self._split_known(finding, Fraction(theirs, ours), tolerance)
            return
        explanation = self._alternatives.explain(cell.our_parts, finding.reported, tolerance)
        if explanation is not None:
            finding.cause, finding.text = explanation
            return
        if theirs is not None and ours:  # tokens of all kinds together
            self._likely.split_total(finding, theirs - ours)
            return
        finding.cause = self._likely.of_amount(finding)
        finding.quantity_part = difference if finding.cause == "quantity" else Fraction(0)

    def _split_known(self, finding: Finding, scale: Fraction, tolerance: Fraction) -> None:
        """Split a difference of a cell whose quantity both sides state."""
        assert finding.reported is not None and finding.expected is not None  # noqa: S101, PT018  # both sides exist
        finding.quantity_part = finding.expected * (scale - 1)
        price_part = finding.difference - finding.quantity_part
        if abs(price_part) <= tolerance:
            finding.cause, finding.quantity_part = "quantity", finding.difference
            return
        explanation = self._alternatives.explain(finding.cell.our_parts, finding.reported, tolerance, scale)
        if abs(finding.quantity_part) > abs(price_part):
            finding.cause = "quantity"
            finding.text = "" if explanation is None else f"also {explanation.text}"
        elif explanation is None:
            finding.cause = "price"
        else:
            finding.cause, finding.text = explanation

    def _only_ours_cause(self, cell: Cell) -> str:
        if cell.key.tier == "priority":
            return "priority_tier"
        return "not_in_report"

    def _only_theirs_cause(self, cell: Cell) -> str:
        if cell.key.model in self._table.unknown_models:
            return "unknown_model"
        if cell.key.meter is not None and cell.key.meter.startswith("other: "):
            return "other_cost"
        if cell.key.project is not None and cell.key.project not in self._projects:
            return "unknown_project"
        return "not_in_usage"

    @property
    def _projects(self) -> set[str | None]:
        return {project for _, _, _, project in self._side.quantities}

    def _find_delays(self, key: CellKey, findings: Sequence[Finding]) -> None:
        """Mark cells whose difference is usage near the end of a period that was booked in the next one.

        What was moved is carried from one period to the next. It must be ours of the time before the end.
        """
        if not self._delay:
            return
        own = {finding.cell.span.label: finding for finding in findings}
        run: list[Finding] = []
        spans = self._table.periods.spans
        start = spans[0].start
        carried = Fraction(0)
        before = self._table.amounts_between(key, start - self._delay, start)
        for number, span in enumerate(spans):
            finding = own.get(span.label)
            if finding is None:
                run, carried = [], Fraction(0)
                continue
            difference, tolerance = (
                finding.difference,
                self._tolerance.of(finding.cell, finding.expected or Fraction(0)),
            )
            if number == 0 and tolerance < difference <= before + tolerance:
                self._mark_delay([finding])
                continue
            late = self._table.amounts_between(key, max(span.start, span.end - self._delay), span.end)
            for carry in (carried, Fraction(0)):
                rest = carry - difference
                if carry and abs(rest) <= tolerance:
                    self._mark_delay([*run, finding])
                    run, carried = [], Fraction(0)
                    break
                if tolerance < rest <= late + tolerance:
                    run, carried = ([*run, finding] if carry else [finding]), rest
                    break
            else:
                run, carried = [], Fraction(0)
        if run and run[-1].cell.span == spans[-1]:
            self._mark_delay(run)

    @staticmethod
    def _mark_delay(findings: Iterable[Finding]) -> None:
        for finding in findings:
            finding.state, finding.cause, finding.text = State.MATCHED, "delay", ""
            finding.quantity_part = finding.difference

    def _find_time_zone(self, by_key: dict[CellKey, list[Finding]]) -> None:
        """Mark cells that match if the report has the days of another time zone."""
        keys = [key for key, own in by_key.items() if any(map(_is_open, own))]
        every = [finding for own in by_key.values() for finding in own]
        # In another zone, nearly every day of every model differs.
        if len(self._table.periods.spans) < 3 or sum(map(_is_open, every)) * 2 < len(every):
            return
        # The offset is searched with the keys that have most open periods: one zone applies to the whole report.
        probes = sorted(keys, key=lambda key: -sum(map(_is_open, by_key[key])))[:_MAX_PROBES]
        inner = {span.label for span in self._table.periods.spans[1:-1]}

        def matched(offset: timedelta, keys: Sequence[CellKey]) -> list[Finding]:
            found = []
            for key in keys:
                amounts = self._table.shifted(key, offset)
                for finding in by_key[key]:
                    expected = amounts.get(finding.cell.span.label, Fraction(0))
                    reported = finding.reported or Fraction(0)
                    if _is_open(finding) and abs(reported - expected) <= self._tolerance.of(finding.cell, expected):
                        found.append(finding)
            return found

        open_inner = [f for key in keys for f in by_key[key] if _is_open(f) and f.cell.span.label in inner]
        best = max(_OFFSETS, key=lambda offset: len(matched(offset, probes)))
        explained = matched(best, keys)
        if len([f for f in explained if f.cell.span.label in inner]) * 2 <= len(open_inner) or len(explained) < 2:
            return
        self.offset = best
        for finding in explained:
            finding.state, finding.cause = State.DIFFERS, "time_zone"
            finding.text = f"the days of the report are those of UTC{best / timedelta(hours=1):+g} h"
            finding.quantity_part = finding.difference
        edges = {self._table.periods.spans[0].label, self._table.periods.spans[-1].label}
        for key in keys:
            for finding in by_key[key]:
                if _is_open(finding) and finding.cell.span.label in edges:
                    finding.state, finding.cause = State.DIFFERS, "time_zone"
                    finding.text = "the usage file does not have the whole day of the other zone"
                    finding.quantity_part = finding.difference

    def _find_partial_days(self, findings: Iterable[Finding]) -> None:
        """Name days that our usage file covers only in part, if the report has more of them.

        A file is taken to be cut if nothing is in it for twice as long as anywhere else.
        """
        slots = sorted({slot for slot, *_ in self._side.quantities})
        if not slots:
            return
        longest = max((after - before for before, after in pairwise(slots)), default=0) * SLOT
        first, last = slot_start(slots[0]), slot_start(slots[-1]) + SLOT
        for finding in findings:
            span = finding.cell.span
            starts_late = span.start < first <= span.end and first - span.start > 2 * longest
            ends_early = span.start <= last < span.end and span.end - last > 2 * longest
            is_missing = finding.cause in ("quantity", "not_in_usage") and finding.difference > 0
            if (starts_late or ends_early) and is_missing:
                finding.cause = "partial_day"


def _is_open(finding: Finding) -> bool:
    return finding.cause in ("quantity", "not_in_usage", "not_in_report", "not_billed")
