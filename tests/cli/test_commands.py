"""The command line: what each command prints, its exit status, and that no input makes it stumble."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from argparse import _SubParsersAction
from pathlib import Path
from typing import Any

import pytest

from bill_kit import body, record, text
from brivionix_billing import __version__
from brivionix_billing.cli import _MODULES, _parser, main
from brivionix_billing.cli.parser import CommandParser
from cli_kit import COMMANDS, ESCAPES, EXAMPLE, SHIPPED, Run

# --- help ---


def test_help_of_each_command(run: Run) -> None:
    """Each command has help, the program lists all commands, and every option is explained."""
    status, out, _ = run("--help")
    assert status == 0
    assert all(f"\n    {name}" in out for name in COMMANDS)
    for name in COMMANDS:
        status, out, _ = run(name, "--help")
        assert (status, out.startswith(f"usage: brivionix-billing {name}")) == (0, True)
        assert name == "schema" or "--prices FILE" in out
    assert run("--version") == (0, f"brivionix-billing {__version__}\n", "")


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("bill",),
        ("explain", "usage.jsonl"),
        ("prices", "--view", "x"),
        ("check", "a", "b"),
        ("quote", "--cha", "rmb"),
    ],
)
def test_wrong_arguments(run: Run, args: tuple[str, ...]) -> None:
    """A missing, unknown or abbreviated argument is reported on stderr with status 2."""
    status, out, err = run(*args)
    assert (status, out) == (2, "")
    assert err.startswith("usage:")


def test_parsers_of_other_commands_are_not_built(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line builds the parser of its command only: all together take longer than most commands run."""
    built: list[str] = []
    create = CommandParser.__init__

    def note(parser: CommandParser, **settings: Any) -> None:
        create(parser, **settings)
        built.append(parser.prog.removeprefix("brivionix-billing").strip())

    monkeypatch.setattr(CommandParser, "__init__", note)
    assert run("ledger", "topup", "--help")[0] == 0
    assert built == ["", "ledger", "ledger topup"]


def test_modules_of_other_commands_are_not_imported(run: Run) -> None:
    """A command imports its own module only."""
    code = "import sys; from brivionix_billing.cli import main; main(['--debug', 'check']); print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=run.folder, capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in process.stdout.split() if name.startswith("brivionix_billing.cli.")}
    assert loaded & _MODULES.keys() == {"prices"}
    assert "sqlalchemy" not in process.stdout.split()


def test_the_table_of_modules_has_every_command() -> None:
    """Each command is in the table, so that it does not import all modules."""
    built = next(action for action in _parser()._actions if isinstance(action, _SubParsersAction))
    assert [name for names in _MODULES.values() for name in names] == list(built.choices)


# --- check, schema ---


def test_check(run: Run) -> None:
    """``check`` reports a valid file with its digest, or every finding with its location, as text or JSON."""
    status, out, err = run("check", SHIPPED)
    assert (status, err) == (0, "")
    assert "valid; 5 models, 5 groups, 2 channels; sha256:" in out
    assert json.loads(run("check", "--format", "json", SHIPPED)[1])["valid"] is True
    (run.folder / "bad.yaml").write_text(
        text().replace("ratio: 0,", "ratio: -1,").replace("currency: CNY", "currency: XXY")
    )
    status, out, err = run("check", "bad.yaml")
    assert (status, err) == (2, "bad.yaml: invalid, 2 findings\n")
    assert [line.split(":")[0] for line in out.splitlines()] == ["bad.yaml", "bad.yaml"]
    found = json.loads(run("check", "--prices", "bad.yaml", "--format", "json")[1])
    assert (found["valid"], len(found["findings"])) == (False, 2)
    assert {"file", "line", "column", "path", "message", "hint"} == set(found["findings"][0])


@pytest.mark.parametrize("of", ["pricing", "invoice", "receipt", "price-list"])
def test_schema(run: Run, of: str) -> None:
    """``schema`` prints a JSON Schema."""
    status, out, _ = run("schema", of)
    assert (status, json.loads(out)["$schema"]) == (0, "https://json-schema.org/draft/2020-12/schema")


# --- prices, quote ---


def test_prices(run: Run) -> None:
    """``prices`` prints the same prices of a group as a table that names the group, as JSON and as CSV."""
    args = ("prices", "--prices", SHIPPED, "--group", "coding", "--at", "2026-10-20")
    status, out, err = run(*args)
    assert (status, err) == (0, "")
    assert "Group coding" in out  # case 26: the group is named
    assert "gpt-5.2" not in out
    rows = json.loads(run(*args, "--format", "json")[1])
    table = list(csv.DictReader(io.StringIO(run(*args, "--format", "csv")[1])))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    codex = next(row for row in rows if row["model"] == "gpt-5.3-codex" and row["service_tier"] == "standard")
    assert (codex["group"], codex["input"], codex["output"]) == ("coding", "1.4", "11.2")


