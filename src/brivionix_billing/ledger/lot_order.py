"""The order in which lots are consumed: priority, then the rules of the price file, then age."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.projections import LotRow
from brivionix_billing.ledger.restrictions import DEFAULT_PRIORITY
from brivionix_billing.pricebook.lot_order import LOT_ORDER_RULES

__all__ = ["sort_for_consumption", "validate_lot_order"]

_SORT_KEYS: Final[dict[str, Callable[[LotRow], Any]]] = {
    "expiring": lambda lot: lot.expires or "~",  # "~" sorts after every year
    "promotional": lambda lot: lot.currency is not None,
    "paid": lambda lot: lot.currency is None,
    "oldest": lambda lot: lot.number,
    "newest": lambda lot: -lot.number,
}


def validate_lot_order(order: Iterable[str]) -> tuple[str, ...]:
    """Return the rules as a tuple. Raises ``invalid_argument`` for a rule that is not in ``LOT_ORDER_RULES``."""
    rules = tuple(order)
    for rule in rules:
        if rule not in _SORT_KEYS:
            raise BillingError(
                "invalid_argument",
                f"lot_order: unknown rule {safe_repr(rule)}; use {', '.join(LOT_ORDER_RULES)}",
            )
    return rules


def sort_for_consumption(lots: Sequence[LotRow], order: Sequence[str], now: str) -> Sequence[LotRow]:
    """Return the lots in the order of consumption: by priority, then by the rules, then the older lot first.

    An expired lot comes first in any order: it remains only for requests admitted before it expired, and no other
    request can consume it.
    """
    if len(lots) < 2:
        return lots
    keys = [_SORT_KEYS[rule] for rule in order]
    return sorted(
        lots,
        key=lambda lot: (
            lot.expires is None or lot.expires > now,
            DEFAULT_PRIORITY if lot.priority is None else lot.priority,
            *[key(lot) for key in keys],
            lot.number,
        ),
    )
