"""models.dev, OpenRouter, Portkey and new-api: units, tiers, modes, regions, windows and groups."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from import_kit import FILES, PRICES, book_of, catalog_of, read_data, read_json
from samples import utc

AT = utc("2026-11-25T12:00:00Z")


def cost(source: str, usage: Usage, model: str, file: str = "", **terms: Any) -> Fraction:
    """Return the charge of a usage by the imported sample."""
    at = terms.pop("at", AT)
    book = book_of(catalog_of(source, file))
    return Fraction(book.rate(usage, model=model, group=terms.pop("group", "default"), at=at, **terms).nominal.amount)


def test_portkey_costs_what_its_cents_say() -> None:
    """Every price of Portkey, in cents per token, is that of the file, in each region, tier and context."""
    rows = read_json((PRICES / FILES["portkey"]).read_text(encoding="utf-8"), Fraction)
    book = book_of(catalog_of("portkey"))
    done = 0
    for name, row in rows.items():
        for regions, region in row.get("custom_pricing", {}).get("regions", {}).items():
            for tier, mode in region["execution_modes"].items():
                for label, holder in mode.get("context_tiers", {"lte-272k": mode}).items():
                    rates = holder["pricing_config"]["pay_as_you_go"]
                    tokens = 300_000 if label == "gt-272k" else 1000
                    usage = Usage(input_tokens=tokens, cache_read_tokens=400, output_tokens=70, web_search_calls=3)
                    cents = (
                        (tokens - 400) * Fraction(rates["request_token"]["price"])
                        + 400 * Fraction(rates["cache_read_input_token"]["price"])
                        + 70 * Fraction(rates["response_token"]["price"])
                        + 3 * Fraction(rates["additional_units"]["web_search"]["price"])
                    )
                    for place in regions.split(","):
                        charge = book.rate(
                            usage,
                            model=name,
                            group="default",
                            at=AT,
                            service_tier=tier,
                            region=None if place == "default" else place,
                        )
                        assert Fraction(charge.nominal.amount) == cents / 100, (name, place, tier, label)
                        done += 1
    assert done > 100


def test_portkey_default_is_not_a_free_model() -> None:
    """The entry for unknown models is rejected."""
    assert ("default", "is the placeholder for unknown models") in [
        (rejection.model, rejection.reason) for rejection in catalog_of("portkey").rejections
    ]


def test_openrouter_texts_are_exact() -> None:
    """Prices per token are read from their texts; above the boundary the override applies, strictly."""
    usage = Usage(input_tokens=272_000, cache_read_tokens=1000, output_tokens=10, web_search_calls=2)
    expected = 271_000 * Fraction("0.0000025") + 1000 * Fraction("0.00000025") + 10 * Fraction("0.000015")
    assert cost("openrouter", usage, "example/model-a") == expected + 2 * Fraction("0.01")
    longer = Usage(input_tokens=272_001, output_tokens=10)
    expected = 272_001 * Fraction("0.000005") + 10 * Fraction("0.0000225")
    assert cost("openrouter", longer, "example/model-a-2026") == expected


@pytest.mark.parametrize(("time", "factor"), [("00:59:59", 1), ("01:00:00", 2), ("04:00:00", 1), ("09:59:59", 2)])
def test_openrouter_windows_are_calendars(time: str, factor: int) -> None:
    """The hours of an override apply every day in UTC, start included and end excluded."""
    at = utc(f"2026-11-25T{time}Z")
    usage = Usage(input_tokens=1000, output_tokens=100)
    expected = 1000 * Fraction("0.00000022") + 100 * Fraction("0.00000066")
    assert cost("openrouter", usage, "example/peak", at=at) == factor * expected


def test_windows_with_the_same_prices_are_one_calendar() -> None:
    """Two overrides that differ only in their hours become one calendar with both."""
    assert [each["rules"][0]["hours"] for each in catalog_of("openrouter").calendars.values()] == [
        ["01:00-04:00", "06:00-10:00"]
    ]


def test_openrouter_discounts_are_deducted() -> None:
    """A discount of 0.25 leaves three quarters of each price."""
    assert cost("openrouter", Usage(input_tokens=4), "example/discounted") == Fraction("0.000003")


def test_openrouter_rejects_routers_and_unexplained_zeros() -> None:
    """Negative prices and zeros without ``:free`` are rejected; ``:free`` is imported."""
    catalog = catalog_of("openrouter")
    reasons = {rejection.model: rejection.reason for rejection in catalog.rejections}
    assert "negative" in reasons["example/auto"]
    assert "nothing shows that it is free" in reasons["example/unknown"]
    assert "example/small:free" in catalog.models


def test_models_dev_tiers_and_modes() -> None:
    """A mode with a service tier is that tier, one with a speed is a mode, any other is a mode of its name."""
    catalog = catalog_of("models.dev")
    tiers = catalog.models["gpt-x"].prices[0].tiers
    assert tiers["standard"]["long_context"]["above"] == 200_000
    assert tiers["standard"]["long_context"]["cache_read"] == Decimal("0.25")  # not stated, so that of the base
    assert tiers["priority"]["input"] == 5
    assert tiers["priority"]["reasoning"] == 20
    assert catalog.models["claude-x"].prices[0].tiers["standard"]["modes"] == {
        "fast": {"factor": Decimal(6)},
        "thinking": {
            "input": Decimal(5),
            "cache_read": Decimal("0.5"),
            "cache_write": Decimal("6.25"),
            "output": Decimal(40),
        },
    }


def test_models_dev_makers_keep_the_bare_name() -> None:
    """Of two providers with one model, the maker's has the bare name, the reseller's its prefix."""
    catalog = catalog_of("models.dev")
    assert catalog.models["gpt-x"].aliases == ["openai/gpt-x"]
    assert {"reseller/gpt-x", "only-here"} <= catalog.models.keys()
    reasons = {rejection.model: rejection.reason for rejection in catalog.rejections}
    assert reasons["nothing"] == "states no price"
    assert "nothing shows that it is free" in reasons["plan-model"]


def test_models_dev_reads_the_toml_of_one_model() -> None:
    """The file name is the model's name."""
    usage = Usage(input_tokens=272_001, output_tokens=10)
    assert cost("models.dev", usage, "gpt-5.4", "gpt-5.4.toml") == Fraction(272_001 * 5 + 225, 1_000_000)


