"""Checks the exports of a ledger: reads their text without the library, and adds up in fractions."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from brivionix_billing import PriceBook
from brivionix_billing.exports import (
    account_books,
    beancount_lines,
    hledger_lines,
    journal_csv,
    period_report,
)
from brivionix_billing.exports.bookings import require_whole_days
from brivionix_billing.exports.focus import Bill, daily_usage, invoice_detail_rows, usage_rows
from brivionix_billing.exports.focus_columns import COST_AND_USAGE, focus_csv
from brivionix_billing.invoice import aggregate_usage
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.ledger import Ledger
from brivionix_billing.times import Period

HAS_BEANCOUNT = find_spec("beancount") is not None
HAS_HLEDGER = shutil.which("hledger") is not None
Sums = dict[tuple[str, str], Fraction]
"""(account, commodity) -> amount."""

_BEANCOUNT = re.compile(r"  ([A-Z]\S*)  (-?[0-9.]+) ([A-Z]+)(?: \{([0-9.]+) ([A-Z]+), .*\})?")
_HLEDGER = re.compile(r"    (\S+)  (-?[0-9.]+) ([A-Z]+)(?: @ ([0-9.]+) ([A-Z]+))?")


def transactions(text: str, posting: re.Pattern[str]) -> Iterator[list[tuple[str, Fraction, str, Fraction, str]]]:
    """Yield the postings of each transaction: account, amount, commodity, weight and its commodity."""
    found: list[tuple[str, Fraction, str, Fraction, str]] = []
    for line in text.splitlines():
        match = posting.fullmatch(line)
        if match:
            account, number, commodity, cost, currency = match.groups()
            amount = Fraction(number)
            weight = amount if cost is None else amount * Fraction(cost)
            found.append((account, amount, commodity, weight, commodity if cost is None else currency))
        elif not line:
            yield found
            found = []


def sums(text: str, posting: re.Pattern[str]) -> tuple[Sums, Sums]:
    """Return the sums of amounts and of weights by account. Every transaction must balance exactly."""
    amounts: Sums = defaultdict(Fraction)
    weights: Sums = defaultdict(Fraction)
    for postings in transactions(text, posting):
        balance: dict[str, Fraction] = defaultdict(Fraction)
        for account, amount, commodity, weight, unit in postings:
            amounts[account, commodity] += amount
            weights[account, unit] += weight
            balance[unit] += weight
        assert not any(balance.values()), postings
    return amounts, weights


def under(found: Sums, commodity: str, *prefixes: str) -> Fraction:
    """Return the sum of a commodity in accounts with one of these prefixes."""
    return Fraction(sum(n for (name, unit), n in found.items() if unit == commodity and name.startswith(prefixes)))


def exports(ledger: Ledger, period: Period) -> tuple[str, str, str, Any]:
    """Return the exports of all accounts: beancount, hledger, journal, report."""
    books = [account_books(ledger, account, period) for account in ledger.accounts()]
    days = require_whole_days(period)
    return (
        "\n".join(beancount_lines(books, *days)) + "\n",
        "\n".join(hledger_lines(books, *days)) + "\n",
        journal_csv(books),
        period_report(books),
    )


def check_tools(beancount: str, hledger: str) -> None:
    """Check two exports with the tools themselves, as far as they are installed."""
    if HAS_BEANCOUNT:
        from beancount.loader import load_string

        _, errors, _ = load_string(beancount)
        assert errors == []
    if HAS_HLEDGER:
        result = subprocess.run(
            ["hledger", "check", "--strict", "-f", "-"], input=hledger, text=True, capture_output=True, check=False
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stderr


def check_exports(ledger: Ledger, first: datetime, now: datetime) -> None:
    """Check that all exports of the whole time and of its parts balance, and equal the ledger's lots and balances."""
    start = Period.parse(f"{first.date()}/{first.date() + timedelta(1)}").start
    end = Period.parse(f"{first.date()}/{now.date() + timedelta(1)}").end
    last = end - timedelta(microseconds=1)
    ledger.expire(at=last)
    whole = exports(ledger, Period(start, end))
    check_tools(whole[0], whole[1])
    _check_totals(ledger, last, *whole)
    middle = start + timedelta((end - start).days // 2 or 1)
    if middle < end:
        parts = [exports(ledger, Period(start, middle)), exports(ledger, Period(middle, end))]
        for part in parts:
            check_tools(part[0], part[1])
        _check_parts(whole, *parts)


def _check_totals(ledger: Ledger, at: datetime, beancount: str, hledger: str, journal: str, report: Any) -> None:
    """Compare the exports of the whole time with lots and balances."""
    lots: list[Any] = [lot for account in ledger.accounts() for lot in ledger.lots(account) if lot.paid is not None]
    balances = [ledger.balance(account, at=at) for account in ledger.accounts()]
    unused = sum(Fraction(b.available) + Fraction(b.held) - Fraction(b.owed) for b in balances)
    owed = sum(Fraction(balance.owed) for balance in balances)
    for text, posting, write in ((beancount, _BEANCOUNT, str), (hledger, _HLEDGER, str.lower)):
        customers = write("Liabilities:Customers")
        amounts, weights = sums(text, posting)
        assert under(amounts, "CREDIT", customers) == -unused
        assert sum(n for (name, _), n in amounts.items() if name.lower().endswith(":owed") and name[0] in "Ll") == owed
        for currency in {lot.paid.currency for lot in lots}:
            cash, revenue, deferred = _money(lots, currency)
            # Tax and fees are in the cash, but not in the money of a lot.
            assert under(weights, currency, *map(write, ("Assets", "Expenses", "Liabilities:Tax"))) == cash
            assert under(weights, currency, write("Income")) == -revenue
            assert under(weights, currency, customers, write("Liabilities:Rounding")) == -deferred
    rows = list(csv.DictReader(io.StringIO(journal)))
    for currency in {lot.paid.currency for lot in lots}:
        booked: dict[str, Fraction] = defaultdict(Fraction)
        for row in rows:
            if row["currency"] == currency:
                booked[row["account"].split()[0]] += Fraction(row["debit"] or 0) - Fraction(row["credit"] or 0)
        cash, revenue, deferred = _money(lots, currency)
        assert (booked["Cash"] + booked["Tax"] + booked["Payment"], booked["Deferred"]) == (cash, -deferred)
        assert booked["Revenue"] + booked["Corrections"] == -revenue
        total = [row.amounts() for row in report.totals if row.currency == currency]
        found = {
            name: sum(Fraction(row[name]) for row in total) for name in ("cash", "tax", "fees", "revenue", "closing")
        }
        assert found["cash"] - found["tax"] + found["fees"] == cash
        assert (found["revenue"], found["closing"]) == (revenue, deferred)
    credits = next(row.amounts() for row in report.totals if row.currency == "Credits")
    assert (Fraction(credits["closing"]), Fraction(credits["closing_debt"])) == (unused, owed)


def _money(lots: list[Any], currency: str) -> tuple[Fraction, Fraction, Fraction]:
    """Return cash, revenue and deferred revenue by the lots."""
    ours = [lot for lot in lots if lot.paid.currency == currency]
    return (
        sum((Fraction(lot.paid.amount - lot.refunded.amount - lot.moved_paid.amount) for lot in ours), Fraction(0)),
        sum((Fraction(lot.recognised.amount) for lot in ours), Fraction(0)),
        sum((Fraction(lot.deferred.amount) for lot in ours), Fraction(0)),
    )


def _check_parts(whole: Any, former: Any, latter: Any) -> None:
    """Two periods that follow each other have the rows of the whole, and the first ends where the second starts."""
    assert sorted([*former[2].splitlines()[1:], *latter[2].splitlines()[1:]]) == sorted(whole[2].splitlines()[1:])
    ends = {(row.account, row.channel, row.currency): row.closing for row in former[3].rows}
    starts = {(row.account, row.channel, row.currency): row.opening for row in latter[3].rows}
    for key in ends.keys() | starts.keys():
        assert ends.get(key, 0) == starts.get(key, 0)


def run_tool(*command: str, path: Path) -> str:
    """Run a tool on a file. It must succeed. Returns its output."""
    result = subprocess.run([*command, str(path)], text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_focus(usage: bytes, book: PriceBook, document: Any, period: Period) -> None:
    """Check FOCUS rows of one bill: they have its lines, exactly, and every cost is price times quantity."""
    account = document["customer"]["account"]
    by_day = Dimensions(["day"], period.zone)
    daily = daily_usage(aggregate_usage(usage.splitlines(keepends=True), book, period, dimensions=by_day))
    bill = Bill.of(document, "rmb")
    rows = [row.columns() for row in usage_rows(daily, period, "Issuer", {account: "rmb"}, {account: bill})]
    sums: Sums = defaultdict(Fraction)
    for row in rows:
        numbers = {name: Fraction(value) for name, value in row.items() if isinstance(value, Decimal)}
        sums[str(row["InvoiceDetailId"]), "credits"] += numbers["PricingCurrencyEffectiveCost"]
        sums[str(row["InvoiceDetailId"]), "quantity"] += numbers["ConsumedQuantity"]
        for kind in ("List", "Contracted"):
            assert numbers[f"{kind}Cost"] == numbers[f"{kind}UnitPrice"] * numbers["PricingQuantity"]
        assert numbers["PricingCurrencyEffectiveCost"] * Fraction("0.85") == numbers["BilledCost"]
    assert sums == {
        (f"{document['id']}/{number}", name): Fraction(line[name])
        for number, line in enumerate(document["lines"], 1)
        for name in ("credits", "quantity")
    }
    focus_csv(rows, COST_AND_USAGE)
    assert sum(Fraction(str(row["BilledCost"])) for row in invoice_detail_rows([bill])) == Fraction(
        document["totals"]["rounded"]["channels"]["rmb"]
    )
