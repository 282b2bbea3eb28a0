"""The price list: the content of the pricing page as data, from which other pages can be built.

Prices are exact decimals as strings. ``nominal`` is list price x group ratio in USD. ``topup`` is the price of the same
Credits through a channel, at that channel's price of a Credit; no exchange rate is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, format_plain, multiply, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import MINIMUM_METER, REQUEST_METERS, UNITS, Meter
from brivionix_billing.pages.formatting import SHOWN_DIGITS, discount_rate, round_for_display
from brivionix_billing.pages.messages import LANGUAGE_NAMES, price_unit, tier_label
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.calendars import Calendar
from brivionix_billing.pricebook.compile import Descriptions
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.charge import UNIT_DECIMALS
from brivionix_billing.rating.messages import meter_label
from brivionix_billing.rating.rate_card import Variation
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
    listed = [_group(book, name, at, texts) for name in names]
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
            {
                "name": meter.name,
                "unit": meter.unit,
                "per": meter.per,
                "label": {language: meter_label(language, meter) for language in LANGUAGE_NAMES},
                "per_label": {language: price_unit(language, meter) for language in LANGUAGE_NAMES},
            }
            for meter in _all_meters(book)
            if meter.name in meters
        ],
        "service_tiers": [
            {"name": tier, "label": {language: tier_label(language, tier) for language in LANGUAGE_NAMES}}
            for tier in book.all_service_tiers
            if tier in tiers
        ],
        "calendars": [
            _calendar(calendar, at, texts.calendars.get(calendar.name, {}))
            for calendar in book.calendars().values()
            if any((entry.get("conditions") or {}).get("window") == calendar.name for entry in entries)
        ],
        "channels": [_channel(item, at, texts) for name, item in book.channels().items()],
        "models": [_model(book, name, texts) for name in book.model_names if name in models],
        "groups": listed,
        "shown": _display_prices(book, listed),
    }


def topup_price(card: RateCard, meter: str, channel: str) -> Decimal | None:
    """Return the exact Top Up price of a meter, per that meter's ``per``, through a channel."""
    units = card.unit_rates.get(meter)
    if units is None:
        return None
    per = card.meter(meter).per * 10 ** card.meter(meter).places
    return multiply(decimal_from_scaled(units * per, UNIT_DECIMALS), card.channel(channel).price)


def _all_meters(book: PriceBook) -> list[Meter]:
    """Return every meter that can have a price, in the order of columns."""
    return [*book.meters.values(), *(meter for meter in REQUEST_METERS.values() if meter is not MINIMUM_METER)]


def _calendar(calendar: Calendar, at: datetime, display_name: Json) -> Json:
    change = calendar.next_change(at)
    return {
        "name": calendar.name,
        "display_name": display_name,
        "time_zone": calendar.zone_name,
        "active": calendar.contains(at),
        "next_change": None if change is None else format_instant(change),
    }


def _model(book: PriceBook, name: str, texts: Descriptions) -> Json:
    facts = book.model_info(name)
    return {
        "name": name,
        "display_name": texts.model_names.get(name, {}),
        "vendor": texts.vendors.get(name, {}),
        "description": texts.models.get(name, {}),
        "aliases": list(facts.aliases),
        "released": None if facts.released is None else facts.released.isoformat(),
        "context": {"window": facts.window, "max_input": facts.max_input, "max_output": facts.max_output},
    }


