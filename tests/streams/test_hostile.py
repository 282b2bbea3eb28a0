"""Hostile streams and requests: they cannot lower a bill, fill the memory, take long, or raise."""

from __future__ import annotations

import time
import tracemalloc
from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest

from brivionix_billing import Usage
from brivionix_billing.streams import StreamUsage
from streams_kit import Bytes, chat_chunk, fed, sse

Json = dict[str, Any]
CHAT: Json = {"messages": [{"role": "user", "content": "Hello"}]}
STATED: Json = {"choices": [], "usage": {"prompt_tokens": 5000, "completion_tokens": 1000}}
EVENTS: dict[str, Json] = {
    "chat": chat_chunk("x" * 100),
    "responses": {"type": "response.output_text.delta", "output_index": 0, "delta": "x" * 100},
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"text": "x" * 100}},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "x" * 100}]}}]},
    "bedrock": {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "x" * 100}}},
}
LIMITS: dict[str, tuple[Callable[[int], Json], ...]] = {
    "chat": (lambda n: {"max_completion_tokens": n}, lambda n: {"max_tokens": n}),
    "responses": (lambda n: {"max_output_tokens": n},),
    "anthropic": (lambda n: {"max_tokens": n},),
    "gemini": (lambda n: {"generationConfig": {"maxOutputTokens": n}},),
    "bedrock": (lambda n: {"inferenceConfig": {"maxTokens": n}},),
}


def output(event: Any, request: Any) -> int:
    return fed(event, request=request).result().usage.output_tokens


# --- a client that would pay less ---


@pytest.mark.parametrize("family", EVENTS)
def test_only_limits_that_the_provider_obeys_cap_an_estimate(family: str) -> None:
    """A limit under another API's key is ignored; under its own key, the largest limit applies."""
    own = LIMITS[family]
    keys = {next(iter(limit(1))) for limit in own}
    for other in (limit for limits in LIMITS.values() for limit in limits):
        if next(iter(other(1))) not in keys:
            assert output(EVENTS[family], other(1)) == 100
    for limit in own:
        assert output(EVENTS[family], limit(60)) == 60
    if family == "chat":
        assert output(EVENTS[family], {"max_completion_tokens": 1, "max_tokens": 70}) == 70
        assert output(EVENTS[family], {"max_completion_tokens": 1, "max_tokens": 100_000}) == 100


def test_the_input_is_counted_as_the_stream_was_served() -> None:
    """Texts under the other endpoint's key do not replace those that this endpoint read."""
    both = {"messages": [], "input": "y" * 500}
    assert fed(EVENTS["responses"], request=both).result().usage.input_tokens == 2500
    assert fed(EVENTS["chat"], request=both).result().usage.input_tokens == 1000
    assert fed(EVENTS["responses"], request=CHAT).result().usage.input_tokens == 1001
    assert fed(EVENTS["chat"], request={"input": "y" * 500}).result().usage.input_tokens == 2500
    assert fed(request=both).result().usage.input_tokens == 2500
    assert fed(request={"messages": [1, 2], "input": "y"}).result().usage.input_tokens == 1002


def test_changing_a_fed_usage_has_no_effect() -> None:
    """A stream keeps the usage as it was when it was fed, including nested objects."""
    usage: Json = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}
    stream = fed(chat_chunk("abc"), {"choices": [], "usage": usage})
    usage["completion_tokens"] = 999
    usage["prompt_tokens_details"]["cached_tokens"] = 5
    assert stream.result().usage == Usage(5, 1, 1)


# --- what a stream is ---


@pytest.mark.parametrize(
    "first",
    [
        {"type": "start", "metadata": {"a": 1}},
        {"metadata": {"usage": {}}},
        {"candidates": None},
        {"candidates": []},
        {"promptFeedback": None, "usageMetadata": None},
        {"messageStart": {"role": "assistant"}},
        {"type": "message_stop"},
        {"type": "response.created", "response": {"model": "m"}},
    ],
    ids=str,
)
def test_an_event_without_content_does_not_determine_the_api(first: Json) -> None:
    """Until a text, a call or a usage was read, an event of another API corrects the API of a stream."""
    stream = fed(first, chat_chunk("abc"), STATED)
    assert (stream.api, stream.done, stream.result().usage) == ("chat", True, Usage(5000, 1000))


