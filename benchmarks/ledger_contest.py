"""Pairs of hold and settle on SQLite, of accounts that differ in what was set up for them, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from brivionix_billing.ledger import Ledger

__all__ = ["NOW", "compare_accounts"]

NOW: Final = datetime(2026, 10, 20, 8, tzinfo=UTC)


def compare_accounts(
    contestants: Mapping[str, Callable[[Ledger], object]], *, pairs: int, rounds: int, **hold: Any
) -> None:
    """Print the pairs per second of each account, and their ratio to those of the first one.

    A contestant sets up the account ``acct`` in a ledger of its own. ``hold`` are further arguments of the holds.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        ledgers = {}
        for number, (name, set_up) in enumerate(contestants.items()):
            ledger = ledgers[name] = Ledger.open(f"sqlite:///{Path(folder) / f'{number}.db'}", synchronous="NORMAL")
            ledger.open_account("acct", at=NOW)
            ledger.grant("acct", 10**6, reason="benchmark", id="lot", at=NOW)
            set_up(ledger)
        for turn in range(rounds):
            for name, ledger in ledgers.items():
                begin = time.perf_counter()
                for number in range(pairs):
                    ledger.hold("acct", "0.9", id=f"{turn}-{number}", at=NOW, **hold)
                    ledger.settle(f"{turn}-{number}", "0.5", at=NOW)
                times[name].append(pairs / (time.perf_counter() - begin))
        for ledger in ledgers.values():
            ledger.close()
    first, base = next(iter(times.items()))
    for name, speeds in times.items():
        ratios = [speed / other for speed, other in zip(speeds, base, strict=True)]
        print(
            f"{name}: {median(speeds):.0f} pairs per second, {median(ratios):.2f} times {first} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
