"""Formats of single endpoints: audio, images, rerank, batches, Bedrock InvokeModel, Ollama, Interactions, Realtime."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import billable_body

Json = dict[str, Any]
CHAT: Json = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
CLAUDE: Json = {"input_tokens": 20, "cache_read_input_tokens": 0, "output_tokens": 4}
REALTIME: Json = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
INTERACTION: Json = {
    "total_tokens": 1983,
    "total_input_tokens": 22,
    "input_tokens_by_modality": [{"modality": "text", "tokens": 12}, {"modality": "image", "tokens": 10}],
    "total_cached_tokens": 2,
    "total_output_tokens": 590,
    "total_tool_use_tokens": 198,
    "total_thought_tokens": 1173,
    "grounding_tool_count": [{"type": "google_search", "count": 2}],
}
BODIES: dict[str, tuple[Json, Usage]] = {
    "images with tokens": (
        {
            "created": 1,
            "data": [{"b64_json": "x"}],
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 4160,
                "total_tokens": 4210,
            },
        },
        Usage(50, 4160, image_input_tokens=40, image_output_tokens=4160),
    ),
    "images without usage": ({"created": 1, "data": [{"url": "u"}, {"b64_json": "x"}]}, Usage(output_images=2)),
    "an image of a stream": (
        {"type": "image_generation.completed", "usage": {"input_tokens": 9, "output_tokens": 99, "total_tokens": 108}},
        Usage(9, 99, image_output_tokens=99),
    ),
    "speech": (
        {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}},
        Usage(14, 101, audio_output_tokens=101),
    ),
    "a transcription by time": (
        {"task": "transcribe", "duration": 8.4704, "text": "x"},
        Usage(audio_input_seconds=Decimal("8.47")),
    ),
    "Vertex embeddings by character": (
        {"predictions": [{"embeddings": {"values": [0.5]}}], "metadata": {"billableCharacterCount": 29}},
        Usage(input_characters=29),
    ),
    "Vertex embeddings by token": (
        {"predictions": [{"embeddings": {"statistics": {"token_count": 4}}}] * 2},
        Usage(8),
    ),
    "Imagen": ({"predictions": [{"bytesBase64Encoded": "x", "mimeType": "image/png"}]}, Usage(output_images=1)),
    "Voyage": ({"object": "list", "data": [{"embedding": [1]}], "usage": {"total_tokens": 8}}, Usage(8)),
    "Cohere rerank": ({"results": [{"index": 0}], "meta": {"billed_units": {"search_units": 1}}}, Usage(queries=1)),
    "moderation": ({"model": "omni-moderation", "results": [{"flagged": False}]}, Usage(model="omni-moderation")),
    "Realtime": (
        {"type": "response.done", "response": {"object": "realtime.response", "usage": REALTIME}},
        Usage(132, 121, 64, audio_input_tokens=13, audio_output_tokens=91),
    ),
    "Interactions": (
        {"object": "interaction", "model": "g", "service_tier": "standard", "usage": INTERACTION},
        Usage(
            220,
            1763,
            2,
            reasoning_tokens=1173,
            image_input_tokens=10,
            web_search_calls=2,
            service_tier="standard",
            model="g",
        ),
    ),
    "Ollama": (
        {"model": "llama3", "message": {"content": "x"}, "prompt_eval_count": 83, "eval_count": 15},
        Usage(83, 15, model=None),
    ),
    "Llama on Bedrock": ({"generation": "x", "prompt_token_count": 5, "generation_token_count": 10}, Usage(5, 10)),
    "Titan text": (
        {"inputTextTokenCount": 6, "results": [{"tokenCount": 26, "outputText": "x", "completionReason": "FINISH"}]},
        Usage(6, 26),
    ),
    "Titan embedding": ({"embedding": [0.5, 0.25], "inputTextTokenCount": 10}, Usage(10)),
    "metrics of Bedrock": (
        {
            "outputText": "x",
            "amazon-bedrock-invocationMetrics": {
                "inputTokenCount": 13,
                "outputTokenCount": 100,
                "cacheReadInputTokenCount": 7,
                "invocationLatency": 4075,
            },
        },
        Usage(20, 100, 7),
    ),
    "headers of Bedrock": (
        {
            "ResponseMetadata": {
                "HTTPHeaders": {
                    "x-amzn-bedrock-input-token-count": "13",
                    "x-amzn-bedrock-output-token-count": "5",
                }
            }
        },
        Usage(13, 5),
    ),
    "watsonx": (
        {"model_id": "m", "results": [{"generated_text": "x", "generated_token_count": 3, "input_token_count": 8}]},
        Usage(8, 3),
    ),
    "DashScope text": (
        {"output": {"text": "x"}, "usage": {"input_tokens": 25, "output_tokens": 9, "total_tokens": 34}},
        Usage(25, 9),
    ),
    "DashScope images in the prompt": (
        {
            "output": {"choices": []},
            "usage": {
                "input_tokens": 1277,
                "image_tokens": 1247,
                "input_tokens_details": {"image_tokens": 1247, "text_tokens": 30},
                "output_tokens": 20,
                "total_tokens": 1297,
            },
        },
        Usage(1277, 20, image_input_tokens=1247),
    ),
    "DashScope images without details": (
        {"output": {}, "usage": {"input_tokens": 1277, "image_tokens": 1247, "output_tokens": 20}},
        Usage(1277, 20, image_input_tokens=1247),
    ),
    "DashScope embeddings": ({"output": {"embeddings": []}, "usage": {"total_tokens": 27}}, Usage(27)),
    "DashScope rerank": ({"output": {"results": []}, "usage": {"total_tokens": 79}}, Usage(79)),
    "DashScope images": ({"output": {"results": [{"url": "u"}]}, "usage": {"image_count": 2}}, Usage(output_images=2)),
    "DashScope speech": ({"output": {"audio": {}}, "usage": {"characters": 15}}, Usage(input_characters=15)),
    "DashScope transcription": ({"output": {}, "usage": {"duration": 9}}, Usage(audio_input_seconds=9)),
    "DashScope video": (
        {"output": {"video_url": "u"}, "usage": {"video_duration": 5, "video_count": 1}},
        Usage(video_output_seconds=5),
    ),
    "Seedream": (
        {"data": [{"url": "u"}], "usage": {"generated_images": 1, "output_tokens": 16384, "total_tokens": 16384}},
        Usage(output_images=1),
    ),
    "Seedance": (
        {"content": {"video_url": "u"}, "usage": {"completion_tokens": 246_840, "total_tokens": 246_840}},
        Usage(0, 246_840),
    ),
    "images whose tokens litellm states as zero": (
        {
            "data": [{"url": "u"}, {"url": "v"}],
            "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_tokens_details": {}},
        },
        Usage(output_images=2),
    ),
    "Mistral OCR": (
        {"pages": [{"index": 0}], "usage_info": {"pages_processed": 29, "doc_size_bytes": 3_002_783}},
        Usage(pages=29),
    ),
    "SGLang": (
        {
            "text": "x",
            "meta_info": {
                "finish_reason": {"type": "stop", "matched": 2},
                "prompt_tokens": 5,
                "completion_tokens": 8,
                "cached_tokens": 3,
                "e2e_latency": 0.2,
                "output_token_logprobs": [[-0.5, 9, None]],
            },
        },
        Usage(5, 8, 3),
    ),
    "llama.cpp": (
        {"content": "x", "tokens_evaluated": 9, "tokens_predicted": 12, "tokens_cached": 20, "stop": True},
        Usage(9, 12),
    ),
    "LM Studio": (
        {
            "output": [{"type": "message"}],
            "stats": {"input_tokens": 646, "total_output_tokens": 586, "reasoning_output_tokens": 12},
        },
        Usage(646, 586, reasoning_tokens=12),
    ),
    "Text Generation Inference": (
        {"generated_text": "x", "details": {"generated_tokens": 20, "prefill": [{"id": 1}, {"id": 2}], "tokens": []}},
        Usage(2, 20),
    ),
    "Replicate by token": (
        {"output": ["x"], "metrics": {"predict_time": 4.5, "input_token_count": 10, "output_token_count": 100}},
        Usage(10, 100),
    ),
    "Replicate by second": (
        {"output": "u", "metrics": {"predict_time": 4.5}},
        Usage(compute_seconds=Decimal("4.5")),
    ),
    "watsonx embeddings": ({"results": [{"embedding": [0.5]}], "input_token_count": 10}, Usage(10)),
    "MiniMax speech": (
        {"data": {"audio": "x"}, "extra_info": {"usage_characters": 26, "audio_length": 9900}},
        Usage(input_characters=26),
    ),
    "MiniMax embeddings": ({"vectors": [[0.5]], "total_tokens": 10}, Usage(10)),
    "Jina's Reader": ({"data": {"content": "x", "usage": {"tokens": 1234}}}, Usage(1234)),
    "Cloudflare": ({"result": {"response": "x", "usage": CHAT}, "success": True, "errors": []}, Usage(9, 1)),
    "Deepgram": (
        {"metadata": {"duration": 25.933313, "channels": 2}, "results": {"channels": []}},
        Usage(audio_input_seconds=Decimal("51.867")),
    ),
    "AssemblyAI": ({"status": "completed", "text": "x", "audio_duration": 281}, Usage(audio_input_seconds=281)),
    "a video of OpenAI": (
        {"object": "video", "status": "completed", "seconds": "8", "size": "1280x720"},
        Usage(video_output_seconds=8),
    ),
    "quantities": (
        {"output_images": 2, "audio_input_seconds": 1.5},
        Usage(output_images=2, audio_input_seconds=Decimal("1.5")),
    ),
}
"""Name -> a body, and its usage."""
BATCH_LINES: dict[str, tuple[Json, Usage]] = {
    "OpenAI": (
        {"custom_id": "1", "response": {"status_code": 200, "body": {"service_tier": "default", "usage": CHAT}}},
        Usage(9, 1, service_tier="batch"),
    ),
    "Anthropic": (
        {"custom_id": "1", "result": {"type": "succeeded", "message": {"model": "c", "usage": CLAUDE}}},
        Usage(20, 4, service_tier="batch", model="c"),
    ),
    "Gemini": (
        {"key": "1", "response": {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}},
        Usage(3, 2, service_tier="batch"),
    ),
    "Bedrock": (
        {"recordId": "1", "modelInput": {}, "modelOutput": {"usage": CLAUDE}},
        Usage(20, 4, service_tier="batch"),
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_an_endpoint_is_read(name: str) -> None:
    """Each endpoint's own way to state its quantities is read, and its billable part gives the same usage."""
    body, expected = BODIES[name]
    usage = Usage.from_response(body)
    assert usage.meters == expected.meters
    assert (usage.service_tier, usage.reasoning_tokens) == (expected.service_tier, expected.reasoning_tokens)
    assert usage.unaccounted == ()
    reduced = billable_body(body)
    assert Usage.from_response(reduced) == usage
    assert billable_body(reduced) == reduced


