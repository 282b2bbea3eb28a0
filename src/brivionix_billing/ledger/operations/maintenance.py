"""Maintenance."""

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
    """Checks and upkeep of a ledger."""

    def verify(self, checkpoint: Mapping[str, tuple[int, str]] | None = None) -> list[Inconsistency]:
        """Replay the whole journal, and compare all that is derived from it. Of a sound ledger, an empty list.

        ``checkpoint`` is what :meth:`checkpoint` gave before: then entries cut off at the end are missed as well.
        """
        try:
            return self._run_read(lambda store: list(replay.verify(store, checkpoint or {})), None)
        except BillingError as error:
            if error.code != "journal_broken":
                raise
            return [Inconsistency("?", None, error.message)]  # what cannot even be read

    def checkpoint(self) -> dict[str, tuple[int, str]]:
        """Account -> number and hash of its last entry. Kept elsewhere, it shows later that nothing was cut off."""
        return {
            row[0]: (row[1], row[2]) for row in self._run_read(lambda store: store.fetch_rows(store.sql.heads), None)
        }

    def rebuild(self, *, accept_loss: bool = False) -> int:
        """Make all tables anew from the journal; how many rows.

        Raises ``journal_broken`` if the journal is not sound, or if the tables know of entries that it lacks: they are
        the only trace of what was cut off. ``accept_loss`` rebuilds all the same.
        """
        return self._run_write(partial(replay.rebuild, accept_loss=accept_loss), None)

    def expire(self, *, at: datetime, accounts: Iterable[str] | None = None) -> int:
        """Book all that has expired, of all accounts or some; how many entries that made.

        Nothing depends on it: whatever looks at an account books what has expired on it. It brings the journal of
        accounts that nobody uses up to date, before a month is closed, say.
        """
        booked = format_timestamp(at)

        def one(account: str) -> int:
            return self._run_write(
                lambda store: LockedAccount(store, lock_account(store, account), booked, self.lot_order).expire_due(),
                None,
            )

        made, failed = 0, []
        for account in self.accounts() if accounts is None else accounts:
            try:
                made += one(account)
            except BillingError as error:
                failed.append(error)  # the others are done first
        if failed:
            raise failed[0]
        return made
