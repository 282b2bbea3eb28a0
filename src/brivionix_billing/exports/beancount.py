"""The ledger as a file of beancount: purchased Credits are held at cost, one lot per payment."""

from __future__ import annotations

import string
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
from brivionix_billing.rating.units import UNIT_DECIMALS

__all__ = ["beancount_lines", "beancount_name"]

_PLAIN: Final = frozenset(string.ascii_letters + string.digits)


def beancount_name(account: AccountName) -> str:
    """Return the name of an account. Different accounts have different names.

    Of an id, letters and digits of ASCII stay, ``_`` becomes ``--``, and every other byte of its UTF-8 becomes ``-``
    and two hexadecimal digits. ``C-`` is in front, because a component must not start with a small letter.

    >>> beancount_name(("Assets", "Cash", Id("a_b c")))
    'Assets:Cash:C-a--b-20c'
    """
    # Beancount has the lot in the cost, so that its accounts do not grow with every payment.
    parts = account[:-1] if account[-2:-1] == ("Purchased",) else account
    return ":".join(_escape(part) if isinstance(part, Id) else part for part in parts)


def _escape(id: str) -> str:
    def escape(byte: int) -> str:
        character = chr(byte)
        return character if character in _PLAIN else "--" if character == "_" else f"-{byte:02x}"

    return "C-" + "".join(map(escape, id.encode("utf-8", "surrogatepass")))


def beancount_lines(books: Sequence[AccountBooks], first: str, end: str) -> Iterator[str]:
    """Yield the lines of a file: options, accounts, opening balances, transactions and balance assertions.

    ``first`` and ``end`` are the first day of the period and the day after its last. Every asserted balance is the
    closing balance of a statement.
    """
    transactions = [transaction for each in books for transaction in account_transactions(each, first)]
    transactions.sort(key=lambda transaction: transaction.day)
    lots = [lot for each in books for lot in each.lots.values()]
    yield 'option "title" "Ledger of prepaid Credits"'
    for currency in sorted({lot.currency for lot in lots}):
        yield f'option "operating_currency" "{currency}"'
        yield f'option "inferred_tolerance_default" "{currency}:0.000000001"'  # it computes with 28 digits
    yield f'option "inferred_tolerance_default" "{COMMODITY}:0.000000001"'
    yield ""
    yield f"{first} commodity {COMMODITY}"
    owners = {beancount_name(customer(each.account)): each.account for each in books}
    names = {beancount_name(posting.account) for each in transactions for posting in each.postings}
    for name in sorted(names | owners.keys()):
        yield f"{first} open {name}"
        if name in owners:
            yield f"  account: {_text(owners[name])}"
    for transaction in transactions:
        yield ""
        yield f"{transaction.day} * {_text(transaction.label)} {_text(transaction.account)}"
        yield f"  id: {_text(transaction.id)}"
        if transaction.reference:
            yield f"  reference: {_text(transaction.reference)}"
        for posting in transaction.postings:
            yield f"  {beancount_name(posting.account)}  {posting.number} {posting.commodity}{_cost(posting)}"
    yield ""
    for each in books:
        name = beancount_name(customer(each.account))
        yield f"{end} balance {name}  {units_to_column(-each.closing.net)} {COMMODITY}"


def _cost(posting: Posting) -> str:
    lot = posting.lot
    if lot is None:
        return ""
    return f" {{{format_trimmed(unit_cost(lot), UNIT_DECIMALS)} {lot.currency}, {lot.day}, {_text(lot.id)}}}"


def _text(text: str) -> str:
    """Return a string of beancount. Control characters, which could end a line, are replaced by a visible escape."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\\\u{ord(c):04x}" for c in escaped) + '"'
