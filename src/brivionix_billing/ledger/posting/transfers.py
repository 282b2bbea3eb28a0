"""Entries of a transfer: Credits leave the lots of one account, and open lots of their own in another.

Each new lot has the purchase price, expiry, restriction and priority of the Credits that moved, and names the lot of
the payment, to which its money can be refunded. Cash and revenue do not change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.errors import ShortfallError
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.lot_order import sort_for_consumption
from brivionix_billing.ledger.posting.accounts import require_not_frozen
from brivionix_billing.ledger.posting.refunds import payment_parts
from brivionix_billing.ledger.projections import LotRow, PaymentRow, lot_value
from brivionix_billing.ledger.restrictions import EVERY_LOT, Restriction
from brivionix_billing.ledger.units import MAX_UNITS, minor_unit, units_from_column, units_to_text

__all__ = ["incoming_id", "move_tax", "moved_lot", "moved_payment", "take_in", "take_out"]

_KEPT: Final = ("expires", "channel", "currency", "price", "priority")
"""Columns of a lot that its moved Credits keep."""


def incoming_id(id: str) -> str:
    """Return the id of the entry in the receiving account."""
    return f"~{id}:in"


def take_out(
    account: LockedAccount, id: str, credits: int, content: Mapping[str, Any], lot: LotRow | None
) -> EntryDraft:
    """Take available Credits from one lot, or from all in the order of consumption.

    Raises :class:`ShortfallError` if fewer are free, and ``account_frozen``.
    """
    require_not_frozen(account)
    draft = EntryDraft("transfer_out", account.booked_at, content)
    lots: Sequence[LotRow] = sort_for_consumption(account.lots, account.order, account.booked_at)
    owner, free = f"account {safe_repr(account.id)}", account.usable(EVERY_LOT)
    if lot is not None:
        lots, owner, free = [lot], f"lot {safe_repr(lot.id)}", account.free_in(lot)
        free = free if lot.expires is None or lot.expires > account.booked_at else 0
    if not credits or credits > free:
        raise ShortfallError("insufficient_credits", owner, credits or 1, free)
    moved: list[dict[str, Any]] = []
    left = credits
    for source in lots:
        if source.expires is not None and source.expires <= account.booked_at:
            continue
        part = min(left, account.free_in(source) if account.row.restricted else source.remaining)
        if part:
            # Lots of one entry are used in the order of their ids, so the digits keep the order of the source.
            moved.append({"lot": f"~{id}:{len(moved) + 1:04}", **_move(account, draft, source, part)})
            left -= part
    draft.post("available", -credits)
    draft.post("moved", credits)
    draft.result["lots"] = moved
    return draft


def _move(account: LockedAccount, draft: EntryDraft, lot: LotRow, part: int) -> dict[str, Any]:
    """Take a part of a lot. Returns the terms of the lot that it opens, in the format of the journal."""
    money = lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - part)
    account.change_lot(draft, lot, "moved_out", part, money)
    terms = {name: getattr(lot, name) for name in _KEPT}
    terms |= {"from": lot.id, "origin": lot.origin or lot.id, "credits": units_to_text(part)}
    if lot.restriction is not None:
        terms["only"] = Restriction.from_column(lot.restriction).as_dict()
    if lot.currency is not None:
        terms["paid"] = units_to_text(money)
        tax = move_tax(account, lot)
        if tax:
            terms["tax"] = units_to_text(tax)
    return {name: value for name, value in terms.items() if value is not None}


def move_tax(account: LockedAccount, lot: LotRow) -> int:
    """Take the tax of the money that has left a lot. It is rounded so that all parts add up to the tax."""
    row = payment_parts(account, lot)
    if row is None or not row.tax or not lot.paid:
        return 0
    minor = minor_unit(row.currency)
    due = round_quotient(row.tax // minor * lot.gone, lot.paid, Rounding.HALF_UP) * minor
    tax = max(0, due - row.tax_gone)
    row.tax_moved = (row.tax_moved or 0) + tax or None
    account.mark_changed(row)
    return tax


def moved_lot(terms: Mapping[str, Any], account: str, number: int, at: str) -> LotRow:
    """Return the row of a lot that a transfer opens."""
    credits = units_from_column(terms["credits"])
    return LotRow(
        terms["lot"],
        account,
        number,
        at,
        terms.get("expires"),
        terms.get("channel"),
        None,  # that of the payment is at the lot of its origin: a payment is credited only once
        terms.get("currency"),
        terms.get("price"),
        credits,
        credits,
        *(0, 0, 0),
        units_from_column(terms.get("paid", "0")),
        *(0, 0),
        None if "only" not in terms else canonical_json(terms["only"]).decode(),
        terms.get("priority"),
        origin=terms["origin"],
        plan=terms.get("plan"),
    )


def moved_payment(lot: LotRow, terms: Mapping[str, Any]) -> PaymentRow | None:
    """Return the row of the payment's tax that moves with a lot, or ``None`` if there is none."""
    if "tax" not in terms:
        return None
    tax = units_from_column(terms["tax"])
    return PaymentRow(lot.id, lot.account, str(lot.currency), lot.paid + tax, tax, 0, 0, 0, None)


def take_in(account: LockedAccount, outgoing: Entry, content: Mapping[str, Any]) -> EntryDraft:
    """Open the lots of a transfer. They settle the debt first."""
    draft = EntryDraft("transfer_in", account.booked_at, content)
    credits = units_from_column(content["credits"])
    if account.row.balance + credits >= MAX_UNITS:
        raise BillingError("invalid_money", "the balance would be 10^30 Credits or more; it must stay below")
    draft.result |= {"lots": outgoing.result["lots"], "transfer": outgoing.id, "hash": outgoing.hash}
    for terms in outgoing.result["lots"]:
        lot = moved_lot(terms, account.id, account.row.number + 1, account.booked_at)
        account.add_row(lot)
        account.note_expiry(lot.expires)
        account.change_lot(draft, lot, "moved_in", lot.credits, lot.paid)
        payment = moved_payment(lot, terms)
        if payment is not None:
            account.add_row(payment)
    draft.post("available", credits)
    draft.post("moved", -credits)
    account.repay_owed(draft)
    return draft
