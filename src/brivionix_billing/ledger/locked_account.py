"""An account whose row is locked while an operation changes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.account_rows import AccountRows
from brivionix_billing.ledger.coverage import Coverage
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry, EntryDraft, make_entry, purchase_terms
from brivionix_billing.ledger.lot_order import sort_for_consumption
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotRow,
    apply_lot_change,
    apply_postings,
    apply_restricted,
    lot_value,
)
from brivionix_billing.ledger.raised_signals import raise_signals
from brivionix_billing.ledger.restrictions import RequestScope
from brivionix_billing.pricebook.lot_order import DEFAULT_LOT_ORDER

__all__ = ["EntryDraft", "LockedAccount"]


class LockedAccount(AccountRows):
    """An account under lock. Operations change its rows in memory; :meth:`post_entry` writes all changes."""

    __slots__ = ("last_signal",)

    def __init__(self, store: Store, row: AccountRow, booked_at: str, order: Sequence[str] = DEFAULT_LOT_ORDER) -> None:
        super().__init__(store, row, booked_at, order)
        self.last_signal: int | None = None
        """Number of its last signal; ``None``: not read yet."""

    def usable(self, scope: RequestScope | None) -> int:
        """Return the available units that a request can use; ``None``: any request, also one without a model.

        Open holds stay covered by the lots that they may use.
        """
        if not self.row.restricted and (scope is None or scope.plan is None):
            return self.available
        lots = [lot for lot in self.lots if _may_use(scope, lot) and self._is_valid(lot, self.booked_at)]
        return self._coverage().place(sum(lot.remaining for lot in lots), [lot.id for lot in lots])

    def free_in(self, lot: LotRow) -> int:
        """Return the units of a lot that no open hold needs."""
        if not self.row.restricted:
            return min(lot.remaining, max(0, self.available))
        return self._coverage().take(lot.id, lot.remaining)

    def _coverage(self) -> Coverage:
        """Return the open holds, covered by the lots that they may use."""
        coverage = Coverage({lot.id: lot.remaining for lot in self.lots if lot.remaining})
        for hold in self.open_holds():
            coverage.place(hold.credits, self._lots_of(hold))
        return coverage

    def uncovered_holds(self, lot: LotRow, removed: int) -> Iterator[tuple[HoldRow, int]]:
        """Yield each open hold that ``removed`` units of a lot would leave without cover, and the units it would lack.

        The newest holds lack them.
        """
        sources = {each.id: each.remaining for each in self.lots} | {lot.id: lot.remaining - removed}
        coverage = Coverage(sources)
        for hold in sorted(self.open_holds(), key=lambda hold: (hold.at, hold.id)):
            missing = hold.credits - coverage.place(hold.credits, self._lots_of(hold))
            if missing:
                yield hold, missing

    def _lots_of(self, hold: HoldRow) -> list[str]:
        """Return the lots that may pay for a hold."""
        scope = RequestScope.from_column(hold.scope)
        return [lot.id for lot in self.lots if self._is_valid(lot, hold.at) and _may_use(scope, lot)]

    @staticmethod
    def _is_valid(lot: LotRow, at: str) -> bool:
        return lot.expires is None or lot.expires > at

    def change_lot(self, draft: EntryDraft, lot: LotRow, kind: str, credits: int, money: int) -> None:
        """Change a lot as part of an entry."""
        before = lot.remaining
        draft.lot_deltas.append(apply_lot_change(lot, kind, credits, money))
        apply_restricted(self.row, lot, lot.remaining - before)
        if lot.currency is not None:
            draft.purchases[lot.id] = purchase_terms(lot)
        self.mark_changed(lot)

    def consume_lots(self, draft: EntryDraft, amount: int, at: str, scope: RequestScope | None = None) -> int:
        """Consume up to ``amount`` from the lots that were usable at ``at``, in their order. Returns the amount.

        ``scope`` is that of the request; ``None`` consumes no restricted lots. In an account with restricted lots, open
        holds stay covered by the lots that they may use.
        """
        left = amount
        coverage = self._coverage() if self.row.restricted and amount else None
        for lot in sort_for_consumption(self.lots, self.order, self.booked_at):
            if not left:
                break
            if lot.remaining and (lot.expires is None or lot.expires > at):
                part = min(lot.remaining, left)
                if coverage is not None:
                    part = coverage.take(lot.id, part) if _may_use(scope, lot) else 0
                    if not part:
                        continue
                money = lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - part)
                self.change_lot(draft, lot, "used", part, money)
                left -= part
        return amount - left

    def repay_owed(self, draft: EntryDraft) -> None:
        """Settle as much of the debt as the available Credits cover."""
        owed = self.row.owed - draft.postings.get("owed", 0)
        free = self.available + draft.postings.get("available", 0) - self._expiring_credits()
        if owed > 0 and free > 0:
            paid = self.consume_lots(draft, min(owed, free), self.booked_at)
            draft.post("available", -paid)
            draft.post("owed", paid)

    def _expiring_credits(self) -> int:
        """Return the available Credits that the next :meth:`expire_due` takes: in expired lots, for no open hold."""
        lots = self._expired_lots()
        return (
            sum(lot.remaining - keep for lot, keep in self._retained_for_holds(lots, self.open_holds())) if lots else 0
        )

    def _expired_lots(self) -> list[LotRow]:
        lots = [lot for lot in self.lots if lot.remaining and lot.expires is not None and lot.expires <= self.booked_at]
        return sorted(lots, key=lambda lot: (lot.expires, lot.number))

    def _retained_for_holds(self, expired: Sequence[LotRow], holds: Sequence[HoldRow]) -> Iterator[tuple[LotRow, int]]:
        """Yield each expired lot with the Credits that it retains for holds made before it expired."""
        if self.row.restricted:
            needs = Coverage({hold.id: hold.credits for hold in holds})
            lots_of = {hold.id: {*self._lots_of(hold)} for hold in holds}
            for lot in expired:
                yield lot, needs.place(lot.remaining, [id for id, lots in lots_of.items() if lot.id in lots])
            return
        retained = 0
        for lot in expired:
            promised = sum(hold.credits for hold in holds if lot.expires is None or hold.at < lot.expires)
            keep = min(lot.remaining, max(0, promised - retained))
            retained += keep
            yield lot, keep

    def note_expiry(self, expires: str | None) -> None:
        """Lower the account's next expiry to that of a new hold or lot."""
        if expires is not None and (self.row.next_expiry is None or expires < self.row.next_expiry):
            self.row.next_expiry = expires

    def expire_due(self) -> int:
        """Post the entries of expired holds and lots. Returns the number of entries."""
        account, now = self.row, self.booked_at
        if account.next_expiry is None or account.next_expiry > now:
            return 0
        before = account.number
        holds = self.open_holds()
        lots = self._expired_lots()
        # An expired lot keeps Credits for open holds. They expire when they are free, and the entry states this time
        # whenever it is posted: else a statement of a closed period would change.
        last = min(now, self.store.last_booked(self.id, self.row.number)) if lots else now
        moments = {max(hold.expires, last) for hold in holds if hold.expires <= now}
        moments |= {max(lot.expires or now, last) for lot in lots}
        for moment in sorted(moments):
            while holds and holds[0].expires <= moment:
                self._expire_hold(holds.pop(0))
            due = [lot for lot in lots if lot.remaining and (lot.expires or now) <= moment]
            for lot, keep in list(self._retained_for_holds(due, holds)):
                self._expire_lot(lot, keep, moment)
        expiries = [hold.expires for hold in holds]
        expiries += [lot.expires for lot in self.lots if lot.remaining and lot.expires is not None]
        if self.subscription is not None and self.subscription.renews_at is not None:
            expiries.append(self.subscription.renews_at)
        account.next_expiry = min(expiries, default=None)
        if account.number == before:
            self.store.update(account)
        return account.number - before

    def _expire_hold(self, hold: HoldRow) -> None:
        draft = EntryDraft("hold_expired", self.booked_at, {"hold": hold.id})
        self.resolve_hold(draft, hold, "expired")
        draft.post("available", hold.credits)
        self.repay_owed(draft)
        self.post_entry(self.system_entry_id(), draft)

    def _expire_lot(self, lot: LotRow, keep: int, at: str) -> None:
        """Post the expiry of a lot, but for the Credits that it keeps."""
        expired = lot.remaining - keep
        if expired:
            draft = EntryDraft("lot_expired", at, {"lot": lot.id})
            self.change_lot(draft, lot, "expired", expired, lot_value(lot, lot.remaining) - lot_value(lot, keep))
            draft.post("available", -expired)
            draft.post("expired", expired)
            self.post_entry(self.system_entry_id(), draft)

    def system_entry_id(self) -> str:
        """Return the id of the next entry if the ledger posts it by itself."""
        return f"~{self.id}/{self.row.number + 1}"

    def resolve_hold(self, draft: EntryDraft, hold: HoldRow, state: str) -> None:
        """Resolve a hold. The caller posts the subaccounts that receive its Credits, and recounts a settled one."""
        draft.post("held", -hold.credits)
        if hold.token is not None:
            token = self.token(hold.token)
            token.held -= hold.credits
            draft.result["token"] = token.id
            self.mark_changed(token)
        if hold.member is not None:
            draft.result["member"] = hold.member
        if hold.counted is not None and state != "settled":
            self.recount(hold, was_open=True, used=None)
        hold.state = state
        self._holds[hold.id] = hold
        self.mark_changed(hold)

    def post_entry(self, id: str, draft: EntryDraft) -> Entry:
        """Append the entry to the journal, and write all changed rows.

        Raises ``operation_conflict`` if another entry has the id.
        """
        account, store = self.row, self.store
        apply_postings(account, draft.postings)
        if min(account.held, account.owed, account.balance - account.held) < 0:
            # A bug of this library: a replay would reject the entry, so it must not be committed.
            raise RuntimeError(f"an entry of kind {draft.kind} would leave account {safe_repr(account.id)} below zero")
        if account.signals is not None:
            raise_signals(self, id, draft)
        journal_row, entry = make_entry(id, account, draft, self.booked_at)
        account.number, account.head = entry.number, entry.hash
        if store.execute(store.sql.add_entry, *journal_row) != 1:
            # The id was free at the start of the operation, so an operation on another account used it meanwhile.
            existing = store.fetch_entry(store.sql.entry, id)
            if existing is None:
                raise BillingError(
                    "journal_broken", f"account {safe_repr(account.id)} already has an entry {journal_row.number}"
                )
            Entry.from_row(existing).match_repeat(account.id, draft.kind, draft.content)
            raise BillingError(
                "operation_conflict", f"operation {safe_repr(id)} is being done twice at the same time; retry it"
            )
        for new in self._new_rows:
            store.insert(new)
        for changed in self._changed_rows.values():
            if isinstance(changed, HoldRow) and changed.state != "open" and changed.resolved_by is None:
                changed.resolved_by = id
            store.update(changed)
        store.update(account)
        self._new_rows.clear()
        self._changed_rows.clear()
        return entry


def _may_use(scope: RequestScope | None, lot: LotRow) -> bool:
    return lot.restriction is None if scope is None else scope.may_use(lot.restriction, lot.plan)
