"""The operation that moves Credits between two accounts of one owner."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import MAX_ID_LENGTH, require_id, require_new_id
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.operations.base import LedgerBase, lock_account
from brivionix_billing.ledger.posting import transfers
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.units import to_units, units_to_text
from brivionix_billing.text_checks import require_text

__all__ = ["Transfers"]


class Transfers(LedgerBase):
    """The operation that moves Credits between two accounts of one owner."""

    def transfer(
        self,
        account: str,
        to: str,
        credits: Decimal | int | str,
        *,
        reason: str,
        id: str,
        at: datetime,
        lot: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Move available Credits of an account to another account of the same owner, in one transaction.

        They are taken from ``lot``, or from the lots in the order of consumption, and open lots in the other account.
        Those keep price, expiry, restriction and priority, and their money can be refunded to the payment. No cash and
        no revenue moves. The new Credits settle a debt of the other account first.

        Returns the entry of ``account``. That of ``to`` has the id ``~ID:in``. Raises :class:`ShortfallError`,
        ``account_frozen``, ``unknown_lot``, ``unknown_account``, and ``invalid_argument`` for one account twice.
        """
        require_new_id(id, "the operation", MAX_ID_LENGTH)
        amount = to_units(credits, "a transfer")
        if require_id(account, "the account") == require_id(to, "the other account"):
            raise BillingError("invalid_argument", f"account and to are both {safe_repr(to)}; name two accounts")
        shared = {"credits": units_to_text(amount), "reason": require_text("the reason", reason)}
        named = {} if lot is None else {"lot": require_id(lot, "the lot")}
        content = {"to": to, **shared, **named}
        booked_at = self._booked_at(at)

        def work(store: Store) -> Entry:
            # Always in the same order, so that two transfers in opposite directions cannot wait for each other.
            rows = {name: lock_account(store, name) for name in sorted((account, to))}
            existing = store.fetch_entry(store.sql.entry, id)
            if existing is not None:
                return Entry.from_row(existing).match_repeat(account, "transfer_out", content)
            source, target = (LockedAccount(store, rows[name], booked_at, self.lot_order) for name in (account, to))
            post_due(source)
            post_due(target)
            chosen = None if lot is None else source.lot(lot)
            entry = source.post_entry(id, transfers.take_out(source, id, amount, content, chosen))
            incoming = transfers.take_in(target, entry, {"from": account, **shared})
            target.post_entry(transfers.incoming_id(id), incoming)
            return entry

        return self._run_write(work, connection)
