"""Keys that contain the account: what a directory of ids costs hold and settle, on PostgreSQL.

With keys (account, id), a database that distributes accounts needs a directory for what callers know by its id alone,
such as the hold that they settle. This adds one to a ledger of today, as one more row per entry with a unique id, in
the same transaction. README.md beside this says how each figure is measured.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final

from brivionix_billing.ledger import Entry, Ledger
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from ledger_pairs import postgresql

NOW: Final = datetime(2026, 10, 20, 8, tzinfo=UTC)
_post_entry: Final = LockedAccount.post_entry


def post_entry_with_directory(self: LockedAccount, id: str, draft: EntryDraft) -> Entry:
    """Post an entry, and add its id to the directory."""
    entry = _post_entry(self, id, draft)
    self.store.execute("INSERT INTO billing_directory (id, account) VALUES (%s, %s)", id, self.id)
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    args = parser.parse_args()
    pairs, rounds = (40, 3) if args.quick else (200, 11)
    ratios = []
    with postgresql() as server:
        ledgers = [Ledger.open(server.create(name)) for name in ("today", "directory")]
        for ledger in ledgers:
            ledger.open_account("acct", at=NOW)
            ledger.grant("acct", 10**6, reason="benchmark", id="lot", at=NOW)
        with ledgers[1].engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE billing_directory (id text PRIMARY KEY, account text NOT NULL)")
        for turn in range(rounds):
            speeds = []
            for ledger, method in zip(ledgers, (_post_entry, post_entry_with_directory), strict=True):
                patched: Any = LockedAccount
                patched.post_entry = method
                begin = time.perf_counter()
                for number in range(pairs):
                    ledger.hold("acct", "0.9", id=f"{turn}-{number}", at=NOW)
                    ledger.settle(f"{turn}-{number}", "0.5", at=NOW)
                speeds.append(pairs / (time.perf_counter() - begin))
            ratios.append(speeds[1] / speeds[0])
        for ledger in ledgers:
            ledger.close()
    print(f"with a directory: {median(ratios):.2f} times the pairs of today ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