@pytest.mark.parametrize("name", BODIES)
def test_a_number_added_to_any_usage_object_is_never_dropped(name: str) -> None:
    """A number under an unknown key of any object inside a usage object is listed, and changes nothing else."""
    body, _ = BODIES[name]
    before = Usage.from_response(body)
    for path in list(_objects_of_usage(body)):
        changed = copy.deepcopy(body)
        target: Any = changed
        for key in path:
            target = target[key]
        target["magic_quantity"] = 77
        usage = Usage.from_response(changed)
        assert [value for place, value in usage.unaccounted if place.endswith("magic_quantity")] == [77]
        assert usage.meters == before.meters


def _objects_of_usage(body: Json) -> Any:
    for key in ("usage", "usageMetadata", "amazon-bedrock-invocationMetrics", "usage_info", "stats", "metrics"):
        if isinstance(body.get(key), dict):
            yield from _objects((key,), body[key])
    if isinstance(body.get("meta"), dict):
        yield from _objects(("meta", "billed_units"), body["meta"]["billed_units"])


def _objects(path: tuple[Any, ...], value: Any) -> Any:
    if isinstance(value, dict):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _objects((*path, key), item)


@pytest.mark.parametrize("provider", BATCH_LINES)
def test_a_line_of_batch_results_is_its_answer_in_the_batch_tier(provider: str) -> None:
    """A line of batch results is read as the answer inside it, served as tier ``batch``, whatever the answer says."""
    line, expected = BATCH_LINES[provider]
    assert Usage.from_response(line) == expected
    reduced = billable_body(line)
    assert Usage.from_response(reduced) == expected
    assert billable_body(reduced) == reduced


