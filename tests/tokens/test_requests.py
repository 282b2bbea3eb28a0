"""Whole request bodies: strange ones, growing ones, and what a count says of itself."""

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
def test_a_body_that_is_no_request_is_named(body: Any) -> None:
    """What is no request is ``invalid_request`` with status 400, and never another exception."""
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


def test_deep_and_long_requests_are_refused() -> None:
    """Arguments nested 100 000 deep are ``invalid_request``; texts above the caller's bound ``request_too_large``."""
    deep = {"input": [{"type": "tool_search_call", "arguments": nested(100_000)}]}
    with pytest.raises(BillingError) as caught:
        counter().responses(deep)
    assert code_of(caught) == "invalid_request"
    made = TokenCounter("gpt-5.4-mini", max_characters=1_000)
    for _ in range(2):  # remembered or not
        with pytest.raises(BillingError) as caught:
            made.chat(chat(*["word " * 50] * 5))
        assert (caught.value.code, caught.value.http_status) == ("request_too_large", 413)
    talk = ["a word or two"] * 76  # 988 characters
    assert made.chat(chat(*talk)) > 0
    with pytest.raises(BillingError):
        made.chat(chat(*talk, "a word or two"))


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (1.5, 2), "9x9", [9, 9], (1, 2, 3), (True, 1)])
def test_a_size_that_is_none_is_told(size: Any) -> None:
    """What the caller's image_size gives must be a size or nothing."""
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
def test_any_body_is_counted_or_refused(body: Any) -> None:
    """No JSON object whatever raises anything but a named error; a count is not negative, its bound not below it."""
    for model in ("gpt-5.4-mini", "gpt-4o"):
        try:
            found = counter(model).request(body)
        except BillingError:
            continue
        assert found >= 0
        assert found.upper is None or found.upper >= found
        assert found == sum(part.tokens for part in found.parts) == sum(found.by_kind().values())
        assert found.exact == (not found.reasons)


def test_a_count_is_an_int_that_explains_itself() -> None:
    """It adds, compares, hashes, copies, pickles and prints as an int; and knows its parts."""
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


def test_models_limits_bound_what_is_not_known() -> None:
    """What has no bound of its own is bounded by the most that the model takes, where a price book says it."""
    body = {"input": "Hi", "previous_response_id": "resp_1"}
    assert counter().responses(body).upper is None
    assert TokenCounter("gpt-5.4-mini", shipped()).responses(body).upper == 272_000


