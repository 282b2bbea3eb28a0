"""Instants, periods, calendar days and dated values. No function reads a clock."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from brivionix_billing.errors import BillingError, safe_repr

__all__ = [
    "END_OF_TIME",
    "DatedValue",
    "CalendarDays",
    "Period",
    "TimelineSpan",
    "Timeline",
    "as_utc",
    "format_instant",
    "format_timestamp",
    "load_zone",
    "local_instant",
    "parse_instant",
]

T = TypeVar("T")

END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
"""Sentinel for an open-ended period: the latest representable instant."""

_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2}))?",
    re.ASCII,
)
_WITHOUT_ZONE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?", re.ASCII)
_MAX_SEARCHED: Final = 8
"""Maximum number of entries of a timeline that a linear search is fastest for."""
_start_of: Final = attrgetter("start")
_MAX_HOURS: Final = 10_000
_MACHINE_DEPENDENT_ZONES = frozenset({"localtime", "posixrules", "Factory"})
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})", re.ASCII)


def as_utc(value: object) -> datetime:
    """Convert a time to UTC. Raises ``invalid_time`` for anything but a ``datetime`` with a time zone."""
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if not isinstance(value, datetime):
        raise BillingError("invalid_time", f"{safe_repr(value)} is not a time; use a datetime with a time zone")
    try:
        if value.utcoffset() is not None:
            return value.astimezone(UTC)
    except OverflowError:
        raise BillingError(
            "invalid_time",
            f"{value.replace(tzinfo=None).isoformat()} is outside the calendar in UTC; use a time within the "
            "years 1 to 9999",
        ) from None
    except Exception as error:  # a zone is external code and may raise anything
        raise BillingError(
            "invalid_time", f"the time zone raised {type(error).__name__}: {error}; use a zone of zoneinfo"
        ) from None
    raise BillingError("invalid_time", f"{value.isoformat()} has no time zone; use datetime(..., tzinfo=timezone.utc)")


def parse_instant(text: str) -> datetime:
    """Parse ``2026-10-01T00:00:03.113Z`` or, for midnight UTC, ``2026-10-01``. Raises ``invalid_time``.

    >>> parse_instant("2026-10-12").isoformat()
    '2026-10-12T00:00:00+00:00'
    """
    if isinstance(text, str) and len(text) <= 40 and _INSTANT.fullmatch(text):
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return as_utc(value.replace(tzinfo=UTC) if len(text) == 10 else value)
    if isinstance(text, str) and _WITHOUT_ZONE.fullmatch(text[:40]):
        raise BillingError(
            "invalid_time",
            f"{safe_repr(text)} has no time zone; add Z for UTC, or an offset such as +08:00: 2026-10-01T00:00:03Z",
        )
    raise BillingError(
        "invalid_time",
        f"{safe_repr(text)} is not a time; write 2026-10-01T00:00:03.113Z (or 2026-10-01 for midnight UTC)",
    )


def local_instant(value: datetime, zone: tzinfo) -> datetime:
    """Return a time without a zone, as the clocks of a zone show it, in UTC.

    Raises ``invalid_time`` for one that they show twice or never, because they are changed.
    """
    earlier, later = (value.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if earlier.utcoffset() != later.utcoffset():
        raise BillingError(
            "invalid_time", f"{value.isoformat()} occurs twice or never in its time zone; write it with its offset"
        )
    return as_utc(earlier)


def format_instant(value: datetime) -> str:
    """Format as RFC 3339 in UTC with ``Z``, microseconds only if there are any.

    Raises ``invalid_time`` if the time has no zone.
    """
    utc = as_utc(value)
    if utc.microsecond:
        return format_timestamp(utc)
    # Faster than isoformat, which asks the time zone for its offset.
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % (utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second)  # noqa: UP031


def format_timestamp(value: datetime) -> str:
    """Format as :func:`format_instant`, always with microseconds, so that texts sort like instants."""
    utc = as_utc(value)
    fields = (utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % fields  # noqa: UP031  # as above


class DatedValue(NamedTuple, Generic[T]):
    """A value that is effective from ``start`` (inclusive) to ``end`` (exclusive)."""

    start: datetime
    end: datetime
    value: T


class TimelineSpan(NamedTuple, Generic[T]):
    """The value of a timeline at an instant (``None``: no value), and the period in which it does not change."""

    start: datetime
    end: datetime
    value: T | None


class Timeline(Generic[T]):
    """Dated values in order. An entry is effective until the next one starts, or until its own end. Immutable."""

    __slots__ = ("entries",)

    def __init__(self, entries: Sequence[tuple[datetime, datetime | None, T]]) -> None:
        out: list[DatedValue[T]] = []
        for index, (start, until, value) in enumerate(entries):
            follower = entries[index + 1][0] if index + 1 < len(entries) else END_OF_TIME
            out.append(DatedValue(start, follower if until is None else min(until, follower), value))
        object.__setattr__(self, "entries", tuple(out))

    if TYPE_CHECKING:
        entries: tuple[DatedValue[T], ...]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a timeline is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a timeline is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return Timeline, (self.entries,)

    def at(self, when: datetime) -> TimelineSpan[T]:
        """Return the value at ``when``."""
        gap_start, gap_end = datetime.min.replace(tzinfo=UTC), END_OF_TIME
        entries = self.entries
        if len(entries) > _MAX_SEARCHED:
            # From the entry before, so that the loop finds the start of a gap. Few entries are faster without this.
            entries = entries[max(bisect_right(entries, when, key=_start_of) - 1, 0) :][:2]
        for entry in entries:
            if when < entry.start:
                gap_end = entry.start
                break
            if when < entry.end:
                return TimelineSpan(entry.start, entry.end, entry.value)
            gap_start = entry.end
        return TimelineSpan(gap_start, gap_end, None)


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start`` (inclusive) to ``end`` (exclusive), both UTC; ``zone`` is the time zone of its midnights."""

    start: datetime
    end: datetime
    zone: str = "UTC"

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> Period:
        """Parse ``2026-10`` (a month in ``zone``), or ``FROM/TO`` with dates (midnights in ``zone``) or instants.

        Raises ``invalid_period`` for anything else.

        >>> Period.parse("2026-10", "Asia/Shanghai").start.isoformat()
        '2026-09-30T16:00:00+00:00'
        """
        where = load_zone(zone)
        month = _MONTH.fullmatch(text) if isinstance(text, str) else None
        try:
            if month:
                year, number = int(month[1]), int(month[2])
                first = date(year, number, 1)
                after = date(year + number // 12, number % 12 + 1, 1)
                return cls(_midnight(first, where), _midnight(after, where), zone)
            begin, slash, end = text.partition("/")
            if slash:
                period = cls(_parse_boundary(begin, where), _parse_boundary(end, where), zone)
                if period.start < period.end:
                    return period
        except (ValueError, OverflowError, BillingError, AttributeError, TypeError):
            pass
        raise BillingError(
            "invalid_period",
            f"{safe_repr(text)} is not a period; write a month (2026-10) "
            "or FROM/TO (2026-10-01/2026-10-16), FROM before TO",
        )

    def contains(self, when: datetime) -> bool:
        """Return whether an instant is in the period."""
        return self.start <= when < self.end

    def __str__(self) -> str:
        return f"{format_instant(self.start)}/{format_instant(self.end)}"


class CalendarDays:
    """The calendar days of a time zone, each from its midnight to the next.

    Raises ``invalid_period`` if the time zone is unknown.

    >>> day = CalendarDays("Europe/Berlin").at(parse_instant("2026-10-25T12:00:00Z"))
    >>> day.value, str(day.end - day.start)
    ('2026-10-25', '1 day, 1:00:00')
    """

    __slots__ = ("_by_hour", "_zone")

    def __init__(self, zone: str = "UTC") -> None:
        self._zone = load_zone(zone)
        self._by_hour: dict[tuple[int, int], DatedValue[str]] = {}

    def at(self, when: datetime) -> DatedValue[str]:
        """Return the day, such as ``2026-10-25``, of an instant in UTC, with its start and end in UTC.

        If clocks are put back over a midnight, the previous day does not start again: a day ends where the next starts.
        """
        hour = when.toordinal(), when.hour
        found = self._by_hour.get(hour)
        if found is None or not found.start <= when < found.end:  # a midnight may be within the hour
            if len(self._by_hour) >= _MAX_HOURS:
                self._by_hour.clear()  # a file with many made-up times must not fill the memory
            found = self._by_hour[hour] = self._compute_day(when)
        return found

    def _compute_day(self, when: datetime) -> DatedValue[str]:
        try:
            day = when.astimezone(self._zone).date()
        except OverflowError:  # outside the calendar in this zone: the first day or the last
            day = date.min if when.year == 1 else date.max
        while (end := self._end_of_day(day)) <= when < END_OF_TIME:
            day += timedelta(1)
        start = datetime.min.replace(tzinfo=UTC) if day == date.min else self._end_of_day(day - timedelta(1))
        return DatedValue(start, end, day.isoformat())

    def _end_of_day(self, day: date) -> datetime:
        try:
            return _midnight(day + timedelta(1), self._zone)
        except OverflowError:
            return END_OF_TIME if day.year > 1 else datetime.min.replace(tzinfo=UTC)


def load_zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name. Raises ``invalid_period`` if it is unknown."""
    if name == "UTC":
        return UTC
    if isinstance(name, str) and (name in _MACHINE_DEPENDENT_ZONES or name.startswith(("right/", "posix/"))):
        raise BillingError(
            "invalid_period", f"{safe_repr(name)} depends on the machine; use a name such as Asia/Shanghai"
        )
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        if not available_timezones():
            raise BillingError(
                "missing_extra",
                "this machine has no time zone data; install it: pip install tzdata",
            ) from None
        raise BillingError(
            "invalid_period", f"{safe_repr(name)} is not a time zone; write a name such as Asia/Shanghai"
        ) from None


def _parse_boundary(text: str, zone: tzinfo) -> datetime:
    when = parse_instant(text)
    return _midnight(when.date(), zone) if len(text) == 10 else when


def _midnight(day: date, zone: tzinfo) -> datetime:
    # Where clocks skip midnight, this counts by the offset before: that is the instant of the skip, and the day begins.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
