"""Streams without reported usage: a marked estimate of the received content, with a reason, and never an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from brivionix_billing.streams import StreamUsage
from brivionix_billing.tokens import TokenCounter
from samples import AUTUMN, shipped
from streams_kit import FEW, MADE, SHARED, Bytes, Sample, boundaries, chat_chunk, events_of, fed, frames, sse

CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


def check_estimate(stream: StreamUsage) -> Usage:
    """Check the properties of every estimate. Returns its usage."""
    result = stream.result()
    assert not stream.done
    assert result.estimated
    assert result.usage.estimated
    assert result.reason
    assert result.usage_error is None
    usage = result.body.get("usage") or result.body["usageMetadata"]
    assert usage["estimated"] is True
    assert Usage.from_response(json.loads(json.dumps(result.body))) == result.usage
    assert len(json.dumps(result.body)) < 2000
    return result.usage


def check_cuts(sample: Sample, prefixes: list[str]) -> None:
    """Check that a cut stream is an estimate until its usage arrives, with an output that does not shrink."""
    so_far = 0
    for text in prefixes:
        for request in (sample["request"], None):
            stream = fed(text.encode(), request=request)
            if stream.done:
                assert not stream.result().estimated
                assert stream.result().body["usage"]
                continue
            usage = check_estimate(stream)
            assert usage.output_tokens >= so_far
            so_far = usage.output_tokens
            assert (usage.input_tokens > 0) == (request is not None)


@pytest.mark.parametrize("sample", FEW, ids=lambda sample: sample["request"]["model"])
def test_cut_at_any_event_it_is_an_estimate(sample: Sample) -> None:
    """A recorded stream cut after any event before the last gives a marked estimate, with or without the request."""
    prefixes = list(boundaries(sample["sse"]))
    stated = {"chat": 2, "responses": 1}[sample["endpoint"]]  # the usage, and [DONE] after it
    check_cuts(sample, prefixes[:-stated])
    assert all(fed(text).done for text in prefixes[-stated:])


def test_cut_at_any_byte_it_is_an_estimate_or_complete() -> None:
    """A recorded stream cut after any byte is an estimate until the last brace of its usage."""
    sample = FEW[0]
    whole = sample["sse"].encode()
    ends = {index for index in range(len(whole) + 1) if fed(whole[:index]).done}
    last = whole.rindex(b"}") + 1
    assert ends == set(range(last, len(whole) + 1))
    for index in range(0, last, 7):
        check_estimate(fed(whole[:index], request=sample["request"]))


@pytest.mark.skipif(not SHARED.exists(), reason="the 21 recorded streams lie beside the repository, not in it")
def test_all_recorded_streams_cut_at_any_event_are_estimates() -> None:
    """All 21 recorded streams cut after any event, and two of them after every 50th byte, are estimates."""
    for line in SHARED.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        stream, stated = StreamUsage(sample["request"], Bytes()), 0
        for name, data in frames(sample["sse"]):
            check_estimate(stream)
            stream.feed(f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n")
            if stream.done:
                stated += 1
                break
        assert stated == 1
        if len(sample["sse"]) < 5_000:
            whole = sample["sse"].encode()
            for index in range(0, whole.rindex(b'"usage"'), 50):
                check_estimate(fed(whole[:index], request=sample["request"]))


# --- what is counted ---


def estimate(*events: Any, request: Any = None) -> tuple[int, int, str]:
    stream = fed(*events, request=request)
    usage = check_estimate(stream)
    return usage.input_tokens, usage.output_tokens, stream.result().reason or ""


def delta(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def call(name: str | None, arguments: Any, index: int = 0) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "function": {"name": name, "arguments": arguments}}])


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([delta(role="assistant", content=""), delta(content="abc"), delta(content="de")], "abcde"),
        ([delta(refusal="I will "), delta(refusal="not.")], "I will not."),
        ([call("book", ""), call(None, '{"a"'), call(None, ":1}")], 'book{"a":1}'),
        ([call("book", '{"a":1}'), call("book", "{}", 1)], 'book{"a":1}book{}'),
        ([call("book", '{"a"'), call("book", ":1}")], 'book{"a":1}'),  # some providers repeat the name in every chunk
        ([call("book", {"a": 1})], 'book{"a":1}'),  # some providers send the object itself
        ([delta(tool_calls=[{"index": 0, "custom": {"name": "sh", "input": "ls"}}])], "shls"),
        ([delta(function_call={"name": "f", "arguments": "{}"})], "f{}"),
        ([delta(reasoning_content="hm "), delta(reasoning_content="so"), delta(content="x")], "hm sox"),
        ([delta(reasoning_content="hm", reasoning="hm")], "hm"),
        ([delta(reasoning="hm", reasoning_details=[{"type": "reasoning.text", "text": "hm"}])], "hm"),
        ([delta(reasoning_details=[{"type": "reasoning.summary", "summary": "hm"}])], "hm"),
        ([delta(content=[{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "x"}])], "hmx"),
        ([delta(audio={"id": "a", "transcript": "spoken", "data": "QUJD"})], "spoken"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_that_a_chat_shows_is_counted(events: list[Any], text: str) -> None:
    """Text, refusals, names and arguments of calls, visible reasoning, and a transcript count once each."""
    assert estimate(*events)[1] == len(text)


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([("output_text.delta", {"delta": "abc"}), ("output_text.done", {"text": "abc"})], "abc"),
        ([("refusal.delta", {"delta": "no"})], "no"),
        ([("function_call_arguments.delta", {"delta": "{}"})], "{}"),
        ([("custom_tool_call_input.delta", {"delta": "ls"})], "ls"),
        ([("mcp_call_arguments.delta", {"delta": "{}"})], "{}"),
        ([("code_interpreter_call_code.delta", {"delta": "1+1"})], "1+1"),
        ([("reasoning_text.delta", {"delta": "hm"})], "hm"),
        ([("reasoning_summary_text.delta", {"delta": "hm", "summary_index": 0})], "hm"),
        ([("output_audio_transcript.delta", {"delta": "spoken"}), ("output_audio.delta", {"delta": "QUJD"})], "spoken"),
        ([("output_item.added", {"item": {"type": "function_call", "name": "book", "arguments": ""}})], "book"),
        (
            [
                ("output_text.delta", {"delta": "abc"}),
                (
                    "output_item.done",
                    {"item": {"type": "message", "content": [{"type": "output_text", "text": "abc"}]}},
                ),
            ],
            "abc",
        ),
        # Some providers send no deltas, only finished items.
        ([("output_item.done", {"item": {"type": "message", "content": [{"text": "abc"}]}})], "abc"),
        ([("output_item.done", {"item": {"type": "function_call", "arguments": "{}"}})], "{}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_that_a_response_shows_is_counted(events: list[Any], text: str) -> None:
    """The deltas of every kind of output item count once, and finished items only without deltas."""
    typed = [{"type": f"response.{kind}", "output_index": 0, "content_index": 0, **more} for kind, more in events]
    assert estimate(*typed)[1] == len(text)


def test_answers_are_counted_separately() -> None:
    """With n answers in turn, each is a separate text for the tokenizer."""
    stream = StreamUsage(CHAT | {"n": 2}, TokenCounter("gpt-5.4-mini"))
    for piece in ("inter", "nation", "alization"):
        for index in (0, 1):
            stream.feed({"choices": [{"index": index, "delta": {"content": piece}}]})
    assert stream.result().usage.output_tokens == 2 * TokenCounter("gpt-5.4-mini").text("internationalization")


@pytest.mark.parametrize("number", [0, 1])
def test_a_cut_anthropic_stream_keeps_the_reported_input(number: int) -> None:
    """Input and caches are those of ``message_start``, on their meters; output and searches are counted."""
    events = events_of(MADE[number]["sse"])
    usage = check_estimate(fed(*events[:-2], request=MADE[number]["request"]))
    if number == 0:
        assert usage.meters == {
            "input": 31,
            "cache_read": 4096,
            "cache_write": 1024,
            "cache_write_1h": 1024,
            "output": len("A tide is the slow rise and fall of the sea, twice a day in most harbours."),
        }
        assert (usage.model, usage.service_tier) == ("claude-sonnet-4-5-20250929", "standard")
    else:
        shown = (
            "The tide table of today must be looked up before the ferry is booked."
            'web_search{"query": "tide table Husum"}'
            'High water is at 14:20; I book the ferry.book_ferry{"at": "14:30"}'
        )
        assert usage.meters == {"input": 812, "output": len(shown), "web_search": 1}


def test_a_cut_gemini_stream_is_never_below_the_reported_output() -> None:
    """After any chunk, the estimate has the reported input and thoughts, and the larger of reported and counted
    output."""
    events = events_of(MADE[2]["sse"])
    first = check_estimate(fed(events[0]))
    assert (first.input_tokens, first.output_tokens, first.reasoning_tokens) == (9, 60, 60)
    third = check_estimate(fed(*events[:3]))
    assert (third.output_tokens, third.reasoning_tokens, third.model) == (78, 71, "gemini-2.5-flash")
    assert "thinking" not in (fed(*events[1:3]).result().reason or "")
    assert "thinking beyond its summary" in (fed(*events[:3]).result().reason or "")
    called = check_estimate(fed(*events_of(MADE[3]["sse"])[:2]))
    assert called.output_tokens == len('book_ferry{"at":"14:30"}')
    assert "thinking that the stream does not show" in (fed(*events_of(MADE[3]["sse"])[:2]).result().reason or "")
    text = " six hours" * 20
    longer = {"candidates": [{"content": {"parts": [{"text": text}]}, "index": 0}]}
    assert check_estimate(fed(*events[:3], longer)).output_tokens == len(
        "Weighing the two harbours.The tide turns every six hours and" + text
    )


def test_cumulative_usage_is_a_lower_bound() -> None:
    """A cumulative usage gives the input, and a lower bound of the output."""
    events = events_of(MADE[4]["sse"])
    usage = check_estimate(fed(*events[:1]))
    assert (usage.input_tokens, usage.output_tokens) == (12, len("The moon pulls"))
    stated = events[0] | {"usage": {"prompt_tokens": 12, "completion_tokens": 50, "total_tokens": 62}}
    assert check_estimate(fed(stated)).output_tokens == 50
    cached = {"prompt_tokens_details": {"cached_tokens": 8}} | stated["usage"]
    usage = check_estimate(fed(stated | {"usage": cached}, delta(content="x" * 99)))
    assert usage.meters == {"input": 4, "cache_read": 8, "output": 99 + len("The moon pulls")}
    zeros = events[0] | {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
    assert check_estimate(fed(zeros, request=CHAT)).input_tokens == 1001


def test_text_after_a_final_usage_is_added() -> None:
    """If an answer continues after its usage looked final, the estimate is that usage and the text since."""
    end = chat_chunk("x", "stop", usage={"prompt_tokens": 9, "completion_tokens": 5})
    other = {"choices": [{"index": 1, "delta": {"content": "more"}}]}
    stream = fed(chat_chunk("12345678"), end)
    assert stream.done
    stream.feed(other)
    assert check_estimate(stream) == Usage(9, 9, estimated=True)
    # The reported usage covers the calls before it, and their overhead.
    counter = TokenCounter("gpt-4o")
    stream = fed(call("book", "{}"), end, other, counter=counter)
    assert check_estimate(stream) == Usage(9, 5 + counter.text("more"), estimated=True)


def test_no_more_than_the_request_allows() -> None:
    """An estimate is within the request's limit, times its answers, and states that."""
    text = chat_chunk("x" * 100)
    for limit, most in (
        ({"max_completion_tokens": 60}, 60),
        ({"max_tokens": 20, "n": 3}, 60),
        ({"max_completion_tokens": 1, "max_tokens": 70}, 70),
        ({"max_tokens": 600}, 100),
        ({"max_tokens": None, "n": 0}, 100),
    ):
        _, output, reason = estimate(text, request=CHAT | limit)
        assert (output, "request allows" in reason) == (most, most < 100)
    gemini = {"candidates": [{"content": {"parts": [{"text": "x" * 100}]}}]}
    assert estimate(gemini, request={"contents": [], "generationConfig": {"maxOutputTokens": 60}})[1] == 60
    assert estimate(*events_of(MADE[0]["sse"])[:-2], request={"max_tokens": 5})[1] == 5


