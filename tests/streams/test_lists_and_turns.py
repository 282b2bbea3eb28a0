"""JSON lists that are read object by object, turns of Gemini's Live API, and answers that are nothing but an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import Usage
from brivionix_billing.streams import StreamUsage
from brivionix_billing.streams.json_list import JsonList

Json = dict[str, Any]


def counts(prompt: int, output: int, key: str = "candidatesTokenCount") -> Json:
    return {"promptTokenCount": prompt, key: output, "totalTokenCount": prompt + output}


def chunk(text: str, output: int, **more: Any) -> Json:
    candidate = {"index": 0, "content": {"parts": [{"text": text}]}, **more}
    return {"candidates": [candidate], "usageMetadata": counts(10, output)}


CHUNKS = [chunk('a "quoted" \\ {[', 2), chunk("\u00e9]}", 3, finishReason="STOP")]


@given(
    st.lists(st.recursive(st.text(max_size=4), lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=2))),
    st.integers(1, 9),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_objects_of_a_list_are_found_however_it_is_cut(
    values: list[Any], step: int, indent: int | None, is_ascii: bool
) -> None:
    """The objects of a list arrive in order and unchanged, with any cuts, white space and texts."""
    objects = [{"v": value} for value in values]
    data = json.dumps(objects, indent=indent, ensure_ascii=is_ascii).encode()
    reader = JsonList(10_000)
    found = [each for start in range(0, len(data), step) for each in reader.feed(data[start : start + step])]
    assert [json.loads(each) for each in found] == objects
    assert (reader.foreign, reader.unfinished_bytes, reader.is_one_value) == (0, 0, len(objects) == 1)


@settings(max_examples=20)
@given(st.data())
def test_a_list_that_is_cut_keeps_what_arrived_before(data: st.DataObject) -> None:
    """A list of chunks that ends early has the input of its whole chunks, and is never free."""
    whole = json.dumps(CHUNKS, indent=data.draw(st.sampled_from([None, 2]))).encode()
    size = data.draw(st.integers(2, len(whole) - 3))
    stream = StreamUsage({"contents": []})
    stream.feed(whole[:size])
    result = stream.result()
    assert (result.state, result.answered) in {("estimated", True), ("unreadable", True)}
    assert result.state == "unreadable" or (result.usage.input_tokens == 10 and result.usage.output_tokens >= 2)


def test_a_list_is_read_while_it_arrives() -> None:
    """The usage of a list is final before its last bracket."""
    stream = StreamUsage()
    stream.feed(" \n" + json.dumps(CHUNKS)[:-1])
    assert stream.done
    assert stream.result().usage == Usage(10, 3)


def test_only_an_oversize_object_of_a_list_is_skipped() -> None:
    """The limit of an event is that of an object, not that of the whole list."""
    stream = StreamUsage(max_event_bytes=300)
    stream.feed(json.dumps([CHUNKS[0], chunk("x" * 300, 5), *CHUNKS[:1] * 9, CHUNKS[1]]))
    result = stream.result()
    assert (result.usage, result.warnings) == (Usage(10, 3), ("an event was too large and was skipped",))


def test_turns_of_the_live_api_are_added() -> None:
    """Each turn of Gemini's Live API ends with its usage; the next one adds to it."""
    stream = StreamUsage()
    for prompt, output in ((10, 5), (20, 6)):
        stream.feed(
            {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm", "data": ""}}]}}}
        )
        assert not stream.done
        stream.feed(
            {"serverContent": {"turnComplete": True}, "usageMetadata": counts(prompt, output, "responseTokenCount")}
        )
        assert stream.done
    assert stream.result().usage == Usage(30, 11)


ERRORS: list[Json] = [
    {"detail": "Not Found"},
    {"code": 1001, "msg": "no balance"},
    {"error_code": 110, "error_msg": "Access token invalid"},
    {"Response": {"Error": {"Code": "AuthFailure", "Message": "m"}}},
    {"base_resp": {"status_code": 1004, "status_msg": "auth"}, "choices": None},
    {"fault": {"faultstring": "Rate limit"}},
    {"errors": [{"message": "m"}]},
    {"success": False, "message": "m"},
]


@pytest.mark.parametrize("event", ERRORS, ids=lambda event: next(iter(event)))
def test_an_answer_that_is_an_error_is_not_billed(event: Json) -> None:
    """An object that shows a failure in place of a stream is an error of the provider, with nothing to bill."""
    stream = StreamUsage()
    stream.feed(json.dumps(event))
    assert (stream.result().answered, stream.failed) == (False, True)


@pytest.mark.parametrize("event", [{"message": "Hello"}, {"code": 0, "message": "ok"}, {"code": 5, "text": "Hello"}])
def test_an_answer_that_may_be_a_text_is_billed(event: Json) -> None:
    """Without a sign of a failure, or with a text, an unknown object is owed."""
    stream = StreamUsage()
    stream.feed(json.dumps(event))
    assert stream.result().answered


def test_a_response_that_failed_before_its_answer_is_not_billed() -> None:
    """The model and the tier of a failed response are no answer."""
    stream = StreamUsage({"model": "gpt-5", "input": "Hello"})
    response: Json = {"id": "r", "model": "gpt-5", "service_tier": "default", "output": [], "usage": None}
    stream.feed({"type": "response.created", "response": response})
    stream.feed({"type": "response.failed", "response": {**response, "error": {"message": "server error"}}})
    assert not stream.result().answered


@pytest.mark.parametrize(
    "events",
    [
        [
            {
                "object": "chat.completion",
                "is_end": True,
                "result": "Hi",
                "usage": {"prompt_tokens": 10, "completion_tokens": 5},
            }
        ],
        [
            {"event": "message", "answer": "Hi"},
            {"event": "message_end", "metadata": {"usage": {"prompt_tokens": 10, "completion_tokens": 5}}},
        ],
        [
            {"type": "text-delta", "delta": "Hi"},
            {"type": "finish", "messageMetadata": {"usage": {"inputTokens": 10, "outputTokens": 5}}},
        ],
        [
            {
                "responses": [{"chunk": {"content": "Hi"}, "finish_reason": "stop"}],
                "usage": {"input_tokens": 10, "output_tokens": 5},
            }
        ],
        [{"event": {"usageEvent": {"totalInputTokens": 10, "totalOutputTokens": 5}}}, {"event": {"completionEnd": {}}}],
    ],
    ids=["ERNIE", "Dify", "AI SDK", "Reka", "Nova Sonic"],
)
def test_the_end_of_other_streams_is_found(events: list[Json]) -> None:
    """The usage of these streams is final when they say that they end."""
    stream = StreamUsage()
    for event in events:
        stream.feed(event)
    assert (stream.result().state, stream.result().usage) == ("reported", Usage(10, 5))
