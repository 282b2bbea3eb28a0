"""The command ``export``: files for finance systems."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brivionix_billing.cli.arguments import (
    EXIT_ERROR,
    EXIT_OK,
    add_prices,
    add_workers,
    load_book,
    parse_time_or_now,
    require_distinct_paths,
    worker_count,
)
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, open_usage, source_position
from brivionix_billing.cli.ledger.common import add_period, open_ledger, subcommand, warn_open_holds
from brivionix_billing.cli.output import count_noun, print_stderr, print_stdout, progress
from brivionix_billing.cli.skipped import found_days
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import atomic_write, atomic_write_bytes
from brivionix_billing.invoice import aggregate_usage
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.files import find_documents, read_intact_document
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import CalendarDays, Period, format_instant

if TYPE_CHECKING:
    from brivionix_billing.exports import AccountBooks
    from brivionix_billing.exports.focus import Bill
    from brivionix_billing.exports.focus_columns import Columns, Row
    from brivionix_billing.ledger import Ledger

__all__ = ["add_commands"]

_ABOUT = """\
Exports for finance systems.

  focus                usage as FOCUS Cost and Usage, bills as Invoice Detail, for FinOps tools
  beancount, hledger   the ledger as books of plain-text accounting: money and Credits, with lots at cost
  journal              the ledger's money as journal entries in CSV, with accounts of your accounting system
