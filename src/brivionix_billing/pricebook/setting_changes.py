"""Differences in what prices depend on beside the prices themselves: settings, calendars, and the meaning of names.

Most of it has no date, so a change applies to all requests, past ones included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from brivionix_billing.errors import BillingError
from brivionix_billing.meters import Meter
from brivionix_billing.pricebook.book import PriceBook
from brivionix_billing.pricebook.calendars import WEEKDAYS, Calendar, CalendarRule
from brivionix_billing.pricebook.name_changes import changed_names
from brivionix_billing.pricebook.price_change import PriceChange, boundaries
from brivionix_billing.pricebook.price_sets import PriceSet
from brivionix_billing.times import END_OF_TIME, load_zone

__all__ = ["is_setting_in_use", "setting_changes"]

_USUAL: Final = "usual price"


def setting_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    """Yield the differences in settings and names."""
    start = min(_first_price(old), _first_price(new))
    yield from _credit_changes(old, new, start)
    yield from _calendar_changes(old, new)
    yield from _meter_changes(old, new, start)
    yield from _unpriced_changes(old, new)
    yield from _route_changes(old, new, start)
    yield from _model_name_changes(old, new)
    for kind, meanings in (("service_tier", _tier_meanings), ("region", _region_meanings), ("upstream", _conventions)):
        names = _declared(old, kind) | _declared(new, kind)
        before, after = meanings(old, names), meanings(new, names)
        for name in names:
            if before[name] != after[name]:
                yield PriceChange(kind, (name,), start, END_OF_TIME, before[name], after[name])


def is_setting_in_use(change: PriceChange, old: PriceBook) -> bool:
    """Return whether a past charge can depend on the old value of a change of :func:`setting_changes`."""
    if change.old is None and change.kind != "calendar":
        return False
    name = change.subject[0] if change.subject else ""
    sets = list(_price_sets(old))
    if change.kind == "calendar":
        return any(name in each.names("window") for each in sets)
    if change.kind == "meter":
        return any(name in _meters_of(each) for each in sets)
    if change.kind == "region":
        used = {region for each in sets for region in each.names("region")}
        return bool(used) and (change.old == _USUAL or change.old in used)
    return True


def _price_sets(book: PriceBook) -> Iterator[PriceSet]:
    for tiers in book.resolver.models.values():
        for timeline in tiers.values():
            yield from (entry.value for entry in timeline.entries)


def _meters_of(item: PriceSet) -> set[str]:
    found = {*item.prices, *(name for context in item.contexts for name in context.prices)}
    for variants in item.variants.values():
        for variant in variants.values():
            if isinstance(variant, PriceSet):
                found |= _meters_of(variant)
    return found


def _first_price(book: PriceBook, model: str | None = None) -> datetime:
    """Return the time from which a model, or any model, has a price."""
    models = book.resolver.models if model is None else {model: book.resolver.models.get(model, {})}
    starts = [entry.start for tiers in models.values() for each in tiers.values() for entry in each.entries]
    return min(starts, default=END_OF_TIME)


def _credit_changes(old: PriceBook, new: PriceBook, start: datetime) -> Iterator[PriceChange]:
    values: tuple[tuple[str, tuple[str, ...], Decimal | str, Decimal | str], ...] = (
        ("credit", ("currency",), old.currency, new.currency),
        ("credit", ("nominal_per_credit",), old.nominal_per_credit, new.nominal_per_credit),
        ("priced_model", (), old.priced_model, new.priced_model),
    )
    for kind, subject, before, after in values:
        if before != after:
            yield PriceChange(kind, subject, start, END_OF_TIME, before, after)


def _calendar_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    """Yield the periods in which the windows of a calendar differ, from the first window that does."""
    before, after = old.calendars(), new.calendars()
    for name in dict.fromkeys([*before, *after]):
        present = [each[name] for each in (before, after) if name in each]
        times = boundaries(calendar.rules for calendar in present)
        for start, end in zip(times, [*times[1:], END_OF_TIME], strict=True):
            one, other = (_rule(each.get(name), start) for each in (before, after))
            differs = None if start == END_OF_TIME else _first_difference(one, other, start)
            if differs is not None and differs < end:
                yield PriceChange("calendar", (name,), differs, end, _rule_text(one), _rule_text(other))


_DatedRule = tuple[Calendar, CalendarRule]


def _rule(calendar: Calendar | None, at: datetime) -> _DatedRule | None:
    rule = None if calendar is None else calendar.rules.at(at).value
    return None if calendar is None or rule is None else (calendar, rule)


def _first_difference(one: _DatedRule | None, other: _DatedRule | None, start: datetime) -> datetime | None:
    """Return the time from which two rules differ, or ``None``. Excluded dates differ from the first of them on."""
    if one is None or other is None:
        return None if one is other else start
    (calendar, rule), other_rule = one, other[1]
    weekly = [(c.zone_name, r.weekdays, _merged(r.hours)) for c, r in (one, other)]
    if weekly[0] != weekly[1]:
        return start
    days = [day for day in _differing_days(rule, other_rule) if day.weekday() in rule.weekdays]
    zone = load_zone(calendar.zone_name)
    starts = (datetime.combine(day, time.min, zone).astimezone(UTC) for day in days)
    # A window that starts on the day before may reach into the period.
    return next((max(moment, start) for moment in starts if moment + timedelta(days=2) > start), None)


def _differing_days(one: CalendarRule, other: CalendarRule) -> Iterable[date]:
    """Return the days that only one of two rules excludes, in order."""
    excluded = [
        {
            first + timedelta(days=offset)
            for first, last in rule.excluded_dates
            for offset in range(min((last - first).days, _MAX_EXCLUDED_DAYS) + 1)
        }
        for rule in (one, other)
    ]
    return sorted(excluded[0] ^ excluded[1])


_MAX_EXCLUDED_DAYS: Final = 100_000


def _merged(hours: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return ranges of minutes that neither overlap nor touch, in order. The end may be on the next day."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((start, end if start < end else end + 24 * 60) for start, end in hours):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(merged)


def _rule_text(dated: _DatedRule | None) -> str | None:
    if dated is None:
        return None
    calendar, rule = dated
    days = "daily" if len(rule.weekdays) == len(WEEKDAYS) else " ".join(WEEKDAYS[day] for day in sorted(rule.weekdays))
    hours = " ".join(f"{s // 60:02}:{s % 60:02}-{e // 60:02}:{e % 60:02}" for s, e in rule.hours)
    excluded = " ".join(f"{first}/{last}" if first != last else f"{first}" for first, last in rule.excluded_dates)
    return f"{days} {hours} {calendar.zone_name}" + (f" except {excluded}" if excluded else "")


def _meter_changes(old: PriceBook, new: PriceBook, start: datetime) -> Iterator[PriceChange]:
    properties: tuple[tuple[str, Callable[[Meter], Decimal | str]], ...] = (
        ("unit", lambda meter: meter.unit),
        ("per", lambda meter: Decimal(meter.per)),
    )
    for name in old.file.meters:
        if name in new.meters:
            for key, value in properties:
                before, after = value(old.meters[name]), value(new.meters[name])
                if before != after:
                    yield PriceChange("meter", (name, key), start, END_OF_TIME, before, after)


def _unpriced_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    for model in old.model_names:
        if model in new.resolver.models:
            before, after = (book.resolver.unpriced_tokens(model) for book in (old, new))
            if before != after:
                yield PriceChange("unpriced_tokens", (model,), _first_price(old, model), END_OF_TIME, before, after)


def _route_changes(old: PriceBook, new: PriceBook, start: datetime) -> Iterator[PriceChange]:
    """Yield the models of the old file that a router may serve in one file only."""
    routes = [book.resolver.routes for book in (old, new)]
    for router in routes[0]:
        if router not in routes[1]:
            continue  # its prices are those of another kind of model
        for model in old.model_names:
            before, after = ("allowed" if each[router](model) else None for each in routes)
            if before != after and model != router:
                yield PriceChange("route", (router, model), start, END_OF_TIME, before, after)


def _model_name_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    """Yield what names mean, except where the model itself is new, or is gone: its prices state that."""
    start = _first_price(old)
    for name, before, after in changed_names(old.resolver.names, new.resolver.names):
        if before is None and after is not None and after not in old.resolver.models and "*" not in after:
            continue
        if after is None and before is not None and before not in new.resolver.models and "*" not in before:
            continue
        since = _first_price(old, before) if before in old.resolver.models else start
        yield PriceChange("name", (name,), since, END_OF_TIME, before, after)


def _declared(book: PriceBook, kind: str) -> dict[str, None]:
    """Return the names of tiers, regions or upstreams that a file states."""
    if kind == "upstream":
        return dict.fromkeys(book.file.upstreams)
    sections: Mapping[str, list[str]] = book.file.service_tiers if kind == "service_tier" else book.file.regions
    return {name.lower(): None for key, names in sections.items() for name in (key, *names)}


def _tier_meanings(book: PriceBook, names: Iterable[str]) -> dict[str, str | None]:
    tiers = book.resolver.tiers
    return {name: tiers.normalize(name) if tiers.knows(name) else None for name in names}


def _region_meanings(book: PriceBook, names: Iterable[str]) -> dict[str, str | None]:
    """Return the region that each name means. A name that is not declared is a region if a price names it."""
    regions = {region.lower(): region for each in _price_sets(book) for region in each.names("region")}
    found = {}
    for name in names:
        meaning = book.resolver.regions.normalize(name)
        if meaning == name and meaning not in book.file.regions:
            meaning = regions.get(name, "")
        found[name] = _USUAL if meaning is None else meaning or None
    return found


def _conventions(book: PriceBook, names: Iterable[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in names:
        try:
            conventions = book.conventions(name)
        except BillingError:
            found[name] = None
            continue
        found[name] = ", ".join(f"{key} {value}" for key, value in conventions._asdict().items())
    return found
