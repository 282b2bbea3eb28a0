"""litellm's map, imported, against an independent reading of the same text with fractions."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import pytest

from brivionix_billing import PriceBook, Usage
from import_kit import PRICES, book_of, catalog_of, full_book, litellm_map, read_data, read_json
from profiles import sampled
from samples import utc

NOON: Final = utc("2026-11-25T12:00:00Z")
"""A Wednesday, outside of the peak hours of DeepSeek."""
SUFFIX: Final = {"standard": "", "batch": "_batches"}
"""Service tier -> suffix of a key; other tiers are their own suffix."""
LONG: Final = (0, 1, 100_000, 128_000, 128_001, 200_000, 200_001, 272_000, 272_001, 500_000)

# Key -> (argument of Usage, argument that contains it). Written down here again, apart from the importer's tables.
TOKENS: Final = {
    "input_cost_per_token": ("input_tokens", None),
    "output_cost_per_token": ("output_tokens", None),
    "cache_read_input_token_cost": ("cache_read_tokens", "input_tokens"),
    "cache_creation_input_token_cost": ("cache_write_tokens", "input_tokens"),
    "cache_creation_input_token_cost_above_1hr": ("cache_write_1h_tokens", "input_tokens"),
    "cache_creation_input_token_cost_above_12hr": ("cache_write_12h_tokens", "input_tokens"),
    "input_cost_per_audio_token": ("audio_input_tokens", "input_tokens"),
    "output_cost_per_audio_token": ("audio_output_tokens", "output_tokens"),
    "output_cost_per_image_token": ("image_output_tokens", "output_tokens"),
    "output_cost_per_reasoning_token": ("reasoning_tokens", "output_tokens"),
}
OTHERS: Final = {
    "output_cost_per_image": "output_images",
    "input_cost_per_image": "input_images",
    "input_cost_per_character": "input_characters",
    "input_cost_per_query": "queries",
    "ocr_cost_per_page": "pages",
    "input_cost_per_pixel": "input_pixels",
    "output_cost_per_video_per_second": "video_output_seconds",
}


def figure(text: Any) -> Fraction:
    """Return the exact number, or for a double with more than 15 digits the decimal that was meant."""
    digits = str(text).lower().partition("e")[0].replace(".", "").lstrip("-0")
    return Fraction(format(float(text), ".15g")) if len(digits.rstrip("0")) > 15 else Fraction(str(text))


def price(row: dict[str, Any], key: str, tier: str, tokens: int) -> Fraction | None:
    """Return the USD per unit that litellm's map states for a key, in a tier, for a request of some input tokens."""
    graded = row.get("tiered_pricing")
    if graded is not None and tier == "standard":
        bounds = [[int(figure(end)) for end in step["range"]] for step in graded]
        step = next((s for s, (low, high) in zip(graded, bounds, strict=True) if low < tokens <= high), graded[-1])
        if tokens == 0:
            step = graded[0]
        return figure(step[key]) if key in step else None
    if tier != "standard":
        suffix = SUFFIX.get(tier, f"_{tier}")
        found = _above(row, key, suffix, tokens)
        if found is not None:
            return found
        if row.get(key + suffix) is not None:
            return figure(row[key + suffix])
        if key == "output_cost_per_reasoning_token" and row.get("output_cost_per_token" + suffix) is not None:
            return price(row, "output_cost_per_token", tier, tokens)
    found = _above(row, key, "", tokens)
    return found if found is not None else figure(row[key]) if row.get(key) is not None else None


def _above(row: dict[str, Any], key: str, suffix: str, tokens: int) -> Fraction | None:
    best: tuple[int, Fraction] | None = None
    for name, value in row.items():
        if not name.startswith(f"{key}_above_") or not name.endswith(f"_tokens{suffix}") or value is None:
            continue
        middle = name[len(key) + 7 : len(name) - len(f"_tokens{suffix}")]
        if not middle.rstrip("k").isdigit():
            continue
        bound = int(middle.rstrip("k")) * (1000 if middle.endswith("k") else 1)
        reached = tokens >= bound if row.get("litellm_provider") == "xai" else tokens > bound
        if reached and (best is None or bound > best[0]):
            best = bound, figure(value)
    return best[1] if best else None


