"""Subcommands of ``ledger`` about payments, grants and corrections, and the release of a hold."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from brivionix_billing.cli.arguments import plain_amount
from brivionix_billing.cli.ledger.common import (
    add_id,
    add_lot_terms,
    lot_terms,
    open_ledger_for_update,
    print_entry,
    subcommand,
)
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import Payable

if TYPE_CHECKING:
    from brivionix_billing.ledger import Ledger

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    parser = subcommand(
        commands,
        "topup",
        _topup,
        "credit a payment",
        "Credits a received payment, at the price of its channel at --at. A payment is credited only once, even under "
        "another operation id. The Credits settle the account's debt first.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--channel", required=True, metavar="C", help="payment channel")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--pay", metavar="A", help="amount paid, in the currency of the channel")
    amount.add_argument("--credits", metavar="N", help="Credits purchased")
    parser.add_argument("--reference", required=True, metavar="R", help="id of the payment at its channel")
    add_lot_terms(parser)
    add_id(parser, "lot")

    parser = subcommand(
        commands, "grant", _grant, "grant promotional Credits, which are never refunded", at=True, prices=True
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("credits", metavar="CREDITS")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="reason, shown on statements and bills")
    add_lot_terms(parser)
    add_id(parser, "lot")

    parser = subcommand(
        commands,
        "adjust",
        _adjust,
        "correct a balance manually, up or down",
        "Corrects a balance manually. Upwards, it opens a promotional lot; downwards, it takes available Credits.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("credits", metavar="CREDITS", help="amount, such as 5 or -0.25, without an exponent")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="reason, shown on statements and bills")
    parser.add_argument("--author", required=True, metavar="NAME", help="person responsible for the correction")
    parser.add_argument(
        "--lot", metavar="LOT", help="lot that Credits are taken from (default: lots in the order of consumption)"
    )
    add_id(parser)

    parser = subcommand(
        commands,
        "refund",
        _refund,
        "refund unused Credits of a lot at their purchase price",
        "Removes unused Credits that are not held from a lot, and shows the money to pay back. If the channel then "
        "fails to pay, use 'reverse'.",
        at=True,
        prices=True,
    )
    _add_lot(parser)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--credits", metavar="N", help="Credits to refund (default: all that are unused and not held)")
    amount.add_argument("--pay", metavar="A", help="money to pay back, in the currency of the lot")
    add_id(parser)

    parser = subcommand(
        commands,
        "dispute",
        _dispute,
        "post a chargeback of a payment",
        "Posts a chargeback. Unused Credits of the lot are removed, and used Credits become debt. If you win the "
        "dispute, use 'reverse'.",
        at=True,
        prices=True,
    )
    _add_lot(parser)
    parser.add_argument(
        "--pay", metavar="A", help="money clawed back, in the currency of the lot (default: the rest of the payment)"
    )
    add_id(parser)

    parser = subcommand(
        commands, "reverse", _reverse, "reverse a refund that failed, or a dispute that was won", at=True, prices=True
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("operation", metavar="OPERATION", help="id of the refund or dispute")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="reason, shown on statements and bills")
    add_id(parser)

    parser = subcommand(
        commands,
        "release",
        _release,
        "release a hold",
        "Releases a hold, because its request failed and costs nothing. A hold that is not resolved is released by "
        "itself when it expires.",
        at=True,
        prices=True,
    )
    parser.add_argument("hold", metavar="HOLD", help="id of the hold, which is that of the request")
    add_id(parser)


def _add_lot(parser: ArgumentParser) -> None:
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("lot", metavar="LOT", help="id of the lot, which is that of the top-up")


def _topup(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        entry = ledger.top_up(
            args.account,
            book.quote(
                args.channel,
                at=at,
                credits=plain_amount(args.credits),
                pay=plain_amount(args.pay),
                received=args.pay is not None,
            ),
            reference=args.reference,
            id=args.id,
            at=at,
            **lot_terms(args, book),
        )
        content = entry.content
        paid = f"{content['paid']} {content['currency']} by {content['channel']}"
        message = f"{format_plain(entry.credits)} Credits for {paid}, lot {entry.id}"
        return print_entry(args, ledger, entry, at, message)


def _grant(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        terms = lot_terms(args, book)
        entry = ledger.grant(args.account, args.credits, reason=args.reason, id=args.id, at=at, **terms)
        return print_entry(
            args, ledger, entry, at, f"{format_plain(entry.credits)} promotional Credits, lot {entry.id}"
        )


def _adjust(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.adjust(
            args.account, args.credits, reason=args.reason, author=args.author, id=args.id, at=at, lot=args.lot
        )
        lots = ", ".join(change.lot for change in entry.lot_changes if change.kind == "used")
        message = f"corrected by {entry.content['credits']} Credits{f', of lot {lots}' if lots else ''}"
        return print_entry(args, ledger, entry, at, message)


def _refund(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        pay = None if args.pay is None else _parse_lot_money(ledger, args.account, args.lot, args.pay)
        entry = ledger.refund(args.account, args.lot, id=args.id, at=at, credits=args.credits, pay=pay)
        target = entry.result
        message = (
            f"{format_plain(entry.credits)} Credits of lot {args.lot} are refunded; "
            f"pay {entry.refund_amount} back by {target['channel']}, payment {target['reference']}"
        )
        return print_entry(args, ledger, entry, at, message)


def _dispute(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        pay = None if args.pay is None else _parse_lot_money(ledger, args.account, args.lot, args.pay)
        entry = ledger.dispute(args.account, args.lot, id=args.id, at=at, pay=pay)
        message = f"{format_plain(entry.credits)} Credits of lot {args.lot}: {entry.refund_amount} was clawed back"
        return print_entry(args, ledger, entry, at, message)


def _reverse(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.reverse(args.account, args.operation, id=args.id, at=at, reason=args.reason)
        return print_entry(
            args, ledger, entry, at, f"{args.operation} is reversed: {format_plain(entry.credits)} Credits"
        )


def _release(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.release(args.hold, id=args.id, at=at)
        return print_entry(
            args, ledger, entry, at, f"{format_plain(entry.credits)} Credits of hold {args.hold} are released"
        )


def _parse_lot_money(ledger: Ledger, account: str, lot: str, amount: str) -> Payable:
    """Parse an amount in the currency of a lot. Raises ``unknown_lot``, ``not_refundable``."""
    paid_by_lot = {row.id: row.paid for row in ledger.lots(account)}
    if lot not in paid_by_lot:
        raise BillingError("unknown_lot", f"account {safe_repr(account)} has no lot {safe_repr(lot)}")
    paid = paid_by_lot[lot]
    if paid is None:
        raise BillingError(
            "not_refundable", f"lot {safe_repr(lot)} is promotional: nothing was paid for it; use a purchased lot"
        )
    return Payable(amount, paid.currency)
