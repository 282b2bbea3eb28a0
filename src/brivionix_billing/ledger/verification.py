"""Compares all tables with the journal (verify), or rebuilds them from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.counter_pruning import is_compared
from brivionix_billing.ledger.database.store import TABLE_MAPPINGS, JournalRow, Row, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.limits import CounterRow, LimitRow
from brivionix_billing.ledger.posting.transfers import incoming_id
from brivionix_billing.ledger.projections import AccountRow, UsageRow
from brivionix_billing.ledger.replay import AccountReplay
from brivionix_billing.ledger.units import units_to_text

__all__ = ["Inconsistency", "iter_entries", "rebuild", "verify"]

_PAGE_SIZE: Final = 1000
"""Maximum number of rows that one query reads."""


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


def verify(store: Store, heads: Mapping[str, tuple[int, str]]) -> Iterator[Inconsistency]:
    """Yield all inconsistencies: in the journal, in derived tables, and against the heads of a checkpoint."""
    accounts: set[str] = set()
    entries = 0
    for account in _iter_accounts(store):
        accounts.add(account)
        replay = AccountReplay(AccountRow(account))
        head = heads.get(account)
        try:
            for entry in iter_entries(store, account):
                replay.apply(entry)
                if head is not None and entry.number == head[0] and entry.hash != head[1]:
                    yield Inconsistency(account, entry.number, "its hash differs from the checkpoint")
        except BillingError as error:
            # The message names the entry first, as the inconsistency does too.
            message = error.message.partition(": ")[2] or error.message
            yield Inconsistency(account, replay.account.number + 1, message)
            entries += int(store.fetch_rows(store.sql.count_of, account)[0][0])
            continue
        entries += replay.account.number
        if not replay.account.number:
            yield Inconsistency(account, None, "no entry opened it")
        if head is not None and head[0] > replay.account.number:
            yield Inconsistency(
                account, None, f"entries {replay.account.number + 1} to {head[0]} of the checkpoint are missing"
            )
        for message in (*replay.check_sums(), *_check_reversals(store, replay), *_check_transfers(store, replay)):
            yield Inconsistency(account, None, message)
        yield from _compare_projections(store, replay)
    for account in heads.keys() - accounts:
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


def _check_reversals(store: Store, replay: AccountReplay) -> Iterator[str]:
    """Yield a message for each charge of which more was reversed than it charged."""
    for id, amount in replay.reversals.items():
        row = store.fetch_entry(store.sql.entry, id)
        charge = None if row is None else Entry.from_row(row)
        if charge is None or charge.account != replay.account.id or charge.postings.get("used", 0) < amount:
            yield f"{units_to_text(amount)} Credits of charge {safe_repr(id)} were reversed, but it charged less"


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


def _compare_projections(store: Store, replay: AccountReplay) -> Iterator[Inconsistency]:
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
        for row in rows:
            expected = expected_rows.pop(_row_key(row), None)
            if is_pruned(row):
                continue
            if expected is None:
                yield Inconsistency(account, None, f"{_row_label(row)} is not in the journal")
            else:
                for message in _compare_row(row, expected):
                    yield Inconsistency(account, None, f"{_row_label(row)}: {message}")
    for row in expected_rows.values():
        if is_pruned(row):
            continue
        yield Inconsistency(account, None, f"{_row_label(row)} is missing")


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


def rebuild(store: Store, *, accept_loss: bool) -> int:
    """Rebuild all derived tables from the journal. Returns the number of rows.

    Raises ``journal_broken`` if the journal is inconsistent or, unless ``accept_loss``, truncated.
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
        for entry in iter_entries(store, account):
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


def iter_entries(store: Store, account: str, after: int = 0) -> Iterator[Entry]:
    """Yield the entries of an account with numbers above ``after``. Raises ``journal_broken`` for an altered one."""
    while page := store.fetch_rows(store.sql.entries, account, after, _PAGE_SIZE):
        for row in page:
            yield Entry.from_row(JournalRow(*row), canonical_text=True)
        after = page[-1][2]