def test_prices_of_a_channel(run: Run) -> None:
    """The top-up view shows money on each channel, or on the requested one."""
    args = ("prices", "--prices", SHIPPED, "--view", "topup", "--at", "2026-10-01", "--format", "json")
    rows = json.loads(run(*args)[1])
    assert {row["channel"] for row in rows} == {"rmb", "stripe"}
    (row,) = [r for r in json.loads(run(*args, "--channel", "rmb")[1]) if r["model"] == "gpt-5.4-mini"]
    assert (row["input"], row["output"]) == ("0.6375", "3.825")  # 0.85 x 0.75, 0.85 x 4.5
    assert "has no effect" in run("prices", "--prices", SHIPPED, "--channel", "rmb")[2]


def test_quote(run: Run) -> None:
    """``quote`` prints what Credits cost or money buys, as text, JSON and CSV."""
    args = ("quote", "--prices", SHIPPED, "--channel", "rmb", "--at", "2026-10-01")
    assert "pay 85.00 CNY, get 100 Credits" in run(*args, "--credits", "100")[1]
    (row,) = json.loads(run(*args, "--pay", "0.85", "--format", "json")[1])
    assert (row["credits"], row["pay"], row["currency"]) == ("1", "0.85", "CNY")
    assert run(*args, "--pay", "0.85", "--format", "csv")[1].splitlines()[1].startswith("rmb,")


@pytest.mark.parametrize(
    "amount", ["1e999", "1e99", "-1", "0", "nan", "inf", "abc", "1,5", "1_0", "0x1", "9" * 99, "١", "1 "]
)
@pytest.mark.parametrize("option", ["--credits", "--pay"])
def test_bad_amounts(run: Run, option: str, amount: str) -> None:
    """An invalid or out-of-range amount is rejected with a message and status 2."""
    status, out, err = run("quote", "--prices", SHIPPED, "--channel", "rmb", f"{option}={amount}", "--at", "2026-10-01")
    assert (status, out) == (2, "") or (amount == "1e99" and status == 0)
    assert err.startswith("error: ") or status == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("prices", "--group", "nobody"), "unknown_group"),
        (("prices", "--at", "yesterday"), "invalid_time"),
        (("prices", "--at", "2026-13-01"), "invalid_time"),
        (("prices", "--at", "2026-10-01T00:00:00"), "invalid_time"),
        (("prices", "--view", "topup", "--channel", "paypal"), "unknown_channel"),
        (("quote", "--channel", "paypal", "--pay", "1"), "unknown_channel"),
        (("quote", "--channel", ESCAPES, "--pay", "1"), "unknown_channel"),
        (("quote", "--channel", "rmb", "--pay", "1", "--at", "1999-01-01"), "unknown_channel"),
        (("explain", "usage.jsonl", "--request", "nobody"), "invalid_record"),
        (("explain", "usage.jsonl", "--request", "\udcff"), "invalid_record"),
        (("prices", "--group", ESCAPES), "unknown_group"),
    ],
)
def test_unknown_names_and_times(run: Run, args: tuple[str, ...], code: str) -> None:
    """An unknown name or an invalid time is rejected with its code and status 2."""
    status, out, err = run(*args)
    assert (status, out) == (2, "")
    assert err.rstrip().endswith(f"[{code}]")


# --- rate, explain ---


def test_rate(run: Run) -> None:
    """``rate`` prints one charge per line with the fields of docs/cli.md; CSV has the same values, as strings."""
    status, out, err = run("rate", EXAMPLE, "--prices", SHIPPED)
    rows = [json.loads(line) for line in out.splitlines()]
    assert (status, err, len(rows)) == (0, "", 3000)
    assert {"request_id", "account", "model", "group", "service_tier", "at", "price_book"} <= set(rows[0])
    assert {"credits", "nominal", "cost", "lines"} <= set(rows[0])
    assert type(rows[0]["credits"]) is type(rows[0]["cost"]["rmb"]) is str
    table = list(csv.DictReader(io.StringIO(run("rate", EXAMPLE, "--prices", SHIPPED, "--format", "csv")[1])))
    assert [(r["request_id"], r["credits"], r["cost_rmb"]) for r in table] == [
        (r["request_id"], r["credits"], r["cost"]["rmb"]) for r in rows
    ]


