"""Counts what a request states about its output: a JSON Schema, and a tool that must be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import safe_repr
from brivionix_billing.tokens.request_counter import RequestCounter, to_json

__all__ = ["count_forced_tool", "count_output_format"]

_FORMAT_KEYS: Final = frozenset({"type", "json_schema", "name", "description", "schema", "strict"})
_PLAIN_FORMATS: Final = ("text", "json_object")
_OMITTED_KEYS: Final = frozenset({"required", "additionalProperties", "$schema", "format", "minimum", "maximum"})
"""Keys of a schema that the model is not shown."""
_CONFIRMED_KEYS: Final = frozenset(
    {
        *("type", "properties", "title", "description", "$defs", "$ref", "items", "required", "additionalProperties"),
        "$schema",
    }
)
"""Keys of a schema that recorded requests confirm."""
_NAMED_SCHEMAS: Final = frozenset({"properties", "$defs", "definitions"})
_SINGLE_CALLS: Final = 78
_MARGIN: Final = 8
_UNCONFIRMED_MARGIN: Final = 64


def count_output_format(counter: RequestCounter, output_format: object, items: object) -> None:
    """Count the format of the output: the text of its JSON Schema, without the keys that the model is not shown."""
    if output_format is None:
        return
    if not isinstance(output_format, Mapping):
        counter.builder.add_estimate("format", 0, None, f"the output format {safe_repr(output_format, 40)} is unknown")
        return
    kind, inner = output_format.get("type"), output_format.get("json_schema")
    definition = inner if isinstance(inner, Mapping) else output_format
    unknown = {*(output_format.keys() - _FORMAT_KEYS), *(definition.keys() - _FORMAT_KEYS)}
    unknown = {key for key in unknown if output_format.get(key, definition.get(key)) is not None}
    if unknown or kind not in ("json_schema", *_PLAIN_FORMATS):
        name = min(map(str, unknown)) if unknown else str(kind)
        counter.builder.add_estimate("format", 0, None, f"{safe_repr(name, 40)} of an output format is unknown")
    if kind == "json_schema":
        _count_schema(counter, definition, items)


def _count_schema(counter: RequestCounter, definition: Mapping[str, Any], items: object) -> None:
    builder, name, description = counter.builder, str(definition.get("name")), definition.get("description")
    comment = f"\n// {description}" if isinstance(description, str) and description else ""
    schema = definition.get("schema")
    head = f"# Response Formats\n\n## {name}\n{comment}\n"
    text = head + to_json(_shown(schema))
    tokens, whole = builder.count_text(text), builder.count_text(head + to_json(schema))
    if not builder.dialect.schema.samples:
        bound = whole + whole // 2 + _UNCONFIRMED_MARGIN
        reason = "how the schema of a structured output is shown to this model is confirmed by no recorded request"
        builder.add_estimate("format", tokens, bound, reason)
    elif _is_confirmed(schema):
        builder.add_exact("format", tokens, len(text))
    else:
        reason = "how a part of the schema of a structured output is shown is confirmed by no recorded request"
        builder.add_estimate("format", tokens, max(whole, tokens + tokens // 4) + _MARGIN, reason)
    builder.add_rule("format", "schema")
    if counter.api == "chat" and not counter.has_tools:
        builder.add_rule("format", "schema_chat")
        counter.count_after_system("format", is_first=True)
        builder.add_text("format", name)
        if not counter.has_system_message:
            builder.add_rule("format", "schema_chat_alone")
    _count_answers(counter, items)


def _count_answers(counter: RequestCounter, items: object) -> None:
    """Count how earlier answers and calls differ if the output has a schema. Few recorded requests show it."""
    if not isinstance(items, Sequence) or isinstance(items, str):
        return
    answers = sum(1 for item in items if isinstance(item, Mapping) and _is_answer(counter, item))
    if answers:
        tokens = 3 * answers if counter.api == "chat" else 0
        reason = "how earlier answers are shown besides a schema is confirmed by few recorded requests"
        counter.builder.add_estimate("messages", tokens, tokens + _MARGIN * answers, reason)


def _is_answer(counter: RequestCounter, item: Mapping[str, Any]) -> bool:
    if counter.api == "responses":
        return item.get("type") == "function_call"
    return item.get("role") == "assistant" and bool(item.get("content"))


def _shown(schema: object) -> object:
    """Return the part of a schema that the model is shown. Names of properties are kept."""
    if isinstance(schema, Mapping):
        return {
            key: {name: _shown(part) for name, part in value.items()}
            if key in _NAMED_SCHEMAS and isinstance(value, Mapping)
            else _shown(value)
            for key, value in schema.items()
            if key not in _OMITTED_KEYS
        }
    return [_shown(part) for part in schema] if isinstance(schema, list | tuple) else schema


def _is_confirmed(schema: object) -> bool:
    """Return whether recorded requests confirm every key of a schema."""
    if not isinstance(schema, Mapping):
        return False
    for key, value in schema.items():
        if key not in _CONFIRMED_KEYS:
            return False
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            return False  # the escapes of its JSON are unknown
        if key == "additionalProperties" and value is not False:
            return False
        if key == "items" and not _is_confirmed(value):
            return False
        if key in _NAMED_SCHEMAS and not (isinstance(value, Mapping) and all(map(_is_confirmed, value.values()))):
            return False
    return True


def count_single_calls(counter: RequestCounter, request: Mapping[str, Any]) -> None:
    """Count the instruction to call one tool at a time. Two recorded requests of one project have it.

    A recorded request without tools has a token more than its messages.
    """
    single = request.get("parallel_tool_calls") is False
    if single and not request.get("tools"):
        reason = "what parallel_tool_calls adds without tools is confirmed by no recorded request"
        counter.builder.add_estimate("reply", 0, _MARGIN, reason)
    if single and request.get("tools") and counter.builder.dialect.layout == "namespaced":
        reason = "how parallel_tool_calls is shown to the model is confirmed by few recorded requests"
        counter.builder.add_estimate("tools", _SINGLE_CALLS, 2 * _SINGLE_CALLS, reason)


def count_forced_tool(counter: RequestCounter, choice: object, tools: Sequence[Mapping[str, Any]]) -> None:
    """Count the name of a tool that must be called: the reply starts with it.

    In Responses, ``required`` forces the only tool there is.
    """
    if (
        choice == "required"
        and counter.api == "responses"
        and len(tools) == 1
        and tools[0].get("type") in (None, "function")
    ):
        choice = {"type": "function", "name": tools[0].get("name")}
    if not isinstance(choice, Mapping) or choice.get("type") == "allowed_tools":
        return
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    if choice.get("type") != "function" or not isinstance(name, str):
        tokens = counter.builder.count_text(to_json(choice))
        reason = "how a forced tool of this type is shown to the model is confirmed by no recorded request"
        counter.builder.add_estimate("reply", 0, tokens + _MARGIN, reason)
        return
    counter.builder.add_rule("reply", "forced_tool")
    if counter.builder.dialect.forced_tool.tokens:
        counter.builder.add_text("reply", f"functions.{name}")
