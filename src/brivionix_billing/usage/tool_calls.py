"""Tool calls that have a fee beside the tokens, counted from the output items or as the usage object reports them.

A web search has a price per search action; opening or scanning a page costs nothing more. A code interpreter has a
price per container, which may serve many calls: the distinct containers of a response are counted, and a call that
names none counts as one. An image generation counts as a call. If the usage object reports how many searches were
billed, that number counts, and output items are not counted again:

- OpenRouter, ``server_tool_use`` (or ``server_tool_use_details``): ``web_search_requests`` are searches. Such a search
  may or may not be among ``tool_calls_executed``, so only executed calls beyond the searches are calls of another kind.
- xAI, ``server_side_tool_usage_details``: ``web_search_calls`` and ``file_search_calls``. A call of an MCP server costs
  its tokens only. ``num_server_side_tools_used`` is the sum of all.
- Anthropic, ``server_tool_use``: ``web_search_requests``. Fetching a page costs its tokens only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.meters import TOOL_METERS
from brivionix_billing.usage.parsing import read_count, reject_unknown_counts, require_object

__all__ = [
    "TOOL_USAGE_KEYS",
    "billable_item_type",
    "call_meters",
    "container_id",
    "count_billable_calls",
    "read_anthropic_searches",
    "read_reported_calls",
    "require_output_items",
]

TOOL_USAGE_KEYS: Final = frozenset(
    {
        "server_tool_use",
        "server_tool_use_details",
        "server_side_tool_usage_details",
        "num_server_side_tools_used",
    }
)
"""The keys of a usage object that :func:`read_reported_calls` covers."""

_ITEM_ARGUMENTS: Final = {f"{meter.name}_call": meter.argument for meter in TOOL_METERS}
"""Type of an output item -> argument of ``Usage``."""
_METER_NAMES: Final = {meter.argument: meter.name for meter in TOOL_METERS}
_OPENROUTER_KEYS: Final = frozenset({"web_search_requests", "tool_calls_requested", "tool_calls_executed"})
_XAI_ARGUMENTS: Final = {"web_search_calls": "web_search_calls", "file_search_calls": "file_search_calls"}
_UNBILLED_KEYS: Final = frozenset({"mcp_calls", "web_fetch_requests"})


def billable_item_type(item: object) -> str | None:
    """Return the type of an output item that has a fee; ``None`` for all others."""
    kind = _get_field(item, "type")
    if kind == "web_search_call":
        action = _get_field(_get_field(item, "action"), "type")
        return "web_search_call" if action in (None, "search") else None
    return kind if isinstance(kind, str) and kind in _ITEM_ARGUMENTS else None


def container_id(item: object) -> str | None:
    """Return the container that a call of a code interpreter ran in, if it names one."""
    container = _get_field(item, "container_id")
    return container if isinstance(container, str) and container else None


def require_output_items(items: object) -> Collection[Any]:
    """Return the output items of a response. Iterators are rejected, because a second read would find no items."""
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
    """Count the calls with a fee among the output items of a response, by argument of ``Usage``."""
    counts: dict[str, int] = {}
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
        argument = _ITEM_ARGUMENTS[kind]
        counts[argument] = counts.get(argument, 0) + 1
    return counts


def call_meters(calls: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Convert calls by argument to (meter, quantity), in the order of the table."""
    return tuple([(meter, calls[name]) for name, meter in _METER_NAMES.items() if name in calls]) if calls else ()


def read_reported_calls(usage: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the calls that a usage object of OpenAI's formats reports, or ``None`` if it reports none."""
    reported: dict[str, int] | None = None
    for name in ("server_tool_use", "server_tool_use_details"):
        if usage.get(name) is not None:
            calls = _read_openrouter_calls(name, require_object(name, usage[name]))
            if reported is not None and calls != reported:
                raise BillingError(
                    "usage_contradiction",
                    f"server_tool_use states {_format_calls(reported)}, server_tool_use_details states "
                    f"{_format_calls(calls)}; ask the provider which is right",
                )
            reported = calls
    name = "server_side_tool_usage_details"
    details = require_object(name, usage.get(name))
    if details:
        reject_unknown_counts(name, details, _XAI_ARGUMENTS.keys() | _UNBILLED_KEYS)
        reported = {
            **(reported or {}),
            **{argument: read_count(details, key) for key, argument in _XAI_ARGUMENTS.items()},
        }
    elif read_count(usage, "num_server_side_tools_used"):
        reject_unknown_counts("usage", {"num_server_side_tools_used": usage["num_server_side_tools_used"]})
    return reported


def _read_openrouter_calls(name: str, calls: dict[str, Any]) -> dict[str, int]:
    reject_unknown_counts(name, calls, _OPENROUTER_KEYS)
    searches = read_count(calls, "web_search_requests")
    key = "tool_calls_requested" if calls.get("tool_calls_executed") is None else "tool_calls_executed"
    executed = read_count(calls, key)
    if executed > searches:
        raise BillingError(
            "unknown_usage_key",
            f"{name}: {key} is {executed}, of which {searches} are web searches; the others have no known price",
        )
    return {"web_search_calls": searches}


def read_anthropic_searches(usage: Mapping[str, Any]) -> int:
    """Return the number of web searches that Anthropic's usage object reports."""
    calls = require_object("server_tool_use", usage.get("server_tool_use"))
    reject_unknown_counts("server_tool_use", calls, {"web_search_requests", *_UNBILLED_KEYS})
    return read_count(calls, "web_search_requests")


def _format_calls(calls: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in calls.items())


def _get_field(item: object, name: str) -> Any:
    if isinstance(item, dict):
        return item.get(name)
    try:
        return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
    except Exception as error:  # an SDK object may raise anything when an attribute is read
        raise BillingError(
            "unknown_usage_format",
            f"an output item of type {type(item).__name__} cannot be read: {type(error).__name__}; pass plain data",
        ) from error
