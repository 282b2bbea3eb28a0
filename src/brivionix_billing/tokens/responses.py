"""Counts requests to ``/v1/responses``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.output_format import count_forced_tool, count_output_format, count_single_calls
from brivionix_billing.tokens.request_counter import RequestCounter, require_name, require_objects, to_json

__all__ = ["count_responses"]

_CALL_TYPES: Final = ("function_call", "custom_tool_call")
_OUTPUT_TYPES: Final = ("function_call_output", "custom_tool_call_output")
_COUNTED_TYPES: Final = (None, "message", *_CALL_TYPES, *_OUTPUT_TYPES)
_DATED_ID: Final = re.compile(r"(?:msg|fc|rs|ctc)_(?:[0-9a-f]{16}00)?([67][0-9a-f]{7})")
"""An id of an item of OpenAI, which contains the time of its creation in seconds."""
_ADDED_TOOLS_MARGIN: Final = 16
_FORMER_MARGIN: Final = 18
_FORMER_REASON: Final = "until June 2025, OpenAI counted 18 tokens more for requests to this family"
_PRESENT_COUNTING_SINCE: Final = 1_751_328_000
"""2025-07-01. All later recorded requests count tools as the rules say."""
_NAMESPACE_KEYS: Final = frozenset({"type", "name", "tools"})
_ITEM_KEYS: Final = frozenset(
    {
        *("type", "role", "content", "id", "status", "name", "arguments", "input", "call_id", "namespace", "output"),
        *("summary", "encrypted_content", "tools", "execution", "phase"),
    }
)
_PROVIDER_STATE_KEYS: Final = {
    "previous_response_id": "the provider stores the conversation before previous_response_id",
    "conversation": "the provider stores the items of conversation",
    "prompt": "the provider stores the content of prompt",
}
# The encrypted text of a reasoning item is base64 of the reasoning, within an object of some hundred bytes. The numbers
# come from 13 items whose tokens the response reported; see benchmarks/tokens.py.
_REASONING_EMPTY: Final = 755
_REASONING_PER_100: Final = 675


def count_responses(counter: RequestCounter, request: Mapping[str, Any]) -> None:
    """Count every part of a request. Raises ``invalid_request`` if it is invalid."""
    inputs = request.get("input")
    if isinstance(inputs, str):
        counter.count_message("user", inputs)
    else:
        _count_items(counter, request, require_objects(inputs, "input"), cached=True)
    instructions = request.get("instructions")
    if isinstance(instructions, list):
        counter.tool_names, counter.parallel_calls = {}, 0
        _count_items(counter, request, require_objects(instructions, "instructions"))
    elif instructions:
        counter.count_message("system", instructions)
    _count_tools(counter, request)
    for key, reason in _PROVIDER_STATE_KEYS.items():
        if request.get(key) is not None:
            counter.builder.add_estimate("unseen", 0, None, reason)
    count_forced_tool(counter, request.get("tool_choice"), require_objects(request.get("tools"), "tools"))
    count_single_calls(counter, request)
    text = request.get("text")
    count_output_format(counter, text.get("format") if isinstance(text, Mapping) else None, inputs)
    counter.builder.add_rule("reply", "reply_primer")


def _count_items(
    counter: RequestCounter, request: Mapping[str, Any], items: Sequence[Mapping[str, Any]], *, cached: bool = False
) -> None:
    has_custom_search = any(
        tool.get("type") == "tool_search" and isinstance(tool.get("parameters"), Mapping)
        for tool in require_objects(request.get("tools"), "tools")
    )
    variant = "responses with a search of its own" if has_custom_search else "responses"
    counted = counter.resume(items, variant) if cached else 0
    last = len(items) - 1
    for index in range(counted, last):
        _count_item(counter, items[index], items[index + 1], has_custom_search)
    if cached:
        # The last item is cached for comparison but not counted, because its count depends on the next item.
        counter.store_progress(items, last)
    if items:
        _count_item(counter, items[last], {}, has_custom_search)
    _count_reasoning(counter, request, items)


def _count_item(
    counter: RequestCounter, item: Mapping[str, Any], next_item: Mapping[str, Any], has_custom_search: bool
) -> None:
    item_type = item.get("type")
    call_id = require_name(item.get("call_id"), "call_id")
    if item_type in _CALL_TYPES:
        counter.parallel_calls += 1
        arguments = item.get("arguments", item.get("input", ""))
        counter.tool_names[call_id] = counter.count_tool_call(item.get("name"), arguments, item.get("namespace"))
        if next_item.get("type") not in _CALL_TYPES:
            if counter.parallel_calls == 1 and item.get("id") is not None:
                counter.builder.add_rule("tool calls", "stored_call")
            counter.count_parallel_calls(counter.parallel_calls)
            counter.parallel_calls = 0
    elif item_type in _OUTPUT_TYPES:
        counter.count_tool_result(counter.tool_names.get(call_id, f"functions.{call_id}"), item.get("output"))
    elif item_type in (None, "message"):
        counter.count_message(item.get("role"), item.get("content"), commentary=_is_call(next_item))
    elif item_type in ("additional_tools", "tool_search_output"):
        counter.builder.add_rule("tools", "added_tools")
        reason = "how tools are shown that a conversation adds is confirmed by few recorded requests"
        counter.builder.add_estimate("tools", 0, _ADDED_TOOLS_MARGIN, reason)
        for tool in require_objects(item.get("tools"), "tools"):
            _count_namespaced_tool(counter, tool)
    elif item_type == "tool_search_call":
        counter.builder.add_rule("tool calls", "tool_search")
        if has_custom_search:
            counter.builder.add_rule("tool calls", "custom_tool_search")
        counter.builder.add_text("tool calls", to_json(item.get("arguments")))
        counter.tool_names[call_id] = "tool_search.tool_search_tool"
    elif not isinstance(item_type, str):
        raise BillingError("invalid_request", f"an input item's type is {safe_repr(item_type)}; use a text")
    elif item_type != "reasoning":  # reasoning depends on the items after it
        _estimate_hosted_item(counter, item_type, item)
    if item_type in _COUNTED_TYPES:
        counter.count_unknown_keys("messages", item, _ITEM_KEYS)


def _is_call(item: Mapping[str, Any]) -> bool:
    return item.get("type") in (*_CALL_TYPES, "tool_search_call")


def _count_reasoning(counter: RequestCounter, request: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
    """Count the reasoning of answers. OpenAI drops it after the next message of the user."""
    indexes = [index for index, item in enumerate(items) if item.get("type") == "reasoning"]
    if not indexes:
        return
    settings = request.get("reasoning")
    all_turns = isinstance(settings, Mapping) and settings.get("context") == "all_turns"
    last_user = max([index for index, item in enumerate(items) if item.get("role") == "user"], default=-1)
    for index in indexes:
        encrypted = items[index].get("encrypted_content")
        if index < last_user and not all_turns:
            continue
        if isinstance(encrypted, str) and encrypted:
            size = len(encrypted)
            tokens = max(0, size - _REASONING_EMPTY) * 100 // _REASONING_PER_100
            reason = "reasoning is encrypted; its tokens are estimated from its length"
            counter.builder.add_estimate(
                "reasoning", tokens, max(tokens + 64, (size - 500) * 3 // 8), reason
            )  # two bytes per token
        else:
            counter.builder.add_estimate("reasoning", 0, None, "the provider stores the reasoning")


def _estimate_hosted_item(counter: RequestCounter, item_type: str, item: Mapping[str, Any]) -> None:
    """Estimate the work of a provider's tool that is part of the conversation."""
    visible = {key: value for key, value in item.items() if key not in ("id", "type", "status", "encrypted_content")}
    tokens = counter.builder.count_text(to_json(visible)) if item_type != "image_generation_call" else 0
    counter.builder.add_estimate(
        "unseen", tokens, None, f"how an item of type {item_type} is shown to the model is unknown"
    )


