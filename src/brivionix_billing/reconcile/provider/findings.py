"""What was found about a cell, and the row of the result that states it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from brivionix_billing.decimals import format_plain, negate, sum_exact
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.units import UNIT_DECIMALS
from brivionix_billing.reconcile.provider.alternatives import as_decimal
from brivionix_billing.reconcile.provider.cells import Cell
from brivionix_billing.reconcile.rows import Columns, Row, State

__all__ = ["COLUMNS", "Finding", "RowMaker"]

COLUMNS: Final = Columns(
    "line",
    "reported",
    "expected",
    (
        *("day", "model", "tier", "project", "meter", "reported_quantity", "expected_quantity", "reported_price"),
        *("expected_price", "quantity_part", "price_part", "explaining_quantity", "explaining_price", "text", "place"),
    ),
)
_SHOWN_PLACES: Final = 12


@dataclass(slots=True)
class Finding:
    """The result of one cell."""

    cell: Cell
    state: State
    cause: str
    reported: Fraction | None
    """The amount of the report. Of a report without amounts: its quantity at our price."""
    expected: Fraction | None
    quantity_part: Fraction = Fraction(0)
    text: str = ""
    may_be_price: bool = False
    """Whether the amount, which is all that the report has, may come from another price as well as another quantity."""

    @property
    def difference(self) -> Fraction:
        """Reported less expected."""
        return (self.reported or Fraction(0)) - (self.expected or Fraction(0))


class RowMaker:
    """Makes rows of findings: exact amounts, with the parts rounded so that they add up."""

    def __init__(self, currency: str, book: PriceBook) -> None:
        self._currency, self._book = currency, book

    def row(self, finding: Finding) -> Row:
        """Return the row of a finding."""
        reported, expected = _decimal(finding.reported), _decimal(finding.expected)
        difference = sum_exact((reported or Decimal(0), negate(expected or Decimal(0))))
        quantity_part = as_decimal(finding.quantity_part, _SHOWN_PLACES)
        if finding.quantity_part == finding.difference:
            quantity_part = difference
        cell = finding.cell
        details = {
            "day": cell.span.label,
            **{name: value or "" for name, value in cell.key._asdict().items()},
            **self._quantities(finding),
            "quantity_part": format_plain(quantity_part),
            "price_part": format_plain(sum_exact((difference, negate(quantity_part)))),
            "text": "; ".join(dict.fromkeys(filter(None, (finding.text, *(line.text for line in cell.lines))))),
            "place": ", ".join(dict.fromkeys(_short(line.place) for line in cell.lines[:3])),
        }
        return Row(cell.name, finding.state, finding.cause, self._currency, reported, expected, details)

    def _quantities(self, finding: Finding) -> dict[str, str]:
        cell = finding.cell
        meter = METERS.get(cell.key.meter or "input") or self._book.meters.get(cell.key.meter or "")
        per, places = (meter.per, meter.places) if meter else (1, 0)
        ours, theirs = cell.our_quantity, cell.quantity
        found = {
            "reported_quantity": "" if theirs is None else _count(Fraction(theirs), places),
            "expected_quantity": _count(Fraction(ours), places) if cell.parts else "",
        }
        known = theirs if theirs is not None else ours
        amount = None if cell.amount is None else Fraction(cell.amount)
        if amount is not None and theirs:
            found["reported_price"] = _price(amount / theirs, per, places)
        if finding.expected and ours:
            found["expected_price"] = _price(finding.expected / ours, per, places)
        if finding.state is State.DIFFERS and amount is not None and known:
            found["explaining_price"] = _price(amount / known, per, places)
            if finding.expected and ours:
                found["explaining_quantity"] = _count(amount / (finding.expected / ours), places)
        return found


def _decimal(amount: Fraction | None) -> Decimal | None:
    """Return an amount exactly: floats such as ``1.2345678901234567e-05`` have more than 18 decimal places."""
    if amount is None:
        return None
    places = UNIT_DECIMALS
    if 10**places % amount.denominator:
        longer = amount.denominator.bit_length()  # enough for any finite decimal
        places = places if 10**longer % amount.denominator else longer
    return as_decimal(amount, places)


def _price(unit: Fraction, per: int, places: int) -> str:
    return format_plain(as_decimal(unit * per * 10**places, 8))


def _count(stored: Fraction, places: int) -> str:
    return format_plain(as_decimal(stored / 10**places, max(places, 2)))


def _short(place: str) -> str:
    return place.replace("\\", "/").rpartition("/")[2]
