"""Converts the rows of a result from CSV to Parquet or XLSX, with amounts as decimals."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from brivionix_billing.reconcile.rows import Columns
from brivionix_billing.report.workbook import Cell, Sheet, require_xlsx_extra, workbook_bytes
from brivionix_billing.tables.parquet import parquet_bytes, require_parquet

__all__ = ["convert", "require_format"]

_DECIMAL: Final = "DECIMAL(38, 18)"


def require_format(name: str) -> None:
    """Raise ``missing_extra`` if the library of a format is not installed."""
    if name == "xlsx":
        require_xlsx_extra()
        return
    require_parquet()


def convert(content: bytes, columns: Columns, name: str) -> bytes:
    """Return rows that were written as CSV in another format. Raises ``invalid_argument`` if they do not fit."""
    if name == "xlsx":
        amounts = _amount_indexes(columns)
        rows = [[_cell(text, index in amounts) for index, text in enumerate(row)] for row in _texts(content)]
        return workbook_bytes([Sheet("rows", columns.names, rows)])
    return _parquet(content, columns)


def _amount_indexes(columns: Columns) -> list[int]:
    return [columns.names.index(name) for name in (columns.theirs, columns.ours, "difference")]


def _texts(content: bytes) -> Iterator[list[str]]:
    """Yield the cells of each row, without the apostrophe that keeps a spreadsheet from running a formula."""
    reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    next(reader)
    for row in reader:
        yield [cell.removeprefix("'") for cell in row]


def _cell(text: str, is_amount: bool) -> Cell:
    if is_amount:
        return Decimal(text) if text else None
    return text


def _parquet(content: bytes, columns: Columns) -> bytes:
    amounts = {columns.names[index] for index in _amount_indexes(columns)}
    types = {name: _DECIMAL if name in amounts else "VARCHAR" for name in columns.names}
    return parquet_bytes(([cell or None for cell in row] for row in _texts(content)), types)
