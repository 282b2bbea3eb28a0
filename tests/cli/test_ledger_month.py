"""The ledger on the command line: what it tells, the end of a month, its care, and names from outside."""

from __future__ import annotations

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
from cli_ledger_kit import FIRST, OCTOBER, Desk, available

Json = dict[str, Any]


# --- looking ---


def test_journal(desk: Desk) -> None:
    """An entry a line, in order, each with the hash of the one before; --after leaves out what one has."""
    desk.does("adjust", "acct_1", "-1", "--reason", "slip", "--author", "ada", "--id", "a")
    entries = [json.loads(line) for line in desk.does("journal", "acct_1").splitlines()]
    assert [entry["kind"] for entry in entries] == ["account", "top_up", "adjust"]
    assert [entry["previous"] for entry in entries] == ["", *(entry["hash"] for entry in entries[:-1])]
    assert [json.loads(line) for line in desk.does("journal", "acct_1", "--after", "2").splitlines()] == entries[2:]
    shown = desk.does("journal", "acct_1", "--format", "table").splitlines()
    assert [line.split()[4:6] for line in shown[3:]] == [["100", "+100"], ["1", "-1"]]
    assert desk.refused("journal", "acct_9", "--after", "2") == "unknown_account"
    assert desk.refused("journal", "acct_1", "--after", "-1") == "invalid_argument"


def test_statement(desk: Desk) -> None:
    """Opening, every movement, usage by day and model, closing; they come out, and open requests are told."""
    rows = [record(n) for n in range(1, 6)]
    desk.requests(rows)
    desk.does("grant", "acct_1", "5", "--reason", "sorry", "--id", "g", "--at", "2026-10-03")
    ledger = desk.ledger()
    ledger.hold("acct_1", "0.1", id="waits", at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC))
    ledger.close()
    status, out, err = desk("statement", "acct_1", *OCTOBER, "--format", "json")
    found = json.loads(out)
    assert (status, found["open_holds"], "1 request of the period or before is not resolved" in err) == (0, 1, True)
    assert (found["opening"], [m["credits"] for m in found["movements"]]) == ("100", ["5"])
    assert sum(line["requests"] for line in found["usage"]) == 5
    assert Fraction(found["closing"]) == 105 - Fraction(found["used"])
    shown = desk("statement", "acct_1", *OCTOBER)[1]
    lines = [line.split() for line in shown.splitlines()]
    assert ["opening", "100"] in lines
    assert ["closing", found["closing"]] in lines
    assert ["used", "by", "5", "requests", f"-{found['used']}"] in lines
    assert any(line[:2] == ["2026-10-01", "alpha"] for line in lines)


def test_usage(desk: Desk) -> None:
    """By day of the zone and model, of one account or all, and by token if asked."""
    desk.top_up("acct_2", "85", "evt_2", "2026-09-20")
    desk.does("token", "create", "acct_1", "--group", "default", "--id", "tok", "--at", "2026-09-20")
    late = "2026-10-01T20:00:00Z"
    rows = [record(1), record(2, model="beta"), record(3, account="acct_2", at=late)]
    desk.requests(rows)
    ledger = desk.ledger()
    ledger.charge("acct_1", "0.125", id="batch", token="tok", at=FIRST)
    ledger.close()
    found = desk.json("usage", "--all", *OCTOBER)
    assert [(row["account"], row["day"], row["model"]) for row in found] == [
        ("acct_1", "2026-10-01", ""),
        ("acct_1", "2026-10-01", "alpha"),
        ("acct_1", "2026-10-01", "beta"),
        ("acct_2", "2026-10-01", "alpha"),
    ]
    assert found[1]["input_tokens"] == Usage.from_response(rows[0]["usage"]).input_tokens
    zone = desk.json("usage", "acct_2", *OCTOBER, "--zone", "Asia/Shanghai")
    assert [(row["day"], row["credits"]) for row in zone] == [("2026-10-02", found[3]["credits"])]
    tokens = desk.json("usage", "acct_1", *OCTOBER, "--by-token")
    assert [tokens[0][key] for key in ("model", "token", "credits")] == ["", "tok", "0.125"]
    assert desk.does("usage", "acct_1", *OCTOBER).splitlines()[2].split()[:4] == ["acct_1", "2026-10-01", "-", "1"]
    assert desk("usage", *OCTOBER)[0] == 2
    assert desk("usage", "acct_1", "--all", *OCTOBER)[0] == 2
    assert desk.refused("usage", "acct_1", "--period", "October") == "invalid_period"


