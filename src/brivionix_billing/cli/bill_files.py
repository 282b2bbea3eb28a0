"""Parts that the commands invoice and credit-note share: the place in the series, rejected records, the table."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from brivionix_billing.cli.output import count_noun, print_stderr
from brivionix_billing.cli.skipped import print_duplicates, print_groups, print_out_of_scope
from brivionix_billing.errors import BillingError
from brivionix_billing.files import create_file
from brivionix_billing.invoice.aggregation.account_usage import AggregatedUsage
from brivionix_billing.invoice.document import read_document
from brivionix_billing.invoice.files import DOCUMENT_FILE, find_documents, latest_document
from brivionix_billing.report.rejections import RejectionSummary
from brivionix_billing.tabular import format_table
from brivionix_billing.usage.record_file import RejectedRecord

__all__ = [
    "REJECTED_FILE",
    "RejectedFile",
    "add_place",
    "bill_row",
    "bills_table",
    "print_skipped",
    "series_tail",
    "sibling_documents",
]

REJECTED_FILE: Final = "rejected.jsonl"


def add_place(parser: ArgumentParser, *, required: bool) -> None:
    """Add the options for the folder to write to, and for the place in the series."""
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="the folder to write to; existing files are never replaced"
    )
    parser.add_argument(
        "--after",
        required=required,
        metavar="PATH",
        help="the last document of the series, or a folder that contains it; the next number follows it",
    )


def bill_row(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the row of a document in ``bills.csv`` and in the printed table."""
    totals, payment, period = document["totals"], document["payment"] or {}, document["period"]
    return {
        "id": document["id"],
        "kind": document["kind"],
        "account": document["customer"]["account"],
        "customer": document["customer"]["name"],
        "channel": payment.get("channel"),
        "currency": payment.get("currency"),
        "amount": totals["rounded"]["channels"].get(payment.get("channel")),
        "period": period["name"],
        "from": period["from"],
        "to": period["to"],
        "issued": document["issued"],
        "due": document["due"],
        "requests": totals["requests"],
        "credits": totals["credits"],
        "nominal": totals["nominal"]["amount"],
        "rounded": {"credits": totals["rounded"]["credits"], **totals["rounded"]["channels"]},
        "hash": document["hash"],
        "path": str(path),
    }


def bills_table(rows: list[dict[str, Any]]) -> str:
    """Return the printed table of some documents."""
    channels = [name for name in dict.fromkeys(name for row in rows for name in row["rounded"]) if name != "credits"]
    heads = ["bill", "account", "requests", "Credits", *channels, "file"]
    cells = [
        [row["id"], row["account"], str(row["requests"]), row["rounded"]["credits"]]
        + [row["rounded"].get(name, "") for name in channels]
        + [row["path"]]
        for row in rows
    ]
    return format_table([heads, *cells], left=2)


def print_skipped(usage: AggregatedUsage, rejected: RejectedFile, out: Path | None) -> None:
    """Print which records were not billed, and why."""
    print_duplicates(usage.duplicates, usage.duplicate_count)
    print_out_of_scope(usage.out_of_scope)
    if usage.rejected:
        count = count_noun(usage.rejected, "record")
        where = "" if out is None else f"; the reasons are in {out / REJECTED_FILE}"
        print_stderr(f"{count} rejected, NOT billed{where}")
        print_groups(rejected.summary.groups())


class RejectedFile:
    """The file of rejected records, and their summary. The file is created with the first record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None
        self.summary = RejectionSummary()

    def __enter__(self) -> RejectedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def add(self, record: RejectedRecord) -> None:
        """Append a record."""
        self.summary.add(record)
        if self.file is None:
            self.file = create_file(self.path)
        self.file.write(json.dumps(record.as_dict(), ensure_ascii=False) + "\n")


def sibling_documents(path: Path) -> list[Path]:
    """Return the documents below a folder, or a document and those in its sibling folders."""
    if path.is_dir():
        return list(find_documents(path))
    siblings = path.resolve().parent.parent.glob(f"*/{DOCUMENT_FILE}")
    return [path, *sorted(sibling for sibling in siblings if not sibling.samefile(path))]


def series_tail(path: Path) -> dict[str, Any]:
    """Return the last document of a series.

    Raises ``series_broken`` if a later document is next to it: two documents would have the same number.
    """
    last = latest_document(path)
    for sibling in sibling_documents(path):
        other = read_document(sibling)
        number = other.get("number")
        if other.get("series") == last["series"] and type(number) is int and number > last["number"]:
            raise BillingError(
                "series_broken",
                f"{last['id']} is not the last document of its series: {sibling} follows; give that by --after",
            )
    return last
