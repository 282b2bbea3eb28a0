"""Gemini's ``usageMetadata`` (Gemini API, Vertex AI), in camel case as JSON has it or in snake case as the SDK has it.

Rules, from Google's API reference and from real bodies: ``promptTokenCount`` contains the cached tokens, but not the
tool results that were read (``toolUsePromptTokenCount``), which are input as well. ``candidatesTokenCount`` does not
contain the thoughts, which cost what output costs. ``totalTokenCount`` is the sum of prompt, tool use, candidates and
thoughts. What the details by modality leave out is text, and so is a DOCUMENT, which nobody prices apart.

The served tier is ``serviceTier`` (Gemini API), or what ``trafficType`` means (Vertex AI).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from brivionix_billing.usage.usage import Usage, raise_contradiction, require_count

__all__ = ["AROUND", "read_usage"]

AROUND: Final[ContextKeys] = {"modelVersion": None, "model_version": None}

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
    "promptTokenDetails",  # so spelt by the embeddings
    "toolUsePromptTokensDetails",
    "candidatesTokensDetails",
    "cacheTokensDetails",
)
_KNOWN: Final = frozenset({*_COUNTS, *_DETAILS, "serviceTier", "trafficType", ESTIMATED_KEY})
_TEXT: Final = frozenset({"TEXT", "DOCUMENT"})
_INPUT_MODALITIES: Final = {"AUDIO": "audio", "IMAGE": "image", "VIDEO": "video"}
_OUTPUT_MODALITIES: Final = {"AUDIO": "audio_output_tokens", "IMAGE": "image_output_tokens"}
_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "TRAFFIC_TYPE_UNSPECIFIED": None,
}


_SNAKE_TO_CAMEL: Final = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): name for name in _KNOWN}
"""How the SDK writes a key -> the key."""


def read_usage(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """Generated content and embeddings."""
    of = _to_camel_case(usage)
    reject_unknown_counts("usageMetadata", {key: value for key, value in of.items() if key not in _KNOWN})
    prompt = require_count("promptTokenCount", of.get("promptTokenCount"))
    tools, out, thoughts, cached = (read_count(of, name) for name in _COUNTS[1:5])
    parts = {
        "promptTokenCount": prompt,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": out,
        "thoughtsTokenCount": thoughts,
    }
    check_total("totalTokenCount", of.get("totalTokenCount"), parts)
    inside = _read_modalities(of, "promptTokensDetails", "promptTokenCount", prompt, _INPUT_MODALITIES)
    for name, count in _read_modalities(
        of, "promptTokenDetails", "promptTokenCount", prompt, _INPUT_MODALITIES
    ).items():
        inside.setdefault(name, count)
    read_again = _read_modalities(of, "toolUsePromptTokensDetails", "toolUsePromptTokenCount", tools, _INPUT_MODALITIES)
    from_cache = _read_modalities(of, "cacheTokensDetails", "cachedContentTokenCount", cached, _INPUT_MODALITIES)
    if cached and inside and not of.get("cacheTokensDetails"):
        raise BillingError(
            "unknown_usage_key",
            f"cachedContentTokenCount {cached} without cacheTokensDetails, of a prompt that is not all text: "
            "nobody here knows which tokens were cached",
        )
    rest = {
        f"{kind}_input_tokens": inside.get(kind, 0) + read_again.get(kind, 0) for kind in _INPUT_MODALITIES.values()
    }
    rest |= {f"{kind}_cache_read_tokens": from_cache.get(kind, 0) for kind in _INPUT_MODALITIES.values()}
    return Usage(
        prompt + tools,
        out + thoughts,
        cached,
        reasoning_tokens=thoughts,
        **rest,
        **_read_modalities(of, "candidatesTokensDetails", "candidatesTokenCount", out, _OUTPUT_MODALITIES),
        service_tier=_tier(of),
        model=read_model_name(around.get("modelVersion")) or read_model_name(around.get("model_version")),
        estimated=is_estimated(usage),
    )


def _to_camel_case(usage: dict[str, Any]) -> dict[str, Any]:
    of = {_SNAKE_TO_CAMEL.get(key, key): value for key, value in usage.items()}
    if len(of) < len(usage):
        raise BillingError("usage_contradiction", "a usageMetadata that has one count in camel case and in snake case")
    return of


def _read_modalities(
    of: Mapping[str, Any], name: str, whole: str, count: int, meaning: Mapping[str, str]
) -> dict[str, int]:
    """The tokens of each modality that has a meter of its own; the details name at most all tokens of the whole."""
    details = of.get(name)
    if details is None:
        return {}
    if not isinstance(details, list | tuple):
        raise BillingError("invalid_usage", f"{name} is {safe_repr(details)}, not a list")
    found: dict[str, int] = {}
    named = 0
    for place, given in enumerate(details):
        entry = require_object(f"{name}[{place}]", given)
        key = "tokenCount" if "tokenCount" in entry else "token_count"
        tokens, modality = read_count(entry, key), entry.get("modality")
        reject_unknown_counts(f"{name}[{place}]", {k: v for k, v in entry.items() if k not in (key, "modality")})
        named += tokens
        kind = modality if isinstance(modality, str) else ""
        if kind in meaning:
            found[meaning[kind]] = found.get(meaning[kind], 0) + tokens
        elif tokens and kind not in _TEXT:
            raise BillingError(
                "unknown_usage_key",
                f"{name} has {tokens} tokens of modality {safe_repr(modality)}, and nobody here knows what they cost",
            )
    if named > count:
        raise_contradiction(whole, count, {name: named})
    return {kind: tokens for kind, tokens in found.items() if tokens}


def _tier(of: Mapping[str, Any]) -> Any:
    tier, traffic = read_service_tier(of.get("serviceTier")), of.get("trafficType")
    means = _TRAFFIC.get(traffic, traffic) if isinstance(traffic, str) else traffic
    if tier is not None and means is not None and tier != means:
        raise BillingError(
            "usage_contradiction", f"serviceTier {safe_repr(tier)} and trafficType {safe_repr(traffic)} are two tiers"
        )
    return means if tier is None else tier
