"""Reads the usage of Gemini's Interactions API.

Rules, from recorded bodies and Google's API reference: ``total_input_tokens`` contains the cached tokens, neither the
output nor the tool results that the model read contain the thoughts, and ``total_tokens`` is the sum of input, tool
use, output and thoughts. ``raw_prompt_token`` (the prompt with Google's own additions) is not billed and is listed.
``grounding_tool_count`` has the calls of search tools.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.usage.fields import UsageFields, build_fields
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    is_estimated,
    modality_arguments,
    overlap_modalities,
    read_count,
    read_modalities,
    read_model_name,
    read_service_tier,
    require_list,
    require_object,
)

__all__ = ["CONTEXT_KEYS", "read_usage"]

CONTEXT_KEYS: Final[ContextKeys] = {"service_tier": None, "model": None}

_TOTALS: Final = (
    "total_input_tokens",
    "total_tool_use_tokens",
    "total_output_tokens",
    "total_thought_tokens",
    "total_cached_tokens",
)
_INPUT: Final = modality_arguments("input")
_CACHED: Final = modality_arguments("input", "read")
_DETAILS: Final = {
    "input_tokens_by_modality": ("total_input_tokens", _INPUT),
    "tool_use_tokens_by_modality": ("total_tool_use_tokens", _INPUT),
    "cached_tokens_by_modality": ("total_cached_tokens", _CACHED),
    "output_tokens_by_modality": ("total_output_tokens", modality_arguments("output")),
}
"""Key of the tokens by modality -> the key of their total, and modality -> argument of ``Usage``."""
_SEARCHES: Final = {"google_search": "web_search_calls", "google_maps": "maps_search_calls"}
_FIRST_NAMES: Final = {"total_reasoning_tokens": "total_thought_tokens"}
_KNOWN: Final = frozenset({*_TOTALS, *_DETAILS, "total_tokens", "grounding_tool_count", ESTIMATED_KEY})


def read_usage(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage object of an interaction."""
    notes = NotesBuilder()
    if "total_thought_tokens" not in usage and "total_reasoning_tokens" in usage:  # the first version
        usage = {_FIRST_NAMES.get(name, name): value for name, value in usage.items()}
    notes.list_unknown("usage", usage, _KNOWN)
    totals = {name: read_count(usage, name) for name in _TOTALS}
    prompt, tools, output, thoughts, cached = totals.values()
    parts = {name: totals[name] for name in _TOTALS[:4]}
    notes.check_total("usage.total_tokens", usage.get("total_tokens"), parts)
    counts = {"input_tokens": prompt + tools, "cache_read_tokens": cached}
    for name, (whole, arguments) in _DETAILS.items():
        found = read_modalities(
            usage.get(name), f"usage.{name}", (whole, totals[whole]), arguments, notes, count_keys=("tokens",)
        )
        for argument, tokens in found.items():
            counts[argument] = counts.get(argument, 0) + tokens
    overlap_modalities(counts, _INPUT, _CACHED, notes)
    return build_fields(
        {**counts, "output_tokens": output + thoughts, **_read_searches(usage, notes)},
        reasoning_tokens=thoughts,
        service_tier=read_service_tier(response.get("service_tier")),
        model=read_model_name(response.get("model")),
        estimated=is_estimated(usage),
        notes=notes,
    )


def _read_searches(usage: dict[str, Any], notes: NotesBuilder) -> dict[str, int]:
    """Return the calls of search tools, by argument of ``Usage``."""
    found: dict[str, int] = {}
    for index, value in enumerate(require_list("grounding_tool_count", usage.get("grounding_tool_count"))):
        where = f"usage.grounding_tool_count[{index}]"
        entry = require_object(where, value)
        notes.list_unknown(where, entry, ("count", "type"))
        argument = _SEARCHES.get(str(entry.get("type")))
        if argument is None:
            notes.list_number(f"{where}.count", entry.get("count"))
        else:
            found[argument] = found.get(argument, 0) + read_count(entry, "count")
    return found
