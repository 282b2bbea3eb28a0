"""Reads the sources of prices in ``tests/data/prices``, and litellm's and genai-prices' full data if installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from brivionix_billing import PriceBook
from brivionix_billing.importing.build import build_price_file
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.importing.sources import read_catalog
from paths import DATA

__all__ = [
    "FILES",
    "PRICES",
    "book_of",
    "catalog_of",
    "full_book",
    "genai_json",
    "litellm_map",
    "read_data",
    "read_json",
]

PRICES: Final = DATA / "prices"
FILES: Final = {
    "litellm": "litellm.json",
    "genai-prices": "genai_prices.json",
    "models.dev": "models_dev.json",
    "openrouter": "openrouter.json",
    "portkey": "portkey_openai.json",
    "new-api": "new_api_options.json",
}
"""Source -> its sample file."""


def catalog_of(source: str, file: str = "") -> Catalog:
    """Return the catalog of a sample file."""
    name = file or FILES[source]
    return read_catalog(source, (PRICES / name).read_bytes(), name)


def book_of(catalog: Catalog, start: str | None = None) -> PriceBook:
    """Return the price book of the file that is written for a catalog."""
    return PriceBook.loads(build_price_file(catalog, start))


def read_data(source: str, data: Any) -> Catalog:
    """Return the catalog of data that a test writes down."""
    return read_catalog(source, json.dumps(data).encode())


def read_json(text: str, number: Any) -> Any:
    """Parse JSON with every number made by ``number`` from its text."""
    return json.loads(text, parse_float=number, parse_int=int)


def litellm_map() -> str | None:
    """Return litellm's full map, or ``None`` if litellm is not installed. litellm itself is not imported."""
    spec = importlib.util.find_spec("litellm")
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    path = Path(folder or ".", "model_prices_and_context_window_backup.json")
    return path.read_text(encoding="utf-8") if path.exists() else None


@cache
def full_book(source: str, text: str) -> tuple[Catalog, PriceBook]:
    """Return the catalog and the price book of a full source, made once for all tests."""
    catalog = read_catalog(source, text.encode())
    return catalog, book_of(catalog)


@cache
def genai_json() -> str:
    """Return the data of the installed genai-prices as its own JSON."""
    from genai_prices.data import providers

    text = json.dumps([_plain(provider) for provider in providers])
    return re.sub(r'"@@([^"@]*)@@"', r"\1", text)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"@@{value}@@"
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z")
    if dataclasses.is_dataclass(value) or type(value).__name__ == "ModelPrice":
        fields = {key.rstrip("_"): _plain(item) for key, item in vars(value).items() if item is not None}
        return {key: item for key, item in fields.items() if not key.startswith(("extractors", "_"))}
    return value
