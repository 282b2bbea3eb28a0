"""The rate cards of a model in a group and service tier, over the period in which nothing about its prices changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from brivionix_billing.decimals import multiply
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import Meter
from brivionix_billing.pricebook.calendars import Calendar
from brivionix_billing.pricebook.compile import with_defaults
from brivionix_billing.pricebook.price_sets import DIMENSIONS, USUAL_REGIONS, PriceSet
from brivionix_billing.rating.labels import Labels
from brivionix_billing.rating.rate_card import STANDARD_VARIATION, ChannelRate, PriceMap, RateCard, Variation
from brivionix_billing.times import format_instant

__all__ = ["CardSet", "CardTerms", "RegionNames"]


class CardTerms(NamedTuple):
    """Everything about the cards of one set that does not depend on the request."""

    model: str
    group: str
    service_tier: str
    start: datetime
    end: datetime
    price_since: datetime
    group_since: datetime
    listed: PriceSet
    own: PriceSet | None
    """The prices of this group, if it has its own."""
    ratio: Decimal
    discount: Decimal | None
    """The default cache discount."""
    fees: Mapping[str, Decimal]
    """The default fees of tools."""
    router: str | None
    router_prices: PriceMap
    is_router_price_nominal: bool
    """Whether ``router_prices`` are in the nominal currency; otherwise they are in ``list_currency``."""
    own_router_prices: PriceMap
    """Group-specific prices of the router, nominal; they replace ``router_prices``."""
    currency: str
    list_currency: str
    exchange_rate: Decimal | None
    nominal_per_credit: Decimal
    channels: Mapping[str, ChannelRate]
    digest: str
    meters: Mapping[str, Meter]
    labels: Labels
    calendars: Mapping[str, Calendar]
    regions: RegionNames
    unpriced_as_container: bool


class RegionNames:
    """The regions of a price book, and the names by which upstreams mean them. Immutable."""

    __slots__ = ("_names",)

    def __init__(self, declared: Mapping[str, list[str]]) -> None:
        names: dict[str, str | None] = dict.fromkeys(USUAL_REGIONS)
        for region, others in declared.items():
            for name in (region, *others):
                names[name.lower()] = None if region == "default" else region
        self._names = names

    def normalize(self, name: str | None) -> str | None:
        """Return the region that a name means; ``None``: the usual price. A name that is not declared is a region."""
        if name is None:
            return None
        return self._names.get(name.lower(), name)


class CardSet:
    """The rate cards of one (model, group, service tier) and period, each made at its first use."""

    __slots__ = ("_selected", "terms")

    def __init__(self, terms: CardTerms) -> None:
        self.terms = terms
        self._selected: dict[Variation, list[RateCard]] = {}

    def contains(self, at: datetime) -> bool:
        """Return whether these prices apply at a time in UTC."""
        return self.terms.start <= at < self.terms.end

    def variation(self, region: str | None, mode: str | None, at: datetime) -> Variation:
        """Return the variation that a request meets. Raises ``region_unavailable``, ``mode_unavailable``."""
        chosen = STANDARD_VARIATION
        if not self.terms.listed.variants and not mode:
            return chosen  # one price in all regions
        chosen = chosen._replace(region=self._require("region", chosen, self.terms.regions.normalize(region), at))
        chosen = chosen._replace(mode=self._require("mode", chosen, mode, at))
        windows = self.terms.listed.options("window", chosen)
        return chosen._replace(window=next((name for name in windows if self.terms.calendars[name].contains(at)), None))

    def _require(self, dimension: str, chosen: Variation, name: str | None, at: datetime) -> str | None:
        """Return the variant that a name means, in any case. A model without regions has one price in all of them."""
        known = self.terms.listed.options(dimension, chosen)
        if not name or name in known:
            return name or None
        for other in known:
            if other.lower() == name.lower():
                return other
        if dimension == "region" and not known:
            return None
        terms = self.terms
        sold = ", ".join(known) or "none"
        advice = "add it to the price file"
        if dimension == "region":
            advice += (
                f"; if it costs the usual price, write regions: {{default: [{safe_repr(name)}]}} at the top of the file"
            )
        raise BillingError(
            f"{dimension}_unavailable",
            f"{terms.model} ({terms.service_tier}) has no price for {dimension} {safe_repr(name)} at "
            f"{format_instant(at)}; known: {sold}; {advice}",
            near=(name, known),
        )

    def card(self, input_tokens: int, variation: Variation = STANDARD_VARIATION) -> RateCard:
        """Return the card that a number of input tokens selects."""
        cards = self.cards(variation)
        for card in cards:
            upper = card.context.upper
            if upper is None or input_tokens <= upper.last_below:
                return card
        return cards[-1]

    def cards(self, variation: Variation = STANDARD_VARIATION) -> list[RateCard]:
        """Return the cards of a variation, one for each context tier, in rising order."""
        cards = self._selected.get(variation)
        if cards is None:
            cards = self._selected[variation] = list(self._make_cards(variation))
        return cards

    def variations(self) -> list[Variation]:
        """Return all variations that have prices of their own, the usual one first."""
        found = [Variation()]
        for dimension in DIMENSIONS:
            found = [
                variation._replace(**{dimension: name})
                for variation in found
                for name in (None, *self.terms.listed.options(dimension, variation))
            ]
        return found

    def _make_cards(self, variation: Variation) -> Iterator[RateCard]:
        terms = self.terms
        selected = terms.listed.select(variation, terms.meters)
        own = None if terms.own is None else terms.own.select(variation, terms.meters)
        exchange_rate = terms.exchange_rate or Decimal(1)
        for index, (context, prices) in enumerate(selected.contexts):
            listed = {**with_defaults(prices, terms.discount, terms.fees), **terms.router_prices}
            # Default fees are in the nominal currency, whatever that of the model is.
            nominal = frozenset(terms.fees.keys() - prices.keys())
            if terms.is_router_price_nominal:
                nominal |= terms.router_prices.keys()
            charged = {
                name: multiply(price if name in nominal else multiply(price, exchange_rate), terms.ratio)
                for name, price in listed.items()
            }
            group_priced: frozenset[str] = frozenset()
            if own is not None:
                group_prices = with_defaults(own.contexts[index][1], terms.discount, {})
                charged |= group_prices
                group_priced = frozenset(group_prices)
            charged |= terms.own_router_prices
            group_priced |= terms.own_router_prices.keys()
            minimum = None
            has_group_minimum = own is not None and own.minimum is not None
            if own is not None and own.minimum is not None:
                minimum = own.minimum
            elif selected.minimum is not None:
                minimum = multiply(multiply(selected.minimum, exchange_rate), terms.ratio)
            yield RateCard(
                model=terms.model,
                group=terms.group,
                service_tier=terms.service_tier,
                context=context,
                start=terms.start,
                end=terms.end,
                price_since=terms.price_since,
                group_since=terms.group_since,
                list_prices=listed,
                ratio=terms.ratio,
                group_priced=group_priced,
                unit_prices=charged,
                currency=terms.currency,
                nominal_per_credit=terms.nominal_per_credit,
                channels=terms.channels,
                price_book_digest=terms.digest,
                variation=variation,
                factors=selected.factors,
                list_currency=terms.list_currency,
                exchange_rate=terms.exchange_rate,
                nominal_meters=nominal,
                router=terms.router,
                minimum=minimum,
                list_minimum=selected.minimum,
                has_group_minimum=has_group_minimum,
                meters=terms.meters,
                labels=terms.labels,
                unpriced_as_container=terms.unpriced_as_container,
            )
