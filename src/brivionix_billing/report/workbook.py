"""Writes XLSX workbooks: one sheet per table, with numbers as numbers. The only module that does.

A number in a workbook is a binary floating-point number of about 15 significant digits. A decimal with more digits is
written twice: as a rounded number, so that a spreadsheet can add it up, and as exact text in a column next to it.

A text is always a text. It never becomes a formula, a link or a number. The same tables give the same bytes.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import decimal_places, format_plain, to_scaled
from brivionix_billing.errors import BillingError, missing_extra
from brivionix_billing.rating.messages import resolve_locale

__all__ = ["Cell", "Sheet", "require_xlsx_extra", "workbook_bytes"]

Cell = str | int | Decimal | date | None
"""A value of a cell. A ``date`` is a day. A time is given as text, because a workbook has no time zones."""

_MAX_ROWS: Final = 1_048_575
"""Rows of a sheet below its heading. XLSX has 2^20 rows."""
_MAX_TEXT: Final = 32_767
"""Characters of a cell. XLSX counts UTF-16 code units."""
_MAX_NUMBER: Final = 10**300
"""A number from here on is a text, because a binary floating-point number cannot hold it."""
_MAX_PLACES: Final = 30
"""Decimal places of a number format."""
_MAX_WIDTH, _MIN_WIDTH = 60, 8
_MEASURED_ROWS: Final = 1_000
_EXACT: Final = {"en": "{} (exact)", "zh_CN": "{}（精确值）"}
_UNWRITABLE: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")
"""Characters that XML does not allow and the writer does not escape."""
_CREATED: Final = datetime(2000, 1, 1)  # noqa: DTZ001  # the writer wants one without a zone; fixed for equal bytes


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of a workbook."""

    name: str
    """At most 31 characters, none of ``[]:*?/\\``, and unique in the workbook."""
    columns: Sequence[str]
    """The headings, in the language of the workbook."""
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell] | None = None
    """A last row in bold."""
    places: dict[int, int] = field(default_factory=dict)
    """Index of a column -> the least number of decimal places that it shows, such as 2 for USD."""


def require_xlsx_extra() -> None:
    """Raise ``missing_extra`` if the extra ``xlsx`` is not installed."""
    try:
        import xlsxwriter  # noqa: F401
    except ImportError:
        raise missing_extra("a workbook", "xlsx", "use CSV") from None


def workbook_bytes(sheets: Sequence[Sheet], locale: str = "en") -> bytes:
    """Return the content of an XLSX file with these sheets.

    Each sheet has a bold heading that stays visible, and columns as wide as their content. A column of numbers shows
    all decimal places that any of its numbers has. A text beyond 32,767 characters is cut and ends with an ellipsis.

    Raises ``missing_extra``, and ``invalid_argument`` for a sheet with more than 1,048,575 rows.
    """
    require_xlsx_extra()
    import xlsxwriter

    out = io.BytesIO()
    workbook = xlsxwriter.Workbook(out, {"constant_memory": True, "default_date_format": "yyyy-mm-dd"})
    workbook.set_properties({"created": _CREATED})
    formats = _Formats(workbook)
    for sheet in sheets:
        rows = len(sheet.rows) + (sheet.total is not None)
        if rows > _MAX_ROWS:
            raise BillingError(
                "invalid_argument",
                f"sheet {sheet.name}: {rows} rows; XLSX has at most {_MAX_ROWS}; use CSV or Parquet",
            )
        _write_sheet(workbook.add_worksheet(sheet.name), sheet, formats, resolve_locale(locale))
    workbook.close()
    return out.getvalue()


class _Formats:
    """The formats of a workbook, each created once."""

    def __init__(self, workbook: Any) -> None:
        self._workbook = workbook
        self._known: dict[tuple[str, bool, str], Any] = {}

    def get(self, number: str = "General", *, bold: bool = False, align: str = "") -> Any:
        key = number, bold, align
        if key not in self._known:
            properties: dict[str, Any] = {"num_format": number, "bold": bold}
            if align:
                properties["align"] = align
            self._known[key] = self._workbook.add_format(properties)
        return self._known[key]