@pytest.mark.parametrize(
    "line",
    [
        {"custom_id": "1", "response": {"status_code": 500, "body": {"error": {"message": "x"}}}, "error": None},
        {"custom_id": "1", "response": None, "error": {"code": "batch_expired"}},
        {"custom_id": "1", "result": {"type": "errored", "error": {"type": "invalid_request"}}},
        {"custom_id": "1", "result": {"type": "expired"}},
    ],
)
def test_a_failed_line_of_batch_results_owes_nothing(line: Json) -> None:
    """A request that failed in its batch is an error that says so, not a usage of zero."""
    with pytest.raises(BillingError, match="nothing to bill"):
        Usage.from_response(line)


def test_a_number_of_the_vendor_is_listed_or_warned_of() -> None:
    """A cost beside images is listed, and a number without a price is a warning."""
    usage = Usage.from_response({"data": [{"url": "u"}], "usage": {"cost_in_usd_ticks": 700_000}})
    assert (usage.meters, usage.unaccounted) == ({"output_images": 1}, (("usage.cost_in_usd_ticks", 700_000),))
    usage = Usage.from_response(BODIES["Mistral OCR"][0])
    assert usage.warnings == ("doc_size_bytes 3002783 has no price beside the other quantities",)
    usage = Usage.from_response({"usage": {"input_tokens": 9, "output_tokens": 1, "image_tokens": 12}})
    assert usage.unaccounted == (("usage.image_tokens", 12),)


