"""The price list: the content of the pricing page as data, from which other pages can be built.

Prices are exact decimals as strings. ``nominal`` is list price x group ratio in USD. ``topup`` is the price of the same
Credits through a channel, at that channel's price of a Credit; no exchange rate is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, format_plain, multiply, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, TOKEN_METERS, Meter
from brivionix_billing.pages.formatting import SHOWN_DIGITS, discount_rate, round_for_display
from brivionix_billing.pages.messages import METER_LABELS, TIER_LABELS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.charge import UNIT_DECIMALS
from brivionix_billing.rating.rate_card import SERVICE_TIERS
from brivionix_billing.times import END_OF_TIME, as_utc, format_instant
from brivionix_billing.topup import Channel, VolumeDiscount

__all__ = ["SCHEMA", "price_list", "topup_price"]

SCHEMA: Final = "brivionix-billing/price-list/1"
_THOUSAND: Final = Decimal("0.001")
_NOT_SOLD: Final = frozenset({"model_not_allowed", "service_tier_unavailable", "no_price", "unknown_group"})
Json = dict[str, Any]


def price_list(book: PriceBook, *, at: datetime, groups: Sequence[str] | None = None) -> Json:
    """Return the prices of some groups at a time, and the changes that are scheduled after it.

    Without ``groups``, the list has all groups that have terms at that time. It leaves out models that none of the
    listed groups may use, so that it discloses nothing about other groups. ``shown`` maps, by currency, exact prices to
    the digits to display; a price that is not in it is displayed as it is.

    Raises ``unknown_group``, ``invalid_argument``, ``invalid_time``.

    >>> from datetime import UTC
    >>> book = PriceBook.load("pricing.yaml")
    >>> prices = price_list(book, at=datetime(2026, 10, 20, tzinfo=UTC), groups=["partner"])
    >>> row = prices["groups"][0]["prices"][0]
    >>> row["model"], row["nominal"]["input"], row["topup"]["rmb"]["input"]
    ('gpt-5.5', '4.25', '3.6125')
    """
    at = as_utc(at)
    if groups is not None and not (isinstance(groups, list | tuple) and all(isinstance(name, str) for name in groups)):
        raise BillingError(
            "invalid_argument", f"groups={safe_repr(groups)}: pass a list of names, or None for all groups"
        )
    names = book.groups(at=at) if groups is None else list(dict.fromkeys(groups))
    texts = book.descriptions()
    listed = [_group(book, name, at, texts.groups.get(name, {})) for name in names]
    entries = [entry for group in listed for entry in (*group["prices"], *group["changes"])]
    meters = {meter for entry in entries for meter in entry["nominal"]}
    tiers = {entry["service_tier"] for entry in entries}
    # Models that none of these groups may use, now or later, must not be disclosed.
    models = {entry["model"] for entry in entries}
    for group in listed:
        group["not_allowed"] = [name for name in group["not_allowed"] if name in models]
    return {
        "schema": SCHEMA,
        "at": format_instant(at),
        "price_book": book.digest,
        "currency": book.currency,
        "nominal_per_credit": format_plain(book.nominal_per_credit),
        "shown_digits": SHOWN_DIGITS,
        "meters": [
            {"name": meter.name, "per": meter.per, "label": _labels(METER_LABELS, meter.name)}
            for meter in METERS
            if meter.name in meters
        ],
        "service_tiers": [
            {"name": tier, "label": _labels(TIER_LABELS, tier)} for tier in SERVICE_TIERS if tier in tiers
        ],
        "channels": [_channel(item, at, texts.channels.get(name, {})) for name, item in book.channels().items()],
        "models": [_model(book, name, texts.models.get(name, {})) for name in book.model_names if name in models],
        "groups": listed,
        "shown": _display_prices(book, listed),
    }


def topup_price(card: RateCard, position: int, channel: str) -> Decimal | None:
    """Return the exact Top Up price of a meter (per 1 M tokens or 1 000 calls) through a channel."""
    units = card.unit_rates[position]
    if units is None:
        return None
    return multiply(decimal_from_scaled(units * METERS[position].per, UNIT_DECIMALS), card.channel(channel).price)


def _model(book: PriceBook, name: str, description: Json) -> Json:
    facts = book.model_info(name)
    return {
        "name": name,
        "description": description,
        "aliases": list(facts.aliases),
        "released": facts.released.isoformat(),
        "context": {"window": facts.window, "max_input": facts.max_input, "max_output": facts.max_output},
    }


def _channel(item: Channel, at: datetime, description: Json) -> Json:
    price, volume = item.prices.at(at), item.volumes.at(at).value
    return {
        "name": item.name,
        "currency": item.currency,
        "description": description,
        "price_per_credit": None if price.value is None else format_plain(price.value),
        "since": None if price.value is None else format_instant(price.start),
        "min_payment": None if item.min_payment is None else format_plain(item.min_payment),
        "max_payment": None if item.max_payment is None else format_plain(item.max_payment),
        "volume_discount": _volume(volume),
        "changes": list(_channel_changes(item, at)),
    }


def _volume(volume: VolumeDiscount | None) -> Json | None:
    if volume is None:
        return None
    steps = [
        {"at_least": format_plain(step.at_least), "discount": format_plain(step.discount)} for step in volume.steps
    ]
    return {"applies_to": volume.applies_to, "steps": steps}


def _channel_changes(item: Channel, at: datetime) -> Iterator[Json]:
    spans = [(entry.start, entry.end) for entry in item.prices.entries]
    spans += [(entry.start, entry.end) for entry in item.volumes.entries]
    times = {when for span in spans for when in span if at < when < END_OF_TIME}
    for when in sorted(times):
        price = [_optional_plain(item.prices.at(moment).value) for moment in (_just_before(when), when)]
        volume = [_volume(item.volumes.at(moment).value) for moment in (_just_before(when), when)]
        change: Json = {"at": format_instant(when)}
        if price[0] != price[1]:
            change["price_per_credit"] = price
        if volume[0] != volume[1]:
            change["volume_discount"] = volume
        if len(change) > 1:
            yield change


def _labels(table: Mapping[str, Mapping[str, str]], name: str) -> dict[str, str]:
    return {language: labels[name] for language, labels in table.items()}


def _optional_plain(price: Decimal | None) -> str | None:
    return None if price is None else format_plain(price)


def _just_before(when: datetime) -> datetime:
    return when - datetime.resolution


class _CardPair(NamedTuple):
    """The rate cards of a model, group and tier at a time.

    A card is ``None`` if the model is not sold, or if its long context has no price of its own.
    """

    short: RateCard | None
    long: RateCard | None


def _card_pair(book: PriceBook, model: str, group: str, at: datetime, tier: str) -> _CardPair:
    try:
        return _CardPair(*book.rate_cards(model, group=group, at=at, service_tier=tier))
    except BillingError as error:
        if error.code not in _NOT_SOLD:
            raise
        return _CardPair(None, None)


def _group(book: PriceBook, group: str, at: datetime, description: Json) -> Json:
    allowed = book.models(group=group, at=at)  # raises unknown_group
    usable = frozenset(allowed)
    rows: list[Json] = []
    changes: list[Json] = []
    for model in book.model_names:
        for tier in SERVICE_TIERS:
            state = _card_pair(book, model, group, at, tier)
            rows += [_row(card) for card in state if card is not None]
            changes += _changes(book, model, group, at, tier, state)
    return {
        "name": group,
        "description": description,
        "ratio": format_plain(book.ratio(group, at)),
        "models": allowed,
        "not_allowed": [name for name in book.model_names if name not in usable and book.service_tiers(name, at)],
        "prices": rows,
        "changes": sorted(changes, key=lambda change: str(change["at"])),
    }


def _row(card: RateCard) -> Json:
    return {
        "model": card.model,
        "service_tier": card.service_tier,
        "context": "any" if card.context_above is None else card.context_tier,
        "above": card.context_above,
        "ratio": None if card.has_group_prices else format_plain(card.ratio),
        "nominal": {name: format_plain(price) for name, price in _nominal(card).items()},
        "topup": {
            channel: {name: format_plain(price) for name, price in _topup(card, channel).items()}
            for channel in card.channels
        },
        "cache_discount": {
            meter.name: format_plain(saved)
            for meter in METERS
            if (saved := _cache_discount(card, meter.position)) is not None
        },
    }


def _nominal(card: RateCard | None) -> dict[str, Decimal]:
    prices = () if card is None else card.unit_prices
    return {meter.name: price for meter, price in zip(METERS, prices, strict=False) if price is not None}


def _topup(card: RateCard | None, channel: str) -> dict[str, Decimal]:
    if card is None or channel not in card.channels:
        return {}
    prices = ((meter.name, topup_price(card, meter.position, channel)) for meter in METERS)
    return {name: price for name, price in prices if price is not None}


def _cache_discount(card: RateCard, position: int) -> Decimal | None:
    uncached = METERS[position].uncached_meter
    if uncached is None:
        return None
    price = card.unit_prices[position]
    full = next(card.unit_prices[meter.position] for meter in METERS if meter.name == uncached)
    return None if price is None or full is None else discount_rate(price, full)


def _changes(book: PriceBook, model: str, group: str, at: datetime, tier: str, state: _CardPair) -> Iterator[Json]:
    """Yield the scheduled changes of one model in one tier, in order of time."""
    when = at
    while (next_time := book.next_change(model, group=group, at=when, service_tier=tier)) is not None:
        when = next_time
        after = _card_pair(book, model, group, when, tier)
        for context, old, new in zip(("short", "long"), state, after, strict=True):
            if context == "long" and (old is None) != (new is None):
                # Without a price of its own, a long request has the short price, so this is a change of price.
                old, new = old or state.short, new or after.short
            was, now = _nominal(old), _nominal(new)
            above = [None if card is None else card.context_above for card in (old, new)]
            changed = [meter for meter in METERS if was.get(meter.name) != now.get(meter.name)]
            if old is None or new is None:
                changed = [meter for meter in changed if meter in TOKEN_METERS]  # tool fees are the same in every tier
            if old is new is None or not (changed or _threshold_changes(old, new)):
                continue  # only the price of a channel changes, or a price that this model does not use
            has_threshold = any(card is not None and card.context_above is not None for card in (old, new))
            yield {
                "at": format_instant(when),
                "model": model,
                "service_tier": tier,
                "context": context if has_threshold else "any",
                "above": above,
                "kind": "begins" if old is None else "ends" if new is None else "changes",
                "nominal": _before_and_after(was, now, changed),
                "topup": {
                    channel: _before_and_after(_topup(old, channel), _topup(new, channel), changed)
                    for channel in book.channels()
                },
            }
        state = after


def _threshold_changes(old: RateCard | None, new: RateCard | None) -> bool:
    if old is None or new is None or old.context_above is None or new.context_above is None:
        return False
    return old.context_above != new.context_above


def _before_and_after(
    was: dict[str, Decimal], now: dict[str, Decimal], changed: Iterable[Meter]
) -> dict[str, list[str | None]]:
    return {
        meter.name: [_optional_plain(was.get(meter.name)), _optional_plain(now.get(meter.name))] for meter in changed
    }


def _display_prices(book: PriceBook, groups: Iterable[Json]) -> dict[str, dict[str, str]]:
    """Return, by currency, exact prices -> digits to display where they differ, per 1 M tokens and per 1 K."""
    currencies = {name: channel.currency for name, channel in book.channels().items()}
    tokens = {meter.name for meter in TOKEN_METERS}
    out: dict[str, dict[str, str]] = {}
    seen: set[tuple[str, str, bool]] = set()

    def add(prices: dict[str, Any], currency: str) -> None:
        for meter, texts in prices.items():
            for text in texts if isinstance(texts, list) else [texts]:
                if text is None or (key := (currency, text, meter in tokens)) in seen:
                    continue
                seen.add(key)
                exact = Decimal(text)
                values = [exact]
                if meter in tokens:
                    values.append(multiply(exact, _THOUSAND))
                for value in values:
                    digits = round_for_display(value, currency)
                    if to_scaled(digits) != to_scaled(value):
                        out.setdefault(currency, {})[format_plain(value)] = format_plain(digits)

    for group in groups:
        for row in (*group["prices"], *group["changes"]):
            add(row["nominal"], book.currency)
            for channel, prices in row["topup"].items():
                add(prices, currencies[channel])
    return out
