"""What a change of a price file changes: for which models and groups, from when, and by how much.

Two price books are compared at every time at which a dated entry of either of them starts or ends. List prices are
compared once per model, and the terms of groups apart, so that a change of a list price is one change for all groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import Rounding, format_plain, format_scaled, round_quotient, to_scaled
from brivionix_billing.errors import BillingError
from brivionix_billing.meters import MINIMUM_METER
from brivionix_billing.pricebook.book import PriceBook
from brivionix_billing.pricebook.price_sets import PriceSet
from brivionix_billing.rating.rate_card import Variation
from brivionix_billing.times import END_OF_TIME, Timeline, format_instant

__all__ = ["PriceChange", "is_edit", "list_prices", "percent_change", "price_changes", "price_label"]

_NOT_SOLD: Final = frozenset({"service_tier_unavailable", "no_price"})

Values = Mapping[tuple[str, ...], Decimal | str]
"""Subject -> a price, a ratio, or another term as text."""


class PriceChange(NamedTuple):
    """A difference between two price books, over a period in which both values stay the same."""

    kind: str
    """``list_price``, ``group_price``, ``ratio``, ``access`` (to a model), ``channel`` or ``volume_discount``."""
    subject: tuple[str, ...]
    """What changes: the model, the service tier, the context and so on; of terms, first the group."""
    start: datetime
    end: datetime
    old: Decimal | str | None
    """``None``: there is no such price or term."""
    new: Decimal | str | None
    groups: tuple[str, ...] = ()
    """Of a list price, the groups that may use the model in that period and pay its list price x their ratio."""

    def as_dict(self) -> dict[str, Any]:
        """Return the change as JSON data. Prices are strings."""
        percent = percent_change(self.old, self.new)
        return {
            "kind": self.kind,
            "subject": list(self.subject),
            "from": format_instant(self.start),
            "until": None if self.end == END_OF_TIME else format_instant(self.end),
            "old": _text(self.old),
            "new": _text(self.new),
            "percent": percent,
            "groups": list(self.groups),
        }


def _text(value: Decimal | str | None) -> str | None:
    return format_plain(value) if isinstance(value, Decimal) else value


def percent_change(old: Decimal | str | None, new: Decimal | str | None) -> str | None:
    """Return the change in per cent with two decimal places, half up; ``None`` if there is no ratio of the two.

    >>> percent_change(Decimal("0.75"), Decimal("0.6"))
    '-20.00'
    """
    if not isinstance(old, Decimal) or not isinstance(new, Decimal) or not old:
        return None
    (before, before_places), (after, after_places) = to_scaled(old), to_scaled(new)
    before, after = before * 10**after_places, after * 10**before_places
    return format_scaled(round_quotient((after - before) * 10_000, before, Rounding.HALF_UP), 2)


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


def is_edit(change: PriceChange, old: PriceBook) -> bool:
    """Return whether a change edits what was in force in the old price book when it starts.

    A model, a group or a channel that the old file did not have then is an addition, whatever date it has.
    """
    name, at = change.subject[0], change.start
    if change.kind == "list_price":
        return name in old.resolver.models and bool(list_prices(old, name, change.subject[1], at))
    if change.kind in ("channel", "volume_discount"):
        return name in old.channels() and old.channels()[name].prices.at(at).value is not None
    return name in old.resolver.groups and old.resolver.groups[name].at(at).value is not None


def price_changes(old: PriceBook, new: PriceBook) -> list[PriceChange]:
    """Return every difference between the prices of two price books, by time, then by kind and subject."""
    changes = [
        *_list_price_changes(old, new),
        *_group_changes(old, new),
        *_channel_changes(old, new),
    ]
    return sorted(changes, key=lambda change: (change.start, change.kind, change.subject))


def _boundaries(timelines: Iterable[Timeline[Any]]) -> list[datetime]:
    """Return every time at which an entry starts or ends, in order."""
    return sorted(
        {moment for timeline in timelines for entry in timeline.entries for moment in (entry.start, entry.end)}
    )


def _compare(
    kind: str, times: list[datetime], old: Callable[[datetime], Values], new: Callable[[datetime], Values]
) -> Iterator[PriceChange]:
    """Yield the differences of two functions of time, each over the longest period in which it stays the same."""
    running: dict[tuple[str, ...], PriceChange] = {}
    for start, end in pairwise([*times, END_OF_TIME]):
        if start == END_OF_TIME:
            break
        before, after = old(start), new(start)
        differing = {
            key: (before.get(key), after.get(key)) for key in {**before, **after} if before.get(key) != after.get(key)
        }
        for key in [key for key, change in running.items() if differing.get(key) != (change.old, change.new)]:
            yield running.pop(key)
        for key, (was, now) in differing.items():
            known = running.get(key)
            running[key] = known._replace(end=end) if known else PriceChange(kind, key, start, end, was, now)
    yield from running.values()


def _list_price_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    same_defaults = all(
        getattr(old.file, section) == getattr(new.file, section)
        for section in ("tools", "cache_discount", "exchange_rates", "credit", "meters", "calendars")
    )
    for model in dict.fromkeys([*old.model_names, *new.model_names]):
        if same_defaults and old.file.models.get(model) == new.file.models.get(model):
            continue
        books = [book for book in (old, new) if model in book.resolver.models]
        for tier in dict.fromkeys(tier for book in books for tier in book.resolver.models[model]):
            times = _boundaries(t for book in books for t in book.resolver.list_price_timelines(model, tier))

            def values(book: PriceBook, at: datetime, model: str = model, tier: str = tier) -> Values:
                if model not in book.resolver.models:
                    return {}
                return {(model, tier, *key): price for key, price in list_prices(book, model, tier, at).items()}

            for change in _compare("list_price", times, lambda at: values(old, at), lambda at: values(new, at)):
                yield change._replace(
                    groups=_paying_groups(new, model, tier, change) or _paying_groups(old, model, tier, change)
                )


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
        times = _boundaries(book.resolver.groups[group] for book in (old, new) if group in book.resolver.groups)
        for kind, values in (("ratio", _ratios), ("access", _access), ("group_price", _group_prices)):
            yield from _compare(
                kind,
                times,
                lambda at, values=values, group=group: values(old, group, at),  # type: ignore[misc]
                lambda at, values=values, group=group: values(new, group, at),  # type: ignore[misc]
            )


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
    return {
        (group, model, tier, context, price_label(variation), meter): price
        for (model, tier), own in terms.prices.items()
        for variation in _variations(own)
        for context, prices in ((str(c), p) for c, p in own.select(variation, book.meters).contexts)
        for meter, price in prices.items()
    }


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

        times = _boundaries(channel.prices for channel in present)
        yield from _compare("channel", times, lambda at: price(0, at), lambda at: price(1, at))
        times = _boundaries(channel.volumes for channel in present)
        yield from _compare("volume_discount", times, lambda at: volume(0, at), lambda at: volume(1, at))
