"""Verifies the entries after a checkpoint only, in time proportional to their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.journal_reading import iter_entries
from brivionix_billing.ledger.projections import HoldRow, LotRow
from brivionix_billing.ledger.units import units_to_text
from brivionix_billing.ledger.verification import Inconsistency

__all__ = ["verify_new_entries"]


def verify_new_entries(store: Store, heads: Mapping[str, tuple[int, str]]) -> Iterator[Inconsistency]:
    """Yield the inconsistencies of the entries after the heads of a checkpoint, and of what they changed last.

    Checked are the hash, the content and the chain of each new entry from the head of the checkpoint to the row of the
    account, its postings, the remaining Credits of the lots and the state of the holds that they changed.
    """
    rows = {account: (number, hash) for account, number, hash in store.fetch_rows(store.sql.heads)}
    for account, (number, hash) in rows.items():
        start = heads.get(account, (0, ""))
        try:
            for message in _check_account(store, account, start, (number, hash)):
                yield Inconsistency(account, None, message)
        except BillingError as error:
            if error.code == "entry_archived":
                raise
            yield Inconsistency(account, None, error.message)
    for account in heads.keys() - rows.keys():
        yield Inconsistency(account, None, "it is in the checkpoint, but not in the ledger")


def _check_account(store: Store, account: str, start: tuple[int, str], end: tuple[int, str]) -> Iterator[str]:
    if start == end:
        return
    number, head = start
    if number and (number, head) != _stored_head(store, account, number):
        yield f"entry {number} of the checkpoint is missing, or its hash differs"
        return
    remaining: dict[str, int] = {}
    holds: dict[str, str] = {}
    for entry in iter_entries(store, account, after=number):
        if entry.number != number + 1 or entry.previous != head:
            yield f"entry {entry.number} does not follow entry {number}"
            return
        if sum(entry.postings.values()):
            yield f"entry {entry.number}: its postings do not balance"
        number, head = entry.number, entry.hash
        remaining.update((delta.lot, delta.remaining) for delta in entry.lot_deltas)
        holds.update(_changed_hold(entry))
    if (number, head) != end:
        yield f"its journal ends with entry {number}, but its row names entry {end[0]}"
    for lot, credits in remaining.items():
        row = store.fetch_one(LotRow, store.sql.lot, lot)
        if row is None or row.remaining != credits:
            stated = "missing" if row is None else units_to_text(row.remaining)
            yield f"lot {safe_repr(lot)}: remaining is {stated}, by the journal {units_to_text(credits)}"
    for hold, state in holds.items():
        hold_row = store.fetch_one(HoldRow, store.sql.hold, hold)
        if hold_row is None or hold_row.state != state:
            yield f"hold {safe_repr(hold)} is {hold_row and hold_row.state}, by the journal {state}"


def _stored_head(store: Store, account: str, number: int) -> tuple[int, str] | None:
    rows = store.fetch_rows(store.sql.entries, account, number - 1, 1)
    return (rows[0][2], rows[0][7]) if rows else None


def _changed_hold(entry: Entry) -> dict[str, str]:
    """Return the hold that an entry made or resolved, and its state."""
    if entry.kind == "hold":
        return {entry.id: "open"}
    state = {"settle": "settled", "release": "released", "hold_expired": "expired"}.get(entry.kind)
    return {} if state is None else {entry.content["hold"]: state}
