"""Amounts in units of 10^-18, and their text in the database: TEXT in SQLite, NUMERIC in PostgreSQL, 18 decimal places.

Credits and money are both kept in these units; an amount of money is always a whole number of minor units. A 64-bit
integer column would overflow at 9.2 Credits, and a float is not exact.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Final

from brivionix_billing.decimals import decimal_from_scaled, format_plain, require_plain_number, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import Payable, minor_digits
from brivionix_billing.rating import UNITS_PER_CREDIT, Charge
from brivionix_billing.tokens import WorstCase

__all__ = [
    "MAX_UNITS",
    "ZERO_TEXT",
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
# Parts of the text of an amount with all its places. Constants, because each request formats and parses dozens.
_WHOLE: Final = slice(None, -_PLACES)
_FRACTION: Final = slice(-_PLACES, None)
_POINT: Final = slice(-_PLACES - 1, -_PLACES)
ZERO_TEXT: Final = "0." + "0" * _PLACES
"""Zero in a column. Most amounts of a lot are zero, so the reader of rows compares it instead of parsing it."""
MAX_UNITS: Final = 10**30 * UNITS_PER_CREDIT
"""Exclusive maximum of an amount: the NUMERIC columns of PostgreSQL have 30 digits before the decimal point."""


def to_units(amount: Amount, name: str) -> int:
    """Convert Credits to units. Raises ``invalid_money`` if the amount is not exact, from 0 to below 10^30 Credits."""
    if type(amount) is Charge:
        return amount.units
    if isinstance(amount, WorstCase):
        if amount.charge is None:
            raise BillingError("invalid_argument", f"{name} is a worst case without a price; pass group= to worst_case")
        return amount.charge.units
    units = to_signed_units(amount, name)
    if units < 0:
        raise BillingError("invalid_money", f"{name} is {safe_repr(amount)}; it must be at least 0")
    return units


def to_signed_units(amount: Amount, name: str) -> int:
    """Convert Credits that may be negative to units. Raises ``invalid_money``."""
    if isinstance(amount, str):
        require_plain_number(amount)
        is_short = len(amount.partition(".")[2]) <= _PLACES
        units = units_from_column(amount) if is_short else _decimal_to_units(Decimal(amount), name)
    elif isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        raise BillingError("invalid_money", f"{name} is {safe_repr(amount)}; use a str, int, Decimal or Charge")
    else:
        units = amount * UNITS_PER_CREDIT if isinstance(amount, int) else _decimal_to_units(amount, name)
    if abs(units) >= MAX_UNITS:
        raise BillingError("invalid_money", f"{name} is {safe_repr(amount)}; it must be below 10^30")
    return units


def _decimal_to_units(amount: Decimal, name: str) -> int:
    coefficient, places = to_scaled(amount)
    scale: int = 10**places
    units, remainder = divmod(coefficient * UNITS_PER_CREDIT, scale)
    if remainder:
        raise BillingError("invalid_money", f"{name} is {format_plain(amount)}; Credits have at most 18 decimal places")
    return units


def units_to_column(amount: int) -> str:
    """Format units for a column, always with 18 decimal places."""
    if not amount:
        return ZERO_TEXT
    if amount < 0:
        return "-" + units_to_column(-amount)
    if amount < UNITS_PER_CREDIT:
        return "0." + str(amount).zfill(_PLACES)
    digits = str(amount)
    return f"{digits[_WHOLE]}.{digits[_FRACTION]}"


def units_from_column(text: str) -> int:
    """Parse the text of a column or of an entry. Trailing zeros may be missing."""
    if text[_POINT] == ".":
        return int(text.replace(".", "", 1))
    whole, _, fraction = text.partition(".")
    if not whole:
        raise ValueError(f"invalid literal for an amount: {text!r}")
    return int(whole + fraction.ljust(_PLACES, "0"))


def units_to_text(amount: int) -> str:
    """Format units for an entry of the journal, without trailing zeros."""
    return units_to_column(amount).rstrip("0").rstrip(".")


def units_to_credits(amount: int) -> Decimal:
    """Convert units to Credits, exactly."""
    return decimal_from_scaled(amount, _PLACES)


def units_to_payable(amount: int, currency: str) -> Payable:
    """Convert units of money to a payable amount."""
    return Payable(amount // minor_unit(currency), currency)


@lru_cache(maxsize=256)
def minor_unit(currency: str) -> int:
    """Return one minor unit of a currency, in units of 10^-18."""
    return int(10 ** (_PLACES - minor_digits(currency)))
