"""The counts of each provider: which count contains which, what is billed, and what is rejected."""

from __future__ import annotations

from collections import UserDict, deque
from decimal import Decimal
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from body_builders import as_namespaces, as_sdk_objects, counted
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import Conventions, billable_body
from samples import NOW, book_of, code_of

Json = dict[str, Any]


def rejection(body: Any) -> tuple[str, str]:
    """Return code and message of the error."""
    with pytest.raises(BillingError) as caught:
        Usage.from_response(body)
    return code_of(caught), str(caught.value)


def noted(body: Any) -> list[tuple[str, Decimal | int]]:
    """Return what a body states that is on no meter."""
    return list(Usage.from_response(body).unaccounted)


# --- OpenAI and OpenAI-compatible providers ---

CHAT: Json = {"prompt_tokens": 900, "completion_tokens": 40}


def test_xai_counts_reasoning_apart_from_the_output() -> None:
    """Reasoning tokens that only the total contains are added to the output; otherwise the output contains them."""
    details = {"completion_tokens_details": {"reasoning_tokens": 2809}}
    usage = {"prompt_tokens": 10_120, "completion_tokens": 1499, "total_tokens": 14_428, **details}
    assert Usage.from_response(usage) == Usage(10_120, 1499 + 2809, reasoning_tokens=2809)
    usage["total_tokens"] = 10_120 + 1499
    confirmed = Usage.from_response(usage)
    assert (confirmed.output_tokens, confirmed.reasoning_tokens, confirmed.unaccounted) == (1499, 1499, ())
    expected = (
        "usage.completion_tokens_details.reasoning_tokens 2809 is more than completion_tokens 1499, which is billed"
    )
    assert confirmed.warnings == (expected,)
    del usage["total_tokens"]
    assert Usage.from_response(usage).warnings == (expected,)
    usage = {**CHAT, "total_tokens": 940, "completion_tokens_details": {"reasoning_tokens": 30}}
    assert Usage.from_response(usage) == Usage(900, 40, reasoning_tokens=30)


def test_a_total_above_the_sum_of_the_counts_is_unaccounted() -> None:
    """A total above the sum of the counts is listed, because the difference may be input or output."""
    assert noted({**CHAT, "total_tokens": 1002}) == [("usage.total_tokens", 1002)]


@pytest.mark.parametrize("total", [939, 941, 7, 0])
def test_case_39_a_total_that_is_one_off_or_too_small_is_a_warning(total: int) -> None:
    """A total that is one too large, or too small, is a warning with both numbers, and the counts are billed."""
    usage = Usage.from_response({**CHAT, "total_tokens": total})
    assert (usage.meters, usage.unaccounted) == ({"input": 900, "output": 40}, ())
    expected = f"usage.total_tokens {total} is not prompt_tokens 900 + completion_tokens 40 = 940; the parts are billed"
    assert usage.warnings == (expected,)


