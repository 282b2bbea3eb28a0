"""A month with price changes, duplicates, conflicts and rejected records, and the bounds of periods."""

from __future__ import annotations

from typing import Any

import pytest

from bill_kit import BOOK, OCTOBER, TEXT, billed, body, record, verified, written
from brivionix_billing import PriceBook
from brivionix_billing.invoice import AggregatedUsage, aggregate_usage
from brivionix_billing.times import Period
from brivionix_billing.usage.record_file import RejectedRecord

Json = dict[str, Any]


def aggregate(usage: bytes, **options: Any) -> tuple[AggregatedUsage, list[RejectedRecord]]:
    """Return the aggregated usage of October, and its rejected records."""
    rejected: list[RejectedRecord] = []
    period = options.pop("period", OCTOBER)
    return aggregate_usage(
        usage.splitlines(keepends=True), BOOK, period, on_rejected=rejected.append, **options
    ), rejected


# --- price changes ---


def test_prices_that_change_inside_the_month() -> None:
    """A list price, a tool fee and a ratio that change within the month give separate lines."""
    search = {"output": [{"type": "web_search_call"}]}
    rows = [
        record(1, at="2026-10-12T11:59:59.999999Z", usage=body("whole", 100, 0, 1)),
        record(2, at="2026-10-12T12:00:00Z", usage=body("whole", 100, 0, 1)),
        record(3, at="2026-10-19T23:59:59.9Z", usage=body("whole", 0, 0, 0, **search)),
        record(4, at="2026-10-20T00:00:00Z", usage=body("whole", 0, 0, 0, **search)),
        record(5, at="2026-10-19T23:59:59Z", group="half", usage=body("whole", 100, 0, 0)),
        record(6, at="2026-10-20T00:00:00Z", group="half", usage=body("whole", 100, 0, 0)),
    ]
    lines = [
        (line["group"], line["meter"], line["price_since"], line["unit_price"], line["ratio"])
        for line in billed(written(rows))["lines"]
    ]
    assert lines == [
        ("default", "input", "2026-01-01T00:00:00Z", "2.5", "1"),
        ("default", "output", "2026-01-01T00:00:00Z", "15", "1"),
        ("default", "input", "2026-10-12T12:00:00Z", "3", "1"),
        ("default", "output", "2026-10-12T12:00:00Z", "16", "1"),
        ("default", "web_search", "2026-10-12T12:00:00Z", "10", "1"),
        ("default", "web_search", "2026-10-12T12:00:00Z", "12.5", "1"),
        ("half", "input", "2026-10-12T12:00:00Z", "1.5", "0.5"),
        ("half", "input", "2026-10-12T12:00:00Z", "2.1", "0.7"),
    ]


def test_channel_prices_that_change_inside_the_month() -> None:
    """Each price of a channel is a price period; Credits from before its first price are listed separately."""
    usage = body("responses", 1000, 0, 0)
    days = ("2026-10-09T23:59:59Z", "2026-10-10T00:00:00Z", "2026-10-14T23:59:59Z", "2026-10-15T00:00:00Z")
    totals = billed(written([record(n, at=at, model="beta", usage=usage) for n, at in enumerate(days)]))["totals"]
    rmb, konbini = totals["channels"]["rmb"], totals["channels"]["konbini"]
    assert [(part["price_per_credit"], part["credits"]) for part in rmb["price_periods"]] == [
        ("0.85", "0.00225"),
        ("0.9", "0.00075"),
    ]
    assert rmb["price_periods"][1]["since"] == "2026-10-15T00:00:00Z"
    assert (rmb["amount"], rmb["credits_without_price"]) == ("0.0025875", "0")
    assert (konbini["credits_without_price"], konbini["price_periods"][0]["credits"]) == ("0.00075", "0.00225")
    assert (konbini["currency"], totals["rounded"]["channels"]["konbini"]) == ("JPY", "0")


