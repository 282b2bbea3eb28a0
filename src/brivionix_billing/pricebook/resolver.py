"""Resolves (model, group, service tier, time) to rate cards, and caches them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.decimals import multiply
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import TOKEN_METERS
from brivionix_billing.pricebook import compile as compiler
from brivionix_billing.pricebook.compile import GroupTerms, TierPrices
from brivionix_billing.rating.rate_card import (
    SERVICE_TIERS,
    ChannelRate,
    PriceVector,
    RateCard,
    normalize_service_tier,
)
from brivionix_billing.times import END_OF_TIME, Timeline, TimelineSpan, format_instant
from brivionix_billing.topup import Channel
from brivionix_billing.usage import MAX_COUNT, Usage

if TYPE_CHECKING:
    # pydantic and PyYAML are needed to read a file, not to rate by it.
    from brivionix_billing.pricebook import schema

__all__ = ["PriceResolver", "ResolvedPrices"]

_SNAPSHOT: Final = re.compile(r"(.+)-([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})", re.ASCII)
_MAX_CACHED: Final = 65_536


class ResolvedPrices(NamedTuple):
    """A model in a group and service tier, over the period in which nothing about its price changes."""

    start: datetime
    end: datetime | None
    """``None``: open. It saves the hot path a comparison."""
    fast_path_max_input: int
    """Up to this number of input tokens, ``short_card`` applies and its three rates suffice; -1: never."""
    short_card: RateCard
    input_rate: int
    cache_read_rate: int
    output_rate: int
    long_card: RateCard | None

    def contains(self, at: datetime) -> bool:
        """Return whether these prices apply at a time in UTC."""
        return self.start <= at and (self.end is None or at < self.end)

    def card_for(self, usage: Usage) -> RateCard:
        """Return the rate card that the input tokens of a usage select."""
        card = self.short_card
        if self.long_card is not None and usage.input_tokens > (card.context_above or 0):
            return self.long_card
        return card


class PriceResolver:
    """The compiled timelines of a price file, and the rate cards resolved from them.

    The same prices are always the same objects, so sums can be kept per rate card.
    """

    def __init__(self, file: schema.PriceFile, digest: str) -> None:
        self.file, self.digest = file, digest
        self.models: Mapping[str, Mapping[str, Timeline[TierPrices]]] = {
            name: compiler.model_timelines(model) for name, model in file.models.items()
        }
        self.names = compiler.name_index(file)
        self.groups = {name: compiler.group_timeline(group, file) for name, group in file.groups.items()}
        self.cache_discounts = compiler.timeline(file.cache_discount, lambda entry: entry.discount)
        self.tool_fees = compiler.tool_timelines(file.tools)
        self.channels: Mapping[str, Channel] = {
            name: compiler.channel(name, item) for name, item in file.channels.items()
        }
        self.recent: dict[tuple[str | None, str, str | None], ResolvedPrices] = {}
        """Prices by the names that callers used last, for the hot path."""
        self._resolved: dict[tuple[str, str, str], tuple[ResolvedPrices, ...]] = {}

    def resolve_model(self, name: object) -> str:
        """Return the model that a name, alias or dated snapshot means. Raises ``unknown_model``."""
        model = self.names.get(name) if isinstance(name, str) else None
        if model is None and isinstance(name, str) and len(name) <= 256:
            model = self._resolve_snapshot(name)
        if model is None:
            raise BillingError(
                "unknown_model", f"no model {safe_repr(name)} in the price file; add it, or an alias of another model"
            )
        return model

    def _resolve_snapshot(self, name: str) -> str | None:
        snapshot = _SNAPSHOT.fullmatch(name)
        base = self.names.get(snapshot[1]) if snapshot else None
        if snapshot is None or base is None:
            return None
        try:
            day = date.fromisoformat(snapshot[2])
        except ValueError:
            return None
        return base if day >= self.file.models[base].released else None

    def service_tiers(self, model: str, at: datetime) -> list[str]:
        """Return the service tiers in which a model is sold at a time in UTC. Raises ``unknown_model``."""
        timelines = self.models[self.resolve_model(model)]
        return [tier for tier in SERVICE_TIERS if timelines[tier].at(at).value is not None]

    def group_terms(self, group: object, at: datetime) -> TimelineSpan[GroupTerms]:
        """Return the terms of a group at a time in UTC. Raises ``unknown_group``."""
        timeline = self.groups.get(group) if isinstance(group, str) else None
        if timeline is None:
            # A gateway passes messages on, so this one must not disclose the names of other groups.
            raise BillingError("unknown_group", f"no group {safe_repr(group)} in the price file; add it")
        span = timeline.at(at)
        if span.value is None:
            raise BillingError(
                "unknown_group", f"group {safe_repr(group)} has no terms at {format_instant(at)}; add earlier terms"
            )
        return span

    def resolve_recent(self, model: str | None, group: str, at: datetime, tier: str | None) -> ResolvedPrices:
        """Return :meth:`resolve`, looked up by the caller's own names first."""
        try:
            resolved = self.recent[model, group, tier]
            if resolved.contains(at):
                return resolved
        except (KeyError, TypeError):
            pass
        resolved = self.resolve(model, group, at, tier)
        if len(self.recent) >= _MAX_CACHED:
            self.recent.clear()  # names that callers make up must not fill the memory
        self.recent[model, group, tier] = resolved
        return resolved

    def resolve(self, name: object, group: str, at: datetime, tier_name: object) -> ResolvedPrices:
        """Return all prices that a request of a model, group and service tier may meet at a time in UTC.

        Raises ``unknown_model``, ``unknown_group``, ``model_not_allowed``, ``unknown_service_tier``,
        ``service_tier_unavailable``, ``no_price``.
        """
        if name is None:
            raise BillingError("unknown_model", "no model; pass model, or a usage that states the served one")
        model, tier = self.resolve_model(name), normalize_service_tier(tier_name)
        key = (model, group, tier)
        known = self._resolved.get(key, ()) if isinstance(group, str) else ()
        for resolved in known:
            if resolved.contains(at):
                return resolved
        resolved = self._resolve(model, group, at, tier)
        self._resolved[key] = (*known, resolved)
        return resolved

    def _resolve(self, model: str, group: str, at: datetime, tier: str) -> ResolvedPrices:
        group_span = self.group_terms(group, at)
        terms = group_span.value
        if terms is None or model not in terms.allowed_models:
            raise BillingError(
                "model_not_allowed",
                f"group {safe_repr(group)} may not use {model} at {format_instant(at)}; add it to the group's 'models'",
            )
        prices = self.models[model][tier].at(at)
        if prices.value is None:
            raise self._not_sold_error(model, tier, at)
        discount = self.cache_discounts.at(at)
        fee_spans = {name: timeline.at(at) for name, timeline in self.tool_fees.items()}
        channel_spans = {name: channel.prices.at(at) for name, channel in self.channels.items()}
        spans: list[TimelineSpan[Any]] = [prices, discount, *fee_spans.values(), *channel_spans.values()]
        start = max(group_span.start, *(span.start for span in spans))
        end = min(group_span.end, *(span.end for span in spans))
        fees = {name: span.value for name, span in fee_spans.items() if span.value is not None}
        listed_prices, group_prices = prices.value, terms.prices.get((model, tier))
        ratio = terms.ratios.get(model, terms.ratio)

        def price_vector(tier_prices: TierPrices, is_long: bool) -> PriceVector:
            listed = (tier_prices.long if is_long else None) or tier_prices.short
            return compiler.price_vector(listed, discount.value, fees)

        def rate_card(is_long: bool) -> RateCard:
            listed = price_vector(listed_prices, is_long)
            charged = [None if price is None else multiply(price, ratio) for price in listed]
            if group_prices is not None:
                own = price_vector(group_prices, is_long)
                for meter in TOKEN_METERS:
                    charged[meter.position] = own[meter.position]
            return RateCard(
                model=model,
                group=group,
                service_tier=tier,
                context_tier="long" if is_long else "short",
                context_above=listed_prices.above,
                start=start,
                end=end,
                price_since=prices.start,
                group_since=group_span.start,
                list_prices=listed,
                ratio=ratio,
                has_group_prices=group_prices is not None,
                unit_prices=tuple(charged),
                currency=self.file.credit.currency,
                nominal_per_credit=self.file.credit.nominal_per_credit,
                channels={
                    name: ChannelRate(self.channels[name].currency, span.value, span.start)
                    for name, span in channel_spans.items()
                    if span.value is not None
                },
                price_book_digest=self.digest,
            )

        short_card = rate_card(False)
        above = listed_prices.above
        basic_rates = short_card.scaled_rates[:3]
        max_input = MAX_COUNT if above is None else above
        return ResolvedPrices(
            start,
            None if end == END_OF_TIME else end,
            -1 if None in basic_rates else max_input,
            short_card,
            basic_rates[0] or 0,
            basic_rates[1] or 0,
            basic_rates[2] or 0,
            None if above is None else rate_card(True),
        )

    def _not_sold_error(self, model: str, tier: str, at: datetime) -> BillingError:
        tiers = self.service_tiers(model, at)
        if not tiers:
            return BillingError(
                "no_price", f"{model} has no price at {format_instant(at)}; its first entry starts later, or it ended"
            )
        return BillingError(
            "service_tier_unavailable",
            f"{model} is not sold in tier {tier} at {format_instant(at)}; use one of {', '.join(tiers)}",
        )

    def next_change(self, model: str, group: object, at: datetime, service_tier: object) -> datetime | None:
        """Return the first time after ``at`` when a price of a model may change, or ``None``."""
        tier = normalize_service_tier(service_tier)
        spans: list[TimelineSpan[Any]] = [
            self.models[self.resolve_model(model)][tier].at(at),
            self.cache_discounts.at(at),
        ]
        if isinstance(group, str) and group in self.groups:
            spans.append(self.groups[group].at(at))
        spans += [timeline.at(at) for timeline in self.tool_fees.values()]
        spans += [channel.prices.at(at) for channel in self.channels.values()]
        end = min(span.end for span in spans)
        return None if end == END_OF_TIME else end

    @property
    def nominal_per_credit(self) -> Decimal:
        """The nominal quota that one Credit buys."""
        return self.file.credit.nominal_per_credit
