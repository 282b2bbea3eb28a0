"""The command line about bills: what is written, that nothing is written over, and that names can do no harm."""

from __future__ import annotations

import csv
import json
import shutil
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bill_kit import record, written
from brivionix_billing.cli import bill_writer, invoices
from brivionix_billing.invoice import read_document
from cli_kit import ESCAPES, EXAMPLE, SHIPPED, Run

Json = dict[str, Any]
OCTOBER = ("--period", "2026-10")
ROWS = [record(n) for n in range(1, 6)] + [record(n, account="acct_2") for n in range(6, 9)]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bills(run: Run, *more: str, out: str = "bills") -> tuple[int, str, str]:
    """Bill all accounts."""
    return run("invoice", "usage.jsonl", "--all", *OCTOBER, "--out", out, *more)


def edit(path: Path, **changes: Any) -> None:
    """Alter a document without updating its hash."""
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


# --- invoice and verify ---


def test_the_example_is_billed_and_verified(run: Run) -> None:
    """The example file gives eight bills in one series that verify together and one by one."""
    status, out, err = run("invoice", EXAMPLE, "--prices", SHIPPED, "--all", *OCTOBER, "--out", "bills")
    assert (status, err, len(out.splitlines())) == (0, "", 10)
    names = sorted(path.parent.name for path in run.folder.glob("bills/*/invoice.json"))
    assert names == [f"INV-{n:06d}" for n in range(1, 9)]
    status, out, _ = run("verify", "bills", "--usage", EXAMPLE, "--prices", SHIPPED)
    assert (status, out.count(": verified"), out.count("note:")) == (0, 8, 0)
    assert run("verify", "bills/INV-000005/invoice.json", "--usage", EXAMPLE, "--prices", SHIPPED)[0] == 0
    rows = list(csv.DictReader((run.folder / "bills" / "bills.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["id"] for row in rows] == names
    assert {(row["period"], row["from"], row["to"], row["due"]) for row in rows} == {
        ("2026-10", "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z", "")
    }


def test_bills_csv_states_customer_channel_and_amount(run: Run) -> None:
    """bills.csv names the customer, the channel and currency of payment, and the rounded total through it."""
    (run.folder / "customers.json").write_text('{"acct_1": {"name": "Ada", "channel": "rmb"}}', encoding="utf-8")
    status, _, _ = bills(run, "--customers", "customers.json", "--due", "2026-11-30T00:00:00Z")
    (row,) = csv.DictReader((run.folder / "bills" / "bills.csv").read_text(encoding="utf-8").splitlines())
    document = read_document(run.folder / "bills" / "INV-000001" / "invoice.json")
    assert status == 0
    assert (row["customer"], row["channel"], row["currency"]) == ("Ada", "rmb", "CNY")
    assert row["amount"] == row["rounded_rmb"] == document["totals"]["rounded"]["channels"]["rmb"]
    assert (row["issued"], row["due"]) == ("2026-11-01T00:00:00Z", "2026-11-30T00:00:00Z")


@pytest.mark.parametrize("scope", [("--all",), ("--account", "acct_1")])
@pytest.mark.parametrize("step", ["write_bill", "aggregate_usage", "format_csv"])
def test_an_interrupt_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, scope: tuple[str, ...], step: str
) -> None:
    """Ctrl-C while records are read or bills are written leaves no file, and the next run works."""
    run.usage([record(1), record(2, account="acct_2"), record(3, model="gpt-9")])
    module = bill_writer if step == "write_bill" else invoices
    function, calls = getattr(module, step), []

    def interrupt(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        calls.append(result)
        if len(calls) == (2 if step == "write_bill" and scope == ("--all",) else 1):
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(module, step, interrupt)
        status, out, err = run("invoice", "usage.jsonl", *scope, *OCTOBER, "--out", "bills")
    if calls:
        assert (status, out, err) == (130, "", "stopped\n")
        assert not (run.folder / "bills").exists()
        assert run("invoice", "usage.jsonl", *scope, *OCTOBER, "--out", "bills")[0] == 2  # a record is rejected
    assert (run.folder / "bills" / "rejected.jsonl").exists()
    assert not list((run.folder / "bills").glob(".*"))


def test_after_a_run_without_a_bill_the_next_run_works(run: Run) -> None:
    """If no record can be billed, nothing is written, the reasons are on stderr, and the folder can be used again."""
    run.usage([record(3, model="gpt-9")])
    status, out, err = bills(run)
    assert (status, out, (run.folder / "bills").exists()) == (2, "", False)
    assert "1 record, unknown_model, gpt-9, standard: add the model or an alias to the price file" in err
    assert "no billable record of any account" in err
    run.usage([record(1)])
    assert bills(run)[0] == 0


def test_split_bills_verify(run: Run) -> None:
    """--split writes sections into every bill, and verify recomputes them without further options."""
    run.usage([record(n, token=f"key {n % 2}") for n in range(1, 8)])
    assert bills(run, "--split", "token")[0] == 0
    document = read_document(run.folder / "bills" / "INV-000001" / "invoice.json")
    assert [part["name"] for part in document["sections"]["parts"]] == ["key 0", "key 1"]
    assert run("verify", "bills", "--usage", "usage.jsonl")[0] == 0
    status, _, err = bills(run, "--split", "day", out="other")
    assert (status, (run.folder / "other").exists()) == (2, False)
    assert "a bill cannot be split by 'day'" in err


def test_what_a_bill_s_folder_holds(run: Run) -> None:
    """The folder of a bill contains the document, the pages, the lines and the list of records, and no other file."""
    run.usage(ROWS)
    status, out, err = run("invoice", "usage.jsonl", "--account", "acct_2", *OCTOBER, "--out", "b", "--format", "json")
    assert (status, err) == (0, "5 records of other accounts or outside the period were ignored\n")
    assert set(contents(run.folder / "b")) == {
        *("invoice.json", "invoice.html", "invoice.txt", "invoice.csv", "records.txt")
    }
    (row,) = json.loads(out)
    document = read_document(run.folder / "b" / "invoice.json")
    assert (row["hash"], row["credits"]) == (document["hash"], document["totals"]["credits"])
    page = (run.folder / "b" / "invoice.txt").read_text(encoding="utf-8")
    for shown in (
        document["hash"],
        document["totals"]["rounded"]["credits"],
        *document["totals"]["rounded"]["channels"].values(),
    ):
        assert shown in page
    listed = (run.folder / "b" / "records.txt").read_text().splitlines()
    assert sorted(line.split()[1] for line in listed) == ["req_6", "req_7", "req_8"]


@pytest.mark.parametrize("period", ["2026-13", "2026", "2026-10-02/2026-10-01", "x/y", "2026-10/2026-11", "0000-01"])
def test_bad_periods(run: Run, period: str) -> None:
    """An invalid period is rejected, and nothing is written."""
    status, _, err = run("invoice", "usage.jsonl", "--all", f"--period={period}", "--out", "bills")
    assert (status, "[invalid_period]" in err, (run.folder / "bills").exists()) == (2, True, False)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "Asia", "a\0b", "UTC+8"])
def test_bad_zones(run: Run, zone: str) -> None:
    """An unknown time zone is rejected."""
    status, _, err = bills(run, f"--zone={zone}")
    assert (status, "[invalid_period]" in err) == (2, True)


def test_a_series_goes_on_without_gaps(run: Run) -> None:
    """Bills and notes of several runs have consecutive numbers, and each is linked to the previous one."""
    run.usage(ROWS)
    bills(run, "--series", "A")
    run.usage([*ROWS, record(90, at="2026-11-03T00:00:00Z")])
    assert run("invoice", "usage.jsonl", "--all", "--period", "2026-11", "--out", "next", "--after", "bills")[0] == 0
    note = ("--reason", "x", "--issued", "2026-12-01")
    assert run("credit-note", "bills/A-000001/invoice.json", *note, "--after", "next", "--out", "note")[0] == 0
    paths = ["bills/A-000001", "bills/A-000002", "next/A-000003", "note"]
    documents = [read_document(run.folder / path / "invoice.json") for path in paths]
    assert [document["id"] for document in documents] == [f"A-{n:06d}" for n in range(1, 5)]
    for before, after in pairwise(documents):
        assert after["previous"] == {"id": before["id"], "hash": before["hash"]}
    everything = [f"{path}/invoice.json" for path in paths]
    assert run("verify", *everything, "--usage", "usage.jsonl")[0] == 0
    status, _, err = bills(run, "--after", "next", "--series", "B", out="other")
    assert (status, "[series_broken]" in err) == (2, True)
    edit(run.folder / "next/A-000003/invoice.json", issued="2027-01-01T00:00:00Z")
    assert bills(run, "--after", "next", out="third")[0] == 2


def test_nothing_is_written_over(run: Run) -> None:
    """A bill or note is never written to a folder that contains one, and the folder stays unchanged."""
    run.usage([*ROWS, record(60, model="gone")])
    assert bills(run)[0] == 2  # one record is rejected
    assert run("invoice", "usage.jsonl", "--account", "acct_1", *OCTOBER, "--out", "one")[0] == 2
    before = contents(run.folder)
    note = (
        "credit-note",
        "bills/INV-000001/invoice.json",
        "--after",
        "bills",
        "--reason",
        "x",
        "--issued",
        "2026-12-01",
    )
    for args in (
        ("invoice", "usage.jsonl", "--all", *OCTOBER, "--out", "bills"),
        ("invoice", "usage.jsonl", "--account", "acct_1", *OCTOBER, "--out", "bills"),
        ("invoice", "usage.jsonl", "--account", "acct_1", *OCTOBER, "--out", "bills/INV-000001"),
        ("invoice", "usage.jsonl", "--account", "acct_2", *OCTOBER, "--out", "one"),
        (*note, "--out", "one"),
        (*note, "--out", "bills/INV-000002"),
        (*note, "--out", "bills", "--usage", "usage.jsonl"),
    ):
        status, out, err = run(*args)
        assert (status, out, "exists already" in err or "already contains" in err) == (2, "", True), args
        assert contents(run.folder) == before


@pytest.mark.parametrize("name", ["invoice.html", "invoice.txt", "invoice.csv", "records.txt", "rejected.jsonl"])
def test_files_of_others_are_not_written_over(run: Run, name: str) -> None:
    """A user's file with the name of an output file stays unchanged."""
    (run.folder / "b").mkdir()
    (run.folder / "b" / name).write_text("mine")
    run.usage([*ROWS, record(60, model="gone")])
    assert run("invoice", "usage.jsonl", "--account", "acct_1", *OCTOBER, "--out", "b")[0] == 2
    assert contents(run.folder / "b")[name] == b"mine"


def test_set_aside_is_listed(run: Run) -> None:
    """Records that cannot be billed are listed with the reason, the others are billed, and the status is 2."""
    run.usage([record(1), record(2, model="gone"), record(3), record(3)])
    status, out, err = bills(run)
    assert (status, "INV-000001" in out) == (2, True)
    assert "1 record rejected, NOT billed" in err
    assert "line 4: request id req_3 is repeated" in err
    (row,) = map(json.loads, (run.folder / "bills/rejected.jsonl").read_text(encoding="utf-8").splitlines())
    assert (row["request_id"], row["code"]) == ("req_2", "unknown_model")


def test_nobody_to_bill(run: Run) -> None:
    """An account or a month without usage gives an error and no bill."""
    for args in (("--account", "nobody", *OCTOBER), ("--all", "--period", "2027-01")):
        status, out, err = run("invoice", "usage.jsonl", *args, "--out", "b")
        assert (status, out, "[no_usage]" in err) == (2, "", True)
        assert contents(run.folder / "b") == {}


def test_verify_says_what_differs(run: Run) -> None:
    """A bill that does not verify gives status 1, and text or JSON that names the location."""
    bills(run)
    path = run.folder / "bills/INV-000001/invoice.json"
    document = read_document(path)
    edit(path, totals={**document["totals"], "credits": "1"})
    status, out, _ = run("verify", "bills", "--usage", "usage.jsonl")
    assert (status, "DOES NOT VERIFY" in out, "totals.credits: the bill states '1'" in out) == (1, True, True)
    (found,) = json.loads(run("verify", "bills", "--usage", "usage.jsonl", "--format", "json")[1])
    assert (found["verified"], found["id"]) == (False, "INV-000001")
    assert {"hash", "totals.credits"} == {difference["where"] for difference in found["differences"]}
    status, _, err = run("verify", "bills")
    assert (status, "--usage" in err) == (2, True)


def test_verify_finds_the_chain_beside(run: Run) -> None:
    """The previous document is searched in the sibling folders, and an altered one is reported."""
    run.usage(ROWS)
    bills(run)
    second = "bills/INV-000002/invoice.json"
    assert "note" not in run("verify", second, "--usage", "usage.jsonl")[1]
    edit(run.folder / "bills/INV-000001/invoice.json", due="2027-01-01T00:00:00Z")
    status, out, _ = run("verify", second, "--usage", "usage.jsonl")
    assert (status, "previous:" in out) == (1, True)
    shutil.rmtree(run.folder / "bills/INV-000001")
    status, out, _ = run("verify", second, "--usage", "usage.jsonl")
    assert (status, "was not given" in out) == (0, True)
    edit(run.folder / second, previous={"id": "../..", "hash": "sha256:" + "0" * 64})
    assert run("verify", second, "--usage", "usage.jsonl")[0] == 1


def test_signatures(run: Run) -> None:
    """A bill signed by a key verifies with its public key and with no other."""
    for name in ("ours", "other"):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (run.folder / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (run.folder / f"{name}.pub").write_bytes(public)
    assert bills(run, "--sign-key", "ours.pem")[0] == 0
    assert run("verify", "bills", "--usage", "usage.jsonl", "--key", "ours.pub")[0] == 0
    assert run("verify", "bills", "--usage", "usage.jsonl", "--key", "other.pub")[0] == 1
    assert run("verify", "bills", "--usage", "usage.jsonl", "--key", "ours.pem")[0] == 2
    assert bills(run, "--sign-key", "ours.pub", out="b2")[0] == 2
    assert bills(run, out="unsigned")[0] == 0
    assert run("verify", "unsigned", "--usage", "usage.jsonl", "--key", "ours.pub")[0] == 1


def test_options_that_would_hold_for_several_bills_are_refused(run: Run) -> None:
    """Options of one customer or one document are rejected together with several."""
    run.usage(ROWS)
    assert bills(run, "--customer", "Ada")[0] == 2
    assert not (run.folder / "bills").exists()
    assert bills(run)[0] == 0
    for option in ("--previous", "--corrects", "--records"):
        status, _, err = run("verify", "bills", "--usage", "usage.jsonl", option, "bills/INV-000001/invoice.json")
        assert (status, "one document" in err) == (2, True)


# --- notes and proofs ---


def test_notes(run: Run) -> None:
    """A note corrects a bill by the corrected usage and verifies with it; without usage it cancels the bill."""
    run.usage(ROWS)
    bills(run)
    (run.folder / "right.jsonl").write_bytes(written(ROWS[1:]))
    bill = "bills/INV-000001/invoice.json"
    base = ("credit-note", bill, "--reason", "overbilled", "--issued", "2026-11-05")
    status, _, err = run(*base, "--usage", "usage.jsonl", "--after", "bills", "--out", "same")
    assert (status, "nothing to correct" in err) == (2, True)
    for unset in (("--usage", ""), ("--query", "", "--db", "sqlite:///usage.db"), ("--void", ""), ("--sign-key", "")):
        assert run(*base, *unset, "--after", "bills", "--out", "empty")[0] == 2  # not a bill that is cancelled
    partial = (*base, "--usage", "right.jsonl", "--after", "bills", "--out", "bills/INV-000003")
    assert run(*partial)[0] == 0
    status, out, _ = run("verify", "bills/INV-000003", "--usage", "right.jsonl")
    assert (status, out.count(": verified"), out.count("note:"), "INV-000001" in out) == (0, 1, 1, True)
    assert run("verify", "bills/INV-000001", "bills/INV-000003", "--usage", "usage.jsonl")[0] == 1  # other usage
    status, _, err = run(*base, "--usage", "right.jsonl", "--after", "bills", "--out", "twice")
    assert (status, "INV-000001 with its notes" in err) == (2, True)  # case 28: no money goes back twice
    other = ("credit-note", "bills/INV-000002/invoice.json", *base[2:])
    assert run(*other, "--after", "bills", "--out", "bills/INV-000004")[0] == 0
    assert run("verify", "bills/INV-000004")[0] == 0
    note = read_document(run.folder / "bills/INV-000004/invoice.json")
    assert (note["kind"], note["number"], note["corrects"]["id"]) == ("credit_note", 4, "INV-000002")
    assert "Credit note INV-000004" in (run.folder / "bills/INV-000004/invoice.txt").read_text(encoding="utf-8")
    status, _, err = run(*base, "--usage", "right.jsonl", "--after", bill, "--out", "fork")
    assert (status, "not the last document of its series" in err) == (2, True)
    status, _, err = run(base[0], "bills/INV-000004/invoice.json", *base[2:], "--after", "bills", "--out", "again")
    assert (status, "only a bill" in err) == (2, True)
    edit(run.folder / bill, due="2027-01-01T00:00:00Z")
    status, _, err = run(*base, "--after", "bills", "--out", "changed")
    assert (status, "was altered" in err) == (2, True)


def test_further_notes_and_late_usage(run: Run) -> None:
    """A second note and a voiding note follow the first one; a later bill has late usage; all of them verify."""
    run.usage(ROWS)
    bills(run)
    (run.folder / "right.jsonl").write_bytes(written(ROWS[1:]))
    november = record(1, request_id="nov", at="2026-11-02T00:00:00Z")
    (run.folder / "all.jsonl").write_bytes(written([*ROWS, record(70, request_id="late"), november]))
    note = (
        "credit-note",
        "bills/INV-000001/invoice.json",
        "--reason",
        "r",
        "--issued",
        "2026-11-05",
        "--after",
        "bills",
    )
    assert run(*note, "--usage", "right.jsonl", "--out", "bills/INV-000003")[0] == 0
    status, _, err = run(*note, "--void", "INV-000003", "--usage", "right.jsonl", "--out", "x")
    assert (status, "remove --usage" in err) == (2, True)
    assert run(*note, "--void", "INV-000003", "--out", "bills/INV-000004")[0] == 0
    text = (run.folder / "bills/INV-000004/invoice.txt").read_text(encoding="utf-8")
    assert ("Voids     INV-000003" in text, "INV-000001 after all notes: " in text) == (True, True)
    later = ("--account", "acct_1", "--period", "2026-11", "--late", "bills", "--after", "bills")
    status, _, err = run("invoice", "-", *later, "--out", "y")
    assert (status, "several times" in err) == (2, True)
    assert run("invoice", "all.jsonl", *later, "--out", "bills/INV-000005")[0] == 0
    text = (run.folder / "bills/INV-000005/invoice.txt").read_text(encoding="utf-8")
    assert "Contains late usage of 2026-10 (INV-000001): " in text
    for month in ("2026-10", "2026-11"):
        _, _, err = run("export", "focus", "all.jsonl", "--period", month, "--bills", "bills", "--out", "focus.csv")
        assert "INV-000005 of 2026-11 contains late usage of 2026-10" in err
    documents = ("bills/INV-000003", "bills/INV-000004", "bills/INV-000001")
    _, out, _ = run("verify", *documents, "--usage", "right.jsonl")
    assert "note: INV-000001 with INV-000003, INV-000004: " in out
    assert run("verify", "bills/INV-000004", "bills/INV-000005", "--usage", "all.jsonl")[0] == 0
    shutil.copytree(run.folder / "bills/INV-000003", run.folder / "bills/copy")
    edit(run.folder / "bills/copy/invoice.json", id="INV-000006", number=6)
    status, out, _ = run("verify", "bills", "--usage", "all.jsonl")
    assert (status, "already corrected by INV-000003, but INV-000006 does not follow it" in out) == (1, True)


def test_proofs(run: Run) -> None:
    """``prove`` prints a proof that ``verify`` confirms without the usage file, for this bill alone."""
    run.usage(ROWS)
    bills(run)
    first, second = (f"bills/INV-{n:06d}/invoice.json" for n in (1, 2))
    status, out, err = run("prove", first, "--usage", "usage.jsonl", "--request", "req_3")
    assert (status, err) == (0, "")
    (run.folder / "proof.json").write_text(out)
    status, out, _ = run("verify", first, "--proof", "proof.json")
    assert (status, "the proof matches (not signed): request req_3 is in INV-000001" in out) == (0, True)
    status, out, _ = run("verify", second, "--proof", "proof.json")
    assert (status, "is NOT valid" in out) == (1, True)
    assert run("verify", first, second, "--proof", "proof.json")[0] == 2
    status, _, err = run("prove", second, "--usage", "usage.jsonl", "--request", "req_3")
    assert (status, "[not_in_bill]" in err) == (2, True)
    assert run("prove", first, "--usage", "usage.jsonl", "--request", "\udcff")[0] == 2


# --- names that could do harm ---


def clean(shown: str) -> bool:
    """Return true if the text has no character that a terminal obeys."""
    return not {c for c in shown if not c.isprintable() and c != "\n"}


def test_escapes_in_a_document_reach_no_terminal(run: Run) -> None:
    """Escape codes in any value of a document or a proof never reach the output raw."""
    bills(run)
    path = run.folder / "bills/INV-000001/invoice.json"
    document = read_document(path)
    out = run("prove", str(path), "--usage", "usage.jsonl", "--request", "req_1")[1]
    proof = json.loads(out)
    changes: list[Json] = [{name: ESCAPES} for name in document]
    changes += [{"id": f"{ESCAPES}\nINV-000001: verified"}, {"signing_key": [ESCAPES]}, {ESCAPES: 1}]
    changes += [
        {"customer": {**document["customer"], "account": ESCAPES}},
        {"previous": {"id": ESCAPES, "hash": ESCAPES}},
    ]
    changes += [
        {"lines": [{**document["lines"][0], "model": ESCAPES}]},
        {"period": {**document["period"], "zone": ESCAPES}},
    ]
    (run.folder / "proof.json").write_text(json.dumps(proof))
    for change in changes:
        path.write_text(json.dumps({**document, **change}))
        for args in (
            ("--usage", "usage.jsonl"),
            ("--usage", "usage.jsonl", "--format", "json"),
            ("--proof", "proof.json"),
        ):
            status, out, err = run("verify", str(path), *args)
            assert status in (1, 2)
            assert clean(out + err), (change, out)
        assert "\nINV-000001: verified" not in run("verify", str(path), "--usage", "usage.jsonl")[1]
    path.write_text(json.dumps(document))
    for change in (
        {"document": {"id": ESCAPES}},
        {"record": {**proof["record"], "account": ESCAPES}},
        {ESCAPES: ESCAPES},
    ):
        (run.folder / "proof.json").write_text(json.dumps({**proof, **change}))
        assert clean(run("verify", str(path), "--proof", "proof.json")[1])


def test_escapes_in_files_reach_no_terminal(run: Run) -> None:
    """Escape codes in names of a usage file or in a price file, or given as arguments, never reach the output raw."""
    run.usage([record(1), record(2, account=ESCAPES), record(3, model=f"a{ESCAPES}"), record(4, group="\x1b]0;x\x07")])
    for kind in ("json", "csv"):
        _, out, err = run("rate", "usage.jsonl", "--format", kind)
        assert clean(out + err)
    _, out, err = bills(run, "--customer", ESCAPES, "--issuer", f"We{ESCAPES}", "--format", "table")
    assert clean(out + err)
    assert all(clean(p.read_text(encoding="utf-8")) for p in run.folder.glob("bills/**/*.txt"))
    prices = (run.folder / "pricing.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("beta:", f'"{json.dumps(ESCAPES)[1:-1]}":'),
        ("currency: CNY", f"currency: {json.dumps(ESCAPES)}"),
    ):
        (run.folder / "bad.yaml").write_text(prices.replace(old, new, 1), encoding="utf-8")
        for args in (
            ("check", "bad.yaml"),
            ("check", "bad.yaml", "--format", "json"),
            ("prices", "--prices", "bad.yaml"),
        ):
            status, out, err = run(*args)
            assert status == 2
            assert clean(out + err), args


@pytest.mark.parametrize("name", ["=1+1", "+1", "@SUM(A1)", "-2+3+cmd|' /C calc'!A0", "-A1", "=HYPERLINK(1)"])
def test_formulas_in_csv(run: Run, name: str) -> None:
    """A name that a spreadsheet would run as a formula is written as text; negative numbers stay numbers."""
    run.usage([record(1, account=name, request_id=name)])
    (row,) = csv.DictReader(run("rate", "usage.jsonl", "--format", "csv")[1].splitlines())
    assert (row["account"], row["request_id"]) == ("'" + name, "'" + name)
    out = bills(run, "--format", "csv")[1]
    for content in (out, (run.folder / "bills/bills.csv").read_text(encoding="utf-8")):
        (row,) = csv.DictReader(content.splitlines())
        assert (row["account"], row["credits"][0].isdigit()) == ("'" + name, True)


def test_a_table_shows_the_channels_of_every_bill(run: Run) -> None:
    """A channel that only a later bill has is a column in the table of all bills."""
    run.usage([record(1, at="2026-10-02T00:00:00Z"), record(2, account="b", at="2026-10-20T00:00:00Z")])
    assert "konbini" in bills(run)[1].splitlines()[0]


@pytest.mark.parametrize(
    "wrong",
    [("--issuer", " "), ("--issuer", "x" * 300), ("--series", "x" * 300), ("--issued", "soon"), ("--due", "soon")],
)
def test_a_heading_that_no_document_may_have(run: Run, wrong: tuple[str, str]) -> None:
    """Arguments of a bill that could not verify are rejected, and no bill is written."""
    status, _, err = bills(run, *wrong)
    written_bills = list(run.folder.glob("bills/**/invoice.json"))
    assert (status, bool(err), written_bills) == (2, True, [])


def test_money_asked_for_twice_shows_side_by_side(run: Run) -> None:
    """Two bills of one account with overlapping periods, each valid alone, do not verify together."""
    run.usage(ROWS)
    for out, period in (("one", "2026-10"), ("two", "2026-10-01/2026-11-01")):
        arguments = ("--account", "acct_1", "--period", period, "--out", f"bills/{out}")
        after = ("--after", "bills/one") if out == "two" else ()
        assert run("invoice", "usage.jsonl", *arguments, *after)[0] == 0
    status, out, _ = run("verify", "bills", "--usage", "usage.jsonl")
    assert (status, "overlaps the period of INV-000001" in out) == (1, True)


@pytest.mark.parametrize("series", ["../up", "/root", "a/b", "..", "a b", "\x1b[31m", "x" * 65])
def test_a_series_is_no_path(run: Run, series: str) -> None:
    """A series is part of folder names, so only letters, digits and . _ - are accepted."""
    run.usage(ROWS)
    status, _, err = bills(run, "--series", series)
    assert (status, "Traceback" in err, list(run.folder.rglob("invoice.json"))) == (2, False, [])


def test_a_usage_file_that_cannot_be_read_is_no_verdict(run: Run) -> None:
    """If the usage file is missing, the exit status is that of invalid input, not of a failed check."""
    run.usage(ROWS)
    bills(run)
    status, out, err = run("verify", "bills", "--usage", "gone.jsonl")
    assert (status, out, "gone.jsonl" in err) == (2, "", True)


def test_a_price_table_names_its_group_and_rounds_nothing(run: Run) -> None:
    """Cases 25 and 26: every row names the group; small prices show all their digits, and none shows as zero."""
    prices = (run.folder / "pricing.yaml").read_text(encoding="utf-8")
    tiny = prices.replace(
        "input: 0.75, cache_read: 0.075, output: 4.5", "input: 0.0125, cache_read: 1e-7, output: 0.0045"
    )
    assert tiny != prices
    (run.folder / "pricing.yaml").write_text(tiny, encoding="utf-8")
    for group, ratio in (("default", 1), ("own", Decimal("0.333"))):
        _, out, _ = run("prices", "--group", group, "--at", "2026-10-10", "--format", "json")
        rows = json.loads(out)
        assert {row["group"] for row in rows} == {group}
        [beta] = [row for row in rows if row["model"] == "beta" and row["service_tier"] == "standard"]
        shown = [Decimal(beta[meter]) for meter in ("input", "cache_read", "output")]
        assert shown == [Decimal(price) * ratio for price in ("0.0125", "1e-7", "0.0045")]
        _, table, _ = run("prices", "--group", group, "--at", "2026-10-10")
        assert beta["cache_read"] in table
        assert "0.0000001"[:4] in beta["cache_read"]
