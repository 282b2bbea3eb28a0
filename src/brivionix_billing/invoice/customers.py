"""What the file of ``--customers`` says of each account: who it is, how it pays, and its balance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded
from brivionix_billing.invoice.aggregation.aggregate import AccountUsage
from brivionix_billing.invoice.build import credits_used
from brivionix_billing.invoice.header import Balance, payment_section
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.text_checks import require_text

__all__ = ["UNKNOWN_CUSTOMER", "Customer", "reconcile_balances", "read_customers"]

T = TypeVar("T")
_MAX_BYTES: Final = 256 * 1024 * 1024
_NAMED: Final = 20


class Customer(NamedTuple):
    """What stands on the bill of one account."""

    name: str | None = None
    tax_number: str | None = None
    details: tuple[str, ...] = ()
    channel: str | None = None
    balance: Balance | None = None


UNKNOWN_CUSTOMER: Final = Customer()
"""What is known of an account that the file does not have."""


def read_customers(path: str, book: PriceBook) -> dict[str, Customer]:
    """Account -> what the file says of it; all of it is checked, of accounts without usage as well.

    Raises ``file_unreadable``, ``invalid_document`` for what is no JSON object, and for a place in it
    ``invalid_argument``, ``invalid_money`` or ``unknown_channel`` with the path of that place.
    """
    data = loads_strict(read_bounded(path, _MAX_BYTES, "the customers file"), path)
    if not isinstance(data, dict):
        raise BillingError("invalid_document", f'{path}: not an object such as {{"acct_1": {{"name": "Ada"}}}}')
    return {
        require_text(f"{path}: the account", account): _customer(f"{path}: {account}", said, book)
        for account, said in data.items()
    }


def reconcile_balances(billable: Iterable[AccountUsage], customers: Mapping[str, Customer]) -> None:
    """Compare every balance with what is billed. Raises ``invalid_argument``, which names each account that differs."""
    wrong = []
    for usage in billable:
        balance = customers.get(usage.account, UNKNOWN_CUSTOMER).balance
        if balance is None:
            continue
        try:
            balance.reconcile(usage.account, credits_used(usage))
        except BillingError as error:
            aside = f"; {usage.rejected} records of it were set aside and are not billed" if usage.rejected else ""
            wrong.append(error.message + aside)
    if wrong:
        more = [f"... and {len(wrong) - _NAMED} more accounts"] if len(wrong) > _NAMED else []
        raise BillingError("invalid_argument", "no bill was written: " + "\n".join([*wrong[:_NAMED], *more]))


def _customer(where: str, said: Any, book: PriceBook) -> Customer:
    entry = _object(where, said, ("name", "tax_number", "details", "channel", "balance"))
    details = _list(f"{where}.details", entry.get("details"))
    channel = _text(where, entry, "channel")
    if channel is not None:
        _with_location(f"{where}.channel", lambda: payment_section(channel, book))
    return Customer(
        _text(where, entry, "name"),
        _text(where, entry, "tax_number"),
        tuple(require_text(f"{where}.details[{index}]", line) for index, line in enumerate(details)),
        channel,
        _balance(f"{where}.balance", entry.get("balance")),
    )


def _balance(where: str, said: Any) -> Balance | None:
    if said is None:
        return None
    entry = _object(where, said, ("opening", "movements", "closing"), needed=("opening", "closing"))
    movements = []
    for index, movement in enumerate(_list(f"{where}.movements", entry.get("movements"))):
        parts = _object(f"{where}.movements[{index}]", movement, ("label", "credits"), needed=("label", "credits"))
        movements.append((parts["label"], parts["credits"]))
    return _with_location(where, lambda: Balance(entry["opening"], movements, entry["closing"]))


def _with_location(where: str, make: Callable[[], T]) -> T:
    """What ``make`` gives; what it refuses is told with the place in the file."""
    try:
        return make()
    except BillingError as error:
        raise BillingError(error.code, f"{where}: {error.message}") from None


def _object(where: str, said: Any, allowed: Sequence[str], needed: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise BillingError("invalid_argument", f"{where}: {safe_repr(said)} is not an object of {', '.join(allowed)}")
    for name in said:
        if name not in allowed:
            raise BillingError(
                "invalid_argument", f"{where}: no key {safe_repr(name)}; allowed are {', '.join(allowed)}"
            )
    for name in needed:
        if said.get(name) is None:
            raise BillingError("invalid_argument", f"{where}.{name}: missing; give {' and '.join(needed)}")
    return said


def _list(where: str, said: Any) -> list[Any]:
    if said is None:
        return []
    if not isinstance(said, list):
        raise BillingError("invalid_argument", f"{where}: {safe_repr(said)} is not a list")
    return said


def _text(where: str, entry: Mapping[str, Any], name: str) -> str | None:
    said = entry.get(name)
    return None if said is None else require_text(f"{where}.{name}", said)