@pytest.mark.parametrize("family", ["responses", "anthropic", "gemini", "bedrock"])
def test_an_event_with_content_determines_the_api(family: str) -> None:
    """After a text, an event of another API is a warning, and its usage is ignored."""
    stream = fed(EVENTS[family], STATED)
    assert (stream.api, stream.done, len(stream.warnings)) == (family, False, 1)


def test_searches_determine_the_api() -> None:
    """A counted search is not lost to an event of another API."""
    search = {"type": "content_block_start", "index": 0, "content_block": {"type": "web_search_tool_result"}}
    assert fed(search, STATED).api == "anthropic"
    item = {"type": "response.output_item.done", "output_index": 0, "item": {"type": "web_search_call"}}
    assert fed(item, STATED).result().usage.meters == {"web_search": 1}


def test_items_without_a_fee_leave_room_for_those_with_one() -> None:
    """A search after 5 000 items that cost no fee is counted."""
    kinds = ["mcp_call"] * 5_000 + ["web_search_call"]
    items = [
        {"type": "response.output_item.done", "output_index": i, "item": {"type": kind}} for i, kind in enumerate(kinds)
    ]
    assert fed(*items).result().usage.meters == {"web_search": 1}


def test_an_event_of_another_api_does_not_reset_the_state() -> None:
    """An empty event of another API does not remove the model or the tier."""
    created = {"type": "response.created", "response": {"model": "m", "service_tier": "flex"}}
    usage = fed(created, {"candidates": []}, EVENTS["responses"]).result().usage
    assert (usage.model, usage.service_tier, usage.output_tokens) == ("m", "flex", 100)


# --- memory and time ---

LONG = "n" * 100_000


@pytest.mark.parametrize(
    "event",
    [
        lambda i: {
            "choices": [{"index": 0, "delta": {"tool_calls": [{"index": i, "function": {"name": f"{LONG}{i}"}}]}}]
        },
        lambda i: {"type": "content_block_delta", "index": f"{LONG}{i}", "delta": {"text": "x"}},
        lambda i: {"type": "message_delta", "usage": {f"{LONG}{i}": 1}},
        lambda i: {"type": "message_delta", "usage": {f"k{i}": "v" * 60_000 + str(i)}},
        lambda i: {"type": "response.output_item.done", "output_index": i, "item": {"type": f"{LONG}{i}"}},
        lambda i: {"type": "response.output_item.done", "item": {"type": "file_search_call", "id": f"{LONG}{i}"}},
        lambda i: {
            "type": "response.output_item.done",
            "item": {"type": "code_interpreter_call", "id": f"{i}", "container_id": f"{LONG}{i}"},
        },
        lambda i: {"type": "response.output_item.added", "output_index": f"{LONG}{i}", "item": {"name": "x"}},
        lambda i: {"type": f"response.{LONG}{i}.delta", "output_index": 0, "delta": "x"},
        lambda i: {"contentBlockDelta": {"contentBlockIndex": f"{LONG}{i}", "delta": {"text": "x"}}},
    ],
)
def test_long_names_do_not_fill_the_memory(event: Callable[[int], Json]) -> None:
    """A hundred events with names of 100 kB each use less memory than the limit of text."""
    import brivionix_billing.tokens.encodings  # noqa: F401  (its own memory is not the stream's)

    stream = StreamUsage(None, Bytes())
    tracemalloc.start()
    try:
        for number in range(100):
            stream.feed(event(number))
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "more",
    [
        {f"k{i}": 0 for i in range(300)},
        {"x": "y" * 70_000},
        {"x": [0] * 3000},
        {"x": {f"k{i}": "y" * 300 for i in range(250)}},
    ],
    ids=["keys", "text", "values", "inner"],
)
def test_a_huge_usage_is_a_warning(more: Json) -> None:
    """A usage with too many keys or characters is skipped with a warning; the previous one stays."""
    huge = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0, **more}}
    stream = fed(chat_chunk("abc"), STATED, huge)
    assert stream.result().usage == Usage(5000, 1000)
    assert stream.warnings == (
        "a usage cannot be stored: ValueError: 'it has more than 256 keys or 65536 characters, or is too deep'",
    )


