"""Subcommands of ``ledger`` that correct others: voided lots, reversed charges and changed expiries."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from brivionix_billing.cli.ledger.common import add_id, open_ledger_for_update, print_entry, subcommand
from brivionix_billing.decimals import format_plain
from brivionix_billing.times import format_instant, parse_instant

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    parser = subcommand(
        commands,
        "void",
        _void,
        "void a grant, or a payment that was never received",
        "Voids a lot. Its remaining Credits are removed, and its used Credits become debt or are waived. The money of "
        "a purchased lot and its revenue are reversed.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("lot", metavar="LOT", help="id of the lot, which is that of its top-up, grant or correction")
    parser.add_argument("--used", required=True, choices=("owe", "waive"), help="what happens to its used Credits")
    _add_reason(parser)

    parser = subcommand(
        commands,
        "reverse-charge",
        _reverse_charge,
        "reverse a charge, in full or in part",
        "Reverses a charge. The Credits return to the lots that it used, and their revenue, the spending of its token "
        "and the usage follow. Statement and bill show the reversal at its own time.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("operation", metavar="OPERATION", help="id of the charge, or of the hold that it settled")
    parser.add_argument("--credits", metavar="N", help="Credits to reverse (default: all that are not reversed yet)")
    _add_reason(parser)

    parser = subcommand(
        commands,
        "change-expiry",
        _change_expiry,
        "change the expiry of a lot",
        "Changes the expiry of a lot. No Credits move. A lot that has expired, was voided or is used up stays closed.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("lot", metavar="LOT", help="id of the lot, which is that of its top-up, grant or correction")
    parser.add_argument("--expires", required=True, metavar="T", help="the new expiry, later than now, or 'never'")
    _add_reason(parser, "stored in the journal")


def _add_reason(parser: ArgumentParser, use: str = "shown on statements and bills") -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help=f"reason, {use}")
    parser.add_argument("--author", required=True, metavar="NAME", help="person responsible for the correction")
    add_id(parser)


def _void(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.void(
            args.account, args.lot, used=args.used, reason=args.reason, author=args.author, id=args.id, at=at
        )
        return print_entry(args, ledger, entry, at, f"lot {args.lot} is voided: {format_plain(entry.credits)} Credits")


def _reverse_charge(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.reverse_charge(
            args.account,
            args.operation,
            credits=args.credits,
            reason=args.reason,
            author=args.author,
            id=args.id,
            at=at,
        )
        message = f"{format_plain(entry.credits)} Credits of charge {entry.result['charge']} are reversed"
        return print_entry(args, ledger, entry, at, message)


def _change_expiry(args: Namespace) -> int:
    expires = None if args.expires == "never" else parse_instant(args.expires)
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.change_expiry(
            args.account, args.lot, expires=expires, reason=args.reason, author=args.author, id=args.id, at=at
        )
        until = "never expires" if entry.expires is None else f"expires at {format_instant(entry.expires)}"
        return print_entry(args, ledger, entry, at, f"lot {args.lot} {until}")