def test_bounds_stay_within_what_the_model_takes() -> None:
    """A bound above the model's largest input is that input; a count above it stays what was counted."""
    tiny = PriceBook.loads(
        SHIPPED.read_text(encoding="utf-8").replace(
            "context: {window: 400000, max_input: 272000, max_output: 128000}",
            "context: {window: 40, max_input: 20, max_output: 10}",
        )
    )
    made = TokenCounter("gpt-5.2", tiny)
    schema = {"format": {"type": "json_schema", "name": "x", "schema": {}}}
    few = made.responses({"input": "Hi", "text": schema})
    assert few > 20
    assert not few.exact
    assert few.upper == few
    image = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.y/z"}}]}]}
    assert TokenCounter("gpt-5.2", shipped()).chat(image).upper == 6 + 5 + -(-1536 * 162 // 100)
    assert made.responses({"input": "Hi", "conversation": "c"}).upper == 20
    assert made.chat(chat("one two three " * 10)).upper == made.chat(chat("one two three " * 10)) > 20


def test_a_model_of_others_is_an_estimate_through_and_through() -> None:
    """Where the vocabulary may not be the model's, texts are estimates, bounded by bytes; tools by nothing."""
    made = TokenCounter("claude-x", encoding="o200k_base")
    text = "こんにちは、世界"
    count = made.chat(chat(text))
    assert not count.exact
    assert any("vocabulary" in why for why in count.reasons)
    assert (count.upper or 0) >= len(text.encode()) > count
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert made.chat(chat("Hi", tools=[tool])).upper is None
    assert not made.worst_case(chat("Hi", max_tokens=5)).is_guaranteed


@pytest.mark.parametrize("key", ["system", "documents", "wibble"])
def test_what_stands_under_an_unknown_key_is_unseen(key: str) -> None:
    """Texts under keys that OpenAI's requests do not have are counted without a bound; settings cost nothing."""
    plain = counter().chat(chat("Hi"))
    for value in ("word " * 100, [{"type": "text", "text": "word " * 100}]):
        count = counter().chat(chat("Hi", **{key: value}))
        assert (count.exact, count.upper) == (False, None)
        assert count >= plain + 100
        assert key in count.reasons[0]
    settings = {"temperature": 0.5, "user": "ann", "metadata": {"a": "b"}, "stop": ["x"], "stream": True, key: 5}
    assert counter().chat(chat("Hi", **settings)) == plain
    assert counter().responses({"input": "Hi", "include": ["x"], "truncation": "auto"}).exact


def test_a_key_that_holds_itself_is_refused() -> None:
    """A Python object that contains itself ends in an error, not in a loop without end."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(BillingError) as caught:
        counter().chat(chat("Hi", wibble=loop))
    assert code_of(caught) == "request_too_large"


@pytest.mark.parametrize(
    "model", ["gpt-5.4-nano", "gpt-5-nano", "gpt-4.1-nano", "gpt-5.7", "gpt-6", "o4-mini", "gpt-4"]
)
def test_models_that_no_request_is_of_are_estimates(model: str) -> None:
    """Only families with recorded requests are called exact; the others count as their nearest relative."""
    made = TokenCounter(model, encoding="o200k_base")
    count = made.chat(chat("Hello"))
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
    """Reasoning given back counts in a tool loop, is dropped once the user has spoken, unless all turns are kept."""
    body: dict[str, Any] = {"input": items} | ({"reasoning": {"context": context}} if context else {})
    assert ("reasoning" in counter().responses(body).by_kind()) == counts


def test_tools_stand_in_a_system_message_if_there_is_one() -> None:
    """With gpt-4o tools cost four tokens more where no system message is there, however that one is written."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    user = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    for system in ({"role": "system", "content": "x"}, {"role": "system", "content": [{"type": "text", "text": "x"}]}):
        alone = counter("gpt-4o").chat({"messages": [user], "tools": tools})
        assert counter("gpt-4o").chat({"messages": [user, system], "tools": tools}) == alone - 4 + 4 + 1
        assert counter("gpt-4o").chat({"messages": [system, user], "tools": tools}) == alone - 4 + 4 + 1


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
    """Files and audio are estimated, and say so; a text file costs its text at least."""
    count = counter().chat({"messages": [{"role": "user", "content": [part]}]})
    assert not count.exact
    assert count.by_kind()[kind] > 0


def test_a_wav_costs_by_its_length() -> None:
    """Two seconds of a WAV file are 21 tokens: ten a second, and one begun."""
    rate = (32_000).to_bytes(4, "little")
    head = b"RIFF" + b"\0" * 4 + b"WAVEfmt " + b"\x10\0\0\0\x01\0\x01\0\x80>\0\0" + rate + b"\x02\0\x10\0data\0\0\0\0"
    audio = {"data": b64encode(head + b"\0" * (64_000 - len(head))).decode(), "format": "wav"}
    count = counter().chat({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]})
    assert count.by_kind()["audio"] == 21


def test_embeddings_are_their_texts() -> None:
    """A text, several texts, and token ids count as themselves, with nothing around."""
    made = TokenCounter("text-embedding-3-small", encoding="o200k_base")
    assert made.request({"input": ["hello", "world"]}) == 2
    assert made.embeddings({"input": "hello world"}) == 2
    assert made.embeddings({"input": [1, 2, 3]}) == 3
    assert made.embeddings({"input": [[1, 2], [3]]}) == 3
    with pytest.raises(BillingError):
        made.embeddings({"input": 5})


def test_names_refusals_and_structured_outputs_count() -> None:
    """A participant's name, a refusal and the schema of an output each add tokens; the last two are no exact count."""
    plain = counter().chat(chat("Hi"))
    named = counter().chat({"messages": [{"role": "user", "content": "Hi", "name": "ann"}]})
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    formed = counter().chat(chat("Hi", response_format=schema))
    refused = counter().chat({"messages": [{"role": "assistant", "content": None, "refusal": "I will not."}]})
    assert named > plain
    assert not named.exact
    assert formed > plain
    assert not formed.exact
    assert refused > 6
    as_text = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}
    assert counter().responses({"input": "Hi", "text": as_text}) == formed


@pytest.mark.parametrize("pair", small_pairs()[:20])
def test_sdk_like_objects_count_as_their_dicts(pair: Any) -> None:
    """An object with ``model_dump`` counts as what it dumps."""

    class Body:
        def model_dump(self) -> dict[str, Any]:
            return dict(pair.request)

    made = counter(pair.model)
    assert made.request(Body()) == made.request(pair.request)  # type: ignore[arg-type]
