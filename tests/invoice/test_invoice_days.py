"""The days of a bill, which are calendar days in the zone of the period, and the days of notes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bill_oracle
from bill_kit import BOOK, billed, body, header, record, text, verified, written
from brivionix_billing import BillingError
from brivionix_billing.invoice import aggregate_usage, build_invoice, build_note, document_hash, render_text, seal
from brivionix_billing.invoice.aggregation import reader as reader_module
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage
from brivionix_billing.times import END_OF_TIME, CalendarDays, Period, parse_instant
from profiles import examples

Json = dict[str, Any]
PLAIN = bill_oracle.read_book(text())


def days_of(rows: list[Json], period: Period) -> tuple[list[Json], list[Json]]:
    """Return the days of a bill, and those of the oracle."""
    usage = written(rows)
    document = billed(usage, period=period, period_name="p", issued=period.end)
    expected = bill_oracle.bill(usage.splitlines(), PLAIN, period.start, period.end, "acct_1", period.zone)
    assert document["totals"] == expected.totals
    assert sum(Fraction(day["credits"]) for day in document["days"]) == Fraction(document["totals"]["credits"])
    return document["days"], expected.days


def named(days: list[Json]) -> list[tuple[str, str, int]]:
    """Return days without their Credits."""
    return [(day["day"], day["model"], day["requests"]) for day in days]


# --- by hand ---


def test_days_by_hand() -> None:
    """There is one row per day and model with requests, in order of day and model."""
    rows = [
        record(1, at="2026-10-03T00:00:00Z", model="beta", usage=body(tokens=1_000_000, cached=0, out=0)),
        record(2, at="2026-10-01T23:59:59.999999Z", usage=body(tokens=1000, cached=0, out=0)),
        record(3, at="2026-10-01T00:00:00Z", usage=body(tokens=200, cached=0, out=0), group="half"),
        record(4, at="2026-10-03T12:00:00Z", usage=body(tokens=0, cached=0, out=0)),
    ]
    # alpha: 2.5 USD per million, half of it for the group half; beta: 0.75.
    assert billed(written(rows))["days"] == [
        {"day": "2026-10-01", "model": "alpha", "requests": 2, "credits": "0.00275"},
        {"day": "2026-10-03", "model": "alpha", "requests": 1, "credits": "0"},
        {"day": "2026-10-03", "model": "beta", "requests": 1, "credits": "0.75"},
    ]


@pytest.mark.parametrize(
    ("zone", "at", "days"),
    [
        ("Asia/Shanghai", ["2026-10-01T15:59:59.999999Z", "2026-10-01T16:00:00Z"], ["2026-10-01", "2026-10-02"]),
        ("America/New_York", ["2026-10-02T03:59:59Z", "2026-10-02T04:00:00Z"], ["2026-10-01", "2026-10-02"]),
        # Berlin puts its clocks back on the 25th, which has 25 hours.
        ("Europe/Berlin", ["2026-10-24T22:00:00Z", "2026-10-25T22:59:59.9Z"], ["2026-10-25", "2026-10-25"]),
        ("Europe/Berlin", ["2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"], ["2026-10-25", "2026-10-26"]),
        ("Asia/Kolkata", ["2026-10-10T18:29:59Z", "2026-10-10T18:30:00Z"], ["2026-10-10", "2026-10-11"]),
    ],
    ids=["Shanghai", "New York", "Berlin, one long day", "Berlin, its end", "within an hour"],
)
def test_days_are_calendar_days_of_the_zone(zone: str, at: list[str], days: list[str]) -> None:
    """A request counts on its calendar day in the zone, also if clocks are put back."""
    rows = [record(n, at=when) for n, when in enumerate(at)]
    found, expected = days_of(rows, Period.parse("2026-10", zone))
    assert found == expected
    assert [day for day, _, requests in named(found) for _ in range(requests)] == days


@pytest.mark.parametrize(
    ("zone", "at", "day", "start", "end"),
    [
        ("UTC", "2026-10-25T23:59:59.999999Z", "2026-10-25", "2026-10-25", "2026-10-26"),
        # Clocks skip midnight, so the day starts at one o'clock.
        ("America/Santiago", "2026-09-06T04:00:00Z", "2026-09-06", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"),
        # The calendar skips a whole day, the 30th.
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        # Clocks go back from 00:01 to 23:01: the previous day does not start again.
        ("America/St_Johns", "2010-11-07T02:31:30Z", "2010-11-07", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"),
        ("UTC", "0001-01-01T00:00:00Z", "0001-01-01", "0001-01-01", "0001-01-02"),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight(zone: str, at: str, day: str, start: str, end: str) -> None:
    """A day ends where the next one starts, whatever the clocks of its zone do."""
    found = CalendarDays(zone).at(parse_instant(at))
    assert (found.value, found.start, found.end) == (day, parse_instant(start), parse_instant(end))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
def test_the_first_and_last_instants_have_days(zone: str) -> None:
    """The first and the last instant of a file belong to a day in any zone."""
    for at in (datetime.min.replace(tzinfo=UTC), END_OF_TIME, END_OF_TIME - timedelta(seconds=1)):
        found = CalendarDays(zone).at(at)
        assert found.start <= at <= found.end
        assert found.value[:4] in ("0001", "9999")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "localtime", 5])
def test_an_unknown_zone(zone: Any) -> None:
    """A period with an unknown zone is rejected."""
    period = Period(parse_instant("2026-10-01"), parse_instant("2026-11-01"), zone)
    with pytest.raises(BillingError) as caught:
        aggregate_usage([], BOOK, period)
    assert caught.value.code == "invalid_period"


def test_without_a_period_days_are_in_utc() -> None:
    """Without a period, days are those of UTC."""
    rows = [record(1, at="2026-10-01T23:30:00Z"), record(2, at="2026-11-02T00:30:00+02:00")]
    found = aggregate_usage(written(rows).splitlines(), BOOK)
    assert sorted(found.accounts["acct_1"].days) == [("2026-10-01", "alpha"), ("2026-11-01", "alpha")]


# --- generated files ---

_start = datetime(2026, 10, 23, tzinfo=UTC)
_moments = st.integers(0, 4 * 86_400_000).map(lambda n: _start + timedelta(milliseconds=n))


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.tuples(
            _moments,
            st.sampled_from(["alpha", "beta"]),
            st.sampled_from(["default", "half", "own"]),
            st.booleans(),
            st.sampled_from([10, 2000]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Pacific/Apia"]),
    st.integers(1, 5),
)
def test_generated_days(drawn: list[tuple[Any, ...]], zone: str, chunk: int) -> None:
    """For generated usage, chunk sizes and zones, the days equal the oracle's."""
    rows = [
        record(
            n, at=at.isoformat().replace("+00:00", "Z"), model=model, group=group, usage=body(tokens=tokens, cached=0)
        )
        for n, (at, model, group, _, tokens) in enumerate(drawn)
    ]
    for row, (*_, estimated, _) in zip(rows, drawn, strict=True):
        row["usage"]["estimated"] = estimated
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "CHUNK_LINES", chunk)
        found, expected = days_of([*rows, *rows[:3]], Period.parse("2026-10", zone))
    assert found == expected


