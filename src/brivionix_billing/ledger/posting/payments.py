"""What brings Credits in and takes them back: top-ups, grants, refunds, disputes, corrections by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from brivionix_billing.decimals import Rounding, format_plain, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import JournalRow
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.errors import ShortfallError
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.projections import PAYBACK_KINDS, LotRow, lot_value
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import (
    MAX_UNITS,
    minor_unit,
    to_units,
    units_to_credits,
    units_to_payable,
    units_to_text,
)
from brivionix_billing.money import Payable
from brivionix_billing.topup import Quote

__all__ = [
    "open_lot",
    "dispute",
    "lot_content",
    "duplicate_payment_error",
    "refund",
    "reverse",
    "debit_adjustment",
    "top_up_content",
]


def top_up_content(quote: Quote, reference: str, expires: datetime | None) -> dict[str, Any]:
    """A quote that was paid. Raises ``invalid_argument``, ``invalid_money``."""
    if not isinstance(quote, Quote):
        raise BillingError("invalid_argument", f"{safe_repr(quote)} is not a quote; PriceBook.quote gives one")
    return {
        "credits": units_to_text(to_units(quote.credits, "the Credits of the quote")),
        "paid": str(quote.pay.amount),
        "currency": quote.pay.currency,
        "channel": quote.channel,
        "reference": reference,
        "price_per_credit": format_plain(quote.price_per_credit),
        **lot_content(expires),
    }


def lot_content(expires: datetime | None) -> dict[str, Any]:
    """When a lot expires, if it does."""
    return {} if expires is None else {"expires": format_timestamp(expires)}


def open_lot(
    desk: LockedAccount, id: str, kind: str, credits: int, content: Mapping[str, Any], quote: Quote | None
) -> EntryDraft:
    """A new lot: bought (``top_up``), given (``grant``) or a correction (``adjust``). What is owed is paid from it.

    Raises ``payment_already_credited`` if another operation has credited the payment, ``invalid_argument`` for nothing
    or for what has expired already.
    """
    draft = EntryDraft(kind, desk.booked_at, content)
    expires = content.get("expires")
    if credits <= 0:
        raise BillingError("invalid_argument", "a lot holds more than zero Credits")
    if expires is not None and expires <= desk.booked_at:
        raise BillingError("invalid_argument", f"a lot that expires at {expires}, and it is {desk.booked_at} now")
    if desk.account.balance + credits >= MAX_UNITS:
        raise BillingError("invalid_money", "the account would hold 10^30 Credits or more")
    channel = reference = currency = None
    paid = 0
    if quote is not None:
        channel, reference, currency = quote.channel, content["reference"], quote.pay.currency
        paid = quote.pay.minor * minor_unit(currency)
        known = desk.store.fetch_one(LotRow, desk.store.sql.payment, channel, reference)
        if known is not None:
            raise duplicate_payment_error(known)
    lot = LotRow(
        id,
        desk.account.id,
        desk.account.number + 1,
        desk.booked_at,
        expires,
        channel,
        reference,
        currency,
        content.get("price_per_credit"),
        credits,
        credits,
        *(0, 0, 0),
        paid,
        *(0, 0),
    )
    desk.add_row(lot)
    desk.note_expiry(expires)
    draft.post("available", credits)
    draft.post({"top_up": "paid", "grant": "granted"}.get(kind, "adjusted"), -credits)
    desk.change_lot(draft, lot, "opened", credits, paid)
    if expires is not None:
        draft.result["expires"] = expires
    desk.repay_owed(draft)
    return draft


def duplicate_payment_error(lot: LotRow) -> BillingError:
    """The same payment, under another operation id."""
    return BillingError(
        "payment_already_credited",
        f"payment {safe_repr(lot.reference)} on channel {safe_repr(lot.channel)} was credited by operation "
        f"{safe_repr(lot.id)} "
        f"to account {safe_repr(lot.account)}; a payment is credited once",
    )


def refund(
    desk: LockedAccount, lot: LotRow, content: Mapping[str, Any], credits: int | None, pay: Payable | str | None
) -> EntryDraft:
    """Give bought Credits back at the price they were bought for: so many, so much money, or all that can be.

    Raises ``not_refundable``.
    """
    draft = EntryDraft("refund", desk.booked_at, content)
    if lot.currency is None:
        raise BillingError("not_refundable", f"lot {safe_repr(lot.id)} was given, not bought; nothing was paid for it")
    if lot.expires is not None and lot.expires <= desk.booked_at:
        raise BillingError("not_refundable", f"lot {safe_repr(lot.id)} has expired; nothing of it can be refunded")
    most = min(lot.remaining, max(0, desk.available))
    # A reversal may have left a coin too much given out by rounding (see there): it is kept back here.
    short = min(0, lot.recognised)
    if pay is not None:
        credits = _refundable_credits(lot, pay)
    elif credits is None:
        credits = most
    if credits > most or not credits:
        held = (
            f" ({format_plain(units_to_credits(lot.remaining))} are left in it, the rest is held)"
            if most < lot.remaining
            else ""
        )
        raise BillingError(
            "not_refundable",
            f"{format_plain(units_to_credits(credits))} Credits of lot {safe_repr(lot.id)} cannot be refunded: "
            f"{format_plain(units_to_credits(most))} of it are unused and free{held}",
        )
    worth = lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - credits)
    money = worth + short
    if money <= 0:
        raise BillingError(
            "not_refundable",
            f"{format_plain(units_to_credits(credits))} Credits of lot {safe_repr(lot.id)} were bought for less "
            "than a coin; there is "
            "nothing to pay back",
        )
    desk.change_lot(draft, lot, "refunded", credits, money)
    if short:
        desk.change_lot(draft, lot, "used", 0, -short)
    draft.post("available", -credits)
    draft.post("refunded", credits)
    draft.result |= _payout_target(lot)
    return draft


def _payout_target(lot: LotRow) -> dict[str, Any]:
    return {"channel": lot.channel, "reference": lot.reference}


def _payment_units(lot: LotRow, pay: Payable | str) -> int:
    if isinstance(pay, str):
        pay = Payable(pay, str(lot.currency))
    if not isinstance(pay, Payable) or pay.currency != lot.currency or pay.minor <= 0:
        raise BillingError(
            "currency_mismatch",
            f"lot {safe_repr(lot.id)} was paid in {lot.currency}; {safe_repr(pay)} is no amount of it",
        )
    return pay.minor * minor_unit(pay.currency)


def _credits_for_money(lot: LotRow, money: int) -> int:
    """The Credits that so much of a lot's money bought; no more than are left.

    Taking them takes exactly ``money`` off the value of what remains: rounding to coins does not depend on whole coins.
    """
    credits = min(lot.remaining, money * lot.credits // lot.paid)
    if lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - credits) != money:
        credits += 1  # the unit that the division left out
    return credits


def _refundable_credits(lot: LotRow, pay: Payable | str) -> int:
    """The Credits to refund for exactly ``pay``."""
    money = _payment_units(lot, pay)
    there = lot_value(lot, lot.remaining) + min(0, lot.recognised)
    if money > there:
        raise BillingError(
            "not_refundable",
            f"{units_to_payable(money, str(lot.currency))} cannot be refunded from lot {safe_repr(lot.id)}: "
            f"what is unused of it cost {units_to_payable(there, str(lot.currency))}",
        )
    return _credits_for_money(lot, money - min(0, lot.recognised))


def dispute(desk: LockedAccount, lot: LotRow, content: Mapping[str, Any], pay: Payable | str | None) -> EntryDraft:
    """A payment was taken back, whole or in part: Credits that are left go, those that were used are owed.

    Where Credits that are left are held, the holds of the newest requests shrink. Raises ``not_refundable`` for more
    than is left of the payment.
    """
    draft = EntryDraft("dispute", desk.booked_at, content)
    if lot.currency is None:
        raise BillingError(
            "not_refundable", f"lot {safe_repr(lot.id)} was given, not bought; there is no payment to dispute"
        )
    there = lot.paid - lot.refunded
    money = there if pay is None else _payment_units(lot, pay)
    if money > there or not money:
        raise BillingError(
            "not_refundable",
            f"of the payment of lot {safe_repr(lot.id)} {units_to_payable(there, lot.currency)} is left, "
            f"and {units_to_payable(money, lot.currency)} is disputed",
        )
    left = lot_value(lot, lot.remaining)
    if money < left:
        taken, from_left, from_gone = _credits_for_money(lot, money), money, 0
    else:
        taken, from_left, from_gone = lot.remaining, left, money - left
    _shrink_holds(desk, draft, taken)
    if taken:
        desk.change_lot(draft, lot, "refunded", taken, from_left)
    draft.post("available", -taken)
    draft.post("disputed", taken)
    if from_gone or money == there:  # of a whole payment, also what was used for less than a coin
        gone = lot.used + lot.expired
        share = round_quotient(from_gone * lot.credits, lot.paid, Rounding.HALF_UP)
        back = gone if money == there else min(gone, share)
        used = min(back, lot.used)
        # The coins that go with each part: all of them where it is all, else in proportion.
        of_used = (
            from_gone
            if back == used
            else round_quotient(from_gone // minor_unit(lot.currency) * used, back, Rounding.HALF_UP)
            * minor_unit(lot.currency)
        )
        if used or of_used:
            desk.change_lot(draft, lot, "taken_back", used, of_used)
        if back > used:
            desk.change_lot(draft, lot, "written_off", back - used, from_gone - of_used)
        draft.post("owed", -used)
        draft.post("expired", used - back)
        draft.post("disputed", back)
    draft.result |= _payout_target(lot)
    desk.repay_owed(draft)
    return draft


def _shrink_holds(desk: LockedAccount, draft: EntryDraft, taken: int) -> None:
    """Shrink holds that ``taken`` would leave without cover, the newest first."""
    lack = taken - desk.available
    if lack <= 0:
        return
    shrunk = []
    for hold in sorted(desk.open_holds(), key=lambda hold: (hold.at, hold.id), reverse=True):
        part = min(lack, hold.credits)
        if part:
            hold.credits -= part
            lack -= part
            shrunk.append([hold.id, units_to_text(part)])
            desk.mark_changed(hold)
            if hold.token is not None:
                token = desk.token(hold.token)
                token.held -= part
                desk.mark_changed(token)
    uncovered = taken - desk.available - lack
    draft.post("held", -uncovered)
    draft.post("available", uncovered)
    draft.result["shrunk"] = shrunk


def reverse(desk: LockedAccount, undoes: str, content: Mapping[str, Any]) -> EntryDraft:
    """Undo a refund that failed, or a dispute that was won: its Credits come back to the lot, its money to the books.

    Raises ``not_reversible``.
    """
    store, account = desk.store, desk.account.id
    row = store.fetch_entry(store.sql.entry, require_id(undoes, "the operation to undo"))
    undone = None if row is None else Entry.from_row(row)
    if undone is None or undone.account != account or undone.kind not in ("refund", "dispute"):
        raise BillingError(
            "not_reversible", f"account {safe_repr(account)} has no refund or dispute {safe_repr(undoes)}"
        )
    for other in map(Entry.from_row, (JournalRow(*row) for row in store.fetch_rows(store.sql.reversals, account))):
        if other.content["undoes"] == undoes:
            raise BillingError(
                "not_reversible", f"operation {safe_repr(other.id)} has undone {safe_repr(undoes)} already"
            )
    draft = EntryDraft("reverse", desk.booked_at, content)
    lot = desk.lot(undone.lot_deltas[0].lot)
    taken = [move for move in undone.lot_deltas if move.lot == lot.id and move.kind in PAYBACK_KINDS]
    credits, money = sum(move.credits for move in taken), sum(move.money for move in taken)
    desk.change_lot(draft, lot, "restored", credits, money)
    # Coins that were rounded one way while the Credits were away may round the other way now.
    odd = lot.paid - lot.refunded - lot_value(lot, lot.remaining) - lot.recognised
    if odd:
        desk.change_lot(draft, lot, "used", 0, odd)
    draft.post("refunded" if undone.kind == "refund" else "disputed", -credits)
    if lot.expires is not None and lot.expires <= desk.booked_at:
        _restore_to_expired_lot(desk, draft, lot, credits)
    else:
        draft.post("available", credits)
        desk.note_expiry(lot.expires)
    desk.repay_owed(draft)
    return draft


def _restore_to_expired_lot(desk: LockedAccount, draft: EntryDraft, lot: LotRow, credits: int) -> None:
    """Credits that come back to a lot that has expired meanwhile: they pay what is owed, the rest is expired."""
    used = min(credits, desk.account.owed)
    for how, part, book in (("used", used, "owed"), ("expired", credits - used, "expired")):
        if part:
            desk.change_lot(draft, lot, how, part, lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - part))
            draft.post(book, part)


def debit_adjustment(desk: LockedAccount, credits: int, content: Mapping[str, Any]) -> EntryDraft:
    """A correction by hand that takes Credits. Raises :class:`ShortfallError` where that is more than is available."""
    draft = EntryDraft("adjust", desk.booked_at, content)
    if credits > desk.available:
        raise ShortfallError("insufficient_credits", f"account {safe_repr(desk.account.id)}", credits, desk.available)
    taken = desk.consume_lots(draft, credits, desk.booked_at)
    draft.post("available", -taken)
    draft.post("adjusted", taken)
    return draft
