"""What totals are grouped by: columns, units of time in a time zone, and fields of columns such as ``tags.team``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.frames.layout import Column, FrameLayout, quote, text_literal
from brivionix_billing.frames.query import FrameQuery, table_of
from brivionix_billing.frames.times import Labels

__all__ = ["UNITS", "Grouping"]

UNITS: Final = ("day", "hour", "month")
_FIELDS: Final = re.compile(r"(STRUCT|MAP|JSON|VARCHAR).*", re.DOTALL)
"""Types of columns with fields."""
_WIDE: Final = re.compile(r"U?HUGEINT")


class Grouping:
    """The names by which rows are grouped, and their values in SQL. Raises ``invalid_argument``."""

    def __init__(self, by: Sequence[str], layout: FrameLayout, time_zone: str) -> None:
        if isinstance(by, str) or not all(isinstance(name, str) for name in by) or len(set(by)) != len(by):
            raise BillingError("invalid_argument", f"by is {safe_repr(by)}; use a tuple of different names of columns")
        self.names, self.zone, self._labels = tuple(by), time_zone, Labels(time_zone)
        self.units = [name for name in by if name in UNITS]
        self._layout = layout
        repeated = next((name for name in self.units if name in layout.types), None)
        if repeated is not None:
            raise BillingError(
                "invalid_argument", f"the frame has a column {repeated}, and by means the {repeated} of at; rename it"
            )
        self._columns = [None if name in UNITS else self._column(name) for name in by]

    def _column(self, name: str) -> tuple[str, str]:
        """Return the SQL and the type of a column, or of a field of a column."""
        layout = self._layout
        column = layout.columns.get(name) or (Column(name, layout.types[name]) if name in layout.types else None)
        if column is not None:
            # Arrow has no integers of 128 bits.
            return (f"CAST({column.sql} AS DECIMAL(38,0))" if _WIDE.fullmatch(column.type) else column.sql), column.type
        whole, _, part = name.partition(".")
        column = layout.columns.get(whole)
        if not part or column is None or not _FIELDS.fullmatch(column.type):
            known = ", ".join([*layout.types, *UNITS])
            raise BillingError("invalid_argument", f"the frame has no column {safe_repr(name)}; use some of {known}")
        if column.type.startswith("STRUCT") and not re.search(rf'[(,]\s*"?{re.escape(part)}"? ', column.type):
            raise BillingError("invalid_argument", f"the column {whole} has no field {safe_repr(part)}")
        if column.type.startswith(("STRUCT", "MAP")):
            return f"CAST({column.sql}[{text_literal(part)}] AS VARCHAR)", "VARCHAR"
        path = text_literal("$." + quote(part))
        text = f"CAST({column.sql} AS VARCHAR)"
        return f"CASE WHEN json_valid({text}) THEN json_extract_string({text}, {path}) END", "VARCHAR"

    @property
    def types(self) -> list[str]:
        """The types of the values in SQL."""
        return ["VARCHAR" if column is None else column[1] for column in self._columns]

    def sql(self, query: FrameQuery) -> list[str]:
        """Return the values of a row in SQL. Units of time are numbers, ``NULL`` if the engine cannot read the time."""
        return [
            f"CASE WHEN _b_ok THEN {query.label(name)} END" if column is None else column[0]
            for name, column in zip(self.names, self._columns, strict=True)
        ]

    def label_table(self, unit: str, numbers: Iterable[int | None]) -> str:
        """Return a query of the labels of numbers of the engine."""
        rows = [(number, self._labels.of_number(unit, number)) for number in numbers if number is not None]
        return table_of(rows, [("number", "BIGINT"), ("label", "VARCHAR")])

    def label(self, unit: str, at: datetime) -> str:
        """Return the label of an instant."""
        return self._labels.of_instant(unit, at)

    def with_labels(self, values: Sequence[Any], at: datetime | None) -> list[Any]:
        """Return the values of a row that the engine could not read, with the labels of its time."""
        return [
            value if name not in UNITS else None if at is None else self.label(name, at)
            for name, value in zip(self.names, values, strict=True)
        ]
