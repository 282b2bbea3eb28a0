"""Reads formats that are a few counts without details: Ollama, Bedrock's InvokeModel, durations, totals, quantities.

- Ollama: ``prompt_eval_count`` and ``eval_count``. It leaves out a count that is zero.
- Bedrock InvokeModel: Llama (``prompt_token_count``, ``generation_token_count``), Titan (``inputTextTokenCount`` and
  ``tokenCount`` of each result), and for every model ``amazon-bedrock-invocationMetrics``, whose input does not contain
  the cached tokens.
- A transcription that is billed by time: ``{"type": "duration", "seconds": 11}``.
- Embeddings and rerank of Voyage and Jina state only a total, which is input.
- Quantities under the names of the arguments of ``Usage``, such as ``{"output_images": 2}``.
- ``{"counts": {...}}``: all arguments of ``Usage``, as a row of a usage table has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.meters import METERS
from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    is_estimated,
    read_model_name,
    read_quantity,
    read_service_tier,
    read_whole_count,
    require_list,
    require_object,
)

__all__ = [
    "CONTEXT_KEYS",
    "COUNT_NAMES",
    "GUARDRAIL_KEYS",
    "OLLAMA_KEYS",
    "QUANTITY_KEYS",
    "read_counts",
    "read_duration",
    "read_invocation_metrics",
    "read_llama",
    "read_ollama",
    "read_quantities",
    "read_titan",
    "read_total",
    "read_watsonx",
]

CONTEXT_KEYS: Final[ContextKeys] = {"service_tier": None, "model": None}
OLLAMA_KEYS: Final = ("prompt_eval_count", "eval_count")
QUANTITY_KEYS: Final = frozenset(meter.argument for meter in METERS.values() if not meter.is_token)
"""Arguments of ``Usage`` for all that is not a token."""
GUARDRAIL_KEYS: Final = ("topicPolicyUnits", "contentPolicyUnits", "wordPolicyUnits", "sensitiveInformationPolicyUnits")
"""Keys of Bedrock's ApplyGuardrail, whose units are unaccounted."""
_ARGUMENTS: Final = frozenset(meter.argument for meter in METERS.values() if meter.argument)
COUNT_NAMES: Final = _ARGUMENTS | {"reasoning_tokens", "total_tokens"}
"""Arguments of ``Usage`` for all counts of this library's meters."""
_METRICS: Final = (
    "inputTokenCount",
    "outputTokenCount",
    "cacheReadInputTokenCount",
    "cacheWriteInputTokenCount",
)


def read_ollama(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the counts of Ollama's own API."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, OLLAMA_KEYS)
    counts = (read_whole_count(usage, name) for name in OLLAMA_KEYS)
    if usage.get("prompt_eval_count") is None and not usage.get(ESTIMATED_KEY):
        notes.warn("usage has no prompt_eval_count: the prompt was cached, and its tokens are not stated")
    return _build(dict(zip(("input_tokens", "output_tokens"), counts, strict=True)), usage, response, notes)


def read_llama(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the counts of Llama on Bedrock."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("prompt_token_count", "generation_token_count"))
    counts = {
        "input_tokens": require_count("prompt_token_count", usage.get("prompt_token_count")),
        "output_tokens": require_count("generation_token_count", usage["generation_token_count"]),
    }
    return _build(counts, usage, response, notes)


def read_watsonx(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the counts of watsonx's text generation."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("input_token_count", "generated_token_count"))
    counts = {
        "input_tokens": read_whole_count(usage, "input_token_count"),
        "output_tokens": read_whole_count(usage, "generated_token_count"),
    }
    return _build(counts, usage, response, notes)


def read_titan(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the counts of Titan on Bedrock: text with results, or an embedding."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("inputTextTokenCount", "totalOutputTextTokenCount", "results"))
    output = read_whole_count(usage, "totalOutputTextTokenCount")
    for index, value in enumerate(require_list("results", usage.get("results"))):
        result = require_object(f"results[{index}]", value)
        notes.list_unknown(f"usage.results[{index}]", result, ("tokenCount",))
        output += read_whole_count(result, "tokenCount")
    counts = {"input_tokens": read_whole_count(usage, "inputTextTokenCount"), "output_tokens": output}
    return _build(counts, usage, response, notes)


def read_invocation_metrics(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the metrics that Bedrock adds to every model's answer."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, _METRICS)
    uncached, output, cached, written = (read_whole_count(usage, name) for name in _METRICS)
    counts = {
        "input_tokens": uncached + cached + written,
        "cache_read_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": output,
    }
    return _build(counts, usage, response, notes)


def read_duration(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the seconds of a transcription."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("seconds",))
    counts = {"audio_input_seconds": read_quantity("seconds", usage["seconds"], "audio_input_seconds")}
    return _build(counts, usage, response, notes)


def read_total(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read a total that is all input: of embeddings or of rerank."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("total_tokens", "image_pixels", "text_tokens"))
    total = require_count("total_tokens", usage["total_tokens"])
    counts: dict[str, Decimal | int] = {"input_tokens": total}
    if usage.get("image_pixels") is not None and not total:
        counts["input_pixels"] = read_whole_count(usage, "image_pixels")
    else:
        notes.list_number("usage.image_pixels", usage.get("image_pixels"))
    notes.list_contained("usage.text_tokens", usage.get("text_tokens", 0), total)
    return _build(counts, usage, response, notes)


def read_quantities(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read quantities under the names of the arguments of ``Usage``."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, QUANTITY_KEYS)
    counts = {name: read_quantity(name, value, name) for name, value in usage.items() if name in QUANTITY_KEYS}
    return _build(counts, usage, response, notes)


def read_counts(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read counts under the names of the arguments of ``Usage``; other names are meters of a price file."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("counts",))
    counts = require_object("counts", usage["counts"])
    return build_fields(
        {name: value for name, value in counts.items() if name in _ARGUMENTS},
        reasoning_tokens=counts.get("reasoning_tokens", 0),
        total_tokens=counts.get("total_tokens"),
        service_tier=read_service_tier(response.get("service_tier")),
        model=read_model_name(response.get("model")),
        estimated=is_estimated({ESTIMATED_KEY: usage.get(ESTIMATED_KEY, False)}),
        custom={name: value for name, value in counts.items() if name not in COUNT_NAMES},
        notes=notes,
    )


def _build(
    counts: Mapping[str, Decimal | int], usage: dict[str, Any], response: dict[str, Any], notes: NotesBuilder
) -> UsageFields:
    return build_fields(
        counts,
        service_tier=read_service_tier(response.get("service_tier")),
        model=read_model_name(response.get("model")),
        estimated=is_estimated({ESTIMATED_KEY: usage.get(ESTIMATED_KEY, False)}),
        notes=notes,
    )
