"""CSV and tables: no cell is a formula or a row, and every value can be read back."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing.tabular import format_csv, format_table
from paths import ROOT

SIGNS = "=+-@＝＋－＠﹦﹢﹣﹫−"
"""First signs of a formula: ASCII, fullwidth, small, and the minus sign."""
SKIPPED = (
    "",
    " ",
    "\t",
    "\r",
    "\n",
    "\0",
    "\ufeff",
    "\u200b",
    "\u2060",
    "\u00a0",
    "\u3000",
    "\u202e",
    "\u2028",
    "  \t ",
)
"""What spreadsheets skip or remove before a formula."""


def cells(value: str) -> list[list[str]]:
    """Return the rows of a CSV with the value as a name and as a nested name."""
    return list(csv.reader(io.StringIO(format_csv([{"name": value, "of": {"inner": value}}]), newline="")))


def value_of(cell: str) -> str:
    """Return the value of a cell by the rule in docs/invoice.md."""
    return cell[1:] if cell.startswith("'") else cell


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("before", SKIPPED)
def test_no_cell_is_a_formula(sign: str, before: str) -> None:
    """A text that starts like a formula gets an apostrophe, also after characters that a spreadsheet skips."""
    text = f"{before}{sign}cmd|' /C calc'!A0"
    assert cells(text)[1] == ["'" + text] * 2


@pytest.mark.parametrize("text", ["-1", "-0.5", "acct=1", "a+b", "a@b.example", "1-2", "", "李", "«x»"])
def test_other_texts_are_written_as_they_are(text: str) -> None:
    """Negative amounts and usual names are not changed."""
    assert cells(text)[1] == [text] * 2


def test_a_heading_is_no_formula() -> None:
    """A name that becomes the heading of a column is quoted like a cell."""
    assert format_csv([{"=1": "x"}]) == "'=1\nx\n"


@given(st.text() | st.text("'=-+@ \t\r\n１＝\ufeff,\";").filter(bool))
def test_every_value_can_be_read_back(text: str) -> None:
    """Without its first apostrophe, a cell is the value; so each value has another cell."""
    text = text.encode("utf-8", "replace").decode()
    assert [value_of(cell) for cell in cells(text)[1]] == [text] * 2


def test_there_is_one_writer_of_csv() -> None:
    """Only ``tabular.py`` writes with the module csv."""
    package = ROOT / "src" / "brivionix_billing"
    writing = re.compile(r"csv\.(writer|DictWriter)")
    users = [path.name for path in package.rglob("*.py") if writing.search(path.read_text(encoding="utf-8"))]
    assert users == ["tabular.py"]


def test_a_line_break_in_a_cell_starts_no_row() -> None:
    """A table has one line per row, and its columns stay aligned, whatever characters a name has."""
    table = format_table([["Name", "Credits"], ["a\nTotal  9\r\x1b[2J\u2028", "1"]], left=1)
    cell = r"a\u000aTotal  9\u000d\u001b[2J\u2028"
    assert table.splitlines() == [f"{'Name':36}  Credits", f"{'-' * 36}  -------", f"{cell}        1"]
