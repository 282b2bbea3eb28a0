"""Figures as people read them: rounded once, by significant digits, and written as a language writes numbers.

Rounding is ours (:func:`shown`); Babel only puts the digits into the form of a language. So a figure has the same
digits in every language, on every page, and in the browser, which rounds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.decimals import Rounding, decimal_from_scaled, round_quotient, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import minor_digits
from brivionix_billing.rating.messages import LOCALES

if TYPE_CHECKING:
    from babel import Locale

__all__ = ["LANGUAGES", "SHOWN_DIGITS", "LocaleFormatter", "discount_rate", "missing_extra_error", "round_for_display"]

SHOWN_DIGITS: Final = 4
"""Significant digits of a shown price; the coins of its currency are never rounded away."""
LANGUAGES: Final = tuple(LOCALES)
_DIGITS: Final = re.compile(r"(-?)(\d+)(?:\.(\d+))?", re.ASCII)


def round_for_display(value: Decimal, currency: str) -> Decimal:
    """A price as it is shown: rounded half up to 4 significant digits, but not coarser than a coin of its currency.

    A price that is not zero never becomes zero, and nothing before the point is rounded.

    >>> round_for_display(Decimal("1.413125"), "CNY"), round_for_display(Decimal("0.0045"), "USD")
    (Decimal('1.413'), Decimal('0.0045'))
    >>> round_for_display(Decimal("12345.678"), "USD")
    Decimal('12345.68')
    """
    coefficient, places = to_scaled(value)
    leading = len(str(abs(coefficient))) - places
    kept = max(SHOWN_DIGITS - leading, minor_digits(currency))
    if places <= kept:
        return decimal_from_scaled(coefficient, places)
    return decimal_from_scaled(round_quotient(coefficient * 10**kept, 10**places, Rounding.HALF_UP), kept)


def discount_rate(price: Decimal, full: Decimal) -> Decimal | None:
    """The part of ``full`` that ``price`` saves, cut to a tenth of a percent; ``None`` where that is nothing.

    It is cut and not rounded: a page does not promise more than is given.

    >>> discount_rate(Decimal("0.13"), Decimal("1.25")), discount_rate(Decimal(2), Decimal(1))
    (Decimal('0.896'), None)
    """
    (a, p), (b, q) = to_scaled(price), to_scaled(full)
    a, b = a * 10**q, b * 10**p
    if b <= 0 or a >= b:
        return None
    thousandths = round_quotient((b - a) * 1000, b, Rounding.DOWN)
    return decimal_from_scaled(thousandths, 3) if thousandths else None


@contextmanager
def _exact_context() -> Iterator[None]:
    """Babel works in the caller's decimal context, which may round; here it has one that does not."""
    with localcontext(Context(1000, ROUND_HALF_EVEN, -999_999, 999_999, 1, 0, [], [])):
        yield


class LocaleFormatter:
    """A language of the pages, ``en`` or ``zh_CN``: writes digits, money, percents and dates by Babel's data (CLDR)."""

    def __init__(self, name: str) -> None:
        if name not in LANGUAGES:
            raise BillingError("invalid_argument", f"no page in {safe_repr(name)}; there are: {', '.join(LANGUAGES)}")
        self.name = name
        self.tag = name.replace("_", "-")
        """As HTML names it."""
        self._locale = _babel_locale(name)
        self._symbols = self._locale.number_symbols["latn"]

    def number(self, value: Decimal | int) -> str:
        """All digits of a number, in groups."""
        from babel.numbers import format_decimal

        with _exact_context():
            return str(format_decimal(value, locale=self._locale, decimal_quantization=False))

    def group_digits(self, text: str) -> str:
        """A plain decimal with all the digits that it has, idle zeros as well, in groups."""
        sign, whole, part = _DIGITS.fullmatch(text).groups()  # type: ignore[union-attr]  # documents hold nothing else
        symbols = self._symbols
        grouped = f"{int(whole):,}".replace(",", symbols["group"])  # both languages group by three
        return sign + grouped + (symbols["decimal"] + part if part else "")

    def money(self, value: Decimal, currency: str) -> str:
        """All digits of an amount, at least those of a coin, with the currency's sign."""
        from babel.numbers import format_currency

        with _exact_context():
            return str(
                format_currency(
                    value,
                    currency,
                    self._pattern(currency),
                    locale=self._locale,
                    currency_digits=False,
                    decimal_quantization=False,
                )
            )

    def _pattern(self, currency: str) -> str:
        """The language's own pattern, with the digits of a coin by ISO 4217: CLDR shows fewer for some currencies."""
        digits = minor_digits(currency)
        pattern = str(self._locale.currency_formats["standard"].pattern)
        return pattern.replace("0.00", "0." + "0" * digits if digits else "0")

    def price(self, value: Decimal, currency: str) -> str:
        """A price as it is :func:`shown`."""
        return self.money(round_for_display(value, currency), currency)

    def percent(self, value: Decimal) -> str:
        """A part of 1 in percent."""
        from babel.numbers import format_percent

        with _exact_context():
            return str(format_percent(value, locale=self._locale, decimal_quantization=False))

    def date(self, when: datetime) -> str:
        """The day of an instant in UTC, and its time where that is not midnight."""
        from babel.dates import format_date

        day = str(format_date(when.date(), "medium", locale=self._locale))
        if not (when.hour or when.minute or when.second or when.microsecond):
            return day
        return f"{day} {when:%H:%M}" + (f":{when:%S}" if when.second or when.microsecond else "") + " UTC"

    def client_formats(self, currencies: list[str]) -> dict[str, Any]:
        """How this language writes numbers, for a browser that only puts given digits into form."""
        return {
            "tag": self.tag,
            "group": self._symbols["group"],
            "decimal": self._symbols["decimal"],
            "percent": self.percent(Decimal(1)).replace("100", "#"),
            "money": {code: self.money(Decimal(1), code).replace(_one_unit(code), "#") for code in currencies},
            "minor_digits": {code: minor_digits(code) for code in currencies},
        }


def _one_unit(currency: str) -> str:
    digits = minor_digits(currency)
    return "1." + "0" * digits if digits else "1"


def missing_extra_error() -> BillingError:
    """The error of a machine without the extra that pages need."""
    return BillingError(
        "missing_extra",
        "pages need an extra: pip install 'brivionix-billing[pages]', or in a clone: pip install -e '.[pages]'",
    )


@lru_cache(8)
def _babel_locale(name: str) -> Locale:
    try:
        from babel import Locale
    except ImportError:
        raise missing_extra_error() from None
    return Locale.parse(name)
