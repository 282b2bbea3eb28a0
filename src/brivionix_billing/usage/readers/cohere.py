"""Reads Cohere's usage: ``usage`` of its chat API version 2, ``meta`` of all others. ``billed_units`` is what costs.

Rules, from Cohere's documentation:

- ``tokens`` is what the model processed, including what Cohere added, which is free. ``cached_tokens`` is a part of it.
  So only ``billed_units`` is counted, and no total is stated.
- Billed image tokens are counted beside the billed input tokens.
- Fees of other endpoints (a search of rerank, a classification, an image of older embeddings) are not tokens. A body
  that has them is rejected.
- Cohere's API and SDK write counts with a decimal point, ``12.0``. Such a number is accepted if it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    format_keys,
    is_estimated,
    reject_unknown_counts,
    require_object,
)

__all__ = ["CONTEXT_KEYS", "read_usage"]

CONTEXT_KEYS: Final[ContextKeys] = {}

_KNOWN: Final = frozenset({"tokens", "cached_tokens", "api_version", "warnings", "billed_units", ESTIMATED_KEY})
_BILLED_KEYS: Final = ("input_tokens", "output_tokens", "image_tokens")


def read_usage(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of chat, embeddings or generate."""
    reject_unknown_counts("usage", usage, _KNOWN)
    billed = require_object("billed_units", usage["billed_units"])
    images = _read_whole_count(billed, "image_tokens")
    # The number of images that the image tokens were made of. Without such tokens, each image has a price of its own.
    known = (*_BILLED_KEYS, "images") if images else _BILLED_KEYS
    reject_unknown_counts("billed_units", billed, known, (int, float))
    if all(billed.get(name) is None for name in _BILLED_KEYS):
        raise BillingError(
            "unknown_usage_format", f"billed_units with the keys {format_keys(billed)} has no tokens; use input_tokens"
        )
    texts, output = _read_whole_count(billed, "input_tokens"), _read_whole_count(billed, "output_tokens")
    processed = require_object("tokens", usage.get("tokens"))
    for name in ("input_tokens", "output_tokens"):
        if billed.get(name) is None and _read_whole_count(processed, name) and not images:
            raise BillingError("invalid_usage", f"billed_units has no {name}, although the model processed some")
    return build_fields(
        {"input_tokens": texts + images, "image_input_tokens": images, "output_tokens": output},
        estimated=is_estimated(usage),
    )


def _read_whole_count(counts: Mapping[str, Any], name: str) -> int:
    """Return the count under a key. A float is accepted if it is whole, and named as a float if it is not."""
    value = counts.get(name)
    if type(value) is float and value.is_integer():
        value = int(value)
    return 0 if value is None else require_count(name, value)
