"""Exact decimal numbers that do not depend on the caller's ``decimal`` context.

Every operation runs in a private context with large precision that traps ``Inexact``. So a result is exact, or an error
is raised; nothing is ever rounded by accident. On the hot path amounts are integers: a *scaled* integer stands for
``coefficient / 10**places``.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = [
    "ZERO_UNIT",
    "AmountUnit",
    "Rounding",
    "add",
    "after_discount",
    "amount_unit",
    "decimal_from_scaled",
    "decimal_places",
    "divide_exactly",
    "format_count",
    "format_plain",
    "format_scaled",
    "format_trimmed",
    "multiply",
    "multiply_count",
    "negate",
    "parse_decimal",
    "parse_plain_decimal",
    "require_finite",
    "require_plain_number",
    "round_quotient",
    "round_to_places",
    "subtract",
    "subtract_text",
    "sum_amounts",
    "sum_exact",
    "to_scaled",
]

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_MAX_LENGTH: Final = 60
"""Maximum length of a number that is parsed, in characters."""
_MAX_EXPONENT: Final = 1000
"""Numbers beyond 10^1000 or with more decimal places are not amounts."""
_PRECISION: Final = 10_000
"""Digits of the private contexts: more than any product of the numbers that are accepted."""

_TRAPS: Final = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Underflow]
_EXACT: Final = decimal.Context(prec=_PRECISION, rounding=decimal.ROUND_HALF_EVEN, traps=[*_TRAPS, decimal.Inexact])
_ROUNDED: Final = decimal.Context(prec=_PRECISION, rounding=decimal.ROUND_HALF_EVEN, traps=_TRAPS)
_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)
_TEN: Final = Decimal(10)
_POWERS: Final = tuple(10**n for n in range(80))
_multiply, _normalize, _quantize = _EXACT.multiply, _EXACT.normalize, _EXACT.quantize
_remainder, _scaleb = _EXACT.remainder, _EXACT.scaleb


class Rounding(StrEnum):
    """The named ways to round. Rounding happens once, on a document or a payment, always by one of these."""

    HALF_UP = "half_up"
    """To nearest, halves away from zero. The default of documents."""
    HALF_EVEN = "half_even"
    """To nearest, halves to the even neighbour."""
    UP = "up"
    """Away from zero. The price of a top-up is rounded up: the seller never receives too little."""
    DOWN = "down"
    """Towards zero. The Credits that a payment buys are rounded down."""


_MODES: Final = {
    Rounding.HALF_UP: decimal.ROUND_HALF_UP,
    Rounding.HALF_EVEN: decimal.ROUND_HALF_EVEN,
    Rounding.UP: decimal.ROUND_UP,
    Rounding.DOWN: decimal.ROUND_DOWN,
}


def parse_decimal(text: str) -> Decimal:
    """Return the exact value of a plain decimal number. Raises ``invalid_money``.

    ``010``, ``1_000``, ``.5`` and ``nan`` are not plain.

    >>> parse_decimal("1e-7")
    Decimal('1E-7')
    """
    _require_number(text)
    return Decimal(text)


def _require_number(text: str) -> None:
    if len(text) > _MAX_LENGTH or not _NUMBER.fullmatch(text):
        raise BillingError("invalid_money", f"{safe_repr(text)} is not a plain decimal number; write 12 or 0.85")


def parse_plain_decimal(text: str) -> Decimal:
    """Return the exact value of an amount that a person or provider wrote. Raises ``invalid_money``.

    Unlike :func:`parse_decimal`, it rejects exponents: ``1e3`` is more likely an error than 1000.
    """
    return Decimal(require_plain_number(text))


def require_plain_number(text: str) -> str:
    """Return the text of an amount that :func:`parse_plain_decimal` accepts. Raises ``invalid_money``."""
    _require_number(text)
    if "e" in text or "E" in text:
        raise BillingError("invalid_money", f"{safe_repr(text)} has an exponent; write the amount as a plain number")
    return text


def require_finite(value: Decimal) -> Decimal:
    """Return ``value`` if it can be an amount. Raises ``invalid_money`` for NaN, infinities and absurd exponents."""
    _exponent(value)
    return value


def _exponent(value: Decimal) -> int:
    """Return the exponent of a number that can be an amount. Raises ``invalid_money`` as :func:`require_finite`."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise BillingError("invalid_money", f"{value} is not a finite number; use a decimal such as 0.85")
    if value.adjusted() > _MAX_EXPONENT or exponent < -_MAX_EXPONENT:
        raise BillingError(
            "invalid_money", "the number is above 10^1000 or has more than 1000 decimal places; use an amount"
        )
    return exponent


