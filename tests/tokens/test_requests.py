"""Whole request bodies: invalid ones, growing ones, and the attributes of a count."""

from __future__ import annotations

import copy
import json
import pickle
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.tokens import TokenCounter
from profiles import examples
from samples import SHIPPED, code_of, shipped
from token_kit import chat, counter, small_pairs


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "gpt-5.4"},
        {"messages": "hi"},
        {"messages": [1]},
        {"messages": [{"role": 5, "content": "x"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [5]}]},
        {"messages": [{"role": "user", "content": [{"type": "dance"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": 5}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": 5}]}]},
        {"messages": [], "tools": [{"type": "function"}]},
        {"messages": [], "tools": [{"type": "function", "function": {"name": 5}}]},
        {"messages": [], "tools": {"type": "function"}},
        {"input": [{"type": 5}]},
        {"input": [{"role": "user"}, 7]},
        {"input": "x", "tools": "y"},
        {"input": [], "encoding_format": "float", "dimensions": 5, "x": object()},
        "not json",
        b"[1, 2]",
        "[" * 100_000,
        5,
        None,
    ],
)
def test_an_invalid_body_is_an_invalid_request(body: Any) -> None:
    """An invalid request is ``invalid_request`` with status 400, and raises no other exception."""
    if isinstance(body, dict) and "encoding_format" in body:
        assert counter().request(body) == 0  # an empty list of texts has no tokens
        return
    with pytest.raises(BillingError) as caught:
        counter().request(body)
    assert (caught.value.code, caught.value.http_status) == ("invalid_request", 400)


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_deep_and_long_requests_are_rejected() -> None:
    """Arguments nested 100 000 deep are ``invalid_request``; texts above the caller's bound ``request_too_large``."""
    deep = {"input": [{"type": "tool_search_call", "arguments": nested(100_000)}]}
    with pytest.raises(BillingError) as caught:
        counter().responses(deep)
    assert code_of(caught) == "invalid_request"
    token_counter = TokenCounter("gpt-5.4-mini", max_characters=1_000)
    for _ in range(2):  # cached or not
        with pytest.raises(BillingError) as caught:
            token_counter.chat(chat(*["word " * 50] * 5))
        assert (caught.value.code, caught.value.http_status) == ("request_too_large", 413)
    talk = ["a word or two"] * 76  # 988 characters
    assert token_counter.chat(chat(*talk)) > 0
    with pytest.raises(BillingError):
        token_counter.chat(chat(*talk, "a word or two"))


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (1.5, 2), "9x9", [9, 9], (1, 2, 3), (True, 1)])
def test_an_invalid_image_size_is_an_error(size: Any) -> None:
    """The caller's image_size must return a size or nothing."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with pytest.raises(BillingError) as caught:
        TokenCounter("gpt-4o", image_size=lambda _: size).chat({"messages": [{"role": "user", "content": [image]}]})
    assert code_of(caught) == "invalid_argument"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["role", "content", "type", "text", "tool_calls", "function", "name", "arguments", "id", "tool_call_id", "tools"]
KEYS += ["image_url", "url", "detail", "output", "call_id", "encrypted_content", "summary", "refusal", "file_data"]
TYPES = [
    "user",
    "assistant",
    "system",
    "tool",
    "text",
    "function",
    "function_call",
    "function_call_output",
    "reasoning",
]
TYPES += ["image_url", "input_image", "input_file", "file", "tool_search", "tool_search_output", "additional_tools"]
items = st.recursive(
    st.sampled_from(TYPES) | values,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
FIELDS = ["messages", "input", "tools", "instructions", "response_format", "text", "reasoning", "functions", "prompt"]
bodies = st.dictionaries(st.sampled_from(FIELDS), items, max_size=5)


@settings(max_examples=examples(300), deadline=None)
@given(bodies)
@example({"input": [{"role": "assistant", "content": "x"}, {"type": "function_call", "name": "f", "arguments": "{}"}]})
def test_any_body_is_counted_or_rejected(body: Any) -> None:
    """A JSON object raises only errors with a code; a count is not negative, and its bound is not below it."""
    for model in ("gpt-5.4-mini", "gpt-4o"):
        try:
            result = counter(model).request(body)
        except BillingError:
            continue
        assert result >= 0
        assert result.upper is None or result.upper >= result
        assert result == sum(part.tokens for part in result.parts) == sum(result.by_kind().values())
        assert result.exact == (not result.reasons)


def test_a_count_is_an_int_with_parts() -> None:
    """A count adds, compares, hashes, copies, pickles and prints as an int, and has parts."""
    body = chat("Hello", "Hi", "How are you?")
    count = counter().chat({**body, "messages": [{"role": "system", "content": "Be kind."}, *body["messages"]]})
    assert isinstance(count, int)
    assert (repr(count), f"{count}", count + 0) == ("29", "29", 29)
    assert count.by_kind() == {"system": 7, "messages": 20, "reply": 2}
    assert (count.exact, count.upper, count.reasons) == (True, 29, ())
    for other in (copy.copy(count), copy.deepcopy(count), pickle.loads(pickle.dumps(count))):
        assert (other, other.parts, other.rules, other.max_input_tokens) == (
            count,
            count.parts,
            count.rules,
            count.max_input_tokens,
        )
    assert json.loads(json.dumps(count.as_dict()))["parts"] == count.by_kind()


def test_the_maximum_input_bounds_an_unbounded_count() -> None:
    """The maximum input of the model bounds a count without a bound, if a price book states it."""
    body = {"input": "Hi", "previous_response_id": "resp_1"}
    assert counter().responses(body).upper is None
    assert TokenCounter("gpt-5.4-mini", shipped()).responses(body).upper == 272_000


def test_bounds_stay_within_the_maximum_input() -> None:
    """A bound above the model's maximum input is that maximum; a higher count stays."""
    tiny = PriceBook.loads(
        SHIPPED.read_text(encoding="utf-8").replace(
            "context: {window: 400000, max_input: 272000, max_output: 128000}",
            "context: {window: 40, max_input: 20, max_output: 10}",
        )
    )
    token_counter = TokenCounter("gpt-5.2", tiny)
    schema = {"format": {"type": "json_schema", "name": "x", "schema": {}}}
    few = token_counter.responses({"input": "Hi", "text": schema})
    assert 20 > few > 10
    assert not few.exact
    assert few.upper == 20
    long = token_counter.responses({"input": "Hi " * 40})
    assert long.upper == long > 20
    image = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.y/z"}}]}]}
    assert TokenCounter("gpt-5.2", shipped()).chat(image).upper == 6 + 5 + -(-1536 * 162 // 100)
    assert token_counter.responses({"input": "Hi", "conversation": "c"}).upper == 20
    assert token_counter.chat(chat("one two three " * 10)).upper == token_counter.chat(chat("one two three " * 10)) > 20


def test_a_model_of_another_vendor_is_an_estimate() -> None:
    """If the vocabulary of the model is unknown, texts are estimates, bounded by their bytes, and tools have no
    bound."""
    token_counter = TokenCounter("claude-x", encoding="o200k_base")
    text = "こんにちは、世界"
    count = token_counter.chat(chat(text))
    assert not count.exact
    assert any("vocabulary" in why for why in count.reasons)
    assert (count.upper or 0) >= len(text.encode()) > count
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert token_counter.chat(chat("Hi", tools=[tool])).upper is None
    assert not token_counter.worst_case(chat("Hi", max_tokens=5)).is_guaranteed


@pytest.mark.parametrize("key", ["system", "documents", "wibble"])
def test_texts_under_unknown_keys_are_unseen(key: str) -> None:
    """Texts under unknown keys are counted without a bound; settings cost nothing."""
    plain = counter().chat(chat("Hi"))
    for value in ("word " * 100, [{"type": "text", "text": "word " * 100}]):
        count = counter().chat(chat("Hi", **{key: value}))
        assert (count.exact, count.upper) == (False, None)
        assert count >= plain + 100
        assert key in count.reasons[0]
    settings = {"temperature": 0.5, "user": "ann", "metadata": {"a": "b"}, "stop": ["x"], "stream": True, key: 5}
    assert counter().chat(chat("Hi", **settings)) == plain
    assert counter().responses({"input": "Hi", "include": ["x"], "truncation": "auto"}).exact


def test_an_object_that_contains_itself_is_rejected() -> None:
    """A Python object that contains itself raises an error."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(BillingError) as caught:
        counter().chat(chat("Hi", wibble=loop))
    assert code_of(caught) == "request_too_large"


@pytest.mark.parametrize(
    "model", ["gpt-5.4-nano", "gpt-5.7", "gpt-6", "gpt-4", "gpt-4o-audio-preview", "gpt-4o-mini-search-preview"]
)
def test_models_without_recorded_requests_are_estimates(model: str) -> None:
    """Only families with recorded requests are exact; the others count as their nearest relative."""
    token_counter = TokenCounter(model, encoding="o200k_base")
    count = token_counter.chat(chat("Hello"))
    assert not count.exact
    assert 7 <= count <= 8


REASONING = {"type": "reasoning", "encrypted_content": "A" * 2_000, "summary": []}


@pytest.mark.parametrize(
    ("items", "context", "counts"),
    [
        ([{"role": "user", "content": "Hi"}, REASONING], None, True),
        ([{"role": "user", "content": "Hi"}, REASONING, {"role": "user", "content": "Go on"}], None, False),
        ([{"role": "user", "content": "Hi"}, REASONING, {"role": "user", "content": "Go on"}], "auto", False),
        ([{"role": "user", "content": "Hi"}, REASONING, {"role": "user", "content": "Go on"}], "all_turns", True),
    ],
)
def test_reasoning_counts_until_the_user_speaks(items: list[Any], context: str | None, counts: bool) -> None:
    """Reasoning counts in a tool loop until the next message of the user, unless all turns are kept."""
    body: dict[str, Any] = {"input": items} | ({"reasoning": {"context": context}} if context else {})
    assert ("reasoning" in counter().responses(body).by_kind()) == counts


def test_tools_cost_more_without_a_system_message() -> None:
    """With gpt-4o, tools cost four tokens more without a system message, in any format of that message."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    user = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    for content in ("x.", [{"type": "text", "text": "x."}]):
        alone = counter("gpt-4o").chat({"messages": [user], "tools": tools})
        system = {"role": "system", "content": content}
        assert counter("gpt-4o").chat({"messages": [system, user], "tools": tools}) == alone - 4 + 4 + 2


def test_the_tools_follow_the_system_message_after_a_blank_line() -> None:
    """A blank line precedes the tools. It costs nothing where it merges with the full stop of the system message."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    full, bare = ({"messages": [{"role": "system", "content": text}], "tools": tools} for text in ("x.", "x x"))
    for model in ("gpt-4o", "gpt-5"):
        assert counter(model).text("x.") == counter(model).text("x x") == 2
        assert counter(model).chat(bare) == counter(model).chat(full) + 1


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (
            {"type": "file", "file": {"file_data": f"data:text/plain;base64,{b64encode(b'hello world').decode()}"}},
            "files",
        ),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0xLjQK"}}, "files"),
        ({"type": "file", "file": {"file_data": b64encode(b"\xff\xfe\x00").decode()}}, "files"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "files"),
        ({"type": "input_audio", "input_audio": {"data": b64encode(b"x" * 32_000).decode(), "format": "mp3"}}, "audio"),
    ],
)
def test_files_and_audio_are_estimates(part: dict[str, Any], kind: str) -> None:
    """Files and audio are estimates with a reason; a text file costs at least its text."""
    count = counter().chat({"messages": [{"role": "user", "content": [part]}]})
    assert not count.exact
    assert count.by_kind()[kind] > 0


def test_a_wav_costs_by_its_length() -> None:
    """Two seconds of a WAV file are 21 tokens: ten per second, and one that has started."""
    rate = (32_000).to_bytes(4, "little")
    head = b"RIFF" + b"\0" * 4 + b"WAVEfmt " + b"\x10\0\0\0\x01\0\x01\0\x80>\0\0" + rate + b"\x02\0\x10\0data\0\0\0\0"
    audio = {"data": b64encode(head + b"\0" * (64_000 - len(head))).decode(), "format": "wav"}
    count = counter().chat({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]})
    assert count.by_kind()["audio"] == 21


def test_embeddings_are_their_texts() -> None:
    """A text, several texts, and token ids have no overhead in embeddings."""
    token_counter = TokenCounter("text-embedding-3-small", encoding="o200k_base")
    assert token_counter.request({"input": ["hello", "world"]}) == 2
    assert token_counter.embeddings({"input": "hello world"}) == 2
    assert token_counter.embeddings({"input": [1, 2, 3]}) == 3
    assert token_counter.embeddings({"input": [[1, 2], [3]]}) == 3
    with pytest.raises(BillingError):
        token_counter.embeddings({"input": 5})


def test_names_refusals_and_structured_outputs_count() -> None:
    """A participant's name, a refusal and the schema of an output add tokens. For gpt-5 the schema is an estimate."""
    plain = counter().chat(chat("Hi"))
    named = counter().chat({"messages": [{"role": "user", "content": "Hi", "name": "ann"}]})
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    formed = counter().chat(chat("Hi", response_format=schema))
    refused = counter().chat({"messages": [{"role": "assistant", "content": None, "refusal": "I will not."}]})
    assert named == plain + counter().text("ann")
    assert counter("gpt-4o").chat({"messages": [{"role": "user", "content": "Hi", "name": "ann"}]}) == named + 1 + 1
    assert formed > plain
    assert not formed.exact
    assert refused > 6
    as_text = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}
    named_once = counter().responses({"input": "Hi", "text": as_text})
    assert plain < named_once < formed  # chat completions repeat the name


@pytest.mark.parametrize("pair", small_pairs()[:20])
def test_sdk_like_objects_count_as_their_dicts(pair: Any) -> None:
    """An object with ``model_dump`` counts as its dump."""

    class Body:
        def model_dump(self) -> dict[str, Any]:
            return dict(pair.request)

    token_counter = counter(pair.model)
    assert token_counter.request(Body()) == token_counter.request(pair.request)  # type: ignore[arg-type]
