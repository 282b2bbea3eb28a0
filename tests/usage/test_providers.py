"""What each provider's counts mean, fact by fact: what contains what, what is paid, and what is refused."""

from __future__ import annotations

from collections import UserDict, deque
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from body_builders import sdk, spaced
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import billable_body
from samples import NOW, book_of, code_of

Json = dict[str, Any]


def refused(body: Any) -> tuple[str, str]:
    """Code and words of the refusal."""
    with pytest.raises(BillingError) as caught:
        Usage.from_response(body)
    return code_of(caught), str(caught.value)


# --- OpenAI and those who copy it ---

CHAT: Json = {"prompt_tokens": 900, "completion_tokens": 40}


def test_xai_counts_reasoning_beside_the_output() -> None:
    """Reasoning tokens that only the total contains are added to the output; without a total they must be contained."""
    details = {"completion_tokens_details": {"reasoning_tokens": 2809}}
    usage = {"prompt_tokens": 10_120, "completion_tokens": 1499, "total_tokens": 14_428, **details}
    assert Usage.from_response(usage) == Usage(10_120, 1499 + 2809, reasoning_tokens=2809)
    usage["total_tokens"] = 10_120 + 1499
    assert refused(usage) == ("usage_contradiction", refused(usage)[1])
    assert "reasoning_tokens 2809 is more than output_tokens 1499" in refused(usage)[1]
    del usage["total_tokens"]
    assert refused(usage)[0] == "usage_contradiction"
    contained = {**CHAT, "total_tokens": 940, "completion_tokens_details": {"reasoning_tokens": 30}}
    assert Usage.from_response(contained) == Usage(900, 40, reasoning_tokens=30)


def test_a_total_with_tokens_that_nothing_names_is_refused() -> None:
    """More in the total than any count explains may be input or output, so it is not guessed."""
    code, words = refused({**CHAT, "total_tokens": 1002})
    assert (code, "total_tokens 1002 is not prompt_tokens 900 + completion_tokens 40 = 940" in words) == (
        "usage_contradiction",
        True,
    )


@pytest.mark.parametrize("key", ["cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"])
def test_cached_tokens_under_another_name(key: str) -> None:
    """Moonshot, Mistral and DeepSeek name the cached tokens elsewhere; the prompt contains them, they count once."""
    assert Usage.from_response({**CHAT, key: 300}) == Usage(900, 40, 300)
    again = {**CHAT, key: 300, "prompt_tokens_details": {"cached_tokens": 300}}
    assert Usage.from_response(again) == Usage(900, 40, 300)
    code, words = refused({**CHAT, key: 300, "prompt_tokens_details": {"cached_tokens": 299}})
    assert code == "usage_contradiction"
    assert "299" in words
    assert f"{key} 300" in words
    assert refused({**CHAT, key: 901})[0] == "usage_contradiction"


def test_deepseeks_hit_and_miss_are_the_prompt() -> None:
    """DeepSeek's hit and miss add up to the prompt tokens, or one of the three is wrong."""
    hit = {"prompt_cache_hit_tokens": 300, "prompt_cache_miss_tokens": 600}
    assert Usage.from_response({**CHAT, **hit}).meters == {"input": 600, "cache_read": 300, "output": 40}
    code, words = refused({**CHAT, **hit, "prompt_cache_miss_tokens": 601})
    assert code == "usage_contradiction"
    assert "prompt_tokens 900 is not prompt_cache_hit_tokens 300 + prompt_cache_miss_tokens 601 = 901" in words