def test_merged_keys_are_bounded() -> None:
    """Deltas that each add a key to Anthropic's usage add at most 256."""
    stream = StreamUsage(None, Bytes())
    for number in range(1000):
        stream.feed({"type": "message_delta", "usage": {f"k{number}": 0}})
    stream.feed({"type": "message_delta", "usage": {"k7": 0}, "delta": {"stop_reason": "end_turn"}})
    assert len(stream.warnings) == 21
    assert "more than 256 keys" in stream.warnings[0]


@pytest.mark.parametrize("key", ["choices", "candidates"])
def test_the_choices_of_an_event_are_bounded(key: str) -> None:
    """Of 100 000 choices in an event, 4096 are read, with a warning."""
    other = "chat" if key == "choices" else "gemini"
    stream = fed({key: [{}] * 100_000})
    assert (stream.api, stream.warnings) == (other, (f"100000 {key} in an event; at most 4096 are read",))


def test_querying_after_every_piece_takes_linear_time() -> None:
    """A large event in 40 000 pieces that each end in a brace is joined a few times only."""
    whole = b'data: {"choices": [{"delta": {"content": [' + b'{"a": 1},' * 40_000 + b"{}]}}]}"
    stream = StreamUsage(None, Bytes())
    started = time.process_time()
    for piece in whole.split(b"}")[:-1]:
        stream.feed(piece + b"}")
        assert not stream.done
    assert time.process_time() - started < 5  # quadratic work took a minute


def test_a_large_last_event_counts_in_the_result() -> None:
    """A large event without its blank line counts in the result, however often ``done`` was read."""
    event = sse({"choices": [], "usage": STATED["usage"], "x": "y" * 6000}).strip().encode()
    stream = fed(chat_chunk("abc"))
    for start in range(0, len(event), 100):
        stream.feed(event[start : start + 100])
        stream.feed(b"")
        assert stream.done in (False, start + 100 >= len(event))
    assert stream.result().usage == Usage(5000, 1000)
    assert stream.done


@pytest.mark.parametrize("rest", [b"x\n\n", b" x\n\n", b"\ndata: {}\n\n", b"\ndata: x\n\n", b"\n\n", b""])
@pytest.mark.parametrize("more", ["", chat_chunk("de")])
def test_querying_changes_no_result(rest: bytes, more: Any) -> None:
    """Text after the JSON of an event does not change the usage, whether or not ``done`` was read."""

    def result(ask: bool) -> tuple[Usage, bool]:
        stream = fed(sse(chat_chunk("abc")), sse(STATED).rstrip())
        assert not ask or stream.done
        stream.feed(rest)
        stream.feed(sse(more) if more else "")
        return stream.result().usage, stream.done

    assert result(True) == result(False)


def test_text_after_the_json_of_an_event_is_a_warning() -> None:
    """An object is read despite text after it, with a warning; other values are not."""
    stream = fed(sse(chat_chunk("abc"), '{"choices": [{"delta": {"content": "de"}}]}x', "[]x", "5 5"))
    assert stream.result().usage.output_tokens == 5
    assert stream.warnings == (
        "an event has 1 characters after its JSON, which are ignored",
        "an event of 3 bytes is not JSON",
        "an event of 3 bytes is not JSON",
    )


# --- objects that raise ---


