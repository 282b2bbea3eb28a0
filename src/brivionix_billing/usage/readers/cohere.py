"""Cohere's usage: ``usage`` of its chat API version 2, ``meta`` of all others. What one pays is ``billed_units``.

Rules, from Cohere's documentation: ``tokens`` is what the model processed, with what Cohere added to it, which one does
not pay; ``cached_tokens`` is a part of that, too. So only ``billed_units`` is counted here, and no total is stated.
Billed image tokens stand beside the billed input tokens. The fees of other endpoints (a search of rerank, a
classification, an image of older embeddings) are no tokens: a body that has them is refused.

Cohere's API and its SDK give these counts as numbers with a point, ``12.0``; such a number is taken if it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    format_keys,
    is_estimated,
    reject_unknown_counts,
    require_object,
)
from brivionix_billing.usage.usage import Usage, require_count

__all__ = ["AROUND", "read_usage"]

AROUND: Final[ContextKeys] = {}

_UNBILLED_KEYS: Final = frozenset({"tokens", "cached_tokens", "api_version", "warnings"})
_BILLED_KEYS: Final = ("input_tokens", "output_tokens", "image_tokens")


def read_usage(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """Chat, embeddings, generate."""
    rest = {
        key: value
        for key, value in usage.items()
        if key not in _UNBILLED_KEYS and key not in ("billed_units", ESTIMATED_KEY)
    }
    reject_unknown_counts("usage", rest)
    billed = require_object("billed_units", usage["billed_units"])
    images = _read_whole_count(billed, "image_tokens")
    # So many images are what the image tokens were made of; without such tokens each image has a price of its own.
    known = (*_BILLED_KEYS, "images") if images else _BILLED_KEYS
    reject_unknown_counts("billed_units", {key: n for key, n in billed.items() if key not in known}, (int, float))
    if all(billed.get(name) is None for name in _BILLED_KEYS):
        raise BillingError(
            "unknown_usage_format", f"billed_units with the keys {format_keys(billed)} states no billed tokens"
        )
    plain, output = _read_whole_count(billed, "input_tokens"), _read_whole_count(billed, "output_tokens")
    processed = require_object("tokens", usage.get("tokens"))
    for name in ("input_tokens", "output_tokens"):
        if billed.get(name) is None and _read_whole_count(processed, name) and not images:
            raise BillingError("invalid_usage", f"billed_units has no {name}, but the model processed some")
    return Usage(plain + images, output, image_input_tokens=images, estimated=is_estimated(usage))


def _read_whole_count(counts: Mapping[str, Any], name: str) -> int:
    """The count under a key; a float is taken where it is a whole number, and refused as what it is where not."""
    value = counts.get(name)
    if type(value) is float and value.is_integer():
        value = int(value)
    return 0 if value is None else require_count(name, value)