def test_new_api_ratios_give_the_gateways_own_quota() -> None:
    """The two vectors of new-api's settlement cost the same, at 500 000 quota for a USD."""
    rows = {
        "model_ratio": {"a": 1.25, "claude-b": 1.5},
        "completion_ratio": {"a": 4, "claude-b": 5},
        "cache_ratio": {"a": 0.5, "claude-b": 0.1},
        "create_cache_ratio": {"claude-b": 1.25},
    }
    book = book_of(read_data("new-api", {"success": True, "data": rows}))
    first = Usage(input_tokens=1000, cache_read_tokens=200, output_tokens=500)
    assert book.rate(first, model="a", group="default", at=AT).nominal.amount * Decimal("0.8") == Decimal("0.0058")
    second = Usage(
        input_tokens=9000,
        cache_read_tokens=5000,
        cache_write_tokens=2000,
        cache_write_1h_tokens=1000,
        output_tokens=300,
    )
    assert book.rate(second, model="claude-b", group="default", at=AT).nominal.amount == Decimal("0.0225")


def test_new_api_groups_are_imported() -> None:
    """Groups bring their ratio and, from /api/pricing, their models."""
    book = book_of(catalog_of("new-api"))
    usage = Usage(input_tokens=1_000_000)
    assert book.rate(usage, model="gpt-5.4", group="vip", at=AT).nominal.amount == 2
    catalog = catalog_of("new-api", "new_api_pricing.json")
    assert catalog.groups["default"].models == ["everywhere", "gpt-5.4"]
    assert catalog.groups["vip"].models == ["*"]
    assert catalog.groups["unused"].models == ["everywhere"]  # a model of the group "all" is in every group
    with pytest.raises(BillingError, match="image-model") as caught:
        book_of(catalog).rate(Usage(), model="image-model", group="default", at=AT)
    assert caught.value.code == "model_not_allowed"


def test_new_api_prices_per_call() -> None:
    """A price per call is charged once, and tokens are free."""
    usage = Usage(input_tokens=5000, output_tokens=10)
    assert cost("new-api", usage, "image-model") == Fraction("0.05")
    assert cost("new-api", usage, "call") == Fraction("0.01")


def test_new_api_placeholder_is_rejected() -> None:
    """Ratio 37.5 with completion 1 is not a price."""
    assert "placeholder" in {r.model: r.reason for r in catalog_of("new-api").rejections}["unknown"]


def test_new_api_expressions_with_boundaries_are_context_tiers() -> None:
    """``len <= 200000`` is a strict boundary, ``len < 32000`` an inclusive one."""
    models = catalog_of("new-api").models
    far = models["long"].prices[0].tiers["standard"]["long_context"]
    assert far == {
        "above": 200_000,
        "input": Decimal(6),
        "cache_read": Decimal("0.6"),
        "cache_write": Decimal("7.5"),
        "cache_write_1h": Decimal(12),
        "output": Decimal("22.5"),
    }
    steps = models["steps"].prices[0].tiers["standard"]["long_context"]
    assert [step["at_least"] for step in steps] == [32_000, 128_000]


