"""Reads the usage object of Amazon Bedrock's Converse API (and ConverseStream), and of Nova's own API.

Rules, from the API reference and from recorded bodies:

- ``inputTokens`` contains neither ``cacheReadInputTokens`` nor ``cacheWriteInputTokens``. ``totalTokens`` is the sum of
  the three and ``outputTokens``.
- ``cacheDetails`` divides the writes by lifetime. Without it, all were kept for 5 minutes.
- The keys ``...InputTokenCount`` repeat the same counts.
- The served tier is in the response: ``serviceTier.type``. A latency-optimised call has a price of its own: it is
  served in the mode ``optimized``.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    is_estimated,
    nested_value,
    read_count,
    read_stated,
    require_list,
    require_object,
    require_total,
    split_writes,
)

__all__ = ["CONTEXT_KEYS", "read_usage"]

CONTEXT_KEYS: Final[ContextKeys] = {"serviceTier": "type", "performanceConfig": "latency"}

_ALIASED_KEYS: Final = {
    "cacheReadInputTokens": "cacheReadInputTokenCount",
    "cacheWriteInputTokens": "cacheWriteInputTokenCount",
}
_KNOWN: Final = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheDetails",
        "serverToolUsage",
        ESTIMATED_KEY,
        *_ALIASED_KEYS,
        *_ALIASED_KEYS.values(),
    }
)


def read_usage(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read a usage object of Converse."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, _KNOWN)
    notes.list_unknown("usage.serverToolUsage", usage.get("serverToolUsage"))
    uncached = require_count("inputTokens", usage["inputTokens"])
    output = require_count("outputTokens", usage.get("outputTokens"))
    cached, written = (_read_aliased_count(usage, *names) for names in _ALIASED_KEYS.items())
    parts = {
        "inputTokens": uncached,
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": written,
        "outputTokens": output,
    }
    if cached + written and usage.get("totalTokens") == uncached + output:
        require_total("totalTokens", usage["totalTokens"], parts)  # does the input contain the cache, or the total not?
    notes.check_total("usage.totalTokens", usage.get("totalTokens"), parts)
    short, long = _read_writes(usage.get("cacheDetails"), written, notes)
    return build_fields(
        {
            "input_tokens": uncached + cached + written,
            "cache_read_tokens": cached,
            "cache_write_tokens": short,
            "cache_write_1h_tokens": long,
            "output_tokens": output,
        },
        service_tier=nested_value(response.get("serviceTier"), "type"),
        mode=read_stated(nested_value(response.get("performanceConfig"), "latency"), "standard"),
        estimated=is_estimated(usage),
        notes=notes,
    )


def _read_aliased_count(usage: dict[str, Any], name: str, alias: str) -> int:
    """Return a count that may have two names; if it has both, they must agree."""
    first, second = usage.get(name), usage.get(alias)
    if first is not None and second is not None:
        require_total(name, first, {alias: require_count(alias, second)})
    return read_count(usage, alias if first is None else name)


def _read_writes(details: Any, written: int, notes: NotesBuilder) -> tuple[int, int]:
    """Return the tokens written for 5 minutes and for an hour."""
    counts = {"5m": 0, "1h": 0}
    for index, value in enumerate(require_list("cacheDetails", details or None)):
        where = f"usage.cacheDetails[{index}]"
        entry = require_object(where, value)
        count, ttl = read_count(entry, "inputTokens"), str(entry.get("ttl"))
        if count and ttl not in counts:
            raise BillingError(
                "unknown_usage_key", f"{where} keeps {count} tokens for {safe_repr(ttl)}; known are 5m and 1h"
            )
        notes.list_unknown(where, entry, ("inputTokens", "ttl"))
        if count:
            counts[ttl] += count
    return split_writes(written, counts["5m"], counts["1h"], notes)
