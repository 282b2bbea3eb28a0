"""The schema of ``pricing.yaml`` as pydantic models; ``docs/pricing-yaml.md`` explains it.

Values come from :mod:`yaml_reader`: numbers are ``int`` or ``Decimal``, read from their text, never floats.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import models_json_schema

from brivionix_billing.errors import safe_repr
from brivionix_billing.meters import METERS, MINIMUM_METER, REQUEST_METERS, TOOL_METERS
from brivionix_billing.pricebook.lot_order import DEFAULT_LOT_ORDER, LOT_ORDER_RULES
from brivionix_billing.pricebook.plan_schema import Plan as Plan
from brivionix_billing.pricebook.plan_schema import PlanTerms as PlanTerms
from brivionix_billing.pricebook.schema_base import DatedEntry as DatedEntry
from brivionix_billing.pricebook.schema_base import StrictModel as StrictModel
from brivionix_billing.pricebook.schema_values import (
    Amount,
    Count,
    CreditPrice,
    Currency,
    Day,
    DayRange,
    Discount,
    Factor,
    Family,
    Hours,
    LocalizedText,
    Name,
    Price,
    Ratio,
    TimeZone,
    VolumeDiscountRate,
    Word,
    finding_error,
)
from brivionix_billing.rating import SERVICE_TIERS

KNOWN_METERS: Final = tuple(name for name in (*METERS, *REQUEST_METERS) if name != MINIMUM_METER.name)
"""The keys of a price, besides the meters that the file declares."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class MeterPrices(StrictModel):
    """Prices by meter, each per that meter's ``per``: USD per 1 M tokens, USD per 1000 calls."""

    # Meters are extra keys, because a file may declare its own, and most of them are absent from most prices.
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Price] = Field(init=False)

    @property
    def prices(self) -> dict[str, Decimal]:
        """Meter -> price."""
        return self.__pydantic_extra__


class ContextPrices(MeterPrices):
    """Prices of the whole request from a number of input tokens on, cached ones included.

    ``above`` is exceeded, ``at_least`` is reached.
    """

    above: Count | None = None
    at_least: Count | None = None


class PriceSet(MeterPrices):
    """Prices, and those that apply instead to long context, in windows of time, in regions and in modes."""

    # Factories, because pydantic copies an empty default deeply for every price set.
    long_context: Annotated[list[ContextPrices], BeforeValidator(_as_list)] = Field(default_factory=list, min_length=1)
    minimum: Price | None = Field(default=None, description="Minimum charge per request.")
    regions: dict[Name, VariantPrices] = Field(default_factory=dict)
    modes: dict[Name, VariantPrices] = Field(default_factory=dict)
    windows: dict[Name, VariantPrices] = Field(default_factory=dict)


class VariantPrices(PriceSet):
    """A factor on the prices around it, except on fees of tools, or prices that replace those of tokens."""

    factor: Factor | None = None


class TieredPrices(StrictModel):
    """Prices of one or more service tiers."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PriceSet] = Field(init=False)

    @property
    def tiers(self) -> dict[str, PriceSet]:
        """Service tier -> prices."""
        return self.__pydantic_extra__


class PriceEntry(DatedEntry, TieredPrices):
    """Prices of one or more service tiers. A tier without an effective entry is not sold."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PriceSet] = Field(init=False)


class GroupPrices(TieredPrices):
    """Nominal prices that this group pays; the ratio does not apply to them."""


UnpricedTokens = Literal["refuse", "as_container"]


class ContextLimits(StrictModel):
    """Sizes in tokens."""

    window: Count | None = None
    max_input: Count | None = None
    max_output: Count | None = None


class Model(StrictModel):
    """A model and its dated list prices."""

    display_name: LocalizedText | None = None
    vendor: LocalizedText | None = None
    description: LocalizedText | None = None
    released: Day | None = None
    encoding: Name | None = Field(default=None, description="tiktoken's name of the vocabulary.")
    token_family: Family | None = Field(default=None, description="How requests are counted; by the name if not given.")
    context: ContextLimits = ContextLimits()
    aliases: list[Name] = Field(default_factory=list, description="Names, or patterns with *.")
    currency: Currency | None = Field(default=None, description="The currency of the list prices.")
    cache_discount: bool = Field(default=True, description="false: the default cache discount does not apply.")
    unpriced_tokens: UnpricedTokens | None = Field(default=None, description="As the key of the file, for this model.")
    tools: list[Word] | None = Field(default=None, description="The default tool fees that apply; all if not given.")
    routes_to: list[Name] = Field(default_factory=list, description="Of a router: models that it may serve.")
    prices: list[PriceEntry] = Field(min_length=1)


class Override(StrictModel):
    """The terms of a group for one model: a ratio instead of the group's, or prices instead of list x ratio."""

    ratio: Ratio | None = None
    prices: GroupPrices | None = None


class DatedTerms(DatedEntry):
    """The terms of a group from a time on. They replace the earlier terms as a whole."""

    ratio: Ratio
    models: list[Name] = Field(min_length=1, description="Names, or patterns with * and ?.")
    overrides: dict[Name, Override] = Field(default={}, description="By name, or by a pattern with * and ?.")


