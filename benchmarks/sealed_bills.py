"""Bills with Merkle evidence of a Parquet file, and their verification, against SHA-256 over the same records.

The baseline is what DuckDB alone needs for SHA-256 over the canonical records, which are a column of text in Parquet.
Each contestant runs in a process of its own, in turns. Its time starts after imports and the price file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

from brivionix_billing.cli import main as run_command
from timing import ROOT, Row, peak_memory, show

PERIOD = "2026-10-01/2026-11-15"
RECORD = """'{"account":"' || account || '","at":"' || strftime("at", '%Y-%m-%dT%H:%M:%S.%f') || '+00:00","group":"'
    || "group" || '","model":"' || model || '","request_id":"' || request_id || '","service_tier":"' || service_tier
    || '","usage":{"usage":{"counts":{"cache_read_tokens":' || cache_read_tokens
    || ',"input_tokens":' || input_tokens
    || ',"output_tokens":' || output_tokens || ',"reasoning_tokens":' || reasoning_tokens || '}}}}'"""


def run(name: str, folder: Path) -> dict[str, Any]:
    """Run one contestant. Returns its seconds of wall and processor time, and its peak memory in MiB."""
    import duckdb  # not by the processes that write bills, which import this module

    start, processor = time.perf_counter(), _processor_seconds()
    if name == "sha256":
        duckdb.connect().sql(f"SELECT max(sha256(record)) FROM '{folder / 'records.parquet'}'").fetchall()
    else:
        usage, prices = str(folder / "usage.parquet"), ["--prices", str(ROOT / "pricing.yaml")]
        bills = str(folder / "bills")
        arguments = ["invoice", usage, "--all", "--period", PERIOD, "--out", bills]
        if name == "verify":
            arguments = ["verify", bills, "--usage", usage]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            code = run_command([*arguments, *prices])
        if code:
            raise SystemExit(f"{name} ended with {code}")
    seconds = time.perf_counter() - start
    for process in multiprocessing.active_children():
        process.join()
    processor = _processor_seconds() - processor
    return {"seconds": seconds, "processor": processor, "mebibytes": peak_memory()}


def _processor_seconds() -> float:
    """Return the processor time of this process and of those that it waited for."""
    return sum(os.times()[:4])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--temp", help="the folder for a temporary one; 20 million rows need 8 GB")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(arguments.run, arguments.folder)))
        return 0

    import duckdb

    from frames import USAGE

    taken: dict[str, list[dict[str, Any]]] = {"sha256": [], "invoice": [], "verify": []}
    with tempfile.TemporaryDirectory(prefix="brivionix-bills-", dir=arguments.temp) as name:
        folder = Path(name)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            usage, records = folder / "usage.parquet", folder / "records.parquet"
            connection.execute(f"COPY ({USAGE.format(rows=arguments.rows)}) TO '{usage}' (FORMAT parquet)")
            connection.execute(f"COPY (SELECT {RECORD} AS record FROM '{usage}') TO '{records}'")
        for _ in range(arguments.rounds):
            subprocess.run(["rm", "-rf", str(folder / "bills")], check=True)
            for each, found in taken.items():
                command = [sys.executable, __file__, "--run", each, "--folder", str(folder)]
                found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
                print(each, found[-1], file=sys.stderr, flush=True)
    rows = []
    for each in ("invoice", "verify"):
        ratio = median(
            ours["seconds"] / theirs["seconds"] for ours, theirs in zip(taken[each], taken["sha256"], strict=True)
        )
        processor = median(
            ours["processor"] / theirs["processor"] for ours, theirs in zip(taken[each], taken["sha256"], strict=True)
        )
        memory = max(found["mebibytes"] for found in taken[each])
        seconds = [median(found["seconds"] for found in taken[key]) for key in (each, "sha256")]
        measured = f"{seconds[0]:.1f} s, {seconds[1]:.1f} s; peak memory {memory:.0f} MiB"
        measured += f"; {processor:.2f} times the processor time"
        is_met = ratio <= 4 and memory < 4096
        rows.append(Row(f"{each}, against SHA-256", measured, f"{ratio:.2f} times", "at most 4 times, 4 GiB", is_met))
    print(f"{arguments.rows} rows of Parquet, DuckDB {duckdb.__version__}")
    print(show(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
