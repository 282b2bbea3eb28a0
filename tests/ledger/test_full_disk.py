"""The ledger on a file system that is really full; skipped if the tests may not mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brivionix_billing import BillingError
from brivionix_billing.ledger import Ledger
from ledger_kit import NOW, opened, quote, schema, with_credits

Operation = Callable[[], Any]
_BLOCK = b"\0" * 4096
_ROUNDS = 20


@contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """Mount a file system of 3 MB in memory, which every user may use."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=1777", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no file system can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a database whose tables are on a small file system, and the folder of that."""
    if request.param == "sqlite":
        with small_file_system(tmp_path / "disk") as folder:
            yield f"sqlite:///{folder / 'ledger.db'}", folder
        return
    server = request.getfixturevalue("postgres")
    for parent in (tmp_path, *tmp_path.parents[:3]):  # the server may run as another user
        parent.chmod(parent.stat().st_mode | 0o011)
    name = f"small_{os.getpid()}"
    with small_file_system(tmp_path / "disk") as folder:
        space = folder / "tables"
        space.mkdir()
        with psycopg.connect(server, autocommit=True) as connection:
            (data,) = connection.execute("SHOW data_directory").fetchone() or ()
            owner = os.stat(data)
            os.chown(space, owner.st_uid, owner.st_gid)
            connection.execute(f"CREATE TABLESPACE {name} LOCATION '{space}'")
            with schema(server) as url:
                yield f"{url}%20-cdefault_tablespace%3D{name}", folder
            connection.execute(f"DROP TABLESPACE {name}")


def operations(ledger: Ledger, number: int) -> dict[str, tuple[str, Operation]]:
    """Return one operation of each kind, with its id. None depends on another."""
    n, text = f"{number:03d}", "x" * 200
    return {
        "account": (f"account:a{n}", lambda: ledger.open_account(f"a{n}", at=NOW)),
        "topup": (f"t{n}", lambda: ledger.top_up("acct", quote("85"), reference=f"p{n}", id=f"t{n}", at=NOW)),
        "grant": (f"g{n}", lambda: ledger.grant("acct", "1", reason=text, id=f"g{n}", at=NOW)),
        "adjust": (f"a{n}", lambda: ledger.adjust("acct", "-1", reason=text, author="ada", id=f"a{n}", at=NOW)),
        "refund": (f"r{n}", lambda: ledger.refund("acct", "lot-acct", credits="0.1", id=f"r{n}", at=NOW)),
        "hold": (f"h{n}", lambda: ledger.hold("acct", "0.01", id=f"h{n}", at=NOW)),
        "settle": (f"open{n}:settle", lambda: ledger.settle(f"open{n}", "0.01", at=NOW)),
        "release": (f"free{n}:release", lambda: ledger.release(f"free{n}", at=NOW)),
        "charge": (f"c{n}", lambda: ledger.charge("acct", "0.01", id=f"c{n}", at=NOW)),
        "token": (f"k{n}", lambda: ledger.create_token("acct", id=f"k{n}", at=NOW, group="default")),
        "limit": (f"l{n}", lambda: ledger.set_limit("acct", n, 10**6, window="day", id=f"l{n}", at=NOW)),
    }


def test_a_full_disk_loses_nothing(disk: tuple[str, Path]) -> None:
    """CASES 53: operations fail with ``ledger_unavailable`` and post nothing; all succeed once there is space."""
    url, folder = disk
    with opened(url) as ledger:
        with_credits(ledger)
        for number in range(_ROUNDS):
            ledger.hold("acct", "0.01", id=f"open{number:03d}", at=NOW)
            ledger.hold("acct", "0.01", id=f"free{number:03d}", at=NOW)
        failed: dict[str, Operation] = {}
        kinds: set[str] = set()
        for number in range(_ROUNDS):  # the first operations may still fit into pages that the files have
            fill(folder / "ballast")
            for kind, (id, operation) in operations(ledger, number).items():
                try:
                    operation()
                except BillingError as error:
                    if error.code != "ledger_unavailable":
                        raise
                    failed[id] = operation
                    kinds.add(kind)
            if kinds == operations(ledger, 0).keys():
                break
        assert kinds == operations(ledger, 0).keys()
        assert [id for id in failed if ledger.entry(id) is not None] == []
        assert ledger.verify() == []
        (folder / "ballast").unlink()
        for id, operation in failed.items():
            operation()
            assert ledger.entry(id) is not None
        assert ledger.verify() == []


def fill(path: Path) -> None:
    """Append to a file until the file system is full."""
    with path.open("ab", buffering=0) as file:
        try:
            while file.write(_BLOCK) == len(_BLOCK):
                pass
        except OSError:
            return
