"""OpenAI's three usage objects (chat completions, embeddings, Responses), and those of the many who copy them.

Rules, from OpenAI's API reference: prompt (input) tokens contain the cached and the audio tokens, completion (output)
tokens contain the reasoning tokens; ``total_tokens`` is their sum. The predicted-output counts are contained in the
completion tokens and cost what those cost.

What others do otherwise, each told from the body alone:

- xAI counts reasoning tokens beside the completion tokens. Where a total is stated and is prompt + completion +
  reasoning, that is so, and they are added to the output. Nothing else is ever added to make a total right.
- Mistral (``num_cached_tokens``), Moonshot and Together (``cached_tokens`` beside the totals) and DeepSeek
  (``prompt_cache_hit_tokens``) name the cached tokens elsewhere; prompt tokens contain them all the same. DeepSeek's
  hit and miss add up to the prompt.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    check_total,
    format_keys,
    is_estimated,
    read_count,
    read_model_name,
    read_service_tier,
    reject_unknown_counts,
    require_object,
)
from brivionix_billing.usage.tool_calls import TOOL_USAGE_KEYS, call_meters, count_billable_calls, read_reported_calls
from brivionix_billing.usage.usage import MAX_COUNT, Usage, require_count, usage_from_meters

__all__ = ["CONTEXT_KEYS", "read_chat", "read_responses"]

CONTEXT_KEYS: Final[ContextKeys] = {"service_tier": None, "model": None}
"""What these shapes say around the usage object."""

_INPUT_DETAILS: Final = {
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "audio_tokens": "audio_input_tokens",
    "image_tokens": "image_input_tokens",
    "video_tokens": "video_input_tokens",
}
_CACHED: Final = {
    "audio_tokens": "audio_cache_read_tokens",
    "image_tokens": "image_cache_read_tokens",
    "video_tokens": "video_cache_read_tokens",
}
_OUTPUT_DETAILS: Final = {
    "reasoning_tokens": "reasoning_tokens",
    "audio_tokens": "audio_output_tokens",
    "image_tokens": "image_output_tokens",
}
# The same count as cached_tokens of the details, where others write it.
_CACHED_TOKEN_KEYS: Final = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
_CHAT: Final = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
)
_RESPONSES: Final = frozenset(
    {"input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details"}
)
_VENDOR_KEYS: Final = TOOL_USAGE_KEYS | {ESTIMATED_KEY, "prompt_cache_miss_tokens", *_CACHED_TOKEN_KEYS}
_ZERO: Final = 0


def read_chat(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """Chat completions, legacy completions and embeddings (which have no completion tokens)."""
    output = usage.get("completion_tokens")
    if output is None:
        output = _embedding_output("completion_tokens", usage, usage["prompt_tokens"])
    inside, outside = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if usage.keys() <= _CHAT:
        found = _read_fast(usage["prompt_tokens"], output, usage.get("total_tokens"), inside, outside, around, ())
        if found is not None:
            return found
    return _read_strict(usage, around, _CHAT, usage["prompt_tokens"], output, inside, outside, ())


def read_responses(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """The Responses API. Searches are counted from the output items where the body has them."""
    output = usage.get("output_tokens")
    if output is None:
        output = _embedding_output("output_tokens", usage, usage["input_tokens"])
    inside, outside = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    items = around.get("output")
    if usage.keys() <= _RESPONSES:
        calls = call_meters(count_billable_calls(items)) if items else ()
        found = _read_fast(usage["input_tokens"], output, usage.get("total_tokens"), inside, outside, around, calls)
        if found is not None:
            return found
    return _read_strict(usage, around, _RESPONSES, usage["input_tokens"], output, inside, outside, items)


def _read_fast(
    prompt: Any,
    output: Any,
    total: Any,
    inside: Any,
    outside: Any,
    around: dict[str, Any],
    calls: tuple[tuple[int, int], ...],
) -> Usage | None:
    """The usage, if it is of the usual kind: text, perhaps cached, perhaps with reasoning. It is read fast."""
    read: Any = 0
    reasoning: Any = 0
    if inside is not None:
        if type(inside) is not dict:
            return None
        for key, count in inside.items():
            if count is not _ZERO:
                if key != "cached_tokens":
                    return None
                read = count
    if outside is not None:
        if type(outside) is not dict:
            return None
        for key, count in outside.items():
            if count is not _ZERO:
                if key != "reasoning_tokens":
                    return None
                reasoning = count
    tier, model = around.get("service_tier"), around.get("model")
    if (
        type(prompt) is type(output) is type(read) is type(reasoning) is int
        and 0 <= read <= prompt <= MAX_COUNT
        and 0 <= reasoning <= output <= MAX_COUNT
        and (total is None or (type(total) is int and total == prompt + output))
        and (tier is None or (type(tier) is str and len(tier) <= 256))
        and (model is None or (type(model) is str and len(model) <= 256))
    ):
        return usage_from_meters(prompt, prompt - read, read, output, reasoning, tier or None, model or None, calls)
    return None


def _read_strict(
    usage: dict[str, Any],
    around: dict[str, Any],
    known: frozenset[str],
    prompt: Any,
    output: Any,
    inside: Any,
    outside: Any,
    items: Any,
) -> Usage:
    """Key by key: what is unusual is told apart from what is wrong."""
    if known is _RESPONSES and outside is None and isinstance(inside, dict) and "text_tokens" in inside:
        # The shape of an image generation: its output is images, but nothing in it says how many.
        raise BillingError(
            "unknown_usage_format",
            "input_tokens_details with text_tokens but no output_tokens_details: the usage of an image generation, "
            "whose output tokens are not text; it is not read yet",
        )
    names = ("prompt_tokens", "completion_tokens") if known is _CHAT else ("input_tokens", "output_tokens")
    prompt, output = require_count(names[0], prompt), require_count(names[1], output)
    rest = _read_details(inside, _INPUT_DETAILS) | _read_details(outside, _OUTPUT_DETAILS)
    read, reasoning = rest.pop("cache_read_tokens", None), rest.pop("reasoning_tokens", 0)
    stated = None
    if not usage.keys() <= known:
        reject_unknown_counts("usage", {k: v for k, v in usage.items() if k not in known and k not in _VENDOR_KEYS})
        read, stated = _read_cached_tokens(usage, read, prompt), read_reported_calls(usage)
    total = usage.get("total_tokens")
    if reasoning and type(total) is int and total == prompt + output + reasoning:
        output += reasoning  # xAI's way of counting: the stated total says so
    elif total is not None and (type(total) is not int or total != prompt + output):
        check_total("total_tokens", total, {names[0]: prompt, names[1]: output})
    calls = stated if stated is not None else count_billable_calls(items) if items else {}
    return Usage(
        prompt,
        output,
        read or 0,
        reasoning_tokens=reasoning,
        **rest,
        **calls,
        service_tier=read_service_tier(around.get("service_tier")),
        model=read_model_name(around.get("model")),
        estimated=is_estimated(usage),
    )


def _read_details(details: Any, meaning: dict[str, str]) -> dict[str, int]:
    """The counts of token details by argument of ``Usage``."""
    found, unknown = {}, {}
    for key, count in require_object("the token details", details).items():
        if count is None:
            continue
        if key in meaning:
            found[meaning[key]] = require_count(key, count)
        elif key == "cached_tokens_details":
            cached = {k: v for k, v in require_object(key, count).items() if v is not None}
            found.update({_CACHED[k]: require_count(k, v) for k, v in cached.items() if k in _CACHED})
            unknown.update({k: v for k, v in cached.items() if k not in _CACHED})
        else:
            unknown[key] = count
    reject_unknown_counts("the token details", unknown)
    return found


def _read_cached_tokens(usage: dict[str, Any], inside: int | None, prompt: int) -> int | None:
    """The cached tokens, wherever they are named. Where they are named twice, the two must be one number."""
    given = [] if inside is None else [("cached_tokens of the details", inside)]
    given += [(name, require_count(name, usage[name])) for name in _CACHED_TOKEN_KEYS if usage.get(name) is not None]
    for name, count in given[1:]:
        if count != given[0][1]:
            raise BillingError(
                "usage_contradiction", f"{given[0][0]} {given[0][1]} and {name} {count} should be the same tokens"
            )
    if usage.get("prompt_cache_miss_tokens") is not None:
        hit, miss = read_count(usage, "prompt_cache_hit_tokens"), read_count(usage, "prompt_cache_miss_tokens")
        check_total("prompt_tokens", prompt, {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": miss})
    return given[0][1] if given else None


def _embedding_output(name: str, usage: dict[str, Any], prompt: object) -> int:
    """An embedding has no output tokens; its total says so."""
    if usage.get("total_tokens") == prompt:
        return 0
    raise BillingError("invalid_usage", f"{name} is missing from a usage with the keys {format_keys(usage)}")
