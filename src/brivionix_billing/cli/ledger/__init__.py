"""The command ``ledger``: accounts, payments, reports, and maintenance of the database."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from typing import Any

from brivionix_billing.cli.ledger import (
    account_pages,
    accounts,
    api_tokens,
    corrections,
    limits,
    maintenance,
    members,
    orders,
    payments,
    period_report,
    plans,
    reports,
    requests,
    signals,
    transfers,
)

__all__ = ["add_commands"]

_ABOUT = """\
The ledger of prepaid Credits, in SQLite or PostgreSQL. It requires the extra 'ledger' (or 'postgresql').

Start with:
  brivionix-billing ledger migrate                          creates sqlite:///ledger.db
  brivionix-billing ledger open acct_1 --id signup-1
  brivionix-billing ledger topup acct_1 --channel rmb --pay 85 --reference pi_1 --id evt_1
  brivionix-billing ledger balance acct_1

At the end of a month:
  brivionix-billing ledger records --all --period 2026-10 --out usage.jsonl
  brivionix-billing ledger customers --period 2026-10 --out customers.json
  brivionix-billing invoice usage.jsonl --all --period 2026-10 --customers customers.json --out bills
"""


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    subcommands = commands.add_parser(
        "ledger",
        help="accounts, top-ups, refunds, statements: the ledger of Credits",
        description=_ABOUT,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    ).add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for module in (
        *(maintenance, accounts, members, api_tokens, limits, orders, payments, transfers, corrections, reports),
        *(account_pages, requests, period_report, signals, plans),
    ):
        module.add_commands(subcommands)