"""


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    subcommands = commands.add_parser(
        "export",
        help="write files for finance systems: FOCUS, beancount, hledger, journal entries",
        description=_ABOUT,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    ).add_subparsers(title="formats", metavar="FORMAT", required=True)
    _add_focus(subcommands)
    _add_books(
        subcommands,
        "beancount",
        _beancount,
        "write the ledger as a file of beancount",
        "Writes the money and the Credits of a period as a file of beancount. Purchased Credits are held at the price "
        "of their lot. The file asserts the closing balance of every account, which 'bean-check' checks.",
    )
    _add_books(
        subcommands,
        "hledger",
        _hledger,
        "write the ledger as a journal of hledger",
        "Writes the money and the Credits of a period as a journal of hledger. Purchased Credits have the price of "
        "their lot. The file asserts the closing balance of every account, which 'hledger check' checks.",
    )
    parser = _add_books(
        subcommands,
        "journal",
        _journal,
        "write the ledger's money as journal entries in CSV",
        "Writes the bookings of a period that change money as CSV: date, account, debit, credit, currency, text, id. "
        "Debits and credits are equal in every currency; this is checked. An id has the same rows in every export, so "
        "that rows which were imported before can be recognised.",
    )
    parser.add_argument(
        "--accounts",
        metavar="FILE.yaml",
        help="the accounts of your accounting system: cash, deferred, usage, breakage, corrections, tax, fees; each a "
        "text, or a mapping of channels (default: English names)",
    )


def _add_books(
    commands: Any, name: str, run: Callable[[Namespace], int], help: str, description: str
) -> ArgumentParser:
    parser = subcommand(commands, name, run, help, description, formats=())
    parser.add_argument(
        "--period",
        metavar="P",
        help="a month (2026-10), or FROM/TO with dates (default: from the first entry to today)",
    )
    parser.add_argument(
        "--zone", default="UTC", metavar="Z", help="time zone of the period and of dates (default: UTC)"
    )
    parser.add_argument("--out", metavar="FILE", help="write to this file, atomically (default: stdout)")
    return parser


def _add_focus(commands: Any) -> None:
    parser = commands.add_parser(
        "focus",
        help="write usage as FOCUS Cost and Usage",
        description="Writes the usage of a period as Cost and Usage of FOCUS 1.4: one row per account, day, price and "
        "meter. Costs are in the currency of a payment channel, prices also in Credits. With --bills, rows name their "
        "bill, and Invoice Detail has its lines, which add up to the bill to the minor unit. With --ledger, top-ups "
        "are purchases, and usage draws them down at the price of their lot. A name that ends in .parquet is written "
        "as Parquet, every other one as CSV.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE", help=USAGE_HELP)
    add_usage_options(parser)
    add_period(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="write Cost and Usage to this file, atomically")
    parser.add_argument("--account", metavar="A", help="only this account (default: all)")
    parser.add_argument(
        "--channel",
        metavar="C",
        help="payment channel of costs (default: that of the bill, or the first one of the price file)",
    )
    parser.add_argument("--issuer", metavar="NAME", help="the seller (default: that of the bills, or 'Example issuer')")
    parser.add_argument("--bills", metavar="DIR", help="the bills of this usage")
    parser.add_argument(
        "--ledger",
        metavar="URL|FILE",
        help="the ledger: top-ups are purchases, and usage draws them down; not with --bills",
    )
    parser.add_argument("--invoice-detail", metavar="FILE", help="write Invoice Detail to this file; requires --bills")
    parser.add_argument("--billing-period", metavar="FILE", help="write Billing Period to this file")
    parser.add_argument(
        "--focus-version", choices=["1.4", "1.2"], default="1.4", help="version of the columns of --out (default: 1.4)"
    )
    parser.add_argument(
        "--virtual-currency",
        action="store_true",
        help="write Credits to the columns PricingCurrency*, as FOCUS allows and 1.2 always has them (default in 1.4: "
        "x_PricingCurrency*, because focus-data-toolkit accepts only ISO 4217 there)",
    )
    add_workers(parser)
    add_prices(parser)
    parser.set_defaults(run=_focus)


def _focus(args: Namespace) -> int:
    from brivionix_billing.exports import focus
    from brivionix_billing.exports.focus_columns import (
        BILLING_PERIOD,
        COST_AND_USAGE,
        COST_AND_USAGE_1_2,
        INVOICE_DETAIL,
        without_virtual_currency,
    )

    if args.invoice_detail and not args.bills:
        raise BillingError("invalid_argument", "Invoice Detail has the lines of bills; add --bills DIR")
    if args.ledger and args.bills:
        raise BillingError(
            "invalid_argument", "--bills states what was billed, --ledger what was prepaid; use one of them"
        )
    require_distinct_paths(args.out, args.invoice_detail, args.billing_period)
    book = load_book(args)
    period = Period.parse(args.period, args.zone)
    with open_usage(args, book) as lines:
        totals = aggregate_usage(
            lines,
            book,
            period,
            account=args.account,
            on_rejected=lambda record: print_stderr(f"line {record.line}: {record.message} [{record.code}]"),
            progress=progress(source_position(args)),
            workers=worker_count(args),
            dimensions=Dimensions(["day"], args.zone),
        )
    usage = focus.daily_usage(totals)
    accounts = sorted({daily.bucket.account for daily in usage})
    bills, notes = _read_bills(args, accounts, period, book)
    issuers = sorted({str(bill.document["issuer"]["name"]) for bill in bills.values()})
    if len(issuers) > 1:
        raise BillingError(
            "invalid_argument", f"the bills have several issuers: {', '.join(issuers)}; export each alone"
        )
    issuer = args.issuer or (issuers[0] if issuers else "Example issuer")
    channels = {account: bills[account].channel if bills else _channel(args, book, None) for account in accounts}
    named = bool(bills) and all(bill.document["payment"] for bill in bills.values())
    if args.channel is None and len(book.channels()) > 1 and not named and channels:
        print_stderr(f"costs by payment channel {', '.join(sorted(set(channels.values())))}; --channel names another")
    rated = focus.usage_rows(usage, period, issuer, channels, bills)
    if args.ledger:
        from brivionix_billing.exports.focus_prepaid import prepaid_rows

        ledger_args = Namespace(**{**vars(args), "db": args.ledger})  # here, --db is the database of --query
        books, _ = _read_books(ledger_args, None if args.account is None else [args.account])
        rows = prepaid_rows(books, rated, period, issuer)
        warn_open_holds((each.account, each.open_holds) for each in books)
    else:
        rows = [*(row.columns() for row in rated), *focus.note_rows(notes, period, issuer)]
    columns = COST_AND_USAGE if args.focus_version == "1.4" else COST_AND_USAGE_1_2
    if args.focus_version == "1.4" and not args.virtual_currency:
        columns = without_virtual_currency(columns)
    _write_focus(args.out, rows, columns)
    if args.invoice_detail:
        _write_focus(args.invoice_detail, focus.invoice_detail_rows([*bills.values(), *notes]), INVOICE_DETAIL)
    if args.billing_period:
        row = focus.billing_period_row(period, issuer, [*bills.values(), *notes])
        _write_focus(args.billing_period, [row], BILLING_PERIOD)
    if not rows and totals.found.first:
        print_stderr(f"no record in the export; {found_days(totals.found)}; check --period, --zone and --account")
    if totals.rejected:
        print_stderr(f"{count_noun(totals.rejected, 'record')} rejected, NOT exported")
    return EXIT_ERROR if totals.rejected else EXIT_OK


def _channel(args: Namespace, book: PriceBook, document: Mapping[str, Any] | None) -> str:
    """Return the payment channel of an account: the option, that of its bill, or the first of the price file."""
    if args.channel is not None:
        return str(book.channel(args.channel).name)
    payment = None if document is None else document["payment"]
    return _first_channel(book) if payment is None else str(payment["channel"])


def _first_channel(book: PriceBook) -> str:
    for name in book.channels():
        return name
    raise BillingError("unknown_channel", "costs need a payment channel, and the price file has none; add one to it")


def _read_bills(
    args: Namespace, accounts: Sequence[str], period: Period, book: PriceBook
) -> tuple[dict[str, Bill], list[Bill]]:
    """Return the bill of every account with usage, and the notes that correct these bills.

    Raises ``invalid_argument`` if an account has no bill, or two.
    """
    from brivionix_billing.exports.focus import Bill

    bills: dict[str, Bill] = {}
    notes: list[Mapping[str, Any]] = []
    dates = format_instant(period.start), format_instant(period.end)
    for path in find_documents(Path(args.bills)) if args.bills else ():
        document = read_intact_document(path)
        account = document["customer"]["account"]
        if account in accounts:
            _reject_late_usage(path, document, dates)
        if account not in accounts or (document["period"]["from"], document["period"]["to"]) != dates:
            continue
        if document["corrects"] is not None:
            notes.append(document)
        elif account in bills:
            raise BillingError("invalid_argument", f"{path}: account {safe_repr(account)} has two bills; remove one")
        else:
            bills[account] = Bill.of(document, _channel(args, book, document))
    missing = [account for account in accounts if account not in bills]
    if missing and args.bills:
        raise BillingError(
            "invalid_argument", f"{args.bills} has no bill of account {safe_repr(missing[0])} for the period; add it"
        )
    return bills, [Bill.of(note, bills[note["customer"]["account"]].channel) for note in notes]


def _reject_late_usage(path: Path, document: Mapping[str, Any], dates: tuple[str, str]) -> None:
    """Raise ``invalid_argument`` for a bill with late usage, of the period or in it: its amounts are of two periods."""
    for section in document.get("late") or ():
        periods = [(period["from"], period["to"]) for period in (document["period"], section["period"])]
        if dates in periods:
            raise BillingError(
                "invalid_argument",
                f"{path}: {document['id']} of {document['period']['name']} contains late usage of "
                f"{section['period']['name']}, so it has amounts of two periods; export without --bills, and bill late "
                "usage by credit-note in future",
            )


def _write_focus(path: str, rows: Sequence[Row], columns: Columns) -> None:
    from brivionix_billing.exports.focus_columns import focus_csv, focus_parquet

    content = focus_parquet(rows, columns) if path.endswith(".parquet") else focus_csv(rows, columns).encode()
    atomic_write_bytes(path, content)
    print_stderr(f"{path}: {count_noun(len(rows), 'row')}")


def _beancount(args: Namespace) -> int:
    from brivionix_billing.exports import beancount_lines

    return _write_books(args, beancount_lines)


def _hledger(args: Namespace) -> int:
    from brivionix_billing.exports import hledger_lines

    return _write_books(args, hledger_lines)


def _write_books(args: Namespace, lines: Callable[[Sequence[AccountBooks], str, str], Iterable[str]]) -> int:
    from brivionix_billing.exports.bookings import require_whole_days

    books, period = _read_books(args)
    _write(args, (line + "\n" for line in lines(books, *require_whole_days(period))), books)
    return EXIT_OK


def _journal(args: Namespace) -> int:
    from brivionix_billing.exports import DEFAULT_ACCOUNTS, journal_csv, read_account_mapping

    accounts = DEFAULT_ACCOUNTS if args.accounts is None else read_account_mapping(args.accounts)
    books, _ = _read_books(args)
    _write(args, [journal_csv(books, accounts)], books)
    return EXIT_OK


def _read_books(args: Namespace, accounts: Iterable[str] | None = None) -> tuple[list[AccountBooks], Period]:
    from brivionix_billing.exports import account_books

    with open_ledger(args) as ledger:
        names = list(accounts or ledger.accounts())
        period = _whole_period(args, ledger, names) if args.period is None else Period.parse(args.period, args.zone)
        return [account_books(ledger, account, period) for account in names], period


def _whole_period(args: Namespace, ledger: Ledger, accounts: Sequence[str]) -> Period:
    """Return the period from the day of the first entry to the end of today."""
    now = parse_time_or_now(None)
    first = [entry.at for account in accounts for entry in islice(ledger.journal(account), 1)]
    days = CalendarDays(args.zone)
    return Period(days.at(min(first, default=now)).start, days.at(max([now, *first])).end, args.zone)


def _write(args: Namespace, parts: Iterable[str], books: Sequence[AccountBooks]) -> None:
    if args.out is None:
        print_stdout("".join(parts))
    else:
        with atomic_write(args.out) as file:
            for part in parts:
                file.write(part.encode("utf-8", "backslashreplace"))
        print_stderr(f"{args.out}: {count_noun(len(books), 'account')}")
    warn_open_holds((each.account, each.open_holds) for each in books)
