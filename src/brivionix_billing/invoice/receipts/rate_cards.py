"""The rate cards of a price file as JSON, for verifiers of receipts that cannot read the price file itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.calendars import WEEKDAYS, Calendar
from brivionix_billing.rating import RateCard
from brivionix_billing.times import END_OF_TIME, format_instant

__all__ = ["RATE_CARDS_SCHEMA", "rate_card_list"]

RATE_CARDS_SCHEMA: Final = "brivionix-billing/rate-cards/1"
_START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)
_NOT_SOLD: Final = frozenset({"model_not_allowed", "no_price", "service_tier_unavailable", "unknown_group"})
"""Errors of a time at which the group has no price of the model."""
_PRICE_PARTS: Final = ("unit_price", "list_price", "ratio")


def rate_card_list(book: PriceBook, *, groups: Sequence[str] | None = None) -> dict[str, Any]:
    """Return every rate card of some groups (all, if not given), with the period in which it applies, as JSON data.

    ``from`` is inclusive; ``to`` is exclusive, and absent if the period is open. ``prices`` maps a meter to ``per``,
    unit price, list price and ratio, as the lines of a receipt state them, and the decimal places of its quantities.
    ``windows`` names the calendars of peak prices beside the card: the first one that contains the start of a request
    decides. ``calendars`` has their rules. Raises ``unknown_group``.
    """
    names = book.group_names if groups is None else groups
    return {
        "schema": RATE_CARDS_SCHEMA,
        "price_book": book.digest,
        "currency": book.currency,
        "nominal_per_credit": format_plain(book.nominal_per_credit),
        "input_meters": sorted(name for name, meter in book.meters.items() if meter.direction == "input"),
        "calendars": {name: _calendar(calendar) for name, calendar in book.calendars().items()},
        "cards": [
            card
            for group in dict.fromkeys(names)
            for model in book.model_names
            for tier in book.all_service_tiers
            for card in _cards(book, group, model, tier)
        ],
    }


def _cards(book: PriceBook, group: str, model: str, tier: str) -> Iterator[dict[str, Any]]:
    """Yield the cards of a model over time; of a router, those of each model that it may serve."""
    served: list[str | None] = [None]
    if book.is_router(model):
        serves = book.resolver.routes[model]
        served = [name for name in book.model_names if not book.is_router(name) and serves(name)]
    for name in served:
        spans: dict[bytes, list[tuple[datetime, datetime]]] = {}
        for at in _times(book, group, [model] if name is None else [model, name], tier):
            try:
                cards = book.resolver.resolve(model, group, at, tier, name, router_fee_only=name is None).cards
            except BillingError as error:
                if error.code in _NOT_SOLD:
                    continue
                raise
            for card in (card for variation in cards.variations() for card in cards.cards(variation)):
                windows = list(cards.terms.listed.options("window", card.variation._replace(window=None)))
                known = spans.setdefault(canonical_json({**_content(card), "windows": windows}), [])
                if known and known[-1][1] == card.start:
                    # Something else changed, such as the price of a channel.
                    known[-1] = (known[-1][0], card.end)
                elif not known or known[-1][1] < card.start:
                    known.append((card.start, card.end))
        for content, periods in spans.items():
            for start, end in periods:
                yield {**_period(start, end), **json.loads(content)}


def _times(book: PriceBook, group: str, models: list[str], tier: str) -> list[datetime]:
    """Return every time at which a price of these models may start in a group."""
    times = set()
    for model in models:
        for name in (tier, "standard"):  # that of a router has the standard tier
            at: datetime | None = _START_OF_TIME
            while at is not None:
                times.add(at)
                at = book.next_change(model, group=group, at=at, service_tier=name)
    return sorted(times)


def _calendar(calendar: Calendar) -> dict[str, Any]:
    """Return the rules of a calendar. Hours whose end is not after their start end on the next day."""

    def clock(minutes: int) -> str:
        return f"{minutes // 60:02}:{minutes % 60:02}"

    return {
        "time_zone": calendar.zone_name,
        "rules": [
            {
                **_period(entry.start, entry.end),
                "weekdays": [WEEKDAYS[day] for day in sorted(entry.value.weekdays)],
                "hours": [list(map(clock, hours)) for hours in entry.value.hours],
                "excluded_dates": [[first.isoformat(), last.isoformat()] for first, last in entry.value.excluded_dates],
            }
            for entry in calendar.rules.entries
        ],
    }


def _period(start: datetime, end: datetime) -> dict[str, str]:
    return {"from": format_instant(start), **({} if end == END_OF_TIME else {"to": format_instant(end)})}


def _content(card: RateCard) -> dict[str, Any]:
    """Return what a receipt states about a card, with the prices of all its meters."""
    texts = card.texts
    content: dict[str, Any] = {
        "model": card.model,
        "group": card.group,
        "service_tier": card.service_tier,
        **texts.conditions,
        "context": {bound: str(tokens) for bound, tokens in card.context.bounds.items()},
        "price_since": texts.price_since,
        "group_since": texts.group_since,
        "prices": {
            name: [str(line.meter.per), *(line.prices[part] for part in _PRICE_PARTS), str(line.meter.places)]
            for name, line in texts.lines.items()
        },
        "nominal_meters": sorted(filter(card.is_nominal, texts.lines)) if card.exchange_rate is not None else [],
    }
    if card.minimum:
        content["minimum"] = format_plain(card.minimum)
    return content
