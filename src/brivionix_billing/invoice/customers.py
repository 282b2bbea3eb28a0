"""Reads the file of ``--customers``: the name, payment channel, balance and wording of the bill of each account."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.file_kinds import describe_kind
from brivionix_billing.files import read_bounded
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage
from brivionix_billing.invoice.build import credits_used
from brivionix_billing.invoice.header import Balance, payment_section
from brivionix_billing.invoice.taxes import Tax, TaxTerms
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.text_checks import require_text

__all__ = ["UNKNOWN_CUSTOMER", "Customer", "reconcile_balances", "read_customers"]

T = TypeVar("T")
_MAX_BYTES: Final = 256 * 1024 * 1024
_MAX_NAMED: Final = 20
_KEYS: Final = ("name", "tax_number", "details", "channel", "balance", "title", "terms", "taxes", "tax_included")


class Customer(NamedTuple):
    """The customer of one account, as bills name it."""

    name: str | None = None
    tax_number: str | None = None
    details: tuple[str, ...] = ()
    channel: str | None = None
    balance: Balance | None = None
    title: str | None = None
    terms: tuple[str, ...] = ()
    taxes: TaxTerms | None = None


UNKNOWN_CUSTOMER: Final = Customer()
"""The customer of an account that is not in the file."""


def read_customers(path: str, book: PriceBook) -> dict[str, Customer]:
    """Return the customer of each account in the file. All entries are checked, also of accounts without usage.

    Raises ``file_unreadable``, ``invalid_document`` if the file is not a JSON object, and ``invalid_argument``,
    ``invalid_money`` or ``unknown_channel`` with the path of an invalid value.
    """
    content = read_bounded(path, _MAX_BYTES, "the customers file")
    try:
        data = loads_strict(content, path)
    except BillingError:
        kind = describe_kind(content)
        if kind is None:
            raise
        message = f"{path}: not a customers file, but {kind}; write a JSON object"
        raise BillingError("invalid_document", message) from None
    if not isinstance(data, dict):
        raise BillingError(
            "invalid_document", f'{path}: not a JSON object; write an object such as {{"acct_1": {{"name": "Ada"}}}}'
        )
    return {
        require_text(f"{path}: the account", account): _customer(f"{path}: {account}", entry, book)
        for account, entry in data.items()
    }


def reconcile_balances(billable: Iterable[AccountUsage], customers: Mapping[str, Customer]) -> None:
    """Check that every balance matches the usage.

    Raises ``invalid_argument``, which names each account that does not match.
    """
    errors = []
    for usage in billable:
        balance = customers.get(usage.account, UNKNOWN_CUSTOMER).balance
        if balance is None:
            continue
        try:
            balance.reconcile(usage.account, credits_used(usage))
        except BillingError as error:
            rejected = f"; {usage.rejected} of its records were rejected and are not billed" if usage.rejected else ""
            errors.append(error.message + rejected)
    if errors:
        more = [f"... and {len(errors) - _MAX_NAMED} more accounts"] if len(errors) > _MAX_NAMED else []
        raise BillingError("invalid_argument", "no bill is written: " + "\n".join([*errors[:_MAX_NAMED], *more]))


def _customer(where: str, value: Any, book: PriceBook) -> Customer:
    entry = _require_object(where, value, _KEYS)
    channel = _optional_text(where, entry, "channel")
    if channel is not None:
        _with_location(f"{where}.channel", lambda: payment_section(channel, book))
    return Customer(
        _optional_text(where, entry, "name"),
        _optional_text(where, entry, "tax_number"),
        _texts(where, entry, "details"),
        channel,
        _balance(f"{where}.balance", entry.get("balance")),
        _optional_text(where, entry, "title"),
        _texts(where, entry, "terms"),
        _taxes(where, entry),
    )


def _texts(where: str, entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    lines = _require_list(f"{where}.{name}", entry.get(name))
    return tuple(require_text(f"{where}.{name}[{index}]", line) for index, line in enumerate(lines))


def _taxes(where: str, entry: Mapping[str, Any]) -> TaxTerms | None:
    taxes, included = _require_list(f"{where}.taxes", entry.get("taxes")), entry.get("tax_included")
    if included is not None and not isinstance(included, bool):
        raise BillingError(
            "invalid_argument",
            f"{where}.tax_included: {safe_repr(included)} is not true or false; write one of them",
        )
    if not taxes:
        if included:
            raise BillingError("invalid_argument", f"{where}.tax_included: requires a tax; add taxes")
        return None
    parsed = [
        _with_location(f"{where}.taxes[{index}]", partial(Tax.parse, require_text(f"{where}.taxes[{index}]", text)))
        for index, text in enumerate(taxes)
    ]
    return _with_location(f"{where}.taxes", lambda: TaxTerms(parsed, bool(included)))


def _balance(where: str, value: Any) -> Balance | None:
    if value is None:
        return None
    entry = _require_object(where, value, ("opening", "movements", "closing"), required=("opening", "closing"))
    movements = []
    for index, movement in enumerate(_require_list(f"{where}.movements", entry.get("movements"))):
        keys = ("label", "credits")
        fields = _require_object(f"{where}.movements[{index}]", movement, keys, required=keys)
        movements.append((fields["label"], fields["credits"]))
    return _with_location(where, lambda: Balance(entry["opening"], movements, entry["closing"]))


def _with_location(where: str, make: Callable[[], T]) -> T:
    """Return the result of ``make``. An error that it raises gets the place in the file."""
    try:
        return make()
    except BillingError as error:
        raise BillingError(error.code, f"{where}: {error}") from None


def _require_object(where: str, value: Any, allowed: Sequence[str], required: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BillingError(
            "invalid_argument", f"{where}: {safe_repr(value)} is not an object; use one with {', '.join(allowed)}"
        )
    for name in value:
        if name not in allowed:
            raise BillingError(
                "invalid_argument", f"{where}: unknown key {safe_repr(name)}; use one of {', '.join(allowed)}"
            )
    for name in required:
        if value.get(name) is None:
            raise BillingError("invalid_argument", f"{where}.{name}: missing; add {' and '.join(required)}")
    return value


def _require_list(where: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BillingError("invalid_argument", f"{where}: {safe_repr(value)} is not a list; write [...]")
    return value


def _optional_text(where: str, entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    return None if value is None else require_text(f"{where}.{name}", value)
