"""Resolves (model, group, service tier, time) to rate cards, and caches them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.decimals import multiply
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import compile as compiler
from brivionix_billing.pricebook.calendars import compile_calendar
from brivionix_billing.pricebook.card_set import CardSet, CardTerms, RegionNames
from brivionix_billing.pricebook.compile import GroupTerms
from brivionix_billing.pricebook.labels import collect_labels
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.pricebook.price_sets import PriceSet
from brivionix_billing.rating.rate_card import ChannelRate, RateCard
from brivionix_billing.rating.service_tiers import TierNames
from brivionix_billing.times import END_OF_TIME, Timeline, TimelineSpan, format_instant
from brivionix_billing.topup import Channel
from brivionix_billing.usage import MAX_COUNT

if TYPE_CHECKING:
    # pydantic and PyYAML are needed to read a file, not to rate by it.
    from brivionix_billing.pricebook import schema

__all__ = ["PriceResolver", "ResolvedPrices"]

_MAX_CACHED: Final = 65_536
_start_of: Final = attrgetter("start")
_START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)
_NO_PRICES: Final[Timeline[PriceSet]] = Timeline([])


class ResolvedPrices(NamedTuple):
    """A model in a group and service tier, over the period in which nothing about its prices changes."""

    start: datetime
    end: datetime | None
    """``None``: open. It saves the hot path a comparison."""
    fast_path_max_input: int
    """Up to this number of input tokens, ``base_card`` applies and its three rates suffice; -1: never."""
    base_card: RateCard
    input_rate: int
    cache_read_rate: int
    output_rate: int
    cards: CardSet

    def contains(self, at: datetime) -> bool:
        """Return whether these prices apply at a time in UTC."""
        return self.start <= at and (self.end is None or at < self.end)


def _resolved_prices(cards: CardSet) -> ResolvedPrices:
    card, terms = cards.card(0), cards.terms
    upper = card.context.upper
    rates = card.scaled_rates
    max_input = -1
    if card.is_plain and terms.listed.is_plain:
        max_input = MAX_COUNT if upper is None else upper.last_below
    return ResolvedPrices(
        terms.start,
        None if terms.end == END_OF_TIME else terms.end,
        max_input,
        card,
        rates.get("input", 0),
        rates.get("cache_read", 0),
        rates.get("output", 0),
        cards,
    )


class PriceResolver:
    """The compiled timelines of a price file, and the rate cards resolved from them.

    The same prices are always the same objects, so sums can be kept per rate card.
    """

    def __init__(self, file: schema.PriceFile, digest: str) -> None:
        self.file, self.digest = file, digest
        self.models: Mapping[str, Mapping[str, Timeline[PriceSet]]] = {
            name: compiler.model_timelines(model) for name, model in file.models.items()
        }
        self.names = compiler.model_names(file)
        self.tiers = TierNames(file.service_tiers)
        self.regions = RegionNames(file.regions)
        self.meters = compiler.meter_table(file)
        self.labels = collect_labels(file)
        self.groups = {name: compiler.group_timeline(group, file) for name, group in file.groups.items()}
        self.defaults = compiler.DefaultTimelines(file)
        self.calendars = {name: compile_calendar(name, item) for name, item in file.calendars.items()}
        self.exchange_rates = {
            currency: compiler.timeline(entries, lambda entry: entry.rate)
            for currency, entries in file.exchange_rates.items()
        }
        self.channels: Mapping[str, Channel] = {
            name: compiler.channel(name, item) for name, item in file.channels.items()
        }
        self.routes: Mapping[str, Callable[[str], bool]] = {
            name: matcher(model.routes_to) for name, model in file.models.items() if model.routes_to
        }
        """Router -> a test of the models that it may serve."""
        self.recent: dict[tuple[str | None, str, str | None], ResolvedPrices] = {}
        """Prices by the names that callers used last, for the hot path."""
        self._resolved: dict[tuple[str, str, str, str | None], tuple[ResolvedPrices, ...]] = {}

    def resolve_model(self, name: object) -> str:
        """Return the model that a name, alias or dated snapshot means. Raises ``unknown_model``."""
        model = self.names.resolve(name) if isinstance(name, str) else None
        if model is None:
            raise BillingError(
                "unknown_model",
                f"no model {safe_repr(name)} in the price file; add it, or an alias of another model",
                near=(name, self.names.exact),
            )
        return model

    def service_tiers(self, model: str, at: datetime) -> list[str]:
        """Return the service tiers in which a model is sold at a time in UTC. Raises ``unknown_model``."""
        timelines = self.models[self.resolve_model(model)]
        return [tier for tier in self.tiers.tiers if tier in timelines and timelines[tier].at(at).value is not None]

    def group_terms(self, group: object, at: datetime) -> TimelineSpan[GroupTerms]:
        """Return the terms of a group at a time in UTC. Raises ``unknown_group``."""
        timeline = self.groups.get(group) if isinstance(group, str) else None
        if timeline is None:
            raise self._unknown_group_error(group)
        span = timeline.at(at)
        if span.value is None:
            later = "" if span.end == END_OF_TIME else f"; its next terms start at {format_instant(span.end)}"
            raise BillingError(
                "unknown_group",
                f"group {safe_repr(group)} has no terms at {format_instant(at)}{later}; add earlier terms, or correct "
                "the time",
            )
        return span

    def _unknown_group_error(self, group: object) -> BillingError:
        return BillingError(
            "unknown_group", f"no group {safe_repr(group)} in the price file; add it", near=(group, self.groups)
        )

    def resolve_recent(
        self, model: str | None, group: str, at: datetime, tier: str | None, served: str | None
    ) -> ResolvedPrices:
        """Return :meth:`resolve`, looked up by the caller's own names first."""
        try:
            resolved = self.recent[model, group, tier]
            if resolved.contains(at):
                return resolved
        except (KeyError, TypeError):
            pass
        resolved = self.resolve(model, group, at, tier, served)
        # Where the served model decides, the names of the caller are not enough, and the fast path must find nothing.
        if resolved.cards.terms.router is None and self.file.priced_model == "requested":
            if len(self.recent) >= _MAX_CACHED:
                self.recent.clear()  # names that callers make up must not fill the memory
            self.recent[model, group, tier] = resolved
        return resolved

    def resolve(
        self,
        name: object,
        group: str,
        at: datetime,
        tier_name: object,
        served: object = None,
        *,
        router_fee_only: bool = False,
    ) -> ResolvedPrices:
        """Return all prices that a request of a model, group and service tier may meet at a time in UTC.

        ``served`` is the model that served the request, which decides the price if ``name`` is a router;
        ``router_fee_only`` is for a table of prices, where no model has served anything.

        Raises ``unknown_model``, ``unknown_group``, ``model_not_allowed``, ``unknown_service_tier``,
        ``service_tier_unavailable``, ``no_price``.
        """
        if name is None:
            raise BillingError("unknown_model", "no model; pass model, or a usage that states the served one")
        model, tier = self.resolve_model(name), self.tiers.normalize(tier_name)
        router = None
        if model in self.routes and not router_fee_only:
            router, model = model, self._routed_model(model, served)
        key = (model, group, tier, router)
        known = self._resolved.get(key, ()) if isinstance(group, str) else ()
        index = bisect_right(known, at, key=_start_of)  # they are in order, and do not overlap
        if index and known[index - 1].contains(at):
            return known[index - 1]
        resolved = _resolved_prices(CardSet(self._terms(model, group, at, tier, router)))
        self._resolved[key] = (*known[:index], resolved, *known[index:])
        return resolved

    def _routed_model(self, router: str, served: object) -> str:
        if served is None:
            raise BillingError(
                "unknown_model",
                f"{router} is a router, and the usage does not state the model that served the request; pass the "
                "response, or Usage(model=...)",
            )
        model = self.resolve_model(served)
        if model in self.routes or not self.routes[router](model):
            raise BillingError(
                "model_not_allowed", f"{router} may not serve {safe_repr(served)}; add it to its 'routes_to'"
            )
        return model

    def list_cards(self, model: str, at: datetime, tier: str) -> CardSet:
        """Return the cards of a model at list price. Raises ``service_tier_unavailable``, ``no_price``."""
        everyone = TimelineSpan(_START_OF_TIME, END_OF_TIME, GroupTerms(Decimal(1), frozenset({model}), {}, {}))
        return CardSet(self._terms(model, "", at, tier, None, everyone))

    def _terms(
        self,
        model: str,
        group: str,
        at: datetime,
        tier: str,
        router: str | None,
        group_span: TimelineSpan[GroupTerms] | None = None,
    ) -> CardTerms:
        group_span = group_span or self.group_terms(group, at)
        terms = group_span.value
        named = router or model
        if terms is None or named not in terms.allowed_models:
            raise BillingError(
                "model_not_allowed",
                f"group {safe_repr(group)} may not use {named} at {format_instant(at)}; add it to the group's 'models'",
            )
        prices = self.models[model].get(tier, _NO_PRICES).at(at)
        if prices.value is None:
            raise self._not_sold_error(model, tier, at)
        spans: list[TimelineSpan[Any]] = [group_span, prices]
        discount = self._take(spans, self.defaults.cache_discount(model), at)
        fees = {name: self._take(spans, timeline, at) for name, timeline in self.defaults.tool_fees(model).items()}
        channel_spans = {name: channel.prices.at(at) for name, channel in self.channels.items()}
        spans += channel_spans.values()
        list_currency, exchange_rate = self._exchange(spans, model, at)
        router_prices: Mapping[str, Decimal] = {}
        own_router: PriceSet | None = None
        is_router_price_nominal = True
        if router is not None:
            listed = self._take(spans, self.models[router].get("standard", _NO_PRICES), at)
            if listed is None:
                raise self._not_sold_error(router, "standard", at)
            router_prices = listed.prices
            own_router = terms.prices.get((router, "standard"))
            router_currency, router_rate = self._exchange(spans, router, at)
            is_router_price_nominal = router_currency != list_currency or exchange_rate is None
            if is_router_price_nominal and router_rate is not None:
                # A card has one list currency, that of the served model. A fee in a third one is stated converted.
                router_prices = {name: multiply(price, router_rate) for name, price in router_prices.items()}
        return CardTerms(
            model=model,
            group=group,
            service_tier=tier,
            start=max(span.start for span in spans),
            end=min(span.end for span in spans),
            price_since=prices.start,
            group_since=group_span.start,
            listed=prices.value,
            own=terms.prices.get((model, tier)),
            ratio=terms.ratios.get(named, terms.ratio),
            discount=discount,
            fees={name: fee for name, fee in fees.items() if fee is not None},
            router=router,
            router_prices=router_prices,
            is_router_price_nominal=is_router_price_nominal,
            own_router_prices={} if own_router is None else own_router.prices,
            currency=self.file.credit.currency,
            list_currency=list_currency,
            exchange_rate=exchange_rate,
            nominal_per_credit=self.file.credit.nominal_per_credit,
            channels={
                name: ChannelRate(self.channels[name].currency, span.value, span.start)
                for name, span in channel_spans.items()
                if span.value is not None
            },
            digest=self.digest,
            meters=self.meters,
            labels=self.labels,
            calendars=self.calendars,
            regions=self.regions,
            unpriced_as_container=self.unpriced_tokens(model) == "as_container",
        )

    def _exchange(self, spans: list[TimelineSpan[Any]], model: str, at: datetime) -> tuple[str, Decimal | None]:
        """Return the list currency of a model and its exchange rate, and add the span of the rate.

        The rate is ``None`` in the nominal currency. Raises ``no_price`` if there is no rate at that time.
        """
        currency = self.file.credit.currency
        listed = self.file.models[model].currency or currency
        if listed == currency:
            return listed, None
        rate: Decimal | None = self._take(spans, self.exchange_rates[listed], at)
        if rate is None:
            raise BillingError(
                "no_price",
                f"no exchange rate from {listed} to {currency} at {format_instant(at)}; add one to exchange_rates",
            )
        return listed, rate

    @staticmethod
    def _take(spans: list[TimelineSpan[Any]], timeline: Timeline[Any], at: datetime) -> Any:
        """Return the value of a timeline at a time, and add its span to those that bound the period."""
        span = timeline.at(at)
        spans.append(span)
        return span.value

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

    def unpriced_tokens(self, model: str) -> str:
        """Return what tokens of a model cost on a meter without a price: ``refuse`` or ``as_container``."""
        return self.file.models[model].unpriced_tokens or self.file.unpriced_tokens

    def list_price_timelines(self, model: str, tier: str) -> list[Timeline[Any]]:
        """Return every timeline that the list price of a model in a service tier depends on."""
        timelines: list[Timeline[Any]] = [
            self.models[model].get(tier, _NO_PRICES),
            self.defaults.cache_discount(model),
            *self.defaults.tool_fees(model).values(),
        ]
        currency = self.file.models[model].currency
        if currency in self.exchange_rates:
            timelines.append(self.exchange_rates[currency])
        return timelines

    def next_change(self, model: str, group: object, at: datetime, service_tier: object) -> datetime | None:
        """Return the first time after ``at`` when a dated entry of a model's price starts or ends, or ``None``.

        Raises ``unknown_model``, ``unknown_group``, ``unknown_service_tier``.
        """
        timelines = self.list_price_timelines(self.resolve_model(model), self.tiers.normalize(service_tier))
        timelines += [channel.prices for channel in self.channels.values()]
        timeline = self.groups.get(group) if isinstance(group, str) else None
        if timeline is None:
            raise self._unknown_group_error(group)
        timelines.append(timeline)
        end = min(timeline.at(at).end for timeline in timelines)
        return None if end == END_OF_TIME else end

    @property
    def nominal_per_credit(self) -> Decimal:
        """The nominal quota that one Credit buys."""
        return self.file.credit.nominal_per_credit
