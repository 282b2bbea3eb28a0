"""Complete streams: the usage is the provider's, for every API and format."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from brivionix_billing import BillingError, Usage
from brivionix_billing.streams import StreamUsage
from brivionix_billing.usage import billable_body
from brivionix_billing.usage.record_file import Record, read_records
from samples import AUTUMN, shipped
from streams_kit import FEW, MADE, SHARED, Never, Sample, chat_chunk, events_of, fed, same, sse


def every() -> list[Sample]:
    if not SHARED.exists():
        return []
    return [json.loads(line) for line in SHARED.read_text(encoding="utf-8").splitlines()]


def last(sample: Sample) -> dict[str, Any]:
    """Return the response with the last usage of a recorded stream."""
    event = events_of(sample["sse"])[-1]
    response: dict[str, Any] = event.get("response") or event
    return response


def outcome(body: Any) -> str:
    try:
        return repr(Usage.from_response(body))
    except BillingError as error:
        return f"{error.code}: {error.message}"


def check_states(sample: Sample) -> None:
    """Check that the result of a recorded stream is its last usage, and its body the billable part of that response."""
    stream = fed(sample["sse"].encode(), request=sample["request"], counter=Never())
    response, result = last(sample), stream.result()
    assert (stream.done, result.estimated, result.reason, stream.warnings) == (True, False, None, ())
    assert result.body["usage"] == response["usage"]
    assert result.body == billable_body(response)
    assert outcome(result.body) == outcome(response)
    assert result.usage == Usage.from_response(response)
    assert result.usage.total_tokens == response["usage"]["total_tokens"]
    assert len(json.dumps(result.body)) < 1500


# --- recorded streams ---


@pytest.mark.parametrize("sample", FEW, ids=lambda sample: sample["request"]["model"])
def test_a_recorded_stream_gives_its_reported_usage(sample: Sample) -> None:
    """Usage, tier, model and searches are those of the last event, and no counter is called."""
    check_states(sample)
    assert fed(sample["sse"]).result().usage.meters


@pytest.mark.skipif(not SHARED.exists(), reason="the 21 recorded streams lie beside the repository, not in it")
def test_all_recorded_streams_give_their_reported_usage() -> None:
    """All 21 recorded streams are reported; two ran a code interpreter, each in one container."""
    samples = every()
    for sample in samples:
        check_states(sample)
    usages = [fed(sample["sse"]).result().usage for sample in samples]
    assert sum(usage.meters.get("code_interpreter", 0) for usage in usages) == 2
    assert len(usages) == 21


def test_searches_and_the_served_tier_are_counted() -> None:
    """A file search in the output items is on its meter; a flex stream is billed as flex."""
    search, flex = (fed(FEW[number]["sse"]).result().usage for number in (2, 3))
    assert search.meters == {"input": 1177, "output": 37, "file_search": 1}
    assert (flex.service_tier, flex.meters, flex.reasoning_tokens) == ("flex", {"input": 53, "output": 469}, 448)
    charge = shipped().rate(flex, model="gpt-5.4-mini", group="default", at=AUTUMN, service_tier="priority")
    assert charge.service_tier == "flex"


def test_a_record_of_a_stream_is_billed_as_the_stream() -> None:
    """The body of the result is written into a usage file unchanged, and read from there as the same usage."""
    for sample in (*FEW, *MADE):
        for text in (sample["sse"], sample["sse"][: len(sample["sse"]) // 2]):
            result = fed(text, request=sample["request"]).result()
            line = {"request_id": "r", "at": "2026-10-20T00:00:00Z", "account": "a", "group": "g", "model": "m"}
            [record] = read_records([json.dumps({**line, "usage": result.body}).encode()])
            assert isinstance(record, Record)
            assert record.usage == result.usage


@pytest.mark.parametrize(
    ("pieces", "answered", "warned"),
    [
        ([], False, False),
        ([b'{"error": {"message": "rate limited"}}'], False, False),
        ([b"<html>502 Bad Gateway</html>"], True, True),
        ([b"\x1f\x8b\x08\x00" * 50], True, True),
        ([b'data: {"error": {"message": "overloaded"}}\n\n'], False, False),
        ([b": keep alive\n\n", b"data: [DONE]\n\n"], False, False),
        ([b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'], True, False),
        ([b'data: {"type": "response.created", "response": {"id": "r"}}\n\n'], True, False),
        (
            [
                b'data: {"type": "response.created", "response": {"id": "r"}}\n\n',
                b'data: {"type": "response.failed", "response": {"error": {"message": "no"}}}\n\n',
            ],
            False,
            False,
        ),
        (
            [
                b'data: {"type": "response.output_item.done", "item": {"type": "web_search_call", "id": "w", '
                b'"status": "completed", "action": {"type": "search", "query": "x"}}}\n\n',
                b'data: {"type": "error", "message": "overloaded"}\n\n',
            ],
            True,
            False,
        ),
        (
            [
                b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n',
                b'data: {"error": {"message": "overloaded"}}\n\n',
            ],
            False,
            False,
        ),
        ([b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'], True, False),
        ([b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}\n\n'], True, False),
    ],
)
def test_a_stream_without_an_answer_is_recognised(pieces: list[bytes], answered: bool, warned: bool) -> None:
    """A stream without an answer has nothing to bill; bytes of which none can be read are owed, and a warning."""
    result = fed(*pieces, request={"messages": [{"role": "user", "content": "Hello"}]}).result()
    assert result.answered is answered
    assert any("decompressed" in warning for warning in result.warnings) is warned
    assert (result.state == "unreadable") is warned


# --- chat ---


def test_usage_is_read_from_a_last_chunk_without_choices() -> None:
    """With ``include_usage``, ``usage: null`` of earlier chunks is ignored, and the last chunk counts."""
    stream = fed(chat_chunk("Hi", usage=None), chat_chunk(None, "stop", usage=None), counter=Never())
    assert not stream.done
    stream.feed({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}, "service_tier": "flex"})
    assert stream.done
    assert stream.result().usage == Usage(9, 1, service_tier="flex")


@pytest.mark.parametrize("choices", [{"choices": []}, {"choices": None}, {}])
def test_the_last_chunk_may_omit_choices(choices: dict[str, Any]) -> None:
    """Null choices, or none at all, with the usage are accepted (vLLM and others)."""
    end = {"object": "chat.completion.chunk", "usage": {"prompt_tokens": 9, "completion_tokens": 1}, **choices}
    assert fed(chat_chunk("Hi"), end, counter=Never()).result().usage == Usage(9, 1)
    assert fed(end, "data: [DONE]\n\n", counter=Never()).result().usage == Usage(9, 1)


def test_the_last_cumulative_usage_counts() -> None:
    """Cumulative usage in every chunk is not summed, and is final when the answer is."""
    stream = fed(counter=Never())
    for number, finish in ((1, None), (2, None), (3, "stop")):
        assert not stream.done
        stream.feed(chat_chunk("x", finish, usage={"prompt_tokens": 9, "completion_tokens": number}))
    assert stream.done
    assert stream.result().usage == Usage(9, 3)


@pytest.mark.parametrize(
    "end",
    [
        {"usage": {"prompt_tokens": 9, "completion_tokens": 3}},
        {"x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}},
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {},
                    "finish_reason": "stop",
                    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
                }
            ]
        },
    ],
    ids=["beside the last choice", "Groq", "Moonshot"],
)
def test_usage_may_be_in_other_positions(end: dict[str, Any]) -> None:
    """A usage next to the last choice, in ``x_groq``, or within the choice is read."""
    assert fed(chat_chunk("Hi"), chat_chunk(None, "stop") | end, counter=Never()).result().usage == Usage(9, 3)


def test_usage_is_not_final_if_the_answer_continues() -> None:
    """A usage in the middle is not final, even if the answer then ends."""
    stream = fed(chat_chunk("x", usage={"prompt_tokens": 9, "completion_tokens": 1}), chat_chunk("more", "stop"))
    assert not stream.done
    stream.feed(sse("[DONE]"))
    assert not stream.done
    stream.feed({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}})
    assert stream.done


def test_the_last_named_tier_stays() -> None:
    """The last tier is the served one; an empty name is ignored."""
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    stream = fed(chat_chunk("x", service_tier="default"), chat_chunk("", "stop", service_tier="flex"))
    stream.feed({"choices": [], "usage": usage, "service_tier": ""})
    assert stream.result().usage.service_tier == "flex"


def test_a_mark_of_the_provider_is_kept() -> None:
    """If the provider marks its usage as an estimate, the result is one too."""
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "estimated": True}
    stream = fed(chat_chunk("x", "stop", usage=usage), counter=Never())
    result = stream.result()
    assert (stream.done, result.estimated, result.usage) == (True, True, Usage(9, 1, estimated=True))
    assert result.reason == "the provider marks its usage as an estimate"


def test_an_error_does_not_hide_a_reported_usage() -> None:
    """A usage before an error is the result."""
    error = chat_chunk("", "error", error={"code": 502, "message": "upstream gone"})
    stream = fed(chat_chunk("x"), error, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
    assert (stream.result().usage, stream.result().reason) == (Usage(9, 1), None)
    assert "upstream gone" in stream.warnings[0]


def test_all_answers_must_be_complete() -> None:
    """With n answers, a cumulative usage is final when all of them are finished."""
    running = {"prompt_tokens": 9, "completion_tokens": 3}

    def choice(index: int, finish: str | None) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": finish}], "usage": running}

    stream = fed(choice(0, "stop"), request={"n": 2, "messages": []})
    assert not stream.done
    stream.feed(choice(1, None))
    assert not stream.done
    stream.feed(choice(1, "length"))
    assert stream.done
    # Without a request their number is unknown, so a later answer makes the usage not final.
    stream = fed(choice(0, "stop"))
    assert stream.done
    stream.feed(choice(1, None))
    assert not stream.done


def test_done_follows_from_the_end_marker() -> None:
    """A provider without finish reasons ends with ``[DONE]``."""
    stream = fed(sse(chat_chunk("x", usage={"prompt_tokens": 9, "completion_tokens": 3})))
    assert not stream.done
    stream.feed("data: [DONE]\n\n")
    assert stream.done


def test_text_completions_are_chat() -> None:
    """Text completions have ``text`` in their choices and the same usage."""
    stream = fed({"object": "text_completion", "choices": [{"index": 0, "text": "abc", "finish_reason": None}]})
    assert stream.result().usage.output_tokens == 3
    stream.feed(
        {"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    )
    assert stream.result().usage == Usage(1, 1)


# --- responses ---


def response_event(kind: str, usage: Any, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": {"model": "gpt-5.4-2026-03-05", "usage": usage, **more}}


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_every_terminal_response_counts(kind: str) -> None:
    """The usage of an incomplete or failed response is the result."""
    stream = fed(response_event("created", None), response_event(kind, {"input_tokens": 9, "output_tokens": 3}))
    assert stream.done
    assert stream.result().usage == Usage(9, 3, model="gpt-5.4-2026-03-05")


def test_searches_count_if_the_terminal_response_omits_them() -> None:
    """An empty output at the end does not make searches free."""
    item = {"type": "web_search_call", "id": "ws", "action": {"type": "search", "query": "q"}}
    page = {"type": "web_search_call", "id": "wp", "action": {"type": "open_page", "url": "u"}}
    seen = [{"type": "response.output_item.done", "output_index": i, "item": it} for i, it in enumerate((item, page))]
    usage = {"input_tokens": 9, "output_tokens": 3}
    for end, searches in (([], 1), ([item, page, item], 2)):
        stream = fed(*seen, response_event("completed", usage, output=end))
        assert stream.result().usage.meters["web_search"] == searches
        paid = [{"type": "web_search_call", "action": {"type": "search"}}] * searches
        assert stream.result().body == {"model": "gpt-5.4-2026-03-05", "output": paid, "usage": usage}
    assert fed(*seen).result().usage.meters["web_search"] == 1


def test_the_type_may_be_in_the_frame_only() -> None:
    """The type may be in the event's name only, as some proxies send it."""
    text = 'event: response.completed\ndata: {"response": {"usage": {"input_tokens": 9, "output_tokens": 3}}}\n\n'
    assert fed(text, counter=Never()).result().usage == Usage(9, 3)


