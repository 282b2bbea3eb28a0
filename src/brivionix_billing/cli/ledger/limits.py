"""Subcommands of ``ledger`` about limits by window."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from brivionix_billing.cli.arguments import EXIT_OK, parse_time_or_now
from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger,
    open_ledger_for_update,
    print_entry,
    subcommand,
)
from brivionix_billing.cli.output import print_rows
from brivionix_billing.tabular import format_table

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    limits = commands.add_parser(
        "limit",
        help="limits by window of an account, its members, tokens and tags",
        description="Limits by window of an account, its members, tokens and tags.",
        allow_abbrev=False,
    ).add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    parser = subcommand(
        limits,
        "set",
        _set,
        "set a limit, or change the amount of one",
        "Sets a limit by window, or changes the amount of the one with this name. With another window, unit or subject "
        "it counts anew.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("name", metavar="NAME", help="name of the limit, unique in the account")
    parser.add_argument("--amount", required=True, metavar="N", help="maximum in a window")
    parser.add_argument(
        "--unit", choices=("credits", "requests", "tokens"), default="credits", help="unit of N (default: credits)"
    )
    parser.add_argument(
        "--window",
        required=True,
        metavar="W",
        help="hour, day, week, month, rolling hours such as 5h, or times of the day such as 22:00-06:00",
    )
    parser.add_argument("--zone", default="UTC", metavar="Z", help="time zone of the window (default: UTC)")
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument("--token", metavar="TOKEN", help="limit only this token (its id)")
    subject.add_argument("--tag", metavar="NAME=VALUE", help="limit only requests with this tag")
    subject.add_argument("--member", metavar="MEMBER", help="limit only this member of the account (its id)")
    add_id(parser)

    parser = subcommand(limits, "remove", _remove, "remove a limit", at=True, prices=True)
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("name", metavar="NAME", help="name of the limit")
    add_id(parser)

    parser = subcommand(limits, "list", _list, "list the limits of an account: used, left and reset time", at=True)
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--member", metavar="MEMBER", help="only limits of this member, by its id")


def _set(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.set_limit(
            args.account,
            args.name,
            args.amount,
            unit=args.unit,
            window=args.window,
            zone=args.zone,
            token=args.token,
            tag=args.tag,
            member=args.member,
            id=args.id,
            at=at,
        )
        message = f"limit {args.name}: {entry.content['amount']} {args.unit}, {args.window}"
        return print_entry(args, ledger, entry, at, message)


def _remove(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.remove_limit(args.account, args.name, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"limit {args.name} is removed")


def _list(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    with open_ledger(args) as ledger:
        rows = [limit.as_dict() for limit in ledger.limits(args.account, at=at, member=args.member)]
    heads = ("name", "token", "tag", "member", "unit", "window", "zone", "amount", "used", "left", "resets")

    def render_text() -> str:
        return format_table([("limit", *heads[1:]), *([row[head] or "-" for head in heads] for row in rows)], left=7)

    print_rows(rows, args.format, render_text)
    return EXIT_OK
