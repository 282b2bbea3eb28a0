"""A day of a ledger, killed at statement after statement: ``python tests/support/crash_scenario.py URL``.

A child process runs the operations of a day on a database. It is killed, without any cleanup, before its n-th
statement or commit. Then another process opens the database, verifies it, and runs the whole day with the same ids. All
tables must match those of a day without a crash, byte for byte. This is repeated for every n in a thorough run, and
for one of every 24 in a quick one; then for archiving the day and restoring it. Prints the number of points.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import event

import ledger_kit as kit
from brivionix_billing import Payable
from brivionix_billing.ledger import Ledger, Restriction
from brivionix_billing.ledger.database.tables import METADATA
from plan_kit import pay, plan
from profiles import sampled

Operation = Callable[[Ledger], Any]
SIGNALS = 6
"""Number of signals that are raised before they are delivered."""


def day() -> list[Operation]:
    """Return every kind of operation, with every side effect: expiry, debt, shrinking holds."""
    at, body = kit.later, kit.body
    minute = timedelta(minutes=1)
    return [
        lambda led: led.open_account("acct", at=at(0)),
        lambda led: led.open_account("other", at=at(0)),
        lambda led: led.create_token("acct", id="tok", at=at(0), group="default", limit="90", secret="s" * 30),
        lambda led: led.grant("acct", "2", reason="welcome", id="gift", at=at(0), expires=at(100)),
        lambda led: led.top_up("acct", kit.quote("17"), reference="pi_1", id="lot_1", at=at(1)),
        lambda led: led.set_limit("acct", "daily", "100", window="day", id="limit", at=at(1)),
        lambda led: led.set_limit("acct", "rpm", 9, unit="requests", window="1h", token="tok", id="limit-2", at=at(1)),
        lambda led: led.set_limit(
            "acct", "x", 10**6, unit="tokens", window="day", tag="team=x", id="limit-3", at=at(1)
        ),
        lambda led: led.set_signal("acct", "low", "low_balance", threshold=1, id="signal", at=at(1)),
        lambda led: led.set_signal("acct", "debt", "debt", id="signal-2", at=at(1)),
        lambda led: led.set_signal("acct", "lost", "hold_expired", id="signal-3", at=at(1)),
        lambda led: led.set_signal(
            "acct", "auto", "top_up_due", threshold=2, credits=9, cap=9, id="signal-4", at=at(1)
        ),
        lambda led: led.set_signal("acct", "near", "limit_near", limit="rpm", share="0.3", id="signal-5", at=at(1)),
        lambda led: led.add_member("acct", "ann", id="join", at=at(1)),
        lambda led: led.add_member("acct", "bob", id="join-2", at=at(1)),
        lambda led: led.set_limit("acct", "ann", "3", window="day", member="ann", id="limit-6", at=at(1)),
        lambda led: led.hold("acct", "1.5", id="r1", at=at(2), token="tok", tags={"team": "x"}, tokens=20_000),
        lambda led: led.hold("acct", "0.9", id="r2", at=at(3), ttl=minute, member="ann"),
        lambda led: led.freeze_member("acct", "ann", reason="suspicion", id="cool", at=at(3)),
        lambda led: led.unfreeze_member("acct", "ann", reason="a mistake", id="warm", at=at(3)),
        lambda led: led.change_token("tok", id="tok-4", at=at(3), member="bob"),
        lambda led: led.settle("r1", kit.charge(at=at(2)), usage=body(), at=at(4)),
        lambda led: led.hold("acct", "19", id="r3", at=at(5), token="tok"),
        lambda led: led.release("r3", at=at(6)),
        lambda led: led.remove_member("acct", "ann", reason="left", id="leave", at=at(6)),
        lambda led: led.hold("acct", "5", id="r4", at=at(90), token="tok"),  # posts the expiry of r2 first
        lambda led: led.settle("r2", "0.5", at=at(95)),  # late
        lambda led: led.hold("acct", "1", id="r5", at=at(120)),  # posts the expiry of the gift first
        lambda led: led.change_token("tok", id="tok-2", at=at(121), limit="300", name="ours"),
        lambda led: led.rotate_secret("tok", id="tok-3", at=at(121), grace=minute, secret="t" * 30),
        lambda led: led.set_limit("acct", "daily", "90", window="day", id="limit-4", at=at(121)),
        lambda led: led.remove_limit("acct", "x", id="limit-5", at=at(121)),
        lambda led: led.remove_signal("acct", "near", id="signal-6", at=at(121)),
        lambda led: led.acknowledge_signals("acct", 1, at=at(121)),
        lambda led: led.freeze("acct", reason="suspicion", id="freeze", at=at(121)),
        lambda led: led.settle("r4", "30", at=at(122)),  # more than is available: owed
        lambda led: led.top_up("acct", kit.quote("2.40", "stripe"), reference="pi_2", id="lot_2", at=at(123)),
        lambda led: led.refund("acct", "lot_2", id="back", at=at(124), pay=Payable(11, "USD")),
        lambda led: led.reverse("acct", "back", id="failed", at=at(125), reason="the card was closed"),
        lambda led: led.unfreeze("acct", reason="a mistake", id="unfreeze", at=at(126)),
        lambda led: led.hold("acct", "3", id="r6", at=at(126), token="tok"),
        lambda led: led.dispute("acct", "lot_2", id="chargeback", at=at(127)),  # removes held Credits
        lambda led: led.reverse("acct", "chargeback", id="won", at=at(128), reason="the bank said so"),
        lambda led: led.adjust("acct", "1", reason="goodwill", author="Ada", id="plus", at=at(129)),
        lambda led: led.adjust("acct", "-0.25", reason="wrong", author="Ada", id="minus", at=at(130)),
        lambda led: led.charge("acct", kit.charge(at=at(131)), usage=body(), id="batch", at=at(131), token="tok"),
        lambda led: led.adjust("acct", "-0.5", reason="wrong", author="Ada", id="minus-2", at=at(131), lot="plus"),
        lambda led: led.reverse_charge(
            "acct", "r4", credits="4", reason="wrong", author="Ada", id="unbill", at=at(131)
        ),
        lambda led: led.reverse_charge("acct", "batch", reason="wrong", author="Ada", id="unbill-2", at=at(131)),
        lambda led: led.void("acct", "plus", used="owe", reason="wrong", author="Ada", id="void", at=at(131)),
        lambda led: led.settle("r5", kit.charge(at=at(120)), usage=body(), at=at(132)),
        lambda led: led.settle("r6", kit.charge(at=at(126)), usage=body(), at=at(133), id="own-id"),
        lambda led: led.create_order(
            "acct", kit.quote("1.20", "stripe"), id="order", at=at(134), expires=at(200), tax=Payable(24, "USD")
        ),
        lambda led: led.create_order("acct", kit.quote("17"), id="order-2", at=at(134), expires=at(200)),
        lambda led: led.cancel_order("acct", "order-2", id="cancel", at=at(134)),
        lambda led: led.receive_payment("acct", kit.payment("1.00", 135, "pi_3"), id="part", at=at(135), order="order"),
        lambda led: led.receive_payment("acct", kit.payment("0.60", 135, "pi_4"), id="rest", at=at(135), order="order"),
        lambda led: led.receive_payment("acct", kit.payment("0.36", 201, "pi_5"), id="late", at=at(136), order="order"),
        lambda led: led.refund("acct", "late", id="back-2", at=at(136), pay=Payable(12, "USD")),
        lambda led: led.dispute("acct", "part", id="chargeback-2", at=at(136)),
        lambda led: led.reverse("acct", "chargeback-2", id="won-2", at=at(136), reason="the bank said so"),
        lambda led: led.void("acct", "rest", used="waive", reason="bounced", author="Ada", id="void-2", at=at(136)),
        lambda led: led.grant("acct", "3", reason="sorry", id="gift-2", at=at(134), expires=at(140)),
        lambda led: led.change_expiry(
            "acct", "gift-2", expires=at(145), reason="wrong", author="Ada", id="longer", at=at(136)
        ),
        lambda led: led.grant(
            "acct", "2", reason="trial", id="mini", at=at(136), only=Restriction(models=["m*"]), priority=10
        ),
        lambda led: led.hold("acct", "2.5", id="r8", at=at(137), model="mini", tags={"team": "x"}),
        lambda led: led.settle("r8", "2.25", at=at(138)),
        lambda led: led.top_up("acct", kit.quote("17"), reference="pi_6", id="lot_6", at=at(138)),
        lambda led: led.transfer("acct", "other", "12", reason="split", id="move", at=at(138)),
        lambda led: led.transfer("other", "acct", "3", reason="back", id="move-2", at=at(138)),
        *plan_operations(),
        lambda led: led.hold("acct", "0.1", id="r9", at=at(138), token="tok"),
        deliver_signals,
        lambda led: led.hold(
            "acct", "0.5", id="r7", at=at(150), ttl=minute
        ),  # posts the expiry of the second gift first
    ]


def plan_operations() -> list[Operation]:
    """Return every operation on plans, with moved tax, debt and the first allowance of a free plan."""
    at = kit.later(138)
    basic, pro = plan(period="week"), plan("pro", 300, "30", period="week", overflow=False)
    return [
        lambda led: led.subscribe("other", basic, id="sub", at=at, channel="stripe"),
        lambda led: led.order_period("other", "sub", id="period", at=at, tax_rate="0.19"),
        lambda led: pay(led, "period", at),
        lambda led: led.hold("other", "2", id="r10", at=at),
        lambda led: led.change_plan("other", "sub", pro, id="up", at=at, channel="stripe", tax_rate="0.19"),
        lambda led: pay(led, "up", at),
        lambda led: led.hold("other", "200", id="r11", at=at, model="m"),
        lambda led: led.settle("r11", "310", at=at),
        lambda led: led.change_plan("other", "sub", basic, id="down", at=at, channel="stripe", at_period_end=True),
        lambda led: led.dispute("other", "pay-up", id="chargeback-3", at=at),
        lambda led: led.cancel_plan("other", "sub", id="cancel-plan", at=at),
        lambda led: led.open_account("third", at=at),
        lambda led: led.subscribe("third", plan("free", 5, None, period="day"), id="free", at=at),
    ]


def deliver_signals(ledger: Ledger) -> None:
    """Lease the signals, and acknowledge those that the day has raised until now."""
    ledger.lease_signals(at=kit.later(149))
    ledger.acknowledge_signals("acct", SIGNALS, at=kit.later(149))


def run_day(ledger: Ledger) -> None:
    """Run the whole day."""
    for operation in day():
        operation(ledger)


class Killer:
    """Counts statements and commits, and kills the process before number ``n``, if there is one."""

    def __init__(self, n: int | None, with_signal: bool = False) -> None:
        self.n, self.count, self.with_signal = n, 0, with_signal

    def __call__(self, *_: Any) -> None:
        self.count += 1
        if self.count == self.n:
            if self.with_signal:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(9)

    def watch(self, ledger: Ledger) -> None:
        """Count every statement and commit of a ledger."""
        if ledger.engine.dialect.name == "sqlite":

            @event.listens_for(ledger.engine, "connect")
            def connect(connection: Any, _record: Any) -> None:
                connection.set_trace_callback(self)  # including BEGIN and COMMIT

            ledger.engine.dispose()  # existing connections are not traced
            return
        run, commit = psycopg.Cursor.execute, psycopg.Connection.commit

        def execute(cursor: Any, *args: Any, **kwargs: Any) -> Any:
            self()
            return run(cursor, *args, **kwargs)

        def committed(connection: Any) -> None:
            self()
            commit(connection)

        psycopg.Cursor.execute = execute  # type: ignore[method-assign,assignment]
        psycopg.Connection.commit = committed  # type: ignore[method-assign,assignment]


def run_and_kill(ledger: Ledger, n: int, work: Operation = run_day) -> None:
    """Run the work in a child process that is killed at its n-th statement. The ledger must have no open connection."""
    child = os.fork()
    if not child:
        try:
            Killer(n, with_signal=n % 2 == 0).watch(ledger)
            work(ledger)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 9
    if not killed:
        raise SystemExit(f"the process was not killed at statement {n}, but ended with {status}")


def count_points(ledger: Ledger, work: Operation = run_day) -> int:
    """Return the number of statements and commits of the work. The ledger must have no open connection."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            killer = Killer(None)
            killer.watch(ledger)
            work(ledger)
            os.write(write, str(killer.count).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return int(pipe.read())


def empty_ledger(url: str) -> None:
    """Make the ledger at a URL empty."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        template = path.with_suffix(".empty")
        if not template.exists():
            Ledger.open(f"sqlite:///{template}", kit.BOOK).close()
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        shutil.copy(template, path)
        return
    with psycopg.connect(url) as connection:
        connection.execute(";".join(f"DELETE FROM {name}" for name in METADATA.tables))


def main(url: str) -> None:
    """Crash at every point in a thorough run, and at one of every 24 in a quick one."""
    with kit.opened(url) as prepared:  # creates the tables
        pass  # after close, the next use opens a connection, here or in a child process
    empty_ledger(url)
    count = count_points(prepared)
    with kit.opened(url) as ledger:
        expected = kit.tables(ledger)
        entries = sum(1 for account in ledger.accounts() for _ in ledger.journal(account))
        require_valid(ledger)
    points = list(sampled(range(1, count + 1), slower=3))
    for n in points:
        empty_ledger(url)
        run_and_kill(prepared, n)
        require_valid(prepared)  # with new connections, as another process
        run_day(prepared)
        require_valid(prepared)
        if kit.tables(prepared) != expected:
            raise SystemExit(f"after a crash at statement {n} the tables differ")
        prepared.close()
    archived = crash_while_archiving(prepared)
    print(
        f"{len(points)} of {count} points, {len(day())} operations, {entries} entries, {archived} archives: all valid"
    )


def crash_while_archiving(ledger: Ledger) -> int:
    """Archive and restore the day, killed at some statements. Returns the number of points.

    After each crash, the ledger is valid with and without the archive, and a restore brings all texts back.
    """
    with tempfile.TemporaryDirectory(prefix="brivionix-archive-") as folder:

        def work(ledger: Ledger) -> None:
            ledger.archive(folder, before=kit.later(1000), at=kit.later(1000))
            ledger.restore(folder)

        work(ledger)  # posts what is due
        texts = stored_texts(ledger)
        ledger.close()
        points = list(sampled(range(1, count_points(ledger, work) + 1), slower=3))
        for n in points:
            run_and_kill(ledger, n, work)
            require_valid(ledger)
            require_valid(ledger, folder)
            ledger.restore(folder)
            if not texts <= stored_texts(ledger):
                raise SystemExit(f"after a crash at statement {n} of the archive texts are missing")
            ledger.close()
    return len(points)


def stored_texts(ledger: Ledger) -> set[tuple[Any, ...]]:
    """Return the rows of the journal."""
    return set(kit.tables(ledger)["billing_journal"])


def require_valid(ledger: Ledger, archive: str | None = None) -> None:
    """Exit with the inconsistencies of a ledger, if there are any."""
    inconsistencies = ledger.verify(archive=archive)
    if inconsistencies:
        raise SystemExit("\n".join(map(str, inconsistencies)))


if __name__ == "__main__":
    main(sys.argv[1])
