"""The files that commands write: who can read them, and what a prepared link does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import QueuePool

from bill_kit import record
from brivionix_billing.ledger import Ledger
from cli_kit import Run
from cli_ledger_kit import FIRST, OCTOBER, LedgerCommand, command
from paths import DATA
from verify_kit import KEY

__all__ = ["command"]

PUBLISHED = {"page.html", "page.json", "new.yaml"}
"""Files of the test below that a web server or other users may read."""
MONTH = ("usage.jsonl", *OCTOBER)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Set the usual umask, which lets everyone read new files."""
    old = os.umask(0o022)
    yield
    os.umask(old)


def commands(run: Run, folder: str, source: str = "") -> list[tuple[str, ...]]:
    """Return a call of every command that writes files, into a folder. Some read a bill of the folder ``source``."""
    run.usage([*[record(n) for n in range(1, 6)], record(7, account="acct_2"), record(8, model="unknown")])
    (run.folder / "new.yaml").write_bytes((run.folder / "pricing.yaml").read_bytes())
    bill = f"{source or folder}/bill/invoice.json"
    ledger = ("--db", "ledger.db")
    catalog = ("litellm", str(DATA / "prices" / "litellm.json"), "--model", "gpt-4o", "--from", "2026-10-01")
    return [
        ("page", "--at", "2026-10-20", "--out", f"{folder}/page.html", "--json", f"{folder}/page.json"),
        ("rate", "usage.jsonl", "--rejected", f"{folder}/rejected.jsonl"),
        ("invoice", *MONTH, "--account", "acct_1", "--out", f"{folder}/bill"),
        ("invoice", *MONTH, "--all", "--out", f"{folder}/all"),
        ("render", bill, "--html", f"{folder}/again.html", "--csv", f"{folder}/again.csv"),
        ("credit-note", bill, "--reason", "x", "--after", bill, "--issued", "2026-12-01", "--out", f"{folder}/note"),
        ("import", *catalog, "--into", "new.yaml", "--report", f"{folder}/report.json"),
        ("ledger", "records", "--all", *OCTOBER, "--out", f"{folder}/records.jsonl", *ledger),
        ("ledger", "customers", *OCTOBER, "--out", f"{folder}/customers.json", *ledger),
        ("ledger", "checkpoint", "--out", f"{folder}/heads.json", *ledger),
    ]


def test_files_are_private_unless_they_are_published(run: Run, command: LedgerCommand) -> None:
    """Under umask 022, files with accounts or usage and their folders belong to the user alone; pages are readable."""
    command.serve([record(n) for n in range(1, 4)])
    with Ledger.open("sqlite:///ledger.db") as ledger:
        ledger.balance("acct_1", at=FIRST)  # an open connection keeps the -wal and -shm
        for args in commands(run, "out/new"):
            status, _, err = run(*args)
            assert status in (0, 2), err  # 2: a line is not billed
            assert "error:" not in err
        given = {"usage.jsonl", "pricing.yaml", "key.pem"}
        paths = [path for path in run.folder.rglob("*") if path.name not in given]
        modes = {path.relative_to(run.folder).as_posix(): path.stat().st_mode & 0o777 for path in paths}
    assert {f"{name}{end}" for name in ("ledger.db",) for end in ("", "-wal", "-shm")} <= set(modes)
    assert {"out/new/bill/records.txt", "out/new/all/INV-000002/invoice.html", "out/new/all/bills.csv"} <= set(modes)
    assert {"out/new/bill/rejected.jsonl", "out/new/note/invoice.txt", "out/new/records.jsonl"} <= set(modes)
    for name, mode in modes.items():
        if Path(name).name in PUBLISHED:
            assert mode == 0o644, name
        elif (run.folder / name).is_dir():
            # The command page created out/new, for a page that a web server reads.
            assert mode == (0o755 if name in ("out", "out/new") else 0o700), name
        else:
            assert mode == 0o600, name


def test_prepared_links_are_not_followed(run: Run, command: LedgerCommand) -> None:
    """Links under the names of all outputs, to a file or to nothing, leave their targets as they are."""
    command.serve([record(1)])
    for args in commands(run, "real"):
        run(*args)
    real = [path.relative_to(run.folder / "real") for path in (run.folder / "real").rglob("*") if path.is_file()]
    assert len(real) > 20
    shutil.rmtree(run.folder / "real" / "note")  # a bill is corrected only once
    for folder, exists in (("full", True), ("empty", False)):
        victims = run.folder / f"victims-{folder}"
        victims.mkdir()
        for number, path in enumerate(real):
            link = run.folder / folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(victims / str(number))
            if exists:
                (victims / str(number)).write_text("untouched")
        for args in commands(run, folder, source="real"):
            status, _, err = run(*args)
            assert status == 2
            assert any(code in err for code in ("[file_unreadable]", "[document_exists]")), (args, err)
        texts = [path.read_text() for path in victims.iterdir()]
        assert texts == ["untouched"] * len(real) * exists


def test_a_link_that_leads_to_no_file_is_no_ledger(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database is not created through a symbolic link."""
    monkeypatch.delenv("BRIVIONIX_LEDGER", raising=False)
    (run.folder / "ledger.db").symlink_to(run.folder / "elsewhere.db")
    status, _, err = run("ledger", "migrate")
    assert (status, "is a symbolic link to no file; name its target [ledger_unavailable]" in err) == (2, True)
    assert not (run.folder / "elsewhere.db").exists()


@pytest.mark.parametrize("url", ["sqlite:///new.db", "new.db", "sqlite:///file:new.db?uri=true"])
def test_a_new_database_is_private(run: Run, url: str) -> None:
    """Every way to name the file of a new ledger creates it for its user alone, with its -wal and -shm."""
    with Ledger.open(url) as ledger:
        ledger.open_account("a", at=FIRST)
        modes = {path.name: path.stat().st_mode & 0o777 for path in run.folder.glob("new.db*")}
    assert modes == dict.fromkeys(("new.db", "new.db-shm", "new.db-wal"), 0o600)


def test_databases_in_memory_create_no_file(run: Run) -> None:
    """A database in memory, also a named one, leaves no file."""
    before = sorted(run.folder.iterdir())
    for url in ("sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&cache=shared&uri=true"):
        Ledger.open(url, poolclass=QueuePool).close()
    assert sorted(run.folder.iterdir()) == before


def test_a_key_that_others_can_read_is_a_warning(run: Run) -> None:
    """Signing with a private key that other users can read prints a warning; a private one prints none."""
    path = run.folder / "key.pem"
    path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for mode, warned in ((0o644, True), (0o640, True), (0o600, False)):
        path.chmod(mode)
        options = ("--account", "acct_1", "--sign-key", "key.pem", "--out", f"out{mode}")
        status, _, err = run("invoice", *MONTH, *options)
        assert (status, "warning: other users can read the private key 'key.pem'; run chmod 600" in err) == (0, warned)


def test_output_to_a_pipe_still_works(run: Run) -> None:
    """``--out /dev/stdout`` writes to the pipe of the process, although that path is a symbolic link."""
    (run.folder / "c.json").write_text(json.dumps({}))
    with Ledger.open("sqlite:///ledger.db") as ledger:
        ledger.open_account("acct_1", at=FIRST)
    args = [sys.executable, "-m", "brivionix_billing.cli", "ledger", "checkpoint", "--out", "/dev/stdout"]
    environment = {**os.environ, "BRIVIONIX_LEDGER": "ledger.db"}
    done = subprocess.run(args, capture_output=True, text=True, cwd=run.folder, env=environment, check=True)
    assert list(json.loads(done.stdout)) == ["acct_1"]
