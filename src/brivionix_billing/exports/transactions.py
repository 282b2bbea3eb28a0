"""Bookings as transactions for plain-text accounting. The writers of beancount and hledger only format them.

Assets and expenses are positive, liabilities and income negative. ``Liabilities:Customers:ACCOUNT`` has the unused
Credits of an account, held or not, and its debt in Credits. Purchased Credits have the price of their lot as cost, with
18 decimal places. ``Liabilities:Rounding`` is the difference to the deferred revenue of the ledger, which is in minor
units. It is less than a minor unit per lot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from brivionix_billing.decimals import Rounding, format_trimmed, round_quotient
from brivionix_billing.exports.bookings import KIND_LABELS, AccountBooks, Booking
from brivionix_billing.exports.lots import PurchasedLot
from brivionix_billing.money import minor_digits
from brivionix_billing.rating.units import UNIT_DECIMALS, UNITS_PER_CREDIT

__all__ = ["COMMODITY", "AccountName", "Id", "Posting", "Transaction", "account_transactions", "customer", "unit_cost"]

COMMODITY: Final = "CREDIT"
"""The commodity of Credits."""
_MONEY_ACCOUNTS: Final = {
    "cash": ("Assets", "Cash"),
    "usage": ("Income", "Usage"),
    "breakage": ("Income", "Breakage"),
    "corrections": ("Income", "Corrections"),
    "tax": ("Liabilities", "Tax"),
    "fees": ("Expenses", "Fees"),
    "transfers": ("Equity", "Transfers"),
}
"""Money account of a booking -> account of the books. Deferred revenue is the cost of the Credits."""
_EQUITY: Final = ("Equity", "Credits")
_OPENING: Final = ("Equity", "Opening-Balances")


class Id(str):
    """A component of an account's name that is an id chosen by others, so it may have any character."""

    __slots__ = ()


AccountName = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Posting:
    """A posting: ``coefficient / 10**places`` of a commodity."""

    account: AccountName
    coefficient: int
    places: int
    commodity: str
    lot: PurchasedLot | None = None
    """The lot whose cost these Credits have."""

    @property
    def number(self) -> str:
        """The amount, in a currency with at least its minor digits."""
        text = format_trimmed(self.coefficient, self.places)
        if self.commodity == COMMODITY:
            return text
        whole, _, decimals = text.partition(".")
        # Beancount derives its tolerance from decimal places, and takes none from whole numbers.
        return f"{whole}.{decimals.ljust(max(1, minor_digits(self.commodity)), '0')}"


@dataclass(slots=True)
class Transaction:
    """A transaction. It balances exactly in every commodity, at the cost of the lots."""

    day: str
    label: str
    account: str
    id: str
    reference: str
    postings: list[Posting] = field(default_factory=list)

    def post(self, account: AccountName, coefficient: int, commodity: str, *, places: int = UNIT_DECIMALS) -> None:
        """Add a posting, unless it is zero."""
        if coefficient:
            self.postings.append(Posting(account, coefficient, places, commodity))

    def post_lot(self, lot: PurchasedLot, change: int) -> None:
        """Add a change of the Credits of a purchased lot."""
        if change:
            name = (*customer(self.account), "Purchased", Id(lot.id))
            self.postings.append(Posting(name, -change, UNIT_DECIMALS, COMMODITY, lot))

    def balance(self) -> None:
        """Post the difference to the cost of the lots to the rounding account, by currency."""
        sums: dict[str, int] = {}
        for posting in self.postings:
            lot = posting.lot
            commodity = posting.commodity if lot is None else lot.currency
            factor = UNITS_PER_CREDIT if lot is None else unit_cost(lot)
            sums[commodity] = sums.get(commodity, 0) + posting.coefficient * factor
        for commodity, difference in sums.items():
            if commodity == COMMODITY and difference:
                raise RuntimeError(f"transaction {self.id} does not balance in Credits")  # a bug of this library
            self.post(("Liabilities", "Rounding"), -difference, commodity, places=2 * UNIT_DECIMALS)


def customer(account: str) -> AccountName:
    """Return the account that has the Credits and the debt of a customer."""
    return ("Liabilities", "Customers", Id(account))


def unit_cost(lot: PurchasedLot) -> int:
    """Return the price of one Credit of a lot, in units of 10^-18 of its currency."""
    return round_quotient(lot.paid * UNITS_PER_CREDIT, lot.credits, Rounding.HALF_EVEN)


def account_transactions(books: AccountBooks, first: str) -> Iterator[Transaction]:
    """Yield the opening balances of an account, if it has any, and then its transactions."""
    opening = _opening(books, first)
    if opening.postings:
        yield opening
    for booking in books.bookings:
        transaction = _transaction(books, booking)
        if transaction.postings:
            yield transaction


def _opening(books: AccountBooks, first: str) -> Transaction:
    transaction = Transaction(first, "Opening balances", books.account, f"opening:{books.account}:{first}", "")
    position = books.opening
    for id, remaining in position.lots.items():
        transaction.post_lot(books.lots[id], remaining)
    for key, amount in position.deferred(books.lots).items():
        transaction.post(_OPENING, amount, key.currency)
    _post_uncosted(transaction, position.promotional, position.owed)
    transaction.post(_OPENING, position.promotional + position.owed, COMMODITY)
    transaction.balance()
    return transaction


def _transaction(books: AccountBooks, booking: Booking) -> Transaction:
    label = KIND_LABELS[booking.kind]
    transaction = Transaction(booking.day, label, booking.account, booking.id, booking.reference)
    for id, change in booking.lots.items():
        transaction.post_lot(books.lots[id], change)
    for key, amount in booking.money.items():
        if key.name != "deferred":
            transaction.post((*_MONEY_ACCOUNTS[key.name], Id(key.channel)), amount, key.currency)
    _post_uncosted(transaction, sum(booking.promotional.values()), booking.owed)
    for reason, change in booking.promotional.items():
        transaction.post((*_EQUITY, reason.capitalize()), change, COMMODITY)
    transaction.post((*_EQUITY, "Owed"), booking.owed, COMMODITY)
    transaction.balance()
    return transaction


def _post_uncosted(transaction: Transaction, promotional: int, owed: int) -> None:
    name = customer(transaction.account)
    transaction.post((*name, "Promotional"), -promotional, COMMODITY)
    transaction.post((*name, "Owed"), -owed, COMMODITY)
