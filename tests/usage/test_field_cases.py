"""Bodies from the field that were read wrongly or refused, each with the right usage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from body_builders import counted
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import Conventions, billable_body
from samples import NOW, book_of, code_of

Json = dict[str, Any]
GROK = {"prompt_tokens_details": {"cached_tokens": 178, "text_tokens": 241, "image_tokens": 0}}
CLAUDE = {"input_tokens": 10, "cache_creation_input_tokens": 12174, "cache_read_input_tokens": 39695}
IMAGE_GEN = {
    "input_tokens": 50,
    "output_tokens": 4160,
    "total_tokens": 4210,
    "output_tokens_details": {"image_tokens": 4160, "text_tokens": 0},
}

CASES: dict[str, tuple[Json, Usage]] = {
    "image tokens of a tool stand beside the usage": (
        {
            "output": [{"type": "image_generation_call"}],
            "usage": {"input_tokens": 2000, "output_tokens": 100, "total_tokens": 2100},
            "tool_usage": {"image_gen": IMAGE_GEN, "web_search": {"num_requests": 0}},
        },
        Usage(2050, 4260, image_output_tokens=4160),
    ),
    "searches of a tool stand beside the usage": (
        {
            "output": [{"type": "web_search_call", "action": {"type": "search"}}],
            "usage": {"input_tokens": 9, "output_tokens": 1},
            "tool_usage": {"web_search": {"num_requests": 3}},
        },
        Usage(9, 1, web_search_calls=3),
    ),
    "Gemini searched twice to ground its answer": (
        {
            "candidates": [{"content": {}, "groundingMetadata": {"webSearchQueries": ["a", "b"]}}],
            "usageMetadata": {"promptTokenCount": 18, "candidatesTokenCount": 10, "totalTokenCount": 28},
        },
        Usage(18, 10, web_search_calls=2),
    ),
    "cached tokens are image tokens as well": (
        {
            "usage": {
                "prompt_tokens": 1400,
                "completion_tokens": 100,
                "total_tokens": 1500,
                "prompt_tokens_details": {"text_tokens": 120, "image_tokens": 1280, "cached_tokens": 1344},
            }
        },
        Usage(1400, 100, 1344, image_input_tokens=1280, image_cache_read_tokens=1224),
    ),
    "writes of 5 minutes that the lifetimes leave out": (
        {
            "usage": {
                **CLAUDE,
                "cache_creation": {"ephemeral_5m_input_tokens": 291, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 437,
                "service_tier": "standard",
                "server_tool_use": {"web_search_requests": 1},
            }
        },
        Usage(51_879, 437, 39_695, 12_174, web_search_calls=1, service_tier="standard"),
    ),
    "litellm states the same cache twice": (
        {
            "usage": {
                "prompt_tokens": 5000,
                "completion_tokens": 100,
                "total_tokens": 5100,
                "prompt_tokens_details": {"cached_tokens": 4000, "cache_creation_tokens": 0},
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4000,
            }
        },
        Usage(5000, 100, 4000),
    ),
    "DashScope writes to an explicit cache": (
        {
            "usage": {
                "prompt_tokens": 2000,
                "completion_tokens": 100,
                "total_tokens": 2100,
                "prompt_tokens_details": {
                    "cached_tokens": 0,
                    "cache_creation_input_tokens": 1889,
                    "cache_creation": {"ephemeral_5m_input_tokens": 1889},
                    "cache_type": "ephemeral",
                },
            }
        },
        Usage(2000, 100, cache_write_tokens=1889),
    ),
    "a total of Vertex is one short": (
        {
            "usageMetadata": {
                "promptTokenCount": 18,
                "candidatesTokenCount": 1,
                "thoughtsTokenCount": 203,
                "totalTokenCount": 221,
                "trafficType": "ON_DEMAND",
            }
        },
        Usage(18, 204, reasoning_tokens=203, service_tier="standard"),
    ),
    "cached images are pages of a document": (
        {
            "usageMetadata": {
                "promptTokenCount": 1344,
                "candidatesTokenCount": 99,
                "totalTokenCount": 1517,
                "thoughtsTokenCount": 74,
                "cachedContentTokenCount": 1274,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 54},
                    {"modality": "DOCUMENT", "tokenCount": 1290},
                ],
                "cacheTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 51},
                    {"modality": "IMAGE", "tokenCount": 1223},
                ],
            }
        },
        Usage(1344, 173, 1274, reasoning_tokens=74),
    ),
    "the total shows audio beside the prompt": (
        {
            "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 15,
                "total_tokens": 401,
                "prompt_tokens_details": {"audio_tokens": 375, "cached_tokens": 9},
            }
        },
        Usage(386, 15, 9, audio_input_tokens=375),
    ),
    "a transcription is billed by the second": (
        {"text": "x", "usage": {"type": "duration", "seconds": 11}},
        Usage(audio_input_seconds=11),
    ),
    "the details of a transcription lack an s": (
        {
            "usage": {
                "type": "tokens",
                "total_tokens": 182,
                "input_tokens": 37,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 37},
                "output_tokens": 145,
            }
        },
        Usage(37, 145, audio_input_tokens=37),
    ),
    "more reasoning than output, which the total confirms": (
        {
            "usage": {
                "prompt_tokens": 39,
                "completion_tokens": 1066,
                "total_tokens": 1105,
                "completion_tokens_details": {"reasoning_tokens": 1138},
            }
        },
        Usage(39, 1066, reasoning_tokens=1066),
    ),
    "new-api writes the keys of both formats": (
        {
            "usage": {
                "prompt_tokens": 30,
                "completion_tokens": 20,
                "total_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 10, "text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
                "completion_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 5},
                "input_tokens": 0,
                "output_tokens": 0,
                "input_tokens_details": None,
                "claude_cache_creation_5_m_tokens": 0,
                "claude_cache_creation_1_h_tokens": 0,
            }
        },
        Usage(30, 20, 10, reasoning_tokens=5),
    ),
    "new-api passes the counts of Anthropic on": (
        {
            "usage": {
                "prompt_tokens": 30,
                "completion_tokens": 20,
                "total_tokens": 50,
                "usage_semantic": "anthropic",
                "prompt_tokens_details": {"cached_tokens": 100, "cached_creation_tokens": 8},
                "claude_cache_creation_5_m_tokens": 3,
                "claude_cache_creation_1_h_tokens": 5,
            }
        },
        Usage(138, 20, 100, 3, cache_write_1h_tokens=5),
    ),
}
"""What was wrong -> the body, and its right usage."""


@pytest.mark.parametrize("name", CASES)
def test_a_body_of_the_field_is_read(name: str) -> None:
    """A body that was refused or read wrongly gives the right usage, and so does its billable part."""
    body, expected = CASES[name]
    usage = Usage.from_response(body)
    assert (counted(usage), usage.unaccounted) == (expected, ())
    assert Usage.from_response(billable_body(body)) == usage


def test_case_37_cached_tokens_beside_the_prompt_are_a_setting_of_the_upstream() -> None:
    """Azure's Grok reports cached tokens beside the prompt: 0.0000851 with the convention, not 0.0000495."""
    body = {"usage": {"prompt_tokens": 241, "completion_tokens": 56, "total_tokens": 297, **GROK}}
    book = book_of("{from: 2026-01-01, standard: {input: 0.2, cache_read: 0.05, output: 0.5}}")
    usage = Usage.from_response(body, conventions=Conventions(cache_read="beside_input"))
    assert book.rate(usage, model="m", group="g", at=NOW).credits == Decimal("0.0000851")
    more_cached = {
        "usage": {"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 163}}
    }
    with pytest.raises(BillingError, match="cache_read_tokens 163 is more than input_tokens 7") as caught:
        Usage.from_response(more_cached)
    assert code_of(caught) == "usage_contradiction"
    usage = Usage.from_response(more_cached, conventions=Conventions(cache_read="beside_input"))
    assert usage.meters == {"input": 7, "cache_read": 163, "output": 1}


def test_older_gemini_models_charge_a_grounded_prompt_once() -> None:
    """With the convention ``per_prompt``, any number of queries is one search."""
    body = CASES["Gemini searched twice to ground its answer"][0]
    assert Usage.from_response(body, conventions=Conventions(grounding="per_prompt")).meters["web_search"] == 1


def test_images_without_a_price_of_their_own_cost_as_text() -> None:
    """Image tokens that no model of the file prices apart cost what text costs, cached or not: 0.0009808."""
    book = book_of("{from: 2026-01-01, standard: {input: 0.2, cache_read: 0.05, output: 9.024}}")
    usage = Usage.from_response(CASES["cached tokens are image tokens as well"][0])
    assert book.rate(usage, model="m", group="g", at=NOW).credits == Decimal("0.0009808")
    book = book_of("{from: 2026-01-01, standard: {input: 0.2, image_input: 1, cache_read: 0.05, output: 9}}")
    with pytest.raises(BillingError, match="image_cache_read"):  # what cached images cost is not known then
        book.rate(usage, model="m", group="g", at=NOW)


def test_the_usage_of_a_whole_batch_is_refused() -> None:
    """The sum of many requests has no context tier, so it is no usage of one request."""
    usage = {"completion_tokens": 0, "prompt_tokens": 0, "total_tokens": 51_279_835, "input_tokens": 31_493_594}
    with pytest.raises(BillingError, match="give the lines of its results"):
        Usage.from_response({"object": "batch", "usage": {**usage, "output_tokens": 19_786_241}})


def test_two_different_counts_of_one_quantity_are_a_contradiction() -> None:
    """The same count under two names must be the same number, whichever gateway wrote the names."""
    chat = {"prompt_tokens": 30, "completion_tokens": 20}
    for more in ({"input_tokens": 31}, {"output_tokens": 21}, {"cached_tokens": 3, "cache_read_input_tokens": 4}):
        with pytest.raises(BillingError, match="must be the same") as caught:
            Usage.from_response({**chat, **more})
        assert code_of(caught) == "usage_contradiction"


@pytest.mark.parametrize(
    ("more", "unaccounted"),
    [
        (
            {"prompt_tokens_details": {"cached_tokens": 3}, "prompt_token_details": {"cached_tokens": 3, "x": 8}},
            (("usage.prompt_token_details.x", 8),),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 3}, "input_tokens_details": {"cached_tokens": 4}},
            (("usage.input_tokens_details.cached_tokens", 4),),
        ),
        ({"input_token_details": {"cached_tokens": 4}}, (("usage.input_token_details.cached_tokens", 4),)),
        ({"usage_semantic": 7}, (("usage.usage_semantic", 7),)),
    ],
)
def test_a_second_object_of_details_is_never_dropped(more: Json, unaccounted: tuple[tuple[str, int], ...]) -> None:
    """What a second spelling of the token details states otherwise is listed."""
    usage = Usage.from_response({"prompt_tokens": 30, "completion_tokens": 20, **more})
    assert usage.unaccounted == unaccounted


