"""Group commit: operations that wait at the same time share a transaction of SQLite."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.ledger import Entry, Ledger, LedgerThreadPool
from brivionix_billing.ledger.database.engine import idle_writers, keep_writer, take_writer
from crash_scenario import Killer
from ledger_kit import body, charge, later, opened, refused, schema, tables, with_credits
from profiles import examples

SECRET = "s" * 30
Operation = tuple[str, tuple[Any, ...], dict[str, Any]]


def prepared(ledger: Ledger) -> Ledger:
    """Return the ledger with an account, a promotional lot that expires, and a token with a limit."""
    with_credits(ledger)
    ledger.grant("acct", "4", reason="welcome", id="gift", at=later(0), expires=later(50))
    ledger.create_token("acct", id="tok", at=later(0), group="default", limit="9", secret=SECRET)
    return ledger


def run_alone(ledger: Ledger, operation: Operation, **options: Any) -> Any:
    """Return the result of an operation, or its error."""
    name, args, kwargs = operation
    try:
        return getattr(ledger, name)(*args, **kwargs, **options)
    except BillingError as error:
        return error.code, error.message


def run_grouped(ledger: Ledger, operations: list[Operation]) -> list[Any]:
    """Return the outcome of each operation, run in one transaction."""
    calls: list[Callable[..., Any]] = [
        lambda operation=(name, args, kwargs), **options: getattr(ledger, operation[0])(
            *operation[1], **operation[2], **options
        )
        for name, args, kwargs in operations
    ]
    outcomes = ledger.run_grouped(calls)
    return [(each.code, each.message) if isinstance(each, BillingError) else each for each in outcomes]


ids = st.sampled_from(["r1", "r2", "r3"])
times = st.integers(1, 70).map(later)  # the gift expires at 50, so an operation may post its expiry before it fails
operations = st.one_of(
    st.builds(
        lambda id, credits, at, token: ("hold", ("acct", credits), {"id": id, "at": at, "token": token}),
        ids,
        st.sampled_from(["1", "2", "8", "60", "1000"]),
        times,
        st.sampled_from([None, "tok"]),
    ),
    st.builds(
        lambda id, at, credits: ("settle", (id, credits), {"at": at}), ids, times, st.sampled_from(["0.5", "7", "90"])
    ),
    st.builds(
        lambda id, at: ("settle", (id, charge(at=later(0))), {"at": at, "usage": body(), "id": f"{id}:x"}), ids, times
    ),
    st.builds(lambda id, at: ("release", (id,), {"at": at}), ids, times),
    st.builds(lambda id, at: ("charge", ("acct", "3"), {"id": f"c-{id}", "at": at, "token": "tok"}), ids, times),
    st.builds(lambda at: ("authenticate", (SECRET,), {"at": at}), times),
    st.just(("hold", ("nobody", "1"), {"id": "r4", "at": later(1)})),
)


def holding(id: str, credits: str, seconds: int) -> Operation:
    """Return a hold without a token."""
    return "hold", ("acct", credits), {"id": id, "at": later(seconds), "token": None}


@settings(max_examples=examples(60), deadline=None)
@example([holding("r1", "1000", 60), holding("r2", "1", 1)], [2])  # the first posts the expiry of the gift, then fails
@given(st.lists(operations, max_size=12), st.lists(st.integers(1, 12), min_size=1))
def test_grouped_operations_end_as_the_same_operations_one_by_one(in_order: list[Operation], sizes: list[int]) -> None:
    """Whichever of them fail, in whatever groups, results, errors and tables are those of single transactions."""
    with opened("sqlite://") as alone, opened("sqlite://") as grouped:
        prepared(alone), prepared(grouped)
        expected = [run_alone(alone, operation) for operation in in_order]
        outcomes: list[Any] = []
        for size in itertools.cycle(sizes):
            if len(outcomes) >= len(in_order):
                break
            outcomes += run_grouped(grouped, in_order[len(outcomes) : len(outcomes) + size])
        assert outcomes == expected
        assert tables(grouped) == tables(alone)
        assert grouped.verify() == []


@asynccontextmanager
async def blocked(threads: LedgerThreadPool) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Keep the only thread of a pool busy until the function is called, so that operations wait."""
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(30)

    async def release() -> None:
        go_on.set()
        await task

    task = asyncio.ensure_future(threads.run(wait))
    await asyncio.to_thread(begun.wait, 30)
    try:
        yield release
    finally:
        go_on.set()


def run_waiting(*calls: Callable[[LedgerThreadPool], Any]) -> list[Any]:
    """Let calls wait for the thread of a pool at the same time. Returns their results and exceptions."""

    async def main() -> list[Any]:
        threads = LedgerThreadPool()
        async with blocked(threads) as go_on:
            waiting = [asyncio.ensure_future(call(threads)) for call in calls]
            await asyncio.sleep(0)
            await go_on()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        threads.close()
        return outcomes

    return asyncio.run(main())


def hold(ledger: Ledger, id: str, credits: str = "1", **options: Any) -> Callable[[LedgerThreadPool], Any]:
    """Return a call of ``Ledger.hold`` for :func:`run_waiting`."""
    return lambda threads: threads.run(ledger.hold, "acct", credits, id=id, at=later(1), **options)


