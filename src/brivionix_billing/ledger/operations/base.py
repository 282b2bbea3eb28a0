"""Runs operations: locks the account and enforces idempotency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from brivionix_billing.decimals import format_plain, parse_plain_decimal
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.clock import database_time
from brivionix_billing.ledger.database.store import Statements, Store
from brivionix_billing.ledger.database.transactions import (
    SharedTransaction,
    UndoError,
    run_in_transaction,
    run_lookup,
    run_read,
    run_write,
)
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id, require_new_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.lot_order import validate_lot_order
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.projections import AccountRow, HoldRow
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.money import Payable
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.lot_order import DEFAULT_LOT_ORDER
from brivionix_billing.times import as_utc

__all__ = ["LedgerBase", "amount_text", "lock_account"]

T = TypeVar("T")
AnyTransaction = Connection | SharedTransaction | None
"""The transaction of an operation: the caller's, one that operations share, or ``None`` for one of its own."""


class LedgerBase:
    """The database of a ledger, and the steps that all operations share."""

    def __init__(
        self,
        engine: Engine,
        *,
        lot_order: Iterable[str] = DEFAULT_LOT_ORDER,
        book: PriceBook | None = None,
        max_skew: timedelta | None = None,
    ) -> None:
        self.engine = engine
        self.max_skew = _require_skew(max_skew)
        self.lot_order = validate_lot_order(lot_order)
        self.book = book
        self.statements = Statements(engine.dialect)

    def _booked_at(self, at: datetime) -> str:
        """Return the time of an operation as text. Raises ``clock_skew`` if it differs too much from the database."""
        if self.max_skew is not None:
            skew = as_utc(at) - database_time(self.engine)
            if abs(skew) > self.max_skew:
                raise BillingError(
                    "clock_skew",
                    f"at differs by {skew.total_seconds():.0f} seconds from the clock of the database, more than "
                    f"{self.max_skew.total_seconds():.0f}; correct the clock of this machine",
                )
        return format_timestamp(at)

    def _run_operation(
        self,
        account: str,
        id: str,
        kind: str,
        content: Mapping[str, Any],
        at: datetime,
        build: Callable[[LockedAccount], EntryDraft],
        connection: Connection | None,
        *,
        then: Callable[[LockedAccount], object] | None = None,
    ) -> Entry:
        """Post the entry that ``build`` returns, or return the existing entry of a repeated operation.

        ``then`` posts what follows from the entry, in the same transaction.
        """
        require_new_id(id, "the operation")
        booked_at = self._booked_at(at)

        def work(store: Store) -> Entry:
            row = lock_account(store, account)
            existing = store.fetch_entry(store.sql.entry, id)
            if existing is not None:
                return Entry.from_row(existing).match_repeat(account, kind, content)
            locked = LockedAccount(store, row, booked_at, self.lot_order)
            post_due(locked)
            entry = locked.post_entry(id, build(locked))
            if then is not None:
                then(locked)
            return entry

        return self._run_write(work, connection)

    def _run_hold_operation(
        self,
        hold: str,
        kind: str,
        id: str | None,
        at: datetime,
        content: Mapping[str, Any],
        build: Callable[[LockedAccount, HoldRow], EntryDraft],
        connection: Connection | None,
    ) -> Entry:
        """Run an operation on the account of a hold. Raises ``unknown_hold``."""
        require_id(hold, "the hold")
        id = require_new_id(f"{hold}:{kind}" if id is None else id, "the operation")
        booked_at = self._booked_at(at)

        def work(store: Store) -> Entry:
            # The hold is read after its account is locked. The account of a hold never changes.
            row = store.fetch_one(AccountRow, store.sql.lock_account_by_hold, hold)
            if row is None:
                raise _unknown_hold_error(hold)
            locked = LockedAccount(store, row, booked_at, self.lot_order)
            hold_row = locked.hold(hold)
            if hold_row is None:
                raise _unknown_hold_error(hold)
            if hold_row.state != "open":  # else the operation was not done, since it resolves the hold
                existing = store.fetch_entry(store.sql.entry, id)
                if existing is not None:
                    return Entry.from_row(existing).match_repeat(row.id, kind, content)
            post_due(locked)
            return locked.post_entry(id, build(locked, hold_row))

        return self._run_write(work, connection)

    def run_grouped(self, operations: Sequence[Callable[..., T]]) -> list[T | BillingError]:
        """Run several operations in one transaction of SQLite, so that one commit writes all of them to disk.

        Each is called with ``connection=``, and succeeds or fails by itself. Returns the result of each, or its error.
        If this raises, none of them was done, or the commit may have succeeded: run each again by itself.
        """

        def work(cursor: Any, *, savepoints: bool) -> list[T | BillingError]:
            transaction = SharedTransaction(cursor, savepoints=savepoints)
            return [_run_shared(operation, transaction) for operation in operations]

        try:
            return run_write(self.engine, partial(work, savepoints=False))
        except UndoError:
            return run_write(self.engine, partial(work, savepoints=True))

    def _run_write(self, work: Callable[[Store], T], connection: AnyTransaction) -> T:
        if connection is None:
            return run_write(self.engine, self._on_cursor(work))
        return self._run_in(connection, work)

    def _run_read(self, work: Callable[[Store], T], connection: AnyTransaction) -> T:
        if connection is None:
            return run_read(self.engine, self._on_connection(work))
        return self._run_in(connection, work)

    def _run_lookup(self, work: Callable[[Store], T], connection: AnyTransaction) -> T:
        """Run ``work``, which executes one query."""
        if connection is None:
            return run_lookup(self.engine, self._on_cursor(work))
        if isinstance(connection, SharedTransaction):
            return connection.look_up(self._on_cursor(work))
        return self._run_in(connection, work)

    def _run_in(self, connection: Connection | SharedTransaction, work: Callable[[Store], T]) -> T:
        if isinstance(connection, SharedTransaction):
            return connection.run(self._on_cursor(work))
        return run_in_transaction(connection, self._on_connection(work))

    def _on_cursor(self, work: Callable[[Store], T]) -> Callable[[Any], T]:
        return lambda cursor: work(Store(cursor, self.statements))

    def _on_connection(self, work: Callable[[Store], T]) -> Callable[[Connection], T]:
        return lambda connection: work(Store(connection.connection.cursor(), self.statements))


def _require_skew(value: timedelta | None) -> timedelta | None:
    if value is not None and (not isinstance(value, timedelta) or value <= timedelta(0)):
        raise BillingError("invalid_argument", f"max_skew is {safe_repr(value)}; use a timedelta above zero, or None")
    return value


def _run_shared(operation: Callable[..., T], transaction: SharedTransaction) -> T | BillingError:
    try:
        return operation(connection=transaction)
    except BillingError as error:
        return error


def lock_account(store: Store, account: str) -> AccountRow:
    """Return the row of an account, locked until the transaction ends. Raises ``unknown_account``."""
    row = store.fetch_one(AccountRow, store.sql.lock_account, require_id(account, "the account"))
    if row is None:
        raise BillingError("unknown_account", f"there is no account {safe_repr(account)}; open it, or correct the id")
    return row


def _unknown_hold_error(hold: str) -> BillingError:
    return BillingError("unknown_hold", f"there is no hold {safe_repr(hold)}")


def amount_text(pay: Payable | str | None) -> str | None:
    """Return an amount of money in the format of the journal. Its currency is that of the lot."""
    if pay is None:
        return None
    return format_plain(pay.amount if isinstance(pay, Payable) else parse_plain_decimal(pay))
