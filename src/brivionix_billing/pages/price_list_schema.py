"""The JSON Schema of the price list, for programs that read it. docs/pages.md describes the fields.

Amounts are exact decimals as strings, and times are in UTC. The schema allows unknown fields, because a later release
may add some without a new version; a reader ignores them. A removed field, or another meaning, gets a new version.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from brivionix_billing.pricebook.plans import PlanPeriod

__all__ = ["SCHEMA", "json_schema"]

SCHEMA: Final = "brivionix-billing/price-list/1"
"""The version of the format."""

Amount = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)(\.[0-9]+)?$")]
Time = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$")]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Label = dict[Literal["en", "zh_CN"], str]
Text = dict[Literal["", "en", "zh_CN"], str]
"""A text by language; under the empty name, one for all languages."""
Prices = dict[Name, Amount]
"""By meter."""
Conditions = dict[Literal["region", "mode", "window"], Name]
Bounds = dict[Literal["over", "from", "up_to", "under"], Count]
"""Bounds of input tokens."""
Change = Annotated[list[Amount | None], Field(min_length=2, max_length=2)]
"""Before and after."""
_ABSENT: Final[Any] = None
"""The default of an optional field. Null itself is not allowed."""


class Meter(BaseModel):
    """A meter that has a price."""

    name: Name
    unit: Name
    per: Annotated[int, Field(ge=1)]
    label: Label
    per_label: Label


class ServiceTier(BaseModel):
    """A service tier that has a price, now or later."""

    name: Name
    label: Label


class Condition(BaseModel):
    """A region or mode that a price is for."""

    name: Name
    display_name: Text


class CalendarRule(BaseModel):
    """The peak hours of a calendar from a time on."""

    since: Time = Field(alias="from")
    until: Time | None
    weekdays: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]]
    hours: list[Annotated[str, Field(pattern=r"^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$")]]
    excluded_dates: list[Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(/[0-9]{4}-[0-9]{2}-[0-9]{2})?$")]]


class Calendar(BaseModel):
    """A calendar of peak prices, at the time of the list."""

    name: Name
    display_name: Text
    time_zone: Name
    active: bool
    in_force: bool
    next_change: Time | None
    rules: list[CalendarRule]


class VolumeStep(BaseModel):
    """A volume discount from a number of Credits on."""

    at_least: Amount
    discount: Amount


class VolumeDiscount(BaseModel):
    """The volume discount of a channel."""

    applies_to: Literal["all", "above"]
    steps: list[VolumeStep]


class ChannelChange(BaseModel):
    """A scheduled change of a channel: values before and after."""

    at: Time
    price_per_credit: Change = _ABSENT
    volume_discount: Annotated[list[VolumeDiscount | None], Field(min_length=2, max_length=2)] = _ABSENT


class Channel(BaseModel):
    """A payment channel."""

    name: Name
    display_name: Text
    currency: Currency
    description: Text
    price_per_credit: Amount | None
    since: Time | None
    min_payment: Amount | None
    max_payment: Amount | None
    volume_discount: VolumeDiscount | None
    changes: list[ChannelChange]


class PlanTerms(BaseModel):
    """The terms of a plan. Without prices it is free; ``models`` and ``groups`` are null if all may use it."""

    credits: Amount
    period: PlanPeriod
    time_zone: Name
    prices: dict[Name, Amount]
    models: list[Name] | None
    groups: list[Name] | None
    tags: list[Name]
    rollover: bool
    overflow: bool


class PlanChange(BaseModel):
    """The terms of a plan from a time on; null if it is not sold any more."""

    at: Time
    terms: PlanTerms | None


class Plan(BaseModel):
    """A recurring allowance of Credits. Terms are null if it is sold later only."""

    name: Name
    display_name: Text
    description: Text
    terms: PlanTerms | None
    changes: list[PlanChange]


class ContextLimits(BaseModel):
    """Limits of a model, in tokens."""

    window: Count | None
    max_input: Count | None
    max_output: Count | None


class Model(BaseModel):
    """A model that one of the groups may use, now or later."""

    name: Name
    display_name: Text
    vendor: Text
    description: Text
    aliases: list[Name]
    released: Day | None
    context: ContextLimits


class ListPrices(BaseModel):
    """List prices in a currency of their own, and its worth in nominal quota."""

    currency: Currency
    exchange_rate: Amount
    prices: Prices


class PriceRow(BaseModel):
    """The prices of a model in a tier, context, region, mode and window."""

    model: Name
    service_tier: Name
    context: Name
    above: Count | None
    up_to: Count = _ABSENT
    input_tokens: Bounds = _ABSENT
    ratio: Amount | None
    nominal: Prices
    topup: dict[Name, Prices]
    cache_discount: Prices
    conditions: Conditions = _ABSENT
    list_prices: ListPrices = Field(default=_ABSENT, alias="list")
    list_nominal: Prices = _ABSENT
    below_list: Prices = _ABSENT
    minimum: Amount = _ABSENT
    minimum_topup: dict[Name, Amount | None] = _ABSENT


class PriceChange(BaseModel):
    """A scheduled change of one row: values before and after."""

    at: Time
    model: Name
    service_tier: Name
    context: Name
    above: Annotated[list[Count | None], Field(min_length=2, max_length=2)]
    kind: Literal["begins", "changes", "ends"]
    nominal: dict[Name, Change]
    topup: dict[Name, dict[Name, Change]]
    input_tokens: Bounds = _ABSENT
    boundary: Annotated[list[Bounds], Field(min_length=2, max_length=2)] = _ABSENT
    minimum: Change = _ABSENT
    minimum_topup: dict[Name, Change] = _ABSENT
    conditions: Conditions = _ABSENT


class Group(BaseModel):
    """A group and its prices."""

    name: Name
    display_name: Text
    description: Text
    ratio: Amount
    models: list[Name]
    not_allowed: list[Name]
    prices: list[PriceRow]
    changes: list[PriceChange]


class PriceList(BaseModel):
    """The prices of some groups at a time."""

    schema_: Literal["brivionix-billing/price-list/1"] = Field(alias="schema")
    at: Time
    price_book: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    currency: Currency
    nominal_per_credit: Amount
    shown_digits: Annotated[int, Field(ge=1)]
    meters: list[Meter]
    service_tiers: list[ServiceTier]
    regions: list[Condition]
    modes: list[Condition]
    calendars: list[Calendar]
    channels: list[Channel]
    plans: list[Plan]
    models: list[Model]
    groups: list[Group]
    shown: dict[Currency, dict[Amount, Amount]]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the price list."""
    schema = PriceList.model_json_schema(by_alias=True)
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"].values():
            field.pop("default", None)  # a field that is absent has no value
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "brivionix-billing price list",
    }
