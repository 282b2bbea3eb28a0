"""Money: an exact type, a payable type, and the one place where amounts are rounded and allocated.

:class:`Money` is exact and may have more decimal places than its currency. :class:`Payable` is a whole number of minor
units (cents, fen, yen), which can be paid. Converting one to the other requires an explicit rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, final

from brivionix_billing.decimals import (
    Rounding,
    format_plain,
    format_scaled,
    multiply,
    negate,
    parse_decimal,
    require_finite,
    round_to_places,
    sum_exact,
    to_scaled,
)
from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["Money", "Payable", "Rounding", "allocate", "minor_digits", "total"]


def _read_minor_digits() -> dict[str, int]:
    lines = (Path(__file__).parent / "data" / "iso4217.csv").read_text(encoding="ascii").splitlines()
    rows = [line.split(",") for line in lines if not line.startswith(("#", "code,"))]
    return {code: int(digits) for code, digits in rows}


_MINOR_DIGITS: Final = _read_minor_digits()


_OTHER_NAMES: Final = {"RMB": "CNY", "CNH": "CNY", "YUAN": "CNY", "DOLLAR": "USD", "US$": "USD", "EURO": "EUR"}
"""What people write for some currencies, and their codes."""


def minor_digits(currency: str) -> int:
    """Return the decimal places of a payable amount of a currency (ISO 4217): CNY 2, JPY 0, KWD 3.

    Raises ``unknown_currency``.
    """
    try:
        return _MINOR_DIGITS[currency]
    except (KeyError, TypeError):
        code = _OTHER_NAMES.get(currency.upper()) if isinstance(currency, str) else None
        advice = f"write {code}" if code else "use one such as CNY or USD"
        raise BillingError(
            "unknown_currency", f"{safe_repr(currency)} is not an ISO 4217 currency code; {advice}"
        ) from None


@final
class Money:
    """An exact amount of one currency, with any number of decimal places. Immutable.

    >>> Money("0.85", "CNY") + Money("0.005", "CNY")
    Money('0.855', 'CNY')
    >>> Money("0.855", "CNY").rounded(Rounding.HALF_UP)
    Payable('0.86', 'CNY')
    """

    __slots__ = ("amount", "currency")
    amount: Decimal
    currency: str

    def __init__(self, amount: Decimal | int | str, currency: str) -> None:
        minor_digits(currency)
        if isinstance(amount, str):
            amount = parse_decimal(amount)
        elif type(amount) is int:
            amount = Decimal(amount)
        elif not isinstance(amount, Decimal):
            raise BillingError("invalid_money", f"{safe_repr(amount)} is not exact; use a str, an int or a Decimal")
        _set_amount(self, require_finite(amount))
        _set_currency(self, currency)

    @classmethod
    def unchecked(cls, amount: Decimal, currency: str) -> Money:
        """Construct from a finite amount and a known currency, as the hot path has them."""
        money = _new(cls)
        _set_amount(money, amount)
        _set_currency(money, currency)
        return money

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Money is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Money is immutable")

    def __reduce__(self) -> tuple[type[Money], tuple[Decimal, str]]:
        return Money, (self.amount, self.currency)

    def __repr__(self) -> str:
        return f"Money({format_plain(self.amount)!r}, {self.currency!r})"

    def __str__(self) -> str:
        return f"{format_plain(self.amount)} {self.currency}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        return self.currency == other.currency and self.amount == other.amount

    def __hash__(self) -> int:
        return hash((self.amount, self.currency))

    def __add__(self, other: Money) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return total(self.currency, (self, other))

    def __neg__(self) -> Money:
        return Money(negate(self.amount), self.currency)

    def __sub__(self, other: Money) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return self + -other

    def __mul__(self, factor: int | Decimal) -> Money:
        if isinstance(factor, bool) or not isinstance(factor, int | Decimal):
            return NotImplemented
        return Money(multiply(self.amount, require_finite(Decimal(factor))), self.currency)

    __rmul__ = __mul__

    def rounded(self, rounding: Rounding) -> Payable:
        """Return the nearest payable amount by the named rounding."""
        return Payable(round_to_places(self.amount, minor_digits(self.currency), rounding), self.currency)


_new: Final = object.__new__
_set_amount: Final = Money.__dict__["amount"].__set__
_set_currency: Final = Money.__dict__["currency"].__set__


@final
class Payable:
    """A whole number of minor units, which can be charged to a card. ``Payable(86, "CNY")`` is 0.86 CNY. Immutable."""

    __slots__ = ("currency", "minor")
    minor: int
    currency: str

    def __init__(self, minor: int | str, currency: str) -> None:
        digits = minor_digits(currency)
        if isinstance(minor, str):
            coefficient, places = to_scaled(parse_decimal(minor))
            if places > digits and coefficient % 10 ** (places - digits):
                raise BillingError(
                    "invalid_money",
                    f"{safe_repr(minor)} {currency} has more than {digits} decimal places; round it first",
                )
            minor = coefficient * 10**digits // 10**places
        elif type(minor) is not int:
            raise BillingError(
                "invalid_money", f"{safe_repr(minor)} is not a whole number of minor units; use an int or a str"
            )
        object.__setattr__(self, "minor", minor)
        object.__setattr__(self, "currency", currency)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Payable is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Payable is immutable")

    def __reduce__(self) -> tuple[type[Payable], tuple[int, str]]:
        return Payable, (self.minor, self.currency)

    @property
    def amount(self) -> Decimal:
        """The amount in the main unit, with all minor digits: ``Decimal('0.50')``."""
        return Decimal(format_scaled(self.minor, minor_digits(self.currency)))

    @property
    def money(self) -> Money:
        """The same amount as exact :class:`Money`."""
        return Money(self.amount, self.currency)

    def __repr__(self) -> str:
        return f"Payable({str(self.amount)!r}, {self.currency!r})"

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Payable):
            return NotImplemented
        return (self.minor, self.currency) == (other.minor, other.currency)

    def __hash__(self) -> int:
        return hash((Payable, self.minor, self.currency))


def total(currency: str, items: Iterable[Money]) -> Money:
    """Return the exact sum of amounts of one currency, 0 for no amounts. Raises ``currency_mismatch``."""
    amounts: list[Decimal] = []
    for item in items:
        if item.currency != currency:
            raise BillingError(
                "currency_mismatch", f"{item} cannot be added to an amount in {currency}; add each currency on its own"
            )
        amounts.append(item.amount)
    return Money(sum_exact(amounts), currency)


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """Allocate ``amount`` in proportion to ``weights`` by the largest remainder (Hamilton's method).

    The parts sum to ``amount``. A zero weight gets nothing; of equal remainders the first is served first. Raises
    ``invalid_argument`` if the weights have mixed signs or are all zero.

    >>> allocate(100, [1, 1, 1])
    [34, 33, 33]
    """
    whole = sum(weights)
    if not whole:
        if amount:
            raise BillingError(
                "invalid_argument", f"cannot allocate {amount} by weights that are all zero; give a weight"
            )
        return [0] * len(weights)
    if any(w < 0 for w in weights) and any(w > 0 for w in weights):
        raise BillingError(
            "invalid_argument", "weights of mixed signs have no largest remainder; allocate each sign on its own"
        )
    sign = -1 if amount < 0 else 1
    target, size = abs(amount), abs(whole)
    floors = [divmod(target * abs(w), size) for w in weights]
    parts = [quotient for quotient, _ in floors]
    missing = target - sum(parts)
    for index in sorted(range(len(weights)), key=lambda i: -floors[i][1])[:missing]:
        parts[index] += 1
    return [sign * part for part in parts]
