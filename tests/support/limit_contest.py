"""Many writers on one account with limits by window. ``benchmarks/ledger_windows.py`` runs it in full size."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger import Entry, Ledger

__all__ = ["contend"]

NOW: Final = datetime(2026, 10, 20, 8, tzinfo=UTC)
ACCOUNT: Final = "acct_1"
_PATIENCE: Final = 300
"""Seconds that a process waits for the others to start."""


def contend(
    url: str, *, writers: int, requests: int, processes: bool, patience: float = 300, retries: int = 0
) -> Counter[str]:
    """Let writers hold, settle and release on an account whose limits cover half of the requests.

    Asserts that no state of the journal exceeds a limit, that each limit is used up, and that no other error occurs.
    Returns the number of requests by outcome. ``patience`` is the maximum number of seconds for all of them.
    ``retries`` is how often a writer does an operation again, with the same id, that waited too long for the others: on
    a machine whose processes are paused, a lock may be held for longer than it is waited for.
    """
    limits = {"requests": requests // 2, "credits": requests // 2, "tokens": requests * 300}
    with Ledger.open(url) as ledger:
        ledger.open_account(ACCOUNT, at=NOW)
        ledger.grant(ACCOUNT, requests * 10, reason="contest", id="lot", at=NOW)
        for unit, window in (("requests", "day"), ("credits", "24h"), ("tokens", "month")):
            ledger.set_limit(ACCOUNT, unit, limits[unit], unit=unit, window=window, id=unit, at=NOW)  # type: ignore[arg-type]
    reports: Any
    runners: list[Any]
    if processes:
        context = multiprocessing.get_context("forkserver")
        gate, reports = context.Barrier(writers), context.Queue()
        runners = [context.Process(target=_write, args=(url, gate, reports.put, range(n, requests, writers), retries))
                   for n in range(writers)]  # fmt: skip
    else:
        found: list[Counter[str]] = []
        gate = threading.Barrier(writers)  # type: ignore[assignment]  # the same methods
        runners = [
            threading.Thread(target=_write, args=(url, gate, found.append, range(n, requests, writers), retries))
            for n in range(writers)
        ]
    for runner in runners:
        runner.start()
    outcomes = sum((reports.get(timeout=patience) for _ in runners), Counter[str]()) if processes else Counter[str]()
    for runner in runners:
        runner.join(patience)
    if not processes:
        outcomes = sum(found, Counter[str]())
    with Ledger.open(url) as ledger:
        _check(ledger, {unit: Fraction(amount) for unit, amount in limits.items()}, outcomes)
    return outcomes


def _write(url: str, gate: Any, report: Callable[[Counter[str]], None], numbers: range, retries: int) -> None:
    """Hold one Credit or two for each request. Release every fifth, and settle the others for less."""
    outcomes = Counter[str]()
    try:
        with Ledger.open(url, pool_size=1) if not url.startswith("sqlite") else Ledger.open(url) as ledger:
            gate.wait(_PATIENCE)
            for number in numbers:
                at, id = NOW + timedelta(milliseconds=number), f"req_{number:06d}"
                try:
                    _retry(retries, partial(ledger.hold, ACCOUNT, 1 + number % 2, id=id, at=at, tokens=1000))
                    outcomes["granted"] += 1
                    if number % 5 == 0:
                        _retry(retries, partial(ledger.release, id, at=at))
                    else:
                        _retry(retries, partial(ledger.settle, id, "0.75" if number % 3 else "1", at=at))
                except BillingError as error:
                    outcomes[error.code if error.code == "limit_reached" else str(error)] += 1
    except BaseException as error:  # any other error is an outcome, too
        outcomes[f"{type(error).__name__}: {error}"] += 1
        gate.abort()
    report(outcomes)


def _retry(retries: int, operation: Callable[[], object]) -> None:
    for left in range(retries, -1, -1):
        try:
            operation()
            return
        except BillingError as error:
            if error.code != "ledger_unavailable" or not left:
                raise


def _check(ledger: Ledger, limits: dict[str, Fraction], outcomes: Counter[str]) -> None:
    assert outcomes.keys() == {"granted", "limit_reached"}, outcomes
    totals = dict.fromkeys(limits, Fraction(0))
    held: dict[str, Fraction] = {}
    for entry in ledger.journal(ACCOUNT):
        _apply(entry, held, totals)
        assert all(totals[unit] <= amount for unit, amount in limits.items()), (entry.number, totals)
    assert {limit.unit: limit.used for limit in ledger.limits(ACCOUNT, at=NOW + timedelta(seconds=60))} == totals
    # One limit is used up: it could not take another request of two Credits and 1000 tokens.
    assert any(totals[unit] + most > limits[unit] for unit, most in (("requests", 1), ("credits", 2), ("tokens", 1000)))
    assert ledger.verify() == []


def _apply(entry: Entry, held: dict[str, Fraction], totals: dict[str, Fraction]) -> None:
    """Apply an entry to what the limits count."""
    sign, credits = {"hold": 1, "release": -1}.get(entry.kind, 0), Fraction(0)
    if entry.kind == "hold":
        credits = held[entry.id] = Fraction(entry.credits)
    elif entry.kind == "release":
        credits = -held.pop(entry.content["hold"])
    elif entry.kind == "settle":
        credits = Fraction(entry.credits) - held.pop(entry.content["hold"])
    totals["credits"] += credits
    totals["requests"] += sign
    totals["tokens"] += sign * 1000
