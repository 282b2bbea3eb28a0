"""Renames the counts of usage objects that are OpenAI's but for their names.

- AI SDK (``LanguageModelUsage``): ``inputTokens`` and ``outputTokens``, as counts or as objects with a ``total``, and
  ``inputTokenDetails``. The input contains what these state as cached. ``cachedInputTokens`` alone is unaccounted,
  because whether the input contains it differs by provider.
- YandexGPT: ``inputTextTokens``, ``completionTokens``. Hunyuan: ``PromptTokens``, ``CompletionTokens``. Coze:
  ``input_count``, ``output_count``. OpenRouter's statistics of a generation: ``native_tokens_prompt``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.usage.parsing import require_object

__all__ = ["AI_SDK_KEYS", "RENAMED_KEYS", "rename_ai_sdk", "rename_counts"]

AI_SDK_KEYS: Final = frozenset({"reasoningTokens", "cachedInputTokens", "inputTokenDetails", "outputTokenDetails"})
"""Keys that only the AI SDK has beside ``inputTokens``, which Bedrock has too."""
_CHAT_NAMES: Final = {
    **dict.fromkeys(("inputTextTokens", "PromptTokens", "input_count", "native_tokens_prompt"), "prompt_tokens"),
    **dict.fromkeys(
        ("completionTokens", "CompletionTokens", "output_count", "native_tokens_completion"), "completion_tokens"
    ),
    **dict.fromkeys(("totalTokens", "TotalTokens", "token_count"), "total_tokens"),
    "native_tokens_cached": "cached_tokens",
    "native_tokens_reasoning": "reasoning_tokens",
    "completionTokensDetails": "completion_tokens_details",
    "reasoningTokens": "reasoning_tokens",
}
RENAMED_KEYS: Final = (
    *("inputTextTokens", "PromptTokens", "prompt_cache_miss_tokens", "input_count", "native_tokens_prompt"),
)
"""Keys by which a usage object of :func:`rename_counts` is recognised."""
_INPUT_PARTS: Final = {
    **dict.fromkeys(("noCache", "noCacheTokens"), "text_tokens"),
    **dict.fromkeys(("cacheRead", "cacheReadTokens"), "cached_tokens"),
    **dict.fromkeys(("cacheWrite", "cacheWriteTokens"), "cache_write_tokens"),
}
_OUTPUT_PARTS: Final = {
    **dict.fromkeys(("text", "textTokens"), "text_tokens"),
    **dict.fromkeys(("reasoning", "reasoningTokens"), "reasoning_tokens"),
}


def rename_counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a usage object of YandexGPT or Hunyuan under the names of chat completions.

    DeepSeek's hits and misses add up to the prompt, if it is not stated.
    """
    counts = _rename(usage, _CHAT_NAMES)
    parts = [usage.get(name) for name in ("prompt_cache_hit_tokens", "prompt_cache_miss_tokens")]
    if "prompt_tokens" not in counts and all(type(part) is int for part in parts):
        counts["prompt_tokens"] = sum(parts)
    return counts


def rename_ai_sdk(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a usage object of the AI SDK under the names of the Responses API."""
    counts = {key: value for key, value in usage.items() if key not in _AI_SDK_READ}
    if usage.get("totalTokens") is not None:
        counts["total_tokens"] = usage["totalTokens"]
    for name, total, parts in (("input", "inputTokens", _INPUT_PARTS), ("output", "outputTokens", _OUTPUT_PARTS)):
        stated = usage.get(total)
        nested = stated if isinstance(stated, Mapping) else {"total": stated}
        details = {**require_object(f"{name}TokenDetails", usage.get(f"{name}TokenDetails")), **nested}
        counts[f"{name}_tokens"] = details.pop("total", None)
        counts[f"{name}_tokens_details"] = _rename(details, parts)
    beside = {
        "cachedInputTokens": counts["input_tokens_details"].get("cached_tokens"),
        "reasoningTokens": counts["output_tokens_details"].setdefault("reasoning_tokens", usage.get("reasoningTokens")),
    }
    for key, read in beside.items():  # a count that is stated twice
        if usage.get(key) not in (None, read):
            counts[key] = usage[key]
    return counts


_AI_SDK_READ: Final = AI_SDK_KEYS | {"inputTokens", "outputTokens", "totalTokens", "raw"}
"""Keys that are read. ``raw`` repeats the provider's own usage object."""


def _rename(counts: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return an object under other names; null values and objects within it as well."""
    return {
        names.get(key, key): _rename(value, names) if isinstance(value, Mapping) else value
        for key, value in counts.items()
        if value is not None
    }
