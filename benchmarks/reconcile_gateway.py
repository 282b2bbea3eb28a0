"""Reconciles generated months of new-api's and litellm's logs: accuracy by cause, and speed beside ``json.loads``.

Usage: ``python benchmarks/reconcile_gateway.py [CLEAN] [FAULTY] [SEED]``: clean rows, and faulty rows of every cause.
The time is that of the whole command ``reconcile gateway``, with its start, by several processes and by one.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

import litellm_month  # noqa: E402
import new_api_month  # noqa: E402

SOURCES = ("new-api", "litellm")


def parse_time(path: Path) -> float:
    """The time that ``json.loads`` takes for all lines."""
    start = time.perf_counter()
    for line in path.open(encoding="utf-8"):
        json.loads(line)
    return time.perf_counter() - start


def command_time(source: str, log: Path, *options: str) -> float:
    """The time of the command. Its result is in the folder of the log."""
    folder = log.parent
    command = [str(Path(sys.executable).with_name("brivionix-billing")), "reconcile", "gateway", str(log)]
    command += ["--source", source, "--prices", str(folder / "prices.yaml"), "--out", str(folder / "out"), *options]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    return elapsed


def report_accuracy(causes: Mapping[str, str], rows: list[dict[str, str]]) -> None:
    """Print for each cause how many of its rows have it, and what the others have."""
    found: dict[str, Counter[str]] = {}
    accused = Counter(row["cause"] for row in rows if row["request_id"] not in causes and row["state"] != "matched")
    last = {row["request_id"]: row for row in rows}  # a faulty row comes after the right one with the same id
    for request_id, cause in causes.items():
        found.setdefault(cause, Counter())[last[request_id]["cause"]] += 1
    right = 0
    for cause, counts in sorted(found.items()):
        right += counts[cause]
        others = ", ".join(f"{name or '-'} {count}" for name, count in counts.most_common() if name != cause)
        print(f"{cause:20} {counts[cause]:6} of {counts.total():6} = {counts[cause] / counts.total():7.2%}  {others}")
    if found:
        print(f"{'all causes':20} {right / len(causes):.3%}")
    print(f"clean rows accused: {accused.total()} {dict(accused)}")


def main() -> None:
    clean, faulty, seed = (int(value) for value in (*sys.argv[1:], *("200000", "300", "1")[len(sys.argv) - 1 :]))
    for source in SOURCES:
        month = new_api_month.Month(seed) if source == "new-api" else litellm_month.Month(seed)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "prices.yaml").write_text(new_api_month.PRICES, encoding="utf-8")
            log = folder / "log.jsonl"
            with log.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in month.rows(clean, faulty))
            before = parse_time(log)
            times = {"default": command_time(source, log), "one process": command_time(source, log, "--workers", "0")}
            parsing = min(before, parse_time(log))
            with (folder / "out" / "rows.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        report_accuracy(month.causes, rows)
        ratios = "; ".join(f"{name} {taken:.2f} s = {taken / parsing:.2f}" for name, taken in times.items())
        print(f"{source}: {len(rows)} rows; json.loads {parsing:.2f} s; {ratios}\n")


if __name__ == "__main__":
    main()
