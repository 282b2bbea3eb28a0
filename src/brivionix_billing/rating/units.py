"""The unit in which charges count, and the units of a price."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import divide_exactly, to_scaled

__all__ = ["UNITS_PER_CREDIT", "UNIT_DECIMALS", "unit_rate"]

UNIT_DECIMALS: Final = 18
"""Charges are whole numbers of 10^-18 Credit. It allows 6 decimals of a price per 1 M tokens times 6 of a ratio."""
UNITS_PER_CREDIT: Final = 10**UNIT_DECIMALS


def unit_rate(price: Decimal, ratio: Decimal, per: int, nominal_per_credit: Decimal) -> int | None:
    """Return the units (10^-18 Credit) of one token or call, or ``None`` if they are not a whole number."""
    (p, p_places), (r, r_places), (n, n_places) = map(to_scaled, (price, ratio, nominal_per_credit))
    return divide_exactly(p * r * UNITS_PER_CREDIT * 10**n_places, per * n * 10 ** (p_places + r_places))
