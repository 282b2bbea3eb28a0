"""Requests to ``/v1/responses``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.request_counter import RequestCounter, require_name, require_objects, to_json

__all__ = ["count_responses"]

_CALLS: Final = ("function_call", "custom_tool_call")
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output")
_COUNTED_TYPES: Final = (None, "message", *_CALLS, *_OUTPUTS)
_NAMESPACE_KEYS: Final = frozenset({"type", "name", "tools"})
_ITEM_KEYS: Final = frozenset(
    {
        *("type", "role", "content", "id", "status", "name", "arguments", "input", "call_id", "namespace", "output"),
        *("summary", "encrypted_content", "tools", "execution", "phase"),
    }
)
_PROVIDER_STATE_KEYS: Final = {
    "previous_response_id": "the conversation before a previous_response_id is kept by the provider",
    "conversation": "what a conversation holds is kept by the provider",
    "prompt": "what a stored prompt holds is kept by the provider",
}
# The encrypted text of a reasoning item is base64 of what was thought, packed into an object of some hundred bytes.
# From 13 items whose tokens their response reported; see benchmarks/tokens.py.
_REASONING_EMPTY: Final = 755
_REASONING_PER_100: Final = 675


def count_responses(walk: RequestCounter, request: Mapping[str, Any]) -> None:
    """Count every part of a request. Raises ``invalid_request`` where it is not one."""
    given = request.get("input")
    if isinstance(given, str):
        walk.count_message("user", given)
    else:
        _count_items(walk, request, require_objects(given, "input"), remembered=True)
    instructions = request.get("instructions")
    if isinstance(instructions, list):
        walk.tool_names, walk.parallel_calls = {}, 0
        _count_items(walk, request, require_objects(instructions, "instructions"))
    elif instructions:
        walk.count_message("system", instructions)
    _count_tools(walk, request)
    for key, why in _PROVIDER_STATE_KEYS.items():
        if request.get(key) is not None:
            walk.tally.add_estimate("unseen", 0, None, why)
    text = request.get("text")
    wanted = text.get("format") if isinstance(text, Mapping) else None
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        walk.count_output_schema(wanted.get("name"), wanted.get("description"), wanted.get("schema"))
    walk.tally.add_rule("reply", "reply_primer")


def _count_items(
    walk: RequestCounter, request: Mapping[str, Any], items: Sequence[Mapping[str, Any]], *, remembered: bool = False
) -> None:
    own = any(
        tool.get("type") == "tool_search" and isinstance(tool.get("parameters"), Mapping)
        for tool in require_objects(request.get("tools"), "tools")
    )
    way = "responses with a search of its own" if own else "responses"
    known = walk.resume(items, way) if remembered else 0
    last = len(items) - 1
    for place in range(known, last):
        _count_item(walk, items[place], items[place + 1], own)
    if remembered:
        # The last item is compared with the others, but not counted: how it counts, the item behind it will decide.
        walk.store_progress(items, last)
    if items:
        _count_item(walk, items[last], {}, own)
    _count_reasoning(walk, request, items)


def _count_item(walk: RequestCounter, item: Mapping[str, Any], follower: Mapping[str, Any], own: bool) -> None:
    what = item.get("type")
    called = require_name(item.get("call_id"), "call_id")
    if what in _CALLS:
        walk.parallel_calls += 1
        arguments = item.get("arguments", item.get("input", ""))
        walk.tool_names[called] = walk.count_tool_call(item.get("name"), arguments, item.get("namespace"))
        if follower.get("type") not in _CALLS:
            walk.count_parallel_calls(walk.parallel_calls)
            walk.parallel_calls = 0
    elif what in _OUTPUTS:
        walk.count_tool_result(walk.tool_names.get(called, f"functions.{called}"), item.get("output"))
    elif what in (None, "message"):
        walk.count_message(item.get("role"), item.get("content"), remark=_is_call(follower))
    elif what in ("additional_tools", "tool_search_output"):
        walk.tally.add_rule("tools", "added_tools")
        for tool in require_objects(item.get("tools"), "tools"):
            _count_namespaced_tool(walk, tool)
    elif what == "tool_search_call":
        walk.tally.add_rule("tool calls", "tool_search")
        if own:
            walk.tally.add_rule("tool calls", "custom_tool_search")
        walk.tally.add_text("tool calls", to_json(item.get("arguments")))
        walk.tool_names[called] = "tool_search.tool_search_tool"
    elif not isinstance(what, str):
        raise BillingError("invalid_request", f"an input item's type is {safe_repr(what)}; it is a text")
    elif what != "reasoning":  # that depends on what comes after it
        _estimate_hosted_item(walk, what, item)
    if what in _COUNTED_TYPES:
        walk.count_unknown_keys("messages", item, _ITEM_KEYS)


def _is_call(item: Mapping[str, Any]) -> bool:
    return item.get("type") in (*_CALLS, "tool_search_call")


def _count_reasoning(walk: RequestCounter, request: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
    """What was thought for an answer, which is dropped once the user has spoken again."""
    thought = [place for place, item in enumerate(items) if item.get("type") == "reasoning"]
    if not thought:
        return
    settings = request.get("reasoning")
    all_turns = isinstance(settings, Mapping) and settings.get("context") == "all_turns"
    last_user = max([place for place, item in enumerate(items) if item.get("role") == "user"], default=-1)
    for place in thought:
        hidden = items[place].get("encrypted_content")
        if place < last_user and not all_turns:
            continue
        if isinstance(hidden, str) and hidden:
            size = len(hidden)
            tokens = max(0, size - _REASONING_EMPTY) * 100 // _REASONING_PER_100
            why = "what was thought is encrypted; its tokens are told from its length"
            walk.tally.add_estimate(
                "reasoning", tokens, max(tokens + 64, (size - 500) * 3 // 8), why
            )  # two bytes a token
        else:
            walk.tally.add_estimate("reasoning", 0, None, "what was thought is kept by the provider")


def _estimate_hosted_item(walk: RequestCounter, what: str, item: Mapping[str, Any]) -> None:
    """What a tool of the provider did, given back as a part of the conversation."""
    seen = {key: value for key, value in item.items() if key not in ("id", "type", "status", "encrypted_content")}
    tokens = walk.tally.count_text(to_json(seen)) if what != "image_generation_call" else 0
    walk.tally.add_estimate("unseen", tokens, None, f"how an item of type {what} is shown to the model is not known")


def _count_tools(walk: RequestCounter, request: Mapping[str, Any]) -> None:
    tools = require_objects(request.get("tools"), "tools")
    given = request.get("input")
    loaded = {
        require_name(tool.get("name"), "a tool's name")
        for item in (require_objects(given, "input") if not isinstance(given, str) else ())
        if item.get("type") in ("additional_tools", "tool_search_output")
        for tool in require_objects(item.get("tools"), "tools")
    }
    search = next((tool for tool in tools if tool.get("type") == "tool_search"), None)
    shown: list[Mapping[str, Any]] = []
    waiting: list[Mapping[str, Any]] = []
    for tool in tools:
        what = tool.get("type")
        if what in ("function", "custom", None):
            if search is not None and tool.get("defer_loading"):
                if require_name(tool.get("name"), "a tool's name") not in loaded:
                    waiting.append(tool)
            else:
                shown.append(tool)
        elif what == "namespace":
            _count_namespaced_tool(walk, tool)
        elif what != "tool_search":
            _estimate_hosted_tool(walk, what)
    if shown:
        walk.count_tools(shown)
    if search is not None and isinstance(search.get("parameters"), Mapping):
        walk.count_tools([{**search, "name": "tool_search_tool"}], "tool_search")
    elif waiting:
        walk.tally.add_rule("tools", "deferred_tools_notice")
        walk.count_deferred_tools(waiting, walk.tally.dialect.added_tools.tokens)


def _count_namespaced_tool(walk: RequestCounter, tool: Mapping[str, Any]) -> None:
    """A tool in a namespace of its own, or a namespace with its tools."""
    name = tool.get("name")
    namespace = name if isinstance(name, str) else "functions"
    if tool.get("type") == "namespace":
        walk.count_unknown_keys("tools", tool, _NAMESPACE_KEYS)
        walk.count_tools(require_objects(tool.get("tools"), "tools"), namespace)
    else:
        walk.count_tools([tool], namespace)


def _estimate_hosted_tool(walk: RequestCounter, what: object) -> None:
    kind = what if isinstance(what, str) else ""
    for name, rule in walk.tally.dialect.hosted_tools.items():
        if kind.startswith(name):
            why = f"what the tool {name} puts into the input while it runs is not known before"
            walk.tally.add_estimate("unseen", rule.tokens, None, why)
            return
    walk.tally.add_estimate(
        "unseen", 500, None, f"how a tool of type {safe_repr(what)} is shown to the model is not known"
    )
