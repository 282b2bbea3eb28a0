"""What the price file asks for a request, in quota, and what it would ask under other conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.meters import CONTAINERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.rating.rate_card import RateCard
from brivionix_billing.reconcile.gateway.log_values import sum_products
from brivionix_billing.times import format_instant

__all__ = ["Alternative", "Offer", "Offers", "make_offer", "own_offer"]

_MAX_DATES: Final = 24
"""Maximum number of other dates that are tried, the closest first."""
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Offer:
    """The prices of one rate card, in quota per unit."""

    card: RateCard
    listed: Mapping[str, Fraction]
    """Meter -> price before the ratio of the group. For a price of the group itself, what the ratio would give."""
    ratio: Fraction
    minimum: Fraction
    """The minimum charge of a request, after the ratio."""

    def price(self, kind: str) -> Fraction | None:
        """Return the price of a meter before the ratio. Tokens without a price cost what their container costs."""
        found = self.listed.get(kind)
        if found is not None:
            return found
        meter = self.card.meters.get(kind)
        names = [*([meter.fallback] if meter is not None and meter.fallback else []), *CONTAINERS.get(kind, ())]
        return next((self.listed[name] for name in names if name in self.listed), None)

    def total(
        self, quantities: Mapping[str, int] | Mapping[str, Fraction], factor: Fraction = Fraction(1)
    ) -> Fraction | None:
        """Return the price of a request before the ratio; ``None`` if a quantity has no price.

        A price per request is multiplied by ``factor``.
        """
        request = self.listed.get("request")
        products: list[tuple[int | Fraction, Fraction]] = [] if request is None else [(factor, request)]
        for kind, quantity in quantities.items():
            price = self.price(kind)
            if price is None:
                return None
            products.append((quantity, price))
        return sum_products(products)

    def call_price(self) -> Fraction | None:
        """Return the price of a call: per request, else of the only second, image or other unit that is sold.

        A gateway multiplies it by the number of seconds or images.
        """
        if "request" in self.listed:
            return self.listed["request"]
        units = [
            name for name in self.listed if not self.card.meter(name).is_token and not self.card.meter(name).is_tool
        ]
        return self.listed[units[0]] if len(units) == 1 else None


class Alternative(NamedTuple):
    """Other conditions under which a charge may have been computed."""

    cause: str
    offer: Offer
    text: str
    """The conditions, for people."""


def make_offer(card: RateCard, quota_per_unit: int) -> Offer:
    """Return the prices of a card in quota."""
    exchange = Fraction(card.exchange_rate or 1)
    ratio = Fraction(card.ratio)
    listed = {}
    for name, price in card.unit_prices.items():
        per = card.meter(name).per
        if name in card.group_priced:
            nominal = Fraction(price) / ratio if ratio else Fraction(price)
        else:
            rate = Fraction(1) if card.is_nominal(name) else exchange
            nominal = Fraction(card.list_prices[name]) * rate
        listed[name] = nominal * quota_per_unit / per
    listed.pop("minimum_charge", None)
    return Offer(card, listed, ratio, Fraction(card.minimum or 0) * quota_per_unit)


def own_offer(offer: Offer, quota_per_unit: int) -> Offer:
    """Return an offer with the prices that the group has of its own, and the ratio 1.

    A gateway without such prices may have them as ratios of the model, and no ratio of the group.
    """
    card = offer.card
    listed = {
        name: Fraction(price) * quota_per_unit / card.meter(name).per
        for name, price in card.unit_prices.items()
        if name in offer.listed
    }
    return Offer(card, listed, Fraction(1), offer.minimum)


class Offers:
    """Looks up offers in a price book. The same card is always the same offer."""

    def __init__(self, book: PriceBook, quota_per_unit: int) -> None:
        self.book, self.quota_per_unit = book, quota_per_unit
        self._offers: dict[int, Offer] = {}

    def of_card(self, card: RateCard) -> Offer:
        """Return the offer of a rate card."""
        offer = self._offers.get(id(card))
        if offer is None:
            offer = self._offers[id(card)] = make_offer(card, self.quota_per_unit)
        return offer

    def card_set(self, model: str, group: str, at: datetime, tier: str | None) -> CardSet:
        """Return the cards of a model in a group. Raises what ``PriceBook.rate`` raises."""
        return self.book.resolver.resolve(model, group, at, tier, router_fee_only=True).cards

    def offer(self, cards: CardSet, at: datetime, input_total: int) -> Offer:
        """Return the offer for a request of this size at this time."""
        return self.of_card(cards.card(input_total, cards.variation(None, None, at)))

    def group_ratios(self, model: str, at: datetime) -> dict[str, Fraction]:
        """Return the ratio of every group for a model at a time."""
        ratios = {}
        for name, timeline in self.book.resolver.groups.items():
            terms = timeline.at(at).value
            if terms is not None:
                ratios[name] = Fraction(terms.ratios.get(model, terms.ratio))
        return ratios

    def alternatives(self, cards: CardSet, at: datetime, input_total: int) -> Iterator[Alternative]:
        """Yield the offers of other context tiers, dates and windows, and service tiers, in this order."""
        current = self.offer(cards, at, input_total).card
        for card in cards.cards(current.variation):
            if card is not current:
                yield Alternative("context_tier", self.of_card(card), f"the prices for {card.context} input tokens")
        yield from self._other_dates(cards, at, input_total, current)
        for tier in self.book.resolver.service_tiers(cards.terms.model, at):
            if tier != cards.terms.service_tier:
                found = self._try(cards.terms.model, cards.terms.group, at, tier)
                if found is not None:
                    for card in found.cards(found.variation(None, None, at)):
                        yield Alternative("service_tier", self.of_card(card), f"the prices of service tier {tier}")

    def _other_dates(self, cards: CardSet, at: datetime, input_total: int, current: RateCard) -> Iterator[Alternative]:
        for variation in cards.variations():
            if variation.window != current.variation.window and variation._replace(window=None) == (
                current.variation._replace(window=None)
            ):
                yield Alternative(
                    "price_date", self.of_card(cards.card(input_total, variation)), f"the prices of {variation.window}"
                )
        terms, resolver = cards.terms, self.book.resolver
        timelines = resolver.list_price_timelines(terms.model, terms.service_tier)
        instants = {entry.start for line in timelines for entry in line.entries}
        instants |= {entry.start for entry in resolver.groups[terms.group].entries}
        earliest = min(instants, default=at)
        for when in sorted(instants, key=lambda when: (abs(when - at), when))[:_MAX_DATES]:
            for instant in (when, when - _INSTANT) if when > earliest else (when,):
                if cards.contains(instant):
                    continue
                found = self._try(terms.model, terms.group, instant, terms.service_tier)
                if found is not None:
                    card = found.card(input_total, found.variation(None, None, instant))
                    yield Alternative(
                        "price_date", self.of_card(card), f"the prices of {format_instant(card.price_since)}"
                    )

    def _try(self, model: str, group: str, at: datetime, tier: str) -> CardSet | None:
        try:
            return self.card_set(model, group, at, tier)
        except BillingError:
            return None
