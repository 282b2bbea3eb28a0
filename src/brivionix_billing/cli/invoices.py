"""The command that writes bills: invoice."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from brivionix_billing.cli.arguments import (
    EXIT_ERROR,
    EXIT_OK,
    add_prices,
    add_workers,
    load_book,
    worker_count,
)
from brivionix_billing.cli.bill_files import (
    REJECTED_FILE,
    RejectedFile,
    add_place,
    bill_row,
    bills_table,
    print_skipped,
    series_tail,
)
from brivionix_billing.cli.bill_writer import Bill, writing_bills
from brivionix_billing.cli.drafts import open_draft
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, load_signing_key, open_usage, source_position
from brivionix_billing.cli.late_usage import find_late_usage
from brivionix_billing.cli.output import print_rows, progress
from brivionix_billing.cli.render import PageWriter, add_options
from brivionix_billing.cli.skipped import found_days
from brivionix_billing.cli.wording import add_wording, wording_of
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import create_file
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage, AggregatedUsage
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.invoice.aggregation.dimensions import Dimensions, require_section_dimension
from brivionix_billing.invoice.build import build_invoice
from brivionix_billing.invoice.customers import UNKNOWN_CUSTOMER, Customer, read_customers, reconcile_balances
from brivionix_billing.invoice.files import DOCUMENT_FILE, RecordListWriter
from brivionix_billing.invoice.header import Header
from brivionix_billing.invoice.late import add_late_usage
from brivionix_billing.invoice.signing import key_id, seal
from brivionix_billing.tabular import format_csv
from brivionix_billing.times import Period, format_instant, parse_instant

__all__ = ["add_commands"]

BILLS: Final = "bills.csv"


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "invoice",
        help="bill one account or all accounts for a period",
        description="Writes invoice.json, its pages invoice.html and invoice.txt, its lines invoice.csv, and "
        "records.txt into DIR; with --all, into a folder per bill. Records that cannot be billed are listed in "
        "DIR/rejected.jsonl with the reason; the exit status is then 2.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE", nargs="?", help=USAGE_HELP)
    add_usage_options(parser)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--account", metavar="A", help="bill this account")
    who.add_argument("--all", action="store_true", help="bill every account of the file, sorted by name")
    parser.add_argument("--period", required=True, metavar="P", help="a month (2026-10), or FROM/TO")
    parser.add_argument("--zone", default="UTC", metavar="Z", help="the time zone of the period (UTC)")
    parser.add_argument(
        "--split",
        metavar="C",
        help="split each bill into sections that add up to it, by token, project, tags, tag:NAME, upstream or region",
    )
    parser.add_argument(
        "--late",
        metavar="PATH",
        help="bill late usage of earlier periods, too: a folder with all their bills and notes",
    )
    _add_heading(parser)
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    add_workers(parser, "read the usage file and write the bills")
    add_prices(parser)
    parser.set_defaults(run=_invoice)


def _add_heading(parser: ArgumentParser) -> None:
    add_place(parser, required=False)
    parser.add_argument("--issued", metavar="T", help="the date of issue (the end of the period)")
    add_options(parser)
    parser.add_argument("--series", metavar="S", help="the series of numbers (that of --after, or INV)")
    parser.add_argument("--due", metavar="T", help="the due date")
    parser.add_argument("--issuer", default="Example issuer", metavar="NAME", help="the name of the issuer")
    parser.add_argument("--issuer-tax-number", metavar="T", help="the issuer's tax number")
    parser.add_argument(
        "--issuer-detail", action="append", default=[], metavar="LINE", help="a line below the name; repeatable"
    )
    add_wording(parser)
    parser.add_argument("--customer", metavar="NAME", help="the customer's name")
    parser.add_argument("--customer-tax-number", metavar="T", help="the customer's tax number")
    parser.add_argument(
        "--customer-detail", action="append", default=[], metavar="LINE", help="a line below the name; repeatable"
    )
    parser.add_argument("--channel", metavar="C", help="the channel through which the customer buys Credits")
    parser.add_argument(
        "--customers",
        metavar="FILE.json",
        help="a JSON object: account -> name, tax_number, details, channel, balance, title, terms, taxes, "
        "tax_included; other options take precedence",
    )
    parser.add_argument("--sign-key", metavar="FILE", help="sign with this Ed25519 private key (PEM)")


def _invoice(args: Namespace) -> int:
    if args.all and (args.customer or args.customer_detail or args.customer_tax_number):
        raise BillingError(
            "invalid_argument",
            "--customer, --customer-detail and --customer-tax-number require --account; with --all, use --customers",
        )
    book = load_book(args)
    if args.channel is not None:
        book.channel(args.channel)
    customers = read_customers(args.customers, book) if args.customers is not None else {}
    period = Period.parse(args.period, args.zone)
    out = Path(args.out)
    existing = [
        path.name
        for path in (*out.glob(f"**/{DOCUMENT_FILE}"), out / REJECTED_FILE, out / BILLS)
        if os.path.lexists(path)
    ]
    if existing:
        raise BillingError(
            "document_exists", f"{safe_repr(str(out), 200)} already contains {existing[0]}; choose another folder"
        )
    issued, due = _dates(args, period)
    key = load_signing_key(args.sign_key) if args.sign_key else None
    pages = PageWriter(args, None if key is None else key.public_key())
    previous = series_tail(Path(args.after)) if args.after else None
    series = args.series or (previous["series"] if previous else "INV")
    late = find_late_usage(args, book, period) if args.late else {}
    rows = []
    with ExitStack() as stack:
        draft = stack.enter_context(open_draft(out))
        lists = stack.enter_context(RecordListWriter(draft.folder))
        rejected_file = stack.enter_context(RejectedFile(draft.folder / REJECTED_FILE))
        lines = stack.enter_context(open_usage(args, book))
        usage_totals = aggregate_usage(
            lines,
            book,
            period,
            account=args.account,
            on_rejected=rejected_file.add,
            on_lines=lists.add,
            progress=progress(source_position(args)),
            workers=worker_count(args),
            dimensions=None if args.split is None else Dimensions([require_section_dimension(args.split)]),
        )
        billed = {name: usage for name, usage in usage_totals.accounts.items() if usage.requests}
        accounts = {**{name: AccountUsage(name) for name in late}, **billed}
        billable = [usage for _, usage in sorted(accounts.items())]
        reconcile_balances([usage for usage in billable if usage.account not in late], customers)
        with writing_bills(pages, len(billable), worker_count(args, None)) as write:
            for usage in billable:
                customer = _merge_customer(args, customers.get(usage.account, UNKNOWN_CUSTOMER))
                header = Header(
                    account=usage.account,
                    period=period,
                    period_name=args.period,
                    issued=issued,
                    series=series,
                    number=1 if previous is None else previous["number"] + 1,
                    previous=previous,
                    issuer=args.issuer,
                    issuer_tax_number=args.issuer_tax_number,
                    issuer_details=args.issuer_detail,
                    customer=customer.name,
                    customer_tax_number=customer.tax_number,
                    customer_details=customer.details,
                    channel=customer.channel,
                    balance=customer.balance,
                    due=due,
                    signing_key=None if key is None else key_id(key.public_key()),
                    split=args.split,
                    **wording_of(args, customer),
                )
                if usage.account in late:
                    invoice = build_invoice(usage, replace(header, balance=None), book)
                    invoice = add_late_usage(invoice, late[usage.account], header.balance, book)
                else:
                    invoice = build_invoice(usage, header, book)
                document = seal(invoice, key)
                folder = draft.folder / document["id"] if args.all else draft.folder
                write(Bill(folder, document, lists.finish(usage.account)))
                rows.append(bill_row(document, out / folder.relative_to(draft.folder) / DOCUMENT_FILE))
                previous = document
        if args.all and rows:
            with create_file(draft.folder / BILLS) as file:
                file.write(format_csv(rows))
        rejected_file.close()
        lists.close()
        if rows:  # otherwise the folder stays as it was, so that the next run works
            draft.publish(BILLS if args.all else DOCUMENT_FILE)
    if rows:
        print_rows(rows, args.format, lambda: bills_table(rows))
    print_skipped(usage_totals, rejected_file, out if rows else None)
    if not rows:
        raise _no_usage(args, period, usage_totals)
    return EXIT_ERROR if usage_totals.rejected else EXIT_OK


def _dates(args: Namespace, period: Period) -> tuple[datetime, datetime | None]:
    """Return the date of issue and the due date. Raises ``invalid_argument`` if they are in the past of the bill."""
    issued = parse_instant(args.issued) if args.issued else period.end
    due = parse_instant(args.due) if args.due else None
    if issued < period.start:
        raise BillingError(
            "invalid_argument",
            f"--issued {args.issued} is before the period, which starts at {format_instant(period.start)}; correct one",
        )
    if due is not None and due < issued:
        raise BillingError(
            "invalid_argument",
            f"--due {args.due} is before the date of issue, {format_instant(issued)}; give a later one, or --issued",
        )
    return issued, due


def _no_usage(args: Namespace, period: Period, usage: AggregatedUsage) -> BillingError:
    """Return the error of a run without a bill, which names what the usage has instead."""
    found, account = usage.found, args.account
    whose = "any account" if args.all else f"account {safe_repr(account)}"
    advice = "check the account, --period and --zone"
    near: tuple[str, frozenset[str]] | None = None
    if found.first:
        advice = found_days(found)
        if account is not None and found.is_without(account):
            advice, near = f"no record of the usage names it; {advice}", (account, found.accounts)
    message = f"{args.period} ({period}): no billable record of {whose}; {advice}"
    return BillingError("no_usage", message, near=near)


def _merge_customer(args: Namespace, customer: Customer) -> Customer:
    """Merge the options into a customer of the file. Options take precedence."""
    return Customer(
        customer.name if args.customer is None else args.customer,
        customer.tax_number if args.customer_tax_number is None else args.customer_tax_number,
        tuple(args.customer_detail) or customer.details,
        customer.channel if args.channel is None else args.channel,
        customer.balance,
        customer.title,
        customer.terms,
        customer.taxes,
    )
