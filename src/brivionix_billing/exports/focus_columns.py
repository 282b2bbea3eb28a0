"""The columns of FOCUS that the exports have, and files of them in CSV and Parquet.

FOCUS (FinOps Open Cost and Usage Specification, https://focus.finops.org) 1.4; columns of our own start with ``x_``.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from brivionix_billing.decimals import decimal_places, format_plain
from brivionix_billing.errors import BillingError, missing_extra
from brivionix_billing.tabular import quote_formula

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
    return _csv(rows, columns, quote_formula)


def _csv(rows: Iterable[Row], columns: Columns, quote: Callable[[str], str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(_value(row, name), quote) for name in columns])
    return out.getvalue()


def _value(row: Row, name: str) -> Value:
    return row.get(name.removeprefix("x_")) if name.startswith("x_PricingCurrency") else row.get(name)


def _cell(value: Value, quote: Callable[[str], str]) -> str:
    if isinstance(value, Decimal):
        text = format_plain(value)
        return text if "." in text else f"{text}.0"
    return "" if value is None else quote(value)


def focus_parquet(rows: Sequence[Row], columns: Columns) -> bytes:
    """Return rows as Parquet, with decimals as exact as the most exact number of their column.

    Raises ``missing_extra`` without DuckDB, and ``invalid_argument`` for a column with more than 38 digits.
    """
    try:
        import duckdb
    except ImportError:
        raise missing_extra("Parquet", "frames", "write CSV") from None
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        source, target = Path(folder, "rows.csv"), Path(folder, "rows.parquet")
        source.write_text(_csv(rows, columns, str), encoding="utf-8", newline="")
        types = {
            name: _decimal_type(name, [_value(row, name) for row in rows]) if kind == NUMBER else kind
            for name, kind in columns.items()
        }
        connection.execute("SET TimeZone = 'UTC'")
        # An empty field is NULL, as in CSV; no text of a row is empty.
        connection.execute(
            "CREATE TABLE focus AS SELECT * FROM read_csv(?, header = true, delim = ',', quote = '\"', escape = '\"', "
            "auto_detect = false, columns = ?, nullstr = '', all_varchar = false, max_line_size = 10000000)",
            [str(source), types],
        )
        quoted = str(target).replace("'", "''")
        connection.execute(f"COPY focus TO '{quoted}' (FORMAT parquet)")  # a path of our own
        return target.read_bytes()


def _decimal_type(name: str, values: Sequence[Value]) -> str:
    numbers = [value for value in values if isinstance(value, Decimal)]
    places = max(map(decimal_places, numbers), default=0)
    whole = max((len(format_plain(number).lstrip("-").partition(".")[0]) for number in numbers), default=1)
    if whole + places > _MAX_DIGITS:
        raise BillingError(
            "invalid_argument", f"{name} needs {whole + places} digits, and Parquet has {_MAX_DIGITS}; write CSV"
        )
    return f"DECIMAL({min(_MAX_DIGITS, max(whole + places, places + 18 if places <= 20 else 0))}, {places})"
