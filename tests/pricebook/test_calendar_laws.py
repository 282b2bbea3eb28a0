"""Laws of calendars: any instant, zone and rule against a naive calendar, and the next start or end of a window."""

from __future__ import annotations

from datetime import datetime, timedelta
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from brivionix_billing import PriceBook
from model_kit import MILLION, book_of, findings, price, tier_book
from profiles import examples
from rich_books import WEEKDAYS, in_window
from samples import utc
from strategies import Data, render

HOURS = (
    "09:00-12:00",
    "14:00-18:00",
    "22:00-06:00",
    "00:00-24:00",
    "23:30-00:30",
    "02:15-02:45",
    "01:30-02:00",
    "00:00-00:01",
)
ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")
SWITCHES = ("2026-03-29T01:00:00", "2026-10-25T01:00:00", "2026-03-08T07:00:00", "2026-11-01T06:00:00")
"""Instants at which clocks of Berlin and New York change."""
MINUTE = timedelta(minutes=1)


@st.composite
def calendars(draw: DrawFn) -> Data:
    """Draw a calendar as data."""
    rules: list[Data] = []
    for start in ("2026-01-01", *(["2026-03-15T12:34:56Z"] if draw(st.booleans()) else [])):
        rule: Data = {"from": start, "hours": draw(st.lists(st.sampled_from(HOURS), min_size=1, max_size=2))}
        if draw(st.booleans()):
            rule["weekdays"] = sorted(draw(st.sets(st.sampled_from(WEEKDAYS), min_size=1)), key=WEEKDAYS.index)
        if draw(st.booleans()):
            rule["excluded_dates"] = draw(st.sampled_from([["2026-03-29", "2026-11-01"], ["2026-03-08"]]))
        rules.append(rule)
    return {"time_zone": draw(st.sampled_from(ZONES)), "rules": rules}


def book_with(calendar: Data) -> PriceBook:
    """Return a book whose price doubles in the windows of a calendar."""
    text = render({"calendars": {"peak": calendar}})
    return tier_book("input: 1, windows: {peak: {factor: 2}}", text)


instants = st.one_of(
    st.sampled_from(SWITCHES).flatmap(
        lambda text: st.integers(-300, 300).map(lambda minutes: utc(text) + minutes * MINUTE)
    ),
    st.integers(1, 365 * 1440).map(lambda minutes: utc("2026-01-01") + minutes * MINUTE),
)


@settings(max_examples=examples(200), deadline=None)
@given(calendars(), st.lists(instants, min_size=1, max_size=30))
def test_any_instant_has_the_price_of_the_naive_calendar(calendar: Data, times: list[datetime]) -> None:
    """In any zone, also while clocks change, a window is where the digits of the local time say so."""
    book = book_with(calendar)
    for at in times:
        for moment in (at, at - timedelta(microseconds=1)):
            assert price(book, at=moment) == (2 if in_window(calendar, moment) else 1)


@settings(max_examples=examples(80), deadline=None)
@given(calendars(), instants)
def test_nothing_changes_before_the_next_change(calendar: Data, at: datetime) -> None:
    """``next_change`` is the first start or end of a window after an instant: nothing changes before it."""
    found = book_with(calendar).calendars()["peak"].next_change(at)
    inside = in_window(calendar, at)
    if found is not None:
        assert in_window(calendar, found) is not inside
        assert in_window(calendar, found - timedelta(microseconds=1)) is inside
    end = at + timedelta(days=8) if found is None else min(found, at + timedelta(days=8))
    moment = at
    while moment < end:
        assert in_window(calendar, moment) is inside
        moment += 5 * MINUTE


@pytest.mark.parametrize(
    ("hours", "zone", "at", "change"),
    [
        ("01:30-02:00", "America/New_York", "2026-11-01T05:45:00", "2026-11-01T06:00:00"),  # clocks go back to 01:00
        ("01:30-02:00", "America/New_York", "2026-11-01T06:00:00", "2026-11-01T06:30:00"),
        ("01:30-01:45", "America/New_York", "2026-11-01T05:45:00", "2026-11-01T06:30:00"),
        ("02:30-04:00", "America/New_York", "2026-03-08T06:30:00", "2026-03-08T07:00:00"),  # 02:30 does not exist
        ("23:30-00:00", "America/Havana", "2026-11-01T03:45:00", "2026-11-01T04:00:00"),
        ("00:30-01:00", "America/Havana", "2026-11-01T04:45:00", "2026-11-01T05:00:00"),
    ],
)
def test_the_next_change_is_right_while_clocks_change(hours: str, zone: str, at: str, change: str) -> None:
    """The hour that occurs twice has its windows twice, and a window may start or end where clocks are changed."""
    calendar = {"time_zone": zone, "rules": [{"from": "2026-01-01", "hours": [hours]}]}
    assert book_with(calendar).calendars()["peak"].next_change(utc(at)) == utc(change)


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    """A window of Friday night is open on Saturday morning, and one of an excluded Friday on neither."""
    rule = "{from: 2026-01-01, weekdays: [fri], hours: ['22:00-06:00'], excluded_dates: [2026-10-16]}"
    calendar = f"calendars: {{peak: {{time_zone: UTC, rules: [{rule}]}}}}"
    book = tier_book("input: 1, windows: {peak: {factor: 2}}", calendar)
    expected = {
        "2026-10-09T21:59:59": 1,
        "2026-10-09T22:00:00": 2,
        "2026-10-10T05:59:59": 2,
        "2026-10-10T06:00:00": 1,
        "2026-10-10T22:00:00": 1,
        "2026-10-16T23:00:00": 1,
        "2026-10-17T01:00:00": 1,
    }
    assert {at: price(book, at=utc(at)) for at in expected} == expected