def test_case_61_hidden_reasoning_is_read_by_the_convention_of_the_upstream() -> None:
    """Gemini's OpenAI-compatible endpoint leaves 28 of 100 tokens to the total: output with the convention."""
    body = {"usage": {"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100}}
    assert noted(body) == [("usage.total_tokens", 100)]
    usage = Usage.from_response(body, conventions=Conventions(reasoning="rest_of_total"))
    assert (usage.output_tokens, usage.unaccounted) == (34, ())


@pytest.mark.parametrize("key", ["cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"])
def test_cached_tokens_of_other_providers_are_part_of_the_prompt(key: str) -> None:
    """Cached tokens under the keys of Moonshot, Mistral and DeepSeek are part of the prompt and are counted once."""
    assert Usage.from_response({**CHAT, key: 300}) == Usage(900, 40, 300)
    stated_twice = {**CHAT, key: 300, "prompt_tokens_details": {"cached_tokens": 300}}
    assert Usage.from_response(stated_twice) == Usage(900, 40, 300)
    code, message = rejection({**CHAT, key: 300, "prompt_tokens_details": {"cached_tokens": 299}})
    assert code == "usage_contradiction"
    assert "299" in message
    assert f"{key} 300" in message
    assert rejection({**CHAT, key: 901})[0] == "usage_contradiction"


def test_deepseek_hits_and_misses_add_up_to_the_prompt() -> None:
    """Cache hits and misses of DeepSeek must add up to the prompt tokens."""
    cache = {"prompt_cache_hit_tokens": 300, "prompt_cache_miss_tokens": 600}
    assert Usage.from_response({**CHAT, **cache}).meters == {"input": 600, "cache_read": 300, "output": 40}
    code, message = rejection({**CHAT, **cache, "prompt_cache_miss_tokens": 601})
    assert code == "usage_contradiction"
    assert "prompt_tokens 900 is not prompt_cache_hit_tokens 300 + prompt_cache_miss_tokens 601 = 901" in message


def test_openrouter_searches_are_counted_as_stated() -> None:
    """Web searches of OpenRouter are counted as stated, and calls of other tools are unaccounted."""
    for key in ("server_tool_use", "server_tool_use_details"):
        for executed in (0, 3):
            tool_use = {"web_search_requests": 3, "tool_calls_requested": 5, "tool_calls_executed": executed}
            assert Usage.from_response({**CHAT, key: tool_use}) == Usage(900, 40, web_search_calls=3)
        assert noted({**CHAT, key: {**tool_use, "tool_calls_executed": 4}}) == [(f"usage.{key}.tool_calls_executed", 4)]
        assert noted({**CHAT, key: {**tool_use, "tool_calls_executed": None}}) == [
            (f"usage.{key}.tool_calls_requested", 5)
        ]
    both = {"server_tool_use": {"web_search_requests": 3}, "server_tool_use_details": {"web_search_requests": 2}}
    assert rejection({**CHAT, **both})[0] == "usage_contradiction"
    both["server_tool_use_details"]["web_search_requests"] = 3
    assert Usage.from_response({**CHAT, **both}).meters["web_search"] == 3


def test_xai_searches_are_counted_as_stated() -> None:
    """Searches of xAI are counted as stated, not from the output items, and other tools are unaccounted."""
    usage: Json = {
        "input_tokens": 900,
        "input_tokens_details": {"cached_tokens": 100},
        "output_tokens": 40,
        "total_tokens": 940,
        "num_sources_used": 0,
        "num_server_side_tools_used": 4,
        "cost_in_usd_ticks": 292331500,
        "context_details": {"input_tokens": 700, "output_tokens": 40},
        "server_side_tool_usage_details": {"web_search_calls": 2, "file_search_calls": 1, "mcp_calls": 1},
    }
    items = [{"type": "web_search_call", "action": {"type": "search"}}] * 5
    expected = Usage(900, 40, 100, web_search_calls=2, file_search_calls=1)
    assert counted(Usage.from_response({"usage": usage, "output": items})) == expected
    assert counted(Usage.from_response(usage)) == expected
    free = [
        ("usage.cost_in_usd_ticks", 292331500),
        ("usage.server_side_tool_usage_details.mcp_calls", 1),
    ]
    assert sorted(noted(usage)) == free
    for name, count in (("x_search_calls", 3), ("code_interpreter_calls", 1)):
        details = {**usage["server_side_tool_usage_details"], name: count}
        body = {**usage, "server_side_tool_usage_details": details, "num_server_side_tools_used": 4 + count}
        assert set(noted(body)) - set(free) == {(f"usage.server_side_tool_usage_details.{name}", count)}
    without = {**usage, "server_side_tool_usage_details": None}
    assert ("usage.num_server_side_tools_used", 4) in noted(without)
    assert ("usage.num_sources_used", 3) in noted({**usage, "num_sources_used": 3})


# --- Anthropic ---

CLAUDE: Json = {"input_tokens": 100, "cache_read_input_tokens": 0, "output_tokens": 50}


@pytest.mark.parametrize("key", ["service_tier", "speed", "inference_geo"])
def test_anthropic_is_recognized_without_cache_keys(key: str) -> None:
    """A usage object with a tier, speed or region has the format of Anthropic, even without cache keys."""
    value = {"service_tier": "batch", "speed": "fast", "inference_geo": "us"}[key]
    usage = Usage.from_response({"input_tokens": 100, "output_tokens": 50, key: value})
    argument = {"service_tier": "service_tier", "speed": "mode", "inference_geo": "region"}[key]
    assert usage == Usage(100, 50, **{argument: value})  # type: ignore[arg-type]  # each of them takes a name


def test_a_total_in_the_format_of_anthropic_may_leave_out_the_cache() -> None:
    """Anthropic states no total; one that a proxy adds is the sum of all counts, or of those without a cache."""
    usage = {**CLAUDE, "cache_read_input_tokens": 30}
    for total in (180, 150):
        assert Usage.from_response({**usage, "total_tokens": total}) == Usage(130, 50, 30)
    assert noted({**usage, "total_tokens": 190}) == [("usage.total_tokens", 190)]


@pytest.mark.parametrize(
    "body", [{**CLAUDE, "service_tier": ""}, {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}]
)
def test_an_empty_tier_is_no_tier(body: Json) -> None:
    """An empty served tier is read as no tier, on the fast path and on the slow path."""
    for more in ({}, {"output": [{"type": "message"}]}, {"usage": {**body.get("usage", body), "estimated": False}}):
        assert Usage.from_response({**body, "service_tier": "", **more}).service_tier is None


def test_anthropic_input_does_not_contain_the_cache() -> None:
    """Cache reads, and cache writes for 5 minutes or an hour, are added to the input of Anthropic."""
    by_lifetime = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20}
    usage = {"input_tokens": 100, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 50, "output_tokens": 7}
    meters = {"input": 100, "cache_read": 400, "output": 7, "cache_write": 30, "cache_write_1h": 20}
    assert Usage.from_response({**usage, "cache_creation": by_lifetime}).meters == meters
    assert Usage.from_response({**usage, "cache_creation": by_lifetime}).input_tokens == 550
    assert Usage.from_response(usage).meters == {"input": 100, "cache_read": 400, "output": 7, "cache_write": 50}
    rest = Usage.from_response({**usage, "cache_creation_input_tokens": 51, "cache_creation": by_lifetime})
    assert rest.meters == {**meters, "cache_write": 31}
    assert rest.warnings == ("1 of 51 tokens written to the cache have no lifetime: 5 minutes",)
    code, message = rejection({**usage, "cache_creation_input_tokens": 49, "cache_creation": by_lifetime})
    assert (code, "= 50 is more than cache_creation_input_tokens 49" in message) == ("usage_contradiction", True)
    longer = {**usage, "cache_creation": {**by_lifetime, "ephemeral_1d_input_tokens": 5}}
    assert noted(longer) == [("usage.cache_creation.ephemeral_1d_input_tokens", 5)]


def test_anthropic_web_searches_have_a_fee_and_fetches_do_not() -> None:
    """A web search of Anthropic has a fee; a web fetch and other server tools are unaccounted, the fetch ignored."""
    body = {**CLAUDE, "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 2, "code_requests": 1}}
    usage = Usage.from_response(body)
    assert counted(usage) == Usage(100, 50, web_search_calls=3)
    paths = ["usage.server_tool_use.web_fetch_requests", "usage.server_tool_use.code_requests"]
    assert usage.unaccounted == ((paths[0], 2), (paths[1], 1))
    charge = book_of("{from: 2026-01-01, standard: {input: 1, output: 2, web_search: 10}}").rate(
        usage, model="m", group="g", at=NOW
    )
    assert charge.unaccounted == ((paths[1], 1),)


def test_anthropic_thinking_is_part_of_the_output() -> None:
    """The output of Anthropic contains thinking tokens, and more thinking than output is a warning."""
    assert Usage.from_response({**CLAUDE, "output_tokens_details": {"thinking_tokens": 20}}).reasoning_tokens == 20
    body = {**CLAUDE, "output_tokens_details": {"thinking_tokens": 51}}
    assert Usage.from_response(body).warnings == (
        "usage.output_tokens_details.thinking_tokens 51 is more than output_tokens 50",
    )


def test_anthropic_fast_mode_is_priced_as_priority() -> None:
    """``speed: fast`` is the served mode; without a price of its own, a standard request is priced as priority."""
    fast = Usage.from_response({**CLAUDE, "speed": "fast", "service_tier": "standard"})
    assert (fast.mode, fast.service_tier) == ("fast", "standard")
    assert Usage.from_response({**CLAUDE, "speed": "standard", "service_tier": "batch"}).mode is None
    book = book_of("{from: 2026-01-01, standard: {input: 1, output: 2}, priority: {input: 6, output: 12}}")
    charge = book.rate(Usage.from_response({**CLAUDE, "speed": "fast"}), model="m", group="g", at=NOW)
    assert (charge.service_tier, str(charge.credits)) == ("priority", "0.0012")
    stated = Usage.from_response({**CLAUDE, "speed": "fast", "service_tier": "priority"})
    both = book.rate(stated, model="m", group="g", at=NOW)
    assert both.credits == charge.credits
    usage = Usage.from_response({**CLAUDE, "speed": "turbo", "service_tier": "standard"})
    with pytest.raises(BillingError, match="no price for mode 'turbo'") as caught:
        book.rate(usage, model="m", group="g", at=NOW)
    assert code_of(caught) == "mode_unavailable"


def run(kind: str, input_tokens: int, output_tokens: int, **more: Any) -> Json:
    """Return an entry of ``iterations``."""
    return {"type": kind, "input_tokens": input_tokens, "output_tokens": output_tokens, **more}


def test_anthropic_compactions_are_added_to_the_counts() -> None:
    """A compaction is billed in addition to the counts at the top, which are the sum of the messages."""
    usage = {**CLAUDE, "input_tokens": 23_000, "output_tokens": 1000}
    usage["iterations"] = [run("compaction", 180_000, 3500), run("message", 20_000, 400), run("message", 3000, 600)]
    assert Usage.from_response({"model": "c", "usage": usage}) == Usage(203_000, 4500, model="c")
    usage["iterations"][1] = run("message", 20_001, 400)
    code, message = rejection({"model": "c", "usage": usage})
    assert code == "usage_contradiction"
    assert "input_tokens 23000 is not the messages of iterations 23001" in message
    usage["iterations"][1] = run("message", 20_000, 400, cache_read_input_tokens=5)
    assert "cache_read_input_tokens 0 is not" in rejection({"model": "c", "usage": usage})[1]


def test_case_62_runs_of_other_models_are_parts() -> None:
    """Runs of other models within a request are parts with their own counts, which the usage itself leaves out."""
    others = [
        run("advisor_message", 2518, 22, model="claude-opus", cache_creation={"ephemeral_1h_input_tokens": 7}),
        run("fallback_message", 1, 0, model="claude-opus"),
        run("compaction", 3, 1, model="claude-haiku"),
    ]
    usage = Usage.from_response(
        {"model": "claude-sonnet", "usage": {**CLAUDE, "iterations": [run("message", 100, 50), *others]}}
    )
    assert counted(usage) == Usage(100, 50, model="claude-sonnet")
    assert usage.parts == (
        ("claude-opus", Usage(2526, 22, cache_write_1h_tokens=7, model="claude-opus")),
        ("claude-haiku", Usage(3, 1, model="claude-haiku")),
    )
    assert usage.unaccounted == ()


def test_a_usage_object_without_a_response_names_its_model_in_its_first_run() -> None:
    """In a usage object without its response, the first run is of the model of the response."""
    runs = [run("message", 100, 50, model="claude-sonnet"), run("advisor_message", 9, 1, model="claude-opus")]
    usage = Usage.from_response({**CLAUDE, "iterations": runs})
    assert [model for model, _ in usage.parts] == ["claude-opus"]
    runs[1] = run("advisor_message", 0, 0, model="claude-opus")
    assert Usage.from_response({**CLAUDE, "iterations": runs}).parts == ()


# --- Gemini ---

GEMINI: Json = {"promptTokenCount": 300, "candidatesTokenCount": 40}


def by_modality(**counts: int) -> list[Json]:
    """Return details by modality."""
    return [{"modality": kind, "tokenCount": count} for kind, count in counts.items()]


def test_the_gemini_total_has_four_parts() -> None:
    """The total of Gemini is prompt, tool use, candidates and thoughts; tool use is input and thoughts are output."""
    usage = {**GEMINI, "toolUsePromptTokenCount": 7, "thoughtsTokenCount": 60, "totalTokenCount": 407}
    assert Usage.from_response({"usageMetadata": usage}) == Usage(307, 100, reasoning_tokens=60)
    for key in ("toolUsePromptTokenCount", "thoughtsTokenCount"):
        assert noted({"usageMetadata": {**usage, key: 0}}) == [("usageMetadata.totalTokenCount", 407)]


def test_gemini_modalities_have_meters() -> None:
    """Audio, image and video have meters, cached or not, and documents and unlisted tokens are text."""
    usage = {
        **GEMINI,
        "promptTokensDetails": by_modality(AUDIO=50, IMAGE=60, VIDEO=70, DOCUMENT=80),
        "cachedContentTokenCount": 100,
        "cacheTokensDetails": by_modality(VIDEO=30, AUDIO=20, DOCUMENT=40),
        "candidatesTokensDetails": by_modality(IMAGE=25, AUDIO=5),
        "toolUsePromptTokenCount": 9,
        "toolUsePromptTokensDetails": by_modality(IMAGE=4, TEXT=5),
    }
    assert Usage.from_response(usage).meters == {
        "input": 300 - 50 - 60 - 70 - 40 - 10 + 5,
        "cache_read": 40 + 10,
        "output": 10,
        "audio_input": 30,
        "audio_cache_read": 20,
        "audio_output": 5,
        "image_input": 64,
        "image_output": 25,
        "video_input": 40,
        "video_cache_read": 30,
    }


def test_gemini_embeddings_have_details_under_another_key() -> None:
    """The usage of a Gemini embedding has its details under ``promptTokenDetails``, and no output or total."""
    usage = {"promptTokenCount": 9, "promptTokenDetails": by_modality(IMAGE=4, TEXT=5)}
    assert Usage.from_response({"usageMetadata": usage}).meters == {"input": 5, "image_input": 4}
    assert rejection({"usageMetadata": {**usage, "promptTokenCount": 8}})[0] == "usage_contradiction"


@pytest.mark.parametrize("total", [True, 1.5, "one", -1])
def test_a_total_must_be_a_whole_number(total: Any) -> None:
    """A total that is no whole number is ``invalid_usage``, even if it equals the sum."""
    assert rejection({"promptTokenCount": 1, "totalTokenCount": total})[0] == "invalid_usage"
    assert rejection({"inputTokens": 1, "outputTokens": 0, "totalTokens": total})[0] == "invalid_usage"


@pytest.mark.parametrize(
    ("more", "excerpt"),
    [
        ({"promptTokensDetails": by_modality(AUDIO=301)}, "promptTokensDetails 301 is more than promptTokenCount 300"),
        (
            {"candidatesTokensDetails": by_modality(IMAGE=41)},
            "candidatesTokensDetails 41 is more than candidatesTokenCount 40",
        ),
        ({"cacheTokensDetails": by_modality(TEXT=1)}, "cacheTokensDetails 1 is more than cachedContentTokenCount 0"),
        ({"cachedContentTokenCount": 301}, "cache_read_tokens 301 is more than input_tokens 300"),
        ({"serviceTier": "flex", "trafficType": "ON_DEMAND"}, "'flex' and trafficType 'ON_DEMAND' are two tiers"),
        ({"prompt_token_count": 300}, "in camel case and in snake case"),
    ],
    ids=str,
)
def test_gemini_contradictions_state_both_sides(more: Json, excerpt: str) -> None:
    """Details above their total, more cached tokens than input, or two tiers are reported with both sides."""
    code, message = rejection({"usageMetadata": {**GEMINI, **more}})
    assert (code, excerpt in message) == ("usage_contradiction", True)


@pytest.mark.parametrize(
    "more",
    [
        {"promptTokensDetails": by_modality(SMELL=1)},
        {"candidatesTokensDetails": by_modality(SMELL=1)},
        {"promptTokensDetails": [{"modality": ["TEXT"], "tokenCount": 1}]},
        {"promptTokensDetails": [{"tokenCount": 1}]},
    ],
    ids=str,
)
def test_an_unknown_modality_of_gemini_is_listed(more: Json) -> None:
    """Tokens of an unknown modality are billed as text, and listed, because they may have another price."""
    usage = Usage.from_response({"usageMetadata": {**GEMINI, **more}})
    assert usage.meters == {"input": 300, "output": 40}
    ((path, count),) = usage.unaccounted
    assert (path, count) == (f"usageMetadata.{next(iter(more))}[0].tokenCount", 1)


def test_cached_tokens_without_a_modality_are_text_first() -> None:
    """Cached tokens without a modality are text as far as there is text, and a warning says so."""
    usage = {**GEMINI, "promptTokensDetails": by_modality(AUDIO=250), "cachedContentTokenCount": 100}
    read = Usage.from_response({"usageMetadata": usage})
    assert read.meters == {"cache_read": 50, "output": 40, "audio_input": 200, "audio_cache_read": 50}
    assert len(read.warnings) == 2


@pytest.mark.parametrize(
    ("traffic", "tier"),
    [
        ("ON_DEMAND", "standard"),
        ("ON_DEMAND_FLEX", "flex"),
        ("ON_DEMAND_PRIORITY", "priority"),
        ("TRAFFIC_TYPE_UNSPECIFIED", None),
        ("PROVISIONED_THROUGHPUT", "PROVISIONED_THROUGHPUT"),
    ],
)
def test_the_traffic_type_of_vertex_is_the_served_tier(traffic: str, tier: str | None) -> None:
    """The traffic type of Vertex AI is the served tier, and provisioned throughput is not a tier with a price."""
    assert Usage.from_response({"usageMetadata": {**GEMINI, "trafficType": traffic}}).service_tier == tier
    assert Usage.from_response({"usageMetadata": {**GEMINI, "serviceTier": "flex"}}).service_tier == "flex"


def test_enumerations_of_the_gemini_sdk_are_read_as_strings() -> None:
    """Modalities may be enumerations, and ``billable_body`` keeps them as strings."""

    class Modality(str, Enum):  # noqa: UP042  # as in the SDK
        IMAGE = "IMAGE"

    class Plain(Enum):
        IMAGE = "IMAGE"

    image_only = as_sdk_objects(
        {"prompt_token_count": 9, "prompt_tokens_details": [{"modality": Plain.IMAGE, "token_count": 9}]}
    )
    assert Usage.from_response(image_only).meters == {"image_input": 9}
    details = [{"modality": Modality.IMAGE, "token_count": 9}]
    usage = {"prompt_token_count": 20, "prompt_tokens_details": details, "candidates_token_count": None}
    for body in (
        {"usage_metadata": usage},
        as_sdk_objects({"usage_metadata": usage}),
        as_namespaces({"usage_metadata": usage}),
    ):
        assert Usage.from_response(body).meters == {"input": 11, "image_input": 9}
        stored = billable_body(body)["usage_metadata"]["prompt_tokens_details"]
        assert (stored, type(stored[0]["modality"])) == ([{"modality": "IMAGE", "token_count": 9}], str)


# --- Bedrock ---

NOVA: Json = {"inputTokens": 30, "outputTokens": 7}


def test_bedrock_input_does_not_contain_the_cache() -> None:
    """Cache reads and writes are added to the input of Bedrock, and its total contains them."""
    usage = {**NOVA, "cacheReadInputTokens": 400, "cacheWriteInputTokens": 50, "totalTokens": 487}
    assert Usage.from_response({"usage": usage}).meters == {
        "input": 30,
        "cache_read": 400,
        "output": 7,
        "cache_write": 50,
    }
    code, message = rejection({"usage": {**usage, "totalTokens": 37}})  # does the input contain the cache?
    assert (code, "totalTokens 37 is not inputTokens 30 + cacheReadInputTokens 400 + " in message) == (
        "usage_contradiction",
        True,
    )
    assert noted({"usage": {**usage, "totalTokens": 500}}) == [("usage.totalTokens", 500)]


def test_bedrock_states_the_lifetime_of_cache_writes() -> None:
    """``cacheDetails`` states cache writes by lifetime, adds up to all writes, and has only known lifetimes."""
    usage = {**NOVA, "cacheWriteInputTokens": 50, "cacheWriteInputTokenCount": 50}
    lifetimes = [{"ttl": "1h", "inputTokens": 20}, {"ttl": "5m", "inputTokens": 30}]
    assert Usage.from_response({**usage, "cacheDetails": lifetimes}) == Usage(
        80, 7, cache_write_tokens=30, cache_write_1h_tokens=20
    )
    rest = Usage.from_response({**usage, "cacheDetails": lifetimes[:1]})
    assert (rest.meters["cache_write"], rest.meters["cache_write_1h"]) == (30, 20)
    assert rejection({**usage, "cacheDetails": [{"ttl": "1h", "inputTokens": 51}]})[0] == "usage_contradiction"
    assert rejection({**usage, "cacheWriteInputTokenCount": 51})[0] == "usage_contradiction"
    assert rejection({**usage, "cacheDetails": [{"ttl": "1d", "inputTokens": 50}]})[0] == "unknown_usage_key"
    assert noted({**usage, "serverToolUsage": {"webSearches": 2}}) == [("usage.serverToolUsage.webSearches", 2)]


def test_the_served_tier_of_bedrock_is_in_the_envelope() -> None:
    """The served tier of Bedrock is in the response envelope, and a latency-optimized call is a mode."""
    for body in ({"usage": NOVA, "serviceTier": {"type": "flex"}}, {"usage": NOVA, "serviceTier": "flex"}):
        assert (
            Usage.from_response(body).service_tier == Usage.from_response(as_sdk_objects(body)).service_tier == "flex"
        )
    body = {"usage": NOVA, "performanceConfig": {"latency": "optimized"}}
    assert Usage.from_response(body).mode == Usage.from_response(billable_body(body)).mode == "optimized"
    with pytest.raises(BillingError) as caught:
        book_of("{from: 2026-01-01, standard: {input: 1, output: 2}}").rate(
            Usage.from_response(body), model="m", group="g", at=NOW
        )
    assert code_of(caught) == "mode_unavailable"


# --- Cohere ---


def test_cohere_is_billed_by_billed_units() -> None:
    """Usage of Cohere is read from the billed units, not from processed or cached tokens."""
    usage = {
        "billed_units": {"input_tokens": 33.0, "output_tokens": 22.0},
        "tokens": {"input_tokens": 1452.0, "output_tokens": 33.0},
        "cached_tokens": 144.0,
    }
    for body in ({"usage": usage}, {"meta": {**usage, "api_version": {"version": "2"}}}):
        read = Usage.from_response(body)
        assert (counted(read), read.unaccounted, len(read.warnings)) == (Usage(33, 22), (), 1)


@pytest.mark.parametrize("value", [33.5, float("nan"), float("inf"), -1.0, 1e13, True, "one"])
def test_a_float_that_is_not_an_integer_is_rejected(value: Any) -> None:
    """Counts may be floats with integer values; other floats are rejected in every format."""
    assert rejection({"billed_units": {"input_tokens": value, "output_tokens": 1}})[0] == "invalid_usage"
    for body in ({**CHAT, "prompt_tokens": 3.5}, {**CLAUDE, "input_tokens": 3.5}, {**NOVA, "inputTokens": 3.5}):
        assert rejection(body)[0] == "invalid_usage"
    assert rejection({**GEMINI, "promptTokenCount": 3.5})[0] == "invalid_usage"


def test_cohere_images_and_searches_have_meters() -> None:
    """Image tokens, images without tokens and searches of Cohere have meters, and classifications are unaccounted."""
    billed = {"input_tokens": 3, "image_tokens": 30, "images": 1}
    assert Usage.from_response({"meta": {"billed_units": billed}}).meters == {"input": 3, "image_input": 30}
    for count in (2, 2.0):
        assert Usage.from_response({"meta": {"billed_units": {"images": count}}}) == Usage(input_images=2)
        assert Usage.from_response({"meta": {"billed_units": {"search_units": count}}}) == Usage(queries=2)
    assert noted({"meta": {"billed_units": {"input_tokens": 3, "classifications": 4.25}}}) == [
        ("meta.billed_units.classifications", Decimal("4.25"))
    ]


def test_cohere_without_billed_tokens_is_rejected() -> None:
    """Without billed units a body of Cohere is rejected, and processed tokens are not billed instead."""
    tokens = {"input_tokens": 90, "output_tokens": 8}
    assert rejection({"usage": {"billed_units": {}, "tokens": tokens}})[0] == "unknown_usage_format"
    assert rejection({"usage": {"billed_units": None, "tokens": tokens}})[0] == "unknown_usage_format"
    assert rejection({"usage": {"billed_units": {"input_tokens": 9}, "tokens": tokens}})[0] == "invalid_usage"
    assert rejection({"meta": {"api_version": {"version": "2"}}})[0] == "unknown_usage_format"


# --- bodies with two usage objects, and unusual objects ---

METADATA: Json = {"promptTokenCount": 1000, "candidatesTokenCount": 5, "totalTokenCount": 1005}
RESPONSES_USAGE: Json = {"input_tokens": 9, "output_tokens": 1}
SEARCH: Json = {"type": "web_search_call", "action": {"type": "search"}}


def outcomes(body: Any) -> set[str]:
    """Return the results of reading a body directly and through a usage file."""
    results = set()
    for read in (Usage.from_response, lambda body: Usage.from_response(billable_body(body))):
        try:
            results.add(repr(read(body)))
        except BillingError as error:
            results.add(f"{error.code}: {error.message}")
    return results


@pytest.mark.parametrize("wrap", [dict, UserDict, lambda body: SimpleNamespace(**body)])
@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}, "usageMetadata": METADATA}, "usage and usageMetadata"),
        ({"usage": CHAT, "usage_metadata": METADATA}, "usage and usage_metadata"),
        ({"usage": CHAT, "meta": {"billed_units": {"input_tokens": 1}}}, "usage and meta.billed_units"),
        ({"usageMetadata": METADATA, "usage_metadata": METADATA}, "usageMetadata and usage_metadata"),
        ({"usageMetadata": METADATA, "meta": {"billed_units": {}}}, "usageMetadata and meta.billed_units"),
    ],
)
def test_two_usage_objects_are_a_contradiction(wrap: Any, body: Json, names: str) -> None:
    """A body with two usage objects is ``usage_contradiction``, and both are named."""
    assert outcomes(wrap(body)) == {f"usage_contradiction: the body has two usage objects, {names}; remove one"}


