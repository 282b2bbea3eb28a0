"""The command ``ledger``: database, help, accounts, tokens, payments."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bill_kit import BOOK
from brivionix_billing import BillingError, Usage
from brivionix_billing.cli.ledger.common import redacted_url
from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.database.engine import create_ledger_engine
from cli_kit import ESCAPES, Run
from cli_ledger_kit import FIRST, LedgerCommand, available
from paths import DATA

MEMBER_CHANGES = ("add", "freeze", "unfreeze", "remove")
SUBCOMMANDS = (
    *("migrate", "expire", "prune", "verify", "checkpoint", "rebuild", "open", "accounts"),
    *("archive", "restore"),
    *("balance", "lots", "token create"),
    *("freeze", "unfreeze", "limit set", "limit remove", "limit list"),
    *(f"member {name}" for name in (*MEMBER_CHANGES, "list")),
    *("signal set", "signal remove", "signal list", "signals list", "signals lease", "signals acknowledge"),
    *("token change", "token rotate", "token list", "topup", "grant", "adjust", "refund", "dispute", "reverse"),
    *("release", "void", "reverse-charge", "order", "cancel-order", "orders", "payment", "payments"),
    *("journal", "statement", "receipt", "usage", "requests", "records", "customers"),
)


# --- which database ---


@pytest.mark.parametrize("args", [("accounts",), ("open", "a", "--id", "i"), ("verify",), ("rebuild", "--yes")])
def test_a_wrong_name_creates_no_database(run: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    """A missing file is an error that names the command to create it, and it is not created."""
    monkeypatch.delenv("BRIVIONIX_LEDGER", raising=False)
    for db in ("ledgre.db", "sqlite:///ledgre.db"):
        status, out, err = run("ledger", *args, "--db", db)
        assert (status, out) == (2, "")
        assert "there is no ledger 'ledgre.db'" in err
        assert "ledger migrate --db sqlite:///ledgre.db" in err
    assert run("ledger", *args)[0] == 2
    assert not list(run.folder.glob("*.db*"))


def test_a_database_without_tables(run: Run) -> None:
    """A database without tables is an error, and no tables are created."""
    (run.folder / "other.db").touch()
    for _ in range(2):
        status, _, err = run("ledger", "accounts", "--db", "other.db")
        assert (status, err.rpartition(" ")[2]) == (2, "[ledger_version]\n")


def test_a_database_of_another_version(command: LedgerCommand) -> None:
    """Tables of another version are rejected."""
    command.tamper("UPDATE billing_version SET version_num = '9999'")
    assert command.error_code("accounts") == "ledger_version"


@pytest.mark.parametrize(
    ("db", "code"),
    [
        ("sqlite://", "invalid_argument"),
        ("sqlite:///:memory:", "invalid_argument"),
        ("sqlite:///file:x?mode=ro&uri=true", "invalid_argument"),
        ("://", "invalid_argument"),
        ("x\udcff", "invalid_argument"),
        (f"x{ESCAPES}", "invalid_argument"),
        ("pricing.yaml", "ledger_unavailable"),
        (".", "ledger_unavailable"),
        ("postgresql://u:hidden@127.0.0.1:1/x", "ledger_unavailable"),
    ],
)
def test_an_invalid_database(run: Run, db: str, code: str) -> None:
    """An invalid or unreachable database is reported in one line without a password."""
    status, out, err = run("ledger", "accounts", "--db", db)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(f"[{code}]\n")
    assert "hidden" not in err


def test_no_password_is_shown() -> None:
    """A URL is displayed without its password, also if it is an option."""
    engine = create_ledger_engine("postgresql://ada:hidden@host/name?password=hidden&sslmode=require")
    assert redacted_url(engine) == "postgresql://ada:***@host/name"


def test_the_environment_names_the_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """BRIVIONIX_LEDGER names the database if --db is not given."""
    monkeypatch.setenv("BRIVIONIX_LEDGER", "here.db")
    assert run("ledger", "migrate")[:2] == (0, "sqlite:///here.db: version 0012 (new)\n")
    assert run("ledger", "migrate", "--db", "there.db")[0] == 0
    assert run("ledger", "open", "acct_1", "--id", "i")[0] == 0
    assert "acct_1" in run("ledger", "accounts")[1]
    assert "acct_1" not in run("ledger", "accounts", "--db", "there.db")[1]


def test_a_balance_before_the_last_entry_is_noted(command: LedgerCommand) -> None:
    """The balance is not that of the time: a note says so, and names the last entry."""
    command.top_up("acct_1", "85", "evt_9", "2026-10-05")
    early, late = (command("balance", "acct_1", "--at", at) for at in ("2026-10-04", "2026-10-05"))
    assert early[2].startswith("note: the balance has all entries, up to 2026-10-05T00:00:00Z; --at decides only")
    assert late[2] == ""


def test_migrate_again(command: LedgerCommand) -> None:
    """``migrate`` does not change a ledger of this version."""
    command.top_up("acct_1", "85", "evt_9", "2026-10-01")
    assert command.run_ok("migrate") == "sqlite:///ledger.db: version 0012 (unchanged)\n"
    assert available(command) == 200


def test_migrate_from_version_1(run: Run) -> None:
    """A ledger of version 0001 is rejected until it is migrated, and is valid then."""
    shutil.copy(DATA / "ledger_version_1.db", run.folder / "old.db")
    before = run("ledger", "verify", "--db", "old.db")
    migrated = run("ledger", "migrate", "--db", "old.db")
    after = run("ledger", "verify", "--db", "old.db")
    assert (before[0], "[ledger_version]" in before[2]) == (2, True)
    assert migrated[:2] == (0, "sqlite:///old.db: version 0012 (was 0001)\n")
    assert (after[0], after[1].partition(":")[0]) == (0, "valid")


# --- help, and missing extras ---


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_each_subcommand(run: Run, name: str) -> None:
    """Each subcommand has help with --db, and operations have --id."""
    status, out, _ = run("ledger", *name.split(), "--help")
    assert (status, out.startswith(f"usage: brivionix-billing ledger {name}")) == (0, True)
    assert "--db URL|FILE" in out
    operations = ("open", "token create", "token change", "topup", "grant", "adjust", "refund", "dispute", "reverse")
    more = ("release", "void", "reverse-charge", "order", "cancel-order", "payment")
    newer = ("token rotate", "freeze", "unfreeze", "limit set", "limit remove", "transfer")
    newest = ("signal set", "signal remove", "signals acknowledge", *(f"member {name}" for name in MEMBER_CHANGES))
    assert ("--id ID" in out) == (name in (*operations, *more, *newer, *newest))


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a new process."""
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_without_the_extra(run: Run) -> None:
    """Without SQLAlchemy, ``ledger`` names the extra to install, and other commands work."""
    start = "import sys; sys.modules['sqlalchemy'] = None; from brivionix_billing.cli import main; sys.exit(main("
    for args in (["accounts"], ["migrate"], ["expire"]):
        process = python(run.folder, f"{start}{['ledger', *args]}))")
        assert (process.returncode, process.stdout) == (2, "")
        assert "pip install 'brivionix-billing[ledger]'" in process.stderr
        assert process.stderr.endswith("[missing_extra]\n")
    assert python(run.folder, f"{start}['check']))").returncode == 0