@dataclass(slots=True)
class _Column:
    """A column as it is written: cells of the source column ``index``, as numbers or as exact text."""

    title: str
    index: int
    number_format: str
    is_exact_text: bool = False


def _write_sheet(worksheet: Any, sheet: Sheet, formats: _Formats, locale: str) -> None:
    rows = [*sheet.rows, sheet.total] if sheet.total is not None else list(sheet.rows)
    columns = _layout(sheet, rows, locale)
    for position, column in enumerate(columns):
        worksheet.set_column(position, position, _width(column, rows))
    worksheet.freeze_panes(1, 0)
    for position, column in enumerate(columns):
        align = "left" if column.number_format == "General" else "right"
        worksheet.write_string(0, position, column.title, formats.get(bold=True, align=align))
    for number, row in enumerate(rows, 1):
        bold = sheet.total is not None and number == len(rows)
        for position, column in enumerate(columns):
            _write_cell(worksheet, number, position, row[column.index], column, formats, bold)


def _layout(sheet: Sheet, rows: Sequence[Sequence[Cell]], locale: str) -> list[_Column]:
    """Return the columns to write. One with numbers that a workbook cannot hold gets an exact one next to it."""
    columns = []
    for index, title in enumerate(sheet.columns):
        numbers = [Decimal(cell) for row in rows if isinstance(cell := row[index], int | Decimal)]
        if not numbers:
            columns.append(_Column(title, index, "General"))
            continue
        places = max(sheet.places.get(index, 0), *map(decimal_places, numbers))
        places = min(places, _MAX_PLACES)
        columns.append(_Column(title, index, "#,##0" + ("." + "0" * places if places else "")))
        if not all(map(_fits, numbers)):
            columns.append(_Column(_EXACT[locale].format(title), index, "General", is_exact_text=True))
    return columns


def _fits(exact: Decimal) -> bool:
    """Return whether a workbook holds the number with all its digits: 15 are safe, and the writer writes 16."""
    coefficient, places = to_scaled(exact)
    if len(str(abs(coefficient)).rstrip("0")) > 15 or places > _MAX_PLACES:
        return False
    return Decimal(f"{float(exact):.16G}") == exact


def _write_cell(
    worksheet: Any, row: int, position: int, value: Cell, column: _Column, formats: _Formats, bold: bool
) -> None:
    if value is None:
        return
    if isinstance(value, datetime):
        raise TypeError("a time is given as text")
    if isinstance(value, date):
        worksheet.write_datetime(row, position, value, formats.get("yyyy-mm-dd", bold=bold, align="left"))
    elif isinstance(value, int | Decimal) and not column.is_exact_text and -_MAX_NUMBER < value < _MAX_NUMBER:
        worksheet.write_number(row, position, float(value), formats.get(column.number_format, bold=bold))
    else:
        align = "right" if column.is_exact_text else "left"
        worksheet.write_string(row, position, _text(value), formats.get("@", bold=bold, align=align))


def _text(value: str | int | Decimal) -> str:
    text = value if isinstance(value, str) else format_plain(Decimal(value))
    text = _UNWRITABLE.sub("\ufffd", text)
    if len(text.encode("utf-16-le")) // 2 > _MAX_TEXT:
        text = text.encode("utf-16-le")[: 2 * (_MAX_TEXT - 1)].decode("utf-16-le", "ignore") + "…"
    return text


def _width(column: _Column, rows: Sequence[Sequence[Cell]]) -> int:
    """Return the width of a column in characters, by its heading and its first rows and its last one."""
    measured = [*rows[:_MEASURED_ROWS], *rows[-1:]]
    widths = [_display_width(_shown(row[column.index], column)) for row in measured]
    return min(max(_MIN_WIDTH, _display_width(column.title) + 1, *(width + 1 for width in widths)), _MAX_WIDTH)


def _shown(value: Cell, column: _Column) -> str:
    if value is None or isinstance(value, date):
        return "" if value is None else value.isoformat()
    if isinstance(value, int | Decimal) and not column.is_exact_text:
        places = len(column.number_format.partition(".")[2])
        return f"{int(value):,}" + "0" * (places + bool(places))
    return _text(value)


def _display_width(text: str) -> int:
    """Return the number of columns that a text takes: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text.split("\n", 1)[0][:_MAX_WIDTH])
