"""The command that writes notes: credit-note."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from brivionix_billing.cli.arguments import EXIT_ERROR, EXIT_OK, add_prices, load_book
from brivionix_billing.cli.bill_files import (
    REJECTED_FILE,
    RejectedFile,
    add_place,
    bill_row,
    bills_table,
    print_skipped,
    series_tail,
    sibling_documents,
)
from brivionix_billing.cli.drafts import open_draft
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, load_signing_key, open_usage
from brivionix_billing.cli.output import print_rows
from brivionix_billing.cli.render import PageWriter, add_options
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.invoice.build import build_invoice
from brivionix_billing.invoice.chain import order_changes
from brivionix_billing.invoice.document import read_document, schema_errors
from brivionix_billing.invoice.files import DOCUMENT_FILE, RecordListWriter, read_intact_document, write_bill
from brivionix_billing.invoice.header import Header
from brivionix_billing.invoice.notes import build_note, build_voiding_note
from brivionix_billing.invoice.signing import key_id, seal
from brivionix_billing.times import Period, parse_instant

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "credit-note",
        help="correct a bill with a note",
        description="Writes a note into DIR. With --usage, the note has the difference from the correct bill; without, "
        "it cancels the whole bill. With --void, it reverses an earlier note. The bill itself is never edited.",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", metavar="INVOICE.json", help="the bill to correct")
    parser.add_argument("--usage", metavar="USAGE", help=f"the corrected usage; {USAGE_HELP}")
    parser.add_argument("--void", metavar="ID", help="reverse this note of the bill, without usage")
    add_usage_options(parser)
    parser.add_argument("--reason", required=True, metavar="TEXT", help="the reason, printed on the note")
    add_place(parser, required=True)
    parser.add_argument("--issued", metavar="T", help="the date of issue", required=True)
    add_options(parser)
    parser.add_argument("--sign-key", metavar="FILE", help="sign with this Ed25519 private key (PEM)")
    add_prices(parser)
    parser.set_defaults(run=_credit_note)


def _credit_note(args: Namespace) -> int:
    bill = read_intact_document(Path(args.invoice))
    previous = series_tail(Path(args.after))
    documents = (read_document(path) for path in sibling_documents(Path(args.after)))
    earlier = order_changes(bill, [document for document in documents if not schema_errors(document)])
    # An empty name is a mistake, as of an unset variable, and must not cancel the bill.
    has_usage = args.usage is not None or args.query is not None
    if args.void and has_usage:
        raise BillingError("invalid_argument", "--void takes the figures from the note; remove --usage and --query")
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
        credit_digits=bill["rounding"]["credit_digits"],
    )
    corrected = None
    status = EXIT_OK
    with (
        open_draft(out) as draft,
        RecordListWriter(draft.folder) as lists,
        RejectedFile(draft.folder / REJECTED_FILE) as rejected_file,
    ):
        records = None
        if has_usage:
            book = load_book(args)
            with open_usage(args, book) as lines:
                usage_totals = aggregate_usage(
                    lines, book, period, account=header.account, on_rejected=rejected_file.add, on_lines=lists.add
                )
            usage = usage_totals.accounts.get(header.account) or AccountUsage(header.account)
            # The price file may have got further channels since, which are no correction of this bill.
            corrected = build_invoice(usage, header, book, channels=bill["totals"]["channels"] or None)
            records = lists.finish(header.account)
            print_skipped(usage_totals, rejected_file, out)
            status = EXIT_ERROR if usage_totals.rejected else EXIT_OK
        if args.void:
            note = build_voiding_note(bill, args.void, header, args.reason, earlier)
        else:
            note = build_note(bill, corrected, header, args.reason, earlier)
        document = seal(note, key)
        write_bill(draft.folder, document, records, pages.render(document), **pages.text)
        rejected_file.close()
        lists.close()
        draft.publish(DOCUMENT_FILE)
    row = bill_row(document, out / DOCUMENT_FILE)
    print_rows([row], "table", lambda: bills_table([row]))
    return status