def _count_tools(counter: RequestCounter, request: Mapping[str, Any]) -> None:
    tools = require_objects(request.get("tools"), "tools")
    inputs = request.get("input")
    loaded = {
        require_name(tool.get("name"), "a tool's name")
        for item in (require_objects(inputs, "input") if not isinstance(inputs, str) else ())
        if item.get("type") in ("additional_tools", "tool_search_output")
        for tool in require_objects(item.get("tools"), "tools")
    }
    search = next((tool for tool in tools if tool.get("type") == "tool_search"), None)
    visible: list[Mapping[str, Any]] = []
    deferred: list[Mapping[str, Any]] = []
    for tool in tools:
        item_type = tool.get("type")
        if item_type in ("function", "custom", None):
            if search is not None and tool.get("defer_loading"):
                if require_name(tool.get("name"), "a tool's name") not in loaded:
                    deferred.append(tool)
            else:
                visible.append(tool)
        elif item_type == "namespace":
            _count_namespaced_tool(counter, tool)
        elif item_type != "tool_search":
            _estimate_hosted_tool(counter, item_type)
    _add_former_margin(counter, inputs, request.get("tools") is not None)
    if visible:
        counter.count_tools(visible)
    if search is not None and isinstance(search.get("parameters"), Mapping):
        counter.count_tools([{**search, "name": "tool_search_tool"}], "tool_search")
    elif deferred:
        counter.builder.add_rule("tools", "deferred_tools_notice")
        counter.count_deferred_tools(deferred, counter.builder.dialect.added_tools.tokens)


