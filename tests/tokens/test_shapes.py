"""Generated requests of the documented formats: a bound is never below the tokens of the texts in the request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles import examples
from token_kit import counter

Json = dict[str, Any]
MODELS = ("gpt-4o", "gpt-4.1-mini", "o3", "gpt-5-mini", "gpt-5.4-mini", "gpt-5.6-sol")
WORDS = [
    "alpha",
    "上海",
    "Größe",
    "🦊",
    "don't",
    "e.g.",
    "http://x.y/z?q=1",
    "{json}",
    "<tag>",
    "\u200b\u0301",
    "𝒳",
    "\n",
]
TEXT_KEYS = ("description", "enum", "content", "text", "const", "arguments", "output", "instructions", "input", "title")

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
names = st.sampled_from(["city", "unit_of_measure", "Größe", "a b", "$odd", "x1"])


def extended(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return schemas that contain schemas, as JSON Schema has them."""
    many = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(
        st.dictionaries(names, inner, max_size=3).map(lambda found: {"type": "object", "properties": found}),
        inner.map(lambda one: {"type": "array", "items": one}),
        many.map(lambda some: {"type": "array", "prefixItems": some}),
        st.tuples(st.sampled_from(["anyOf", "oneOf", "allOf"]), many).map(lambda pair: {pair[0]: pair[1]}),
        inner.map(lambda one: {"type": "object", "patternProperties": {"^x": one}, "additionalProperties": one}),
        inner.map(lambda one: {"not": one}),
    )


leaves = st.one_of(
    st.sampled_from([{"type": "string"}, {"type": ["integer", "null"]}, {"$ref": "#/$defs/Node"}, True, {}]),
    st.builds(lambda kind, text: {"type": kind, "description": text}, st.sampled_from(["string", "number"]), texts),
    st.lists(texts, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    texts.map(lambda text: {"const": text}),
    st.builds(lambda title, text: {"type": "string", "title": title, "pattern": text}, texts, texts),
)
schemas = st.builds(
    lambda properties, definitions, more: {"type": "object", "properties": properties, "$defs": definitions, **more},
    st.dictionaries(names, st.recursive(leaves, extended, max_leaves=6), max_size=3),
    st.dictionaries(st.sampled_from(["Node", "Other"]), st.recursive(leaves, extended, max_leaves=3), max_size=2),
    st.sampled_from([{}, {"additionalProperties": False}, {"required": ["city"]}, {"description": "🦊 all of it"}]),
)
tools = st.lists(
    st.builds(
        lambda text, schema, more: {"name": "get_it", "description": text, "parameters": schema, **more},
        texts,
        schemas,
        st.sampled_from([{}, {"strict": True}, {"strict": False}]),
    ),
    max_size=2,
)
parts = st.lists(texts.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)
roles = st.sampled_from(["system", "developer", "user", "assistant"])


@st.composite
def chats(draw: st.DrawFn) -> Json:
    """Draw a request to chat completions."""
    messages: list[Json] = draw(
        st.lists(st.builds(lambda role, content: {"role": role, "content": content}, roles, texts | parts), min_size=1)
    )
    if draw(st.booleans()):
        call = {"id": "c", "type": "function", "function": {"name": "get_it", "arguments": json.dumps({"a": 1})}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": draw(texts | parts)},
        ]
    request: Json = {"messages": messages}
    functions = draw(tools)
    if functions:
        request["tools"] = [{"type": "function", "function": function} for function in functions]
    if draw(st.booleans()):
        format_of = {"name": "out", "schema": draw(schemas), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": format_of}
    return request


@st.composite
def responses(draw: st.DrawFn) -> Json:
    """Draw a request to Responses."""
    items: list[Json] = []
    for text in draw(st.lists(texts, min_size=1, max_size=4)):
        items.append(
            draw(
                st.sampled_from(
                    [
                        {"role": "user", "content": text},
                        {"role": "developer", "content": [{"type": "input_text", "text": text}]},
                        {
                            "type": "function_call",
                            "call_id": "c",
                            "name": "get_it",
                            "arguments": json.dumps({"q": text}),
                        },
                        {"type": "function_call_output", "call_id": "c", "output": text},
                        {
                            "type": "function_call_output",
                            "call_id": "c",
                            "output": [{"type": "input_text", "text": text}],
                        },
                        {"type": "custom_tool_call_output", "call_id": "c", "output": text},
                    ]
                )
            )
        )
    request: Json = {"input": items, "instructions": draw(texts)}
    functions = draw(tools)
    if functions:
        request["tools"] = [{"type": "function", **function} for function in functions]
    if draw(st.booleans()):
        request["text"] = {"format": {"type": "json_schema", "name": "out", "schema": draw(schemas)}}
    return request


def texts_of(value: Any, key: str = "") -> Iterator[str]:
    """Yield the texts that a model must be shown."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from texts_of(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item, key)
    elif isinstance(value, str) and key in TEXT_KEYS:
        yield value


@pytest.mark.parametrize("api", ["chat", "responses"])
@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_bound_is_never_below_the_tokens_of_the_texts(api: Any, data: st.DataObject) -> None:
    """Whatever a request has, in schemas too, its bound covers each text; two texts may share one token at a seam."""
    request = data.draw(chats() if api == "chat" else responses())
    counted = counter(data.draw(st.sampled_from(MODELS)))
    count = counted.request(request, api=api)
    found = list(texts_of(request))
    least = sum(counted.text(text) - 1 for text in found)
    assert count.upper is None or least <= count.upper
    assert count.upper is None or count <= count.upper
    assert not count.exact or least <= count


def test_a_definition_that_nothing_refers_to_is_not_exact() -> None:
    """Whether the model is shown an unused definition is not known: no exact count, and a wider bound."""
    used = {"properties": {"to": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": {"type": "string"}}}
    unused = {**used, "$defs": {**used["$defs"], "Other": {"type": "string", "description": "alpha beta " * 20}}}
    counts = [
        counter("gpt-4o").chat(
            {
                "messages": [{"role": "user", "content": "Hi"}],
                "tools": [{"type": "function", "function": {"name": "go", "parameters": schema}}],
            }
        )
        for schema in (used, unused)
    ]
    assert [count.exact for count in counts] == [True, False]
    assert counts[1].upper is None or (counts[0].upper is not None and counts[1].upper >= counts[0].upper + 40)