def test_a_usage_before_the_end_is_not_final() -> None:
    """The usage of a running response is not final."""
    stream = fed(response_event("in_progress", {"input_tokens": 9, "output_tokens": 3}))
    assert not stream.done
    assert stream.result().usage == Usage(9, 3, model="gpt-5.4-2026-03-05", estimated=True)
    search = {"type": "web_search_call", "action": {"type": "search"}}
    stream.feed({"type": "response.output_item.done", "output_index": 0, "item": search})
    assert stream.result().usage.meters == {"input": 9, "output": 3, "web_search": 1}


# --- Anthropic, Gemini, Bedrock ---


def test_anthropic_starts_with_the_input_and_ends_with_the_output() -> None:
    """Input and cache counts of ``message_start`` and the output of ``message_delta`` are one usage."""
    stream = fed(MADE[0]["sse"], counter=Never())
    usage = stream.result().usage
    assert stream.done
    assert usage.meters == {"input": 31, "cache_read": 4096, "output": 21, "cache_write": 1024, "cache_write_1h": 1024}
    assert (usage.model, usage.service_tier) == ("claude-sonnet-4-5-20250929", "standard")


def test_anthropic_may_report_the_input_again() -> None:
    """Counts that ``message_delta`` repeats replace the earlier ones."""
    usage = fed(MADE[1]["sse"], counter=Never()).result().usage
    assert usage.meters == {"input": 9377, "output": 148, "web_search": 1}
    # A null does not replace a count.
    *head, delta, stop = events_of(MADE[0]["sse"])
    delta["usage"] |= {"input_tokens": None, "cache_read_input_tokens": None, "cache_creation": None}
    assert fed(*head, delta, stop).result().usage == fed(MADE[0]["sse"]).result().usage