# --- accounts and tokens ---


def test_a_repeated_operation_is_done_once(command: LedgerCommand) -> None:
    """The same id with the same content changes nothing and reports it; with other content it is an error."""
    given = ("grant", "acct_1", "5", "--reason", "welcome", "--at", "2026-10-01")
    first, again = (command.json(*given, "--id", "g")[0] for _ in range(2))
    assert (first["repeated"], again["repeated"], again["available"]) == (False, True, "105")
    assert {**again, "repeated": False} == first
    assert "this call changed nothing" in command.run_ok(*given, "--id", "g")
    assert command.error_code("grant", "acct_1", "6", "--reason", "welcome", "--id", "g") == "operation_conflict"
    assert command.error_code("open", "acct_1", "--id", "other") == "account_exists"
    assert available(command) == 105


def test_an_id_is_required(command: LedgerCommand) -> None:
    """An operation without an id is rejected, because a retry of it could not be recognised."""
    status, _, err = command("grant", "acct_1", "5", "--reason", "welcome")
    assert (status, "the following arguments are required: --id" in err) == (2, True)
    assert available(command) == 100


def test_accounts(command: LedgerCommand) -> None:
    """Available, held and owed Credits of every account are shown as a table, JSON and CSV."""
    ledger = command.ledger()
    ledger.hold("acct_1", "2.5", id="r", at=FIRST)
    ledger.charge("acct_2", "0.75", id="c", at=FIRST)
    ledger.close()
    rows = command.json("accounts", "--at", "2026-10-01T00:01:00Z")
    assert [[row[name] for name in ("account", "available", "held", "owed")] for row in rows] == [
        ["acct_1", "97.5", "2.5", "0"],
        ["acct_2", "0", "0", "0.75"],
    ]
    shown = command.run_ok("accounts", "--at", "2026-10-01T00:01:00Z")
    assert [line.split() for line in shown.splitlines()[2:]] == [
        ["acct_1", "97.5", "2.5", "0"],
        ["acct_2", "0", "0", "0.75"],
    ]
    assert next(csv.DictReader(command.run_ok("accounts", "--format", "csv").splitlines()))["account"] == "acct_1"
    assert command.json("balance", "acct_2", "--at", "2026-10-01T00:01:00Z") == rows[1:]
    assert [row["held"] for row in command.json("accounts", "--at", "2026-10-02")] == ["0", "0"]