def test_rejected_records_are_on_no_day() -> None:
    """A repeated record counts once on its day; rejected and out-of-scope records count on no day."""
    repeated = record(1, at="2026-10-05T00:00:00Z")
    rows = [
        *[repeated, repeated],
        record(2, at="2026-10-06T00:00:00Z"),
        record(2, at="2026-10-07T00:00:00Z"),
        record(3, at="2026-10-08T00:00:00Z", model="gone"),
        record(4, at="2026-10-09T00:00:00Z", account="acct_2"),
        record(5, at="2026-11-01T00:00:00Z"),
    ]
    assert named(billed(written(rows))["days"]) == [("2026-10-05", "alpha", 1)]


def test_an_alias_counts_as_its_model() -> None:
    """A dated snapshot counts in the row of the model that it is priced as."""
    rows = [record(n, at="2026-10-05T00:00:00Z", model=m) for n, m in enumerate(["alpha", "alpha-2026-02-03"])]
    assert named(billed(written(rows))["days"]) == [("2026-10-05", "alpha", 2)]


# --- notes ---

ROWS = [record(n, at=f"2026-10-0{n}T12:00:00Z") for n in range(1, 5)]
BILL = billed(written(ROWS))


def noted(rows: list[Json] | None) -> Json:
    """Return a sealed note that corrects the bill."""
    head = header(number=2, previous=BILL)
    corrected = None
    if rows is not None:
        found = aggregate_usage(written(rows).splitlines(), BOOK, head.period)
        corrected = build_invoice(found.accounts.get("acct_1") or AccountUsage("acct_1"), head, BOOK)
    return seal(build_note(BILL, corrected, head, "a reason"))


