"""Entries of refunds: unused Credits are paid back, with their tax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brivionix_billing.decimals import Rounding, format_plain, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.projections import LotRow, PaymentRow, lot_value
from brivionix_billing.ledger.units import (
    minor_unit,
    units_to_credits,
    units_to_payable,
)
from brivionix_billing.money import Payable

__all__ = [
    "credits_for_money",
    "payment_parts",
    "payment_units",
    "payout_target",
    "promotional_lot_error",
    "refund",
    "return_tax",
    "split_gross",
    "unreturned_gross",
]


def promotional_lot_error(lot: LotRow) -> BillingError:
    """Build the error of a lot for which nothing was paid."""
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
        raise promotional_lot_error(lot)
    if lot.expires is not None and lot.expires <= account.booked_at:
        raise BillingError("not_refundable", f"lot {safe_repr(lot.id)} has expired; expired Credits are not refunded")
    refundable = account.free_in(lot)
    # Rounding in a reversal can leave `recognised` negative: too much money was paid back. It is withheld here.
    deficit = min(0, lot.recognised)
    tax = None
    if pay is not None:
        money, tax = split_gross(account, lot, payment_units(lot, pay))
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
    draft.result |= payout_target(account, lot)
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


def split_gross(account: LockedAccount, lot: LotRow, gross: int) -> tuple[int, int | None]:
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


def payout_target(account: LockedAccount, lot: LotRow) -> dict[str, Any]:
    """Return the channel and the reference of the payment to which money is paid back."""
    paid = lot if lot.origin is None else account.store.fetch_one(LotRow, account.store.sql.lot, lot.origin)
    return {"channel": lot.channel, "reference": None if paid is None else paid.reference}


def payment_units(lot: LotRow, pay: Payable | str) -> int:
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


def credits_for_money(lot: LotRow, money: int) -> int:
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
    return credits_for_money(lot, money - deficit)