def test_openrouters_searches() -> None:
    """OpenRouter's web searches are counted as it states them; a call of another tool has a fee that nobody knows."""
    for key in ("server_tool_use", "server_tool_use_details"):
        for executed in (0, 3):
            stated = {"web_search_requests": 3, "tool_calls_requested": 5, "tool_calls_executed": executed}
            assert Usage.from_response({**CHAT, key: stated}) == Usage(900, 40, web_search_calls=3)
        assert "is 4, of which 3 are web searches" in refused({**CHAT, key: {**stated, "tool_calls_executed": 4}})[1]
        assert "tool_calls_requested is 5" in refused({**CHAT, key: {**stated, "tool_calls_executed": None}})[1]
    both = {"server_tool_use": {"web_search_requests": 3}, "server_tool_use_details": {"web_search_requests": 2}}
    assert refused({**CHAT, **both})[0] == "usage_contradiction"
    both["server_tool_use_details"]["web_search_requests"] = 3
    assert Usage.from_response({**CHAT, **both}).meters["web_search"] == 3


def test_xais_tools() -> None:
    """xAI's web and file searches are counted as stated, not once more from the output items; others are refused."""
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
    meant = Usage(900, 40, 100, web_search_calls=2, file_search_calls=1)
    assert Usage.from_response({"usage": usage, "output": items}) == meant
    assert Usage.from_response(usage) == meant
    for name, count in (("x_search_calls", 3), ("code_interpreter_calls", 1), ("image_generation_calls", 1)):
        details = {**usage["server_side_tool_usage_details"], name: count}
        assert refused({**usage, "server_side_tool_usage_details": details})[0] == "unknown_usage_key"
    assert refused({**usage, "server_side_tool_usage_details": None})[0] == "unknown_usage_key"
    assert refused({**usage, "num_sources_used": 3})[0] == "unknown_usage_key"


# --- Anthropic ---

CLAUDE: Json = {"input_tokens": 100, "cache_read_input_tokens": 0, "output_tokens": 50}


@pytest.mark.parametrize("key", ["service_tier", "speed", "inference_geo"])
def test_anthropic_without_a_cache_key(key: str) -> None:
    """A usage object that says its tier, speed or place inside is Anthropic's, though it names no cache."""
    word = {"service_tier": "batch", "speed": "fast", "inference_geo": "us"}[key]
    usage = Usage.from_response({"input_tokens": 100, "output_tokens": 50, key: word})
    tier = None if key == "inference_geo" else word
    assert usage == Usage(100, 50, service_tier=tier)


def test_a_total_beside_anthropics_counts() -> None:
    """Anthropic states no total; where somebody put one beside its counts, it must be the sum of all of them."""
    usage = {**CLAUDE, "cache_read_input_tokens": 30, "total_tokens": 180}
    assert Usage.from_response(usage) == Usage(130, 50, 30)
    code, words = refused({**usage, "total_tokens": 150})
    assert (code, "total_tokens 150 is not input_tokens 100 + cache_read_input_tokens 30 + " in words) == (
        "usage_contradiction",
        True,
    )


@pytest.mark.parametrize(
    "body", [{**CLAUDE, "service_tier": ""}, {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}]
)
def test_an_empty_tier_says_nothing(body: Json) -> None:
    """An empty name of the served tier is no tier, on the usual way and on the slow one."""
    for more in ({}, {"output": [{"type": "message"}]}, {"usage": {**body.get("usage", body), "estimated": False}}):
        assert Usage.from_response({**body, "service_tier": "", **more}).service_tier is None


def test_anthropics_input_does_not_contain_the_cache() -> None:
    """What was read from a cache and written to it, for 5 minutes or an hour, comes on top of the input."""
    kept = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20}
    usage = {"input_tokens": 100, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 50, "output_tokens": 7}
    meters = {"input": 100, "cache_read": 400, "output": 7, "cache_write": 30, "cache_write_1h": 20}
    assert Usage.from_response({**usage, "cache_creation": kept}).meters == meters
    assert Usage.from_response({**usage, "cache_creation": kept}).input_tokens == 550
    assert Usage.from_response(usage).meters == {"input": 100, "cache_read": 400, "output": 7, "cache_write": 50}
    code, words = refused({**usage, "cache_creation_input_tokens": 51, "cache_creation": kept})
    assert code == "usage_contradiction"
    assert "cache_creation_input_tokens 51 is not" in words
    assert refused({**usage, "cache_creation": {**kept, "ephemeral_1d_input_tokens": 5}})[0] == "unknown_usage_key"


