"""Aggregation and bills: every figure equals the oracle's, whatever the order of the file, and no record is lost."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import bill_oracle
from bill_kit import BOOK, OCTOBER, ROOT, billed, body, header, loaded, record, text, usages, written
from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.invoice import AggregatedUsage, aggregate_usage, build_invoice, json_schema
from brivionix_billing.invoice.aggregation import partitions as partitions_module
from brivionix_billing.invoice.aggregation import reader as reader_module
from brivionix_billing.times import parse_instant
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records
from profiles import examples

Json = dict[str, Any]
EXAMPLE = (ROOT / "examples" / "usage.jsonl").read_bytes()
SHIPPED = PriceBook.load(ROOT / "pricing.yaml")
SCHEMA = Draft202012Validator(json_schema())


def aggregate(usage: bytes, book: PriceBook = BOOK, **options: Any) -> tuple[AggregatedUsage, list[RejectedRecord]]:
    """Return the aggregated usage of October, and its rejected records."""
    rejected: list[RejectedRecord] = []
    period = options.pop("period", OCTOBER)
    return aggregate_usage(
        usage.splitlines(keepends=True), book, period, on_rejected=rejected.append, **options
    ), rejected


def check(document: Json, expected: bill_oracle.Expected) -> None:
    """Compare a document with the oracle."""
    assert document["lines"] == expected.lines
    assert document["totals"] == expected.totals
    assert document["savings"] == expected.savings
    assert document["days"] == expected.days
    assert {name: document["evidence"][name] for name in expected.evidence} == expected.evidence
    sealed = {**document, "hash": "sha256:" + "0" * 64}
    assert list(SCHEMA.iter_errors(sealed)) == []


# --- the example ---


def test_the_example_file() -> None:
    """Every figure of every bill over the example file equals the oracle's, and the bills add up to the whole file."""
    book = bill_oracle.read_book((ROOT / "pricing.yaml").read_text(encoding="utf-8"))
    aggregated, rejected = aggregate(EXAMPLE, SHIPPED)
    assert sorted(aggregated.accounts) == [f"acct_{n}" for n in range(1, 9)]
    total = Decimal(0)
    for name, usage in aggregated.accounts.items():
        document = build_invoice(usage, header(account=name), SHIPPED)
        check(document, bill_oracle.bill(EXAMPLE.splitlines(), book, OCTOBER.start, OCTOBER.end, name))
        total += Decimal(document["totals"]["credits"])
    assert f"| {total} Credits |" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert (rejected, aggregated.out_of_scope, aggregated.duplicate_count, aggregated.lines) == ([], 0, 0, 3000)


def test_the_bill_is_the_sum_of_its_charges() -> None:
    """The exact totals of a bill, per line and overall, are the sums of the charges that ``rate`` returns."""
    document = billed(EXAMPLE, SHIPPED, account="acct_4", issued=OCTOBER.end)
    sums: dict[tuple[str, ...], Decimal] = {}
    costs = {"rmb": Decimal(0), "stripe": Decimal(0)}
    savings = [Decimal(0)] * 3
    for line in map(json.loads, EXAMPLE.splitlines()):
        if line["account"] != "acct_4":
            continue
        charge = SHIPPED.rate(
            Usage.from_response(line["usage"]),
            model=line["model"],
            group=line["group"],
            at=parse_instant(line["at"]),
            service_tier=line["service_tier"],
        )
        for name in costs:
            costs[name] += charge.cost(name).amount
        for index, saved in enumerate(charge.savings):
            savings[index] += saved
        for part in charge.lines:
            key = (charge.model, charge.service_tier, part.meter, str(part.unit_price.normalize()))
            sums[key] = sums.get(key, Decimal(0)) + part.credits
    by_key: dict[tuple[str, ...], Decimal] = {}
    for line in document["lines"]:
        key = (line["model"], line["service_tier"], line["meter"], str(Decimal(line["unit_price"]).normalize()))
        by_key[key] = by_key.get(key, Decimal(0)) + Decimal(line["credits"])
    assert by_key == sums
    assert Decimal(document["totals"]["credits"]) == sum(sums.values())
    assert {name: Decimal(total["amount"]) for name, total in document["totals"]["channels"].items()} == costs
    assert [Decimal(document["savings"][name]) for name in ("list", "cache", "group")] == savings


