"""Streams of the field that were read wrongly, by their number in the list of cases, each with its right value."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from body_builders import counted
from brivionix_billing import Usage
from brivionix_billing.streams import StreamUsage
from paths import SHARED_DATA
from samples import NOW, book_of, model
from streams_kit import Bytes, Never, chat_chunk, fed, sse
from token_kit import load_benchmark

Json = dict[str, Any]
RECORDED = SHARED_DATA / "provider_streams.jsonl"

BOOK = book_of(
    model("{from: 2026-01-01, standard: {input: 0.15, cache_read: 0.075, output: 0.6}}", "mini")
    + model("{from: 2026-01-01, standard: {input: 3, cache_read: 0.3, output: 15}}", "sonnet")
    + model("{from: 2026-01-01, standard: {input: 5, output: 30}}", "large")
)


def chunk(text: str | None, finish: str | None = None, **more: Any) -> Json:
    """Return a chunk of a chat with one choice."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def chat_usage(prompt: int, completion: int, **more: Any) -> Json:
    """Return the usage object of a chat."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"usage": {**counts, **more}}


def messages(start: Json, end: Json) -> list[Json]:
    """Return the events of Anthropic, with the usage at their start and end."""
    return [
        {"type": "message_start", "message": {"type": "message", "content": [], "usage": start}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end},
        {"type": "message_stop"},
    ]


NO_CHOICES = {"object": "chat.completion.chunk", "choices": []}
CACHED_USAGE = {"cache_read_input_tokens": 4000, "cache_creation_input_tokens": 0}

PRICED: dict[str, tuple[str, list[Json], str]] = {
    "R01: a zero of message_delta takes no input away": (
        "sonnet",
        messages({"input_tokens": 1500, **CACHED_USAGE, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 200}),
        "0.0087",
    ),
    "R03: an all-zero usage chunk at the end takes nothing away": (
        "mini",
        [chunk("Hi"), chunk(None, "stop", **chat_usage(39_320, 26)), {**NO_CHOICES, **chat_usage(0, 0)}],
        "0.0059136",
    ),
    "R04: input and output in two chunks are combined": (
        "mini",
        [chunk("Hi", **chat_usage(100, 0)), chunk(None, "stop", **chat_usage(0, 26))],
        "0.0000306",
    ),
    "R40: an incomplete response is billed": (
        "large",
        [
            {"type": "response.created", "response": {"model": "gpt-5.5", "usage": None}},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "Hello"},
            {
                "type": "response.incomplete",
                "response": {
                    "status": "incomplete",
                    "service_tier": "default",
                    "usage": {
                        "input_tokens": 37,
                        "output_tokens": 1024,
                        "output_tokens_details": {"reasoning_tokens": 1000},
                        "total_tokens": 1061,
                    },
                },
            },
        ],
        "0.030905",
    ),
    "R41: zeros before the counts are no counts": (
        "mini",
        [
            chunk("Hi", **chat_usage(0, 0)),
            chunk(None, "stop"),
            {**NO_CHOICES, **chat_usage(39_320, 26, prompt_tokens_details={"cached_tokens": 33_280})},
        ],
        "0.0034176",
    ),
    "R42: cumulative counts are not summed": (
        "mini",
        [chunk("H", **chat_usage(64, 1)), chunk("i", "stop", **chat_usage(64, 20))],
        "0.0000216",
    ),
    "R43: the input may come at the end only": (
        "sonnet",
        messages({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 11, "output_tokens": 5}),
        "0.000108",
    ),
    "R44: a filter result of Azure after the usage changes nothing": (
        "mini",
        [
            chunk("Hi"),
            chunk(None, "stop"),
            {**NO_CHOICES, **chat_usage(10, 2)},
            {"object": "", "model": "", "choices": [{"index": 0, "content_filter_results": {}}], "usage": None},
        ],
        "0.0000027",
    ),
    "R45: MiniMax repeats the whole answer at the end": (
        "mini",
        [
            chunk("Hi there"),
            {
                "object": "chat.completion",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi there"}}],
                **chat_usage(10, 2, total_characters=0),
            },
        ],
        "0.0000027",
    ),
}
"""What the stream does -> a model, the events, and the right charge in Credits."""


@pytest.mark.parametrize("name", PRICED)
def test_case_34_counts_never_decrease(name: str) -> None:
    """A stream that repeats, splits or takes back its counts costs what the provider used."""
    model_name, events, expected = PRICED[name]
    result = fed(*events, counter=Never()).result()
    assert result.state == "reported"
    assert BOOK.rate(result.usage, model=model_name, group="g", at=NOW, service_tier="standard").credits == Decimal(
        expected
    )


TRANSCRIPT = {
    "type": "transcript.text.done",
    "text": "Ruby is",
    "usage": {
        "type": "tokens",
        "total_tokens": 49,
        "input_tokens": 37,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 37},
        "output_tokens": 12,
    },
}
COHERE = [
    {"type": "message-start", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello"}}}},
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "COMPLETE",
            "usage": {
                "billed_units": {"input_tokens": 4593, "output_tokens": 300},
                "tokens": {"input_tokens": 6058, "output_tokens": 306},
            },
        },
    },
]
INTERACTION: list[Json] = [
    {"event_type": "interaction.created", "interaction": {"status": "in_progress", "model": "gemini-3"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Hello"}},
    {
        "event_type": "interaction.completed",
        "interaction": {
            "status": "completed",
            "usage": {
                "total_tokens": 30,
                "total_input_tokens": 7,
                "total_output_tokens": 3,
                "total_thought_tokens": 20,
            },
        },
    },
]
OLLAMA = [
    {"model": "llama3", "message": {"role": "assistant", "content": "Hi"}, "done": False},
    {"model": "llama3", "message": {"content": ""}, "done": True, "prompt_eval_count": 9, "eval_count": 2},
]
LLAMA = [
    {"generation": "Hi", "prompt_token_count": 9, "generation_token_count": 1, "stop_reason": None},
    {
        "generation": "",
        "prompt_token_count": None,
        "generation_token_count": 2,
        "stop_reason": "stop",
        "amazon-bedrock-invocationMetrics": {"inputTokenCount": 9, "outputTokenCount": 2, "invocationLatency": 300},
    },
]
IMAGE = {
    "type": "image_generation.completed",
    "b64_json": "AAAA",
    "usage": {
        "input_tokens": 50,
        "output_tokens": 4160,
        "total_tokens": 4210,
        "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
    },
}

FORMATS: dict[str, tuple[list[Any], Usage]] = {
    "R05: Cohere": (COHERE, Usage(4593, 300)),
    "R06: transcription": (
        [{"type": "transcript.text.delta", "delta": "Ruby"}, TRANSCRIPT],
        Usage(37, 12, audio_input_tokens=37),
    ),
    "Gemini Interactions": (INTERACTION, Usage(7, 23, reasoning_tokens=20, model="gemini-3")),
    "Ollama": (OLLAMA, Usage(9, 2, model="llama3")),
    "Bedrock InvokeModel": (LLAMA, Usage(9, 2)),
    "Interactions that complete": (
        [*INTERACTION[:2], {**INTERACTION[2], "event_type": "interaction.complete"}],
        Usage(7, 23, reasoning_tokens=20, model="gemini-3"),
    ),
    "DashScope": (
        [
            {"output": {"text": "H", "finish_reason": "null"}, "usage": {"input_tokens": 9, "output_tokens": 1}},
            {"output": {"text": "Hi", "finish_reason": "stop"}, "usage": {"input_tokens": 9, "output_tokens": 3}},
        ],
        Usage(9, 3),
    ),
    "SGLang": (
        [
            {"text": "H", "meta_info": {"finish_reason": None, "prompt_tokens": 9, "completion_tokens": 1}},
            {
                "text": "Hi",
                "meta_info": {"finish_reason": {"type": "stop"}, "prompt_tokens": 9, "completion_tokens": 3},
            },
        ],
        Usage(9, 3),
    ),
    "llama.cpp": (
        [
            {"content": "Hi", "stop": False, "tokens_evaluated": 9, "tokens_predicted": 1},
            {"content": "", "stop": True, "tokens_evaluated": 9, "tokens_predicted": 3},
        ],
        Usage(9, 3),
    ),
    "Text Generation Inference": (
        [
            {"token": {"id": 1, "text": "Hi"}, "generated_text": None, "details": None},
            {
                "token": {"id": 2, "text": "!"},
                "generated_text": "Hi!",
                "details": {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 9},
            },
        ],
        Usage(9, 3),
    ),
    "LM Studio": (
        [
            {"type": "message.delta", "content": "Hi"},
            {"type": "chat.end", "result": {"stats": {"input_tokens": 9, "total_output_tokens": 3}}},
        ],
        Usage(9, 3),
    ),
    "an image": ([IMAGE], Usage(50, 4160, image_output_tokens=4160)),
}
"""A format that was once taken for no answer -> its events, and the usage."""


@pytest.mark.parametrize("framing", ["objects", "server-sent events", "lines", "a list"])
@pytest.mark.parametrize("name", FORMATS)
def test_case_33_and_56_every_format_is_read_in_every_framing(name: str, framing: str) -> None:
    """The bytes decide the framing, and the events the format. No content type is asked for."""
    events, expected = FORMATS[name]
    pieces: list[Any] = {
        "objects": events,
        "server-sent events": [sse(*events)],
        "lines": ["".join(f"{json.dumps(event)}\n" for event in events)],
        "a list": [json.dumps(events)],
    }[framing]
    result = fed(*pieces, counter=Never()).result()
    assert (result.state, counted(result.usage), result.usage.unaccounted) == ("reported", expected, ())


def test_case_33_frames_of_bedrock_in_base64_are_read() -> None:
    """A caller that decodes the binary frames itself has the event in Base64."""
    pieces = [{"bytes": b64encode(json.dumps(event).encode()).decode(), "p": "abc"} for event in LLAMA]
    assert counted(fed(*pieces, counter=Never()).result().usage) == Usage(9, 2)


def realtime(name: str, input_tokens: int, output_tokens: int, *items: str) -> Json:
    """Return the last event of a response of a Realtime session."""
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}
    output = [{"type": kind} for kind in items]
    return {"type": "response.done", "response": {"id": name, "output": output, "usage": usage}}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [realtime("r1", 20, 10, "file_search_call"), realtime("r2", 40, 5), realtime("r2", 40, 5)],
            Usage(60, 15, file_search_calls=1),
        ),
        (
            [
                *messages({"input_tokens": 10, "output_tokens": 1}, {"output_tokens": 5}),
                *messages({"input_tokens": 30, "output_tokens": 1}, {"output_tokens": 7}),
            ],
            Usage(40, 12),
        ),
    ],
    ids=["Realtime", "Anthropic"],
)
def test_responses_that_share_a_stream_are_added(events: list[Json], expected: Usage) -> None:
    """Several responses in one stream are not one: their counts are added, and a warning says so."""
    result = fed(*events, counter=Never()).result()
    assert (result.state, result.usage) == ("reported", expected)
    assert "the stream has several responses; their counts are added" in result.warnings[0]


def test_case_33_single_line_ends_are_read() -> None:
    """Events that end with one line end in place of two are events (R08)."""
    events = sse(chunk("Hi", "stop"), {**NO_CHOICES, **chat_usage(5, 1)}, "[DONE]").replace("\n\n", "\n")
    assert fed(events, counter=Never()).result().usage == Usage(5, 1, model="m")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"object": "chat.completion", "model": "m", "choices": [], **chat_usage(5, 1)}, Usage(5, 1, model="m")),
        ({"type": "message", "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}}, Usage(5, 1)),
        ({"candidates": [], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1}}, Usage(5, 1)),
        ({"text": "Hi", "usage": {"type": "duration", "seconds": 11}}, Usage(audio_input_seconds=11)),
    ],
    ids=["chat", "Anthropic", "Gemini", "transcription"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_case_56_a_whole_response_in_place_of_a_stream_is_read(body: Json, expected: Usage, indent: int | None) -> None:
    """A JSON response to a request for a stream is read, on one line or on many."""
    result = fed(json.dumps(body, indent=indent), counter=Never()).result()
    assert (result.state, result.usage) == ("reported", expected)


@pytest.mark.parametrize(
    "data",
    [b"\x00\x00\x00\x8f\x00\x00\x00\x55binary frames", b"<html>answer</html>", b'data: {"foo": {"bar": "baz"}}\n\n'],
    ids=["binary frames", "HTML", "unknown events"],
)
def test_case_33_bytes_that_are_not_understood_are_owed_for(data: bytes) -> None:
    """Bytes of which nothing is understood are never "nothing to bill": one output token per four bytes."""
    result = fed(data).result()
    assert (result.state, result.answered) == ("unreadable", True)
    assert 0 < len(data) / 8 < result.usage.output_tokens <= len(data)


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        (chat_usage(9, 0), "no output tokens"),
        (chat_usage(0, 3), "no input tokens"),
        (chat_usage(0, 0), "no input and no output tokens"),
        ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, "no output tokens"),
    ],
    ids=["output 0", "input 0", "both 0", "output missing"],
)
def test_case_35_zeros_that_contradict_the_text_are_not_believed(usage: Json, reason: str) -> None:
    """A count of zero, or no count, although text arrived is replaced by a marked estimate that states why."""
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    result = fed(chunk("abc", "stop"), {**NO_CHOICES, **usage}, request=request, counter=Bytes()).result()
    stated = usage["usage"]
    assert result.state == "estimated"
    assert result.usage.output_tokens == max(stated.get("completion_tokens", 0), 3)
    assert result.usage.input_tokens == (stated["prompt_tokens"] or 1001)
    assert f"the provider reported {reason}, although text arrived" in (result.reason or "")


def test_case_41_more_output_than_the_request_allowed_is_a_warning() -> None:
    """500 000 output tokens where 1000 were allowed are reported with both numbers."""
    request = {"model": "m", "messages": [], "max_tokens": 1000}
    result = fed(chunk("abc", "stop"), {**NO_CHOICES, **chat_usage(9, 500_000)}, request=request).result()
    assert result.usage.output_tokens == 500_000
    assert result.warnings == ("the provider reports 500000 output tokens; the request allowed 1000",)


def test_an_error_after_text_is_an_estimate_with_the_error() -> None:
    """A provider that fails after a part of the answer leads to an estimate that names the error (R46)."""
    request = {"model": "m", "messages": [{"role": "user", "content": "hello world"}]}
    error = {"error": {"message": "Provider overloaded", "code": 502}}
    result = fed(chunk("Hi there, this is"), error, request=request, counter=Bytes()).result()
    assert (result.state, result.usage.output_tokens) == ("estimated", len("Hi there, this is"))
    assert "Provider overloaded" in (result.reason or "")


LIVE = {
    "serverContent": {},
    "usageMetadata": {
        "promptTokenCount": 50,
        "responseTokenCount": 40,
        "totalTokenCount": 90,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 535}, {"modality": "AUDIO", "tokenCount": 50}],
    },
}


def test_stated_counts_of_a_contradictory_usage_are_the_least_of_an_estimate() -> None:
    """Gemini's Live API states details above their whole: the estimate is no less than the counts, never nothing."""
    result = fed(LIVE, counter=Never()).result()
    assert (result.state, result.usage) == ("estimated", Usage(50, 40, estimated=True))
    assert "the input was raised to the tokens that the stream stated" in (result.reason or "")
    assert "promptTokensDetails" in result.warnings[-1]


