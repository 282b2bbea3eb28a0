"""FOCUS: exact figures, equal to bills and ledger, and valid for focus-data-toolkit and the official validator."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from brivionix_billing.ledger import Ledger
from brivionix_billing.usage.record_file import Record, read_records
from ledger_kit import later
from paths import ROOT

EXAMPLE = str(ROOT / "examples" / "usage.jsonl")
PRICES = ("--prices", str(ROOT / "pricing.yaml"))
OCTOBER = ("--period", "2026-10", "--zone", "Asia/Shanghai")
VALIDATOR = os.environ.get("BRIVIONIX_FOCUS_VALIDATOR", "")
Rows = list[dict[str, str]]
PRODUCTS = (
    ("ListCost", "ListUnitPrice", "PricingQuantity"),
    ("ContractedCost", "ContractedUnitPrice", "PricingQuantity"),
)


def table(path: Path) -> Rows:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summed(rows: Rows, column: str, *keys: str) -> dict[tuple[str, ...], Fraction]:
    """Return exact sums of a column by other columns."""
    sums: dict[tuple[str, ...], Fraction] = defaultdict(Fraction)
    for row in rows:
        sums[tuple(row[key] for key in keys)] += Fraction(row[column] or 0)
    return sums


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the bills of the example month, and its exports in CSV and Parquet."""
    folder = tmp_path_factory.mktemp("focus")
    bills = str(folder / "bills")
    assert main(["invoice", EXAMPLE, "--all", *OCTOBER, "--channel", "rmb", "--out", bills, *PRICES]) == 0
    for kind in ("csv", "parquet"):
        (folder / kind).mkdir()
        assert export(
            folder / kind,
            *("--bills", bills, "--out", f"usage.{kind}", "--invoice-detail", f"invoices.{kind}"),
            *("--billing-period", f"periods.{kind}"),
        )
    return folder


