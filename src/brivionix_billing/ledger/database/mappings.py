"""Classes of rows, and the tables and columns that store them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Table

from brivionix_billing.ledger.database import tables
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

__all__ = ["TABLE_MAPPINGS", "JournalRow", "Row", "TableMapping"]

LIVE_COLUMN: Final = "live"
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


class TableMapping(NamedTuple):
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
    key_of: Callable[[Any], Any]
    """Returns the key of a row: its value, or a tuple if the key has several columns."""


def _map_table(table: Table, row_class: Any, *fixed: str) -> TableMapping:
    """Map a class of rows to its table. The columns in ``fixed`` never change after the insert."""
    slots: dict[str, str] = dict(zip(_columns(table), row_class.__slots__, strict=True))
    key = tuple(column.name for column in table.primary_key)
    changing = tuple(name for name in slots if name not in key and name not in fixed)
    return TableMapping(
        table,
        key,
        tuple(slots),
        _amounts(table, tuple(slots)),
        changing,
        _amounts(table, changing),
        attrgetter(*slots.values()),
        attrgetter(*[slots[name] for name in (*changing, *key)]),
        attrgetter(*[slots[name] for name in key]),
    )


def _columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name != LIVE_COLUMN]


def _amounts(table: Table, names: Sequence[str]) -> tuple[int, ...]:
    types = [str(table.columns[name].type) for name in names]
    return tuple(index for index, type in enumerate(types) if type.startswith("NUMERIC"))


ACCOUNT: Final = _map_table(tables.ACCOUNT, AccountRow)
LOT: Final = _map_table(
    tables.LOT,
    LotRow,
    *("account", "number", "at", "channel", "reference", "currency", "price", "credits", "paid"),
    *("restriction", "priority", "origin"),
)
HOLD: Final = _map_table(tables.HOLD, HoldRow, "account", "token", "at", "expires", "counted", "scope", "member")
TOKEN: Final = _map_table(tables.TOKEN, TokenRow, "account")
USAGE: Final = _map_table(tables.USAGE, UsageRow)
PAYMENT: Final = _map_table(
    tables.PAYMENT, PaymentRow, "account", "currency", "gross", "tax", "fee", "coupon", "order_id"
)
ORDER: Final = _map_table(
    tables.ORDER,
    OrderRow,
    *("account", "channel", "currency", "credits", "pay", "tax", "price", "at", "expires", "subscription"),
)
LIMIT: Final = _map_table(
    tables.LIMIT, LimitRow, "account", "name", "token", "tag", "unit", "window_name", "zone", "member"
)
MEMBER: Final = _map_table(tables.MEMBER, MemberRow, "joined")
COUNTER: Final = _map_table(tables.COUNTER, CounterRow, "account")
SIGNAL_SETTING: Final = _map_table(tables.SIGNAL_SETTING, SignalSettingRow)
SUBSCRIPTION: Final = _map_table(tables.SUBSCRIPTION, SubscriptionRow, "account", "at")
SIGNAL: Final = _map_table(tables.SIGNAL, SignalRow, "name", "kind", "at", "operation", "content")
TABLE_MAPPINGS: Final = {
    AccountRow: ACCOUNT,
    LotRow: LOT,
    HoldRow: HOLD,
    TokenRow: TOKEN,
    UsageRow: USAGE,
    PaymentRow: PAYMENT,
    OrderRow: ORDER,
    MemberRow: MEMBER,
    LimitRow: LIMIT,
    CounterRow: COUNTER,
    SignalSettingRow: SIGNAL_SETTING,
    SignalRow: SIGNAL,
    SubscriptionRow: SUBSCRIPTION,
}
Row = (
    AccountRow
    | LotRow
    | HoldRow
    | TokenRow
    | UsageRow
    | PaymentRow
    | OrderRow
    | MemberRow
    | LimitRow
    | CounterRow
    | SignalSettingRow
    | SignalRow
    | SubscriptionRow
)
