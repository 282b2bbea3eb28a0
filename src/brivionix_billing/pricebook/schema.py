"""The schema of ``pricing.yaml``, as pydantic models. ``docs/pricing-yaml.md`` explains it in words.

Values come from :mod:`reading`: numbers are ``int`` or ``Decimal`` from their text, never floats.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from brivionix_billing.decimals import decimal_places, format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import minor_digits
from brivionix_billing.rating.messages import LOCALES
from brivionix_billing.times import parse_instant
from brivionix_billing.token_families import FAMILIES, get_family
from brivionix_billing.topup import DEFAULT_LOT_ORDER, LOT_ORDER_RULES

MAX_PLACES = 12
"""Digits behind the point of any number in the file: what the unit of 10^-18 Credit per token leaves room for."""


def finding_error(what: str, instead: str) -> PydanticCustomError:
    """An error that says what is wrong and what would be right."""
    return PydanticCustomError("finding", "{what}; {instead}", {"what": what, "instead": instead})


class BoundedDecimal:
    """A decimal number from ``low`` to ``high``; ``above``: more than ``low``."""

    def __init__(self, low: str, high: str, example: str, *, above: bool = False) -> None:
        self.low, self.high, self.example, self.above = low, high, example, above
        self.least, self.most = Decimal(low), Decimal(high)

    def check(self, value: Any) -> Decimal:
        """The number, or what is wrong with it."""
        if isinstance(value, str):
            raise finding_error(
                f"{safe_repr(value)} is not a plain number", f"write it like {self.example}, without quotes"
            )
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise finding_error(f"{safe_repr(value)} is not a number", f"write a number like {self.example}")
        number = Decimal(value)
        if number < self.least or number > self.most or (self.above and number == self.least):
            shown = format_plain(number) if -40 < number.adjusted() < 40 else str(number)
            bound = f"more than {self.low}" if self.above else f"at least {self.low}"
            raise finding_error(f"{shown} is out of range", f"write {bound} and at most {self.high}")
        if decimal_places(number) > MAX_PLACES:
            raise finding_error(
                f"{format_plain(number)} has more than {MAX_PLACES} digits behind the point", "round it"
            )
        return number

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        bound = "exclusiveMinimum" if self.above else "minimum"
        return {"type": "number", bound: float(self.low), "maximum": float(self.high)}


Price = Annotated[Decimal, BoundedDecimal("0", "1000000", "0.75")]
Ratio = Annotated[Decimal, BoundedDecimal("0", "1000", "0.8")]
Discount = Annotated[Decimal, BoundedDecimal("0", "1", "0.9")]
VolumeDiscountRate = Annotated[Decimal, BoundedDecimal("0", "0.99", "0.05")]
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
            f"the name {safe_repr(value)} has a character that may do harm", "use letters, digits and . _ : / - +"
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
    if strange or not value:
        found = safe_repr(strange[0]) if strange else "nothing"
        raise finding_error(
            f"a description in {found}", "write one text, or a text per language: {en: ..., zh_CN: ...}"
        )
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
"""A text for people by language; under ``""`` one text for all of them."""


class StrictModel(BaseModel):
    """No unknown keys, no conversions, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatedEntry(StrictModel):
    """Holds from ``from`` until the next entry begins, or until its own ``until`` (exclusive). Append, never edit."""

    since: Instant = Field(alias="from")
    until: Instant | None = None


class MeterPrices(StrictModel):
    """USD per 1 M tokens. A cache read that is not given costs its input less the default cache discount."""

    input: Price | None = None
    cache_read: Price | None = None
    cache_write: Price | None = None
    cache_write_1h: Price | None = None
    output: Price | None = None
    audio_input: Price | None = None
    audio_cache_read: Price | None = None
    audio_output: Price | None = None
    image_input: Price | None = None
    image_cache_read: Price | None = None
    image_output: Price | None = None
    video_input: Price | None = None
    video_cache_read: Price | None = None


class LongContext(MeterPrices):
    """Prices of the whole request where its input (cached tokens included) is strictly above ``above`` tokens."""

    above: Count


class TierPrices(MeterPrices):
    """Prices of one service tier. Without ``long_context`` they hold at any length."""

    long_context: LongContext | None = None


class PriceEntry(DatedEntry):
    """Prices of one or more service tiers. A tier that no entry in force names is not sold."""

    standard: TierPrices | None = None
    batch: TierPrices | None = None
    flex: TierPrices | None = None
    priority: TierPrices | None = None


class ContextLimits(StrictModel):
    """Sizes in tokens."""

    window: Count
    max_input: Count
    max_output: Count