def _tidy(value: Decimal) -> Decimal:
    """Return the same value without trailing zeros after the point, and without a positive exponent."""
    if not value:
        return _ZERO
    return _normalize(value) if _remainder(value, _TEN) else _quantize(value, _ONE)


def decimal_from_scaled(coefficient: int, places: int) -> Decimal:
    """Return ``coefficient / 10**places`` without trailing zeros after the point.

    >>> decimal_from_scaled(5_250_000, 12)
    Decimal('0.00000525')
    """
    value = _scaleb(Decimal(coefficient), -places)
    # Without a factor of ten before the point, normalize gives no positive exponent. This is the hot path.
    return _normalize(value) if coefficient % _POWERS[places + 1] else _tidy(value)


@dataclass(frozen=True, slots=True)
class AmountUnit:
    """The value of one unit of a count, prepared so that amounts are computed and formatted fast.

    A slotted class and not a NamedTuple: Python reads a slot faster than an item of a subclass of tuple.
    """

    value: Decimal
    ten: int
    """The count from which an amount is 10 or more."""
    coefficient: int
    """``value == coefficient / 10**places``, without trailing zeros."""
    places: int


def amount_unit(coefficient: int, places: int) -> AmountUnit:
    """Return the unit of value ``coefficient / 10**places``; ``coefficient`` is positive."""
    ten = -(-(10 ** (places + 1)) // coefficient)
    return AmountUnit(decimal_from_scaled(coefficient, places), ten, *_strip_zeros(coefficient, places))


ZERO_UNIT: Final = AmountUnit(_ZERO, 10**100, 0, 0)
"""The unit of a count that is free."""


def _strip_zeros(coefficient: int, places: int) -> tuple[int, int]:
    while places > 0 and coefficient % 10 == 0:
        coefficient //= 10
        places -= 1
    return coefficient, places


def multiply_count(count: int, unit: AmountUnit) -> Decimal:
    """Return ``count * unit.value`` without trailing zeros after the point; ``count`` is not negative.

    Below 10, normalize cannot give a positive exponent, so most amounts of requests need no second step.
    """
    amount = _normalize(_multiply(count, unit.value))
    return amount if count < unit.ten else _tidy(amount)


def format_count(count: int, unit: AmountUnit) -> str:
    """Format ``count * unit.value`` without trailing zeros and without an exponent; ``count`` is not negative."""
    return format_trimmed(count * unit.coefficient, unit.places)


def format_scaled(coefficient: int, places: int) -> str:
    """Format ``coefficient / 10**places`` with exactly ``places`` decimal places, without an exponent."""
    return format(_scaleb(Decimal(coefficient), -places), "f")


def format_trimmed(coefficient: int, places: int) -> str:
    """Format ``coefficient / 10**places`` without trailing zeros and without an exponent; ``places`` is not negative.

    >>> format_trimmed(5_250_000, 12), format_trimmed(-1500, 2)
    ('0.00000525', '-15')
    """
    if coefficient < 0:
        return "-" + format_trimmed(-coefficient, places)
    digits = str(coefficient)
    if not places:
        return digits
    if len(digits) <= places:
        decimals = digits.zfill(places).rstrip("0")
        return f"0.{decimals}" if decimals else "0"
    decimals = digits[-places:].rstrip("0")
    return f"{digits[:-places]}.{decimals}" if decimals else digits[:-places]


def to_scaled(value: Decimal) -> tuple[int, int]:
    """Return ``(coefficient, places)`` with ``value == coefficient / 10**places`` and ``places >= 0``.

    Raises ``invalid_money`` for a number that cannot be an amount.
    """
    places = max(0, -_exponent(value))
    return int(_scaleb(value, places)), places


def format_plain(value: Decimal) -> str:
    """Format a number without an exponent and without trailing zeros, as documents have it.

    >>> format_plain(Decimal("1E-7")), format_plain(Decimal("2.50"))
    ('0.0000001', '2.5')
    """
    return format(_tidy(require_finite(value)), "f")


def decimal_places(value: Decimal) -> int:
    """Return the number of decimal places, not counting trailing zeros."""
    return -_exponent(_tidy(require_finite(value)))


def round_quotient(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Return ``numerator / denominator`` as a whole number; ``denominator`` is positive.

    A rounding may be given by its name. Raises ``invalid_argument`` if the name is unknown.
    """
    rounding = _require_rounding(rounding)
    quotient, rest = divmod(abs(numerator), denominator)
    if rest:
        twice = 2 * rest
        is_half_even_up = twice > denominator or (twice == denominator and quotient % 2 == 1)
        if (
            rounding is Rounding.UP
            or (rounding is Rounding.HALF_UP and twice >= denominator)
            or (rounding is Rounding.HALF_EVEN and is_half_even_up)
        ):
            quotient += 1
    return -quotient if numerator < 0 else quotient


def round_to_places(value: Decimal, places: int, rounding: Rounding) -> int:
    """Round to ``places`` decimal places; return the scaled integer. Raises ``invalid_argument``, ``invalid_money``."""
    mode = _MODES[_require_rounding(rounding)]
    rounded = _scaleb(require_finite(value), places).quantize(_ONE, rounding=mode, context=_ROUNDED)
    return int(rounded)


def _require_rounding(rounding: Rounding) -> Rounding:
    if type(rounding) is Rounding:
        return rounding
    try:
        return Rounding(rounding)
    except ValueError:
        names = ", ".join(Rounding)
        raise BillingError("invalid_argument", f"{safe_repr(rounding)} is not a rounding; use one of {names}") from None


def divide_exactly(numerator: int, denominator: int) -> int | None:
    """Return ``numerator / denominator`` if it is a whole number, else ``None``."""
    quotient, rest = divmod(numerator, denominator)
    return None if rest else quotient


def multiply(multiplicand: Decimal, multiplier: Decimal) -> Decimal:
    """Return the exact product."""
    return _tidy(_multiply(multiplicand, multiplier))


def add(augend: Decimal, addend: Decimal) -> Decimal:
    """Return the exact sum of two finite numbers, as it is: with trailing zeros."""
    return _EXACT.add(augend, addend)


def subtract(minuend: Decimal, subtrahend: Decimal) -> Decimal:
    """Return the exact difference of two finite numbers, as it is: with trailing zeros."""
    return _EXACT.subtract(minuend, subtrahend)


def negate(value: Decimal) -> Decimal:
    """Return the exact negative."""
    return _EXACT.minus(value)


def after_discount(discount: Decimal) -> Decimal:
    """Return the factor that remains after a discount.

    >>> after_discount(Decimal("0.90"))
    Decimal('0.1')
    """
    return _tidy(_EXACT.subtract(_ONE, discount))


def subtract_text(minuend: str, subtrahend: str) -> str:
    """Return the exact difference of two plain decimals, with as many decimal places as the longer of them.

    >>> subtract_text("0.10", "0.30"), subtract_text("2", "0.5")
    ('-0.20', '1.5')
    """
    return format(_EXACT.subtract(Decimal(minuend), Decimal(subtrahend)), "f")


def sum_exact(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum, 0 for no amounts.

    >>> sum_exact([Decimal("0.1"), Decimal("0.25"), Decimal("-1E+1")])
    Decimal('-9.65')
    """
    total = _ZERO
    for amount in amounts:
        total = _EXACT.add(total, require_finite(amount))
    return _tidy(total)


def sum_amounts(amounts: Iterable[Decimal]) -> Decimal:
    """Return the same as :func:`sum_exact` of amounts that were checked before, in a fifth of the time."""
    return _tidy(reduce(_EXACT.add, amounts, _ZERO))
