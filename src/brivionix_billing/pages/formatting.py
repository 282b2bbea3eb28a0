"""Rounds figures for display, and formats them for a language.

:func:`round_for_display` rounds; Babel only formats the digits. So a figure has the same digits in every language, on
every page, and in the browser, which does not round.
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
from brivionix_billing.money import minor_digits
from brivionix_billing.pricebook.calendars import WEEKDAYS
from brivionix_billing.rating.messages import LOCALES, resolve_locale

if TYPE_CHECKING:
    from babel import Locale

__all__ = ["LANGUAGES", "SHOWN_DIGITS", "LocaleFormatter", "discount_rate", "replace_invisible", "round_for_display"]

SHOWN_DIGITS: Final = 4
"""Significant digits of a displayed price. It always keeps the minor unit of its currency."""
LANGUAGES: Final = tuple(LOCALES)
_INVISIBLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters that HTML changes or drops, and characters that change the direction of text."""
_DIGITS: Final = re.compile(r"(-?)(\d+)(?:\.(\d+))?", re.ASCII)


def round_for_display(value: Decimal, currency: str) -> Decimal:
    """Round a price half up to 4 significant digits, but keep at least the decimal places of its currency.

    A price that is not zero never becomes zero. Digits before the decimal point are never rounded.

    >>> round_for_display(Decimal("1.413125"), "CNY"), round_for_display(Decimal("0.0045"), "USD")
    (Decimal('1.413'), Decimal('0.0045'))
    >>> round_for_display(Decimal("12345.678"), "USD")
    Decimal('12345.68')
    """
    coefficient, places = to_scaled(value)
    leading = len(str(abs(coefficient))) - places
    kept_places = max(SHOWN_DIGITS - leading, minor_digits(currency))
    if places <= kept_places:
        return decimal_from_scaled(coefficient, places)
    rounded = round_quotient(coefficient * 10**kept_places, 10**places, Rounding.HALF_UP)
    return decimal_from_scaled(rounded, kept_places)


def discount_rate(price: Decimal, full: Decimal) -> Decimal | None:
    """Return the part of ``full`` that ``price`` saves, or ``None`` if it is less than a tenth of a percent.

    The rate is truncated to a tenth of a percent, so that a page never promises a higher discount than the real one.

    >>> discount_rate(Decimal("0.13"), Decimal("1.25")), discount_rate(Decimal(2), Decimal(1))
    (Decimal('0.896'), None)
    """
    (a, p), (b, q) = to_scaled(price), to_scaled(full)
    a, b = a * 10**q, b * 10**p
    if b <= 0 or a >= b:
        return None
    thousandths = round_quotient((b - a) * 1000, b, Rounding.DOWN)
    return decimal_from_scaled(thousandths, 3) if thousandths else None


def replace_invisible(value: Any) -> Any:
    """Replace every character that cannot be displayed by U+FFFD, in all texts of JSON values."""
    if isinstance(value, str):
        return _INVISIBLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {key: replace_invisible(member) for key, member in value.items()}
    return [replace_invisible(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _exact_context() -> Iterator[None]:
    """Set a decimal context that does not round. Babel uses the current context, and the caller's may round."""
    with localcontext(Context(1000, ROUND_HALF_EVEN, -999_999, 999_999, 1, 0, [], [])):
        yield


class LocaleFormatter:
    """Formats digits, money, percentages and dates for one language (``en`` or ``zh_CN``), with Babel's CLDR data."""

    def __init__(self, name: str) -> None:
        self.name = resolve_locale(name)
        self.tag = self.name.replace("_", "-")
        """The language tag for HTML, such as ``zh-CN``."""
        self._locale = _babel_locale(self.name)
        self._symbols = self._locale.number_symbols["latn"]

    def number(self, value: Decimal | int) -> str:
        """Format a number with all its digits, in groups of three."""
        from babel.numbers import format_decimal

        with _exact_context():
            return str(format_decimal(value, locale=self._locale, decimal_quantization=False))

    def group_digits(self, text: str) -> str:
        """Group the digits of a plain decimal. Trailing zeros are kept."""
        sign, whole, fraction = _DIGITS.fullmatch(text).groups()  # type: ignore[union-attr]  # documents contain only plain decimals
        symbols = self._symbols
        grouped = f"{int(whole):,}".replace(",", symbols["group"])  # both languages group by three
        return sign + grouped + (symbols["decimal"] + fraction if fraction else "")

    def money(self, value: Decimal, currency: str) -> str:
        """Format an amount with all its digits, at least those of the minor unit, and the currency sign."""
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
        """Return the currency pattern of the language, with the minor digits of ISO 4217.

        CLDR has fewer digits for some currencies.
        """
        digits = minor_digits(currency)
        pattern = str(self._locale.currency_formats["standard"].pattern)
        return pattern.replace("0.00", "0." + "0" * digits if digits else "0")

    def price(self, value: Decimal, currency: str) -> str:
        """Round a price for display and format it."""
        return self.money(round_for_display(value, currency), currency)

    def percent(self, value: Decimal) -> str:
        """Format a fraction of 1 as a percentage."""
        from babel.numbers import format_percent

        with _exact_context():
            return str(format_percent(value, locale=self._locale, decimal_quantization=False))

    def date(self, when: datetime) -> str:
        """Format an instant in UTC: its date, and its time unless that is midnight."""
        from babel.dates import format_date

        day = str(format_date(when.date(), "medium", locale=self._locale))
        if not (when.hour or when.minute or when.second or when.microsecond):
            return day
        return f"{day} {when:%H:%M}" + (f":{when:%S}" if when.second or when.microsecond else "") + " UTC"

    def weekday(self, name: str) -> str:
        """Return the short name of a day of the week, given as ``mon`` to ``sun``."""
        days = self._locale.days["format"]["abbreviated"]
        return str(days[WEEKDAYS.index(name)])

    def client_formats(self, currencies: list[str]) -> dict[str, Any]:
        """Return the formats that the scripts of a page need to format exact digits."""
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


@lru_cache(8)
def _babel_locale(name: str) -> Locale:
    from babel import Locale

    return Locale.parse(name)