def test_operations_that_wait_are_committed_together(tmp_path: Path) -> None:
    """Five holds that wait for the thread are one transaction, in which a hold beyond the balance fails alone."""
    statements: list[str] = []
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        prepared(ledger)
        idle = idle_writers(ledger.engine)
        writer = take_writer(ledger.engine, idle)
        writer.dbapi_connection.set_trace_callback(statements.append)  # type: ignore[union-attr]  # a connection of sqlite3
        keep_writer(idle, writer)
        outcomes = run_waiting(*(hold(ledger, f"r{n}", "1000" if n == 2 else "1") for n in range(5)))
        assert [isinstance(each, Entry) for each in outcomes] == [True, True, False, True, True]
        assert outcomes[2].code == "insufficient_credits"
        assert [text for text in statements if text in ("BEGIN IMMEDIATE", "COMMIT")] == ["BEGIN IMMEDIATE", "COMMIT"]
        assert ledger.balance("acct", at=later(1)).held == 4


def test_a_result_is_returned_only_after_the_commit(tmp_path: Path) -> None:
    """If the commit of a group fails, its operations are run again, so that every result is in the ledger."""
    failures = ["disk I/O error"]

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            if failures and self.in_transaction and is_armed:
                self.rollback()
                raise sqlite3.OperationalError(failures.pop())
            super().commit()

    is_armed = False
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}", connect_args={"factory": Connection}) as ledger:
        prepared(ledger)
        is_armed = True
        outcomes = run_waiting(*(hold(ledger, f"r{n}") for n in range(3)))
        assert failures == []
        assert [ledger.entry(each.id) for each in outcomes] == outcomes


def test_a_bug_in_one_operation_does_not_reach_the_others(tmp_path: Path) -> None:
    """An exception that is no BillingError is raised by its own operation only."""
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        prepared(ledger)
        outcomes = run_waiting(hold(ledger, "r1"), hold(ledger, "r2", unknown_option=1), hold(ledger, "r3"))
        assert isinstance(outcomes[1], TypeError)
        assert [ledger.entry(each.id) for each in (outcomes[0], outcomes[2])] == [outcomes[0], outcomes[2]]
        assert ledger.balance("acct", at=later(1)).held == 2


def test_operations_on_postgresql_share_no_transaction(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups that lock the same accounts in another order would block each other."""
    with schema(postgres) as url, opened(url) as ledger:
        prepared(ledger)
        grouped: list[Any] = []
        monkeypatch.setattr(Ledger, "run_grouped", lambda _, calls: grouped.append(calls))
        run_waiting(hold(ledger, "r1"), hold(ledger, "r2"))
        assert grouped == []


def test_a_group_that_is_killed_anywhere_is_whole_or_absent(tmp_path: Path) -> None:
    """After a kill at any statement, a retry of the group ends in the tables of a group without a crash."""
    group: list[Operation] = [
        ("hold", ("acct", "2"), {"id": "r1", "at": later(1), "token": "tok"}),
        ("hold", ("acct", "1000"), {"id": "r2", "at": later(60)}),  # fails after it has posted the expiry of the gift
        ("settle", ("r1", charge(at=later(1))), {"at": later(61), "usage": body()}),
    ]

    def run_in_child(url: str, killed_at: int | None) -> tuple[int, int]:
        """Return the exit status of a process that runs the group, and how many statements it ran."""
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                with opened(url) as ledger:
                    killer = Killer(killed_at)
                    killer.watch(ledger)
                    run_grouped(ledger, group)
                    os.write(write, str(killer.count).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            count = int(pipe.read() or 0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count

    def new_ledger(name: str) -> str:
        url = f"sqlite:///{tmp_path / name}"
        with opened(url) as ledger:
            prepared(ledger)
        return url

    whole = new_ledger("whole.db")
    status, statements = run_in_child(whole, None)
    assert status == 0
    assert statements > 20
    with opened(whole) as ledger:
        expected = tables(ledger)
    for number in range(1, statements + 1):
        url = new_ledger(f"{number}.db")
        assert run_in_child(url, number)[0] == 9
        with opened(url) as ledger:
            assert ledger.entry("r1") is None
            assert ledger.verify() == []
            run_grouped(ledger, group)
            assert tables(ledger) == expected


def test_a_pool_that_is_closed_without_waiting_cancels_what_has_not_started(tmp_path: Path) -> None:
    """Its tasks end, and the operation is not done; one that comes later is rejected."""

    async def main(ledger: Ledger) -> None:
        threads = LedgerThreadPool()
        async with blocked(threads) as go_on:
            waiting = asyncio.ensure_future(hold(ledger, "r1")(threads))
            await asyncio.sleep(0)
            threads.close(wait=False)
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await go_on()
        with pytest.raises(RuntimeError):
            await hold(ledger, "r2")(threads)

    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        prepared(ledger)
        asyncio.run(main(ledger))
        assert ledger.entry("r1") is None
        with refused("unknown_hold"):
            ledger.release("r2", at=later(1))


def test_a_pool_that_is_closed_finishes_what_waits(tmp_path: Path) -> None:
    """Also an operation whose task has only just called the pool is done, and its task ends."""

    async def main(ledger: Ledger) -> Any:
        threads = LedgerThreadPool()
        waiting = asyncio.ensure_future(hold(ledger, "r1")(threads))
        await asyncio.sleep(0)
        threads.close()
        return await waiting

    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        prepared(ledger)
        assert asyncio.run(main(ledger)) == ledger.entry("r1")