class Model(StrictModel):
    """A model: what it is, and its dated list prices."""

    released: Day
    encoding: Name = Field(description="tiktoken's name of the vocabulary.")
    token_family: Family | None = Field(default=None, description="How requests are counted; by the name if not given.")
    context: ContextLimits
    aliases: list[Name] = []
    description: LocalizedText | None = None
    prices: list[PriceEntry] = Field(min_length=1)


class Override(StrictModel):
    """One group's own terms for one model: a ratio instead of the group's, or prices instead of list x ratio."""

    ratio: Ratio | None = None
    prices: GroupPrices | None = None


class GroupPrices(StrictModel):
    """Nominal prices that this group pays; the ratio does not apply to them."""

    standard: TierPrices | None = None
    batch: TierPrices | None = None
    flex: TierPrices | None = None
    priority: TierPrices | None = None


class DatedTerms(DatedEntry):
    """A group's terms from a time on: they replace the terms before them as a whole."""

    ratio: Ratio
    models: list[Name] = Field(min_length=1, description="Names, or patterns with * and ?.")
    overrides: dict[Name, Override] = {}


class Group(StrictModel):
    """What a customer's token belongs to."""

    description: LocalizedText | None = None
    terms: list[DatedTerms] = Field(min_length=1)


class CacheDiscount(DatedEntry):
    """Off the input price, for cache reads of a model that names no cached price: 0.90 is 90 % off."""

    discount: Discount


class ToolFee(DatedEntry):
    """A fee per call (of a code interpreter: per container), USD per 1000 of them, on every model."""

    per_1000_calls: Price


class Tools(StrictModel):
    """Fees of tools that the provider runs."""

    web_search: list[ToolFee] = []
    file_search: list[ToolFee] = []
    code_interpreter: list[ToolFee] = []
    image_generation: list[ToolFee] = []


class Credit(StrictModel):
    """What a Credit is."""

    currency: Literal["USD"]
    nominal_per_credit: CreditPrice


class ChannelPrice(DatedEntry):
    """What one Credit costs on this channel, in the channel's currency."""

    price_per_credit: CreditPrice


class VolumeTier(StrictModel):
    """A threshold: it holds at ``at_least`` Credits and above."""

    at_least: Amount
    discount: VolumeDiscountRate


class VolumeDiscount(DatedEntry):
    """``all``: the reached discount holds for every Credit bought; ``above``: only for those above its threshold."""

    applies_to: Literal["all", "above"]
    tiers: list[VolumeTier] = Field(min_length=1)


class Channel(StrictModel):
    """A way to pay for Credits."""

    currency: Currency
    description: LocalizedText | None = None
    smallest: Amount | None = Field(default=None, description="Smallest payment, in the channel's currency.")
    largest: Amount | None = Field(default=None, description="Largest payment, in the channel's currency.")
    prices: list[ChannelPrice] = Field(min_length=1)
    volume_discounts: list[VolumeDiscount] = []


def _lot_order(value: Any) -> tuple[str, ...]:
    names = ", ".join(LOT_ORDER_RULES)
    if not isinstance(value, list) or not value:
        raise finding_error(f"{safe_repr(value)} is not an order of use", f"write a list of some of {names}")
    for index, rule in enumerate(value):
        if not isinstance(rule, str) or rule not in LOT_ORDER_RULES:
            raise finding_error(f"there is no rule {safe_repr(rule)}", f"write some of {names}")
        if rule in value[:index]:
            raise finding_error(f"the rule {rule} stands twice", "leave the second one out")
    for one, other in (("promotional", "paid"), ("oldest", "newest")):
        if one in value and other in value:
            raise finding_error(f"{one} and {other} are opposites", "leave one of them out")
    return tuple(value)


LotOrder = Annotated[
    tuple[str, ...],
    BeforeValidator(_lot_order),
    WithJsonSchema({"type": "array", "items": {"enum": [*LOT_ORDER_RULES]}, "minItems": 1, "uniqueItems": True}),
]


class Lots(StrictModel):
    """How an account's Credits are used up. A rule of the ledger: no price depends on it."""

    order: LotOrder = Field(default=DEFAULT_LOT_ORDER, description="Which lots are used first; the first rule decides.")


class PriceFile(StrictModel):
    """A price file: Credits and channels, models and their list prices, groups and their terms."""

    version: Literal[1]
    credit: Credit
    lots: Lots = Lots()
    cache_discount: list[CacheDiscount] = []
    tools: Tools = Tools()
    channels: dict[Name, Channel] = {}
    models: dict[Name, Model]
    groups: dict[Name, Group]


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the price file, for editors."""
    schema = PriceFile.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "brivionix-billing price file",
    }
