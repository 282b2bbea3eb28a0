"""Requests from the field that this library refused or priced wrongly, each with its right price."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from bill_kit import billed, verified
from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.times import Period
from model_kit import AT, book_of, findings, price, refusal, tier_book
from samples import D, code_of

Json = dict[str, Any]
YEAR = Period.parse("2026-01-01/2027-01-01")


def grok(prompt: int, completion: int, cached: int) -> Json:
    """Return a response of Azure's Grok deployment, which counts cached tokens beside the prompt."""
    return {
        "model": "grok-4-1-fast-non-reasoning",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "audio_prompt_tokens": 0,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "audio_tokens": 0,
                "text_tokens": prompt,
                "image_tokens": 0,
            },
            "num_sources_used": 0,
        },
    }


GROK = (
    "grok-4-1-fast-non-reasoning: {prices: [{from: 2026-01-01, standard: {input: 0.2, cache_read: 0.05, output: 0.5}}]}"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(grok(241, 56, 178), "0.0000851"), (grok(7, 1, 163), "0.00001005")],
    ids=["R10", "R11"],
)
def test_tokens_beside_the_prompt_are_charged_as_the_upstream_counts(body: Json, expected: str) -> None:
    """R10, R11: an upstream that counts cached tokens beside the prompt is billed so, from the response to the bill."""
    book = book_of(GROK, "upstreams: {azure-grok: {cache_read: beside_input}}")
    usage = Usage.from_response(body, conventions=book.conventions("azure-grok"))
    assert book.rate(usage, group="g", at=AT).credits == D(expected)
    row = {"request_id": "r", "at": "2026-10-20T12:00:00Z", "account": "acct_1", "group": "g", "upstream": "azure-grok"}
    usage_file = json.dumps({**row, "model": body["model"], "usage": body}).encode() + b"\n"
    document = billed(usage_file, book, period=YEAR, period_name=str(YEAR), issued=YEAR.end)
    assert document["totals"]["credits"] == expected
    assert verified(document, usage_file, book).differences == []


def test_r16_a_region_that_costs_more_is_not_priced_as_usual() -> None:
    """R16: 1000 input and 100 output tokens of a Claude model served in the US cost 1.1 x 0.0045."""
    body = {
        "usage": {
            "input_tokens": 1000,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
            "output_tokens": 100,
            "inference_geo": "us",
            "service_tier": "standard",
        }
    }
    book = tier_book("input: 3, output: 15, regions: {us: {factor: 1.1}}")
    assert price(book, Usage.from_response(body)) == D("0.00495")
    for geo in ("global", "not_available"):
        usual = {"usage": {**body["usage"], "inference_geo": geo}}
        assert price(book, Usage.from_response(usual)) == D("0.0045")
    other = Usage.from_response({"usage": {**body["usage"], "inference_geo": "eu"}})
    assert refusal(book, other) == "region_unavailable"


def test_r16_served_regions_and_modes_are_told_apart_in_one_bill() -> None:
    """R16: records that differ only in the served region or mode have lines of their own, in any order of the file."""
    modes = "modes: {fast: {input: 9, cache_read: 0.9, output: 45}}"
    book = tier_book(f"input: 3, cache_read: 0.3, output: 15, regions: {{us: {{factor: 1.1}}}}, {modes}")
    served: list[Json] = [{"inference_geo": "global"}, {"inference_geo": "us"}, {"speed": "fast"}, {}]
    lines = []
    for number, more in enumerate([*served, *reversed(served)]):
        usage = {"input_tokens": 1000, "cache_read_input_tokens": 0, "output_tokens": 100, **more}
        row = {
            "request_id": f"r{number}",
            "at": "2026-10-20T12:00:00Z",
            "account": "acct_1",
            "group": "g",
            "model": "m",
        }
        lines.append(json.dumps({**row, "usage": usage}).encode() + b"\n")
    for usage_file in (b"".join(lines), b"".join(reversed(lines))):
        document = billed(usage_file, book, period=YEAR, period_name=str(YEAR), issued=YEAR.end)
        found = [(line.get("region"), line.get("mode"), line["meter"], line["credits"]) for line in document["lines"]]
        assert sorted(found, key=str) == sorted(
            [
                *((None, None, "input", "0.012"), (None, None, "output", "0.006")),
                *(("us", None, "input", "0.0066"), ("us", None, "output", "0.0033")),
                *((None, "fast", "input", "0.018"), (None, "fast", "output", "0.009")),
            ],
            key=str,
        )