def test_anthropic_is_done_after_output_and_end() -> None:
    """The stop reason with the output ends a message; an end or an output alone does not."""
    *head, delta, stop = events_of(MADE[0]["sse"])
    assert fed(*head, delta, counter=Never()).done
    assert not fed(*head, stop).done
    running = delta | {"delta": {"stop_reason": None}}
    stream = fed(*head, running)
    assert not stream.done
    stream.feed(stop)
    assert stream.done


def test_gemini_reports_cumulative_usage() -> None:
    """The last cumulative ``usageMetadata`` counts; thoughts are output."""
    usage = fed(MADE[2]["sse"], counter=Never()).result().usage
    assert (usage.meters, usage.reasoning_tokens) == ({"input": 9, "output": 81}, 71)
    assert usage.model == "gemini-2.5-flash"


def test_gemini_may_report_the_usage_in_a_separate_chunk() -> None:
    """The stream is done with the usage, not with an earlier finish reason."""
    head, tail = events_of(MADE[3]["sse"])[:-1], events_of(MADE[3]["sse"])[-1]
    stream = fed(*head)
    assert not stream.done
    stream.feed(tail)
    assert stream.done
    assert stream.result().usage.meters == {"input": 58, "output": 49}


def test_gemini_is_done_when_all_candidates_are() -> None:
    """A further candidate, or text after the last usage, makes the usage not final."""

    def chunk(index: int, finish: str | None, usage: bool = True) -> dict[str, Any]:
        candidate = {"index": index, "content": {"parts": [{"text": "x"}]}, "finishReason": finish}
        stated = {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}
        return {"candidates": [candidate]} | ({"usageMetadata": stated} if usage else {})

    assert fed(chunk(0, "STOP")).done
    assert not fed(chunk(0, "STOP"), request={"contents": [], "generationConfig": {"candidateCount": 2}}).done
    stream = fed(chunk(0, "STOP"), chunk(1, None))
    assert not stream.done
    stream.feed(chunk(1, "STOP", usage=False))
    assert not stream.done
    stream.feed(chunk(1, None))
    assert stream.done


