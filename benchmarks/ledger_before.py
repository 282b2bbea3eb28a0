"""Hold and settle of an earlier commit and of now, in turns, each in a process of its own, on SQLite.

README.md beside this says how each figure is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from timing import ROOT, earlier

FIRST = "2bddc46"
"""The commit whose pairs had 0.56 and 0.63 times the rate of their own statements."""


def run(synchronous: str, pairs: int) -> dict[str, float]:
    """Return the milliseconds and the processor time of a pair of the version that is first on the path."""
    import ledger_pairs
    from brivionix_billing.ledger import Ledger

    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        url = f"sqlite:///{folder}/ledger.db"
        ledger = Ledger.open(url, ledger_pairs.BOOK, synchronous=synchronous)
        stream = ledger_pairs.Pairs(ledger, "acct_1")
        stream.open()
        stream.run(range(ledger_pairs.WARM))
        start, processor = time.perf_counter(), time.process_time()
        stream.run(range(ledger_pairs.WARM, ledger_pairs.WARM + pairs))
        taken, used = time.perf_counter() - start, time.process_time() - processor
        ledger.close()
    return {"clock": taken / pairs * 1000, "processor": used / pairs * 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default=FIRST, help=f"the earlier commit; default {FIRST}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--run", nargs=2, metavar=("VERSION", "SYNCHRONOUS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        version, synchronous = arguments.run
        sys.path[:0] = [f"{version}/src", f"{version}/benchmarks"]
        sys.modules.pop("timing", None)  # that of this version
        print(json.dumps(run(synchronous, arguments.pairs)))
        return
    with earlier(arguments.before) as before:
        for synchronous in ("NORMAL", "FULL"):
            compare(before, synchronous, arguments.rounds, arguments.pairs)


def compare(before: Path, synchronous: str, rounds: int, pairs: int) -> None:
    taken: dict[Path, list[dict[str, float]]] = {before: [], ROOT: []}
    for number in range(rounds):
        for version in sorted(taken, reverse=number % 2 == 1):  # each is first in half of the rounds
            command = [sys.executable, __file__, "--pairs", str(pairs), "--run", str(version), synchronous]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            taken[version].append(json.loads(found))
    for clock in ("clock", "processor"):
        then, now = ([each[clock] for each in taken[version]] for version in (before, ROOT))
        ratios = sorted(new / old for new, old in zip(now, then, strict=True))
        print(
            f"SQLite, synchronous {synchronous}, {clock}: {median(now):.2f} ms a pair, before {median(then):.2f}; "
            f"ratio {median(ratios):.2f} ({rounds} rounds, {ratios[0]:.2f} to {ratios[-1]:.2f}), "
            f"of the fastest {min(now) / min(then):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
