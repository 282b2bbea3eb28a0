"""Compares the peak windows of a source with those of a price file by their hours, whatever their calendars are called.

A source states a whole week: every minute of it has a price. Excluded dates and dated rules are only in price files, so
the weeks of two calendars are compared without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from brivionix_billing.importing.catalog import Catalog, PriceSet
from brivionix_billing.importing.price_sets import VARIANT_KEYS
from brivionix_billing.importing.windows import fixed_offset
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.calendars import ALL_MINUTES, Calendar, compile_calendar

__all__ = ["common_windows", "compiled_calendars", "match_calendars"]


def common_windows(ours: Mapping[str, int], theirs: Mapping[str, int]) -> Iterator[tuple[str | None, str | None]]:
    """Yield each pair of windows that some minute of the week is in; ``None``: in no window. The first window applies.

    The arguments map windows in their order to their minutes of the week.

    >>> list(common_windows({"day": 0b0110}, {"night": 0b0001, "noon": 0b0010}))
    [(None, None), (None, 'night'), ('day', None), ('day', 'noon')]
    """
    parts = [list(_parts(each)) for each in (ours, theirs)]
    for one, minutes in parts[0]:
        for other, more in parts[1]:
            if minutes & more:
                yield one, other


def _parts(windows: Mapping[str, int]) -> Iterator[tuple[str | None, int]]:
    taken, found = 0, []
    for name, minutes in windows.items():
        found.append((name, minutes & ~taken))
        taken |= minutes
    yield None, ALL_MINUTES & ~taken
    yield from found


def compiled_calendars(catalog: Catalog) -> dict[str, Calendar]:
    """Return the calendars of a catalog, compiled."""
    return {
        name: compile_calendar(name, schema.Calendar.model_validate(calendar))
        for name, calendar in catalog.calendars.items()
    }


def match_calendars(catalog: Catalog, known: Mapping[str, Calendar], at: datetime) -> None:
    """Rename the calendars of a catalog: to the calendar of the file with the same week, or to a name that is free."""
    meanings: dict[object, str] = {}
    for name, calendar in known.items():
        meanings.setdefault(_meaning(calendar, at), name)
    names: dict[str, str] = {}
    for name, calendar in compiled_calendars(catalog).items():
        same = meanings.get(_meaning(calendar, at))
        if same is None:
            same, number = name, 2
            while same in known or same in names.values():
                same, number = f"{name}-{number}", number + 1
        names[name] = same
    if all(name == new for name, new in names.items()):
        return
    catalog.calendars = {names[name]: calendar for name, calendar in catalog.calendars.items()}
    for model in catalog.models.values():
        for entry in model.prices:
            entry.tiers = {tier: _renamed(prices, names) for tier, prices in entry.tiers.items()}


def _meaning(calendar: Calendar, at: datetime) -> object:
    """Return what two calendars with the same week have in common, also after clocks change."""
    fixed = fixed_offset(calendar.zone_name)[1] is not None
    return calendar.week_minutes(at), None if fixed else calendar.zone_name


def _renamed(prices: PriceSet, names: Mapping[str, str]) -> PriceSet:
    out: dict[str, Any] = dict(prices)
    for key in VARIANT_KEYS:
        if key in prices:
            out[key] = {
                names.get(name, name) if key == "windows" else name: _renamed(variant, names)
                for name, variant in prices[key].items()
            }
    return out
