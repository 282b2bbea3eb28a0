"""Members of an account: what they cost hold and settle, on SQLite.

README.md beside this says how each figure is measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from brivionix_billing.ledger import Ledger

NOW: Final = datetime(2026, 10, 20, 8, tzinfo=UTC)
TOKEN: Final = "tok"


def with_members(ledger: Ledger, count: int, *, limits: bool) -> None:
    """Add members, and a token of the first one. Each may have a limit by window, which is not reached."""
    for number in range(count):
        ledger.add_member("acct", f"m{number}", id=f"join-{number}", at=NOW)
        if limits:
            ledger.set_limit("acct", f"m{number}", 10**6, window="day", member=f"m{number}", id=f"l{number}", at=NOW)
    ledger.create_token("acct", id=TOKEN, at=NOW, group="default", member="m0")


def with_limit(ledger: Ledger) -> None:
    """Set a limit of the account, and create a token of the account itself."""
    ledger.set_limit("acct", "day", 10**6, window="day", id="l1", at=NOW)
    ledger.create_token("acct", id=TOKEN, at=NOW, group="default")


CONTESTANTS: Final[dict[str, Callable[[Ledger], object]]] = {
    "no members": lambda ledger: ledger.create_token("acct", id=TOKEN, at=NOW, group="default"),
    "a member": lambda ledger: with_members(ledger, 1, limits=False),
    "no members, a limit": with_limit,
    "a member, a limit": lambda ledger: with_members(ledger, 1, limits=True),
    "1000 members, a limit each": lambda ledger: with_members(ledger, 1000, limits=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    args = parser.parse_args()
    pairs, rounds = (40, 3) if args.quick else (200, 9)
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        ledgers = {}
        for number, name in enumerate(CONTESTANTS):
            ledger = ledgers[name] = Ledger.open(f"sqlite:///{Path(folder) / f'{number}.db'}", synchronous="NORMAL")
            ledger.open_account("acct", at=NOW)
            ledger.grant("acct", 10**6, reason="benchmark", id="lot", at=NOW)
            CONTESTANTS[name](ledger)
        for turn in range(rounds):
            for name, ledger in ledgers.items():
                begin = time.perf_counter()
                for number in range(pairs):
                    ledger.hold("acct", "0.9", id=f"{turn}-{number}", at=NOW, token=TOKEN)
                    ledger.settle(f"{turn}-{number}", "0.5", at=NOW)
                times[name].append(pairs / (time.perf_counter() - begin))
        for ledger in ledgers.values():
            ledger.close()
    first = next(iter(times.values()))
    for name, speeds in times.items():
        ratios = [speed / base for speed, base in zip(speeds, first, strict=True)]
        print(
            f"{name}: {median(speeds):.0f} pairs per second, {median(ratios):.2f} times no members "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
