"""Entries of disputes, which claw back a payment, and of reversals of refunds and disputes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import JournalRow
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.posting.refunds import (
    credits_for_money,
    payment_parts,
    payment_units,
    payout_target,
    promotional_lot_error,
    return_tax,
    split_gross,
    unreturned_gross,
)
from brivionix_billing.ledger.projections import PAYBACK_KINDS, LotRow, lot_value
from brivionix_billing.ledger.units import (
    minor_unit,
    units_to_payable,
    units_to_text,
)
from brivionix_billing.money import Payable

__all__ = [
    "claw_back",
    "dispute",
    "restore_to_expired_lot",
    "reverse",
    "shrink_holds",
]


def dispute(account: LockedAccount, lot: LotRow, content: Mapping[str, Any], pay: Payable | str | None) -> EntryDraft:
    """Claw back a payment, whole or in part: unused Credits are removed, and used Credits become debt.

    If unused Credits are held, the holds of the newest requests shrink. Raises ``not_refundable`` if ``pay`` is more
    than the rest of the payment.
    """
    draft = EntryDraft("dispute", account.booked_at, content)
    if lot.currency is None:
        raise promotional_lot_error(lot)
    unreturned = lot.paid - lot.gone
    whole = unreturned_gross(lot, payment_parts(account, lot))
    gross = whole if pay is None else payment_units(lot, pay)
    if gross > whole or not gross:
        raise BillingError(
            "not_refundable",
            f"{units_to_payable(gross, lot.currency)} of lot {safe_repr(lot.id)} cannot be disputed: "
            f"{units_to_payable(whole, lot.currency)} of its payment have not been paid back",
        )
    money, tax = split_gross(account, lot, gross)
    value = lot_value(lot, lot.remaining)
    if money < value:
        credits, unused_money, spent_money = credits_for_money(lot, money), money, 0
    else:
        credits, unused_money, spent_money = lot.remaining, value, money - value
    shrink_holds(account, draft, lot, credits)
    if credits:
        account.change_lot(draft, lot, "refunded", credits, unused_money)
    elif not spent_money:
        account.change_lot(draft, lot, "refunded", 0, 0)  # the entry names its lot, also if it pays back tax only
    draft.post("available", -credits)
    draft.post("disputed", credits)
    if spent_money or money == unreturned:  # a whole payment includes Credits used for less than a minor unit
        claw_back(account, draft, lot, spent_money, whole=money == unreturned)
    draft.result |= payout_target(account, lot)
    return_tax(account, draft, lot, tax)
    account.repay_owed(draft)
    return draft


def claw_back(
    account: LockedAccount,
    draft: EntryDraft,
    lot: LotRow,
    money: int,
    *,
    whole: bool,
    subaccount: str = "disputed",
    debit: str = "owed",
) -> None:
    """Claw back Credits that were used or have expired: the part that ``money`` purchased, or all of them.

    ``debit`` is the subaccount that bears the used ones.
    """
    spent = lot.used + lot.expired
    credits = spent if whole else min(spent, round_quotient(money * lot.credits, lot.paid, Rounding.HALF_UP))
    used = min(credits, lot.used)
    minor = 1 if lot.currency is None else minor_unit(lot.currency)
    # The money is divided in proportion to used and expired Credits, in minor units.
    used_money = money if credits == used else round_quotient(money // minor * used, credits, Rounding.HALF_UP) * minor
    if used or used_money:
        account.change_lot(draft, lot, "taken_back", used, used_money)
    if credits > used:
        account.change_lot(draft, lot, "written_off", credits - used, money - used_money)
    draft.post(debit, -used)
    draft.post("expired", used - credits)
    draft.post(subaccount, credits)


def shrink_holds(account: LockedAccount, draft: EntryDraft, lot: LotRow, removed: int) -> None:
    """Shrink holds that would not be covered after ``removed`` Credits of a lot are gone, the newest first."""
    if account.row.restricted:
        parts = list(account.uncovered_holds(lot, removed))[::-1]
    else:
        parts, missing = [], removed - account.available
        for hold in sorted(account.open_holds(), key=lambda hold: (hold.at, hold.id), reverse=True):
            part = min(max(0, missing), hold.credits)
            if part:
                parts.append((hold, part))
                missing -= part
    for hold, part in parts:
        hold.credits -= part
        account.mark_changed(hold)
        if hold.token is not None:
            token = account.token(hold.token)
            token.held -= part
            account.mark_changed(token)
        draft.post("held", -part)
        draft.post("available", part)
    if parts:
        draft.result["shrunk"] = [[hold.id, units_to_text(part)] for hold, part in parts]


def reverse(account: LockedAccount, undoes: str, content: Mapping[str, Any]) -> EntryDraft:
    """Reverse a refund that could not be paid out, or a dispute that was won: restore its Credits and its money.

    Raises ``not_reversible``.
    """
    store = account.store
    row = store.fetch_entry(store.sql.entry, require_id(undoes, "the operation to reverse"))
    undone = None if row is None else Entry.from_row(row)
    if undone is None or undone.account != account.id or undone.kind not in ("refund", "dispute"):
        raise BillingError(
            "not_reversible", f"account {safe_repr(account.id)} has no refund or dispute {safe_repr(undoes)}"
        )
    reversals = (JournalRow(*row) for row in store.fetch_rows(store.sql.reversals, account.id))
    for reversal in map(Entry.from_row, reversals):
        if reversal.content["undoes"] == undoes:
            raise BillingError(
                "not_reversible", f"operation {safe_repr(undoes)} was already reversed by {safe_repr(reversal.id)}"
            )
    draft = EntryDraft("reverse", account.booked_at, content)
    lot = account.lot(undone.lot_deltas[0].lot)
    deltas = [delta for delta in undone.lot_deltas if delta.lot == lot.id and delta.kind in PAYBACK_KINDS]
    credits, money = sum(delta.credits for delta in deltas), sum(delta.money for delta in deltas)
    account.change_lot(draft, lot, "restored", credits, money)
    if "tax" in undone.result:
        tax = Payable(undone.result["tax"], str(lot.currency))
        return_tax(account, draft, lot, -tax.minor * minor_unit(tax.currency))
    # Charges meanwhile were rounded without these Credits, so the recognised money may be off by a minor unit.
    rounding = lot.paid - lot.gone - lot_value(lot, lot.remaining) - lot.recognised
    if rounding:
        account.change_lot(draft, lot, "used", 0, rounding)
    draft.post("refunded" if undone.kind == "refund" else "disputed", -credits)
    if lot.expires is not None and lot.expires <= account.booked_at:
        restore_to_expired_lot(account, draft, lot, credits)
    else:
        draft.post("available", credits)
        account.note_expiry(lot.expires)
    account.repay_owed(draft)
    return draft


def restore_to_expired_lot(account: LockedAccount, draft: EntryDraft, lot: LotRow, credits: int) -> None:
    """Restore Credits to a lot that has expired meanwhile: they settle the debt, and the rest expires.

    Those of a restricted lot all expire.
    """
    used = min(credits, account.row.owed - draft.postings.get("owed", 0)) if lot.restriction is None else 0
    for kind, part, subaccount in (("used", used, "owed"), ("expired", credits - used, "expired")):
        if part:
            money = lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - part)
            account.change_lot(draft, lot, kind, part, money)
            draft.post(subaccount, part)
