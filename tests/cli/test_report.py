"""Claims about the command report."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bill_kit import record, written
from brivionix_billing.cli import main
from brivionix_billing.cli import report as command
from brivionix_billing.report import build_report
from cli_kit import Run
from report_kit import cost_text


def read(name: str, run: Run) -> list[dict[str, str]]:
    """Return the rows of a CSV file in the folder."""
    return list(csv.DictReader(io.StringIO((run.folder / name).read_text(encoding="utf-8"))))


def test_the_report_is_that_of_the_bills(run: Run) -> None:
    """The rows by account have the totals that invoice writes for the same period."""
    run.usage([record(n, account=f"acct_{n % 3}") for n in range(1, 20)])
    status, out, _ = run("report", "usage.jsonl", "--by", "account", "--period", "2026-10", "--format", "csv")
    rows = {row["account"]: row for row in csv.DictReader(io.StringIO(out))}
    run("invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "bills")
    documents = [json.loads(path.read_text()) for path in run.folder.glob("bills/*/invoice.json")]
    assert status == 0
    assert len(documents) == len(rows) == 3
    for document in documents:
        row = rows[document["customer"]["account"]]
        assert row["credits"] == document["totals"]["credits"]
        assert row["rounded_rmb_CNY"] == document["totals"]["rounded"]["channels"]["rmb"]


def test_rejected_records_are_summarised_with_advice(run: Run) -> None:
    """stderr groups rejected records by code, model and tier with advice, and the status is 2; stdout is the report."""
    rows = [record(n, model="gpt-9") for n in (3, 6)]
    run.usage([record(1), record(1), *rows])
    status, out, err = run("report", "usage.jsonl", "--by", "model", "--format", "json", "--rejected", "rejected.csv")
    assert status == 2
    found = json.loads(out)
    assert found["records"] == {"lines": 4, "billed": 1, "duplicates": 1, "rejected": 2, "out_of_scope": 0}
    assert "2 records rejected, NOT billed:" in err
    assert "2 records, unknown_model, gpt-9, standard: add the model" in err
    assert "repeated with the same content; counted once" in err
    assert len(read("rejected.csv", run)) == 2


def test_margins_and_losses(run: Run) -> None:
    """--costs adds margins; --losses has every loss with its reason; stderr states what the costs are based on."""
    (run.folder / "costs.yaml").write_text(cost_text(ratio="2"), encoding="utf-8")
    status, out, err = run(
        *("report", "usage.jsonl", "--by", "model", "--costs", "costs.yaml", "--losses", "losses.csv"),
        *("--format", "json", "--channel", "stripe"),
    )
    assert status == 0
    assert json.loads(out)["margin"]["losses"] == 5
    rows = read("losses.csv", run)
    assert {row["reason"] for row in rows} == {"price"}
    assert all(row["margin_stripe_USD"].startswith("-") for row in rows)
    assert "margin of channel stripe: cost by nominal price of the cost book, 1 USD per Credit" in err


def test_another_price_file(run: Run) -> None:
    """--compare adds the difference, and --changed-requests every request whose charge differs."""
    text = (run.folder / "pricing.yaml").read_text(encoding="utf-8")
    (run.folder / "other.yaml").write_text(
        text.replace("input: 6, output: 24", "input: 7, output: 24"), encoding="utf-8"
    )
    run.usage([record(n) for n in range(1, 60)])
    status, out, _ = run(
        *("report", "usage.jsonl", "--by", "account", "--compare", "other.yaml"),
        *("--changed-requests", "changed.csv", "--format", "json"),
    )
    found = json.loads(out)
    rows = read("changed.csv", run)
    assert status == 0
    assert found["comparison"]["changed_requests"] == len(rows) > 0
    assert found["comparison"]["accounts"][0]["difference"] == found["total"]["difference_credits"] != "0"


def test_several_usage_files_are_one_report(run: Run, tmp_path: Path) -> None:
    """Files and patterns follow one another; a record in two of them counts once."""
    (run.folder / "more.jsonl").write_bytes(written([record(5), record(6)]))
    status, out, err = run("report", "usage.jsonl", "more.jsonl", "--by", "account", "--format", "json")
    assert status == 0
    assert json.loads(out)["records"]["billed"] == 6
    assert "line 6: request id req_5 is repeated" in err


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "xlsx", "html", "table"])
def test_every_format_is_written_as_a_whole(run: Run, kind: str) -> None:
    """--out writes every format into a file that replaces what was there, and nothing to stdout."""
    (run.folder / "out").write_text("old")
    status, out, err = run("report", "usage.jsonl", "--by", "day", "--format", kind, "--out", "out")
    content = (run.folder / "out").read_bytes()
    assert (status, out) == (0, "")
    assert content != b"old"
    assert f"out: {len(content)} bytes" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "xlsx"), "--format xlsx needs a file; add --out FILE"),
        (("--losses", "l.csv"), "--losses needs --costs; add --costs FILE"),
        (("--changed-requests", "c.csv"), "--changed-requests needs --compare; add --compare FILE"),
        (("--by", "colour"), "'colour' is not a column to split by"),
        (("--out", "usage.jsonl"), "'usage.jsonl' is named twice"),
        (("--costs", "none.yaml"), "cannot read"),
    ],
)
def test_wrong_arguments_name_the_fix(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """A wrong argument is an error before the usage is read, and writes nothing."""
    before = sorted(run.folder.iterdir())
    status, out, err = run("report", "usage.jsonl", "--by", "account", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert sorted(run.folder.iterdir()) == before


@pytest.mark.parametrize("kind", ["csv", "xlsx", "html"])
def test_an_interrupt_leaves_the_old_files(run: Run, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Ctrl-C while usage is read keeps the files of an earlier run as they were, and leaves no draft."""
    (run.folder / "costs.yaml").write_text(cost_text(ratio="2"), encoding="utf-8")
    arguments = ["report", "usage.jsonl", "--by", "account", "--costs", "costs.yaml", "--losses", "losses.csv"]
    arguments += ("--rejected", "rejected.csv", "--format", kind, "--out", "out")
    assert run(*arguments)[0] == 0
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}

    def interrupt(*_: Any, on_loss: Any, **options: Any) -> Any:
        build_report(*_, on_loss=on_loss, **options)  # rows are written
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "build_report", interrupt)
    assert run(*arguments) == (130, "", "stopped\n")
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_progress_and_remaining_time_are_shown_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, stderr shows lines and the part that was read; elsewhere it shows nothing."""
    assert run("report", "usage.jsonl", "--by", "account")[2] == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    main(["report", "usage.jsonl", "--by", "account"])
    assert "5 lines, 0 MB, 100 %, 0:00 left" in run.capsys.readouterr().err


def test_usage_of_a_database(run: Run) -> None:
    """--query and --db read a database, for reports, bills and their verification; the password is never shown."""
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(run.folder / "logs.db") as database:
        database.execute("CREATE TABLE logs (id, at, account, model, input_tokens, output_tokens)")
        rows = [(f"r{n}", f"2026-10-0{n}T00:00:00Z", "ada", "alpha", 900 + n, 10) for n in range(1, 6)]
        database.executemany("INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.close()
    source = ["--query", "SELECT * FROM logs", "--db", "sqlite:///logs.db"]
    source += ("--map", "request_id=id", "--set", "group=half")
    status, out, _ = run("report", *source, "--by", "account", "--format", "json")
    assert (status, json.loads(out)["total"]["requests"]) == (0, 5)
    assert run("invoice", *source, "--all", "--period", "2026-10", "--out", "bills")[0] == 0
    assert run("verify", "bills", *source)[0] == 0
    for arguments in (("report", "--by", "day"), ("report", "usage.jsonl", *source, "--by", "day")):
        status, _, err = run(*arguments)
        assert status == 2
        assert "name USAGE, or give --query SQL and --db URL, not both" in err
    assert run("report", "--query", "", "--db", "sqlite:///logs.db", "--by", "day")[0] == 2
    wrong = ("--query", "SELECT 1", "--db", "sqlite:////none/secret:word@x")
    assert "secret" not in run("report", *wrong, "--by", "day")[2]
