"""Archiving the texts of old entries, and restoring them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import durable_draft, make_folder
from brivionix_billing.ledger.archive_files import ArchiveFolder
from brivionix_billing.ledger.archived_entries import ArchiveRow
from brivionix_billing.ledger.archiving import restore_last, store_archive, write_part
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.operations.base import lock_account
from brivionix_billing.ledger.operations.maintenance import Maintenance
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.reports import require_account
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.times import as_utc

__all__ = ["ArchivedEntries", "Archives"]


class ArchivedEntries(NamedTuple):
    """What was archived."""

    file: Path | None
    """The file; ``None``: there was nothing to archive."""
    accounts: int
    entries: int
    """Number of entries whose text was moved."""


class Archives(Maintenance):
    """Archives of a ledger."""

    def archive(
        self, folder: str | Path, *, before: datetime, at: datetime, accounts: Iterable[str] | None = None
    ) -> ArchivedEntries:
        """Move the texts of entries of requests that were booked before a time to a new file in a folder.

        These are holds, charges, releases and expired holds; their rows stay in the journal, without the text. All
        other entries stay as they are. The entries of an account are archived up to the first one that was booked
        later. ``at`` is the current time, at which an entry of kind ``archived`` is posted to each account.

        Each account is verified first, and the file is on disk and was read back before a text is removed. Then each
        account has a transaction of its own, so after a crash some accounts are archived: run it again for the others.

        What needs an archived text raises ``entry_archived``: see :meth:`restore`. Raises ``journal_broken`` if an
        account is inconsistent, ``invalid_argument`` if ``before`` is after ``at``, and ``file_unreadable``.
        """
        limit, now = format_timestamp(before), self._booked_at(at)
        if limit > now:
            raise BillingError("invalid_argument", f"before is {limit}, later than now; name a closed period")
        _make_folder(folder)
        with durable_draft(folder) as (draft, name_file):
            parts = [
                part
                for account in (list(self.accounts()) if accounts is None else accounts)
                if (part := self._run_read(partial(write_part, account=account, before=limit, file=draft), None))
            ]
            if not parts:
                return ArchivedEntries(None, 0, 0)
            starts = {
                part.account: self._run_read(partial(_last_archived, account=part.account), None) for part in parts
            }
            content = _short_hash((part.account, starts[part.account][0], part.through, part.hash) for part in parts)
            name = f"journal-{as_utc(before).astimezone(UTC):%Y-%m-%d}-{content}"
            files, named = ArchiveFolder(folder), _in_file(parts, f"{name}.jsonl.gz")
            # A file with this name is that of a run that was interrupted, or whose entries were restored. Its bytes can
            # differ: another version of zlib, or an altered file.
            if not name_file(named[0].file) and not all(files.has(part) for part in named):
                named = _in_file(parts, f"{name}-{_short_hash(part.digest for part in parts)}.jsonl.gz")
                name_file(named[0].file)
        for part in named:
            files.check(part, *starts[part.account])

        def store(store: Store, part: ArchiveRow) -> int:
            locked = LockedAccount(store, lock_account(store, part.account), now, self.lot_order)
            post_due(locked)
            return store_archive(locked, part)

        entries = sum(self._run_write(partial(store, part=part), None) for part in named)
        return ArchivedEntries(Path(folder) / named[0].file, len(named), entries)

    def restore(self, folder: str | Path, *, accounts: Iterable[str] | None = None) -> int:
        """Move archived texts back to the journal, of all or some accounts. Returns their number.

        ``folder`` has all files of these accounts. They stay there. Each file of an account has a transaction of its
        own, the last one first. Raises ``file_unreadable``, and ``archive_broken`` if a file was altered.
        """
        files, count = ArchiveFolder(folder), 0
        for account in list(self.accounts()) if accounts is None else accounts:
            self._run_read(partial(require_account, account=account), None)
            while restored := self._run_write(partial(restore_last, account=account, folder=files), None):
                count += restored
        return count


def _in_file(parts: Iterable[ArchiveRow], name: str) -> list[ArchiveRow]:
    return [part._replace(file=name) for part in parts]


def _short_hash(values: Iterable[object]) -> str:
    return sha256(repr(list(values)).encode()).hexdigest()[:12]


def _last_archived(store: Store, account: str) -> tuple[int, str]:
    rows = [ArchiveRow(*row) for row in store.fetch_rows(store.sql.archives, account)]
    return (rows[-1].through, rows[-1].hash) if rows else (0, "")


def _make_folder(folder: str | Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        name = safe_repr(str(folder), 200)
        raise BillingError("file_unreadable", f"cannot create the folder {name}: {error.strerror or error}") from None
