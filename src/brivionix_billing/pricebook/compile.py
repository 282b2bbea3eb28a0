"""A checked price file, compiled into timelines and plain tuples that rate cards are resolved from; and its digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from brivionix_billing.canonical_json import json_digest
from brivionix_billing.decimals import after_discount, format_plain, multiply
from brivionix_billing.meters import CALL_METERS, METERS, METERS_BY_NAME, TOKEN_METERS
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.rating.rate_card import SERVICE_TIERS, PriceVector
from brivionix_billing.times import Timeline, format_instant
from brivionix_billing.topup import Channel, VolumeDiscount, VolumeDiscountTier

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = [
    "Descriptions",
    "GroupTerms",
    "ModelInfo",
    "TierPrices",
    "channel",
    "price_file_digest",
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
    """A tier's stated prices by meter; ``above`` and ``long`` where long context has its own."""

    short: PriceVector
    above: int | None
    long: PriceVector | None


class ModelInfo(NamedTuple):
    """What a price file says of a model beside its prices."""

    name: str
    encoding: str
    """tiktoken's name of the vocabulary."""
    token_family: str | None
    """How requests are counted; ``None``: by the model's name."""
    window: int
    """Input and output together, in tokens."""
    max_input: int
    max_output: int
    released: date
    aliases: tuple[str, ...]


class Descriptions(NamedTuple):
    """What the file says for people: by name, a text per language (``en``, ``zh_CN``; ``""``: for all of them)."""

    models: LocalizedText
    groups: LocalizedText
    channels: LocalizedText


class GroupTerms(NamedTuple):
    """A group's terms, ready to look up."""

    ratio: Decimal
    allowed_models: frozenset[str]
    ratios: dict[str, Decimal]
    """Models with a ratio of their own in this group."""
    prices: dict[tuple[str, str], TierPrices]
    """(model, service tier) with prices of their own in this group."""


def timeline(entries: Sequence[E], value: Callable[[E], T]) -> Timeline[T]:
    """Dated entries as a timeline of what ``value`` takes from them."""
    return Timeline([(entry.since, entry.until, value(entry)) for entry in entries])


def name_index(file: schema.PriceFile) -> dict[str, str]:
    """Every name that means a model: its own and its aliases."""
    own = {name: name for name in file.models}
    return own | {alias: name for name, model in file.models.items() for alias in model.aliases}


def model_timelines(model: schema.Model) -> dict[str, Timeline[TierPrices]]:
    """Per service tier, its prices over time; an entry that does not name a tier leaves it as it was."""
    return {
        tier: timeline(
            [entry for entry in model.prices if getattr(entry, tier) is not None],
            lambda entry, tier=tier: _tier_prices(getattr(entry, tier)),  # type: ignore[misc]  # mypy loses the default
        )
        for tier in SERVICE_TIERS
    }


def group_timeline(group: schema.Group, file: schema.PriceFile) -> Timeline[GroupTerms]:
    """A group's terms over time, its patterns resolved to names."""

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
    """Meter name of a tool call -> its fee over time."""
    return {
        meter.name: timeline(getattr(tools, meter.name), lambda entry: entry.per_1000_calls) for meter in CALL_METERS
    }


def channel(name: str, item: schema.Channel) -> Channel:
    """A payment channel."""
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
        item.smallest,
        item.largest,
    )


def _listed_prices(prices: schema.MeterPrices) -> PriceVector:
    return tuple([getattr(prices, meter.name) if meter in _TOKENS else None for meter in METERS])


def _tier_prices(prices: schema.TierPrices) -> TierPrices:
    far = prices.long_context
    return TierPrices(_listed_prices(prices), far.above if far else None, _listed_prices(far) if far else None)


def price_vector(stated: PriceVector, discount: Decimal | None, fees: dict[str, Decimal]) -> PriceVector:
    """The price of every meter: as stated; a cache read that is not stated, by the discount; tool fees."""
    out = list(stated)
    for meter in METERS:
        if out[meter.position] is None and meter.uncached_meter is not None and discount is not None:
            base = stated[METERS_BY_NAME[meter.uncached_meter].position]
            if base is not None:
                out[meter.position] = multiply(base, after_discount(discount))
    for name, fee in fees.items():
        out[METERS_BY_NAME[name].position] = fee
    return tuple(out)


def dated_entries(file: schema.PriceFile) -> list[schema.DatedEntry]:
    """All dated entries of the file."""
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
    """When the newest entry of the file begins."""
    return max(entry.since for entry in dated_entries(file))


def model_info(file: schema.PriceFile, name: str) -> ModelInfo:
    """What the file says of one model."""
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
    """The texts for people."""

    def of(
        parts: Mapping[str, schema.Model] | Mapping[str, schema.Group] | Mapping[str, schema.Channel],
    ) -> LocalizedText:
        return {name: dict(part.description or {}) for name, part in parts.items()}

    return Descriptions(of(file.models), of(file.groups), of(file.channels))


def price_file_digest(file: schema.PriceFile, end: datetime | None = None) -> str:
    """The digest over what prices depend on; with ``end``, over the entries that begin before it."""
    return json_digest(_digest_content(file, end))


def _digest_content(file: schema.PriceFile, end: datetime | None) -> dict[str, Any]:
    def dated(entries: Sequence[schema.DatedEntry]) -> list[Any]:
        kept = [entry for entry in entries if end is None or entry.since < end]
        return [_digest_entry(entry, end) for entry in kept]

    content: dict[str, Any] = {
        "version": file.version,
        "credit": _to_json_value(file.credit),
        "cache_discount": dated(file.cache_discount),
        "tools": {
            meter.name: dated(getattr(file.tools, meter.name))
            for meter in CALL_METERS
            # The first two stand in every digest; a fee that came later does not change those without it.
            if meter.name in ("web_search", "file_search") or getattr(file.tools, meter.name)
        },
        "channels": {
            name: {
                "currency": item.currency,
                "smallest": _to_json_value(item.smallest),
                "largest": _to_json_value(item.largest),
                "prices": dated(item.prices),
                "volume_discounts": dated(item.volume_discounts),
            }
            for name, item in file.channels.items()
        },
        "models": {
            name: {
                "released": model.released.isoformat(),
                "aliases": sorted(model.aliases),
                "prices": dated(model.prices),
            }
            for name, model in file.models.items()
        },
        "groups": {name: dated(group.terms) for name, group in file.groups.items()},
    }
    if end is not None:
        # What came into the file later, and names that cost nothing by themselves, are no part of the past.
        content["models"] = {n: m["prices"] for n, m in content["models"].items() if m["prices"]}
        content["groups"] = {n: terms for n, terms in content["groups"].items() if terms}
        content["channels"] = {n: c["prices"] for n, c in content["channels"].items() if c["prices"]}
    return content


def _digest_entry(entry: schema.DatedEntry, end: datetime | None) -> Any:
    data = _to_json_value(entry)
    if end is not None and entry.until is not None and entry.until >= end:
        del data["until"]
    return data


def _to_json_value(value: Any) -> Any:
    """Models, times and decimals as canonical JSON can hold them; what is not given is left out."""
    if isinstance(value, Decimal):
        return format_plain(value)
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, list):
        return [_to_json_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _to_json_value(item) for key, item in value.items()}
    fields = getattr(type(value), "model_fields", None)
    if fields is not None:
        given = ((name, getattr(value, name)) for name in fields)
        return {name: _to_json_value(item) for name, item in given if item is not None}
    return value
