"""Replays the journal, and finds where the tables, a checkpoint or the archive differ from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archive_files import ArchiveFolder
from brivionix_billing.ledger.archived_entries import ArchiveRow, archive_of
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.journal_reading import iter_accounts, iter_rows
from brivionix_billing.ledger.opening_state import StateTaker, resume, usage_digest
from brivionix_billing.ledger.posting.transfers import incoming_id
from brivionix_billing.ledger.projections import AccountRow
from brivionix_billing.ledger.replay import AccountReplay
from brivionix_billing.ledger.row_comparison import compare_rows
from brivionix_billing.ledger.units import units_to_text

__all__ = ["AccountVerification", "Inconsistency", "Verified", "kept_digest", "verify"]


class Inconsistency(NamedTuple):
    """An inconsistency of a ledger."""

    account: str | None
    """The account, or ``None`` if the inconsistency is in the schema of the database."""
    number: int | None
    """Number of the entry, or ``None`` if the inconsistency is in a derived table."""
    message: str

    def __str__(self) -> str:
        if self.account is None:
            return self.message
        entry = "" if self.number is None else f", entry {self.number}"
        return f"account {self.account}{entry}: {self.message}"


class Verified(NamedTuple):
    """The result of a verification."""

    inconsistencies: list[Inconsistency]
    unproved: int
    """Number of accounts whose archived state was not proved, neither now nor before the checkpoint."""


def verify(store: Store, heads: Mapping[str, tuple[int, str]], folder: ArchiveFolder | None = None) -> Verified:
    """Find all inconsistencies: in the journal, in derived tables, and against the heads of a checkpoint.

    Without the ``folder`` of the archive, an account with archived entries is verified from the state after them.
    """
    found: list[Inconsistency] = []
    accounts: set[str] = set()
    entries = unproved = 0
    for account in iter_accounts(store):
        accounts.add(account)
        verification = AccountVerification(store, account, heads.get(account), folder)
        found += verification.run()
        entries += verification.count
        unproved += not verification.is_proved
    found += _check_tables(store, heads.keys() - accounts, entries)
    return Verified(found, unproved)


def _check_tables(store: Store, missing: Iterable[str], entries: int) -> Iterator[Inconsistency]:
    """Yield the inconsistencies that are not of one account. ``entries`` is the number in all chains."""
    for account in missing:
        yield Inconsistency(account, None, "it is in the checkpoint, but not in the ledger")
    for account, lot in store.fetch_rows(store.sql.live_flag_mismatches):
        yield Inconsistency(account, None, f"lot {lot}: live does not match its remaining Credits")
    orphans = {name: store.fetch_rows(statement) for name, statement in store.sql.orphan_rows.items()}
    for name, rows in orphans.items():
        for (account,) in rows:
            table = name.partition("_")[2]
            yield Inconsistency(account, None, f"{table} has rows of this account, but the account does not exist")
    if entries != store.fetch_rows(store.sql.count)[0][0] and not orphans["billing_journal"]:
        yield Inconsistency("?", None, "the journal has entries that are not in the chain of any account")


class AccountVerification:
    """The verification of one account, and the replay of its entries.

    With the folder of its archive, or if nothing of it is archived, the replay begins with the first entry, else in the
    state after the archived entries. ``observe`` is called with each row before its entry is applied.
    """

    def __init__(
        self,
        store: Store,
        account: str,
        head: tuple[int, str] | None = None,
        folder: ArchiveFolder | None = None,
        observe: Callable[[JournalRow], None] | None = None,
    ) -> None:
        self.store, self.account, self.head, self.folder, self.observe = store, account, head, folder, observe
        self.archives = [ArchiveRow(*row) for row in store.fetch_rows(store.sql.archives, account)]
        self.count = 0
        """Number of its entries."""
        self.opening: ArchiveRow | None = self.archives[-1] if self.archives and folder is None else None
        """The archive in whose state the replay begins; ``None``: it begins with the first entry."""
        self.replay = AccountReplay(AccountRow(account))
        self.is_proved = self.opening is None
        """Whether the state in which the replay begins is known to follow from the archived entries."""
        self._stated: list[Mapping[str, Any]] = []

    def run(self) -> Iterator[Inconsistency]:
        """Yield the inconsistencies of the account."""
        account, store = self.account, self.store
        try:
            if self.opening is not None:
                self.replay = resume(account, self.opening.state)
                yield from self._check_archived(self.opening)
            yield from self._replay_entries()
        except BillingError as error:
            if error.code in ("file_unreadable", "ledger_unavailable"):
                raise
            is_archive = error.code == "archive_broken"
            # The message names the entry first, as the inconsistency does too.
            message = error.message if is_archive else error.message.partition(": ")[2] or error.message
            yield Inconsistency(account, None if is_archive else self.replay.account.number + 1, message)
            self.count = int(store.fetch_rows(store.sql.count_of, account)[0][0])
            return
        replay, head = self.replay, self.head
        self.count = replay.account.number
        if not replay.account.number:
            yield Inconsistency(account, None, "no entry opened it")
        if head is not None and head[0] > replay.account.number:
            yield Inconsistency(
                account, None, f"entries {replay.account.number + 1} to {head[0]} of the checkpoint are missing"
            )
        for message in (*replay.check_sums(), *self._check_reversals(), *_check_transfers(store, replay)):
            yield Inconsistency(account, None, message)
        for archive in self.archives:
            if archive.content() not in self._stated:
                yield Inconsistency(account, None, f"no entry states the archive of its entries to {archive.through}")
        for message in compare_rows(store, replay, self.archives if self.opening else ()):
            yield Inconsistency(account, None, message)

    def _replay_entries(self) -> Iterator[Inconsistency]:
        """Apply the entries, and compare the states after those of each archive."""
        start = 0 if self.opening is None else self.opening.through
        pending = [] if self.opening else list(self.archives)
        taker = StateTaker()
        for row in iter_rows(self.store, self.account, start, self._texts()):
            entry = Entry.from_row(row, canonical_text=True)
            if self.observe is not None:
                self.observe(row)
            self.replay.apply(entry)
            if entry.kind == "archived":
                self._stated.append(entry.content)
                is_before = self.head is not None and entry.number <= self.head[0]
                # The archives before a checkpoint were proved when it was made.
                self.is_proved |= is_before and self.opening is not None and entry.content == self.opening.content()
            if self.head is not None and entry.number == self.head[0] and entry.hash != self.head[1]:
                yield Inconsistency(self.account, entry.number, "its hash differs from the checkpoint")
            while pending and pending[0].through <= entry.number:
                yield from self._compare_state(pending.pop(0), taker)
        if pending:
            yield Inconsistency(self.account, None, f"archived entry {pending[-1].through} is missing")

    def _texts(self) -> Iterator[str]:
        """Yield the texts of all archived entries."""
        for part in self.archives if self.folder is not None else ():
            yield from self.folder.texts(part)  # type: ignore[union-attr]  # mypy does not see the condition

    def _compare_state(self, archive: ArchiveRow, taker: StateTaker) -> Iterator[Inconsistency]:
        state = taker.take(self.replay)
        for name, stated, found in (
            ("hash", archive.hash, self.replay.account.head),
            ("state", archive.state, state.text),
            ("digest of holds", archive.holds, state.holds),
            ("digest of usage", archive.usage, usage_digest(self.replay.usage.values())),
            ("digest of other entries", archive.kept, kept_digest(self.store, self.account, archive.through)),
        ):
            if stated != found:
                message = f"the {name} of the archive that ends with this entry does not follow from the entries"
                yield Inconsistency(self.account, archive.through, message)

    def _check_archived(self, opening: ArchiveRow) -> Iterator[Inconsistency]:
        """Check what can be checked of archived entries without their texts."""
        store, account, through = self.store, self.account, opening.through
        row = self.replay.account
        if (row.id, row.number, row.head) != (account, through, opening.hash):
            raise BillingError("archive_broken", f"the archived state after entry {through} was altered")
        if store.fetch_rows(store.sql.count_through, account, through)[0][0] != through:
            yield Inconsistency(account, None, f"some of the archived entries 1 to {through} are missing")
        if kept_digest(store, account, through) != opening.kept:
            yield Inconsistency(account, None, f"some of the entries 1 to {through} that are not archived were altered")
        for values in store.fetch_rows(store.sql.rare_entries_through, account, through):
            entry = Entry.from_row(JournalRow(*values), canonical_text=True)
            if entry.kind in ("transfer_out", "transfer_in"):
                self.replay.transfers.append(entry)
            elif entry.kind == "archived":
                self._stated.append(entry.content)
        for number, hash in [(through, opening.hash), *([self.head] if self.head else [])]:
            stored = store.fetch_rows(store.sql.entries, account, number - 1, 1) if number <= through else []
            if stored and (stored[0][2], stored[0][7]) != (number, hash):
                raise BillingError("archive_broken", f"archived entry {number} is missing, or its hash differs")

    def _check_reversals(self) -> Iterator[str]:
        """Yield a message for each charge of which more was reversed than it charged."""
        for id, amount in self.replay.reversals.items():
            row = self.store.fetch_entry(self.store.sql.entry, id)
            if row is not None and archive_of(row.body) is not None:
                row = self._archived_row(row)
                if row is None:
                    continue  # it was checked before it was archived, and cannot be reversed since then
            charge = None if row is None else Entry.from_row(row)
            if charge is None or charge.account != self.account or charge.postings.get("used", 0) < amount:
                yield f"{units_to_text(amount)} Credits of charge {safe_repr(id)} were reversed, but it charged less"

    def _archived_row(self, row: JournalRow) -> JournalRow | None:
        """Return the row of an archived entry with its text; ``None`` without the archive."""
        if self.folder is None or row.account != self.account:
            return None if self.folder is None else row._replace(account="")
        first = 0
        for part in self.archives:
            if row.number <= part.through:
                texts = islice(self.folder.texts(part), row.number - first - 1, None)
                return row._replace(body=next(texts, ""))
            first = part.through
        return row


def _check_transfers(store: Store, replay: AccountReplay) -> Iterator[str]:
    """Yield a message for each transfer whose entry in the other account is missing or states something else."""
    for entry in replay.transfers:
        is_outgoing = entry.kind == "transfer_out"
        id = incoming_id(entry.id) if is_outgoing else entry.result.get("transfer")
        row = store.fetch_entry(store.sql.entry, id)
        other = None if row is None else Entry.from_row(row)
        outgoing, incoming = (entry, other) if is_outgoing else (other, entry)
        if (
            outgoing is None
            or incoming is None
            or (outgoing.kind, incoming.kind) != ("transfer_out", "transfer_in")
            or (outgoing.account, outgoing.content.get("to")) != (incoming.content.get("from"), incoming.account)
            or incoming.id != incoming_id(outgoing.id)
            or outgoing.result["lots"] != incoming.result["lots"]
            or outgoing.postings["moved"] != -incoming.postings["moved"]
            or incoming.result.get("hash") != outgoing.hash
        ):
            entry_name = f"entry {entry.number} ({safe_repr(entry.id)})"
            yield f"{entry_name}: the other account has no matching entry {safe_repr(id)}"


def kept_digest(store: Store, account: str, through: int) -> str:
    """Return the SHA-256 of the hashes of the entries up to a number that keep their text if others are archived."""
    rows = store.fetch_rows(store.sql.rare_entries_through, account, through)
    return sha256("".join(row[7] for row in rows).encode()).hexdigest()
