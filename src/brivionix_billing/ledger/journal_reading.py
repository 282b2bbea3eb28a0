"""Reads accounts and entries page by page, so that a journal of any size can be replayed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.archived_entries import archive_of
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry

__all__ = ["PAGE_SIZE", "iter_accounts", "iter_entries", "iter_rows"]

PAGE_SIZE: Final = 1000
"""Maximum number of rows that one query reads."""


def iter_accounts(store: Store) -> Iterator[str]:
    """Yield the ids of all accounts, sorted."""
    after = ""
    while page := store.fetch_rows(store.sql.accounts, after, PAGE_SIZE):
        for (account,) in page:
            yield account
        after = page[-1][0]


def iter_entries(store: Store, account: str, after: int = 0, texts: Iterator[str] | None = None) -> Iterator[Entry]:
    """Yield the entries of an account with numbers above ``after``. ``texts`` are those of the first ones, archived.

    Raises ``journal_broken`` for an altered one, and ``entry_archived`` for an archived one without its text.
    """
    for row in iter_rows(store, account, after, texts):
        yield Entry.from_row(row, canonical_text=True)


def iter_rows(store: Store, account: str, after: int, texts: Iterator[str] | None) -> Iterator[JournalRow]:
    """Yield the rows that :func:`iter_entries` reads, with the text of archived ones."""
    while page := store.fetch_rows(store.sql.entries, account, after, PAGE_SIZE):
        for values in page:
            row = JournalRow(*values)
            text = None if texts is None else next(texts, None)
            if text is not None:
                if archive_of(row.body) is None and row.body != text:
                    raise BillingError("journal_broken", f"entry {row.number}: its text differs from the archive")
                row = row._replace(body=text)
            yield row
        after = page[-1][2]