@pytest.mark.parametrize(
    "expression",
    [
        'tier("base", p * 5)|||when(header("x") has "y") * 6',
        'hour("UTC") < 8 ? tier("night", p * 1) : tier("day", p * 2)',
        'p <= 1000 ? tier("a", p * 1 + cr * 1) : tier("b", p * 2 + cr * 1)',
        'tier("a", p * c)',
        'tier("a", p * 1 + 5)',
        'tier("a", p * -1)',
        'tier("image", fixed(0.1)) * image_count',
        'tier("a", u("seconds") * 0.4)',
        'tier("a", max(p, 5) * 2)',
        "tier(" * 2000,
        "(" * 3000,
        "",
    ],
)
def test_new_api_expressions_that_are_not_plain_prices_are_rejected(expression: str) -> None:
    """Anything that a price file cannot say is rejected with what was found."""
    row = {"model_name": "m", "billing_mode": "tiered_expr", "billing_expr": expression}
    catalog = read_data("new-api", {"data": [row]})
    assert not catalog.models
    assert catalog.rejections[0].model == "m"
    assert catalog.rejections[0].reason.startswith("billing_expr")


def test_new_api_without_a_completion_ratio_has_no_output_price() -> None:
    """The gateway's built-in ratio is not in an export, so output is unpriced and a note says so."""
    catalog = catalog_of("new-api")
    assert catalog.models["text-embedding"].prices[0].tiers["standard"] == {"input": Decimal("0.02")}
    assert ("output_unpriced", "text-embedding") in [(note.code, note.model) for note in catalog.notes]


def test_a_price_per_call_of_new_api_is_that_of_all_tokens() -> None:
    """Cache writes and audio of such a request are free like its text; a model with ratios refuses what has none."""
    rows = [
        {"model_name": "call", "quota_type": 1, "model_price": 0.1, "enable_groups": ["vip"]},
        {"model_name": "ratio", "quota_type": 0, "model_ratio": 1, "completion_ratio": 2, "enable_groups": ["vip"]},
    ]
    book = book_of(read_data("new-api", {"data": rows, "group_ratio": {"vip": 1}}))
    at = utc("2026-11-01")
    usage = Usage(input_tokens=30, cache_write_tokens=10, audio_input_tokens=10, output_tokens=9, audio_output_tokens=5)
    assert book.rate(usage, model="call", group="vip", at=at).nominal.amount == Decimal("0.1")
    with pytest.raises(BillingError, match="of meter cache_write"):
        book.rate(usage, model="ratio", group="vip", at=at)


def test_new_api_other_quota_per_unit() -> None:
    """With another QuotaPerUnit a ratio means another price."""
    options = {"ModelRatio": json.dumps({"m": 1}), "QuotaPerUnit": "1000000"}
    catalog = read_data("new-api", options)
    assert catalog.models["m"].prices[0].tiers["standard"]["input"] == 1


@pytest.mark.parametrize(
    "row",
    [
        {"quota_type": 1, "model_price": 0},
        {"quota_type": 0, "model_ratio": 0, "completion_ratio": 1},
        {"billing_mode": "tiered_expr", "billing_expr": 'v1:tier("t", p * 0 + c * 0)'},
    ],
)
def test_a_price_of_zero_of_new_api_is_a_placeholder(row: dict[str, Any]) -> None:
    """A model without a price is not free, unless its name says so."""
    names = "paid", "gift:free"
    catalog = read_data("new-api", {"data": [{"model_name": name, "enable_groups": [], **row} for name in names]})
    assert "paid" not in catalog.models
    assert "nothing shows that it is free" in next(r.reason for r in catalog.rejections if r.model == "paid")
    assert list(catalog.models) == ["gift:free"]


def test_a_pattern_of_new_api_is_an_alias() -> None:
    """A row for a pattern of names becomes one model that all these names mean, and its groups may use only that."""
    rows = [
        {"model_name": name, "quota_type": 1, "model_price": 0.1, "enable_groups": groups}
        for name, groups in (("gpt-4-gizmo-*", ["vip"]), ("gpt-4-gizmo-pro", ["default"]), ("*", ["vip"]))
    ]
    catalog = read_data("new-api", {"data": rows, "group_ratio": {"vip": 1, "default": 1}})
    book = book_of(catalog)
    assert book.resolve_model("gpt-4-gizmo-7") == "gpt-4-gizmo"
    assert book.resolve_model("gpt-4-gizmo-pro") == "gpt-4-gizmo-pro"
    assert book.models(group="vip", at=utc("2026-11-01")) == ["gpt-4-gizmo"]
    assert [rejection.model for rejection in catalog.rejections] == ["*"]
