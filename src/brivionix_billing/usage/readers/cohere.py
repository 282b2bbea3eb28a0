"""Reads Cohere's usage: ``usage`` of its chat API version 2, ``meta`` of all others. ``billed_units`` is what costs.

Rules, from Cohere's documentation:

- ``tokens`` is what the model processed, including what Cohere added, which is free. ``cached_tokens`` is a part of it.
  So only ``billed_units`` is counted, and no total is stated.
- Billed image tokens are counted beside the billed input tokens.
- A search of rerank is a query, and an image of older embeddings is an image. Other units are unaccounted.
- Cohere's API and SDK write counts with a decimal point, ``12.0``. Such a number is accepted if it is whole.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import UsageFields, build_fields
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    format_keys,
    is_estimated,
    read_whole_count,
    require_object,
)

__all__ = ["CONTEXT_KEYS", "read_usage"]

CONTEXT_KEYS: Final[ContextKeys] = {}

_PROCESSED: Final = ("tokens", "cached_tokens")
_PROCESSED_KEYS: Final = ("input_tokens", "output_tokens", "image_tokens", "reasoning_tokens")
_KNOWN: Final = frozenset({*_PROCESSED, "billed_units", ESTIMATED_KEY})
_BILLED_KEYS: Final = ("input_tokens", "output_tokens", "image_tokens", "images", "search_units")


def read_usage(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of chat, embeddings, rerank or generate."""
    notes = NotesBuilder()
    notes.list_unknown("usage", usage, _KNOWN)
    billed = require_object("billed_units", usage["billed_units"])
    notes.list_unknown("usage.billed_units", billed, _BILLED_KEYS)
    if all(type(billed.get(name)) not in (int, float) for name in billed):
        raise BillingError(
            "unknown_usage_format", f"billed_units with the keys {format_keys(billed)} has no counts; use input_tokens"
        )
    texts, output, image_tokens, images, searches = (read_whole_count(billed, name) for name in _BILLED_KEYS)
    processed = require_object("tokens", usage.get("tokens"))
    for name in ("input_tokens", "output_tokens"):
        if billed.get(name) is None and read_whole_count(processed, name) and not (image_tokens or images or searches):
            raise BillingError("invalid_usage", f"billed_units has no {name}, although the model processed some")
    _warn_of_processed(usage, {"input_tokens": texts, "output_tokens": output, "image_tokens": image_tokens}, notes)
    return build_fields(
        {
            "input_tokens": texts + image_tokens,
            "image_input_tokens": image_tokens,
            "output_tokens": output,
            # The number of images that the image tokens were made of; without such tokens, each image has a price.
            "input_images": 0 if image_tokens else images,
            "queries": searches,
        },
        estimated=is_estimated(usage),
        notes=notes,
    )


def _warn_of_processed(usage: dict[str, Any], billed: dict[str, int], notes: NotesBuilder) -> None:
    """Note counts of what the model processed that are not the billed counts."""
    processed = require_object("tokens", usage.get("tokens"))
    notes.list_unknown("usage.tokens", processed, _PROCESSED_KEYS)
    stated = {name: processed.get(name) for name in _PROCESSED_KEYS}
    stated = {name: count for name, count in stated.items() if count and count != billed.get(name)}
    if usage.get("cached_tokens"):
        stated["cached_tokens"] = usage["cached_tokens"]
    if stated:
        shown = ", ".join(f"{name} {safe_repr(count, 24)}" for name, count in stated.items())
        notes.warn(f"the model processed {shown}; only billed_units are charged")
