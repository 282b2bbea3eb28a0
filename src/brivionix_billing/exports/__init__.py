"""Exports for finance systems: FOCUS, beancount, hledger, journal entries, and the report of a period.

>>> from datetime import UTC, datetime
>>> from brivionix_billing import PriceBook
>>> from brivionix_billing.exports import account_books, journal_csv, period_report
>>> from brivionix_billing.ledger import Ledger
>>> from brivionix_billing.times import Period
>>> book, now = PriceBook.load("pricing.yaml"), datetime(2026, 10, 1, tzinfo=UTC)
>>> ledger = Ledger.open("sqlite://", book)
>>> _ = ledger.open_account("acct_1", at=now)
>>> _ = ledger.top_up("acct_1", book.quote("rmb", at=now, pay="85"), reference="pi_1", id="evt_1", at=now)
>>> _ = ledger.charge("acct_1", "40", id="req_1", at=now)
>>> books = [account_books(ledger, account, Period.parse("2026-10")) for account in ledger.accounts()]
>>> row = period_report(books).rows[0]
>>> row.account, row.channel, *(str(row.amounts()[name]) for name in ("received", "revenue", "closing"))
('acct_1', 'rmb', '85.00', '34.00', '51.00')
>>> print(journal_csv(books), end="")
date,account,debit,credit,currency,text,id
2026-10-01,Cash,85.00,,CNY,"Top-up, acct_1, pi_1",evt_1
2026-10-01,Deferred revenue,,85.00,CNY,"Top-up, acct_1, pi_1",evt_1
2026-10-01,Deferred revenue,34.00,,CNY,"Usage, acct_1",usage:acct_1:2026-10-01
2026-10-01,Revenue from usage,,34.00,CNY,"Usage, acct_1",usage:acct_1:2026-10-01
"""

from brivionix_billing.exports.beancount import beancount_lines
from brivionix_billing.exports.bookings import AccountBooks, Booking, account_books
from brivionix_billing.exports.hledger import hledger_lines
from brivionix_billing.exports.journal import (
    DEFAULT_ACCOUNTS,
    journal_csv,
    read_account_mapping,
    statement_journal_csv,
)
from brivionix_billing.exports.period_report import PeriodReport, ReportRow, period_report

__all__ = [
    "AccountBooks",
    "Booking",
    "DEFAULT_ACCOUNTS",
    "PeriodReport",
    "ReportRow",
    "account_books",
    "beancount_lines",
    "hledger_lines",
    "journal_csv",
    "period_report",
    "read_account_mapping",
    "statement_journal_csv",
]