def test_the_older_rule_applies_until_the_newer_one_starts() -> None:
    """A rule replaces the one before it as a whole at its instant, and none applies after its ``until``."""
    rules = (
        "[{from: 2026-10-01, hours: ['00:00-24:00']}, "
        "{from: 2026-10-02T12:00:00Z, until: 2026-10-03, hours: ['13:00-14:00']}]"
    )
    book = tier_book(
        "input: 1, windows: {peak: {factor: 2}}", f"calendars: {{peak: {{time_zone: UTC, rules: {rules}}}}}"
    )
    expected = {
        "2026-09-30T23:59:59": 1,
        "2026-10-01T00:00:00": 2,
        "2026-10-02T11:59:59": 2,
        "2026-10-02T12:00:00": 1,
        "2026-10-02T13:30:00": 2,
        "2026-10-03T13:30:00": 1,
    }
    assert {at: price(book, at=utc(at)) for at in expected} == expected


def test_a_window_may_have_prices_and_boundaries_of_its_own() -> None:
    """In a window with its own prices, its own boundaries decide, and fees that it does not name stay."""
    peak = "{input: 5, long_context: [{above: 10, input: 7}, {above: 20, input: 9}]}"
    calendar = "calendars: {peak: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ['08:00-16:00']}]}}"
    book = tier_book(
        f"input: 1, web_search: 10, long_context: {{above: 15, input: 2}}, windows: {{peak: {peak}}}", calendar
    )
    cards = book.rate_cards("m", group="g", at=utc("2026-10-20"))
    table = [(card.variation.window, card.context_tier, str(card.unit_prices["input"])) for card in cards]
    assert table == [
        *((None, "short", "1"), (None, "long", "2")),
        *(("peak", "short", "5"), ("peak", ">10", "7"), ("peak", ">20", "9")),
    ]
    assert {card.unit_prices["web_search"] for card in cards} == {10}


# --- hostile calendars ---


def test_a_calendar_of_thousands_of_holidays_is_read_and_searched_in_seconds() -> None:
    """Ten thousand excluded dates and a hundred ranges of hours delay neither loading nor the search."""
    months = [f"{2000 + number // 12}-{number % 12 + 1:02}" for number in range(358)]
    days = ", ".join(f"{month}-{day:02}" for month in months for day in range(1, 29))
    hours = ", ".join(f"'{hour:02}:{part:02}-{hour:02}:{part + 14}'" for hour in range(24) for part in (0, 15, 30, 45))
    rule = f"{{from: 2026-01-01, hours: [{hours}], excluded_dates: [{days}]}}"
    started = perf_counter()
    book = tier_book(
        "input: 1, windows: {peak: {factor: 2}}", f"calendars: {{peak: {{time_zone: UTC, rules: [{rule}]}}}}"
    )
    assert [price(book, at=utc(f"2029-09-{day}T08:07:00")) for day in (20, 29)] == [1, 2]
    book.calendars()["peak"].next_change(utc("2026-10-20"))
    assert perf_counter() - started < 20


def test_a_calendar_that_excludes_every_day_has_no_next_change() -> None:
    """Without any window in sight, the search for the next one ends, at both ends of the calendar."""
    rule = "{from: 2026-01-01, hours: ['08:00-16:00'], excluded_dates: [0001-01-01/9999-12-31]}"
    calendar = tier_book(
        "input: 1, windows: {peak: {factor: 2}}", f"calendars: {{peak: {{time_zone: UTC, rules: [{rule}]}}}}"
    ).calendars()["peak"]
    for at in (utc("2026-10-20"), utc("9999-12-31T23:59:59"), utc("0001-01-01")):
        assert calendar.next_change(at) is None or at < utc("2026-01-01")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Shanghai"])
def test_the_ends_of_the_calendar_have_a_price(zone: str) -> None:
    """The first and the last instant have a price in zones in which they are in another year."""
    rule = "{from: 0001-01-01, hours: ['00:00-24:00']}"
    calendar = f"calendars: {{peak: {{time_zone: {zone}, rules: [{rule}]}}}}"
    entry = "m: {prices: [{from: 0001-01-01, standard: {input: 1, windows: {peak: {factor: 2}}}}]}"
    groups = "{g: {terms: [{from: 0001-01-01, ratio: 1, models: ['*']}]}}"
    book = book_of(entry, calendar, groups)
    for at in (utc("0001-01-01"), utc("9999-12-31T23:59:59")):
        assert book.rate(MILLION, model="m", group="g", at=at).credits in (1, 2)


@pytest.mark.parametrize(
    "dates",
    ["[2026-10-01/2026-10-07/2026-10-09]", "[0000-01-01]", "[2026-1-1]", "[20261001]", "[10000-01-01]", "['*']"],
)
def test_dates_that_are_none_are_findings(dates: str) -> None:
    """A range of three dates, short dates and years outside the calendar are not taken for dates."""
    rule = f"{{from: 2026-01-01, hours: ['08:00-16:00'], excluded_dates: {dates}}}"
    top = f"calendars: {{peak: {{time_zone: UTC, rules: [{rule}]}}}}"
    found = findings(tier_book, "input: 1, windows: {peak: {factor: 2}}", top)
    assert [f.path for f in found if "is not a date" in f.message] == ["calendars.peak.rules[0].excluded_dates[0]"]
