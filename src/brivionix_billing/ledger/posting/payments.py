"""Entries of top-ups, grants and manual corrections: Credits that an account gets, or loses by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.errors import ShortfallError
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.opened_lots import opened_lot
from brivionix_billing.ledger.projections import LotRow, lot_value
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
    units_to_text,
)
from brivionix_billing.money import Payable
from brivionix_billing.topup import Quote

__all__ = [
    "debit_adjustment",
    "duplicate_payment_error",
    "lot_content",
    "open_lot",
    "top_up_content",
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
    """Open a lot that is purchased (``top_up``), granted (``grant``, ``plan_renewed``) or a correction (``adjust``).

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
    money = 0
    if paid is not None:
        channel, reference = content["channel"], content["reference"]
        money = paid.minor * minor_unit(paid.currency)
        credited = account.store.fetch_one(LotRow, account.store.sql.payment, channel, reference)
        if credited is not None:
            raise duplicate_payment_error(credited)
    lot = opened_lot(id, account.id, account.row.number + 1, account.booked_at, content, credits, money)
    account.add_row(lot)
    account.note_expiry(expires)
    draft.post("available", credits)
    draft.post({"top_up": "paid", "grant": "granted", "plan_renewed": "granted"}.get(kind, "adjusted"), -credits)
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