def test_r19_the_tier_of_groq_is_standard() -> None:
    """R19: ``on_demand`` in a response of Groq is the standard tier."""
    usage = {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70, "queue_time": 0.01, "total_time": 0.1}
    body = {"model": "m", "service_tier": "on_demand", "usage": usage}
    assert price(tier_book("input: 0.59, output: 0.79"), Usage.from_response(body)) == D("0.0000453")


@pytest.mark.parametrize("tier", ["scale", "performance", "provisioned", "reserved"])
def test_r20_the_tiers_of_other_providers_can_be_named_and_priced(tier: str) -> None:
    """R20: a served tier that is not built in is refused, until the file names or prices it."""
    body = {"service_tier": tier, "usage": {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}}
    usage = Usage.from_response(body)
    tiers = "standard: {input: 0.15, output: 0.6}"
    entry = "m: {prices: [{from: 2026-01-01, %s}]}"
    assert refusal(book_of(entry % tiers), usage) == "unknown_service_tier"
    assert price(book_of(entry % tiers, f"service_tiers: {{standard: [{tier}]}}"), usage) == D("0.0000195")
    own = f"{tiers}, {tier}: {{input: 0.3, output: 1.2}}"
    assert price(book_of(entry % own, f"service_tiers: {{{tier}: []}}"), usage) == D("0.000039")


def test_r35_a_fine_tuned_model_has_the_price_of_its_pattern() -> None:
    """R35: the name of a fine-tuned model in a response is priced by ``ft:gpt-4o-mini-2024-07-18:*``."""
    entry = "prices: [{from: 2026-01-01, standard: {input: 0.3, output: 1.2}}]"
    book = book_of(f'gpt-4o-mini-ft: {{aliases: ["ft:gpt-4o-mini-2024-07-18:*"], {entry}}}')
    usage = {"prompt_tokens": 29, "total_tokens": 134, "completion_tokens": 105}
    body = {"model": "ft:gpt-4o-mini-2024-07-18:acme::abc123", "usage": usage}
    charge = book.rate(Usage.from_response(body), group="g", at=AT)
    assert (charge.model, charge.credits) == ("gpt-4o-mini-ft", D("0.0001347"))


@pytest.mark.parametrize(
    ("tokens", "rate"), [(32_000, "1.2"), (32_001, "2.4"), (128_000, "2.4"), (128_001, "3"), (256_001, "4.5")]
)
def test_r47_three_boundaries_are_three_prices(tokens: int, rate: str) -> None:
    """R47: tokens above the second and third boundary are not billed at the price of the first."""
    tiers = ("{above: 32000, input: 2.4}", "{above: 128000, input: 3}", "{above: 256000, input: 4.5}")
    book = tier_book(f"input: 1.2, long_context: [{', '.join(tiers)}]")
    assert price(book, Usage(input_tokens=tokens)) == Decimal(tokens) * D(rate) / 10**6


def test_r48_each_model_has_its_own_fee_of_a_tool() -> None:
    """R48: web search costs what the price of the model says, else the default of its pattern."""
    top = "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}]}"
    models = (
        "grok: {prices: [{from: 2026-01-01, standard: {input: 1, web_search: 5}}]}\n"
        "  gpt: {prices: [{from: 2026-01-01, standard: {input: 1}}]}"
    )
    book = book_of(models, top)
    searches = Usage(web_search_calls=3)
    assert [price(book, searches, model=name) for name in ("grok", "gpt")] == [D("0.015"), D("0.03")]