def test_rate_csv_has_a_column_per_channel(run: Run) -> None:
    """Rows from before a channel's first price have an empty cell for it, not the next column's value."""
    run.usage([record(1, at="2026-10-02T00:00:00Z"), record(2, at="2026-10-11T00:00:00Z")])
    first, second = csv.DictReader(io.StringIO(run("rate", "usage.jsonl", "--format", "csv")[1]))
    assert (first["cost_konbini"], bool(second["cost_konbini"])) == ("", True)
    assert first["price_book"] == second["price_book"]
    assert first["price_book"].startswith("sha256:")


CONDITIONS = """version: 1
credit: {currency: USD, nominal_per_credit: 1}
regions: {eu: [eu-west]}
exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.14}]}
calendars: {night: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ["00:00-06:00"]}]}}
channels: {rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}}
models:
  plain:
    prices:
      - from: 2026-01-01
        standard:
          input: 1
          cache_read: 0.1
          output: 2
          regions: {eu: {factor: 1.1}}
          modes: {quick: {factor: 3}}
          windows: {night: {factor: 0.5}}
  yuan: {currency: CNY, prices: [{from: 2026-01-01, standard: {input: 8, output: 16}}]}
  router: {routes_to: [plain], prices: [{from: 2026-01-01, standard: {router_fee: 0.14}}]}
groups: {default: {terms: [{from: 2026-01-01, ratio: 1, models: ["*"]}]}}
"""


