"""genai-prices' data, imported, against its own calculation."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import Usage
from import_kit import book_of, catalog_of, full_book, genai_json, read_data
from profiles import sampled
from samples import utc

NAMES = {
    "input_mtok": ("input_tokens", None),
    "output_mtok": ("output_tokens", None),
    "cache_read_mtok": ("cache_read_tokens", "input_tokens"),
    "cache_write_mtok": ("cache_write_tokens", "input_tokens"),
    "cache_write_1h_mtok": ("cache_write_1h_tokens", "input_tokens"),
    "input_audio_mtok": ("audio_input_tokens", "input_tokens"),
    "web_searches_kcount": ("web_search_calls", None),
}
THEIRS = {
    "audio_input_tokens": "input_audio_tokens",
    "web_search_calls": "web_searches",
}


def _draw(price: Any, chance: random.Random) -> dict[str, Any]:
    priced = [key for key in NAMES if getattr(price, key) is not None]
    counts: dict[str, Any] = {NAMES[key][0]: chance.randint(0, 30_000) for key in priced}
    if "input_tokens" in counts:
        inside = sum(n for key in priced if NAMES[key][1] for n in [counts[NAMES[key][0]]])
        counts["input_tokens"] = inside + chance.choice([0, 5000, 128_000, 200_000, 272_001])
    else:
        counts = {name: count for name, count in counts.items() if name in ("output_tokens", "web_search_calls")}
    return counts


def _as_theirs(counts: dict[str, int]) -> dict[str, int]:
    """Return the counts as genai-prices counts them: cache writes contain those of one hour."""
    out = {THEIRS.get(key, key): value for key, value in counts.items()}
    if "audio_input_tokens" in counts:
        out["cache_audio_read_tokens"] = 0  # none of the cached tokens is audio
    if "cache_write_1h_tokens" in counts:
        out["cache_write_tokens"] = counts.get("cache_write_tokens", 0) + counts["cache_write_1h_tokens"]
    return out


def test_models_cost_what_genai_prices_calculates() -> None:
    """Random usages of the installed package's models cost the same, at several times and in batch."""
    genai = pytest.importorskip("genai_prices")
    from genai_prices.data import providers

    catalog, book = full_book("genai-prices", genai_json())
    chance = random.Random(99)
    noisy = {
        note.model for note in catalog.notes if note.code == "float_noise"
    }  # imported as the decimal that was meant
    done = 0
    rows = [(provider, model) for provider in providers for model in provider.models]
    for provider, model in sampled(rows):
        plain = f"{provider.id}/{model.id}"
        name = plain if plain in catalog.models else model.id
        owner = catalog.models.get(name)
        if (
            owner is None
            or name in noisy
            or owner.vendor != provider.id
            or owner.display_name not in (None, model.name)
        ):
            continue
        for at in (utc("2025-01-15T02:00:00Z"), utc("2026-09-16T07:00:00Z"), utc("2026-11-25T12:00:00Z")):
            price = model.get_prices(at)
            counts = _draw(price, chance)
            theirs = genai.Usage(**_as_theirs(counts))
            expected = model.calc_price(theirs, provider, genai_request_timestamp=at).total_price
            charge = book.rate(Usage(**counts), model=name, group="default", at=at)
            assert charge.nominal.amount == expected, (name, at, counts)
            done += 1
            batch = {"processing": "batch"}
            if "batch" in book.service_tiers(name, at):
                expected = model.calc_price(
                    theirs, provider, genai_request_timestamp=at, price_context=batch
                ).total_price
                charge = book.rate(Usage(**counts), model=name, group="default", at=at, service_tier="batch")
                assert charge.nominal.amount == expected, (name, at, counts)
    assert done > 300


def test_a_start_date_is_kept() -> None:
    """o3 became cheaper on 2025-06-10, and the file says so."""
    book = book_of(catalog_of("genai-prices"))
    usage = Usage(input_tokens=1_000_000)

    def cost(at: datetime) -> Decimal:
        return book.rate(usage, model="o3", group="default", at=at).nominal.amount

    assert cost(utc("2025-06-09T23:59:59Z")) == 10
    assert cost(utc("2025-06-10")) == 2


def test_a_later_from_collapses_older_dates() -> None:
    """With a start after the last date of the source there is one entry, with the prices of then."""
    book = book_of(catalog_of("genai-prices"), "2026-11-01")
    usage = Usage(input_tokens=1_000_000)
    assert book.rate(usage, model="o3", group="default", at=utc("2026-11-01")).nominal.amount == 2


def test_hours_become_a_calendar() -> None:
    """DeepSeek's standard hours of 2025 are windows with twice the price."""
    prices = catalog_of("genai-prices").models["deepseek-chat"].prices[0].tiers["standard"]
    assert prices["windows"] == {"utc-daily-0030-1630": {"factor": Decimal(2)}}


def test_prefixes_become_patterns_and_names_become_aliases() -> None:
    """``starts_with`` is a pattern, ``equals`` an alias."""
    models = catalog_of("genai-prices").models
    assert "deepseek-v4-pro*" in models["deepseek-v4-pro"].aliases
    assert "gpt-5-4" in models["gpt-5.4"].aliases


def _provider(name: str, match: str, *models: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "model_match": {"starts_with": match}, "models": list(models)}


def _model(name: str, price: float, **match: Any) -> dict[str, Any]:
    return {"id": name, "match": match or {"equals": name}, "prices": {"input_mtok": price}}


def test_the_provider_that_a_bare_name_means_keeps_it() -> None:
    """Of two providers with one model id, the one that genai-prices finds without a provider has the bare name."""
    catalog = read_data(
        "genai-prices", [_provider("reseller", "zzz", _model("m-1", 3)), _provider("maker", "m-", _model("m-1", 2))]
    )
    assert {name: model.vendor for name, model in catalog.models.items()} == {
        "reseller/m-1": "reseller",
        "m-1": "maker",
    }
    assert catalog.models["m-1"].aliases == ["maker/m-1"]


def test_a_prefix_that_another_model_takes_first_is_only_a_note() -> None:
    """In genai-prices the first match wins, in a price file the longest prefix: both must agree."""
    catalog = read_data(
        "genai-prices",
        [_provider("maker", "m", _model("m-1", 1, starts_with="m-"), _model("m-2", 2, starts_with="m-2-"))],
    )
    assert catalog.models["m-1"].aliases == ["m-*"]
    assert catalog.models["m-2"].aliases == []
    assert [note.model for note in catalog.notes if note.code == "match_ignored"] == ["m-2"]


@pytest.mark.parametrize(
    ("hour", "meter", "price"), [(0.36, "audio_input_seconds", "0.0001"), (0.111, "audio_input_hours", "0.111")]
)
def test_a_price_per_hour_is_exact(hour: float, meter: str, price: str) -> None:
    """A price per hour is one per second if that is a decimal, else that of a meter of the file which counts hours."""
    row = {"id": "whisper", "name": "Whisper", "match": {"equals": "whisper"}, "prices": {"audio_hours": hour}}
    catalog = read_data("genai-prices", [{"id": "groq", "name": "Groq", "models": [row]}])
    (card,) = book_of(catalog).rate_cards("whisper", group="default", at=utc("2026-01-01"))
    assert {name: str(value) for name, value in card.list_prices.items()} == {meter: price}
