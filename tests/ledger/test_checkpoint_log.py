"""Attacks on a whole journal, and on the log of signed checkpoints that detects them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from brivionix_billing import BillingError
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.ledger import Ledger, SignedCheckpoint, append_checkpoint, read_checkpoint_log
from brivionix_billing.ledger.database.store import TABLE_MAPPINGS
from brivionix_billing.ledger.database.tables import JOURNAL
from crash_scenario import run_day
from ledger_kit import later, opened, refused, with_credits

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def rehash(ledger: Ledger, old: str, new: str) -> None:
    """Rewrite a text in all entries, with all hashes and all derived tables, as a user of the database can."""
    forged_hashes: dict[str, str] = {}
    changed = 0
    with ledger.engine.begin() as connection:
        query = "SELECT id, hash, body FROM billing_journal ORDER BY account, number"
        waiting = [(id, hash, json.loads(body)) for id, hash, body in connection.execute(text(query))]
        while waiting:
            # The entry of an incoming transfer has the hash of the outgoing one, which must be forged first.
            id, hash, entry = next(
                row
                for row in waiting
                if {row[2]["previous"], row[2]["result"].get("hash")}.isdisjoint(hash for _, hash, _ in waiting)
            )
            waiting.remove((id, hash, entry))
            body = canonical_json(entry).decode()
            changed += old in body
            body = body.replace(old, new)
            for known, forged in forged_hashes.items():
                body = body.replace(known, forged)
            forged_hashes[hash] = sha256(body.encode()).hexdigest()
            connection.execute(
                text("UPDATE billing_journal SET body = :body, hash = :hash WHERE id = :id"),
                {"body": body, "hash": forged_hashes[hash], "id": id},
            )
    assert changed
    ledger.rebuild()
    assert ledger.verify() == []  # nothing inside the database shows it


def truncate(ledger: Ledger) -> None:
    """Remove the last entries of the journal, and all that the derived tables know of them."""
    with ledger.engine.begin() as connection:
        connection.execute(
            text("DELETE FROM billing_journal WHERE number > 4 OR (account = 'other' AND number > 1)")  # its transfers
        )
    ledger.rebuild(accept_loss=True)
    assert ledger.verify() == []


def empty(ledger: Ledger) -> None:
    """Remove an account without a trace."""
    with ledger.engine.begin() as connection:
        for table in (JOURNAL, *(mapping.table for mapping in TABLE_MAPPINGS.values())):
            connection.execute(table.delete())
    assert ledger.verify() == []


def enrich(ledger: Ledger) -> None:
    """Replace the journal by one that the library itself wrote, with ten times the Credits."""
    empty(ledger)
    with_credits(ledger, "850")
    assert ledger.verify() == []


ATTACKS: dict[str, tuple[Callable[[Ledger], None], str]] = {
    "re-hashed": (lambda ledger: rehash(ledger, "welcome", "bribery"), "its hash differs from the checkpoint"),
    "re-hashed payment": (lambda ledger: rehash(ledger, '"pi_1"', '"pi_9"'), "its hash differs from the checkpoint"),
    "truncated": (truncate, "of the checkpoint are missing"),
    "emptied": (empty, "it is in the checkpoint, but not in the ledger"),
    "written anew": (enrich, "checkpoint"),
}


def log_of(path: Path, ledger: Ledger, number: int = 1, key: Ed25519PrivateKey = KEY) -> str:
    """Append a checkpoint of a ledger. Returns the line."""
    heads = ledger.audit().heads
    append_checkpoint(str(path), SignedCheckpoint(number, later(number), heads), key, create=not path.exists())
    return path.read_text().splitlines()[-1]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_rewritten_journal_does_not_contain_the_newest_checkpoint(database: str, tmp_path: Path, attack: str) -> None:
    """A journal that was re-hashed, truncated, emptied or replaced is valid, but not by the newest checkpoint."""
    log = tmp_path / "heads.log"
    with opened(database) as ledger:
        run_day(ledger)
        log_of(log, ledger)
        newest, problems = read_checkpoint_log(str(log), PUBLIC)
        assert problems == []
        assert newest is not None
        assert ledger.verify(newest.heads) == []
        perform, message = ATTACKS[attack]
        perform(ledger)
        assert any(message in str(found) for found in ledger.verify(newest.heads))


def test_a_journal_that_grew_contains_its_checkpoints(ledger: Ledger, tmp_path: Path) -> None:
    """After further operations, the journal still contains the checkpoint; the newest one has their entries."""
    log = tmp_path / "heads.log"
    log_of(log, ledger)
    ledger.adjust("acct", "1", reason="x", author="x", id="more", at=later(1))
    first, _ = read_checkpoint_log(str(log), PUBLIC)
    assert first is not None
    assert ledger.verify(first.heads) == []
    log_of(log, ledger, 2)
    second, problems = read_checkpoint_log(str(log), PUBLIC)
    assert second is not None
    assert (second.number, second.at, dict(second.heads), problems) == (2, later(2), ledger.checkpoint(), [])


# --- attacks on the log ---


def lines_of(ledger: Ledger, folder: Path) -> list[str]:
    """Return three valid lines."""
    return [log_of(folder / "made.log", ledger, number) for number in (1, 2, 3)]


def edited(line: str, **changes: Any) -> str:
    return canonical_json({**json.loads(line), **changes}).decode()


FORGERIES: dict[str, Callable[[list[str]], list[str]]] = {
    "other heads": lambda lines: [*lines, edited(lines[-1], number=4, heads={})],
    "higher number": lambda lines: [*lines, edited(lines[0], number=4)],
    "no signature": lambda lines: [*lines, edited(lines[-1], number=4, signature="", signing_key=None)],
    "replayed line": lambda lines: [*lines, lines[0]],
    "removed line": lambda lines: [lines[0], lines[2]],
    "swapped lines": lambda lines: [lines[0], lines[2], lines[1]],
    "another document": lambda lines: [*lines, '{"schema": "brivionix-billing/invoice/1"}'],
    "cut line": lambda lines: [*lines, lines[-1][:90]],
    "no JSON": lambda lines: [*lines, "\x00"],
    "repeated key": lambda lines: [*lines, lines[-1].replace("{", '{"number":9,', 1)],
    "a list": lambda lines: [*lines, "[1]"],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_line_is_reported_and_not_used(ledger: Ledger, tmp_path: Path, forgery: str) -> None:
    """A log with a forged, replayed, removed or damaged line has a problem, and its newest valid line is still used."""
    lines = lines_of(ledger, tmp_path)
    log = tmp_path / "heads.log"
    log.write_text("\n".join(FORGERIES[forgery](lines)))
    newest, problems = read_checkpoint_log(str(log), PUBLIC)
    assert newest is not None
    assert (newest.number, dict(newest.heads)) == (3, ledger.checkpoint())
    assert problems


def test_a_line_signed_by_another_key_is_not_used(ledger: Ledger, tmp_path: Path) -> None:
    """An attacker's own key does not make a checkpoint."""
    log = tmp_path / "heads.log"
    log_of(log, ledger)
    log_of(log, ledger, 2, OTHER)
    newest, problems = read_checkpoint_log(str(log), PUBLIC)
    assert (newest and newest.number, len(problems)) == (1, 1)
    assert "line 2 is not a valid checkpoint: signed by key" in problems[0]
    newest, problems = read_checkpoint_log(str(log), OTHER.public_key())
    assert (newest and newest.number, len(problems)) == (2, 1)


