"""One account, locked, while an operation on it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Row, Store
from brivionix_billing.ledger.entry import Entry, make_entry, purchase_terms
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.lot_order import sort_for_consumption
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotDelta,
    LotRow,
    TokenRow,
    UsageRow,
    apply_lot_change,
    apply_postings,
    lot_value,
)
from brivionix_billing.topup import DEFAULT_LOT_ORDER

__all__ = ["LockedAccount", "EntryDraft"]


@dataclass(slots=True)
class EntryDraft:
    """An entry that is being made."""

    kind: str
    at: str
    content: Mapping[str, Any]
    postings: dict[str, int] = field(default_factory=dict)
    moves: list[LotDelta] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    purchases: dict[str, list[str]] = field(default_factory=dict)

    def post(self, book: str, amount: int) -> None:
        """Add to a book."""
        self.postings[book] = self.postings.get(book, 0) + amount


class LockedAccount:
    """An account under lock. Plans change its rows here in memory; :meth:`write` brings all of it to the database."""

    __slots__ = ("_changed", "_holds", "_lots", "_new", "account", "booked_at", "order", "store")

    def __init__(
        self, store: Store, account: AccountRow, booked: str, order: Sequence[str] = DEFAULT_LOT_ORDER
    ) -> None:
        self.store, self.account, self.booked_at, self.order = store, account, booked, order
        self._lots: list[LotRow] | None = None
        self._holds: dict[str, HoldRow] = {}
        self._changed: dict[tuple[type, str], Row] = {}
        self._new: list[Row] = []

    @property
    def available(self) -> int:
        """Units that can be spent."""
        return self.account.balance - self.account.held

    @property
    def lots(self) -> list[LotRow]:
        """Lots with Credits in them, in the order in which they came."""
        if self._lots is None:
            self._lots = self.store.fetch_all(LotRow, self.store.sql.live_lots, self.account.id)
        return self._lots

    def lot(self, id: str) -> LotRow:
        """A lot of this account, with Credits in it or without. Raises ``unknown_lot``."""
        for lot in self.lots:
            if lot.id == id:
                return lot
        found = self.store.fetch_one(LotRow, self.store.sql.lot, require_id(id, "the lot"))
        if found is None or found.account != self.account.id:
            raise BillingError("unknown_lot", f"account {safe_repr(self.account.id)} has no lot {safe_repr(id)}")
        self.lots.append(found)
        self.lots.sort(key=lambda lot: lot.number)
        return found

    def token(self, id: str) -> TokenRow:
        """A token of this account. Raises ``unknown_token``."""
        changed = self._changed.get((TokenRow, id))
        require_id(id, "the token")
        found = changed if isinstance(changed, TokenRow) else self.store.fetch_one(TokenRow, self.store.sql.token, id)
        if found is None or found.account != self.account.id:
            raise BillingError("unknown_token", f"account {safe_repr(self.account.id)} has no token {safe_repr(id)}")
        return found

    def open_holds(self) -> list[HoldRow]:
        """Those that are not resolved, by the time when they expire."""
        found = self.store.fetch_all(HoldRow, self.store.sql.open_holds, self.account.id)
        # What the database does not know yet: holds that this operation has resolved or shrunk.
        known = [self._holds.setdefault(hold.id, hold) for hold in found]
        return [hold for hold in known if hold.state == "open"]

    def add_row(self, row: Row) -> None:
        """A new row, written with the entry."""
        self._new.append(row)
        if isinstance(row, LotRow):
            self.lots.append(row)

    def mark_changed(self, row: Row) -> None:
        """A row to be written anew with the entry."""
        for new in self._new:
            if new is row:
                return
        key = row.id if not isinstance(row, UsageRow) else f"{row.quarter_hour} {row.model} {row.token}"
        self._changed[type(row), key] = row

    def change_lot(self, draft: EntryDraft, lot: LotRow, how: str, credits: int, money: int) -> None:
        """Change a lot as part of an entry."""
        draft.moves.append(apply_lot_change(lot, how, credits, money))
        if lot.currency is not None:
            draft.purchases[lot.id] = purchase_terms(lot)
        self.mark_changed(lot)

    def consume_lots(self, draft: EntryDraft, amount: int, at: str) -> int:
        """Use up to ``amount`` of the lots that could be used at ``at``, in their order; how much it was."""
        left = amount
        for lot in sort_for_consumption(self.lots, self.order, self.booked_at):
            if not left:
                break
            if lot.remaining and (lot.expires is None or lot.expires > at):
                part = min(lot.remaining, left)
                self.change_lot(
                    draft, lot, "used", part, lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - part)
                )
                left -= part
        return amount - left

    def repay_owed(self, draft: EntryDraft) -> None:
        """What is owed is paid as soon as there is something to pay it with."""
        owed = self.account.owed - draft.postings.get("owed", 0)
        free = self.available + draft.postings.get("available", 0) - self._expiring_credits()
        if owed > 0 and free > 0:
            paid = self.consume_lots(draft, min(owed, free), self.booked_at)
            draft.post("available", -paid)
            draft.post("owed", paid)

    def _expiring_credits(self) -> int:
        """Credits that are available, but only until somebody looks: of expired lots, and no longer promised."""
        lots = self._expired_lots()
        return (
            sum(lot.remaining - keep for lot, keep in self._retained_for_holds(lots, self.open_holds())) if lots else 0
        )

    def _expired_lots(self) -> list[LotRow]:
        found = [
            lot for lot in self.lots if lot.remaining and lot.expires is not None and lot.expires <= self.booked_at
        ]
        return sorted(found, key=lambda lot: (lot.expires, lot.number))

    def _retained_for_holds(self, expired: Sequence[LotRow], holds: Sequence[HoldRow]) -> Iterator[tuple[LotRow, int]]:
        """How much of each expired lot stays: requests that were let in while it was good may still be paid from it."""
        kept = 0
        for lot in expired:
            promised = sum(hold.credits for hold in holds if lot.expires is None or hold.at < lot.expires)
            keep = min(lot.remaining, max(0, promised - kept))
            kept += keep
            yield lot, keep

    def note_expiry(self, expires: str | None) -> None:
        """Something that expires came in."""
        if expires is not None and (self.account.next_expiry is None or expires < self.account.next_expiry):
            self.account.next_expiry = expires

    def expire_due(self) -> int:
        """Return holds and take lots that have expired, each by an entry of its own; how many entries."""
        account, now = self.account, self.booked_at
        if account.next_expiry is None or account.next_expiry > now:
            return 0
        before = account.number
        for hold in self.open_holds():
            if hold.expires <= now:
                draft = EntryDraft("hold_expired", now, {"hold": hold.id})
                self.resolve_hold(draft, hold, "expired")
                draft.post("available", hold.credits)
                self.repay_owed(draft)
                self.post_entry(self._system_entry_id(), draft)
        holds = self.open_holds()
        for lot, keep in list(self._retained_for_holds(self._expired_lots(), holds)):
            gone = lot.remaining - keep
            if gone:
                # It counts for the day on which it expired, whenever somebody looks: that is what a statement shows.
                draft = EntryDraft("lot_expired", lot.expires or now, {"lot": lot.id})
                self.change_lot(draft, lot, "expired", gone, lot_value(lot, lot.remaining) - lot_value(lot, keep))
                draft.post("available", -gone)
                draft.post("expired", gone)
                self.post_entry(self._system_entry_id(), draft)
        times = [hold.expires for hold in holds]
        times += [lot.expires for lot in self.lots if lot.remaining and lot.expires is not None]
        account.next_expiry = min(times, default=None)
        if account.number == before:
            self.store.update(account)
        return account.number - before

    def _system_entry_id(self) -> str:
        return f"~{self.account.id}/{self.account.number + 1}"

    def resolve_hold(self, draft: EntryDraft, hold: HoldRow, state: str) -> None:
        """Give back what a hold still holds; whoever asks for it posts where it goes."""
        draft.post("held", -hold.credits)
        if hold.token is not None:
            token = self.token(hold.token)
            token.held -= hold.credits
            draft.result["token"] = token.id
            self.mark_changed(token)
        hold.state = state
        self._holds[hold.id] = hold
        self.mark_changed(hold)

    def post_entry(self, id: str, draft: EntryDraft) -> Entry:
        """Post the entry, and write all that it changed. Raises ``operation_conflict`` if another has its id."""
        account = self.account
        apply_postings(account, draft.postings)
        if min(account.held, account.owed, account.balance - account.held) < 0:
            # A fault of ours. What a replay would refuse must not be committed.
            raise RuntimeError(f"an entry of kind {draft.kind} would leave account {safe_repr(account.id)} below zero")
        row, entry = make_entry(
            id,
            account.id,
            account.number + 1,
            draft.kind,
            draft.at,
            self.booked_at,
            draft.content,
            draft.postings,
            draft.moves,
            draft.result,
            account.head,
            draft.purchases,
        )
        account.number, account.head = entry.number, entry.hash
        store = self.store
        if store.execute(store.sql.add_entry, *row) != 1:
            # It was not there a moment ago: another account is using the same id right now.
            found = store.fetch_entry(store.sql.entry, id)
            if found is None:
                raise BillingError("journal_broken", f"account {safe_repr(account.id)} has entry {row.number} already")
            Entry.from_row(found).match_repeat(account.id, draft.kind, draft.content)
            raise BillingError(
                "operation_conflict", f"the operation {safe_repr(id)} is being done twice at once; try again"
            )
        for new in self._new:
            store.insert(new)
        for changed in self._changed.values():
            if isinstance(changed, HoldRow) and changed.state != "open" and changed.resolved_by is None:
                changed.resolved_by = id
            store.update(changed)
        store.update(account)
        self._new.clear()
        self._changed.clear()
        return entry
