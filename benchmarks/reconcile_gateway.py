"""Reconciles a generated month of new-api's log: accuracy by cause, and speed in relation to ``json.loads``.

Usage: ``python benchmarks/reconcile_gateway.py [CLEAN] [FAULTY] [SEED]``: clean rows, and faulty rows of every cause.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from brivionix_billing import PriceBook  # noqa: E402
from brivionix_billing.reconcile.gateway.new_api_log import reconcile_new_api  # noqa: E402
from brivionix_billing.reconcile.gateway.reading import file_source  # noqa: E402
from new_api_month import PRICES, Month  # noqa: E402


def best_of(count: int, path: Path) -> float:
    """The shortest of several times that ``json.loads`` takes for all lines."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        for line in path.open(encoding="utf-8"):
            json.loads(line)
        times.append(time.perf_counter() - start)
    return min(times)


def report_accuracy(month: Month, rows: list[dict[str, str]]) -> None:
    """Print for each cause how many of its rows have it, and what the others have."""
    found: dict[str, Counter[str]] = {}
    accused = Counter(
        row["cause"] for row in rows if row["request_id"] not in month.causes and row["state"] != "matched"
    )
    last = {row["request_id"]: row for row in rows}  # a faulty row comes after the right one with the same id
    for request_id, cause in month.causes.items():
        found.setdefault(cause, Counter())[last[request_id]["cause"]] += 1
    right = 0
    for cause, counts in sorted(found.items()):
        right += counts[cause]
        others = ", ".join(f"{name or '-'} {count}" for name, count in counts.most_common() if name != cause)
        print(f"{cause:20} {counts[cause]:6} of {counts.total():6} = {counts[cause] / counts.total():7.2%}  {others}")
    if found:
        print(f"{'all causes':20} {right / len(month.causes):.3%}")
    print(f"clean rows accused: {accused.total()} {dict(accused)}")


def main() -> None:
    clean, faulty, seed = (int(value) for value in (*sys.argv[1:], *("20000", "100", "1")[len(sys.argv) - 1 :]))
    book = PriceBook.loads(PRICES)
    month = Month(seed)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        with log.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in month.rows(clean, faulty))
        start = time.perf_counter()
        result = reconcile_new_api(file_source(str(log)), book, Path(folder, "out"))
        elapsed = time.perf_counter() - start
        parsing = best_of(3, log)
        with Path(folder, "out", "rows.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    print(result.as_text())
    report_accuracy(month, rows)
    print(f"{len(rows)} rows: {elapsed:.2f} s; json.loads {parsing:.2f} s; ratio {elapsed / parsing:.2f}")


if __name__ == "__main__":
    main()
