"""Anthropic's usage object (Messages API), also as Bedrock and Vertex hand it on.

Rules, from Anthropic's API reference: ``input_tokens`` contains neither what was read from a cache nor what was written
to it; all that went in is the sum of the three. ``cache_creation`` tells the writes kept for 5 minutes from those kept
for an hour; without it all were kept for 5 minutes. ``output_tokens`` contains the thinking tokens. No total is stated.

``iterations`` has an entry for each time that a model ran within the request. The counts above it are the sum of the
entries of type ``message``. Compaction runs the same model once more, and its entry is *not* in the counts above: it is
added here. What another model did (an advisor, a fallback) is billed at that model's price, which one usage cannot say:
such a body is refused. Each entry is a usage object of this shape and can be billed as a record of its own.

``speed: fast`` is a price of its own: it is the served tier ``fast``. The tier for batches and for committed capacity
stands in ``service_tier``.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    check_total,
    is_estimated,
    read_count,
    read_model_name,
    read_service_tier,
    reject_unknown_counts,
    require_object,
)
from brivionix_billing.usage.tool_calls import read_anthropic_searches
from brivionix_billing.usage.usage import Usage, require_count

__all__ = ["AROUND", "read_usage"]

AROUND: Final[ContextKeys] = {"model": None}

_COUNTS: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
_KNOWN: Final = frozenset(
    {
        *_COUNTS,
        "cache_creation",
        "output_tokens_details",
        "server_tool_use",
        "iterations",
        "service_tier",
        "total_tokens",
        ESTIMATED_KEY,
    }
)
_ITERATION_KEYS: Final = frozenset({*_COUNTS, "cache_creation"})
_RUN_COUNT_KEYS: Final = (
    "input_tokens",
    "cache_read_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "output_tokens",
)
"""The counts of one run of a model, disjoint."""


def read_usage(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """The Messages API."""
    reject_unknown_counts("usage", {key: value for key, value in usage.items() if key not in _KNOWN})
    model = read_model_name(around.get("model")) or read_model_name(usage.get("model"))
    top = _run_counts(usage)
    plain, cached, short, hour, output = map(sum, zip(top, *_compaction_counts(usage, top, model), strict=True))
    check_total("total_tokens", usage.get("total_tokens"), dict(zip(_RUN_COUNT_KEYS, top, strict=True)))
    details = require_object("output_tokens_details", usage.get("output_tokens_details"))
    reject_unknown_counts("output_tokens_details", {key: n for key, n in details.items() if key != "thinking_tokens"})
    return Usage(
        plain + cached + short + hour,
        output,
        cached,
        short,
        read_count(details, "thinking_tokens"),
        cache_write_1h_tokens=hour,
        web_search_calls=read_anthropic_searches(usage),
        service_tier=_read_tier(usage),
        model=model,
        estimated=is_estimated(usage),
    )


def _run_counts(usage: dict[str, Any]) -> tuple[int, ...]:
    """The counts of one run of a model, by the names of ``_RUN_COUNT_KEYS``."""
    plain, output = (require_count(name, usage.get(name)) for name in ("input_tokens", "output_tokens"))
    written = read_count(usage, "cache_creation_input_tokens")
    details = require_object("cache_creation", usage.get("cache_creation"))
    reject_unknown_counts(
        "cache_creation", {key: value for key, value in details.items() if key not in _RUN_COUNT_KEYS[2:4]}
    )
    short, hour = (read_count(details, name) for name in _RUN_COUNT_KEYS[2:4])
    if not details:
        short = written
    elif usage.get("cache_creation_input_tokens") is not None:
        check_total("cache_creation_input_tokens", written, {_RUN_COUNT_KEYS[2]: short, _RUN_COUNT_KEYS[3]: hour})
    return plain, read_count(usage, "cache_read_input_tokens"), short, hour, output


def _compaction_counts(usage: dict[str, Any], top: tuple[int, ...], model: str | None) -> list[tuple[int, ...]]:
    """What ``iterations`` holds that the counts above leave out. Raises for what another model did."""
    entries = usage.get("iterations")
    if not entries:
        return []
    if not isinstance(entries, list | tuple):
        raise BillingError("invalid_usage", f"iterations is {safe_repr(entries)}, not a list")
    messages: list[tuple[int, ...]] = []
    compactions: list[tuple[int, ...]] = []
    for place, given in enumerate(entries):
        where = f"iterations[{place}]"
        entry = require_object(where, given)
        reject_unknown_counts(where, {key: value for key, value in entry.items() if key not in _ITERATION_KEYS})
        counts, kind, served = _run_counts(entry), entry.get("type"), entry.get("model")
        if model is None:
            model = read_model_name(served)  # a bare usage object: whoever came first is the model of it
        if any(counts) and (kind not in ("message", "compaction") or served not in (None, model)):
            raise BillingError(
                "unknown_usage_key",
                f"{where} is {safe_repr(kind)} by {safe_repr(served)}, with {sum(counts[:4])} input and "
                f"{counts[4]} output "
                f"tokens at the price of that model, not of {safe_repr(model)}; make a record of each entry",
            )
        (compactions if kind == "compaction" else messages).append(counts)
    for place, name in enumerate(_RUN_COUNT_KEYS):
        found = sum(counts[place] for counts in messages)
        check_total(name, top[place], {f"the {len(messages)} messages of iterations": found})
    return compactions


def _read_tier(usage: dict[str, Any]) -> Any:
    tier, speed = read_service_tier(usage.get("service_tier")), usage.get("speed")
    if speed is None or speed == "standard":
        return tier
    if tier not in (None, "standard"):
        raise BillingError(
            "usage_contradiction",
            f"service_tier {safe_repr(tier)} and speed {safe_repr(speed)} are two prices of one request",
        )
    return speed
