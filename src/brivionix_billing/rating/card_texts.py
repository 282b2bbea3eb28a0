"""The prices of a rate card as records, explanations and documents write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from brivionix_billing.decimals import ZERO_UNIT, AmountUnit, amount_unit, format_plain, to_scaled
from brivionix_billing.meters import Meter
from brivionix_billing.rating.units import UNIT_DECIMALS
from brivionix_billing.times import format_instant

if TYPE_CHECKING:
    from brivionix_billing.rating.rate_card import RateCard

__all__ = ["CardTexts", "ChannelText", "LineText", "format_texts"]

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class LineText(NamedTuple):
    """The prices of one meter as documents write them."""

    meter: Meter
    unit: AmountUnit
    """The Credits of one token, call, or smallest part of another unit."""
    nominal_unit: AmountUnit
    prices: dict[str, Any]
    """``list_price``, ``per``, ``ratio`` (``None`` if the group has its own price instead) and ``unit_price``; also
    ``list_currency`` if it is not that of the card."""
    json_head: str
    """JSON of the line up to its quantity."""
    json_middle: str
    """JSON of the line from its quantity to its Credits."""


class ChannelText(NamedTuple):
    """The price of a Credit on a channel as documents write it."""

    name: str
    currency: str
    price: str
    json_key: str
    unit: AmountUnit


class CardTexts(NamedTuple):
    """What records and explanations say about a card, formatted once per card."""

    lines: dict[str, LineText]
    """By meter."""
    channels: dict[str, ChannelText]
    nominal_per_credit: str
    price_since: str
    group_since: str
    conditions: dict[str, str]
    """See :meth:`RateCard.conditions`."""
    json_head: str
    """JSON of a record up to its time."""
    json_tail: str
    """JSON of a record after its lines."""


def format_texts(card: RateCard) -> CardTexts:
    """Return the prices of a card as documents write them."""
    nominal, nominal_places = to_scaled(card.nominal_per_credit)
    lines: dict[str, LineText] = {}
    for name, price in card.unit_prices.items():
        meter, rate = card.meter(name), card.unit_rates[name]
        listed, ratio = card.list_prices.get(name), card.ratio_for(name)
        prices: dict[str, Any] = {
            "list_price": None if listed is None else format_plain(listed),
            "per": meter.per,
            "ratio": None if ratio is None else format_plain(ratio),
            "unit_price": format_plain(price),
            **({"list_currency": card.currency} if card.exchange_rate is not None and card.is_nominal(name) else {}),
        }
        lines[name] = LineText(
            meter,
            amount_unit(rate, UNIT_DECIMALS) if rate else ZERO_UNIT,
            amount_unit(rate * nominal, UNIT_DECIMALS + nominal_places) if rate else ZERO_UNIT,
            prices,
            f'{{"meter":{_to_json(name)},"quantity":',
            f',{_to_json(prices)[1:-1]},"credits":',
        )
    names = {name: getattr(card, name) for name in ("model", "group", "service_tier", "context_tier")}
    price_since = format_instant(card.price_since)
    tail = {"price_since": price_since, "price_book": card.price_book_digest}
    channels = {
        name: ChannelText(name, rate.currency, format_plain(rate.price), f"{_to_json(name)}:", card.cost_units[name][0])
        for name, rate in card.channels.items()
    }
    conditions = card.conditions()
    return CardTexts(
        lines,
        channels,
        format_plain(card.nominal_per_credit),
        price_since,
        format_instant(card.group_since),
        conditions,
        f'{_to_json({**names, **conditions})[:-1]},"at":',
        _to_json(tail)[1:],
    )
