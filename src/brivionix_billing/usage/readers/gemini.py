"""Reads Gemini's ``usageMetadata`` (Gemini API, Vertex AI), in camel case as in JSON or snake case as in the SDK.

Rules, from Google's API reference and from recorded bodies:

- ``promptTokenCount`` contains the cached tokens, but not the tool results that the model read
  (``toolUsePromptTokenCount``), which are input as well.
- ``candidatesTokenCount`` does not contain the thoughts, which have the price of output.
- ``totalTokenCount`` is the sum of prompt, tool use, candidates and thoughts.
- Tokens that the details by modality leave out are text, and so is a DOCUMENT, which has no price of its own.
- The served tier is ``serviceTier`` (Gemini API), or the meaning of ``trafficType`` (Vertex AI).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import UsageFields, build_fields, raise_contradiction, require_count
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    check_total,
    is_estimated,
    modality_arguments,
    read_count,
    read_model_name,
    read_service_tier,
    reject_unknown_counts,
    require_list,
    require_object,
)

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
_DETAILS: Final = (
    "promptTokensDetails",
    "promptTokenDetails",  # the spelling of embeddings
    "toolUsePromptTokensDetails",
    "candidatesTokensDetails",
    "cacheTokensDetails",
)
_KNOWN: Final = frozenset({*_COUNTS, *_DETAILS, "serviceTier", "trafficType", ESTIMATED_KEY})


_INPUT_MODALITIES: Final = {modality.upper(): argument for modality, argument in modality_arguments("input").items()}
_CACHED_MODALITIES: Final = {
    modality.upper(): argument for modality, argument in modality_arguments("input", "read").items()
}
_OUTPUT_MODALITIES: Final = {modality.upper(): argument for modality, argument in modality_arguments("output").items()}
_TEXT: Final = frozenset({"TEXT", "DOCUMENT"})
_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "TRAFFIC_TYPE_UNSPECIFIED": None,
}
_SNAKE_TO_CAMEL: Final = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): name for name in _KNOWN}


def read_usage(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of generated content or embeddings."""
    counts = _to_camel_case(usage)
    reject_unknown_counts("usageMetadata", counts, _KNOWN)
    prompt = require_count("promptTokenCount", counts.get("promptTokenCount"))
    tools, candidates, thoughts, cached = (read_count(counts, name) for name in _COUNTS[1:5])
    parts = {
        "promptTokenCount": prompt,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
    }
    check_total("totalTokenCount", counts.get("totalTokenCount"), parts)
    of_prompt = _read_modalities(counts, "promptTokensDetails", "promptTokenCount", prompt, _INPUT_MODALITIES)
    of_embedding = _read_modalities(counts, "promptTokenDetails", "promptTokenCount", prompt, _INPUT_MODALITIES)
    of_prompt = {**of_embedding, **of_prompt}
    of_tools = _read_modalities(
        counts, "toolUsePromptTokensDetails", "toolUsePromptTokenCount", tools, _INPUT_MODALITIES
    )
    of_cache = _read_modalities(counts, "cacheTokensDetails", "cachedContentTokenCount", cached, _CACHED_MODALITIES)
    of_output = _read_modalities(
        counts, "candidatesTokensDetails", "candidatesTokenCount", candidates, _OUTPUT_MODALITIES
    )
    if cached and of_prompt and not counts.get("cacheTokensDetails"):
        raise BillingError(
            "unknown_usage_key",
            f"cachedContentTokenCount is {cached} without cacheTokensDetails, and the prompt is not all text, so the "
            "modality of the cached tokens is unknown; bill such a request by hand",
        )
    return build_fields(
        {
            "input_tokens": prompt + tools,
            "cache_read_tokens": cached,
            "output_tokens": candidates + thoughts,
            **{name: of_prompt.get(name, 0) + of_tools.get(name, 0) for name in _INPUT_MODALITIES.values()},
            **of_cache,
            **of_output,
        },
        reasoning_tokens=thoughts,
        service_tier=_read_tier(counts),
        model=read_model_name(response.get("modelVersion")) or read_model_name(response.get("model_version")),
        estimated=is_estimated(usage),
    )


def _to_camel_case(usage: dict[str, Any]) -> dict[str, Any]:
    counts = {_SNAKE_TO_CAMEL.get(key, key): value for key, value in usage.items()}
    if len(counts) < len(usage):
        raise BillingError(
            "usage_contradiction", "usageMetadata has the same count in camel case and in snake case; remove one"
        )
    return counts


def _read_modalities(
    counts: Mapping[str, Any], name: str, whole: str, count: int, arguments: Mapping[str, str]
) -> dict[str, int]:
    """Return the tokens of each modality with a meter of its own, by argument of ``Usage``."""
    tokens_by_argument: dict[str, int] = {}
    total = 0
    for index, value in enumerate(require_list(name, counts.get(name))):
        where = f"{name}[{index}]"
        entry = require_object(where, value)
        key = "tokenCount" if "tokenCount" in entry else "token_count"
        tokens, modality = read_count(entry, key), entry.get("modality")
        reject_unknown_counts(where, entry, (key, "modality"))
        total += tokens
        argument = arguments.get(modality) if isinstance(modality, str) else None
        if argument is not None:
            tokens_by_argument[argument] = tokens_by_argument.get(argument, 0) + tokens
        elif tokens and not (isinstance(modality, str) and modality in _TEXT):
            raise BillingError(
                "unknown_usage_key",
                f"{where} has {tokens} tokens of modality {safe_repr(modality)}, which has no known price; "
                f"known are {', '.join((*sorted(_TEXT), *arguments))}",
            )
    if total > count:
        raise_contradiction(whole, count, {name: total})
    return {argument: tokens for argument, tokens in tokens_by_argument.items() if tokens}


def _read_tier(counts: Mapping[str, Any]) -> Any:
    tier, traffic = read_service_tier(counts.get("serviceTier")), counts.get("trafficType")
    meaning = _TRAFFIC.get(traffic, traffic) if isinstance(traffic, str) else traffic
    if tier is not None and meaning is not None and tier != meaning:
        raise BillingError(
            "usage_contradiction",
            f"serviceTier {safe_repr(tier)} and trafficType {safe_repr(traffic)} are two tiers; "
            "ask the provider which is right",
        )
    return meaning if tier is None else tier
