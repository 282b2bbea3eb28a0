"""The usage object of Amazon Bedrock's Converse API (and ConverseStream), and of Nova's own API.

Rules, from the API reference and from real bodies: ``inputTokens`` contains neither ``cacheReadInputTokens`` nor
``cacheWriteInputTokens``; ``totalTokens`` is the sum of the three and ``outputTokens``. ``cacheDetails`` tells the
writes apart by how long they are kept; without it all were kept for 5 minutes. The counts ``...InputTokenCount`` are
the same counts once more.

The served tier stands around it: ``serviceTier.type``. A latency optimised call has a price of its own that is no tier
here, so it is refused.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    check_total,
    is_estimated,
    nested_value,
    read_count,
    reject_unknown_counts,
    require_object,
)
from brivionix_billing.usage.usage import Usage, require_count

__all__ = ["AROUND", "read_usage"]

AROUND: Final[ContextKeys] = {"serviceTier": "type", "performanceConfig": "latency"}

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


def read_usage(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """Converse."""
    reject_unknown_counts("usage", {key: value for key, value in usage.items() if key not in _KNOWN})
    reject_unknown_counts("serverToolUsage", require_object("serverToolUsage", usage.get("serverToolUsage")))
    plain = require_count("inputTokens", usage["inputTokens"])
    output = require_count("outputTokens", usage.get("outputTokens"))
    cached, written = (_read_aliased_count(usage, *names) for names in _ALIASED_KEYS.items())
    parts = {
        "inputTokens": plain,
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": written,
        "outputTokens": output,
    }
    check_total("totalTokens", usage.get("totalTokens"), parts)
    hour = _one_hour_cache_writes(usage.get("cacheDetails"), written)
    return Usage(
        plain + cached + written,
        output,
        cached,
        written - hour,
        cache_write_1h_tokens=hour,
        service_tier=_tier(around),
        estimated=is_estimated(usage),
    )


def _read_aliased_count(usage: dict[str, Any], name: str, again: str) -> int:
    """A count that may stand under two names."""
    first, second = usage.get(name), usage.get(again)
    if first is not None and second is not None:
        check_total(name, first, {again: require_count(again, second)})
    return read_count(usage, again if first is None else name)


def _one_hour_cache_writes(details: Any, written: int) -> int:
    """How many of the written tokens are kept for an hour."""
    if not details:
        return 0
    if not isinstance(details, list | tuple):
        raise BillingError("invalid_usage", f"cacheDetails is {safe_repr(details)}, not a list")
    found = {"5m": 0, "1h": 0}
    for place, given in enumerate(details):
        entry = require_object(f"cacheDetails[{place}]", given)
        count, ttl = read_count(entry, "inputTokens"), str(entry.get("ttl"))
        if count and ttl not in ("5m", "1h"):
            raise BillingError("unknown_usage_key", f"cacheDetails[{place}] keeps {count} tokens for {safe_repr(ttl)}")
        reject_unknown_counts(
            f"cacheDetails[{place}]", {k: v for k, v in entry.items() if k not in ("inputTokens", "ttl")}
        )
        if count:
            found[ttl] += count
    check_total("cacheWriteInputTokens", written, {f"cacheDetails {ttl}": count for ttl, count in found.items()})
    return found["1h"]


def _tier(around: dict[str, Any]) -> Any:
    tier, latency = (nested_value(around.get(key), name) for key, name in AROUND.items())
    if latency not in (None, "standard"):
        raise BillingError(
            "unknown_usage_key",
            f"performanceConfig.latency is {safe_repr(latency)}, a price of its own that no tier here is",
        )
    return tier
