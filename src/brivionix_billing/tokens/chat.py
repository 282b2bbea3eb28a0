"""Counts requests to ``/v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.output_format import count_forced_tool, count_output_format, count_single_calls
from brivionix_billing.tokens.request_counter import ROLES, SYSTEM, RequestCounter, require_name, require_objects

__all__ = ["count_chat"]

_MESSAGE_KEYS: Final = frozenset(
    {
        *("role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio"),
        *("type", "id", "status", "annotations"),
    }
)
_CALL_KEYS: Final = frozenset({"id", "type", "function", "custom", "index"})
_DEFINITION_KEYS: Final = frozenset({"name", "arguments", "input"})


def count_chat(counter: RequestCounter, request: Mapping[str, Any]) -> None:
    """Count every part of a request. Raises ``invalid_request`` if it is invalid."""
    messages = require_objects(request.get("messages"), "messages")
    counted = counter.resume(messages, "chat")
    for message in messages[counted:]:
        role, content = message.get("role"), message.get("content")
        if type(content) is str and role in ROLES and len(message) == 2:
            counter.count_text_message(role, content)
            continue
        counter.count_unknown_keys("messages", message, _MESSAGE_KEYS)
        if message.get("annotations"):  # the links of a search
            counter.count_unknown_keys("messages", {"annotations": message["annotations"]}, frozenset())
        counter.has_system_message = counter.has_system_message or role in SYSTEM
        if role in ("tool", "function"):
            key = "tool_call_id" if role == "tool" else "name"
            tool_id = require_name(message.get(key), key)
            counter.count_tool_result(counter.tool_names.get(tool_id, f"functions.{tool_id}"), content)
        else:
            _count_message(counter, message)
    counter.store_progress(messages, len(messages))
    functions = [_unwrap_function(tool) for tool in require_objects(request.get("tools"), "tools")]
    functions += require_objects(request.get("functions"), "functions")  # the former name of tools
    counter.has_tools = bool(functions)
    if functions:
        counter.count_tools(functions)
        counter.builder.add_rule("tools", "tools_chat")
        counter.count_after_system("tools", is_first=messages[0].get("role") in SYSTEM if messages else False)
        if not counter.has_system_message:
            counter.builder.add_rule("tools", "tools_chat_alone")
    if functions:
        count_forced_tool(counter, request.get("tool_choice"), functions)
        count_single_calls(counter, request)
    if request.get("response_format") is not None:
        count_output_format(counter, request["response_format"], messages)
    if request.get("web_search_options") is not None:
        counter.builder.add_estimate(
            "unseen", 0, None, "what a web search adds to the input is unknown before the call"
        )
    counter.builder.add_rule("reply", "reply_primer")


def _count_message(counter: RequestCounter, message: Mapping[str, Any]) -> None:
    calls = require_objects(message.get("tool_calls"), "tool_calls")
    content = message.get("content")
    refusal = message.get("refusal")
    legacy_call = message.get("function_call")
    if content or not (calls or legacy_call or refusal):
        counter.count_message(message.get("role"), content, commentary=bool(calls))
    if isinstance(refusal, str) and refusal:
        counter.count_message("assistant", refusal)
    name = message.get("name")
    if isinstance(name, str) and name:
        if name != message.get("role"):
            counter.builder.add_rule("messages", "name_field")
        counter.builder.add_text("messages", name)
    if isinstance(message.get("audio"), Mapping):
        counter.builder.add_estimate(
            "audio", 0, None, "an audio answer that the request refers to by id cannot be counted"
        )
    _count_calls(counter, calls)
    if isinstance(legacy_call, Mapping):
        tool_id = require_name(legacy_call.get("name"), "function_call.name")
        counter.tool_names[tool_id] = counter.count_tool_call(tool_id, legacy_call.get("arguments", ""))


def _count_calls(counter: RequestCounter, calls: Sequence[Mapping[str, Any]]) -> None:
    """Count the calls of one message, which some dialects show as one call of a wrapper."""
    parsed = []
    for call in calls:
        # The call of a custom tool has ``input``, the call of a function ``arguments``.
        definition = call.get("function") or call.get("custom")
        if not isinstance(definition, Mapping):
            raise BillingError("invalid_request", f"a tool call is {safe_repr(dict(call))}; add 'function'")
        arguments = definition.get("arguments", definition.get("input", ""))
        parsed.append((require_name(call.get("id"), "a call's id"), definition.get("name"), arguments))
        if call.keys() - _CALL_KEYS or definition.keys() - _DEFINITION_KEYS:
            counter.count_unknown_keys("tool calls", call, _CALL_KEYS)
            counter.count_unknown_keys("tool calls", definition, _DEFINITION_KEYS)
    if len(parsed) > 1 and counter.builder.dialect.parallel_wrapper.samples:
        counter.count_wrapped_calls(parsed)
        return
    for call_id, name, arguments in parsed:
        counter.tool_names[call_id] = counter.count_tool_call(name, arguments)
    counter.count_parallel_calls(len(parsed))


def _unwrap_function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    definition = tool.get("function") or tool.get("custom")
    if not isinstance(definition, Mapping):
        raise BillingError("invalid_request", f"a tool is {safe_repr(dict(tool))}; add 'function'")
    # An unknown key next to the definition is kept, so that the renderer reports it.
    siblings = {key: value for key, value in tool.items() if key not in ("type", "function", "custom")}
    return {**siblings, **definition} if siblings else definition
