"""Statements that reconcile, usage by day, records for bills."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, Payable, Usage
from brivionix_billing.cli import main
from brivionix_billing.ledger import Ledger
from brivionix_billing.times import Period
from ledger_kit import BOOK, NOW, body, charge, later, opened, quote, with_credits
from profiles import examples

DAY = Period.parse("2026-11-01/2026-11-02")
MONTH = Period.parse("2026-11")


def request(ledger: Ledger, id: str, at: datetime, **more: Any) -> None:
    """Hold and settle a request that takes two seconds."""
    of = body(**{key: more.pop(key) for key in ("input_tokens", "cached", "output") if key in more})
    ledger.hold("acct", "1", id=id, at=at, token=more.get("token"))
    charged = charge(of, at=at, model=more.get("model", "gpt-5.4-mini"))
    ledger.settle(id, charged, usage=of, at=at + timedelta(seconds=2))


def test_a_statement_has_opening_movements_usage_and_closing(database: str) -> None:
    """Closing = opening + movements - used, and equals the balance; usage is listed by day and model."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.grant("acct", "5", reason="welcome", id="gift", at=later(1), expires=later(3600))
        request(ledger, "r1", later(10))
        request(ledger, "r2", later(86_400))
        request(ledger, "r3", later(86_401), model="gpt-5.4")
        ledger.refund("acct", "lot-acct", id="back", at=later(86_500), credits="40")
        ledger.dispute("acct", "lot-acct", id="dp", at=later(86_600), pay=Payable("8.50", "CNY"))
        ledger.adjust("acct", "-1", reason="wrong", author="Ada", id="adj", at=later(86_700))
        ledger.hold("acct", "2", id="r4", at=later(86_800))
        first = ledger.statement("acct", DAY)
        assert first.opening == 0
        assert [(move.kind, move.credits) for move in first.movements] == [
            ("top_up", Decimal(100)),
            ("grant", Decimal(5)),
            ("lot_expired", Decimal("-4.99415")),  # on the day of the expiry, although it was posted a day later
        ]
        assert first.movements[0].label == "Top-up 2026-11-01, 85.00 CNY by rmb"
        assert (first.used, first.closing) == (Decimal("0.00585"), Decimal(100))
        second = ledger.statement("acct", Period.parse("2026-11-02/2026-11-03"))
        assert second.opening == first.closing
        assert [(move.kind, str(move.credits)) for move in second.movements] == [
            ("refund", "-40"),
            ("dispute", "-10"),
            ("adjust", "-1"),
        ]
        assert second.movements[0].label == "Refund 2026-11-02, 34.00 CNY"
        assert [(line.day, line.model, line.requests) for line in second.usage] == [
            ("2026-11-02", "gpt-5.4", 1),
            ("2026-11-02", "gpt-5.4-mini", 1),
        ]
        assert second.open_holds == 1
        has = ledger.balance("acct", at=later(86_900))
        assert second.closing == has.available + has.held - has.owed


@settings(max_examples=examples(25), deadline=None)
@given(
    seconds=st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=3),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "America/St_Johns"]),
)
def test_statements_of_any_periods_join(seconds: list[int], cuts: list[int], zone: str) -> None:
    """Consecutive periods of any length join: each opens where the previous one closed, and no usage is lost.

    The oracle adds the charges up in fractions, by the time of each request.
    """
    with opened("sqlite://") as ledger:
        with_credits(ledger)
        charges = []
        for index, second in enumerate(sorted(seconds)):
            request(ledger, f"r{index}", later(second), output=index + 1)
            charges.append((second, Fraction(charge(body(output=index + 1), at=later(second)).credits)))
        edges = [NOW - timedelta(days=1), *(later(cut) for cut in sorted(set(cuts))), later(4 * 86_400)]
        closing = Decimal(0)
        for start, end in pairwise(edges):
            statement = ledger.statement("acct", Period(start, end, zone))
            assert statement.opening == closing
            closing = statement.closing
            inside = sum((paid for second, paid in charges if start <= later(second) < end), Fraction(0))
            by_line = sum((Fraction(line.credits) for line in statement.usage), Fraction(0))
            assert Fraction(statement.used) == inside == by_line
        assert Fraction(closing) == 100 - sum(paid for _, paid in charges)


