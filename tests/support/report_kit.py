"""Shared by the tests of reports: reports over records, and the exact values of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from bill_kit import BOOK, OCTOBER, text, written
from brivionix_billing import PriceBook
from brivionix_billing.report import Report, build_report
from brivionix_billing.report.columns import report_columns

__all__ = ["COSTS", "Json", "cost_text", "report", "values"]

Json = dict[str, Any]


def cost_text(*, ratio: str = "0.4", channels: str = "{}") -> str:
    """Return a cost book with two upstreams, whose prices are those of the price file times a ratio."""
    whole = text()
    models = whole[whole.index("models:") : whole.index("groups:")]
    return (
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\n"
        "cache_discount: [{from: 2026-01-01, discount: 0.75}]\n"
        "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 1}], file_search: [{from: 2026-01-01, "
        f"per_1000_calls: 1}}]}}\nchannels: {channels}\n{models}"
        f"groups:\n  default: {{terms: [{{from: 2026-01-01, ratio: {ratio}, models: ['*']}}]}}\n"
        "  azure: {terms: [{from: 2026-01-01, ratio: 2, models: [alpha]}]}\n"
    )


COSTS = PriceBook.loads(
    cost_text(channels="{bank: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 7.1}]}}")
)


def report(records: Sequence[Json], by: str = "account", book: PriceBook = BOOK, **options: Any) -> Report:
    """Return the report of October over records."""
    return build_report(
        written(records).splitlines(keepends=True), book, by=by.split(","), **{"period": OCTOBER, **options}
    )


def values(found: Report, name: str) -> dict[tuple[str, ...], Fraction]:
    """Return the exact value of a column in each row."""
    (column,) = [column for column in report_columns(found, "en") if column.name == name]
    return {key: Fraction(Decimal(column.value(key, sums))) for key, sums in found.rows.items()}
