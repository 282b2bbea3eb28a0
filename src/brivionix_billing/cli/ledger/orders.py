"""Subcommands of ``ledger`` about orders, and received payments with their parts."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from brivionix_billing.cli.arguments import EXIT_OK, parse_time_or_now, plain_amount
from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger,
    open_ledger_for_update,
    parse_optional_time,
    print_entry,
    subcommand,
)
from brivionix_billing.cli.output import print_rows
from brivionix_billing.decimals import format_plain
from brivionix_billing.money import Payable
from brivionix_billing.tabular import format_table
from brivionix_billing.times import parse_instant

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    parser = subcommand(
        commands,
        "order",
        _order,
        "create an order: a quote whose price is valid until it expires",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--channel", required=True, metavar="C", help="payment channel")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--pay", metavar="A", help="amount to pay without tax, in the currency of the channel")
    amount.add_argument("--credits", metavar="N", help="Credits to buy")
    parser.add_argument("--tax", metavar="A", help="tax that is paid on top (default: none)")
    parser.add_argument("--expires", required=True, metavar="T", help="time until which the price is valid")
    add_id(parser, "order")

    parser = subcommand(commands, "cancel-order", _cancel_order, "cancel an open order", at=True, prices=True)
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("order", metavar="ORDER", help="id of the order")
    add_id(parser)

    parser = subcommand(commands, "orders", _orders, "list the orders of an account with their states", at=True)
    parser.add_argument("account", metavar="ACCOUNT")

    parser = subcommand(
        commands,
        "payment",
        _payment,
        "credit a received payment with tax, fee and coupon, such as a bank transfer",
        "Credits a received payment of any amount. Credits follow from the amount without tax, before the coupon. An "
        "order that had not expired at --paid-at gives the price.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--channel", required=True, metavar="C", help="payment channel")
    parser.add_argument("--gross", required=True, metavar="A", help="amount received, with tax")
    parser.add_argument("--tax", metavar="A", help="tax in it (default: none, or the share of the order)")
    parser.add_argument("--fee", metavar="A", help="fee that the channel deducts (default: none)")
    parser.add_argument("--coupon", metavar="A", help="discount that the seller granted (default: none)")
    parser.add_argument("--reference", required=True, metavar="R", help="id of the payment at its channel")
    parser.add_argument("--order", metavar="ORDER", help="order that is paid")
    parser.add_argument("--paid-at", metavar="T", help="time of the payment at its channel (default: --at)")
    parser.add_argument("--expires", metavar="T", help="expiry of the Credits (default: never)")
    add_id(parser, "lot")

    parser = subcommand(commands, "payments", _payments, "list the payments of an account with tax, fee and refunds")
    parser.add_argument("account", metavar="ACCOUNT")


def _order(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        quote = book.quote(args.channel, at=at, credits=plain_amount(args.credits), pay=plain_amount(args.pay))
        tax = None if args.tax is None else Payable(args.tax, quote.pay.currency)
        entry = ledger.create_order(
            args.account, quote, id=args.id, at=at, expires=parse_instant(args.expires), tax=tax
        )
        order = ledger.order(entry.id, at=at)
        message = f"order {order.id}: {format_plain(order.credits)} Credits for {order.due} by {order.channel}"
        return print_entry(args, ledger, entry, at, message)


def _cancel_order(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.cancel_order(args.account, args.order, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"order {args.order} is cancelled")


def _orders(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        rows = [order.as_dict() for order in ledger.orders(args.account, at=parse_time_or_now(args.at))]
    return _print_table(args, rows, ("id", "expires", "state", "credits", "due", "received", "credited"))


def _payment(args: Namespace) -> int:
    from brivionix_billing.ledger import ReceivedPayment

    with open_ledger_for_update(args) as (ledger, book, at):
        currency = book.channel(args.channel).currency
        parts = {
            name: None if getattr(args, name) is None else Payable(getattr(args, name), currency)
            for name in ("tax", "fee", "coupon")
        }
        payment = ReceivedPayment(
            channel=args.channel,
            reference=args.reference,
            gross=Payable(args.gross, currency),
            at=parse_optional_time(args.paid_at) or at,
            **parts,
        )
        expires = parse_optional_time(args.expires)
        entry = ledger.receive_payment(args.account, payment, id=args.id, at=at, order=args.order, expires=expires)
        state = f"; order {args.order} is {entry.result['order']}" if "order" in entry.result else ""
        message = (
            f"{format_plain(entry.credits)} Credits for {payment.gross} by {payment.channel}, lot {entry.id}{state}"
        )
        return print_entry(args, ledger, entry, at, message)


def _payments(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        rows = [payment.as_dict() for payment in ledger.payments(args.account)]
    return _print_table(args, rows, ("lot", "channel", "reference", "gross", "tax", "fee", "coupon", "refunded"))


def _print_table(args: Namespace, rows: list[dict[str, Any]], heads: tuple[str, ...]) -> int:
    cells = [[row[head] or "-" for head in heads] for row in rows]
    print_rows(rows, args.format, lambda: format_table([list(heads), *cells], left=3))
    return EXIT_OK