def test_usage_of_a_period_without_any_names_the_days_with_usage(command: LedgerCommand) -> None:
    """An empty table comes with a note that says from when to when there is usage, of the account or of any."""
    _, out, err = command("usage", "--all", "--period", "2026-08")
    assert ("no usage of any account; there is none in any other period either" in err, out.count("\n")) == (True, 2)
    with Ledger.open(f"sqlite:///{command.folder}/ledger.db") as ledger:
        for day in (3, 7):
            at = datetime(2026, 10, day, 10, 20, tzinfo=UTC)
            charge = BOOK.rate(Usage(input_tokens=1), model="alpha", group="default", at=at)
            ledger.charge("acct_1", charge, id=f"charge-{day}", at=at)
        assert ledger.usage_bounds("acct_1") == (
            datetime(2026, 10, 3, 10, 15, tzinfo=UTC),
            datetime(2026, 10, 7, 10, 15, tzinfo=UTC),
        )
        assert ledger.usage_bounds("acct_2") is None
    for whose in ("acct_1", "--all"):
        _, _, err = command("usage", whose, "--period", "2026-08")
        assert "there is usage from 2026-10-03 to 2026-10-07 (UTC); check --period and --zone" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("balance acct1", "there is no account 'acct1'; open it, or correct the id; did you mean 'acct_1'?"),
        ("statement ACCT_1 --period 2026-10", "did you mean 'acct_1'?"),
        ("grant acct_11 5 --id g --reason r", "did you mean 'acct_1'?"),
        ("transfer acct_1 acct-2 5 --id t --reason r", "did you mean 'acct_2'?"),
        ("usage acct_1 --period 2026-10 --by days", "'days' is not a key of usage; use hour, day, "),
        ("usage acct_1 --period 2026-10 --by days", "did you mean 'day'?"),
        ("grant acct_1 5 --id g --reason r --expires 2027-01-01T00:00", "has no time zone; add Z for UTC"),
    ],
)
def test_mistakes_in_names_and_times(command: LedgerCommand, words: str, says: str) -> None:
    """Each has one message, with the name that was probably meant."""
    status, out, err = command(*words.split())
    assert (status, out, err.count("error: ")) == (2, "", 1)
    assert says in err


