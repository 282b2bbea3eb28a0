"""Balances, lots and pages of the journal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.api_tokens import ApiToken, api_token_from_row
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.posting.plan_scope import plan_scope
from brivionix_billing.ledger.projections import AccountRow, LotRow, OrderRow, PaymentRow, TokenRow, lot_value
from brivionix_billing.ledger.restrictions import DEFAULT_PRIORITY, RequestScope, Restriction
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import units_to_credits, units_to_payable
from brivionix_billing.money import Payable
from brivionix_billing.times import format_instant

__all__ = [
    "PAGE_SIZE",
    "Balance",
    "Lot",
    "Order",
    "Payment",
    "account_page",
    "balance",
    "entry_page",
    "last_booked",
    "lot_by_payment",
    "lots",
    "order_from_row",
    "orders",
    "payments",
    "require_account",
    "simulate_expiries",
    "tokens",
]

PAGE_SIZE: Final = 1000
"""Maximum number of rows that one query reads."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Balance of an account, in Credits."""

    account: str
    at: datetime
    available: Decimal
    """Credits that can be spent."""
    held: Decimal
    """Credits held for requests in flight."""
    owed: Decimal
    """Debt: Credits used but not paid for. New Credits settle it first."""
    frozen_at: datetime | None = None
    """Time since which the account is frozen; ``None``: it is not."""
    restricted: Decimal = Decimal(0)
    """The part of ``available`` that only some requests can use: those of restricted lots."""
    usable: Decimal | None = None
    """The part of ``available`` that the given request can use; ``None``: no request was given."""

    def as_dict(self) -> dict[str, str]:
        """Return the balance as JSON values.

        It has ``restricted`` only if it is not zero, ``usable`` only for a request, and ``frozen_at`` only if the
        account is frozen.
        """
        return {
            "account": self.account,
            "at": format_instant(self.at),
            "available": format_plain(self.available),
            "held": format_plain(self.held),
            "owed": format_plain(self.owed),
            **({} if not self.restricted else {"restricted": format_plain(self.restricted)}),
            **({} if self.usable is None else {"usable": format_plain(self.usable)}),
            **({} if self.frozen_at is None else {"frozen_at": format_instant(self.frozen_at)}),
        }


@dataclass(frozen=True, slots=True)
class Lot:
    """Credits from one purchase, grant or correction, and their current state.

    Invariants: ``credits == remaining + used + expired + returned + moved``, and
    ``paid == recognised + refunded + moved_paid + deferred``.
    """

    id: str
    account: str
    at: datetime
    expires: datetime | None
    channel: str | None
    reference: str | None
    price_per_credit: Decimal | None
    """Quoted price, without a volume discount."""
    credits: Decimal
    remaining: Decimal
    used: Decimal
    expired: Decimal
    returned: Decimal
    """Credits refunded or clawed back."""
    paid: Payable | None
    """Amount paid. This and the other amounts of money are ``None`` if nothing was paid."""
    recognised: Payable | None
    """Revenue: purchase price of the Credits used or expired."""
    refunded: Payable | None
    """Money paid back."""
    deferred: Payable | None
    """Deferred revenue: purchase price of the remaining Credits."""
    only: Restriction | None = None
    """The requests that may use it; ``None``: all."""
    priority: int = DEFAULT_PRIORITY
    """Of the lots that a request may use, one with a lower number is used first."""
    moved: Decimal = Decimal(0)
    """Credits that a transfer moved to a lot of another account."""
    moved_paid: Payable | None = None
    """Purchase price of the moved Credits; ``None`` if nothing was paid."""
    origin: str | None = None
    """The lot of the payment, grant or correction that its Credits come from, if a transfer opened it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the lot as JSON values."""
        values = {slot: _to_json(getattr(self, slot)) for slot in self.__slots__ if slot not in ("only", "priority")}
        return {**values, "only": None if self.only is None else self.only.as_dict(), "priority": self.priority}


