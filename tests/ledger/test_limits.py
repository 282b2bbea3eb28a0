"""Limits by window: what they count, what they refuse, and when they reset."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.ledger import Ledger, LimitReachedError
from brivionix_billing.tokens import TokenCounter
from ledger_kit import BOOK, NOW, body, charge, got, later, opened, refused, traced, with_credits
from limit_contest import contend
from profiles import examples

_NUMBERS = count()


def use(ledger: Ledger, seconds: float = 0) -> dict[str, Decimal]:
    """Return the use of each limit some seconds after ``NOW``."""
    return {limit.name: limit.used for limit in ledger.limits("acct", at=later(seconds))}


def reached(ledger: Ledger, credits: str, seconds: float = 0, **options: Any) -> LimitReachedError:
    """Hold, and return the error of the limit that refuses it."""
    with pytest.raises(LimitReachedError) as caught:
        ledger.hold("acct", credits, id=f"no-{next(_NUMBERS)}", at=later(seconds), **options)
    return caught.value


def attempt(work: Callable[[], Any]) -> BillingError | None:
    """Run an operation, and return its error."""
    try:
        work()
    except BillingError as error:
        return error
    return None


# --- laws ---


@dataclass
class Record:
    """A request of the oracle. ``counts`` is what it counts now, by unit."""

    at: datetime
    expires: datetime
    held: dict[str, Fraction]
    counts: dict[str, Fraction]
    state: str = "open"


def window_key(window: str, zone: str, at: datetime) -> Any:
    """Return the calendar window of a time by the clock on the wall, or ``None`` if it is in none."""
    local = at.astimezone(ZoneInfo(zone))
    if window == "hour":
        return local.date(), local.hour, local.utcoffset()
    if window == "day":
        return local.date()
    if window == "week":
        return local.isocalendar()[:2]
    if window == "month":
        return local.year, local.month
    start, end = window.split("-")
    clock = local.strftime("%H:%M")
    if start < end:
        return local.date() if start <= clock < end else None
    if end <= clock < start:
        return None
    return local.date() - timedelta(days=clock < end)


def is_rolling(window: str) -> bool:
    """Return whether a window is one of rolling hours."""
    return window[:-1].isdecimal()


def counted(records: list[Record], unit: str, window: str, zone: str, at: datetime, longer: timedelta) -> Fraction:
    """Return what the window of a time contains; ``longer``: how much longer a rolling one is."""
    if is_rolling(window):
        start = at - timedelta(hours=int(window[:-1])) - longer
        return sum((record.counts[unit] for record in records if record.at > start), Fraction(0))
    key = window_key(window, zone, at)
    found = [record for record in records if key is not None and window_key(window, zone, record.at) == key]
    return sum((record.counts[unit] for record in found), Fraction(0))


WINDOWS = st.one_of(
    st.tuples(
        st.sampled_from(["hour", "day", "week", "month", "22:00-06:00", "01:30-02:30", "02:30-01:30"]),
        st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "UTC"]),
    ),
    st.tuples(st.sampled_from(["1h", "5h", "24h", "100h"]), st.just("UTC")),
)
BASE = "2026-03-29T00:50"
BASES = st.sampled_from(
    [
        *(BASE, "2026-10-25T00:10", "2026-10-25T22:50", "2026-03-08T06:40", "2026-11-01T05:20"),
        *("2026-04-04T14:40", "2026-10-03T15:20", "2026-12-31T15:40", "2026-12-31T22:55", "2028-02-29T22:50"),
    ]
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "hold", "hold", "settle", "charged", "release", "charge"]),
        st.sampled_from([0, 1, 59, 600, 1795, 3600, 4 * 3600, 86_400, 7 * 86_400, -90]),  # seconds since the last one
        st.integers(1, 5),
        st.integers(0, 6),
    ),
    min_size=5,
    max_size=40,
)
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def shared() -> Iterator[Ledger]:
    """Yield a ledger with an account for each example. At the end it is valid, and a rebuild changes nothing."""
    with opened("sqlite://") as ledger:
        yield ledger
        assert ledger.verify() == []
        ledger.rebuild()
        assert ledger.verify() == []


@settings(max_examples=examples(150), deadline=None)
@given(WINDOWS, BASES, st.sampled_from(["credits", "requests", "tokens"]), EVENTS)
@example(("1h", "UTC"), BASE, "credits", [*[("hold", 0, 1, 0)] * 2, ("release", 1854, 1, 0), ("release", -90, 1, 0)])
def test_a_window_contains_what_the_records_in_it_add_up_to(
    shared: Ledger, window: tuple[str, str], base: str, unit: Any, events: list[tuple[str, int, int, int]]
) -> None:
    """CASES 58: across DST changes and month ends, a hold is admitted exactly if the records in its window allow it.

    A rolling window of N hours never exceeds the limit in any N hours, and counts at most N minutes longer.
    """
    account, records, open_ids = f"acct-{next(_NUMBERS)}", dict[str, Record](), list[str]()
    now, name, zone, limit = datetime.fromisoformat(f"{base}Z"), *window, 10
    longest = timedelta(minutes=int(name[:-1])) if is_rolling(name) else timedelta(0)
    shared.open_account(account, at=now)
    shared.grant(account, "1000", reason="test", id=f"gift-{account}", at=now)
    shared.set_limit(account, "limit", limit, unit=unit, window=name, zone=zone, id=f"limit-{account}", at=now)

    def after_expiries(at: datetime) -> dict[str, Record]:
        due = [id for id, record in records.items() if record.state == "open" and record.expires <= at]
        none = {"credits": Fraction(0), "requests": Fraction(0), "tokens": Fraction(0)}
        return records | {id: replace(records[id], state="expired", counts=none) for id in due}

    def both(at: datetime) -> tuple[Fraction, Fraction]:
        found = list(after_expiries(at).values())
        return tuple(counted(found, unit, name, zone, at, longer) for longer in (timedelta(0), longest))  # type: ignore[return-value]

    for kind, wait, amount, choice in events:
        now += timedelta(seconds=wait)
        id = f"{account}-{next(_NUMBERS)}"
        least, most = both(now)
        asked = {"credits": Fraction(amount), "requests": Fraction(1), "tokens": Fraction(amount)}
        # An operation that is refused posts no expiries, and the next one may be of a machine whose clock is behind.
        before, error = records, None
        records = after_expiries(now)
        if kind == "hold":
            applies = is_rolling(name) or window_key(name, zone, now) is not None
            error = attempt(lambda: shared.hold(account, amount, id=id, at=now, ttl=30 * MINUTE, tokens=amount))  # noqa: B023
            if error is None:
                assert not applies or least + asked[unit] <= limit
                records[id] = Record(now, now + 30 * MINUTE, asked, dict(asked))
                open_ids.append(id)
            else:
                assert isinstance(error, LimitReachedError)
                assert applies
                assert most + asked[unit] > limit
                assert least <= Fraction(error.used) <= most
                assert error.resets is None or error.resets > now
        elif kind == "charge":
            shared.charge(account, amount, id=id, at=now)
            nothing = {"credits": Fraction(0), "requests": Fraction(0), "tokens": Fraction(0)}
            records[id] = Record(now, now, nothing, {**asked, "tokens": Fraction(0)}, "charged")
        elif open_ids:
            hold = open_ids.pop(choice % len(open_ids))
            record = records[hold]
            if kind == "release":
                error = attempt(lambda: shared.release(hold, at=now))  # noqa: B023
                assert (error is None) == (record.state == "open")
                if error is None:
                    record.state, record.counts = "released", dict.fromkeys(record.counts, Fraction(0))
            else:
                used = {"credits": Fraction(choice), "requests": Fraction(1), "tokens": record.held["tokens"]}
                if kind == "settle":
                    shared.settle(hold, choice, at=now)
                else:
                    done = charge(body(choice, 0, 1))
                    used = {**used, "credits": Fraction(done.credits), "tokens": Fraction(choice + 1)}
                    shared.settle(hold, done, usage=body(choice, 0, 1), at=now)
                record.state, record.counts = "settled", used
        if error is not None:
            records = before
        least, most = both(now)
        (shown,) = shared.limits(account, at=now)
        assert least <= Fraction(shown.used) <= most
        if not is_rolling(name):
            assert shown.resets is None or window_key(name, zone, shown.resets) != window_key(name, zone, now)


@pytest.mark.parametrize(
    ("window", "zone", "at", "resets"),
    [
        ("hour", "Asia/Kolkata", "2026-11-25T09:10", "2026-11-25T09:30"),
        ("day", "Europe/Berlin", "2026-10-25T12:00", "2026-10-25T23:00"),
        ("week", "America/New_York", "2026-11-01T03:00", "2026-11-02T05:00"),
        ("month", "Asia/Shanghai", "2026-12-31T17:00", "2027-01-31T16:00"),
        ("22:00-06:00", "Europe/Berlin", "2026-10-24T21:00", "2026-10-25T05:00"),
        ("22:00-02:30", "Europe/Berlin", "2026-10-25T00:10", "2026-10-25T01:30"),
        ("5h", "UTC", "2026-11-25T09:01:59", "2026-11-25T14:05"),
    ],
)
def test_a_refusal_names_the_time_from_which_the_request_fits(
    ledger: Ledger, window: str, zone: str, at: str, resets: str
) -> None:
    """A second before the reset, the request is refused; at the reset, it is admitted."""
    when, until = datetime.fromisoformat(f"{at}Z"), datetime.fromisoformat(f"{resets}Z")
    ledger.set_limit("acct", "one", 1, unit="requests", window=window, zone=zone, id="limit", at=when)
    ledger.hold("acct", 1, id="first", at=when, ttl=timedelta(days=60))
    with pytest.raises(LimitReachedError) as caught:
        ledger.hold("acct", 1, id="second", at=when)
    assert (caught.value.resets, caught.value.limit) == (until, "one")
    assert caught.value.retry_seconds == (until - when).total_seconds()
    if window != "22:00-02:30":  # the clock shows 02:30 twice, and between them the window does not apply
        with pytest.raises(LimitReachedError):
            ledger.hold("acct", 1, id="second", at=until - timedelta(seconds=1))
    ledger.hold("acct", 1, id="second", at=until)


# --- operations ---


def test_a_token_or_tag_has_a_limit_of_its_own(database: str) -> None:
    """A limit of a token or a tag counts and refuses only their requests, and several limits apply at once."""
    with opened(database) as ledger:
        with_credits(ledger)
        for token in ("a", "b"):
            ledger.create_token("acct", id=token, group="default", at=NOW)
        ledger.set_limit("acct", "a", "2", window="day", token="a", id="limit-a", at=NOW)
        ledger.set_limit("acct", "x", "3", window="month", tag="team=x", id="limit-x", at=NOW)
        ledger.set_limit("acct", "all", 4, unit="requests", window="1h", id="limit-all", at=NOW)
        ledger.hold("acct", "2", id="h1", at=NOW, token="a", tags={"team": "x"})
        assert use(ledger) == {"a": 2, "x": 2, "all": 1}
        assert reached(ledger, "1", token="a").limit == "a"
        ledger.hold("acct", "1", id="h2", at=NOW, token="b", tags={"team": "x", "env": "test"})
        assert reached(ledger, "1", token="b", tags={"team": "x"}).limit == "x"
        ledger.hold("acct", "1", id="h3", at=NOW, tags={"team": "y"})
        ledger.charge("acct", "5", id="c", at=NOW, token="a")
        assert use(ledger) == {"a": 7, "x": 3, "all": 4}
        assert reached(ledger, "1").limit == "all"
        assert reached(ledger, "1", token="a", tags={"team": "x"}).limit == "x"  # the last one to reset
        assert ledger.verify() == []


def test_another_amount_keeps_the_count_and_another_window_does_not(ledger: Ledger) -> None:
    """set_limit with the same name changes the amount; with other terms it counts anew; removed, nothing is refused."""
    ledger.set_limit("acct", "l", "1", window="day", id="l1", at=NOW)
    ledger.hold("acct", "1", id="h1", at=NOW)
    assert ledger.set_limit("acct", "l", "3", window="day", id="l2", at=NOW).kind == "set_limit"
    assert ledger.set_limit("acct", "l", "3", window="day", id="l2", at=later(5)).repeated
    assert reached(ledger, "2.5").used == 1
    ledger.set_limit("acct", "l", "3", window="week", id="l3", at=NOW)
    assert use(ledger) == {"l": 0}
    ledger.settle("h1", "0.5", at=NOW)  # counted by the limit that is gone
    assert use(ledger) == {"l": 0}
    ledger.remove_limit("acct", "l", id="l4", at=NOW)
    ledger.hold("acct", "50", id="h2", at=NOW)
    assert ledger.limits("acct", at=NOW) == []
    with refused("invalid_argument"):
        ledger.remove_limit("acct", "l", id="l5", at=NOW)
    ledger.set_limit("acct", "l", "3", window="day", id="l6", at=NOW)
    ledger.release("h2", at=NOW)
    assert use(ledger) == {"l": 0}
    assert ledger.verify() == []


def test_an_expired_hold_counts_again_when_it_is_settled(ledger: Ledger) -> None:
    """An expired hold no longer counts, also before its expiry is posted; a late settlement counts what was used."""
    ledger.set_limit("acct", "l", "2", window="day", id="l1", at=NOW)
    ledger.hold("acct", "2", id="h1", at=NOW, ttl=timedelta(seconds=60))
    assert use(ledger) == {"l": 2}
    assert use(ledger, 60) == {"l": 0}
    ledger.hold("acct", "2", id="h2", at=later(60))
    ledger.settle("h1", "1.5", at=later(61))
    assert use(ledger, 61) == {"l": Decimal("3.5")}
    assert ledger.limits("acct", at=later(61))[0].left == 0


def test_a_limit_of_tokens_takes_them_from_the_worst_case(ledger: Ledger) -> None:
    """A WorstCase and a Charge know their tokens; plain Credits need tokens=."""
    ledger.set_limit("acct", "tpd", 20_000, unit="tokens", window="day", id="l1", at=NOW)
    request = {"messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 1000}
    worst = TokenCounter("gpt-5.4-mini", BOOK).worst_case(request, group="default", at=NOW, api="chat")
    ledger.hold("acct", worst, id="h1", at=NOW)
    assert use(ledger) == {"tpd": worst.input_tokens + 1000}
    ledger.settle("h1", charge(), usage=body(), at=NOW)
    assert use(ledger) == {"tpd": 12_800}
    with refused("invalid_argument"):
        ledger.hold("acct", "1", id="h2", at=NOW)
    ledger.hold("acct", "1", id="h2", at=NOW, tokens=7_200)
    error = reached(ledger, "1", tokens=1)
    assert got(error.unit, error.amount, error.used, error.requested) == ("tokens", 20_000, 20_000, 1)
    assert pickle.loads(pickle.dumps(error)).retry_seconds == error.retry_seconds  # our own
    ledger.set_limit("acct", "rpm", 2, unit="requests", window="month", id="l2", at=NOW)
    for number in (3, 4):
        ledger.hold("acct", "1", id=f"h{number}", at=NOW, tokens=0)
    assert reached(ledger, "1", tokens=1).limit == "rpm"  # the last one to reset
    never = reached(ledger, "1", tokens=20_001)
    assert (never.limit, never.resets, never.retry_seconds) == ("tpd", None, None)


def test_an_expected_share_is_counted_until_the_request_is_settled(ledger: Ledger) -> None:
    """With expected=, limits count this share of the hold, rounded up, and the actual usage afterwards."""
    ledger.set_limit("acct", "day", "1", window="day", id="l1", at=NOW)
    ledger.set_limit("acct", "tpd", 10, unit="tokens", window="day", id="l2", at=NOW)
    ledger.hold("acct", "2", id="h1", at=NOW, tokens=5, expected="0.25")
    assert use(ledger) == {"day": Decimal("0.5"), "tpd": Decimal("1.25")}
    assert ledger.balance("acct", at=NOW).held == 2
    ledger.settle("h1", "1.5", at=NOW)
    assert use(ledger)["day"] == Decimal("1.5")
    smallest = Decimal("1E-18")
    ledger.set_limit("acct", "day", "1.500000000000000001", window="day", id="l3", at=NOW)
    ledger.hold("acct", smallest, id="h3", at=NOW, tokens=1, expected="0.25")
    assert use(ledger)["day"] == Decimal("1.5") + smallest
    assert reached(ledger, "0.000000000000000001", tokens=1, expected="0.25").limit == "day"  # by one unit
    for wrong in ("0", "1.1", "-1", Decimal("NaN")):
        with pytest.raises(BillingError):
            ledger.hold("acct", "1", id="h2", at=NOW, tokens=1, expected=wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": "fortnight"},
        {"window": "0h"},
        {"window": "9000h"},
        {"window": "5h", "zone": "Asia/Shanghai"},
        {"window": "22:00-22:00"},
        {"window": "day", "unit": "euros"},
        {"window": "day", "unit": "requests", "amount": "1.5"},
        {"window": "day", "amount": "-1"},
        {"window": "day", "zone": "Mars/Phobos"},
        {"window": "day", "token": "a", "tag": "b=c"},
        {"window": "day", "tag": "b"},
        {"window": "day", "token": "unknown"},
        {"window": None},
        {"window": "day", "zone": None},
        {"window": "day", "name": ""},
    ],
)
def test_a_wrong_limit_is_refused(ledger: Ledger, wrong: dict[str, Any]) -> None:
    """A limit that could not be applied is an error, and sets nothing."""
    options = {"name": "l", "amount": 1, "id": "l1", "at": NOW, **wrong}
    with pytest.raises(BillingError):
        ledger.set_limit("acct", options.pop("name"), options.pop("amount"), **options)
    assert ledger.limits("acct", at=NOW) == []


def test_an_account_has_at_most_20_limits(ledger: Ledger) -> None:
    """The twenty-first limit is refused, and a change of an existing one is not."""
    for number in range(20):
        ledger.set_limit("acct", f"l{number}", 1, window="day", id=f"set-{number}", at=NOW)
    with refused("invalid_argument"):
        ledger.set_limit("acct", "more", 1, window="day", id="x", at=NOW)
    ledger.set_limit("acct", "l3", 1, window="week", id="y", at=NOW)
    assert len(ledger.limits("acct", at=NOW)) == 20


def test_an_account_without_limits_costs_no_statement(ledger: Ledger) -> None:
    """Requests of an account without limits do not read or write the tables of limits, also after one was removed."""
    ledger.set_limit("acct", "l", 1, window="day", id="l1", at=NOW)
    ledger.remove_limit("acct", "l", id="l2", at=NOW)
    statements = traced(ledger)
    ledger.hold("acct", "1", id="h1", at=NOW)
    ledger.settle("h1", charge(), usage=body(), at=NOW)
    ledger.charge("acct", "1", id="c1", at=NOW)
    assert len(statements) > 12
    assert not [sql for sql in statements if "billing_limit" in sql or "billing_counter" in sql]


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
@pytest.mark.parametrize("window", ["5h", "hour", "day", "week", "month", "22:00-06:00"])
def test_the_limits_of_the_calendar_are_no_traceback(ledger: Ledger, at: datetime, window: str) -> None:
    """In the years 1 and 9999, a window works or is a BillingError."""
    ledger.set_limit("acct", "l", 1, window=window, id="l1", at=NOW)
    for step in (ledger.charge, ledger.hold):
        try:
            step("acct", "0.1", id=step.__name__, at=at)
        except BillingError:
            pass


def test_sixteen_writers_never_exceed_a_window(database: str) -> None:
    """CASES 58: with 16 writers, no state of the journal exceeds a limit, and in the end each window is full."""
    contend(database, writers=16, requests=320, processes=False)


def test_counters_are_pruned_when_they_count_no_more(database: str) -> None:
    """Counters are deleted 62 days after their windows, and verify, rebuild and a late settlement do not mind."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.set_limit("acct", "credits", 50, window="hour", id="credits", at=NOW)
        ledger.set_limit("acct", "requests", 50, unit="requests", window="5h", id="requests", at=NOW)
        ledger.hold("acct", "1", id="late", at=NOW)
        for day in range(0, 100, 10):
            ledger.charge("acct", "1", id=f"c{day}", at=later(86400 * day))
        now = later(86400 * 90)
        assert ledger.prune_counters(at=now.replace(year=2099)) == 2 * 3  # of days 0, 10 and 20
        assert ledger.prune_counters(at=now) == 0
        assert ledger.verify() == []
        ledger.settle("late", "0.5", at=now)
        assert ledger.verify() == []
        before = {limit.name: limit.used for limit in ledger.limits("acct", at=now)}
        ledger.rebuild()
        assert {limit.name: limit.used for limit in ledger.limits("acct", at=now)} == before
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM billing_counter")
        missing = [each for each in ledger.verify() if "counter" in each.message]
        assert len(missing) == 2 * 4  # of days 60 to 90


def test_a_counter_with_an_altered_start_is_found(ledger: Ledger) -> None:
    """Verify reports a counter whose start is no time."""
    ledger.set_limit("acct", "l", "1", window="day", id="l1", at=NOW)
    ledger.charge("acct", "1", id="c", at=NOW)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE billing_counter SET starts = 'x'")
    assert [each.message for each in ledger.verify() if "x" in each.message] != []
