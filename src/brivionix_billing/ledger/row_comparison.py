"""Compares the rows of an account with those that follow from its entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archived_entries import ArchiveRow
from brivionix_billing.ledger.counter_pruning import is_compared
from brivionix_billing.ledger.database.store import TABLE_MAPPINGS, Row, Store
from brivionix_billing.ledger.journal_reading import PAGE_SIZE
from brivionix_billing.ledger.limits import CounterRow, LimitRow
from brivionix_billing.ledger.opening_state import hold_digest, subtract_usage, usage_digest
from brivionix_billing.ledger.projections import AccountRow, HoldRow, UsageRow
from brivionix_billing.ledger.replay import AccountReplay
from brivionix_billing.ledger.units import units_from_column, units_to_text

__all__ = ["compare_rows"]

_FROM_ARCHIVE: Final = "from the archive; verify with the archive folder to find the rows"


def compare_rows(store: Store, replay: AccountReplay, archives: Sequence[ArchiveRow]) -> Iterator[str]:
    """Yield a message for each difference between the rows of an account and those of its replay.

    ``archives`` are those before the start of the replay.
    """
    account = replay.account.id
    expected_rows: dict[tuple[type, Any], Row] = {_row_key(row): row for row in replay.rows()}
    limits = {row.id: row for row in expected_rows.values() if isinstance(row, LimitRow)}

    def is_pruned(row: Row) -> bool:
        return isinstance(row, CounterRow) and not is_compared(limits.get(row.limit), row.starts, replay.latest)

    for row_class in TABLE_MAPPINGS:
        try:
            rows = store.fetch_all(row_class, store.sql.of_account[row_class], account)
        except BillingError as error:
            yield error.message
            return
        if archives and row_class is UsageRow:
            if usage_digest(subtract_usage(rows, replay.usage).values()) != archives[-1].usage:
                yield f"usage differs {_FROM_ARCHIVE}"
            for usage in replay.usage.values():
                expected_rows.pop(_row_key(usage), None)
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
                yield f"{_row_label(row)} is not in the journal"
            else:
                for message in _compare_row(row, expected):
                    yield f"{_row_label(row)}: {message}"
        if archives and row_class is HoldRow and not _has_archived_holds(store, replay, archives, older):
            yield f"hold differs {_FROM_ARCHIVE}"
    for row in expected_rows.values():
        if is_pruned(row):
            continue
        yield f"{_row_label(row)} is missing"


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
    while page := store.fetch_rows(store.sql.archived_holds, archive.account, number, archive.through, PAGE_SIZE):
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
    """Return the table of a row and its key, without the account, which the inconsistency names."""
    mapping = TABLE_MAPPINGS[type(row)]
    if isinstance(row, AccountRow):
        return "its row"
    key = mapping.key_of(row)
    values = zip(mapping.key, key if isinstance(key, tuple) else (key,), strict=True)
    return " ".join(
        [mapping.table.name.partition("_")[2], *[str(value) for name, value in values if name != "account"]]
    )


def _row_key(row: Row) -> tuple[type, Any]:
    return type(row), TABLE_MAPPINGS[type(row)].key_of(row)
