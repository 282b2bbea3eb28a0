"""``ledger verify`` with a log of signed checkpoints, and on a database whose schema was changed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from brivionix_billing.ledger import Ledger
from cli_ledger_kit import FIRST, LedgerCommand

LOG = ("--checkpoint-log", "heads.log")
KEY, SIGN = ("--key", "audit.pub"), ("--sign-key", "audit.pem")


@pytest.fixture
def logged(command: LedgerCommand) -> LedgerCommand:
    """Run subcommands on a ledger with a log of one checkpoint, and two pairs of keys."""
    for name, seed in (("audit", 0), ("other", 1)):
        key = Ed25519PrivateKey.from_private_bytes(bytes(range(seed, 32 + seed)))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (command.folder / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (command.folder / f"{name}.pub").write_bytes(public)
    status, out, err = command("verify", *LOG, *SIGN, "--new-log", "--at", "2026-10-01")
    assert (status, out) == (0, "valid: 2 accounts, 3 entries\n")
    assert "heads.log: checkpoint 1 added; store a copy of this file elsewhere" in err
    return command


def attacked(command: LedgerCommand, *statements: str) -> None:
    """Execute statements on the database."""
    with closing(sqlite3.connect(command.folder / "ledger.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def lines(command: LedgerCommand) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (command.folder / "heads.log").read_text().splitlines()]


def test_every_successful_verification_adds_a_checkpoint(logged: LedgerCommand) -> None:
    """With the private key, a valid ledger gets the next checkpoint, which contains the new entries."""
    logged.top_up("acct_1", "85", "evt_2", "2026-10-02")
    status, out, err = logged("verify", *LOG, *SIGN, "--at", "2026-10-03")
    assert (status, out) == (0, "valid: 2 accounts, 4 entries; contains checkpoint 1 of 2026-10-01T00:00:00Z\n")
    assert "checkpoint 2 added" in err
    assert [(line["number"], line["at"]) for line in lines(logged)] == [
        (1, "2026-10-01T00:00:00Z"),
        (2, "2026-10-03T00:00:00Z"),
    ]
    assert lines(logged)[1]["heads"]["acct_1"][0] == 3
    verdict = logged.json("verify", *LOG, *KEY)
    assert verdict == {
        "valid": True,
        "inconsistencies": [],
        "checkpoint": {"number": 2, "at": "2026-10-03T00:00:00Z"},
    }
    assert len(lines(logged)) == 2  # the public key cannot sign


def test_a_journal_that_was_rewritten_is_reported(logged: LedgerCommand) -> None:
    """A ledger that was replaced by another valid one fails, and gets no checkpoint."""
    (logged.folder / "ledger.db").unlink()
    for part in ("-wal", "-shm"):
        (logged.folder / f"ledger.db{part}").unlink(missing_ok=True)
    LedgerCommand(logged.run)
    logged.run_ok("verify")
    attacked(logged, "DELETE FROM billing_journal", "DELETE FROM billing_account", "DELETE FROM billing_lot")
    logged.run_ok("open", "acct_1", "--id", "open-acct_1", "--at", "2026-09-01")
    logged.top_up("acct_1", "850", "evt_1", "2026-09-20")
    assert logged.run_ok("verify") == "valid: 1 account, 2 entries\n"
    for key in (KEY, SIGN):
        status, out, err = logged("verify", *LOG, *key)
        assert status == 1
        assert "account acct_1, entry 2: its hash differs from the checkpoint" in out
        assert "account acct_2: it is in the checkpoint, but not in the ledger" in out
        assert "INVALID" in err
    assert len(lines(logged)) == 1


def test_a_forged_line_of_the_log_is_reported(logged: LedgerCommand) -> None:
    """A log with a line of an attacker fails, although the journal contains the newest valid checkpoint."""
    with (logged.folder / "heads.log").open("a") as file:
        file.write(json.dumps({**lines(logged)[0], "number": 2, "heads": {}}) + "\n")
    for key in (KEY, SIGN):
        status, out, _ = logged("verify", *LOG, *key)
        assert status == 1
        assert "checkpoint log 'heads.log': line 2 is not a valid checkpoint: the signature does not match" in out
    assert len(lines(logged)) == 2


def test_a_log_that_was_deleted_is_not_a_first_run(logged: LedgerCommand) -> None:
    """Without the log, or with an empty one, verification fails."""
    log = logged.folder / "heads.log"
    log.write_text("")
    status, out, _ = logged("verify", *LOG, *SIGN)
    assert (status, "it has no valid checkpoint" in out) == (1, True)
    log.unlink()
    assert logged.error_code("verify", *LOG, *SIGN) == "file_unreadable"
    assert not log.exists()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (LOG, "invalid_argument"),
        (KEY, "invalid_argument"),
        (SIGN, "invalid_argument"),
        (("--new-log",), "invalid_argument"),
        ((*LOG, *KEY, "--new-log"), "invalid_argument"),
        ((*LOG, *SIGN, "--new-log"), "invalid_argument"),  # it exists
        ((*LOG, *SIGN, "--key", "other.pub"), "invalid_key"),
        ((*LOG, "--key", "audit.pem"), "invalid_key"),
        ((*LOG, "--key", "none.pub"), "file_unreadable"),
    ],
)
def test_options_that_cannot_protect_are_refused(logged: LedgerCommand, args: tuple[str, ...], code: str) -> None:
    """A log without a key, a key without a log, and keys of two pairs are rejected."""
    before = (logged.folder / "heads.log").read_bytes()
    assert logged.error_code("verify", *args) == code
    assert (logged.folder / "heads.log").read_bytes() == before


def test_another_key_is_reported(logged: LedgerCommand) -> None:
    """A log that is signed with another key has no valid checkpoint."""
    status, out, _ = logged("verify", *LOG, "--key", "other.pub")
    assert (status, "signed by key" in out, "it has no valid checkpoint" in out) == (1, True, True)


def test_a_foreign_trigger_is_reported(logged: LedgerCommand) -> None:
    """A database with a trigger is invalid, its object is named, and it gets no checkpoint."""
    attacked(logged, "CREATE TRIGGER evil AFTER INSERT ON billing_lot BEGIN SELECT 1; END")
    status, out, _ = logged("verify", *LOG, *SIGN)
    assert (status, out) == (
        1,
        "schema: trigger 'evil' on billing_lot is not the ledger's; find out who created it\n",
    )
    status, out, _ = logged("verify", "--format", "json")
    (row,) = json.loads(out)["inconsistencies"]
    assert (status, row["account"], row["number"], "trigger 'evil'" in row["what"]) == (1, None, None, True)
    assert len(lines(logged)) == 1


def test_a_log_behind_a_symbolic_link_is_not_written_to(logged: LedgerCommand) -> None:
    """A log that is a symbolic link gets no checkpoint, and the message says why."""
    (logged.folder / "link.log").symlink_to("heads.log")
    status, _, err = logged("verify", "--checkpoint-log", "link.log", *SIGN)
    assert (status, "'link.log': it is a symbolic link; name its target" in err, len(lines(logged))) == (2, True, 1)


def test_a_key_of_the_log_that_others_can_read_is_a_warning(logged: LedgerCommand) -> None:
    """Signing a checkpoint with a private key that other users can read prints a warning; a private one prints none."""
    for mode, warned in ((0o644, True), (0o600, False)):
        (logged.folder / "audit.pem").chmod(mode)
        status, _, err = logged("verify", *LOG, *SIGN)
        assert (status, "warning: other users can read the private key 'audit.pem'" in err) == (0, warned)


def test_a_missing_column_is_an_answer(logged: LedgerCommand) -> None:
    """A ledger that cannot be read because of its schema is invalid, not an error of the database."""
    attacked(logged, "ALTER TABLE billing_lot RENAME COLUMN live TO alive")
    status, out, _ = logged("verify")
    assert status == 1
    assert "schema: table billing_lot has no 'live smallint not null'" in out
    assert "the journal cannot be replayed with this schema" in out


def test_tables_of_the_gateway_are_a_note(logged: LedgerCommand) -> None:
    """A table of another program does not make the ledger invalid."""
    attacked(logged, "CREATE TABLE orders (id TEXT)")
    status, _, err = logged("verify")
    assert (status, "note: the database also has tables that are not the ledger's: 'orders'" in err) == (0, True)
    assert logged.json("verify")["notes"] == ["the database also has tables that are not the ledger's: 'orders'"]


def test_the_checkpoint_is_of_what_was_verified(logged: LedgerCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that are posted after the verification are not in its checkpoint."""
    audit = Ledger.audit

    def slow_audit(self: Ledger, *args: Any, **options: Any) -> Any:
        result = audit(self, *args, **options)
        attacked(logged, "UPDATE billing_account SET number = 99, head = 'forged'")
        return result

    monkeypatch.setattr(Ledger, "audit", slow_audit)
    assert logged("verify", *LOG, *SIGN)[0] == 0
    assert lines(logged)[1]["heads"] == lines(logged)[0]["heads"]
    assert Path(logged.folder, "heads.log").stat().st_mode & 0o077 == 0


def test_a_checkpoint_after_archiving_is_signed_only_with_the_archive(logged: LedgerCommand) -> None:
    """A signed checkpoint states that all was verified, so it proves the archived state for the checks after it."""
    ledger = logged.ledger()
    ledger.charge("acct_1", 1, id="req_1", at=FIRST)
    ledger.close()
    logged.run_ok("archive", "--before", "2026-11", "--to", "a", "--at", "2026-11-05")
    status, _, err = logged("verify", *LOG, *SIGN)
    assert (status, "add --archive FOLDER" in err) == (2, True)
    assert logged("verify", *LOG, *KEY)[0] == 0
    assert logged("verify", *LOG, *SIGN, "--archive", "a")[0] == 0
    assert logged("verify", *LOG, *SIGN)[0] == 0
    assert len(lines(logged)) == 3
    attacked(logged, "UPDATE billing_archive SET state = REPLACE(state, '\"99\"', '\"98\"')")
    assert logged("verify", *LOG, *SIGN)[0] == 1
