"""The SQL statements of the ledger. They are few and fixed, so they are built once."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from sqlalchemy import Dialect

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.database import mappings, tables
from brivionix_billing.ledger.database.mappings import TABLE_MAPPINGS, JournalRow, TableMapping
from brivionix_billing.ledger.limits import CounterRow, LimitRow
from brivionix_billing.ledger.plans import SubscriptionRow
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotRow,
    MemberRow,
    OrderRow,
    PaymentRow,
    TokenRow,
    UsageRow,
)
from brivionix_billing.ledger.signals import SignalRow, SignalSettingRow

__all__ = ["MemberQueries", "Statements"]


class MemberQueries(NamedTuple):
    """The queries of active rows of one class."""

    all: str
    """Needs the account, as ``shared``."""
    shared: str
    """Rows that concern no member in particular."""
    of_member: str
    """These, and the rows of a member. Needs the account twice, and the member."""


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
        self.lock_account = self._select(mappings.ACCOUNT, "id = ?") + lock
        self.lock_account_by_hold = (
            self._select(mappings.ACCOUNT, "id = (SELECT account FROM billing_hold WHERE id = ?)") + lock
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
        self._add_archive_statements(journal)
        self.account = self._select(mappings.ACCOUNT, "id = ?")
        self.accounts = self._sql("SELECT id FROM billing_account WHERE id > ? ORDER BY id LIMIT ?")
        self.lot = self._select(mappings.LOT, "id = ?")
        self.lots = self._select(mappings.LOT, "account = ? ORDER BY number, id")
        self.live_lots = self._select(mappings.LOT, "account = ? AND live = 1 ORDER BY number, id")
        self.moved_lots = self._select(mappings.LOT, "origin = ? ORDER BY account, id")
        self.payment = self._select(mappings.LOT, "channel = ? AND reference = ?")
        self.hold = self._select(mappings.HOLD, "id = ?")
        self.open_holds = self._select(mappings.HOLD, "account = ? AND state = 'open' ORDER BY expires, id")
        self.payment_parts = self._select(mappings.PAYMENT, "id = ?")
        self.payments = self._select(mappings.PAYMENT, "account = ? ORDER BY id")
        self.order = self._select(mappings.ORDER, "id = ?")
        self.orders = self._select(mappings.ORDER, "account = ? ORDER BY at, id")
        self.subscription = self._select(mappings.SUBSCRIPTION, "id = ?")
        self.subscriptions = self._select(mappings.SUBSCRIPTION, "account = ? ORDER BY at, id")
        self.due_subscriptions = self._select(
            mappings.SUBSCRIPTION,
            "cancelled_at IS NULL AND ends <= ? AND (ends > ? OR ends = ? AND id > ?) ORDER BY ends, id LIMIT ?",
        )
        self._add_request_queries()
        self._add_signal_statements(lock and f"{lock} SKIP LOCKED")
        self.member = self._select(mappings.MEMBER, "account = ? AND id = ?")
        self.members = self._select(mappings.MEMBER, "account = ? ORDER BY id")
        self.active_limits = self._select_active(mappings.LIMIT)
        self.delete_counter = self._sql("DELETE FROM billing_counter WHERE limit_id = ? AND starts = ?")
        self.counters = self._select(mappings.COUNTER, "limit_id = ? AND starts >= ? AND starts <= ?")
        self.token = self._select(mappings.TOKEN, "id = ?")
        self.tokens = self._select(mappings.TOKEN, "account = ? ORDER BY id")
        self.token_by_hash = self._select(mappings.TOKEN, "hash = ? OR previous_hash = ?")
        self.usage = self._select(
            mappings.USAGE, "account = ? AND quarter_hour = ? AND model = ? AND token = ? AND member = ?"
        )
        self.usage_between = self._select(mappings.USAGE, "account = ? AND quarter_hour >= ? AND quarter_hour < ?")
        self.usage_bounds = self._sql(
            "SELECT MIN(quarter_hour), MAX(quarter_hour) FROM billing_usage WHERE account = ?"
        )
        self.credits_before = self._sql(
            "SELECT CAST(credits AS TEXT) FROM billing_usage WHERE account = ? AND quarter_hour < ?"
        )
        self.entries_between = self._sql(
            f"SELECT {journal} FROM billing_journal WHERE account = ? AND at >= ? AND at < ? AND number > ? "
            "ORDER BY number LIMIT ?"
        )
        self.holds_before = self._select(mappings.HOLD, "account = ? AND state = 'open' AND at < ?")
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
                *("billing_payment", "billing_order", "billing_member", "billing_limit", "billing_counter"),
                *("billing_signal_setting", "billing_signal", "billing_subscription", "billing_archive"),
            )
        }
        self.live_flag_mismatches = (
            "SELECT account, id FROM billing_lot WHERE live <> "
            "CASE WHEN CAST(remaining AS TEXT) = '0.000000000000000000' THEN 0 ELSE 1 END"
        )
        self.of_account = {
            AccountRow: self.account,
            LotRow: self.lots,
            HoldRow: self._select(mappings.HOLD, "account = ?"),
            TokenRow: self.tokens,
            UsageRow: self._select(mappings.USAGE, "account = ?"),
            PaymentRow: self.payments,
            OrderRow: self.orders,
            MemberRow: self.members,
            LimitRow: self._select(mappings.LIMIT, "account = ?"),
            CounterRow: self._select(mappings.COUNTER, "account = ?"),
            SignalSettingRow: self._select(mappings.SIGNAL_SETTING, "account = ?"),
            SignalRow: self._select(mappings.SIGNAL, "account = ?"),
            SubscriptionRow: self.subscriptions,
        }
        self.add = {row_class: self._insert(mapping) for row_class, mapping in TABLE_MAPPINGS.items()}
        self.change = {row_class: self._update(mapping) for row_class, mapping in TABLE_MAPPINGS.items()}
        self.delete = {
            row_class: self._sql(f"DELETE FROM {mapping.table.name}") for row_class, mapping in TABLE_MAPPINGS.items()
        }

    def _add_request_queries(self) -> None:
        entry = ", ".join(f"journal.{name}" for name in JournalRow._fields)
        hold = ", ".join(
            f"CAST(hold.{name} AS TEXT)" if index in mappings.HOLD.amounts else f"hold.{name}"
            for index, name in enumerate(mappings.HOLD.columns)
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
        names = ("token", "member", "model")
        selections = [chosen for size in (1, 2, 3) for chosen in combinations(names, size)]
        self.last_usage = {
            names: self._sql(
                "SELECT quarter_hour FROM billing_usage WHERE account = ? AND quarter_hour >= ? AND quarter_hour <= ? "
                + "".join(f"AND {name} = ? " for name in names)
                + "ORDER BY quarter_hour DESC LIMIT 1"
            )
            for names in selections
        }
        self.last_holds = {
            names: [
                self._sql(
                    "SELECT at FROM billing_hold WHERE account = ? AND at >= ? AND at <= ? "
                    + "".join(f"AND {name} = ? " for name in names)
                    + f"AND {state} ORDER BY at DESC LIMIT 1"
                )
                for state in ("state = 'open'", tables.UNCHARGED_HOLD)
            ]
            for names in selections
            if "model" not in names
        }

    def _add_archive_statements(self, journal: str) -> None:
        archive = "account, through, hash, file, position, length, digest, state, holds, usage, kept"
        self.archives = self._sql(f"SELECT {archive} FROM billing_archive WHERE account = ? ORDER BY through")
        self.add_archive = self._sql(f"INSERT INTO billing_archive ({archive}) VALUES ({', '.join('?' * 11)})")
        self.delete_archive = self._sql("DELETE FROM billing_archive WHERE account = ? AND through = ?")
        part = f"account = ? AND number > ? AND number <= ? AND kind IN ({tables.REQUEST_KINDS})"
        self.count_requests = self._sql(f"SELECT COUNT(*) FROM billing_journal WHERE {part}")
        self.count_through = self._sql("SELECT COUNT(*) FROM billing_journal WHERE account = ? AND number <= ?")
        self.archive_entries = self._sql(
            f"UPDATE billing_journal SET body = ? WHERE {part} AND substr(body, 1, 1) = '{{'"
        )
        self.restore_entry = self._sql(
            "UPDATE billing_journal SET body = ? WHERE account = ? AND number = ? AND hash = ? AND body = ?"
        )
        self.rare_entries_through = self._sql(
            f"SELECT {journal} FROM billing_journal WHERE account = ? AND kind NOT IN ({tables.REQUEST_KINDS}) "
            "AND number <= ? ORDER BY number"
        )
        columns = ", ".join(
            f"CAST(hold.{name} AS TEXT)" if index in mappings.HOLD.amounts else f"hold.{name}"
            for index, name in enumerate(mappings.HOLD.columns)
        )
        self.archived_holds = self._sql(
            f"SELECT journal.number, {columns} FROM billing_journal journal JOIN billing_hold hold "
            "ON hold.id = journal.id WHERE journal.account = ? AND journal.number > ? AND journal.number <= ? "
            "AND journal.kind = 'hold' ORDER BY journal.number LIMIT ?"
        )

    def _add_signal_statements(self, skip_locked: str) -> None:
        self.active_settings = self._select_active(mappings.SIGNAL_SETTING)
        self.signal_setting = self._select(mappings.SIGNAL_SETTING, "account = ? AND name = ?")
        self.signal = self._select(mappings.SIGNAL, "account = ? AND number = ?")
        self.signals = self._select(mappings.SIGNAL, "account = ? AND number > ? ORDER BY number LIMIT ?")
        self.pending_signals = self._select(
            mappings.SIGNAL, "acknowledged_by IS NULL AND account = ? AND number > ? ORDER BY number LIMIT ?"
        )
        self.all_pending_signals = self._select(
            mappings.SIGNAL,
            "acknowledged_by IS NULL AND (account > ? OR account = ? AND number > ?) ORDER BY account, number LIMIT ?",
        )
        self.unacknowledged = self._select(
            mappings.SIGNAL, "acknowledged_by IS NULL AND account = ? AND number <= ? ORDER BY number"
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

    def _select(self, mapping: TableMapping, where: str) -> str:
        columns = ", ".join(
            f"CAST({name} AS TEXT)" if index in mapping.amounts else name for index, name in enumerate(mapping.columns)
        )
        return self._sql(f"SELECT {columns} FROM {mapping.table.name} WHERE {where}")

    def _select_active(self, mapping: TableMapping) -> MemberQueries:
        shared = self._select(mapping, "account = ? AND active = 1 AND member IS NULL")
        return MemberQueries(
            self._select(mapping, "account = ? AND active = 1"),
            shared,
            # SQLite would read the rows of all members for one OR.
            f"{shared} UNION ALL {self._select(mapping, 'account = ? AND active = 1 AND member = ?')}",
        )

    def _insert(self, mapping: TableMapping) -> str:
        names = [*mapping.columns, *([mappings.LIVE_COLUMN] if mapping is mappings.LOT else [])]
        values = ", ".join("?" * len(names))
        return self._sql(f"INSERT INTO {mapping.table.name} ({', '.join(names)}) VALUES ({values})")

    def _update(self, mapping: TableMapping) -> str:
        names = [*([mappings.LIVE_COLUMN] if mapping is mappings.LOT else []), *mapping.changing]
        changes = ", ".join(f"{name} = ?" for name in names)
        where = " AND ".join(f"{name} = ?" for name in mapping.key)
        return self._sql(f"UPDATE {mapping.table.name} SET {changes} WHERE {where}")
