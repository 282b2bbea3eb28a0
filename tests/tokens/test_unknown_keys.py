"""Unknown input is never exact, and counting it takes bounded time."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.tokens import TokenCounter
from brivionix_billing.tokens.tool_signatures import render_tools
from samples import code_of
from token_kit import chat, counter

STORY = "a tale of five words " * 100
TEXT = {"type": "string"}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def function(parameters: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters, **more}}


@pytest.mark.parametrize(
    "tool",
    [
        function({**obj(a=TEXT), "allOf": [{"description": STORY}]}),
        function({**obj(a=TEXT), "examples": [STORY]}),
        function({"anyOf": [{**obj(a=TEXT), "description": STORY}]}),
        function({"description": STORY}),
        function(obj(a={"type": "array", "prefixItems": [{"description": STORY}]})),
        function(obj(a={"type": "array", "items": {**TEXT, "description": STORY}})),
        function(obj(a={"anyOf": [{**TEXT, "description": STORY}, {"type": "null"}]})),
        function(obj(a={"anyOf": [{**TEXT, "description": STORY}, TEXT]})),
        function({**obj(a=TEXT), "additionalProperties": {"description": STORY}}),
        function({**obj(a={"$ref": "#/nowhere"}), "x-notes": STORY}),
        {"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "definition": STORY}}},
    ],
    ids=lambda tool: "",
)
def test_the_bound_includes_texts_that_are_not_rendered(tool: dict[str, Any]) -> None:
    """A text in a tool that no rule renders makes the count an estimate whose bound includes that text."""
    count = counter().chat(chat("Hi", tools=[tool]))
    assert not count.exact
    assert count.upper is not None
    assert count.upper >= counter().text(STORY)


def test_omitted_texts_are_added_to_a_longer_rendering() -> None:
    """The bound covers both a rendering that is longer than the schema and a text that is not rendered."""
    parameters = {**obj(**{f"p{n}": {"$ref": "#/$defs/D"} for n in range(50)}), "$defs": {"D": {"enum": [STORY]}}}
    written = counter().chat(chat("Hi", tools=[function(parameters)]))
    count = counter().chat(chat("Hi", tools=[function({**parameters, "allOf": [{"description": STORY * 40}]})]))
    assert count == written
    assert count.upper is not None
    assert count.upper >= count + counter().text(STORY * 40)


@pytest.mark.parametrize(
    "body",
    [
        {"input": [{"role": "user", "content": "Hi", "reasoning_content": STORY}]},
        {"input": "Hi", "tools": [{"type": "namespace", "name": "n", "description": STORY, "tools": []}]},
        {"messages": [{"role": "assistant", "content": "Hi", "reasoning_content": STORY}]},
        {"messages": [{"role": STORY, "content": "Hi"}]},
        {
            "input": "Hi",
            "tools": [
                {"type": "tool_search"},
                {"type": "function", "name": "f", "description": STORY, "defer_loading": True},
            ],
        },
    ],
    ids=["item", "namespace", "message", "role", "deferred tool"],
)
def test_the_bound_includes_unknown_keys_and_deferred_tools(body: dict[str, Any]) -> None:
    """Unknown keys and roles, and deferred tools, make an estimate whose bound includes their texts."""
    count = counter().request(body)
    assert not count.exact
    assert count.upper is not None
    assert count.upper >= counter().text(STORY)


def doubling(levels: int, width: int) -> dict[str, Any]:
    """Return references that multiply by ``width`` with each level."""
    names = [chr(97 + index) for index in range(width)]
    definitions: dict[str, Any] = {
        f"L{n}": obj(**{name: {"$ref": f"#/$defs/L{n + 1}"} for name in names}) for n in range(levels)
    }
    return {**obj(a={"$ref": "#/$defs/L0"}), "$defs": {**definitions, f"L{levels}": TEXT}}


def repeated(definition: dict[str, Any]) -> dict[str, Any]:
    """Return one definition that ten thousand properties refer to."""
    properties = {f"p{n}": {"$ref": "#/$defs/D"} for n in range(10_000)}
    return {**obj(**properties), "$defs": {"D": definition}}


@pytest.mark.parametrize(
    "tools",
    [
        [doubling(8, 10)],
        [doubling(10, 2)] * 60,
        [repeated({**TEXT, "description": "x" * 400_000})],
        [repeated({"enum": ["x" * 400] * 1_000})],
        [repeated({**TEXT, "default": "x" * 400_000})],
        [obj(a={**obj(b={**obj(c=TEXT), "type": ["object"] * 2_000}), "type": ["object"] * 2_000})],
    ],
    ids=["references", "many tools", "a description", "an enumeration", "a default", "types"],
)
def test_expanding_tools_are_rejected_quickly(tools: list[Any]) -> None:
    """A small body whose tools would expand to gigabytes is rejected within seconds."""
    token_counter = TokenCounter("gpt-5.4-mini")
    started = time.monotonic()
    for _ in range(2):  # a cached rendering is rejected again
        with pytest.raises(BillingError) as caught:
            token_counter.chat(
                chat("Hi", tools=[function(parameters, description=str(n)) for n, parameters in enumerate(tools)])
            )
        assert code_of(caught) == "request_too_large"
    assert time.monotonic() - started < 20


def test_cached_tools_count_against_the_budget() -> None:
    """Tools that were each rendered before are rejected together as if they were new."""
    token_counter = TokenCounter("gpt-5.4-mini")
    tool = {"type": "function", "name": "f", "parameters": doubling(10, 2)}
    items = [{"type": "additional_tools", "tools": [tool]}]
    assert not token_counter.responses({"input": items * 8}).exact
    for times in (60, 15):  # the second time, a cached conversation of 8 continues
        with pytest.raises(BillingError) as caught:
            token_counter.responses({"input": items * times})
        assert code_of(caught) == "request_too_large"


@pytest.mark.parametrize(
    ("parameters", "signature"),
    [
        (
            {**obj(a={"$ref": "#/$defs/T"}), "$defs": {"T": obj(left={"$ref": "#/$defs/T"}, name=TEXT)}},
            "{ a?: { left?: T, name?: string } }",
        ),
        ({**obj(a={"$ref": "#/$defs/T"}), "$defs": {"T": {"$ref": "#/$defs/T"}}}, "{ a?: T }"),
        (obj(a={"$ref": "#"}), "{ a?: any }"),
        ({**obj(a={"$ref": "#/$defs/x~1y~0z"}), "$defs": {"x/y~z": TEXT}}, "{ a?: string }"),
        ({"$ref": "#/$defs/T", "$defs": {"T": obj(a=TEXT)}}, "{ a?: string }"),
    ],
    ids=["a tree", "itself", "the root", "a name with a slash", "the root by reference"],
)
def test_references_are_resolved_once(parameters: Any, signature: str) -> None:
    """A reference is rendered as its target, and a recursive one, as in a tree, by its name."""
    written = render_tools([{"name": "f", "parameters": parameters}], "namespaced")
    assert written.text.endswith(f"type f = (_: {signature}) => any;")
    assert written.unverified


@pytest.mark.parametrize("bad", [[], {}, 5, ["a"]])
def test_ids_that_are_not_texts_are_rejected(bad: Any) -> None:
    """An id or a name that is not a text is ``invalid_request``, in every position."""
    call = {"id": bad, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    search = {"type": "tool_search"}
    bodies: list[dict[str, Any]] = [
        {"messages": [{"role": "tool", "tool_call_id": bad, "content": "x"}]},
        {"messages": [{"role": "assistant", "tool_calls": [call]}]},
        {"messages": [{"role": "function", "name": bad, "content": "x"}]},
        {"messages": [{"role": "assistant", "function_call": {"name": bad, "arguments": ""}}]},
        {"input": [{"type": "function_call", "call_id": bad, "name": "f", "arguments": ""}]},
        {"input": [{"type": "function_call_output", "call_id": bad, "output": ""}]},
        {"input": "Hi", "tools": [search, {"type": "function", "name": bad, "defer_loading": True}]},
        {"input": [{"type": "tool_search_output", "tools": [{"type": "function", "name": bad}]}], "tools": [search]},
    ]
    for body in bodies:
        with pytest.raises(BillingError) as caught:
            counter().request(body)
        assert code_of(caught) == "invalid_request"


def wav(rate: int, size: int) -> str:
    """Return a WAV file in base64 with this byte rate."""
    head = b"RIFF" + bytes(4) + b"WAVEfmt " + bytes(12) + rate.to_bytes(4, "little") + bytes(12)
    return base64.b64encode(head + bytes(size)).decode()


def test_the_bound_of_audio_ignores_its_header() -> None:
    """A header with an absurd rate does not shorten the audio, and no header lowers the bound."""
    counts = []
    for rate in (16_000, 2**32 - 1, 0):
        part = {"type": "input_audio", "input_audio": {"data": wav(rate, 960_000), "format": "wav"}}
        counts.append(counter().chat({"messages": [{"role": "user", "content": [part]}]}))
    assert counts[0] == counts[1] == counts[2] > 600
    assert [count.upper for count in counts] == [counts[0].upper] * 3
    assert counts[0].upper is not None
    assert counts[0].upper >= 960_000 * 10 // 500
    empty = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    count = counter().chat({"messages": [{"role": "user", "content": [empty]}]})
    assert count.upper is not None
    assert count.upper >= count


@pytest.mark.parametrize(
    "file",
    [
        {"file_data": "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.7 /Type /Page").decode()},
        {"file_data": base64.b64encode(b"PK\x03\x04\xff\xfe").decode()},
        {"file_data": "aGVsbG8!!!!gd29ybGQ="},
        {"file_data": base64.b64encode(b"hello").decode(), "file_id": "file-1"},
        {"file_id": "file-1"},
    ],
    ids=["pdf", "packed", "no base64", "two sources", "named"],
)
def test_an_unreadable_file_has_no_bound(file: dict[str, Any]) -> None:
    """Compressed, referenced or unreadable content has no bound."""
    part = {"type": "input_file", **file}
    assert counter().responses({"input": [{"role": "user", "content": [part]}]}).upper is None


def test_a_text_file_is_its_text() -> None:
    """A text in base64, with or without padding, counts as its text."""
    for data in ("aGVsbG8gd29ybGQ=", "aGVsbG8gd29ybGQ"):
        part = {"type": "input_file", "file_data": data}
        count = counter().responses({"input": [{"role": "user", "content": [part]}]})
        assert count.by_kind()["files"] == 2 + 8


@pytest.mark.parametrize(
    ("name", "family"),
    [("gpt-5.10", "gpt-next"), ("gpt-5.1", "gpt-5.2"), ("gpt-5.2-codex", "gpt-5.2"), ("gpt-5.20-pro", "gpt-next")],
)
def test_a_version_is_not_mistaken_for_a_shorter_one(name: str, family: str) -> None:
    """gpt-5.10 does not belong to the family of gpt-5.1."""
    assert TokenCounter(name).family.name == family


@pytest.mark.parametrize("bad", [5, ["o200k_base"], {"o200k_base": 1}])
def test_names_that_are_not_texts_are_errors(bad: Any) -> None:
    """An encoding or a family that is not a text raises an error with a code, not a ``TypeError``."""
    with pytest.raises(BillingError) as caught:
        TokenCounter("gpt-4o", encoding=bad).text("x")
    assert code_of(caught) == "unknown_encoding"
    with pytest.raises(BillingError) as caught:
        TokenCounter("gpt-4o", family=bad)
    assert code_of(caught) == "unknown_token_family"


def test_rules_apply_to_the_familys_own_encoding() -> None:
    """With another encoding than its family's, no part of a count is exact, not even its texts."""
    count = TokenCounter("gpt-3.5-turbo", encoding="o200k_base").chat(chat("Hi"))
    assert not any(part.exact for part in count.parts if part.tokens)