def test_a_blocked_prompt_is_an_end() -> None:
    """A blocked prompt has no candidate, but a usage."""
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
    }
    stream = fed(blocked, counter=Never())
    assert stream.done
    assert stream.result().usage.meters == {"input": 9}


def test_bedrock_reports_usage_in_metadata() -> None:
    """Return ConverseStream's events, as boto3 returns them."""
    head = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t", "name": "book"}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"at":'}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": "1}"}}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]
    stream = fed(*head)
    assert (stream.api, stream.done, stream.result().usage.output_tokens) == ("bedrock", False, 4 + 8)
    usage = {"inputTokens": 30, "outputTokens": 12, "totalTokens": 1066, "cacheReadInputTokens": 1024}
    stream.feed({"metadata": {"usage": usage, "metrics": {"latencyMs": 5}, "serviceTier": {"type": "flex"}}})
    assert stream.done
    assert stream.result().usage.meters == {"input": 30, "cache_read": 1024, "output": 12}
    assert stream.result().usage.service_tier == "flex"


# --- objects ---


class Loose(BaseModel):
    """An SDK event with unknown fields, and with other names than on the wire."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    usage_metadata: Any = Field(default=None, alias="usageMetadata")


@pytest.mark.parametrize("sample", [*FEW, *MADE], ids=range(len(FEW) + len(MADE)))
def test_objects_give_the_result_of_their_bytes(sample: Sample) -> None:
    """A stream fed as dicts or SDK objects gives the result of its bytes."""
    expected = fed(sample["sse"], request=sample["request"]).result()
    events = events_of(sample["sse"])
    assert same(fed(*events, request=sample["request"]).result(), expected)
    assert same(fed(*map(Loose.model_validate, events), request=sample["request"]).result(), expected)


class Counts(BaseModel):
    """An SDK usage with optional fields."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: dict[str, int] | None = None


