"""Writes a report as a table of text, CSV, JSON, Parquet or XLSX.

CSV, JSON and Parquet have exact figures under names that do not depend on the language. The table and the workbook have
headings in one language.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import decimal_places, format_trimmed
from brivionix_billing.rating.messages import resolve_locale
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.report.build import ChangedRequest, LossRequest, Report
from brivionix_billing.report.columns import Column, Value, cell_text, report_columns, rounded_text
from brivionix_billing.report.messages import MESSAGES
from brivionix_billing.report.sums import RowKey, Sums
from brivionix_billing.report.workbook import Cell, Sheet, workbook_bytes
from brivionix_billing.tables.parquet import parquet_bytes
from brivionix_billing.tabular import format_csv, format_table
from brivionix_billing.times import format_instant

__all__ = [
    "account_changes",
    "changed_row",
    "loss_row",
    "report_as_dict",
    "report_csv",
    "report_json",
    "report_parquet",
    "report_table",
    "report_xlsx",
]

_MAX_DIGITS: Final = 38
"""Digits of a decimal in Parquet."""
_MAX_INT64: Final = 2**63


_MAX_TEXT_ROWS: Final = 20
"""Maximum number of requests with a loss in the text table."""


def report_table(report: Report, locale: str = "en") -> str:
    """Return the rows as plain text, with a last row for the total. Amounts are rounded as on the bills.

    Tables of the accounts that another price file changes, and of the largest losses, follow.
    """
    locale = resolve_locale(locale)
    columns = [column for column in report_columns(report, locale) if not column.is_exact]
    cells = [[column.shown_title or column.title for column in columns]]
    for key, sums in _rows_and_total(report, locale):
        cells.append([rounded_text(column.value(key, sums), column.digits) for column in columns])
    words, parts = MESSAGES[locale], [format_table(cells, left=len(report.by))]
    if report.other_digest is not None:
        heads = [words[name] for name in ("account", "credits", "other_credits", "difference_credits")]
        changes = [
            [row["account"], row["credits"], row["other_credits"], row["difference"]] for row in account_changes(report)
        ]
        parts += ["", words["compared"], format_table([heads, *changes], left=1)]
    if report.losses:
        shown = [loss_row(loss) for loss in report.losses[:_MAX_TEXT_ROWS]]
        title = words["losses_shown"].format(shown=len(shown), count=report.loss_count)
        heads = [words.get(name, name) for name in shown[0]]
        parts += ["", title, format_table([heads, *(list(row.values()) for row in shown)], left=7)]
    return "\n".join(parts)


def account_changes(report: Report) -> list[dict[str, str]]:
    """Return what each account pays more by the other price file, in exact Credits, the largest increase first."""
    ordered = sorted(report.accounts.items(), key=lambda item: (-item[1].units_difference, item[0]))
    return [
        {
            "account": name,
            "credits": format_trimmed(sums.units, UNIT_DECIMALS),
            "other_credits": format_trimmed(sums.other_units, UNIT_DECIMALS),
            "difference": format_trimmed(sums.units_difference, UNIT_DECIMALS),
            "unpriced_credits": format_trimmed(sums.unpriced_units, UNIT_DECIMALS),
        }
        for name, sums in ordered
    ]


def report_csv(report: Report) -> str:
    """Return the rows as CSV with exact figures. There is no row for the total."""
    columns = report_columns(report, "en")
    return format_csv(list(_named_rows(report, columns)), [column.name for column in columns])


def report_as_dict(report: Report) -> dict[str, Any]:
    """Return the whole report as JSON data. Amounts are strings with exact decimals, counts are numbers."""
    columns = report_columns(report, "en")
    total = {
        column.name: _json_value(column, _no_key(report), report.total) for column in columns if not column.is_text
    }
    period = report.period
    return {
        "by": list(report.by),
        "period": None if period is None else {"from": format_instant(period.start), "to": format_instant(period.end)},
        "zone": report.zone,
        "price_book": report.digest,
        "rows": [
            {column.name: _json_value(column, key, sums) for column in columns} for key, sums in report.rows.items()
        ],
        "total": total,
        "records": report.records._asdict(),
        "duplicates": [duplicate._asdict() for duplicate in report.duplicates],
        "rejected": [group.as_dict() for group in report.rejected],
        **_margin_dict(report),
        **_other_dict(report),
    }


def _margin_dict(report: Report) -> dict[str, Any]:
    if report.costs_digest is None:
        return {}
    return {
        "margin": {
            "cost_book": report.costs_digest,
            "bases": report.basis_texts,
            "without_costs": report.unknown_bases,
            "losses": report.loss_count,
            "loss_reasons": report.loss_reasons,
            "largest_losses": [loss_row(loss) for loss in report.losses],
            "problems": [group.as_dict() for group in report.problems.get("cost", ())],
        }
    }


def _other_dict(report: Report) -> dict[str, Any]:
    if report.other_digest is None:
        return {}
    return {
        "comparison": {
            "price_book": report.other_digest,
            "changed_requests": report.changed_count,
            "accounts": account_changes(report),
            "problems": [group.as_dict() for group in report.problems.get("other", ())],
        }
    }


def report_json(report: Report) -> str:
    """Return :func:`report_as_dict` as JSON text."""
    return json.dumps(report_as_dict(report), ensure_ascii=False, indent=2) + "\n"


def report_parquet(report: Report) -> bytes:
    """Return the rows as a Parquet file. Raises ``missing_extra`` without DuckDB.

    Amounts are decimals with all digits. A column whose values do not fit in 38 digits is text.
    """
    columns = report_columns(report, "en")
    rows = [[column.value(key, sums) for column in columns] for key, sums in report.rows.items()]
    types = {column.name: _parquet_type(column, [row[index] for row in rows]) for index, column in enumerate(columns)}
    return parquet_bytes((list(map(cell_text, row)) for row in rows), types)


def _parquet_type(column: Column, values: Sequence[Value]) -> str:
    if column.is_text:
        return "VARCHAR"
    numbers = [Decimal(value) for value in values]
    places = max(map(decimal_places, numbers), default=0)
    if not places and all(abs(number) < _MAX_INT64 for number in numbers) and column.digits is None:
        return "BIGINT"
    whole = max((len(str(abs(int(number)))) for number in numbers), default=1)
    return f"DECIMAL({_MAX_DIGITS}, {places})" if whole + places <= _MAX_DIGITS else "VARCHAR"


def report_xlsx(report: Report, locale: str = "en") -> bytes:
    """Return the report as a workbook. Raises ``missing_extra``, and ``invalid_argument`` for too many rows.

    Its sheets are the rows, the records that are not billed, and the losses. See :func:`workbook_bytes` for numbers
    that a workbook cannot hold.
    """
    locale = resolve_locale(locale)
    words = MESSAGES[locale]
    columns = report_columns(report, locale)
    total: list[Cell] = [
        (words["total"] if index == 0 else None) if column.is_text else column.value(_no_key(report), report.total)
        for index, column in enumerate(columns)
    ]
    rows = [[column.value(key, sums) for column in columns] for key, sums in report.rows.items()]
    places = {index: column.digits for index, column in enumerate(columns) if column.digits}
    sheets = [
        Sheet(words["report"], [column.title for column in columns], rows, total, places),
        Sheet(words["records"], *_record_sheet(report, words, locale)),
    ]
    if report.losses:
        found = [loss_row(loss) for loss in report.losses]
        titles = [words.get(name, name) for name in found[0]]
        sheets.append(Sheet(words["losses"][:31], titles, [list(row.values()) for row in found]))
    return workbook_bytes(sheets, locale)


def _record_sheet(report: Report, words: dict[str, str], locale: str) -> tuple[list[str], list[list[Cell]]]:
    titles = [words[name] for name in ("records", "code", "model", "tier", "count", "advice", "example")]
    counts = report.records
    rows: list[list[Cell]] = [
        [words[name], None, None, None, count, None, None]
        for name, count in (
            ("lines", counts.lines),
            ("requests", counts.billed),
            ("duplicates", counts.duplicates),
            ("rejected", counts.rejected),
            ("out_of_scope", counts.out_of_scope),
        )
    ]
    for title, groups in (
        (words["rejected"], report.rejected),
        (words["uncosted_requests"], report.problems.get("cost", ())),
        (words["unpriced_requests"], report.problems.get("other", ())),
    ):
        rows += [
            [title, group.code, group.model, group.service_tier, group.records, group.advice(locale), group.example]
            for group in groups
        ]
    return titles, rows


def changed_row(request: ChangedRequest) -> dict[str, Any]:
    """Return a request whose charge differs as flat values."""
    return {name: cell_text(value) for name, value in request._asdict().items()}


def loss_row(loss: LossRequest) -> dict[str, Any]:
    """Return a request with a loss as flat values; amounts are exact text."""
    row: dict[str, Any] = {
        name: getattr(loss, name)
        for name in ("request_id", "at", "account", "model", "group", "service_tier", "upstream")
    }
    for amount in loss.amounts:
        for name in ("revenue", "cost", "margin"):
            row[f"{name}_{amount.channel}_{amount.currency}"] = cell_text(getattr(amount, name))
    return {**row, "reason": loss.reason, "detail": loss.detail}


def _rows_and_total(report: Report, locale: str) -> Iterator[tuple[RowKey, Sums]]:
    yield from report.rows.items()
    yield (MESSAGES[locale]["total"], *[""] * (len(report.by) - 1)), report.total


def _named_rows(report: Report, columns: Sequence[Column]) -> Iterator[dict[str, str]]:
    for key, sums in report.rows.items():
        yield {column.name: column.text(key, sums) for column in columns}


def _no_key(report: Report) -> RowKey:
    return ("",) * len(report.by)


def _json_value(column: Column, key: RowKey, sums: Sums) -> Any:
    value = column.value(key, sums)
    return value if isinstance(value, int) else column.text(key, sums)
