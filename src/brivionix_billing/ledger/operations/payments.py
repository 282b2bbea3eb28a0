"""Operations with payments, grants and corrections."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id, require_new_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.operations.base import LedgerBase, amount_text
from brivionix_billing.ledger.posting import disputes, payments, refunds
from brivionix_billing.ledger.restrictions import DEFAULT_PRIORITY, Restriction
from brivionix_billing.ledger.units import to_signed_units, to_units, units_to_text
from brivionix_billing.money import Payable
from brivionix_billing.text_checks import require_text
from brivionix_billing.topup import Quote

__all__ = ["Payments"]


class Payments(LedgerBase):
    """Operations with payments, grants and corrections."""

    def top_up(
        self,
        account: str,
        quote: Quote,
        *,
        reference: str,
        id: str,
        at: datetime,
        expires: datetime | None = None,
        only: Restriction | None = None,
        priority: int = DEFAULT_PRIORITY,
        connection: Connection | None = None,
    ) -> Entry:
        """Credit a paid quote as a lot; ``id`` becomes the id of the lot.

        ``reference`` is the id of the payment at its channel. ``only`` names the requests that may use the lot; of the
        lots that a request may use, one with a lower ``priority`` (0 to 100) is used first. Raises
        ``payment_already_credited`` if another operation has credited the payment, to this or another account.
        """
        require_new_id(reference, "the reference")
        content = payments.top_up_content(quote, reference, payments.lot_content(expires, only, priority))
        amount = to_units(quote.credits, "a top-up")
        return self._run_operation(
            account,
            id,
            "top_up",
            content,
            at,
            lambda locked: payments.open_lot(locked, id, "top_up", amount, content, quote.pay),
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
        only: Restriction | None = None,
        priority: int = DEFAULT_PRIORITY,
        connection: Connection | None = None,
    ) -> Entry:
        """Grant promotional Credits, which are never refunded; ``id`` becomes the id of the lot.

        ``only`` names the requests that may use them. Of the lots that a request may use, one with a lower ``priority``
        (0 to 100) is used first.
        """
        amount = to_units(credits, "a grant")
        content = {
            "credits": units_to_text(amount),
            "reason": require_text("the reason", reason),
            **payments.lot_content(expires, only, priority),
        }
        return self._run_operation(
            account,
            id,
            "grant",
            content,
            at,
            lambda locked: payments.open_lot(locked, id, "grant", amount, content, None),
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
        """Refund unused Credits of a lot at their purchase price: ``credits``, ``pay`` in money, or all.

        The entry's ``refund_amount`` is the money, and its ``result`` has the channel and the reference. ``pay`` is in
        the currency of the lot. The Credits are removed when this returns; if the channel then fails to pay, use
        :meth:`reverse`. Raises ``not_refundable``.
        """
        if credits is not None and pay is not None:
            raise BillingError("invalid_argument", "a refund takes credits or pay, not both")
        amount = None if credits is None else to_units(credits, "a refund")
        content = {"lot": lot, "credits": None if amount is None else units_to_text(amount), "pay": amount_text(pay)}
        return self._run_operation(
            account,
            id,
            "refund",
            content,
            at,
            lambda locked: refunds.refund(locked, locked.lot(lot), content, amount, pay),
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
        """Post a chargeback: the payer claws back ``pay``, or the rest of the payment.

        Unused Credits of the lot are removed, and used Credits become debt. If you win the dispute, use
        :meth:`reverse`.
        """
        content = {"lot": lot, "pay": amount_text(pay)}
        return self._run_operation(
            account,
            id,
            "dispute",
            content,
            at,
            lambda locked: disputes.dispute(locked, locked.lot(lot), content, pay),
            connection,
        )

    def reverse(
        self, account: str, undoes: str, *, id: str, at: datetime, reason: str, connection: Connection | None = None
    ) -> Entry:
        """Reverse a refund that was not paid out, or a dispute that was won.

        Raises ``not_reversible`` if ``undoes`` is another operation or was reversed before.
        """
        content = {"undoes": undoes, "reason": require_text("the reason", reason)}
        return self._run_operation(
            account,
            id,
            "reverse",
            content,
            at,
            lambda locked: disputes.reverse(locked, undoes, content),
            connection,
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
        lot: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Correct a balance manually. Upwards, this opens a promotional lot; downwards, it takes available Credits.

        Downwards, ``lot`` is the lot that they are taken from. Without it, lots are used in their order, and the
        entry's ``lot_changes`` name them. To undo a grant, use :meth:`void`, and to undo a charge
        :meth:`reverse_charge`. Raises :class:`ShortfallError`, ``unknown_lot``.
        """
        amount = to_signed_units(credits, "a correction")
        content = {
            "credits": units_to_text(amount),
            "reason": require_text("the reason", reason),
            "author": require_text("the author", author),
        }
        if lot is not None:
            if amount >= 0:
                raise BillingError(
                    "invalid_argument",
                    "lot= names the lot that Credits are taken from; omit it, or use an amount below 0",
                )
            content["lot"] = require_id(lot, "the lot")

        def build(locked: LockedAccount) -> EntryDraft:
            if amount < 0:
                return payments.debit_adjustment(locked, -amount, content, None if lot is None else locked.lot(lot))
            return payments.open_lot(locked, id, "adjust", amount, content, None)

        return self._run_operation(account, id, "adjust", content, at, build, connection)
