"""Subcommands of ``ledger`` about accounts and their tokens."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger,
    print_entry,
    subcommand,
)
from brivionix_billing.cli.output import EXIT_OK, parse_time_or_now, print_rows
from brivionix_billing.tabular import format_table

if TYPE_CHECKING:
    from brivionix_billing.ledger import Balance

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add these subcommands to the parser."""
    parser = subcommand(commands, "open", _open, "open an account, with nothing in it", at=True)
    parser.add_argument("account", metavar="ACCOUNT", help="its id, as it will stand in usage files and on bills")
    add_id(parser)

    subcommand(commands, "accounts", _accounts, "all accounts with their balances", at=True)

    parser = subcommand(commands, "balance", _balance, "what an account has", at=True)
    parser.add_argument("account", metavar="ACCOUNT")

    parser = subcommand(commands, "lots", _lots, "the lots of an account, and what became of them and of their money")
    parser.add_argument("account", metavar="ACCOUNT")


def _open(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    with open_ledger(args) as ledger:
        entry = ledger.open_account(args.account, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"account {entry.account} is open")


def _accounts(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    with open_ledger(args) as ledger:
        return _balances(args, [ledger.balance(account, at=at) for account in ledger.accounts()])


def _balance(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        return _balances(args, [ledger.balance(args.account, at=parse_time_or_now(args.at))])


def _balances(args: Namespace, found: list[Balance]) -> int:
    rows = [balance.as_dict() for balance in found]
    heads = ["account", "available", "held", "owed"]
    print_rows(
        rows, args.format, lambda: format_table([heads, *([row[head] for head in heads] for row in rows)], left=1)
    )
    return EXIT_OK


def _lots(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        rows = [lot.as_dict() for lot in ledger.lots(args.account)]
    heads = ["id", "at", "expires", "channel"]
    heads += ["credits", "remaining", "used", "expired", "returned", "paid", "recognised", "refunded", "deferred"]
    # A Credit expires, and so does a lot: the heading of the time says which is meant.
    names = ["lot", "came", "until", *heads[3:]]
    print_rows(
        rows,
        args.format,
        lambda: format_table([names, *([row[head] or "-" for head in heads] for row in rows)], left=4),
    )
    return EXIT_OK