def test_no_account_is_suggested_outside_the_command_line(command: LedgerCommand) -> None:
    """Which other accounts exist is the operator's business: the library, which a gateway uses, does not say it."""
    with Ledger.open(f"sqlite:///{command.folder}/ledger.db") as ledger, pytest.raises(BillingError) as error:
        ledger.balance("acct1", at=FIRST)
    assert (error.value.code, error.value.suggestion) == ("unknown_account", None)


def test_a_token(command: LedgerCommand) -> None:
    """A secret is shown once and authenticates; settings can be changed one by one, and removed."""
    create = ("token", "create", "acct_1", "--group", "half", "--name", "Ada's", "--limit", "10", "--id", "tok_1")
    token = command.json(*create)[0]
    assert (token["group"], token["limit"], token["enabled"], token["expires"]) == ("half", "10", True, None)
    ledger = command.ledger()
    assert ledger.authenticate(token["secret"], at=FIRST).id == "tok_1"
    assert command.json(*create)[0] == {**token, "secret": None}
    assert "is shown only once" in command.run_ok(*create)
    changed = command.json("token", "change", "tok_1", "--disabled", "--expires", "2027-01-01", "--id", "c1")[0]
    assert (changed["enabled"], changed["expires"], changed["limit"]) == (False, "2027-01-01T00:00:00Z", "10")
    options = ("--enabled", "--expires", "never", "--limit", "none", "--name", "", "--group", "own")
    changed = command.json("token", "change", "tok_1", *options, "--id", "c2")[0]
    assert [changed[key] for key in ("enabled", "expires", "limit", "name", "group")] == [True, None, None, "", "own"]
    assert command.json("token", "list", "acct_1") == [changed]
    assert ledger.authenticate(token["secret"], at=FIRST).group == "own"
    ledger.close()
    assert token["secret"] not in command.run_ok("journal", "acct_1") + command.run_ok("token", "list", "acct_1")


def test_a_frozen_account(command: LedgerCommand) -> None:
    """A frozen account is shown with its time, in the balance and in the list, until it is unfrozen."""
    at = ("--reason", "stolen card", "--at", "2026-10-02")
    assert "account acct_1 is frozen\n" in command.run_ok("freeze", "acct_1", "--id", "f", *at)
    assert command.json("balance", "acct_1")[0]["frozen_at"] == "2026-10-02T00:00:00Z"
    lines = [line.split() for line in command.run_ok("accounts").splitlines()]
    assert (lines[0][-2:], lines[2][-1], lines[3][-1]) == (["frozen", "since"], "2026-10-02T00:00:00Z", "-")
    assert "account acct_1 is not frozen\n" in command.run_ok("unfreeze", "acct_1", "--id", "u", *at)
    assert "frozen_at" not in command.json("balance", "acct_1")[0]


def test_a_rotated_secret(command: LedgerCommand) -> None:
    """A rotation shows the new secret once; the previous one is valid until the end of the grace period."""
    command.run_ok("token", "create", "acct_1", "--group", "default", "--id", "tok", "--at", "2026-10-01")
    rotate = ("token", "rotate", "tok", "--grace-hours", "1.5", "--id", "rot", "--at", "2026-10-02")
    (row,) = command.json(*rotate)
    assert row["previous_secret_expires"] == "2026-10-02T01:30:00Z"
    assert row["secret"].startswith("sk-")
    assert "rotated before; it is shown only once" in command.run_ok(*rotate)
    shown = command.run_ok("token", "rotate", "tok", "--grace-hours", "0", "--id", "rot2", "--at", "2026-10-02")
    assert "the previous secret is invalid\nnew secret, shown only now: sk-" in shown
    wrong = ("token", "rotate", "tok", "--id", "rot3", "--grace-hours")
    assert command.error_code(*wrong, "-1") == "invalid_argument"
    assert command.error_code(*wrong, "9999999") == "invalid_argument"