def test_anthropics_searches_and_fetches() -> None:
    """A web search has a fee, a fetched page costs its tokens only, and what else a server tool did is refused."""
    used = {"web_search_requests": 3, "web_fetch_requests": 2}
    assert Usage.from_response({**CLAUDE, "server_tool_use": used}) == Usage(100, 50, web_search_calls=3)
    code, words = refused({**CLAUDE, "server_tool_use": {**used, "code_execution_requests": 1}})
    assert (code, "'code_execution_requests': 1" in words) == ("unknown_usage_key", True)


def test_anthropics_thinking_is_output() -> None:
    """Thinking tokens are contained in the output tokens; more of them is a contradiction."""
    assert Usage.from_response({**CLAUDE, "output_tokens_details": {"thinking_tokens": 20}}).reasoning_tokens == 20
    assert refused({**CLAUDE, "output_tokens_details": {"thinking_tokens": 51}})[0] == "usage_contradiction"


def test_anthropics_fast_mode_is_a_tier() -> None:
    """``speed: fast`` is the served tier fast, priced as priority; another tier beside it is a contradiction."""
    assert Usage.from_response({**CLAUDE, "speed": "fast", "service_tier": "standard"}).service_tier == "fast"
    assert Usage.from_response({**CLAUDE, "speed": "standard", "service_tier": "batch"}).service_tier == "batch"
    assert refused({**CLAUDE, "speed": "fast", "service_tier": "batch"})[0] == "usage_contradiction"
    book = book_of("{from: 2026-01-01, standard: {input: 1, output: 2}, priority: {input: 6, output: 12}}")
    charge = book.rate(Usage.from_response({**CLAUDE, "speed": "fast"}), model="m", group="g", at=NOW)
    assert (charge.service_tier, str(charge.credits)) == ("priority", "0.0012")
    with pytest.raises(BillingError, match="'turbo'"):
        book.rate(Usage.from_response({**CLAUDE, "speed": "turbo"}), model="m", group="g", at=NOW)


def run(kind: str, went: int, came: int, **more: Any) -> Json:
    """An entry of ``iterations``."""
    return {"type": kind, "input_tokens": went, "output_tokens": came, **more}


def test_anthropics_compaction_is_not_in_the_counts_above_it() -> None:
    """The compaction of a request is billed beside the counts at the top, which are the sum of the messages."""
    usage = {**CLAUDE, "input_tokens": 23_000, "output_tokens": 1000}
    usage["iterations"] = [run("compaction", 180_000, 3500), run("message", 20_000, 400), run("message", 3000, 600)]
    assert Usage.from_response({"model": "c", "usage": usage}) == Usage(203_000, 4500, model="c")
    usage["iterations"][1] = run("message", 20_001, 400)
    code, words = refused({"model": "c", "usage": usage})
    assert code == "usage_contradiction"
    assert "input_tokens 23000 is not the 2 messages of iterations 23001" in words
    usage["iterations"][1] = run("message", 20_000, 400, cache_read_input_tokens=5)
    assert "cache_read_input_tokens 0 is not" in refused({"model": "c", "usage": usage})[1]


@pytest.mark.parametrize(
    "entry",
    [
        run("advisor_message", 2518, 22, model="claude-opus"),
        run("fallback_message", 1, 0, model="claude-opus"),
        run("compaction", 0, 1, model="claude-opus"),
        run("dream", 1, 1),
    ],
    ids=lambda entry: str(entry["type"]),
)
def test_what_another_model_did_is_refused(entry: Json) -> None:
    """Tokens at another model's price cannot be in one usage; the entry is a usage object to be billed by itself."""
    usage = {**CLAUDE, "iterations": [run("message", 100, 50), entry]}
    code, words = refused({"model": "claude-sonnet", "usage": usage})
    assert code == "unknown_usage_key"
    assert f"{entry['input_tokens']} input and {entry['output_tokens']} output tokens" in words
    alone = Usage.from_response({**entry, "cache_read_input_tokens": 0})
    assert (alone.input_tokens, alone.output_tokens) == (entry["input_tokens"], entry["output_tokens"])
    assert alone.model == entry.get("model")
    silent = {**entry, "input_tokens": 0, "output_tokens": 0}
    usage["iterations"] = [run("message", 100, 50, model="claude-sonnet"), silent]
    for body in ({"model": "claude-sonnet", "usage": usage}, usage):
        assert Usage.from_response(body).total_tokens == 150


