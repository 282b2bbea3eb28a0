"""The rate cards of a model in a group and tier, and their figures as the price list writes them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, format_plain, multiply
from brivionix_billing.errors import BillingError
from brivionix_billing.meters import MINIMUM_METER, REQUEST_METERS, Meter
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.charge import UNIT_DECIMALS
from brivionix_billing.rating.rate_card import Variation

__all__ = [
    "CardKey",
    "Cards",
    "Json",
    "all_meters",
    "cards_of",
    "context_of",
    "list_nominal_prices",
    "minimum_price",
    "nominal_prices",
    "optional_plain",
    "topup_price",
    "topup_prices",
]

Json = dict[str, Any]
_NOT_SOLD: Final = frozenset({"model_not_allowed", "service_tier_unavailable", "no_price", "unknown_group"})


class CardKey(NamedTuple):
    """The place of a card among those of a model and tier."""

    variation: Variation
    context: int
    """0 for short context, then one for each boundary."""


Cards = dict[CardKey, RateCard]


def cards_of(book: PriceBook, model: str, group: str, at: datetime, tier: str) -> Cards:
    """Return the cards of a model, group and tier at a time; none if it is not sold then."""
    try:
        cards = book.rate_cards(model, group=group, at=at, service_tier=tier)
    except BillingError as error:
        if error.code not in _NOT_SOLD:
            raise
        return {}
    found: Cards = {}
    places: dict[Variation, int] = {}
    for card in cards:
        place = places[card.variation] = places.get(card.variation, -1) + 1
        found[CardKey(card.variation, place)] = card
    return found


def all_meters(book: PriceBook) -> list[Meter]:
    """Return every meter that can have a price, in the order of columns."""
    return [*book.meters.values(), *(meter for meter in REQUEST_METERS.values() if meter is not MINIMUM_METER)]


def context_of(card: RateCard) -> Json:
    """Return the context tier of a card: its name, and the boundary that it is above, or for short context, below.

    ``input_tokens`` has the bounds as stated; see ``ContextRange.bounds``.
    """
    lower, upper = card.context.lower, card.context.upper
    boundary = lower or upper
    if boundary is None:
        return {"context": "any", "above": None}
    return {
        "context": card.context_tier,
        "above": boundary.last_below,
        **({"up_to": upper.last_below} if lower is not None and upper is not None else {}),
        "input_tokens": card.context.bounds,
    }


def topup_price(card: RateCard, meter: str, channel: str) -> Decimal | None:
    """Return the exact Top Up price of a meter, per that meter's ``per``, through a channel."""
    units = card.unit_rates.get(meter)
    if units is None:
        return None
    per = card.meter(meter).per * 10 ** card.meter(meter).places
    return multiply(decimal_from_scaled(units * per, UNIT_DECIMALS), card.channel(channel).price)


def minimum_price(card: RateCard, channel: str | None = None) -> Decimal | None:
    """Return the minimum charge of a request as nominal quota, or as money of a channel; ``None`` if there is none."""
    if not card.minimum:
        return None
    if channel is None:
        return card.minimum
    if channel not in card.channels:
        return None
    return multiply(decimal_from_scaled(card.minimum_units, UNIT_DECIMALS), card.channel(channel).price)


def nominal_prices(card: RateCard | None) -> dict[str, Decimal]:
    """Return the nominal prices of a card by meter, in the order of columns."""
    if card is None:
        return {}
    order = (*card.meters, *(name for name in REQUEST_METERS if name != MINIMUM_METER.name))
    return {name: card.unit_prices[name] for name in order if name in card.unit_prices}


def list_nominal_prices(card: RateCard) -> dict[str, Decimal]:
    """Return the list prices of a card by meter, in the nominal currency and in the order of columns."""
    rate = card.exchange_rate or Decimal(1)
    return {
        name: card.list_prices[name] if card.is_nominal(name) else multiply(card.list_prices[name], rate)
        for name in nominal_prices(card)
        if name in card.list_prices
    }


def topup_prices(card: RateCard | None, channel: str) -> dict[str, Decimal]:
    """Return the Top Up prices of a card by meter; none if the channel has no price then."""
    if card is None or channel not in card.channels:
        return {}
    prices = ((name, topup_price(card, name, channel)) for name in nominal_prices(card))
    return {name: price for name, price in prices if price is not None}


def optional_plain(price: Decimal | None) -> str | None:
    """Format a price exactly, if there is one."""
    return None if price is None else format_plain(price)
