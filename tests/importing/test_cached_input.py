"""Only models that write text get the default price of cached input from an import."""

from __future__ import annotations

from typing import Any

import pytest

from brivionix_billing import PriceBook
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.importing.merge import merge_catalog
from brivionix_billing.pricebook.changes import list_prices
from import_kit import book_of, read_data
from paths import ROOT
from samples import utc

AT = utc("2027-06-01")
LITELLM = {"litellm_provider": "x", "input_cost_per_token": 2e-6}


def litellm(mode: str, **row: Any) -> Catalog:
    """Return the catalog of one row of litellm."""
    return read_data("litellm", {"m": {**LITELLM, "mode": mode, **row}})


def genai(name: str, **prices: Any) -> Catalog:
    """Return the catalog of one model of genai-prices."""
    model = {"id": name, "match": {"equals": name}, "prices": prices}
    return read_data("genai-prices", [{"id": "x", "name": "X", "models": [model]}])


def meters(book: PriceBook) -> set[str]:
    """Return the meters that the last model has a price for."""
    return {meter for _, _, meter in list_prices(book, book.model_names[-1], "standard", AT)}


def books(catalog: Catalog) -> list[PriceBook]:
    """Return the file that is written for a catalog, and the shipped file extended by it."""
    extended = merge_catalog(catalog, (ROOT / "pricing.yaml").read_bytes(), "p", "2027-01-01").text
    return [book_of(catalog), PriceBook.loads(extended)]


@pytest.mark.parametrize("mode", ["embedding", "rerank", "image_generation", "audio_transcription", "audio_speech"])
def test_a_model_that_writes_no_text_has_no_default_cached_price(mode: str) -> None:
    """Embeddings, reranking, images and audio get none, neither in a new file nor in one with a default discount."""
    for book in books(litellm(mode, output_cost_per_token=4e-6, input_cost_per_audio_token=1e-6)):
        assert not {name for name in meters(book) if "cache_read" in name}


def test_a_stated_cached_price_of_such_a_model_stays() -> None:
    """A cached price that the source states is imported for every kind of model."""
    for book in books(litellm("image_generation", cache_read_input_token_cost=1e-6)):
        assert "cache_read" in meters(book)


def test_a_model_that_writes_text_has_the_default_cached_price() -> None:
    """Chat models bill a cached token like input in a new file, and by the default discount of an extended one."""
    for book, expected in zip(books(litellm("chat", output_cost_per_token=4e-6)), ("2", "0.2"), strict=True):
        assert str(list_prices(book, "m", "standard", AT)["any", "", "cache_read"]) == expected


@pytest.mark.parametrize(
    ("catalog", "is_cached"),
    [
        (genai("m", input_mtok=1), False),
        (genai("m", input_mtok=1, output_mtok=0), False),
        (genai("m", input_mtok=1, output_mtok=2), True),
        (genai("text-embedding-9", input_mtok=1, output_mtok=1), False),
        (genai("cohere-rerank-9", input_mtok=1, output_mtok=1), False),
    ],
)
def test_prices_and_names_tell_the_kind_of_a_model(catalog: Catalog, is_cached: bool) -> None:
    """In a source without kinds, a model without a price of output, or with a telling name, has no cached input."""
    assert all(("cache_read" in meters(book)) is is_cached for book in books(catalog))
