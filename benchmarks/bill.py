"""A month of usage, billed: how much longer than only parsing its JSON, and whether memory grows with the lines.

``python benchmarks/bill.py --lines 200000`` measures this alone, and ``--before COMMIT`` how long it took then.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from timing import ROOT, Row, earlier, show

__all__ = ["bill", "write_usage"]

USAGE = ROOT / "examples" / "usage.jsonl"
COMMAND = (sys.executable, "-m", "brivionix_billing.cli")
PERIOD = "2026-10"
FIRST, LAST = datetime(2026, 10, 14, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
"""Within the period; all four service tiers are sold from the first on."""

_PARSE = """
import json, sys, time
start = time.perf_counter()
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        json.loads(line)
print(json.dumps({"seconds": time.perf_counter() - start}))
"""
# A process is measured from a small one: on Linux a child's peak begins with that of the process that starts it.
_WATCH = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"seconds": seconds, "exit": os.waitstatus_to_exitcode(status), "peak": used.ru_maxrss * unit}))
"""


class Invoiced(NamedTuple):
    """One run of the command."""

    seconds: float
    peak: int
    """Bytes of memory at most."""


def write_usage(path: Path, count: int) -> None:
    """``count`` lines: the example again and again, with ids of their own, each time in its part of the period."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(islice(_lines(count), count))


def _lines(count: int) -> Iterator[str]:
    example = []
    for line in USAGE.read_text(encoding="utf-8").splitlines(keepends=True):
        row = json.loads(line)
        example.append((datetime.fromisoformat(row["at"]), line.partition(f'"at":"{row["at"]}"')[2]))
    begin, end = example[0][0], example[-1][0]
    stride = (LAST - FIRST) / -(-count // len(example))
    scale = stride / (end - begin + timedelta(seconds=1))
    offsets = [((at - begin) * scale, rest) for at, rest in example]
    number = 0
    for copy in range(-(-count // len(example))):
        start = FIRST + copy * stride
        for offset, rest in offsets:
            at = (start + offset).replace(tzinfo=None).isoformat(timespec="milliseconds")
            # Times an odd number, modulo a power of two: every id another, none after the other.
            identity = (number + 1) * 0x9E3779B97F4A7C15F39CC061 % 2**96
            yield f'{{"request_id":"req_{identity:024x}","at":"{at}Z"{rest}'
            number += 1


def parse(usage: Path) -> float:
    """Seconds of a loop that does nothing but ``json.loads`` each line, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _PARSE, str(usage)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["seconds"])


def invoice(usage: Path, out: Path, version: Path = ROOT) -> Invoiced:
    """One run of the command, its start included. Raises ``RuntimeError`` with what it said if it fails."""
    prices = str(version / "pricing.yaml")
    arguments = ("invoice", str(usage), "--all", "--period", PERIOD, "--out", str(out), "--prices", prices)
    watched = [sys.executable, "-c", _WATCH, *COMMAND, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(version / "src")}
    done = subprocess.run(watched, capture_output=True, text=True, check=True, cwd=version, env=environment)
    seen: dict[str, Any] = json.loads(done.stdout)
    if seen["exit"] != 0:
        said = " ".join(done.stderr.split())
        raise RuntimeError(f"exit {seen['exit']}: {said[-200:]}")
    return Invoiced(seen["seconds"], seen["peak"])


def bill(lines: int = 1_000_000, rounds: int = 3, demanded: float = 3.3) -> list[Row]:
    """The rows of the table: time against parsing, and peak memory at all lines and at a quarter of them."""
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        there = Path(folder)
        whole, quarter = there / "usage.jsonl", there / "quarter.jsonl"
        write_usage(whole, lines)
        write_usage(quarter, lines // 4)
        parsed, invoiced = [], []
        try:
            small = invoice(quarter, there / "quarter")
            for turn in range(rounds):
                parsed.append(parse(whole))
                invoiced.append(invoice(whole, there / f"out{turn}"))
        except RuntimeError as error:
            return [Row(f"bill: {lines} lines", f"not measured: {error}", "", f"<= {demanded:g}x", False)]
    ratios = sorted(each.seconds / parsing for each, parsing in zip(invoiced, parsed, strict=True))
    best, ratio = min(invoiced), median(ratios)
    growth = best.peak / small.peak
    return [
        Row(
            f"bill: invoice --all, {lines} lines",
            f"{best.seconds:.1f} s; json.loads of each line {min(parsed):.1f} s; "
            f"rounds {ratios[0]:.2f} to {ratios[-1]:.2f}",
            f"{ratio:.2f}x",
            f"<= {demanded:g}x",
            ratio <= demanded,
        ),
        Row(
            f"bill: peak memory, {lines} and {lines // 4} lines",
            f"{best.peak / 2**20:.1f} MiB and {small.peak / 2**20:.1f} MiB",
            f"{growth:.2f}x",
            "does not grow",
            growth <= 1.1,
        ),
    ]


def compare(commit: str, lines: int, rounds: int = 3) -> Row:
    """The command of now against that of an earlier commit, in turns."""
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder, earlier(commit) as before:
        there = Path(folder)
        write_usage(there / "usage.jsonl", lines)
        taken = []
        for turn in range(rounds):
            then, now = (
                invoice(there / "usage.jsonl", there / f"{name}{turn}", version).seconds
                for name, version in (("then", before), ("now", ROOT))
            )
            taken.append((now / then, now, then))
    ratios = sorted(ratio for ratio, _, _ in taken)
    ratio, now, then = sorted(taken)[rounds // 2]
    return Row(
        f"bill: invoice --all, {lines} lines, against {commit}",
        f"{now:.1f} s; then {then:.1f} s; rounds {ratios[0]:.2f} to {ratios[-1]:.2f}",
        f"{ratio:.2f}x",
        "<= 1x",
        ratio <= 1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--before", metavar="COMMIT", help="compare with this commit instead of json.loads")
    arguments = parser.parse_args()
    rows = [compare(arguments.before, arguments.lines)] if arguments.before else bill(arguments.lines)
    print(show(rows))


if __name__ == "__main__":
    main()