# --- the end of a month ---


def month(desk: Desk) -> list[Json]:
    """A month of two accounts, with what moves a balance, and requests before and after it."""
    desk.top_up("acct_2", "17", "evt_2", "2026-10-02")
    desk.does("grant", "acct_1", "5", "--reason", "sorry", "--id", "g", "--at", "2026-10-03")
    desk.does("refund", "acct_2", "evt_2", "--pay", "1.7", "--id", "r", "--at", "2026-10-04")
    rows = [record(n) for n in range(1, 9)]
    rows += [record(n, account="acct_2", usage=body("whole", 900, 0, 60)) for n in range(9, 12)]
    around = [
        record(98, at="2026-09-30T23:59:59.999Z"),
        record(99, at="2026-11-01T00:00:00Z"),
    ]
    desk.requests([*rows, *around])
    return rows


def test_a_month_from_ledger_to_verified_bills(desk: Desk) -> None:
    """Records, customers, invoice and verify fit together, and every bill shows its statement's balances."""
    rows = month(desk)
    statements = {a: desk.json("statement", a, *OCTOBER) for a in ("acct_1", "acct_2")}
    status, out, err = desk("records", "--all", *OCTOBER, "--out", "month.jsonl")
    assert (status, out, err) == (0, "", "11 requests of 2 accounts\n")
    lines = (desk.folder / "month.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["request_id"] for line in lines} == {row["request_id"] for row in rows}
    assert desk("customers", *OCTOBER, "--out", "customers.json")[:2] == (0, "")
    billed = ("invoice", "month.jsonl", "--all", *OCTOBER, "--customers", "customers.json", "--out", "bills")
    status, _, err = desk.run(*billed, "--no-html")
    assert (status, err) == (0, "")
    for number, (account, told) in enumerate(statements.items(), 1):
        bill = read_document(desk.folder / f"bills/INV-{number:06d}/invoice.json")
        assert bill["customer"]["account"] == account
        assert (bill["balance"]["opening"], bill["balance"]["closing"]) == (told["opening"], told["closing"])
        assert [m["credits"] for m in bill["balance"]["movements"]] == [m["credits"] for m in told["movements"]]
        assert bill["totals"]["credits"] == told["used"]
        assert Decimal(told["closing"]) > 0
    assert statements["acct_2"]["opening"] == "0"
    assert Decimal(statements["acct_1"]["opening"]) < 100
    assert desk.run("verify", "bills", "--usage", "month.jsonl")[0] == 0


def test_the_records_are_those_that_were_charged(desk: Desk) -> None:
    """Rated again from the records, every request costs what the ledger took for it."""
    month(desk)
    desk.does("records", "--all", *OCTOBER, "--out", "month.jsonl")
    rated = [json.loads(line) for line in desk.run("rate", "month.jsonl")[1].splitlines()]
    journal = [json.loads(line) for a in ("acct_1", "acct_2") for line in desk.does("journal", a).splitlines()]
    booked = {e["content"]["hold"]: e["content"]["credits"] for e in journal if e["kind"] == "settle"}
    assert {row["request_id"]: row["credits"] for row in rated} == {
        r["request_id"]: booked[r["request_id"]] for r in rated
    }
    assert len(rated) == 11


def test_records_of_one_account_on_stdout(desk: Desk) -> None:
    """Without --out the records go to stdout, and nothing else does."""
    month(desk)
    status, out, err = desk("records", "acct_2", *OCTOBER)
    assert (status, err) == (0, "3 requests of 1 account\n")
    assert {json.loads(line)["account"] for line in out.splitlines()} == {"acct_2"}


def test_what_was_priced_elsewhere_has_no_record(desk: Desk) -> None:
    """It is an error that names account and operation, and a file that stands there is not touched."""
    month(desk)
    (desk.folder / "month.jsonl").write_text("kept", encoding="utf-8")
    ledger = desk.ledger()
    ledger.charge("acct_2", "0.125", id="batch", at=FIRST)
    ledger.close()
    status, _, err = desk("records", "--all", *OCTOBER, "--out", "month.jsonl")
    assert (status, "operation 'batch' of account 'acct_2'" in err) == (2, True)
    assert (desk.folder / "month.jsonl").read_text(encoding="utf-8") == "kept"
    assert not list(desk.folder.glob(".brivionix-*"))


def test_customers_keep_their_names(desk: Desk) -> None:
    """Names, tax numbers, details and channels of --base stay; balances of accounts of the ledger are new."""
    month(desk)
    ada = {"name": "Ada", "tax_number": "VAT 7", "details": ["1 Road"], "channel": "rmb"}
    old = {"opening": "7", "movements": [], "closing": "7"}
    base = {"acct_1": {**ada, "balance": old}, "acct_9": {"name": "Elsewhere", "balance": old}}
    (desk.folder / "base.json").write_text(json.dumps(base), encoding="utf-8")
    found = json.loads(desk.does("customers", *OCTOBER, "--base", "base.json"))
    assert {key: value for key, value in found["acct_1"].items() if key != "balance"} == ada
    assert found["acct_1"]["balance"]["closing"] == desk.json("statement", "acct_1", *OCTOBER)["closing"]
    assert found["acct_9"] == base["acct_9"]
    assert set(found["acct_2"]) == {"balance"}
    assert desk.refused("customers", *OCTOBER, "--base", "base.json", "--out", "base.json") == "invalid_argument"
    (desk.folder / "base.json").write_text('{"acct_1": {"nmae": "Ada"}}', encoding="utf-8")
    assert desk.refused("customers", *OCTOBER, "--base", "base.json") == "invalid_argument"


def test_a_request_that_is_settled_late_is_noticed(desk: Desk) -> None:
    """If usage came after the records were written, the balance does not come out, and no bill is made."""
    month(desk)
    desk.does("records", "--all", *OCTOBER, "--out", "month.jsonl")
    desk.requests([record(20)])
    desk.does("customers", *OCTOBER, "--out", "customers.json")
    status, _, err = desk.run(
        "invoice", "month.jsonl", "--all", *OCTOBER, "--customers", "customers.json", "--out", "bills"
    )
    assert (status, "the balance of account 'acct_1' does not reconcile" in err) == (2, True)
    assert not (desk.folder / "bills").exists()


# --- care ---


def test_expire(desk: Desk) -> None:
    """What has expired is booked, of all accounts or some, and what was booked is not booked again."""
    given = ("--reason", "r", "--at", "2026-10-01", "--expires", "2026-10-02", "--id")
    for account in ("acct_1", "acct_2"):
        desk.does("grant", account, "5", *given, f"g-{account}")
    assert desk.does("expire", "--at", "2026-10-01T23:00:00Z") == "0 entries booked\n"
    assert desk.does("expire", "acct_2", "--at", "2026-10-02") == "1 entry booked\n"
    assert desk.json("expire", "--at", "2026-10-02") == [{"entries": 1}]
    assert desk.json("expire", "--at", "2026-10-02") == [{"entries": 0}]
    assert desk.refused("expire", "acct_9") == "unknown_account"


def test_verify(desk: Desk) -> None:
    """A sound ledger is sound: status 0. Of another, each fault stands on stdout: status 1. Rebuilding mends it."""
    month(desk)
    assert desk.does("verify").startswith("sound: 2 accounts, ")
    assert json.loads(desk.does("verify", "--format", "json")) == {"sound": True, "faults": []}
    desk.tampered("UPDATE billing_lot SET used = '0.000000000000000000' WHERE id = 'evt_2'")
    desk.tampered("UPDATE billing_account SET held = '1.000000000000000000' WHERE id = 'acct_1'")
    status, out, err = desk("verify")
    assert (status, err) == (1, "NOT SOUND: 2 faults\n")
    assert [line.partition(":")[0] for line in out.splitlines()] == ["account acct_1", "account acct_2"]
    told = json.loads(desk("verify", "--format", "json")[1])
    assert (told["sound"], [fault["account"] for fault in told["faults"]]) == (False, ["acct_1", "acct_2"])
    assert desk.refused("rebuild") == "invalid_argument"
    assert desk("verify")[0] == 1
    assert "made from the journal" in desk.does("rebuild", "--yes")
    assert desk("verify")[0] == 0


def test_a_changed_entry(desk: Desk) -> None:
    """An entry of the journal that was changed is found, nothing is rebuilt from it, and no terminal obeys it."""
    desk.tampered("UPDATE billing_journal SET body = replace(body, 'evt_1', char(27) || '[31m') WHERE id = 'evt_1'")
    status, out, _ = desk("verify")
    assert (status, "account acct_1, entry 2: " in out) == (1, True)
    assert all(c.isprintable() or c == "\n" for c in out)
    assert desk.refused("rebuild", "--yes") == "journal_broken"


def test_a_journal_that_was_cut_off(desk: Desk) -> None:
    """Entries cut off at the end, with all that came of them, are missed by a checkpoint and by nothing else."""
    desk.does("grant", "acct_1", "5", "--reason", "r", "--id", "g")
    desk.does("checkpoint", "--out", "heads.json")
    assert desk.does("checkpoint").encode() == (desk.folder / "heads.json").read_bytes()
    assert desk.does("verify", "--checkpoint", "heads.json").startswith("sound")
    desk.tampered("DELETE FROM billing_journal WHERE id = 'g'")
    assert desk("rebuild", "--yes")[0] == 2  # that would wipe out the last trace
    desk.does("rebuild", "--yes", "--accept-loss")
    assert desk("verify")[0] == 0
    status, out, _ = desk("verify", "--checkpoint", "heads.json")
    assert (status, out) == (1, "account acct_1: entries 3 to 3 of the checkpoint are missing\n")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff", b'{"acct_1": 3}', b'{"acct_1": [3]}', b'{"acct_1": [true, "x"]}', b'{"a": ["3", "x"]}'],
)
def test_what_is_no_checkpoint(desk: Desk, content: bytes) -> None:
    """What is no checkpoint is wrong input: status 2, not a ledger that is not sound."""
    (desk.folder / "heads.json").write_bytes(content)
    assert desk.refused("verify", "--checkpoint", "heads.json") == "invalid_document"
    assert desk.refused("verify", "--checkpoint", "missing.json") == "file_unreadable"


# --- names from outside ---


@pytest.mark.parametrize("name", [ESCAPES, "a\udcff", "a\x00b", "\n"])
def test_names_that_are_no_text(desk: Desk, name: str) -> None:
    """Such a name is refused in every place, and shown so that no terminal obeys it."""
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
        assert desk.refused(*args) == "invalid_argument", args
    assert available(desk) == 100


def test_names_of_all_scripts(desk: Desk) -> None:
    """Account names may be of any script, also where the records go to a file and back into a bill."""
    desk.does("open", "客户 1", "--id", "开户")
    desk.top_up("客户 1", "85", "付款", "2026-10-01")
    desk.requests([record(1, account="客户 1")])
    desk.does("records", "客户 1", *OCTOBER, "--out", "month.jsonl")
    desk.does("customers", *OCTOBER, "--out", "customers.json")
    billed = ("invoice", "month.jsonl", "--all", *OCTOBER, "--customers", "customers.json", "--out", "b", "--no-html")
    assert desk.run(*billed)[0] == 0
    assert "客户 1" in desk.does("accounts")
    desk.does("checkpoint", "--out", "heads.json")
    assert desk("verify", "--checkpoint", "heads.json")[0] == 0
