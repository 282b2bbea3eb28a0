"""Subcommands of ``ledger`` about members of an account."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from brivionix_billing.cli.arguments import EXIT_OK
from brivionix_billing.cli.ledger.common import add_id, open_ledger, open_ledger_for_update, print_entry, subcommand
from brivionix_billing.cli.output import print_rows
from brivionix_billing.tabular import format_table

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    members = commands.add_parser(
        "member",
        help="members of an account, which pays for all of them",
        description="Members of an account, which pays for all of them. Give a member tokens with 'token create "
        "--member', and limits with 'limit set --member'.",
        allow_abbrev=False,
    ).add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    _add_operation(members, "add", _add, "add a member to an account")
    for name, about in (
        ("freeze", "freeze a member: it gets no new requests"),
        ("unfreeze", "unfreeze a member"),
        ("remove", "remove a member for good; its history stays"),
    ):
        _add_operation(members, name, _change, about, reason=True).set_defaults(change=name)

    parser = subcommand(members, "list", _list, "list the members of an account, also removed ones")
    parser.add_argument("account", metavar="ACCOUNT")


def _add_operation(
    members: Any, name: str, run: Callable[[Namespace], int], about: str, *, reason: bool = False
) -> ArgumentParser:
    parser = subcommand(members, name, run, about, at=True, prices=True)
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("member", metavar="MEMBER", help="id of the member, unique in the account")
    if reason:
        parser.add_argument("--reason", required=True, metavar="TEXT", help="reason, for the journal")
    add_id(parser)
    return parser


def _add(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.add_member(args.account, args.member, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"member {args.member} is added")


def _change(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        changes = {
            "freeze": (ledger.freeze_member, "frozen"),
            "unfreeze": (ledger.unfreeze_member, "active"),
            "remove": (ledger.remove_member, "removed"),
        }
        change, state = changes[args.change]
        entry = change(args.account, args.member, reason=args.reason, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"member {args.member} is {state}")


def _list(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        rows = [member.as_dict() for member in ledger.members(args.account)]
    heads = ("id", "state", "joined", "changed")

    def render_text() -> str:
        return format_table([("member", *heads[1:]), *([row[head] for head in heads] for row in rows)], left=4)

    print_rows(rows, args.format, render_text)
    return EXIT_OK
