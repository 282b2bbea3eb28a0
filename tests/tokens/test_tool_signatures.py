"""Tools rendered as the model receives them."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.tokens.tool_signatures import render_tools
from profiles import examples
from token_kit import chat, counter


def written(parameters: Any, layout: str = "namespaced", **more: Any) -> str:
    """Return the signature of a tool ``f``."""
    text = render_tools([{"name": "f", "parameters": parameters, **more}], layout).text
    inside = text.partition("functions {\n\n" if layout == "classic" else "definitions\n")[2]
    return inside.partition("\n\n} //")[0]


def obj(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("parameters", "signature"),
    [
        (None, "type f = () => any;"),
        ({}, "type f = () => any;"),
        (obj(), "type f = () => any;"),
        (obj("a", a=TEXT, b=TEXT), "type f = (_: { a: string, b?: string }) => any;"),
        (obj("a", a={"type": "array", "items": TEXT}), "type f = (_: { a: string[] }) => any;"),
        (obj("a", a={**TEXT, "description": "Say it."}), "type f = (_: {\n// Say it.\na: string,\n}) => any;"),
        (
            {**obj("a", a=TEXT), "description": "What for."},
            "type f = (_: // What for.\n{ a: string }) => any;",
        ),
        (obj("a", a={"anyOf": [TEXT, {"type": "null"}]}), "type f = (_: { a: string | null }) => any;"),
        (obj("a", a={"enum": ["x", 1, None]}), 'type f = (_: { a: "x" | 1 | null }) => any;'),
        (obj("a", a={"const": "x"}), 'type f = (_: { a: "x" }) => any;'),
        (obj(a={"type": ["string", "null"]}), "type f = (_: { a?: string | null }) => any;"),
        (obj(a={**TEXT, "default": "x"}), 'type f = (_: {\na?: string, // default: "x"\n}) => any;'),
        (
            obj(a={**obj("b", b=TEXT), "default": None, "description": "A pair."}),
            "type f = (_: {\n// A pair.\n// default: null\na?: { b: string },\n}) => any;",
        ),
        (
            obj(a={"type": "array", "items": obj("b", b={**TEXT, "description": "B."})}),
            "type f = (_: {\na?: Array<\n{\n// B.\nb: string,\n}\n>,\n}) => any;",
        ),
        (obj(a={"type": "object"}), "type f = (_: { a?: { [key: string]: any } }) => any;"),
        (
            {**obj(a={"$ref": "#/$defs/P"}), "$defs": {"P": obj("b", b=TEXT)}},
            "type f = (_: { a?: { b: string } }) => any;",
        ),
        (obj(a={**TEXT, "title": "A", "description": "B"}), "type f = (_: {\n// A\n//\n// B\na?: string,\n}) => any;"),
        (
            obj(a={"type": "array", "items": TEXT, "minItems": 1, "maxItems": 5}),
            "type f = (_: {\na?: string[], // minItems: 1, maxItems: 5\n}) => any;",
        ),
    ],
)
def test_a_schema_becomes_a_signature(parameters: Any, signature: str) -> None:
    """Each kind of schema is rendered as in recorded requests and public captures of prompts."""
    assert written(parameters) == signature


def test_the_two_layouts() -> None:
    """The classic layout is a namespace block and has no integers; the other has headings and integers."""
    tool = {"name": "f", "description": "One.\n\n  Two.  ", "parameters": obj("a", a={"type": "integer"})}
    assert render_tools([tool], "classic").text == (
        "## functions\n\nnamespace functions {\n\n// One.\n//\n// Two.\ntype f = (_: { a: number }) => any;"
        "\n\n} // namespace functions"
    )
    assert render_tools([tool, tool], "namespaced", "mine").text == (
        "## Namespace: mine\n\n### Target channel: commentary\n\n### Tool definitions\n"
        "// One.\n//\n// Two.\ntype f = (_: { a: integer }) => any;\n\n"
        "// One.\n//\n// Two.\ntype f = (_: { a: integer }) => any;"
    )


def test_an_unverified_feature_is_an_estimate_with_a_bound() -> None:
    """A count with an enumeration in a tool's schema is an estimate with a higher bound."""
    tool = {"type": "function", "function": {"name": "f", "parameters": obj("a", a={"enum": ["C", "F"]})}}
    count = counter().chat(chat("Hi", tools=[tool]))
    assert not count.exact
    assert "an enumeration" in count.reasons[0]
    assert count.upper is not None
    assert count.upper > count


def deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = TEXT
    for _ in range(depth):
        schema = obj("a", a=schema)
    return schema


def doubling(levels: int) -> dict[str, Any]:
    """Return references that double with each level."""
    definitions = {
        f"L{n}": obj(a={"$ref": f"#/$defs/L{n + 1}"}, b={"$ref": f"#/$defs/L{n + 1}"}) for n in range(levels)
    }
    return {**obj(a={"$ref": "#/$defs/L0"}), "$defs": {**definitions, f"L{levels}": TEXT}}


@pytest.mark.parametrize(
    "parameters",
    [
        deep(30),
        {**obj(a={"$ref": "#/$defs/A"}), "$defs": {"A": obj(a={"$ref": "#/$defs/A"})}},
        {**obj(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"$ref": "#/$defs/A"}}},
        doubling(22),
    ],
    ids=["deep", "circle", "reference to itself", "doubling"],
)
def test_deep_and_recursive_schemas_are_estimates(parameters: Any) -> None:
    """Deep schemas and recursive references are estimates with a bound, within seconds."""
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    started = time.monotonic()
    count = counter().chat(chat("Hi", tools=[tool]))
    assert not count.exact
    assert count.upper is not None
    assert count.upper > count
    assert time.monotonic() - started < 20


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "anyOf", "enum", "$ref", "required", "default", "a", "description"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=examples(200), deadline=None)
@given(json_values)
def test_any_schema_is_rendered_or_rejected(parameters: Any) -> None:
    """A JSON value as a schema raises only errors with a code."""
    for layout in ("classic", "namespaced"):
        with suppress(BillingError):
            render_tools([{"name": "f", "parameters": parameters, "description": parameters}], layout)