def export(folder: Path, *args: str, usage: str = EXAMPLE) -> bool:
    """Run ``export focus`` in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return main(["export", "focus", usage, *OCTOBER, *args, *PRICES]) == 0
    finally:
        os.chdir(before)


def documents(month: Path) -> list[dict[str, Any]]:
    """Return the bills of the month."""
    return [json.loads(path.read_bytes()) for path in sorted(month.glob("bills/*/invoice.json"))]


def test_rows_have_the_usage_of_every_line_of_the_bills(month: Path) -> None:
    """By line of a bill, the rows have its quantity and its Credits, exactly; and no row is of another line."""
    rows = table(month / "csv" / "usage.csv")
    quantities = summed(rows, "ConsumedQuantity", "InvoiceDetailId")
    credits = summed(rows, "x_PricingCurrencyEffectiveCost", "InvoiceDetailId")
    costs = summed(rows, "BilledCost", "InvoiceId")
    lines = {(f"{bill['id']}/{n}",): line for bill in documents(month) for n, line in enumerate(bill["lines"], 1)}
    assert quantities.keys() == lines.keys()
    for key, line in lines.items():
        assert quantities[key] == Fraction(line["quantity"])
        assert credits[key] == Fraction(line["credits"])
    for bill in documents(month):
        assert costs[(bill["id"],)] == Fraction(bill["totals"]["channels"]["rmb"]["amount"])


def test_invoice_detail_equals_the_bills_to_the_minor_unit(month: Path) -> None:
    """Invoice Detail adds up to the rounded total of each bill, and has its rounded lines."""
    rows = table(month / "csv" / "invoices.csv")
    sums = summed(rows, "BilledCost", "InvoiceId", "BillingCurrency", "BillingAccountId")
    assert sums == {
        (bill["id"], "CNY", bill["customer"]["account"]): Fraction(bill["totals"]["rounded"]["channels"]["rmb"])
        for bill in documents(month)
    }
    lines = [line["rounded"]["channels"]["rmb"] for bill in documents(month) for line in bill["lines"]]
    assert [Fraction(row["BilledCost"]) for row in rows] == [Fraction(line) for line in lines]


def test_prices_are_those_of_the_bills(month: Path) -> None:
    """List and contracted prices are those of the line of the bill: in Credits of 1 USD each, and at 0.85 CNY each."""
    lines = {f"{bill['id']}/{n}": line for bill in documents(month) for n, line in enumerate(bill["lines"], 1)}
    discounted = 0
    for row in table(month / "csv" / "usage.csv"):
        line = lines[row["InvoiceDetailId"]]
        for column, price in (("List", line["list_price"]), ("Contracted", line["unit_price"])):
            assert Fraction(row[f"x_PricingCurrency{column}UnitPrice"]) == Fraction(price)
            assert Fraction(row[f"{column}UnitPrice"]) == Fraction(price) * Fraction("0.85")
        discounted += line["list_price"] != line["unit_price"]
    assert discounted


def test_costs_are_price_times_quantity_exactly(month: Path) -> None:
    """Every cost is its unit price times the pricing quantity, in money and in Credits, without any rounding."""
    for row in table(month / "csv" / "usage.csv"):
        for cost, price, quantity in (
            *PRODUCTS,
            ("x_PricingCurrencyEffectiveCost", "x_PricingCurrencyContractedUnitPrice", "PricingQuantity"),
        ):
            assert Fraction(row[cost]) == Fraction(row[price]) * Fraction(row[quantity])
        per = int(row["PricingUnit"].split()[0]) if row["PricingUnit"][0].isdigit() else 1
        assert Fraction(row["PricingQuantity"]) * per == Fraction(row["ConsumedQuantity"])
        assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"]
        assert all("." in row[name] for name in ("ConsumedQuantity", "ListCost"))  # else the official validator fails


def test_parquet_has_the_same_rows(month: Path) -> None:
    """Parquet has the values of CSV, with exact decimals."""
    duckdb = pytest.importorskip("duckdb")
    for name in ("usage", "invoices", "periods"):
        path = str(month / "parquet" / f"{name}.parquet")
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            relation = connection.execute("SELECT * FROM read_parquet(?)", [path])
            names = [column[0] for column in relation.description]
            stored = relation.fetchall()
        expected = table(month / "csv" / f"{name}.csv")
        assert len(stored) == len(expected)
        for values, row in zip(stored, expected, strict=True):
            for column, value in zip(names, values, strict=True):
                if isinstance(value, Decimal):
                    assert value == Decimal(row[column])
                elif value is None or isinstance(value, str):
                    assert (value or "") == row[column]
                else:
                    assert value.strftime("%Y-%m-%dT%H:%M:%SZ") == row[column]


def toolkit(*args: str) -> str:
    """Run focus-data-toolkit, which must exit with 0. Returns its output."""
    if find_spec("focus_data_toolkit") is None:
        pytest.skip("focus-data-toolkit is not installed")
    command = [sys.executable, "-m", "focus_data_toolkit", *args]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[:2000] + result.stderr[:2000]
    return result.stdout


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_focus_data_toolkit_accepts_every_dataset_and_the_bundle(month: Path, kind: str) -> None:
    """``focus-toolkit validate`` accepts each dataset, and ``validate-bundle`` finds all three in the folder."""
    folder = month / kind
    datasets = (("usage", "cost-and-usage"), ("invoices", "invoice-detail"), ("periods", "billing-period"))
    for name, dataset in datasets if kind == "csv" else datasets[:1]:
        toolkit("validate", "--dataset", dataset, str(folder / f"{name}.{kind}"))
    found = toolkit("validate-bundle", "--directory", str(folder))
    assert "Billing Period, Cost and Usage, Invoice Detail" in found


def official(path: Path) -> list[str]:
    """Return the failed rules of the official validator, which always exits with 0."""
    if not VALIDATOR:
        pytest.skip("BRIVIONIX_FOCUS_VALIDATOR does not name the official focus-validator")
    # The validator reads its table of currencies from the working directory.
    (folder,) = Path(VALIDATOR).parent.parent.glob("lib/python*/site-packages")
    result = subprocess.run(
        [
            *(VALIDATOR, "--data-file", str(path), "--block-download", "--validate-version", "1.2.0.1"),
            *("--focus-dataset", "CostAndUsage", "--applicability-criteria"),
            "PUBLIC_PRICE_LIST_SUPPORTED,USAGE_MEASUREMENT_SUPPORTED,UNIT_PRICING_SUPPORTED,NEGOTIATED_PRICING_SUPPORTED",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    total = re.search(r"Total: \d+ \| Pass: (\d+) \| Fail: (\d+)", result.stdout)
    assert total, result.stdout[-2000:] + result.stderr[-2000:]
    assert int(total[1]) > 200
    failed = re.findall(r"^- ([\w-]+): violations=", result.stdout, re.MULTILINE)
    assert len(failed) == int(total[2])
    return failed


def test_the_official_validator_fails_only_an_alternative(month: Path, tmp_path: Path) -> None:
    """Of the rules that InvoiceId is null, and that it is not, one always fails; no other rule does."""
    bills = ("--bills", str(month / "bills"))
    assert export(tmp_path, *bills, "--out", "usage.csv", "--focus-version", "1.2")
    assert official(tmp_path / "usage.csv") == ["InvoiceId-C-004-C"]


def charge_example(ledger: Ledger, book: PriceBook, limit: int) -> None:
    """Charge requests of the example to a ledger, in the order of their times."""
    with open(EXAMPLE, "rb") as file:
        lines = file.read().splitlines()
    records = [record for record in read_records(lines, conventions=book.conventions) if isinstance(record, Record)]
    for record in sorted(records, key=lambda record: record.at)[:limit]:
        body = json.loads(lines[record.line - 1])["usage"]
        charge = book.rate_record(record)
        ledger.charge(record.origin.account, charge, id=record.request_id, at=record.at, usage=body)


@pytest.fixture(scope="module")
def prepaid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a ledger of several lots in two currencies, a debt, an expiry, and its usage records."""
    folder = tmp_path_factory.mktemp("prepaid")
    book = PriceBook.load(ROOT / "pricing.yaml")
    day = 86_400
    start = later(-31 * day)  # 2026-10-01T12:00Z
    with Ledger.open(f"sqlite:///{folder}/ledger.db", book, synchronous="NORMAL") as ledger:
        for number in range(1, 9):
            account = f"acct_{number}"
            ledger.open_account(account, at=later(-60 * day))
            ledger.grant(
                account, "0.05", reason="gift", id=f"g{account}", at=later(-60 * day), expires=later(-29 * day)
            )
            quote = book.quote("rmb", at=start, pay="0.10")
            ledger.top_up(account, quote, reference=f"p{account}", id=f"a{account}", at=later(-50 * day))
            quote = book.quote("stripe", at=start, pay="0.50")
            ledger.top_up(account, quote, reference=f"s{account}", id=f"b{account}", at=start, expires=later(-2 * day))
        charge_example(ledger, book, 600)
        ledger.charge("acct_2", "0.5", id="elsewhere", at=later(-20 * day))
        for number in range(1, 9):
            quote = book.quote("rmb", at=start, pay="5")
            ledger.top_up(f"acct_{number}", quote, reference=f"q{number}", id=f"c{number}", at=later(-3 * day))
        ledger.refund("acct_1", "c1", pay="1.00", id="refund", at=later(-2 * day))
    records = ["ledger", "records", "--all", *OCTOBER, "--skip-unpriced", "--db", str(folder / "ledger.db")]
    assert main([*records, "--out", str(folder / "usage.jsonl")]) == 0
    ledger_args = ("--ledger", str(folder / "ledger.db"), "--channel", "rmb")
    assert export(folder, *ledger_args, "--out", "focus.csv", usage=str(folder / "usage.jsonl"))
    return folder


