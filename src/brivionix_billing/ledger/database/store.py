"""Reads and writes rows.

The statements are few and fixed, so they are built once and executed on the driver's cursor: SQLAlchemy would take more
time per statement than SQLite takes to execute it. ``benchmarks/ledger.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Dialect, Table

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database import tables
from brivionix_billing.ledger.limits import CounterRow, LimitRow
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotRow,
    OrderRow,
    PaymentRow,
    TokenRow,
    UsageRow,
)
from brivionix_billing.ledger.signals import SignalRow, SignalSettingRow
from brivionix_billing.ledger.units import units_from_column, units_to_column

__all__ = ["TABLE_MAPPINGS", "DryRunStore", "Row", "Statements", "Store", "JournalRow"]

R = TypeVar("R")
_LIVE_COLUMN: Final = "live"
"""Column of a lot: 1 if Credits remain in it, else 0. An index has only the lots with 1."""


class JournalRow(NamedTuple):
    """A row of the journal."""

    id: str
    account: str
    number: int
    kind: str
    at: str
    booked: str
    body: str
    hash: str


class _TableMapping(NamedTuple):
    """Mapping of a class of rows to its table."""

    table: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    amounts: tuple[int, ...]
    """Indexes of the columns that are amounts."""
    changing: tuple[str, ...]
    """Columns that an update writes."""
    changing_amounts: tuple[int, ...]
    """Indexes of the amounts in ``changing``."""
    all_values: Callable[[Any], tuple[Any, ...]]
    """Returns all values of a row, in the order of the columns."""
    update_values: Callable[[Any], tuple[Any, ...]]
    """Returns the values of ``changing``, followed by those of the key."""


def _map_table(table: Table, row_class: Any, *fixed: str) -> _TableMapping:
    """Map a class of rows to its table. The columns in ``fixed`` never change after the insert."""
    slots: dict[str, str] = dict(zip(_columns(table), row_class.__slots__, strict=True))
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


_ACCOUNT: Final = _map_table(tables.ACCOUNT, AccountRow)
_LOT: Final = _map_table(
    tables.LOT,
    LotRow,
    *("account", "number", "at", "channel", "reference", "currency", "price", "credits", "paid"),
    *("restriction", "priority", "origin"),
)
_HOLD: Final = _map_table(tables.HOLD, HoldRow, "account", "token", "at", "expires", "counted", "scope")
_TOKEN: Final = _map_table(tables.TOKEN, TokenRow, "account")
_USAGE: Final = _map_table(tables.USAGE, UsageRow)
_PAYMENT: Final = _map_table(
    tables.PAYMENT, PaymentRow, "account", "currency", "gross", "tax", "fee", "coupon", "order_id"
)
_ORDER: Final = _map_table(
    tables.ORDER,
    OrderRow,
    *("account", "channel", "currency", "credits", "pay", "tax", "price", "at", "expires"),
)
_LIMIT: Final = _map_table(tables.LIMIT, LimitRow, "account", "name", "token", "tag", "unit", "window_name", "zone")
_COUNTER: Final = _map_table(tables.COUNTER, CounterRow, "account")
_SIGNAL_SETTING: Final = _map_table(tables.SIGNAL_SETTING, SignalSettingRow)
_SIGNAL: Final = _map_table(tables.SIGNAL, SignalRow, "name", "kind", "at", "operation", "content")
TABLE_MAPPINGS: Final = {
    AccountRow: _ACCOUNT,
    LotRow: _LOT,
    HoldRow: _HOLD,
    TokenRow: _TOKEN,
    UsageRow: _USAGE,
    PaymentRow: _PAYMENT,
    OrderRow: _ORDER,
    LimitRow: _LIMIT,
    CounterRow: _COUNTER,
    SignalSettingRow: _SIGNAL_SETTING,
    SignalRow: _SIGNAL,
}
Row = (
    AccountRow
    | LotRow
    | HoldRow
    | TokenRow
    | UsageRow
    | PaymentRow
    | OrderRow
    | LimitRow
    | CounterRow
    | SignalSettingRow
    | SignalRow
)


class Statements:
    """All SQL statements of the ledger, in the dialect of one database."""

    def __init__(self, dialect: Dialect) -> None:
        self._placeholder = {"qmark": "?", "format": "%s", "pyformat": "%s"}.get(dialect.paramstyle)
        if dialect.name not in ("sqlite", "postgresql") or self._placeholder is None:
            raise BillingError(
                "invalid_argument",
                f"the ledger does not support {dialect.name}+{dialect.driver}; use SQLite, or PostgreSQL with "
                "postgresql+psycopg",
            )
        lock = " FOR UPDATE" if dialect.name == "postgresql" else ""  # a write transaction of SQLite locks the file
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
        self.charge_reversals = self._sql(
            f"SELECT {journal} FROM billing_journal WHERE account = ? AND kind NOT IN ({tables.REQUEST_KINDS}) "
            "AND kind = 'charge_reversed'"
        )
        self.account = self._select(_ACCOUNT, "id = ?")
        self.accounts = self._sql("SELECT id FROM billing_account WHERE id > ? ORDER BY id LIMIT ?")
        self.lot = self._select(_LOT, "id = ?")
        self.lots = self._select(_LOT, "account = ? ORDER BY number, id")
        self.live_lots = self._select(_LOT, "account = ? AND live = 1 ORDER BY number, id")
        self.moved_lots = self._select(_LOT, "origin = ? ORDER BY account, id")
        self.payment = self._select(_LOT, "channel = ? AND reference = ?")
        self.hold = self._select(_HOLD, "id = ?")
        self.open_holds = self._select(_HOLD, "account = ? AND state = 'open' ORDER BY expires, id")
        self.payment_parts = self._select(_PAYMENT, "id = ?")
        self.payments = self._select(_PAYMENT, "account = ? ORDER BY id")
        self.order = self._select(_ORDER, "id = ?")
        self.orders = self._select(_ORDER, "account = ? ORDER BY at, id")
        self._add_request_queries()
        self._add_signal_statements(lock and f"{lock} SKIP LOCKED")
        self.active_limits = self._select(_LIMIT, "account = ? AND active = 1 ORDER BY name")
        self.delete_counter = self._sql("DELETE FROM billing_counter WHERE limit_id = ? AND starts = ?")
        self.counters = self._select(_COUNTER, "limit_id = ? AND starts >= ? AND starts <= ?")
        self.token = self._select(_TOKEN, "id = ?")
        self.tokens = self._select(_TOKEN, "account = ? ORDER BY id")
        self.token_by_hash = self._select(_TOKEN, "hash = ? OR previous_hash = ?")
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
        self.booked = self._sql("SELECT booked FROM billing_journal WHERE account = ? AND number = ?")
        self.count = self._sql("SELECT COUNT(*) FROM billing_journal")
        self.count_of = self._sql("SELECT COUNT(*) FROM billing_journal WHERE account = ?")
        self.journal_accounts = self._sql("SELECT DISTINCT account FROM billing_journal ORDER BY account")
        self.orphan_rows = {
            name: f"SELECT DISTINCT account FROM {name} WHERE account NOT IN (SELECT id FROM billing_account)"
            for name in (
                *("billing_journal", "billing_lot", "billing_hold", "billing_token", "billing_usage"),
                *("billing_payment", "billing_order", "billing_limit", "billing_counter"),
                *("billing_signal_setting", "billing_signal"),
            )
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
            PaymentRow: self.payments,
            OrderRow: self.orders,
            LimitRow: self._select(_LIMIT, "account = ?"),
            CounterRow: self._select(_COUNTER, "account = ?"),
            SignalSettingRow: self._select(_SIGNAL_SETTING, "account = ?"),
            SignalRow: self._select(_SIGNAL, "account = ?"),
        }
        self.add = {row_class: self._insert(mapping) for row_class, mapping in TABLE_MAPPINGS.items()}
        self.change = {row_class: self._update(mapping) for row_class, mapping in TABLE_MAPPINGS.items()}
        self.delete = {
            row_class: self._sql(f"DELETE FROM {mapping.table.name}") for row_class, mapping in TABLE_MAPPINGS.items()
        }

    def _add_request_queries(self) -> None:
        entry = ", ".join(f"journal.{name}" for name in JournalRow._fields)
        hold = ", ".join(
            f"CAST(hold.{name} AS TEXT)" if index in _HOLD.amounts else f"hold.{name}"
            for index, name in enumerate(_HOLD.columns)
        )
        self.newest_entries = self._sql(
            f"SELECT {entry}, {hold} FROM billing_journal journal LEFT JOIN billing_hold hold ON hold.id = journal.id "
            "WHERE journal.account = ? AND journal.at >= ? AND journal.at <= ? "
            "AND (journal.at < ? OR journal.number < ?) ORDER BY journal.at DESC, journal.number DESC LIMIT ?"
        )
        self.entries_by_time = self._sql(
            f"SELECT {', '.join(JournalRow._fields)} FROM billing_journal WHERE account = ? AND at >= ? AND at < ? "
            "AND (at > ? OR number > ?) ORDER BY at, number LIMIT ?"
        )
        selections: tuple[tuple[str, ...], ...] = (("token",), ("model",), ("token", "model"))
        self.last_usage = {
            names: self._sql(
                "SELECT quarter_hour FROM billing_usage WHERE account = ? AND quarter_hour >= ? AND quarter_hour <= ? "
                + "".join(f"AND {name} = ? " for name in names)
                + "ORDER BY quarter_hour DESC LIMIT 1"
            )
            for names in selections
        }
        last_hold = "SELECT at FROM billing_hold WHERE account = ? AND token = ? AND at >= ? AND at <= ?"
        self.last_open_hold = self._sql(f"{last_hold} AND state = 'open' ORDER BY at DESC LIMIT 1")
        self.last_uncharged_hold = self._sql(f"{last_hold} AND {tables.UNCHARGED_HOLD} ORDER BY at DESC LIMIT 1")

    def _add_signal_statements(self, skip_locked: str) -> None:
        self.signal_settings = self._select(_SIGNAL_SETTING, "account = ? AND active = 1 ORDER BY name")
        self.signal_setting = self._select(_SIGNAL_SETTING, "account = ? AND name = ?")
        self.signal = self._select(_SIGNAL, "account = ? AND number = ?")
        self.signals = self._select(_SIGNAL, "account = ? AND number > ? ORDER BY number LIMIT ?")
        self.pending_signals = self._select(
            _SIGNAL, "acknowledged_by IS NULL AND account = ? AND number > ? ORDER BY number LIMIT ?"
        )
        self.all_pending_signals = self._select(
            _SIGNAL,
            "acknowledged_by IS NULL AND (account > ? OR account = ? AND number > ?) ORDER BY account, number LIMIT ?",
        )
        self.unacknowledged = self._select(
            _SIGNAL, "acknowledged_by IS NULL AND account = ? AND number <= ? ORDER BY number"
        )
        self.last_signal = self._sql("SELECT MAX(number) FROM billing_signal WHERE account = ?")
        # The first pending signal of each account that no reader has. Those never read come first: a receiver that
        # fails must not keep the signals of other accounts waiting.
        self.first_free_signals = self._sql(
            "SELECT account FROM billing_signal first WHERE acknowledged_by IS NULL "
            "AND (leased_until IS NULL OR leased_until <= ?) AND NOT EXISTS (SELECT 1 FROM billing_signal earlier "
            "WHERE earlier.acknowledged_by IS NULL AND earlier.account = first.account "
            "AND earlier.number < first.number) ORDER BY COALESCE(leased_until, ''), at, account LIMIT ?" + skip_locked
        )
        self.lease_signals = self._sql(
            "UPDATE billing_signal SET leased_until = ? WHERE acknowledged_by IS NULL AND account = ? AND number <= ?"
        )

    def _sql(self, statement: str) -> str:
        return statement if self._placeholder == "?" else statement.replace("?", str(self._placeholder))

    def _select(self, mapping: _TableMapping, where: str) -> str:
        columns = ", ".join(
            f"CAST({name} AS TEXT)" if index in mapping.amounts else name for index, name in enumerate(mapping.columns)
        )
        return self._sql(f"SELECT {columns} FROM {mapping.table.name} WHERE {where}")

    def _insert(self, mapping: _TableMapping) -> str:
        names = [*mapping.columns, *([_LIVE_COLUMN] if mapping is _LOT else [])]
        values = ", ".join("?" * len(names))
        return self._sql(f"INSERT INTO {mapping.table.name} ({', '.join(names)}) VALUES ({values})")

    def _update(self, mapping: _TableMapping) -> str:
        names = [*([_LIVE_COLUMN] if mapping is _LOT else []), *mapping.changing]
        changes = ", ".join(f"{name} = ?" for name in names)
        where = " AND ".join(f"{name} = ?" for name in mapping.key)
        return self._sql(f"UPDATE {mapping.table.name} SET {changes} WHERE {where}")


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
        if mapping is _LOT:
            values.append(_live(row))
        return values

    def _read(self, row_class: Callable[..., R], columns: Sequence[Any]) -> R:
        values = list(columns)
        mapping = TABLE_MAPPINGS[row_class]  # type: ignore[index]  # callers pass a class of TABLE_MAPPINGS
        try:
            for index in mapping.amounts:
                if values[index] is not None:
                    values[index] = units_from_column(values[index])
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