def test_empty_fields_of_an_sdk_are_left_out() -> None:
    """The body contains what the provider sent, without the empty fields of an SDK object."""
    stream = fed(chat_chunk("x"), Loose(choices=[], usage=Counts(prompt_tokens=9, completion_tokens=1)))  # type: ignore[call-arg]
    assert stream.result().body == {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}


def test_the_openai_sdk_is_read() -> None:
    """The openai package's own chunk and event types give the result of their bytes."""
    types = pytest.importorskip("openai.types", reason="the openai package is not installed")
    construct = pytest.importorskip("openai._models").construct_type  # as the SDK creates them, without checks
    for sample in FEW:
        kind = types.chat.ChatCompletionChunk if sample["endpoint"] == "chat" else types.responses.ResponseStreamEvent
        for cut in (None, -1):
            events = events_of(sample["sse"])[:cut]
            objects = [construct(value=event, type_=kind) for event in events]
            assert all(isinstance(event, BaseModel) for event in objects)
            result = fed(*objects, request=sample["request"]).result()
            expected = fed(*events, request=sample["request"]).result()
            assert (result.usage, result.reason) == (expected.usage, expected.reason)


def test_frames_of_an_sse_client_are_read() -> None:
    """An object with ``event`` and ``data``, as in httpx-sse, is an event."""
    stream = fed(SimpleNamespace(event="message", data=json.dumps(chat_chunk("Hi", "stop"))))
    stream.feed(SimpleNamespace(data='{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}'))
    stream.feed(SimpleNamespace(data="[DONE]"))
    assert (stream.done, stream.warnings) == (True, ())


# --- the package ---


def test_readers_and_tokenizers_are_loaded_lazily() -> None:
    """``import brivionix_billing`` loads no stream reader, and a stream with usage loads no tokenizer."""
    program = (
        "import sys, brivionix_billing\n"
        "assert not any('streams' in name for name in sys.modules if name.startswith('brivionix'))\n"
        "from brivionix_billing.streams import StreamUsage\n"
        "stream = StreamUsage({'messages': []})\n"
        "stream.feed({'choices': [{'index': 0, 'delta': {'content': 'x'}, 'finish_reason': 'stop'}]})\n"
        "stream.feed({'choices': [], 'usage': {'prompt_tokens': 1, 'completion_tokens': 1}})\n"
        "assert stream.result().usage.output_tokens == 1\n"
        "assert 'tiktoken' not in sys.modules and 'brivionix_billing.tokens' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_result_is_a_snapshot() -> None:
    """A result is a snapshot: later events give a new one, and repeated calls the same one."""
    stream = StreamUsage(None, Never())
    stream.feed(chat_chunk("", "stop", usage={"prompt_tokens": 9, "completion_tokens": 1}))
    first = stream.result()
    assert stream.result() is first
    stream.feed(chat_chunk("", usage={"prompt_tokens": 9, "completion_tokens": 2}))
    assert (first.usage, stream.result().usage) == (Usage(9, 1), Usage(9, 2))