def test_case_43_a_default_can_be_switched_off_for_a_model() -> None:
    """Case 43: cached embeddings and web search on a model without it are refused, and no price table has them."""
    top = (
        "cache_discount: [{from: 2026-01-01, discount: 0.9}]\n"
        "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}]}"
    )
    entry = "prices: [{from: 2026-01-01, standard: {input: 1, output: 2}}]"
    book = book_of(f"gpt: {{{entry}}}\n  embed: {{cache_discount: false, tools: [], {entry}}}", top)
    cached, searched = Usage(input_tokens=10, cache_read_tokens=10), Usage(web_search_calls=1)
    assert [price(book, usage, model="gpt") for usage in (cached, searched)] == [D("0.000001"), D("0.01")]
    for usage in (cached, searched):
        assert refusal(book, usage, model="embed") == "meter_unpriced"
    (card,) = book.rate_cards("embed", group="g", at=AT)
    assert set(card.unit_prices) == {"input", "output"}


@pytest.mark.parametrize(
    "name",
    [
        *("ft:gpt-5.4:acme::1", "openai/gpt-5.4", "models/gpt-5.4", "us.gpt-5.4"),
        *("gpt-5.4@2026-03-05", "gpt-5.4@20260305"),
    ],
)
def test_case_44_the_names_of_gateways_and_clouds_mean_the_model(name: str) -> None:
    """Case 44: fine-tuned, prefixed and dated names are the model, by patterns that match."""
    top = 'aliases: {"openai/*": "*", "models/*": "*", "us.*": "*"}'
    entry = "prices: [{from: 2026-03-05, standard: {input: 2.5, output: 15}}]"
    book = book_of(f'gpt-5.4: {{released: 2026-03-05, aliases: ["ft:gpt-5.4:*"], {entry}}}', top)
    assert price(book, model=name) == D("2.5")


def test_case_44_a_pattern_that_cannot_work_is_refused() -> None:
    """Case 44: an alias with stars that could not be repeated on the right is a finding, not a name."""
    entry = "m: {prices: [{from: 2026-01-01, standard: {input: 1}}]}"
    assert [f.path for f in findings(book_of, entry, 'aliases: {"*/x/*": "*"}')] == ["aliases.*/x/*"]


def test_case_45_a_limit_or_an_alias_fails_no_older_bill() -> None:
    """Case 45: a bill verifies after an alias, a limit, a text or an unused price changed, and not after its price."""
    entry = "prices: [{from: 2026-01-01, standard: {input: 1, output: 2}, batch: {input: 0.5, output: 1}}]"
    book = book_of(f"m: {{{entry}}}")
    row = {"request_id": "r", "at": "2026-10-20T12:00:00Z", "account": "acct_1", "group": "g", "model": "m"}
    usage = json.dumps({**row, "usage": {"prompt_tokens": 9, "completion_tokens": 1}}).encode() + b"\n"
    document = billed(usage, book, period=YEAR, period_name=str(YEAR), issued=YEAR.end)

    def differences(models: str, top: str = "") -> list[str]:
        return [difference.where for difference in verified(document, usage, book_of(models, top)).differences]

    for models, top in (
        (f"m: {{aliases: [n, 'ft:m:*'], released: 2025-12-31, description: x, {entry}}}", ""),
        (f"m: {{{entry.replace('0.5', '0.4')}}}", "aliases: {'openai/*': '*'}\nregions: {us: [us-1]}"),
        (f"m: {{{entry}}}", "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}]}"),
    ):
        assert differences(models, top) == [], models
    assert "evidence.prices" in differences(f"m: {{{entry.replace('output: 2', 'output: 3')}}}")


# --- found by generated books ---


@pytest.mark.parametrize("quantity", ["12.5", "12.500", "12.5000000", "1250000E-5"])
def test_trailing_zeros_of_a_quantity_change_nothing(quantity: str) -> None:
    """A quantity with zeros beyond the decimal places of its meter is that quantity: it is not free."""
    book = tier_book("audio_input_seconds: 0.1, robot: 2", "meters: {robot: {unit: minute}}")
    usage = Usage(audio_input_seconds=D(quantity), quantities={"robot": D(quantity)})
    assert usage == Usage(audio_input_seconds=D("12.5"), quantities={"robot": D("12.5")})
    assert price(book, usage) == D("26.25")


