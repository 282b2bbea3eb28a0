"""The commands that write bills and notes: invoice, credit-note."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from brivionix_billing.cli.arguments import EXIT_ERROR, EXIT_OK, add_prices, add_workers, load_book, worker_count
from brivionix_billing.cli.drafts import open_draft
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, load_signing_key, open_usage, source_position
from brivionix_billing.cli.output import count_noun, print_rows, print_stderr, progress
from brivionix_billing.cli.render import PageWriter, add_options
from brivionix_billing.cli.skipped import found_days, print_duplicates, print_groups, print_out_of_scope
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import create_file
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage, AggregatedUsage
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.invoice.aggregation.dimensions import Dimensions, require_section_dimension
from brivionix_billing.invoice.build import build_invoice
from brivionix_billing.invoice.customers import UNKNOWN_CUSTOMER, Customer, read_customers, reconcile_balances
from brivionix_billing.invoice.document import read_document
from brivionix_billing.invoice.files import (
    DOCUMENT_FILE,
    RecordListWriter,
    find_documents,
    latest_document,
    read_intact_document,
    write_bill,
)
from brivionix_billing.invoice.header import Header
from brivionix_billing.invoice.notes import build_note
from brivionix_billing.invoice.signing import key_id, seal
from brivionix_billing.report.rejections import RejectionSummary
from brivionix_billing.tabular import format_csv, format_table
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usage.record_file import RejectedRecord

__all__ = ["add_commands"]

REJECTED_FILE: Final = "rejected.jsonl"
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
    _add_heading(parser)
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    add_workers(parser)
    add_prices(parser)
    parser.set_defaults(run=_invoice)

    parser = commands.add_parser(
        "credit-note",
        help="correct a bill with a note",
        description="Writes a note into DIR. With --usage, the note has the difference from the correct bill; without, "
        "it cancels the whole bill. The bill itself is never edited.",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", metavar="INVOICE.json", help="the bill to correct")
    parser.add_argument("--usage", metavar="USAGE", help=f"the corrected usage; {USAGE_HELP}")
    add_usage_options(parser)
    parser.add_argument("--reason", required=True, metavar="TEXT", help="the reason, printed on the note")
    _add_heading(parser, note=True)
    add_prices(parser)
    parser.set_defaults(run=_credit_note)


def _add_heading(parser: ArgumentParser, *, note: bool = False) -> None:
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="the folder to write to; existing files are never replaced"
    )
    parser.add_argument(
        "--after",
        required=note,
        metavar="PATH",
        help="the last document of the series, or a folder that contains it; the next number follows it",
    )
    issued = "the date of issue" if note else "the date of issue (the end of the period)"
    parser.add_argument("--issued", metavar="T", help=issued, required=note)
    add_options(parser)
    if note:
        parser.add_argument("--sign-key", metavar="FILE", help="sign with this Ed25519 private key (PEM)")
        return
    parser.add_argument("--series", metavar="S", help="the series of numbers (that of --after, or INV)")
    parser.add_argument("--due", metavar="T", help="the due date")
    parser.add_argument("--issuer", default="Example issuer", metavar="NAME", help="the name of the issuer")
    parser.add_argument("--issuer-tax-number", metavar="T", help="the issuer's tax number")
    parser.add_argument(
        "--issuer-detail", action="append", default=[], metavar="LINE", help="a line below the name; repeatable"
    )
    parser.add_argument("--customer", metavar="NAME", help="the customer's name")
    parser.add_argument("--customer-tax-number", metavar="T", help="the customer's tax number")
    parser.add_argument(
        "--customer-detail", action="append", default=[], metavar="LINE", help="a line below the name; repeatable"
    )
    parser.add_argument("--channel", metavar="C", help="the channel through which the customer buys Credits")
    parser.add_argument(
        "--customers",
        metavar="FILE.json",
        help="a JSON object: account -> name, tax_number, details, channel, balance; other options take precedence",
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
    key = load_signing_key(args.sign_key) if args.sign_key else None
    pages = PageWriter(args, None if key is None else key.public_key())
    previous = _series_tail(Path(args.after)) if args.after else None
    series = args.series or (previous["series"] if previous else "INV")
    rows = []
    with ExitStack() as stack:
        draft = stack.enter_context(open_draft(out))
        lists = stack.enter_context(RecordListWriter(draft.folder))
        rejected_file = stack.enter_context(_RejectedFile(draft.folder / REJECTED_FILE))
        lines = stack.enter_context(open_usage(args, book))
        usage_totals = aggregate_usage(
            lines,
            book,
            period,
            account=args.account,
            on_rejected=rejected_file.add,
            on_leaves=lists.add,
            progress=progress(source_position(args)),
            workers=worker_count(args),
            dimensions=None if args.split is None else Dimensions([require_section_dimension(args.split)]),
        )
        billable = [account for _, account in sorted(usage_totals.accounts.items()) if account.requests]
        reconcile_balances(billable, customers)
        for usage in billable:
            customer = _merge_customer(args, customers.get(usage.account, UNKNOWN_CUSTOMER))
            header = Header(
                account=usage.account,
                period=period,
                period_name=args.period,
                issued=parse_instant(args.issued) if args.issued else period.end,
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
                due=parse_instant(args.due) if args.due else None,
                signing_key=None if key is None else key_id(key.public_key()),
                split=args.split,
            )
            document = seal(build_invoice(usage, header, book), key)
            folder = draft.folder / document["id"] if args.all else draft.folder
            path = write_bill(folder, document, lists.finish(usage.account), pages.render(document))
            rows.append(_row(document, out / path.relative_to(draft.folder)))
            previous = document
        if args.all and rows:
            with create_file(draft.folder / BILLS) as file:
                file.write(format_csv(rows))
        rejected_file.close()
        lists.close()
        if rows:  # otherwise the folder stays as it was, so that the next run works
            draft.publish(BILLS if args.all else DOCUMENT_FILE)
    if rows:
        print_rows(rows, args.format, lambda: _bills_table(rows))
    _print_skipped(usage_totals, rejected_file, out if rows else None)
    if not rows:
        raise _no_usage(args, period, usage_totals)
    return EXIT_ERROR if usage_totals.rejected else EXIT_OK


def _no_usage(args: Namespace, period: Period, usage: AggregatedUsage) -> BillingError:
    """Return the error of a run without a bill, which names what the usage has instead."""
    found, account = usage.found, args.account
    whose = "any account" if args.all else f"account {safe_repr(account)}"
    advice = "check the account, --period and --zone"
    near: tuple[str, frozenset[str]] | None = None
    if found.first:
        advice = found_days(found)
        if account is not None and account not in found.accounts:
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
    )


def _row(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    totals, payment, period = document["totals"], document["payment"] or {}, document["period"]
    return {
        "id": document["id"],
        "kind": document["kind"],
        "account": document["customer"]["account"],
        "customer": document["customer"]["name"],
        "channel": payment.get("channel"),
        "currency": payment.get("currency"),
        "amount": totals["rounded"]["channels"].get(payment.get("channel")),
        "period": period["name"],
        "from": period["from"],
        "to": period["to"],
        "issued": document["issued"],
        "due": document["due"],
        "requests": totals["requests"],
        "credits": totals["credits"],
        "nominal": totals["nominal"]["amount"],
        "rounded": {"credits": totals["rounded"]["credits"], **totals["rounded"]["channels"]},
        "hash": document["hash"],
        "path": str(path),
    }


def _bills_table(rows: list[dict[str, Any]]) -> str:
    channels = [name for name in dict.fromkeys(name for row in rows for name in row["rounded"]) if name != "credits"]
    heads = ["bill", "account", "requests", "Credits", *channels, "file"]
    cells = [
        [row["id"], row["account"], str(row["requests"]), row["rounded"]["credits"]]
        + [row["rounded"].get(name, "") for name in channels]
        + [row["path"]]
        for row in rows
    ]
    return format_table([heads, *cells], left=2)


def _print_skipped(usage: AggregatedUsage, rejected: _RejectedFile, out: Path | None) -> None:
    print_duplicates(usage.duplicates, usage.duplicate_count)
    print_out_of_scope(usage.out_of_scope)
    if usage.rejected:
        count = count_noun(usage.rejected, "record")
        where = "" if out is None else f"; the reasons are in {out / REJECTED_FILE}"
        print_stderr(f"{count} rejected, NOT billed{where}")
        print_groups(rejected.summary.groups())


class _RejectedFile:
    """The file of rejected records, and their summary. The file is created with the first record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None
        self.summary = RejectionSummary()

    def __enter__(self) -> _RejectedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def add(self, record: RejectedRecord) -> None:
        """Append a record."""
        self.summary.add(record)
        if self.file is None:
            self.file = create_file(self.path)
        self.file.write(json.dumps(record.as_dict(), ensure_ascii=False) + "\n")


