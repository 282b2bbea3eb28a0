"""Disputes of a payment whose Credits a transfer moved to lots of other accounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.operations.base import LedgerBase, amount_text, lock_account
from brivionix_billing.ledger.posting import disputes, refunds
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.projections import LotRow, PaymentRow
from brivionix_billing.ledger.units import units_to_payable
from brivionix_billing.money import Payable

__all__ = ["MovedPayments"]


class MovedPayments(LedgerBase):
    """Operations on all lots that have Credits of one payment."""

    def _paid_back(self, lot: str, connection: Connection | None) -> Payable:
        """Return what was paid back of a payment from all its lots, with tax."""

        def work(store: Store) -> Payable:
            rows = _lots_of_payment(store, lot)
            units = sum(row.refunded + (0 if parts is None else parts.tax_refunded) for row, parts in rows)
            return units_to_payable(units, str(rows[0][0].currency))

        return self._run_read(work, connection)

    def _dispute_payment(
        self, lot: str, pay: Payable | None, id: str, at: datetime, connection: Connection | None
    ) -> Entry:
        """Post a chargeback to the lot of the payment first, and the rest to the lots that its Credits moved to.

        The first entry has the ``id``, the others ``~ID:2``, ``~ID:3``, ... All are posted, or none. Returns the first.
        """
        booked_at = self._booked_at(at)

        def work(store: Store) -> Entry:
            existing = store.fetch_entry(store.sql.entry, id)
            if existing is not None:
                return replace(Entry.from_row(existing), repeated=True)
            names = sorted({row.account for row, _ in _lots_of_payment(store, lot)})
            accounts = {
                name: LockedAccount(store, lock_account(store, name), booked_at, self.lot_order) for name in names
            }
            for account in accounts.values():
                post_due(account)
            entries: list[Entry] = []
            rows = _lots_of_payment(store, lot)  # as they are under lock
            if {row.account for row, _ in rows} != accounts.keys():
                raise BillingError("ledger_unavailable", f"lot {safe_repr(lot)} is being transferred; retry")
            left = None if pay is None else pay.minor
            for row, parts in rows:
                whole = units_to_payable(refunds.unreturned_gross(row, parts), str(row.currency))
                part = Payable(whole.minor if left is None else min(left, whole.minor), whole.currency)
                if not part.minor:
                    continue
                left = None if left is None else left - part.minor
                content = {"lot": row.id, "pay": amount_text(part)}
                account = accounts[row.account]
                draft = disputes.dispute(account, account.lot(row.id), content, part)
                entries.append(account.post_entry(_part_id(id, len(entries) + 1), draft))
            if left or not entries:
                raise BillingError(
                    "not_refundable",
                    f"{pay} of lot {safe_repr(lot)} and its moved Credits cannot be disputed: it is more",
                )
            return entries[0]

        return self._run_write(work, connection)

    def _dispute_entries(self, first: Entry, connection: Connection | None) -> list[Entry]:
        """Return the entries of a chargeback: the given one, and those of moved Credits."""

        def work(store: Store) -> Iterator[Entry]:
            row, number = store.fetch_entry(store.sql.entry, first.id), 1
            while row is not None:
                yield Entry.from_row(row)
                number += 1
                row = store.fetch_entry(store.sql.entry, _part_id(first.id, number))

        return self._run_read(lambda store: list(work(store)), connection)


def _part_id(id: str, number: int) -> str:
    return id if number == 1 else f"~{id}:{number}"


def _lots_of_payment(store: Store, lot: str) -> list[tuple[LotRow, PaymentRow | None]]:
    """Return the lot of a payment, then those that its Credits moved to, each with its tax."""
    rows = [*store.fetch_all(LotRow, store.sql.lot, lot), *store.fetch_all(LotRow, store.sql.moved_lots, lot)]
    return [(row, store.fetch_one(PaymentRow, store.sql.payment_parts, row.id)) for row in rows]
