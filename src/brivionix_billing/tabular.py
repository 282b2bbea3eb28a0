"""Formats rows as columns of plain text and as CSV."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import escape_unprintable

__all__ = ["CsvLines", "display_width", "format_csv", "format_table", "pad", "quote_formula"]

_NEGATIVE: Final = re.compile(r"-[0-9]+(\.[0-9]+)?", re.ASCII)
_FORMULA_SIGNS: Final = frozenset("=+-@\N{MINUS SIGN}")
_QUOTED_STARTS: Final = "'\t\r\n"
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Unicode categories of spaces, control characters and characters without a width, such as a byte order mark."""


def format_table(rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Format rows in columns, the first ``left`` of them aligned left, others right. The first row is the heading.

    Unprintable characters are escaped: a line break in a name would look like a row of its own.
    """
    rows = [[escape_unprintable(cell) for cell in row] for row in rows]
    widths = [max(display_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            pad(cell, width) if column < left else " " * (width - display_width(cell)) + cell
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def display_width(text: str) -> int:
    """Return the width of a text in a terminal, in columns: wide characters, such as Chinese ones, take two."""
    return len(text) if text.isascii() else sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, width: int) -> str:
    """Return a text with spaces after it, up to a width in a terminal."""
    return text + " " * (width - display_width(text))


def format_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Format rows as CSV with a heading. Nested values are flattened to ``outer_inner``.

    ``columns`` come first, even if no row has them; other columns of the rows follow. Every text is quoted by
    :func:`quote_formula`.
    """
    flat = [dict(_flatten_row(row)) for row in rows]
    names = list(dict.fromkeys([*columns, *(name for row in flat for name in row)]))
    lines = CsvLines()
    lines.add_row(map(quote_formula, names))
    for row in flat:
        lines.add_row([row.get(name, "") for name in names])
    return "".join(lines)


class CsvLines(list[str]):
    """Lines of CSV. Each ends in a line feed.

    The caller passes texts of other people through :func:`quote_formula`.
    """

    def __init__(self) -> None:
        # Before Python 3.13, csv quotes a carriage return only if it is part of the line end.
        self._writer = csv.writer(self, lineterminator="\r\n")

    def add_row(self, cells: Iterable[Any]) -> None:
        """Append a row. ``None`` is an empty cell."""
        self._writer.writerow(cells)

    def write(self, line: str) -> None:
        """Append a line, for the writer."""
        self.append(line.removesuffix("\r\n") + "\n")


def _flatten_row(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten_row(value, f"{prefix}{name}_")
        elif isinstance(value, str):
            yield prefix + name, quote_formula(value)
        elif isinstance(value, bool):
            yield prefix + name, "true" if value else "false"  # as JSON writes it
        elif not isinstance(value, list):
            yield prefix + name, value


def quote_formula(text: str) -> str:
    """Return the text of a cell, with an apostrophe in front of what a spreadsheet would run as a formula.

    A text that starts with an apostrophe gets one too. So the value of a cell that starts with one is the rest of it.
    Names are input of others. Spreadsheets skip spaces and invisible characters before a formula, and some read the
    fullwidth and small forms of its first sign.

    >>> quote_formula("=1+1"), quote_formula(" +1"), quote_formula("-1.5"), quote_formula("'s")
    ("'=1+1", "' +1", '-1.5', "''s")
    """
    if text[:1] in _QUOTED_STARTS:
        return "'" + text if text else text
    first = next((c for c in text if unicodedata.category(c) not in _INVISIBLE_CATEGORIES), "")
    is_formula = unicodedata.normalize("NFKC", first)[:1] in _FORMULA_SIGNS
    return "'" + text if is_formula and not _NEGATIVE.fullmatch(text) else text
