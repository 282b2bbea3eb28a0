"""The JSON Schema of the price list."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from brivionix_billing import PriceBook
from brivionix_billing.invoice import json_schema as invoice_schema
from brivionix_billing.invoice.receipts import json_schema as receipt_schema
from brivionix_billing.pages import price_list
from brivionix_billing.pages.price_list_schema import json_schema
from brivionix_billing.pricebook.schema import json_schema as price_schema
from paths import ROOT
from rich_books import rich_books_with_changes
from samples import AUTUMN, shipped, utc
from strategies import Data, books, instants, render

DATA = ROOT / "tests" / "data"
FILES = {
    "price-list": json_schema,
    "pricing": price_schema,
    "invoice": invoice_schema,
    "receipt": receipt_schema,
}
CLOSED = json_schema()
for _definition in (CLOSED, *CLOSED["$defs"].values()):
    _definition["additionalProperties"] = False
VALIDATOR = Draft202012Validator(CLOSED)


def errors(prices: dict[str, Any]) -> list[str]:
    """Return the violations of the schema without unknown fields, in a price list that was written and read again."""
    found = VALIDATOR.iter_errors(json.loads(json.dumps(prices)))
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


@settings(max_examples=20, deadline=None)
@given(st.one_of(books(), rich_books_with_changes()), instants)
def test_lists_of_random_books_are_valid(book: Data, at: datetime) -> None:
    """The list of any price book has the fields of the schema, and no other ones."""
    price_book = PriceBook.loads(render(book))
    assert errors(price_list(price_book, at=at)) == []


@pytest.mark.parametrize("name", ["everything.yaml", "price_model.yaml", "vendors.yaml"])
def test_lists_of_the_example_files_are_valid(name: str) -> None:
    """The list of each example file is valid, whatever its models, calendars, channels and scheduled changes are."""
    book = PriceBook.load(DATA / name)
    assert [errors(price_list(book, at=utc(day))) for day in ("2026-02-01", "2026-10-20")] == [[], []]


@pytest.mark.parametrize(
    "change",
    [{"schema": "brivionix-billing/price-list/2"}, {"at": "2026-10-20"}, {"currency": "usd"}, {"groups": None}],
    ids=str,
)
def test_another_list_is_invalid(change: dict[str, Any]) -> None:
    """A list of another version, or with a field of another form, violates the schema."""
    prices = price_list(shipped(), at=AUTUMN)
    assert errors(prices) == []
    assert len(errors(prices | change)) == 1


def test_a_price_is_an_exact_decimal() -> None:
    """A price that is a JSON number, negative or in scientific notation violates the schema."""
    prices = price_list(shipped(), at=AUTUMN, groups=["coding"])
    nominal = prices["groups"][0]["prices"][0]["nominal"]
    for wrong in (1.5, "-1", "1e3", "", None):
        nominal["input"] = wrong
        assert len(errors(prices)) == 1, wrong


@pytest.mark.parametrize("name", FILES)
def test_the_published_schemas_are_current(name: str) -> None:
    """Each file in docs/schema is what ``schema`` prints; ``make schema`` updates it."""
    published = json.loads((ROOT / "docs" / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert published == FILES[name]()
