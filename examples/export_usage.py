"""Writes the example usage as a table, as a gateway or a warehouse exports it: CSV, or Parquet by the name of the file.

    python examples/export_usage.py export.csv
    python examples/export_usage.py export.parquet

The columns have names of their own, which a mapping translates. See docs/report.md.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

from brivionix_billing.usage.record_file import Record, read_records

USAGE = Path(__file__).with_name("usage.jsonl")


def row(record: Record) -> dict[str, Any]:
    """Return the cells of a request."""
    usage, origin = record.usage, record.origin
    extras = usage.extras
    calls = dict(extras.meters) if extras else {}
    return {
        "id": record.request_id,
        "created_at": record.at_text + "Z",
        "customer": origin.account,
        "group": origin.group,
        "model": origin.model,
        "service_tier": origin.service_tier,
        "served_service_tier": extras.service_tier if extras else None,
        "prompt_tokens": usage.input_tokens,
        "cached_tokens": usage.cache_read_tokens,
        "completion_tokens": usage.output_tokens,
        "web_search_calls": calls.get("web_search", 0),
        "api_key": f"key-{int(record.request_id[-1], 16) % 3 + 1}",
    }


def main(path: str) -> None:
    """Write the table."""
    with USAGE.open("rb") as lines:
        rows = [row(record) for record in read_records(lines) if isinstance(record, Record)]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "export.csv")
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        if path.endswith(".parquet"):
            import duckdb

            duckdb.read_csv(str(table)).write_parquet(path)
        else:
            Path(path).write_bytes(table.read_bytes())
    print(f"{path}: {len(rows)} requests")


if __name__ == "__main__":
    main(sys.argv[1])
