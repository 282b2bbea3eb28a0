"""Claims about the XLSX writer, read back with openpyxl."""

from __future__ import annotations

import io
import zipfile
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing.errors import BillingError
from brivionix_billing.report import workbook
from brivionix_billing.report.workbook import Cell, Sheet, workbook_bytes

pytest.importorskip("xlsxwriter")
openpyxl = pytest.importorskip("openpyxl")


def read(content: bytes, name: str = "Data") -> list[tuple[Any, ...]]:
    return [tuple(cell.value for cell in row) for row in openpyxl.load_workbook(io.BytesIO(content))[name].iter_rows()]


def one_column(*values: Cell, locale: str = "en") -> bytes:
    return workbook_bytes([Sheet("Data", ["Value"], [[value] for value in values])], locale)


def test_numbers_are_numbers_with_all_their_decimal_places() -> None:
    """A cell with a number is numeric, and its format shows as many places as the finest number of the column."""
    content = one_column(Decimal("0.585"), Decimal("12.00585"), 3)
    cells = [row[0] for row in openpyxl.load_workbook(io.BytesIO(content))["Data"].iter_rows(min_row=2)]
    assert [(cell.data_type, cell.value) for cell in cells] == [("n", 0.585), ("n", 12.00585), ("n", 3)]
    assert {cell.number_format for cell in cells} == {"#,##0.00000"}


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**12), max_value=10**12)))
def test_every_number_can_be_read_back_exactly(values: list[Decimal]) -> None:
    """Each decimal is in the workbook exactly: as its number, or as the text next to it."""
    rows = read(one_column(*values))
    assert rows[0][0] == "Value"
    for value, row in zip(values, rows[1:], strict=True):
        exact = row[1] if len(rows[0]) > 1 else repr(row[0])
        assert Decimal(exact) == value


def test_a_long_decimal_has_an_exact_column_in_the_language() -> None:
    """A decimal of more than 15 digits is a rounded number, and exact text under a heading in the language."""
    long = Decimal("123.000000000000000001")
    assert read(one_column(long)) == [("Value", "Value (exact)"), (123, "123.000000000000000001")]
    assert read(one_column(long, locale="zh_CN"))[0] == ("Value", "Value（精确值）")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "{=1}", "https://example.com", "0123", "1e5", "true"])
def test_a_text_stays_a_text(text: str) -> None:
    """No text becomes a formula, a link, a number or a truth value."""
    content = one_column(text)
    cell = openpyxl.load_workbook(io.BytesIO(content))["Data"]["A2"]
    assert (cell.data_type, cell.value, cell.hyperlink) == ("s", text, None) or (
        cell.data_type == "inlineStr" and cell.value == text
    )
    sheet = zipfile.ZipFile(io.BytesIO(content)).read("xl/worksheets/sheet1.xml")
    assert b"<f>" not in sheet
    assert b"hyperlink" not in sheet


@given(st.text(max_size=40))
def test_every_text_can_be_read_back(text: str) -> None:
    """Any text is written, also with control characters; only what XML forbids is replaced."""
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" else c for c in text)
    value = read(one_column(text, "end"))[1][0]
    # openpyxl leaves the escape of control characters to the reader, and XML reads a carriage return as a line end.
    assert openpyxl.utils.escape.unescape(value or "") == expected or "\r" in expected


def test_a_too_long_text_is_cut_visibly() -> None:
    """A text beyond the limit of a cell is cut, and ends with an ellipsis; it is not left out."""
    value = read(one_column("😀" * 20_000))[1][0]
    assert value.endswith("😀…")
    assert len(value) == 16_384


def test_the_same_tables_give_the_same_bytes() -> None:
    """A workbook does not contain the time at which it was written."""
    assert one_column("a", Decimal("1.5"), date(2026, 10, 1)) == one_column("a", Decimal("1.5"), date(2026, 10, 1))
    core = zipfile.ZipFile(io.BytesIO(one_column(1))).read("docProps/core.xml")
    assert b"2000-01-01T00:00:00Z" in core


def test_the_heading_stays_and_columns_are_as_wide_as_their_content() -> None:
    """The first row is frozen and bold; Chinese characters count twice; the total row is bold."""
    sheet = Sheet("Data", ["模型与分组的名称", "Day"], [["a", date(2026, 10, 1)]], total=["Total", None])
    loaded = openpyxl.load_workbook(io.BytesIO(workbook_bytes([sheet])))["Data"]
    assert loaded.freeze_panes == "A2"
    assert loaded["A1"].font.bold
    assert loaded["A3"].font.bold
    assert loaded.column_dimensions["A"].width > 16
    assert loaded["B2"].value.date() == date(2026, 10, 1)


def test_too_many_rows_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet with more rows than XLSX allows is rejected with advice, and not cut."""
    monkeypatch.setattr(workbook, "_MAX_ROWS", 2)
    with pytest.raises(BillingError, match=r"3 rows; XLSX has at most 2; use CSV or Parquet") as caught:
        one_column(1, 2, 3)
    assert caught.value.code == "invalid_argument"


def test_a_number_beyond_floats_is_a_text() -> None:
    """A number that a binary floating-point number cannot hold is written as its exact text."""
    content = workbook_bytes([Sheet("s", ["a"], [[Decimal("1e400")]])])
    sheet = openpyxl.load_workbook(io.BytesIO(content)).active
    assert [cell.value for cell in sheet[2]] == ["1" + "0" * 400] * 2
