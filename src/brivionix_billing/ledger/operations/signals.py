"""Operations on signals: settings, and the outbox from which a gateway delivers them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger import signal_reports
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_new_id
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.operations.base import LedgerBase, lock_account
from brivionix_billing.ledger.posting import signals as posting
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.signal_reports import Signal, SignalSetting
from brivionix_billing.ledger.signals import SignalKind, SignalRow
from brivionix_billing.ledger.timestamps import expiry_timestamp
from brivionix_billing.text_checks import require_text

__all__ = ["DEFAULT_LEASE", "Signals"]

DEFAULT_LEASE: Final = timedelta(minutes=1)
"""Time that a reader has to deliver a batch of signals."""


class Signals(LedgerBase):
    """Operations on signals."""

    def set_signal(
        self,
        account: str,
        name: str,
        kind: SignalKind,
        *,
        id: str,
        at: datetime,
        threshold: Decimal | int | str | None = None,
        limit: str | None = None,
        share: Decimal | int | str | None = None,
        credits: Decimal | int | str | None = None,
        cap: Decimal | int | str | None = None,
        zone: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Set a signal: from now on, an operation that makes its condition true writes it to the outbox.

        ``kind`` is one of:

        - ``low_balance``: the Credits of all lots, held or not, less the debt, are below ``threshold``;
        - ``debt``: the debt is above ``threshold`` (default 0);
        - ``top_up_due``: the balance is below ``threshold``, so ``credits`` must be purchased; the sum of the Credits
          of all signals in a calendar month of ``zone`` (default UTC) is at most ``cap``;
        - ``limit_near``: ``share`` of the ``limit`` by window of this name is used, open holds included;
        - ``hold_expired``: a hold expired, so the gateway did not report the outcome of a request.

        A signal is raised once, and again only after its condition has ended: ``limit_near`` once per window,
        ``hold_expired`` at most once an hour, and ``top_up_due`` also after each payment that was not enough. If the
        condition is true already, it is raised at once. The ``name`` of an existing signal replaces it, and makes it
        ready again. Raises ``invalid_argument`` and ``invalid_period`` for an unknown zone.
        """
        options = {
            "threshold": threshold,
            "limit": limit,
            "share": share,
            "credits": credits,
            "cap": cap,
            "zone": zone,
        }
        content = posting.setting_content(name, kind, options)
        return self._run_operation(
            account, id, "set_signal", content, at, lambda locked: posting.set_signal(locked, content), connection
        )

    def remove_signal(
        self, account: str, name: str, *, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Remove a signal. Raised ones stay in the outbox. Raises ``invalid_argument`` if the account has none."""
        content = {"signal": require_text("the name of a signal", name)}
        return self._run_operation(
            account, id, "remove_signal", content, at, lambda locked: posting.remove_signal(locked, content), connection
        )

    def signal_settings(self, account: str, *, connection: Connection | None = None) -> list[SignalSetting]:
        """Return the signals that are set for an account, sorted by name."""
        return self._run_read(lambda store: signal_reports.signal_settings(store, account), connection)

    def signals(
        self,
        account: str | None = None,
        *,
        pending: bool = True,
        after: int = 0,
        limit: int = 1000,
        connection: Connection | None = None,
    ) -> list[Signal]:
        """Return pending signals, of one account or of all, in order per account; ``limit`` is 1 to 1000.

        With ``pending=False``, also those that were acknowledged, of one account. ``after`` is the number of the last
        signal of the previous page of an account. This leases nothing: see :meth:`lease_signals`.
        """
        page = signal_reports.require_page(limit)
        return self._run_read(
            lambda store: signal_reports.signals(store, account, pending=pending, after=after, limit=page), connection
        )

    def lease_signals(
        self,
        *,
        at: datetime,
        limit: int = 100,
        lease: timedelta = DEFAULT_LEASE,
        connection: Connection | None = None,
    ) -> list[Signal]:
        """Return a batch of up to ``limit`` pending signals to deliver, in order per account.

        Until ``at + lease``, no other reader gets them, nor later signals of their accounts. Deliver each, then
        :meth:`acknowledge_signals`. What is not acknowledged in time is returned again, to this or another reader. So
        a signal is delivered at least once, and a receiver must ignore a number that it has seen. Raises
        ``invalid_argument``.
        """
        page = signal_reports.require_page(limit)
        if not isinstance(lease, timedelta) or lease <= timedelta(0):
            raise BillingError("invalid_argument", f"lease is {safe_repr(lease)}; use a timedelta above zero")
        now, until = self._booked_at(at), expiry_timestamp(at, lease)
        return self._run_write(lambda store: signal_reports.lease(store, now, until, page), connection)

    def acknowledge_signals(
        self, account: str, through: int, *, at: datetime, id: str | None = None, connection: Connection | None = None
    ) -> Entry:
        """Acknowledge the signals of an account up to the number ``through``: they were delivered.

        ``id`` defaults to ``signals:ACCOUNT:THROUGH``. If another operation has acknowledged them, its entry is
        returned as repeated. Raises ``invalid_argument`` if there is no signal of this number.
        """
        if isinstance(through, bool) or not isinstance(through, int) or not 0 < through < 2**63:
            raise BillingError("invalid_argument", f"through is {safe_repr(through)}; use the number of a signal")
        id = require_new_id(f"signals:{account}:{through}" if id is None else id, "the operation")
        content, booked_at = {"through": through}, self._booked_at(at)

        def work(store: Store) -> Entry:
            row = lock_account(store, account)
            existing = store.fetch_entry(store.sql.entry, id)
            if existing is not None:
                return Entry.from_row(existing).match_repeat(account, "signals_acknowledged", content)
            last = store.fetch_one(SignalRow, store.sql.signal, account, through)
            if last is None:
                raise BillingError(
                    "invalid_argument", f"account {safe_repr(account)} has no signal {through}; use one that was read"
                )
            if last.acknowledged_by is not None:
                done = store.fetch_entry(store.sql.entry, last.acknowledged_by)
                if done is not None:
                    return replace(Entry.from_row(done), repeated=True)
            locked = LockedAccount(store, row, booked_at, self.lot_order)
            post_due(locked)
            pending = store.fetch_all(SignalRow, store.sql.unacknowledged, account, through)
            return locked.post_entry(id, posting.acknowledge(locked, id, pending, content))

        return self._run_write(work, connection)