def _add_former_margin(counter: RequestCounter, inputs: object, has_tools: bool) -> None:
    """Widen the bound by what OpenAI once counted in addition, unless an id shows that the conversation is newer."""
    margin = counter.builder.family.tools_margin
    if not margin:
        return
    items = inputs if isinstance(inputs, list | tuple) else ()
    for item in reversed(items):
        found = _DATED_ID.match(str(item.get("id"))) if isinstance(item, Mapping) else None
        if found and int(found[1], 16) >= _PRESENT_COUNTING_SINCE:
            return
    reason = "until June 2025, OpenAI counted up to 216 tokens more for tools of this family"
    if not has_tools and isinstance(inputs, str):  # the usual form of the first requests to this API
        counter.builder.add_estimate("reply", 0, _FORMER_MARGIN, _FORMER_REASON)
    elif not has_tools:
        counter.builder.add_margin("reply", _FORMER_MARGIN, _FORMER_REASON)
    elif counter.builder.dialect.layout == "classic":
        counter.builder.add_estimate("tools", 0, margin, reason)
    else:
        counter.builder.add_margin("tools", margin, reason)


def _count_namespaced_tool(counter: RequestCounter, tool: Mapping[str, Any]) -> None:
    """Count a tool in its own namespace, or a namespace with its tools."""
    name = tool.get("name")
    namespace = name if isinstance(name, str) else "functions"
    if tool.get("type") == "namespace":
        counter.count_unknown_keys("tools", tool, _NAMESPACE_KEYS)
        tools = require_objects(tool.get("tools"), "tools")
        counter.count_tools(tools, namespace)
        reason = "how a namespace of tools is shown is confirmed by few recorded requests"
        counter.builder.add_estimate("tools", 0, _ADDED_TOOLS_MARGIN * (1 + len(tools)), reason)
    else:
        counter.count_tools([tool], namespace)


def _estimate_hosted_tool(counter: RequestCounter, item_type: object) -> None:
    type_name = item_type if isinstance(item_type, str) else ""
    for name, rule in counter.builder.dialect.hosted_tools.items():
        if type_name.startswith(name):
            reason = f"what the tool {name} adds to the input while it runs is unknown before the call"
            counter.builder.add_estimate("unseen", rule.tokens, None, reason)
            return
    counter.builder.add_estimate(
        "unseen", 500, None, f"how a tool of type {safe_repr(item_type)} is shown to the model is unknown"
    )
