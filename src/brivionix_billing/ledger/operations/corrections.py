"""Operations that correct others: voided lots, reversed charges and changed expiries."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.posting import corrections
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import to_units, units_to_text
from brivionix_billing.text_checks import require_text

__all__ = ["Corrections"]


class Corrections(LedgerBase):
    """Operations that correct others."""

    def void(
        self,
        account: str,
        lot: str,
        *,
        used: str,
        reason: str,
        author: str,
        id: str,
        at: datetime,
        connection: Connection | None = None,
    ) -> Entry:
        """Void a lot: a grant by mistake, or a payment that was never received.

        Its remaining Credits are removed, also those that are held, as by :meth:`dispute`. Its used Credits become debt
        (``used="owe"``) or are waived (``used="waive"``). No other lot changes, except to settle that debt. The money
        of a purchased lot and its revenue are reversed. Raises ``unknown_lot``, ``not_reversible``.
        """
        if used not in corrections.USED_CREDITS:
            raise BillingError(
                "invalid_argument", f"used is {safe_repr(used)}; use {' or '.join(corrections.USED_CREDITS)}"
            )
        content = {
            "lot": require_id(lot, "the lot"),
            "used": used,
            "reason": require_text("the reason", reason),
            "author": require_text("the author", author),
        }
        return self._run_operation(
            account,
            id,
            "void",
            content,
            at,
            lambda locked: corrections.void(locked, locked.lot(lot), content),
            connection,
        )

    def reverse_charge(
        self,
        account: str,
        charge: str,
        *,
        reason: str,
        author: str,
        id: str,
        at: datetime,
        credits: Decimal | int | str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Reverse a charge: ``credits`` of it, or all that is not reversed yet.

        ``charge`` is the id of the operation that charged, or of the hold that it settled. The Credits return to the
        lots that the charge used; their revenue, the token's spending and the usage are reversed with them. A lot that
        expired meanwhile settles the debt, and the rest of these Credits expires. Statement, usage and bill show the
        reversal at its own time, so that a bill that was sent stays correct. Raises ``not_reversible``.
        """
        amount = None if credits is None else to_units(credits, "a reversal")
        content = {
            "undoes": require_id(charge, "the charge"),
            "credits": None if amount is None else units_to_text(amount),
            "reason": require_text("the reason", reason),
            "author": require_text("the author", author),
        }
        return self._run_operation(
            account,
            id,
            "charge_reversed",
            content,
            at,
            lambda locked: corrections.reverse_charge(locked, charge, amount, content),
            connection,
        )

    def change_expiry(
        self,
        account: str,
        lot: str,
        *,
        expires: datetime | None,
        reason: str,
        author: str,
        id: str,
        at: datetime,
        connection: Connection | None = None,
    ) -> Entry:
        """Change the expiry of a lot, to a time after ``at`` or to ``None``: never. No Credits and no money move.

        Later requests use the lots in the order of their new expiries. A lot that has expired or in which no Credits
        are left stays closed (``lot_closed``); to end a lot now, use :meth:`void`. Raises ``unknown_lot``.
        """
        content = {
            "lot": require_id(lot, "the lot"),
            "expires": None if expires is None else format_timestamp(expires),
            "reason": require_text("the reason", reason),
            "author": require_text("the author", author),
        }
        return self._run_operation(
            account,
            id,
            "expiry_changed",
            content,
            at,
            lambda locked: corrections.change_expiry(locked, locked.lot(lot), content),
            connection,
        )
