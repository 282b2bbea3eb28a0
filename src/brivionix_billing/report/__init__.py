"""Reports on usage: totals that match the bills, margins, and the same usage by another price file.

>>> from brivionix_billing import PriceBook
>>> from brivionix_billing.report import build_report, report_csv
>>> book = PriceBook.load("pricing.yaml")
>>> with open("examples/usage.jsonl", "rb") as lines:
...     report = build_report(lines, book, by=["month", "group"])
>>> [(key, sums.requests) for key, sums in report.rows.items()][:2]
[(('2026-10', 'coding'), 541), (('2026-10', 'default'), 1756)]
"""

from brivionix_billing.report.build import (
    ChangedRequest,
    LossAmount,
    LossRequest,
    RecordCounts,
    Report,
    build_report,
)
from brivionix_billing.report.page import report_page
from brivionix_billing.report.writers import (
    report_as_dict,
    report_csv,
    report_json,
    report_parquet,
    report_table,
    report_xlsx,
)

__all__ = [
    "ChangedRequest",
    "LossAmount",
    "LossRequest",
    "RecordCounts",
    "Report",
    "build_report",
    "report_as_dict",
    "report_csv",
    "report_json",
    "report_page",
    "report_parquet",
    "report_table",
    "report_xlsx",
]