@pytest.mark.parametrize(
    "body",
    [
        {"details": {"generated_tokens": 20}},
        {"metrics": {"output_token_count": 20}},
        {"usage": {"completion_tokens": 20}},
        {"usage": {"completion_tokens": 20, "total_tokens": 21}},
    ],
)
def test_output_without_its_input_is_rejected(body: Json) -> None:
    """A count of output without the input is no usage: its input would be free."""
    with pytest.raises(BillingError):
        Usage.from_response(body)


def test_a_prompt_that_ollama_leaves_out_is_a_warning() -> None:
    """Ollama states no tokens of a prompt that it has cached."""
    usage = Usage.from_response({"response": "x", "done": True, "eval_count": 298})
    assert usage.meters == {"output": 298}
    assert usage.warnings == ("usage has no prompt_eval_count: the prompt was cached, and its tokens are not stated",)


@pytest.mark.parametrize("kind", [[], {}, 7, True], ids=repr)
def test_a_type_that_is_not_a_name_is_no_type(kind: Any) -> None:
    """A response whose ``type`` is no text is read as one without it, and raises nothing but a BillingError."""
    body = {"type": kind, "usage": {"input_tokens": 9, "output_tokens": 1, "seats": 2}}
    assert Usage.from_response(body).meters == {"input": 9, "output": 1}


def test_numbers_that_were_parsed_as_decimals_are_the_same() -> None:
    """A caller may parse JSON numbers as decimal numbers: usage, warnings and record are those of the floats."""
    text = (
        '{"usage": {"prompt_tokens": 9, "completion_tokens": 1, "queue_time": 0.25, "cost": {"request_cost": 0.005}}}'
    )
    of_floats, of_decimals = json.loads(text), json.loads(text, parse_float=Decimal)
    usage = Usage.from_response(of_decimals)
    assert usage == Usage.from_response(of_floats)
    assert usage.unaccounted == (("usage.cost.request_cost", Decimal("0.005")),)
    assert billable_body(of_decimals) == billable_body(of_floats)
    assert json.loads(json.dumps(billable_body(of_decimals))) == of_floats
    assert Usage.from_response({"usage": {**of_floats["usage"], "rate": Decimal("NaN")}}).warnings


def test_a_total_alone_is_input_only_if_nothing_was_generated() -> None:
    """A total without parts is read for embeddings, rerank and caches; of a chat it is an unknown format."""
    assert Usage.from_response({"usageMetadata": {"totalTokenCount": 5770}}) == Usage(5770)
    for body in (
        {"usage": {"total_tokens": 8}},
        {"object": "chat.completion", "data": [], "usage": {"total_tokens": 8}},
        {"usageMetadata": {"totalTokenCount": 8}, "candidates": [{}]},
    ):
        with pytest.raises(BillingError):
            Usage.from_response(body)


@pytest.mark.parametrize(
    "counts",
    [{}, {"prompt_tokens": 9, "completion_tokens": 1}, CLAUDE, {"promptTokenCount": 3}, {"pages": 2}],
    ids=["alone", "OpenAI", "Anthropic", "Gemini", "pages"],
)
def test_a_usage_object_of_any_format_may_have_quantities_of_the_price_file(counts: Json) -> None:
    """Quantities of meters that a price file declares stand beside the counts of any format."""
    before = Usage.from_response({"usage": counts}).meters if counts else {}
    usage = {**counts, "quantities": {"robot_minutes": 2.5}}
    key = "usageMetadata" if "promptTokenCount" in counts else "usage"
    for body in (usage, {key: usage}, billable_body({key: usage})):
        read = Usage.from_response(body)
        assert read.meters == {**before, "robot_minutes": Decimal("2.5")}
        assert read.unaccounted == ()
    with pytest.raises(BillingError, match="quantities is 5"):
        Usage.from_response({"usage": {**counts, "quantities": 5}})
