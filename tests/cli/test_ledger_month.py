"""The command ``ledger``: reports, month end, maintenance, and unusual names."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from bill_kit import body, record
from brivionix_billing import Usage
from brivionix_billing.invoice import read_document
from cli_kit import ESCAPES
from cli_ledger_kit import FIRST, OCTOBER, LedgerCommand, available

Json = dict[str, Any]


# --- looking ---


def test_journal(command: LedgerCommand) -> None:
    """The journal has one entry per line, in order, each with the previous hash; --after skips entries."""
    command.run_ok("adjust", "acct_1", "-1", "--reason", "slip", "--author", "ada", "--id", "a")
    entries = [json.loads(line) for line in command.run_ok("journal", "acct_1").splitlines()]
    assert [entry["kind"] for entry in entries] == ["account", "top_up", "adjust"]
    assert [entry["previous"] for entry in entries] == ["", *(entry["hash"] for entry in entries[:-1])]
    assert [json.loads(line) for line in command.run_ok("journal", "acct_1", "--after", "2").splitlines()] == entries[
        2:
    ]
    shown = command.run_ok("journal", "acct_1", "--format", "table").splitlines()
    assert [line.split()[4:6] for line in shown[3:]] == [["100", "+100"], ["1", "-1"]]
    assert command.error_code("journal", "acct_9", "--after", "2") == "unknown_account"
    assert command.error_code("journal", "acct_1", "--after", "-1") == "invalid_argument"


def test_statement(command: LedgerCommand) -> None:
    """A statement reconciles opening, movements, usage and closing, and reports open holds."""
    rows = [record(n) for n in range(1, 6)]
    command.serve(rows)
    command.run_ok("grant", "acct_1", "5", "--reason", "sorry", "--id", "g", "--at", "2026-10-03")
    ledger = command.ledger()
    ledger.hold("acct_1", "0.1", id="waits", at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC))
    ledger.close()
    status, out, err = command("statement", "acct_1", *OCTOBER, "--format", "json")
    statement = json.loads(out)
    assert (status, statement["open_holds"], "has 1 open hold from the period or before" in err) == (0, 1, True)
    assert (statement["opening"], [m["credits"] for m in statement["movements"]]) == ("100", ["5"])
    assert sum(line["requests"] for line in statement["usage"]) == 5
    assert Fraction(statement["closing"]) == 105 - Fraction(statement["used"])
    shown = command("statement", "acct_1", *OCTOBER)[1]
    lines = [line.split() for line in shown.splitlines()]
    assert ["opening", "100"] in lines
    assert ["closing", statement["closing"]] in lines
    assert ["used", "by", "5", "requests", f"-{statement['used']}"] in lines
    assert any(line[:2] == ["2026-10-01", "alpha"] for line in lines)


def test_usage(command: LedgerCommand) -> None:
    """Usage is listed by day of the zone and model, for one or all accounts, and optionally by token."""
    command.top_up("acct_2", "85", "evt_2", "2026-09-20")
    command.run_ok("token", "create", "acct_1", "--group", "default", "--id", "tok", "--at", "2026-09-20")
    late = "2026-10-01T20:00:00Z"
    rows = [record(1), record(2, model="beta"), record(3, account="acct_2", at=late)]
    command.serve(rows)
    ledger = command.ledger()
    ledger.charge("acct_1", "0.125", id="batch", token="tok", at=FIRST)
    ledger.close()
    lines = command.json("usage", "--all", *OCTOBER)
    assert [(row["account"], row["day"], row["model"]) for row in lines] == [
        ("acct_1", "2026-10-01", ""),
        ("acct_1", "2026-10-01", "alpha"),
        ("acct_1", "2026-10-01", "beta"),
        ("acct_2", "2026-10-01", "alpha"),
    ]
    assert lines[1]["input_tokens"] == Usage.from_response(rows[0]["usage"]).input_tokens
    zone = command.json("usage", "acct_2", *OCTOBER, "--zone", "Asia/Shanghai")
    assert [(row["day"], row["credits"]) for row in zone] == [("2026-10-02", lines[3]["credits"])]
    tokens = command.json("usage", "acct_1", *OCTOBER, "--by-token")
    assert [tokens[0][key] for key in ("model", "token", "credits")] == ["", "tok", "0.125"]
    assert command.run_ok("usage", "acct_1", *OCTOBER).splitlines()[2].split()[:4] == ["acct_1", "2026-10-01", "-", "1"]
    assert command("usage", *OCTOBER)[0] == 2
    assert command("usage", "acct_1", "--all", *OCTOBER)[0] == 2
    assert command.error_code("usage", "acct_1", "--period", "October") == "invalid_period"
    kathmandu = command.json("usage", "acct_1", *OCTOBER, "--zone", "Asia/Kathmandu", "--by", "hour,group")
    assert all(line["hour"].endswith(":00+05:45") for line in kathmandu)
    assert sum(line["requests"] for line in kathmandu) == sum(line["requests"] for line in tokens)
    assert command.error_code("usage", "acct_1", *OCTOBER, "--by", "week") == "invalid_argument"


def test_requests(command: LedgerCommand) -> None:
    """Requests are listed page by page; files have all of them, in CSV and Parquet, with the cost in money."""
    command.serve([record(n) for n in range(1, 6)])
    every = command.json("requests", "acct_1")
    assert [row["at"] for row in every] == sorted((row["at"] for row in every), reverse=True)
    status, out, err = command("requests", "acct_1", "--limit", "2", "--format", "json")
    assert (status, json.loads(out)) == (0, every[:2])
    assert command.json("requests", "acct_1", "--after", err.split()[-1]) == every[2:]
    assert command.json("requests", "acct_1", *OCTOBER, "--model", every[0]["model"]) == [
        row for row in every if row["model"] == every[0]["model"]
    ]
    assert command.json("requests", "acct_1", "--open") == []
    assert f"{every[0]['cost']['CNY']} CNY" in command.run_ok("requests", "acct_1")
    command.run_ok("requests", "acct_1", "--out", "requests.csv")
    with (command.folder / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["credits"], row["cost_CNY"]) for row in rows] == [
        (row["id"], row["credits"], row["cost"]["CNY"]) for row in every
    ]
    duckdb = pytest.importorskip("duckdb")
    command.run_ok("requests", "acct_1", "--out", "it's.parquet")
    found = duckdb.read_parquet(str(command.folder / "it's.parquet"))
    sums = [sum(Decimal(row["credits"]) for row in every), sum(Decimal(row["cost"]["CNY"]) for row in every)]
    assert found.aggregate("count(*), sum(credits), sum(cost_CNY)").fetchall() == [(5, *sums)]
    assert command.error_code("requests", "acct_1", "--after", "x") == "invalid_argument"
    assert command.error_code("requests", "acct_1", "--limit", "0") == "invalid_argument"


# --- the end of a month ---


def month(command: LedgerCommand) -> list[Json]:
    """Post a month of two accounts, with movements, and with requests before and after it."""
    command.top_up("acct_2", "17", "evt_2", "2026-10-02")
    command.run_ok("grant", "acct_1", "5", "--reason", "sorry", "--id", "g", "--at", "2026-10-03")
    command.run_ok("refund", "acct_2", "evt_2", "--pay", "1.7", "--id", "r", "--at", "2026-10-04")
    rows = [record(n) for n in range(1, 9)]
    rows += [record(n, account="acct_2", usage=body("whole", 900, 0, 60)) for n in range(9, 12)]
    around = [
        record(98, at="2026-09-30T23:59:59.999Z"),
        record(99, at="2026-11-01T00:00:00Z"),
    ]
    command.serve([*rows, *around])
    return rows


def test_a_month_from_ledger_to_verified_bills(command: LedgerCommand) -> None:
    """Bills made from records and customers verify, and show the balances of the statements."""
    rows = month(command)
    statements = {a: command.json("statement", a, *OCTOBER) for a in ("acct_1", "acct_2")}
    status, out, err = command("records", "--all", *OCTOBER, "--out", "month.jsonl")
    assert (status, out, err) == (0, "", "11 requests of 2 accounts\n")
    lines = (command.folder / "month.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["request_id"] for line in lines} == {row["request_id"] for row in rows}
    assert command("customers", *OCTOBER, "--out", "customers.json")[:2] == (0, "")
    billed = ("invoice", "month.jsonl", "--all", *OCTOBER, "--customers", "customers.json", "--out", "bills")
    status, _, err = command.run(*billed, "--no-html")
    assert (status, err) == (0, "")
    for number, (account, statement) in enumerate(statements.items(), 1):
        bill = read_document(command.folder / f"bills/INV-{number:06d}/invoice.json")
        assert bill["customer"]["account"] == account
        assert (bill["balance"]["opening"], bill["balance"]["closing"]) == (statement["opening"], statement["closing"])
        assert [m["credits"] for m in bill["balance"]["movements"]] == [m["credits"] for m in statement["movements"]]
        assert bill["totals"]["credits"] == statement["used"]
        assert Decimal(statement["closing"]) > 0
    assert statements["acct_2"]["opening"] == "0"
    assert Decimal(statements["acct_1"]["opening"]) < 100
    assert command.run("verify", "bills", "--usage", "month.jsonl")[0] == 0


def test_records_cost_what_the_ledger_charged(command: LedgerCommand) -> None:
    """Rating the records again gives the charges of the ledger."""
    month(command)
    command.run_ok("records", "--all", *OCTOBER, "--out", "month.jsonl")
    rated = [json.loads(line) for line in command.run("rate", "month.jsonl")[1].splitlines()]
    journal = [json.loads(line) for a in ("acct_1", "acct_2") for line in command.run_ok("journal", a).splitlines()]
    booked = {e["content"]["hold"]: e["content"]["credits"] for e in journal if e["kind"] == "settle"}
    assert {row["request_id"]: row["credits"] for row in rated} == {
        r["request_id"]: booked[r["request_id"]] for r in rated
    }
    assert len(rated) == 11


def test_records_of_one_account_on_stdout(command: LedgerCommand) -> None:
    """Without --out, stdout has the records and nothing else."""
    month(command)
    status, out, err = command("records", "acct_2", *OCTOBER)
    assert (status, err) == (0, "3 requests of 1 account\n")
    assert {json.loads(line)["account"] for line in out.splitlines()} == {"acct_2"}


def test_charges_priced_elsewhere_have_no_record(command: LedgerCommand) -> None:
    """A charge priced elsewhere is an error that names account and operation, and no file is overwritten."""
    month(command)
    (command.folder / "month.jsonl").write_text("kept", encoding="utf-8")
    ledger = command.ledger()
    ledger.charge("acct_2", "0.125", id="batch", at=FIRST)
    ledger.close()
    status, _, err = command("records", "--all", *OCTOBER, "--out", "month.jsonl")
    assert (status, "operation 'batch' of account 'acct_2'" in err) == (2, True)
    assert (command.folder / "month.jsonl").read_text(encoding="utf-8") == "kept"
    assert not list(command.folder.glob(".brivionix-*"))


def test_customers_keep_their_names(command: LedgerCommand) -> None:
    """Names, tax numbers, details and channels are copied from --base, and balances are replaced."""
    month(command)
    ada = {"name": "Ada", "tax_number": "VAT 7", "details": ["1 Road"], "channel": "rmb"}
    old = {"opening": "7", "movements": [], "closing": "7"}
    base = {"acct_1": {**ada, "balance": old}, "acct_9": {"name": "Elsewhere", "balance": old}}
    (command.folder / "base.json").write_text(json.dumps(base), encoding="utf-8")
    customers = json.loads(command.run_ok("customers", *OCTOBER, "--base", "base.json"))
    assert {key: value for key, value in customers["acct_1"].items() if key != "balance"} == ada
    assert customers["acct_1"]["balance"]["closing"] == command.json("statement", "acct_1", *OCTOBER)["closing"]
    assert customers["acct_9"] == base["acct_9"]
    assert set(customers["acct_2"]) == {"balance"}
    assert command.error_code("customers", *OCTOBER, "--base", "base.json", "--out", "base.json") == "invalid_argument"
    (command.folder / "base.json").write_text('{"acct_1": {"nmae": "Ada"}}', encoding="utf-8")
    assert command.error_code("customers", *OCTOBER, "--base", "base.json") == "invalid_argument"


def test_a_late_settle_is_detected(command: LedgerCommand) -> None:
    """If usage is added after the records were written, the balance does not reconcile, and no bill is made."""
    month(command)
    command.run_ok("records", "--all", *OCTOBER, "--out", "month.jsonl")
    command.serve([record(20)])
    command.run_ok("customers", *OCTOBER, "--out", "customers.json")
    status, _, err = command.run(
        "invoice", "month.jsonl", "--all", *OCTOBER, "--customers", "customers.json", "--out", "bills"
    )
    assert (status, "the balance of account 'acct_1' does not reconcile" in err) == (2, True)
    assert not (command.folder / "bills").exists()


# --- care ---


def test_expire(command: LedgerCommand) -> None:
    """Expiries of all or some accounts are posted once."""
    given = ("--reason", "r", "--at", "2026-10-01", "--expires", "2026-10-02", "--id")
    for account in ("acct_1", "acct_2"):
        command.run_ok("grant", account, "5", *given, f"g-{account}")
    assert command.run_ok("expire", "--at", "2026-10-01T23:00:00Z") == "0 entries posted\n"
    assert command.run_ok("expire", "acct_2", "--at", "2026-10-02") == "1 entry posted\n"
    assert command.json("expire", "--at", "2026-10-02") == [{"entries": 1}]
    assert command.json("expire", "--at", "2026-10-02") == [{"entries": 0}]
    assert command.error_code("expire", "acct_9") == "unknown_account"


def test_verify(command: LedgerCommand) -> None:
    """A valid ledger has exit status 0, an inconsistent one 1 and its inconsistencies on stdout until it is rebuilt."""
    month(command)
    assert command.run_ok("verify").startswith("valid: 2 accounts, ")
    assert json.loads(command.run_ok("verify", "--format", "json")) == {"valid": True, "inconsistencies": []}
    command.tamper("UPDATE billing_lot SET used = '0.000000000000000000' WHERE id = 'evt_2'")
    command.tamper("UPDATE billing_account SET held = '1.000000000000000000' WHERE id = 'acct_1'")
    status, out, err = command("verify")
    assert (status, err) == (1, "INVALID: 2 inconsistencies\n")
    assert [line.partition(":")[0] for line in out.splitlines()] == ["account acct_1", "account acct_2"]
    report = json.loads(command("verify", "--format", "json")[1])
    assert (report["valid"], [row["account"] for row in report["inconsistencies"]]) == (False, ["acct_1", "acct_2"])
    assert command.error_code("rebuild") == "invalid_argument"
    assert command("verify")[0] == 1
    assert "rebuilt from the journal" in command.run_ok("rebuild", "--yes")
    assert command("verify")[0] == 0


def test_an_altered_entry(command: LedgerCommand) -> None:
    """An altered entry is detected, not rebuilt from, and displayed without control characters."""
    command.tamper("UPDATE billing_journal SET body = replace(body, 'evt_1', char(27) || '[31m') WHERE id = 'evt_1'")
    status, out, _ = command("verify")
    assert (status, "account acct_1, entry 2: " in out) == (1, True)
    assert all(c.isprintable() or c == "\n" for c in out)
    assert command.error_code("rebuild", "--yes") == "journal_broken"


def test_a_truncated_journal(command: LedgerCommand) -> None:
    """A truncated and rebuilt ledger is detected only with a checkpoint."""
    command.run_ok("grant", "acct_1", "5", "--reason", "r", "--id", "g")
    command.run_ok("checkpoint", "--out", "heads.json")
    assert command.run_ok("checkpoint").encode() == (command.folder / "heads.json").read_bytes()
    assert command.run_ok("verify", "--checkpoint", "heads.json").startswith("valid")
    command.tamper("DELETE FROM billing_journal WHERE id = 'g'")
    assert command("rebuild", "--yes")[0] == 2  # it would remove the only remaining record
    command.run_ok("rebuild", "--yes", "--accept-loss")
    assert command("verify")[0] == 0
    status, out, _ = command("verify", "--checkpoint", "heads.json")
    assert (status, out) == (1, "account acct_1: entries 3 to 3 of the checkpoint are missing\n")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff", b'{"acct_1": 3}', b'{"acct_1": [3]}', b'{"acct_1": [true, "x"]}', b'{"a": ["3", "x"]}'],
)
def test_an_invalid_checkpoint(command: LedgerCommand, content: bytes) -> None:
    """An invalid checkpoint is invalid input (status 2), not an inconsistent ledger (status 1)."""
    (command.folder / "heads.json").write_bytes(content)
    assert command.error_code("verify", "--checkpoint", "heads.json") == "invalid_document"
    assert command.error_code("verify", "--checkpoint", "missing.json") == "file_unreadable"


# --- names from outside ---


@pytest.mark.parametrize("name", [ESCAPES, "a\udcff", "a\x00b", "\n"])
def test_unprintable_names(command: LedgerCommand, name: str) -> None:
    """An unprintable name is rejected everywhere, and displayed without control characters."""
    operation = ("--id", "i")
    for args in (
        ("open", name, *operation),
        ("open", "a", "--id", name),
        ("balance", name),
        ("lots", name),
        ("journal", name),
        ("statement", name, *OCTOBER),
        ("usage", name, *OCTOBER),
        ("records", name, *OCTOBER),
        ("expire", name),
        ("token", "list", name),
        ("token", "create", name, "--group", "half", *operation),
        ("token", "create", "acct_1", "--group", "half", "--name", name, *operation),
        ("token", "change", name, "--enabled", *operation),
        ("topup", "acct_1", "--channel", "rmb", "--pay", "1", "--reference", name, *operation),
        ("grant", "acct_1", "1", "--reason", name, *operation),
        ("adjust", "acct_1", "1", "--reason", "r", "--author", name, *operation),
        ("refund", "acct_1", name, *operation),
        ("dispute", "acct_1", name, "--pay", "1", *operation),
        ("reverse", "acct_1", name, "--reason", "r", *operation),
        ("release", name, *operation),
    ):
        assert command.error_code(*args) == "invalid_argument", args
    assert available(command) == 100


def test_names_of_all_scripts(command: LedgerCommand) -> None:
    """Account names of any script work from the ledger to the bill."""
    command.run_ok("open", "客户 1", "--id", "开户")
    command.top_up("客户 1", "85", "付款", "2026-10-01")
    command.serve([record(1, account="客户 1")])
    command.run_ok("records", "客户 1", *OCTOBER, "--out", "month.jsonl")
    command.run_ok("customers", *OCTOBER, "--out", "customers.json")
    billed = ("invoice", "month.jsonl", "--all", *OCTOBER, "--customers", "customers.json", "--out", "b", "--no-html")
    assert command.run(*billed)[0] == 0
    assert "客户 1" in command.run_ok("accounts")
    command.run_ok("checkpoint", "--out", "heads.json")
    assert command("verify", "--checkpoint", "heads.json")[0] == 0
