"""A change of the plan within a period: the unused part of the old allowance pays for a part of the new one.

Both plans count for the rest of the period. The new plan's share of price and Credits is exact but for one rounding
each, and money moves from lot to lot in whole minor units, so none is lost. The lots of the new plan name the payment
that their money comes from: a refund or chargeback of it reaches them.
"""

from __future__ import annotations

from typing import Any

from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.plans import (
    SubscriptionRow,
    allowance_content,
    plan_share,
    read_terms,
    replace_terms,
    share_credits,
    unused_credits,
)
from brivionix_billing.ledger.posting.allowances import bind_lots
from brivionix_billing.ledger.posting.refunds import credits_for_money
from brivionix_billing.ledger.posting.transfers import move_tax, moved_lot, moved_payment
from brivionix_billing.ledger.projections import LotRow, lot_value
from brivionix_billing.ledger.units import units_to_text

__all__ = ["move_allowance"]


def move_allowance(
    account: LockedAccount, id: str, draft: EntryDraft, row: SubscriptionRow, text: str
) -> tuple[int, int] | None:
    """Change the plan at once. Returns price and Credits of the order for the rest, or ``None`` if nothing is due."""
    now, starts, ends = account.booked_at, str(row.starts), str(row.ends)
    terms = read_terms(text)
    share = plan_share(terms, starts, ends, now)
    common = {
        "channel": terms.channel,
        "currency": terms.currency,
        "price": terms.price_per_credit,
        **allowance_content(row, terms, ends),
    }
    moved: list[dict[str, Any]] = []
    paid = freed = opened = 0
    for lot in [account.lot(lot) for lot in row.lots] if row.terms.price else []:
        part, money = _unused_part(account, lot, row, share.price - paid, freed)
        credits = share_credits(share, paid + money) - opened
        if not money or not credits:
            continue
        account.change_lot(draft, lot, "moved_out", part, money)
        tax = move_tax(account, lot)
        entry = {
            **common,
            "lot": f"~{id}:{len(moved) + 1:04}",
            "from": lot.id,
            "origin": lot.origin or lot.id,
            "credits": units_to_text(credits),
            "paid": units_to_text(money),
            **({"tax": units_to_text(tax)} if tax else {}),
        }
        moved.append(entry)
        paid, freed, opened = paid + money, freed + part, opened + credits
    lots, old = [terms["lot"] for terms in moved], row.lots
    for entry in moved:
        new = moved_lot(entry, account.id, account.row.number + 1, now)
        account.add_row(new)
        account.note_expiry(new.expires)
        account.change_lot(draft, new, "moved_in", new.credits, new.paid)
        payment = moved_payment(new, entry)
        if payment is not None:
            account.add_row(payment)
    replace_terms(row, text, now, lots)
    bind_lots(account, row, old)
    draft.post("available", opened - freed)
    draft.post("moved", freed - opened)
    draft.result |= {"period": [starts, ends], "lots": moved}
    pay, credits = share.price - paid, share.credits - opened
    return (pay, credits) if pay and credits else None


def _unused_part(account: LockedAccount, lot: LotRow, row: SubscriptionRow, most: int, taken: int) -> tuple[int, int]:
    """Return the Credits of a lot that belong to the rest of the period and are free, and their price, up to ``most``.

    ``taken``: Credits that were taken from other lots already.
    """
    now = account.booked_at
    free = account.free_in(lot) if account.row.restricted else min(lot.remaining, account.available - taken)
    if lot.expires is not None and lot.expires <= now:
        free = 0  # an expired lot remains only for holds
    part = max(0, min(free, unused_credits(lot, row, now)))
    money = lot_value(lot, lot.remaining) - lot_value(lot, lot.remaining - part)
    return (part, money) if money <= most else (credits_for_money(lot, most), most)
