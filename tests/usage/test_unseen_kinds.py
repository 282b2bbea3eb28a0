"""Kinds of bodies that no recording of the project has: numbers in other JSON types, other names, wrapped answers."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import billable_body

Json = dict[str, Any]
CHAT: Json = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
GEMINI: Json = {"promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 10}
GUARDRAIL: Json = {"guardrail": {"inputAssessment": {"g": {"invocationMetrics": {"usage": {"topicPolicyUnits": 2}}}}}}
BODIES: dict[str, tuple[Any, Usage]] = {
    "cached tokens of Inception": (
        {"usage": {**CHAT, "cached_input_tokens": 4}},
        Usage(9, 1, cache_read_tokens=4),
    ),
    "writes to a cache under another name": (
        {"usage": {**CHAT, "prompt_tokens_details": {"cached_tokens": 4, "created_cache_tokens": 2}}},
        Usage(9, 1, cache_read_tokens=4, cache_write_tokens=2),
    ),
    "places of SGLang's cache": (
        {
            "usage": {
                **CHAT,
                "prompt_tokens_details": {"cached_tokens": 4},
                "cached_tokens_details": {"device": 3, "host": 1, "reused_device": 3},
            }
        },
        Usage(9, 1, cache_read_tokens=4),
    ),
    "DeepSeek without a prompt": (
        {"usage": {"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 3, "completion_tokens": 1}},
        Usage(9, 1, cache_read_tokens=6),
    ),
    "LangChain": (
        {
            "usage_metadata": {
                "input_tokens": 9,
                "output_tokens": 5,
                "total_tokens": 14,
                "input_token_details": {"audio": 2, "cache_read": 3, "cache_creation": 1},
                "output_token_details": {"audio": 1, "reasoning": 2},
            }
        },
        Usage(
            9,
            5,
            cache_read_tokens=3,
            cache_write_tokens=1,
            audio_input_tokens=2,
            audio_output_tokens=1,
            reasoning_tokens=2,
        ),
    ),
    "writes by lifetime of LangChain": (
        {
            "input_tokens": 9,
            "output_tokens": 5,
            "total_tokens": 14,
            "input_token_details": {
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 2,
                "ephemeral_1h_input_tokens": 1,
            },
        },
        Usage(9, 5, cache_write_tokens=2, cache_write_1h_tokens=1),
    ),
    "thinking tokens without a cache": (
        {"usage": {"input_tokens": 9, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}}},
        Usage(9, 5, reasoning_tokens=2),
    ),
    "searches of litellm": (
        {"usage": {**CHAT, "prompt_tokens_details": {"cached_tokens": 4, "web_search_requests": 2}}},
        Usage(9, 1, cache_read_tokens=4, web_search_calls=2),
    ),
    "AI SDK": (
        {
            "usage": {
                "inputTokens": {"total": 9, "noCache": 4, "cacheRead": 3, "cacheWrite": 2},
                "outputTokens": {"total": 5, "text": 3, "reasoning": 2},
                "raw": {"input_tokens": 9},
            }
        },
        Usage(9, 5, cache_read_tokens=3, cache_write_tokens=2, reasoning_tokens=2),
    ),
    "a call of the AI SDK": (
        {
            "usage": {
                "inputTokens": 9,
                "inputTokenDetails": {"noCacheTokens": 6, "cacheReadTokens": 3, "cacheWriteTokens": 0},
                "outputTokens": 5,
                "outputTokenDetails": {"textTokens": 3, "reasoningTokens": 2},
                "totalTokens": 14,
                "reasoningTokens": 2,
                "cachedInputTokens": 3,
            }
        },
        Usage(9, 5, cache_read_tokens=3, reasoning_tokens=2),
    ),
    "YandexGPT": (
        {"result": {"usage": {"inputTextTokens": "9", "completionTokens": "1", "totalTokens": "10"}}},
        Usage(9, 1),
    ),
    "Hunyuan": (
        {"Response": {"Usage": {"PromptTokens": 9, "CompletionTokens": 1, "TotalTokens": 10}, "Choices": []}},
        Usage(9, 1),
    ),
    "Spark": (
        {"header": {"code": 0}, "payload": {"usage": {"text": {**CHAT, "question_tokens": 4}}}},
        Usage(9, 1),
    ),
    "Aleph Alpha": ({"num_tokens_prompt_total": 9, "num_tokens_generated": 1, "completions": []}, Usage(9, 1)),
    "DeepInfra": ({"inference_status": {"tokens_input": 9, "tokens_generated": 1, "runtime_ms": 30}}, Usage(9, 1)),
    "a list of one answer": (
        [{"generated_text": "x", "details": {"generated_tokens": 20, "prefill": [{"id": 1}]}}],
        Usage(1, 20),
    ),
    "an embedding with its prompt alone": (
        {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 9}},
        Usage(9),
    ),
    "an embedding of images beside the texts": (
        {"output": {"embeddings": [[1]]}, "usage": {"input_tokens": 10, "image_tokens": 7, "total_tokens": 17}},
        Usage(17, image_input_tokens=7),
    ),
    "embeddings of Google's SDK": (
        {"embeddings": [{"values": [0.5], "statistics": {"token_count": 6.0}}]},
        Usage(6),
    ),
    "images of Bedrock": ({"images": ["aGk=", "aGk="]}, Usage(output_images=2)),
    "images of Stability": ({"artifacts": [{"base64": "aGk="}]}, Usage(output_images=1)),
    "rerank of Pinecone": ({"data": [], "usage": {"rerank_units": 1}}, Usage(queries=1)),
    "a video of DashScope": (
        {"usage": {"video_duration": 5, "duration": 5, "video_count": 1, "SR": 720}},
        Usage(video_output_seconds=5),
    ),
    "a video made of a video": (
        {"usage": {"output_video_duration": 5, "input_video_duration": 3, "duration": 8}},
        Usage(video_output_seconds=5, video_input_seconds=3),
    ),
    "a video with its duration alone": ({"usage": {"duration": 5, "video_count": 1}}, Usage(video_output_seconds=5)),
    "an image with its size": ({"usage": {"image_count": 1, "width": 9, "height": 9}}, Usage(output_images=1)),
    "a duration that is a text": (
        {"task": "transcribe", "duration": "8.47", "text": "x"},
        Usage(audio_input_seconds=Decimal("8.47")),
    ),
    "the first version of Interactions": (
        {
            "usage": {
                "total_input_tokens": 9,
                "total_output_tokens": 1,
                "total_reasoning_tokens": 4,
                "total_tokens": 14,
            }
        },
        Usage(9, 5, reasoning_tokens=4),
    ),
    "Gemini without a prompt": (
        {"candidates": [{}], "usageMetadata": {"candidatesTokenCount": 1, "totalTokenCount": 10}},
        Usage(9, 1),
    ),
    "Code Assist": ({"response": {"usageMetadata": GEMINI}, "traceId": "x"}, Usage(9, 1)),
    "a response inside a batch of Gemini": (
        {"response": {"usageMetadata": GEMINI}, "metadata": {"key": "1"}},
        Usage(9, 1, service_tier="batch"),
    ),
    "turns that Claude Code added up": (
        {
            "usage": {
                "input_tokens": 4,
                "cache_read_input_tokens": 20,
                "output_tokens": 30,
                "iterations": [
                    {"type": "message", "input_tokens": 2, "cache_read_input_tokens": 20, "output_tokens": 9}
                ],
            }
        },
        Usage(24, 30, cache_read_tokens=20),
    ),
}
"""Name -> a body, and its usage."""


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_read_in_full(name: str) -> None:
    """All quantities are on their meters, none is unaccounted, and the stored part has the same usage."""
    body, expected = BODIES[name]
    usage = Usage.from_response(body)
    assert (usage.meters, usage.unaccounted) == (expected.meters, ())
    assert (usage.service_tier, usage.reasoning_tokens) == (expected.service_tier, expected.reasoning_tokens)
    assert Usage.from_response(billable_body(body)) == usage


USAGES: list[Json] = [
    CHAT,
    {**CHAT, "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}},
    {"input_tokens": 9, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14},
    {"input_tokens": 9, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 5},
    {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14},
    {"billed_units": {"input_tokens": 9, "output_tokens": 5}},
    {"prompt_eval_count": 9, "eval_count": 5},
    {"total_input_tokens": 9, "total_output_tokens": 5, "total_tokens": 14},
    {**GEMINI, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}]},
]


@given(
    usage=st.sampled_from(USAGES), kinds=st.lists(st.sampled_from([int, float, str, Decimal]), min_size=8, max_size=8)
)
@settings(max_examples=40)
def test_the_json_type_of_a_whole_number_changes_nothing(usage: Json, kinds: list[Any]) -> None:
    """12, 12.0 and "12" are the same count in every format: JSON has one type of numbers, and protobuf writes texts."""
    remaining = iter(kinds)

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: change(item) for key, item in value.items()}
        if isinstance(value, list):
            return [change(item) for item in value]
        return next(remaining)(value) if type(value) is int else value

    key = "usageMetadata" if "promptTokenCount" in usage else "usage"
    assert Usage.from_response({key: change(usage)}) == Usage.from_response({key: usage})


@pytest.mark.parametrize("value", [1.5, "1.5", "", " 1", "1e3", "01", "-1", "x", "9" * 14, True, float("nan"), [1]])
def test_what_is_no_whole_number_stays_an_error(value: Any) -> None:
    """A count that is a fraction, negative, or no plain number is ``invalid_usage`` in every format."""
    for key, usage, name in (
        ("usage", CHAT, "prompt_tokens"),
        ("usage", USAGES[3], "input_tokens"),
        ("usageMetadata", GEMINI, "promptTokenCount"),
    ):
        with pytest.raises(BillingError) as caught:
            Usage.from_response({key: {**usage, name: value}})
        assert caught.value.code == "invalid_usage"


def test_a_number_that_is_a_text_is_not_dropped() -> None:
    """A number under an unknown key is unaccounted also if it is a text, and a name that looks like one is not."""
    usage = Usage.from_response({"usage": {**CHAT, "search_cost": "0.005", "extra_tokens": "7", "version": "2"}})
    assert usage.unaccounted == (("usage.search_cost", Decimal("0.005")), ("usage.extra_tokens", 7))


@pytest.mark.parametrize(
    ("key", "usage"),
    [
        ("trace", {"inputTokens": 9, "outputTokens": 1}),
        ("amazon-bedrock-trace", {"input_tokens": 9, "output_tokens": 1}),
    ],
)
def test_the_units_of_a_guardrail_are_unaccounted(key: str, usage: Json) -> None:
    """Guardrails have a fee by unit, which Bedrock states in the trace beside the usage object."""
    path = "guardrail.inputAssessment.g.invocationMetrics.usage.topicPolicyUnits"
    body = {"usage": usage, key: {**GUARDRAIL, "latency": 3}}
    read = Usage.from_response(body)
    assert read.unaccounted == ((f"{key}.{path}", 2),)
    assert Usage.from_response(billable_body(body)) == read


def test_the_connectors_of_mistral_are_listed_once() -> None:
    """Tokens of connectors are unaccounted, and the total that contains them is explained by them."""
    usage = Usage.from_response({"usage": {**CHAT, "total_tokens": 110, "connector_tokens": 100}})
    assert usage.unaccounted == (("usage.connector_tokens", 100),)


def test_speeds_of_a_machine_are_no_quantities() -> None:
    """Rates per second, as SambaNova states them, are times."""
    speeds = {"completion_tokens_after_first_per_sec_first_ten": 1068.0, "acceptance_rate": 4.06}
    assert Usage.from_response({"usage": {**CHAT, **speeds}}).unaccounted == ()


def test_searches_that_differ_are_listed() -> None:
    """If litellm's two places for searches differ, the one that is not billed is unaccounted."""
    body = copy.deepcopy({"usage": {**CHAT, "server_tool_use": {"web_search_requests": 1}}})
    body["usage"]["prompt_tokens_details"] = {"web_search_requests": 2}
    usage = Usage.from_response(body)
    assert usage.meters["web_search"] == 1
    assert usage.unaccounted == (("usage.prompt_tokens_details.web_search_requests", 2),)


def test_more_iterations_than_counts_are_a_contradiction() -> None:
    """Iterations that exceed the counts above them affect the price: an error with both numbers."""
    runs = [{"type": "message", "input_tokens": 10, "output_tokens": 1}]
    with pytest.raises(BillingError, match="input_tokens 9 is not the messages of iterations 10") as caught:
        Usage.from_response({"usage": {"input_tokens": 9, "output_tokens": 1, "iterations": runs}})
    assert caught.value.code == "usage_contradiction"
