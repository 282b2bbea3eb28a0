"""Exact decimal numbers, whatever the caller's ``decimal`` context says.

Everything here works on Python integers; :class:`~decimal.Decimal` is only built from and read into digits, which no
context rounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

from brivionix_billing.errors import BillingError, safe_repr

__all__ = [
    "Rounding",
    "decimal_from_scaled",
    "to_scaled",
    "divide_exactly",
    "multiply",
    "parse_decimal",
    "decimal_places",
    "format_plain",
    "after_discount",
    "round_quotient",
    "subtract_text",
    "sum_exact",
]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_MAX_TEXT = 60


class Rounding(StrEnum):
    """The named ways to round. Rounding happens once, at a document or a payment, and always by one of these."""

    HALF_UP = "half_up"
    """To the nearest; a half goes away from zero. The default of documents."""
    HALF_EVEN = "half_even"
    """To the nearest; a half goes to the even neighbour."""
    UP = "up"
    """Away from zero. What a top-up costs is rounded so: the seller is never short."""
    DOWN = "down"
    """Towards zero. What money buys is rounded so."""


def parse_decimal(text: str) -> Decimal:
    """The exact value of a plain decimal number; ``010``, ``1_000``, ``.5``, ``nan`` are not plain.

    >>> parse_decimal("1e-7")
    Decimal('1E-7')
    """
    if len(text) > _MAX_TEXT or not _NUMBER.fullmatch(text):
        raise BillingError("invalid_money", f"{safe_repr(text)} is not a plain decimal number such as 12 or 0.85")
    return Decimal(text)


def decimal_from_scaled(coefficient: int, places: int) -> Decimal:
    """``coefficient / 10**places`` with no trailing zeros behind the point.

    >>> decimal_from_scaled(5_250_000, 12)
    Decimal('0.00000525')
    """
    return Decimal(format_scaled(*_strip_trailing_zeros(coefficient, places)))


def format_scaled(coefficient: int, places: int) -> str:
    """``coefficient / 10**places`` written out, with exactly ``places`` digits behind the point."""
    if places <= 0:
        return str(coefficient * 10**-places)
    sign = "-" if coefficient < 0 else ""
    digits = str(abs(coefficient)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def to_scaled(value: Decimal) -> tuple[int, int]:
    """``(coefficient, places)`` with ``value == coefficient / 10**places`` and ``places >= 0``."""
    sign, digits, exponent = value.as_tuple()
    if isinstance(exponent, str):
        raise BillingError("invalid_money", f"{value} is not a finite number")
    if exponent < -1000 or len(digits) + exponent > 1001:
        raise BillingError("invalid_money", "a number beyond 10^1000 or finer than 10^-1000 is not an amount")
    coefficient = 0
    if digits:
        coefficient = int("".join(map(str, digits)))
    if sign:
        coefficient = -coefficient
    if exponent > 0:
        return coefficient * 10**exponent, 0
    return coefficient, -exponent


def format_plain(value: Decimal) -> str:
    """The number written out without an exponent and without idle zeros: what documents hold.

    >>> format_plain(Decimal("1E-7")), format_plain(Decimal("2.50"))
    ('0.0000001', '2.5')
    """
    return format_scaled(*_strip_trailing_zeros(*to_scaled(value)))


def decimal_places(value: Decimal) -> int:
    """How many digits the number has behind the point, idle zeros not counted."""
    return _strip_trailing_zeros(*to_scaled(value))[1]


def _strip_trailing_zeros(coefficient: int, places: int) -> tuple[int, int]:
    while places > 0 and coefficient % 10 == 0:
        coefficient //= 10
        places -= 1
    return coefficient, places


def round_quotient(numerator: int, denominator: int, rounding: Rounding) -> int:
    """``numerator / denominator`` as a whole number; ``denominator`` is positive.

    A rounding may be given by its name. Raises ``invalid_argument`` for a name that is none.
    """
    if type(rounding) is not Rounding:
        try:
            rounding = Rounding(rounding)
        except ValueError:
            names = ", ".join(Rounding)
            raise BillingError(
                "invalid_argument", f"{safe_repr(rounding)} is no rounding; there are: {names}"
            ) from None
    quotient, rest = divmod(abs(numerator), denominator)
    if rest:
        twice = 2 * rest
        if (
            rounding is Rounding.UP
            or (rounding is Rounding.HALF_UP and twice >= denominator)
            or (
                rounding is Rounding.HALF_EVEN and (twice > denominator or (twice == denominator and quotient % 2 == 1))
            )
        ):
            quotient += 1
    return -quotient if numerator < 0 else quotient


def divide_exactly(numerator: int, denominator: int) -> int | None:
    """``numerator / denominator`` where it is a whole number, else ``None``."""
    quotient, rest = divmod(numerator, denominator)
    return None if rest else quotient


def multiply(a: Decimal, b: Decimal) -> Decimal:
    """The exact product, whatever the decimal context."""
    (x, p), (y, q) = to_scaled(a), to_scaled(b)
    return decimal_from_scaled(x * y, p + q)


def after_discount(discount: Decimal) -> Decimal:
    """What a discount leaves of a price: 0.90 off leaves 0.1.

    >>> after_discount(Decimal("0.90"))
    Decimal('0.1')
    """
    coefficient, places = to_scaled(discount)
    return decimal_from_scaled(10**places - coefficient, places)


def subtract_text(a: str, b: str) -> str:
    """The exact difference of two plain decimals, with as many digits behind the point as the longer of them shows.

    >>> subtract_text("0.10", "0.30"), subtract_text("2", "0.5")
    ('-0.20', '1.5')
    """
    (x, p), (y, q) = to_scaled(Decimal(a)), to_scaled(Decimal(b))
    shown = max(p, q)
    return format_scaled(x * 10 ** (shown - p) - y * 10 ** (shown - q), shown)


def sum_exact(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever the decimal context; of nothing, zero.

    >>> sum_exact([Decimal("0.1"), Decimal("0.25"), Decimal("-1E+1")])
    Decimal('-9.65')
    """
    pairs = [to_scaled(amount) for amount in amounts]
    scale = max((places for _, places in pairs), default=0)
    return decimal_from_scaled(sum(c * 10 ** (scale - p) for c, p in pairs), scale)