class Group(StrictModel):
    """The pricing group of API tokens."""

    display_name: LocalizedText | None = None
    description: LocalizedText | None = None
    terms: list[DatedTerms] = Field(min_length=1)


class DefaultEntry(DatedEntry):
    """A dated default for several models."""

    models: list[Name] | None = Field(default=None, min_length=1, description="Names, or patterns with * and ?.")


class CacheDiscount(DefaultEntry):
    """The discount on the input price for cache reads of a model without a cached price: 0.90 is 90 % off."""

    discount: Discount


class ToolFee(DefaultEntry):
    """The fee of a call (of a code interpreter: of a container), per 1000."""

    per_1000_calls: Price


class Tools(StrictModel):
    """Fees of tools that the provider runs, by meter."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[ToolFee]] = Field(init=False)

    @property
    def fees(self) -> dict[str, list[ToolFee]]:
        """Meter -> dated fees."""
        return self.__pydantic_extra__


class CustomMeter(StrictModel):
    """A meter of this file."""

    unit: Word
    per: Count | None = Field(default=None, description="The quantity that a price is quoted for.")
    label: LocalizedText | None = None


class CalendarRule(DatedEntry):
    """Hours of days in local time. They replace the earlier rule as a whole."""

    weekdays: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = Field(default=None, min_length=1)
    hours: list[Hours] = Field(min_length=1)
    excluded_dates: list[DayRange] = Field(default=[])


class Calendar(StrictModel):
    """Windows of time that have prices of their own."""

    display_name: LocalizedText | None = None
    time_zone: TimeZone
    rules: list[CalendarRule] = Field(min_length=1)


class ExchangeRate(DatedEntry):
    """The value of one unit of the currency, in the currency of the Credits' nominal quota."""

    rate: Factor


class Upstream(StrictModel):
    """What the counts of an upstream contain, where it differs from its format."""

    description: LocalizedText | None = None
    cache_read: Literal["in_input", "beside_input"] = "in_input"
    audio_input: Literal["in_input", "beside_input"] = "in_input"
    reasoning: Literal["in_output", "beside_output", "rest_of_total"] = "in_output"
    grounding: Literal["per_query", "per_prompt"] = "per_query"


class NameLabels(StrictModel):
    """Texts by which readers know service tiers, regions and modes of this file. No price depends on them."""

    service_tiers: dict[Word, LocalizedText] = Field(default={})
    regions: dict[Name, LocalizedText] = Field(default={})
    modes: dict[Name, LocalizedText] = Field(default={})


class Credit(StrictModel):
    """The definition of a Credit."""

    currency: Currency
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
    display_name: LocalizedText | None = None
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
    volume_discounts: list[VolumeDiscount] = Field(default=[])


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
    meters: dict[Word, CustomMeter] = Field(default={})
    calendars: dict[Name, Calendar] = Field(default={})
    service_tiers: dict[Word, list[Name]] = Field(default={})
    regions: dict[Name, list[Name]] = Field(default={})
    labels: NameLabels = NameLabels()
    exchange_rates: dict[Currency, list[ExchangeRate]] = Field(default={})
    aliases: dict[Name, Name] = Field(default={})
    priced_model: Literal["requested", "served"] = "requested"
    unpriced_tokens: UnpricedTokens = Field(
        default="refuse",
        description="as_container: tokens on a meter without a price cost what contains them.",
    )
    upstreams: dict[Name, Upstream] = Field(default={})
    unaccounted: dict[Name, Word] = Field(default={})
    cache_discount: list[CacheDiscount] = Field(default=[])
    tools: Tools = Tools()
    channels: dict[Name, Channel] = Field(default={})
    plans: dict[Name, Plan] = Field(default={})
    models: dict[Name, Model]
    groups: dict[Name, Group]


_OPEN_KEYS: Final[tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...]] = (
    *(
        (name, KNOWN_METERS, {"type": "number", "minimum": 0, "maximum": 1_000_000})
        for name in ("ContextPrices", "PriceSet", "VariantPrices")
    ),
    *((name, SERVICE_TIERS, {"$ref": "#/$defs/PriceSet"}) for name in ("PriceEntry", "GroupPrices")),
    (
        "Tools",
        tuple(meter.name for meter in TOOL_METERS),
        {"type": "array", "items": {"$ref": "#/$defs/ToolFee"}},
    ),
)
"""Models with keys that a file may add to: (model, known keys, JSON schema of a value)."""


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the price file, for editors."""
    models: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (PriceFile, "validation"),
        (PriceSet, "validation"),
        (ToolFee, "validation"),
    ]
    definitions = models_json_schema(models, by_alias=True)[1]["$defs"]
    for name, known, value in _OPEN_KEYS:
        definition = definitions[name]
        definition["properties"] = {**definition.get("properties", {}), **dict.fromkeys(known, value)}
        definition["additionalProperties"] = value
    for name in ("PriceSet", "VariantPrices"):
        one = {"$ref": "#/$defs/ContextPrices"}
        definitions[name]["properties"]["long_context"] = {"oneOf": [one, {"type": "array", "items": one}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": definitions,
        **definitions.pop("PriceFile"),
        "title": "brivionix-billing price file",
    }
