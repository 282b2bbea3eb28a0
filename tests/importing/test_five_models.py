"""The five models of pricing.yaml, as imported from each source."""

from __future__ import annotations

from typing import Any

import pytest

from import_kit import book_of, catalog_of
from samples import shipped, utc

AT = utc("2026-11-25")
MODELS = ("gpt-5.5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.3-codex", "gpt-5.2")
METERS = ("input", "cache_read", "output")
BATCH_AND_FLEX = {(m, t): "not sold" for m in MODELS if m != "gpt-5.3-codex" for t in ("batch", "flex")}

# All differences: (model, service tier) -> what the source says.
DIFFERENCES: dict[str, dict[tuple[str, str], Any]] = {
    "litellm": {},
    "portkey": {},
    # The excerpt is older than the tiers: it has standard prices only, and no long-context price of gpt-5.5.
    "genai-prices": {
        **BATCH_AND_FLEX,
        **{(m, "priority"): "not sold" for m in MODELS},
        ("gpt-5.5", "standard"): "one price at any length",
    },
    # models.dev has priority as the mode fast of three models, and neither batch nor flex.
    "models.dev": {**BATCH_AND_FLEX, **{(m, "priority"): "not sold" for m in ("gpt-5.3-codex", "gpt-5.2")}},
    # new-api's ratios have no tiers and no boundaries.
    "new-api": {
        **BATCH_AND_FLEX,
        **{(m, "priority"): "not sold" for m in MODELS},
        **{(m, "standard"): "one price at any length" for m in ("gpt-5.5", "gpt-5.4")},
    },
}


def prices(book: Any, model: str, tier: str) -> Any:
    """Return the list prices of a model in a tier, by boundary and meter; ``None`` if it is not sold in it."""
    if tier not in book.service_tiers(model, AT):
        return None
    cards = book.rate_cards(model, group="default", at=AT, service_tier=tier)
    usual = [card for card in cards if not any(getattr(card.variation, n) for n in ("region", "mode", "window"))]
    return [tuple(card.list_prices.get(name) for name in METERS) for card in usual]


@pytest.mark.parametrize("source", DIFFERENCES)
def test_imported_prices_are_those_of_the_shipped_file(source: str) -> None:
    """Prices are equal in every tier and at every length; each difference is named above."""
    books = (
        {model: book_of(catalog_of(source, f"{model}.toml")) for model in MODELS}
        if source == "models.dev"
        else dict.fromkeys(MODELS, book_of(catalog_of(source)))
    )
    found: dict[tuple[str, str], str] = {}
    for model in MODELS:
        for tier in ("standard", "batch", "flex", "priority"):
            ours, theirs = prices(shipped(), model, tier), prices(books[model], model, tier)
            if ours is not None and theirs is None:
                found[model, tier] = "not sold"
            elif ours != theirs:
                assert theirs is not None
                assert ours is not None
                assert theirs == ours[:1], (model, tier)
                found[model, tier] = "one price at any length"
    assert found == DIFFERENCES[source]
