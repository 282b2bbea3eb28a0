"""How every operation is done: under the lock of its account, at most once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from brivionix_billing.decimals import parse_decimal, plain
from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.ledger.database.store import Statements, Store
from brivionix_billing.ledger.database.transactions import read, within, write
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.locked_account import Desk, Draft
from brivionix_billing.ledger.lot_order import checked_order
from brivionix_billing.ledger.projections import AccountRow, HoldRow
from brivionix_billing.ledger.units import asked, name, stamp
from brivionix_billing.money import Payable
from brivionix_billing.topup import LOT_ORDER

__all__ = ["Base", "locked", "told"]

T = TypeVar("T")


class Base:
    """A ledger's database, and how an operation is done in it."""

    def __init__(self, engine: Engine, *, lot_order: Iterable[str] = LOT_ORDER) -> None:
        self.engine = engine
        self.lot_order = checked_order(lot_order)
        self.statements = Statements(engine.dialect)

    def _operate(
        self,
        account: str,
        id: str,
        kind: str,
        content: Mapping[str, Any],
        at: datetime,
        plan: Callable[[Desk], Draft],
        connection: Connection | None,
    ) -> Entry:
        name(id, "the operation")
        booked = stamp(at)

        def work(store: Store) -> Entry:
            row = locked(store, account)
            found = store.entry(store.sql.entry, id)
            if found is not None:
                return Entry.read(found).same(account, kind, content)
            desk = Desk(store, row, booked, self.lot_order)
            desk.sweep()
            return desk.write(id, plan(desk))

        return self._write(work, connection)

    def _resolve(
        self,
        hold: str,
        kind: str,
        id: str | None,
        at: datetime,
        content: Mapping[str, Any],
        plan: Callable[[Desk, HoldRow], Draft],
        connection: Connection | None,
    ) -> Entry:
        asked(hold, "the hold")
        id = name(f"{hold}:{kind}" if id is None else id, "the operation")
        booked = stamp(at)

        def work(store: Store) -> Entry:
            # The hold is read when its account is locked; whose it is never changes.
            row = store.one(AccountRow, store.sql.lock_account_of, hold)
            if row is None:
                raise _no_hold(hold)
            found = store.entry(store.sql.entry, id)
            if found is not None:
                return Entry.read(found).same(row.id, kind, content)
            desk = Desk(store, row, booked, self.lot_order)
            desk.sweep()
            held = store.one(HoldRow, store.sql.hold, hold)
            if held is None:
                raise _no_hold(hold)
            return desk.write(id, plan(desk, held))

        return self._write(work, connection)

    def _write(self, work: Callable[[Store], T], connection: Connection | None) -> T:
        if connection is None:
            return write(self.engine, lambda cursor: work(Store(cursor, self.statements)))
        return within(connection, self._on(work))

    def _read(self, work: Callable[[Store], T], connection: Connection | None) -> T:
        return read(self.engine, self._on(work)) if connection is None else within(connection, self._on(work))

    def _on(self, work: Callable[[Store], T]) -> Callable[[Connection], T]:
        return lambda connection: work(Store(connection.connection.cursor(), self.statements))


def locked(store: Store, account: str) -> AccountRow:
    """The row of an account, locked until the transaction ends. Raises ``unknown_account``."""
    row = store.one(AccountRow, store.sql.lock_account, asked(account, "the account"))
    if row is None:
        raise BillingError("unknown_account", f"there is no account {quoted(account)}; open_account makes it")
    return row


def _no_hold(hold: str) -> BillingError:
    return BillingError("unknown_hold", f"there is no hold {quoted(hold)}")


def told(pay: Payable | str | None) -> str | None:
    """Money as the content of an entry has it. Its currency is that of the lot."""
    if pay is None:
        return None
    return plain(pay.amount if isinstance(pay, Payable) else parse_decimal(pay))
