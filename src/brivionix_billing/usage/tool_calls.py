"""Tool calls that have a fee beside the tokens, counted from the output items or as the usage object reports them.

A web search has a price per search action; opening or scanning a page costs nothing more. A code interpreter has a
price per container, which may serve many calls: the distinct containers of a response are counted, and a call that
names none counts as one. An image generation counts as a call. If the usage object reports how many searches were
billed, that number counts, and output items are not counted again:

- OpenRouter, ``server_tool_use`` (or ``server_tool_use_details``): ``web_search_requests`` are searches. Such a search
  may or may not be among ``tool_calls_executed``, so only more executed calls than searches are unaccounted.
- xAI, ``server_side_tool_usage_details``: searches and image generations. ``num_server_side_tools_used`` is the sum of
  all calls.
- Anthropic, ``server_tool_use``: ``web_search_requests``.
- Volcengine, ``tool_usage`` in the usage object: ``web_search`` are searches; its details repeat them.
- OpenAI's Responses, ``tool_usage`` beside the usage object: the searches, and the tokens of the image model, which
  take the place of a fee per generated image.

A call without a meter is unaccounted. So is one that costs nothing (a page that Anthropic fetches, xAI's MCP calls);
the price file says that it is to be ignored, and does so by default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.meters import TOOL_METERS
from brivionix_billing.usage.fields import raise_contradiction
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import read_count, require_object

__all__ = [
    "TOOL_USAGE_KEYS",
    "ToolUsage",
    "billable_item_type",
    "call_meters",
    "container_id",
    "count_billable_calls",
    "item_field",
    "read_anthropic_searches",
    "read_reported_calls",
    "read_tool_usage",
    "require_output_items",
]

TOOL_USAGE_KEYS: Final = frozenset(
    {
        "server_tool_use",
        "server_tool_use_details",
        "server_side_tool_usage_details",
        "num_server_side_tools_used",
        "tool_usage",
        "tool_usage_details",
    }
)
"""The keys of a usage object that :func:`read_reported_calls` covers."""

_ITEM_ARGUMENTS: Final = {f"{meter.name}_call": meter.argument for meter in TOOL_METERS}
"""Type of an output item -> argument of ``Usage``."""
_METER_NAMES: Final = {meter.argument: meter.name for meter in TOOL_METERS}
_OPENROUTER_KEYS: Final = frozenset({"web_search_requests", "tool_calls_requested", "tool_calls_executed"})
_XAI_ARGUMENTS: Final = {name: name for name in ("web_search_calls", "file_search_calls", "image_generation_calls")}


def billable_item_type(item: object) -> str | None:
    """Return the type of an output item that has a fee; ``None`` for all others."""
    kind = item.get("type") if type(item) is dict else item_field(item, "type")
    if kind == "web_search_call":
        action = item_field(item_field(item, "action"), "type")
        return "web_search_call" if action in (None, "search") else None
    return kind if isinstance(kind, str) and kind in _ITEM_ARGUMENTS else None


def container_id(item: object) -> str | None:
    """Return the container that a call of a code interpreter ran in, if it names one."""
    container = item_field(item, "container_id")
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


def read_reported_calls(usage: Mapping[str, Any], notes: NotesBuilder) -> dict[str, int] | None:
    """Return the calls that a usage object of OpenAI's formats reports, or ``None`` if it reports none.

    Calls of tools without a meter are listed as unaccounted.
    """
    reported: dict[str, int] | None = None
    for name in ("server_tool_use", "server_tool_use_details"):
        if usage.get(name) is not None:
            calls = _read_server_tool_use(name, require_object(name, usage[name]), notes if reported is None else None)
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
        notes.list_unknown(f"usage.{name}", details, _XAI_ARGUMENTS.keys())
        calls = {argument: read_count(details, key) for key, argument in _XAI_ARGUMENTS.items()}
        reported = {**(reported or {}), **calls}
    own = require_object("tool_usage", usage.get("tool_usage"))
    if own:
        notes.list_unknown("usage.tool_usage", own, ("web_search",))
        reported = {**(reported or {}), "web_search_calls": read_count(own, "web_search")}
    for tool, parts in require_object("tool_usage_details", usage.get("tool_usage_details")).items():
        counts: list[Any] = list(parts.values()) if isinstance(parts, dict) else [parts]
        if any(type(count) is not int for count in counts) or sum(counts) != own.get(tool):
            notes.list_unknown("usage.tool_usage_details", {tool: parts})
    total = usage.get("num_server_side_tools_used")
    if total != sum(count for count in details.values() if type(count) is int):
        notes.list_number("usage.num_server_side_tools_used", total)
    return reported


def _read_server_tool_use(name: str, calls: dict[str, Any], notes: NotesBuilder | None) -> dict[str, int]:
    """Return the searches of OpenRouter, or of Anthropic as a proxy passes them on."""
    searches = read_count(calls, "web_search_requests")
    if notes is not None:
        notes.list_unknown(f"usage.{name}", calls, _OPENROUTER_KEYS)
        key = "tool_calls_requested" if calls.get("tool_calls_executed") is None else "tool_calls_executed"
        notes.list_contained(f"usage.{name}.{key}", calls.get(key), searches)
    return {"web_search_calls": searches}


def read_anthropic_searches(usage: Mapping[str, Any], notes: NotesBuilder) -> int:
    """Return the number of web searches that Anthropic's usage object reports. Other tools are unaccounted."""
    calls = require_object("server_tool_use", usage.get("server_tool_use"))
    notes.list_unknown("usage.server_tool_use", calls, {"web_search_requests"})
    return read_count(calls, "web_search_requests")


