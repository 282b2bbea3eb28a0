"""Subcommands of ``ledger`` about signals: ``signal`` sets them, and ``signals`` reads the outbox."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import timedelta
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.cli.arguments import EXIT_OK, parse_time_or_now
from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger,
    open_ledger_for_update,
    print_entry,
    subcommand,
)
from brivionix_billing.cli.output import print_rows, print_stdout
from brivionix_billing.errors import BillingError
from brivionix_billing.tabular import format_table

__all__ = ["add_commands"]

_MAX_LEASE_SECONDS: Final = 86_400


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    _add_settings(
        commands.add_parser(
            "signal",
            help="signals of an account: low balance, debt, top-up due, limit almost reached, hold expired",
            description="Signals of an account. An operation that makes the condition of one true writes it to the "
            "outbox.",
            allow_abbrev=False,
        )
    )
    _add_outbox(
        commands.add_parser(
            "signals",
            help="raised signals: list, lease for delivery, acknowledge",
            description="Raised signals, which wait in the outbox until they are acknowledged.",
            allow_abbrev=False,
        )
    )


def _add_settings(group: ArgumentParser) -> None:
    settings = group.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    parser = subcommand(
        settings,
        "set",
        _set,
        "set a signal, or replace the one with this name",
        "Sets a signal, or replaces the one with this name. It is raised once when its condition becomes true, and "
        "again after the condition has ended; at once if the condition is true now.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("name", metavar="NAME", help="name of the signal, unique in the account")
    parser.add_argument(
        "--kind",
        required=True,
        choices=("low_balance", "limit_near", "top_up_due", "hold_expired", "debt"),
        help="condition of the signal",
    )
    parser.add_argument(
        "--threshold",
        metavar="N",
        help="Credits: low_balance and top_up_due are raised below, debt above them (debt: default 0)",
    )
    parser.add_argument("--limit", metavar="LIMIT", help="name of the limit by window (limit_near)")
    parser.add_argument("--share", metavar="X", help="share of the limit that is used, such as 0.8 (limit_near)")
    parser.add_argument("--credits", metavar="N", help="Credits to purchase (top_up_due)")
    parser.add_argument(
        "--cap", metavar="N", help="maximum of these Credits in a calendar month (top_up_due; default: none)"
    )
    parser.add_argument("--zone", metavar="Z", help="time zone of the month (top_up_due; default: UTC)")
    add_id(parser)

    parser = subcommand(
        settings, "remove", _remove, "remove a signal; raised ones stay in the outbox", at=True, prices=True
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("name", metavar="NAME", help="name of the signal")
    add_id(parser)

    parser = subcommand(settings, "list", _list_settings, "list the signals that are set for an account")
    parser.add_argument("account", metavar="ACCOUNT")


def _add_outbox(group: ArgumentParser) -> None:
    outbox = group.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    parser = subcommand(outbox, "list", _list_signals, "list pending signals, of one account or of all")
    parser.add_argument("account", metavar="ACCOUNT", nargs="?")
    parser.add_argument("--all", action="store_true", help="list acknowledged signals of the account as well")
    parser.add_argument(
        "--after", type=int, metavar="N", default=0, help="list the signals of the account after number N"
    )

    parser = subcommand(
        outbox,
        "lease",
        _lease,
        "print a batch of pending signals to deliver, one JSON object per line",
        "Prints a batch of pending signals to deliver, one JSON object per line, in order per account. No other reader "
        "gets them until the lease ends. Acknowledge those that were delivered.",
        at=True,
        formats=(),
    )
    parser.add_argument("--limit", type=int, metavar="N", default=100, help="maximum number of signals (default: 100)")
    parser.add_argument(
        "--seconds", type=int, metavar="N", default=60, help="time of the lease, 1 to 86400 (default: 60)"
    )

    parser = subcommand(
        outbox,
        "acknowledge",
        _acknowledge,
        "acknowledge delivered signals of an account",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("through", type=int, metavar="THROUGH", help="number of the last signal that was delivered")
    parser.add_argument("--id", metavar="ID", help="idempotency key (default: signals:ACCOUNT:THROUGH)")


def _set(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.set_signal(
            args.account,
            args.name,
            args.kind,
            threshold=args.threshold,
            limit=args.limit,
            share=args.share,
            credits=args.credits,
            cap=args.cap,
            zone=args.zone,
            id=args.id,
            at=at,
        )
        return print_entry(args, ledger, entry, at, f"signal {args.name}: {args.kind}")


def _remove(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.remove_signal(args.account, args.name, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"signal {args.name} is removed")


def _list_settings(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        rows = [setting.as_dict() for setting in ledger.signal_settings(args.account)]
    heads = ("name", "kind", "threshold", "limit", "share", "credits", "cap", "zone", "quiet")

    def render_text() -> str:
        return format_table([("signal", *heads[1:]), *([row[head] or "-" for head in heads] for row in rows)], left=2)

    print_rows(rows, args.format, render_text)
    return EXIT_OK


def _list_signals(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        found = ledger.signals(args.account, pending=not args.all, after=args.after)
    rows = [{**signal.as_dict(), "acknowledged_by": signal.acknowledged_by} for signal in found]
    if args.format != "json":
        rows = [{**row, "content": canonical_json(row["content"]).decode()} for row in rows]
    heads = ("account", "number", "name", "kind", "at", "acknowledged_by", "content")

    def render_text() -> str:
        lines = [[str(row[head]) if row[head] is not None else "-" for head in heads] for row in rows]
        return format_table([heads, *lines], left=7)

    print_rows(rows, args.format, render_text)
    return EXIT_OK


def _lease(args: Namespace) -> int:
    if not 1 <= args.seconds <= _MAX_LEASE_SECONDS:
        raise BillingError(
            "invalid_argument", f"--seconds {args.seconds} is out of range; use 1 to {_MAX_LEASE_SECONDS}"
        )
    with open_ledger(args) as ledger:
        found = ledger.lease_signals(
            at=parse_time_or_now(args.at),
            limit=args.limit,
            lease=timedelta(seconds=args.seconds),
        )
    print_stdout("".join(f"{canonical_json(signal.as_dict()).decode()}\n" for signal in found))
    return EXIT_OK


def _acknowledge(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        entry = ledger.acknowledge_signals(args.account, args.through, id=args.id, at=at)
        return print_entry(
            args, ledger, entry, at, f"signals of {args.account} up to {entry.content['through']} are acknowledged"
        )
