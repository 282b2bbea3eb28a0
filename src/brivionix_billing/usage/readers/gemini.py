"""Reads Gemini's ``usageMetadata`` (Gemini API, Vertex AI), in camel case as in JSON or snake case as in the SDK.

Rules, from Google's API reference and from recorded bodies:

- ``promptTokenCount`` contains the cached tokens, but not the tool results that the model read
  (``toolUsePromptTokenCount``), which are input as well.
- ``candidatesTokenCount`` does not contain the thoughts, which have the price of output.
- ``totalTokenCount`` is the sum of prompt, tool use, candidates and thoughts.
- Tokens that the details by modality leave out are text, and so is a DOCUMENT, which has no price of its own. The SDKs
  of Vertex AI write modalities and traffic types as the numbers of their enumerations.
- A total alone, without an answer, is that of a cache that was created: its tokens are input.
- Searches that ground an answer are in ``groundingMetadata`` of the candidates: every query counts as one search.
- The served tier is ``serviceTier`` (Gemini API), or the meaning of ``trafficType`` (Vertex AI).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import UsageFields, build_fields, require_count
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    is_estimated,
    modality_arguments,
    overlap_modalities,
    read_count,
    read_modalities,
    read_model_name,
    read_service_tier,
)
from brivionix_billing.usage.response_context import count_grounding

__all__ = ["CONTEXT_KEYS", "read_usage"]

CONTEXT_KEYS: Final[ContextKeys] = {"modelVersion": None, "model_version": None}

_COUNTS: Final = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "cachedContentTokenCount",
    "totalTokenCount",
)
_INPUT: Final = modality_arguments("input")
_CACHED: Final = modality_arguments("input", "read")
_DETAILS: Final = {
    "promptTokensDetails": ("promptTokenCount", _INPUT),
    "promptTokenDetails": ("promptTokenCount", _INPUT),  # the spelling of embeddings
    "toolUsePromptTokensDetails": ("toolUsePromptTokenCount", _INPUT),
    "cacheTokensDetails": ("cachedContentTokenCount", _CACHED),
    "candidatesTokensDetails": ("candidatesTokenCount", modality_arguments("output")),
}
"""Key of the tokens by modality -> the key of the count that contains them, and modality -> argument of ``Usage``."""
_LIVE_KEYS: Final = {"responseTokenCount": "candidatesTokenCount", "responseTokensDetails": "candidatesTokensDetails"}
"""Keys of the Live API -> those of generated content."""
_KNOWN: Final = frozenset({*_COUNTS, *_DETAILS, "serviceTier", "trafficType", ESTIMATED_KEY})
"""Keys of a usage object."""


_MODALITY_NUMBERS: Final = {1: "TEXT", 2: "IMAGE", 3: "VIDEO", 4: "AUDIO", 5: "DOCUMENT"}
_TRAFFIC_NUMBERS: Final = {0: "TRAFFIC_TYPE_UNSPECIFIED", 1: "ON_DEMAND", 2: "PROVISIONED_THROUGHPUT"}
_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "TRAFFIC_TYPE_UNSPECIFIED": None,
}
_SNAKE_TO_CAMEL: Final = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): name for name in _KNOWN}


_CAMEL_TO_SNAKE: Final = {
    **{camel: snake for snake, camel in _SNAKE_TO_CAMEL.items()},
    "usageMetadata": "usage_metadata",
    "tokenCount": "token_count",
}


def read_usage(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of generated content, embeddings or a cache."""
    notes = NotesBuilder()
    counts = _to_camel_case(usage)
    for live, usual in _LIVE_KEYS.items():
        if counts.get(usual) is None and live in counts:
            counts[usual] = counts.pop(live)
    notes.list_unknown("usageMetadata", counts, _KNOWN)
    if counts.get("promptTokenCount") is None and counts.get("totalTokenCount"):
        others = sum(read_count(counts, name) for name in _COUNTS[1:4])
        if others or not response.get("candidates"):
            counts["promptTokenCount"] = _rest_of_total(counts, others, notes)
    prompt = require_count("promptTokenCount", counts.get("promptTokenCount"))
    tools, candidates, thoughts, cached = (read_count(counts, name) for name in _COUNTS[1:5])
    parts = {
        "promptTokenCount": prompt,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
    }
    notes.check_total("usageMetadata.totalTokenCount", counts.get("totalTokenCount"), parts)
    of_prompt, of_embedding, of_tools, of_cache, of_output = (
        read_modalities(
            counts.get(name),
            f"usageMetadata.{name}",
            (whole, read_count(counts, whole)),
            arguments,
            notes,
            count_keys=("tokenCount", "token_count"),
            numbers=_MODALITY_NUMBERS,
        )
        for name, (whole, arguments) in _DETAILS.items()
    )
    of_prompt = {**of_embedding, **of_prompt}
    if cached and of_prompt and not counts.get("cacheTokensDetails"):
        notes.warn("cachedContentTokenCount without cacheTokensDetails: the cached tokens count as text first")
    arguments = {
        "input_tokens": prompt + tools,
        "cache_read_tokens": cached,
        **{name: of_prompt.get(name, 0) + of_tools.get(name, 0) for name in _INPUT.values()},
        **of_cache,
        **of_output,
    }
    overlap_modalities(arguments, _INPUT, _CACHED, notes)
    if not counts.keys() >= usage.keys():
        notes.rename(_CAMEL_TO_SNAKE)
    return build_fields(
        {**arguments, "output_tokens": candidates + thoughts, **count_grounding(response.get("candidates"))},
        reasoning_tokens=thoughts,
        service_tier=_read_tier(counts),
        model=read_model_name(response.get("modelVersion")) or read_model_name(response.get("model_version")),
        estimated=is_estimated(usage),
        notes=notes,
    )


def _rest_of_total(counts: Mapping[str, Any], others: int, notes: NotesBuilder) -> int:
    """Return the prompt, which is not stated, as what the total has beyond the other counts."""
    total = require_count("totalTokenCount", counts["totalTokenCount"])
    rest = max(total - others, 0)
    if others:
        notes.warn(f"promptTokenCount is missing: the {rest} tokens of totalTokenCount {total} that no count explains")
    return rest


def _to_camel_case(usage: dict[str, Any]) -> dict[str, Any]:
    counts = {_SNAKE_TO_CAMEL.get(key, key): value for key, value in usage.items()}
    if len(counts) < len(usage):
        raise BillingError(
            "usage_contradiction", "usageMetadata has the same count in camel case and in snake case; remove one"
        )
    return counts


def _read_tier(counts: Mapping[str, Any]) -> Any:
    tier, traffic = read_service_tier(counts.get("serviceTier")), counts.get("trafficType")
    if type(traffic) is int:
        traffic = _TRAFFIC_NUMBERS.get(traffic, traffic)
    meaning = _TRAFFIC.get(traffic, traffic) if isinstance(traffic, str) else traffic
    if tier is not None and meaning is not None and tier != meaning:
        raise BillingError(
            "usage_contradiction",
            f"serviceTier {safe_repr(tier)} and trafficType {safe_repr(traffic)} are two tiers; "
            "ask the provider which is right",
        )
    return meaning if tier is None else tier
