"""Instants with a time zone, timelines of dated values, and billing periods in a time zone."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.times import END_OF_TIME, Period, Timeline, as_utc, format_instant, parse_instant
from samples import code_of, utc

zones = pytest.mark.skipif(not available_timezones(), reason="zones beyond UTC need time zone data")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01", "2026-10-01"),
        ("2026-10-01T00:00:03Z", "2026-10-01T00:00:03"),
        ("2026-10-01T00:00:03.113Z", "2026-10-01T00:00:03.113"),
        ("2026-10-01T08:00:00.000001+08:00", "2026-10-01T00:00:00.000001"),
        ("2026-09-30T19:30:00-04:30", "2026-10-01"),
        ("0001-01-01", "0001-01-01"),
    ],
)
def test_an_instant_is_parsed(text: str, expected: str) -> None:
    """An instant is an RFC 3339 time with a zone, or a date, which means its midnight in UTC."""
    assert parse_instant(text) == utc(expected)
    assert parse_instant(format_instant(parse_instant(text))) == parse_instant(text)


INVALID_INSTANTS: list[Any] = [
    "2026-10-01T00:00:00",
    "2026-10-01 00:00:00Z",
    "2026-13-01",
    "2026-02-30",
    "2026-10-1",
    "now",
]
INVALID_INSTANTS += ["20261001", "2026-10-01T25:00:00Z", "2026-10-01T00:00Z", "2026-10-01T00:00:00z", "2026-W40-4", ""]
INVALID_INSTANTS += [
    "2026-10-01T00:00:00.1234567Z",
    "\u0662026-10-01",
    "2026-10-01T00:00:60Z",
    "2026-10-01T00:00:00+25:00",
]
INVALID_INSTANTS += [
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    None,
    5,
    date(2026, 10, 1),
    "2026-10-01\n",
]
INVALID_INSTANTS += ["2026-10-01T00:00:00Z" * 100]


@pytest.mark.parametrize("text", INVALID_INSTANTS, ids=lambda text: repr(text)[:30])
def test_an_invalid_instant_is_rejected(text: Any) -> None:
    """A missing zone, an impossible day, a different notation or a year outside the calendar is ``invalid_time``."""
    with pytest.raises(BillingError) as caught:
        parse_instant(text)
    assert (code_of(caught), caught.value.http_status) == ("invalid_time", 400)
    assert len(str(caught.value)) < 250


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=8)), timezone(timedelta(hours=-3.5))])))
def test_instants_are_formatted_in_utc(when: datetime) -> None:
    """``format_instant`` writes UTC with ``Z``, and microseconds only if they are not zero."""
    try:
        instant = as_utc(when)
    except BillingError:
        assert when.year in (1, 9999)
        return
    text = format_instant(instant)
    assert text.endswith("Z")
    assert parse_instant(text) == when
    assert ("." in text) == bool(when.microsecond)


STARTS = [utc(f"2026-{month:02}-01") for month in range(1, 13)]


@given(st.lists(st.tuples(st.sampled_from(STARTS), st.booleans()), unique_by=lambda entry: entry[0], max_size=12))
def test_a_timeline_gives_the_entry_in_force_and_its_span(chosen: list[tuple[datetime, bool]]) -> None:
    """At any instant the last entry that has started and not ended is in force, for the whole span that is returned."""
    entries = [
        (start, start + timedelta(days=10) if ends else None, n) for n, (start, ends) in enumerate(sorted(chosen))
    ]
    timeline = Timeline(entries)
    instants = [
        start + delta for start in STARTS for delta in (timedelta(0), timedelta(days=10), -timedelta(microseconds=1))
    ]
    for when in instants:
        started = [entry for entry in entries if entry[0] <= when]
        value = started[-1][2] if started and (started[-1][1] is None or when < started[-1][1]) else None
        span = timeline.at(when)
        assert span.value == value
        assert span.start <= when < span.end
        for other in instants:
            if span.start <= other < span.end:
                assert timeline.at(other) == span
    assert timeline.at(END_OF_TIME - timedelta(microseconds=1)).end == END_OF_TIME


def test_a_long_timeline_is_not_searched_from_its_start() -> None:
    """Looking up every entry of a long timeline takes little time: a file with daily prices must not be slow."""
    starts = [STARTS[0] + timedelta(hours=hour) for hour in range(20_000)]
    timeline = Timeline([(start, None, number) for number, start in enumerate(starts)])
    begin = time.process_time()
    assert [timeline.at(start).value for start in starts] == list(range(20_000))
    assert time.process_time() - begin < 2


@zones
@pytest.mark.parametrize(
    ("text", "zone", "start", "end"),
    [
        ("2026-10", "UTC", "2026-10-01", "2026-11-01"),
        ("2026-12", "UTC", "2026-12-01", "2027-01-01"),
        ("2026-10", "Asia/Shanghai", "2026-09-30T16:00:00", "2026-10-31T16:00:00"),
        ("2026-03", "America/New_York", "2026-03-01T05:00:00", "2026-04-01T04:00:00"),
        ("2026-10-01/2026-10-16", "UTC", "2026-10-01", "2026-10-16"),
        ("2026-10-01/2026-10-16", "Asia/Kolkata", "2026-09-30T18:30:00", "2026-10-15T18:30:00"),
        (
            "2026-10-01T05:00:00Z/2026-10-01T06:00:00+00:30",
            "Asia/Shanghai",
            "2026-10-01T05:00:00",
            "2026-10-01T05:30:00",
        ),
        # The clocks skip this midnight: the day starts at 01:00, which is 03:00 UTC.
        ("2018-11-04/2018-11-05", "America/Sao_Paulo", "2018-11-04T03:00:00", "2018-11-05T02:00:00"),
        # The clocks skip the last hour of the day before, or all of it: the day starts at its own midnight.
        ("2026-03-29/2026-03-30", "America/Nuuk", "2026-03-29T01:00:00", "2026-03-30T01:00:00"),
        ("2011-12-31/2012-01-01", "Pacific/Apia", "2011-12-30T10:00:00", "2011-12-31T10:00:00"),
        # This midnight occurs twice: the day starts at the first one.
        ("2026-10-25/2026-10-26", "Atlantic/Azores", "2026-10-25T00:00:00", "2026-10-26T01:00:00"),
    ],
)
def test_a_period_starts_and_ends_at_midnight_in_its_zone(text: str, zone: str, start: str, end: str) -> None:
    """A month or a pair of dates spans midnight to midnight in the zone; a pair of instants is used as it is."""
    period = Period.parse(text, zone)
    assert (period.start, period.end, period.zone) == (utc(start), utc(end), zone)
    assert period.contains(period.start)
    assert not period.contains(period.end)
    assert not period.contains(period.start - timedelta(microseconds=1))
    assert Period.parse(str(period), zone) == period


@zones
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/Sao_Paulo", "America/New_York", "Pacific/Apia"])
def test_consecutive_months_have_no_gap(zone: str) -> None:
    """Each month ends at the instant at which the next one starts."""
    months = [Period.parse(f"{year}-{month:02}", zone) for year in range(2010, 2027) for month in range(1, 13)]
    assert all(before.end == after.start for before, after in pairwise(months))
    days = [Period.parse(f"2011-12-{day}/2011-12-{day + 1}", zone) for day in (28, 29)]
    assert days[0].end == days[1].start


INVALID_PERIODS: list[Any] = [
    "2026-13",
    "2026-1",
    "2026",
    "",
    "2026-10-02/2026-10-01",
    "2026-10-01/2026-10-01",
    "2026-10-01",
]
INVALID_PERIODS += ["2026-10-01/", "/", "0000-01", "9999-12", "october", None, 5, "2026-10-01/2026-10-02/2026-10-03"]


@zones
@pytest.mark.parametrize("text", INVALID_PERIODS, ids=repr)
def test_an_invalid_period_or_zone_is_rejected(text: Any) -> None:
    """Anything except a month or an ordered pair is ``invalid_period``, and so is an unknown time zone."""
    with pytest.raises(BillingError, match="is not a period; write a month") as caught:
        Period.parse(text)
    assert code_of(caught) == "invalid_period"
    for zone in ("localtime", "posixrules", "Factory", "right/UTC", "posix/Asia/Shanghai"):
        with pytest.raises(BillingError, match="depends on the machine; use a name") as caught:
            Period.parse("2026-10", zone)
        assert code_of(caught) == "invalid_period"
    unknown: list[Any] = ["Mars/Olympus", "", "../etc/passwd", None, "a\0b"]
    for zone in unknown:
        with pytest.raises(BillingError, match="is not a time zone") as caught:
            Period.parse("2026-10", zone)
        assert code_of(caught) == "invalid_period"
