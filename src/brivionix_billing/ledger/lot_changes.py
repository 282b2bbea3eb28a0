"""Changes of lots as entries show them: in Credits, in minor units, and at their exact purchase price."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.ledger.projections import CLAWBACK_KINDS, REDUCING_KINDS, LotDelta
from brivionix_billing.ledger.units import units_from_column, units_to_credits, units_to_payable
from brivionix_billing.money import Money, Payable

__all__ = ["MONEY_POSTINGS", "LotChange", "lot_change"]

MONEY_POSTINGS: Final = {
    "opened": ("cash", "deferred"),
    "used": ("deferred", "revenue"),
    "expired": ("deferred", "revenue"),
    "refunded": ("deferred", "cash"),
    "taken_back": ("revenue", "cash"),
    "written_off": ("revenue", "cash"),
    "restored": ("cash", "deferred"),
    "reversed": ("revenue", "deferred"),
    "moved_out": ("deferred", "transfers"),
    "moved_in": ("transfers", "deferred"),
}
"""Kind of lot change -> the money accounts that it debits and credits."""


class LotChange(NamedTuple):
    """The change of one lot by an entry, in Credits and money."""

    lot: str
    kind: str
    """``opened``, ``used``, ``expired``, ``refunded``, ``restored``; ``taken_back``: clawed back after use;
    ``written_off``: clawed back after expiry; ``reversed``: returned because the charge was reversed; ``moved_out`` and
    ``moved_in``: moved by a transfer."""
    credits: Decimal
    remaining: Decimal
    """Credits in the lot after the change."""
    money: Payable | None
    """Money in minor units: recognised as revenue for ``used`` and ``expired``, paid back for ``refunded``,
    ``taken_back`` and ``written_off``. ``None`` for a promotional lot. Most charges are less than a minor unit; over
    the life of a lot, its minor units add up to the amount paid."""
    cost: Money | None
    """Purchase price of these Credits, to 10^-18: Credits x paid / Credits of the lot. It is rounded so that the costs
    of all changes of a lot add up to the amount paid, exactly."""


def lot_change(delta: LotDelta, terms: list[str] | None) -> LotChange:
    """Return a change of a lot. ``terms`` are those of its purchase; ``None``: a promotional lot."""
    credits, remaining = units_to_credits(delta.credits), units_to_credits(delta.remaining)
    return LotChange(delta.lot, delta.kind, credits, remaining, *_delta_value(delta, terms))


def _delta_value(delta: LotDelta, terms: list[str] | None) -> tuple[Payable | None, Money | None]:
    """Return the money and the cost of a change of a lot."""
    if terms is None:
        return None, None
    currency, paid, credits = terms[0], units_from_column(terms[1]), units_from_column(terms[2])
    after = delta.remaining if delta.kind in REDUCING_KINDS else delta.remaining - delta.credits
    if delta.kind in CLAWBACK_KINDS:
        after = 0  # these Credits had left the lot before, so they have no position in it
    cost = _cost_of_part(paid, credits, after + delta.credits) - _cost_of_part(paid, credits, after)
    return units_to_payable(delta.money, currency), Money(units_to_credits(cost), currency)


def _cost_of_part(paid: int, credits: int, part: int) -> int:
    return round_quotient(paid * part, credits, Rounding.HALF_UP)
