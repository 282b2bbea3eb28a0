"""Divides time into pieces in which no price changes, and into the days, hours and months of a time zone.

Times are whole microseconds since 1970 in UTC, as DuckDB counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Final, NamedTuple

from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.calendars import Calendar
from brivionix_billing.times import END_OF_TIME, CalendarDays, Timeline, load_zone

__all__ = [
    "DAY",
    "HOUR",
    "LAST",
    "Labels",
    "PriceTimes",
    "TimePiece",
    "case_of",
    "day_pieces",
    "local_pieces",
    "microseconds",
    "to_instant",
    "zone_pieces",
]

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = 230 * 365 * DAY
"""Times from 1970 to about 2200 are computed by the engine; this library reads all others row by row."""
_MAX_COMPARED: Final = 16
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Return an instant in microseconds since 1970."""
    return (at - EPOCH) // _MICROSECOND


def to_instant(value: int) -> datetime:
    """Return the instant of a number of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


class TimePiece(NamedTuple):
    """A value that applies from a time on, until the next piece starts."""

    start: int
    value: int | None


class PriceTimes:
    """Numbers for the times between which no price of a book changes.

    A number stands for a set of dated entries and of calendars in whose windows a time is. So all peak hours between
    two dated entries have one number.
    """

    def __init__(self, book: PriceBook) -> None:
        dates = {microseconds(at) for timeline in _timelines(book) for at in _ends(timeline)}
        self._dates = sorted(at for at in dates if 0 < at < LAST)
        self._calendars = [(calendar, load_zone(calendar.zone_name)) for calendar in book.calendars().values()]
        self._numbers: dict[tuple[int, ...], int] = {}
        self.examples: list[datetime] = []
        """A time of each number."""

    def pieces(self, first: int, last: int) -> list[TimePiece] | None:
        """Return the pieces of a range of times, ``None`` if they are many: then see :meth:`hour`."""
        dates = [at for at in self._dates if first < at <= last]
        if self._calendars or len(dates) > _MAX_COMPARED:
            return None
        return [TimePiece(at, self._number(at)) for at in (first, *dates)]

    def hour(self, hour: int) -> list[TimePiece]:
        """Return the pieces of an hour, counted from 1970 in UTC."""
        start = hour * HOUR
        ends = {at for at in self._dates if start < at < start + HOUR}
        for calendar, zone in self._calendars:
            ends.update(at for at in _window_ends(calendar, zone, start) if start < at < start + HOUR)
        pieces: list[TimePiece] = []
        for at in (start, *sorted(ends)):
            number = self._number(at)
            if not pieces or pieces[-1].value != number:
                pieces.append(TimePiece(at, number))
        return pieces

    def _number(self, at: int) -> int:
        instant = to_instant(at)
        state = (
            sum(date <= at for date in self._dates),
            *(index for index, (calendar, _) in enumerate(self._calendars) if calendar.contains(instant)),
        )
        number = self._numbers.setdefault(state, len(self._numbers))
        if number == len(self.examples):
            self.examples.append(instant)
        return number


def _timelines(book: PriceBook) -> Iterator[Timeline[Any]]:
    resolver = book.resolver
    for name, tiers in resolver.models.items():
        yield from tiers.values()
        yield resolver.defaults.cache_discount(name)
        yield from resolver.defaults.tool_fees(name).values()
    yield from resolver.groups.values()
    yield from resolver.exchange_rates.values()
    yield from (channel.prices for channel in resolver.channels.values())
    yield from (calendar.rules for calendar in resolver.calendars.values())


def _ends(timeline: Timeline[Any]) -> Iterator[datetime]:
    for entry in timeline.entries:
        yield entry.start
        if entry.end != END_OF_TIME:
            yield entry.end


def _window_ends(calendar: Calendar, zone: tzinfo, start: int) -> Iterator[int]:
    """Yield all times of an hour at which a window may start or end: midnights and the ends of hours of rules."""
    first, last = _offset(zone, start), _offset(zone, start + HOUR - 1)
    if first != last:  # clocks are changed at a whole minute
        yield from range(start, start + HOUR, HOUR // 60)
        return
    ends = {0} | {minute for entry in calendar.rules.entries for hours in entry.value.hours for minute in hours}
    for day in ((start + first) // DAY, (start + first + HOUR) // DAY):
        yield from (day * DAY + minute * 60_000_000 - first for minute in ends)


def _offset(zone: tzinfo, at: int) -> int:
    return (to_instant(at).astimezone(zone).utcoffset() or timedelta()) // _MICROSECOND


def zone_pieces(zone: tzinfo, first: int, last: int) -> list[TimePiece]:
    """Return the offsets of a time zone in a range of times, in microseconds."""
    pieces = [TimePiece(first, _offset(zone, first))]
    here = first
    while here < last:
        after = min(here + DAY, last)
        if _offset(zone, after) != _offset(zone, here):
            low, high = here, after
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == _offset(zone, low) else (low, middle)
            pieces.append(TimePiece(high, _offset(zone, high)))
        here = after
    return pieces


def day_pieces(pieces: Sequence[TimePiece]) -> list[TimePiece]:
    """Return offsets by which days are counted: a day does not start again if clocks are put back over a midnight."""
    found = [pieces[0]]
    for piece in pieces[1:]:
        before, after = found[-1].value or 0, piece.value or 0
        start = piece.start
        latest = (start - 1 + before) // DAY
        if (start + after) // DAY < latest:
            start = latest * DAY - after  # from then on, it is this day by both offsets
        found.append(TimePiece(start, after))
    return found


def local_pieces(zone: tzinfo, first: int, last: int) -> list[TimePiece]:
    """Return the offsets of local times in a range, ``None`` where a local time occurs twice or never."""
    utc = zone_pieces(zone, first - 2 * DAY, last + 2 * DAY)
    pieces = [TimePiece(first - 2 * DAY, utc[0].value)]
    for before, after in pairwise(utc):
        ends = sorted((after.start + (before.value or 0), after.start + (after.value or 0)))
        pieces += [TimePiece(ends[0], None), TimePiece(ends[1], after.value)]
    return pieces


class Labels:
    """The names of days, hours and months in a time zone."""

    def __init__(self, zone: str) -> None:
        self.zone = load_zone(zone)
        self._days = CalendarDays(zone)

    def of_number(self, unit: str, number: int) -> str:
        """Return the label of a number of the engine: a day since 1970, the start of an hour, or a month of year 0."""
        if unit == "hour":
            return self._hour(to_instant(number))
        if unit == "month":
            return f"{(number - 1) // 12:04d}-{(number - 1) % 12 + 1:02d}"
        return (date(1970, 1, 1) + timedelta(days=number)).isoformat()

    def of_instant(self, unit: str, at: datetime) -> str:
        """Return the label of an instant."""
        if unit == "hour":
            local = at.astimezone(self.zone)
            within = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            return self._hour(at - within)
        day = self._days.at(at).value
        return day if unit == "day" else day[:7]

    def _hour(self, start: datetime) -> str:
        return start.astimezone(self.zone).isoformat(timespec="minutes")


def case_of(time: str, pieces: Iterable[TimePiece], kind: str = "BIGINT") -> str:
    """Return the value of the piece of a time in SQL."""
    first, *others = pieces
    texts = {piece: "NULL" if piece.value is None else str(piece.value) for piece in (first, *others)}
    cases = "".join(f" WHEN {time} >= {piece.start} THEN {texts[piece]}" for piece in reversed(others))
    value = f"CASE{cases} ELSE {texts[first]} END" if others else texts[first]
    return f"CAST({value} AS {kind})"
