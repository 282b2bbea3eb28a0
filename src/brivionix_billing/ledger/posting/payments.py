"""Entries of top-ups, grants, refunds, disputes, reversals and manual corrections."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.decimals import Rounding, format_plain, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import JournalRow
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.errors import ShortfallError
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.projections import PAYBACK_KINDS, LotRow, PaymentRow, lot_value
from brivionix_billing.ledger.restrictions import (
    DEFAULT_PRIORITY,
    EVERY_LOT,
    Restriction,
    priority_content,
    restriction_content,
)
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
    "claw_back",
    "debit_adjustment",
    "dispute",
    "duplicate_payment_error",
    "lot_content",
    "open_lot",
    "payment_parts",
    "refund",
    "restore_to_expired_lot",
    "return_tax",
    "reverse",
    "shrink_holds",
    "top_up_content",
    "unreturned_gross",
]


def top_up_content(quote: Quote, reference: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a top-up; ``terms``: see :func:`lot_content`.

    Raises ``invalid_argument``, ``invalid_money``.
    """
    if not isinstance(quote, Quote):
        raise BillingError("invalid_argument", f"{safe_repr(quote)} is not a quote; use PriceBook.quote")
    return {
        "credits": units_to_text(to_units(quote.credits, "the Credits of the quote")),
        "paid": str(quote.pay.amount),
        "currency": quote.pay.currency,
        "channel": quote.channel,
        "reference": reference,
        "price_per_credit": format_plain(quote.price_per_credit),
        **terms,
    }


def lot_content(
    expires: datetime | None, only: Restriction | None = None, priority: int = DEFAULT_PRIORITY
) -> dict[str, Any]:
    """Return the content that all new lots share: expiry, restriction and priority, as far as there are any."""
    valid = {} if expires is None else {"expires": format_timestamp(expires)}
    return {**valid, **restriction_content(only), **priority_content(priority)}


def open_lot(
    account: LockedAccount, id: str, kind: str, credits: int, content: Mapping[str, Any], paid: Payable | None
) -> EntryDraft:
    """Open a lot that is purchased (``top_up``), granted (``grant``) or a correction (``adjust``).

    The new Credits settle the debt first. Raises ``payment_already_credited`` if another operation has credited the
    payment, and ``invalid_argument`` if the lot has no Credits or has already expired.
    """
    draft = EntryDraft(kind, account.booked_at, content)
    expires = content.get("expires")
    if credits <= 0:
        raise BillingError("invalid_argument", "the Credits of a lot must be above zero")
    if expires is not None and expires <= account.booked_at:
        raise BillingError("invalid_argument", f"expires is {expires}; it must be later than the time of the operation")
    if account.row.balance + credits >= MAX_UNITS:
        raise BillingError("invalid_money", "the balance would be 10^30 Credits or more; it must stay below")
    channel = reference = currency = None
    money = 0
    if paid is not None:
        channel, reference, currency = content["channel"], content["reference"], paid.currency
        money = paid.minor * minor_unit(currency)
        credited = account.store.fetch_one(LotRow, account.store.sql.payment, channel, reference)
        if credited is not None:
            raise duplicate_payment_error(credited)
    lot = LotRow(
        id,
        account.id,
        account.row.number + 1,
        account.booked_at,
        expires,
        channel,
        reference,
        currency,
        content.get("price_per_credit"),
        credits,
        credits,
        *(0, 0, 0),
        money,
        *(0, 0),
        None if "only" not in content else canonical_json(content["only"]).decode(),
        content.get("priority"),
    )
    account.add_row(lot)
    account.note_expiry(expires)
    draft.post("available", credits)
    draft.post({"top_up": "paid", "grant": "granted"}.get(kind, "adjusted"), -credits)
    account.change_lot(draft, lot, "opened", credits, money)
    if expires is not None:
        draft.result["expires"] = expires
    account.repay_owed(draft)
    return draft


def duplicate_payment_error(lot: LotRow) -> BillingError:
    """Build the error of a payment that another operation has credited."""
    return BillingError(
        "payment_already_credited",
        f"payment {safe_repr(lot.reference)} on channel {safe_repr(lot.channel)} was credited to account "
        f"{safe_repr(lot.account)} by operation {safe_repr(lot.id)}; a payment is credited only once",
    )


def _promotional_lot_error(lot: LotRow) -> BillingError:
    return BillingError(
        "not_refundable", f"lot {safe_repr(lot.id)} is promotional: nothing was paid for it; use a purchased lot"
    )


