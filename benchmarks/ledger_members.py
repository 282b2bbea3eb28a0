"""Members of an account: what they cost hold and settle, on SQLite.

README.md beside this says how each figure is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from brivionix_billing.ledger import Ledger
from ledger_contest import NOW, compare_accounts

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
    compare_accounts(CONTESTANTS, pairs=pairs, rounds=rounds, token=TOKEN)


if __name__ == "__main__":
    main()