@dataclass(frozen=True, slots=True)
class Payment:
    """A received payment and its parts, in its currency."""

    lot: str
    account: str
    channel: str
    reference: str
    order: str | None
    gross: Payable
    """Amount received, with tax."""
    tax: Payable
    fee: Payable
    """Fee that the channel deducts."""
    net: Payable
    """Amount that the channel pays out: ``gross - fee``."""
    coupon: Payable
    """Discount that the seller granted."""
    refunded: Payable
    """Amount paid back, with tax."""
    tax_refunded: Payable
    """Tax in ``refunded``."""
    moved: Payable
    """Amount whose Credits a transfer moved to another account, with tax. It is paid back from the lot there."""
    origin: str | None
    """The lot of the payment, if a transfer moved this part of it to the account; then ``gross`` is the part."""

    def as_dict(self) -> dict[str, Any]:
        """Return the payment as JSON values."""
        return {slot: _to_json(getattr(self, slot)) for slot in self.__slots__}


@dataclass(frozen=True, slots=True)
class Order:
    """An order: Credits at a price that is valid until it expires."""

    id: str
    account: str
    channel: str
    at: datetime
    expires: datetime
    state: str
    """``open``, ``expired``, ``cancelled``, ``partial``, ``paid``, ``overpaid``; ``late``: paid after it expired."""
    credits: Decimal
    price_per_credit: Decimal
    pay: Payable
    """Price of the Credits, without tax."""
    tax: Payable
    due: Payable
    """Amount to pay: ``pay + tax``."""
    received: Payable
    """Payments in time, without tax, before coupons."""
    credited: Decimal
    """Credits of all its payments."""

    def as_dict(self) -> dict[str, Any]:
        """Return the order as JSON values."""
        return {slot: _to_json(getattr(self, slot)) for slot in self.__slots__}


def _to_json(value: Decimal | datetime | Payable | str | None) -> str | None:
    if isinstance(value, Decimal):
        return format_plain(value)
    if isinstance(value, datetime):
        return format_instant(value)
    return str(value) if isinstance(value, Payable) else value


def balance(store: Store, account: str, now: str, scope: RequestScope | None = None) -> Balance:
    """Return the balance of an account: see :meth:`Ledger.balance`."""
    row = require_account(store, account)
    locked = LockedAccount(store.dry_run(), row, now)
    post_due(locked)
    return Balance(
        account,
        parse_timestamp(now),
        units_to_credits(row.balance - row.held),
        units_to_credits(row.held),
        units_to_credits(row.owed),
        None if row.frozen_at is None else parse_timestamp(row.frozen_at),
        units_to_credits(locked.available - locked.usable(None)),
        None if scope is None else units_to_credits(locked.usable(plan_scope(locked, scope))),
    )


def last_booked(store: Store, account: str) -> datetime:
    """Return the time of the last entry of an account."""
    row = require_account(store, account)
    return parse_timestamp(store.last_booked(account, row.number))


def simulate_expiries(store: Store, row: AccountRow, now: str) -> list[JournalRow]:
    """Apply all due expiries to a row in memory. Returns the entries that would be posted; nothing is written."""
    dry_run = store.dry_run()
    post_due(LockedAccount(dry_run, row, now))
    return dry_run.written_entries


def require_account(store: Store, account: str) -> AccountRow:
    """Return the row of an account. Raises ``unknown_account``."""
    row = store.fetch_one(AccountRow, store.sql.account, require_id(account, "the account"))
    if row is None:
        raise BillingError("unknown_account", f"there is no account {safe_repr(account)}; open it, or correct the id")
    return row


def lots(store: Store, account: str) -> list[Lot]:
    """Return all lots of an account: see :meth:`Ledger.lots`."""
    require_account(store, account)
    return [_lot_from_row(row) for row in _fetch_lots(store, account)]


def tokens(store: Store, account: str) -> list[ApiToken]:
    """Return all tokens of an account: see :meth:`Ledger.tokens`."""
    require_account(store, account)
    return [api_token_from_row(row) for row in store.fetch_all(TokenRow, store.sql.tokens, account)]


def lot_by_payment(store: Store, channel: str, reference: str) -> Lot:
    """Return the lot of a payment: see :meth:`Ledger.payment`."""
    row = store.fetch_one(
        LotRow, store.sql.payment, require_id(channel, "the channel"), require_id(reference, "the reference")
    )
    if row is None:
        raise BillingError(
            "unknown_payment",
            f"payment {safe_repr(reference)} on channel {safe_repr(channel)} has not been credited; retry later if it "
            "is in flight",
        )
    return _lot_from_row(row)


