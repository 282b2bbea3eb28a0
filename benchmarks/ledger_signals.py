"""Signals: what they cost hold and settle, on SQLite.

README.md beside this says how each figure is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from brivionix_billing.ledger import Ledger
from ledger_contest import NOW, compare_accounts


def without(_ledger: Ledger) -> None:
    """Set no signal."""


def with_signals(ledger: Ledger) -> None:
    """Set three signals, none of which is raised."""
    ledger.set_signal("acct", "low", "low_balance", threshold=5, id="s1", at=NOW)
    ledger.set_signal("acct", "debt", "debt", id="s2", at=NOW)
    ledger.set_signal("acct", "auto", "top_up_due", threshold=5, credits=50, cap=500, id="s3", at=NOW)


def with_limit(ledger: Ledger) -> None:
    """Set a limit by window."""
    ledger.set_limit("acct", "day", 10**6, window="day", id="l1", at=NOW)


def with_limit_and_signals(ledger: Ledger) -> None:
    """Set a limit by window, the signals, and one of the limit."""
    with_limit(ledger)
    with_signals(ledger)
    ledger.set_signal("acct", "near", "limit_near", limit="day", share="0.8", id="s4", at=NOW)


CONTESTANTS: Final[dict[str, Callable[[Ledger], None]]] = {
    "without signals": without,
    "three signals": with_signals,
    "a limit": with_limit,
    "a limit, four signals": with_limit_and_signals,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    parser.add_argument("--only", choices=CONTESTANTS, help="one contestant")
    args = parser.parse_args()
    pairs, rounds = (40, 3) if args.quick else (300, 9)
    chosen = {name: CONTESTANTS[name] for name in CONTESTANTS if args.only in (None, name)}
    compare_accounts(chosen, pairs=pairs, rounds=rounds)


if __name__ == "__main__":
    main()
