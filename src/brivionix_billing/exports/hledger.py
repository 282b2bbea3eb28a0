"""The ledger as a journal of hledger: purchased Credits with their cost, one account per lot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from brivionix_billing.decimals import format_trimmed
from brivionix_billing.exports.bookings import AccountBooks
from brivionix_billing.exports.transactions import (
    COMMODITY,
    AccountName,
    Id,
    Posting,
    account_transactions,
    customer,
    unit_cost,
)
from brivionix_billing.ledger.units import units_to_column
from brivionix_billing.money import minor_digits
from brivionix_billing.rating.units import UNIT_DECIMALS

__all__ = ["hledger_lines", "hledger_name"]

_PUNCTUATION: Final = frozenset("_-.@+/")
"""Characters that stay in an id, beside letters and digits."""


def hledger_name(account: AccountName) -> str:
    """Return the name of an account. Different accounts have different names.

    Of an id, letters and digits of all scripts and ``_-.@+/`` stay, and every other character is percent-encoded.

    >>> hledger_name(("Liabilities", "Customers", Id("acct 7;x")))
    'liabilities:customers:acct%207%3Bx'
    """
    return ":".join(_escape(part) if isinstance(part, Id) else part.lower() for part in account)


def hledger_lines(books: Sequence[AccountBooks], first: str, end: str) -> Iterator[str]:
    """Yield the lines of a journal: commodities, accounts, opening balances, transactions and balance assertions.

    ``first`` and ``end`` are the first day of the period and the day after its last. Every asserted balance is the
    closing balance of a statement.
    """
    transactions = [transaction for each in books for transaction in account_transactions(each, first)]
    transactions.sort(key=lambda transaction: transaction.day)
    yield "decimal-mark ."
    yield f"commodity 1.{'0' * UNIT_DECIMALS} {COMMODITY}"
    for currency in sorted({lot.currency for each in books for lot in each.lots.values()}):
        yield f"commodity 1.{'0' * minor_digits(currency)} {currency}"
    owners = [hledger_name(customer(each.account)) for each in books]
    names = {hledger_name(posting.account) for each in transactions for posting in each.postings}
    for name in sorted({*names, *owners}):
        yield f"account {name}"
    for transaction in transactions:
        yield ""
        yield f"{transaction.day} * {transaction.label} | {_escape(transaction.account)}"
        yield f"    ; id: {_escape(transaction.id)}"
        if transaction.reference:
            yield f"    ; reference: {_escape(transaction.reference)}"
        for posting in transaction.postings:
            yield f"    {hledger_name(posting.account)}  {posting.number} {posting.commodity}{_cost(posting)}"
    yield ""
    yield f"{end} * Closing balances of the statements"
    for each, name in zip(books, owners, strict=True):
        yield f"    {name}  0 {COMMODITY} =* {units_to_column(-each.closing.net)} {COMMODITY}"


def _cost(posting: Posting) -> str:
    lot = posting.lot
    return "" if lot is None else f" @ {format_trimmed(unit_cost(lot), UNIT_DECIMALS)} {lot.currency}"


def _escape(id: str) -> str:
    def escape(character: str) -> str:
        if character.isalnum() or character in _PUNCTUATION:
            return character
        return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))

    return "".join(map(escape, id))
