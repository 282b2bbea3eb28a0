"""Money as journal entries in CSV, for accounting systems: that of the ledger, and that of a statement beside it.

There is one row per account of a booking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from brivionix_billing.decimals import format_scaled, format_trimmed, negate, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.exports.bookings import KIND_LABELS, AccountBooks, Booking
from brivionix_billing.exports.lots import MoneyKey
from brivionix_billing.files import read_bounded
from brivionix_billing.ledger.units import minor_unit
from brivionix_billing.money import minor_digits
from brivionix_billing.pricebook.yaml_reader import read_yaml
from brivionix_billing.tabular import format_csv

__all__ = [
    "COLUMNS",
    "DEFAULT_ACCOUNTS",
    "AccountMapping",
    "journal_csv",
    "read_account_mapping",
    "statement_journal_csv",
]

COLUMNS: Final = ("date", "account", "debit", "credit", "currency", "text", "id")
DEFAULT_ACCOUNTS: Final[Mapping[str, str]] = {
    "cash": "Cash",
    "deferred": "Deferred revenue",
    "usage": "Revenue from usage",
    "breakage": "Revenue from expired Credits",
    "corrections": "Corrections",
    "tax": "Tax payable",
    "fees": "Payment fees",
    "bank": "Bank",
    "other": "Other movements of payment channels",
}
"""Money account of the ledger or of a statement -> its name if no mapping is given."""
_MAX_BYTES: Final = 1024 * 1024

AccountMapping = Mapping[str, str | Mapping[str, str]]
"""Money account of the ledger -> account of the accounting system, for all channels or by channel."""


def read_account_mapping(path: str | Path) -> AccountMapping:
    """Read a mapping of accounts from YAML. Raises ``invalid_document`` for an unknown key or value."""
    parsed, findings = read_yaml(read_bounded(path, _MAX_BYTES, "the mapping of accounts"), str(path))
    if findings:
        raise BillingError("invalid_document", str(findings[0]))
    data = parsed.data
    if not isinstance(data, dict) or data.keys() - DEFAULT_ACCOUNTS.keys():
        raise BillingError(
            "invalid_document", f"{path}: the keys must be among {', '.join(DEFAULT_ACCOUNTS)}; see docs/exports.md"
        )
    return {
        name: {str(channel): _account_text(path, name, text) for channel, text in value.items()}
        if isinstance(value, dict)
        else _account_text(path, name, value)
        for name, value in data.items()
    }


def _account_text(path: str | Path, name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise BillingError(
        "invalid_document", f"{path}: {name}: {safe_repr(value)} is not an account; write a text in quotes"
    )


def journal_csv(books: Iterable[AccountBooks], accounts: AccountMapping = DEFAULT_ACCOUNTS) -> str:
    """Return the bookings that change money as CSV, in the order of their days.

    Amounts are in minor units of the currency, and each row has a debit or a credit. The debits and credits of a
    booking are equal in every currency. Raises ``invalid_argument`` if the mapping has no account for a channel.
    """
    bookings = [booking for each in books for booking in each.bookings if booking.money]
    bookings.sort(key=lambda booking: booking.day)
    rows: list[dict[str, Any]] = []
    totals: dict[str, int] = {}
    for booking in bookings:
        for key, amount in _by_account(booking, accounts).items():
            rows.append(_booking_row(booking, *key, amount))
            totals[key[1]] = totals.get(key[1], 0) + amount
    if any(totals.values()):
        raise RuntimeError("the debits and credits of the journal differ")  # a bug of this library
    return format_csv(rows, COLUMNS)


def statement_journal_csv(
    movements: Iterable[tuple[str, str, str, str, Decimal, str, str]], accounts: AccountMapping = DEFAULT_ACCOUNTS
) -> str:
    """Return movements of a statement that the ledger does not have, as CSV like :func:`journal_csv`.

    A movement is the day, the account that cash went to (``fees``, ``bank`` or ``other``), the channel, the currency,
    the amount, a text and an id. Amounts are exact: some processors state fees with parts of a minor unit.
    """
    rows = []
    for day, name, channel, currency, amount, text, id in movements:
        for account, part in ((name, amount), ("cash", negate(amount))):
            coefficient, places = to_scaled(abs(part))
            shown = _with_minor_digits(format_trimmed(coefficient, places), currency)
            target = _target(MoneyKey(account, channel, currency), accounts)
            rows.append(_row(day, target, shown, part > 0, currency, text, id))
    return format_csv(rows, COLUMNS)


def _with_minor_digits(text: str, currency: str) -> str:
    """Return an amount with at least the minor digits of its currency."""
    whole, _, decimals = text.partition(".")
    decimals = decimals.ljust(minor_digits(currency), "0")
    return f"{whole}.{decimals}" if decimals else whole


def _by_account(booking: Booking, accounts: AccountMapping) -> dict[tuple[str, str], int]:
    """Return (account of the accounting system, currency) -> amount. Accounts that cancel out are left out."""
    sums: dict[tuple[str, str], int] = {}
    for key, amount in booking.money.items():
        target = _target(key, accounts), key.currency
        sums[target] = sums.get(target, 0) + amount
    return {target: amount for target, amount in sums.items() if amount}


def _target(key: MoneyKey, accounts: AccountMapping) -> str:
    # Deferred revenue that moves between accounts of customers is still deferred revenue.
    mapped = accounts.get("deferred" if key.name == "transfers" else key.name, {})
    if isinstance(mapped, str):
        return mapped
    if key.channel not in mapped:
        raise BillingError(
            "invalid_argument",
            f"the mapping has no account {key.name} for channel {safe_repr(key.channel)}; add {key.name}: "
            f"{{{key.channel}: ACCOUNT}}",
        )
    return mapped[key.channel]


def _booking_row(booking: Booking, account: str, currency: str, amount: int) -> dict[str, Any]:
    shown = format_scaled(abs(amount) // minor_unit(currency), minor_digits(currency))
    details = (KIND_LABELS[booking.kind], booking.account, booking.reference)
    text = ", ".join(detail for detail in details if detail)
    return _row(booking.day, account, shown, amount > 0, currency, text, booking.id)


def _row(day: str, account: str, amount: str, is_debit: bool, currency: str, text: str, id: str) -> dict[str, Any]:
    return {
        "date": day,
        "account": account,
        "debit": amount if is_debit else "",
        "credit": "" if is_debit else amount,
        "currency": currency,
        "text": text,
        "id": id,
    }