def test_rate_csv_has_the_same_columns_for_every_record(run: Run) -> None:
    """Each value of each JSON record stands in the column of its name, whatever other records of the file have."""
    (run.folder / "conditions.yaml").write_text(CONDITIONS, "utf-8")
    usage: dict[str, Any] = {"prompt_tokens": 1000, "completion_tokens": 100}
    base: dict[str, Any] = {"account": "a", "group": "default", "at": "2026-03-15T10:00:00Z", "model": "plain"}
    strange = {"type": "message", "input_tokens": 5, "output_tokens": 5, "unheard_of_tokens": 7}
    served = {"model": "plain", "usage": usage}
    records: list[dict[str, Any]] = [
        {"usage": usage},
        {"usage": usage, "region": "eu-west", "at": "2026-03-15T03:00:00Z"},
        {"usage": usage, "mode": "quick"},
        {"usage": usage, "model": "yuan"},
        {"usage": served, "model": "router"},
        {"usage": {"model": "plain", "usage": strange}},
    ]
    run.usage([{"request_id": f"r{n}", **base, **each} for n, each in enumerate(records)])
    args = ("rate", "usage.jsonl", "--prices", "conditions.yaml")
    status, out, err = run(*args)
    assert (status, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    table = list(csv.DictReader(io.StringIO(run(*args, "--format", "csv")[1]), strict=True))
    assert [entry["path"] for entry in rows[5]["unaccounted"]] == ["usage.unheard_of_tokens"]
    for row, cells in zip(rows, table, strict=True):
        assert None not in cells
        costs = row.pop("cost")
        assert {name: cells.pop(f"cost_{name}") for name in costs} == costs
        for name in ("lines", "unaccounted", "warnings"):
            assert json.loads(cells.pop(name)) == row.pop(name, [])
        row["estimated"] = "false"
        assert cells == dict.fromkeys(cells, "") | row
    assert {name for row in rows for name in row} >= {"router", "region", "mode", "window", "list_currency"}
    alone = run("rate", "usage.jsonl", "--prices", "conditions.yaml", "--format", "csv")[1].split("\n", 1)[0]
    run.usage([{"request_id": "r", **base, **records[4]}])
    assert run("rate", "usage.jsonl", "--prices", "conditions.yaml", "--format", "csv")[1].split("\n", 1)[0] == alone


def test_rate_csv_names_the_lines_of_other_models(run: Run) -> None:
    """The cell of the lines has those of every model that served a part of the request, as in JSON."""
    (run.folder / "two.yaml").write_text(CONDITIONS.replace("  yuan:", "  advisor-1:"), "utf-8")
    iterations = [
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
        {"type": "advisor_message", "model": "advisor-1", "input_tokens": 100, "output_tokens": 50},
    ]
    usage = {"input_tokens": 10, "output_tokens": 5, "iterations": iterations}
    body = {"type": "message", "model": "plain", "usage": usage}
    base: dict[str, Any] = {"account": "a", "group": "default", "at": "2026-03-15T10:00:00Z", "model": "plain"}
    run.usage([{"request_id": "r", **base, "usage": body}])
    args = ("rate", "usage.jsonl", "--prices", "two.yaml")
    (row,) = csv.DictReader(io.StringIO(run(*args, "--format", "csv")[1]))
    lines = json.loads(row["lines"])
    assert lines == json.loads(run(*args)[1])["lines"]
    assert {line.get("model") for line in lines} == {None, "advisor-1"}


def test_rate_sets_aside(run: Run) -> None:
    """Lines without a price are reported and stored with reasons, the others are rated, and the status is 2."""
    run.usage([record(1), record(2, model="gone"), record(3), record(3), record(4), record(4, group="half")])
    status, out, err = run("rate", "usage.jsonl", "--rejected", "aside.jsonl")
    assert (status, len(out.splitlines())) == (2, 5)
    assert "line 2: no model 'gone'" in err
    assert "req_3 is in lines 3, 4: the same record" in err
    assert "req_4 is in lines 5, 6: with different contents" in err
    (aside,) = map(json.loads, (run.folder / "aside.jsonl").read_text().splitlines())
    assert (aside["line"], aside["code"], aside["request_id"]) == (2, "unknown_model", "req_2")


def test_rate_writes_over_nothing(run: Run) -> None:
    """An existing file is never replaced by the file of rejected lines, in particular not the usage file."""
    before = (run.folder / "usage.jsonl").read_bytes()
    status, _, err = run("rate", "usage.jsonl", "--rejected", "usage.jsonl")
    assert (status, (run.folder / "usage.jsonl").read_bytes()) == (2, before)
    assert "exists already" in err


def test_many_lines_set_aside_are_not_all_told(run: Run) -> None:
    """Of many rejected lines the first are reported, and the number of the others."""
    run.usage([record(n, model="gone") for n in range(30)])
    status, out, err = run("rate", "usage.jsonl")
    assert (status, out) == (2, "")
    assert "... and 10 more" in err
    assert "30 lines not priced" in err


def test_explain(run: Run) -> None:
    """``explain`` explains one charge in English or Chinese, and reports why a request has none.

    ``zh``, ``zh-CN`` and ``zh-Hans`` mean ``zh_CN``; the message about another language names what is known.
    """
    status, out, _ = run("explain", "usage.jsonl", "--request", "req_3")
    assert (status, "account acct_1" in out, "Quota of the gateway" in out) == (0, True, True)
    status, chinese, _ = run("explain", "usage.jsonl", "--request", "req_3", "--locale", "zh_CN")
    assert (status, chinese.isascii()) == (0, False)
    for name in ("zh", "zh-CN", "zh-Hans"):
        assert run("explain", "usage.jsonl", "--request", "req_3", "--locale", name) == (0, chinese, "")
    status, _, err = run("explain", "usage.jsonl", "--request", "req_3", "--locale", "fr")
    assert (status, "argument --locale: no texts in the language 'fr'; use one of en, zh_CN" in err) == (2, True)
    run.usage([record(1, model="gone")])
    assert run("explain", "usage.jsonl", "--request", "req_1")[::2] == (
        2,
        "error: line 1: no model 'gone' in the price file; add it, or an alias of another model [unknown_model]\n",
    )


# --- files that are none ---


@pytest.fixture
def odd(run: Run) -> dict[str, str]:
    """Return the names of files with invalid content."""
    contents = {
        "empty": b"",
        "binary": bytes(range(256)) * 50,
        "json": b'{"a": 1}',
        "list": b"[]",
        "null": b"null",
        "deep": b"[" * 100_000,
        "utf16": "version: 1".encode("utf-16"),
        "number": b'{"schema": 1, "number": 3}',
        "hash": b'{"schema": "x", "number": 3, "hash": "y", "evidence": {}, "previous": "z", "corrects": 7}',
    }
    for name, content in contents.items():
        (run.folder / name).write_bytes(content)
    (run.folder / "folder").mkdir()
    return {name: name for name in [*contents, "folder", "missing", "missing/too", "nul\0byte", "x" * 5000]}


def test_odd_price_files(run: Run, odd: dict[str, str]) -> None:
    """Any invalid price file gives status 2 and a message, never a traceback."""
    for name in odd.values():
        for args in (("check", name), ("prices", "--prices", name), ("rate", "usage.jsonl", "--prices", name)):
            status, _, err = run(*args)
            assert (status, bool(err)) == (2, True), (name, args)


def test_odd_usage_files(run: Run, odd: dict[str, str]) -> None:
    """Any usage file is handled without a traceback; an empty one has no charge and no bill."""
    for number, name in enumerate(odd.values()):
        status, out, _ = run("rate", name)
        assert (status, out) == (0 if name in ("empty", "list") else 2, "")
        assert run("explain", name, "--request", "a")[0] == 2
        assert run("invoice", name, "--all", "--period", "2026-10", "--out", f"out{number}")[0] == 2
        assert not list((run.folder / f"out{number}").glob("**/invoice.json"))


def test_odd_documents(run: Run, odd: dict[str, str]) -> None:
    """Any file given as a document, proof, key or list is handled without a traceback."""
    assert run("invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "bills")[0] == 0
    bill = "bills/INV-000001/invoice.json"
    note = ("credit-note", bill, "--reason", "r", "--issued", "2026-11-02", "--out", "new")
    for name in odd.values():
        assert run("verify", name, "--usage", "usage.jsonl")[0] in (1, 2)
        assert run("verify", bill, "--proof", name)[0] in (1, 2)
        for option in ("--key", "--previous", "--usage"):
            assert run("verify", bill, "--usage", "usage.jsonl", option, name)[0] in (1, 2), (option, name)
        assert run("verify", bill, "--usage", "empty", "--records", name)[0] in (1, 2)
        assert run("prove", name, "--usage", "usage.jsonl", "--request", "req_1")[0] == 2
        assert run("prove", bill, "--usage", name, "--request", "req_1")[0] == 2
        assert run(*note, "--after", name)[0] == 2
        assert run("credit-note", name, *note[2:], "--after", bill)[0] == 2
        assert run(*note, "--after", bill, "--sign-key", name)[0] == 2
        assert run("invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "new", "--after", name)[0] == 2
    assert not list((run.folder).glob("new/**/invoice.json"))


def test_nothing_readable_is_needed_for_nothing(run: Run) -> None:
    """``--debug`` shows the traceback of a failure."""
    with pytest.raises(Exception, match="missing"):
        main(["--debug", "check", "missing"])


# --- as a process ---


def shell(folder: Path, *args: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program as a process."""
    given = {"cwd": folder, "capture_output": True, "timeout": 60, **how}
    return subprocess.run([sys.executable, "-m", "brivionix_billing.cli", *args], check=False, **given)


def test_a_pipe(run: Run) -> None:
    """``-`` reads stdin, even if the file must be read twice; only results go to stdout."""
    content = (run.folder / "usage.jsonl").read_bytes()
    rated = shell(run.folder, "rate", "-", input=content)
    assert (rated.returncode, rated.stderr, len(rated.stdout.splitlines())) == (0, b"", 5)
    made = shell(run.folder, "invoice", "-", "--account", "acct_1", "--period", "2026-10", "--out", "b", input=content)
    assert (made.returncode, made.stderr) == (0, b"")
    found = shell(run.folder, "verify", "b/invoice.json", "--usage", "-", input=content)
    assert (found.returncode, found.stderr) == (0, b"")
    less = shell(run.folder, "verify", "b/invoice.json", "--usage", "-", input=content[content.index(b"\n") + 1 :])
    assert less.returncode == 1
    assert b"req_1: is in the bill" in less.stdout


def test_a_broken_pipe(run: Run) -> None:
    """If the reader closes the pipe, the command ends with status 0 and without a message."""
    process = subprocess.Popen(
        [sys.executable, "-m", "brivionix_billing.cli", "rate", EXAMPLE, "--prices", SHIPPED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 0)
    process.stderr.close()


def test_any_locale(run: Run) -> None:
    """An ASCII terminal gets results in UTF-8 and messages in ASCII."""
    run.usage([record(1, account="默认"), record(2, model="模型")])
    narrow = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for kind in ("json", "csv"):
        found = shell(run.folder, "rate", "usage.jsonl", "--format", kind, env=narrow)
        assert found.returncode == 2
        assert b"line 2: no model" in found.stderr
        assert b"fault" not in found.stderr
        assert ("默认".encode() in found.stdout) or (b"\\u9ed8\\u8ba4" in found.stdout)
    made = shell(run.folder, "invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "b", env=narrow)
    assert "默认".encode() in made.stdout


def test_usage_of_every_shape(run: Run) -> None:
    """A body of each format is rated."""
    run.usage([record(1, usage=body(kind)) | {"request_id": kind} for kind in ("chat", "responses", "whole")])
    assert run("rate", "usage.jsonl")[0] == 0