def test_invalid_tokens(command: LedgerCommand) -> None:
    """An unknown group, an empty change, an unknown token and an unknown account are errors."""
    assert command.error_code("token", "create", "acct_1", "--group", "hal", "--id", "t") == "unknown_group"
    command.run_ok("token", "create", "acct_1", "--group", "half", "--disabled", "--id", "t")
    assert command.error_code("token", "change", "t", "--group", "hal", "--id", "c") == "unknown_group"
    assert command.error_code("token", "change", "t", "--id", "c") == "invalid_argument"
    assert command.error_code("token", "change", "u", "--enabled", "--id", "c") == "unknown_token"
    assert command.error_code("token", "list", "acct_9") == "unknown_account"
    (token,) = command.json("token", "list", "acct_1")
    assert (token["enabled"], token["group"]) == (False, "half")


# --- money ---


def test_a_payment_is_credited_once(command: LedgerCommand) -> None:
    """A payment is credited at the price of its channel, and not again under another id."""
    row = command.json(
        *("topup", "acct_2", "--channel", "rmb", "--credits", "10", "--reference", "pi_2", "--id", "evt_2"),
        *("--at", "2026-10-20", "--expires", "2027-10-20"),
    )[0]
    assert (row["credits"], row["pay"], row["channel"], row["reference"]) == ("10", "9.00 CNY", "rmb", "pi_2")
    assert row["expires"] == "2027-10-20T00:00:00Z"
    again = ("topup", "acct_1", "--channel", "rmb", "--pay", "9", "--reference", "pi_2", "--id", "evt_3")
    assert command.error_code(*again) == "payment_already_credited"
    assert command.error_code(*again[:3], "wechat", *again[4:]) == "unknown_channel"
    assert command("topup", "acct_1", "--channel", "rmb", "--reference", "r", "--id", "i")[0] == 2
    (lot,) = command.json("lots", "acct_2")
    assert (lot["id"], lot["remaining"], lot["deferred"]) == ("evt_2", "10", "9.00 CNY")
    assert command.run_ok("lots", "acct_2").splitlines()[2].split()[:4] == [
        "evt_2",
        "2026-10-20T00:00:00Z",
        "2027-10-20T00:00:00Z",
        "rmb",
    ]


@pytest.mark.parametrize(("credits", "left"), [("-0.25", "99.75"), ("-100", "0"), ("5", "105"), ("-.5", None)])
def test_a_correction_may_be_negative(command: LedgerCommand, credits: str, left: str | None) -> None:
    """A negative amount is no option of the command line, and an invalid number is rejected."""
    given = ("adjust", "acct_1", credits, "--reason", "slip", "--author", "ada", "--id", "a")
    if left is None:
        assert command.error_code(*given) == "invalid_money"
        return
    row = command.json(*given)[0]
    assert (row["credits"], row["available"]) == (credits, left)


def test_a_correction_takes_available_credits(command: LedgerCommand) -> None:
    """A correction takes at most the available Credits, and requires a reason and an author."""
    given = ("adjust", "acct_1", "-100.01", "--reason", "slip", "--author", "ada", "--id", "a")
    assert command.error_code(*given) == "insufficient_credits"
    for missing in ("--reason", "--author"):
        place = given.index(missing)
        assert missing in command(*given[:place], *given[place + 2 :])[2]


