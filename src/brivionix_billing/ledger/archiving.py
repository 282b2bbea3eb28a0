"""Moves the texts of old entries of requests to a file, and back.

The rows of these entries stay in the journal, with their ids, hashes and times. All other entries stay as they are:
statements, payments and corrections need them, and they are few.
"""

from __future__ import annotations

from copy import copy
from hashlib import sha256
from typing import IO, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archive_files import ArchiveFolder, PartWriter
from brivionix_billing.ledger.archived_entries import ArchiveRow, archived_text
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.opening_state import OpeningState, StateTaker, UsageRows, subtract_usage, usage_digest
from brivionix_billing.ledger.projections import UsageRow
from brivionix_billing.ledger.reports import require_account
from brivionix_billing.ledger.verification import AccountVerification, kept_digest

__all__ = ["restore_last", "store_archive", "write_part"]


class _Cut(NamedTuple):
    """The account after the last entry to archive."""

    through: int
    head: str
    state: OpeningState
    usage: UsageRows


class _AccountArchive:
    """Verifies an account, and writes those of its entries that were booked before a time."""

    def __init__(self, store: Store, account: str, before: str, file: IO[bytes]) -> None:
        self.verification = AccountVerification(store, account, observe=self._observe)
        self.part = PartWriter(file)
        self.cut: _Cut | None = None
        self._before = before
        self._taker: StateTaker | None = None

    def run(self) -> None:
        """Write the entries. Raises ``journal_broken`` if the account is inconsistent."""
        for inconsistency in self.verification.run():
            raise BillingError(
                "journal_broken", f"{inconsistency}; nothing was archived; verify the ledger and repair it first"
            )
        if self.cut is None and self._taker is not None:
            self._take()

    def _observe(self, row: JournalRow) -> None:
        if self._taker is None:
            self._taker = StateTaker(self.verification.replay.holds)
        if self.cut is None and row.booked >= self._before:
            self._take()
        if self.cut is None:
            self.part.write(row.body)

    def _take(self) -> None:
        replay = self.verification.replay
        usage = {key: copy(row) for key, row in replay.usage.items()}
        assert self._taker is not None  # noqa: S101  # an entry was observed
        self.cut = _Cut(replay.account.number, replay.account.head, self._taker.take(replay), usage)

    def usage_at_cut(self, rows: list[UsageRow]) -> str:
        """Return the digest of the sums of usage after the cut. ``rows`` are the present ones, which were verified."""
        assert self.cut is not None  # noqa: S101  # the caller checks it
        later = subtract_usage(self.verification.replay.usage.values(), self.cut.usage)
        return usage_digest(subtract_usage(rows, later).values())


def write_part(store: Store, account: str, before: str, file: IO[bytes]) -> ArchiveRow | None:
    """Verify an account, and write its entries that were booked before a time, and are not archived, to a file.

    They end before the first entry with a later time. Returns the row to store, without the name of the file; or
    ``None`` if no entry of a request is among them, and then nothing is written. Raises ``journal_broken``.
    """
    require_account(store, account)
    archive = _AccountArchive(store, account, before, file)
    try:
        archive.run()
        cut, last = archive.cut, archive.verification.opening
        after = 0 if last is None else last.through
        if cut is None or not store.fetch_rows(store.sql.count_requests, account, after, cut.through)[0][0]:
            archive.part.discard()
            return None
        usage = archive.usage_at_cut(store.fetch_all(UsageRow, store.sql.of_account[UsageRow], account))
        written = archive.part.finish()
    except BaseException:
        archive.part.discard()
        raise
    kept = kept_digest(store, account, cut.through)
    return ArchiveRow(account, cut.through, cut.head, "", *written, cut.state.text, cut.state.holds, usage, kept)


def store_archive(locked: LockedAccount, archive: ArchiveRow) -> int:
    """Remove the texts that were written to a file, store its row, and post an entry with it. Returns their number.

    Raises ``ledger_unavailable`` if another process archived or restored entries of the account meanwhile.
    """
    store, account, through = locked.store, archive.account, archive.through
    rows = store.fetch_rows(store.sql.archives, account)
    after = rows[-1][1] if rows else 0
    count = int(store.fetch_rows(store.sql.count_requests, account, after, through)[0][0]) if after < through else 0
    text = archived_text(archive.file)
    if not count or store.execute(store.sql.archive_entries, text, account, after, through) != count:
        raise BillingError(
            "ledger_unavailable",
            f"another process archived or restored entries of account {safe_repr(account)} meanwhile; run it again",
        )
    store.execute(store.sql.add_archive, *archive)
    locked.post_entry(locked.system_entry_id(), EntryDraft("archived", locked.booked_at, archive.content()))
    return count


def restore_last(store: Store, account: str, folder: ArchiveFolder) -> int:
    """Restore the texts of the archive of an account that was written last. Returns their number; 0: there is none.

    Raises ``file_unreadable`` and ``archive_broken``; then nothing is changed.
    """
    archives = [ArchiveRow(*row) for row in store.fetch_rows(store.sql.archives, account)]
    if not archives:
        return 0
    last = archives[-1]
    before = archives[-2] if len(archives) > 1 else None
    first, head = (0, "") if before is None else (before.through, before.hash)
    folder.check(last, first, head)
    count, stored = 0, archived_text(last.file)
    for number, text in enumerate(folder.texts(last), first + 1):
        hash = sha256(text.encode()).hexdigest()
        count += store.execute(store.sql.restore_entry, text, account, number, hash, stored)
    expected = store.fetch_rows(store.sql.count_requests, account, first, last.through)[0][0]
    if count != expected:
        raise BillingError(
            "archive_broken",
            f"the file {safe_repr(last.file)} has {count} of the {expected} archived texts of account "
            f"{safe_repr(account)}; verify the ledger with the archive",
        )
    store.execute(store.sql.delete_archive, account, last.through)
    return count
