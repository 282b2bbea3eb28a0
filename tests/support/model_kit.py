"""Small price books for tests of the price model, and what they cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, PriceBook, PriceFileError, Usage
from brivionix_billing.errors import Finding
from samples import code_of, utc

__all__ = ["AT", "MILLION", "PEAK", "PLAIN", "book_of", "findings", "price", "refusal", "tier_book"]

AT = utc("2026-10-20T12:00:00")
MILLION = Usage(input_tokens=1_000_000)
PLAIN = "m: {prices: [{from: 2026-01-01, standard: {input: 1, cache_read: 0.1, output: 2}}]}"
PEAK = "calendars: {peak: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ['08:00-16:00']}]}}"


def book_of(models: str, top: str = "", groups: str = "") -> PriceBook:
    """Return a price book with models ``models``, and a group ``g`` that may use all of them."""
    groups = groups or "{g: {terms: [{from: 2026-01-01, ratio: 1, models: ['*']}]}}"
    channels = "channels: {c: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}}"
    text = f"version: 1\ncredit: {{currency: USD, nominal_per_credit: 1}}\n{top}\n{channels}\nmodels:\n  {models}\n"
    return PriceBook.loads(f"{text}groups: {groups}\n")


def tier_book(tier: str, top: str = "") -> PriceBook:
    """Return a price book of a model ``m`` with these prices of the standard tier."""
    return book_of(f"m: {{prices: [{{from: 2026-01-01, standard: {{{tier}}}}}]}}", top)


def price(book: PriceBook, usage: Usage = MILLION, **how: Any) -> Decimal:
    """Return the Credits of a usage."""
    arguments: dict[str, Any] = {"model": "m", "group": "g", "at": AT} | how
    return book.rate(usage, **arguments).credits


def findings(make: Any, *arguments: str) -> list[Finding]:
    """Return the findings of a price file that must be invalid."""
    with pytest.raises(PriceFileError) as caught:
        make(*arguments)
    return list(caught.value.findings)


def refusal(book: PriceBook, usage: Usage, **how: Any) -> str:
    """Return the code of the error of a usage that must not be priced."""
    with pytest.raises(BillingError) as caught:
        price(book, usage, **how)
    return code_of(caught)
