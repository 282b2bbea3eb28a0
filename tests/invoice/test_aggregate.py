"""From a usage file to a bill: every figure against an oracle, in any order of the file, with nothing lost."""

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
from brivionix_billing.invoice.aggregation import partitions as heaps_module
from brivionix_billing.invoice.aggregation import reader as chunks_module
from brivionix_billing.times import parse_instant
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records
from profiles import examples

Json = dict[str, Any]
EXAMPLE = (ROOT / "examples" / "usage.jsonl").read_bytes()
SHIPPED = PriceBook.load(ROOT / "pricing.yaml")
SCHEMA = Draft202012Validator(json_schema())


def collected(usage: bytes, book: PriceBook = BOOK, **how: Any) -> tuple[AggregatedUsage, list[RejectedRecord]]:
    """What October holds, and what was set aside."""
    aside: list[RejectedRecord] = []
    period = how.pop("period", OCTOBER)
    return aggregate_usage(usage.splitlines(keepends=True), book, period, on_rejected=aside.append, **how), aside


def check(document: Json, expected: bill_oracle.Expected) -> None:
    """Hold a document against the oracle."""
    assert document["lines"] == expected.lines
    assert document["totals"] == expected.totals
    assert document["savings"] == expected.savings
    assert document["days"] == expected.days
    assert {name: document["evidence"][name] for name in expected.evidence} == expected.evidence
    sealed = {**document, "hash": "sha256:" + "0" * 64}
    assert list(SCHEMA.iter_errors(sealed)) == []


# --- the example ---


def test_the_example_by_the_oracle() -> None:
    """Every figure of every bill over the example file is that of the oracle, and the bills together are all of it."""
    book = bill_oracle.read_book((ROOT / "pricing.yaml").read_text(encoding="utf-8"))
    found, aside = collected(EXAMPLE, SHIPPED)
    assert sorted(found.accounts) == [f"acct_{n}" for n in range(1, 9)]
    total = Decimal(0)
    for name, usage in found.accounts.items():
        document = build_invoice(usage, header(account=name), SHIPPED)
        check(document, bill_oracle.bill(EXAMPLE.splitlines(), book, OCTOBER.start, OCTOBER.end, name))
        total += Decimal(document["totals"]["credits"])
    assert f"| {total} Credits |" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert (aside, found.out_of_scope, found.duplicate_count, found.lines) == ([], 0, 0, 3000)


def test_the_bill_is_the_sum_of_its_charges() -> None:
    """A bill's exact totals, per line and altogether, are the sums of what ``rate`` charges for each record."""
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
        for place, saved in enumerate(charge.savings):
            savings[place] += saved
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


def test_the_order_of_the_file_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shuffled, split in two and joined the other way round, read in small chunks, on disk: the same bill."""
    whole = billed(EXAMPLE, SHIPPED, account="acct_2")
    lines = EXAMPLE.splitlines(keepends=True)
    random.Random(7).shuffle(lines)
    assert billed(b"".join(lines), SHIPPED, account="acct_2") == whole
    assert billed(b"".join(lines[1000:] + lines[:1000]), SHIPPED, account="acct_2") == whole
    monkeypatch.setattr(chunks_module, "CHUNK_LINES", 7)
    monkeypatch.setattr(heaps_module, "_MAX_MEMORY_BYTES", 1000)
    assert billed(b"".join(lines), SHIPPED, account="acct_2") == whole


def test_several_processes_give_the_same_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by two worker processes the file gives the same bills as read by one."""
    monkeypatch.setattr(chunks_module, "CHUNK_LINES", 500)
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
def test_generated_bills_by_the_oracle(
    given_usage: list[Json], numbers: tuple[str, str, str], data: st.DataObject
) -> None:
    """Whatever stands in a file, under prices that change inside the month: every figure is that of the oracle."""
    book, plain_book = loaded(text(*numbers)), bill_oracle.read_book(text(*numbers))
    usage = written(given_usage, ensure_ascii=data.draw(st.booleans()))
    found, aside = collected(usage, book)
    for name in ("acct_1", "acct_2"):
        expected = bill_oracle.bill(usage.splitlines(), plain_book, OCTOBER.start, OCTOBER.end, name)
        mine = found.accounts.get(name)
        assert sorted({a.request_id for a in aside if a.account == name}, key=str) == sorted(expected.refused)
        if mine is None:
            assert (expected.evidence["records"], expected.refused) == (0, [])
            continue
        document = build_invoice(mine, header(account=name), book)
        check(document, expected)
        add_up(document)
        # Alone or with the others, an account's bill is the same.
        alone, _ = collected(usage, book, account=name)
        assert build_invoice(alone.accounts[name], header(account=name), book) == document
    billed_records = sum(usage.requests for usage in found.accounts.values())
    assert found.lines == len(given_usage)
    assert found.lines == billed_records + found.duplicate_count + found.rejected + found.out_of_scope
    assert found.rejected == len(aside)


def add_up(document: Json) -> None:
    """Shown lines add up to shown totals in each column, exact to exact, and nothing shown is negative."""
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
        exact, shown = Fraction(line["credits"]), Fraction(line["rounded"]["credits"])
        assert abs(exact - shown) < Fraction(3, 2 * 10**6)  # its share of a total rounded by a half at most, up or down
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
    """Case 27: three lines of a third of a cent are shown as the cent that they are together, and none below zero."""
    rows = [
        record(n, group=g, model="beta", usage=body(tokens=0, cached=0, out=741))
        for n, g in enumerate(["default", "own"])
    ]
    document = billed(written(rows))
    shown = [line["rounded"]["nominal"] for line in document["lines"]]
    assert [line["credits"] for line in document["lines"]] == ["0.0033345", "0.0011103885"]
    assert (shown, document["totals"]["rounded"]["nominal"]) == (["0.00", "0.00"], "0.00")
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
    """Case 26: each line names its group, and the same use in two groups stands in two lines at their own prices."""
    document = billed(written([record(1, group="default"), record(2, group="half")]))
    lines = [(line["group"], line["ratio"]) for line in document["lines"] if line["meter"] == "output"]
    assert lines == [("default", "1"), ("half", "0.5")]


# --- heading ---


def test_the_heading_is_what_was_given() -> None:
    """Names, dates and the place in the series stand in the document as they were given."""
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
def test_a_broken_series_is_refused(wrong: Json) -> None:
    """A number that does not follow the document before it, or a heading that no document may have, is refused."""
    previous = {"id": "INV-000001", "series": "INV", "number": 1, "hash": "sha256:" + "0" * 64}
    base = {"number": 2, "previous": previous}
    header(**base)
    changed = {**base, **wrong} if wrong != {"number": 2} else {"number": 2}
    with pytest.raises(BillingError) as caught:
        header(**changed)
    assert caught.value.code == ("invalid_argument" if "issuer" in wrong else "series_broken")


def test_leaves_are_handed_out_in_tree_order() -> None:
    """The leaves that a caller gets lead to the root of the bill, and go with the ids of their records."""
    got: dict[str, list[tuple[bytes, str]]] = {}
    found, _ = collected(
        EXAMPLE, SHIPPED, on_leaves=lambda a, leaves, ids: got.setdefault(a, []).extend(zip(leaves, ids, strict=True))
    )
    by_id = {r.request_id: r.leaf for r in read_records(EXAMPLE.splitlines()) if isinstance(r, Record)}
    for name, usage in found.accounts.items():
        assert bill_oracle.root([leaf for leaf, _ in got[name]]) == usage.tree.root()
        assert all(by_id[request_id] == leaf for leaf, request_id in got[name])