def test_the_order_of_lots_is_that_of_the_price_file(command: LedgerCommand) -> None:
    """A correction consumes lots in the order of the price file."""
    command.run_ok("grant", "acct_1", "5", "--reason", "welcome", "--id", "g")
    prices = command.folder / "pricing.yaml"
    prices.write_text(prices.read_text(encoding="utf-8") + "lots: {order: [paid]}\n", encoding="utf-8")
    command.run_ok("adjust", "acct_1", "-1", "--reason", "r", "--author", "a", "--id", "a")
    prices.write_text(prices.read_text(encoding="utf-8").replace("[paid]", "[promotional]"), encoding="utf-8")
    command.run_ok("adjust", "acct_1", "-2", "--reason", "r", "--author", "a", "--id", "b")
    assert {lot["id"]: lot["used"] for lot in command.json("lots", "acct_1")} == {"evt_1": "1", "g": "2"}
    prices.unlink()
    assert (
        command.error_code("adjust", "acct_1", "-1", "--reason", "r", "--author", "a", "--id", "c") == "file_unreadable"
    )
    command.run_ok("lots", "acct_1")


def test_refund_and_reverse(command: LedgerCommand) -> None:
    """A refund by Credits, by money or of all shows the money to pay back, and can be reversed once."""
    row = command.json("refund", "acct_1", "evt_1", "--credits", "10", "--id", "r1")[0]
    assert (row["credits"], row["pay"], row["reference"], row["available"]) == ("10", "8.50 CNY", "pi_evt_1", "90")
    row = command.json("refund", "acct_1", "evt_1", "--pay", "17", "--id", "r2")[0]
    assert (row["credits"], row["pay"]) == ("20", "17.00 CNY")
    assert "pay 59.50 CNY back by rmb, payment pi_evt_1" in command.run_ok("refund", "acct_1", "evt_1", "--id", "r3")
    undo = ("reverse", "acct_1", "r3", "--reason", "bank refused", "--id")
    assert command.json(*undo, "v1")[0]["available"] == "70"
    assert command.error_code(*undo, "v2") == "not_reversible"


def test_restricted_lots(command: LedgerCommand) -> None:
    """Lots, balance and requests show a restriction and its effect; a name that matches nothing is an error."""
    give = ("grant", "acct_1", "5", "--reason", "trial", "--at", "2026-10-01", "--priority", "10")
    shown = command.run_ok(*give, "--only-model", "al*", "--only-tag", "team=x", "--id", "g")
    assert "105 Credits available (5 of them restricted)" in shown
    (row,) = command.json("balance", "acct_1", "--model", "alpha", "--tag", "team=x", "--tag", "a=b")
    assert (row["available"], row["restricted"], row["usable"]) == ("105", "5", "105")
    assert command.json("balance", "acct_1", "--model", "alpha")[0]["usable"] == "100"
    lines = command.run_ok("lots", "acct_1").splitlines()
    assert lines[-1].endswith("10  only models al*; only tags team=x")
    lots = command.json("lots", "acct_1")
    assert [lot["only"] for lot in lots] == [None, {"models": ["al*"], "tags": ["team=x"]}]
    ledger = command.ledger()
    ledger.hold("acct_1", "6", id="r", at=FIRST, model="alpha", tags={"team": "x"})
    ledger.settle("r", "6", at=FIRST)
    ledger.close()
    assert command.json("requests", "acct_1")[0]["lots"] == {"g": "5", "evt_1": "1"}
    (listed,) = csv.DictReader(command.run_ok("requests", "acct_1", "--format", "csv").splitlines())
    assert json.loads(listed["lots"]) == {"g": "5", "evt_1": "1"}
    assert command.error_code(*give, "--only-model", "gtp-*", "--id", "h") == "unknown_model"
    assert command.error_code(*give, "--only-group", "hal", "--id", "h") == "unknown_group"
    assert command.error_code(*give, "--only-tag", "team", "--id", "h") == "invalid_argument"
    assert command.error_code("balance", "acct_1", "--tag", "team") == "invalid_argument"