def _channel(item: Channel, at: datetime, texts: Descriptions) -> Json:
    price, volume = item.prices.at(at), item.volumes.at(at).value
    return {
        "name": item.name,
        "display_name": texts.channel_names.get(item.name, {}),
        "currency": item.currency,
        "description": texts.channels.get(item.name, {}),
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


def _optional_plain(price: Decimal | None) -> str | None:
    return None if price is None else format_plain(price)


def _just_before(when: datetime) -> datetime:
    return when - datetime.resolution


class _CardKey(NamedTuple):
    """The place of a card among those of a model and tier."""

    variation: Variation
    context: int
    """0 for short context, then one for each boundary."""


_Cards = dict[_CardKey, RateCard]


def _cards(book: PriceBook, model: str, group: str, at: datetime, tier: str) -> _Cards:
    """Return the cards of a model, group and tier at a time; none if it is not sold then."""
    try:
        cards = book.rate_cards(model, group=group, at=at, service_tier=tier)
    except BillingError as error:
        if error.code not in _NOT_SOLD:
            raise
        return {}
    found: _Cards = {}
    places: dict[Variation, int] = {}
    for card in cards:
        place = places[card.variation] = places.get(card.variation, -1) + 1
        found[_CardKey(card.variation, place)] = card
    return found


def _group(book: PriceBook, group: str, at: datetime, texts: Descriptions) -> Json:
    allowed = book.models(group=group, at=at)  # raises unknown_group
    usable = frozenset(allowed)
    rows: list[Json] = []
    changes: list[Json] = []
    for model in book.model_names:
        for tier in book.all_service_tiers:
            state = _cards(book, model, group, at, tier)
            rows += [_row(card) for card in state.values()]
            changes += _changes(book, model, group, at, tier, state)
    return {
        "name": group,
        "display_name": texts.group_names.get(group, {}),
        "description": texts.groups.get(group, {}),
        "ratio": format_plain(book.ratio(group, at)),
        "models": allowed,
        "not_allowed": [name for name in book.model_names if name not in usable and book.service_tiers(name, at)],
        "prices": rows,
        "changes": sorted(changes, key=lambda change: str(change["at"])),
    }


def _row(card: RateCard) -> Json:
    row: Json = {
        "model": card.model,
        "service_tier": card.service_tier,
        **_context(card),
        "ratio": None if card.has_group_prices else format_plain(card.ratio),
        "nominal": {name: format_plain(price) for name, price in _nominal(card).items()},
        "topup": {
            channel: {name: format_plain(price) for name, price in _topup(card, channel).items()}
            for channel in card.channels
        },
        "cache_discount": {
            name: format_plain(saved) for name in card.unit_prices if (saved := _cache_discount(card, name)) is not None
        },
    }
    conditions = dict(card.variation.named())
    if conditions:
        row["conditions"] = conditions
    if card.minimum:
        row["minimum"] = format_plain(card.minimum)
    return row


def _context(card: RateCard) -> Json:
    """Return the context tier of a card: its name, and the boundary that it is above, or for short context, below."""
    lower, upper = card.context.lower, card.context.upper
    boundary = lower or upper
    return {
        "context": "any" if boundary is None else card.context_tier,
        "above": None if boundary is None else boundary.last_below,
        **({"up_to": upper.last_below} if lower is not None and upper is not None else {}),
    }


def _nominal(card: RateCard | None) -> dict[str, Decimal]:
    if card is None:
        return {}
    order = (*card.meters, *(name for name in REQUEST_METERS if name != MINIMUM_METER.name))
    return {name: card.unit_prices[name] for name in order if name in card.unit_prices}


def _topup(card: RateCard | None, channel: str) -> dict[str, Decimal]:
    if card is None or channel not in card.channels:
        return {}
    prices = ((name, topup_price(card, name, channel)) for name in _nominal(card))
    return {name: price for name, price in prices if price is not None}


def _cache_discount(card: RateCard, name: str) -> Decimal | None:
    meter = card.meter(name)
    full = card.unit_prices.get(meter.uncached_meter or "")
    if meter.cache != "read" or full is None:
        return None
    return discount_rate(card.unit_prices[name], full)


def _changes(book: PriceBook, model: str, group: str, at: datetime, tier: str, state: _Cards) -> Iterator[Json]:
    """Yield the scheduled changes of one model in one tier, in order of time."""
    when = at
    while (next_time := book.next_change(model, group=group, at=when, service_tier=tier)) is not None:
        when = next_time
        after = _cards(book, model, group, when, tier)
        for key in {**state, **after}:
            old, new = state.get(key), after.get(key)
            if key.context and (old is None) != (new is None):
                # Without a price of its own, a long request has the price of the range below it, so this is a change.
                old, new = old or _card_below(state, key), new or _card_below(after, key)
            change = _change(book, old, new)
            if change is not None:
                yield {"at": format_instant(when), "model": model, "service_tier": tier, **change}
        state = after


def _card_below(cards: _Cards, key: _CardKey) -> RateCard | None:
    found = [cards.get(key._replace(context=place)) for place in range(key.context)]
    return next((card for card in reversed(found) if card is not None), None)


def _change(book: PriceBook, old: RateCard | None, new: RateCard | None) -> Json | None:
    """Return the change between two cards, without its time and subject; ``None`` if no price changes."""
    was, now = _nominal(old), _nominal(new)
    changed = [meter for meter in _all_meters(book) if was.get(meter.name) != now.get(meter.name)]
    if old is None or new is None:
        changed = [meter for meter in changed if not meter.is_tool]  # fees of tools are the same in every tier
    if old is new is None or not (changed or _threshold_changes(old, new)):
        return None  # only the price of a channel changes, or a price that this model does not use
    card = new or old
    context = {} if card is None else _context(card)
    above = [None if each is None else _context(each)["above"] for each in (old, new)]
    change: Json = {
        "context": context.get("context", "any") if any(bound is not None for bound in above) else "any",
        "above": above,
        "kind": "begins" if old is None else "ends" if new is None else "changes",
        "nominal": _before_and_after(was, now, changed),
        "topup": {
            channel: _before_and_after(_topup(old, channel), _topup(new, channel), changed)
            for channel in book.channels()
        },
    }
    if change["context"] == "any" and any(bound is not None for bound in above):
        change["context"] = next(_context(each)["context"] for each in (old, new) if each and each.context.upper)
    conditions = {} if card is None else dict(card.variation.named())
    return change | ({"conditions": conditions} if conditions else {})


def _threshold_changes(old: RateCard | None, new: RateCard | None) -> bool:
    if old is None or new is None:
        return False
    bounds = [_context(card)["above"] for card in (old, new)]
    return None not in bounds and bounds[0] != bounds[1]


def _before_and_after(
    was: dict[str, Decimal], now: dict[str, Decimal], changed: Iterable[Meter]
) -> dict[str, list[str | None]]:
    return {
        meter.name: [_optional_plain(was.get(meter.name)), _optional_plain(now.get(meter.name))] for meter in changed
    }


def _display_prices(book: PriceBook, groups: Iterable[Json]) -> dict[str, dict[str, str]]:
    """Return, by currency, exact prices -> digits to display where they differ, per 1 M tokens and per 1 K."""
    currencies = {name: channel.currency for name, channel in book.channels().items()}
    tokens = {meter.name for meter in _all_meters(book) if meter.per == UNITS["token"].per}
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
