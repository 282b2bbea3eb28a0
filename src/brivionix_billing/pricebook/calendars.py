"""Calendars: windows of local time, such as the peak hours of a provider on working days."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final, NamedTuple

from brivionix_billing.times import END_OF_TIME, Timeline, load_zone

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = ["ALL_MINUTES", "Calendar", "CalendarRule", "compile_calendar"]

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = timedelta(days=1)
_MINUTES_OF_DAY: Final = 24 * 60
_MINUTES_OF_WEEK: Final = 7 * _MINUTES_OF_DAY
ALL_MINUTES: Final = (1 << _MINUTES_OF_WEEK) - 1
"""All minutes of a week, as :meth:`Calendar.week_minutes` returns them."""
_HALF_A_YEAR: Final = timedelta(days=182)
_SECOND: Final = timedelta(seconds=1)
_MAX_SEARCH_DAYS: Final = 400
"""The next start or end of a window is searched for this many days. Holidays are shorter than a year."""


class CalendarRule(NamedTuple):
    """Hours of some days, in local time."""

    weekdays: frozenset[int]
    """0 is Monday."""
    hours: tuple[tuple[int, int], ...]
    """(start, end) in minutes after midnight; the start is included, the end is not. A range whose end is not after its
    start ends on the next day, and belongs to the day on which it starts."""
    excluded_dates: tuple[tuple[date, date], ...]
    """Ranges of dates, both ends included."""

    def has_day(self, day: date) -> bool:
        """Return whether windows start on a day."""
        return day.weekday() in self.weekdays and not any(first <= day <= last for first, last in self.excluded_dates)

    def contains(self, local: datetime) -> bool:
        """Return whether a local time is in a window."""
        day, minute = local.date(), local.hour * 60 + local.minute
        for start, end in self.hours:
            if start < end:
                if start <= minute < end and self.has_day(day):
                    return True
            elif (minute >= start and self.has_day(day)) or (minute < end and self.has_day(day - _DAY)):
                return True
        return False


class Calendar:
    """Dated rules in one time zone. Immutable."""

    __slots__ = ("_zone", "name", "rules", "zone_name")

    def __init__(self, name: str, zone_name: str, rules: Timeline[CalendarRule]) -> None:
        self.name, self.zone_name, self.rules = name, zone_name, rules
        self._zone: tzinfo = load_zone(zone_name)

    def contains(self, at: datetime) -> bool:
        """Return whether an instant in UTC is in a window: the start of a window is, its end is not."""
        rule = self.rules.at(at).value
        if rule is None:
            return False
        try:
            return rule.contains(at.astimezone(self._zone))
        except OverflowError:  # outside the years 1 to 9999 in this zone
            return False

    def week_minutes(self, at: datetime) -> int:
        """Return the minutes of a week that are in a window by the rule of a time: bit 0 is Monday, 00:00 in UTC.

        Excluded dates are ignored, and the offset of the time zone at that time is used for the whole week.
        """
        rule, minutes = self.rules.at(at).value, 0
        if rule is None:
            return 0
        offset = at.astimezone(self._zone).utcoffset() or timedelta()
        for day in rule.weekdays:
            for start, end in rule.hours:
                length = end - start if start < end else end - start + _MINUTES_OF_DAY
                shift = (day * _MINUTES_OF_DAY + start - int(offset.total_seconds()) // 60) % _MINUTES_OF_WEEK
                window = ((1 << length) - 1) << shift
                minutes |= (window | window >> _MINUTES_OF_WEEK) & ALL_MINUTES
        return minutes

    def overlaps(self, other: Calendar) -> bool:
        """Return whether windows of two calendars have minutes in common, by their rules and in summer or winter.

        Excluded dates are ignored.
        """
        starts = {entry.start for calendar in (self, other) for entry in calendar.rules.entries}
        moments = starts | {start + _HALF_A_YEAR for start in starts if start < END_OF_TIME - _HALF_A_YEAR}
        return any(self.week_minutes(moment) & other.week_minutes(moment) for moment in moments)

    def next_change(self, at: datetime) -> datetime | None:
        """Return the first instant after ``at`` when a window starts or ends; ``None`` if there is none in a year."""
        inside = self.contains(at)
        for moment in sorted(self._boundaries(at)):
            if moment > at and self.contains(moment) is not inside:
                return moment
        return None

    def windows(self, at: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
        """Return the windows that end after ``at`` and start before ``until``, in order, as (start, end).

        A window that is open at ``at`` starts there, and one that is open at ``until`` ends there. ``until`` is at most
        a year after ``at``.
        """
        found: list[tuple[datetime, datetime]] = []
        start = at if self.contains(at) else None
        for moment in sorted({moment for moment in self._boundaries(at) if at < moment < until}):
            inside = self.contains(moment)
            if inside and start is None:
                start = moment
            elif not inside and start is not None:
                found.append((start, moment))
                start = None
        return found if start is None else [*found, (start, until)]

    def _boundaries(self, at: datetime) -> Iterable[datetime]:
        """Yield every instant of the next days at which a window may start or end."""
        yield from (entry.start for entry in self.rules.entries)
        yield from (entry.end for entry in self.rules.entries if entry.end != END_OF_TIME)
        minutes = {minute for entry in self.rules.entries for hours in entry.value.hours for minute in hours}
        try:
            first = at.astimezone(self._zone).date() - _DAY
            before: datetime | None = None
            for offset in range(_MAX_SEARCH_DAYS):
                midnight = datetime.combine(first + offset * _DAY, datetime.min.time())
                for minute in minutes:
                    local = midnight + timedelta(minutes=minute)
                    yield local.replace(tzinfo=self._zone).astimezone(UTC)
                here = midnight.replace(tzinfo=self._zone).astimezone(UTC)
                if before is not None and self._offset(before) != self._offset(here):
                    yield from self._clock_change(before, here, minutes)
                before = here
        except OverflowError:
            return

    def _offset(self, at: datetime) -> timedelta | None:
        return at.astimezone(self._zone).utcoffset()

    def _clock_change(self, start: datetime, end: datetime, minutes: Iterable[int]) -> Iterable[datetime]:
        """Yield the instant at which local clocks are changed, and the boundaries of the hour that occurs twice."""
        while end - start > _SECOND:
            middle = start + (end - start) // 2
            start, end = (start, middle) if self._offset(middle) != self._offset(start) else (middle, end)
        moment = end.replace(microsecond=0)
        yield moment
        local_day = datetime.combine(start.astimezone(self._zone).date(), datetime.min.time())
        for minute in minutes:
            local = local_day + timedelta(minutes=minute)
            yield local.replace(tzinfo=self._zone, fold=1).astimezone(UTC)


def compile_calendar(name: str, item: schema.Calendar) -> Calendar:
    """Return the calendar of a price file."""
    entries = []
    for rule in item.rules:
        names = WEEKDAYS if rule.weekdays is None else rule.weekdays
        value = CalendarRule(frozenset(map(WEEKDAYS.index, names)), tuple(rule.hours), tuple(rule.excluded_dates))
        entries.append((rule.since, rule.until, value))
    return Calendar(name, item.time_zone, Timeline(entries))
