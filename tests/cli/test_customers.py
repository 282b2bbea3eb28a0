"""Bills with tax numbers, payment and balances from the command line: what a customers file may say, and who wins."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import bill_oracle
from bill_kit import OCTOBER as MONTH
from bill_kit import record, text, written
from brivionix_billing.invoice import read_document
from cli_kit import Run

Json = dict[str, Any]
OCTOBER = ("--period", "2026-10")
ROWS = [record(n) for n in range(1, 6)] + [record(n, account="acct_2") for n in range(6, 9)]
USED = {
    account: bill_oracle.bill(
        written(ROWS).splitlines(), bill_oracle.read_book(text()), MONTH.start, MONTH.end, account
    ).totals["credits"]
    for account in ("acct_1", "acct_2")
}


def balance(account: str, opening: Any = "100", **more: Any) -> Json:
    """Return a balance that reconciles."""
    return {"opening": opening, "closing": bill_oracle.closing(str(opening), [], USED[account]), **more}


def customers(run: Run, content: Any) -> None:
    """Write the customers file and its usage file."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (run.folder / "customers.json").write_bytes(raw)
    run.usage(ROWS)


def bill_all(run: Run, *more: str) -> tuple[int, str, str]:
    """Bill all accounts with the customers file."""
    return run("invoice", "usage.jsonl", "--all", *OCTOBER, "--out", "bills", "--customers", "customers.json", *more)


def document(run: Run, place: str) -> Json:
    """Return a written document."""
    return read_document(run.folder / place / "invoice.json")


