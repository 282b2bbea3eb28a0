"""The subcommand ``ledger report``: deferred and recognised revenue of a period, as a table, JSON, CSV or XLSX."""

from __future__ import annotations

from argparse import Namespace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK
from brivionix_billing.cli.ledger.common import add_period, open_ledger, subcommand, warn_open_holds
from brivionix_billing.cli.output import as_json, count_noun, print_stderr, print_stdout, printable
from brivionix_billing.errors import BillingError
from brivionix_billing.files import atomic_write_bytes
from brivionix_billing.tabular import format_csv, format_table
from brivionix_billing.times import Period

if TYPE_CHECKING:
    from brivionix_billing.exports import PeriodReport, ReportRow

__all__ = ["add_commands"]

_TITLES: Final = {
    "opening": "opening",
    "received": "received",
    "granted": "granted",
    "refunded": "refunded",
    "disputed": "disputed",
    "reversed": "reversed",
    "used": "used",
    "expired": "expired",
    "corrected": "corrected",
    "voided": "voided",
    "closing": "closing",
    "cash": "net cash",
    "tax": "tax",
    "fees": "fees",
    "revenue": "revenue",
    "opening_debt": "opening debt",
    "closing_debt": "closing debt",
}
"""Amount of a row -> its heading. The columns of CSV have the names of the amounts."""


def add_commands(commands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = subcommand(
        commands,
        "report",
        _report,
        "report cash, deferred and recognised revenue, and debts of a period",
        "Reports, by account, payment channel and currency: deferred revenue at the start, the money and the use of "
        "Credits that change it, and deferred revenue at the end. Rows in Credits report balances and debts. In every "
        "row, opening plus movements equals closing; this is checked. The table has totals by channel and currency; "
        "CSV and JSON have every account, XLSX has both.",
        formats=("table", "json", "csv", "xlsx"),
    )
    add_period(parser)
    parser.add_argument("--out", metavar="FILE", help="write to this file, atomically (default: stdout)")


def _report(args: Namespace) -> int:
    from brivionix_billing.exports import account_books, period_report

    if args.format == "xlsx":
        from brivionix_billing.report.workbook import require_xlsx_extra

        require_xlsx_extra()
        if args.out is None:
            raise BillingError("invalid_argument", "a workbook is a file; add --out FILE")
    period = Period.parse(args.period, args.zone)
    with open_ledger(args) as ledger:
        books = [account_books(ledger, account, period) for account in ledger.accounts()]
    report = period_report(books)
    if args.out is None:
        print_stdout(_text(args, report))
    else:
        atomic_write_bytes(args.out, _workbook(report) if args.format == "xlsx" else _text(args, report).encode())
        print_stderr(f"{args.out}: {count_noun(len(books), 'account')}")
    warn_open_holds((each.account, each.open_holds) for each in books)
    return EXIT_OK


def _text(args: Namespace, report: PeriodReport) -> str:
    if args.format == "json":
        return as_json(report.as_dict())
    if args.format == "csv":
        return format_csv([row.as_dict() for row in report.rows], ["account", "channel", "currency", *_TITLES])
    return printable(_table(report) + "\n")


def _table(report: PeriodReport) -> str:
    """Return the totals, with one column per channel and currency, because there are more amounts than totals."""
    rows = [total.as_dict() for total in report.totals]
    heads = ["", *(f"{row['channel']} {row['currency']}".strip() for row in rows)]
    return format_table([heads, *([title, *(row[name] or "-" for row in rows)] for name, title in _TITLES.items())], 1)


def _workbook(report: PeriodReport) -> bytes:
    from brivionix_billing.report.workbook import Sheet, workbook_bytes

    titles = list(_TITLES.values())
    return workbook_bytes(
        [
            Sheet("Totals", ["channel", "currency", *titles], [_cells(row)[1:] for row in report.totals]),
            Sheet("Accounts", ["account", "channel", "currency", *titles], [_cells(row) for row in report.rows]),
        ]
    )


def _cells(row: ReportRow) -> list[str | Decimal | None]:
    return [row.account, row.channel, row.currency, *(row.amounts()[name] for name in _TITLES)]
