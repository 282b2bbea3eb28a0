"""Compiles a validated price file into timelines and plain tuples, from which rate cards are resolved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from brivionix_billing.decimals import after_discount, format_plain, multiply
from brivionix_billing.meters import METERS, TOKEN_METERS, Meter, custom_meter
from brivionix_billing.money import Payable
from brivionix_billing.pricebook.names import ModelNames, name_pattern
from brivionix_billing.pricebook.patterns import assign_patterns, matcher
from brivionix_billing.pricebook.plans import Plan
from brivionix_billing.pricebook.price_sets import PriceSet, compile_price_set
from brivionix_billing.times import Timeline
from brivionix_billing.topup import Channel, VolumeDiscount, VolumeDiscountTier

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = [
    "DefaultTimelines",
    "Descriptions",
    "GroupTerms",
    "ModelInfo",
    "channel",
    "group_timeline",
    "meter_table",
    "model_names",
    "model_timelines",
    "plan",
    "timeline",
    "with_defaults",
]

LocalizedText = dict[str, dict[str, str]]
D = TypeVar("D", bound="schema.DefaultEntry")
E = TypeVar("E", bound="schema.DatedEntry")
T = TypeVar("T")


class ModelInfo(NamedTuple):
    """What a price file states about a model beside its prices."""

    name: str
    encoding: str | None
    """tiktoken's name of the vocabulary; ``None``: not stated."""
    token_family: str | None
    """The token family by which requests are counted; ``None``: chosen by the model's name."""
    window: int | None
    """Input and output together, in tokens; ``None``: not stated."""
    max_input: int | None
    max_output: int | None
    released: date | None
    aliases: tuple[str, ...]


class Descriptions(NamedTuple):
    """Display texts of a price file: name -> language (``en``, ``zh_CN``; ``""`` for all) -> text."""

    models: LocalizedText
    groups: LocalizedText
    channels: LocalizedText
    model_names: LocalizedText
    """Display names; empty where the file states none. The same for groups and channels."""
    group_names: LocalizedText
    channel_names: LocalizedText
    vendors: LocalizedText
    """Model -> the name of its vendor."""
    calendars: LocalizedText
    """Calendar -> display name."""
    plans: LocalizedText
    plan_names: LocalizedText


class GroupTerms(NamedTuple):
    """The terms of a group, prepared for look-ups."""

    ratio: Decimal
    allowed_models: frozenset[str]
    ratios: dict[str, Decimal]
    """Models with their own ratio in this group."""
    prices: dict[tuple[str, str], PriceSet]
    """(model, service tier) with their own prices in this group."""


def timeline(entries: Sequence[E], value: Callable[[E], T]) -> Timeline[T]:
    """Return a timeline of what ``value`` takes from each dated entry."""
    return Timeline([(entry.since, entry.until, value(entry)) for entry in entries])


def model_names(file: schema.PriceFile) -> ModelNames:
    """Return the resolver of all names of the models: their own, their aliases, and the patterns of the file."""
    exact = {name: name for name in file.models}
    patterns = [name_pattern(text, target) for text, target in file.aliases.items() if "*" in text]
    for name, model in file.models.items():
        for alias in model.aliases:
            if "*" in alias:
                patterns.append(name_pattern(alias, name))
            else:
                exact[alias] = name
    for text, target in file.aliases.items():
        if "*" not in text:
            exact[text] = exact.get(target, target)
    return ModelNames(exact, patterns, {name: model.released for name, model in file.models.items()})


def meter_table(file: schema.PriceFile) -> Mapping[str, Meter]:
    """Return all meters of a price file: the built-in ones, then its own."""
    if not file.meters:
        return METERS
    own = {name: custom_meter(name, item.unit, item.per, item.label) for name, item in file.meters.items()}
    return MappingProxyType({**METERS, **own})


def model_timelines(model: schema.Model) -> dict[str, Timeline[PriceSet]]:
    """Return the prices of each service tier over time. An entry that does not name a tier does not change it."""
    entries: dict[str, list[tuple[datetime, datetime | None, PriceSet]]] = {}
    for entry in model.prices:
        for tier, prices in entry.tiers.items():
            entries.setdefault(tier, []).append((entry.since, entry.until, compile_price_set(prices)))
    return {tier: Timeline(dated) for tier, dated in entries.items()}


def group_timeline(group: schema.Group, file: schema.PriceFile) -> Timeline[GroupTerms]:
    """Return the terms of a group over time, its patterns resolved to names."""

    def terms(entry: schema.DatedTerms) -> GroupTerms:
        allowed = list(filter(matcher(entry.models), file.models))
        assigned = assign_patterns(entry.overrides, allowed) if entry.overrides else {}
        overrides = {name: entry.overrides[winners[0]] for name, winners in assigned.items()}
        return GroupTerms(
            entry.ratio,
            frozenset(allowed),
            {name: o.ratio for name, o in overrides.items() if o.ratio is not None},
            {
                (name, tier): compile_price_set(prices)
                for name, o in overrides.items()
                if o.prices is not None
                for tier, prices in o.prices.tiers.items()
            },
        )

    return timeline(group.terms, terms)


