"""The commands for receipts: receipt, rate-cards, and the part of verify that checks receipts."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK, add_prices, load_book
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, load_signing_key, open_usage
from brivionix_billing.cli.output import as_json, print_stdout
from brivionix_billing.cli.reports import report_dict, report_text
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded
from brivionix_billing.invoice.receipts import make_receipt, rate_card_list, verify_receipt
from brivionix_billing.invoice.receipts.schema import MAX_RECEIPT_BYTES
from brivionix_billing.invoice.signing import SignatureState, load_public_key
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records

__all__ = ["add_commands", "is_receipt", "verify_receipts"]

_SCHEMA_FAMILY: Final = "brivionix-billing/receipt/"
_BILL_OPTIONS: Final = ("usage", "map", "set", "proof", "previous", "corrects", "records", "workers")
_MAX_READ: Final = 64 * 1024
"""Maximum size of a file that is read as a receipt, in bytes. The report names a receipt above the limit."""


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "receipt",
        help="print the signed receipt of one request",
        description=f"Prints the signed receipt of the charge of one request, at most {MAX_RECEIPT_BYTES} bytes. "
        "Check it with: brivionix-billing verify RECEIPT --key FILE",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE", help=USAGE_HELP)
    add_usage_options(parser)
    parser.add_argument("--request", required=True, metavar="ID", help="the request id")
    parser.add_argument("--key", required=True, metavar="FILE", help="sign with this Ed25519 private key (PEM)")
    add_prices(parser)
    parser.set_defaults(run=_receipt)

    parser = commands.add_parser(
        "rate-cards",
        help="print all rate cards as JSON, for verifiers of receipts",
        description="Prints the rate cards of all models, with the period in which each applies, as JSON. A verifier "
        "that cannot read the price file checks the prices of receipts against them.",
        allow_abbrev=False,
    )
    parser.add_argument("--group", action="append", metavar="G", help="a group (all groups); may be repeated")
    add_prices(parser)
    parser.set_defaults(run=_rate_cards)


def _receipt(args: Namespace) -> int:
    book = load_book(args)
    found: Record | None = None
    with open_usage(args, book) as lines:
        for record in read_records(lines, conventions=book.conventions):
            if record.request_id != args.request:
                continue
            if isinstance(record, RejectedRecord):
                raise BillingError(record.code, f"line {record.line}: {record.message}")
            if found is not None and found.leaf != record.leaf:
                raise BillingError(
                    "duplicate_conflict",
                    f"request id {safe_repr(args.request)} has different contents in lines {found.line} and "
                    f"{record.line}; keep the right one",
                )
            found = found or record
    if found is None:
        raise BillingError(
            "invalid_record",
            f"{safe_repr(args.usage, 200)}: no record of request {safe_repr(args.request)}; check the id",
        )
    key = load_signing_key(args.key)
    receipt = make_receipt(book.rate_record(found), request_id=args.request, key=key, account=found.origin.account)
    # A line end would be one byte more than was issued. Only a person at a terminal needs one.
    print_stdout(receipt.decode() + ("\n" if sys.stdout.isatty() else ""))
    return EXIT_OK


def _rate_cards(args: Namespace) -> int:
    print_stdout(as_json(rate_card_list(load_book(args), groups=args.group)))
    return EXIT_OK


def is_receipt(document: Mapping[str, Any]) -> bool:
    """Return whether a document is a receipt, of any version."""
    return str(document.get("schema")).startswith(_SCHEMA_FAMILY)


def verify_receipts(paths: Sequence[Path], documents: int, args: Namespace) -> int:
    """Verify receipts, and print the results as ``verify`` prints those of bills. Returns the exit status.

    ``documents`` is the number of all given documents. Raises ``invalid_argument`` if some of them are bills.
    """
    if len(paths) != documents:
        raise BillingError("invalid_argument", "bills and receipts were given; verify them separately")
    unused = [f"--{name}" for name in _BILL_OPTIONS if getattr(args, name) not in (None, [])]
    if unused:
        raise BillingError(
            "invalid_argument",
            f"a receipt is verified from the price file alone, without {', '.join(unused)}; remove these options",
        )
    key = load_public_key(args.key) if args.key else None
    book = load_book(args)
    reports = [
        (
            path,
            verify_receipt(
                read_bounded(path, _MAX_READ),
                key=key,
                book=book,
                request_id=args.request,
                require_signature=args.require_signature,
            ),
        )
        for path in paths
    ]
    if args.format == "json":
        rows = [
            {**report_dict(path, report), "failed": report.failed, "credits": report.credits}
            for path, report in reports
        ]
        print_stdout(as_json(rows))
    else:
        printed_notes: set[str] = set()
        for path, report in reports:
            # The verdict precedes all texts of others.
            if report.ok:
                word = "verified" if report.signature is SignatureState.VALID else "the figures verify"
                verdict = f"{path}: {word} ({report.signature}): request {report.id}, {report.credits} Credits"
            else:
                verdict = f"{path}: DOES NOT VERIFY ({report.signature})"
            print_stdout(report_text(verdict, report, printed_notes))
    return EXIT_OK if all(report.ok for _, report in reports) else EXIT_NEGATIVE
