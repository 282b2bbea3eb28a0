"""Reads OpenAI's usage objects (chat completions, embeddings, Responses), and those of OpenAI-compatible providers.

Rules, from OpenAI's API reference: prompt (input) tokens contain the cached and the audio tokens, completion (output)
tokens contain the reasoning tokens; ``total_tokens`` is their sum. The counts of predicted outputs are contained in the
completion tokens and have the same price.

Other providers and gateways, each recognised from the body alone:

- xAI counts reasoning tokens beside the completion tokens, Mistral's Voxtral audio tokens beside the prompt, and
  Portkey Claude's cached and written tokens. If a total is stated and equals prompt + completion + these, they are
  added. Nothing else is ever added to make a total right.
- The same count may have several names, which :mod:`brivionix_billing.usage.token_details` lists; all must be equal.
  The prompt contains it. DeepSeek's hits and misses add up to the prompt.
- new-api writes the keys of both formats, and says in ``usage_semantic`` if the prompt leaves the cache out, as
  Anthropic's does. litellm passes Anthropic's region, speed and searches on.
- Images and speech are recognised by their response: their output tokens are not text.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.usage.fields import MAX_COUNT, UsageExtras, UsageFields, build_fields, require_count
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    format_keys,
    is_estimated,
    overlap_modalities,
    read_count,
    read_model_name,
    read_service_tier,
    read_stated,
    require_object,
    require_total,
)
from brivionix_billing.usage.response_context import count_images, has_embeddings, is_image_list
from brivionix_billing.usage.token_details import (
    CACHE_PLACES,
    CACHED_MODALITIES,
    CHAT_KEYS,
    DETAIL_KEYS,
    INPUT_MODALITIES,
    MODALITIES_BESIDE,
    REASONING_BESIDE,
    RESPONSES_KEYS,
    FormatKeys,
    list_contained_details,
    merge_formats,
    read_details,
    read_input_details,
    read_modalities_beside,
    read_output_details,
    read_reasoning_beside,
    read_searches,
    singular_key,
)
from brivionix_billing.usage.tool_calls import (
    TOOL_USAGE_KEYS,
    call_meters,
    count_billable_calls,
    read_reported_calls,
    read_tool_usage,
)

__all__ = ["CONTEXT_KEYS", "read_chat", "read_plain", "read_plain_counts", "read_responses"]

CONTEXT_KEYS: Final[ContextKeys] = {"service_tier": None, "model": None}


_VENDOR_KEYS: Final = frozenset(
    {
        *TOOL_USAGE_KEYS,
        *DETAIL_KEYS,
        *MODALITIES_BESIDE,
        *("prompt_cache_miss_tokens", "context_details", "cached_tokens_details", "service_tier"),
        *("speed", "inference_geo", *REASONING_BESIDE),
        ESTIMATED_KEY,
    }
)
_ZERO: Final = 0
_tuple_new = tuple.__new__


def read_chat(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of chat completions, legacy completions or embeddings (which have no completion tokens)."""
    return read_plain(usage, response, CHAT_KEYS, ()) or _read_strict(usage, response, CHAT_KEYS, ())