# --- Gemini ---

GEMINI: Json = {"promptTokenCount": 300, "candidatesTokenCount": 40}


def by(**counts: int) -> list[Json]:
    """Details by modality."""
    return [{"modality": kind, "tokenCount": count} for kind, count in counts.items()]


def test_geminis_total_has_four_parts() -> None:
    """Prompt, tool use, candidates and thoughts are the total; tool use is input, thoughts are output."""
    usage = {**GEMINI, "toolUsePromptTokenCount": 7, "thoughtsTokenCount": 60, "totalTokenCount": 407}
    assert Usage.from_response({"usageMetadata": usage}) == Usage(307, 100, reasoning_tokens=60)
    for key in ("toolUsePromptTokenCount", "thoughtsTokenCount"):
        code, words = refused({"usageMetadata": {**usage, key: 0}})
        assert (code, "totalTokenCount 407 is not promptTokenCount 300 + " in words) == ("usage_contradiction", True)


def test_geminis_modalities() -> None:
    """Audio, image and video have meters, cached or not; a document and what the details leave out is text."""
    usage = {
        **GEMINI,
        "promptTokensDetails": by(AUDIO=50, IMAGE=60, VIDEO=70, DOCUMENT=80),
        "cachedContentTokenCount": 100,
        "cacheTokensDetails": by(VIDEO=30, AUDIO=20, DOCUMENT=40),
        "candidatesTokensDetails": by(IMAGE=25, AUDIO=5),
        "toolUsePromptTokenCount": 9,
        "toolUsePromptTokensDetails": by(IMAGE=4, TEXT=5),
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


def test_geminis_embeddings_spell_the_details_otherwise() -> None:
    """Of an embedding the details stand under ``promptTokenDetails``; nothing came out, and no total is stated."""
    usage = {"promptTokenCount": 9, "promptTokenDetails": by(IMAGE=4, TEXT=5)}
    assert Usage.from_response({"usageMetadata": usage}).meters == {"input": 5, "image_input": 4}
    assert refused({"usageMetadata": {**usage, "promptTokenCount": 8}})[0] == "usage_contradiction"


@pytest.mark.parametrize("total", [True, 1.0, "1", -1])
def test_a_total_is_a_count_as_well(total: Any) -> None:
    """A total that is no whole number is ``invalid_usage``, though it may equal the sum."""
    assert refused({"promptTokenCount": 1, "totalTokenCount": total})[0] == "invalid_usage"
    assert refused({"inputTokens": 1, "outputTokens": 0, "totalTokens": total})[0] == "invalid_usage"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"promptTokensDetails": by(AUDIO=301)}, "promptTokensDetails 301 is more than promptTokenCount 300"),
        ({"candidatesTokensDetails": by(IMAGE=41)}, "candidatesTokensDetails 41 is more than candidatesTokenCount 40"),
        ({"cacheTokensDetails": by(TEXT=1)}, "cacheTokensDetails 1 is more than cachedContentTokenCount 0"),
        ({"cachedContentTokenCount": 301}, "cache_read_tokens 301 is more than input_tokens 300"),
        ({"serviceTier": "flex", "trafficType": "ON_DEMAND"}, "'flex' and trafficType 'ON_DEMAND' are two tiers"),
        ({"prompt_token_count": 300}, "in camel case and in snake case"),
    ],
    ids=str,
)
def test_geminis_contradictions(more: Json, words: str) -> None:
    """Details beyond their whole, more cached than there was, or two tiers are told with both sides."""
    code, told = refused({"usageMetadata": {**GEMINI, **more}})
    assert (code, words in told) == ("usage_contradiction", True)


