"""Parses the cells of exported files: amounts of any usual locale, counts and times.

A cell that could mean two values is an error. Money must not move by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import safe_repr
from brivionix_billing.reconcile.exported_files import statement_error

__all__ = ["NumberFormat", "parse_count", "parse_currency", "parse_local_time", "parse_unix_time", "text_of"]

_SIGNS: Final = "¥￥$€£"
_SPACES: Final = " \u00a0\u202f\u2009'\u2019"
_PLAIN: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_FLOAT: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_GROUPED: Final = {
    ".": re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?", re.ASCII),
    ",": re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]+)?", re.ASCII),
}
_DECIMAL_COMMA: Final = re.compile(r"[0-9]+,[0-9]+", re.ASCII)
_ONE_GROUP: Final = re.compile(r"[0-9]{1,3}[.,][0-9]{3}", re.ASCII)
"""A text that is one number with grouped thousands, or another with three decimal places."""
_TIME: Final = re.compile(
    r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})(?:[ T]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?)?"
    r"\s*(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)
_MAX_LENGTH: Final = 60
_MAX_COUNT: Final = 10**18


class NumberFormat:
    """The decimal separator of a file, found from its amounts.

    ``1,234`` is 1234 in one locale and 1.234 in another. Other amounts of the file decide; without any, such an amount
    is an error.

    >>> NumberFormat(["1.234,50", "1.200"]).parse("1.200", "row 2")
    Decimal('1200')
    >>> NumberFormat(["1,234.50", "-0.51"]).parse("1,234", "row 2")
    Decimal('1234')
    """

    __slots__ = ("_is_sure", "_separator")

    def __init__(self, texts: Iterable[str]) -> None:
        points = commas = 0
        for text in texts:
            number = _bare(text)[1]
            if "." not in number and "," not in number:
                continue
            if _ONE_GROUP.fullmatch(number) and not number.startswith("0"):
                continue
            if _PLAIN.fullmatch(number) or _GROUPED["."].fullmatch(number):
                points += 1
            elif _DECIMAL_COMMA.fullmatch(number) or _GROUPED[","].fullmatch(number):
                commas += 1
        # With both, every amount is read by its own form, and one that could be either is an error. All formats have a
        # decimal point by default.
        self._separator = None if points and commas else "," if commas else "."
        self._is_sure = bool(points) != bool(commas)

    def parse(self, text: str, place: str, column: str = "amount") -> Decimal:
        """Return the exact amount. Raises ``invalid_statement`` for anything that is not one amount."""
        sign, number = _bare(text)
        if 0 < len(number) <= _MAX_LENGTH:
            if number.isdigit() and number.isascii():
                return Decimal(sign + number)
            is_unclear = not self._is_sure and ("," in number or self._separator is None)
            if is_unclear and _ONE_GROUP.fullmatch(number) and not number.startswith("0"):
                raise statement_error(
                    place,
                    f"{column} is {safe_repr(text)}, which is one amount with a decimal comma and another without",
                    "export the file with a decimal point and without separators of thousands",
                )
            if self._separator != "," and _PLAIN.fullmatch(number):
                return Decimal(sign + number)
            if self._separator != "," and _GROUPED["."].fullmatch(number):
                return Decimal(sign + number.replace(",", ""))
            if self._separator != "." and _GROUPED[","].fullmatch(number):
                return Decimal(sign + number.replace(".", "").replace(",", "."))
            if self._separator != "." and _DECIMAL_COMMA.fullmatch(number):
                return Decimal(sign + number.replace(",", "."))
        raise statement_error(
            place, f"{column} is {safe_repr(text)}, which is not an amount", "download the file again"
        )


def _bare(text: str) -> tuple[str, str]:
    """Return the sign and the number of an amount, without currency signs and spaces."""
    number = "".join(c for c in text if c not in _SPACES and c not in _SIGNS)
    if number.startswith("(") and number.endswith(")"):
        return "-", number[1:-1]
    number = number.replace("\N{MINUS SIGN}", "-")
    if number.startswith(("-", "+")):
        return number[0].replace("+", ""), number[1:]
    return "", number


def parse_count(value: Any, place: str, column: str) -> int | None:
    """Return a count that a file writes as ``59200`` or ``59200.0``; ``None`` for an empty cell."""
    if value is None or value == "":
        return None
    number: Decimal | None = None
    if (isinstance(value, str) and len(value) <= _MAX_LENGTH and _FLOAT.fullmatch(value)) or (
        isinstance(value, int | Decimal) and not isinstance(value, bool)
    ):
        number = Decimal(value)
    if number is None or number != number.to_integral_value() or not 0 <= number <= _MAX_COUNT:
        shown = format_plain(value) if isinstance(value, Decimal) else value
        raise statement_error(place, f"{column} is {safe_repr(shown)}, which is not a count", "download the file again")
    return int(number)


def parse_currency(text: Any, place: str) -> str:
    """Return an ISO 4217 code in upper case. Raises ``invalid_statement``."""
    from brivionix_billing.errors import BillingError
    from brivionix_billing.money import minor_digits

    code = text.upper() if isinstance(text, str) else ""
    try:
        minor_digits(code)
    except BillingError:
        raise statement_error(
            place, f"the currency is {safe_repr(text)}, which is no ISO 4217 code", "download the file again"
        ) from None
    return code


def parse_local_time(text: str, zone: tzinfo, place: str, column: str) -> datetime:
    """Return a time in UTC. ``2026-10-01 02:00:00`` and ``2026/10/1 2:00`` are in ``zone``, if they state none."""
    match = _TIME.fullmatch(text.strip())
    if match:
        year, month, day, hour, minute, second, fraction, offset = match.groups()
        try:
            local = datetime(
                int(year),
                int(month),
                int(day),
                int(hour or 0),
                int(minute or 0),
                int(second or 0),
                int((fraction or "0")[:6].ljust(6, "0")),
                tzinfo=zone,
            )
            if offset in ("Z", "UTC"):
                local = local.replace(tzinfo=UTC)
            elif offset:
                local = datetime.fromisoformat(local.replace(tzinfo=None).isoformat() + offset)
            return local.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise statement_error(
        place,
        f"{column} is {safe_repr(text)}, which is not a time such as 2026-10-01 02:00:00",
        "download the file again, because a spreadsheet may have changed it",
    )


def parse_unix_time(value: Any, place: str, column: str) -> datetime:
    """Return a time in UTC from seconds since 1970, as a number or its text."""
    seconds = parse_count(value, place, column)
    try:
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise statement_error(place, f"{column} is {safe_repr(value)}, which is not a time in seconds", "download it again")


def text_of(item: Mapping[str, Any], name: str, place: str) -> str | None:
    """Return a text of a JSON object; ``None`` if it is missing or empty. Raises ``invalid_statement`` for others."""
    value = item.get(name)
    if value is not None and not isinstance(value, str):
        raise statement_error(place, f"{name} is {safe_repr(value)}, which is not a text", "request it again")
    return value or None