def test_transfer(command: LedgerCommand) -> None:
    """Credits move to another account, once; both accounts, the lots and the report of the period show it."""
    move = ("transfer", "acct_1", "acct_2", "40", "--reason", "split", "--at", "2026-10-02", "--id", "t")
    assert command.run_ok(*move) == (
        "40 Credits moved to acct_2: 40 of lot evt_1 as lot ~t:0001\nacct_1: 60 Credits available, 0 held, 0 owed\n"
    )
    assert "this call changed nothing" in command.run_ok(*move)
    assert available(command, "acct_2") == 40
    assert command.run_ok("lots", "acct_2").splitlines()[0].endswith("moved  moved paid  origin")
    rows = {(row["account"], row["currency"]): row for row in command.json("report", "--period", "2026-10")["rows"]}
    assert rows["acct_2", "CNY"]["transferred"] == "34.00"
    assert "Transfer 2026-10-02 from acct_1: split" in command.run_ok("statement", "acct_2", "--period", "2026-10")
    assert command.error_code("transfer", "acct_1", "acct_2", "61", "--reason", "r", "--id", "t2") == (
        "insufficient_credits"
    )


def test_change_expiry(command: LedgerCommand) -> None:
    """A lot gets a new expiry or none, which ``lots`` shows; an expiry that has passed is an error."""
    command.run_ok("grant", "acct_1", "5", "--reason", "r", "--expires", "2099-10-20", "--id", "g")
    change = ("change-expiry", "acct_1", "g", "--reason", "r", "--author", "ada")
    row = command.json(*change, "--expires", "2099-12-31", "--id", "e1")[0]
    assert (row["expires"], row["credits"], row["available"]) == ("2099-12-31T00:00:00Z", "0", "105")
    assert command.json("lots", "acct_1")[1]["expires"] == "2099-12-31T00:00:00Z"
    assert command.error_code(*change, "--expires", "2020-01-01", "--id", "e2") == "invalid_argument"
    assert "lot g never expires" in command.run_ok(*change, "--expires", "never", "--id", "e3")
    assert command.json("lots", "acct_1")[1]["expires"] is None


def test_dispute(command: LedgerCommand) -> None:
    """A partial dispute removes unused Credits, and after a full one, used Credits are owed."""
    command.run_ok("adjust", "acct_1", "-60", "--reason", "used", "--author", "ada", "--id", "a")
    row = command.json("dispute", "acct_1", "evt_1", "--pay", "8.5", "--id", "d1")[0]
    assert (row["pay"], row["available"], row["owed"]) == ("8.50 CNY", "30", "0")
    row = command.json("dispute", "acct_1", "evt_1", "--id", "d2")[0]
    assert (row["pay"], row["available"], row["owed"]) == ("76.50 CNY", "0", "60")
    row = command.json("reverse", "acct_1", "d2", "--reason", "won", "--id", "v")[0]
    assert (row["available"], row["owed"]) == ("30", "0")


def test_invalid_refunds(command: LedgerCommand) -> None:
    """Unknown and promotional lots, too much money, half a minor unit, and two amounts are errors."""
    command.run_ok("grant", "acct_1", "5", "--reason", "welcome", "--id", "g")
    for name in ("refund", "dispute"):
        assert command.error_code(name, "acct_1", "evt_9", "--id", "r") == "unknown_lot"
        assert command.error_code(name, "acct_1", "evt_9", "--pay", "1", "--id", "r") == "unknown_lot"
        assert command.error_code(name, "acct_2", "evt_1", "--pay", "1", "--id", "r") == "unknown_lot"
        assert command.error_code(name, "acct_1", "g", "--pay", "1", "--id", "r") == "not_refundable"
        assert command.error_code(name, "acct_1", "evt_1", "--pay", "85.01", "--id", "r") == "not_refundable"
        assert command.error_code(name, "acct_1", "evt_1", "--pay", "0.005", "--id", "r") == "invalid_money"
    assert command("refund", "acct_1", "evt_1", "--pay", "1", "--credits", "1", "--id", "r")[0] == 2
    assert available(command) == 105


