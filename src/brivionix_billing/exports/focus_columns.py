"""The columns of FOCUS that the exports have, and files of them in CSV and Parquet.

FOCUS (FinOps Open Cost and Usage Specification, https://focus.finops.org) 1.4; columns of our own start with ``x_``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import decimal_places, format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.tables.parquet import parquet_bytes
from brivionix_billing.tabular import CsvLines, quote_formula

__all__ = [
    "BILLING_PERIOD",
    "COST_AND_USAGE",
    "COST_AND_USAGE_1_2",
    "INVOICE_DETAIL",
    "Row",
    "Value",
    "focus_csv",
    "focus_parquet",
    "without_virtual_currency",
]

Value = str | Decimal | None
Row = Mapping[str, Value]
"""Column -> value. A time is text in RFC 3339, a JSON column is its text."""

TEXT: Final = "VARCHAR"
TIME: Final = "TIMESTAMP WITH TIME ZONE"
NUMBER: Final = "DECIMAL"
Columns = Mapping[str, str]
"""Column -> its type in Parquet."""

_PRICING_CURRENCY: Final = (
    "PricingCurrency",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
)
"""Columns in Credits, the virtual currency of prices."""
_NEW_IN_1_3: Final = ("ContractApplied", "HostProviderName", "ServiceProviderName", "InvoiceDetailId")
_UNTIL_1_2: Final = ("ProviderName", "PublisherName")

COST_AND_USAGE: Final[Columns] = {
    "BilledCost": NUMBER,
    "BillingAccountId": TEXT,
    "BillingAccountName": TEXT,
    "BillingCurrency": TEXT,
    "BillingPeriodEnd": TIME,
    "BillingPeriodStart": TIME,
    "ChargeCategory": TEXT,
    "ChargeClass": TEXT,
    "ChargeDescription": TEXT,
    "ChargeFrequency": TEXT,
    "ChargePeriodEnd": TIME,
    "ChargePeriodStart": TIME,
    "CommitmentDiscountCategory": TEXT,
    "CommitmentDiscountId": TEXT,
    "CommitmentDiscountName": TEXT,
    "CommitmentDiscountQuantity": NUMBER,
    "CommitmentDiscountStatus": TEXT,
    "CommitmentDiscountType": TEXT,
    "CommitmentDiscountUnit": TEXT,
    "ConsumedQuantity": NUMBER,
    "ConsumedUnit": TEXT,
    "ContractedCost": NUMBER,
    "ContractApplied": TEXT,
    "ContractedUnitPrice": NUMBER,
    "EffectiveCost": NUMBER,
    "HostProviderName": TEXT,
    "InvoiceDetailId": TEXT,
    "InvoiceId": TEXT,
    "InvoiceIssuerName": TEXT,
    "ListCost": NUMBER,
    "ListUnitPrice": NUMBER,
    "PricingCategory": TEXT,
    "PricingCurrency": TEXT,
    "PricingCurrencyContractedUnitPrice": NUMBER,
    "PricingCurrencyEffectiveCost": NUMBER,
    "PricingCurrencyListUnitPrice": NUMBER,
    "PricingQuantity": NUMBER,
    "PricingUnit": TEXT,
    "ServiceCategory": TEXT,
    "ServiceName": TEXT,
    "ServiceProviderName": TEXT,
    "ServiceSubcategory": TEXT,
    "SkuId": TEXT,
    "SkuMeter": TEXT,
    "SkuPriceDetails": TEXT,
    "SkuPriceId": TEXT,
    "x_PaymentChannel": TEXT,
    "x_PriceGroup": TEXT,
}
"""Columns of Cost and Usage, FOCUS 1.4, with Credits as the pricing currency."""

COST_AND_USAGE_1_2: Final[Columns] = {
    name: COST_AND_USAGE.get(name, TEXT)
    for name in sorted({*COST_AND_USAGE, *_UNTIL_1_2} - {*_NEW_IN_1_3}, key=lambda name: (name[0] == "x", name))
}
"""Columns of FOCUS 1.2, which names the provider in other columns."""


def without_virtual_currency(columns: Columns) -> Columns:
    """Return the columns for tools that accept only currencies of ISO 4217: those in Credits get the prefix ``x_``."""
    kept = {name: kind for name, kind in columns.items() if name not in _PRICING_CURRENCY}
    return kept | {f"x_{name}": columns[name] for name in _PRICING_CURRENCY}


INVOICE_DETAIL: Final[Columns] = {
    "BilledCost": NUMBER,
    "BillingAccountId": TEXT,
    "BillingCurrency": TEXT,
    "BillingPeriodEnd": TIME,
    "BillingPeriodStart": TIME,
    "ChargeCategory": TEXT,
    "InvoiceDetailCreated": TIME,
    "InvoiceDetailDescription": TEXT,
    "InvoiceDetailGrain": TEXT,
    "InvoiceDetailId": TEXT,
    "InvoiceDetailLastUpdated": TIME,
    "InvoiceId": TEXT,
    "InvoiceIssueDate": TIME,
    "InvoiceIssueStatus": TEXT,
    "InvoiceIssuerName": TEXT,
    "PaymentDueDate": TIME,
    "PaymentTerms": TEXT,
    "ReferenceInvoiceId": TEXT,
}
BILLING_PERIOD: Final[Columns] = {
    "BillingPeriodCreated": TIME,
    "BillingPeriodEnd": TIME,
    "BillingPeriodLastUpdated": TIME,
    "BillingPeriodStart": TIME,
    "BillingPeriodStatus": TEXT,
    "InvoiceIssuerName": TEXT,
}
_MAX_DIGITS: Final = 38
"""Digits of a decimal in Parquet."""


def focus_csv(rows: Iterable[Row], columns: Columns) -> str:
    """Return rows as CSV. Every number has a decimal point, because the official validator reads others as integers.

    Every text is quoted by :func:`quote_formula`, as in all CSV of this library.
    """
    lines = CsvLines()
    lines.add_row(columns)
    for row in rows:
        lines.add_row([_cell(_value(row, name)) for name in columns])
    return "".join(lines)


def _value(row: Row, name: str) -> Value:
    return row.get(name.removeprefix("x_")) if name.startswith("x_PricingCurrency") else row.get(name)


def _cell(value: Value) -> str:
    if isinstance(value, Decimal):
        text = format_plain(value)
        return text if "." in text else f"{text}.0"
    return "" if value is None else quote_formula(value)


def focus_parquet(rows: Sequence[Row], columns: Columns) -> bytes:
    """Return rows as Parquet, with decimals as exact as the most exact number of their column.

    Raises ``missing_extra`` without DuckDB, and ``invalid_argument`` for a column with more than 38 digits.
    """
    types = {
        name: _decimal_type(name, [_value(row, name) for row in rows]) if kind == NUMBER else kind
        for name, kind in columns.items()
    }
    return parquet_bytes(([_text(_value(row, name)) for name in columns] for row in rows), types)


def _text(value: Value) -> str | None:
    return format_plain(value) if isinstance(value, Decimal) else value


def _decimal_type(name: str, values: Sequence[Value]) -> str:
    numbers = [value for value in values if isinstance(value, Decimal)]
    places = max(map(decimal_places, numbers), default=0)
    whole = max((len(format_plain(number).lstrip("-").partition(".")[0]) for number in numbers), default=1)
    if whole + places > _MAX_DIGITS:
        raise BillingError(
            "invalid_argument", f"{name} needs {whole + places} digits, and Parquet has {_MAX_DIGITS}; write CSV"
        )
    return f"DECIMAL({min(_MAX_DIGITS, max(whole + places, places + 18 if places <= 20 else 0))}, {places})"