@pytest.mark.parametrize("more", [{"usageMetadata": None, "usage_metadata": None, "meta": None}, {"meta": {"id": "x"}}])
def test_a_second_key_without_usage_is_ignored(more: Json) -> None:
    """A null usage object, or a ``meta`` without billed units, is not a second usage object."""
    assert outcomes({"usage": CHAT, **more}) == {repr(Usage(900, 40))}


@pytest.mark.parametrize("key", ["input_tokens", "prompt_tokens"])
def test_a_null_count_does_not_hide_a_usage_object(key: str) -> None:
    """A response with a null input count is not read as a bare usage object."""
    assert outcomes({"usageMetadata": METADATA, key: None}) == {repr(Usage(1000, 5))}


@pytest.mark.parametrize(
    "items",
    [
        [MappingProxyType(SEARCH)],
        [UserDict(SEARCH)],
        [{"type": "web_search_call", "action": MappingProxyType({"type": "search"})}],
        (SEARCH,),
        deque([SEARCH]),
        {"a": SEARCH}.values(),
    ],
    ids=lambda items: f"{type(items).__name__}-{type(next(iter(items))).__name__}",
)
def test_searches_are_counted_in_any_sequence_of_mappings(items: Any) -> None:
    """The output may be any sequence, and its items may be any mappings."""
    assert outcomes({"usage": RESPONSES_USAGE, "output": items}) == {repr(Usage(9, 1, web_search_calls=1))}


