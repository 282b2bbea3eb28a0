"""Amounts as the ledger keeps them: whole units of 10^-18, in a database as text or NUMERIC with 18 digits.

Credits and money are kept alike; money is always whole coins. An integer column would end at 9.2 Credits, and a float
is not exact.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import decimal_from_scaled, format_plain, parse_decimal, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import Payable, minor_digits
from brivionix_billing.rating import Charge
from brivionix_billing.times import as_utc
from brivionix_billing.tokens import WorstCase

__all__ = [
    "MAX_UNITS",
    "Amount",
    "units_to_credits",
    "require_id",
    "units_to_column",
    "require_new_id",
    "units_to_payable",
    "units_from_column",
    "units_to_text",
    "format_timestamp",
    "to_units",
    "parse_timestamp",
]

Amount = Decimal | int | str | Charge | WorstCase

_PLACES: Final = 18
_UNITS_PER_CREDIT: Final = 10**_PLACES
_ZERO: Final = "0." + "0" * _PLACES
"""Most amounts of a lot are zero."""
MAX_UNITS: Final = 10**30 * _UNITS_PER_CREDIT
"""No amount is larger: what the NUMERIC columns of PostgreSQL hold. It is 10^15 times what anyone tops up at once."""

MAX_ID_LENGTH: Final = 240
"""Characters of an account or a hold: ids are made of theirs, such as ``HOLD:settle``."""
_NAME: Final = re.compile(r"[^\s~](?:.{0,254}\S)?", re.DOTALL)


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
        found = amount * _UNITS_PER_CREDIT
    else:
        coefficient, places = to_scaled(amount)
        found, rest = divmod(coefficient * _UNITS_PER_CREDIT, 10**places)
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


def format_timestamp(at: datetime) -> str:
    """A time as columns hold it: UTC, always with microseconds, so that texts sort as their times do."""
    return as_utc(at).isoformat("T", "microseconds")[: -len("+00:00")] + "Z"


def parse_timestamp(text: str) -> datetime:
    """The time of a column."""
    return datetime.fromisoformat(text).astimezone(UTC)


def expiry_timestamp(at: datetime, ttl: timedelta) -> str:
    """``at + ttl`` as a column. Raises ``invalid_argument`` for what is beyond the calendar."""
    try:
        return format_timestamp(as_utc(at) + ttl)
    except OverflowError:
        raise BillingError("invalid_argument", f"a hold of {ttl} ends beyond the calendar") from None


def require_id(value: Any, what: str) -> str:
    """An id that something may have: what no id is, no database is asked for. Raises ``invalid_argument``."""
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable():
        if value.startswith("sk-"):
            # A secret in the place of an id must not get into a message, and from there into a log.
            raise BillingError("invalid_argument", f"{what} looks like the secret of a token; give the token's id")
        return value
    raise BillingError("invalid_argument", f"{what} is {safe_repr(value)}; an id is 1 to 256 printable characters")


def require_new_id(value: Any, what: str, most: int = 256) -> str:
    """A new id: printable characters, no space at either end, not ``~`` first: those are the ledger's.

    Raises ``invalid_argument``.
    """
    if isinstance(value, str) and len(value) <= most and value.isprintable() and _NAME.fullmatch(value):
        return require_id(value, what)
    raise BillingError(
        "invalid_argument",
        f"{what} is {safe_repr(value)}; it is 1 to {most} printable characters, no space at either end, no ~ first",
    )
