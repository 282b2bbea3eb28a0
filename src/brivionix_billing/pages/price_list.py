"""The price list: the content of the pricing page as data, from which other pages can be built.

Prices are exact decimals as strings. ``nominal`` is list price x group ratio in USD. ``topup`` is the price of the same
Credits through a channel, at that channel's price of a Credit; no exchange rate is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, multiply, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import UNITS
from brivionix_billing.pages.calendars import calendar_section
from brivionix_billing.pages.formatting import SHOWN_DIGITS, discount_rate, round_for_display
from brivionix_billing.pages.messages import LANGUAGE_NAMES, price_unit, tier_label
from brivionix_billing.pages.plans import plan_sections
from brivionix_billing.pages.price_cards import (
    Json,
    all_meters,
    cards_of,
    context_of,
    list_nominal_prices,
    minimum_price,
    nominal_prices,
    optional_plain,
    topup_price,
    topup_prices,
)
from brivionix_billing.pages.price_changes import price_changes
from brivionix_billing.pages.price_list_schema import SCHEMA
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.compile import Descriptions
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.messages import meter_label
from brivionix_billing.times import END_OF_TIME, as_utc, format_instant
from brivionix_billing.topup import Channel, VolumeDiscount

__all__ = ["price_list", "topup_price"]

_THOUSAND: Final = Decimal("0.001")


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
    conditions = [entry["conditions"] for entry in entries if "conditions" in entry]
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
            for meter in all_meters(book)
            if meter.name in meters
        ],
        "service_tiers": [
            {"name": tier, "label": {language: tier_label(language, tier, book.labels) for language in LANGUAGE_NAMES}}
            for tier in book.all_service_tiers
            if tier in tiers
        ],
        **{
            f"{kind}s": [
                {"name": name, "display_name": dict(getattr(book.labels, f"{kind}s").get(name, {}))}
                for name in dict.fromkeys(names[kind] for names in conditions if kind in names)
            ]
            for kind in ("region", "mode")
        },
        "calendars": [
            calendar_section(calendar, at, texts.calendars.get(calendar.name, {}))
            for calendar in book.calendars().values()
            if any(names.get("window") == calendar.name for names in conditions)
        ],
        "channels": [_channel(item, at, texts) for name, item in book.channels().items()],
        "plans": list(plan_sections(book, at, names, [name for name in book.model_names if name in models], texts)),
        "models": [_model(book, name, texts) for name in book.model_names if name in models],
        "groups": listed,
        "shown": _display_prices(book, listed),
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
        price = [optional_plain(item.prices.at(moment).value) for moment in (_just_before(when), when)]
        volume = [_volume(item.volumes.at(moment).value) for moment in (_just_before(when), when)]
        change: Json = {"at": format_instant(when)}
        if price[0] != price[1]:
            change["price_per_credit"] = price
        if volume[0] != volume[1]:
            change["volume_discount"] = volume
        if len(change) > 1:
            yield change


def _just_before(when: datetime) -> datetime:
    return when - datetime.resolution


def _group(book: PriceBook, group: str, at: datetime, texts: Descriptions) -> Json:
    allowed = book.models(group=group, at=at)  # raises unknown_group
    usable = frozenset(allowed)
    rows: list[Json] = []
    changes: list[Json] = []
    for model in book.model_names:
        for tier in book.all_service_tiers:
            state = cards_of(book, model, group, at, tier)
            rows += [_row(card) for card in state.values()]
            changes += price_changes(book, model, group, at, tier, state)
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
        **context_of(card),
        "ratio": None if card.has_group_prices else format_plain(card.ratio),
        "nominal": {name: format_plain(price) for name, price in nominal_prices(card).items()},
        "topup": {
            channel: {name: format_plain(price) for name, price in topup_prices(card, channel).items()}
            for channel in card.channels
        },
        "cache_discount": {
            name: format_plain(saved) for name in card.unit_prices if (saved := _cache_discount(card, name)) is not None
        },
    }
    conditions = dict(card.variation.named())
    if conditions:
        row["conditions"] = conditions
    listed = _list_prices(card)
    if listed is not None:
        row["list"] = listed
    list_nominal = list_nominal_prices(card)
    if list_nominal != nominal_prices(card):
        row["list_nominal"] = {name: format_plain(price) for name, price in list_nominal.items()}
        row["below_list"] = {
            name: format_plain(saved)
            for name, price in nominal_prices(card).items()
            if name in list_nominal and (saved := discount_rate(price, list_nominal[name])) is not None
        }
    if card.minimum:
        row["minimum"] = format_plain(card.minimum)
        row["minimum_topup"] = {channel: optional_plain(minimum_price(card, channel)) for channel in card.channels}
    return row


def _list_prices(card: RateCard) -> Json | None:
    """Return the list prices that are in a currency of their own, and what it is worth in nominal quota."""
    if card.exchange_rate is None:
        return None
    prices = {
        name: format_plain(card.list_prices[name])
        for name in nominal_prices(card)
        if name in card.list_prices and not card.is_nominal(name)
    }
    return {"currency": card.list_currency, "exchange_rate": format_plain(card.exchange_rate), "prices": prices}


def _cache_discount(card: RateCard, name: str) -> Decimal | None:
    meter = card.meter(name)
    full = card.unit_prices.get(meter.uncached_meter or "")
    if meter.cache != "read" or full is None:
        return None
    return discount_rate(card.unit_prices[name], full)


def _display_prices(book: PriceBook, groups: Iterable[Json]) -> dict[str, dict[str, str]]:
    """Return, by currency, exact prices -> digits to display where they differ, per 1 M tokens and per 1 K."""
    currencies = {name: channel.currency for name, channel in book.channels().items()}
    tokens = {meter.name for meter in all_meters(book) if meter.per == UNITS["token"].per}
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