def read_responses(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of the Responses API. Searches are counted from the output items, if the body has them."""
    items = response.get("output")
    if not (response.get("tool_usage") or response.get("data") or response.get("type")):
        calls = call_meters(count_billable_calls(items)) if items and usage.keys() <= RESPONSES_KEYS.all else ()
        fields = read_plain(usage, response, RESPONSES_KEYS, calls)
        if fields is not None:
            return fields
    return _read_strict(usage, response, RESPONSES_KEYS, items)


def read_plain_counts(usage: dict[str, Any], keys: FormatKeys) -> tuple[int, int, int, int] | None:
    """Return input, cached, output and reasoning tokens of the usual usage object; ``None`` for every other.

    The usual one has whole numbers that agree, and apart from its totals only cached and reasoning tokens are not zero.
    This is the fast path of bodies, and what a pattern of usage files may have.
    """
    input_key, output_key, input_details_key, output_details_key, known = keys
    if not known.issuperset(usage):
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


def read_plain(
    usage: dict[str, Any], response: dict[str, Any], keys: FormatKeys, calls: tuple[tuple[str, int], ...]
) -> UsageFields | None:
    """Return the fields of the usual usage object in the usual response; ``None`` for every other."""
    counts = read_plain_counts(usage, keys)
    if counts is None:
        return None
    tier, model = response.get("service_tier"), response.get("model")
    if (tier is None or (type(tier) is str and len(tier) <= 256)) and (
        model is None or (type(model) is str and len(model) <= 256)
    ):
        input_tokens, cached, output, reasoning = counts
        if not output and is_image_list(response.get("data")):
            return None  # gateways state no output for images that have a price each
        extras = None
        if tier or model or calls:  # as make_fields, whose call takes a tenth of the time of reading a body
            extras = _tuple_new(UsageExtras, (tier or None, model or None, calls, False, None, None, None))
        return _tuple_new(UsageFields, (input_tokens, input_tokens - cached, cached, output, reasoning, extras))
    return None


def _read_strict(usage: dict[str, Any], response: dict[str, Any], keys: FormatKeys, items: Any) -> UsageFields:
    """Read key by key, to distinguish an unusual usage from an invalid one."""
    notes = NotesBuilder()
    other = CHAT_KEYS if keys is RESPONSES_KEYS else RESPONSES_KEYS
    if not other.all.isdisjoint(usage):
        usage, keys = merge_formats(usage, keys, other, notes)
    input_tokens, output = usage[keys.input], usage.get(keys.output)
    if output is None:
        output = _embedding_output(keys.output, usage, input_tokens, response)
    input_tokens, output = require_count(keys.input, input_tokens), require_count(keys.output, output)
    known = keys.all | _VENDOR_KEYS | {singular_key(keys.input_details), singular_key(keys.output_details)}
    notes.list_unknown("usage", usage, known)
    of_input = read_details(usage, keys.input_details, notes)
    of_output = read_details(usage, keys.output_details, notes)
    counts = read_input_details(of_input, usage, keys, notes)
    counts |= read_output_details(of_output, usage, keys, response, output, notes)
    read_modalities_beside(usage, keys, counts, input_tokens, notes)
    reasoning = counts.pop("reasoning_tokens", 0) or read_reasoning_beside(usage, output, notes)
    _check_misses(usage, input_tokens)

    total = usage.get("total_tokens")
    cached, written = counts.get("cache_read_tokens", 0), counts["cache_write_tokens"] + counts["cache_write_1h_tokens"]
    stated_total = {keys.input: input_tokens, keys.output: output}
    if usage.get("usage_semantic") == "anthropic":
        input_tokens += cached + written  # new-api passes Anthropic's counts on, and says so
    beside = _counts_beside(total, input_tokens + output, reasoning, counts, usage.get("image_tokens"))
    if "reasoning" in beside:
        output += reasoning
    if "audio" in beside:
        input_tokens += counts["audio_input_tokens"]
    if "image" in beside:
        input_tokens += counts["image_input_tokens"]
    if "cache" in beside:
        input_tokens += cached + written
    if not beside:
        connectors = usage.get("connector_tokens")  # of Mistral's conversations, unaccounted by themselves
        also = (input_tokens + output + connectors,) if type(connectors) is int else ()
        notes.check_total("usage.total_tokens", total, stated_total, (input_tokens + output, *also))
    if reasoning > output:
        path = f"usage.{keys.output_details}.reasoning_tokens"
        notes.warn(f"{path} {reasoning} is more than {keys.output} {output}, which is billed")
        reasoning = output
    list_contained_details(of_input, keys.input_details, input_tokens, notes)
    list_contained_details(of_output, keys.output_details, output, notes)

    tool_usage = read_tool_usage(response, notes)
    item_calls = count_billable_calls(items) if items else {}
    searches = read_searches(of_input)
    calls = {**item_calls, **searches, **tool_usage.calls, **(read_reported_calls(usage, notes) or {})}
    if searches and calls["web_search_calls"] != searches["web_search_calls"]:
        notes.list_number(f"usage.{keys.input_details}.web_search_requests", searches["web_search_calls"])
    places = require_object("cached_tokens_details", usage.get("cached_tokens_details"))
    notes.list_unknown("usage.cached_tokens_details", places, CACHE_PLACES)
    for name in CACHE_PLACES:
        notes.list_contained(f"usage.cached_tokens_details.{name}", places.get(name, 0), cached)
    context = require_object("context_details", usage.get("context_details"))
    for name, whole in (("input_tokens", input_tokens), ("output_tokens", output)):
        notes.list_contained(f"usage.context_details.{name}", context.get(name), whole)
    notes.list_unknown("usage.context_details", context, ("input_tokens", "output_tokens"))
    counts |= {"input_tokens": input_tokens, "output_tokens": output}
    if not output:  # gateways state no output for images that have a price each
        counts["output_images"] = count_images(response.get("data"))
    overlap_modalities(counts, INPUT_MODALITIES, CACHED_MODALITIES, notes)
    for name, count in tool_usage.tokens.items():
        counts[name] = counts.get(name, 0) + count
    return build_fields(
        {**counts, **calls},
        reasoning_tokens=reasoning,
        service_tier=read_service_tier(response.get("service_tier")) or read_service_tier(usage.get("service_tier")),
        model=read_model_name(response.get("model")),
        estimated=is_estimated(usage),
        region=read_stated(usage.get("inference_geo"), "not_available", "global"),
        mode=read_stated(usage.get("speed"), "standard"),
        notes=notes,
    )


def _counts_beside(total: Any, stated: int, reasoning: int, counts: dict[str, int], images: Any) -> frozenset[str]:
    """Return the counts that the total shows to be beside the prompt or the completion.

    ``images`` are image tokens that stand beside the totals, as in multimodal embeddings of DashScope.

    Reasoning comes first. If the same number of audio tokens stands beside the prompt instead, more audio than prompt
    is a contradiction, so that no total is explained by the wrong count.
    """
    if type(total) is not int or total <= stated:
        return frozenset()
    beside = {
        "reasoning": reasoning,
        "audio": counts.get("audio_input_tokens", 0),
        "image": counts.get("image_input_tokens", 0) if images == counts.get("image_input_tokens") else 0,
        "cache": counts.get("cache_read_tokens", 0) + counts["cache_write_tokens"] + counts["cache_write_1h_tokens"],
    }
    for names in (("reasoning",), ("audio",), ("reasoning", "audio"), ("image",), ("cache",)):
        if all(beside[name] for name in names) and total == stated + sum(beside[name] for name in names):
            return frozenset(names)
    return frozenset()


def _check_misses(usage: dict[str, Any], input_tokens: int) -> None:
    """Raise ``usage_contradiction`` unless DeepSeek's hits and misses add up to the prompt."""
    if usage.get("prompt_cache_miss_tokens") is not None:
        hit, miss = read_count(usage, "prompt_cache_hit_tokens"), read_count(usage, "prompt_cache_miss_tokens")
        require_total("prompt_tokens", input_tokens, {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": miss})


def _embedding_output(name: str, usage: dict[str, Any], input_tokens: object, response: dict[str, Any]) -> int:
    """Return 0: an embedding has no output tokens, as its total or the response shows."""
    if usage.get("total_tokens") == input_tokens or has_embeddings(response):
        return 0
    raise BillingError("invalid_usage", f"{name} is missing from a usage with the keys {format_keys(usage)}")