# --- the reason ---


def test_the_reason_names_the_cause() -> None:
    """The reason distinguishes a cut, a missing option, an end without usage, an error, and an empty stream."""
    text, end = chat_chunk("x"), sse(chat_chunk("", "stop"), "[DONE]")
    with_usage = CHAT | {"stream_options": {"include_usage": True}}
    assert estimate(text, request=CHAT)[2].startswith("the stream was interrupted")
    assert "the request did not set stream_options.include_usage" in estimate(text, end, request=CHAT)[2]
    refused = CHAT | {"stream_options": {"include_usage": False}}
    assert "did not set stream_options" in estimate(text, end, request=refused)[2]
    assert "did not set" not in estimate(text, end, request=with_usage)[2]
    assert estimate(text, end)[2].startswith("the stream ended without usage; no request was given")
    overloaded = {"error": {"message": "Overloaded", "type": "overloaded_error"}}
    assert estimate(text, overloaded)[2].startswith("the provider ended the stream with an error: 'Overloaded'")
    broken = {"modelStreamErrorException": {"message": "boom", "originalStatusCode": 500}}
    head = {"contentBlockDelta": {"delta": {"text": "abc"}, "contentBlockIndex": 0}}
    assert estimate(head, broken)[2].startswith("the provider ended the stream with an error: 'boom'")
    assert estimate()[2].startswith("nothing arrived; no request was given, so its input counts as 0")
    assert estimate("<html>502 Bad Gateway</html>\n\n", request=CHAT)[2].startswith("30 bytes arrived, none of which")
    failed = {"type": "response.failed", "response": {"usage": None, "error": {"message": "out of luck"}}}
    stream = fed(failed)
    assert check_estimate(stream) == Usage(estimated=True)
    assert (stream.result().reason or "").startswith("the stream ended without usage")
    assert "out of luck" in stream.warnings[0]