def test_a_bill_has_the_list_minimum_of_each_request() -> None:
    """The list price of a bill is the sum over its requests of the larger of list price and list minimum.

    The minimum is 1. At list price, the requests cost 0.5, 3, 2.2 (4 without a cache) and 0.1 (1 without a cache).
    """
    book = PriceBook.loads(
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\n"
        "models: {m: {prices: [{from: 2026-01-01, standard: {input: 1, cache_read: 0.1, minimum: 1}}]}}\n"
        "groups: {g: {terms: [{from: 2026-01-01, ratio: 0.5, models: ['*']}]}}\n"
    )
    usages: list[dict[str, Any]] = [
        {"prompt_tokens": 500_000},
        {"prompt_tokens": 3_000_000},
        {"prompt_tokens": 4_000_000, "prompt_tokens_details": {"cached_tokens": 2_000_000}},
        {"prompt_tokens": 1_000_000, "prompt_tokens_details": {"cached_tokens": 1_000_000}},
    ]
    lines = [
        json.dumps(
            {"request_id": f"r{n}", "at": "2026-10-05T00:00:00Z", "account": "a", "group": "g", "model": "m",
             "usage": {"completion_tokens": 0, **usage}}
        ).encode() + b"\n"
        for n, usage in enumerate(usages)
    ]  # fmt: skip
    document = billed(b"".join(lines), book, account="a", issued=OCTOBER.end)
    uncached, listed = 1 + 3 + 4 + 1, 1 + 3 + Fraction("2.2") + 1
    charged = listed / 2
    found = {name: Fraction(amount) for name, amount in document["savings"].items()}
    assert found == {"list": uncached, "cache": uncached - listed, "group": listed - charged}
    assert Fraction(document["totals"]["credits"]) == charged


def test_the_order_of_the_file_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is shuffled, rotated, read in small chunks and spilled to disk gives the same bill."""
    whole = billed(EXAMPLE, SHIPPED, account="acct_2")
    lines = EXAMPLE.splitlines(keepends=True)
    random.Random(7).shuffle(lines)
    assert billed(b"".join(lines), SHIPPED, account="acct_2") == whole
    assert billed(b"".join(lines[1000:] + lines[:1000]), SHIPPED, account="acct_2") == whole
    monkeypatch.setattr(reader_module, "CHUNK_LINES", 7)
    monkeypatch.setattr(partitions_module, "_MAX_MEMORY_BYTES", 1000)
    assert billed(b"".join(lines), SHIPPED, account="acct_2") == whole


def test_several_processes_give_the_same_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two worker processes give the same bills as one process."""
    monkeypatch.setattr(reader_module, "CHUNK_LINES", 500)
    lines = EXAMPLE.splitlines(keepends=True)
    alone, together = aggregate_usage(lines, SHIPPED, OCTOBER), aggregate_usage(lines, SHIPPED, OCTOBER, workers=2)
    assert sorted(alone.accounts) == sorted(together.accounts)
    for name in alone.accounts:
        head = header(account=name)
        assert build_invoice(alone.accounts[name], head, SHIPPED) == build_invoice(
            together.accounts[name], head, SHIPPED
        )


# --- generated files and prices ---

_numbers = st.tuples(
    st.sampled_from(["1", "2", "0.5", "0.04"]),
    st.sampled_from(["2.5", "0.0001", "0"]),
    st.sampled_from(["0.5", "1.25"]),
)


@settings(max_examples=examples(120), deadline=None)
@given(usages(), _numbers, st.data())
def test_generated_bills(given_usage: list[Json], numbers: tuple[str, str, str], data: st.DataObject) -> None:
    """For generated usage and prices that change within the month, every figure equals the oracle's."""
    book, plain_book = loaded(text(*numbers)), bill_oracle.read_book(text(*numbers))
    usage = written(given_usage, ensure_ascii=data.draw(st.booleans()))
    aggregated, rejected = aggregate(usage, book)
    for name in ("acct_1", "acct_2"):
        expected = bill_oracle.bill(usage.splitlines(), plain_book, OCTOBER.start, OCTOBER.end, name)
        usage_of_account = aggregated.accounts.get(name)
        assert sorted({record.request_id for record in rejected if record.account == name}, key=str) == sorted(
            expected.rejected
        )
        if usage_of_account is None:
            assert (expected.evidence["records"], expected.rejected) == (0, [])
            continue
        document = build_invoice(usage_of_account, header(account=name), book)
        check(document, expected)
        add_up(document)
        # The bill of an account is the same without the other accounts.
        alone, _ = aggregate(usage, book, account=name)
        assert build_invoice(alone.accounts[name], header(account=name), book) == document
    billed_records = sum(usage.requests for usage in aggregated.accounts.values())
    assert aggregated.lines == len(given_usage)
    assert (
        aggregated.lines == billed_records + aggregated.duplicate_count + aggregated.rejected + aggregated.out_of_scope
    )
    assert aggregated.rejected == len(rejected)


