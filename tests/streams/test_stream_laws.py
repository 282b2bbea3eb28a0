"""Laws over random streams: pieces, dicts and text, bodies, and arbitrary JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, Usage
from profiles import examples
from strategies import bodies
from streams_kit import FEW, MADE, fed, same, sse

_text = st.text(alphabet='ab é中\n"\\\u2028😀', max_size=5)
_count = st.integers(0, 3000)


@st.composite
def chats(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A chat of an OpenAI-compatible provider: choices in turn, calls, and usage in any position or none."""
    answers = draw(st.integers(1, 3))
    running = draw(st.booleans())
    events: list[dict[str, Any]] = []
    usage = {"prompt_tokens": draw(_count), "completion_tokens": 0}
    for _ in range(draw(st.integers(0, 6))):
        delta: dict[str, Any] = {"content": draw(st.none() | _text)}
        kind = draw(st.sampled_from(["", "refusal", "reasoning_content", "call"]))
        if kind == "call":
            function = {"name": draw(st.none() | _text), "arguments": draw(_text)}
            delta["tool_calls"] = [{"index": draw(st.integers(0, 2)), "function": function}]
        elif kind:
            delta[kind] = draw(_text)
        usage = {**usage, "completion_tokens": usage["completion_tokens"] + draw(_count)}
        index = draw(st.integers(0, answers - 1))
        events.append({"choices": [{"index": index, "delta": delta}], "usage": usage if running else None})
    for index in range(answers):
        finish = {"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}], "model": "m"}
        events.append(finish | ({"usage": usage} if running else {}))
    if not running and draw(st.booleans()):
        events.append({"choices": [], "usage": usage, "service_tier": draw(st.sampled_from([None, "flex"]))})
    return events[: draw(st.integers(0, len(events)))] if draw(st.booleans()) else events


def pieces(data: st.DataObject, whole: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=9)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@settings(max_examples=examples(300), deadline=None)
@given(st.data(), st.one_of(chats().map(sse), st.sampled_from([sample["sse"] for sample in (*FEW, *MADE)])))
def test_any_partition_gives_the_same_result(data: st.DataObject, text: str) -> None:
    """The same bytes in any pieces, as bytes or text, with or without queries between them, give the same result."""
    text = text.replace("\n", data.draw(st.sampled_from(["\n", "\r\n", "\r"])))
    whole = text.encode()
    expected = fed(whole).result()
    queried = fed()
    for piece in pieces(data, whole):
        queried.feed(piece)
        result = queried.result()
        assert result.estimated != queried.done or "although text arrived" in (result.reason or "")
    cut = data.draw(st.integers(0, len(text)))
    assert same(queried.result(), expected)
    assert same(fed(*pieces(data, whole)).result(), expected)
    assert same(fed(text[:cut], text[cut:]).result(), expected)
    assert same(fed(bytearray(whole[:cut]), memoryview(whole)[cut:]).result(), expected)


@settings(max_examples=examples(300), deadline=None)
@given(chats(), st.booleans())
def test_parsed_events_give_the_result_of_their_text(events: list[dict[str, Any]], named: bool) -> None:
    """An event fed as a dict gives the same result as its frame."""
    request = {"model": "m", "messages": [], "n": 1} if named else None
    by_text, by_dict = fed(sse(*events), request=request), fed(*events, request=request)
    assert same(by_text.result(), by_dict.result())
    assert by_text.done == by_dict.done


@settings(max_examples=examples(300), deadline=None)
@given(chats(), st.integers(0, 20))
def test_a_body_is_read_as_its_usage(events: list[dict[str, Any]], cut: int) -> None:
    """At every point, the body as JSON is read as the result's usage, including the mark."""
    result = fed(*events[:cut]).result()
    again = Usage.from_response(json.loads(json.dumps(result.body)))
    assert (again, again.estimated) == (result.usage, result.estimated)
    assert (result.reason is None) is not result.estimated


@settings(max_examples=examples(300), deadline=None)
@given(chats())
def test_a_complete_chat_gives_its_reported_usage(events: list[dict[str, Any]]) -> None:
    """A usage with or after the end of the answer is the result; without one, it is an estimate."""
    reported = [event["usage"] for event in events if event.get("usage")]
    stream = fed(sse(*events, "[DONE]"))
    if reported and events[-1].get("usage"):
        usage = stream.result().usage
        stated = tuple(max(counts) for counts in zip(*(each.values() for each in reported), strict=True))
        if all(stated):
            assert (usage.input_tokens, usage.output_tokens) == stated
        else:  # a zero is believed only if no text arrived
            assert usage.output_tokens >= stated[1]
        assert stream.done
    elif not reported:
        shown = 0
        names: dict[tuple[int, int], str] = {}
        for event in events:
            for choice in event["choices"]:
                delta = choice["delta"]
                shown += sum(len((delta.get(k) or "").encode()) for k in ("content", "refusal", "reasoning_content"))
                for call in delta.get("tool_calls", ()):
                    key, name = (choice["index"], call["index"]), call["function"]["name"] or ""
                    shown += len(call["function"]["arguments"].encode())
                    if name and names.get(key) != name:
                        names[key] = name
                        shown += len(name.encode())
        assert stream.result().usage == Usage(0, shown, model=stream.result().usage.model, estimated=True)


_HEADS: list[dict[str, Any]] = [
    {"choices": []},
    {"type": "response.output_item.done"},
    {"type": "response.completed"},
    {"type": "message_start"},
    {"type": "message_delta"},
    {"type": "content_block_start"},
    {"type": "content_block_delta"},
    {"candidates": []},
    {"messageStart": {}},
    {"metadata": {}},
    {},
]
_KEYS: list[str] = [
    *(
        "choices",
        "delta",
        "content",
        "tool_calls",
        "index",
        "usage",
        "finish_reason",
        "response",
        "output",
        "item",
        "n",
    ),
    *("type", "action", "message", "error", "model", "service_tier", "candidates", "parts", "usageMetadata", "object"),
    *("promptTokenCount", "input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "metadata", "id"),
    *("contentBlockDelta", "start", "toolUse", "name", "input", "content_block", "server_tool_use", "summary", "item"),
]
_leaf: st.SearchStrategy[Any] = st.one_of(
    bodies,
    st.sampled_from(["response.completed", "web_search_call", "", "x", -1, 2**70, None, [], {}, 0.5, float("inf")]),
)
_strange: st.SearchStrategy[Any] = _leaf
for _ in range(3):
    _strange = st.one_of(
        _leaf, st.lists(_strange, max_size=3), st.dictionaries(st.sampled_from(_KEYS), _strange, max_size=5)
    )


@settings(max_examples=examples(600), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(_HEADS), _strange), max_size=6),
    st.one_of(st.none(), st.dictionaries(st.sampled_from([*_KEYS, "messages", "contents", "max_tokens"]), _strange)),
    st.booleans(),
)
def test_arbitrary_events_never_raise(given_events: list[tuple[Any, Any]], request: Any, as_text: bool) -> None:
    """Arbitrary JSON in events and request gives a usage, or a body that is rejected."""
    events = [head | body if isinstance(body, dict) else body for head, body in given_events]
    stream = fed(
        *(json.dumps(event).join(["data: ", "\n\n"]) if as_text else event for event in events), request=request
    )
    for _ in range(2):
        result = stream.result()
        assert result.estimated or stream.done
        if result.usage_error is None:
            assert Usage.from_response(result.body) == result.usage
            assert result.usage.estimated is result.estimated
        else:
            assert not result.estimated
            with pytest.raises(BillingError) as caught:
                Usage.from_response(result.body)
            assert caught.value.code == result.usage_error.code
    assert all(len(fault) < 600 for fault in result.warnings)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), st.text(max_size=30), st.integers(), st.none()), max_size=9))
def test_noise_never_raises(noise: list[Any]) -> None:
    """Bytes, texts and objects that are not a stream give an estimate from their size."""
    stream = fed(*noise)
    usage = stream.result().usage
    assert (usage.estimated, usage.input_tokens) == (True, 0)
    assert not stream.done
