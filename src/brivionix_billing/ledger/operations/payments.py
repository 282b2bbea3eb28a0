"""Credits that come in and go back."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_new_id, require_text
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.operations.base import LedgerBase, amount_text
from brivionix_billing.ledger.posting import payments
from brivionix_billing.ledger.units import to_signed_units, to_units, units_to_text
from brivionix_billing.money import Payable
from brivionix_billing.topup import Quote

__all__ = ["Payments"]


class Payments(LedgerBase):
    """Operations with money, or with Credits that cost none."""

    def top_up(
        self,
        account: str,
        quote: Quote,
        *,
        reference: str,
        id: str,
        at: datetime,
        expires: datetime | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """A quote that was paid becomes a lot; ``id`` is the lot's. ``reference`` is the payment's at its channel.

        Raises ``payment_already_credited`` if the payment was credited by another operation, to whatever account.
        """
        require_new_id(reference, "the reference")
        content = payments.top_up_content(quote, reference, expires)
        amount = to_units(quote.credits, "a top-up")
        return self._run_operation(
            account,
            id,
            "top_up",
            content,
            at,
            lambda desk: payments.open_lot(desk, id, "top_up", amount, content, quote),
            connection,
        )

    def grant(
        self,
        account: str,
        credits: Decimal | int | str,
        *,
        reason: str,
        id: str,
        at: datetime,
        expires: datetime | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Promotional Credits: they cost nothing, and are never refunded. ``id`` is the lot's."""
        amount = to_units(credits, "a grant")
        content = {
            "credits": units_to_text(amount),
            "reason": require_text(reason, "the reason"),
            **payments.lot_content(expires),
        }
        return self._run_operation(
            account,
            id,
            "grant",
            content,
            at,
            lambda desk: payments.open_lot(desk, id, "grant", amount, content, None),
            connection,
        )

    def refund(
        self,
        account: str,
        lot: str,
        *,
        id: str,
        at: datetime,
        credits: Decimal | int | str | None = None,
        pay: Payable | str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Give unused Credits of a lot back at the price they were bought for: so many, so much money, or all.

        The entry's ``pay_back`` is the money, ``result`` names channel and reference. ``pay`` is of the lot's currency.
        The Credits are gone when this returns; if the channel then fails to pay, :meth:`reverse` brings them back.
        Raises ``not_refundable``.
        """
        if credits is not None and pay is not None:
            raise BillingError("invalid_argument", "give credits or pay, not both")
        amount = None if credits is None else to_units(credits, "a refund")
        content = {"lot": lot, "credits": None if amount is None else units_to_text(amount), "pay": amount_text(pay)}
        return self._run_operation(
            account,
            id,
            "refund",
            content,
            at,
            lambda desk: payments.refund(desk, desk.lot(lot), content, amount, pay),
            connection,
        )

    def dispute(
        self,
        account: str,
        lot: str,
        *,
        id: str,
        at: datetime,
        pay: Payable | str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """A payment was taken back by its payer (chargeback): all that is left of it, or ``pay``.

        Credits of the lot that are left go, Credits that were used are owed. If it is won, :meth:`reverse` it.
        """
        content = {"lot": lot, "pay": amount_text(pay)}
        return self._run_operation(
            account,
            id,
            "dispute",
            content,
            at,
            lambda desk: payments.dispute(desk, desk.lot(lot), content, pay),
            connection,
        )

    def reverse(
        self, account: str, undoes: str, *, id: str, at: datetime, reason: str, connection: Connection | None = None
    ) -> Entry:
        """Undo a refund that was not paid out, or a dispute that was won; once. Raises ``not_reversible``."""
        content = {"undoes": undoes, "reason": require_text(reason, "the reason")}
        return self._run_operation(
            account, id, "reverse", content, at, lambda desk: payments.reverse(desk, undoes, content), connection
        )

    def adjust(
        self,
        account: str,
        credits: Decimal | int | str,
        *,
        reason: str,
        author: str,
        id: str,
        at: datetime,
        connection: Connection | None = None,
    ) -> Entry:
        """A correction by hand, up or down. Up: a lot that nobody paid for. Down: at most what is available."""
        amount = to_signed_units(credits, "a correction")
        content = {
            "credits": units_to_text(amount),
            "reason": require_text(reason, "the reason"),
            "author": require_text(author, "the author"),
        }

        def plan(desk: LockedAccount) -> EntryDraft:
            if amount < 0:
                return payments.debit_adjustment(desk, -amount, content)
            return payments.open_lot(desk, id, "adjust", amount, content, None)

        return self._run_operation(account, id, "adjust", content, at, plan, connection)