def add_up(document: Json) -> None:
    """Check that lines add up to totals, exact and rounded, and that no rounded amount is negative."""
    lines, totals = document["lines"], document["totals"]
    columns: list[tuple[list[str], str]] = [
        ([line["rounded"][column] for line in lines], totals["rounded"][column]) for column in ("credits", "nominal")
    ]
    columns += [
        ([line["rounded"]["channels"][name] for line in lines], total)
        for name, total in totals["rounded"]["channels"].items()
    ]
    for parts, total in columns:
        assert sum(map(Decimal, parts)) == Decimal(total)
        assert not any(part.startswith("-") for part in [*parts, total])
        assert {len(part.partition(".")[2]) for part in [*parts, total]} == {len(total.partition(".")[2])}
    assert sum(Fraction(line["credits"]) for line in lines) == Fraction(totals["credits"])
    for line in lines:
        exact, rounded = Fraction(line["credits"]), Fraction(line["rounded"]["credits"])
        assert abs(exact - rounded) < Fraction(3, 2 * 10**6)  # one unit by allocation, half a unit by the total
        assert exact == Fraction(line["quantity"]) * Fraction(line["unit_price"]) / line["per"] / Fraction(
            totals["nominal"]["per_credit"]
        )
    assert sum(Fraction(day["credits"]) for day in document["days"]) == Fraction(totals["credits"])
    assert sum(day["requests"] for day in document["days"]) == totals["requests"]
    for channel in totals["channels"].values():
        priced = sum(Fraction(part["credits"]) for part in channel["price_periods"])
        assert priced + Fraction(channel["credits_without_price"]) == Fraction(totals["credits"])
        cost = sum(Fraction(part["credits"]) * Fraction(part["price_per_credit"]) for part in channel["price_periods"])
        assert cost == Fraction(channel["amount"])
    saved = document["savings"]
    assert Fraction(saved["list"]) - Fraction(saved["cache"]) - Fraction(saved["group"]) == Fraction(totals["credits"])


def test_case_27_subtotals() -> None:
    """Case 27: lines of fractions of a cent add up to the rounded total, and no line is negative."""
    rows = [
        record(n, group=g, model="beta", usage=body(tokens=0, cached=0, out=741))
        for n, g in enumerate(["default", "own"])
    ]
    document = billed(written(rows))
    rounded = [line["rounded"]["nominal"] for line in document["lines"]]
    assert [line["credits"] for line in document["lines"]] == ["0.0033345", "0.0011103885"]
    assert (rounded, document["totals"]["rounded"]["nominal"]) == (["0.00", "0.00"], "0.00")
    more = [
        record(n, model="beta", group=g, usage=body(tokens=0, cached=0, out=o))
        for n, (g, o) in enumerate([("default", 741), ("default", 741), ("own", 2225)])
    ]
    document = billed(written(more))
    assert [line["credits"] for line in document["lines"]] == ["0.006669", "0.0033341625"]
    assert [line["rounded"]["nominal"] for line in document["lines"]] == ["0.01", "0.00"]
    assert document["totals"]["rounded"]["nominal"] == "0.01"
    add_up(document)


def test_case_26_the_group_is_named() -> None:
    """Case 26: each line names its group, and the same usage in two groups gives two lines with their ratios."""
    document = billed(written([record(1, group="default"), record(2, group="half")]))
    lines = [(line["group"], line["ratio"]) for line in document["lines"] if line["meter"] == "output"]
    assert lines == [("default", "1"), ("half", "0.5")]


# --- header ---


def test_the_header_is_in_the_document() -> None:
    """The document has the given names and dates, and its number in the series."""
    previous = billed(written([record(1)]))
    document = billed(
        written([record(1)]), number=2, previous=previous, customer="小明", customer_details=["a", "b"], due=OCTOBER.end
    )
    assert (document["id"], document["number"], document["series"]) == ("INV-000002", 2, "INV")
    assert document["previous"] == {"id": "INV-000001", "hash": previous["hash"]}
    assert document["customer"] == {"account": "acct_1", "name": "小明", "tax_number": None, "details": ["a", "b"]}
    assert (document["issued"], document["due"]) == ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z")
    assert (document["kind"], document["corrects"]) == ("invoice", None)


@pytest.mark.parametrize(
    "wrong", [{"number": 2}, {"series": "OTHER"}, {"number": 3}, {"previous": None, "number": 2}, {"issuer": ""}]
)
def test_a_broken_series_is_rejected(wrong: Json) -> None:
    """A number that does not follow the previous document, and an invalid header, are rejected."""
    previous = {"id": "INV-000001", "series": "INV", "number": 1, "hash": "sha256:" + "0" * 64}
    base = {"number": 2, "previous": previous}
    header(**base)
    changed = {**base, **wrong} if wrong != {"number": 2} else {"number": 2}
    with pytest.raises(BillingError) as caught:
        header(**changed)
    assert caught.value.code == ("invalid_argument" if "issuer" in wrong else "series_broken")


def test_leaves_come_in_tree_order() -> None:
    """``on_leaves`` gets the leaves that lead to the root of the bill, with the ids of their records."""
    leaves_by_account: dict[str, list[tuple[bytes, str]]] = {}
    aggregated, _ = aggregate(
        EXAMPLE,
        SHIPPED,
        on_leaves=lambda account, leaves, ids: leaves_by_account.setdefault(account, []).extend(
            zip(leaves, ids, strict=True)
        ),
    )
    by_id = {r.request_id: r.leaf for r in read_records(EXAMPLE.splitlines()) if isinstance(r, Record)}
    for name, usage in aggregated.accounts.items():
        assert bill_oracle.root([leaf for leaf, _ in leaves_by_account[name]]) == usage.tree.root()
        assert all(by_id[request_id] == leaf for leaf, request_id in leaves_by_account[name])
