"""What is not the same in a document and in the one that was made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import safe_repr
from brivionix_billing.invoice.notes import DAY_KEY, LINE_KEY

__all__ = ["DAYS", "LINES", "Difference", "RowSpec", "diff", "diff_rows"]


class Difference(NamedTuple):
    """One thing that is not as it must be."""

    where: str
    actual: str
    """What the document says."""
    expected: str
    """What it must say."""
    message: str = ""

    def __str__(self) -> str:
        if self.message:
            return f"{self.where}: {self.message}"
        return f"{self.where}: the bill says {self.actual}, redone it is {self.expected}"


class RowSpec(NamedTuple):
    """A list of a document whose rows are told apart by some of their values."""

    name: str
    key: tuple[str, ...]
    label_fields: tuple[str, ...]
    """What names a row to people."""
    figures: tuple[str, ...]


LINES: Final = RowSpec("lines", LINE_KEY, (*LINE_KEY[:4], "meter"), ("quantity", "credits"))
DAYS: Final = RowSpec("days", DAY_KEY, DAY_KEY, ("requests", "credits"))


def diff_rows(rows: RowSpec, says: list[Any], must: list[Any]) -> list[Difference]:
    """Every difference of two lists, row by row: rows that only one has are named, whatever their places."""

    def key(row: Any) -> tuple[Any, ...]:
        return tuple(row.get(name) for name in rows.key)

    def named(index: int, row: Any) -> str:
        return f"{rows.name}[{index}] ({', '.join(str(row.get(name)) for name in rows.label_fields)})"

    one = rows.name[:-1]

    if [key(row) for row in says] == [key(row) for row in must]:
        return [
            difference
            for index, (row, other) in enumerate(zip(says, must, strict=True))
            for difference in diff(named(index, row), row, other)
        ]
    out = []
    expected = {key(row): row for row in must}
    for index, row in enumerate(says):
        other = expected.pop(key(row), None)
        if other is None:
            out.append(Difference(named(index, row), "", "", f"no such {one} when redone: {_row_summary(rows, row)}"))
        else:
            out += diff(named(index, row), row, other)
    out += [
        Difference(rows.name, "", "", f"missing when compared with the redone bill: {_row_summary(rows, o)}")
        for o in expected.values()
    ]
    return out or [Difference(rows.name, "", "", "not in their order")]


def _row_summary(rows: RowSpec, row: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {row.get(name)}" for name in (*rows.key, *rows.figures))
    return values[:400]


def diff(path: str, says: Any, must: Any) -> list[Difference]:
    """Every value of two JSON trees that is not the same; 1 and true, or 1 and "1", are not the same."""
    if isinstance(says, dict) and isinstance(must, dict):
        return [
            difference
            for name in {**must, **says}
            for difference in diff(f"{path}.{name}".lstrip("."), says.get(name, _MISSING), must.get(name, _MISSING))
        ]
    if isinstance(says, list) and isinstance(must, list) and len(says) == len(must):
        return [
            difference
            for index, (a, b) in enumerate(zip(says, must, strict=True))
            for difference in diff(f"{path}[{index}]", a, b)
        ]
    if type(says) is type(must) and says == must:
        return []
    return [Difference(path, _display(says), _display(must))]


_MISSING: Final = object()


def _display(value: Any) -> str:
    return "nothing" if value is _MISSING else safe_repr(value, 120)
