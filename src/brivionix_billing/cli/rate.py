"""The commands about single requests: rate, explain."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from brivionix_billing.cli.arguments import EXIT_ERROR, EXIT_OK, add_prices, load_book
from brivionix_billing.cli.files import open_usage_file
from brivionix_billing.cli.output import print_stderr, print_stdout
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.partitions import DuplicateDetector
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.rating.explanation import LOCALES
from brivionix_billing.tabular import format_csv
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records

__all__ = ["add_commands"]

_NAMED = 20


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "rate",
        help="the exact charge of every request of a usage file",
        description="A charge a line. Lines that cannot be priced are told on stderr, and the exit status is 2. Every "
        "line is priced as it stands; request ids that stand twice are told, and only 'invoice' counts them once.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE.jsonl", help="the usage file; - is stdin")
    parser.add_argument("--format", choices=["json", "csv"], default="json", help="json is a line a charge (json)")
    parser.add_argument("--set-aside", metavar="FILE", help="write the lines that cannot be priced there, with reasons")
    add_prices(parser)
    parser.set_defaults(run=_rate)

    parser = commands.add_parser(
        "explain",
        help="one charge, explained",
        description="The charge of one request, for redoing it with a pocket calculator.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE.jsonl", help="the usage file; - is stdin")
    parser.add_argument("--request", required=True, metavar="ID", help="the request id")
    parser.add_argument("--locale", choices=list(LOCALES), default="en")
    add_prices(parser)
    parser.set_defaults(run=_explain)


def _charge(book: PriceBook, record: Record) -> Charge | RejectedRecord:
    origin = record.origin
    try:
        return book.rate(
            record.usage, model=origin.model, group=origin.group, at=record.at, service_tier=origin.service_tier
        )
    except BillingError as error:
        return RejectedRecord(record.line, record.request_id, origin.account, record.at, error.code, error.message)


def _charges(book: PriceBook, lines: Any, watch: DuplicateDetector) -> Iterator[tuple[Record, Charge] | RejectedRecord]:
    for record in read_records(lines):
        if isinstance(record, RejectedRecord):
            yield record
            continue
        watch.add(record)
        charge = _charge(book, record)
        yield charge if isinstance(charge, RejectedRecord) else (record, charge)


def _rate(args: Namespace) -> int:
    book = load_book(args)
    aside = 0
    heading = args.format == "csv"
    with DuplicateDetector() as watch, open_usage_file(args.usage) as lines, _rejected_file(args.set_aside) as refused:
        for found in _charges(book, lines, watch):
            if isinstance(found, RejectedRecord):
                aside += 1
                if refused is not None:
                    refused.write(json.dumps(found.as_dict(), ensure_ascii=False) + "\n")
                if aside <= _NAMED:
                    print_stderr(f"line {found.line}: {found.message} [{found.code}]")
                continue
            record, charge = found
            row = {"request_id": record.request_id, "account": record.origin.account, **charge.as_dict()}
            if args.format == "json":
                print(json.dumps(row))
            else:
                # Every row has a column per channel, though a channel may have no price yet.
                row["cost"] = {name: row["cost"].get(name, "") for name in book.channels()}
                text = format_csv([row])
                text = text if heading else text.split("\n", 1)[1]
                sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))  # whatever the locale
                heading = False
        found_twice = watch.report()
    if aside > _NAMED:
        print_stderr(f"... and {aside - _NAMED} more; --set-aside FILE keeps them all")
    if aside:
        print_stderr(f"{aside} line{'s' if aside != 1 else ''} not priced")
    for request_id, numbers, same in found_twice.named[:_NAMED]:
        what = "the same record" if same else "with different contents"
        print_stderr(f"request id {request_id} stands in lines {', '.join(map(str, numbers[:10]))}: {what}")
    if found_twice.same:
        print_stderr(f"{found_twice.same} repeated; a bill counts them once")
    if found_twice.conflicts:
        print_stderr(f"{found_twice.conflicts} request ids with different contents; a bill sets them aside")
    return EXIT_ERROR if aside or found_twice.conflicts else EXIT_OK


def _explain(args: Namespace) -> int:
    book = load_book(args)
    with open_usage_file(args.usage) as lines:
        for record in read_records(lines):
            if record.request_id != args.request:
                continue
            found = record if isinstance(record, RejectedRecord) else _charge(book, record)
            if isinstance(found, RejectedRecord):
                raise BillingError(found.code, f"line {found.line}: {found.message}")
            origin = record.origin if isinstance(record, Record) else None
            text = found.explain(args.locale)
            print_stdout(f"{args.request}, account {origin.account if origin else ''}\n{text}")
            quota = {"en": "Quota of the gateway (500000 per USD): {}", "zh_CN": "网关额度(每 USD 500000):{}"}
            print_stdout(quota[args.locale].format(found.gateway_quota()) + "\n")
            return EXIT_OK
    raise BillingError("invalid_record", f"no request {safe_repr(args.request)} in {args.usage}")


@contextmanager
def _rejected_file(path: str | None) -> Iterator[IO[str] | None]:
    """A file for the lines that cannot be priced, where one is wanted."""
    if path is None:
        yield None
        return
    try:
        file = open(path, "x", encoding="utf-8")  # noqa: SIM115  # closed below
    except FileExistsError:
        raise BillingError(
            "file_unreadable", f"{safe_repr(path, 200)} stands already; nothing is written over"
        ) from None
    with file:
        yield file