def _sibling_documents(path: Path) -> list[Path]:
    """Return the documents below a folder, or a document and those in its sibling folders."""
    if path.is_dir():
        return list(find_documents(path))
    siblings = path.resolve().parent.parent.glob(f"*/{DOCUMENT_FILE}")
    return [path, *sorted(sibling for sibling in siblings if not sibling.samefile(path))]


def _series_tail(path: Path) -> dict[str, Any]:
    """Return the last document of a series.

    Raises ``series_broken`` if a later document is next to it: two documents would have the same number.
    """
    last = latest_document(path)
    for sibling in _sibling_documents(path):
        other = read_document(sibling)
        number = other.get("number")
        if other.get("series") == last["series"] and type(number) is int and number > last["number"]:
            raise BillingError(
                "series_broken",
                f"{last['id']} is not the last document of its series: {sibling} follows; give that by --after",
            )
    return last


def _credit_note(args: Namespace) -> int:
    bill = read_intact_document(Path(args.invoice))
    previous = _series_tail(Path(args.after))
    for path in _sibling_documents(Path(args.after)):
        link = read_document(path).get("corrects")
        if isinstance(link, dict) and link.get("id") == bill["id"]:
            raise BillingError(
                "document_exists",
                f"{bill['id']} was already corrected by {path}; use that note, because a second one would refund the "
                "same amount again",
            )
    out = Path(args.out)
    for name in (DOCUMENT_FILE, REJECTED_FILE):
        if os.path.lexists(out / name):
            raise BillingError(
                "document_exists", f"{safe_repr(str(out / name), 200)} exists already; choose another folder"
            )
    key = load_signing_key(args.sign_key) if args.sign_key else None
    pages = PageWriter(args, None if key is None else key.public_key())
    period = Period.parse(bill["period"]["name"], bill["period"]["zone"])
    header = Header(
        account=bill["customer"]["account"],
        period=period,
        period_name=bill["period"]["name"],
        issued=parse_instant(args.issued),
        series=previous["series"],
        number=previous["number"] + 1,
        previous=previous,
        issuer=bill["issuer"]["name"],
        issuer_tax_number=bill["issuer"]["tax_number"],
        issuer_details=bill["issuer"]["details"],
        customer=bill["customer"]["name"],
        customer_tax_number=bill["customer"]["tax_number"],
        customer_details=bill["customer"]["details"],
        signing_key=None if key is None else key_id(key.public_key()),
    )
    corrected = None
    status = EXIT_OK
    with (
        open_draft(out) as draft,
        RecordListWriter(draft.folder) as lists,
        _RejectedFile(draft.folder / REJECTED_FILE) as rejected_file,
    ):
        records = None
        # An empty name is a mistake, as of an unset variable, and must not cancel the bill.
        if args.usage is not None or args.query is not None:
            book = load_book(args)
            with open_usage(args, book) as lines:
                usage_totals = aggregate_usage(
                    lines, book, period, account=header.account, on_rejected=rejected_file.add, on_leaves=lists.add
                )
            usage = usage_totals.accounts.get(header.account) or AccountUsage(header.account)
            # The price file may have got further channels since, which are no correction of this bill.
            corrected = build_invoice(usage, header, book, channels=bill["totals"]["channels"] or None)
            records = lists.finish(header.account)
            _print_skipped(usage_totals, rejected_file, out)
            status = EXIT_ERROR if usage_totals.rejected else EXIT_OK
        document = seal(build_note(bill, corrected, header, args.reason), key)
        write_bill(draft.folder, document, records, pages.render(document))
        rejected_file.close()
        lists.close()
        draft.publish(DOCUMENT_FILE)
    row = _row(document, out / DOCUMENT_FILE)
    print_rows([row], "table", lambda: _bills_table([row]))
    return status
