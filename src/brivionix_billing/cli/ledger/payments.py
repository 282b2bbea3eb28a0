"""Subcommands of ``ledger`` that bring Credits in and take them back."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger_for_update,
    parse_optional_time,
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
    """Add these subcommands to the parser."""
    parser = subcommand(
        commands,
        "topup",
        _topup,
        "credit a payment",
        "Credits a payment that was received, at the channel's price of --at. A payment is credited once, whatever the "
        "operation's id. What the account owes is paid from it.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--channel", required=True, metavar="C", help="the channel by which it was paid")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--pay", metavar="A", help="money that was paid, in the channel's currency")
    amount.add_argument("--credits", metavar="N", help="Credits that were bought")
    parser.add_argument("--reference", required=True, metavar="R", help="the payment's id at its channel")
    _add_expires(parser)
    add_id(parser, "lot")

    parser = subcommand(
        commands, "grant", _grant, "give promotional Credits, which are never refunded", at=True, prices=True
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("credits", metavar="CREDITS")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands on statements and bills")
    _add_expires(parser)
    add_id(parser, "lot")

    parser = subcommand(
        commands,
        "adjust",
        _adjust,
        "correct a balance by hand, up or down",
        "Corrects a balance by hand. Up: a lot that nobody paid for. Down: at most what is available.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("credits", metavar="CREDITS", help="such as 5 or -0.25, without an exponent")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands on statements and bills")
    parser.add_argument("--author", required=True, metavar="NAME", help="who answers for it")
    add_id(parser)

    parser = subcommand(
        commands,
        "refund",
        _refund,
        "give unused Credits of a lot back, at the price they were bought for",
        "Takes Credits that are unused and not held out of a lot, and says what money is to be paid back: so many "
        "Credits, so much money, or all. If the channel then fails to pay, 'reverse' brings them back.",
        at=True,
        prices=True,
    )
    _add_lot(parser)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--credits", metavar="N", help="so many Credits (all that are unused and free)")
    amount.add_argument("--pay", metavar="A", help="so much money, in the currency of the lot")
    add_id(parser)

    parser = subcommand(
        commands,
        "dispute",
        _dispute,
        "book a payment that its payer took back",
        "Books a chargeback. Credits of the lot that are left go; those that were used are owed. If it is won, "
        "'reverse' it.",
        at=True,
        prices=True,
    )
    _add_lot(parser)
    parser.add_argument("--pay", metavar="A", help="so much money, in the currency of the lot (all that is left)")
    add_id(parser)

    parser = subcommand(
        commands, "reverse", _reverse, "undo a refund that failed, or a dispute that was won", at=True, prices=True
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("operation", metavar="OPERATION", help="the id of the refund or dispute")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands on statements and bills")
    add_id(parser)

    parser = subcommand(
        commands,
        "release",
        _release,
        "return all that a hold set aside",
        "Returns all that a hold set aside: its request failed, and costs nothing. Holds that nobody resolves return "
        "by themselves when they expire.",
        at=True,
        prices=True,
    )
    parser.add_argument("hold", metavar="HOLD")
    add_id(parser)


def _add_expires(parser: ArgumentParser) -> None:
    parser.add_argument("--expires", metavar="T", help="when the Credits expire (never)")


def _add_lot(parser: ArgumentParser) -> None:
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("lot", metavar="LOT", help="the id of the top-up")


def _topup(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        entry = ledger.top_up(
            args.account,
            book.quote(args.channel, at=at, credits=args.credits, pay=args.pay),
            reference=args.reference,
            id=args.id,
            at=at,
            expires=parse_optional_time(args.expires),
        )
        said = entry.content
        paid = f"{said['paid']} {said['currency']} by {said['channel']}"
        what = f"{format_plain(entry.credits)} Credits for {paid}, lot {entry.id}"
        return print_entry(args, ledger, entry, at, what)


def _grant(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        expires = parse_optional_time(args.expires)
        entry = ledger.grant(args.account, args.credits, reason=args.reason, id=args.id, at=at, expires=expires)
        return print_entry(
            args, ledger, entry, at, f"{format_plain(entry.credits)} promotional Credits, lot {entry.id}"
        )


def _adjust(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.adjust(args.account, args.credits, reason=args.reason, author=args.author, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"corrected by {entry.content['credits']} Credits")


def _refund(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        pay = None if args.pay is None else _parse_lot_money(ledger, args.account, args.lot, args.pay)
        entry = ledger.refund(args.account, args.lot, id=args.id, at=at, credits=args.credits, pay=pay)
        to = entry.result
        what = (
            f"{format_plain(entry.credits)} Credits of lot {args.lot} are taken back; "
            f"pay {entry.refund_amount} back by {to['channel']}, payment {to['reference']}"
        )
        return print_entry(args, ledger, entry, at, what)


def _dispute(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        pay = None if args.pay is None else _parse_lot_money(ledger, args.account, args.lot, args.pay)
        entry = ledger.dispute(args.account, args.lot, id=args.id, at=at, pay=pay)
        what = f"{format_plain(entry.credits)} Credits of lot {args.lot}: {entry.refund_amount} was taken back"
        return print_entry(args, ledger, entry, at, what)


def _reverse(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.reverse(args.account, args.operation, id=args.id, at=at, reason=args.reason)
        return print_entry(
            args, ledger, entry, at, f"{args.operation} is undone: {format_plain(entry.credits)} Credits"
        )


def _release(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.release(args.hold, id=args.id, at=at)
        return print_entry(
            args, ledger, entry, at, f"{format_plain(entry.credits)} Credits of hold {args.hold} are returned"
        )


def _parse_lot_money(ledger: Ledger, account: str, lot: str, amount: str) -> Payable:
    """An amount in the currency that a lot was paid in."""
    found = next((found for found in ledger.lots(account) if found.id == lot), None)
    if found is None:
        raise BillingError("unknown_lot", f"account {safe_repr(account)} has no lot {safe_repr(lot)}")
    if found.paid is None:
        raise BillingError("not_refundable", f"lot {safe_repr(lot)} was given, not bought; nothing was paid for it")
    return Payable(amount, found.paid.currency)