def draw(row: dict[str, Any], tier: str, chance: random.Random) -> tuple[Usage, Fraction] | None:
    """Return a random usage of the meters that a row prices, and its cost by the map."""
    stated = row if "tiered_pricing" not in row or tier != "standard" else {**row["tiered_pricing"][0]}
    keys = [key for key in TOKENS if stated.get(key) is not None and (key != "output_cost_per_image_token")]
    counts = {key: chance.randint(0, 40_000) for key in keys}
    if "input_cost_per_token" in counts:
        counts["input_cost_per_token"] = chance.choice(LONG)
    if "output_cost_per_token" not in counts:
        counts.pop("output_cost_per_reasoning_token", None)
        counts.pop("output_cost_per_audio_token", None)
    if "input_cost_per_token" not in counts:
        return None
    total = sum(n for key, n in counts.items() if key == "input_cost_per_token" or TOKENS[key][1] == "input_tokens")
    arguments: dict[str, Any] = {"input_tokens": total}
    if "output_cost_per_token" in counts:
        inside = [key for key in counts if TOKENS[key][1] == "output_tokens"]
        arguments["output_tokens"] = counts["output_cost_per_token"] + sum(counts[key] for key in inside)
    cost = Fraction(0)
    for key, count in counts.items():
        if TOKENS[key][1] is not None:
            arguments[TOKENS[key][0]] = count
        unit = price(row, key, tier, total)
        assert unit is not None, key
        cost += unit * count
    others: dict[str, Any] = {}
    for key, argument in OTHERS.items():
        if row.get(key) is not None and tier == "standard":
            others[argument] = chance.randint(0, 30)
            cost += others[argument] * figure(row[key])
    if row.get("input_cost_per_request") is not None:
        cost += figure(row["input_cost_per_request"])
    return Usage(**arguments, **others), cost


def check_row(book: PriceBook, name: str, row: dict[str, Any], chance: random.Random) -> int:
    """Check a few usages of one row in every tier; return how many."""
    if "off_peak_pricing" in row:
        peak = datetime.fromisoformat("2026-11-25T01:30:00+00:00")
        drawn = draw(row, "standard", chance)
        assert drawn is not None
        charge = book.rate(drawn[0], model=name, group="default", at=peak)
        assert Fraction(charge.nominal.amount) == drawn[1], name
        cheap = {**row, **{k: v for k, v in row["off_peak_pricing"].items() if "cost" in k}}
        drawn = draw(cheap, "standard", chance)
        assert drawn is not None
        charge = book.rate(drawn[0], model=name, group="default", at=NOON)
        assert Fraction(charge.nominal.amount) == drawn[1], name
        return 2
    done = 0
    for tier in book.service_tiers(name, NOON):
        for _ in range(2):
            drawn = draw(row, tier, chance)
            if drawn is None:
                continue
            charge = book.rate(drawn[0], model=name, group="default", at=NOON, service_tier=tier)
            assert Fraction(charge.nominal.amount) == drawn[1], (name, tier, drawn[0])
            done += 1
    return done


def test_every_sample_row_costs_what_the_map_states() -> None:
    """Random usages of all sample rows cost exactly what the text of the map says, in every tier."""
    rows = read_json((PRICES / "litellm.json").read_text(encoding="utf-8"), str)
    catalog = catalog_of("litellm")
    book = book_of(catalog)
    chance = random.Random(7)
    assert sum(check_row(book, name, rows[name], chance) for name in catalog.models) > 60


def test_every_row_of_the_full_map_costs_what_it_states() -> None:
    """So do the rows of litellm's full map: all in a thorough run, every eighth in a quick one."""
    text = litellm_map()
    if text is None:
        pytest.skip("litellm is not installed")
    rows = read_json(text, str)
    catalog, book = full_book("litellm", text)
    chance = random.Random(20_261_128)
    assert sum(check_row(book, name, rows[name], chance) for name in sampled(catalog.models)) > 500


def test_at_least_99_percent_of_the_priced_rows_are_imported() -> None:
    """Of litellm's rows with a price that is not 0, at most one in a hundred is rejected, each with a reason."""
    text = litellm_map()
    if text is None:
        pytest.skip("litellm is not installed")
    rows = read_json(text, Decimal)
    catalog, _ = full_book("litellm", text)
    priced = [
        name
        for name, row in rows.items()
        if name != "sample_spec"
        and (
            "tiered_pricing" in row
            or any("cost" in k and "dbu" not in k and isinstance(v, Decimal) and v for k, v in row.items())
        )
    ]
    missing = [name for name in priced if name not in catalog.models]
    assert len(missing) * 100 <= len(priced)
    rejected = {rejection.model: rejection.reason for rejection in catalog.rejections if not rejection.field}
    assert all(rejected[name] for name in missing)


