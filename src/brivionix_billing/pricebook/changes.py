"""What a change of a price file changes: for which models and groups, from when, and by how much.

Two price books are compared at every time at which a dated entry of either of them starts or ends. List prices are
compared once per model, and the terms of groups apart, so that a change of a list price is one change for all groups.
What prices depend on besides is compared in :mod:`setting_changes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.meters import MINIMUM_METER
from brivionix_billing.pricebook.book import PriceBook
from brivionix_billing.pricebook.compile import with_defaults
from brivionix_billing.pricebook.plan_changes import plan_changes
from brivionix_billing.pricebook.price_change import PriceChange, Values, boundaries, compare_over_time
from brivionix_billing.pricebook.price_sets import PriceSet
from brivionix_billing.pricebook.setting_changes import is_setting_in_use, setting_changes
from brivionix_billing.rating.rate_card import Variation
from brivionix_billing.times import END_OF_TIME, Timeline, format_instant

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = ["is_edit", "list_prices", "price_changes", "price_label"]

_NOT_SOLD: Final = frozenset({"service_tier_unavailable", "no_price"})

_MODEL_KINDS: Final = frozenset({"list_price", "price_entry"})
_CHANNEL_KINDS: Final = frozenset({"channel", "channel_entry", "volume_discount"})
_GROUP_KINDS: Final = frozenset({"ratio", "access", "group_price"})


def price_label(variation: Variation) -> str:
    """Return the variation of a price as text: ``region us, mode fast``; empty for the usual price."""
    return ", ".join(f"{dimension} {name}" for dimension, name in variation.named())


def list_prices(book: PriceBook, model: str, tier: str, at: datetime) -> dict[tuple[str, ...], Decimal]:
    """Return (context, variation, meter) -> list price in the nominal currency, empty if the model is not sold."""
    try:
        cards = book.resolver.list_cards(model, at, tier)
    except BillingError as error:
        if error.code not in _NOT_SOLD:
            raise
        return {}
    found: dict[tuple[str, ...], Decimal] = {}
    for variation in cards.variations():
        for card in cards.cards(variation):
            subject = str(card.context), price_label(variation)
            prices = {name: price for name, price in card.unit_prices.items() if name != MINIMUM_METER.name}
            found |= {(*subject, meter): price for meter, price in prices.items()}
            if card.minimum is not None:
                found[*subject, "minimum"] = card.minimum
    return found


def is_edit(change: PriceChange, old: PriceBook, published: datetime = END_OF_TIME) -> bool:
    """Return whether a change edits what was in force in the old price book before the time ``published``.

    A model, a group, a channel or a plan that the old file did not have is an addition, whatever date it has. So is a
    name that meant nothing. A bill states the channels that had a price in its period, also for the time before their
    first price, so an earlier price of a channel that had one before ``published`` is an edit.
    """
    start, end = change.start, min(change.end, published)
    if start >= end:
        return False
    name = change.subject[0] if change.subject else ""
    if change.kind in _MODEL_KINDS:
        return _was_sold(old, name, start, end, change.subject[1])
    if change.kind in _CHANNEL_KINDS:
        if name not in old.channels():
            return False
        if change.kind != "volume_discount":  # no bill states a volume discount
            start, end = datetime.min.replace(tzinfo=UTC), published
        return _overlaps(old.channels()[name].prices, start, end)
    if change.kind in _GROUP_KINDS:
        in_force = name in old.resolver.groups and _overlaps(old.resolver.groups[name], start, end)
        return in_force and (len(change.subject) == 1 or _was_sold(old, change.subject[1], start, end))
    if change.kind == "plan":
        plans = old.plan_terms()
        return name in plans and _overlaps(plans[name], start, end)
    if change.kind == "route" and change.old is None:
        return _was_sold(old, change.subject[1], start, end)
    return is_setting_in_use(change, old)


def _was_sold(book: PriceBook, model: str, start: datetime, end: datetime, tier: str | None = None) -> bool:
    tiers = book.resolver.models.get(model, {})
    return any(_overlaps(timeline, start, end) for name, timeline in tiers.items() if tier in (None, name))


def _overlaps(timeline: Timeline[Any], start: datetime, end: datetime) -> bool:
    return any(entry.start < end and start < entry.end for entry in timeline.entries)


def price_changes(old: PriceBook, new: PriceBook) -> list[PriceChange]:
    """Return every difference between two price books that can move a charge or what a subscription costs.

    They are in the order of their times, then of kind and subject.
    """
    changes = [
        *_list_price_changes(old, new),
        *_group_changes(old, new),
        *_channel_changes(old, new),
        *setting_changes(old, new),
        *plan_changes(old, new),
    ]
    return sorted(changes, key=lambda change: (change.start, change.kind, change.subject))


def _list_price_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    same_defaults = all(
        getattr(old.file, section) == getattr(new.file, section)
        for section in ("tools", "cache_discount", "exchange_rates", "credit", "meters", "calendars")
    )
    for model in dict.fromkeys([*old.model_names, *new.model_names]):
        if same_defaults and _is_same_model(old.file.models.get(model), new.file.models.get(model)):
            continue
        books = [book for book in (old, new) if model in book.resolver.models]
        for tier in dict.fromkeys(tier for book in books for tier in book.resolver.models[model]):
            times = boundaries(t for book in books for t in book.resolver.list_price_timelines(model, tier))

            def values(book: PriceBook, at: datetime, model: str = model, tier: str = tier) -> Values:
                if model not in book.resolver.models:
                    return {}
                return {(model, tier, *key): price for key, price in list_prices(book, model, tier, at).items()}

            def entries(book: PriceBook, at: datetime, model: str = model, tier: str = tier) -> Values:
                if model not in book.resolver.models:
                    return {}
                return {(model, tier, *key): text for key, text in _entry_terms(book, model, tier, at).items()}

            moved = set()
            for change in compare_over_time(
                "list_price", times, lambda at: values(old, at), lambda at: values(new, at)
            ):
                moved.add(change.start)
                yield change._replace(
                    groups=_paying_groups(new, model, tier, change) or _paying_groups(old, model, tier, change)
                )
            for change in compare_over_time(
                "price_entry", times, lambda at: entries(old, at), lambda at: entries(new, at)
            ):
                # With a price, the entry that states it changes as well.
                if change.start not in moved:
                    yield change


def _is_same_model(one: schema.Model | None, other: schema.Model | None) -> bool:
    # The order of windows matters, and mappings in another order are equal.
    return one == other and (one is None or other is None or _window_orders(one) == _window_orders(other))


def _window_orders(model: schema.Model) -> list[tuple[str, ...]]:
    return [order for entry in model.prices for item in entry.tiers.values() for order in _orders_in(item)]


def _orders_in(item: schema.PriceSet) -> Iterator[tuple[str, ...]]:
    if item.windows:
        yield tuple(item.windows)
    for variants in (item.regions, item.modes):
        for _, variant in sorted(variants.items()):
            yield from _orders_in(variant)


def _entry_terms(book: PriceBook, model: str, tier: str, at: datetime) -> dict[tuple[str, ...], str]:
    """Return what a bill depends on beside the list prices: the entry, its currency, and the order of windows."""
    span = book.resolver.models[model].get(tier, Timeline[PriceSet]([])).at(at)
    if span.value is None:
        return {}
    found: dict[tuple[str, ...], str] = {("effective from",): format_instant(span.start)}
    currency = book.file.models[model].currency
    if currency not in (None, book.currency):
        found["list currency",] = str(currency)
    for variation in _variations(span.value):
        windows = span.value.options("window", variation)
        if variation.window is None and len(windows) > 1:
            found[price_label(variation), "order of windows"] = ", ".join(windows)
    return found


def _paying_groups(book: PriceBook, model: str, tier: str, change: PriceChange) -> tuple[str, ...]:
    """Return the groups that pay a list price in some part of a period."""
    return tuple(
        name
        for name, terms in book.resolver.groups.items()
        if any(
            entry.start < change.end
            and change.start < entry.end
            and model in entry.value.allowed_models
            and (model, tier) not in entry.value.prices
            for entry in terms.entries
        )
    )


def _group_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    for group in dict.fromkeys([*old.group_names, *new.group_names]):
        present = [book for book in (old, new) if group in book.resolver.groups]
        times = boundaries([book.resolver.groups[group] for book in present] + _discounts(present, group))
        for kind, values in (("ratio", _ratios), ("access", _access), ("group_price", _group_prices)):
            yield from compare_over_time(
                kind,
                times,
                lambda at, values=values, group=group: values(old, group, at),  # type: ignore[misc]
                lambda at, values=values, group=group: values(new, group, at),  # type: ignore[misc]
            )


def _discounts(books: list[PriceBook], group: str) -> list[Timeline[Any]]:
    """Return the default cache discounts of the models that have their own prices in a group."""
    return [
        book.resolver.defaults.cache_discount(model)
        for book in books
        for model in {model for entry in book.resolver.groups[group].entries for model, _ in entry.value.prices}
    ]


def _ratios(book: PriceBook, group: str, at: datetime) -> Values:
    terms = book.resolver.groups[group].at(at).value if group in book.resolver.groups else None
    if terms is None:
        return {}
    return {(group,): terms.ratio, **{(group, model): ratio for model, ratio in terms.ratios.items()}}


def _access(book: PriceBook, group: str, at: datetime) -> Values:
    terms = book.resolver.groups[group].at(at).value if group in book.resolver.groups else None
    return {} if terms is None else {(group, model): "allowed" for model in terms.allowed_models}


def _group_prices(book: PriceBook, group: str, at: datetime) -> Values:
    terms = book.resolver.groups[group].at(at).value if group in book.resolver.groups else None
    if terms is None:
        return {}
    found: dict[tuple[str, ...], Decimal] = {}
    for (model, tier), own in terms.prices.items():
        discount = book.resolver.defaults.cache_discount(model).at(at).value
        for variation in _variations(own):
            selected = own.select(variation, book.meters)
            for context, prices in selected.contexts:
                subject = group, model, tier, str(context), price_label(variation)
                complete = with_defaults(prices, discount, {})
                found |= {(*subject, meter): price for meter, price in complete.items()}
                if selected.minimum is not None:
                    found[*subject, "minimum"] = selected.minimum
    return found


def _variations(own: PriceSet) -> list[Variation]:
    found = [Variation()]
    for dimension in ("region", "mode", "window"):
        found = [v._replace(**{dimension: name}) for v in found for name in (None, *own.options(dimension, v))]
    return found


def _channel_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    channels = [book.channels() for book in (old, new)]
    for name in dict.fromkeys(name for each in channels for name in each):
        present = [each[name] for each in channels if name in each]

        def price(index: int, at: datetime, name: str = name) -> Values:
            channel = channels[index].get(name)
            value = None if channel is None else channel.prices.at(at).value
            return {} if channel is None or value is None else {(name, channel.currency): value}

        def volume(index: int, at: datetime, name: str = name) -> Values:
            channel = channels[index].get(name)
            value = None if channel is None else channel.volumes.at(at).value
            if value is None:
                return {}
            steps = ", ".join(f"{format_plain(s.at_least)}: {format_plain(s.discount)}" for s in value.steps)
            return {(name,): f"{value.applies_to} {steps}"}

        def entry(index: int, at: datetime, name: str = name) -> Values:
            span = channels[index][name].prices.at(at) if name in channels[index] else None
            return {(name, "effective from"): format_instant(span.start)} if span and span.value is not None else {}

        times = boundaries(channel.prices for channel in present)
        moved = set()
        for change in compare_over_time("channel", times, lambda at: price(0, at), lambda at: price(1, at)):
            moved.add(change.start)
            yield change
        for change in compare_over_time("channel_entry", times, lambda at: entry(0, at), lambda at: entry(1, at)):
            if change.start not in moved:
                yield change
        times = boundaries(channel.volumes for channel in present)
        yield from compare_over_time("volume_discount", times, lambda at: volume(0, at), lambda at: volume(1, at))
