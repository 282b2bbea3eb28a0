"""Limits by window: what they cost, whether 16 writers ever exceed one, and how much of a window they can use.

README.md beside this says how each figure is measured.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from brivionix_billing.gateway.observed_shares import ObservedShares
from brivionix_billing.ledger import Ledger, LimitReachedError
from ledger_pairs import Limited, on_postgresql, on_sqlite, postgresql
from timing import ROOT

sys.path.append(str(ROOT / "tests" / "support"))

from limit_contest import contend  # the tests run it as well, in a smaller size

LEAST: Final = 0.5
"""Demanded: at least half of what the bare driver does with the same statements."""
WRITERS: Final = 16
NOW: Final = datetime(2026, 10, 20, 8, tzinfo=UTC)


def pairs(quick: bool) -> None:
    """Hold and settle on an account with three limits, against its own statements."""
    for synchronous, number in (("NORMAL", 600), ("FULL", 300)):
        found = on_sqlite(number // 5 if quick else number, 3 if quick else 9, synchronous, Limited)
        print(f"pairs with 3 limits, SQLite {synchronous}: {found}; demanded {LEAST}", flush=True)
    found = on_postgresql(10 if quick else 30, 1 if quick else 5, pairs_class=Limited)
    print(f"pairs with 3 limits, PostgreSQL, {WRITERS} processes: {found}; demanded {LEAST}", flush=True)


def contest(quick: bool, databases: Sequence[str] = ("sqlite", "postgresql")) -> None:
    """Let 16 processes request twice as much as three limits allow; assert that no state exceeds one."""
    requests = 800 if quick else 20_000
    if "sqlite" in databases:
        with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
            _report("SQLite", f"sqlite:///{Path(folder) / 'ledger.db'}", requests)
    if "postgresql" in databases:
        with postgresql() as server:
            _report("PostgreSQL", server.create("contest"), requests)


def _report(name: str, url: str, requests: int) -> None:
    start = time.perf_counter()
    outcomes = contend(url, writers=WRITERS, requests=requests, processes=True, patience=7200, retries=9)
    seconds = time.perf_counter() - start
    print(f"{WRITERS} processes, {name}: {dict(outcomes)}, no window exceeded; {seconds:.0f} s with checks", flush=True)


def utilisation() -> None:
    """Simulate 16 writers with large holds in windows of an hour: worst case, and shares of recent requests."""
    print("mean use of an hourly window by 16 writers; its limit is a multiple of one hold of 1 Credit")
    print("limit  counted       used  exceeded by  granted  refused")
    for limit in (4, 16):
        for quantile in (None, Decimal("0.5"), Decimal("0.95"), Decimal(1)):
            name = "worst case" if quantile is None else f"quantile {quantile}"
            used, most, granted, refused = simulate(limit, quantile)
            print(f"{limit:5}  {name:13} {used:4.0%}  {most:10.1%}  {granted:7}  {refused:7}", flush=True)


def simulate(limit: int, quantile: Decimal | None, hours: int = 6) -> tuple[float, float, int, int]:
    """Run writers that each send a request when the last one ended, or 10 seconds after it was refused.

    A request holds 1 Credit and takes 5 to 60 seconds. It uses a share of a log-normal distribution, with median 5 %
    and at most 100 %. Returns the mean use of the windows but the first, by how much the worst one exceeds the limit,
    and the number of requests that were granted and refused.
    """
    chance, shares = random.Random(7), None if quantile is None else ObservedShares(quantile)  # no secret
    ledger = Ledger.open("sqlite://")
    ledger.open_account("acct", at=NOW)
    ledger.grant("acct", 10**6, reason="benchmark", id="lot", at=NOW)
    ledger.set_limit("acct", "hour", limit, window="hour", id="limit", at=NOW)
    events: list[tuple[datetime, int, str | None]] = [(NOW, writer, None) for writer in range(WRITERS)]
    granted, refused, end = 0, 0, NOW + timedelta(hours=hours)
    uses: dict[datetime, Decimal] = {}
    admitted: dict[str, datetime] = {}
    while events:
        at, writer, open_id = heapq.heappop(events)
        if open_id is not None:
            used = min(Decimal(1), Decimal(str(round(chance.lognormvariate(-3, 1), 6))))
            ledger.settle(open_id, used, at=at)
            hour = admitted.pop(open_id).replace(minute=0, second=0, microsecond=0)
            uses[hour] = uses.get(hour, Decimal(0)) + used
            if shares is not None:
                shares.observe("acct", "model", _with_units(Decimal(1)), _with_units(used))
        if at >= end:
            continue
        id = f"req_{granted + refused}"
        try:
            expected = 1 if shares is None else shares.expected("acct", "model")
            ledger.hold("acct", 1, id=id, at=at, expected=expected)
        except LimitReachedError:
            refused += 1
            heapq.heappush(events, (at + timedelta(seconds=10), writer, None))
            continue
        granted += 1
        admitted[id] = at
        heapq.heappush(events, (at + timedelta(seconds=chance.uniform(5, 60)), writer, id))
    ledger.close()
    later = [float(used) / limit for hour, used in sorted(uses.items())][1:hours]
    return sum(later) / len(later), max(0.0, max(later) - 1), granted, refused


def _with_units(credits: Decimal) -> Any:
    """Return what ``ObservedShares`` reads of a worst case or a charge, without tokens."""
    units, usage = int(credits.scaleb(18)), SimpleNamespace(input_tokens=0, output_tokens=0)
    return SimpleNamespace(
        units=units, usage=usage, charge=SimpleNamespace(units=units), input_tokens=0, output_tokens=0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="smaller numbers")
    parser.add_argument("--only", choices=("pairs", "contest", "utilisation"), action="append")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="of the contest; default both")
    args = parser.parse_args()
    chosen = args.only or ("pairs", "contest", "utilisation")
    if "pairs" in chosen:
        pairs(args.quick)
    if "contest" in chosen:
        contest(args.quick, [args.database] if args.database else ("sqlite", "postgresql"))
    if "utilisation" in chosen:
        utilisation()


if __name__ == "__main__":
    main()