def test_the_reason_names_hidden_costs() -> None:
    """The reason names hidden reasoning, a summary, the input of searches, earlier turns and audio."""

    def item(kind: str, event: str = "added") -> dict[str, Any]:
        return {"type": f"response.output_item.{event}", "output_index": 0, "item": {"type": kind}}

    summary = {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "hm"}
    plain = {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "hm"}
    assert "not included: reasoning that the stream does not show" in estimate(item("reasoning"))[2]
    assert "the summary was counted in its place" in estimate(item("reasoning"), summary)[2]
    assert "reasoning" not in estimate(item("reasoning"), plain)[2]
    assert "the input that searches add" in estimate(item("web_search_call", "done"))[2]
    assert "earlier turns" in estimate(summary, request={"input": "x", "previous_response_id": "resp_1"})[2]
    hidden = "reasoning that the stream does not show, if there was any"
    assert hidden in estimate(chat_chunk("x"))[2]
    assert hidden not in estimate(chat_chunk("x"), request=CHAT | {"reasoning_effort": "none"})[2]
    assert hidden not in estimate(delta(reasoning_content="hm"))[2]
    assert "audio" in estimate(delta(audio={"data": "QUJD"}))[2]
    assert "thinking" in estimate(*events_of(MADE[1]["sse"])[:-2])[2]


