"""The ledger: how much it costs beside its own statements, from asyncio, and with many processes on one balance.

README.md beside this says how each figure is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from brivionix_billing.ledger import Ledger
from ledger_async import asynchronous
from ledger_pairs import BOOK, CLIENTS, on_postgresql, on_sqlite, postgresql
from ledger_requests import request_queries
from timing import ROOT

sys.path.append(str(ROOT / "tests" / "support"))

from contention import contend  # the tests run it as well, in a smaller size

LEAST = 0.5
"""Demanded: at least half of what the bare driver does with the same statements."""
MOST_GROWTH = 2
"""Demanded: a query takes at most twice as long with many entries as with few."""


def pairs_on_sqlite(quick: bool) -> None:
    for synchronous, pairs in (("NORMAL", 1000), ("FULL", 500)):
        found = on_sqlite(pairs // 5 if quick else pairs, 3 if quick else 15, synchronous)
        print(f"SQLite, synchronous {synchronous}, 1 process: {found}; {_met(found.ratio)}", flush=True)


def pairs_on_postgresql(quick: bool) -> None:
    found = on_postgresql(10 if quick else 30, 1 if quick else 9)
    print(f"PostgreSQL, {CLIENTS} processes: {found}; {_met(found.ratio)}", flush=True)


def _met(ratio: float) -> str:
    return f"demanded {LEAST}: {'yes' if ratio >= LEAST else 'NO'}"


def loop(quick: bool) -> None:
    pairs, rounds = (320, 1) if quick else (1280, 5)
    with _new_file() as url:
        ledger = Ledger.open(url, BOOK)
        print(f"asyncio, SQLite, 1 thread: {asynchronous(ledger, pairs, rounds, 1)}", flush=True)
        ledger.close()
    with postgresql() as server:
        ledger = Ledger.open(server.create("tasks"), BOOK, pool_size=CLIENTS)
        print(f"asyncio, PostgreSQL, {CLIENTS} threads: {asynchronous(ledger, pairs, rounds, CLIENTS)}", flush=True)
        ledger.close()


def contention(quick: bool) -> None:
    holds, covered = (1000, 600) if quick else (20_000, 12_000)
    for synchronous in ("NORMAL", "FULL"):
        with _new_file() as url:
            found = contend(url, holds=holds, covered=covered, synchronous=synchronous)
            print(f"16 processes, one balance, SQLite, synchronous {synchronous}: {found}", flush=True)
    with postgresql() as server:
        found = contend(server.create("contest"), holds=holds, covered=covered)
        print(f"16 processes, one balance, PostgreSQL: {found}", flush=True)


def requests(quick: bool) -> None:
    few, many = (1_000, 5_000) if quick else (5_000, 150_000)
    small, large = dict(request_queries(few)), dict(request_queries(many))
    for name, milliseconds in small.items():
        ratio = large[name] / milliseconds
        print(
            f"requests, {name}: {milliseconds:.2f} ms with {2 * few} entries, {large[name]:.2f} ms with {2 * many}: "
            f"{ratio:.2f} x; demanded at most {MOST_GROWTH}: {'yes' if ratio <= MOST_GROWTH else 'NO'}",
            flush=True,
        )


@contextmanager
def _new_file() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        yield f"sqlite:///{folder}/ledger.db"


PARTS: dict[str, Callable[[bool], None]] = {
    "sqlite": pairs_on_sqlite,
    "postgresql": pairs_on_postgresql,
    "async": loop,
    "contention": contention,
    "requests": requests,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    arguments.add_argument("--only", choices=PARTS, help="one part")
    given = arguments.parse_args()
    used = ", ".join(f"{name} {version(name)}" for name in ("SQLAlchemy", "psycopg"))
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    print(f"SQLite {sqlite3.sqlite_version}, {used}")
    for name, part in PARTS.items():
        if given.only in (None, name):
            part(given.quick)


if __name__ == "__main__":
    main()
