"""Totals and rates of a Parquet file by data frames, against what DuckDB alone needs for the same columns.

Each contestant runs in a process of its own, in turns. Its time starts after imports and the price file.
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
from typing import Any

import duckdb

from brivionix_billing import PriceBook
from brivionix_billing.frames import rate, totals
from timing import ROOT, Row, peak_memory, show

COUNTS = ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")
USAGE = """
    SELECT 'req_' || lpad(CAST(i AS VARCHAR), 9, '0') AS request_id,
        TIMESTAMPTZ '2026-10-14 00:00:00+00' + to_microseconds(CAST(hash(i, 1) % 1555200000000 AS BIGINT)) AS "at",
        'acct_' || hash(i, 2) % 300 AS account,
        ['default', 'partner', 'default'][1 + CAST(hash(i, 2) % 3 AS INT)] AS "group",
        ['gpt-5.4', 'gpt-5.4-mini', 'gpt-5.2', 'gpt-5.4-mini'][1 + CAST(hash(i, 3) % 4 AS INT)] AS model,
        CASE hash(i, 4) % 20 WHEN 0 THEN 'priority' WHEN 1 THEN 'batch' ELSE 'standard' END AS service_tier,
        CAST(hash(i, 5) % 20000 + 1000 + CASE WHEN hash(i, 9) % 100 = 0 THEN 270000 ELSE 0 END AS BIGINT)
            AS input_tokens,
        CAST(hash(i, 6) % 1000 AS BIGINT) AS cache_read_tokens,
        CAST(hash(i, 7) % 4000 + 500 AS BIGINT) AS output_tokens,
        CAST(hash(i, 8) % 500 AS BIGINT) AS reasoning_tokens
    FROM range({rows}) t(i)
"""
GROUP_BY = f"""
    SELECT account, model, CAST("at" AS DATE) AS day, count(*), {", ".join(f"sum({name})" for name in COUNTS)}
    FROM usage GROUP BY ALL ORDER BY ALL
"""
MULTIPLY = """
    COPY (
        SELECT *, input_tokens * CAST('0.00000075' AS DECIMAL(38,18)) AS credits,
            input_tokens * CAST('0.00000075' AS DECIMAL(38,18)) AS nominal,
            input_tokens * CAST('0.0000006375' AS DECIMAL(38,20)) AS cost_rmb,
            input_tokens * CAST('0.00000009' AS DECIMAL(38,20)) AS cost_stripe,
            'short' AS context_tier, CAST(NULL AS VARCHAR) AS problem
        FROM usage
    ) TO '{out}' (FORMAT parquet)
"""


def run(name: str, folder: Path) -> dict[str, Any]:
    """Run one contestant. Returns its seconds and its peak memory in MiB."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    book = PriceBook.load(ROOT / "pricing.yaml")
    connection.execute(f"CREATE VIEW usage AS SELECT * FROM '{folder / 'usage.parquet'}'")
    usage, out = connection.table("usage"), folder / f"{name}.parquet"
    start = time.perf_counter()
    if name == "group by":
        connection.sql(GROUP_BY).to_arrow_table()
    elif name == "totals":
        totals(usage, book, ("account", "model", "day")).to_arrow_table()
    elif name == "multiply":
        connection.execute(MULTIPLY.format(out=out))
    else:
        rate(usage, book).write_parquet(str(out))
    seconds = time.perf_counter() - start
    out.unlink(missing_ok=True)
    return {"seconds": seconds, "mebibytes": peak_memory()}


def compare(name: str, rival: str, demanded: float, folder: Path, rounds: int) -> Row:
    """Compare two contestants in turns: the median of the ratios of the rounds."""
    taken: dict[str, list[dict[str, Any]]] = {name: [], rival: []}
    for _ in range(rounds):
        for each, found in taken.items():
            command = [sys.executable, __file__, "--run", each, "--folder", str(folder)]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    ratio = median(ours["seconds"] / theirs["seconds"] for ours, theirs in zip(*taken.values(), strict=True))
    memory = max(found["mebibytes"] for found in taken[name])
    seconds = [median(found["seconds"] for found in each) for each in taken.values()]
    measured = f"{seconds[0]:.2f} s, {seconds[1]:.2f} s; peak memory {memory:.0f} MiB"
    is_met = ratio <= demanded and memory < 4096
    return Row(f"{name}, against {rival}", measured, f"{ratio:.2f} times", f"at most {demanded} times, 4 GiB", is_met)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(arguments.run, arguments.folder)))
        return 0
    with tempfile.TemporaryDirectory(prefix="brivionix-frames-") as name:
        folder = Path(name)
        duckdb.connect().execute(
            f"COPY ({USAGE.format(rows=arguments.rows)}) TO '{folder / 'usage.parquet'}' (FORMAT parquet)"
        )
        rows = [
            compare("totals", "group by", 1.5, folder, arguments.rounds),
            compare("rate", "multiply", 2.0, folder, arguments.rounds),
        ]
    print(f"{arguments.rows} rows of Parquet, DuckDB {duckdb.__version__}")
    print(show(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