@pytest.mark.parametrize(
    "more",
    [
        {"promptTokensDetails": by(SMELL=1)},
        {"candidatesTokensDetails": by(VIDEO=1)},
        {"promptTokensDetails": [{"modality": ["TEXT"], "tokenCount": 1}]},
        {"promptTokensDetails": [{"tokenCount": 1}]},
        {"promptTokensDetails": by(AUDIO=50), "cachedContentTokenCount": 100},
    ],
    ids=str,
)
def test_what_gemini_might_charge_otherwise_is_refused(more: Json) -> None:
    """A modality that no meter holds, or cached tokens that may be audio or text, are refused, not taken as text."""
    assert refused({"usageMetadata": {**GEMINI, **more}})[0] == "unknown_usage_key"


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
def test_vertex_says_the_served_tier_by_its_traffic(traffic: str, tier: str | None) -> None:
    """Vertex AI's traffic type is the served tier; throughput that was bought beforehand is no tier with a price."""
    assert Usage.from_response({"usageMetadata": {**GEMINI, "trafficType": traffic}}).service_tier == tier
    assert Usage.from_response({"usageMetadata": {**GEMINI, "serviceTier": "flex"}}).service_tier == "flex"


def test_geminis_sdk_has_enumerations() -> None:
    """The SDK's modalities and tiers are enumerations that are strings too; ``reported`` keeps them as plain words."""

    class Modality(str, Enum):  # noqa: UP042  # so they are in the SDK
        IMAGE = "IMAGE"

    class Plain(Enum):
        IMAGE = "IMAGE"

    only = sdk({"prompt_token_count": 9, "prompt_tokens_details": [{"modality": Plain.IMAGE, "token_count": 9}]})
    assert Usage.from_response(only).meters == {"image_input": 9}
    details = [{"modality": Modality.IMAGE, "token_count": 9}]
    usage = {"prompt_token_count": 20, "prompt_tokens_details": details, "candidates_token_count": None}
    for body in ({"usage_metadata": usage}, sdk({"usage_metadata": usage}), spaced({"usage_metadata": usage})):
        assert Usage.from_response(body).meters == {"input": 11, "image_input": 9}
        kept = billable_body(body)["usage_metadata"]["prompt_tokens_details"]
        assert (kept, type(kept[0]["modality"])) == ([{"modality": "IMAGE", "token_count": 9}], str)


# --- Bedrock ---

NOVA: Json = {"inputTokens": 30, "outputTokens": 7}


def test_bedrocks_input_does_not_contain_the_cache() -> None:
    """Cache reads and writes come on top of the input tokens, and the total contains them."""
    usage = {**NOVA, "cacheReadInputTokens": 400, "cacheWriteInputTokens": 50, "totalTokens": 487}
    assert Usage.from_response({"usage": usage}).meters == {
        "input": 30,
        "cache_read": 400,
        "output": 7,
        "cache_write": 50,
    }
    code, words = refused({"usage": {**usage, "totalTokens": 37}})
    assert code == "usage_contradiction"
    assert "totalTokens 37 is not inputTokens 30 + cacheReadInputTokens 400 + " in words