def test_list_price_of_zero_is_not_no_list_price() -> None:
    """A list price of zero and no list price give separate lines."""
    book = PriceBook.loads(
        TEXT.replace("RATIO", "1")
        .replace("NOMINAL", "1")
        .replace("PRICE", "2.5", 1)
        .replace(
            "  - {from: 2026-01-01, discount: 0.90}\n  - {from: 2026-10-25, discount: 0.5}",
            "  - {from: 2026-10-05, discount: 1}",
        )
        .replace("                input: 1.5\n", "                input: 1.5\n                cache_read: 0.1\n")
        .replace("input: 2, cache_write", "input: 2, cache_read: 0.1, cache_write")
    )
    rows = [
        record(n, at=at, group="own", usage=body(tokens=100, cached=100, out=0))
        for n, at in enumerate(("2026-10-04T00:00:00Z", "2026-10-06T00:00:00Z"))
    ]
    assert [line["list_price"] for line in billed(written(rows), book)["lines"]] == [None, "0"]


# --- duplicates, conflicts, rejected records ---


def test_duplicates_count_once() -> None:
    """A repeated record counts once and is reported, also with its keys in another order."""
    rows = [record(1), record(2), dict(reversed(record(1).items())), record(1)]
    once, twice = billed(written(rows[:2])), billed(written(rows))
    assert twice["totals"] == once["totals"]
    assert (once["evidence"]["duplicates"], twice["evidence"]["duplicates"]) == (0, 2)
    assert twice["evidence"]["merkle_root"] == once["evidence"]["merkle_root"]
    aggregated, rejected = aggregate(written(rows))
    assert [(d.request_id, d.account, d.line) for d in aggregated.duplicates] == [
        ("req_1", "acct_1", 3),
        ("req_1", "acct_1", 4),
    ]
    assert (aggregated.duplicate_count, rejected) == (2, [])


