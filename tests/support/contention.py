"""Many processes that hold on one balance, in any number. ``benchmarks/ledger.py`` runs it in full size."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger import Ledger

__all__ = ["Contest", "contend"]

ACCOUNT = "acct_1"
NOW = datetime(2026, 10, 20, 8, tzinfo=UTC)
EACH = Decimal("0.05")
PATIENCE = 300.0
"""Maximum wait of the processes for the slowest one to start, in seconds."""


class Contest(NamedTuple):
    """Measurements of a contest."""

    holds: int
    granted: int
    seconds: float
    """Time from the first start to the last end, in seconds."""
    slowest: float
    """Time of the slowest hold, in seconds."""
    shares: list[int]
    """Holds that each process had done when the first process finished. They are equal if no process starves."""
    steps: list[float]
    """Time of every hold, in seconds, sorted."""

    def __str__(self) -> str:
        median, slow = self.steps[len(self.steps) // 2], self.steps[len(self.steps) * 99 // 100]
        return (
            f"{self.holds} holds, {self.granted} granted, in {self.seconds:.1f} s: {self.holds / self.seconds:.0f} per "
            f"second; time of a hold: median {median * 1e3:.1f} ms, 99th percentile {slow * 1e3:.0f} ms, maximum "
            f"{self.slowest:.2f} s; when the first process finished, the slowest had done "
            f"{min(self.shares) / max(self.shares):.0%}"
        )


def contend(url: str, *, processes: int = 16, holds: int = 20_000, covered: int = 12_000, **options: Any) -> Contest:
    """Run concurrent processes that hold on one balance, which covers exactly ``covered`` of the ``holds``.

    Asserts that there is no overdraft, no lost update, and no error but ``insufficient_credits``. The database must be
    new.
    """
    ledger = Ledger.open(url, **options)
    ledger.open_account(ACCOUNT, at=NOW)
    # Two lots whose Credits are no multiples of a hold; together they cover almost one hold more.
    for part, credits in enumerate((EACH * covered / 3 + EACH / 7 * 3, EACH * covered * 2 / 3 + EACH / 7 * 3)):
        ledger.grant(ACCOUNT, round(credits, 18), reason="contest", id=f"lot_{part}", at=NOW)
    before = ledger.balance(ACCOUNT, at=NOW).available
    ledger.close()

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Ledger.__module__])  # so that the processes share the imported library
    gate, reports = context.Barrier(processes), context.Queue()
    numbers = [range(first, holds, processes) for first in range(processes)]
    runners = [context.Process(target=_hold, args=(url, options, gate, reports, each)) for each in numbers]
    for runner in runners:
        runner.start()
    try:
        results = [reports.get(timeout=PATIENCE * 2) for _ in runners]
        for runner in runners:
            runner.join(PATIENCE)
    finally:
        for runner in runners:
            runner.kill()
    return _check(url, options, results, before, holds, covered)


def _hold(url: str, options: dict[str, Any], gate: Any, reports: Any, numbers: range) -> None:
    """Run the holds of one process, and report the outcome of each."""
    ends, steps, outcomes = [], [], Counter[str]()
    start = time.monotonic()
    try:
        ledger = Ledger.open(url, **options)
        ledger.balance(ACCOUNT, at=NOW)
        gate.wait(PATIENCE)
        start = last = time.monotonic()
        for number in numbers:
            try:
                ledger.hold(ACCOUNT, EACH, id=f"req_{number:06d}", at=NOW)
                outcomes["granted"] += 1
            except BillingError as error:
                outcomes[error.code if error.code == "insufficient_credits" else str(error)] += 1
            now = time.monotonic()
            steps.append(now - last)
            ends.append(now)
            last = now
        ledger.close()
    except BaseException as error:  # any other error is an outcome, too
        outcomes[f"{type(error).__name__}: {error}"] += 1
        gate.abort()
    reports.put((start, ends, steps, outcomes))


def _check(url: str, options: dict[str, Any], results: list[Any], before: Decimal, holds: int, covered: int) -> Contest:
    outcomes = sum((each for *_, each in results), Counter[str]())
    assert outcomes == Counter(granted=covered, insufficient_credits=holds - covered), outcomes
    ledger = Ledger.open(url, **options)
    try:
        after = ledger.balance(ACCOUNT, at=NOW)
        assert after.held == EACH * covered, after
        assert after.available == before - EACH * covered, after
        assert 0 <= after.available < EACH, after
        assert after.owed == 0, after
        entries = list(ledger.journal(ACCOUNT))
        assert [entry.number for entry in entries] == list(range(1, covered + 4))
        assert sum(entry.kind == "hold" for entry in entries) == covered
        assert ledger.verify() == []
    finally:
        ledger.close()
    first = min(ends[-1] for _, ends, *_ in results)
    steps = sorted(step for _, _, each, _ in results for step in each)
    return Contest(
        holds,
        covered,
        max(ends[-1] for _, ends, *_ in results) - min(start for start, *_ in results),
        steps[-1],
        [sum(end <= first for end in ends) for _, ends, *_ in results],
        steps,
    )