def test_release(command: LedgerCommand) -> None:
    """A release makes the held Credits available, once."""
    ledger = command.ledger()
    ledger.hold("acct_1", "40", id="req_1", at=FIRST)
    ledger.close()
    given = ("release", "req_1", "--at", "2026-10-01T00:01:00Z", "--id")
    assert command.json(*given, "x")[0]["available"] == "100"
    assert command.error_code(*given, "y") == "hold_resolved"
    assert command.error_code("release", "req_2", "--id", "z") == "unknown_hold"


def test_pages_for_customers(command: LedgerCommand) -> None:
    """A statement and a receipt are written as pages with their issuer; without an issuer, nothing is written."""
    page = ("--issuer", "Example GmbH", "--customer", "Ada", "--locale", "zh_CN")
    status, out, err = command("receipt", "acct_1", "evt_1", "--html", "r.html", *page)
    assert (status, "gross" in out, err.startswith("r.html: ")) == (0, True, True)
    assert command("statement", "acct_1", "--period", "2026-09", "--html", "s.html", *page)[0] == 0
    for name in ("r.html", "s.html"):
        text = (command.folder / name).read_text()
        assert all(part in text for part in ("Example GmbH", "Ada", "85.00", "acct_1"))
    assert json.loads(command.run_ok("receipt", "acct_1", "evt_1", "--format", "json"))["gross"] == "85.00 CNY"
    assert command.error_code("receipt", "acct_1", "evt_1", "--html", "x.html") == "invalid_argument"
    assert command.error_code("receipt", "acct_1", "other", "--html", "x.html", *page) == "unknown_lot"
    assert not (command.folder / "x.html").exists()


def test_new_entries_and_pruning(command: LedgerCommand) -> None:
    """--new-only needs a checkpoint and says what it verified; prune reports the number of counters."""
    command.run_ok("checkpoint", "--out", "heads.json")
    command.top_up("acct_1", "85", "evt_2", "2026-09-21")
    status, out, err = command("verify", "--checkpoint", "heads.json", "--new-only")
    assert (status, out.startswith("valid: 2 accounts"), "only new entries" in err) == (0, True, True)
    assert command.error_code("verify", "--new-only") == "invalid_argument"
    command.tamper("UPDATE billing_account SET head = 'x' WHERE id = 'acct_1'")
    assert command("verify", "--checkpoint", "heads.json", "--new-only")[0] == 1
    assert command.json("prune") == [{"counters": 0}]


def test_archive_and_restore(command: LedgerCommand) -> None:
    """Archived entries are verified with the folder; they are announced, and a restore brings them back."""
    ledger = command.ledger()
    ledger.charge("acct_1", 1, id="req_1", at=FIRST + timedelta(days=1))
    ledger.close()
    assert command.run_ok("archive", "--before", "2026-10", "--to", "a", "--at", "2026-11-05") == "nothing to archive\n"
    out = command.run_ok("archive", "--before", "2026-11", "--to", "a", "--at", "2026-11-05")
    assert out.endswith("1 entry of 1 account archived\n")
    assert "only the archive folder proves their state" in command("verify")[2]
    assert command("verify", "--archive", "a")[0] == 0
    assert "are not listed" in command("requests", "acct_1")[2]
    assert command.error_code("journal", "acct_1") == "entry_archived"
    assert command.error_code("rebuild", "--yes") == "entry_archived"
    assert command.json("rebuild", "--yes", "--archive", "a")[0]["rows"] > 3
    assert command.error_code("verify", "--archive", "b") == "file_unreadable"
    assert command.run_ok("restore", "a") == "1 entry restored\n"
    assert command.json("requests", "acct_1")[0]["id"] == "req_1"
    assert command.error_code("archive", "--before", "2062-11", "--to", "a") == "invalid_argument"
