"""Amounts as the ledger keeps them: whole units of 10^-18, in a database as text or NUMERIC with 18 digits.

Credits and money are kept alike; money is always whole coins. An integer column would end at 9.2 Credits, and a float
is not exact.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import decimal_of, digits_of, parse_decimal, plain
from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.money import Payable, minor_digits
from brivionix_billing.rating import Charge
from brivionix_billing.times import instant
from brivionix_billing.tokens import WorstCase

__all__ = [
    "MOST",
    "Amount",
    "as_credits",
    "asked",
    "column",
    "name",
    "payable",
    "scaled",
    "shown",
    "stamp",
    "units",
    "when",
]

Amount = Decimal | int | str | Charge | WorstCase

_PLACES: Final = 18
_ONE: Final = 10**_PLACES
_ZERO: Final = "0." + "0" * _PLACES
"""Most amounts of a lot are zero."""
MOST: Final = 10**30 * _ONE
"""No amount is larger: what the NUMERIC columns of PostgreSQL hold. It is 10^15 times what anyone tops up at once."""

LONGEST: Final = 240
"""Characters of an account or a hold: ids are made of theirs, such as ``HOLD:settle``."""
_NAME: Final = re.compile(r"[^\s~](?:.{0,254}\S)?", re.DOTALL)


def units(amount: Amount, what: str) -> int:
    """Credits in units of 10^-18. Raises ``money_invalid`` for what is no exact amount from 0 to 10^30 Credits."""
    if type(amount) is Charge:
        return amount.units
    if isinstance(amount, WorstCase):
        if amount.charge is None:
            raise BillingError("bad_argument", f"{what} is a worst case with no price: it was asked for without group=")
        return amount.charge.units
    found = signed_units(amount, what)
    if found < 0:
        raise BillingError("money_invalid", f"{what} is {quoted(amount)}; it cannot be below zero")
    return found


def signed_units(amount: Amount, what: str) -> int:
    """The same for an amount that may be negative."""
    if isinstance(amount, str):
        amount = parse_decimal(amount)
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        raise BillingError("money_invalid", f"{what} is {quoted(amount)}; give Credits as str, int, Decimal or Charge")
    if isinstance(amount, int):
        found = amount * _ONE
    else:
        coefficient, places = digits_of(amount)
        found, rest = divmod(coefficient * _ONE, 10**places)
        if rest:
            raise BillingError("money_invalid", f"{what} is {plain(amount)}; Credits have at most 18 digits")
    if abs(found) >= MOST:
        raise BillingError("money_invalid", f"{what} is {quoted(amount)}; an amount is below 10^30")
    return found


def column(amount: int) -> str:
    """As it goes into a column: always 18 digits behind the point."""
    if not amount:
        return _ZERO
    if amount < 0:
        return "-" + column(-amount)
    digits = str(amount).zfill(_PLACES + 1)
    return f"{digits[:-_PLACES]}.{digits[-_PLACES:]}"


def scaled(text: str) -> int:
    """What :func:`column` wrote, or a shorter text of the same number."""
    if text == _ZERO:
        return 0
    if text[-_PLACES - 1 : -_PLACES] == ".":
        return int(text[: -_PLACES - 1] + text[-_PLACES:])
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(_PLACES, "0"))


def shown(amount: int) -> str:
    """As it stands in the journal: no idle zeros."""
    return column(amount).rstrip("0").rstrip(".")


def as_credits(amount: int) -> Decimal:
    """Credits, exact."""
    return decimal_of(amount, _PLACES)


def payable(amount: int, currency: str) -> Payable:
    """Whole coins of money that the ledger keeps."""
    return Payable(amount // 10 ** (_PLACES - minor_digits(currency)), currency)


def coin(currency: str) -> int:
    """One minor unit."""
    return int(10 ** (_PLACES - minor_digits(currency)))


def stamp(at: datetime) -> str:
    """A time as columns hold it: UTC, always with microseconds, so that texts sort as their times do."""
    return instant(at).isoformat("T", "microseconds")[: -len("+00:00")] + "Z"


def when(text: str) -> datetime:
    """The time of a column."""
    return datetime.fromisoformat(text).astimezone(UTC)


def later(at: datetime, ttl: timedelta) -> str:
    """``at + ttl`` as a column. Raises ``bad_argument`` for what is beyond the calendar."""
    try:
        return stamp(instant(at) + ttl)
    except OverflowError:
        raise BillingError("bad_argument", f"a hold of {ttl} ends beyond the calendar") from None


def asked(value: Any, what: str) -> str:
    """An id that something may have: what no id is, no database is asked for. Raises ``bad_argument``."""
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable():
        if value.startswith("sk-"):
            # A secret in the place of an id must not get into a message, and from there into a log.
            raise BillingError("bad_argument", f"{what} looks like the secret of a token; give the token's id")
        return value
    raise BillingError("bad_argument", f"{what} is {quoted(value)}; an id is 1 to 256 printable characters")


def name(value: Any, what: str, most: int = 256) -> str:
    """A new id: printable characters, no space at either end, not ``~`` first: those are the ledger's.

    Raises ``bad_argument``.
    """
    if isinstance(value, str) and len(value) <= most and value.isprintable() and _NAME.fullmatch(value):
        return asked(value, what)
    raise BillingError(
        "bad_argument",
        f"{what} is {quoted(value)}; it is 1 to {most} printable characters, no space at either end, no ~ first",
    )
