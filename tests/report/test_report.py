"""Claims about reports: they match the bills, and every record is in a row or named."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bill_kit import BOOK, OCTOBER, body, header, record, usages, written
from brivionix_billing import PriceBook
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice import aggregate_usage, build_invoice
from brivionix_billing.invoice.aggregation.dimensions import CARD_DIMENSIONS, RECORD_DIMENSIONS
from brivionix_billing.report import build_report, report_as_dict, report_csv, report_parquet, report_table, report_xlsx
from brivionix_billing.report.columns import report_columns
from report_kit import Json, report, values

MINIMUM = PriceBook.loads("""\
version: 1
credit: {currency: USD, nominal_per_credit: 2}
channels:
  rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}
models:
  alpha: {prices: [{from: 2026-01-01, standard: {input: 2.5, output: 15, minimum: 0.00333}}]}
groups:
  default: {terms: [{from: 2026-01-01, ratio: 0.77, models: ["*"]}]}
""")
COLUMNS = (*CARD_DIMENSIONS, *RECORD_DIMENSIONS, "tag:team")


def bills(records: list[Json], book: PriceBook) -> list[Json]:
    """Return the bill of every account."""
    found = aggregate_usage(written(records).splitlines(keepends=True), book, OCTOBER).accounts
    return [build_invoice(usage, header(account=name), book) for name, usage in found.items() if usage.requests]


def total(documents: list[Json], *path: str) -> Fraction:
    """Return the sum of a figure of the bills; a bill that does not have it adds nothing."""
    figures = []
    for document in documents:
        value: Any = document
        for name in path:
            value = value.get(name, {})
        figures.append(Fraction(value or 0))
    return sum(figures, Fraction(0))


@given(usages(), st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True))
@settings(max_examples=60)
def test_the_rows_add_up_to_the_bills(records: list[Json], by: list[str]) -> None:
    """Every figure of the rows, exact or rounded, adds up to that of the bills of the same period."""
    found, documents = report(records, ",".join(by)), bills(records, BOOK)
    expected = {
        "requests": ("totals", "requests"),
        "credits": ("totals", "credits"),
        "nominal_USD": ("totals", "nominal", "amount"),
        "at_list_price": ("savings", "list"),
        "saved_by_cache": ("savings", "cache"),
        "saved_by_group": ("savings", "group"),
        "rounded_credits": ("totals", "rounded", "credits"),
        "rounded_nominal_USD": ("totals", "rounded", "nominal"),
    }
    for name, currency in found.channels.items():
        expected[f"{name}_{currency}"] = ("totals", "channels", name, "amount")
        expected[f"rounded_{name}_{currency}"] = ("totals", "rounded", "channels", name)
    for column, path in expected.items():
        assert sum(values(found, column).values()) == total(documents, *path), column
    assert found.records.rejected == sum(group.records for group in found.rejected)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 50)), min_size=1, max_size=12))
@settings(max_examples=30)
def test_minimum_charges_are_those_of_the_bills(counts: list[tuple[int, int]]) -> None:
    """A minimum charge, which is not linear in the quantities, is in the row of its request, as on the bill."""
    records = [
        record(number, account=f"acct_{number % 3}", usage=body(tokens=tokens, cached=0, out=out))
        for number, (tokens, out) in enumerate(counts)
    ]
    found, documents = report(records, "day", MINIMUM), bills(records, MINIMUM)
    for column, path in (
        ("credits", ("totals", "credits")),
        ("rounded_rmb_CNY", ("totals", "rounded", "channels", "rmb")),
        ("saved_by_group", ("savings", "group")),
        ("at_list_price", ("savings", "list")),
    ):
        assert sum(values(found, column).values()) == total(documents, *path)


def test_rows_by_account_are_the_bills() -> None:
    """A report by account has the rounded total of each bill in its row."""
    records = [record(number, account=f"acct_{number % 4}") for number in range(1, 40)]
    rounded = values(report(records), "rounded_rmb_CNY")
    for document in bills(records, BOOK):
        amount = Fraction(document["totals"]["rounded"]["channels"]["rmb"])
        assert rounded[document["customer"]["account"],] == amount


def test_values_of_records() -> None:
    """Token, project and tags are those of the record; a record without one is in the row of the empty text."""
    records = [
        record(1, token="key 1", tags={"project": "chat", "team": "a"}),
        record(2, token="key 2", tags=["project:search", "team=b"]),
        record(3, tags="project:chat, team:c"),
        record(4, project="mail"),
        record(5, tags='{"team": "d"}'),
    ]
    assert list(report(records, "token").rows) == [("",), ("key 1",), ("key 2",)]
    projects = {key[0]: sums.requests for key, sums in report(records, "project").rows.items()}
    assert projects == {"": 1, "chat": 2, "mail": 1, "search": 1}
    assert [key[0] for key in report(records, "tag:team").rows] == ["", "a", "b", "c", "d"]
    assert ('{"project":"chat","team":"a"}',) in report(records, "tags").rows


def test_days_and_hours_are_those_of_the_zone() -> None:
    """A day, an hour and a month start in the given time zone; the hour that occurs twice is two rows."""
    records = [
        record(1, at="2026-10-24T22:00:00Z"),
        record(2, at="2026-10-25T00:59:59Z"),
        record(3, at="2026-10-25T01:30:00Z"),
        record(4, at="2026-10-31T23:30:00Z"),
    ]
    options: Json = {"zone": "Europe/Berlin", "period": None}
    assert list(report(records, "day", **options).rows) == [("2026-10-25",), ("2026-11-01",)]
    assert list(report(records, "month", **options).rows) == [("2026-10",), ("2026-11",)]
    assert [key for (key,) in report(records, "hour", **options).rows] == [
        "2026-10-25T00:00+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T02:00+02:00",
        "2026-11-01T00:00+01:00",
    ]


def test_a_day_may_start_within_an_hour_of_utc() -> None:
    """In a zone with half an hour of offset, two times of one hour in UTC are on two days, whichever comes first."""
    times = ("2026-10-20T18:40:00Z", "2026-10-20T18:29:59.999Z", "2026-10-20T18:30:00Z")
    rows = report([record(n, at=at) for n, at in enumerate(times)], "day,hour", zone="Asia/Kolkata", period=None).rows
    assert {key: sums.requests for key, sums in rows.items()} == {
        ("2026-10-20", "2026-10-20T23:00+05:30"): 1,
        ("2026-10-21", "2026-10-21T00:00+05:30"): 2,
    }


def test_every_record_is_billed_or_named() -> None:
    """Lines are billed, duplicates, rejected or out of scope; rejected ones are grouped with advice and an example."""
    conflict = [record(7), record(7, model="beta")]
    records = [record(1), record(1), record(3, model="gpt-9"), record(6, model="gpt-9", group="half"), *conflict]
    records.append(record(8, at="2026-11-02T00:00:00Z"))
    found = report(records)
    assert found.records == (7, 1, 1, 4, 1)
    groups = [(group.code, group.model, group.service_tier, group.records) for group in found.rejected]
    assert groups == [
        ("unknown_model", "gpt-9", "standard", 2),
        ("duplicate_conflict", "alpha", "standard", 1),
        ("duplicate_conflict", "beta", "standard", 1),
    ]
    assert found.rejected[0].advice() == "add the model or an alias to the price file"
    assert found.rejected[0].example.startswith("line 3: no model 'gpt-9'")


@pytest.mark.parametrize("by", ["", "model,model", "colour", "tag:"])
def test_unknown_columns_are_errors(by: str) -> None:
    """A column that does not exist, is repeated or missing is an error that names the possible ones."""
    with pytest.raises(BillingError, match=r"use account, model|each once") as caught:
        report([record(1)], by)
    assert caught.value.code == "invalid_argument"


def test_all_formats_have_the_same_exact_figures(tmp_path: Path) -> None:
    """JSON, CSV, Parquet and XLSX have the same figures, with all digits; a text like a formula stays a text."""
    duckdb = pytest.importorskip("duckdb")
    openpyxl = pytest.importorskip("openpyxl")
    found = report([record(n, account="=1+1" if n % 2 else 'a"b,c') for n in range(1, 20)], "account,day")
    rows = report_as_dict(found)["rows"]
    source = duckdb.connect()
    path = tmp_path / "r.parquet"
    path.write_bytes(report_parquet(found))
    names = [column.name for column in report_columns(found, "en")]
    parquet = source.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
    assert [[str(cell) for cell in row[:3]] for row in parquet] == [[str(r[n]) for n in names[:3]] for r in rows]
    assert [Fraction(row[names.index("credits")]) for row in parquet] == [Fraction(r["credits"]) for r in rows]
    lines = report_csv(found).splitlines()
    assert lines[0] == ",".join(names)
    assert len(lines) == len(rows) + 1
    assert any(line.startswith("'=1+1,") for line in lines)
    sheet = openpyxl.load_workbook(io.BytesIO(report_xlsx(found)))["Report"]
    table = [[cell.value for cell in row] for row in sheet.iter_rows()]
    column = table[0].index("Credits")
    exact = table[0].index("Credits (exact)") if "Credits (exact)" in table[0] else column
    assert [Fraction(str(row[exact])) for row in table[1:-1]] == [Fraction(r["credits"]) for r in rows]
    assert table[-1][0] == "Total"


def test_the_table_ends_with_the_total_in_the_language() -> None:
    """The text table has headings in the language, and the total of its rounded columns in the last row."""
    found = report([record(n) for n in range(1, 6)], "model")
    assert report_table(found).splitlines()[0].startswith("Model")
    chinese = report_table(found, "zh_CN").splitlines()
    assert chinese[0].startswith("模型")
    assert chinese[-1].startswith("合计")
    assert json.dumps(report_as_dict(found))  # plain JSON data


def test_a_report_is_the_same_with_several_processes() -> None:
    """Worker processes give the same rows, also with splits."""
    lines = written([record(n, token=f"k{n % 3}") for n in range(1, 60)]).splitlines(keepends=True)
    one = build_report(lines, BOOK, by=["token", "day"])
    two = build_report(lines, BOOK, by=["token", "day"], workers=2)
    assert report_as_dict(one) == report_as_dict(two)
