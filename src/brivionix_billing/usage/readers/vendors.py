"""Reads quantities that vendors state under names of their own, each with the meter that it is on.

- Images: ``image_count`` (DashScope, Replicate), ``generated_images`` (Seedream), whose tokens are contained.
- Characters of speech: ``characters`` (DashScope), ``usage_characters`` (MiniMax). Seconds: ``duration`` of a
  transcription, ``video_duration``. Pages: ``pages_processed`` (Mistral OCR).
- Tokens (``input_token_count``, ``output_token_count``) of Replicate and watsonx's embeddings, and of the vendors whose
  counts :mod:`brivionix_billing.usage.vendor_usage` renames.
- ``predict_time`` of Replicate is the quantity only of a model without any other one.
- A total that is all output: of Seedance, whose ``completion_tokens`` are the ``total_tokens``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.notes import NotesBuilder, show_number
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    is_estimated,
    read_count,
    read_model_name,
    read_quantity,
    read_service_tier,
    read_whole_count,
    require_list,
    require_object,
)
from brivionix_billing.usage.response_context import count_images

__all__ = ["CONTEXT_KEYS", "VENDOR_KEYS", "read_images", "read_models", "read_output", "read_vendor_counts"]

CONTEXT_KEYS: Final[ContextKeys] = {"service_tier": None, "model": None}

_TOKENS: Final = {"input_token_count": "input_tokens", "output_token_count": "output_tokens"}
_QUANTITIES: Final = {
    "image_count": "output_images",
    "generated_images": "output_images",
    "characters": "input_characters",
    "usage_characters": "input_characters",
    "duration": "audio_input_seconds",
    "pages_processed": "pages",
    "rerank_units": "queries",
    "search_units": "queries",
}
_VIDEO_OUTPUT: Final = ("output_video_duration", "video_duration")
_VIDEO_INPUT: Final = "input_video_duration"
_VIDEO_KEYS: Final = (*_VIDEO_OUTPUT, _VIDEO_INPUT, "video_count")
"""Keys of a usage object whose ``duration`` is that of a video."""
_COMPUTE_TIME: Final = "predict_time"
_FREE_KEYS: Final = ("doc_size_bytes", "video_count", "width", "height", "SR")
"""Keys of numbers without a price: sizes, and the number of the videos whose seconds are stated."""
VENDOR_KEYS: Final = (*_TOKENS, *_QUANTITIES, *_VIDEO_OUTPUT, _VIDEO_INPUT, _COMPUTE_TIME)
"""Keys by which such a usage object is recognised, where no other format has them."""


def read_vendor_counts(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read counts under the names of :data:`VENDOR_KEYS`. Raises ``invalid_usage`` for output without its input."""
    notes = NotesBuilder()
    own = ("reasoning_output_tokens", "tokens_cached", ESTIMATED_KEY, _COMPUTE_TIME)
    contained = ("output_tokens", "total_tokens") if "generated_images" in usage else ()
    notes.list_unknown("usage", usage, (*VENDOR_KEYS, *_FREE_KEYS, *own, *contained))
    priced = any(usage.get(name) for name in (*_TOKENS, *_QUANTITIES, *_VIDEO_OUTPUT, _VIDEO_INPUT))
    for name in (*_FREE_KEYS, *contained, *((_COMPUTE_TIME,) if priced else ())):
        if usage.get(name):
            notes.warn(f"{name} {show_number(usage[name])} has no price beside the other quantities")
    counts: dict[str, Decimal | int] = {}
    for name, argument in _TOKENS.items():
        if usage.get(name) is not None:
            counts[argument] = read_whole_count(usage, name)
    if counts.get("output_tokens") and "input_tokens" not in counts:
        raise BillingError("invalid_usage", "the usage has output tokens, but no input; ask for the details of both")
    is_video = any(usage.get(name) is not None for name in _VIDEO_KEYS)
    if is_video:
        counts |= _read_video_seconds(usage, notes)
    for name, argument in _QUANTITIES.items():
        if usage.get(name) is not None and not (is_video and name == "duration"):
            if argument in counts:
                notes.list_number(f"usage.{name}", usage[name])
            else:
                counts[argument] = read_quantity(name, usage[name], argument)
    if usage.get(_COMPUTE_TIME) is not None and not priced:
        counts["compute_seconds"] = read_quantity(_COMPUTE_TIME, usage[_COMPUTE_TIME], "compute_seconds")
    output = read_count(counts, "output_tokens")
    notes.list_contained("usage.tokens_cached", usage.get("tokens_cached"), read_count(counts, "input_tokens") + output)
    return build_fields(
        counts,
        reasoning_tokens=min(read_count(usage, "reasoning_output_tokens"), output),
        **_served(usage, response),
        notes=notes,
    )


def _read_video_seconds(usage: dict[str, Any], notes: NotesBuilder) -> dict[str, Decimal | int]:
    """Return the seconds of videos, by argument of ``Usage``. ``duration`` is that of the output, or of both."""
    seconds = {
        name: read_quantity(name, usage[name], "video_output_seconds")
        for name in (*_VIDEO_OUTPUT, _VIDEO_INPUT, "duration")
        if usage.get(name) is not None
    }
    duration, received = seconds.pop("duration", None), seconds.pop(_VIDEO_INPUT, 0)
    name, output = next(iter(seconds.items()), ("duration", duration or 0))
    for other, value in (*seconds.items(), ("duration", duration)):
        if value not in (None, output, output + received) and other != name:
            notes.list_number(f"usage.{other}", usage[other])
    return {"video_output_seconds": output, "video_input_seconds": received}


def read_images(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Count the images of a response whose usage object states no quantity, but perhaps a cost."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, (ESTIMATED_KEY,))
    return build_fields({"output_images": count_images(response.get("data"))}, **_served(usage, response), notes=notes)


def read_output(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read a usage whose total shows that all of it is output."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("completion_tokens", "total_tokens", ESTIMATED_KEY))
    output = require_count("completion_tokens", usage["completion_tokens"])
    return build_fields({"output_tokens": output}, **_served(usage, response), notes=notes)


def read_models(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the counts of an application of DashScope, which lists each model that it called.

    The first one is the model of the application. The others are parts, with their own prices.
    """
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, ("models", ESTIMATED_KEY))
    runs: dict[str, dict[str, Decimal | int]] = {}
    for index, value in enumerate(require_list("models", usage["models"])):
        where = f"usage.models[{index}]"
        entry = require_object(where, value)
        notes.list_unknown(where, entry, ("model_id", "input_tokens", "output_tokens"))
        run = runs.setdefault(str(read_model_name(entry.get("model_id"))), {})
        for name in ("input_tokens", "output_tokens"):
            run[name] = read_count(run, name) + require_count(name, entry.get(name))
    if not runs:
        raise BillingError("unknown_usage_format", "the list of models of the usage is empty; use input_tokens")
    (model, counts), *others = runs.items()
    notes.parts += [(name, build_fields(run, model=name)) for name, run in others]
    return build_fields(counts, **{**_served(usage, response), "model": model}, notes=notes)


def _served(usage: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    return {
        "service_tier": read_service_tier(response.get("service_tier")),
        "model": read_model_name(response.get("model")),
        "estimated": is_estimated({ESTIMATED_KEY: usage.get(ESTIMATED_KEY, False)}),
    }