def read_tool_usage(response: Mapping[str, Any], notes: NotesBuilder) -> ToolUsage:
    """Read ``tool_usage`` of OpenAI's Responses: tokens of an image model, and the number of billed searches."""
    stated = response.get("tool_usage")
    if not isinstance(stated, dict):
        return ToolUsage({}, {})
    calls: dict[str, int] = {}
    tokens: dict[str, int] = {}
    notes.list_unknown("tool_usage", stated, ("image_gen", "web_search"))
    search = require_object("tool_usage.web_search", stated.get("web_search"))
    notes.list_unknown("tool_usage.web_search", search, ("num_requests",))
    if read_count(search, "num_requests"):
        calls["web_search_calls"] = search["num_requests"]
    image = require_object("tool_usage.image_gen", stated.get("image_gen"))
    where = "tool_usage.image_gen"
    known = ("input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details")
    notes.list_unknown(where, image, known)
    count, output = read_count(image, "input_tokens"), read_count(image, "output_tokens")
    if count or output:
        calls["image_generation_calls"] = 0  # its tokens are billed in place of a fee per call
    of_input = require_object(f"{where}.input_tokens_details", image.get("input_tokens_details"))
    of_output = require_object(f"{where}.output_tokens_details", image.get("output_tokens_details"))
    images, texts = read_count(of_input, "image_tokens"), read_count(of_output, "text_tokens")
    for part, whole, path in ((images, count, "input"), (texts, output, "output")):
        if part > whole:
            raise_contradiction(f"{where}.{path}_tokens", whole, {f"{path}_tokens_details": part})
    notes.list_unknown(f"{where}.input_tokens_details", of_input, ("image_tokens", "text_tokens"))
    notes.list_contained(f"{where}.input_tokens_details.text_tokens", of_input.get("text_tokens"), count)
    notes.list_unknown(f"{where}.output_tokens_details", of_output, ("image_tokens", "text_tokens"))
    notes.list_contained(f"{where}.output_tokens_details.image_tokens", of_output.get("image_tokens"), output)
    notes.check_total(f"{where}.total_tokens", image.get("total_tokens"), {"input": count, "output": output})
    if count or output:
        tokens = {
            "input_tokens": count,
            "image_input_tokens": images,
            "output_tokens": output,
            "image_output_tokens": output - texts,
        }
    return ToolUsage(calls, tokens)


class ToolUsage(NamedTuple):
    """What tools used beside the model, by argument of ``Usage``."""

    calls: dict[str, int]
    """Calls, in place of those of the output items."""
    tokens: dict[str, int]
    """Tokens that the counts of the response do not contain."""


def _format_calls(calls: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in calls.items())


def item_field(item: object, name: str) -> Any:
    """Return a field of an item, which may be a mapping or an SDK object."""
    if isinstance(item, dict):
        return item.get(name)
    try:
        return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
    except Exception as error:  # an SDK object may raise anything when an attribute is read
        raise BillingError(
            "unknown_usage_format",
            f"an output item of type {type(item).__name__} cannot be read: {type(error).__name__}; pass plain data",
        ) from error
