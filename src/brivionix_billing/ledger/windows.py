"""Windows of time in which limits count requests.

A window has counters, each with a start. A request is counted by one of them, for ever. A calendar window is one
counter, and a rolling window is the sum of some. No function reads a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.times import END_OF_TIME, CalendarDays, Period, load_zone

__all__ = ["CounterRange", "Window", "parse_window"]

_ROLLING: Final = re.compile(r"([1-9][0-9]{0,3})h", re.ASCII)
_TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_CALENDAR: Final = ("hour", "day", "week", "month")
_WHOLE_DAYS: Final = ("day", "week", "month")
"""Calendar windows that never overlap. If clocks are put back, hours and times of the day can."""
_MAX_HOURS: Final = 24 * 366
_STEPS: Final = 60
"""Counters of a rolling window. N hours have steps of N minutes."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = "~"
"""Sorts after every start."""


class CounterRange(NamedTuple):
    """The counters that count at one instant."""

    current: str
    """Start of the counter of a request at this instant."""
    first: str
    last: str
    """The counters with starts from ``first`` to ``last`` add up to the use of the window."""


class Window:
    """A window: rolling hours (``5h``), a calendar ``hour``, ``day``, ``week`` or ``month``, or ``22:00-06:00``."""

    __slots__ = ("_days", "_latest", "_rolling", "_times", "_zone", "text", "zone")

    def __init__(self, text: str, zone: str) -> None:
        rolling, times = _ROLLING.fullmatch(text), _TIME_OF_DAY.fullmatch(text)
        self.text, self.zone = text, zone
        self._rolling = timedelta(hours=int(rolling[1])) if rolling else None
        self._times = (time(int(times[1]), int(times[2])), time(int(times[3]), int(times[4]))) if times else None
        self._zone, self._days = load_zone(zone), CalendarDays(zone)
        self._latest: tuple[datetime, datetime, CounterRange] | None = None
        """The latest result, and the time for which it holds: most requests are in the same window."""

    @property
    def is_rolling(self) -> bool:
        """Whether the window is one of rolling hours."""
        return self._rolling is not None

    def counters(self, at: datetime) -> CounterRange | None:
        """Return the counters at an instant in UTC; ``None`` if the window does not include it.

        In a rolling window, later counters count as well: the clocks of several machines differ. Raises
        ``invalid_time`` at the limits of the calendar.
        """
        latest = self._latest
        if latest is not None and latest[0] <= at < latest[1]:
            return latest[2]
        try:
            return self._counters(at)
        except OverflowError:
            raise BillingError(
                "invalid_time", f"the window {self.text} at {at.isoformat()} is outside the years 1 to 9999"
            ) from None

    def _counters(self, at: datetime) -> CounterRange | None:
        if self._rolling is not None:
            step = self._rolling / _STEPS
            current = _EPOCH + (at - _EPOCH) // step * step
            # The first step of which a part is within the window.
            range = CounterRange(format_timestamp(current), format_timestamp(current - self._rolling), _LAST)
            self._latest = current, current + step, range
            return range
        span = self._span(at)
        if span is None:
            return None
        start = format_timestamp(span[0])
        range = CounterRange(start, start, start)
        if self.text in _WHOLE_DAYS:
            self._latest = *span, range
        return range

    def end(self, start: str, at: datetime) -> datetime:
        """Return the instant from which a counter no longer counts. ``at``: an instant at which it counts."""
        try:
            if self._rolling is not None:
                return parse_timestamp(start) + self._rolling + self._rolling / _STEPS
            span = self._span(at)
        except OverflowError:
            return END_OF_TIME
        return END_OF_TIME if span is None else span[1]

    def _span(self, at: datetime) -> tuple[datetime, datetime] | None:
        """Return start and end of the calendar window of an instant."""
        if self._times is not None:
            return self._time_of_day(at, *self._times)
        if self.text == "hour":
            local = at.astimezone(self._zone)
            start = at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            return start, start + timedelta(hours=1)
        day = self._days.at(at)
        if self.text == "day":
            return day.start, day.end
        if self.text == "month":
            period = Period.parse(day.value[:7], self.zone)
        else:
            value = date.fromisoformat(day.value)
            monday = value - timedelta(days=value.weekday())
            period = Period.parse(f"{monday}/{monday + timedelta(days=7)}", self.zone)
        return period.start, period.end

    def _time_of_day(self, at: datetime, start: time, end: time) -> tuple[datetime, datetime] | None:
        """Return the times of the range that includes an instant by the clock on the wall."""
        local = at.astimezone(self._zone)
        clock, first = local.time(), local.date()
        if start < end:
            if not start <= clock < end:
                return None
            last = first
        else:
            if end <= clock < start:
                return None
            if clock < end:
                first -= timedelta(days=1)
            last = first + timedelta(days=1)
        # If clocks are put back over the end, the range goes on until the second time that they show it.
        ends = [datetime.combine(last, end, self._zone).replace(fold=fold).astimezone(UTC) for fold in (0, 1)]
        return datetime.combine(first, start, self._zone).astimezone(UTC), max(ends)


@lru_cache(maxsize=1024)
def parse_window(text: str, zone: str = "UTC") -> Window:
    """Return a window. Raises ``invalid_argument`` for another text, and ``invalid_period`` for an unknown zone."""
    rolling = _ROLLING.fullmatch(text) if isinstance(text, str) else None
    times = _TIME_OF_DAY.fullmatch(text) if isinstance(text, str) else None
    is_valid = text in _CALENDAR or (times and (times[1], times[2]) != (times[3], times[4]))
    if rolling:
        is_valid = int(rolling[1]) <= _MAX_HOURS
        if zone != "UTC":
            raise BillingError("invalid_argument", f"the window {text} is rolling: it has no time zone; remove it")
    if not is_valid:
        raise BillingError(
            "invalid_argument",
            f"the window is {safe_repr(text)}; use hour, day, week, month, rolling hours from 1h to {_MAX_HOURS}h, or "
            "times of the day such as 22:00-06:00",
        )
    return Window(text, zone)