def refund(
    account: LockedAccount, lot: LotRow, content: Mapping[str, Any], credits: int | None, pay: Payable | str | None
) -> EntryDraft:
    """Refund unused Credits at their purchase price: an amount of Credits, of money, or all that are refundable.

    Raises ``not_refundable``.
    """
    draft = EntryDraft("refund", account.booked_at, content)
    if lot.currency is None:
        raise _promotional_lot_error(lot)
    if lot.expires is not None and lot.expires <= account.booked_at:
        raise BillingError("not_refundable", f"lot {safe_repr(lot.id)} has expired; expired Credits are not refunded")
    refundable = account.free_in(lot)
    # Rounding in a reversal can leave `recognised` negative: too much money was paid back. It is withheld here.
    deficit = min(0, lot.recognised)
    tax = None
    if pay is not None:
        money, tax = _split_gross(account, lot, _payment_units(lot, pay))
        credits = _refundable_credits(lot, money)
    elif credits is None:
        credits = refundable
    if credits > refundable or not credits:
        held = (
            f" ({format_plain(units_to_credits(lot.remaining))} remain in it, the others are held)"
            if refundable < lot.remaining
            else ""
        )
        raise BillingError(
            "not_refundable",
            f"{format_plain(units_to_credits(credits))} Credits of lot {safe_repr(lot.id)} cannot be refunded: "
            f"{format_plain(units_to_credits(refundable))} of it are unused and not held{held}",
        )
    money = lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - credits) + deficit
    if money <= 0:
        raise BillingError(
            "not_refundable",
            f"{format_plain(units_to_credits(credits))} Credits of lot {safe_repr(lot.id)} cost less than a minor "
            f"unit of {lot.currency}, so there is no money to pay back; refund more Credits",
        )
    account.change_lot(draft, lot, "refunded", credits, money)
    if deficit:
        account.change_lot(draft, lot, "used", 0, -deficit)
    draft.post("available", -credits)
    draft.post("refunded", credits)
    draft.result |= _payout_target(account, lot)
    return_tax(account, draft, lot, tax)
    return draft


def payment_parts(account: LockedAccount, lot: LotRow) -> PaymentRow | None:
    """Return the parts of the payment of a lot, or ``None`` if it has neither tax nor fee."""
    return account.store.fetch_one(PaymentRow, account.store.sql.payment_parts, lot.id)


def unreturned_gross(lot: LotRow, parts: PaymentRow | None) -> int:
    """Return what is left of a payment in a lot, with its tax."""
    return lot.paid - lot.gone + (0 if parts is None else parts.tax - parts.tax_gone)


