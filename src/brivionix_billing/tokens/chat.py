"""Requests to ``/v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.request_counter import ROLES, SYSTEM, RequestCounter, require_name, require_objects

__all__ = ["count_chat"]

_MESSAGE_KEYS: Final = frozenset(
    {
        *("role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio"),
        *("type", "id", "status"),
    }
)


def count_chat(walk: RequestCounter, request: Mapping[str, Any]) -> None:
    """Count every part of a request. Raises ``invalid_request`` where it is not one."""
    messages = require_objects(request.get("messages"), "messages")
    known = walk.resume(messages, "chat")
    for message in messages[known:]:
        role, content = message.get("role"), message.get("content")
        if type(content) is str and role in ROLES and len(message) == 2:
            walk.count_text_message(role, content)
            continue
        walk.count_unknown_keys("messages", message, _MESSAGE_KEYS)
        walk.has_system_message = walk.has_system_message or role in SYSTEM
        if role in ("tool", "function"):
            key = "tool_call_id" if role == "tool" else "name"
            called = require_name(message.get(key), key)
            walk.count_tool_result(walk.tool_names.get(called, f"functions.{called}"), content)
        else:
            _count_message(walk, message)
    walk.store_progress(messages, len(messages))
    functions = [_unwrap_function(tool) for tool in require_objects(request.get("tools"), "tools")]
    functions += require_objects(request.get("functions"), "functions")  # what tools were called before
    if functions:
        walk.count_tools(functions)
        walk.tally.add_rule("tools", "tools_chat")
        if not walk.has_system_message:
            walk.tally.add_rule("tools", "tools_chat_alone")
    _count_format(walk, request.get("response_format"))
    if request.get("web_search_options") is not None:
        walk.tally.add_estimate("unseen", 0, None, "what a web search puts into the input is not known before")
    walk.tally.add_rule("reply", "reply_primer")


def _count_message(walk: RequestCounter, message: Mapping[str, Any]) -> None:
    calls = require_objects(message.get("tool_calls"), "tool_calls")
    content = message.get("content")
    refusal = message.get("refusal")
    old_call = message.get("function_call")
    if content or not (calls or old_call or refusal):
        walk.count_message(message.get("role"), content, remark=bool(calls))
    if isinstance(refusal, str) and refusal:
        walk.count_message("assistant", refusal)
    name = message.get("name")
    if isinstance(name, str) and name:
        walk.tally.add_rule("messages", "name_field")
        walk.tally.add_text("messages", name)
    if isinstance(message.get("audio"), Mapping):
        walk.tally.add_estimate("audio", 0, None, "an audio answer that the request only names cannot be counted")
    for call in calls:
        # A custom tool's call has its input where a function's has its arguments.
        inner = call.get("function") or call.get("custom")
        if not isinstance(inner, Mapping):
            raise BillingError("invalid_request", f"a tool call is {safe_repr(dict(call))}; it has 'function'")
        walk.tool_names[require_name(call.get("id"), "a call's id")] = walk.count_tool_call(
            inner.get("name"), inner.get("arguments", inner.get("input", ""))
        )
    if isinstance(old_call, Mapping):
        called = require_name(old_call.get("name"), "function_call.name")
        walk.tool_names[called] = walk.count_tool_call(called, old_call.get("arguments", ""))
    walk.count_parallel_calls(len(calls))


def _unwrap_function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = tool.get("function") or tool.get("custom")
    if not isinstance(inner, Mapping):
        raise BillingError("invalid_request", f"a tool is {safe_repr(dict(tool))}; it has 'function'")
    # A key that stands beside it is not known; the writer tells it.
    beside = {key: value for key, value in tool.items() if key not in ("type", "function", "custom")}
    return {**beside, **inner} if beside else inner


def _count_format(walk: RequestCounter, wanted: object) -> None:
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        inner = wanted.get("json_schema")
        inner = inner if isinstance(inner, Mapping) else {}
        walk.count_output_schema(inner.get("name"), inner.get("description"), inner.get("schema"))