def _lot_from_row(row: LotRow) -> Lot:
    def to_payable(amount: int) -> Payable | None:
        return None if row.currency is None else units_to_payable(amount, row.currency)

    return Lot(
        row.id,
        row.account,
        parse_timestamp(row.at),
        None if row.expires is None else parse_timestamp(row.expires),
        row.channel,
        row.reference,
        None if row.price is None else Decimal(row.price),
        units_to_credits(row.credits),
        units_to_credits(row.remaining),
        units_to_credits(row.used),
        units_to_credits(row.expired),
        units_to_credits(row.returned),
        to_payable(row.paid),
        to_payable(row.recognised),
        to_payable(row.refunded),
        to_payable(lot_value(row, row.remaining)),
        None if row.restriction is None else Restriction.from_column(row.restriction),
        DEFAULT_PRIORITY if row.priority is None else row.priority,
        units_to_credits(row.moved or 0),
        to_payable(row.moved_paid or 0),
        row.origin,
    )


def payments(store: Store, account: str) -> list[Payment]:
    """Return the payments of an account: see :meth:`Ledger.payments`."""
    require_account(store, account)
    parts = {row.id: row for row in store.fetch_all(PaymentRow, store.sql.payments, account)}
    rows = _fetch_lots(store, account)
    return [_payment_from_rows(lot, parts.get(lot.id)) for lot in rows if lot.currency is not None]


def _fetch_lots(store: Store, account: str) -> list[LotRow]:
    """Return the lots of an account. One that a transfer opened has the reference of its payment."""
    rows = store.fetch_all(LotRow, store.sql.lots, account)
    for row in rows:
        if row.origin is not None and row.currency is not None:
            paid = store.fetch_one(LotRow, store.sql.lot, row.origin)
            row.reference = None if paid is None else paid.reference
    return rows


def _payment_from_rows(lot: LotRow, parts: PaymentRow | None) -> Payment:
    currency = str(lot.currency)
    row = parts or PaymentRow(lot.id, lot.account, currency, lot.paid, 0, 0, 0, 0, None)
    amounts = (
        *(row.gross, row.tax, row.fee, row.gross - row.fee, row.coupon),
        *(lot.refunded + row.tax_refunded, row.tax_refunded, (lot.moved_paid or 0) + (row.tax_moved or 0)),
    )
    gross, tax, fee, net, coupon, refunded, tax_refunded, moved = (
        units_to_payable(amount, currency) for amount in amounts
    )
    return Payment(
        lot.id,
        lot.account,
        str(lot.channel),
        str(lot.reference),
        row.order,
        gross,
        tax,
        fee,
        net,
        coupon,
        refunded,
        tax_refunded,
        moved,
        lot.origin,
    )


def orders(store: Store, account: str, now: str) -> list[Order]:
    """Return the orders of an account: see :meth:`Ledger.orders`."""
    require_account(store, account)
    return [order_from_row(row, now) for row in store.fetch_all(OrderRow, store.sql.orders, account)]


def order_from_row(row: OrderRow, now: str) -> Order:
    """Return an order in its state at a time."""
    pay, tax, due, received = (
        units_to_payable(amount, row.currency) for amount in (row.pay, row.tax, row.pay + row.tax, row.received)
    )
    return Order(
        row.id,
        row.account,
        row.channel,
        parse_timestamp(row.at),
        parse_timestamp(row.expires),
        "expired" if row.state == "open" and row.expires <= now else row.state,
        units_to_credits(row.credits),
        Decimal(row.price),
        pay,
        tax,
        due,
        received,
        units_to_credits(row.credited),
    )


def account_page(store: Store, after: str) -> list[str]:
    """Return up to ``PAGE_SIZE`` ids of accounts that sort after ``after``, sorted."""
    return [row[0] for row in store.fetch_rows(store.sql.accounts, after, PAGE_SIZE)]


def entry_page(store: Store, account: str, after: int) -> list[Entry]:
    """Return up to ``PAGE_SIZE`` entries of an account with numbers above ``after``, in order."""
    require_account(store, account)
    return [Entry.from_row(JournalRow(*row)) for row in store.fetch_rows(store.sql.entries, account, after, PAGE_SIZE)]
