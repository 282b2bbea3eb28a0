"""Compares all tables with the journal (verify), or rebuilds them from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archive_files import ArchiveFolder
from brivionix_billing.ledger.archived_entries import ArchiveRow, archive_of
from brivionix_billing.ledger.counter_pruning import is_compared
from brivionix_billing.ledger.database.store import TABLE_MAPPINGS, JournalRow, Row, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.limits import CounterRow, LimitRow
from brivionix_billing.ledger.opening_state import StateTaker, hold_digest, resume, subtract_usage, usage_digest
from brivionix_billing.ledger.posting.transfers import incoming_id
from brivionix_billing.ledger.projections import AccountRow, HoldRow, UsageRow
from brivionix_billing.ledger.replay import AccountReplay
from brivionix_billing.ledger.units import units_from_column, units_to_text

__all__ = ["AccountVerification", "Inconsistency", "Verified", "iter_entries", "kept_digest", "rebuild", "verify"]

_PAGE_SIZE: Final = 1000
"""Maximum number of rows that one query reads."""
_FROM_ARCHIVE: Final = "from the archive; verify with the archive folder to find the rows"


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
    for account in _iter_accounts(store):
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
        yield from _compare_projections(store, replay, self.archives if self.opening else ())

    def _replay_entries(self) -> Iterator[Inconsistency]:
        """Apply the entries, and compare the states after those of each archive."""
        start = 0 if self.opening is None else self.opening.through
        pending = [] if self.opening else list(self.archives)
        taker = StateTaker()
        for row in _iter_rows(self.store, self.account, start, self._texts()):
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


def _compare_projections(
    store: Store, replay: AccountReplay, archives: Sequence[ArchiveRow]
) -> Iterator[Inconsistency]:
    """Compare all rows with those of a replay. ``archives`` are those before its start."""
    account = replay.account.id
    expected_rows: dict[tuple[type, tuple[Any, ...]], Row] = {_row_key(row): row for row in replay.rows()}
    limits = {row.id: row for row in expected_rows.values() if isinstance(row, LimitRow)}

    def is_pruned(row: Row) -> bool:
        return isinstance(row, CounterRow) and not is_compared(limits.get(row.limit), row.starts, replay.latest)

    for row_class in TABLE_MAPPINGS:
        try:
            rows = store.fetch_all(row_class, store.sql.of_account[row_class], account)
        except BillingError as error:
            yield Inconsistency(account, None, error.message)
            return
        if archives and row_class is UsageRow:
            if usage_digest(subtract_usage(rows, replay.usage).values()) != archives[-1].usage:
                yield Inconsistency(account, None, f"usage differs {_FROM_ARCHIVE}")
            for key in replay.usage:
                expected_rows.pop((UsageRow, key), None)
            continue
        older = 0
        for row in rows:
            expected = expected_rows.pop(_row_key(row), None)
            if archives and expected is None and row_class is HoldRow:
                older += 1
                continue
            if is_pruned(row):
                continue
            if expected is None:
                yield Inconsistency(account, None, f"{_row_label(row)} is not in the journal")
            else:
                for message in _compare_row(row, expected):
                    yield Inconsistency(account, None, f"{_row_label(row)}: {message}")
        if archives and row_class is HoldRow and not _has_archived_holds(store, replay, archives, older):
            yield Inconsistency(account, None, f"hold differs {_FROM_ARCHIVE}")
    for row in expected_rows.values():
        if is_pruned(row):
            continue
        yield Inconsistency(account, None, f"{_row_label(row)} is missing")


def _has_archived_holds(store: Store, replay: AccountReplay, archives: Sequence[ArchiveRow], count: int) -> bool:
    """Return whether a number of holds are those of archived entries that were settled or released."""
    first = 0
    for archive in archives:
        found = [hold for hold in _iter_archived_holds(store, archive, first) if hold.id not in replay.holds]
        if hold_digest(found) != archive.holds:
            return False
        first, count = archive.through, count - len(found)
    return count == 0


def _iter_archived_holds(store: Store, archive: ArchiveRow, after: int) -> Iterator[HoldRow]:
    number = after
    while page := store.fetch_rows(store.sql.archived_holds, archive.account, number, archive.through, _PAGE_SIZE):
        for values in page:
            hold = HoldRow(*values[1:])
            hold.credits = units_from_column(str(hold.credits))
            yield hold
        number = page[-1][0]


def _compare_row(row: Row, expected: Row) -> Iterator[str]:
    for slot in row.__slots__:
        value, journal_value = getattr(row, slot), getattr(expected, slot)
        if slot == "leased_until":
            continue  # the reader of the outbox writes it, not an entry
        if slot == "next_expiry":
            # It is a lower bound, and only exact after it was reached.
            if journal_value is not None and (value is None or value > journal_value):
                yield f"next_expiry is {safe_repr(value)}, later than {journal_value} by the journal"
        elif value != journal_value:
            yield f"{slot} is {safe_repr(_display(value))}, by the journal {safe_repr(_display(journal_value))}"


def _display(value: object) -> object:
    """Return a value of a row for a message. Large integers are amounts."""
    return units_to_text(value) if isinstance(value, int) and abs(value) >= 10**9 else value


def _row_label(row: Row) -> str:
    table = TABLE_MAPPINGS[type(row)].table.name.partition("_")[2]
    return "its row" if isinstance(row, AccountRow) else f"{table} {' '.join(map(str, _row_key(row)[1]))}"


def _row_key(row: Row) -> tuple[type, tuple[Any, ...]]:
    if isinstance(row, UsageRow):
        return UsageRow, (row.quarter_hour, row.model, row.token, row.member)
    if isinstance(row, CounterRow):
        return CounterRow, (row.limit, row.starts)
    return type(row), (row.id,)


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


def _iter_accounts(store: Store) -> Iterator[str]:
    after = ""
    while page := store.fetch_rows(store.sql.accounts, after, _PAGE_SIZE):
        for (account,) in page:
            yield account
        after = page[-1][0]


def iter_entries(store: Store, account: str, after: int = 0, texts: Iterator[str] | None = None) -> Iterator[Entry]:
    """Yield the entries of an account with numbers above ``after``. ``texts`` are those of the first ones, archived.

    Raises ``journal_broken`` for an altered one, and ``entry_archived`` for an archived one without its text.
    """
    for row in _iter_rows(store, account, after, texts):
        yield Entry.from_row(row, canonical_text=True)


def _iter_rows(store: Store, account: str, after: int, texts: Iterator[str] | None) -> Iterator[JournalRow]:
    while page := store.fetch_rows(store.sql.entries, account, after, _PAGE_SIZE):
        for values in page:
            row = JournalRow(*values)
            text = None if texts is None else next(texts, None)
            if text is not None:
                if archive_of(row.body) is None and row.body != text:
                    raise BillingError("journal_broken", f"entry {row.number}: its text differs from the archive")
                row = row._replace(body=text)
            yield row
        after = page[-1][2]
