"""Reads OpenAI's usage objects (chat completions, embeddings, Responses), and those of OpenAI-compatible providers.

Rules, from OpenAI's API reference: prompt (input) tokens contain the cached and the audio tokens, completion (output)
tokens contain the reasoning tokens; ``total_tokens`` is their sum. The counts of predicted outputs are contained in the
completion tokens and have the same price.

Other providers, each recognised from the body alone:

- xAI counts reasoning tokens beside the completion tokens. If a total is stated and equals prompt + completion +
  reasoning, they are added to the output. Nothing else is ever added to make a total right.
- Mistral (``num_cached_tokens``), Moonshot and Together (``cached_tokens`` beside the totals) and DeepSeek
  (``prompt_cache_hit_tokens``) name the cached tokens elsewhere; their prompt tokens contain them as well. DeepSeek's
  hits and misses add up to the prompt.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.usage.fields import MAX_COUNT, UsageFields, build_fields, make_fields, require_count
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    check_total,
    format_keys,
    is_estimated,
    modality_arguments,
    read_count,
    read_model_name,
    read_service_tier,
    reject_unknown_counts,
    require_object,
)
from brivionix_billing.usage.tool_calls import TOOL_USAGE_KEYS, call_meters, count_billable_calls, read_reported_calls

__all__ = [
    "CHAT_KEYS",
    "CONTEXT_KEYS",
    "RESPONSES_KEYS",
    "FormatKeys",
    "read_chat",
    "read_plain_counts",
    "read_responses",
]

CONTEXT_KEYS: Final[ContextKeys] = {"service_tier": None, "model": None}


class FormatKeys(NamedTuple):
    """The keys of one of OpenAI's two formats of a usage object."""

    input: str
    output: str
    input_details: str
    output_details: str
    all: frozenset[str]
    """These four and ``total_tokens``."""


def _format_keys(input: str, output: str, input_details: str, output_details: str) -> FormatKeys:
    names = (input, output, input_details, output_details)
    return FormatKeys(*names, frozenset({*names, "total_tokens"}))


CHAT_KEYS: Final = _format_keys(
    "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"
)
RESPONSES_KEYS: Final = _format_keys("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")


_INPUT_DETAILS: Final = {
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    **{f"{modality}_tokens": argument for modality, argument in modality_arguments("input").items()},
}
_CACHED_DETAILS: Final = {
    f"{modality}_tokens": argument for modality, argument in modality_arguments("input", "read").items()
}
_OUTPUT_DETAILS: Final = {
    "reasoning_tokens": "reasoning_tokens",
    **{f"{modality}_tokens": argument for modality, argument in modality_arguments("output").items()},
}
_CACHED_TOKEN_KEYS: Final = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
"""Other providers' keys for the count that OpenAI has in the input details."""
_VENDOR_KEYS: Final = TOOL_USAGE_KEYS | {ESTIMATED_KEY, "prompt_cache_miss_tokens", *_CACHED_TOKEN_KEYS}
_ZERO: Final = 0


