"""Amounts as the ledger keeps them: whole units of 10^-18, in a database as text or NUMERIC with 18 digits.

Credits and money are kept alike; money is always whole coins. An integer column would end at 9.2 Credits, and a float
is not exact.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import decimal_from_scaled, format_plain, parse_decimal, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import Payable, minor_digits
from brivionix_billing.rating import UNITS_PER_CREDIT, Charge
from brivionix_billing.tokens import WorstCase

__all__ = [
    "MAX_UNITS",
    "Amount",
    "minor_unit",
    "to_signed_units",
    "to_units",
    "units_from_column",
    "units_to_column",
    "units_to_credits",
    "units_to_payable",
    "units_to_text",
]

Amount = Decimal | int | str | Charge | WorstCase

_PLACES: Final = len(str(UNITS_PER_CREDIT)) - 1
_ZERO: Final = "0." + "0" * _PLACES
"""Most amounts of a lot are zero."""
MAX_UNITS: Final = 10**30 * UNITS_PER_CREDIT
"""No amount is larger: what the NUMERIC columns of PostgreSQL hold. It is 10^15 times what anyone tops up at once."""


def to_units(amount: Amount, what: str) -> int:
    """Credits in units of 10^-18. Raises ``invalid_money`` for what is no exact amount from 0 to 10^30 Credits."""
    if type(amount) is Charge:
        return amount.units
    if isinstance(amount, WorstCase):
        if amount.charge is None:
            raise BillingError(
                "invalid_argument", f"{what} is a worst case with no price: it was asked for without group="
            )
        return amount.charge.units
    found = to_signed_units(amount, what)
    if found < 0:
        raise BillingError("invalid_money", f"{what} is {safe_repr(amount)}; it cannot be below zero")
    return found


def to_signed_units(amount: Amount, what: str) -> int:
    """The same for an amount that may be negative."""
    if isinstance(amount, str):
        amount = parse_decimal(amount)
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        raise BillingError(
            "invalid_money", f"{what} is {safe_repr(amount)}; give Credits as str, int, Decimal or Charge"
        )
    if isinstance(amount, int):
        found = amount * UNITS_PER_CREDIT
    else:
        coefficient, places = to_scaled(amount)
        found, rest = divmod(coefficient * UNITS_PER_CREDIT, 10**places)
        if rest:
            raise BillingError("invalid_money", f"{what} is {format_plain(amount)}; Credits have at most 18 digits")
    if abs(found) >= MAX_UNITS:
        raise BillingError("invalid_money", f"{what} is {safe_repr(amount)}; an amount is below 10^30")
    return found


def units_to_column(amount: int) -> str:
    """As it goes into a column: always 18 digits behind the point."""
    if not amount:
        return _ZERO
    if amount < 0:
        return "-" + units_to_column(-amount)
    digits = str(amount).zfill(_PLACES + 1)
    return f"{digits[:-_PLACES]}.{digits[-_PLACES:]}"


def units_from_column(text: str) -> int:
    """What :func:`column` wrote, or a shorter text of the same number."""
    if text == _ZERO:
        return 0
    if text[-_PLACES - 1 : -_PLACES] == ".":
        return int(text[: -_PLACES - 1] + text[-_PLACES:])
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(_PLACES, "0"))


def units_to_text(amount: int) -> str:
    """As it stands in the journal: no idle zeros."""
    return units_to_column(amount).rstrip("0").rstrip(".")


def units_to_credits(amount: int) -> Decimal:
    """Credits, exact."""
    return decimal_from_scaled(amount, _PLACES)


def units_to_payable(amount: int, currency: str) -> Payable:
    """Whole coins of money that the ledger keeps."""
    return Payable(amount // 10 ** (_PLACES - minor_digits(currency)), currency)


def minor_unit(currency: str) -> int:
    """One minor unit."""
    return int(10 ** (_PLACES - minor_digits(currency)))
