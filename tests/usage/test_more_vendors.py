"""Answers of further vendors and gateways, and counts that stand beside or above the usual ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import billable_body

Json = dict[str, Any]
CHAT: Json = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
CLAUDE: Json = {"input_tokens": 2, "cache_read_input_tokens": 6, "cache_creation_input_tokens": 1, "output_tokens": 5}
RESULTS: list[Json] = [{"index": 0, "relevance_score": 0.9}]
GEMINI: Json = {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}
BODIES: dict[str, tuple[Any, Usage]] = {
    "Claude's cache beside the prompt, as Portkey's total shows": (
        {"usage": {**CHAT, "total_tokens": 34, "cache_read_input_tokens": 12, "cache_creation_input_tokens": 8}},
        Usage(29, 5, cache_read_tokens=12, cache_write_tokens=8),
    ),
    "the keys of Anthropic and of chat completions": (
        {"type": "message", "usage": {**CLAUDE, **CHAT, "cached_tokens": 6}},
        Usage(9, 5, cache_read_tokens=6, cache_write_tokens=1),
    ),
    "reasoning beside the totals": ({"usage": {**CHAT, "reasoning_tokens": 3}}, Usage(9, 5, reasoning_tokens=3)),
    "reasoning of Codex": (
        {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 5, "reasoning_output_tokens": 2},
        Usage(9, 5, cache_read_tokens=4, reasoning_tokens=2),
    ),
    "counts by turn of vLLM": (
        {
            "usage": {
                "input_tokens": 9,
                "input_tokens_details": {
                    "cached_tokens": 4,
                    "input_tokens_per_turn": [3, 6],
                    "cached_tokens_per_turn": [0, 4],
                },
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 0, "output_tokens_per_turn": [2, 3]},
            }
        },
        Usage(9, 5, cache_read_tokens=4),
    ),
    "searches of Volcengine": (
        {
            "output": [{"type": "web_search_call"}],
            "usage": {
                "input_tokens": 9,
                "output_tokens": 5,
                "total_tokens": 14,
                "tool_usage": {"web_search": 2},
                "tool_usage_details": {"web_search": {"search_engine": 1, "toutiao": 1}},
            },
        },
        Usage(9, 5, web_search_calls=2),
    ),
    "images with a stated prompt": (
        {"data": [{"url": "u"}], "usage": {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}},
        Usage(1, 0, output_images=1),
    ),
    "Coze": (
        {"code": 0, "data": {"usage": {"token_count": 14, "output_count": 5, "input_count": 9}}},
        Usage(9, 5),
    ),
    "OpenRouter's statistics": (
        {
            "data": {
                "tokens_prompt": 8,
                "tokens_completion": 4,
                "native_tokens_prompt": 9,
                "native_tokens_completion": 5,
                "native_tokens_reasoning": 2,
                "native_tokens_cached": 4,
            }
        },
        Usage(9, 5, cache_read_tokens=4, reasoning_tokens=2),
    ),
    "LangChain's token_usage": ({"token_usage": CHAT, "model_name": "m"}, Usage(9, 5)),
    "KoboldCpp": ({"results": [{"text": "x", "prompt_tokens": 9, "completion_tokens": 5}]}, Usage(9, 5)),
    "LoRAX": ({"generated_text": "x", "details": {"prompt_tokens": 9, "generated_tokens": 5}}, Usage(9, 5)),
    "Nova Sonic": (
        {
            "event": {
                "usageEvent": {
                    "details": {
                        "delta": {"input": {"speechTokens": 1, "textTokens": 1}},
                        "total": {
                            "input": {"speechTokens": 6, "textTokens": 3},
                            "output": {"speechTokens": 4, "textTokens": 1},
                        },
                    },
                    "totalInputTokens": 9,
                    "totalOutputTokens": 5,
                    "totalTokens": 14,
                }
            }
        },
        Usage(9, 5, audio_input_tokens=6, audio_output_tokens=4),
    ),
    "rerank of SiliconFlow": ({"results": RESULTS, "tokens": {"input_tokens": 9, "output_tokens": 0}}, Usage(9, 0)),
    "rerank with a total": ({"results": RESULTS, "total_tokens": 9}, Usage(9, 0)),
    "rerank of OpenRouter": ({"results": RESULTS, "usage": {"search_units": 2}}, Usage(queries=2)),
    "rerank of DeepInfra": (
        {"scores": [0.1], "input_tokens": 9, "inference_status": {"tokens_input": 0, "tokens_generated": 0}},
        Usage(9, 0),
    ),
    "pages of Jina's search": (
        {"data": [{"url": "u", "title": "t", "content": "c"}], "meta": {"usage": {"tokens": 9}}},
        Usage(9, 0),
    ),
    "images of MiniMax": (
        {"data": {"image_urls": ["u", "v"]}, "base_resp": {"status_code": 0}},
        Usage(output_images=2),
    ),
    "an image of Stability": ({"image": "aGk=", "finish_reason": "SUCCESS", "seed": 1}, Usage(output_images=1)),
    "images of Hyperbolic": ({"images": [{"image": "aGk="}]}, Usage(output_images=1)),
    "filtered images of Imagen": ({"predictions": [{"raiFilteredReason": "r"}]}, Usage()),
    "a video of xAI": ({"status": "done", "video": {"url": "u", "duration": 8}}, Usage(video_output_seconds=8)),
    "a video of Replicate": (
        {"metrics": {"video_output_duration_seconds": 5, "video_output_count": 1, "predict_time": 51.1}},
        Usage(video_output_seconds=5),
    ),
    "speech recognition of Google": (
        {"results": [], "totalBilledTime": "15.5s"},
        Usage(audio_input_seconds=Decimal("15.5")),
    ),
    "an application of DashScope": (
        {"usage": {"models": [{"model_id": "m", "input_tokens": 9, "output_tokens": 5}]}},
        Usage(9, 5, model="m"),
    ),
    "a line of a batch of Fireworks": (
        {"custom_id": "c", "response": {"usage": CHAT}},
        Usage(9, 5, service_tier="batch"),
    ),
    "a line of a batch of xAI": (
        {"batch_result": {"response": {"chat_get_completion": {"usage": CHAT}}}},
        Usage(9, 5, service_tier="batch"),
    ),
    "a line of a batch of Gemini's embeddings": (
        {"key": "k", "response": {"embedding": {"values": [0.1]}, "tokenCount": "9"}},
        Usage(9, 0, service_tier="batch"),
    ),
    "an answer within an answer": ({"code": 0, "data": {"usage": CHAT}}, Usage(9, 5)),
}


@pytest.mark.parametrize("name", BODIES)
def test_an_answer_is_read_in_full(name: str) -> None:
    """Every count is on its meter, none is left over, and the reduced body has the same usage."""
    body, expected = BODIES[name]
    usage = Usage.from_response(body)
    assert usage.meters == expected.meters
    assert (usage.unaccounted, usage.reasoning_tokens) == ((), expected.reasoning_tokens)
    assert (usage.service_tier, usage.model) == (expected.service_tier, expected.model)
    assert Usage.from_response(billable_body(body)) == usage


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"usage": {**CHAT, "reasoning_tokens": 3, "num_search_queries": 0, "citation_tokens": 7}}, "reasoning_tokens"),
        ({"usage": {**CHAT, "reasoning_tokens": 6}}, "reasoning_tokens"),
        ({"usage": {**CHAT, "tool_usage": {"image_process": 1}}}, "tool_usage.image_process"),
        ({"usage": {**CHAT, "tool_usage_details": {"web_search": {"a": 2}}}}, "tool_usage_details.web_search.a"),
        ({"usage": {**CHAT, "prompt_tokens_details": {"prompt_tokens_per_turn": [3]}}}, "prompt_tokens_per_turn[0]"),
        ({"usage": {"topicPolicyUnits": 2}, "action": "NONE"}, "topicPolicyUnits"),
        (
            {"usageMetadata": {**GEMINI, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}]}},
            "promptTokensDetails",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_contained_is_unaccounted(body: Json, expected: str) -> None:
    """A count that the totals do not contain, or that has no meter, is listed with its path."""
    assert any(path.endswith(expected) for path, _ in Usage.from_response(body).unaccounted)


def run(kind: str, uncached: int, output: int, **more: Any) -> Json:
    return {"type": kind, "input_tokens": uncached, "output_tokens": output, **more}


def test_the_input_of_every_run_beside_an_advisor_is_billed() -> None:
    """With an advisor, the counts above are the first input and all output. The later inputs are in the iterations."""
    runs = [
        run("message", 412, 89),
        run("advisor_message", 823, 1612, model="claude-opus"),
        run("message", 1348, 442, cache_read_input_tokens=412),
    ]
    usage = Usage.from_response({"model": "claude-sonnet", "usage": run("", 412, 531, iterations=runs)})
    assert usage.meters == {"input": 1760, "cache_read": 412, "output": 531}
    assert [(model, part.meters) for model, part in usage.parts] == [("claude-opus", {"input": 823, "output": 1612})]


def test_a_fallback_that_answered_is_billed_once() -> None:
    """If the counts above are those of the model that answered, nothing of its run is added again."""
    runs = [run("message", 100, 3, model="claude-opus"), run("fallback_message", 100, 50, model="claude-sonnet")]
    usage = Usage.from_response({"model": "claude-sonnet", "usage": run("", 100, 50, iterations=runs)})
    assert usage.meters == {"input": 100, "output": 50}
    assert [(model, part.meters) for model, part in usage.parts] == [("claude-opus", {"input": 100, "output": 3})]


def test_further_models_of_an_application_are_parts() -> None:
    """DashScope lists the models of an application. Calls of one model are added; other models have their own price."""
    models = [{"model_id": name, "input_tokens": 4, "output_tokens": 1} for name in ("a", "b", "a")]
    usage = Usage.from_response({"usage": {"models": models}})
    assert (usage.model, usage.meters) == ("a", {"input": 8, "output": 2})
    assert [(model, part.meters) for model, part in usage.parts] == [("b", {"input": 4, "output": 1})]


def test_pages_of_a_search_are_no_images() -> None:
    """Pages that a search found have a URL, as images have. They are not billed as images."""
    with pytest.raises(BillingError, match="no usage"):
        Usage.from_response({"data": [{"url": "u", "title": "t", "description": "d"}]})
