"""The periods by which a report and our usage are compared: the report's own days, or calendar days of a time zone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from brivionix_billing.reconcile.provider.report import Bucket
from brivionix_billing.times import CalendarDays, Period, format_instant

__all__ = ["ReportPeriods", "Span"]

_DAY: Final = timedelta(days=1)
_LONGEST_DAY: Final = timedelta(hours=25)
_SHORTEST_DAY: Final = timedelta(hours=23)


class Span(NamedTuple):
    """A period and its name, such as ``2026-10-01``."""

    label: str
    start: datetime
    end: datetime


class ReportPeriods:
    """The periods of a report, in order and without gaps."""

    def __init__(self, buckets: Iterable[Bucket], zone: str, *, whole_days: bool) -> None:
        """``zone`` is that of calendar days. With ``whole_days``, the first and last day are extended to midnight."""
        ordered = sorted(buckets)
        days = CalendarDays(zone)
        start, end = ordered[0][0], max(bucket[1] for bucket in ordered)
        if whole_days:
            start, end = days.at(start).start, days.at(end - timedelta(microseconds=1)).end
        self.start, self.end = start, end
        longest = max(bucket[1] - bucket[0] for bucket in ordered)
        if longest > _LONGEST_DAY:
            self.spans = [Span(f"{days.at(start).value}/{days.at(end - timedelta(microseconds=1)).value}", start, end)]
        elif longest >= _SHORTEST_DAY:
            self.spans = _own_days(ordered, start, end, days)
        else:
            self.spans = _calendar_days(start, end, days)
        self._starts = [span.start for span in self.spans]

    def at(self, when: datetime) -> Span | None:
        """Return the period of a time, or ``None`` outside of the report."""
        if not self.start <= when < self.end:
            return None
        return self.spans[bisect_right(self._starts, when) - 1]


def _own_days(buckets: list[Bucket], start: datetime, end: datetime, days: CalendarDays) -> list[Span]:
    """Return the days as the report has them. A day that it leaves out gets one of 24 hours."""
    starts = sorted({bucket[0] for bucket in buckets})
    boundaries = []
    current = start
    for following in [*starts[1:], end]:
        while current < following:
            boundaries.append(current)
            current = min(current + _DAY, following) if following - current > _LONGEST_DAY else following
    return [
        Span(_label(first, days), first, last) for first, last in zip(boundaries, [*boundaries[1:], end], strict=True)
    ]


def _label(start: datetime, days: CalendarDays) -> str:
    day = days.at(start)
    return day.value if day.start == start else format_instant(start)


def _calendar_days(start: datetime, end: datetime, days: CalendarDays) -> list[Span]:
    spans = []
    while start < end:
        day = days.at(start)
        spans.append(Span(day.value, start, min(day.end, end)))
        start = day.end
    return spans


def within(period: Period | None, bucket: Bucket) -> bool:
    """Return whether a bucket starts in a period."""
    return period is None or period.contains(bucket[0])
