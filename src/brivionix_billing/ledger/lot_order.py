"""The order in which lots are used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.projections import LotRow
from brivionix_billing.pricebook.lot_order import LOT_ORDER_RULES

__all__ = ["validate_lot_order", "sort_for_consumption"]

_SORT_KEYS: Final[dict[str, Callable[[LotRow], Any]]] = {
    "expiring": lambda lot: lot.expires or "~",  # behind every year
    "promotional": lambda lot: lot.currency is not None,
    "paid": lambda lot: lot.currency is None,
    "oldest": lambda lot: lot.number,
    "newest": lambda lot: -lot.number,
}


def validate_lot_order(order: Iterable[str]) -> tuple[str, ...]:
    """Rules of ``lot_order.LOT_ORDER_RULES``. Raises ``invalid_argument`` for others."""
    found = tuple(order)
    for rule in found:
        if rule not in _SORT_KEYS:
            raise BillingError(
                "invalid_argument", f"no rule {safe_repr(rule)} for the order of lots; {', '.join(LOT_ORDER_RULES)}"
            )
    return found


def sort_for_consumption(lots: Sequence[LotRow], order: Sequence[str], now: str) -> Sequence[LotRow]:
    """The lots in their order of use; where no rule tells two apart, the older one comes first.

    A lot that has expired, and is kept only for requests that were let in before, comes first whatever the order is:
    nothing else can use it.
    """
    if len(lots) < 2:
        return lots
    keys = [_SORT_KEYS[rule] for rule in order]
    return sorted(
        lots,
        key=lambda lot: (lot.expires is None or lot.expires > now, *[key(lot) for key in keys], lot.number),
    )
