"""The command ``reconcile payments``: a statement of a payment processor against the ledger."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import add_prices, load_book, parse_time_or_now
from brivionix_billing.cli.ledger.common import open_ledger
from brivionix_billing.cli.output import count_noun, print_stderr
from brivionix_billing.cli.reconcile.common import (
    add_result_options,
    add_source,
    naming_other_sources,
    parse_duration,
    print_result,
)
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import atomic_write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brivionix_billing.reconcile.payments.booking import Outcome

__all__ = ["add_commands"]

_SOURCES: Final = ("stripe", "wechat", "alipay")
_MAX_REPORTED: Final = 20
_JOURNAL: Final = "journal.csv"
"""File with the money of the statement that the ledger does not have."""


def add_commands(commands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "payments",
        help="compare a statement of a payment processor with the ledger",
        description="Compares payments, refunds and disputes of a statement with the top-ups, refunds and disputes of "
        "the ledger. Finds what is missing, duplicate, late, or has a wrong amount or currency.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "statement", nargs="+", metavar="STATEMENT", help="files of the statement: CSV, JSON, or a ZIP archive of them"
    )
    add_source(parser, _SOURCES, "the payment processor")
    parser.add_argument(
        "--ledger", dest="db", required=True, metavar="URL|FILE", help="database of the ledger, as for 'ledger --db'"
    )
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="C",
        help="payment channel of the statement; may be repeated (the one named like the source, else all channels in "
        "the currencies of the statement)",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="SOURCE=FILE",
        help="a statement of another processor that shares the channel: its payments are left out; may be repeated",
    )
    parser.add_argument("--period", metavar="P", help="a month (2026-10), or FROM/TO (the days of the statement)")
    parser.add_argument(
        "--zone", metavar="Z", help="time zone of the statement and the period (stripe UTC, others Asia/Shanghai)"
    )
    parser.add_argument("--delay", default="1d", metavar="D", help="what is booked later than this is late (1d)")
    parser.add_argument(
        "--window",
        default="3d",
        metavar="D",
        help="greatest distance of the times of a payment that is matched by account and amount (3d)",
    )
    parser.add_argument(
        "--book",
        action="store_true",
        help="post the operations that the ledger misses, each once, under the id of its row of the statement",
    )
    parser.add_argument(
        "--accounts",
        metavar="FILE",
        help="accounts of your accounting system for journal.csv, as for 'export journal' (plain names)",
    )
    parser.add_argument("--at", metavar="T", help="current time for the ledger, with --book (now)")
    add_prices(parser)
    add_result_options(parser)
    parser.set_defaults(run=_run)


def _run(args: Namespace) -> int:
    import brivionix_billing.ledger  # noqa: F401  # report a missing extra before reading any file
    from brivionix_billing.exports import DEFAULT_ACCOUNTS, read_account_mapping, statement_journal_csv
    from brivionix_billing.reconcile.payments.run import PaymentOptions, reconcile_payments

    options = PaymentOptions(
        tuple(args.channel),
        args.zone,
        args.period,
        parse_duration(args.window, "--window"),
        parse_duration(args.delay, "--delay"),
        [_other(text) for text in args.also],
    )
    book = load_book(args)
    accounts = DEFAULT_ACCOUNTS if args.accounts is None else read_account_mapping(args.accounts)
    with naming_other_sources(args.source, args.statement), open_ledger(args, book) as ledger:
        run = reconcile_payments(
            args.statement,
            args.source,
            ledger,
            book,
            Path(args.out),
            options,
            book_at=parse_time_or_now(args.at) if args.book else None,
            format=args.format,
        )
    content = statement_journal_csv(run.unbooked, accounts).encode("utf-8", "backslashreplace")
    atomic_write_bytes(Path(args.out, _JOURNAL), content)
    if args.book:
        _report(run.outcomes)
    return print_result(run.result)


def _other(text: str) -> tuple[str, str]:
    source, separator, path = text.partition("=")
    if not separator or source not in _SOURCES or not path:
        raise BillingError(
            "invalid_argument",
            f"--also {safe_repr(text)} is not SOURCE=FILE; use one of {', '.join(_SOURCES)} as SOURCE",
        )
    return source, path


def _report(outcomes: Iterable[Outcome]) -> None:
    """Print what was booked and what was not."""
    outcomes = list(outcomes)
    booked = [each for each in outcomes if each.cause == "booked"]
    rest = [each for each in outcomes if each.cause != "booked"]
    print_stderr(f"{count_noun(len(booked), 'operation')} booked, {len(rest)} not booked")
    for each in rest[:_MAX_REPORTED]:
        print_stderr(f"{each.line.place}: {each.line.kind.value} {each.line.id}: {each.message} [{each.cause}]")
    if len(rest) > _MAX_REPORTED:
        print_stderr(f"... and {len(rest) - _MAX_REPORTED} more; see the rows")