def test_a_note_has_the_days_that_change() -> None:
    """The days of a note are differences. A cancellation negates all days; unchanged days are omitted."""
    assert noted(None)["days"] == [
        {**day, "requests": -day["requests"], "credits": "-" + day["credits"]} for day in BILL["days"]
    ]
    gone = BILL["days"][1]
    assert noted([ROWS[0], *ROWS[2:]])["days"] == [{**gone, "requests": -1, "credits": "-" + gone["credits"]}]


def test_a_request_that_moves_to_another_day_is_corrected() -> None:
    """A request that was billed on the wrong day at the same price changes only the days of the note."""
    rows = [{**ROWS[0], "at": "2026-10-09T12:00:00Z"}, *ROWS[1:]]
    note = noted(rows)
    assert named(note["days"]) == [("2026-10-01", "alpha", -1), ("2026-10-09", "alpha", 1)]
    assert (note["kind"], note["lines"], note["totals"]["credits"]) == ("credit_note", [], "0")
    assert verified(note, written(rows), corrects=BILL, previous=BILL).differences == []
    assert "2026-10-09" in render_text(note)


# --- verify and page ---


def test_each_altered_day_is_named() -> None:
    """A changed, missing, added or moved day is found, also if the hash was recomputed."""
    usage = written(ROWS)
    day, one = BILL["days"][2], "days[2] (2026-10-03, alpha)"
    for changed, where in (
        ([*BILL["days"][:2], {**day, "requests": 2}, BILL["days"][3]], f"{one}.requests"),
        ([*BILL["days"][:2], {**day, "credits": "7"}, BILL["days"][3]], f"{one}.credits"),
        ([*BILL["days"][:2], {**day, "day": "2026-10-30"}, BILL["days"][3]], "days[2] (2026-10-30, alpha)"),
        (BILL["days"][1:], "days"),
        (BILL["days"][::-1], "days"),
        ([*BILL["days"], {**day, "model": "beta"}], "days[4] (2026-10-03, beta)"),
    ):
        document = {**BILL, "days": changed}
        document["hash"] = document_hash(document)
        assert where in [difference.where for difference in verified(document, usage).differences], where


def test_a_bill_of_another_zone_verifies() -> None:
    """A bill over a month of another zone is recomputed with the days of that zone."""
    period = Period.parse("2026-10", "Europe/Berlin")
    rows = [record(n, at=at) for n, at in enumerate(["2026-09-30T22:00:00Z", "2026-10-25T22:59:59Z"])]
    document = billed(written(rows), period=period, issued=period.end)
    assert [day["day"] for day in document["days"]] == ["2026-10-01", "2026-10-25"]
    assert verified(document, written(rows)).differences == []


def test_the_text_page_has_at_most_62_days() -> None:
    """The text page has up to 62 days with all models together; for more days it has none."""
    start = datetime(2026, 10, 1, tzinfo=UTC)
    period = Period.parse("2026-10-01/2027-01-01")
    rows = [record(n, at=(start + timedelta(days=n)).strftime("%Y-%m-%dT00:00:00Z")) for n in range(63)]
    rows.append(record(99, at="2026-10-01T05:00:00Z", model="beta"))
    for count, shown in ((62, True), (63, False)):
        some = [*rows[:count], rows[-1]]
        shows = render_text(billed(written(some), period=period, issued=period.end))
        assert ("Day (UTC)" in shows) == shown
        if shown:
            days, _ = days_of(some, period)
            both = sum(Fraction(day["credits"]) for day in days if day["day"] == "2026-10-01")
            (row,) = [line.split() for line in shows.splitlines() if line.startswith("2026-10-01 ")]
            assert (row[1], len(row[2].partition(".")[2])) == ("2", 6)
            assert abs(Fraction(row[2]) - both) < Fraction(1, 10**6)
