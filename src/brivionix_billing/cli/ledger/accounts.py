"""Subcommands of ``ledger`` about accounts: open, accounts, balance, lots."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from brivionix_billing.cli.arguments import EXIT_OK, parse_time_or_now
from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger,
    open_ledger_for_update,
    print_entry,
    subcommand,
)
from brivionix_billing.cli.output import print_rows, print_stderr
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tabular import format_table
from brivionix_billing.times import format_instant

if TYPE_CHECKING:
    from brivionix_billing.ledger import Balance

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    parser = subcommand(commands, "open", _open, "open an account without Credits", at=True)
    parser.add_argument("account", metavar="ACCOUNT", help="id of the account, as in usage files and on bills")
    add_id(parser)

    subcommand(commands, "accounts", _accounts, "list all accounts with their balances", at=True)

    parser = subcommand(commands, "balance", _balance, "show the balance of an account", at=True)
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--model", metavar="M", help="also show what a request of this model can use")
    parser.add_argument("--group", metavar="G", help="also show what a request of this group can use")
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="also show what a request with this tag can use (repeat it)",
    )

    for name, run, help in (
        ("freeze", _freeze, "freeze an account: no new holds and charges; open holds still settle"),
        ("unfreeze", _unfreeze, "unfreeze an account"),
    ):
        parser = subcommand(commands, name, run, help, at=True, prices=True)
        parser.add_argument("account", metavar="ACCOUNT")
        parser.add_argument("--reason", required=True, metavar="TEXT", help="reason, stored in the journal")
        add_id(parser)

    parser = subcommand(commands, "lots", _lots, "list the lots of an account, with the use of their Credits and money")
    parser.add_argument("account", metavar="ACCOUNT")


def _open(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    with open_ledger(args) as ledger:
        entry = ledger.open_account(args.account, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"account {entry.account} is open")


def _freeze(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.freeze(args.account, reason=args.reason, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"account {entry.account} is frozen")


def _unfreeze(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.unfreeze(args.account, reason=args.reason, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"account {entry.account} is not frozen")


def _accounts(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    with open_ledger(args) as ledger:
        return _print_balances(args, [ledger.balance(account, at=at) for account in ledger.accounts()])


def _balance(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        tags = dict(_parse_tag(tag) for tag in args.tag) or None
        at = parse_time_or_now(args.at)
        balance = ledger.balance(args.account, at=at, model=args.model, group=args.group, tags=tags)
        last = ledger.last_booked(args.account)
        if args.at is not None and at < last:
            print_stderr(
                f"note: the balance has all entries, up to {format_instant(last)}; --at decides only what has expired. "
                "For the balance at an earlier time, use ledger statement"
            )
        return _print_balances(args, [balance])


def _parse_tag(tag: str) -> tuple[str, str]:
    name, equals, value = tag.partition("=")
    if not equals:
        raise BillingError("invalid_argument", f"--tag {safe_repr(tag)}: write it as name=value")
    return name, value


def _print_balances(args: Namespace, balances: list[Balance]) -> int:
    rows = [balance.as_dict() for balance in balances]
    heads = ["account", "available", "held", "owed"]
    heads += [name for name in ("restricted", "usable", "frozen_at") if any(name in row for row in rows)]
    names = [head.replace("_at", " since") for head in heads]
    print_rows(
        rows,
        args.format,
        lambda: format_table([names, *([row.get(head, "-") for head in heads] for row in rows)], left=1),
    )
    return EXIT_OK


def _lots(args: Namespace) -> int:
    from brivionix_billing.ledger import DEFAULT_PRIORITY

    with open_ledger(args) as ledger:
        found = ledger.lots(args.account)
    rows = [lot.as_dict() for lot in found]
    if args.format != "json":
        rows = [{**row, "only": lot.only and lot.only.label} for row, lot in zip(rows, found, strict=True)]
    heads = ["id", "at", "expires", "channel"]
    heads += ["credits", "remaining", "used", "expired", "returned", "paid", "recognised", "refunded", "deferred"]
    # Both lots and Credits expire, so the column with the time has another name than the one with Credits.
    names = ["lot", "opened", "valid until", *heads[3:]]
    if any(lot.moved or lot.origin for lot in found):
        heads += ["moved", "moved_paid", "origin"]
        names += ["moved", "moved paid", "origin"]
    if any(lot.only or lot.priority != DEFAULT_PRIORITY for lot in found):
        heads += ["priority", "only"]
        names += ["priority", "usable by"]
    print_rows(
        rows,
        args.format,
        lambda: format_table([names, *([str(row[head] or "-") for head in heads] for row in rows)], left=4),
    )
    return EXIT_OK
