"""Converts the rows of a result from CSV to Parquet or XLSX, with amounts as decimals."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

from brivionix_billing.errors import BillingError, missing_extra
from brivionix_billing.reconcile.rows import Columns
from brivionix_billing.report.workbook import Cell, Sheet, require_xlsx_extra, workbook_bytes

__all__ = ["convert", "require_format"]

_DECIMAL: Final = "DECIMAL(38, 18)"


def require_format(name: str) -> None:
    """Raise ``missing_extra`` if the library of a format is not installed."""
    if name == "xlsx":
        require_xlsx_extra()
        return
    try:
        import duckdb  # noqa: F401
    except ImportError:
        raise missing_extra("Parquet", "frames", "use CSV") from None


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
    import duckdb

    amounts = {columns.names[index] for index in _amount_indexes(columns)}
    kinds = {name: _DECIMAL if name in amounts else "VARCHAR" for name in columns.names}
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        source, target = Path(folder, "rows.csv"), Path(folder, "rows.parquet")
        with source.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns.names, *_texts(content)])
        try:
            connection.execute("SET threads = 1")  # for the same order of rows, and the same bytes
            rows = connection.read_csv(str(source), header=True, delimiter=",", quotechar='"', dtype=kinds)
            rows.write_parquet(str(target))
        except duckdb.Error as error:
            raise BillingError("invalid_argument", f"the rows do not fit into Parquet: {error}; use CSV") from None
        return target.read_bytes()
