"""Calls of tools that cost a fee beside the tokens: counted from the output items, or as the usage object states them.

A web search costs per search action; opening or scanning a page that was found costs nothing more. A code interpreter
costs per container, which may serve many calls: the containers of a response are counted, and a call that names none
counts as one of its own. An image generation counts as a call. Where the usage
object states how many searches were paid, that is what counts, and output items are not counted a second time:

- OpenRouter, ``server_tool_use`` (or ``server_tool_use_details``): ``web_search_requests`` are searches; such a search
  may be among ``tool_calls_executed`` or not, so only more executed calls than searches are calls of another kind.
- xAI, ``server_side_tool_usage_details``: ``web_search_calls`` and ``file_search_calls``; a call of an MCP server costs
  its tokens only; ``num_server_side_tools_used`` is the sum of them.
- Anthropic, ``server_tool_use``: ``web_search_requests``; fetching a page costs its tokens only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.meters import METERS_BY_NAME
from brivionix_billing.usage.parsing import read_count, reject_unknown_counts, require_object

__all__ = [
    "TOOL_USAGE_KEYS",
    "read_anthropic_searches",
    "call_meters",
    "container_id",
    "billable_item_type",
    "require_output_items",
    "count_billable_calls",
    "read_reported_calls",
]

TOOL_USAGE_KEYS: Final = frozenset(
    {
        "server_tool_use",
        "server_tool_use_details",
        "server_side_tool_usage_details",
        "num_server_side_tools_used",
    }
)
"""The keys of a usage object that :func:`read_reported_calls` accounts for."""

_ITEMS: Final = {
    "web_search_call": "web_search_calls",
    "file_search_call": "file_search_calls",
    "code_interpreter_call": "code_interpreter_sessions",
    "image_generation_call": "image_generation_calls",
}
"""Type of an output item -> argument of ``Usage``."""
_OPENROUTER: Final = frozenset({"web_search_requests", "tool_calls_requested", "tool_calls_executed"})
_XAI: Final = {"web_search_calls": "web_search_calls", "file_search_calls": "file_search_calls"}
_METER_INDEX: Final = {name: METERS_BY_NAME[name.rpartition("_")[0]].position for name in _ITEMS.values()}
_UNBILLED_KEYS: Final = frozenset({"mcp_calls", "web_fetch_requests"})


def billable_item_type(item: object) -> str | None:
    """The type of an output item that costs a fee; ``None`` for all others."""
    kind = _get_field(item, "type")
    if kind == "web_search_call":
        what = _get_field(_get_field(item, "action"), "type")
        return "web_search_call" if what in (None, "search") else None
    return kind if isinstance(kind, str) and kind in _ITEMS else None


def container_id(item: object) -> str | None:
    """The container that a call of a code interpreter ran in, if it names one."""
    found = _get_field(item, "container_id")
    return found if isinstance(found, str) and found else None


def require_output_items(items: object) -> Collection[Any]:
    """The output items of a response. What can be read only once is refused: it would have no searches next time."""
    if isinstance(items, list | tuple):
        return items
    if isinstance(items, Iterator):
        raise BillingError(
            "unknown_usage_format", f"output is a {type(items).__name__}, which can be read only once; give a list"
        )
    if isinstance(items, Sequence | ValuesView) and not isinstance(items, str | bytes | bytearray | memoryview):
        return list(items)
    return ()


def count_billable_calls(items: Any) -> dict[str, int]:
    """The calls among the output items of a response, by argument of ``Usage``."""
    found: dict[str, int] = {}
    containers: set[str] = set()
    for item in require_output_items(items):
        kind = billable_item_type(item)
        if kind is None:
            continue
        if kind == "code_interpreter_call":
            container = container_id(item)
            if container in containers:
                continue
            if container is not None:
                containers.add(container)
        found[_ITEMS[kind]] = found.get(_ITEMS[kind], 0) + 1
    return found


def call_meters(calls: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """The same calls as a usage holds them: (meter index, quantity), in meter order."""
    return tuple((place, calls[name]) for name, place in _METER_INDEX.items() if name in calls) if calls else ()


def read_reported_calls(usage: Mapping[str, Any]) -> dict[str, int] | None:
    """The calls that a usage object of OpenAI's shapes states, or ``None`` where it says nothing of them."""
    found: dict[str, int] | None = None
    for name in ("server_tool_use", "server_tool_use_details"):
        if usage.get(name) is not None:
            calls = _openrouter(name, require_object(name, usage[name]))
            if found is not None and calls != found:
                raise BillingError(
                    "usage_contradiction",
                    f"server_tool_use states {_format_calls(found)}, server_tool_use_details {_format_calls(calls)}",
                )
            found = calls
    name = "server_side_tool_usage_details"
    details = require_object(name, usage.get(name))
    if details:
        reject_unknown_counts(
            name, {key: value for key, value in details.items() if key not in _XAI and key not in _UNBILLED_KEYS}
        )
        found = {**(found or {}), **{argument: read_count(details, key) for key, argument in _XAI.items()}}
    elif read_count(usage, "num_server_side_tools_used"):
        reject_unknown_counts("usage", {"num_server_side_tools_used": usage["num_server_side_tools_used"]})
    return found


def _openrouter(name: str, calls: dict[str, Any]) -> dict[str, int]:
    reject_unknown_counts(name, {key: value for key, value in calls.items() if key not in _OPENROUTER})
    searches = read_count(calls, "web_search_requests")
    ran = read_count(
        calls, "tool_calls_requested" if calls.get("tool_calls_executed") is None else "tool_calls_executed"
    )
    if ran > searches:
        raise BillingError(
            "unknown_usage_key",
            f"{name} tells of {ran} tool calls, {searches} of them web searches; "
            "nobody here knows what the others were and what they cost",
        )
    return {"web_search_calls": searches}


def read_anthropic_searches(usage: Mapping[str, Any]) -> int:
    """The web searches that Anthropic's usage object states."""
    calls = require_object("server_tool_use", usage.get("server_tool_use"))
    known = {"web_search_requests", *_UNBILLED_KEYS}
    reject_unknown_counts("server_tool_use", {key: value for key, value in calls.items() if key not in known})
    return read_count(calls, "web_search_requests")


def _format_calls(calls: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in calls.items())


def _get_field(item: object, name: str) -> Any:
    if isinstance(item, dict):
        return item.get(name)
    try:
        return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
    except Exception as error:  # whatever an SDK's object does when it is asked
        raise BillingError(
            "unknown_usage_format",
            f"an output item of type {type(item).__name__} cannot be read: {type(error).__name__}",
        ) from error
