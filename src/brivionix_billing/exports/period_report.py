"""The report of a period: deferred revenue and Credits from opening to closing, with cash and recognised revenue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, format_scaled
from brivionix_billing.exports.bookings import AccountBooks
from brivionix_billing.exports.lots import MoneyKey
from brivionix_billing.ledger.units import minor_unit, units_to_credits
from brivionix_billing.money import minor_digits

__all__ = ["CREDITS", "MOVEMENTS", "PeriodReport", "ReportRow", "period_report"]

CREDITS: Final = "Credits"
"""The currency of rows in Credits."""
_MOVEMENT_BY_KIND: Final = {
    "top_up": "received",
    "grant": "granted",
    "refund": "refunded",
    "dispute": "disputed",
    "reverse": "reversed",
    "usage": "used",
    "charge_reversed": "used",
    "lot_expired": "expired",
    "adjust": "corrected",
    "void": "voided",
    "transfer_out": "transferred",
    "transfer_in": "transferred",
    "plan_renewed": "granted",
    "plan_changed": "transferred",
}
"""Kind of booking -> movement of Credits, and of cash."""
_MOVEMENT_BY_REVENUE: Final = {"usage": "used", "breakage": "expired", "corrections": "corrected"}
MOVEMENTS: Final = tuple(dict.fromkeys(_MOVEMENT_BY_KIND.values()))
"""Movements, in the order of their columns."""


@dataclass(slots=True)
class ReportRow:
    """One account, channel and currency. Amounts are in units of 10^-18; ``opening + movements == closing``.

    In a currency, ``opening`` and ``closing`` are deferred revenue. In Credits, they are balances: unused Credits, held
    or not, less the debt.
    """

    account: str
    channel: str
    """Empty for Credits."""
    currency: str
    opening: int = 0
    movements: dict[str, int] = field(default_factory=dict)
    closing: int = 0
    cash: int | None = None
    """Cash received less cash paid back, with tax and after fees; ``None`` for Credits."""
    tax: int | None = None
    """Tax received less tax paid back; ``None`` for Credits."""
    fees: int | None = None
    """Fees of the channel; ``None`` for Credits."""
    revenue: int | None = None
    """Recognised revenue; ``None`` for Credits."""
    opening_debt: int | None = None
    """Debt in Credits; ``None`` for money."""
    closing_debt: int | None = None

    def move(self, name: str, amount: int) -> None:
        """Add an amount to a movement."""
        self.movements[name] = self.movements.get(name, 0) + amount

    def check(self) -> None:
        """Raise ``RuntimeError`` unless the row adds up."""
        if self.opening + sum(self.movements.values()) != self.closing:
            raise RuntimeError(f"the report of {self.account!r} in {self.currency} does not add up")  # a bug

    def add(self, other: ReportRow) -> None:
        """Add another row of the same currency, for a total."""
        self.opening += other.opening
        self.closing += other.closing
        for name, amount in other.movements.items():
            self.move(name, amount)
        self.cash = _plus(self.cash, other.cash)
        self.tax = _plus(self.tax, other.tax)
        self.fees = _plus(self.fees, other.fees)
        self.revenue = _plus(self.revenue, other.revenue)
        self.opening_debt = _plus(self.opening_debt, other.opening_debt)
        self.closing_debt = _plus(self.closing_debt, other.closing_debt)

    def amounts(self) -> dict[str, Decimal | None]:
        """Return the amounts by column. Those in money have all minor digits."""
        columns = {
            "opening": self.opening,
            **{name: self.movements.get(name, 0) for name in MOVEMENTS},
            "closing": self.closing,
            "cash": self.cash,
            "tax": self.tax,
            "fees": self.fees,
            "revenue": self.revenue,
            "opening_debt": self.opening_debt,
            "closing_debt": self.closing_debt,
        }
        return {name: None if amount is None else self._decimal(amount) for name, amount in columns.items()}

    def _decimal(self, amount: int) -> Decimal:
        if self.currency == CREDITS:
            return units_to_credits(amount)
        return Decimal(format_scaled(amount // minor_unit(self.currency), minor_digits(self.currency)))

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        texts = {
            name: None if amount is None else format_plain(amount) if self.currency == CREDITS else str(amount)
            for name, amount in self.amounts().items()
        }
        return {"account": self.account, "channel": self.channel, "currency": self.currency, **texts}


def _plus(total: int | None, amount: int | None) -> int | None:
    return amount if total is None else total + (amount or 0)


@dataclass(frozen=True, slots=True)
class PeriodReport:
    """The rows of all accounts, and their totals by channel and currency."""

    rows: Sequence[ReportRow]
    totals: Sequence[ReportRow]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"rows": [row.as_dict() for row in self.rows], "totals": [row.as_dict() for row in self.totals]}


def period_report(books: Iterable[AccountBooks]) -> PeriodReport:
    """Return the report of the books of all accounts. Every row is checked: opening plus movements equals closing."""
    rows = [row for each in books for row in _account_rows(each)]
    totals: dict[tuple[str, str], ReportRow] = {}
    for row in rows:
        row.check()
        totals.setdefault((row.channel, row.currency), ReportRow("", row.channel, row.currency)).add(row)
    for total in totals.values():
        total.check()
    return PeriodReport(rows, [total for _, total in sorted(totals.items())])


def _account_rows(books: AccountBooks) -> list[ReportRow]:
    credits = ReportRow(books.account, "", CREDITS, books.opening.net, closing=books.closing.net)
    credits.opening_debt, credits.closing_debt = -books.opening.owed, -books.closing.owed
    rows: dict[tuple[str, str], ReportRow] = {}

    def row_of(key: MoneyKey) -> ReportRow:
        row = rows.get(key[1:])
        if row is None:
            row = rows[key[1:]] = ReportRow(books.account, key.channel, key.currency, cash=0, tax=0, fees=0, revenue=0)
        return row

    for key, amount in books.opening.deferred(books.lots).items():
        row_of(key).opening += amount
    for key, amount in books.closing.deferred(books.lots).items():
        row_of(key).closing += amount
    for booking in books.bookings:
        movement = _MOVEMENT_BY_KIND[booking.kind]
        credits.move(movement, booking.net)
        for key, amount in booking.money.items():
            row = row_of(key)
            if key.name == "cash":
                row.cash = _plus(row.cash, amount)
                row.move(movement, amount)
            elif key.name in ("tax", "fees"):  # parts of the cash that are not of the lot
                row.move(movement, amount)
                row.tax = _plus(row.tax, -amount if key.name == "tax" else 0)
                row.fees = _plus(row.fees, amount if key.name == "fees" else 0)
            elif key.name == "transfers":
                row.move(movement, amount)
            elif key.name != "deferred":  # a credit of revenue decreases the deferred revenue
                row.revenue = _plus(row.revenue, -amount)
                row.move(_MOVEMENT_BY_REVENUE[key.name], amount)
    return [row for _, row in sorted(rows.items())] + [credits]
