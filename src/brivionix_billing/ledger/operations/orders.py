"""Operations with orders and received payments."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger import reports
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id, require_new_id
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.notices.notice import Notice
from brivionix_billing.ledger.operations.base import lock_account
from brivionix_billing.ledger.operations.moved_payments import MovedPayments
from brivionix_billing.ledger.operations.payments import Payments
from brivionix_billing.ledger.operations.queries import Queries
from brivionix_billing.ledger.posting import orders
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.posting.payments import lot_content
from brivionix_billing.ledger.projections import OrderRow
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.ledger.reports import Lot, Order, Payment
from brivionix_billing.ledger.restrictions import DEFAULT_PRIORITY, Restriction
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.money import Payable
from brivionix_billing.topup import Quote

__all__ = ["Orders"]


class Orders(Queries, Payments, MovedPayments):
    """Operations with orders and received payments."""

    def create_order(
        self,
        account: str,
        quote: Quote,
        *,
        id: str,
        at: datetime,
        expires: datetime,
        tax: Payable | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Create an order: a quote whose price is valid until ``expires``; ``id`` becomes the id of the order.

        The customer pays the quote's amount plus ``tax``. Raises ``invalid_argument``, ``currency_mismatch``.
        """
        content = orders.order_content(quote, tax, format_timestamp(expires))
        return self._run_operation(
            account, id, "order", content, at, lambda locked: orders.create_order(locked, id, content), connection
        )

    def cancel_order(
        self, account: str, order: str, *, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Cancel an open order. A payment that still arrives is priced at its own time.

        Raises ``unknown_order``, ``order_closed``.
        """
        content = {"order": require_id(order, "the order")}
        return self._run_operation(
            account,
            id,
            "order_cancelled",
            content,
            at,
            lambda locked: orders.cancel_order(locked, order, content),
            connection,
        )

    def receive_payment(
        self,
        account: str,
        payment: ReceivedPayment,
        *,
        id: str,
        at: datetime,
        order: str | None = None,
        expires: datetime | None = None,
        only: Restriction | None = None,
        priority: int = DEFAULT_PRIORITY,
        connection: Connection | None = None,
    ) -> Entry:
        """Credit a payment that was received, of any amount, as a lot; ``id`` becomes the id of the lot.

        If it belongs to an ``order`` that had not expired at the time of the payment, the order gives the price: also
        for a part of its amount, for more, or for a second payment. Otherwise the price is that of the time of the
        payment, and the ledger must know the price book. The limits of the channel apply to quotes only.

        ``expires``, ``only`` and ``priority`` are those of the lot, as of :meth:`top_up`; omit them for the order of a
        plan, which has its own. Raises
        ``payment_already_credited``, ``unknown_order``, and ``currency_mismatch`` if the payment is in another currency
        than the channel: there is no exchange rate.
        """
        require_new_id(id, "the operation")
        booked_at = self._booked_at(at)
        given = {**payment.content(), **lot_content(expires, only, priority)}
        if order is not None:
            given["order"] = require_id(order, "the order")

        def work(store: Store) -> Entry:
            row = lock_account(store, account)
            existing = store.fetch_entry(store.sql.entry, id)
            if existing is not None:
                entry = Entry.from_row(existing)
                computed = {"credits", "paid", "price_per_credit"} | ({"tax"} if payment.tax is None else set())
                if "period" in entry.result:  # the terms of a plan
                    computed |= {"expires", "only", "priority", "plan"}
                kept = {name: value for name, value in entry.content.items() if name in computed}
                return entry.match_repeat(account, "top_up", {**kept, **given})
            locked = LockedAccount(store, row, booked_at, self.lot_order)
            post_due(locked)
            return locked.post_entry(id, orders.receive(locked, id, payment, given, self.book))

        return self._run_write(work, connection)

    def post_notice(self, notice: Notice, *, at: datetime, connection: Connection | None = None) -> Entry | None:
        """Post what a provider reports: a payment, a refund, a dispute, or the reversal of either.

        The payment is matched to its order by ``notice.order``, also early, late, twice, in parts, or too much: see
        :meth:`receive_payment`. Without an order, it is credited to ``notice.account``. A payment that was credited
        before is returned as repeated. A refund removes unused Credits first, and used ones become debt.

        Returns the entry, or ``None`` if there is nothing to post: the payment is pending, or the notice is ignored.
        Raises ``unknown_order``, ``unknown_payment``, ``unknown_account`` and ``ledger_unavailable`` if it may be
        posted later: answer so that the provider sends the notice again.
        """
        if notice.kind == "payment":
            return self._post_payment(notice, at, connection)
        if notice.kind not in ("refund", "refund_failed", "dispute", "dispute_won"):
            return None
        done = None if notice.operation is None else self.entry(notice.operation, connection=connection)
        if notice.kind in ("refund_failed", "dispute_won"):
            undone = self.entry(notice.id, connection=connection) if done is None else done
            if undone is None:
                return None  # what failed was not posted
            reason = "the refund failed" if notice.kind == "refund_failed" else "the dispute was won"
            reversals = [
                self.reverse(
                    part.account,
                    part.id,
                    id=f"{undone.id}:{notice.kind}{'' if part.id == undone.id else f':{number}'}",
                    at=at,
                    reason=reason,
                    connection=connection,
                )
                for number, part in enumerate(self._dispute_entries(undone, connection), 1)
            ]
            return reversals[0]
        if done is not None:
            return replace(done, repeated=True)  # the ledger's own refund, which it posted before it was paid
        lot = self._lot_of(notice, connection)
        pay = notice.amount
        if notice.is_total and pay is not None:
            if self.entry(notice.id, connection=connection) is not None:
                return None
            paid_back = self._paid_back(lot.id, connection)
            if pay.minor <= paid_back.minor:
                return None
            pay = Payable(pay.minor - paid_back.minor, pay.currency)
        if lot.moved:
            return self._dispute_payment(lot.id, pay, notice.id, at, connection)
        return self.dispute(lot.account, lot.id, id=notice.id, at=at, pay=pay, connection=connection)

    def _post_payment(self, notice: Notice, at: datetime, connection: Connection | None) -> Entry:
        payment, account = notice.payment, notice.account
        if payment is None:
            raise BillingError("invalid_argument", f"notice {safe_repr(notice.id)} is a payment without payment=")
        if notice.order is not None:
            account = self.order(notice.order, at=at, connection=connection).account
        if account is None:
            raise BillingError(
                "unknown_order", f"payment {safe_repr(payment.reference)} names neither an order nor an account"
            )
        try:
            return self.receive_payment(
                account,
                payment,
                id=f"{payment.channel}:{payment.reference}",
                at=at,
                order=notice.order,
                connection=connection,
            )
        except BillingError as error:
            # Several notices report one payment, with different parts; the first one was posted.
            if error.code not in ("operation_conflict", "payment_already_credited"):
                raise
            lot = self._lot_of(notice, connection)
            entry = self.entry(lot.id, connection=connection)
            gross = None if entry is None else entry.content.get("gross", entry.content.get("paid"))
            if entry is None or entry.account != account or gross != str(payment.gross.amount):
                raise
            return replace(entry, repeated=True)

    def _lot_of(self, notice: Notice, connection: Connection | None) -> Lot:
        return self._run_read(lambda store: reports.lot_by_payment(store, notice.channel, notice.reference), connection)

    def order(self, order: str, *, at: datetime, connection: Connection | None = None) -> Order:
        """Return an order. ``at`` is the current time: it decides whether an open order has expired.

        Raises ``unknown_order``.
        """
        now = format_timestamp(at)

        def work(store: Store) -> Order:
            row = store.fetch_one(OrderRow, store.sql.order, require_id(order, "the order"))
            if row is None:
                raise BillingError("unknown_order", f"there is no order {safe_repr(order)}")
            return reports.order_from_row(row, now)

        return self._run_read(work, connection)

    def orders(self, account: str, *, at: datetime, connection: Connection | None = None) -> list[Order]:
        """Return all orders of an account, the oldest first."""
        now = format_timestamp(at)
        return self._run_read(lambda store: reports.orders(store, account, now), connection)

    def payments(self, account: str, *, connection: Connection | None = None) -> list[Payment]:
        """Return the payments of all purchased lots of an account with their parts, the oldest first."""
        return self._run_read(lambda store: reports.payments(store, account), connection)