def test_the_reason_includes_those_of_the_input_count() -> None:
    """The reason repeats what makes the count of the input an estimate."""
    stream = StreamUsage({"model": "gpt-5.4", "messages": [], "response_format": {"type": "json_schema"}})
    stream.feed(chat_chunk("Hi"))
    assert "the input is an estimate: how the schema of a structured output" in (stream.result().reason or "")


def test_finished_calls_of_an_estimate_are_on_their_meters() -> None:
    """A cut stream with two runs of a code interpreter in one container and a file search has both fees."""
    run = {"type": "code_interpreter_call", "code": "1", "container_id": "cntr_1"}
    items = [run, run, {"type": "file_search_call"}]
    stream = fed(*({"type": "response.output_item.done", "output_index": n, "item": i} for n, i in enumerate(items)))
    assert check_estimate(stream).meters == {"output": 2, "file_search": 1, "code_interpreter": 1}


# --- counters ---


def test_the_served_model_counts_itself() -> None:
    """Without a counter, that of the served model counts output and input."""
    counter = TokenCounter("gpt-4o")
    stream = StreamUsage(CHAT)
    stream.feed(chat_chunk("The capital of Mexico is Mexico City.", model="gpt-4o-2024-08-06"))
    usage = check_estimate(stream)
    assert usage.output_tokens == counter.text("The capital of Mexico is Mexico City.")
    assert usage.input_tokens == counter.chat(CHAT)
    assert "o200k_base" not in (stream.result().reason or "")
    response = StreamUsage({"model": "gpt-5.4", "input": "Hello", "instructions": "Be short."})
    response.feed({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"})
    expected = TokenCounter("gpt-5.4").responses({"model": "gpt-5.4", "input": "Hello", "instructions": "Be short."})
    assert check_estimate(response).input_tokens == expected


def test_a_tool_call_adds_its_known_overhead() -> None:
    """A recorded tool call of gpt-4o is estimated exactly; one of an unknown model counts its text only."""
    sample = FEW[0]
    text = list(boundaries(sample["sse"]))[-3]
    reported = fed(sample["sse"]).result().usage.output_tokens
    stream = StreamUsage(sample["request"])
    stream.feed(text)
    assert check_estimate(stream).output_tokens == reported == 10
    other = StreamUsage(sample["request"] | {"model": "deep-thinker-1"})
    other.feed(text.replace("gpt-4o", "deep-thinker"))
    assert check_estimate(other).output_tokens == 3
    item = {"type": "function_call", "name": "book", "arguments": ""}
    response = StreamUsage({"model": "gpt-5.4", "input": "x"})
    response.feed({"type": "response.output_item.added", "output_index": 0, "item": item})
    assert check_estimate(response).output_tokens == 1 + TokenCounter("gpt-5.4").family.dialect.call.tokens


@pytest.mark.parametrize("model", ["deep-thinker-1", None, 7])
def test_an_unknown_model_is_counted_with_o200k_base(model: Any) -> None:
    """A model without a tokenizer is counted with o200k_base, and the reason states that."""
    stream = StreamUsage({"model": model, "messages": []})
    stream.feed(chat_chunk("The capital of Mexico is Mexico City."))
    assert check_estimate(stream).output_tokens == 8
    assert "counted with o200k_base" in (stream.result().reason or "")


class Broken:
    """A counter that cannot count."""

    def text(self, text: str, /) -> int:
        raise OSError("no disk")

    chat = responses = text


def test_without_any_tokenizer_bytes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a vocabulary, the estimate is one token per 4 bytes, and the reason states that."""
    monkeypatch.setattr("brivionix_billing.tokens.counter.load_encoding", _no_vocabulary)
    stream = StreamUsage(CHAT)
    stream.feed(chat_chunk("x" * 41))
    assert check_estimate(stream).output_tokens == 11
    assert "no tokenizer (encoding_unavailable): one token per 4 bytes" in (stream.result().reason or "")


def _no_vocabulary(name: str) -> Any:
    raise BillingError("encoding_unavailable", "no network")


def test_a_broken_counter_is_replaced() -> None:
    """If the caller's counter fails, that of the model is used."""
    stream = fed(chat_chunk("The capital of Mexico is Mexico City."), request=CHAT, counter=Broken())
    usage = check_estimate(stream)
    assert (usage.output_tokens, usage.input_tokens) == (8, TokenCounter("gpt-5.4-mini").chat(CHAT))


def test_a_request_that_a_counter_rejects_is_counted_from_its_texts() -> None:
    """The texts of a request in any format count as input; a missing request counts 0."""

    class Refusing(Bytes):
        def chat(self, request: Any, /) -> int:
            raise BillingError("invalid_request", "no such request")

    stream = StreamUsage(CHAT, Refusing())
    stream.feed(chat_chunk("x"))
    assert check_estimate(stream).input_tokens == len("Hello")
    assert "from its texts alone (invalid_request)" in (stream.result().reason or "")
    gemini = {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}
    request = {
        "systemInstruction": {"parts": [{"text": "abc"}]},
        "contents": [{"role": "user", "parts": [{"text": "de"}]}],
    }
    assert estimate(gemini, request=request)[0] == len("abc\nde")
    anthropic = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
    request = {"system": "abc", "messages": [{"role": "user", "content": "de"}]}
    assert estimate(anthropic, request=request)[0] == len("abc\nde")
    assert estimate(chat_chunk("x"))[0] == 0
    assert estimate(chat_chunk("x"), request=[1])[0] == 0
    assert estimate(request=CHAT)[0] == 1001


# --- strange data ---


@pytest.mark.parametrize(
    "usage",
    [5, "much", [], {}, [{"prompt_tokens": 1}], True, 0.5],
    ids=repr,
)
def test_an_invalid_usage_is_ignored(usage: Any) -> None:
    """A usage that is not an object with counts gives a warning, and the stream is estimated."""
    stream = fed(sse(chat_chunk("abc", "stop"), {"choices": [], "usage": usage}, "[DONE]"))
    assert check_estimate(stream).output_tokens == 3
    assert bool(stream.warnings) == (usage != {})


@pytest.mark.parametrize(
    ("usage", "code"),
    [
        ({"prompt_tokens": -1, "completion_tokens": 2}, "invalid_usage"),
        ({"prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 9}, "usage_contradiction"),
        ({"tokens": 9}, "unknown_usage_format"),
    ],
)
def test_a_final_usage_that_cannot_be_billed_is_kept_and_rejected(usage: Any, code: str) -> None:
    """A reported usage that cannot be billed stays in the body, and is rejected as without a stream."""
    stream = fed(chat_chunk("abc", "stop"), {"choices": [], "usage": usage})
    result = stream.result()
    assert (result.estimated, result.body["usage"]) == (False, usage)
    with pytest.raises(BillingError) as caught:
        Usage.from_response(result.body)
    assert caught.value.code == code
    with pytest.raises(BillingError) as caught:
        _ = result.usage
    assert caught.value.code == code
    assert result.usage_error is not None
    assert result.usage_error.message in result.warnings
    # Before it is final, it is not used.
    assert check_estimate(fed(chat_chunk("abc", usage=usage))).output_tokens == 3


def test_decreasing_counts_are_a_warning() -> None:
    """A decreasing cumulative count gives a warning; the larger value counts."""
    events = events_of(MADE[1]["sse"])
    events[-2]["usage"]["input_tokens"] = 5
    stream = fed(*events)
    assert stream.result().usage.input_tokens == 812
    assert stream.warnings == ("input_tokens decreased from 812 to 5; the larger value counts",)


def test_an_unreadable_tier_is_left_out_of_an_estimate() -> None:
    """A served tier that is not a name is left out of the estimate with a warning."""
    stream = fed(chat_chunk("abc", service_tier=["flex"], model="m"))
    assert check_estimate(stream) == Usage(output_tokens=3, model="m", estimated=True)
    assert "service_tier" in stream.result().warnings[0]


def test_an_unreadable_event_is_a_warning() -> None:
    """An unreadable event is skipped with a warning; the events around it are read."""
    deep: Any = "x"
    for _ in range(100_000):
        deep = [{"thinking": deep}]
    for strange in ({"index": 0, "delta": {"partial_json": {1j: "x"}}}, {"index": 0, "delta": {"text": deep}}):
        event = {"type": "content_block_delta", **strange}
        good = {"type": "content_block_delta", "index": 1, "delta": {"text": "abc"}}
        stream = fed(good, event, good)
        assert check_estimate(stream).output_tokens == 6
        assert stream.warnings[0].startswith("an event could not be read: ")
        assert len(stream.warnings[0]) < 200


class Hostile:
    """An object that raises on every access."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")


class Undumpable:
    """An SDK object that cannot be dumped."""

    def model_dump(self, **_: Any) -> Any:
        raise RuntimeError("no")


def test_an_unreadable_object_is_a_warning() -> None:
    """A stream continues after objects that raise."""
    stream = fed(chat_chunk("abc"), Hostile(), Undumpable(), object(), chat_chunk("de"))
    assert check_estimate(stream).output_tokens == 5
    assert stream.warnings == (
        "an object of type Hostile could not be read: RuntimeError: 'no'",
        "an object of type Undumpable could not be read: RuntimeError: 'no'",
        "an event of type object is not a JSON object",
    )


def test_events_of_another_api_are_warnings() -> None:
    """The first known event determines the API; events of other APIs are warnings."""
    stream = fed(chat_chunk("abc"), {"type": "message_start", "message": {"usage": {"input_tokens": 9}}}, {"x": 1})
    assert (stream.api, check_estimate(stream).total_tokens) == ("chat", 3)
    assert len(stream.warnings) == 1
    assert "in a stream of chat" in stream.warnings[0]


def test_warnings_are_bounded() -> None:
    """Warnings are limited to the first twenty and a number."""
    stream = fed(*["data: nonsense\n\n"] * 1000, sse(chat_chunk("abc")))
    assert len(stream.warnings) == 21
    assert stream.warnings[-1] == "... and 980 more"
    assert check_estimate(stream).output_tokens == 3


def test_a_too_large_event_is_a_warning() -> None:
    """An event beyond the limit is skipped with a warning, and the rest is read."""
    stream = fed(sse(chat_chunk("x" * 3000), chat_chunk("abc")), max_event_bytes=2000)
    assert check_estimate(stream).output_tokens == 3
    assert stream.warnings == ("an event was too large and was skipped",)


def test_half_characters_are_joined() -> None:
    """Surrogate halves in two deltas are one character; invalid UTF-8 does not end the stream."""
    halves = 'data: {"choices": [{"index": 0, "delta": {"content": "\\ud83d"}}]}\n\n'
    stream = fed(halves, halves.replace("d83d", "de00"))
    assert check_estimate(stream).output_tokens == len("😀".encode())
    assert fed(b'data: {"choices": [{"index": 0, "delta": {"content": "\xff"}}]}\n\n').result().usage.output_tokens == 3
    assert fed('data: {"choices": [{"delta": {"content": "\ud800"}}]}\n\n').result().usage.output_tokens


def test_the_charge_of_an_estimate_is_marked() -> None:
    """An estimate is rated like any usage, and its charge is marked."""
    stream = StreamUsage(CHAT)
    stream.feed(chat_chunk("Hi", model="gpt-5.4-mini-2026-03-17", service_tier="default"))
    charge = shipped().rate(stream.result().usage, model="gpt-5.4-mini", group="default", at=AUTUMN)
    assert charge.usage.estimated
    assert charge.credits > 0
