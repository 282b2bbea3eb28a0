"""Reads and writes rows.

The statements are executed on the driver's cursor: SQLAlchemy would take more time per statement than SQLite takes to
execute it. ``benchmarks/ledger.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.mappings import TABLE_MAPPINGS, JournalRow, Row
from brivionix_billing.ledger.database.statements import Statements
from brivionix_billing.ledger.projections import LotRow
from brivionix_billing.ledger.units import ZERO_TEXT, units_from_column, units_to_column

__all__ = ["TABLE_MAPPINGS", "DryRunStore", "JournalRow", "Row", "Statements", "Store"]

R = TypeVar("R")


class Store:
    """The tables of a ledger, through a cursor of the driver, in the transaction of its connection."""

    __slots__ = ("_cursor", "sql")

    def __init__(self, cursor: Any, statements: Statements) -> None:
        self.sql = statements
        self._cursor = cursor

    def dry_run(self) -> DryRunStore:
        """Return a store on the same cursor that writes nothing."""
        return DryRunStore(self._cursor, self.sql)

    def execute(self, statement: str, *values: Any) -> int:
        """Execute a statement. Returns the number of rows that it changed."""
        self._cursor.execute(statement, values)
        return int(self._cursor.rowcount)

    def fetch_rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a query. Returns its rows as tuples."""
        self._cursor.execute(statement, values)
        return list(self._cursor.fetchall())

    def last_booked(self, account: str, number: int) -> str:
        """Return the time of the last entry of an account; ``number`` is that of the entry."""
        ((booked,),) = self.fetch_rows(self.sql.booked, account, number)
        return str(booked)

    def fetch_entry(self, statement: str, *values: Any) -> JournalRow | None:
        """Execute a query of the journal. Returns its first row."""
        self._cursor.execute(statement, values)
        row = self._cursor.fetchone()
        return None if row is None else JournalRow(*row)

    def fetch_one(self, row_class: Callable[..., R], statement: str, *values: Any) -> R | None:
        """Execute a query. Returns its first row."""
        self._cursor.execute(statement, values)
        row = self._cursor.fetchone()
        return None if row is None else self._read(row_class, row)

    def fetch_all(self, row_class: Callable[..., R], statement: str, *values: Any) -> list[R]:
        """Execute a query. Returns all its rows."""
        self._cursor.execute(statement, values)
        return [self._read(row_class, row) for row in self._cursor.fetchall()]

    def insert(self, row: Row) -> None:
        """Insert a row."""
        self._cursor.execute(self.sql.add[type(row)], self.to_columns(row))

    def update(self, row: Row) -> None:
        """Update a row."""
        row_class = type(row)
        mapping = TABLE_MAPPINGS[row_class]
        values = list(mapping.update_values(row))
        _format_amounts(values, mapping.changing_amounts)
        if row_class is LotRow:
            values.insert(0, _live(row))
        self._cursor.execute(self.sql.change[row_class], values)

    def to_columns(self, row: Row) -> list[Any]:
        """Return the values of a row for an insert."""
        mapping = TABLE_MAPPINGS[type(row)]
        values = list(mapping.all_values(row))
        _format_amounts(values, mapping.amounts)
        if type(row) is LotRow:
            values.append(_live(row))
        return values

    def _read(self, row_class: Callable[..., R], columns: Sequence[Any]) -> R:
        values = list(columns)
        mapping = TABLE_MAPPINGS[row_class]  # type: ignore[index]  # callers pass a class of TABLE_MAPPINGS
        try:
            for index in mapping.amounts:
                text = values[index]
                if text == ZERO_TEXT:
                    values[index] = 0
                elif text is not None:
                    values[index] = units_from_column(text)
        except (ValueError, TypeError, AttributeError):
            raise BillingError(
                "journal_broken",
                f"{mapping.table.name}: the row {safe_repr(columns[0])} is unreadable; rebuild the tables",
            ) from None
        return row_class(*values)


def _format_amounts(values: list[Any], amounts: Sequence[int]) -> None:
    for index in amounts:
        if values[index] is not None:
            values[index] = units_to_column(values[index])


def _live(row: Any) -> int:
    return 1 if row.remaining else 0


class DryRunStore(Store):
    """A store that reads, but writes nothing: it shows what an operation would write."""

    __slots__ = ("written_entries",)

    def __init__(self, cursor: Any, statements: Statements) -> None:
        super().__init__(cursor, statements)
        self.written_entries: list[JournalRow] = []
        """Entries that would be appended to the journal, in order."""

    def execute(self, statement: str, *values: Any) -> int:
        if statement is self.sql.add_entry:
            self.written_entries.append(JournalRow(*values))
        return 1

    def insert(self, row: Row) -> None:
        pass

    def update(self, row: Row) -> None:
        pass