def test_bedrock_says_how_long_the_cache_is_kept() -> None:
    """``cacheDetails`` tells the writes kept for an hour; they are all of the writes, kept for a time that is known."""
    usage = {**NOVA, "cacheWriteInputTokens": 50, "cacheWriteInputTokenCount": 50}
    kept = [{"ttl": "1h", "inputTokens": 20}, {"ttl": "5m", "inputTokens": 30}]
    assert Usage.from_response({**usage, "cacheDetails": kept}) == Usage(
        80, 7, cache_write_tokens=30, cache_write_1h_tokens=20
    )
    assert refused({**usage, "cacheDetails": kept[:1]})[0] == "usage_contradiction"
    assert refused({**usage, "cacheWriteInputTokenCount": 51})[0] == "usage_contradiction"
    assert refused({**usage, "cacheDetails": [{"ttl": "1d", "inputTokens": 50}]})[0] == "unknown_usage_key"
    assert refused({**usage, "serverToolUsage": {"webSearches": 2}})[0] == "unknown_usage_key"


def test_bedrocks_served_tier() -> None:
    """The tier that Bedrock served stands around the usage; a latency optimised call has a price that no tier has."""
    for body in ({"usage": NOVA, "serviceTier": {"type": "flex"}}, {"usage": NOVA, "serviceTier": "flex"}):
        assert Usage.from_response(body).service_tier == Usage.from_response(sdk(body)).service_tier == "flex"
    code, words = refused({"usage": NOVA, "performanceConfig": {"latency": "optimized"}})
    assert (code, "'optimized'" in words) == ("unknown_usage_key", True)
    assert refused(billable_body({"usage": NOVA, "performanceConfig": {"latency": "optimized"}}))[0] == code


# --- Cohere ---


def test_cohere_is_paid_by_billed_units() -> None:
    """Of the two counts that Cohere states the billed one counts, whatever the model processed or had cached."""
    usage = {
        "billed_units": {"input_tokens": 33.0, "output_tokens": 22.0},
        "tokens": {"input_tokens": 1452.0, "output_tokens": 33.0},
        "cached_tokens": 144.0,
    }
    assert Usage.from_response({"usage": usage}) == Usage(33, 22)
    assert Usage.from_response({"meta": {**usage, "api_version": {"version": "2"}}}) == Usage(33, 22)


@pytest.mark.parametrize("value", [33.5, float("nan"), float("inf"), -1.0, 1e13, True, "33"])
def test_a_float_that_is_no_count_is_refused(value: Any) -> None:
    """Cohere's counts may be floats, if they are whole numbers; in no other shape is a float a count."""
    assert refused({"billed_units": {"input_tokens": value, "output_tokens": 1}})[0] == "invalid_usage"
    for body in ({**CHAT, "prompt_tokens": 3.0}, {**CLAUDE, "input_tokens": 3.0}, {**NOVA, "inputTokens": 3.0}):
        assert refused(body)[0] == "invalid_usage"
    assert refused({**GEMINI, "promptTokenCount": 3.0})[0] == "invalid_usage"


def test_coheres_images_and_other_fees() -> None:
    """Image tokens stand beside the input tokens; an image, a search or a class that is paid by itself is refused."""
    billed = {"input_tokens": 3, "image_tokens": 30, "images": 1}
    assert Usage.from_response({"meta": {"billed_units": billed}}).meters == {"input": 3, "image_input": 30}
    for name in ("images", "search_units", "classifications"):
        for count in (1, 1.0, 4.25):
            assert refused({"meta": {"billed_units": {"input_tokens": 3, name: count}}})[0] == "unknown_usage_key"


def test_cohere_without_billed_tokens_is_refused() -> None:
    """Where nothing says what is billed, what was processed is not billed in its place."""
    tokens = {"input_tokens": 90, "output_tokens": 8}
    assert refused({"usage": {"billed_units": {}, "tokens": tokens}})[0] == "unknown_usage_format"
    assert refused({"usage": {"billed_units": None, "tokens": tokens}})[0] == "unknown_usage_format"
    assert refused({"usage": {"billed_units": {"input_tokens": 9}, "tokens": tokens}})[0] == "invalid_usage"
    assert refused({"meta": {"api_version": {"version": "2"}}})[0] == "unknown_usage_format"


# --- bodies that two have written into, and objects that are not what they seem ---