@pytest.mark.parametrize(
    "other",
    [
        record(1, usage=body(tokens=301)),
        record(1, account="acct_2"),
        record(1, at="2026-11-02T00:00:00Z"),
        record(1, model="gone"),
        record(1, group="gone"),
        record(1, usage={**body(), "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 3}}),
    ],
    ids=["counts", "account", "month", "model", "group", "meter"],
)
@pytest.mark.parametrize("alone", [True, False])
def test_conflicting_duplicates_are_rejected(other: Json, alone: bool) -> None:
    """If one id has different contents, no version is billed, and each is rejected or out of scope."""
    rows = [record(2), record(1), other, record(1)]
    aggregated, rejected = aggregate(written(rows), account="acct_1" if alone else None)
    assert aggregated.accounts["acct_1"].requests == 1
    assert sum(bucket.requests for bucket in aggregated.accounts["acct_1"].buckets) == 1
    named = {record.line: record for record in rejected}
    assert {2, 4} <= set(named)
    for number in (2, 4):
        assert (named[number].code, named[number].request_id, named[number].account) == (
            "duplicate_conflict",
            "req_1",
            "acct_1",
        )
        assert "lines 2, 3, 4" in named[number].message
    assert len(rejected) + aggregated.out_of_scope + 1 == 4
    assert aggregated.rejected == len(rejected)


def test_unpriced_records_are_rejected_and_the_rest_is_billed() -> None:
    """Records that cannot be priced are rejected with the reason, and the others are billed."""
    reasons = {
        "unknown_model": record(1, model="gone"),
        "unknown_group": record(2, group="gone"),
        "model_not_allowed": record(3, group="free"),
        "service_tier_unavailable": record(4, service_tier="batch"),
        "unknown_service_tier": record(5, service_tier="Prioritty", usage=body()),
        "meter_unpriced": record(6, usage={**body(), "completion_tokens_details": {"image_tokens": 1}}),
        "usage_contradiction": record(7, usage=body(tokens=1, cached=2)),
        "invalid_record": {**record(8), "group": None},
    }
    usage = written([*reasons.values(), record(9), record(10)])
    aggregated, rejected = aggregate(usage)
    assert {record.code: record.request_id for record in rejected} == {
        code: row["request_id"] for code, row in reasons.items()
    }
    assert all(record.message and record.account == "acct_1" for record in rejected)
    assert aggregated.accounts["acct_1"].requests == 2
    document = billed(usage)
    assert document["evidence"]["rejected"] == 8
    assert document["totals"] == billed(written([record(9), record(10)]))["totals"]


def test_a_repeated_record_without_a_price() -> None:
    """A repeated record without a price is rejected twice, and is not a duplicate of a billed record."""
    aggregated, rejected = aggregate(written([record(1, model="gone"), record(1, model="gone"), record(2)]))
    assert (len(rejected), aggregated.duplicate_count, aggregated.accounts["acct_1"].duplicates) == (2, 0, 0)


def test_a_response_that_names_an_empty_tier() -> None:
    """If the response names an empty tier, the requested tier is billed."""
    document = billed(written([record(1, service_tier="priority", usage=body("whole", service_tier=""))]))
    assert {line["service_tier"] for line in document["lines"]} == {"priority"}


# --- periods ---


def test_periods_are_half_open() -> None:
    """The first instant of a month is billed and the first of the next is not, to the microsecond."""
    moments = (
        "2026-09-30T23:59:59.999999Z",
        "2026-10-01T00:00:00Z",
        "2026-10-31T23:59:59.999999Z",
        "2026-11-01T00:00:00Z",
    )
    rows = [record(n, at=at) for n, at in enumerate(moments)]
    evidence = billed(written(rows))["evidence"]
    assert (evidence["first"]["at"], evidence["last"]["at"], evidence["records"]) == (moments[1], moments[2], 2)
    assert aggregate(written(rows))[0].out_of_scope == 2


def test_a_month_of_shanghai() -> None:
    """A month of Asia/Shanghai starts and ends eight hours before that of UTC."""
    moments = ("2026-09-30T15:59:59.999Z", "2026-09-30T16:00:00Z", "2026-10-31T15:59:59.999Z", "2026-10-31T16:00:00Z")
    rows = [record(n, at=at) for n, at in enumerate(moments)]
    document = billed(written(rows), period=Period.parse("2026-10", "Asia/Shanghai"))
    assert document["period"] == {
        "name": "2026-10",
        "from": "2026-09-30T16:00:00Z",
        "to": "2026-10-31T16:00:00Z",
        "zone": "Asia/Shanghai",
    }
    assert [document["evidence"][end]["at"] for end in ("first", "last")] == [moments[1], moments[2]]
    assert verified(document, written(rows)).ok


def test_times_with_an_offset() -> None:
    """A time with an offset is billed in the month of its instant, and stated in UTC."""
    rows = [record(1, at="2026-11-01T07:00:00+08:00"), record(2, at="2026-10-01T07:00:00+08:00")]
    document = billed(written(rows))
    assert document["evidence"]["first"] == {"request_id": "req_1", "at": "2026-10-31T23:00:00Z"}
    assert document["evidence"]["records"] == 1


def test_all_time() -> None:
    """Without a period, all time is billed."""
    rows = [record(1, at="2026-02-01T00:00:00Z"), record(2, at="2027-02-01T00:00:00Z")]
    aggregated, _ = aggregate(written(rows), period=None)
    assert aggregated.accounts["acct_1"].requests == 2


def test_an_empty_file() -> None:
    """An empty file has no accounts and no lines."""
    aggregated, rejected = aggregate(b"")
    assert (aggregated.accounts, aggregated.lines, rejected) == ({}, 0, [])


def test_a_long_request_does_not_affect_the_next_short_one() -> None:
    """The cached card of a request is not used for the next one if the context tier differs."""
    long, short = body(tokens=1500), body(tokens=900)
    rows = [record(n, usage=usage) for n, usage in enumerate((short, long, short, long), 1)]
    aggregated, _ = aggregate(written(rows))
    tiers = {bucket.card.context_tier: bucket.requests for bucket in aggregated.accounts["acct_1"].buckets}
    assert tiers == {"short": 2, "long": 2}