def below(folder: Path) -> list[str]:
    """Return every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_customers_of_a_run_over_all(run: Run) -> None:
    """Each bill has the data of its account in the file; other accounts are billed without; no usage means no bill."""
    moved = {"label": "Top-up 2026-10-03", "credits": "50.5"}
    ada: Json = {"name": "Ada", "tax_number": "VAT 7", "details": ["1 Road", "Town"], "channel": "rmb"}
    ada["balance"] = {
        "opening": 100,
        "movements": [moved],
        "closing": bill_oracle.closing("100", ["50.5"], USED["acct_1"]),
    }
    customers(run, {"acct_1": ada, "acct_9": {"name": "Nobody here", "balance": {"opening": "1", "closing": "1"}}})
    status, _, err = bill_all(run, "--issuer-tax-number", "DE 811")
    assert (status, err) == (0, "")
    first, second = document(run, "bills/INV-000001"), document(run, "bills/INV-000002")
    assert first["customer"] == {
        "account": "acct_1",
        "name": "Ada",
        "tax_number": "VAT 7",
        "details": ["1 Road", "Town"],
    }
    assert first["payment"] == {"channel": "rmb", "currency": "CNY"}
    assert first["balance"]["movements"] == [moved]
    assert first["balance"]["opening"] == "100"
    assert second["customer"] == {"account": "acct_2", "name": None, "tax_number": None, "details": []}
    assert (second["payment"], second["balance"]) == (None, None)
    assert [bill["issuer"]["tax_number"] for bill in (first, second)] == ["DE 811"] * 2
    assert run("verify", "bills", "--usage", "usage.jsonl")[0] == 0
    table = (run.folder / "bills/INV-000001/invoice.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    shown = sum(Decimal(row["rounded_rmb_CNY"]) for row in rows)
    assert shown == Decimal(first["totals"]["rounded"]["channels"]["rmb"])


def test_each_customer_has_its_title_terms_and_taxes(run: Run) -> None:
    """The file has them per account. Options take precedence, and the bills verify."""
    taxed = {"channel": "rmb", "title": "Invoice", "terms": ["30 days."], "taxes": ["VAT=13"], "tax_included": True}
    customers(run, {"acct_1": taxed, "acct_2": {"channel": "rmb"}})
    assert bill_all(run)[0] == 0
    first, second = document(run, "bills/INV-000001"), document(run, "bills/INV-000002")
    assert (first["title"], first["terms"]) == ("Invoice", ["30 days."])
    assert [(tax["name"], tax["rate"]) for tax in first["taxes"]["lines"]] == [("VAT", "13")]
    assert first["taxes"]["included"]
    assert not {"title", "terms", "taxes"} & second.keys()
    assert run("verify", "bills", "--usage", "usage.jsonl")[0] == 0
    options = (
        "--account",
        "acct_1",
        "--customers",
        "customers.json",
        "--title",
        "T",
        "--terms",
        "now",
        "--tax",
        "GST=5",
    )
    assert run("invoice", "usage.jsonl", *OCTOBER, *options, "--out", "one")[0] == 0
    one = document(run, "one")
    assert (one["title"], one["terms"], one["taxes"]["included"]) == ("T", ["now"], False)
    assert [(tax["name"], tax["rate"]) for tax in one["taxes"]["lines"]] == [("GST", "5")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"taxes": ["VAT"]}, "acct_1.taxes[0]: the tax 'VAT' has no rate; write it as VAT=19"),
        ({"taxes": ["VAT=x"]}, "acct_1.taxes[0]: 'x' is not a plain decimal number"),
        ({"taxes": ["VAT=120"]}, "acct_1.taxes: tax 'VAT': the rate"),
        ({"taxes": "VAT=19"}, "acct_1.taxes: 'VAT=19' is not a list"),
        ({"taxes": ["VAT=19"], "tax_included": "yes"}, "acct_1.tax_included: 'yes' is not true or false"),
        ({"tax_included": True}, "acct_1.tax_included: requires a tax; add taxes"),
        ({"terms": [""]}, "acct_1.terms[0]"),
        ({"title": 5}, "acct_1.title"),
    ],
)
def test_a_wrong_title_tax_or_term_is_named(run: Run, entry: Json, message: str) -> None:
    """The error has the place in the file, and no bill is written."""
    customers(run, {"acct_1": entry})
    status, _, err = bill_all(run)
    assert status == 2
    assert message in err
    assert not (run.folder / "bills").exists()


def test_options_win_over_the_file(run: Run) -> None:
    """Options about the customer take precedence over the file."""
    said = {"name": "Ada", "tax_number": "VAT 7", "details": ["1 Road"], "channel": "rmb"}
    customers(run, {"acct_1": {**said, "balance": balance("acct_1")}})
    base = ("invoice", "usage.jsonl", "--account", "acct_1", *OCTOBER, "--customers", "customers.json", "--out")
    assert run(*base, "file")[0] == 0
    options = (
        "--customer",
        "Bea",
        "--customer-tax-number",
        "VAT 8",
        "--customer-detail",
        "2 Road",
        "--channel",
        "stripe",
    )
    assert run(*base, "options", *options)[0] == 0
    found, other = document(run, "file"), document(run, "options")
    assert (found["customer"]["name"], found["customer"]["tax_number"]) == ("Ada", "VAT 7")
    assert (found["customer"]["details"], found["payment"]["channel"]) == (["1 Road"], "rmb")
    assert (other["customer"]["name"], other["customer"]["tax_number"]) == ("Bea", "VAT 8")
    assert (other["customer"]["details"], other["payment"]["channel"]) == (["2 Road"], "stripe")
    assert found["balance"] == other["balance"] is not None
    assert run(*base, "some", "--customer", "Bea")[0] == 0
    assert document(run, "some")["customer"] == {**found["customer"], "name": "Bea"}


def test_options_without_a_file(run: Run) -> None:
    """Tax numbers and channel can be given for one account without a file, and a channel for all accounts."""
    run.usage(ROWS)
    options = ("--customer-tax-number", "VAT 8", "--issuer-tax-number", "DE 811", "--channel", "konbini")
    assert run("invoice", "usage.jsonl", "--account", "acct_2", *OCTOBER, "--out", "b", *options)[0] == 0
    found = document(run, "b")
    assert (found["customer"]["tax_number"], found["issuer"]["tax_number"]) == ("VAT 8", "DE 811")
    assert found["payment"] == {"channel": "konbini", "currency": "JPY"}
    assert run("invoice", "usage.jsonl", "--all", *OCTOBER, "--out", "all", "--channel", "rmb")[0] == 0
    assert {document(run, f"all/INV-00000{n}")["payment"]["channel"] for n in (1, 2)} == {"rmb"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--channel", "paypal"), "unknown_channel"),
        (("--customer-tax-number", "VAT 8"), "invalid_argument"),
        (("--customers", "gone.json"), "file_unreadable"),
        (("--customers", "."), "file_unreadable"),
    ],
)
def test_options_that_no_bill_can_have(run: Run, options: tuple[str, str], code: str) -> None:
    """An unknown channel, one tax number for all or a missing file is rejected without a bill."""
    run.usage(ROWS)
    status, out, err = run("invoice", "usage.jsonl", "--all", *OCTOBER, "--out", "bills", *options)
    assert (status, out, f"[{code}]" in err) == (2, "", True)
    assert not (run.folder / "bills").exists()


def test_a_wrong_balance_is_told_before_any_bill_is_written(run: Run) -> None:
    """A balance that does not reconcile stops the run, names each account and its figures, and leaves no files."""
    right, wrong = balance("acct_1"), {"opening": "100", "closing": "100"}
    customers(run, {"acct_1": {"balance": right}, "acct_2": {"balance": wrong}})
    run.usage([*ROWS, record(60, account="acct_2", model="gone")])
    status, out, err = bill_all(run)
    assert (status, out) == (2, "")
    assert "[invalid_argument]" in err
    for part in (
        "'acct_2'",
        f"used {USED['acct_2']}",
        f"difference of {USED['acct_2']}",
        "1 of its records were rejected",
    ):
        assert part in err
    assert "acct_1" not in err
    assert not (run.folder / "bills").exists()
    customers(run, {name: {"balance": wrong} for name in ("acct_1", "acct_2")})
    assert all(f"'{name}'" in bill_all(run)[2] for name in ("acct_1", "acct_2"))
    # After the balance is fixed, the same folder can be used.
    customers(run, {"acct_1": {"balance": right}, "acct_2": {"balance": balance("acct_2")}})
    assert bill_all(run)[0] == 0
    assert below(run.folder / "bills")


WRONG: list[tuple[Any, str, str]] = [
    (b"[]", "invalid_document", "customers.json: not a JSON object"),
    (b"{", "invalid_document", "not valid JSON"),
    (b'{"a": {}, "a": {}}', "invalid_document", "occurs twice"),
    (b"[" * 100_000, "invalid_document", "nested too deeply"),
    (b"\xff\xfe", "invalid_document", "not valid JSON"),
    (b'{"acct_1": {"balance": {"opening": NaN, "closing": "1"}}}', "invalid_document", "not a JSON number"),
    (
        b'{"acct_1": {"balance": {"opening": 1' + b"0" * 10_000 + b', "closing": "1"}}}',
        "invalid_document",
        "valid JSON",
    ),
    ({"acct_1": None}, "invalid_argument", "acct_1: None is not an object"),
    ({"acct_1": {"nmae": "x"}}, "invalid_argument", "acct_1: unknown key 'nmae'; use one of name, tax_number, details"),
    ({"acct_1": {"name": 5}}, "invalid_argument", "acct_1.name is 5"),
    ({"acct_1": {"name": ""}}, "invalid_argument", "acct_1.name is ''"),
    ({"acct_1": {"tax_number": "\x1b[31m"}}, "invalid_argument", "acct_1.tax_number"),
    ({"acct_1": {"details": "1 Road"}}, "invalid_argument", "acct_1.details: '1 Road' is not a list"),
    ({"acct_1": {"details": ["a", "\ud800"]}}, "invalid_argument", "acct_1.details[1]"),
    ({"acct_1": {"channel": "paypal"}}, "unknown_channel", "acct_1.channel: no channel 'paypal'"),
    ({"acct_1": {"channel": ["rmb"]}}, "invalid_argument", "acct_1.channel"),
    ({"acct_1": {"balance": "100"}}, "invalid_argument", "acct_1.balance: '100' is not an object"),
    ({"acct_1": {"balance": {"opening": "1"}}}, "invalid_argument", "acct_1.balance.closing: missing"),
    ({"acct_1": {"balance": {"opening": "1", "closing": "1", "end": 1}}}, "invalid_argument", "unknown key 'end'"),
    ({"acct_1": {"balance": {"opening": 1.5, "closing": "1"}}}, "invalid_money", "acct_1.balance: opening"),
    ({"acct_1": {"balance": {"opening": "1,5", "closing": "1"}}}, "invalid_money", "acct_1.balance: opening"),
    ({"acct_1": {"balance": {"opening": True, "closing": "1"}}}, "invalid_money", "acct_1.balance: opening"),
    ({"acct_1": {"balance": {"opening": 10**40, "closing": "1"}}}, "invalid_money", "acct_1.balance: opening"),
    ({"acct_1": {"balance": balance("acct_1", movements={})}}, "invalid_argument", "acct_1.balance.movements: {}"),
    ({"acct_1": {"balance": balance("acct_1", movements=[["a", "1"]])}}, "invalid_argument", "movements[0]"),
    (
        {"acct_1": {"balance": balance("acct_1", movements=[{"label": "a"}])}},
        "invalid_argument",
        "movements[0].credits",
    ),
    (
        {"acct_1": {"balance": balance("acct_1", movements=[{"label": "a", "credits": 0.5}])}},
        "invalid_money",
        "movements[0].credits",
    ),
    (
        {"acct_1": {"balance": balance("acct_1", movements=[{"label": "a", "credits": "0"}] * 1001)}},
        "invalid_argument",
        "acct_1.balance: a balance has at most 1000 movements",
    ),
    ({"": {}}, "invalid_argument", "the account is ''"),
    ({"a\nb": {}}, "invalid_argument", "the account"),
    ({"acct_9": {"nmae": "x"}}, "invalid_argument", "acct_9"),
]


@pytest.mark.parametrize(("content", "code", "part"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_a_malformed_file(run: Run, content: Any, code: str, part: str) -> None:
    """Every error in the file is reported with its location, even of accounts without usage; nothing is written."""
    customers(run, content)
    status, out, err = bill_all(run)
    assert (status, out, f"[{code}]" in err, part in err) == (2, "", True, True), err
    assert len(err) < 600
    assert not (run.folder / "bills").exists()


def test_a_note_carries_over_what_its_bill_says(run: Run) -> None:
    """A note has the tax numbers and the channel of its bill, and no balance; both verify."""
    customers(run, {"acct_1": {"tax_number": "VAT 7", "channel": "konbini", "balance": balance("acct_1")}})
    assert bill_all(run, "--issuer-tax-number", "DE 811")[0] == 0
    (run.folder / "right.jsonl").write_bytes(written(ROWS[1:]))
    base = (
        "credit-note",
        "bills/INV-000001/invoice.json",
        "--reason",
        "x",
        "--issued",
        "2026-11-05",
        "--after",
        "bills",
    )
    for out, usage in (("part", ("--usage", "right.jsonl")), ("whole", ())):
        assert run(*base, "--out", out, *usage)[0] == 0
        note = document(run, out)
        assert (note["issuer"]["tax_number"], note["customer"]["tax_number"]) == ("DE 811", "VAT 7")
        assert (note["payment"], note["balance"]) == ({"channel": "konbini", "currency": "JPY"}, None)
        assert "invoice.csv" in below(run.folder / out)
    arguments = ("--usage", "right.jsonl", "--corrects", "bills/INV-000001/invoice.json")
    assert run("verify", "part/invoice.json", *arguments)[0] == 0
