"""Archived entries: the journal has their row without its text, and the text is in a file.

The row keeps the id, so an operation cannot be done again, and the hash, which the text must have.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["ArchiveRow", "archive_of", "archived_text", "entry_archived_error"]

_PREFIX: Final = "archived in "
"""Start of the text of an archived entry. That of any other entry is JSON."""


class ArchiveRow(NamedTuple):
    """The entries of an account that one run archived: those after its row before, up to ``through``."""

    account: str
    through: int
    """Number of the last entry."""
    hash: str
    """Hash of the last entry: the anchor of the chain."""
    file: str
    """Name of the file, without its folder."""
    position: int
    """Position of the account's part of the file, in bytes."""
    length: int
    digest: str
    """SHA-256 of this part."""
    state: str
    """State of the account after the last entry, as JSON: see :mod:`brivionix_billing.ledger.opening_state`."""
    holds: str
    """SHA-256 of the rows of the holds in these entries that were settled or released."""
    usage: str
    """SHA-256 of the sums of usage after the last entry."""
    kept: str
    """SHA-256 of the hashes of all entries up to the last one that keep their text."""

    def content(self) -> dict[str, Any]:
        """Return the content of the entry of kind ``archived``, by which the chain covers this row."""
        values = self._asdict() | {"state": sha256(self.state.encode()).hexdigest()}
        del values["account"]
        return values


def archived_text(file: str) -> str:
    """Return what stands for the text of an entry that was archived in a file."""
    return f"{_PREFIX}{file}"


def archive_of(body: str) -> str | None:
    """Return the name of the file that has the text of an entry; ``None``: it is not archived."""
    return body.removeprefix(_PREFIX) if body.startswith(_PREFIX) else None


def entry_archived_error(number: int, id: str, account: str, file: str) -> BillingError:
    """Return the error of a call that needs the content of an archived entry."""
    return BillingError(
        "entry_archived",
        f"entry {safe_repr(number)} ({safe_repr(id)}) of {safe_repr(account)}: its content is in the archive file "
        f"{safe_repr(file)}; this call changed nothing; restore the file with brivionix-billing ledger restore, or use "
        "a new id for a new operation",
    )
