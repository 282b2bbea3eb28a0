"""Many processes on one balance: what is asserted of it, in whatever size. ``benchmarks/ledger.py`` runs it in full."""

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
"""Seconds that processes wait for the slowest of them to have started."""


class Contest(NamedTuple):
    """How it went."""

    holds: int
    granted: int
    seconds: float
    """From the first begin to the last end."""
    slowest: float
    """Seconds of the longest single hold: who had to wait longest."""
    shares: list[int]
    """Holds that each process had done when the first of them was through: equal where none starves."""
    steps: list[float]
    """Seconds of every hold, sorted."""

    def __str__(self) -> str:
        half, most = self.steps[len(self.steps) // 2], self.steps[len(self.steps) * 99 // 100]
        return (
            f"{self.holds} holds, {self.granted} granted, in {self.seconds:.1f} s: {self.holds / self.seconds:.0f} a "
            f"second; one takes {half * 1e3:.1f} ms (median), {most * 1e3:.0f} ms (of 100 the slowest), at most "
            f"{self.slowest:.2f} s; when the first process was through, the slowest had done "
            f"{min(self.shares) / max(self.shares):.0%}"
        )


def contend(url: str, *, processes: int = 16, holds: int = 20_000, covered: int = 12_000, **options: Any) -> Contest:
    """``processes`` hold in turns on one balance that covers exactly ``covered`` of the ``holds``; all is asserted.

    No overdraft, no lost update, and nothing but ``insufficient_credits`` reaches who called. The database must be new.
    """
    ledger = Ledger.open(url, **options)
    ledger.open_account(ACCOUNT, at=NOW)
    # Almost one hold more, in two lots that holds cannot be divided into.
    for part, credits in enumerate((EACH * covered / 3 + EACH / 7 * 3, EACH * covered * 2 / 3 + EACH / 7 * 3)):
        ledger.grant(ACCOUNT, round(credits, 18), reason="contest", id=f"lot_{part}", at=NOW)
    before = ledger.balance(ACCOUNT, at=NOW).available
    ledger.close()

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Ledger.__module__])  # or each process would load the library anew
    gate, told = context.Barrier(processes), context.Queue()
    numbers = [range(first, holds, processes) for first in range(processes)]
    runners = [context.Process(target=_hold, args=(url, options, gate, told, each)) for each in numbers]
    for runner in runners:
        runner.start()
    try:
        found = [told.get(timeout=PATIENCE * 2) for _ in runners]
        for runner in runners:
            runner.join(PATIENCE)
    finally:
        for runner in runners:
            runner.kill()
    return _checked(url, options, found, before, holds, covered)


def _hold(url: str, options: dict[str, Any], gate: Any, told: Any, numbers: range) -> None:
    """One process: its holds one after the other, and what became of each."""
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
    except BaseException as error:  # what else might reach a caller is what this is to find out
        outcomes[f"{type(error).__name__}: {error}"] += 1
        gate.abort()
    told.put((start, ends, steps, outcomes))


def _checked(url: str, options: dict[str, Any], found: list[Any], before: Decimal, holds: int, covered: int) -> Contest:
    outcomes = sum((each for *_, each in found), Counter[str]())
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
    first = min(ends[-1] for _, ends, *_ in found)
    steps = sorted(step for _, _, each, _ in found for step in each)
    return Contest(
        holds,
        covered,
        max(ends[-1] for _, ends, *_ in found) - min(start for start, *_ in found),
        steps[-1],
        [sum(end <= first for end in ends) for _, ends, *_ in found],
        steps,
    )