def return_tax(account: LockedAccount, draft: EntryDraft, lot: LotRow, tax: int | None = None) -> None:
    """Post the tax that is paid back with a lot's money: ``tax``, or the part that belongs to the money.

    It is rounded so that the tax of all refunds of a payment adds up to its tax.
    """
    row = payment_parts(account, lot)
    if row is None or not row.tax:
        return
    if tax is None:
        minor = minor_unit(row.currency)
        due = round_quotient(row.tax // minor * lot.gone, lot.paid, Rounding.HALF_UP) * minor if lot.paid else 0
        tax = max(0, due - row.tax_gone)
    if tax:
        row.tax_refunded += tax
        account.mark_changed(row)
        draft.result["tax"] = str(units_to_payable(tax, row.currency).amount)


def _split_gross(account: LockedAccount, lot: LotRow, gross: int) -> tuple[int, int | None]:
    """Split an amount to pay back into the part of the lot's money, and its tax; ``None`` if the payment has no tax.

    Raises ``not_refundable`` if it is more than what is left of the payment: the excess would be paid back as tax.
    """
    row = payment_parts(account, lot)
    if row is None or not row.tax:
        return gross, None
    minor = minor_unit(row.currency)
    unreturned, untaxed = lot.paid - lot.gone, row.tax - row.tax_gone
    if gross > unreturned + untaxed:
        raise BillingError(
            "not_refundable",
            f"{units_to_payable(gross, row.currency)} of lot {safe_repr(lot.id)} cannot be paid back: "
            f"{units_to_payable(unreturned + untaxed, row.currency)} of its payment have not been paid back",
        )
    total = lot.gone + row.tax_gone + gross
    money = round_quotient(lot.paid // minor * total, row.gross, Rounding.HALF_UP) * minor - lot.gone
    money = min(max(money, gross - untaxed), unreturned, gross)
    return money, gross - money


def _payout_target(account: LockedAccount, lot: LotRow) -> dict[str, Any]:
    paid = lot if lot.origin is None else account.store.fetch_one(LotRow, account.store.sql.lot, lot.origin)
    return {"channel": lot.channel, "reference": None if paid is None else paid.reference}


def _payment_units(lot: LotRow, pay: Payable | str) -> int:
    """Convert money in the currency of a lot to units. Raises ``currency_mismatch``."""
    if isinstance(pay, str):
        pay = Payable(pay, str(lot.currency))
    if not isinstance(pay, Payable) or pay.currency != lot.currency or pay.minor <= 0:
        raise BillingError(
            "currency_mismatch",
            f"pay is {safe_repr(pay)}; lot {safe_repr(lot.id)} was paid in {lot.currency}: use an amount above zero "
            "in this currency",
        )
    return pay.minor * minor_unit(pay.currency)


def _credits_for_money(lot: LotRow, money: int) -> int:
    """Return the Credits that an amount of a lot's money purchased, at most the remaining ones.

    Removing them reduces the value of the lot by exactly ``money``, because ``money`` is a whole number of minor units.
    """
    credits = min(lot.remaining, money * lot.credits // lot.paid)
    if lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - credits) != money:
        credits += 1  # the division rounded down
    return credits


def _refundable_credits(lot: LotRow, money: int) -> int:
    """Return the Credits to refund for exactly ``money``, without tax. Raises ``not_refundable``."""
    deficit = min(0, lot.recognised)
    refundable = lot_value(lot, lot.remaining) + deficit
    if money > refundable:
        raise BillingError(
            "not_refundable",
            f"{units_to_payable(money, str(lot.currency))} cannot be refunded from lot {safe_repr(lot.id)}: "
            f"its unused Credits cost {units_to_payable(refundable, str(lot.currency))}",
        )
    return _credits_for_money(lot, money - deficit)


def dispute(account: LockedAccount, lot: LotRow, content: Mapping[str, Any], pay: Payable | str | None) -> EntryDraft:
    """Claw back a payment, whole or in part: unused Credits are removed, and used Credits become debt.

    If unused Credits are held, the holds of the newest requests shrink. Raises ``not_refundable`` if ``pay`` is more
    than the rest of the payment.
    """
    draft = EntryDraft("dispute", account.booked_at, content)
    if lot.currency is None:
        raise _promotional_lot_error(lot)
    unreturned = lot.paid - lot.gone
    whole = unreturned_gross(lot, payment_parts(account, lot))
    gross = whole if pay is None else _payment_units(lot, pay)
    if gross > whole or not gross:
        raise BillingError(
            "not_refundable",
            f"{units_to_payable(gross, lot.currency)} of lot {safe_repr(lot.id)} cannot be disputed: "
            f"{units_to_payable(whole, lot.currency)} of its payment have not been paid back",
        )
    money, tax = _split_gross(account, lot, gross)
    value = lot_value(lot, lot.remaining)
    if money < value:
        credits, unused_money, spent_money = _credits_for_money(lot, money), money, 0
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
    draft.result |= _payout_target(account, lot)
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


def debit_adjustment(
    account: LockedAccount, credits: int, content: Mapping[str, Any], lot: LotRow | None = None
) -> EntryDraft:
    """Remove Credits by a manual correction, from one lot or in the order of consumption.

    Raises :class:`ShortfallError` if fewer are available.
    """
    draft = EntryDraft("adjust", account.booked_at, content)
    available = account.usable(EVERY_LOT)
    if credits > available:
        raise ShortfallError("insufficient_credits", f"account {safe_repr(account.id)}", credits, available)
    if lot is None:
        consumed = account.consume_lots(draft, credits, account.booked_at, EVERY_LOT)
    else:
        consumed = credits
        # An expired lot remains only for holds that were made before it expired.
        left = account.free_in(lot) if lot.expires is None or lot.expires > account.booked_at else 0
        if credits > left:
            raise ShortfallError("insufficient_credits", f"lot {safe_repr(lot.id)}", credits, left)
        account.change_lot(
            draft, lot, "used", credits, lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - credits)
        )
    draft.post("available", -consumed)
    draft.post("adjusted", consumed)
    return draft
