"""Compiles a validated price file into timelines and plain tuples, from which rate cards are resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from brivionix_billing.decimals import after_discount, multiply
from brivionix_billing.meters import CALL_METERS, METERS, METERS_BY_NAME, TOKEN_METERS
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.rating.rate_card import SERVICE_TIERS, PriceVector
from brivionix_billing.times import Timeline
from brivionix_billing.topup import Channel, VolumeDiscount, VolumeDiscountTier

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = [
    "Descriptions",
    "GroupTerms",
    "ModelInfo",
    "TierPrices",
    "channel",
    "group_timeline",
    "model_timelines",
    "name_index",
    "price_vector",
]

_TOKENS = frozenset(TOKEN_METERS)
LocalizedText = dict[str, dict[str, str]]
E = TypeVar("E", bound="schema.DatedEntry")
T = TypeVar("T")


class TierPrices(NamedTuple):
    """The listed prices of a service tier by meter; ``above`` and ``long`` if long context has its own prices."""

    short: PriceVector
    above: int | None
    long: PriceVector | None


class ModelInfo(NamedTuple):
    """What a price file states about a model beside its prices."""

    name: str
    encoding: str
    """tiktoken's name of the vocabulary."""
    token_family: str | None
    """The token family by which requests are counted; ``None``: chosen by the model's name."""
    window: int
    """Input and output together, in tokens."""
    max_input: int
    max_output: int
    released: date
    aliases: tuple[str, ...]


class Descriptions(NamedTuple):
    """Display texts of a price file: name -> language (``en``, ``zh_CN``; ``""`` for all) -> text."""

    models: LocalizedText
    groups: LocalizedText
    channels: LocalizedText


class GroupTerms(NamedTuple):
    """The terms of a group, prepared for look-ups."""

    ratio: Decimal
    allowed_models: frozenset[str]
    ratios: dict[str, Decimal]
    """Models with their own ratio in this group."""
    prices: dict[tuple[str, str], TierPrices]
    """(model, service tier) with their own prices in this group."""


def timeline(entries: Sequence[E], value: Callable[[E], T]) -> Timeline[T]:
    """Return a timeline of what ``value`` takes from each dated entry."""
    return Timeline([(entry.since, entry.until, value(entry)) for entry in entries])


def name_index(file: schema.PriceFile) -> dict[str, str]:
    """Return every name of every model: its own and its aliases."""
    own = {name: name for name in file.models}
    return own | {alias: name for name, model in file.models.items() for alias in model.aliases}


def model_timelines(model: schema.Model) -> dict[str, Timeline[TierPrices]]:
    """Return the prices of each service tier over time. An entry that does not name a tier does not change it."""
    return {
        tier: timeline(
            [entry for entry in model.prices if getattr(entry, tier) is not None],
            lambda entry, tier=tier: _tier_prices(getattr(entry, tier)),  # type: ignore[misc]  # mypy loses the default
        )
        for tier in SERVICE_TIERS
    }


def group_timeline(group: schema.Group, file: schema.PriceFile) -> Timeline[GroupTerms]:
    """Return the terms of a group over time, its patterns resolved to names."""

    def terms(entry: schema.DatedTerms) -> GroupTerms:
        return GroupTerms(
            entry.ratio,
            frozenset(filter(matcher(entry.models), file.models)),
            {name: o.ratio for name, o in entry.overrides.items() if o.ratio is not None},
            {
                (name, tier): _tier_prices(getattr(o.prices, tier))
                for name, o in entry.overrides.items()
                if o.prices is not None
                for tier in SERVICE_TIERS
                if getattr(o.prices, tier) is not None
            },
        )

    return timeline(group.terms, terms)


def tool_timelines(tools: schema.Tools) -> dict[str, Timeline[Decimal]]:
    """Return the fee of each tool call over time, by meter name."""
    return {
        meter.name: timeline(getattr(tools, meter.name), lambda entry: entry.per_1000_calls) for meter in CALL_METERS
    }


def channel(name: str, item: schema.Channel) -> Channel:
    """Return a payment channel."""
    return Channel(
        name,
        item.currency,
        timeline(item.prices, lambda entry: entry.price_per_credit),
        timeline(
            item.volume_discounts,
            lambda entry: VolumeDiscount(
                entry.applies_to, tuple(VolumeDiscountTier(tier.at_least, tier.discount) for tier in entry.tiers)
            ),
        ),
        item.min_payment,
        item.max_payment,
    )


def _listed_prices(prices: schema.MeterPrices) -> PriceVector:
    return tuple([getattr(prices, meter.name) if meter in _TOKENS else None for meter in METERS])


def _tier_prices(prices: schema.TierPrices) -> TierPrices:
    far = prices.long_context
    return TierPrices(_listed_prices(prices), far.above if far else None, _listed_prices(far) if far else None)


def price_vector(listed: PriceVector, discount: Decimal | None, fees: dict[str, Decimal]) -> PriceVector:
    """Return the price of every meter: as listed, the fees of tools, and for an unlisted cache read by the discount."""
    out = list(listed)
    for meter in METERS:
        if out[meter.position] is None and meter.uncached_meter is not None and discount is not None:
            base = listed[METERS_BY_NAME[meter.uncached_meter].position]
            if base is not None:
                out[meter.position] = multiply(base, after_discount(discount))
    for name, fee in fees.items():
        out[METERS_BY_NAME[name].position] = fee
    return tuple(out)


def dated_entries(file: schema.PriceFile) -> list[schema.DatedEntry]:
    """Return all dated entries of the file."""
    out: list[schema.DatedEntry] = [*file.cache_discount]
    for meter in CALL_METERS:
        out += getattr(file.tools, meter.name)
    for item in file.channels.values():
        out += [*item.prices, *item.volume_discounts]
    for model in file.models.values():
        out += model.prices
    for group in file.groups.values():
        out += group.terms
    return out


def latest_effective_from(file: schema.PriceFile) -> datetime:
    """Return the start of the newest entry of the file."""
    return max(entry.since for entry in dated_entries(file))


def model_info(file: schema.PriceFile, name: str) -> ModelInfo:
    """Return what the file states about one model."""
    entry = file.models[name]
    return ModelInfo(
        name,
        entry.encoding,
        entry.token_family,
        entry.context.window,
        entry.context.max_input,
        entry.context.max_output,
        entry.released,
        tuple(entry.aliases),
    )


def descriptions(file: schema.PriceFile) -> Descriptions:
    """Return the display texts of the file."""

    def of(
        parts: Mapping[str, schema.Model] | Mapping[str, schema.Group] | Mapping[str, schema.Channel],
    ) -> LocalizedText:
        return {name: dict(part.description or {}) for name, part in parts.items()}

    return Descriptions(of(file.models), of(file.groups), of(file.channels))