def test_usage_is_summed_by_day_of_the_zone_and_by_token(ledger: Ledger) -> None:
    """A request belongs to its day in the zone; tokens, requests and estimates are summed."""
    ledger.create_token("acct", id="tok", at=NOW, group="default")
    request(ledger, "r1", datetime(2026, 11, 1, 15, 59, 59, tzinfo=UTC), token="tok")
    request(ledger, "r2", datetime(2026, 11, 1, 16, 0, tzinfo=UTC))
    shanghai = ledger.usage("acct", Period.parse("2026-11", "Asia/Shanghai"), by_token=True)
    assert [(line.day, line.token, line.requests) for line in shanghai] == [
        ("2026-11-01", "tok", 1),
        ("2026-11-02", "", 1),
    ]
    (line,) = ledger.usage("acct", MONTH)
    assert (line.requests, line.estimated, line.credits) == (2, 0, Decimal("0.0117"))
    assert (line.input_tokens, line.cache_read_tokens, line.output_tokens) == (24_000, 20_000, 1_600)


def test_a_statement_includes_expiries_that_are_not_posted(ledger: Ledger) -> None:
    """Expiries of a period are on its statement before they are posted, so a closed month does not change."""
    ledger.grant("acct", "10", reason="x", id="gift", at=NOW, expires=later(3_600))
    ledger.hold("acct", "1", id="r1", at=later(10))
    ledger.release("r1", at=later(11))
    before = [ledger.statement("acct", period) for period in (DAY, "2026-11-02/2026-12-01", "2026-12")]
    assert [(str(statement.opening), str(statement.closing)) for statement in before] == [
        ("0", "100"),
        ("100", "100"),
        ("100", "100"),
    ]
    assert before[0].closing == ledger.balance("acct", at=DAY.end).available
    ledger.expire(at=later(40 * 86_400))
    after = [ledger.statement("acct", period) for period in (DAY, "2026-11-02/2026-12-01", "2026-12")]
    assert [statement.movements for statement in after] == [statement.movements for statement in before]
    assert [statement.closing for statement in after] == [statement.closing for statement in before]


def test_labels_have_the_days_of_the_statements_zone(ledger: Ledger) -> None:
    """CASES 55: a top-up at 17:00 UTC on 31 October is one of 1 November on a statement of Shanghai."""
    at = datetime(2026, 10, 31, 17, tzinfo=UTC)
    ledger.grant("acct", "1", reason="x", id="early", at=at)
    november = ledger.statement("acct", Period.parse("2026-11", "Asia/Shanghai"))
    assert next(each.label for each in november.movements if each.id == "early") == "Promotional Credits 2026-11-01: x"
    october = ledger.statement("acct", Period.parse("2026-10"))
    assert [each.label for each in october.movements] == ["Promotional Credits 2026-10-31: x"]


def test_an_estimate_is_marked_everywhere(ledger: Ledger) -> None:
    """CASES 31: a truncated stream settled by an estimate is marked in the journal, the usage and the record."""
    estimate = {"usage": {"input_tokens": 100, "output_tokens": 50, "estimated": True}}
    of = BOOK.rate(Usage.from_response(estimate), model="gpt-5.4-mini", group="default", at=NOW)
    ledger.hold("acct", "1", id="r1", at=NOW)
    ledger.settle("r1", of, usage=estimate, at=later(3))
    assert ledger.usage("acct", MONTH)[0].estimated == 1
    (record,) = ledger.records("acct", MONTH)
    assert Usage.from_response(record["usage"]).estimated


