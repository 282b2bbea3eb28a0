"""Small price files, times and short helpers for several test files."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

import pytest

from brivionix_billing import BillingError, PriceBook
from paths import ROOT

__all__ = ["AUTUMN", "NOW", "SHIPPED", "D", "book_of", "code_of", "model", "shipped", "utc"]

D = Decimal
SHIPPED = ROOT / "pricing.yaml"


def utc(text: str) -> datetime:
    """Return an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOW = utc("2026-10-01")
"""A time before the tiers batch, flex and priority are sold."""
AUTUMN = utc("2026-10-20")
"""A time at which all tiers are sold."""


@cache
def shipped() -> PriceBook:
    """Return the price book that the project ships."""
    return PriceBook.load(SHIPPED)


def model(prices: str, name: str = "m") -> str:
    """Return a model of a price file as one line of YAML, given the YAML of its dated entries."""
    sizes = "{window: 400000, max_input: 272000, max_output: 128000}"
    return f"  {name}: {{released: 2026-01-01, encoding: o200k_base, context: {sizes}, prices: [{prices}]}}\n"


def book_of(
    prices: str,
    *,
    ratio: str = "1",
    top: str = "",
    channel: str = "{currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}",
    nominal: str = "1",
) -> PriceBook:
    """Return a price book with a group ``g`` and a channel ``c``.

    ``prices`` is the YAML of the entries of a model ``m``, or several lines of :func:`model`.
    """
    models = prices if prices.startswith("  ") else model(prices)
    return PriceBook.loads(
        f"version: 1\ncredit: {{currency: USD, nominal_per_credit: {nominal}}}\n{top}"
        f"channels:\n  c: {channel}\nmodels:\n{models}"
        f"groups:\n  g:\n    terms: [{{from: 2026-01-01, ratio: {ratio}, models: ['*']}}]\n"
    )


def code_of(caught: pytest.ExceptionInfo[BillingError]) -> str:
    """Return the code of the raised error."""
    return caught.value.code
