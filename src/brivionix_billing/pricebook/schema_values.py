"""The values of a price file: numbers, times, names and texts, each with the finding for what it is not."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from brivionix_billing.decimals import decimal_places, format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import minor_digits
from brivionix_billing.rating.messages import LOCALES
from brivionix_billing.times import load_zone, parse_instant
from brivionix_billing.token_families import FAMILIES, get_family

MAX_PLACES = 12
"""Maximum decimal places of a number in the file; the unit of 10^-18 Credit per token allows no more."""
MAX_PRICE_PLACES = 18
"""Maximum decimal places of a price: that of one image or second may be finer than that of 1 M tokens."""


def finding_error(message: str, hint: str) -> PydanticCustomError:
    """Return an error with the problem and how to fix it."""
    return PydanticCustomError("finding", "{message}; {hint}", {"message": message, "hint": hint})


_COMMA = re.compile(r"-?[0-9]{1,30},[0-9]{1,30}", re.ASCII)
"""A number with a decimal comma."""


class BoundedDecimal:
    """A decimal number from ``low`` to ``high``, or if ``above``, more than ``low``."""

    def __init__(self, low: str, high: str, example: str, *, above: bool = False, places: int = MAX_PLACES) -> None:
        self.low, self.high, self.example, self.above, self.places = low, high, example, above, places
        self.least, self.most = Decimal(low), Decimal(high)

    def check(self, value: Any) -> Decimal:
        """Return the number, or raise the finding."""
        if isinstance(value, str):
            hint = f"write it like {self.example}, without quotes"
            if _COMMA.fullmatch(value):
                hint = f"write {value.replace(',', '.')} with a point"
            raise finding_error(f"{safe_repr(value)} is not a plain number", hint)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise finding_error(f"{safe_repr(value)} is not a number", f"write a number like {self.example}")
        number = Decimal(value)
        if number < self.least or number > self.most or (self.above and number == self.least):
            shown = format_plain(number) if -40 < number.adjusted() < 40 else str(number)
            bound = f"more than {self.low}" if self.above else f"at least {self.low}"
            raise finding_error(f"{shown} is out of range", f"write {bound} and at most {self.high}")
        if decimal_places(number) > self.places:
            raise finding_error(f"{format_plain(number)} has more than {self.places} decimal places", "round it")
        return number

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        bound = "exclusiveMinimum" if self.above else "minimum"
        return {"type": "number", bound: float(self.low), "maximum": float(self.high)}


Price = Annotated[Decimal, BoundedDecimal("0", "1000000", "0.75", places=MAX_PRICE_PLACES)]
Ratio = Annotated[Decimal, BoundedDecimal("0", "1000", "0.8")]
Discount = Annotated[Decimal, BoundedDecimal("0", "1", "0.9")]
VolumeDiscountRate = Annotated[Decimal, BoundedDecimal("0", "0.99", "0.05")]
Factor = Annotated[Decimal, BoundedDecimal("0", "1000", "1.1", above=True)]
CreditPrice = Annotated[Decimal, BoundedDecimal("0", "1000000", "0.85", above=True)]
Amount = Annotated[Decimal, BoundedDecimal("0", "1000000000000", "10", above=True)]


def _count(value: Any) -> int:
    if type(value) is not int:
        raise finding_error(f"{safe_repr(value)} is not a whole number", "write it like 272000")
    if not 0 < value <= 10**12:
        raise finding_error(f"{safe_repr(value)} is out of range", "write at least 1 and at most 10^12")
    return value


Count = Annotated[int, BeforeValidator(_count), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 10**12})]


def _instant(value: Any) -> datetime:
    try:
        return parse_instant(value)
    except BillingError:
        raise finding_error(f"{safe_repr(value)} is not a time", "write 2026-10-12 or 2026-10-12T08:00:00Z") from None


Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "examples": ["2026-10-12", "2026-10-12T08:00:00Z"]}),
]


def _day(value: Any) -> date:
    if isinstance(value, str) and len(value) == 10:
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise finding_error(f"{safe_repr(value)} is not a date", "write 2026-03-17")


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]


def _day_range(value: Any) -> tuple[date, date]:
    if isinstance(value, str):
        first, slash, last = value.partition("/")
        if slash:
            days = _day(first), _day(last)
            if days[0] > days[1]:
                raise finding_error(f"{safe_repr(value)} ends before it starts", "write the earlier date first")
            return days
    day = _day(value)
    return day, day


DayRange = Annotated[
    tuple[date, date],
    BeforeValidator(_day_range),
    WithJsonSchema({"type": "string", "examples": ["2026-10-01", "2026-10-01/2026-10-07"]}),
]
"""A date, or a range of dates, both ends included."""

_HOURS = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])", re.ASCII)


def _hours(value: Any) -> tuple[int, int]:
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    start, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if start == end or start >= 24 * 60 or end > 24 * 60:
        raise finding_error(f"{safe_repr(value)} is not a range of hours", 'write "09:00-12:00", or "00:00-24:00"')
    return start, end


Hours = Annotated[
    tuple[int, int],
    BeforeValidator(_hours),
    WithJsonSchema({"type": "string", "pattern": _HOURS.pattern, "examples": ["09:00-12:00", "22:00-06:00"]}),
]
"""Start and end in minutes after local midnight. If the end is not after the start, it is on the next day."""

_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


def _word(value: Any) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise finding_error(f"{safe_repr(value)} is not a word", "use lower-case letters, digits and _")
    return value


Word = Annotated[str, BeforeValidator(_word), WithJsonSchema({"type": "string", "pattern": f"^{_WORD.pattern}$"})]
"""A name of the file's own, such as that of a meter or of a service tier."""