def test_tools_of_an_unknown_model_have_no_bound() -> None:
    """Tools of another vendor's model have no bound, whether given at once or found by a search."""
    tool = {"type": "function", "name": "f", "parameters": obj(a=TEXT)}
    token_counter = TokenCounter("other", encoding="o200k_base")
    for tools in ([tool], [{"type": "tool_search"}, {**tool, "defer_loading": True}]):
        assert token_counter.responses({"input": "Hi", "tools": tools}).upper is None
    assert token_counter.responses({"input": "Hi"}).upper is not None


def test_objects_that_imitate_bodies_are_rejected() -> None:
    """A ``model_dump`` that returns no plain object is ``invalid_request``, and so is a duplicate key."""

    class Odd:
        def model_dump(self) -> Any:
            return self

    twice = '{"messages": [], "max_tokens": 1, "max_tokens": 9}'
    for body in (Odd(), 5, None, twice, "[" * 100_000, '{"messages": NaN}', b"\xff"):
        with pytest.raises(BillingError) as caught:
            counter().request(body)  # type: ignore[arg-type]
        assert code_of(caught) == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "Say hi.", "max_tokens": 5},
        {"prompt": ["Say hi."]},
        {"messages": [], "input": "Hi"},
        {"input": ["one", "two"], "max_output_tokens": 5},
    ],
    ids=["completions", "several completions", "both", "texts to be answered"],
)
def test_a_body_of_no_api_or_of_two_is_rejected(body: dict[str, Any]) -> None:
    """A request to the old completions API, or to two APIs at once, is rejected."""
    with pytest.raises(BillingError) as caught:
        counter().request(body)
    assert code_of(caught) == "invalid_request"


