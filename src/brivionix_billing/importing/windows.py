"""Turns daily or weekly windows in UTC into calendars of a price file.

Sources state windows as ranges of hours, some with weekdays; several may overlap, and the last one that applies wins.
The week is divided into minutes, and each minute has a *state*: the windows that it is in. All minutes of one state
have the same prices. One state is the usual one; every other becomes one or more calendars.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["State", "Week", "Window", "calendar_name", "divide_week", "fixed_offset", "parse_hours"]

_DAY: Final = 24 * 60
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::00)?Z?", re.ASCII)
ALL_DAYS: Final = frozenset(range(7))
_MAX_WINDOWS: Final = 50

State = frozenset[int]
"""The windows that a minute is in, by their labels."""


class Window(NamedTuple):
    """Hours of a day in UTC, in minutes after midnight; the end may be on the next day.

    ``weekdays`` are those of the instants inside, not of the start: 0 is Monday, in ``zone``.
    """

    start: int
    end: int
    weekdays: frozenset[int] = ALL_DAYS
    label: int = 0
    """Windows with the same label mean the same prices."""


class Week(NamedTuple):
    """The states of a week, and the calendars of each state but the usual one."""

    usual: State
    calendars: dict[State, list[dict[str, Any]]]


def parse_hours(text: object) -> int | None:
    """Return a time of day in minutes after midnight; ``None`` if it is not one.

    >>> parse_hours("16:30:00Z")
    990
    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    return int(match[1]) * 60 + int(match[2]) if match else None


def divide_week(
    windows: Sequence[Window], zone_name: str = "UTC", *, resolve: Callable[[State], State] = lambda state: state
) -> Week | None:
    """Divide the week into states and return their calendars.

    ``resolve`` returns one state for all that mean the same prices. The usual state is the one that needs the fewest
    calendars besides it; of several, the one without a window. Returns ``None`` if a calendar cannot express the
    windows: weekdays in a zone whose offset changes, an unknown zone, or too many windows.
    """
    if not windows:
        return Week(frozenset(), {})
    zone, offset = fixed_offset(zone_name)
    if zone is None or offset is None:
        if any(window.weekdays != ALL_DAYS for window in windows):
            return None
        zone_name, offset = "UTC", 0
    if all(window.weekdays == ALL_DAYS for window in windows):
        zone_name, offset = "UTC", 0
    if len(windows) > _MAX_WINDOWS:
        return None
    found = _states(tuple(windows), offset)
    meaning = {state: resolve(state) for state in dict.fromkeys(found)}
    states = [meaning[state] for state in found]
    rules = {state: _rules([each == state for each in states]) for state in dict.fromkeys(states)}
    usual = min(rules, key=lambda state: (-len(rules[state]), bool(state)))
    return Week(
        usual,
        {
            state: [{"time_zone": zone_name, "rules": [{"from": "2000-01-01", **rule}]} for rule in parts]
            for state, parts in rules.items()
            if state != usual
        },
    )


def calendar_name(calendar: dict[str, Any]) -> str:
    """Return a name that says what the calendar is, so that equal calendars have equal names."""
    rule = calendar["rules"][0]
    days = rule.get("weekdays")
    parts = [
        calendar["time_zone"].lower().replace("/", "-").replace("_", "-"),
        "daily" if days is None else f"{days[0]}-{days[-1]}" if _is_range(days) and len(days) > 1 else "-".join(days),
        *(hours.replace(":", "") for hours in rule["hours"]),
    ]
    name = "-".join(parts)
    return name if len(name) <= 80 else f"{name[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _is_range(days: Sequence[str]) -> bool:
    first = _WEEKDAYS.index(days[0])
    return list(days) == list(_WEEKDAYS[first : first + len(days)])


@lru_cache(64)
def _states(windows: tuple[Window, ...], offset: int) -> list[State]:
    """Return the state of each minute of the week in local time."""
    return [_state(windows, minute, offset) for minute in range(7 * _DAY)]


def _state(windows: Sequence[Window], local_minute: int, offset: int) -> State:
    weekday, utc = local_minute // _DAY, (local_minute - offset) % _DAY
    return frozenset(window.label for window in windows if weekday in window.weekdays and _contains(window, utc))


def _contains(window: Window, minute: int) -> bool:
    if window.start < window.end:
        return window.start <= minute < window.end
    return minute >= window.start or minute < window.end  # equal times are the whole day


def _rules(inside: list[bool]) -> list[dict[str, Any]]:
    """Return the rules, one per group of weekdays with the same hours, that together cover the marked minutes."""
    days_by_hours: dict[tuple[str, ...], list[int]] = {}
    for day in range(7):
        hours = _ranges(inside[day * _DAY : (day + 1) * _DAY])
        if hours:
            days_by_hours.setdefault(hours, []).append(day)
    return [
        {**({} if len(days) == 7 else {"weekdays": [_WEEKDAYS[day] for day in days]}), "hours": list(hours)}
        for hours, days in days_by_hours.items()
    ]


def _ranges(minutes: list[bool]) -> tuple[str, ...]:
    found, start = [], None
    for minute, inside in enumerate([*minutes, False]):
        if inside and start is None:
            start = minute
        elif not inside and start is not None:
            found.append(f"{_clock(start)}-{_clock(minute)}")
            start = None
    return tuple(found)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def fixed_offset(name: str) -> tuple[tzinfo | None, int | None]:
    """Return a time zone and its offset in minutes, if the offset never changes from 2020 to 2040."""
    if name == "UTC":
        return UTC, 0
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None, None
    start = datetime(2020, 1, 1, tzinfo=UTC)
    offsets = {(start + timedelta(days=10 * step)).astimezone(zone).utcoffset() for step in range(740)}
    if len(offsets) != 1:
        return zone, None
    return zone, int((offsets.pop() or timedelta()).total_seconds()) // 60