def test_an_empty_log_is_a_problem(tmp_path: Path) -> None:
    """A log without any valid checkpoint is not the same as none."""
    log = tmp_path / "heads.log"
    for content in ("", "\n\n", "x\n" * 100):
        log.write_text(content)
        newest, problems = read_checkpoint_log(str(log), PUBLIC)
        assert newest is None
        assert problems
        assert len(problems) <= 21
    with refused("file_unreadable"):
        read_checkpoint_log(str(tmp_path / "none.log"), PUBLIC)


def test_older_lines_may_be_removed(ledger: Ledger, tmp_path: Path) -> None:
    """The first line of a log may have any number, so that the log can be shortened; a copied line is no problem."""
    lines = lines_of(ledger, tmp_path)
    log = tmp_path / "heads.log"
    log.write_text("\n".join([lines[1], lines[2], lines[2]]))
    newest, problems = read_checkpoint_log(str(log), PUBLIC)
    assert (newest and newest.number, problems) == (3, [])


def test_a_cut_line_does_not_damage_the_next(ledger: Ledger, tmp_path: Path) -> None:
    """A checkpoint that is appended to a line without an end is on a line of its own."""
    log = tmp_path / "heads.log"
    log_of(log, ledger)
    log.write_bytes(log.read_bytes()[:-1] + b'\n{"cut')
    log_of(log, ledger, 2)
    newest, problems = read_checkpoint_log(str(log), PUBLIC)
    assert (newest and newest.number, len(problems)) == (2, 1)


def test_a_log_is_private_and_never_another_file(ledger: Ledger, tmp_path: Path) -> None:
    """A log has a private mode, is created only if asked for, and is never written through a symbolic link."""
    log = tmp_path / "heads.log"
    checkpoint = SignedCheckpoint(1, later(1), ledger.checkpoint())
    with refused("file_unreadable"):
        append_checkpoint(str(log), checkpoint, KEY)
    append_checkpoint(str(log), checkpoint, KEY, create=True)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    with refused("file_unreadable"):
        append_checkpoint(str(log), checkpoint, KEY, create=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "link.log"
    os.symlink(victim, link)
    for create in (False, True):
        with pytest.raises(BillingError):
            append_checkpoint(str(link), checkpoint, KEY, create=create)
    assert victim.read_text() == "precious"
