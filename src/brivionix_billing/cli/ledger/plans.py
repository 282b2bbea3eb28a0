"""Subcommands of ``ledger`` about plans: subscribe, order a period, change, cancel, list."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from brivionix_billing.cli.arguments import EXIT_OK, parse_time_or_now
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
from brivionix_billing.tabular import format_table
from brivionix_billing.times import format_instant, parse_instant

if TYPE_CHECKING:
    from datetime import datetime

    from brivionix_billing.ledger import Entry, Ledger, Subscription

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    parser = subcommand(
        commands,
        "subscribe",
        _subscribe,
        "subscribe an account to a plan of the price file",
        "Subscribes an account to a plan, with its terms of --at. A free plan opens its first allowance at once. For "
        "any other plan, create an order by 'order-period'; its first payment starts the first period.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    _add_plan(parser)
    add_id(parser, "subscription")

    parser = subcommand(
        commands,
        "order-period",
        _order_period,
        "create the order for the next period of a plan",
        "Creates the order for the next period of a plan, or for the current one if it is not paid. An earlier order "
        "that was not paid is cancelled.",
        at=True,
        prices=True,
    )
    _add_subscription(parser)
    parser.add_argument("--expires", metavar="T", help="time until which it can be paid (default: end of the period)")
    _add_tax_rate(parser)
    add_id(parser, "order")

    parser = subcommand(
        commands,
        "change-plan",
        _change_plan,
        "change the plan of a subscription, at once or at the end of its period",
        "Changes the plan. At once, the unused Credits of the rest of the period pay for the same part of the new "
        "plan, and an order is created for the difference.",
        at=True,
        prices=True,
    )
    _add_subscription(parser)
    _add_plan(parser)
    parser.add_argument("--at-period-end", action="store_true", help="from the next period on (default: at once)")
    _add_tax_rate(parser)
    add_id(parser, "order")

    parser = subcommand(
        commands, "cancel-plan", _cancel_plan, "cancel a subscription at the end of its period", at=True, prices=True
    )
    _add_subscription(parser)
    add_id(parser)

    parser = subcommand(commands, "subscriptions", _subscriptions, "list the subscriptions of an account", at=True)
    parser.add_argument("account", metavar="ACCOUNT")

    parser = subcommand(
        commands, "due-renewals", _due_renewals, "list the subscriptions whose next period must be paid", at=True
    )
    parser.add_argument("--before", metavar="T", help="end of their period, at the latest (default: --at)")


def _add_subscription(parser: ArgumentParser) -> None:
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("subscription", metavar="SUBSCRIPTION", help="id of the subscription")


def _add_plan(parser: ArgumentParser) -> None:
    parser.add_argument("plan", metavar="PLAN", help="name of a plan of the price file")
    parser.add_argument("--channel", metavar="C", help="payment channel; none for a free plan")


def _add_tax_rate(parser: ArgumentParser) -> None:
    parser.add_argument("--tax-rate", metavar="R", help="tax on top of the price, such as 0.19 (default: none)")


def _subscribe(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        plan = book.plan(args.plan, at=at)
        entry = ledger.subscribe(args.account, plan, id=args.id, at=at, channel=args.channel)
        return print_entry(args, ledger, entry, at, _state(ledger, entry, at))


def _order_period(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.order_period(
            args.account,
            args.subscription,
            id=args.id,
            at=at,
            expires=parse_optional_time(args.expires),
            tax_rate=args.tax_rate,
        )
        return print_entry(args, ledger, entry, at, _order(ledger, entry, at))


def _change_plan(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        entry = ledger.change_plan(
            args.account,
            args.subscription,
            book.plan(args.plan, at=at),
            id=args.id,
            at=at,
            channel=args.channel,
            at_period_end=args.at_period_end,
            tax_rate=args.tax_rate,
        )
        lines = [_state(ledger, entry, at)]
        lines += [
            f"{lot['paid']} {lot['currency']} of lot {lot['from']} pay for {lot['credits']} Credits, lot {lot['lot']}"
            for lot in entry.result.get("lots", ())
        ]
        if "order" in entry.result:
            lines.append(_order(ledger, entry, at))
        return print_entry(args, ledger, entry, at, "\n".join(lines))


def _cancel_plan(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.cancel_plan(args.account, args.subscription, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, _state(ledger, entry, at))


def _order(ledger: Ledger, entry: Entry, at: datetime) -> str:
    order = ledger.order(entry.id, at=at)
    return (
        f"order {order.id}: {format_plain(order.credits)} Credits for {order.due} by {order.channel}, until "
        f"{format_instant(order.expires)}"
    )


def _state(ledger: Ledger, entry: Entry, at: datetime) -> str:
    id = entry.content.get("subscription", entry.id)
    found = next(each for each in ledger.subscriptions(entry.account, at=at) if each.id == id)
    until = "" if found.ends is None else f" until {format_instant(found.ends)}"
    following = "" if found.next_plan in (None, found.plan) else f", then {found.next_plan}"
    return f"subscription {found.id}: {found.plan}, {found.state}{until}{following}"


def _subscriptions(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        return _print(args, list(ledger.subscriptions(args.account, at=parse_time_or_now(args.at))))


def _due_renewals(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    before = at if args.before is None else parse_instant(args.before)
    with open_ledger(args) as ledger:
        return _print(args, list(ledger.due_renewals(before=before, at=at)))


def _print(args: Namespace, found: list[Subscription]) -> int:
    rows = [each.as_dict() for each in found]
    heads = ("id", "account", "plan", "state", "ends", "remaining", "next_plan", "next_price", "order")
    cells = [[row[head] or "-" for head in heads] for row in rows]
    print_rows(rows, args.format, lambda: format_table([list(heads), *cells], left=5))
    return EXIT_OK
