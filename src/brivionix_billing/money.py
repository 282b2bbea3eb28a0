"""Money: an exact type, a payable type, and the one place where rounding and sharing-out happen.

:class:`Money` is exact and may be finer than a coin. :class:`Payable` is whole minor units (cents, fen, yen), what
can be paid. Going from one to the other names the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, final

from brivionix_billing.decimals import (
    Rounding,
    decimal_from_scaled,
    format_plain,
    format_scaled,
    parse_decimal,
    round_quotient,
    sum_exact,
    to_scaled,
)
from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["Money", "Payable", "Rounding", "allocate", "minor_digits", "total"]

# ISO 4217, active codes by number of minor digits (the standard's list one, funds and metals left out).
_DIGITS: Final[dict[str, int]] = {
    code: digits
    for digits, codes in {
        0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
        3: "BHD IQD JOD KWD LYD OMR TND",
        2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY "
        "COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS "
        "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN "
        "MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE "
        "SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD XCG YER ZAR ZMW "
        "ZWG",
    }.items()
    for code in codes.split()
}


def minor_digits(currency: str) -> int:
    """How many digits a payable amount of the currency has behind the point (ISO 4217): CNY 2, JPY 0, KWD 3.

    Raises ``unknown_currency``.
    """
    try:
        return _DIGITS[currency]
    except (KeyError, TypeError):
        raise BillingError(
            "unknown_currency", f"{safe_repr(currency)} is not an ISO 4217 currency code such as CNY or USD"
        ) from None


@final
class Money:
    """An exact amount of one currency, as fine as it comes.

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
            raise BillingError("invalid_money", f"{safe_repr(amount)} is not exact; give a str, an int or a Decimal")
        to_scaled(amount)  # refuses NaN and infinities
        object.__setattr__(self, "amount", amount)
        object.__setattr__(self, "currency", currency)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Money cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Money cannot be changed")

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
        coefficient, places = to_scaled(self.amount)
        return Money(decimal_from_scaled(-coefficient, places), self.currency)

    def __sub__(self, other: Money) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return self + -other

    def __mul__(self, factor: int | Decimal) -> Money:
        if isinstance(factor, bool) or not isinstance(factor, int | Decimal):
            return NotImplemented
        (a, p), (b, q) = to_scaled(self.amount), to_scaled(Decimal(factor))
        return Money(decimal_from_scaled(a * b, p + q), self.currency)

    __rmul__ = __mul__

    def rounded(self, rounding: Rounding) -> Payable:
        """The payable amount nearest by the named rounding."""
        coefficient, places = to_scaled(self.amount)
        minor = round_quotient(coefficient * 10 ** minor_digits(self.currency), 10**places, rounding)
        return Payable(minor, self.currency)


@final
class Payable:
    """Whole minor units of a currency: what can be charged to a card. ``Payable(86, "CNY")`` is 0.86 CNY."""

    __slots__ = ("currency", "minor")
    minor: int
    currency: str

    def __init__(self, minor: int | str, currency: str) -> None:
        digits = minor_digits(currency)
        if isinstance(minor, str):
            coefficient, places = to_scaled(parse_decimal(minor))
            if places > digits and coefficient % 10 ** (places - digits):
                raise BillingError(
                    "invalid_money", f"{safe_repr(minor)} {currency} is finer than the currency's smallest coin"
                )
            minor = coefficient * 10**digits // 10**places
        elif type(minor) is not int:
            raise BillingError("invalid_money", f"{safe_repr(minor)} is not a whole number of minor units")
        object.__setattr__(self, "minor", minor)
        object.__setattr__(self, "currency", currency)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Payable cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Payable cannot be changed")

    def __reduce__(self) -> tuple[type[Payable], tuple[int, str]]:
        return Payable, (self.minor, self.currency)

    @property
    def amount(self) -> Decimal:
        """The amount in the currency's main unit, with all its minor digits: ``Decimal('0.50')``."""
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
    """The exact sum of amounts that are all of ``currency``; of nothing, zero. Raises ``currency_mismatch``."""
    amounts: list[Decimal] = []
    for item in items:
        if item.currency != currency:
            raise BillingError("currency_mismatch", f"{item} cannot be added to {currency}; convert by a channel")
        amounts.append(item.amount)
    return Money(sum_exact(amounts), currency)


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """Share ``amount`` out in proportion to ``weights`` by largest remainder; the parts sum to ``amount``.

    A zero weight gets nothing; equal remainders are served in their order. Weights may not have mixed signs.

    >>> allocate(100, [1, 1, 1])
    [34, 33, 33]
    """
    whole = sum(weights)
    if not whole:
        if amount:
            raise BillingError("invalid_argument", f"cannot share {amount} out over nothing but zeros")
        return [0] * len(weights)
    if any(w < 0 for w in weights) and any(w > 0 for w in weights):
        raise BillingError("invalid_argument", "weights of mixed signs have no largest remainder")
    sign = -1 if amount < 0 else 1
    target, size = abs(amount), abs(whole)
    floors = [divmod(target * abs(w), size) for w in weights]
    parts = [quotient for quotient, _ in floors]
    missing = target - sum(parts)
    for index in sorted(range(len(weights)), key=lambda i: -floors[i][1])[:missing]:
        parts[index] += 1
    return [sign * part for part in parts]