def test_a_month_of_the_ledger_becomes_bills_that_verify(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bill made from the ledger's records has the ledger's charges and balance, and verifies."""
    ledger.top_up("acct", quote("17"), reference="pi", id="more", at=later(5))
    for index in range(5):
        request(ledger, f"r{index}", later(index * 7_000), output=index)
    records = list(ledger.records("acct", MONTH))
    usage = tmp_path / "usage.jsonl"
    usage.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    statement = ledger.statement("acct", MONTH)
    customers = tmp_path / "customers.json"
    customers.write_text(json.dumps({"acct": {"balance": statement.balance().as_dict()}}), "utf-8")
    arguments = ["--period", "2026-11", "--customers", str(customers), "--out", str(tmp_path / "bills")]
    assert main(["invoice", str(usage), "--all", "--issued", "2026-12-01", *arguments]) == 0
    assert main(["verify", str(tmp_path / "bills"), "--usage", str(usage)]) == 0
    capsys.readouterr()
    bill = json.loads((tmp_path / "bills" / "INV-000001" / "invoice.json").read_text("utf-8"))
    assert bill["balance"]["opening"] == "0"
    assert (
        Decimal(bill["balance"]["closing"]) == statement.closing == ledger.balance("acct", at=later(90_000)).available
    )
    charged = sum(Fraction(entry.credits) for entry in ledger.journal("acct") if entry.kind == "settle")
    assert charged == Fraction(statement.used)
    for record in records:
        of = BOOK.rate(
            Usage.from_response(record["usage"]),
            model=record["model"],
            group=record["group"],
            at=datetime.fromisoformat(record["at"]),
        )
        settled = ledger.entry(f"{record['request_id']}:settle")
        assert settled is not None
        assert settled.credits == of.credits


def test_credits_priced_elsewhere_have_no_record(ledger: Ledger) -> None:
    """Credits priced elsewhere are charged and on the statement, but ``records`` raises or skips them."""
    ledger.charge("acct", "3", id="own-price", at=NOW)
    assert ledger.statement("acct", MONTH).used == 3
    with pytest.raises(BillingError) as caught:
        list(ledger.records("acct", MONTH))
    assert caught.value.code == "no_usage"
    request(ledger, "r1", later(1))
    assert [record["request_id"] for record in ledger.records("acct", MONTH, skip_unpriced=True)] == ["r1"]
    statement = ledger.statement("acct", MONTH)
    balance = statement.balance()
    assert (balance.movements[-1].label, str(balance.movements[-1].credits)) == ("Used, priced elsewhere", "-3")
    assert (
        balance.closing_after(charge().credits) == balance.closing == statement.closing
    )  # on a bill of the other requests


def test_only_estimated_records_are_returned_on_request(ledger: Ledger) -> None:
    """``estimated_only`` leaves out the requests whose usage the provider reported, and nothing else."""
    request(ledger, "reported", NOW)
    body = {"usage": {"input_tokens": 9, "output_tokens": 5, "estimated": True}}
    estimated = BOOK.rate(Usage.from_response(body), model="gpt-5.4-mini", group="default", at=NOW)
    ledger.charge("acct", estimated, id="estimated", at=NOW, usage=body)
    assert [record["request_id"] for record in ledger.records("acct", MONTH)] == ["reported", "estimated"]
    assert [record["request_id"] for record in ledger.records("acct", MONTH, estimated_only=True)] == ["estimated"]


def test_movements_beyond_the_limit_of_a_bill_are_summed_by_kind(ledger: Ledger) -> None:
    """More than 1000 movements are summed by kind, with the same totals."""
    for index in range(1_001):
        ledger.grant("acct", "0.01", reason="many", id=f"g{index}", at=later(index))
    statement = ledger.statement("acct", MONTH)
    assert len(statement.movements) == 1_002
    balance = statement.balance()
    assert [(label, str(credits)) for label, credits in balance.movements] == [
        ("Top-up", "100"),
        ("Promotional Credits", "10.01"),
    ]
    assert balance.closing == statement.closing


def test_money_of_the_journal_is_double_entry(ledger: Ledger) -> None:
    """Cash, deferred and recognised revenue of all entries sum to zero, and match the lots."""
    ledger.charge("acct", "30", id="c", at=NOW)
    ledger.refund("acct", "lot-acct", id="back", at=NOW, credits="20")
    sums = dict.fromkeys(("cash", "deferred", "revenue"), Fraction(0))
    for entry in ledger.journal("acct"):
        for books in entry.money().values():
            assert sum(Fraction(amount.amount) for amount in books.values()) == 0
            for book, amount in books.items():
                sums[book] += Fraction(amount.amount)
    assert sums == {"cash": 68, "deferred": Fraction(-85, 2), "revenue": Fraction(-51, 2)}


def test_as_dict_of_an_entry_has_the_hashed_content(ledger: Ledger) -> None:
    """``as_dict`` returns the hashed content, so that a third party can recompute the chain."""
    from hashlib import sha256

    from brivionix_billing.canonical_json import canonical_json

    previous = ""
    for entry in ledger.journal("acct"):
        document = entry.as_dict()
        hash = document.pop("hash")
        assert sha256(canonical_json(document)).hexdigest() == hash == entry.hash
        assert document["previous"] == previous
        previous = hash