def test_top_ups_are_purchases_and_usage_draws_them_down(prepaid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Billed cost is the cash of the ledger's report, and effective cost its revenue, up to a minor unit per lot."""
    rows = table(prepaid / "focus.csv")
    report = ["ledger", "report", *OCTOBER, "--format", "json", "--db", str(prepaid / "ledger.db")]
    capsys.readouterr()
    assert main(report) == 0
    totals = {row["currency"]: row for row in json.loads(capsys.readouterr().out)["totals"]}
    billed, effective = summed(rows, "BilledCost", "BillingCurrency"), summed(rows, "EffectiveCost", "BillingCurrency")
    for currency in ("CNY", "USD"):
        assert billed[(currency,)] == Fraction(totals[currency]["cash"])
        assert abs(effective[(currency,)] - Fraction(totals[currency]["revenue"])) < Fraction(24, 100)
        assert effective[(currency,)] > 0
    kinds = {(row["ChargeCategory"], row["CommitmentDiscountStatus"]) for row in rows}
    assert kinds == {("Purchase", ""), ("Usage", "Used"), ("Usage", "Unused"), ("Usage", ""), ("Adjustment", "")}


def test_no_token_and_no_credit_is_lost_in_a_draw_down(prepaid: Path) -> None:
    """A row that two lots pay for is split: its tokens and Credits stay the same, and a lot is not overdrawn."""
    rows = table(prepaid / "focus.csv")
    plain = prepaid / "plain.csv"
    assert export(prepaid, "--channel", "rmb", "--out", "plain.csv", usage=str(prepaid / "usage.jsonl"))
    keys = ("BillingAccountId", "ChargePeriodStart", "SkuPriceId")
    ours = [row for row in rows if row["SkuId"] != "credits" and row["ChargeCategory"] == "Usage"]
    assert len(ours) > len(table(plain))
    for column in ("ConsumedQuantity", "x_PricingCurrencyEffectiveCost"):
        assert summed(ours, column, *keys) == summed(table(plain), column, *keys)
    used = [row for row in rows if row["ChargeCategory"] == "Usage"]
    drawn = summed(used, "CommitmentDiscountQuantity", "CommitmentDiscountId")
    with Ledger.open(f"sqlite:///{prepaid}/ledger.db") as ledger:
        ledger.expire(at=later(-2 * 86_400))
        lots = {lot.id: lot for account in ledger.accounts() for lot in ledger.lots(account)}
    for (lot,), credits in drawn.items():
        assert not lot or credits <= Fraction(lots[lot].used + lots[lot].expired)


def test_costs_of_a_draw_down_are_exact(prepaid: Path) -> None:
    """List and contracted cost are price times quantity; the toolkit checks it as well, within its tolerance."""
    for row in table(prepaid / "focus.csv"):
        if row["ChargeCategory"] != "Adjustment":
            for cost, price, quantity in PRODUCTS:
                assert Fraction(row[cost]) == Fraction(row[price]) * Fraction(row[quantity])
    toolkit("validate", "--dataset", "cost-and-usage", str(prepaid / "focus.csv"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--invoice-detail", "i.csv"), "add --bills"),
        (("--bills", "{bills}", "--ledger", "ledger.db"), "use one of them"),
        (("--bills", "{bills}", "--account", "acct_1", "--channel", "wechat"), "no channel 'wechat'"),
        (
            (
                "--bills",
                "{bills}/INV-000001",
            ),
            "no bill of account",
        ),
    ],
)
def test_wrong_arguments(
    month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    """Arguments that contradict each other or leave something open are errors that say what to use."""
    filled = [arg.format(bills=month / "bills") for arg in args]
    assert not export(tmp_path, "--out", "a.csv", *filled)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_usage_that_is_not_that_of_the_bills_or_the_ledger(
    month: Path, prepaid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request less than in the bill, or one more than in the ledger, is an error, and no file is written."""
    lines = Path(EXAMPLE).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "u.jsonl").write_text("".join(lines[1:]), encoding="utf-8")
    usage = str(tmp_path / "u.jsonl")
    assert not export(tmp_path, "--out", "a.csv", "--bills", str(month / "bills"), usage=usage)
    assert "give the usage of the bills" in capsys.readouterr().err
    ledger = ("--ledger", str(prepaid / "ledger.db"), "--channel", "rmb")
    assert not export(tmp_path, "--out", "a.csv", *ledger, usage=EXAMPLE)
    assert "but the ledger charged" in capsys.readouterr().err
    charged = (prepaid / "usage.jsonl").read_text(encoding="utf-8").splitlines()
    again = json.dumps(json.loads(charged[0]) | {"request_id": "again"})
    (tmp_path / "u.jsonl").write_text("\n".join([*charged, again]), encoding="utf-8")
    assert not export(tmp_path, "--out", "a.csv", *ledger, usage=usage)
    assert "but the ledger charged 0." in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()


def test_hostile_names_are_quoted_in_csv_and_plain_in_parquet(tmp_path: Path) -> None:
    """A name that is a formula gets an apostrophe in CSV; Parquet has the name itself."""
    line = json.loads(Path(EXAMPLE).read_text(encoding="utf-8").splitlines()[0]) | {"account": '=cmd"{,客户'}
    (tmp_path / "u.jsonl").write_text(json.dumps(line), encoding="utf-8")
    assert export(tmp_path, "--out", "a.csv", "--channel", "rmb", usage="u.jsonl")
    assert {row["BillingAccountId"] for row in table(tmp_path / "a.csv")} == {"'=cmd\"{,客户"}
    duckdb = pytest.importorskip("duckdb")
    assert export(tmp_path, "--out", "a.parquet", "--channel", "rmb", usage="u.jsonl")
    with duckdb.connect() as connection:
        query = "SELECT DISTINCT BillingAccountId FROM read_parquet(?)"
        assert connection.execute(query, [str(tmp_path / "a.parquet")]).fetchall() == [('=cmd"{,客户',)]


def test_rejected_records_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that cannot be billed is named on stderr, and the exit status is 2."""
    first = Path(EXAMPLE).read_text(encoding="utf-8").splitlines()[0]
    wrong = json.dumps(json.loads(first) | {"request_id": "x", "model": "gpt-9"})
    (tmp_path / "u.jsonl").write_text(f"{first}\n{wrong}\n", encoding="utf-8")
    assert not export(tmp_path, "--out", "a.csv", "--channel", "rmb", usage="u.jsonl")
    assert "1 record rejected, NOT exported" in capsys.readouterr().err
    assert table(tmp_path / "a.csv")


def test_costs_are_those_of_the_first_channel_unless_another_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a channel, costs are those of the first one of the price file, and a note says so."""
    for args, currency, note in (((), "CNY", "channel rmb"), (("--channel", "stripe"), "USD", "")):
        assert export(tmp_path, "--out", "a.csv", "--account", "acct_8", *args)
        assert note in capsys.readouterr().err
        assert {row["BillingCurrency"] for row in table(tmp_path / "a.csv")} == {currency}


def test_notes_are_corrections(month: Path, tmp_path: Path) -> None:
    """A credit note adds corrections: then Cost and Usage, Invoice Detail, and bill less note have one total."""
    shutil.copytree(month / "bills", tmp_path / "bills")
    bill, last = (str(tmp_path / "bills" / name / "invoice.json") for name in ("INV-000001", "INV-000008"))
    half = "".join(Path(EXAMPLE).read_text(encoding="utf-8").splitlines(keepends=True)[:1500])
    (tmp_path / "half.jsonl").write_text(half, encoding="utf-8")
    note = ["credit-note", bill, "--after", last, "--usage", str(tmp_path / "half.jsonl"), "--reason", "twice"]
    assert main([*note, "--issued", "2026-11-10", "--out", str(tmp_path / "bills" / "note"), *PRICES]) == 0
    args = ("--bills", "bills", "--invoice-detail", "i.csv", "--out", "a.csv", "--billing-period", "p.csv")
    assert export(tmp_path, *args)
    documents = [json.loads(path.read_bytes()) for path in tmp_path.glob("bills/*/invoice.json")]
    totals = {(each["id"],): Fraction(each["totals"]["rounded"]["channels"]["rmb"]) for each in documents}
    assert summed(table(tmp_path / "i.csv"), "BilledCost", "InvoiceId") == totals
    assert min(totals.values()) < 0
    notes = [row for row in table(tmp_path / "a.csv") if row["ChargeClass"] == "Correction"]
    assert summed(notes, "BilledCost", "InvoiceId") == {key: total for key, total in totals.items() if total < 0}
    (corrected,) = {row["ReferenceInvoiceId"] for row in table(tmp_path / "i.csv") if row["InvoiceId"] == "INV-000009"}
    assert corrected == "INV-000001"
    toolkit("validate-bundle", "--directory", str(tmp_path))
    toolkit("validate", "--dataset", "cost-and-usage", str(tmp_path / "a.csv"))
