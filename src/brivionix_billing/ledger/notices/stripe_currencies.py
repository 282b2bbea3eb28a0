"""Stripe's own minor units. They are not those of ISO 4217.

Source: https://docs.stripe.com/currencies, sections on zero-decimal and three-decimal currencies and on special cases.
ISK and UGX have no minor unit, but Stripe's amounts have two decimal places for them, which must be zero. MGA has a
minor unit in ISO 4217, but none at Stripe. Every other currency has two decimal places.
"""

from __future__ import annotations

from typing import Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import Payable, minor_digits

__all__ = ["from_stripe_units", "to_stripe_units"]

_ZERO_DECIMAL: Final = (
    *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG"),
    *("RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
)
_THREE_DECIMAL: Final = ("BHD", "JOD", "KWD", "OMR", "TND")


def _stripe_digits(currency: str) -> int:
    digits = minor_digits(currency)
    if currency in _ZERO_DECIMAL:
        return 0
    if currency in _THREE_DECIMAL:
        return 3
    if digits not in (0, 2):
        raise BillingError("unknown_currency", f"{currency} is not a currency of Stripe")
    return 2


def from_stripe_units(amount: int, currency: str) -> Payable:
    """Convert an amount of Stripe's API. The currency may be in lower case.

    Raises ``unknown_currency``, and ``invalid_money`` if the amount is not a whole number of minor units.

    >>> from_stripe_units(170_000, "isk")
    Payable('1700', 'ISK')
    """
    currency = currency.upper() if isinstance(currency, str) else currency
    shift = minor_digits(currency) - _stripe_digits(currency)
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
        raise BillingError("invalid_money", f"{safe_repr(amount)} is not an amount of Stripe; use an int of at least 0")
    minor, rest = (amount * 10**shift, 0) if shift >= 0 else divmod(amount, 10**-shift)
    if rest:
        raise BillingError("invalid_money", f"{amount} of Stripe is not a whole number of {currency}")
    return Payable(minor, currency)


def to_stripe_units(amount: Payable) -> int:
    """Convert an amount for a request to Stripe's API. Raises ``unknown_currency``, ``invalid_money``.

    >>> to_stripe_units(Payable(1700, "ISK"))
    170000
    """
    shift = _stripe_digits(amount.currency) - minor_digits(amount.currency)
    units: int
    units, rest = (amount.minor * 10**shift, 0) if shift >= 0 else divmod(amount.minor, 10**-shift)
    if rest:
        raise BillingError("invalid_money", f"{amount} has more decimal places than Stripe has for {amount.currency}")
    return units
