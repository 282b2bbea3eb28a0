"""The schema of ``pricing.yaml`` as pydantic models; ``docs/pricing-yaml.md`` explains it.

Values come from :mod:`yaml_reader`: numbers are ``int`` or ``Decimal``, read from their text, never floats.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    create_model,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from brivionix_billing.decimals import decimal_places, format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import CALL_METERS, TOKEN_METERS
from brivionix_billing.money import minor_digits
from brivionix_billing.pricebook.lot_order import DEFAULT_LOT_ORDER, LOT_ORDER_RULES
from brivionix_billing.rating.messages import LOCALES
from brivionix_billing.times import parse_instant
from brivionix_billing.token_families import FAMILIES, get_family

MAX_PLACES = 12
"""Maximum decimal places of a number in the file; the unit of 10^-18 Credit per token allows no more."""


def finding_error(message: str, hint: str) -> PydanticCustomError:
    """Return an error with the problem and how to fix it."""
    return PydanticCustomError("finding", "{message}; {hint}", {"message": message, "hint": hint})


class BoundedDecimal:
    """A decimal number from ``low`` to ``high``, or if ``above``, more than ``low``."""

    def __init__(self, low: str, high: str, example: str, *, above: bool = False) -> None:
        self.low, self.high, self.example, self.above = low, high, example, above
        self.least, self.most = Decimal(low), Decimal(high)

    def check(self, value: Any) -> Decimal:
        """Return the number, or raise the finding."""
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
            raise finding_error(f"{format_plain(number)} has more than {MAX_PLACES} decimal places", "round it")
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
"""A display text by language; under ``""``, one text for all languages."""


class StrictModel(BaseModel):
    """A model that forbids unknown keys, conversions and changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatedEntry(StrictModel):
    """Effective from ``from`` until the next entry starts, or until its own ``until``. Append entries, never edit."""

    since: Instant = Field(alias="from")
    until: Instant | None = None


if TYPE_CHECKING:

    class MeterPrices(StrictModel):
        """Prices by meter; the fields are the names of ``TOKEN_METERS``."""

else:
    MeterPrices = create_model(
        "MeterPrices",
        __base__=StrictModel,
        __module__=__name__,
        __doc__="USD per 1 M tokens. An unlisted cache read costs its input less the default cache discount.",
        **{meter.name: (Price | None, None) for meter in TOKEN_METERS},
    )


class LongContext(MeterPrices):
    """Prices of the whole request if its input (including cached tokens) is strictly above ``above`` tokens."""

    above: Count


class TierPrices(MeterPrices):
    """Prices of one service tier. Without ``long_context`` they apply at any length."""

    long_context: LongContext | None = None


class PriceEntry(DatedEntry):
    """Prices of one or more service tiers. A tier without an effective entry is not sold."""

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
    """A model and its dated list prices."""

    released: Day
    encoding: Name = Field(description="tiktoken's name of the vocabulary.")
    token_family: Family | None = Field(default=None, description="How requests are counted; by the name if not given.")
    context: ContextLimits
    aliases: list[Name] = []
    description: LocalizedText | None = None
    prices: list[PriceEntry] = Field(min_length=1)


class Override(StrictModel):
    """The terms of a group for one model: a ratio instead of the group's, or prices instead of list x ratio."""

    ratio: Ratio | None = None
    prices: GroupPrices | None = None


class GroupPrices(StrictModel):
    """Nominal prices that this group pays; the ratio does not apply to them."""

    standard: TierPrices | None = None
    batch: TierPrices | None = None
    flex: TierPrices | None = None
    priority: TierPrices | None = None


class DatedTerms(DatedEntry):
    """The terms of a group from a time on. They replace the earlier terms as a whole."""

    ratio: Ratio
    models: list[Name] = Field(min_length=1, description="Names, or patterns with * and ?.")
    overrides: dict[Name, Override] = {}


class Group(StrictModel):
    """The pricing group of API tokens."""

    description: LocalizedText | None = None
    terms: list[DatedTerms] = Field(min_length=1)


class CacheDiscount(DatedEntry):
    """The discount on the input price for cache reads of a model without a cached price: 0.90 is 90 % off."""

    discount: Discount


class ToolFee(DatedEntry):
    """The fee of a call (of a code interpreter: of a container), USD per 1000, for every model."""

    per_1000_calls: Price


if TYPE_CHECKING:

    class Tools(StrictModel):
        """Fees by meter; the fields are the names of ``CALL_METERS``."""

else:
    Tools = create_model(
        "Tools",
        __base__=StrictModel,
        __module__=__name__,
        __doc__="Fees of tools that the provider runs.",
        **{meter.name: (list[ToolFee], []) for meter in CALL_METERS},
    )


class Credit(StrictModel):
    """The definition of a Credit."""

    currency: Literal["USD"]
    nominal_per_credit: CreditPrice


class ChannelPrice(DatedEntry):
    """The price of one Credit on this channel, in the channel's currency."""

    price_per_credit: CreditPrice


class VolumeTier(StrictModel):
    """A tier of a volume discount: it applies from ``at_least`` Credits."""

    at_least: Amount
    discount: VolumeDiscountRate


class VolumeDiscount(DatedEntry):
    """``all``: the discount applies to every Credit of the purchase; ``above``: to those above its threshold."""

    applies_to: Literal["all", "above"]
    tiers: list[VolumeTier] = Field(min_length=1)


class Channel(StrictModel):
    """A way to pay for Credits."""

    currency: Currency
    description: LocalizedText | None = None
    # The second name of each is the one of the first price files.
    min_payment: Amount | None = Field(
        default=None,
        validation_alias=AliasChoices("min_payment", "smallest"),
        description="Smallest payment, in the channel's currency.",
    )
    max_payment: Amount | None = Field(
        default=None,
        validation_alias=AliasChoices("max_payment", "largest"),
        description="Largest payment, in the channel's currency.",
    )
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
            raise finding_error(f"the rule {rule} is repeated", "remove the second one")
    for one, other in (("promotional", "paid"), ("oldest", "newest")):
        if one in value and other in value:
            raise finding_error(f"{one} and {other} are opposites", "remove one of them")
    return tuple(value)


LotOrder = Annotated[
    tuple[str, ...],
    BeforeValidator(_lot_order),
    WithJsonSchema({"type": "array", "items": {"enum": [*LOT_ORDER_RULES]}, "minItems": 1, "uniqueItems": True}),
]


class Lots(StrictModel):
    """The order in which the lots of an account are consumed. No price depends on it."""

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
