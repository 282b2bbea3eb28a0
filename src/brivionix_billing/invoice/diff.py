"""Compares a document with its recomputation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import safe_repr
from brivionix_billing.invoice.figures import DAY_KEY, LINE_KEY

__all__ = ["DAYS", "LINES", "Difference", "RowSpec", "diff", "diff_rows"]


class Difference(NamedTuple):
    """A place where a document differs from its recomputation, or violates a rule."""

    where: str
    actual: str
    """The value in the document."""
    expected: str
    """The recomputed value."""
    message: str = ""
    """The difference in words, if it is not one of two values."""

    def __str__(self) -> str:
        if self.message:
            return f"{self.where}: {self.message}"
        return f"{self.where}: the bill states {self.actual}, but {self.expected} was recomputed"


class RowSpec(NamedTuple):
    """A list in a document whose rows are identified by some of their values."""

    name: str
    key: tuple[str, ...]
    label_fields: tuple[str, ...]
    """The values that name a row in a message."""
    figures: tuple[str, ...]


LINES: Final = RowSpec("lines", LINE_KEY, (*LINE_KEY[:4], "meter"), ("quantity", "credits"))
DAYS: Final = RowSpec("days", DAY_KEY, DAY_KEY, ("requests", "credits"))
_MAX_SUMMARY_LENGTH: Final = 400
"""In characters."""


def diff_rows(spec: RowSpec, actual: list[Any], expected: list[Any]) -> list[Difference]:
    """Return every difference between two lists. Rows are matched by their key, not by their index."""

    def key(row: Any) -> tuple[Any, ...]:
        return tuple(row.get(name) for name in spec.key)

    def path(index: int, row: Any) -> str:
        return f"{spec.name}[{index}] ({', '.join(str(row.get(name)) for name in spec.label_fields)})"

    if [key(row) for row in actual] == [key(row) for row in expected]:
        return [
            difference
            for index, (row, expected_row) in enumerate(zip(actual, expected, strict=True))
            for difference in diff(path(index, row), row, expected_row)
        ]
    differences = []
    remaining = {key(row): row for row in expected}
    for index, row in enumerate(actual):
        expected_row = remaining.pop(key(row), None)
        if expected_row is None:
            message = f"not in the recomputed bill: {_row_summary(spec, row)}"
            differences.append(Difference(path(index, row), "", "", message))
        else:
            differences += diff(path(index, row), row, expected_row)
    for row in remaining.values():
        message = f"missing; the recomputed bill has: {_row_summary(spec, row)}"
        differences.append(Difference(spec.name, "", "", message))
    return differences or [Difference(spec.name, "", "", "in another order than in the recomputed bill")]


def _row_summary(spec: RowSpec, row: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {row.get(name)}" for name in (*spec.key, *spec.figures))
    return values[:_MAX_SUMMARY_LENGTH]


def diff(path: str, actual: Any, expected: Any) -> list[Difference]:
    """Return every difference between two JSON values. Values of different types differ, such as 1 and true."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        return [
            difference
            for name in {**expected, **actual}
            for difference in diff(
                f"{path}.{name}".lstrip("."), actual.get(name, _MISSING), expected.get(name, _MISSING)
            )
        ]
    if isinstance(actual, list) and isinstance(expected, list) and len(actual) == len(expected):
        return [
            difference
            for index, (item, expected_item) in enumerate(zip(actual, expected, strict=True))
            for difference in diff(f"{path}[{index}]", item, expected_item)
        ]
    if type(actual) is type(expected) and actual == expected:
        return []
    return [Difference(path, _display(actual), _display(expected))]


_MISSING: Final = object()


def _display(value: Any) -> str:
    return "nothing" if value is _MISSING else safe_repr(value, 120)
