"""Reads Anthropic's usage object (Messages API), also as Bedrock and Vertex pass it on.

Rules, from Anthropic's API reference:

- ``input_tokens`` contains neither the tokens read from a cache nor those written to it; the input is the sum of the
  three. No total is stated.
- ``cache_creation`` divides the writes by lifetime, 5 minutes and 1 hour. Without it, all were kept for 5 minutes.
- ``output_tokens`` contains the thinking tokens.
- ``iterations`` has an entry for each run of a model within the request. The counts above it are the sum of the entries
  of type ``message``, or of all entries of the served model, or more if a client added up several requests. With an
  advisor they are the input of the first run and the output of all runs; every run is billed. Every other entry is
  *not* in the counts above: compaction runs the same model once more and is added here; a run of another model (an
  advisor, a fallback) is a part of its own, with the price of that model.
- ``speed: fast`` has a price of its own: it is the served mode. The tier for batches and committed capacity is in
  ``service_tier``, and ``inference_geo`` is the serving region.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    is_estimated,
    read_count,
    read_model_name,
    read_service_tier,
    read_stated,
    require_list,
    require_object,
    require_total,
    split_writes,
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
_ITERATION_KEYS: Final = frozenset({*_COUNTS, "cache_creation", "output_tokens_details"})
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
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, _KNOWN)
    model = read_model_name(response.get("model")) or read_model_name(usage.get("model"))
    top = _read_run("usage", usage, notes)
    added, others = _read_iterations(usage, top, model, notes)
    for name, run in others.items():
        notes.parts.append((name, build_fields(_arguments(run), model=name)))
    notes.check_total(
        "usage.total_tokens", usage.get("total_tokens"), top._asdict(), (top.input_tokens + top.output_tokens,)
    )
    counts = _arguments(added)
    reasoning = _read_thinking("usage", usage, top.output_tokens, notes)
    return build_fields(
        {**counts, "web_search_calls": read_anthropic_searches(usage, notes)},
        reasoning_tokens=min(reasoning, counts["output_tokens"]),
        service_tier=read_service_tier(usage.get("service_tier")),
        region=read_stated(usage.get("inference_geo"), "not_available", "global"),
        mode=read_stated(usage.get("speed"), "standard"),
        model=model,
        estimated=is_estimated(usage),
        notes=notes,
    )


def _arguments(run: _Run) -> dict[str, int]:
    """Return the counts of a run by argument of ``Usage``."""
    return {
        "input_tokens": sum(run[:4]),
        "cache_read_tokens": run.cache_read_input_tokens,
        "cache_write_tokens": run.ephemeral_5m_input_tokens,
        "cache_write_1h_tokens": run.ephemeral_1h_input_tokens,
        "output_tokens": run.output_tokens,
    }


def _read_run(where: str, usage: dict[str, Any], notes: NotesBuilder) -> _Run:
    uncached, output = (require_count(name, usage.get(name)) for name in ("input_tokens", "output_tokens"))
    stated = usage.get("cache_creation_input_tokens")
    written = None if stated is None else require_count("cache_creation_input_tokens", stated)
    details = require_object("cache_creation", usage.get("cache_creation"))
    notes.list_unknown(f"{where}.cache_creation", details, _WRITE_KEYS)
    of_5m, of_1h = (read_count(details, name) for name in _WRITE_KEYS)
    short, long = split_writes(written, of_5m, of_1h, notes)
    return _Run(uncached, read_count(usage, "cache_read_input_tokens"), short, long, output)


def _read_thinking(where: str, usage: dict[str, Any], output: int, notes: NotesBuilder) -> int:
    """Return the thinking tokens, which the output contains."""
    details = require_object("output_tokens_details", usage.get("output_tokens_details"))
    notes.list_unknown(f"{where}.output_tokens_details", details, ("thinking_tokens",))
    thinking = read_count(details, "thinking_tokens")
    if thinking > output:
        notes.warn(f"{where}.output_tokens_details.thinking_tokens {thinking} is more than output_tokens {output}")
    return thinking


def _read_iterations(
    usage: dict[str, Any], top: _Run, model: str | None, notes: NotesBuilder
) -> tuple[_Run, dict[str, _Run]]:
    """Return the counts of the model of the response, and those of each other model."""
    entries = require_list("iterations", usage.get("iterations") or None)
    if not entries:
        return top, {}
    messages, everything = Counter[str](), Counter[str]()
    first: _Run | None = None
    runs: dict[str | None, list[_Run]] = {}
    for index, value in enumerate(entries):
        where = f"usage.iterations[{index}]"
        entry = require_object(where, value)
        notes.list_unknown(where, entry, _ITERATION_KEYS)
        run, served = _read_run(where, entry, notes), read_model_name(entry.get("model"))
        _read_thinking(where, entry, run.output_tokens, notes)
        if model is None and index == 0:
            model = served  # a usage object without its response: the first run names its model
        runs.setdefault(model if served is None else served, []).append(run)
        everything.update(run._asdict())
        if entry.get("type") == "message":
            messages.update(run._asdict())
            first = first or run
    stated = top._asdict()
    if top != _add_runs(runs.get(model, [])) and any(count != everything[name] for name, count in stated.items()):
        rest = {name: count - messages[name] for name, count in stated.items()}
        is_first = first is not None and top == first._replace(output_tokens=messages["output_tokens"])
        if is_first and min(rest.values()) < 0:
            notes.warn("the input above iterations is that of the first run; the input of every run is billed")
        elif min(rest.values()) < 0 or not messages.total():
            for name, count in stated.items():
                require_total(name, count, {"the messages of iterations": messages[name]})
        elif any(rest.values()):  # Claude Code adds up its turns, and keeps the iterations of the last one
            notes.warn("iterations contain a part of the counts above them, which are billed")
            runs.setdefault(model, []).append(_Run(**rest))
    totals = {name: _add_runs(found) for name, found in runs.items()}
    own = totals.pop(model, _add_runs([]))
    return own, {str(name): run for name, run in totals.items() if any(run)}


def _add_runs(runs: list[_Run]) -> _Run:
    return _Run._make(map(sum, zip(*runs, strict=True))) if runs else _Run(0, 0, 0, 0, 0)