class MuteError(Exception):
    """An error whose text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def _raise(*_: Any, **__: Any) -> Any:
    raise MuteError


class Mute:
    """A key or value whose text raises."""

    __str__ = __repr__ = _raise
    __bool__ = _raise

    def __hash__(self) -> int:
        return 1


class Classless:
    """An object whose class raises."""

    __bool__ = _raise
    vars()["__class__"] = property(_raise)  # a type checker would reject an attribute


class Lost(dict[Any, Any]):
    """A dict whose every method raises."""

    get = items = keys = values = __iter__ = __contains__ = __getitem__ = _raise


class Gone(UserDict[Any, Any]):
    """A mapping whose every method raises."""

    get = items = keys = values = __iter__ = __contains__ = __getitem__ = _raise


class Text(str):
    """A str with overridden methods."""

    __slots__ = ()
    encode = strip = __len__ = __str__ = _raise


class Raw(bytes):
    """Bytes with overridden methods."""

    __bytes__ = __len__ = strip = _raise


def released() -> memoryview:
    view = memoryview(bytearray(b"data: {}\n\n"))
    view.release()
    return view


USAGE = STATED["usage"]
PIECES: list[Callable[[], Any]] = [
    Mute,
    Classless,
    Lost,
    Gone,
    released,
    lambda: Text("data: {}\n\n"),
    lambda: Raw(b"data: {}\n\n"),
    lambda: {1: 2, Mute(): 3},
    lambda: {"choices": [Mute(), {"delta": {Mute(): 1}}]},
    lambda: {"choices": Classless()},
    lambda: {"choices": [], "usage": Classless()},
    lambda: {"choices": [], "usage": {**USAGE, 1: 2}},
    lambda: {"choices": [], "usage": {**USAGE, Mute(): 2}},
    lambda: {"choices": [], "usage": Lost(USAGE)},
    lambda: {"choices": [], "usage": USAGE | {"x": Classless()}},
    lambda: {"choices": [], "usage": USAGE, "model": Classless()},
    lambda: {"choices": [], "usage": USAGE, "service_tier": {Mute(): 1}},
    lambda: {"error": Mute()},
    lambda: {"type": Classless()},
]


@pytest.mark.parametrize("piece", PIECES)
def test_no_object_raises(piece: Callable[[], Any]) -> None:
    """Around objects that raise, the text is read, and there is a result."""
    for pieces in ([piece(), chat_chunk("abc")], [chat_chunk("abc"), piece()], [piece()]):
        stream = fed(*pieces)
        result = stream.result()
        if len(pieces) > 1:
            assert result.usage_error or result.usage.output_tokens in (3, 1000)
        assert all(type(fault) is str for fault in (*stream.warnings, *result.warnings))


def test_a_number_as_key_of_a_usage_becomes_a_text() -> None:
    """A number as a key of a usage becomes a text, and its count is listed."""
    result = fed(chat_chunk("abc", "stop"), {"choices": [], "usage": {**USAGE, 1: 2}}).result()
    assert result.usage.unaccounted == (("usage['1']", 2),)
    event: dict[Any, Any] = {1: 2, **STATED}
    assert fed(chat_chunk("abc"), event).result().usage == Usage(5000, 1000)


def test_texts_and_bytes_with_overridden_methods_are_read() -> None:
    """A subclass of str or bytes is read as its characters or bytes, whatever its methods do."""
    text = sse(chat_chunk("abc"))
    for piece in (Text(text), Raw(text.encode()), bytearray(text.encode()), memoryview(text.encode())):
        assert fed(piece).result().usage.output_tokens == 3


def looped() -> Json:
    request: Json = {"system": "word", "list": []}
    request["list"].append(request)
    request["again"] = request
    return request


def doubled() -> Json:
    """Return sixty lists, each of which contains the next one twice."""
    value: Any = "x"
    for _ in range(60):
        value = [value, value]
    return {"contents": value}


@pytest.mark.parametrize(
    "request_",
    [
        Lost,
        Gone,
        Classless,
        looped,
        doubled,
        lambda: {"n": Classless(), "reasoning_effort": Classless(), "model": Mute()},
        lambda: {"messages": Classless(), "previous_response_id": Classless(), "generationConfig": Gone()},
        lambda: {"generationConfig": Gone(), "inferenceConfig": Gone(), "stream_options": Gone()},
    ],
)
@pytest.mark.parametrize("family", EVENTS)
def test_no_request_raises(request_: Callable[[], Any], family: str) -> None:
    """The output is counted with a request that raises."""
    result = fed(EVENTS[family], request=request_()).result()
    assert (result.estimated, result.usage.output_tokens) == (True, 100)


def test_a_request_that_contains_itself_is_counted_once() -> None:
    """An object within itself is read once; an object next to itself is read twice."""
    assert fed(EVENTS["gemini"], request=looped()).result().usage.input_tokens == len("word")
    same = ["abc"]
    assert fed(EVENTS["gemini"], request={"a": same, "b": same}).result().usage.input_tokens == len("abc\nabc")


def test_a_broken_estimate_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the estimate itself fails, the result is an empty estimate that states this, and is answered."""
    monkeypatch.setattr("brivionix_billing.streams.stream.estimate_usage", _raise)
    result = fed(chat_chunk("abc")).result()
    assert (result.estimated, result.answered, result.usage) == (True, True, Usage(0, 0, estimated=True))
    assert result.warnings == ("no estimate could be made: MuteError",)
    assert Usage.from_response(result.body) == result.usage
