"""Maintenance: verify, checkpoint, rebuild, expire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger import replay
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.operations.base import lock_account
from brivionix_billing.ledger.operations.queries import Queries
from brivionix_billing.ledger.replay import Inconsistency
from brivionix_billing.ledger.timestamps import format_timestamp

__all__ = ["Maintenance"]


class Maintenance(Queries):
    """Maintenance of a ledger."""

    def verify(self, checkpoint: Mapping[str, tuple[int, str]] | None = None) -> list[Inconsistency]:
        """Replay the whole journal and compare it with all derived tables. Returns an empty list if they match.

        ``checkpoint`` is a former result of :meth:`checkpoint`. With it, a truncated journal is detected as well.
        """
        try:
            return self._run_read(lambda store: list(replay.verify(store, checkpoint or {})), None)
        except BillingError as error:
            if error.code != "journal_broken":
                raise
            return [Inconsistency("?", None, error.message)]  # the journal is unreadable

    def checkpoint(self) -> dict[str, tuple[int, str]]:
        """Return the number and hash of the last entry of every account.

        Stored outside of the database, a checkpoint proves later that the journal was not truncated.
        """
        heads = self._run_read(lambda store: store.fetch_rows(store.sql.heads), None)
        return {account: (number, hash) for account, number, hash in heads}

    def rebuild(self, *, accept_loss: bool = False) -> int:
        """Rebuild all derived tables from the journal. Returns the number of rows.

        Raises ``journal_broken`` if the journal is inconsistent, or if the tables name entries that are missing in it:
        they are the only remaining record of a truncated journal. ``accept_loss`` rebuilds in the second case.
        """
        return self._run_write(partial(replay.rebuild, accept_loss=accept_loss), None)

    def expire(self, *, at: datetime, accounts: Iterable[str] | None = None) -> int:
        """Post expiries for all or some accounts. Returns the number of entries posted.

        No result depends on it, because every operation and query of an account applies its expiries. It brings the
        journal of idle accounts up to date, for example before a month is closed.
        """
        now = format_timestamp(at)

        def expire_account(account: str) -> int:
            return self._run_write(
                lambda store: LockedAccount(store, lock_account(store, account), now, self.lot_order).expire_due(),
                None,
            )

        entries, errors = 0, []
        for account in self.accounts() if accounts is None else accounts:
            try:
                entries += expire_account(account)
            except BillingError as error:
                errors.append(error)  # raised after the other accounts are done
        if errors:
            raise errors[0]
        return entries
