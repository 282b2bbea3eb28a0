"""The commands that price single requests: rate, explain."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Final

from brivionix_billing.cli.arguments import EXIT_ERROR, EXIT_OK, add_locale, add_prices, load_book
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, open_usage
from brivionix_billing.cli.output import print_stderr, print_stdout
from brivionix_billing.cli.skipped import print_groups
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import create_file
from brivionix_billing.invoice.aggregation.partitions import DuplicateDetector
from brivionix_billing.invoice.figures import LINE_CONDITIONS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.report.rejections import RejectionSummary
from brivionix_billing.tabular import format_csv
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records

__all__ = ["add_commands"]

_HEAD_COLUMNS: Final = (
    *("request_id", "account", "model", "group", "service_tier", "context_tier", *LINE_CONDITIONS),
    *("at", "estimated", "credits", "nominal"),
)
_TAIL_COLUMNS: Final = ("lines", "unaccounted", "warnings", "price_since", "price_book")
"""The columns of CSV before and after those of the channels. They do not depend on the records."""
_LIST_COLUMNS: Final = frozenset({"lines", "unaccounted", "warnings"})
"""Columns that hold a list, as JSON text."""
_MAX_REPORTED = 20
"""Maximum number of lines, and of request ids, that stderr names."""


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "rate",
        help="print the exact charge of every request",
        description="Prints one charge per line. Lines that cannot be priced are reported on stderr, with exit status "
        "2. Every line is priced separately. Repeated request ids are reported; 'invoice' counts them once.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE", nargs="?", help=USAGE_HELP)
    add_usage_options(parser)
    parser.add_argument("--format", choices=["json", "csv"], default="json", help="json is one object per line (json)")
    parser.add_argument(
        "--rejected", metavar="FILE", help="write the lines that cannot be priced to FILE, with reasons"
    )
    add_prices(parser)
    parser.set_defaults(run=_rate)

    parser = commands.add_parser(
        "explain",
        help="explain the charge of one request",
        description="Prints every step of the charge of one request, so that you can check it by hand.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE", nargs="?", help=USAGE_HELP)
    add_usage_options(parser)
    parser.add_argument("--request", required=True, metavar="ID", help="the request id")
    add_locale(parser, "the language of the explanation (en)")
    add_prices(parser)
    parser.set_defaults(run=_explain)


def _charge(book: PriceBook, record: Record) -> Charge | RejectedRecord:
    try:
        return book.rate_record(record)
    except BillingError as error:
        origin = record.origin
        names = error.code, str(error), None, origin.model, record.served_tier or origin.service_tier
        return RejectedRecord(record.line, record.request_id, origin.account, record.at, *names)


def _charges(book: PriceBook, lines: Any, watch: DuplicateDetector) -> Iterator[tuple[Record, Charge] | RejectedRecord]:
    for record in read_records(lines, conventions=book.conventions):
        if isinstance(record, RejectedRecord):
            yield record
            continue
        watch.add(record)
        charge = _charge(book, record)
        yield charge if isinstance(charge, RejectedRecord) else (record, charge)


def _rate(args: Namespace) -> int:
    book = load_book(args)
    rejected, summary = 0, RejectionSummary()
    heading = args.format == "csv"
    with (
        DuplicateDetector() as watch,
        open_usage(args, book) as lines,
        _rejected_file(args.rejected) as rejected_file,
    ):
        for charged in _charges(book, lines, watch):
            if isinstance(charged, RejectedRecord):
                rejected += 1
                summary.add(charged)
                if rejected_file is not None:
                    rejected_file.write(json.dumps(charged.as_dict(), ensure_ascii=False) + "\n")
                if rejected <= _MAX_REPORTED:
                    print_stderr(f"line {charged.line}: {charged.message} [{charged.code}]")
                continue
            record, charge = charged
            row = {"request_id": record.request_id, "account": record.origin.account, **charge.as_dict()}
            if args.format == "json":
                print(json.dumps(row))
            else:
                text = format_csv([_csv_row(row, book)])
                text = text if heading else text.split("\n", 1)[1]
                sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))  # in any locale
                heading = False
        duplicates = watch.report()
    if rejected > _MAX_REPORTED:
        print_stderr(f"... and {rejected - _MAX_REPORTED} more; --rejected FILE keeps them all")
        print_groups(summary.groups())
    if rejected:
        print_stderr(f"{rejected} line{'s' if rejected != 1 else ''} not priced")
    for request_id, numbers, same in duplicates.named[:_MAX_REPORTED]:
        what = "the same record" if same else "with different contents"
        print_stderr(f"request id {request_id} is in lines {', '.join(map(str, numbers[:10]))}: {what}")
    if duplicates.same:
        print_stderr(f"{duplicates.same} repeated; a bill counts each once")
    if duplicates.conflicts:
        print_stderr(f"{duplicates.conflicts} request ids with different contents; a bill rejects them")
    return EXIT_ERROR if rejected or duplicates.conflicts else EXIT_OK


def _csv_row(row: Mapping[str, Any], book: PriceBook) -> dict[str, Any]:
    """Return the cells of a charge: always the same columns, so that rows of different records line up."""
    costs = {f"cost_{name}": row["cost"].get(name) for name in book.channels()}
    cells = {name: row.get(name) for name in _HEAD_COLUMNS} | costs | {name: row.get(name) for name in _TAIL_COLUMNS}
    return cells | {name: json.dumps(row.get(name) or [], ensure_ascii=False) for name in _LIST_COLUMNS}


def _explain(args: Namespace) -> int:
    book = load_book(args)
    with open_usage(args, book) as lines:
        for record in read_records(lines, conventions=book.conventions):
            if record.request_id != args.request:
                continue
            charge = record if isinstance(record, RejectedRecord) else _charge(book, record)
            if isinstance(charge, RejectedRecord):
                raise BillingError(charge.code, f"line {charge.line}: {charge.message}")
            origin = record.origin if isinstance(record, Record) else None
            text = charge.explain(args.locale)
            print_stdout(f"{args.request}, account {origin.account if origin else ''}\n{text}")
            if charge.nominal.currency == "USD":  # gateways of the new-api family count their quota per USD
                quota = {"en": "Quota of the gateway (500000 per USD): {}", "zh_CN": "网关额度(每 USD 500000):{}"}
                print_stdout(quota[args.locale].format(charge.gateway_quota()) + "\n")
            return EXIT_OK
    raise BillingError(
        "invalid_record", f"{safe_repr(args.usage, 200)}: no record of request {safe_repr(args.request)}; check the id"
    )


@contextmanager
def _rejected_file(path: str | None) -> Iterator[IO[str] | None]:
    """Open a new file for the lines that cannot be priced, if the option names one."""
    if path is None:
        yield None
        return
    try:
        file = create_file(path)
    except FileExistsError:
        raise BillingError("file_unreadable", f"{safe_repr(path, 200)} exists already; name a new file") from None
    with file:
        yield file