def test_two_lifetimes_of_one_write_are_a_contradiction() -> None:
    """Lifetimes in the details and beside the totals must be the same."""
    details = {"cache_creation_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 9}}
    beside = {"cache_creation": {"ephemeral_5m_input_tokens": 8}}
    with pytest.raises(BillingError, match="must be the same"):
        Usage.from_response({"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": details, **beside})


def test_further_warnings_are_counted() -> None:
    """Of more than 32 oddities, the first ones are warnings, and the others are counted."""
    usage = Usage.from_response({"prompt_tokens": 3, "completion_tokens": 2, **{f"n{n}": 10**31 for n in range(40)}})
    assert (len(usage.warnings), usage.warnings[-1]) == (33, "and 8 more warnings")


def test_reasoning_explains_a_total_before_audio_does() -> None:
    """As many audio tokens as reasoning tokens do not hide that xAI counts reasoning beside the completion."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 16,
        "prompt_tokens_details": {"audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    expected = Usage(9, 7, reasoning_tokens=5, audio_input_tokens=5)
    assert Usage.from_response({"usage": usage}) == expected
    with pytest.raises(BillingError, match="audio_input_tokens not cached 5 is more than input_tokens 3"):
        Usage.from_response({"usage": {**usage, "prompt_tokens": 3, "total_tokens": 10}})
