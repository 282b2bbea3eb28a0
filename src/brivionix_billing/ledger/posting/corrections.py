"""Entries that correct others: voided lots, reversed charges and changed expiries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import JournalRow
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.posting.disputes import claw_back, restore_to_expired_lot, shrink_holds
from brivionix_billing.ledger.posting.refunds import payment_parts, return_tax
from brivionix_billing.ledger.projections import HoldRow, LotRow, UsageRow, lot_value, quarter_hour, reverse_usage
from brivionix_billing.ledger.units import units_to_payable, units_to_text

__all__ = ["USED_CREDITS", "change_expiry", "reverse_charge", "void"]

USED_CREDITS: Final = {"owe": "owed", "waive": "waived"}
"""What happens to the used Credits of a voided lot -> the subaccount that bears them."""


def void(account: LockedAccount, lot: LotRow, content: Mapping[str, Any]) -> EntryDraft:
    """Void a lot: remove its remaining Credits, and let the customer owe its used ones, or waive them.

    The money of a purchased lot is returned. Raises ``not_reversible`` if nothing of the lot is left.
    """
    draft = EntryDraft("void", account.booked_at, content)
    if lot.has_returned_all:
        raise BillingError(
            "not_reversible", f"lot {safe_repr(lot.id)} has nothing left to void: all its Credits were returned"
        )
    remaining, value = lot.remaining, lot_value(lot, lot.remaining)
    recognised = lot.recognised
    parts = payment_parts(account, lot)
    if parts is not None and parts.fee and not lot.gone:  # else the payment was received
        draft.result["fee"] = str(units_to_payable(parts.fee, parts.currency).amount)
    shrink_holds(account, draft, lot, remaining)
    if remaining:
        account.change_lot(draft, lot, "refunded", remaining, value)
    draft.post("available", -remaining)
    draft.post("voided", remaining)
    debit = USED_CREDITS[content["used"]]
    claw_back(account, draft, lot, recognised, whole=True, subaccount="voided", debit=debit)
    return_tax(account, draft, lot)
    account.repay_owed(draft)
    return draft


def change_expiry(account: LockedAccount, lot: LotRow, content: Mapping[str, Any]) -> EntryDraft:
    """Change the expiry of a lot. No Credits move.

    Raises ``lot_closed`` if the lot has expired or no Credits are left in it, and ``invalid_argument`` if the new
    expiry has passed.
    """
    draft = EntryDraft("expiry_changed", account.booked_at, content)
    expires, problem = content["expires"], None
    if lot.expires is not None and lot.expires <= account.booked_at:
        problem = f"expired at {lot.expires}"
    elif lot.has_returned_all:
        problem = f"has nothing left: all its Credits were {'moved or ' if lot.moved else ''}returned"
    elif not lot.remaining:
        problem = "is used up"
    if problem is not None:
        raise BillingError(
            "lot_closed", f"lot {safe_repr(lot.id)} {problem}; no expiry brings Credits back: grant new ones"
        )
    # A lot cannot expire before it was opened: a clock that is behind may say so.
    if expires is not None and expires <= max(account.booked_at, lot.at):
        raise BillingError(
            "invalid_argument",
            f"expires is {expires}; it must be later than the time of the operation; use void to end a lot now",
        )
    draft.result |= {"previous_expires": lot.expires, "expires": expires}
    lot.expires = expires
    account.mark_changed(lot)
    account.note_expiry(expires)
    return draft


def reverse_charge(account: LockedAccount, undoes: str, credits: int | None, content: Mapping[str, Any]) -> EntryDraft:
    """Reverse a charge, in full or in part: its lots, their revenue, its token and its usage follow.

    The Credits return to the lots that the charge used, the last one first. What the charge left as debt reduces the
    debt. If that debt was settled meanwhile, the Credits return to the lots that were used last. Raises
    ``not_reversible``.
    """
    charge = _charge_entry(account, undoes)
    earlier = _earlier_reversals(account, charge.id)
    left = charge.postings.get("used", 0) + sum(entry.postings.get("used", 0) for entry in earlier)
    amount = left if credits is None else credits
    if not 0 < amount <= left:
        raise BillingError(
            "not_reversible",
            f"{units_to_text(amount)} Credits of charge {safe_repr(charge.id)} cannot be reversed: "
            f"{units_to_text(left)} of it are not reversed yet",
        )
    draft = EntryDraft("charge_reversed", account.booked_at, content)
    draft.post("used", -amount)
    rest = amount
    for id, part in _parts(charge, earlier):
        rest -= _return_to_lot(account, draft, account.lot(id), min(rest, part))
    settled = min(rest, account.row.owed - draft.postings.get("owed", 0))
    draft.post("owed", settled)
    rest -= settled
    if rest:
        used = [lot.id for lot in account.store.fetch_all(LotRow, account.store.sql.lots, account.id) if lot.used]
        for id in reversed(used):
            rest -= _return_to_lot(account, draft, account.lot(id), rest)
    draft.post("waived", rest)  # used Credits of a voided lot, which the customer did not pay for
    _reverse_totals(account, draft, charge, amount, complete=amount == left)
    account.repay_owed(draft)
    return draft


def _charge_entry(account: LockedAccount, id: str) -> Entry:
    """Return the entry of a charge, named by its operation or its hold. Raises ``not_reversible``."""
    store = account.store
    row = store.fetch_entry(store.sql.entry, require_id(id, "the charge"))
    if row is not None and row.kind == "hold":
        hold = store.fetch_one(HoldRow, store.sql.hold, id)
        row = None if hold is None or hold.resolved_by is None else store.fetch_entry(store.sql.entry, hold.resolved_by)
    if row is None or row.account != account.id or row.kind not in ("settle", "charge"):
        raise BillingError("not_reversible", f"account {safe_repr(account.id)} has no charge {safe_repr(id)}")
    return Entry.from_row(row)


def _earlier_reversals(account: LockedAccount, charge: str) -> list[Entry]:
    rows = account.store.fetch_rows(account.store.sql.charge_reversals, account.id)
    entries = (Entry.from_row(JournalRow(*row)) for row in rows)
    return [entry for entry in entries if entry.result["charge"] == charge]


def _parts(charge: Entry, earlier: list[Entry]) -> list[tuple[str, int]]:
    """Return the lots that a charge used and the Credits of each that are not reversed yet, the last one first."""
    parts: dict[str, int] = {}
    left = charge.postings.get("used", 0)
    for delta in charge.lot_deltas:
        part = min(left, delta.credits)  # later changes of the entry settled an older debt
        if delta.kind == "used" and part:
            parts[delta.lot] = parts.get(delta.lot, 0) + part
            left -= part
    for entry in earlier:
        for delta in entry.lot_deltas:
            if delta.kind == "reversed" and delta.lot in parts:
                parts[delta.lot] = max(0, parts[delta.lot] - delta.credits)
    return list(reversed(parts.items()))


def _return_to_lot(account: LockedAccount, draft: EntryDraft, lot: LotRow, most: int) -> int:
    """Return up to ``most`` used Credits to a lot. Returns the amount."""
    part = min(most, lot.used)  # a dispute or void may have clawed back the others
    if not part:
        return 0
    money = lot_value(lot, lot.remaining + part) - lot_value(lot, lot.remaining)
    account.change_lot(draft, lot, "reversed", part, money)
    if lot.expires is not None and lot.expires <= account.booked_at:
        restore_to_expired_lot(account, draft, lot, part)
    else:
        draft.post("available", part)
        account.note_expiry(lot.expires)
    return part


def _reverse_totals(account: LockedAccount, draft: EntryDraft, charge: Entry, amount: int, *, complete: bool) -> None:
    """Subtract a reversed amount from its token, and from the usage at the time of the reversal.

    The usage at the time of the charge stays: it may be on a bill already.
    """
    model, token_id = charge.content.get("model", ""), charge.result.get("token")
    member = charge.result.get("member")
    draft.result |= {"charge": charge.id, "credits": units_to_text(amount), "complete": complete, "model": model}
    if complete and "counts" in charge.result:
        draft.result["counts"] = charge.result["counts"]
    if token_id is not None:
        draft.result["token"] = token_id
        token = account.token(token_id)
        token.spent -= amount
        account.mark_changed(token)
    if member is not None:
        draft.result["member"] = member
    key = (account.id, quarter_hour(draft.at), model, token_id or "", member or "")
    row = account.store.fetch_one(UsageRow, account.store.sql.usage, *key)
    if row is None:
        row = UsageRow(*key)
        account.add_row(row)
    else:
        account.mark_changed(row)
    reverse_usage(row, draft.result.get("counts"), amount, complete=complete)
