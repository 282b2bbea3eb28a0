"""Operations on accounts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import MAX_ID_LENGTH, require_new_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.operations.base import LedgerBase, lock_account
from brivionix_billing.ledger.posting.accounts import freeze
from brivionix_billing.ledger.projections import AccountRow
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.text_checks import require_text

__all__ = ["Accounts"]


class Accounts(LedgerBase):
    """Operations on accounts."""

    def open_account(
        self, account: str, *, at: datetime, id: str | None = None, connection: Connection | None = None
    ) -> Entry:
        """Open an account without Credits. Raises ``account_exists`` if another operation opened it."""
        account, booked_at = require_new_id(account, "the account", MAX_ID_LENGTH), format_timestamp(at)
        id = require_new_id(f"account:{account}" if id is None else id, "the operation")

        def work(store: Store) -> Entry:
            existing = store.fetch_entry(store.sql.entry, id)
            if existing is not None:
                return Entry.from_row(existing).match_repeat(account, "account", {})
            row = AccountRow(account)
            if store.execute(store.sql.add[AccountRow] + " ON CONFLICT DO NOTHING", *store.to_columns(row)) != 1:
                row = lock_account(store, account)
                existing = store.fetch_entry(store.sql.entry, id)  # a concurrent retry may have posted it
                if existing is not None:
                    return Entry.from_row(existing).match_repeat(account, "account", {})
                raise BillingError("account_exists", f"account {safe_repr(account)} already exists")
            return LockedAccount(store, row, booked_at).post_entry(id, EntryDraft("account", booked_at, {}))

        return self._run_write(work, connection)

    def freeze(
        self, account: str, *, reason: str, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Freeze an account: ``hold`` and ``charge`` raise ``account_frozen``. Its open holds can still be settled.

        Top-ups, refunds and corrections are not affected. Freezing a frozen account changes only the journal.
        """
        return self._set_frozen(account, "account_frozen", reason, id, at, connection)

    def unfreeze(
        self, account: str, *, reason: str, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Unfreeze an account. If it is not frozen, this changes only the journal."""
        return self._set_frozen(account, "account_unfrozen", reason, id, at, connection)

    def _set_frozen(
        self, account: str, kind: str, reason: str, id: str, at: datetime, connection: Connection | None
    ) -> Entry:
        content = {"reason": require_text("the reason", reason)}
        return self._run_operation(
            account, id, kind, content, at, lambda locked: freeze(locked, kind, content), connection
        )
