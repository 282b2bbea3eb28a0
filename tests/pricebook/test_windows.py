"""Peak prices: calendars, and the start of a request."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from brivionix_billing import PriceBook
from model_kit import MILLION, PEAK, findings, price, tier_book
from paths import DATA
from rich_books import in_window
from samples import D, utc

VECTORS = json.loads((DATA / "prices" / "deepseek_peak_vectors.json").read_text("utf-8"))["vectors"]
DEEPSEEK = """calendars:
  peak:
    time_zone: Asia/Shanghai
    rules:
      - {from: 2026-08-16T16:00:00Z, hours: ["09:00-12:00", "14:00-18:00"]}
      - from: 2026-08-22T16:00:00Z
        weekdays: [mon, tue, wed, thu, fri]
        hours: ["09:00-12:00", "14:00-18:00"]
        excluded_dates: [2026-10-01/2026-10-07]
"""


def deepseek() -> PriceBook:
    """Return a book with DeepSeek's calendar: flat prices, then peak prices of twice the usual price."""
    return tier_book("input: 0.66, cache_read: 0.022, output: 1.98, windows: {peak: {factor: 2}}", DEEPSEEK)


@pytest.mark.parametrize(("at", "expected"), VECTORS, ids=[at for at, _ in VECTORS])
def test_the_price_follows_the_calendar_of_deepseek(at: str, expected: str) -> None:
    """Each recorded instant has the price of its class: peak is twice the usual price."""
    charge = deepseek().rate(MILLION, model="m", group="g", at=datetime.fromisoformat(at))
    is_peak = expected.startswith("peak")
    assert charge.credits == (D("1.32") if is_peak else D("0.66"))
    assert charge.variation.window == ("peak" if is_peak else None)
    assert ("calendar peak" in charge.explain()) == is_peak


def test_every_hour_of_2026_has_the_price_of_a_naive_calendar() -> None:
    """At each half hour of 2026, the price is that of a calendar that compares the digits of local times."""
    book = deepseek()
    days = [f"2026-10-0{day}" for day in range(1, 8)]
    hours = ["09:00-12:00", "14:00-18:00"]
    later = {"from": "2026-08-22T16:00:00Z", "hours": hours, "weekdays": ["mon", "tue", "wed", "thu", "fri"]}
    rules = [{"from": "2026-08-16T16:00:00Z", "hours": hours}, {**later, "excluded_dates": days}]
    naive = {"time_zone": "Asia/Shanghai", "rules": rules}
    at, end, peaks = utc("2026-01-01"), utc("2027-01-01"), 0
    while at < end:
        is_peak = in_window(naive, at)
        peaks += is_peak
        assert price(book, at=at) == (D("1.32") if is_peak else D("0.66")), at
        at += timedelta(minutes=30)
    assert peaks > 1_000


def test_the_start_of_a_request_decides_its_price_from_hold_to_bill() -> None:
    """A request that starts in a window has the price of the window, however long it takes."""
    book = tier_book("input: 1, output: 1, windows: {peak: {factor: 3}}", PEAK)
    start = utc("2026-10-20T15:59:59.999999")
    held = book.possible_rate_cards("m", group="g", at=start)
    assert [card.variation.window for card in held] == ["peak"]
    assert price(book, at=start) == 3
    assert price(book, at=start + timedelta(microseconds=1)) == 1


def test_the_first_window_of_the_file_applies() -> None:
    """If two windows contain a time, the first one applies, and so their order is part of the digest."""
    top = PEAK.replace("}}", "}, all: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ['00:00-24:00']}]}}", 1)
    top = "calendars:\n" + "\n".join(
        f"  {name}: {{time_zone: UTC, rules: [{{from: 2026-01-01, hours: ['00:00-24:00']}}]}}" for name in "ab"
    )
    books = [
        tier_book(f"input: 1, output: 1, windows: {{{one}, {other}}}", top)
        for one, other in (("a: {factor: 2}", "b: {factor: 3}"), ("b: {factor: 3}", "a: {factor: 2}"))
    ]
    assert [price(book) for book in books] == [2, 3]
    assert books[0].digest != books[1].digest


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("hours: ['25:00-26:00']", "is not a range of hours"),
        ("hours: ['09:00-09:00']", "is not a range of hours"),
        ("hours: []", "is empty"),
        ("hours: ['09:00-10:00'], weekdays: [noday]", "is not one of the possible values"),
        ("hours: ['09:00-10:00'], excluded_dates: [2026-13-01]", "is not a date"),
        ("hours: ['09:00-10:00'], excluded_dates: [2026-10-02/2026-10-01]", "ends before it starts"),
    ],
)
def test_a_mistake_in_a_calendar_is_found(rule: str, message: str) -> None:
    """Hours, weekdays and dates of a calendar are checked."""
    top = f"calendars: {{peak: {{time_zone: UTC, rules: [{{from: 2026-01-01, {rule}}}]}}}}"
    found = findings(tier_book, "input: 1, windows: {peak: {factor: 2}}", top)
    assert any(message in f.message for f in found), found


def test_an_unknown_time_zone_or_calendar_is_found() -> None:
    """A time zone must be an IANA name, and a window must name a calendar of the file."""
    found = findings(tier_book, "input: 1, windows: {paek: {factor: 2}}", PEAK.replace("UTC", "Mars/Base"))
    assert any("'Mars/Base' is not a time zone" in f.message for f in found)
    found = findings(tier_book, "input: 1, windows: {paek: {factor: 2}}", PEAK)
    assert [(f.message, f.hint) for f in found] == [("no calendar 'paek' in this file", "did you mean 'peak'?")]


def test_excluded_dates_of_ten_thousand_years_take_no_time() -> None:
    """A range of all dates excludes every day, without being written out."""
    top = PEAK.replace("hours:", "excluded_dates: [0001-01-01/9999-12-31], hours:")
    assert price(tier_book("input: 1, output: 1, windows: {peak: {factor: 2}}", top)) == 1