@pytest.mark.parametrize("zero", ["0", "0.000000000", "0E-900", "0E+9", "-0"])
def test_a_quantity_of_zero_is_nothing_however_it_is_written(zero: str) -> None:
    """A zero with further zeros, an exponent or a sign is no quantity."""
    assert Usage(audio_input_seconds=D(zero), quantities={"robot": D(zero)}) == Usage()


def test_a_quantity_that_is_too_fine_is_refused() -> None:
    """A quantity with a digit beyond the decimal places of its meter is ``invalid_usage``, not rounded."""
    for arguments in ({"audio_input_seconds": D("0.0001")}, {"quantities": {"robot": D("0.0000001")}}):
        with pytest.raises(BillingError, match="decimal places") as caught:
            Usage(**arguments)
        assert code_of(caught) == "invalid_usage"


def test_the_minimum_of_a_region_applies_to_the_modes_inside_of_it() -> None:
    """Prices inside of a region inherit its minimum charge, not that of the tier around the region."""
    inside = "input: 2, minimum: 1, modes: {fast: {input: 3}, slow: {input: 1, minimum: 0}}"
    book = tier_book(f"input: 1, minimum: 5, regions: {{us: {{{inside}}}}}")
    one = Usage(input_tokens=1)
    assert [price(book, one), price(book, one, region="us"), price(book, one, region="us", mode="fast")] == [5, 1, 1]
    assert price(book, one, region="us", mode="slow") == D("0.000001")


def test_a_mode_in_another_case_has_its_own_price() -> None:
    """``FAST`` is the mode ``fast``, and is not taken for the tier priority of the model."""
    tiers = "standard: {input: 1, modes: {fast: {input: 3}}}, priority: {input: 7}"
    book = book_of(f"m: {{prices: [{{from: 2026-01-01, {tiers}}}]}}")
    assert {str(price(book, Usage(input_tokens=1_000_000, mode=mode))) for mode in ("fast", "FAST", "Fast")} == {"3"}


def _digest(models: str, top: str = "") -> str:
    book: PriceBook = book_of(models, top)
    return book.digest


def test_the_digest_covers_each_section_that_moves_a_price() -> None:
    """A change of a calendar, rate, meter, factor, boundary, fee pattern or router changes the digest of the file."""
    text = "calendars: {peak: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ['08:00-16:00']}]}}\n"
    text += "exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.14}]}\nmeters: {robot: {unit: minute, per: 2}}\n"
    text += "unpriced_tokens: refuse\n"
    text += "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10, models: ['m*']}]}"
    tier = "input: 1, robot: 2, minimum: 1, long_context: {above: 9, input: 2}, windows: {peak: {factor: 2}}"
    model = f"m: {{currency: CNY, cache_discount: true, prices: [{{from: 2026-01-01, standard: {{{tier}}}}}]}}"
    model += "\n  mr: {routes_to: [m], prices: [{from: 2026-01-01, standard: {router_fee: 1}}]}"
    digests = {_digest(model, text)}
    edits = {
        "08:00": "09:00",
        "time_zone: UTC": "time_zone: Asia/Shanghai",
        "rate: 0.14": "rate: 0.15",
        "per: 2": "per: 1",
        "models: ['m*']": "models: [m]",
        "minimum: 1": "minimum: 2",
        "above: 9": "at_least: 9",
        "factor: 2": "factor: 3",
        "currency: CNY, ": "",
        "cache_discount: true": "cache_discount: false",
        "unpriced_tokens: refuse": "unpriced_tokens: as_container",
        "{currency: CNY, ": "{unpriced_tokens: as_container, currency: CNY, ",
        ", prices: [{from: 2026-01-01, standard: {input": ", tools: [], prices: [{from: 2026-01-01, standard: {input",
        "routes_to: [m]": "routes_to: ['m*']",
        "router_fee: 1": "router_fee: 2",
    }
    for old, new in edits.items():
        assert old in model + text
        digests.add(_digest(model.replace(old, new), text.replace(old, new)))
    assert len(digests) == 1 + len(edits)
