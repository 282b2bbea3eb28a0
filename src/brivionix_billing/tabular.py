"""Formats rows as columns of plain text and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["format_csv", "format_table"]

_NEGATIVE: Final = re.compile(r"-[0-9]+(\.[0-9]+)?", re.ASCII)


def format_table(rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Format rows in columns, the first ``left`` of them aligned left, others right. The first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def format_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Format rows as CSV with a heading. Nested values are flattened to ``outer_inner``.

    ``columns`` come first, even if no row has them; other columns of the rows follow.
    """
    flat = [dict(_flatten_row(row)) for row in rows]
    names = list(dict.fromkeys([*columns, *(name for row in flat for name in row)]))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flatten_row(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten_row(value, f"{prefix}{name}_")
        elif isinstance(value, str):
            # A spreadsheet executes a cell that starts like a formula, and names are external input.
            risky = value[:1] in "=+@\t\r" or (value[:1] == "-" and not _NEGATIVE.fullmatch(value))
            yield prefix + name, "'" + value if value and risky else value
        elif isinstance(value, bool):
            yield prefix + name, "true" if value else "false"  # as JSON writes it
        elif not isinstance(value, list):
            yield prefix + name, value