def test_every_row_is_imported_rejected_or_an_alias() -> None:
    """Nothing is dropped silently: each row of the sample is a model, an alias or a rejection."""
    rows = read_json((PRICES / "litellm.json").read_text(encoding="utf-8"), str)
    catalog = catalog_of("litellm")
    known = set(catalog.models) | {alias for model in catalog.models.values() for alias in model.aliases}
    known |= {rejection.model for rejection in catalog.rejections}
    assert rows.keys() - known == {"sample_spec"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemini/gemini-exp-1206", "all its prices are 0"),
        ("exa_ai/search", "do not depend on input tokens"),
    ],
)
def test_placeholders_are_rejected(name: str, reason: str) -> None:
    """Zeros that nothing explains, and prices that depend on something else, are rejected with the reason."""
    assert any(r.model == name and reason in r.reason for r in catalog_of("litellm").rejections)


def test_free_models_are_imported() -> None:
    """Models that run on the user's machine, and OpenAI's moderation, are free."""
    models = catalog_of("litellm").models
    assert "ollama/llama3" in models
    assert "omni-moderation-latest" in models


def test_databricks_units_are_counted_but_not_imported() -> None:
    """Prices in Databricks units are not USD."""
    assert [note.code for note in catalog_of("litellm").notes if note.code == "dbu_ignored"] == ["dbu_ignored"]


def test_off_peak_windows_become_the_peak_calendar_if_that_is_simpler() -> None:
    """DeepSeek's off-peak windows differ by weekday, its peak windows do not: so the peak is the calendar."""
    catalog = catalog_of("litellm")
    prices = catalog.models["deepseek-v4-pro"].prices[0].tiers["standard"]
    assert prices["input"] == Decimal("0.66")
    assert prices["windows"] == {"utc-mon-fri-0100-0400-0600-1000": {"factor": Decimal(2)}}
    assert catalog.calendars["utc-mon-fri-0100-0400-0600-1000"]["rules"][0]["hours"] == ["01:00-04:00", "06:00-10:00"]
    # The same windows, with weekdays read in Shanghai.
    assert catalog.calendars["asia-shanghai-mon-fri-0900-1200-1400-1800"]["time_zone"] == "Asia/Shanghai"


def test_resolutions_become_meters_of_the_file() -> None:
    """A price per second of 1080p is a meter that the file declares."""
    catalog = catalog_of("litellm")
    assert catalog.meters["video_output_seconds_1080p"] == {"unit": "second", "per": 1}
    assert "output_images_0_5k" in catalog.models["fal_ai/fal-ai/nano-banana-2"].prices[0].tiers["standard"]


def test_xai_boundaries_are_inclusive() -> None:
    """xAI's higher price applies at the boundary itself."""
    far = catalog_of("litellm").models["xai/grok-4.5"].prices[0].tiers["standard"]["long_context"]
    assert far["at_least"] == 200_000
    assert "above" not in far


def test_priority_without_a_long_price_is_flat() -> None:
    """The priority price of a model applies at any length if the map has none above the boundary."""
    assert "long_context" not in catalog_of("litellm").models["gpt-5.5"].prices[0].tiers["priority"]


def test_tiers_that_are_not_built_in_are_declared() -> None:
    """The file declares ultrafast, balanced and decisions."""
    assert set(catalog_of("litellm").service_tiers) == {"ultrafast", "balanced", "decisions"}


def test_float_noise_is_listed_with_both_figures() -> None:
    """A price such as 2.0000000000000002e-07 is imported as 0.2 per million, and a note has both."""
    notes = [note for note in catalog_of("litellm").notes if note.code == "float_noise"]
    assert notes
    assert all(" was read as " in note.message for note in notes)


def test_tokens_with_a_price_only_above_a_boundary_cost_input_below_it() -> None:
    """litellm bills cached tokens without a price like input."""
    row = {"input_cost_per_token": 1e-6, "cache_read_input_token_cost_above_200k_tokens": 5e-7, "litellm_provider": "x"}
    prices = read_data("litellm", {"m": row}).models["m"].prices[0].tiers["standard"]
    assert prices["cache_read"] == 1
    assert prices["long_context"]["cache_read"] == Decimal("0.5")


def test_an_image_with_a_price_only_above_a_boundary_is_rejected() -> None:
    """Below the boundary it would be free."""
    row = {"input_cost_per_token": 1e-6, "input_cost_per_image_above_200k_tokens": 1, "litellm_provider": "x"}
    assert "only above" in read_data("litellm", {"m": row}).rejections[0].reason
