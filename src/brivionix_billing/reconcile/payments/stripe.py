"""Reads Stripe's itemised balance reports (CSV, major units) and lists of balance transactions (JSON, minor units).

Report types: ``balance_change_from_activity.itemized.3`` and others with its columns, which are chosen per run. In
JSON, amounts are whole numbers of Stripe's minor units, which differ from those of ISO 4217 for some currencies.
Source: docs.stripe.com/reports/report-types, docs.stripe.com/currencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import decimal_from_scaled, negate, sum_exact
from brivionix_billing.reconcile.exported_files import ExportedFile, Row, json_values, read_sections, statement_error
from brivionix_billing.reconcile.exported_values import (
    NumberFormat,
    parse_currency,
    parse_local_time,
    parse_unix_time,
    text_of,
)
from brivionix_billing.reconcile.payments.statement import LineKind, Statement, StatementLine
from brivionix_billing.times import load_zone

__all__ = ["read_stripe"]

_KINDS: Final = {
    "charge": LineKind.PAYMENT,
    "payment": LineKind.PAYMENT,
    "refund": LineKind.REFUND,
    "payment_refund": LineKind.REFUND,
    "partial_capture_reversal": LineKind.REFUND,
    "refund_failure": LineKind.REFUND_FAILURE,
    "payment_failure_refund": LineKind.REFUND_FAILURE,
    "charge_failure": LineKind.DISPUTE,
    "dispute": LineKind.DISPUTE,
    "dispute_reversal": LineKind.DISPUTE_REVERSAL,
    "fee": LineKind.FEE,
    "network_cost": LineKind.FEE,
    "tax": LineKind.FEE,
    "payout": LineKind.PAYOUT,
    "payout_reversal": LineKind.PAYOUT_REVERSAL,
    "payout_minimum_balance_hold": LineKind.OTHER,
}
"""Reporting category -> kind. All others, such as topup, transfer and adjustment, are other movements."""
_REQUIRED: Final = ("currency", "gross", "fee", "net", "reporting_category")
_REFERENCES: Final = ("payment_intent_id", "charge_id", "invoice_id")
_ACCOUNT_HINTS: Final = ("customer_id", "customer_email")
_ZERO_DECIMALS: Final = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
_THREE_DECIMALS: Final = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
_OTHER_REPORTS: Final = {
    "id": "a list of payments of the dashboard",
    "category": "a summary",
    "payout_id": "a payout report",
}


def read_stripe(files: Sequence[ExportedFile], zone: str = "UTC") -> Statement:
    """Return the rows of the files. ``zone`` is the time zone of the columns without ``_utc``.

    Raises ``invalid_statement``.
    """
    lines: list[StatementLine] = []
    for file in files:
        lines += _read_json(file) if file.is_json else _read_csv(file, load_zone(zone))
    return Statement("stripe", zone, tuple(lines))


def _read_csv(file: ExportedFile, zone: tzinfo) -> Iterable[StatementLine]:
    _require_itemised(file)
    for section in read_sections(file, (), marker="reporting_category"):
        missing = [name for name in _REQUIRED if name not in section.columns]
        if missing:
            raise statement_error(
                file.name,
                f"the report has no column {', '.join(missing)}",
                "run balance_change_from_activity.itemized.3 with these columns",
            )
        if not {"balance_transaction_id", "source_id"} & set(section.columns):
            raise statement_error(
                file.name, "the report has neither balance_transaction_id nor source_id", "run it with these columns"
            )
        amounts = (row.get(name) for row in section.rows for name in ("gross", "fee", "net", "customer_facing_amount"))
        number = NumberFormat(amounts)
        for row in section.rows:
            yield _csv_line(row, number, zone)


def _require_itemised(file: ExportedFile) -> None:
    heading = next((line for line in file.text().splitlines() if line.strip()), "")
    first = heading.lstrip("\ufeff").split(",")[0].strip().strip('"').lower()
    if first in _OTHER_REPORTS and "reporting_category" not in heading:
        raise statement_error(
            file.name,
            f"the file is {_OTHER_REPORTS[first]}",
            "download the itemised report 'Balance change from activity'",
        )


def _csv_line(row: Row, number: NumberFormat, zone: tzinfo) -> StatementLine:
    place = row.place
    gross, fee, net = (number.parse(row.get(name), place, name) for name in ("gross", "fee", "net"))
    if sum_exact((gross, negate(fee))) != net:
        raise statement_error(place, f"net is {net}, but gross less fee is {gross - fee}", "download the report again")
    customer_amount = customer_currency = None
    if row.get("customer_facing_amount") and row.get("customer_facing_currency"):
        customer_amount = number.parse(row.get("customer_facing_amount"), place, "customer_facing_amount")
        customer_currency = parse_currency(row.get("customer_facing_currency"), place)
    if row.get("created_utc"):
        at = parse_local_time(row.get("created_utc"), load_zone("UTC"), place, "created_utc")
    else:
        at = parse_local_time(row.get("created"), zone, place, "created")
    category = row.get("reporting_category")
    metadata = {name: text for name, text in row.cells.items() if "_metadata[" in name and text}
    kind = _KINDS.get(category, LineKind.OTHER)
    own = {name: text for name, text in metadata.items() if not name.startswith("payment_metadata[")}
    return StatementLine(
        place,
        row.get("balance_transaction_id") or row.get("source_id"),
        kind,
        at,
        parse_currency(row.get("currency"), place),
        gross,
        fee,
        net,
        references=_texts(row, _REFERENCES)
        | metadata  # metadata of a refund often name the payment
        | (_texts(row, ("source_id",)) if kind is LineKind.PAYMENT else {}),
        operation_ids=(_texts(row, ("source_id",)) if kind is not LineKind.PAYMENT else {}) | own,
        hints=metadata | _texts(row, _ACCOUNT_HINTS),
        customer_amount=customer_amount,
        customer_currency=customer_currency,
        payout=row.get("automatic_payout_id"),
        category=category,
        text=row.get("description"),
    )


def _texts(row: Row, names: Sequence[str]) -> dict[str, str]:
    return {name: row.get(name) for name in names if row.get(name)}


def _read_json(file: ExportedFile) -> Iterable[StatementLine]:
    is_complete: bool | None = None
    for place, value in json_values(file):
        if isinstance(value, dict) and value.get("object") == "list":
            is_complete = bool(is_complete) or not value.get("has_more")
            items = value.get("data")
        else:
            items = value if isinstance(value, list) else [value]
        if not isinstance(items, list):
            raise statement_error(place, "the list has no data", "pass the answers of GET /v1/balance_transactions")
        for index, item in enumerate(items, 1):
            yield _json_line(item, f"{place}, item {index}")
    if is_complete is False:
        raise statement_error(file.name, "the last page says has_more", "append the pages that follow")


def _json_line(item: Any, place: str) -> StatementLine:
    if not isinstance(item, dict) or item.get("object") != "balance_transaction":
        raise statement_error(place, "not a balance transaction", "pass the answers of GET /v1/balance_transactions")
    currency = parse_currency(item.get("currency"), place)
    gross, fee, net = (_minor(item.get(name), currency, place, name) for name in ("amount", "fee", "net"))
    if sum_exact((gross, negate(fee))) != net:
        raise statement_error(place, f"net is {net}, but amount less fee is {gross - fee}", "download the list again")
    category = text_of(item, "reporting_category", place) or text_of(item, "type", place) or ""
    kind = _KINDS.get(category, LineKind.OTHER)
    source = item.get("source")
    charge = source if isinstance(source, dict) else {}
    source_id = charge.get("id") if charge else source
    id = item.get("id") or source_id
    if not isinstance(id, str) or not id:
        raise statement_error(place, "the balance transaction has no id", "download the list again")
    references = {
        name: text
        for name, text in (
            ("payment_intent_id", charge.get("payment_intent")),
            ("charge_id", charge.get("charge") or (source_id if kind is LineKind.PAYMENT else None)),
        )
        if isinstance(text, str)
    }
    metadata = charge.get("metadata") if isinstance(charge.get("metadata"), dict) else {}
    prefix = "payment_metadata" if kind is LineKind.PAYMENT else "refund_metadata"
    named = {f"{prefix}[{key}]": text for key, text in (metadata or {}).items() if isinstance(text, str) and text}
    operation = {"source_id": source_id} if isinstance(source_id, str) and kind is not LineKind.PAYMENT else {}
    customer = charge.get("customer")
    return StatementLine(
        place,
        id,
        kind,
        parse_unix_time(item.get("created"), place, "created"),
        currency,
        gross,
        fee,
        net,
        references=references | named,  # metadata of a refund often name the payment
        operation_ids={} if kind is LineKind.PAYMENT else operation | named,
        hints=named | ({"customer_id": customer} if isinstance(customer, str) else {}),
        category=category,
        text=str(item.get("description") or ""),
    )


def _minor(value: Any, currency: str, place: str, name: str) -> Decimal:
    """Return an amount that Stripe states in its minor units: ISK and UGX have two decimals there, MGA has none."""
    if type(value) is not int:
        raise statement_error(place, f"{name} is not a whole number of minor units", "download the list again")
    return decimal_from_scaled(value, 0 if currency in _ZERO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2)