METADATA: Json = {"promptTokenCount": 1000, "candidatesTokenCount": 5, "totalTokenCount": 1005}
ANSWERED: Json = {"input_tokens": 9, "output_tokens": 1}
SEARCH: Json = {"type": "web_search_call", "action": {"type": "search"}}


def outcomes(body: Any) -> set[str]:
    """What becomes of a body, read at once and by way of a usage file."""
    found = set()
    for way in (Usage.from_response, lambda body: Usage.from_response(billable_body(body))):
        try:
            found.add(repr(way(body)))
        except BillingError as error:
            found.add(f"{error.code}: {error.message}")
    return found


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
    """Which of two usage objects in a body holds is not guessed, and both are named."""
    assert outcomes(wrap(body)) == {f"usage_contradiction: the body has two usage objects, {names}; remove one"}


@pytest.mark.parametrize("more", [{"usageMetadata": None, "usage_metadata": None, "meta": None}, {"meta": {"id": "x"}}])
def test_a_second_name_without_a_usage_is_none(more: Json) -> None:
    """Null under the second name, or a ``meta`` that bills nothing, contradicts nothing."""
    assert outcomes({"usage": CHAT, **more}) == {repr(Usage(900, 40))}


@pytest.mark.parametrize("key", ["input_tokens", "prompt_tokens"])
def test_a_count_of_null_hides_no_usage_object(key: str) -> None:
    """A null where a bare usage object has its input does not make a response one; read at once or from a file."""
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
def test_searches_are_counted_in_every_kind_of_list_and_item(items: Any) -> None:
    """An output item is any mapping, and the output any sequence of them."""
    assert outcomes({"usage": ANSWERED, "output": items}) == {repr(Usage(9, 1, web_search_calls=1))}


def test_a_page_that_is_opened_is_no_search_in_any_mapping() -> None:
    """What the action is, is read out of every kind of mapping too."""
    item = {"type": "web_search_call", "action": MappingProxyType({"type": "open_page"})}
    assert outcomes({"usage": ANSWERED, "output": [item]}) == {repr(Usage(9, 1))}


def test_an_output_that_can_be_read_only_once_is_refused() -> None:
    """A generator would have its searches the first time and none the second; it is refused by its name."""
    told = {"unknown_usage_format: output is a generator, which can be read only once; give a list"}
    assert outcomes({"usage": ANSWERED, "output": (item for item in [SEARCH])}) == told
    assert outcomes(SimpleNamespace(usage=ANSWERED, output=(item for item in [SEARCH]))) == told
    assert outcomes({"usage": CHAT, "output": (item for item in [SEARCH])}) == {repr(Usage(900, 40))}  # not read


class Mute(Exception):  # noqa: N818
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Closed:
    """An SDK's object that answers nothing."""

    def __init__(self, error: Exception) -> None:
        vars(self)["_error"] = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


class Changing(UserDict[str, Any]):
    """A mapping that grows while it is read."""

    def items(self) -> Any:
        for key in self.data:
            self.data[key + "x"] = 1
            yield key, 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (Closed(RuntimeError("gone")), "a Closed cannot be read: RuntimeError: 'gone'"),
        (Closed(Mute()), "a Closed cannot be read: Mute: no reason given"),
        ({"usage": Closed(RuntimeError("gone"))}, "a dict cannot be read: RuntimeError: 'gone'"),
        (SimpleNamespace(usage=Closed(KeyError("x"))), "a SimpleNamespace cannot be read: KeyError: \"'x'\""),
        ({"usage": Changing(CHAT)}, "a dict cannot be read: RuntimeError: 'dictionary changed size during iteration'"),
        (
            {"usage": ANSWERED, "output": [Closed(RuntimeError("gone"))]},
            "an output item of type Closed cannot be read: RuntimeError; pass plain data",
        ),
    ],
    ids=range(6),
)
def test_an_object_that_raises_is_refused(body: Any, words: str) -> None:
    """An error of an object that is read is told as a refusal, with its type and words."""
    assert outcomes(body) == {f"unknown_usage_format: {words}"}
