"""Rebuilds all tables from the journal."""

from __future__ import annotations

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archive_files import ArchiveFolder
from brivionix_billing.ledger.archived_entries import ArchiveRow
from brivionix_billing.ledger.database.store import TABLE_MAPPINGS, Store
from brivionix_billing.ledger.journal_reading import iter_entries
from brivionix_billing.ledger.projections import AccountRow
from brivionix_billing.ledger.replay import AccountReplay

__all__ = ["rebuild"]


def rebuild(store: Store, *, accept_loss: bool, folder: ArchiveFolder | None = None) -> int:
    """Rebuild all derived tables from the journal. Returns the number of rows.

    Raises ``journal_broken`` if the journal is inconsistent or, unless ``accept_loss``, truncated, and
    ``entry_archived`` without the ``folder`` of the archive.
    """
    if store.sql.lock_all:
        store.execute(store.sql.lock_all)
    for account, number, _ in store.fetch_rows(store.sql.heads):
        count = store.fetch_rows(store.sql.count_of, account)[0][0]
        if count < number and not accept_loss:
            # The derived tables are the only remaining record of the missing entries.
            raise BillingError(
                "journal_broken",
                f"account {safe_repr(account)}: the journal was truncated: it has {count} of {number} entries, and "
                "rebuilding would hide this; restore a backup",
            )
    accounts = [row[0] for row in store.fetch_rows(store.sql.journal_accounts)]
    for row_class in TABLE_MAPPINGS:
        store.execute(store.sql.delete[row_class])
    count = 0
    for account in accounts:
        replay = AccountReplay(AccountRow(account))
        archives = [ArchiveRow(*row) for row in store.fetch_rows(store.sql.archives, account)]
        texts = (text for part in archives if folder is not None for text in folder.texts(part))
        for entry in iter_entries(store, account, texts=texts):
            replay.apply(entry)
        for row in replay.rows():
            store.insert(row)
            count += 1
    return count
