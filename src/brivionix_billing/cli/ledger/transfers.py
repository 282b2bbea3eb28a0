"""The subcommand of ``ledger`` that moves Credits between two accounts of one owner."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from brivionix_billing.cli.ledger.common import add_id, open_ledger_for_update, print_entry, subcommand
from brivionix_billing.decimals import format_plain

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = subcommand(
        commands,
        "transfer",
        _transfer,
        "move Credits to another account of the same owner",
        "Moves available Credits to another account of the same owner. They keep their price, expiry, restriction and "
        "priority, and their money can be refunded to the payment. No cash and no revenue moves.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("to", metavar="TO", help="account that receives the Credits")
    parser.add_argument("credits", metavar="CREDITS")
    parser.add_argument("--lot", metavar="LOT", help="lot to take them from (default: in the order of use)")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="reason, shown on statements and bills")
    add_id(parser)


def _transfer(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.transfer(
            args.account, args.to, args.credits, lot=args.lot, reason=args.reason, id=args.id, at=at
        )
        moved = [f"{lot['credits']} of lot {lot['from']} as lot {lot['lot']}" for lot in entry.result["lots"]]
        message = f"{format_plain(entry.credits)} Credits moved to {args.to}: {', '.join(moved)}"
        return print_entry(args, ledger, entry, at, message)
