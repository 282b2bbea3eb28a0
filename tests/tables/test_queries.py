"""Long queries of DuckDB: Ctrl-C ends them, and their progress is reported."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.tables import SourcePosition, queries
from brivionix_billing.tables.queries import Queries, WorkProgress

duckdb = pytest.importorskip("duckdb")

ENDLESS = "SELECT max(sha256(CAST(range AS VARCHAR))) FROM range(100000000000)"


def test_an_interrupt_ends_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during a query is ``KeyboardInterrupt``. The query stops, and the connection can be used again."""
    with duckdb.connect() as connection:
        started = threading.Event()

        def interrupt_wait(outcomes: Iterable[Any], timeout: float) -> Any:
            assert started.wait(60)
            raise KeyboardInterrupt

        def query() -> Any:
            started.set()
            return connection.execute(ENDLESS).fetchall()

        before = threading.active_count()
        monkeypatch.setattr(queries, "wait", interrupt_wait)
        with pytest.raises(KeyboardInterrupt):
            Queries(connection).run(query)
        monkeypatch.undo()
        assert threading.active_count() == before
        assert Queries(connection).run(lambda: connection.execute("SELECT 7").fetchall()) == [(7,)]


def test_an_error_of_a_query_is_raised() -> None:
    """An error in the thread of the query is raised to the caller."""
    with duckdb.connect() as connection, pytest.raises(duckdb.CatalogException):
        Queries(connection).run(lambda: connection.execute("SELECT nothing()"))


def test_other_work_is_done_meanwhile() -> None:
    """A query runs while its caller does other work, and an error of this work ends the query."""
    done = threading.Event()

    def fail() -> None:
        raise BillingError("no_usage", "wrong")

    with duckdb.connect() as connection:
        runner = Queries(connection)
        assert runner.run(lambda: done.wait(60), meanwhile=done.set)
        with pytest.raises(BillingError, match="wrong"):
            runner.run(lambda: connection.execute(ENDLESS).fetchall(), meanwhile=fail)


def test_the_parts_of_a_query_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress within a query and after it is reported as lines, and as the part of the work that is done."""
    position, reports, shown = SourcePosition(), [], threading.Event()

    def report(lines: int, _: int) -> None:
        reports.append((lines, position.fraction))
        shown.set()

    progress = WorkProgress(position, 1000, report)
    progress.total = 4
    monkeypatch.setattr(queries, "_INTERVAL", 0.001)
    with duckdb.connect() as connection:
        runner = Queries(connection, progress)
        runner.run(lambda: shown.wait(60), parts=1)
        runner.run(lambda: None, parts=3)
    assert reports[0] == (0, 0.0)  # nothing of the first query is done
    assert reports[-2:] == [(250, 0.25), (1000, 1.0)]


def test_items_are_computed_ahead() -> None:
    """While the caller uses an item, the next ones are computed: as many as it allows, and in their order."""
    computed = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(5):
            yield number
            computed.release()

    with duckdb.connect() as connection, closing(Queries(connection).iterate(items(), 2)) as found:
        assert next(found) == 0
        assert all(computed.acquire(timeout=60) for _ in range(2))  # 0 and 1 are past, so 2 is the last one
        assert not computed.acquire(timeout=0.05)
        assert list(found) == [1, 2, 3, 4]


def test_closing_items_ends_their_query() -> None:
    """If the caller stops because of an error, a query for later items is interrupted."""
    started = threading.Event()

    def items(connection: Any) -> Iterator[Any]:
        yield 1
        started.set()
        yield connection.execute(ENDLESS).fetchall()

    with duckdb.connect() as connection:
        before = threading.active_count()
        with closing(Queries(connection).iterate(items(connection), 1)) as found:
            assert next(found) == 1
            assert started.wait(60)
        assert threading.active_count() == before
        assert connection.execute("SELECT 7").fetchall() == [(7,)]