def test_stated_quantities_of_which_none_can_be_read_are_unreadable() -> None:
    """A stated usage without any count that can be read is never an estimate of nothing."""
    result = fed(chat_chunk("", usage={"prompt_units": 900})).result()
    assert (result.state, result.answered, result.usage.total_tokens) == ("unreadable", True, 0)


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded streams are not next to the repository")
def test_no_recorded_stream_that_states_quantities_is_free() -> None:
    """Of 1189 recorded streams, 1064 state quantities, as a scan without any format sees it. None of them is free."""
    tally = load_benchmark("recorded_answers").read_streams(RECORDED)
    columns: Counter[str] = sum(tally.counts.values(), Counter())
    assert (columns["streams"], columns["stated"], columns["free by mistake"]) == (1189, 1064, 0)


def test_an_estimate_keeps_the_keys_of_its_format() -> None:
    """A cut stream whose text adds nothing to the reported counts keeps them, without keys of another format."""
    stream = StreamUsage()
    stream.feed({"type": "transcript.text.delta", "delta": "Ruby", "usage": TRANSCRIPT["usage"]})
    result = stream.result()
    assert result.body["usage"] == {**TRANSCRIPT["usage"], "estimated": True}  # type: ignore[dict-item]
    assert (result.usage.meters, result.usage.unaccounted) == ({"output": 12, "audio_input": 37}, ())


@pytest.mark.parametrize("cut", [1, 40, 90, 120])
def test_a_response_that_is_cut_within_its_json_is_unreadable(cut: int) -> None:
    """A whole response in place of a stream, of which a part arrived, may be billed: it is never nothing."""
    body = b'{"model": "m", "choices": [{"message": {"content": "Hello there"}}], "usage": {"prompt_tokens": 5, "co'
    stream = StreamUsage()
    stream.feed(body[:cut])
    result = stream.result()
    assert (result.state, result.answered) == ("unreadable", True)
    assert result.usage.output_tokens == -(-min(cut, len(body)) // 4)
