"""Finds late usage: records of billed periods that arrived after the bills, for bills of a later period."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from brivionix_billing.cli.arguments import worker_count
from brivionix_billing.cli.files import open_usage, source_position
from brivionix_billing.cli.output import progress
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage, AggregatedUsage
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.invoice.build import build_invoice
from brivionix_billing.invoice.chain import order_changes
from brivionix_billing.invoice.files import find_documents, read_intact_document
from brivionix_billing.invoice.header import Header
from brivionix_billing.invoice.late import build_late_usage
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import Period, parse_instant

__all__ = ["find_late_usage"]


def find_late_usage(args: Namespace, book: PriceBook, period: Period) -> dict[str, list[dict[str, Any]]]:
    """Return the sections ``late`` by account, for the bills at ``--late`` whose periods end before ``period`` starts.

    The usage is read once more for each of their periods. Raises ``invalid_argument`` if it comes from stdin.
    """
    if args.usage == "-":
        raise BillingError("invalid_argument", "--late reads the usage several times; give a file, not stdin")
    documents = [read_intact_document(path) for path in find_documents(Path(args.late))]
    aggregated: dict[Period, AggregatedUsage] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for bill in sorted(documents, key=lambda document: (document["period"]["from"], document["id"])):
        account = bill["customer"]["account"]
        closed = parse_instant(bill["period"]["to"]) <= period.start
        if bill["kind"] != "invoice" or not closed or args.account not in (None, account):
            continue
        earlier_period = Period.parse(bill["period"]["name"], bill["period"]["zone"])
        if earlier_period not in aggregated:
            with open_usage(args, book) as lines:
                aggregated[earlier_period] = aggregate_usage(
                    lines,
                    book,
                    earlier_period,
                    account=args.account,
                    progress=progress(source_position(args)),
                    workers=worker_count(args),
                )
        usage = aggregated[earlier_period].accounts.get(account) or AccountUsage(account)
        header = Header(
            account,
            earlier_period,
            bill["period"]["name"],
            issued=earlier_period.end,
            credit_digits=bill["rounding"]["credit_digits"],
        )
        corrected = build_invoice(usage, header, book, channels=bill["totals"]["channels"] or None)
        section = build_late_usage(bill, corrected, order_changes(bill, documents))
        if section is not None:
            found.setdefault(account, []).append(section)
    return found