class DefaultTimelines:
    """The dated defaults of a price file, per model: the cache discount, and the fees of tools.

    Models to which the same entries apply share one timeline.
    """

    def __init__(self, file: schema.PriceFile) -> None:
        self.models = file.models
        names = list(file.models)
        self._discounts = _entries_by_model(file.cache_discount, lambda entry: entry.discount, names)
        self._fees = {
            tool: _entries_by_model(entries, lambda entry: entry.per_1000_calls, names)
            for tool, entries in file.tools.fees.items()
        }

    def cache_discount(self, model: str) -> Timeline[Decimal]:
        """Return the default cache discount of a model over time."""
        item = self.models[model]
        return self._discounts(model) if item.cache_discount and not item.routes_to else _EMPTY

    def tool_fees(self, model: str) -> dict[str, Timeline[Decimal]]:
        """Return the default fees of the tools that a model may use, over time, by meter."""
        item = self.models[model]
        if item.routes_to:  # the fees of the model that serves the request apply
            return {}
        allowed = self._fees.keys() if item.tools is None else set(item.tools)
        return {tool: timeline_of(model) for tool, timeline_of in self._fees.items() if tool in allowed}


_EMPTY: Timeline[Decimal] = Timeline([])


def _entries_by_model(
    entries: Sequence[D], value: Callable[[D], Decimal], names: Iterable[str]
) -> Callable[[str], Timeline[Decimal]]:
    """Return a function from a model to the timeline of the entries that apply to it."""
    if all(entry.models is None for entry in entries):
        everywhere = timeline(entries, value)
        return lambda model: everywhere
    tests = [(lambda name: True) if entry.models is None else matcher(entry.models) for entry in entries]
    timelines: dict[tuple[bool, ...], Timeline[Decimal]] = {}

    def timeline_of(model: str) -> Timeline[Decimal]:
        applies = tuple(test(model) for test in tests)
        found = timelines.get(applies)
        if found is None:
            kept = [entry for entry, flag in zip(entries, applies, strict=True) if flag]
            found = timelines[applies] = timeline(kept, value)
        return found

    return timeline_of


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


def plan(name: str, terms: schema.PlanTerms, channels: Mapping[str, Channel]) -> Plan:
    """Return a plan by its terms."""
    return Plan(
        name=name,
        credits=terms.credits,
        period=terms.period,
        zone=terms.time_zone,
        prices={key: Payable(format_plain(price), channels[key].currency) for key, price in terms.prices.items()},
        models=tuple(terms.models),
        groups=tuple(terms.groups),
        tags=tuple(terms.tags),
        priority=terms.priority,
        rollover=terms.rollover,
        overflow=terms.overflow,
    )


_CACHE_READS = tuple(
    meter for meter in TOKEN_METERS if meter.cache == "read" and meter.fallback not in meter.parents[:1]
)


def with_defaults(
    listed: Mapping[str, Decimal], discount: Decimal | None, fees: Mapping[str, Decimal]
) -> dict[str, Decimal]:
    """Return the price of every meter: as listed, else the default fee, and for a cache read the default discount."""
    prices = {**fees, **listed}
    if discount is not None:
        for meter in _CACHE_READS:
            base = listed.get(meter.uncached_meter or "")
            if base is not None and meter.name not in prices:
                prices[meter.name] = multiply(base, after_discount(discount))
    return prices


def dated_entries(file: schema.PriceFile) -> list[schema.DatedEntry]:
    """Return all dated entries of the file."""
    out: list[schema.DatedEntry] = [*file.cache_discount]
    for fees in file.tools.fees.values():
        out += fees
    for rates in file.exchange_rates.values():
        out += rates
    for calendar in file.calendars.values():
        out += calendar.rules
    for item in file.channels.values():
        out += [*item.prices, *item.volume_discounts]
    for model in file.models.values():
        out += model.prices
    for group in file.groups.values():
        out += group.terms
    for plan in file.plans.values():
        out += plan.terms
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

    def of(parts: Mapping[str, object], field: str = "description") -> LocalizedText:
        return {name: dict(getattr(part, field) or {}) for name, part in parts.items()}

    return Descriptions(
        of(file.models),
        of(file.groups),
        of(file.channels),
        of(file.models, "display_name"),
        of(file.groups, "display_name"),
        of(file.channels, "display_name"),
        of(file.models, "vendor"),
        of(file.calendars, "display_name"),
        of(file.plans),
        of(file.plans, "display_name"),
    )
