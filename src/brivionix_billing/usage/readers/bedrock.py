"""Reads the usage object of Amazon Bedrock's Converse API (and ConverseStream), and of Nova's own API.

Rules, from the API reference and from recorded bodies:

- ``inputTokens`` contains neither ``cacheReadInputTokens`` nor ``cacheWriteInputTokens``. ``totalTokens`` is the sum of
  the three and ``outputTokens``.
- ``cacheDetails`` divides the writes by lifetime. Without it, all were kept for 5 minutes.
- The keys ``...InputTokenCount`` repeat the same counts.
- The served tier is in the response: ``serviceTier.type``. A latency-optimised call has a price of its own that is not
  a tier, so it is rejected.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    check_total,
    is_estimated,
    nested_value,
    read_count,
    reject_unknown_counts,
    require_list,
    require_object,
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
    reject_unknown_counts("usage", usage, _KNOWN)
    reject_unknown_counts("serverToolUsage", require_object("serverToolUsage", usage.get("serverToolUsage")))
    uncached = require_count("inputTokens", usage["inputTokens"])
    output = require_count("outputTokens", usage.get("outputTokens"))
    cached, written = (_read_aliased_count(usage, *names) for names in _ALIASED_KEYS.items())
    parts = {
        "inputTokens": uncached,
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": written,
        "outputTokens": output,
    }
    check_total("totalTokens", usage.get("totalTokens"), parts)
    written_1h = _read_one_hour_writes(usage.get("cacheDetails"), written)
    return build_fields(
        {
            "input_tokens": uncached + cached + written,
            "cache_read_tokens": cached,
            "cache_write_tokens": written - written_1h,
            "cache_write_1h_tokens": written_1h,
            "output_tokens": output,
        },
        service_tier=_read_tier(response),
        estimated=is_estimated(usage),
    )


def _read_aliased_count(usage: dict[str, Any], name: str, alias: str) -> int:
    """Return a count that may have two names; if it has both, they must agree."""
    first, second = usage.get(name), usage.get(alias)
    if first is not None and second is not None:
        check_total(name, first, {alias: require_count(alias, second)})
    return read_count(usage, alias if first is None else name)


def _read_one_hour_writes(details: Any, written: int) -> int:
    """Return how many of the written tokens are kept for an hour."""
    if not details:
        return 0
    counts = {"5m": 0, "1h": 0}
    for index, value in enumerate(require_list("cacheDetails", details)):
        where = f"cacheDetails[{index}]"
        entry = require_object(where, value)
        count, ttl = read_count(entry, "inputTokens"), str(entry.get("ttl"))
        if count and ttl not in counts:
            raise BillingError(
                "unknown_usage_key", f"{where} keeps {count} tokens for {safe_repr(ttl)}; known are 5m and 1h"
            )
        reject_unknown_counts(where, entry, ("inputTokens", "ttl"))
        if count:
            counts[ttl] += count
    check_total("cacheWriteInputTokens", written, {f"cacheDetails {ttl}": count for ttl, count in counts.items()})
    return counts["1h"]


def _read_tier(response: dict[str, Any]) -> Any:
    tier, latency = (nested_value(response.get(key), name) for key, name in CONTEXT_KEYS.items())
    if latency not in (None, "standard"):
        raise BillingError(
            "unknown_usage_key",
            f"performanceConfig.latency is {safe_repr(latency)}, which has a price that no service tier expresses; "
            "bill such calls by hand",
        )
    return tier