def test_an_opened_page_is_not_a_search() -> None:
    """A web search call with the action ``open_page`` is not a search, in any kind of mapping."""
    item = {"type": "web_search_call", "action": MappingProxyType({"type": "open_page"})}
    assert outcomes({"usage": RESPONSES_USAGE, "output": [item]}) == {repr(Usage(9, 1))}


def test_a_generator_of_output_items_is_rejected() -> None:
    """An output that can be read only once is rejected, because a second read would find no searches."""
    expected = {"unknown_usage_format: output is a generator, which can be read only once; give a list"}
    assert outcomes({"usage": RESPONSES_USAGE, "output": (item for item in [SEARCH])}) == expected
    assert outcomes(SimpleNamespace(usage=RESPONSES_USAGE, output=(item for item in [SEARCH]))) == expected
    assert outcomes({"usage": CHAT, "output": (item for item in [SEARCH])}) == {repr(Usage(900, 40))}  # not read


class Mute(Exception):  # noqa: N818
    """An error without a message, because its ``__str__`` raises."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Closed:
    """An object of an SDK in which every attribute raises."""

    def __init__(self, error: Exception) -> None:
        vars(self)["_error"] = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


class Changing(UserDict[str, Any]):
    """A mapping that grows during iteration."""

    def items(self) -> Any:
        for key in self.data:
            self.data[key + "x"] = 1
            yield key, 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Closed(RuntimeError("gone")), "a Closed cannot be read: RuntimeError: 'gone'"),
        (Closed(Mute()), "a Closed cannot be read: Mute: no reason given"),
        ({"usage": Closed(RuntimeError("gone"))}, "a dict cannot be read: RuntimeError: 'gone'"),
        (SimpleNamespace(usage=Closed(KeyError("x"))), "a SimpleNamespace cannot be read: KeyError: \"'x'\""),
        ({"usage": Changing(CHAT)}, "a dict cannot be read: RuntimeError: 'dictionary changed size during iteration'"),
        (
            {"usage": RESPONSES_USAGE, "output": [Closed(RuntimeError("gone"))]},
            "an output item of type Closed cannot be read: RuntimeError; pass plain data",
        ),
    ],
    ids=range(6),
)
def test_an_object_that_raises_is_rejected(body: Any, message: str) -> None:
    """An exception of an object becomes ``unknown_usage_format`` with its type and message."""
    assert outcomes(body) == {f"unknown_usage_format: {message}"}
