"""Streams of kinds that no recording of the project has: binary frames, streams cut early, numbers as texts, media."""

from __future__ import annotations

import base64
import json
from struct import pack
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import Usage
from brivionix_billing.streams import StreamUsage

Json = dict[str, Any]
CONVERSE: list[Json] = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"delta": {"text": "Hi"}, "contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"metadata": {"usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}, "metrics": {"latencyMs": 5}}},
]
CLAUDE: list[Json] = [
    {"type": "message_start", "message": {"model": "c", "usage": {"input_tokens": 10, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]


def frame(payload: bytes, **headers: str) -> bytes:
    """Return a binary frame with headers such as ``event_type``."""
    parts = [(f":{name.replace('_', '-')}".encode(), value.encode()) for name, value in headers.items()]
    block = b"".join(
        bytes([len(name)]) + name + b"\x07" + len(value).to_bytes(2, "big") + value for name, value in parts
    )
    prelude = pack(">II", 16 + len(block) + len(payload), len(block))
    message = prelude + pack(">I", crc32(prelude)) + block + payload
    return message + pack(">I", crc32(message))


def frames_of_converse() -> list[bytes]:
    """Return the frames of ConverseStream: the event is the payload, and a header names it."""
    return [frame(json.dumps(item).encode(), event_type=key) for event in CONVERSE for key, item in event.items()]


def frames_of_invoke_model() -> list[bytes]:
    """Return the frames of InvokeModelWithResponseStream: each payload has an event in Base64."""
    texts = [base64.b64encode(json.dumps(event).encode()).decode() for event in CLAUDE]
    return [frame(json.dumps({"bytes": text, "p": "abc"}).encode(), event_type="chunk") for text in texts]


def read(*pieces: Any) -> StreamUsage:
    """Return a stream that has read the pieces."""
    stream = StreamUsage()
    for piece in pieces:
        stream.feed(piece)
    return stream


@pytest.mark.parametrize("frames", [frames_of_converse(), frames_of_invoke_model()], ids=["converse", "invoke"])
def test_binary_frames_are_read_however_they_are_cut(frames: list[bytes]) -> None:
    """The bytes of Bedrock's streams have the usage of their events, also one byte at a time."""
    data = b"".join(frames)
    for pieces in ([data], [data[index : index + 1] for index in range(len(data))]):
        stream = read(*pieces)
        assert (stream.done, stream.result().state, stream.warnings) == (True, "reported", ())
        assert stream.result().usage.meters == {"input": 10, "output": 5}


def test_an_exception_in_a_frame_is_the_error_of_the_provider() -> None:
    """A frame that is an exception ends the stream with an error, and nothing was answered."""
    stream = read(frame(b'{"message": "slow"}', exception_type="throttlingException"))
    assert (stream.failed, stream.result().answered) == (True, False)


@given(st.data())
@settings(max_examples=30)
def test_damaged_frames_are_never_free(data: st.DataObject) -> None:
    """A byte that changed or is missing leaves a report, an estimate, or something unreadable, never nothing."""
    whole = b"".join(frames_of_converse())
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = data.draw(st.booleans())
    damaged = whole[:position] + (bytes([whole[position] ^ 1]) + whole[position + 1 :] if changed else b"")
    result = read(damaged).result()
    assert result.answered or not damaged
    if changed:
        assert result.state != "reported"


def test_a_frame_without_json_does_not_hide_the_next_one() -> None:
    """A frame with an unreadable payload is a warning, and the frames after it are read."""
    first, *others = frames_of_converse()
    stream = read(b"".join([first, frame(b"\xff{", event_type="x"), *others]))
    assert stream.result().usage.meters == {"input": 10, "output": 5}
    assert len(stream.warnings) == 1


@pytest.mark.parametrize(
    "start",
    [
        'data: {"choices": [{"index": 0, "delta": {"content": "Hel',
        'data: {"choices": [{"index": 0,\n',
        'event: message_start\ndata: {"type": "mess',
        'data: {"type": "ping"}data: {"usage": {"prompt_tokens": 9',
    ],
)
def test_a_stream_that_is_cut_in_its_first_event_is_unreadable(start: str) -> None:
    """The provider had begun to answer: what it owes is unknown, and not nothing."""
    for pieces in ([start], list(start)):
        result = read(*pieces).result()
        assert (result.answered, result.state) == (True, "unreadable")


@pytest.mark.parametrize(
    "nothing", ["", ": waiting\n\n", "data:", "data: \n\n", "event: ping\n\n", "retry: 9\n", "\n\n"]
)
def test_a_stream_without_data_is_nothing(nothing: str) -> None:
    """Comments, names and empty data are no answer."""
    assert not read(nothing).result().answered


@pytest.mark.parametrize(
    "event",
    [
        {"type": "image_generation.partial_image", "b64_json": "aGk=", "partial_image_index": 0},
        {"type": "speech.audio.delta", "audio": "aGk="},
    ],
)
def test_media_without_a_usage_are_unreadable(event: Json) -> None:
    """An image or speech without a usage cannot be estimated, and an estimate of no output would be free."""
    for request in (None, {"model": "gpt-image-1", "prompt": "a cat"}):
        stream = StreamUsage(request)
        stream.feed(event)
        assert stream.result().state == "unreadable"


@pytest.mark.parametrize("kind", [float, str])
def test_counts_of_other_json_types_do_not_decrease(kind: Any) -> None:
    """A later, smaller count does not replace a larger one, also if both are floats or texts."""
    stream = StreamUsage()
    for counts in ((10, 5), (10, 0)):
        usage = {"prompt_tokens": kind(counts[0]), "completion_tokens": kind(counts[1])}
        stream.feed({"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "usage": usage})
    assert stream.result().usage == Usage(10, 5)


@pytest.mark.parametrize(
    "events",
    [
        [
            {"response": {"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}},
            {
                "response": {
                    "candidates": [{"content": {"parts": []}, "finishReason": "STOP"}],
                    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
                }
            },
        ],
        [
            {"Choices": [{"Delta": {"Content": "Hi"}, "FinishReason": ""}], "Usage": {"PromptTokens": 10}},
            {
                "Choices": [{"Delta": {}, "FinishReason": "stop"}],
                "Usage": {"PromptTokens": 10, "CompletionTokens": 5, "TotalTokens": 15},
            },
        ],
        [
            {"type": "text-delta", "id": "0", "delta": "Hi"},
            {"type": "finish", "usage": {"inputTokens": {"total": 10}, "outputTokens": {"total": 5}}},
        ],
    ],
    ids=["Code Assist", "Hunyuan", "AI SDK"],
)
def test_wrapped_and_renamed_events_are_read(events: list[Json]) -> None:
    """Events that wrap or rename those of a known API have its usage."""
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    result = read(lines).result()
    assert (result.state, result.usage.meters) == ("reported", {"input": 10, "output": 5})


def test_the_units_of_a_guardrail_are_in_the_record() -> None:
    """ConverseStream states the units of a guardrail in its trace, and the record keeps them."""
    usages = {"guardrail": {"inputAssessment": {"g": {"invocationMetrics": {"usage": {"topicPolicyUnits": 2}}}}}}
    metadata = {"metadata": {**CONVERSE[-1]["metadata"], "trace": usages}}
    result = read(*CONVERSE[:-1], metadata).result()
    assert [number for _, number in result.usage.unaccounted] == [2]
    assert Usage.from_response(result.body) == result.usage
