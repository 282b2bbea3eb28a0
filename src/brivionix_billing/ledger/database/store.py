"""Rows in and out of a database.

The statements are few and fixed, so they are written once and go straight to the driver's cursor: what SQLAlchemy does
for each statement would cost more than SQLite needs to run it. ``benchmarks/ledger.py`` measures what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Dialect, Table

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database import tables
from brivionix_billing.ledger.projections import AccountRow, HoldRow, LotRow, TokenRow, UsageRow
from brivionix_billing.ledger.units import units_from_column, units_to_column

__all__ = ["TABLE_MAPPINGS", "DryRunStore", "Row", "Statements", "Store", "JournalRow"]

R = TypeVar("R")
_LIVE_COLUMN: Final = "live"
"""The column of a lot that says whether there is something in it. An index has those only."""


class JournalRow(NamedTuple):
    """A row of the journal as it stands in the database."""

    id: str
    account: str
    number: int
    kind: str
    at: str
    booked: str
    body: str
    hash: str


class _TableMapping(NamedTuple):
    """How rows of one class are read and written."""

    table: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    amounts: tuple[int, ...]
    """Places of the columns that are amounts."""
    changing: tuple[str, ...]
    """The columns that are written when a row changes."""
    changing_amounts: tuple[int, ...]
    """Places of the amounts among those."""
    all_values: Callable[[Any], tuple[Any, ...]]
    """All values of a row, in the order of the columns."""
    update_values: Callable[[Any], tuple[Any, ...]]
    """The values of the columns that change, and behind them those of the key."""


def _kind(table: Table, make: Any, *fixed: str) -> _TableMapping:
    """``fixed``: columns that never change once the row is there."""
    slots: dict[str, str] = dict(zip(_columns(table), make.__slots__, strict=True))
    key = tuple(column.name for column in table.primary_key)
    changing = tuple(name for name in slots if name not in key and name not in fixed)
    return _TableMapping(
        table,
        key,
        tuple(slots),
        _amounts(table, tuple(slots)),
        changing,
        _amounts(table, changing),
        attrgetter(*slots.values()),
        attrgetter(*[slots[name] for name in (*changing, *key)]),
    )


def _columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name != _LIVE_COLUMN]


def _amounts(table: Table, names: Sequence[str]) -> tuple[int, ...]:
    types = [str(table.columns[name].type) for name in names]
    return tuple(index for index, type in enumerate(types) if type.startswith("NUMERIC"))


_ACCOUNT: Final = _kind(tables.ACCOUNT, AccountRow)
_LOT: Final = _kind(
    tables.LOT,
    LotRow,
    *("account", "number", "at", "expires", "channel", "reference", "currency", "price", "credits", "paid"),
)
_HOLD: Final = _kind(tables.HOLD, HoldRow, "account", "token", "at", "expires")
_TOKEN: Final = _kind(tables.TOKEN, TokenRow, "account", "hash")
_USAGE: Final = _kind(tables.USAGE, UsageRow)
TABLE_MAPPINGS: Final = {AccountRow: _ACCOUNT, LotRow: _LOT, HoldRow: _HOLD, TokenRow: _TOKEN, UsageRow: _USAGE}
Row = AccountRow | LotRow | HoldRow | TokenRow | UsageRow


class Statements:
    """All SQL of the ledger, in the words of one database."""

    def __init__(self, dialect: Dialect) -> None:
        self._mark = {"qmark": "?", "format": "%s", "pyformat": "%s"}.get(dialect.paramstyle)
        if dialect.name not in ("sqlite", "postgresql") or self._mark is None:
            raise BillingError(
                "invalid_argument",
                f"the ledger runs on SQLite and on PostgreSQL (postgresql+psycopg), not on {dialect.name}"
                f"+{dialect.driver}",
            )
        lock = " FOR UPDATE" if dialect.name == "postgresql" else ""  # SQLite's transaction has locked all
        journal = ", ".join(JournalRow._fields)
        self.lock_account = self._select(_ACCOUNT, "id = ?") + lock
        self.lock_account_by_hold = (
            self._select(_ACCOUNT, "id = (SELECT account FROM billing_hold WHERE id = ?)") + lock
        )
        self.entry = self._sql(f"SELECT {journal} FROM billing_journal WHERE id = ?")
        self.add_entry = self._sql(
            f"INSERT INTO billing_journal ({journal}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        )
        self.entries = self._sql(
            f"SELECT {journal} FROM billing_journal WHERE account = ? AND number > ? ORDER BY number LIMIT ?"
        )
        self.rare_entries = self._sql(
            f"SELECT {journal} FROM billing_journal WHERE account = ? AND kind NOT IN ({tables.REQUEST_KINDS}) "
            "AND at >= ? AND at < ? ORDER BY number"
        )
        self.reversals = self._sql(
            f"SELECT {journal} FROM billing_journal WHERE account = ? AND kind NOT IN ({tables.REQUEST_KINDS}) "
            "AND kind = 'reverse'"
        )
        self.account = self._select(_ACCOUNT, "id = ?")
        self.accounts = self._sql("SELECT id FROM billing_account WHERE id > ? ORDER BY id LIMIT ?")
        self.lot = self._select(_LOT, "id = ?")
        self.lots = self._select(_LOT, "account = ? ORDER BY number")
        self.live_lots = self._select(_LOT, "account = ? AND live = 1 ORDER BY number")
        self.payment = self._select(_LOT, "channel = ? AND reference = ?")
        self.hold = self._select(_HOLD, "id = ?")
        self.open_holds = self._select(_HOLD, "account = ? AND state = 'open' ORDER BY expires, id")
        self.token = self._select(_TOKEN, "id = ?")
        self.tokens = self._select(_TOKEN, "account = ? ORDER BY id")
        self.token_by_hash = self._select(_TOKEN, "hash = ?")
        self.usage = self._select(_USAGE, "account = ? AND quarter_hour = ? AND model = ? AND token = ?")
        self.usage_between = self._select(_USAGE, "account = ? AND quarter_hour >= ? AND quarter_hour < ?")
        self.credits_before = self._sql(
            "SELECT CAST(credits AS TEXT) FROM billing_usage WHERE account = ? AND quarter_hour < ?"
        )
        self.entries_between = self._sql(
            f"SELECT {journal} FROM billing_journal WHERE account = ? AND at >= ? AND at < ? AND number > ? "
            "ORDER BY number LIMIT ?"
        )
        self.holds_before = self._select(_HOLD, "account = ? AND state = 'open' AND at < ?")
        self.lock_all = (
            "LOCK TABLE billing_account, billing_journal IN EXCLUSIVE MODE" if dialect.name == "postgresql" else ""
        )
        self.heads = self._sql("SELECT id, number, head FROM billing_account ORDER BY id")
        self.count = self._sql("SELECT COUNT(*) FROM billing_journal")
        self.count_of = self._sql("SELECT COUNT(*) FROM billing_journal WHERE account = ?")
        self.journal_accounts = self._sql("SELECT DISTINCT account FROM billing_journal ORDER BY account")
        self.orphan_rows = {
            name: f"SELECT DISTINCT account FROM {name} WHERE account NOT IN (SELECT id FROM billing_account)"
            for name in ("billing_journal", "billing_lot", "billing_hold", "billing_token", "billing_usage")
        }
        self.live_flag_mismatches = (
            "SELECT account, id FROM billing_lot WHERE live <> "
            "CASE WHEN CAST(remaining AS TEXT) = '0.000000000000000000' THEN 0 ELSE 1 END"
        )
        self.of_account = {
            AccountRow: self.account,
            LotRow: self.lots,
            HoldRow: self._select(_HOLD, "account = ?"),
            TokenRow: self.tokens,
            UsageRow: self._select(_USAGE, "account = ?"),
        }
        self.add = {make: self._insert(kind) for make, kind in TABLE_MAPPINGS.items()}
        self.change = {make: self._update(kind) for make, kind in TABLE_MAPPINGS.items()}
        self.delete = {make: self._sql(f"DELETE FROM {kind.table.name}") for make, kind in TABLE_MAPPINGS.items()}

    def _sql(self, statement: str) -> str:
        return statement if self._mark == "?" else statement.replace("?", str(self._mark))

    def _select(self, kind: _TableMapping, where: str) -> str:
        columns = ", ".join(
            f"CAST({name} AS TEXT)" if index in kind.amounts else name for index, name in enumerate(kind.columns)
        )
        return self._sql(f"SELECT {columns} FROM {kind.table.name} WHERE {where}")

    def _insert(self, kind: _TableMapping) -> str:
        names = [*kind.columns, *([_LIVE_COLUMN] if kind is _LOT else [])]
        return self._sql(f"INSERT INTO {kind.table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})")

    def _update(self, kind: _TableMapping) -> str:
        names = [*([_LIVE_COLUMN] if kind is _LOT else []), *kind.changing]
        changed = ", ".join(f"{name} = ?" for name in names)
        return self._sql(f"UPDATE {kind.table.name} SET {changed} WHERE {' AND '.join(f'{k} = ?' for k in kind.key)}")


class Store:
    """The tables, through a cursor of the driver, within the transaction that its connection is in."""

    __slots__ = ("_cursor", "sql")

    def __init__(self, cursor: Any, statements: Statements) -> None:
        self.sql = statements
        self._cursor = cursor

    def dry_run(self) -> DryRunStore:
        """The same tables for reading only."""
        return DryRunStore(self._cursor, self.sql)

    def execute(self, statement: str, *values: Any) -> int:
        """Run a statement; how many rows it changed."""
        self._cursor.execute(statement, values)
        return int(self._cursor.rowcount)

    def fetch_rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        self._cursor.execute(statement, values)
        return list(self._cursor.fetchall())

    def fetch_entry(self, statement: str, *values: Any) -> JournalRow | None:
        """One row of the journal."""
        self._cursor.execute(statement, values)
        found = self._cursor.fetchone()
        return None if found is None else JournalRow(*found)

    def fetch_one(self, make: Callable[..., R], statement: str, *values: Any) -> R | None:
        """One row, or none."""
        self._cursor.execute(statement, values)
        found = self._cursor.fetchone()
        return None if found is None else self._read(make, found)

    def fetch_all(self, make: Callable[..., R], statement: str, *values: Any) -> list[R]:
        """All rows that a statement finds."""
        self._cursor.execute(statement, values)
        return [self._read(make, row) for row in self._cursor.fetchall()]

    def insert(self, row: Row) -> None:
        """Write a new row."""
        self._cursor.execute(self.sql.add[type(row)], self.to_columns(row))

    def update(self, row: Row) -> None:
        """Write a row anew."""
        make = type(row)
        kind = TABLE_MAPPINGS[make]
        values = list(kind.update_values(row))
        _as_columns(values, kind.changing_amounts)
        if make is LotRow:
            values.insert(0, _live(row))
        self._cursor.execute(self.sql.change[make], values)

    def to_columns(self, row: Row) -> list[Any]:
        """A row as its columns hold it."""
        kind = TABLE_MAPPINGS[type(row)]
        values = list(kind.all_values(row))
        _as_columns(values, kind.amounts)
        if kind is _LOT:
            values.append(_live(row))
        return values

    def _read(self, make: Callable[..., R], found: Sequence[Any]) -> R:
        values = list(found)
        kind = TABLE_MAPPINGS[make]  # type: ignore[index]  # make is a class of KINDS
        try:
            for index in kind.amounts:
                if values[index] is not None:
                    values[index] = units_from_column(values[index])
        except (ValueError, TypeError, AttributeError):
            raise BillingError(
                "journal_broken",
                f"{kind.table.name} has a row that cannot be read ({safe_repr(found[0])}); rebuild them",
            ) from None
        return make(*values)


def _as_columns(values: list[Any], amounts: Sequence[int]) -> None:
    for index in amounts:
        if values[index] is not None:
            values[index] = units_to_column(values[index])


def _live(row: Any) -> int:
    return 1 if row.remaining else 0


class DryRunStore(Store):
    """Reads as the store does, and writes nothing: for seeing what an operation would do."""

    __slots__ = ("written_entries",)

    def __init__(self, cursor: Any, statements: Statements) -> None:
        super().__init__(cursor, statements)
        self.written_entries: list[JournalRow] = []
        """Of the journal, in order."""

    def execute(self, statement: str, *values: Any) -> int:
        if statement is self.sql.add_entry:
            self.written_entries.append(JournalRow(*values))
        return 1

    def insert(self, row: Row) -> None:
        pass

    def update(self, row: Row) -> None:
        pass
