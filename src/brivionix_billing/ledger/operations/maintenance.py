"""Maintenance: audit, verify, checkpoint, rebuild, prune, expire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archive_files import ArchiveFolder
from brivionix_billing.ledger.counter_pruning import prune_counters
from brivionix_billing.ledger.database.clock import database_time
from brivionix_billing.ledger.database.schema_check import check_schema
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.database.transactions import run_read
from brivionix_billing.ledger.incremental_verification import verify_new_entries
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.operations.base import lock_account
from brivionix_billing.ledger.operations.queries import Queries
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.rebuilding import rebuild
from brivionix_billing.ledger.reports import require_account, simulate_expiries
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.verification import Inconsistency, Verified, verify
from brivionix_billing.times import as_utc

__all__ = ["Audit", "Maintenance"]

_MAX_AHEAD: Final = timedelta(days=1)
"""Time ahead of the database up to which expiries are posted without confirmation."""
Heads = Mapping[str, tuple[int, str]]
"""Account -> number and hash of its last entry."""


class Audit(NamedTuple):
    """The result of verifying a ledger."""

    inconsistencies: list[Inconsistency]
    """Empty if the ledger is valid."""
    notes: list[str]
    """Harmless differences of the database's schema, and what was not verified."""
    heads: Heads
    """The number and hash of the last entry of every account, at the moment that was verified."""
    unproved: int = 0
    """Number of accounts that were replayed from a state that neither an archive nor the checkpoint proves."""


class Maintenance(Queries):
    """Maintenance of a ledger."""

    def verify(self, checkpoint: Heads | None = None, *, archive: str | Path | None = None) -> list[Inconsistency]:
        """Verify the ledger as :meth:`audit` does. Returns an empty list if it is valid."""
        return self.audit(checkpoint, archive=archive).inconsistencies

    def audit(self, checkpoint: Heads | None = None, *, archive: str | Path | None = None) -> Audit:
        """Check the schema of the database, replay the whole journal, and compare it with all derived tables.

        ``checkpoint`` is a former result of :meth:`checkpoint`, or the heads of a signed one. With it, a journal that
        was truncated, or rewritten with all hashes, is detected as well.

        ``archive`` is the folder with the files of archived entries: then the whole chain is replayed. Without it,
        accounts with archived entries are replayed from the state after them, which the database has. Raises
        ``file_unreadable`` if a file is missing.
        """
        schema = run_read(self.engine, check_schema)
        found = [Inconsistency(None, None, f"schema: {message}") for message in schema.inconsistencies]
        heads: Heads = {}
        unproved, notes = 0, list(schema.notes)
        folder = None if archive is None else ArchiveFolder(archive)

        def work(store: Store) -> tuple[Verified, Heads]:
            return verify(store, checkpoint or {}, folder), _heads(store)

        try:
            (replayed, unproved), heads = self._run_read(work, None)
            found += replayed
        except (BillingError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            # Statements and values of the ledger may fail on a schema that was changed.
            if isinstance(error, BillingError) and error.code == "file_unreadable":
                raise
            if isinstance(error, BillingError) and error.code == "journal_broken":
                found.append(Inconsistency("?", None, error.message))  # the journal is unreadable
            elif not found:
                raise
            else:
                found.append(Inconsistency(None, None, f"the journal cannot be replayed with this schema: {error}"))
        if unproved:
            notes.append(
                f"accounts archived since the checkpoint: {unproved}; only the archive folder proves their state"
            )
        return Audit(found, notes, heads, unproved)

    def verify_new_entries(self, checkpoint: Heads) -> list[Inconsistency]:
        """Verify only the entries after a checkpoint, in time proportional to their number.

        ``checkpoint`` is a former result of :meth:`checkpoint` of a ledger that :meth:`verify` found valid, or the
        heads of a signed one. Each new entry must follow the head of the checkpoint, and the row of the account must
        name the last one. Lots and holds that they changed must match. Earlier entries, and other rows, are not
        checked: run :meth:`verify` from time to time.
        """
        return self._run_read(lambda store: list(verify_new_entries(store, checkpoint)), None)

    def checkpoint(self) -> dict[str, tuple[int, str]]:
        """Return the number and hash of the last entry of every account.

        Stored outside of the database, a checkpoint proves later that the journal was not truncated.
        """
        return self._run_read(_heads, None)

    def rebuild(self, *, accept_loss: bool = False, archive: str | Path | None = None) -> int:
        """Rebuild all derived tables from the journal. Returns the number of rows.

        ``archive`` is the folder with the files of archived entries; without it, an account that has any raises
        ``entry_archived``.

        Raises ``journal_broken`` if the journal is inconsistent, or if the tables name entries that are missing in it:
        they are the only remaining record of a truncated journal. ``accept_loss`` rebuilds in the second case.
        """
        folder = None if archive is None else ArchiveFolder(archive)
        return self._run_write(partial(rebuild, accept_loss=accept_loss, folder=folder), None)

    def prune_counters(self, *, at: datetime, accounts: Iterable[str] | None = None) -> int:
        """Delete counters of limits whose windows ended more than 62 days ago. Returns their number.

        ``at`` is the current time. No result depends on it: these counters count no more. Each account is locked for
        its deletions only. Limits without an end, and accounts that are idle since then, keep their counters.
        """
        now = parse_timestamp(format_timestamp(at))

        def prune(store: Store, account: str) -> int:
            return prune_counters(store, account, lock_account(store, account).number, now)

        each = self.accounts() if accounts is None else accounts
        return sum(self._run_write(partial(prune, account=account), None) for account in each)

    def expire(self, *, at: datetime, accounts: Iterable[str] | None = None, ahead: bool = False) -> int:
        """Post expiries for all or some accounts. Returns the number of entries posted.

        Expired Credits are lost. So lots that expire more than a day ahead of the clock of the database are refused,
        unless ``ahead`` confirms it. Raises ``clock_skew``.

        No result depends on it, because every operation and query of an account applies its expiries. It brings the
        journal of idle accounts up to date, for example before a month is closed.
        """
        now = format_timestamp(at)
        limit = database_time(self.engine) + _MAX_AHEAD
        latest = None if ahead or as_utc(at) <= limit else format_timestamp(limit)

        def expire_account(account: str) -> int:
            if latest is not None:
                self._run_read(lambda store: _require_not_ahead(store, account, now, latest), None)
            return self._run_write(
                lambda store: post_due(LockedAccount(store, lock_account(store, account), now, self.lot_order)),
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


def _require_not_ahead(store: Store, account: str, now: str, latest: str) -> None:
    """Raise ``clock_skew`` if a lot would expire at ``now`` that is valid until after ``latest``."""
    for entry in simulate_expiries(store, require_account(store, account), now):
        if entry.kind == "lot_expired" and entry.at > latest:
            raise BillingError(
                "clock_skew",
                f"account {safe_repr(account)}: Credits that are valid until {entry.at} would expire for good, but the "
                "clock of the database is more than a day earlier; correct the time, or confirm it with ahead=True "
                "(--ahead)",
            )


def _heads(store: Store) -> dict[str, tuple[int, str]]:
    return {account: (number, hash) for account, number, hash in store.fetch_rows(store.sql.heads)}
