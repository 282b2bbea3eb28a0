"""genai-prices' data, imported, against its own calculation."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.importing.merge import merge_catalog
from import_kit import book_of, catalog_of, full_book, genai_json, read_data
from paths import ROOT
from profiles import sampled
from samples import utc

NAMES = {
    "input_mtok": ("input_tokens", None),
    "output_mtok": ("output_tokens", None),
    "cache_read_mtok": ("cache_read_tokens", "input_tokens"),
    "cache_write_mtok": ("cache_write_tokens", "input_tokens"),
    "cache_write_1h_mtok": ("cache_write_1h_tokens", "input_tokens"),
    "input_audio_mtok": ("audio_input_tokens", "input_tokens"),
    "input_image_mtok": ("image_input_tokens", "input_tokens"),
    "output_audio_mtok": ("audio_output_tokens", "output_tokens"),
    "web_searches_kcount": ("web_search_calls", None),
}
THEIRS = {
    "audio_input_tokens": "input_audio_tokens",
    "audio_output_tokens": "output_audio_tokens",
    "image_input_tokens": "input_image_tokens",
    "web_search_calls": "web_searches",
}


def _draw(price: Any, chance: random.Random, *, is_complete: bool) -> dict[str, Any]:
    """Return quantities of all that has a price, and of a complete model, of tokens that have none of their own."""
    priced = [key for key in NAMES if getattr(price, key, None) is not None]
    if is_complete and {"input_mtok", "output_mtok"} <= set(priced):
        priced += [key for key in NAMES if key not in priced and NAMES[key][1]]
    elif not is_complete:
        priced = [key for key in priced if key != "cache_write_mtok"]
    counts: dict[str, Any] = {NAMES[key][0]: chance.randint(0, 30_000) for key in priced}
    if "input_tokens" in counts:
        counts["output_tokens"] = counts.get("output_tokens", 0) + counts.get("audio_output_tokens", 0)
        inside = sum(counts[NAMES[key][0]] for key in priced if NAMES[key][1] == "input_tokens")
        counts["input_tokens"] = inside + chance.choice([0, 5000, 128_000, 200_000, 272_001])
    else:
        counts = {name: count for name, count in counts.items() if name in ("output_tokens", "web_search_calls")}
    return counts


def _as_theirs(counts: dict[str, int]) -> dict[str, int]:
    """Return the counts as genai-prices counts them: cache writes contain those of one hour."""
    out = {THEIRS.get(key, key): value for key, value in counts.items()}
    if "audio_input_tokens" in counts:
        out["cache_audio_read_tokens"] = 0  # none of the cached tokens is audio
    if "image_input_tokens" in counts:
        out["cache_image_read_tokens"] = 0
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
            counts = _draw(price, chance, is_complete=owner.unpriced_tokens == "as_container")
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


TWELFTH = {"input_mtok": 1, "output_mtok": 2, "cache_read_mtok": 0.1, "cache_write_mtok": 0.08333333333333334}


def test_a_price_that_is_no_decimal_leaves_its_meter_without_one() -> None:
    """A twelfth of a dollar is listed, the rest of the model is imported, and it refuses tokens without a price."""
    data = [_provider("x", "m", {**_model("m", 1), "prices": TWELFTH}, _model("n", 1))]
    catalog = read_data("genai-prices", data)
    assert [(r.model, r.field) for r in catalog.rejections] == [("m", "cache_write_mtok")]
    assert (catalog.priced_rows, list(catalog.models)) == (2, ["m", "n"])
    book = book_of(catalog)
    at = utc("2026-11-01")
    usage = Usage(input_tokens=2_000_000, cache_read_tokens=1_000_000, output_tokens=1_000_000)
    assert book.rate(usage, model="m", group="default", at=at).nominal.amount == Decimal("3.1")
    write = Usage(input_tokens=1_000_000, cache_write_tokens=1_000_000)
    with pytest.raises(BillingError, match="of meter cache_write"):
        book.rate(write, model="m", group="default", at=at)
    assert book.rate(write, model="n", group="default", at=at).nominal.amount == 1


def test_a_variant_does_not_inherit_what_its_own_price_replaces() -> None:
    """A batch price that is no decimal leaves the meter without a price in batch, and is not the standard price."""
    batch = {"when": {"processing": "batch"}, "prices": {"cache_write_mtok": 0.04166666666666665, "input_mtok": 0.5}}
    model = {**_model("m", 1), "prices": {**TWELFTH, "cache_write_mtok": 1.25}, "price_variants": [batch]}
    tiers = read_data("genai-prices", [_provider("x", "m", model)]).models["m"].prices[0].tiers
    assert tiers["standard"]["cache_write"] == Decimal("1.25")
    assert tiers["batch"] == {"input": Decimal("0.5"), "cache_read": Decimal("0.1"), "output": Decimal(2)}


def test_an_input_price_that_is_no_decimal_rejects_the_model() -> None:
    """A model whose tokens of text have no price is not imported."""
    catalog = read_data("genai-prices", [_provider("x", "m", _model("m", 0.08333333333333334), _model("n", 1))])
    assert (list(catalog.models), [r.model for r in catalog.rejections]) == (["n"], ["m"])


def test_a_merged_model_keeps_the_rule_of_its_source() -> None:
    """In a file with another setting, a new model states what its tokens without a price cost."""
    catalog = read_data("genai-prices", [_provider("x", "m", _model("m-new", 1))])
    text = merge_catalog(catalog, (ROOT / "pricing.yaml").read_bytes(), "p", "2027-01-01").text
    write = Usage(input_tokens=1_000_000, cache_write_tokens=1_000_000)
    book = PriceBook.loads(text.replace('models: ["*"]', 'models: ["*", m-new]'))
    assert book.resolver.unpriced_tokens("m-new") == "as_container"
    assert book.resolver.unpriced_tokens("gpt-5.5") == "refuse"
    card = book.resolver.list_cards("m-new", utc("2027-01-01"), "standard").card(0)
    assert card.billed_quantities(write) == (("input", 1_000_000), ("cache_read", 0), ("output", 0))


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
