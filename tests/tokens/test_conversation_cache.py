"""Growing conversations: continuing from the cache changes no count."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing.tokens import TokenCounter
from profiles import examples
from token_kit import chat, fresh


def test_conversations_are_cached_within_the_bound() -> None:
    """Many conversations in one counter stay within its cache bound, and are counted correctly."""
    token_counter = TokenCounter("gpt-5.4-mini", cache_characters=100_000)
    for number in range(200):
        talk = [f"conversation {number}, message {place}" for place in range(12)]
        assert token_counter.chat(chat(*talk)) == fresh(chat(*talk))
        assert token_counter.cache_info().characters <= 100_000
    assert token_counter.cache_info().characters > 20_000
    token_counter.cache_clear()
    assert token_counter.cache_info().characters == 0


texts = st.text(alphabet="ab c\n", max_size=12)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": texts}
) | st.fixed_dictionaries(
    {"role": st.just("user"), "content": st.lists(st.builds(lambda t: {"type": "text", "text": t}, texts), max_size=2)}
)
ids = st.sampled_from(["a", "b", "c"])
arguments = st.sampled_from(["{}", '{"x":1}', {"x": 1}, {"x": True}, {"x": 1.0}, {}])
names = st.sampled_from(["f", "look_up_the_word", "f.g.h"])
functions = st.fixed_dictionaries({"name": names, "arguments": arguments})
turns = messages | st.one_of(
    st.builds(
        lambda calls: {"role": "assistant", "content": None, "tool_calls": calls},
        st.lists(st.fixed_dictionaries({"id": ids, "type": st.just("function"), "function": functions}), max_size=3),
    ),
    st.builds(lambda i, t: {"role": "tool", "tool_call_id": i, "content": t}, ids, texts),
    st.builds(lambda t: {"role": "user", "content": "x", "name": t}, texts),
)
steps = messages | st.one_of(
    st.builds(lambda f, i: {"type": "function_call", "call_id": i, **f}, functions, ids),
    st.builds(lambda i, t: {"type": "function_call_output", "call_id": i, "output": t}, ids, texts),
    st.builds(lambda n: {"type": "reasoning", "summary": [], "encrypted_content": "x" * n}, st.integers(700, 1_500)),
    st.builds(lambda i: {"type": "tool_search_call", "call_id": i, "arguments": {}}, ids),
    st.just({"type": "web_search_call", "action": {"query": "x"}}),
)
tool = {"type": "function", "function": {"name": "f"}}
own_search = {"type": "tool_search", "parameters": {"type": "object", "properties": {}}}


@settings(max_examples=examples(80), deadline=None)
@given(
    st.sampled_from(["messages", "input"]).flatmap(
        lambda key: st.tuples(
            st.just(key),
            st.lists(st.lists(turns if key == "messages" else steps, min_size=1, max_size=25), min_size=1, max_size=3),
        )
    ),
    st.data(),
)
def test_a_growing_conversation_counts_as_a_new_one(
    given: tuple[str, list[list[dict[str, Any]]]], data: st.DataObject
) -> None:
    """After every turn, in any order of conversations, edited or not, a request counts as with a new counter."""
    key, many = given
    model = data.draw(st.sampled_from(["gpt-5.4-mini", "gpt-4o"]))
    token_counter = TokenCounter(model)
    prefixes = [(talk, length) for talk in many for length in range(1, len(talk) + 1)]
    for talk, length in data.draw(st.permutations(prefixes) | st.just(prefixes)):
        body: dict[str, Any] = {key: talk[:length]}
        if key == "input" and data.draw(st.booleans()):
            body |= {"tools": [own_search], "reasoning": {"context": "all_turns"}, "instructions": "Be kind."}
        if key == "messages" and data.draw(st.booleans()):
            body["tools"] = [tool]
        assert token_counter.request(body).as_dict() == fresh(body, model).as_dict()
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, length - 1))
            talk[place]["content"] = data.draw(texts)  # the caller's object changes
            assert token_counter.request(body).as_dict() == fresh(body, model).as_dict()


@pytest.mark.parametrize("place", [0, 1, 5, 11])
def test_a_changed_message_is_counted_again(place: int) -> None:
    """A message that the caller changes after a count is counted again."""
    token_counter = TokenCounter("gpt-5.4-mini")
    body = chat(*[f"message {number}" for number in range(12)])
    assert token_counter.chat(body) == fresh(body)
    body["messages"][place]["content"] = "something else, and longer"
    assert token_counter.chat(body) == fresh(body)
    body["messages"][place]["role"] = "system"
    assert token_counter.chat(body) == fresh(body)
    del body["messages"][place]
    assert token_counter.chat(body) == fresh(body)


def test_only_new_texts_are_tokenised() -> None:
    """After 200 counted turns, the tokeniser has seen each text once."""
    token_counter = TokenCounter("gpt-5.4-mini")
    seen: list[str] = []
    count = token_counter._count_uncached

    def watched(text: str) -> int:
        seen.append(text)
        return count(text)

    token_counter._count_uncached = watched  # type: ignore[method-assign]
    talk = [f"turn {number} says something of its own" for number in range(200)]
    for length in range(1, 201):
        token_counter.chat(json.loads(json.dumps(chat(*talk[:length]))))
    assert sorted(seen) == sorted(talk)


def talk_with(value: Any) -> dict[str, Any]:
    """Return a conversation with a tool call that has this value."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": value}}}
    return {"messages": [{"role": "assistant", "tool_calls": [call]}, *chat(*["hello there"] * 10)["messages"]]}


def test_equal_values_of_different_types_are_distinguished() -> None:
    """1, 1.0 and True are equal in Python, but each is counted as its own JSON."""
    token_counter = TokenCounter("gpt-5.4-mini")
    for value in (1, 1.0, True, 1):
        assert token_counter.chat(talk_with(value)) == fresh(talk_with(value))
    assert fresh(talk_with(1.0)) != fresh(talk_with(1))


def test_a_conversation_with_tools_is_cached() -> None:
    """Tool calls, results and contents in parts are cached like plain messages."""
    token_counter = TokenCounter("gpt-5.4-mini")
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = [
        {"role": "user", "content": [{"type": "text", "text": "What is new?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Nothing."},
    ]
    token_counter.chat({"messages": turn * 5})
    looked_up: list[str] = []
    count = token_counter._count
    token_counter._count = lambda text: looked_up.append(text) or count(text)  # type: ignore[func-returns-value,method-assign]  # a spy
    body = {"messages": [*turn * 5, {"role": "user", "content": "Thank you."}]}
    assert token_counter.chat(body) == fresh(body)
    assert looked_up == ["Thank you."]


def test_image_sizes_are_not_cached() -> None:
    """The size of an image is requested from the caller again at each turn."""
    sizes = {"https://example.com/a.png": (64, 64)}
    token_counter = TokenCounter("gpt-4o", image_size=sizes.get)
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"messages": [{"role": "user", "content": [image]}, *chat(*["hello"] * 10)["messages"]]}
    small = token_counter.chat(body)
    sizes["https://example.com/a.png"] = (1_024, 1_024)
    assert token_counter.chat(body) == small + 510  # three more tiles
