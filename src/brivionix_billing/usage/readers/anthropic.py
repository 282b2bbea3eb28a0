"""Reads Anthropic's usage object (Messages API), also as Bedrock and Vertex pass it on.

Rules, from Anthropic's API reference:

- ``input_tokens`` contains neither the tokens read from a cache nor those written to it; the input is the sum of the
  three. No total is stated.
- ``cache_creation`` divides the writes by lifetime, 5 minutes and 1 hour. Without it, all were kept for 5 minutes.
- ``output_tokens`` contains the thinking tokens.
- ``iterations`` has an entry for each run of a model within the request. The counts above it are the sum of the entries
  of type ``message``. Compaction runs the same model once more; its entry is *not* in the counts above and is added
  here. Tokens of another model (an advisor, a fallback) have the price of that model, which one usage cannot express,
  so such a body is rejected. Each entry is a usage object of this format and can be billed as a record of its own.
- ``speed: fast`` has a price of its own: it is the served mode. The tier for batches and committed capacity is in
  ``service_tier``, and ``inference_geo`` is the serving region.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    check_total,
    is_estimated,
    read_count,
    read_model_name,
    read_service_tier,
    reject_unknown_counts,
    require_list,
    require_object,
)
from brivionix_billing.usage.tool_calls import read_anthropic_searches

__all__ = ["CONTEXT_KEYS", "read_usage"]

CONTEXT_KEYS: Final[ContextKeys] = {"model": None}

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
_WRITE_KEYS: Final = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


class _Run(NamedTuple):
    """The disjoint counts of one run of a model, named as Anthropic names them."""

    input_tokens: int
    cache_read_input_tokens: int
    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int
    output_tokens: int


def read_usage(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read a usage object of the Messages API."""
    reject_unknown_counts("usage", usage, _KNOWN)
    model = read_model_name(response.get("model")) or read_model_name(usage.get("model"))
    top = _read_run(usage)
    uncached, cached, written_5m, written_1h, output = map(
        sum, zip(top, *_read_compactions(usage, top, model), strict=True)
    )
    check_total("total_tokens", usage.get("total_tokens"), top._asdict())
    details = require_object("output_tokens_details", usage.get("output_tokens_details"))
    reject_unknown_counts("output_tokens_details", details, ("thinking_tokens",))
    return build_fields(
        {
            "input_tokens": uncached + cached + written_5m + written_1h,
            "cache_read_tokens": cached,
            "cache_write_tokens": written_5m,
            "cache_write_1h_tokens": written_1h,
            "output_tokens": output,
            "web_search_calls": read_anthropic_searches(usage),
        },
        reasoning_tokens=read_count(details, "thinking_tokens"),
        service_tier=read_service_tier(usage.get("service_tier")),
        region=_stated(usage.get("inference_geo"), "not_available", "global"),
        mode=_stated(usage.get("speed"), "standard"),
        model=model,
        estimated=is_estimated(usage),
    )


def _read_run(usage: dict[str, Any]) -> _Run:
    uncached, output = (require_count(name, usage.get(name)) for name in ("input_tokens", "output_tokens"))
    written = read_count(usage, "cache_creation_input_tokens")
    details = require_object("cache_creation", usage.get("cache_creation"))
    reject_unknown_counts("cache_creation", details, _WRITE_KEYS)
    written_5m, written_1h = (read_count(details, name) for name in _WRITE_KEYS)
    if not details:
        written_5m = written
    elif usage.get("cache_creation_input_tokens") is not None:
        parts = dict(zip(_WRITE_KEYS, (written_5m, written_1h), strict=True))
        check_total("cache_creation_input_tokens", written, parts)
    return _Run(uncached, read_count(usage, "cache_read_input_tokens"), written_5m, written_1h, output)


def _read_compactions(usage: dict[str, Any], top: _Run, model: str | None) -> list[_Run]:
    """Return the runs of ``iterations`` that the counts above leave out. Raises for runs of another model."""
    messages: list[_Run] = []
    compactions: list[_Run] = []
    entries = require_list("iterations", usage.get("iterations") or None)
    for index, value in enumerate(entries):
        where = f"iterations[{index}]"
        entry = require_object(where, value)
        reject_unknown_counts(where, entry, _ITERATION_KEYS)
        run, kind, served = _read_run(entry), entry.get("type"), entry.get("model")
        if model is None:
            model = read_model_name(served)  # a usage object without its response: the first run names its model
        if any(run) and (kind not in ("message", "compaction") or served not in (None, model)):
            raise BillingError(
                "unknown_usage_key",
                f"{where} is {safe_repr(kind)} by {safe_repr(served)} with {sum(run[:4])} input and "
                f"{run.output_tokens} "
                f"output tokens, which have the price of that model, not of {safe_repr(model)}; "
                "make a record of each entry",
            )
        (compactions if kind == "compaction" else messages).append(run)
    if entries:
        for name, count in top._asdict().items():
            total = sum(getattr(run, name) for run in messages)
            check_total(name, count, {f"the {len(messages)} messages of iterations": total})
    return compactions


def _stated(value: Any, *usual: str) -> Any:
    """Return a name that the provider states, unless it is one of the usual ones, which state nothing."""
    return None if value in ("", *usual) else value