def test_the_caller_selects_the_api() -> None:
    """``api`` selects the API of an ambiguous body; an unknown name is ``invalid_argument``."""
    both = {"messages": [{"role": "user", "content": "one two three four"}], "input": "Hi"}
    assert counter().request(both, api="responses") == counter().request({"input": "Hi"}) + 4 + 1  # and the role
    assert counter().request({"input": ["one", "two"]}, api="embeddings") == 2
    assert counter().request({"input": ["one", "two"]}) == 2
    with pytest.raises(BillingError) as caught:
        counter().request(both, api="completions")  # type: ignore[arg-type]
    assert code_of(caught) == "invalid_argument"


@pytest.mark.parametrize(
    "body",
    [
        {"input": "Hi", "context_management": [{"type": "compaction", "compact_threshold": 1000}]},
        {"input": "Hi", "extra_body": {"plugins": [{"id": "web"}]}},
    ],
    ids=lambda body: list(body)[1],
)
def test_what_may_run_the_model_again_leaves_no_bound(body: dict[str, Any]) -> None:
    """A compaction reads the input once more, and an SDK merges unknown keys with the request."""
    count = counter("gpt-5.4").responses(body)
    assert (count.exact, count.upper) == (False, None)
    assert counter("gpt-5.4").responses({"input": "Hi", "extra_body": {"store": False}}).exact


def test_annotations_and_namespaces_are_estimates_with_a_bound() -> None:
    """No recorded request confirms how links of a search without the search, and namespaces of tools, are shown."""
    links = [{"type": "url_citation", "url": "u", "title": STORY}]
    texts = [{"type": "output_text", "text": "Hi", "annotations": found} for found in ([], links)]
    plain, linked = (
        counter("gpt-5.4").responses({"input": [{"role": "assistant", "content": [text]}]}) for text in texts
    )
    assert plain.exact
    assert (linked, linked.exact) == (plain, False)
    assert linked.upper is not None
    assert linked.upper >= plain + counter().text(STORY)
    message = {"role": "assistant", "content": "Hi", "annotations": links}
    assert not counter().chat({"messages": [message]}).exact
    tool = {"type": "function", "name": "f", "parameters": obj(a=TEXT)}
    named = counter("gpt-5.4").responses(
        {"input": "Hi", "tools": [{"type": "namespace", "name": "n", "tools": [tool]}]}
    )
    assert (named.exact, named.upper) == (False, named + 32)