_FORBIDDEN = frozenset("\"'`<>&\\{}")


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise finding_error(
            f"{safe_repr(value)} is not a name", "write a word; put quotes around one that looks like a number"
        )
    if not 0 < len(value) <= 128 or value != value.strip():
        raise finding_error(f"{safe_repr(value)} is not a name", "write 1 to 128 characters, no space at either end")
    if not value.isprintable() or _FORBIDDEN & set(value):
        raise finding_error(
            f"the name {safe_repr(value)} has a character that is not allowed", "use letters, digits and . _ : / - +"
        )
    return value


Name = Annotated[str, BeforeValidator(_name), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 128})]


def _currency(value: Any) -> str:
    try:
        minor_digits(value)
    except BillingError:
        raise finding_error(
            f"{safe_repr(value)} is not a currency", "write an ISO 4217 code such as CNY or USD"
        ) from None
    return str(value)


Currency = Annotated[str, BeforeValidator(_currency), WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})]


def _time_zone(value: Any) -> str:
    try:
        load_zone(value)
    except BillingError:
        raise finding_error(f"{safe_repr(value)} is not a time zone", "write a name such as Asia/Shanghai") from None
    return str(value)


TimeZone = Annotated[str, BeforeValidator(_time_zone), WithJsonSchema({"type": "string", "examples": ["UTC"]})]


def _family(value: Any) -> str:
    name = _name(value)
    try:
        get_family(name)
    except BillingError as error:
        raise finding_error(f"there is no token family {safe_repr(name)}", error.message.partition("; ")[2]) from None
    return name


Family = Annotated[str, BeforeValidator(_family), WithJsonSchema({"type": "string", "enum": [*FAMILIES, "unknown"]})]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise finding_error(
            f"{safe_repr(value)} is not a text", "write plain text, in quotes if it looks like a number"
        )
    if len(value) > 2_000 or not all(c.isprintable() or c == "\n" for c in value):
        raise finding_error("a description with control characters or over 2000 characters", "write plain text")
    return value


def _localized_text(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {"": _text(value)}
    strange = [name for name in value if name not in LOCALES]
    if strange:
        meant = next((known for known in LOCALES if known[:2] == str(strange[0]).lower()[:2]), None)
        hint = f"did you mean {meant}?" if meant else f"known here: {', '.join(LOCALES)}"
        raise finding_error(f"the language {safe_repr(strange[0])} is not known", hint)
    if not value:
        raise finding_error("has no text", "write one text, or a text per language: {en: ..., zh_CN: ...}")
    return {name: _text(text) for name, text in value.items()}


LocalizedText = Annotated[
    dict[str, str],
    BeforeValidator(_localized_text),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "string", "maxLength": 2000},
                {
                    "type": "object",
                    "properties": {name: {"type": "string", "maxLength": 2000} for name in LOCALES},
                    "additionalProperties": False,
                    "minProperties": 1,
                },
            ]
        }
    ),
]
"""A display text by language; under ``""``, one text for all languages."""