def read_chat(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of chat completions, legacy completions or embeddings (which have no completion tokens)."""
    return _read(usage, response, CHAT_KEYS, (), ())


def read_responses(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of the Responses API. Searches are counted from the output items, if the body has them."""
    items = response.get("output")
    calls = call_meters(count_billable_calls(items)) if items and usage.keys() <= RESPONSES_KEYS.all else ()
    return _read(usage, response, RESPONSES_KEYS, calls, items)


def read_plain_counts(usage: dict[str, Any], keys: FormatKeys) -> tuple[int, int, int, int] | None:
    """Return input, cached, output and reasoning tokens of the usual usage object; ``None`` for every other.

    The usual one has whole numbers that agree, and apart from its totals only cached and reasoning tokens are not zero.
    This is the fast path of bodies and of usage files.
    """
    input_key, output_key, input_details_key, output_details_key, known = keys
    if not usage.keys() <= known:
        return None
    get = usage.get
    input_tokens, output, total = get(input_key), get(output_key), get("total_tokens")
    input_details, output_details = get(input_details_key), get(output_details_key)
    cached: Any = 0
    reasoning: Any = 0
    if input_details is not None:
        if type(input_details) is not dict:
            return None
        for key, count in input_details.items():
            if count is not _ZERO:
                if key != "cached_tokens":
                    return None
                cached = count
    if output_details is not None:
        if type(output_details) is not dict:
            return None
        for key, count in output_details.items():
            if count is not _ZERO:
                if key != "reasoning_tokens":
                    return None
                reasoning = count
    if output is None and total == input_tokens:  # an embedding
        output = 0
    if (
        type(input_tokens) is type(output) is type(cached) is type(reasoning) is int
        and 0 <= cached <= input_tokens <= MAX_COUNT
        and 0 <= reasoning <= output <= MAX_COUNT
        and (total is None or (type(total) is int and total == input_tokens + output))
    ):
        return input_tokens, cached, output, reasoning
    return None


def _read(
    usage: dict[str, Any], response: dict[str, Any], keys: FormatKeys, calls: tuple[tuple[str, int], ...], items: Any
) -> UsageFields:
    counts = read_plain_counts(usage, keys)
    if counts is not None:
        tier, model = response.get("service_tier"), response.get("model")
        if (tier is None or (type(tier) is str and len(tier) <= 256)) and (
            model is None or (type(model) is str and len(model) <= 256)
        ):
            input_tokens, cached, output, reasoning = counts
            uncached = input_tokens - cached
            return make_fields(input_tokens, uncached, cached, output, reasoning, tier or None, model or None, calls)
    return _read_strict(usage, response, keys, items)


def _read_strict(usage: dict[str, Any], response: dict[str, Any], keys: FormatKeys, items: Any) -> UsageFields:
    """Read key by key, to distinguish an unusual usage from an invalid one."""
    input_tokens, output = usage[keys.input], usage.get(keys.output)
    input_details, output_details = usage.get(keys.input_details), usage.get(keys.output_details)
    if output is None:
        output = _embedding_output(keys.output, usage, input_tokens)
    if (
        keys is RESPONSES_KEYS
        and output_details is None
        and isinstance(input_details, dict)
        and "text_tokens" in input_details
    ):
        # The format of an image generation: its output is images, but the body does not say how many tokens.
        raise BillingError(
            "unknown_usage_format",
            "input_tokens_details with text_tokens but no output_tokens_details: the usage of an image generation, "
            "whose output tokens are not text; it is not read yet",
        )
    input_tokens, output = require_count(keys.input, input_tokens), require_count(keys.output, output)
    details = _read_details(input_details, _INPUT_DETAILS) | _read_details(output_details, _OUTPUT_DETAILS)
    cached, reasoning = details.pop("cache_read_tokens", None), details.pop("reasoning_tokens", 0)
    reported_calls = None
    if not usage.keys() <= keys.all:
        reject_unknown_counts("usage", usage, keys.all | _VENDOR_KEYS)
        cached, reported_calls = _read_cached_tokens(usage, cached, input_tokens), read_reported_calls(usage)
    total = usage.get("total_tokens")
    if reasoning and type(total) is int and total == input_tokens + output + reasoning:
        output += reasoning  # xAI counts reasoning beside the output, as the stated total shows
    elif total is not None and (type(total) is not int or total != input_tokens + output):
        check_total("total_tokens", total, {keys.input: input_tokens, keys.output: output})
    calls = reported_calls if reported_calls is not None else count_billable_calls(items) if items else {}
    return build_fields(
        {
            "input_tokens": input_tokens,
            "output_tokens": output,
            "cache_read_tokens": cached or 0,
            **details,
            **calls,
        },
        reasoning_tokens=reasoning,
        service_tier=read_service_tier(response.get("service_tier")),
        model=read_model_name(response.get("model")),
        estimated=is_estimated(usage),
    )


def _read_details(details: Any, arguments: dict[str, str]) -> dict[str, int]:
    """Return the counts of token details by argument of ``Usage``."""
    counts, unknown = {}, {}
    for key, count in require_object("the token details", details).items():
        if count is None:
            continue
        if key in arguments:
            counts[arguments[key]] = require_count(key, count)
        elif key == "cached_tokens_details":
            cached = {name: value for name, value in require_object(key, count).items() if value is not None}
            counts.update(
                {_CACHED_DETAILS[k]: require_count(k, value) for k, value in cached.items() if k in _CACHED_DETAILS}
            )
            unknown.update({k: value for k, value in cached.items() if k not in _CACHED_DETAILS})
        else:
            unknown[key] = count
    reject_unknown_counts("the token details", unknown)
    return counts


def _read_cached_tokens(usage: dict[str, Any], of_details: int | None, input_tokens: int) -> int | None:
    """Return the cached tokens under whichever key they have. If they have two, both must be the same number."""
    counts = [] if of_details is None else [("cached_tokens of the details", of_details)]
    counts += [(name, require_count(name, usage[name])) for name in _CACHED_TOKEN_KEYS if usage.get(name) is not None]
    for name, count in counts[1:]:
        if count != counts[0][1]:
            raise BillingError(
                "usage_contradiction",
                f"{counts[0][0]} {counts[0][1]} and {name} {count} must be the same; ask the provider which is right",
            )
    if usage.get("prompt_cache_miss_tokens") is not None:
        hit, miss = read_count(usage, "prompt_cache_hit_tokens"), read_count(usage, "prompt_cache_miss_tokens")
        check_total("prompt_tokens", input_tokens, {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": miss})
    return counts[0][1] if counts else None


def _embedding_output(name: str, usage: dict[str, Any], input_tokens: object) -> int:
    """Return 0: an embedding has no output tokens, as its total shows."""
    if usage.get("total_tokens") == input_tokens:
        return 0
    raise BillingError("invalid_usage", f"{name} is missing from a usage with the keys {format_keys(usage)}")
