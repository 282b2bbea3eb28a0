"""Reads OpenAI's usage objects (chat completions, embeddings, Responses), and those of OpenAI-compatible providers.

Rules, from OpenAI's API reference: prompt (input) tokens contain the cached and the audio tokens, completion (output)
tokens contain the reasoning tokens; ``total_tokens`` is their sum. The counts of predicted outputs are contained in the
completion tokens and have the same price.

Other providers and gateways, each recognised from the body alone:

- xAI counts reasoning tokens beside the completion tokens, and Mistral's Voxtral audio tokens beside the prompt. If a
  total is stated and equals prompt + completion + these, they are added. Nothing else is ever added to make a total
  right.
- The same count may have several names (:data:`_CACHED_KEYS`, :data:`_WRITTEN_KEYS`); all must be equal. The prompt
  contains it. DeepSeek's hits and misses add up to the prompt.
- new-api writes the keys of both formats, and says in ``usage_semantic`` if the prompt leaves the cache out, as
  Anthropic's does. litellm passes Anthropic's region, speed and searches on.
- Images and speech are recognised by their response: their output tokens are not text.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import MAX_COUNT, UsageExtras, UsageFields, build_fields, require_count
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import (
    ESTIMATED_KEY,
    ContextKeys,
    format_keys,
    is_estimated,
    modality_arguments,
    overlap_modalities,
    read_count,
    read_model_name,
    read_service_tier,
    read_stated,
    require_object,
    require_total,
    split_writes,
)
from brivionix_billing.usage.response_context import IMAGE_ITEM_KEYS
from brivionix_billing.usage.tool_calls import (
    TOOL_USAGE_KEYS,
    call_meters,
    count_billable_calls,
    item_field,
    read_reported_calls,
    read_tool_usage,
)

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


_INPUT_MODALITIES: Final = modality_arguments("input")
_CACHED_MODALITIES: Final = modality_arguments("input", "read")
_OUTPUT_MODALITIES: Final = modality_arguments("output")
_CACHED_KEYS: Final = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
"""Keys of the cached tokens, in the token details or beside the totals."""
_WRITTEN_KEYS: Final = (
    *("cache_write_tokens", "cache_creation_tokens", "cached_creation_tokens"),
    *("cache_creation_input_tokens", "cache_write_input_tokens"),
)
"""Keys of the tokens written to a cache, in the token details or beside the totals."""
_LIFETIME_KEYS: Final = ("cache_creation", "cache_creation_token_details")
"""Keys of the objects that divide written tokens by lifetime."""
_5M_KEYS: Final = ("ephemeral_5m_input_tokens", "claude_cache_creation_5_m_tokens")
_1H_KEYS: Final = ("ephemeral_1h_input_tokens", "claude_cache_creation_1_h_tokens")
_CONTAINED_KEYS: Final = ("text_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
"""Keys of the token details for parts that have the price of the whole."""
_VENDOR_KEYS: Final = frozenset(
    {
        *TOOL_USAGE_KEYS,
        *_CACHED_KEYS,
        *_WRITTEN_KEYS,
        *_LIFETIME_KEYS,
        *_5M_KEYS,
        *_1H_KEYS,
        *("prompt_cache_miss_tokens", "context_details", "service_tier", "speed", "inference_geo"),
        ESTIMATED_KEY,
    }
)
_AUDIO_EVENTS: Final = frozenset({"speech.audio.done"})
_IMAGE_EVENTS: Final = frozenset({"image_generation.completed", "image_edit.completed"})
_ZERO: Final = 0
_tuple_new = tuple.__new__


def read_chat(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of chat completions, legacy completions or embeddings (which have no completion tokens)."""
    return _read_plain(usage, response, CHAT_KEYS, ()) or _read_strict(usage, response, CHAT_KEYS, ())


def read_responses(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    """Read the usage of the Responses API. Searches are counted from the output items, if the body has them."""
    items = response.get("output")
    if not (response.get("tool_usage") or response.get("data") or response.get("type")):
        calls = call_meters(count_billable_calls(items)) if items and usage.keys() <= RESPONSES_KEYS.all else ()
        fields = _read_plain(usage, response, RESPONSES_KEYS, calls)
        if fields is not None:
            return fields
    return _read_strict(usage, response, RESPONSES_KEYS, items)


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


def _read_plain(
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
        usage, keys = _merge_formats(usage, keys, other, notes)
    input_tokens, output = usage[keys.input], usage.get(keys.output)
    if output is None:
        output = _embedding_output(keys.output, usage, input_tokens)
    input_tokens, output = require_count(keys.input, input_tokens), require_count(keys.output, output)
    known = keys.all | _VENDOR_KEYS | {_singular(keys.input_details), _singular(keys.output_details)}
    notes.list_unknown("usage", usage, known)
    of_input = _read_details(usage, keys.input_details, notes)
    of_output = _read_details(usage, keys.output_details, notes)
    counts = _read_input_details(of_input, usage, keys, notes)
    counts |= _read_output_details(of_output, usage, keys, response, output, notes)
    reasoning = counts.pop("reasoning_tokens", 0)
    _check_misses(usage, input_tokens)

    total = usage.get("total_tokens")
    cached, written = counts.get("cache_read_tokens", 0), counts["cache_write_tokens"] + counts["cache_write_1h_tokens"]
    stated_total = {keys.input: input_tokens, keys.output: output}
    if usage.get("usage_semantic") == "anthropic":
        input_tokens += cached + written  # new-api passes Anthropic's counts on, and says so
    beside = _counts_beside(total, input_tokens + output, reasoning, counts)
    if "reasoning" in beside:
        output += reasoning
    if "audio" in beside:
        input_tokens += counts["audio_input_tokens"]
    if not beside:
        notes.check_total("usage.total_tokens", total, stated_total, (input_tokens + output,))
    if reasoning > output:
        path = f"usage.{keys.output_details}.reasoning_tokens"
        notes.warn(f"{path} {reasoning} is more than {keys.output} {output}, which is billed")
        reasoning = output
    _list_contained(of_input, keys.input_details, input_tokens, notes)
    _list_contained(of_output, keys.output_details, output, notes)

    tool_usage = read_tool_usage(response, notes)
    item_calls = count_billable_calls(items) if items else {}
    calls = {**item_calls, **tool_usage.calls, **(read_reported_calls(usage, notes) or {})}
    context = require_object("context_details", usage.get("context_details"))
    for name, whole in (("input_tokens", input_tokens), ("output_tokens", output)):
        notes.list_contained(f"usage.context_details.{name}", context.get(name), whole)
    notes.list_unknown("usage.context_details", context, ("input_tokens", "output_tokens"))
    counts |= {"input_tokens": input_tokens, "output_tokens": output}
    overlap_modalities(counts, _INPUT_MODALITIES, _CACHED_MODALITIES, notes)
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


def _merge_formats(
    usage: dict[str, Any], keys: FormatKeys, other: FormatKeys, notes: NotesBuilder
) -> tuple[dict[str, Any], FormatKeys]:
    """Merge the keys of both formats, which new-api writes. Equal counts are duplicates, others a contradiction.

    The pair of a format that was not used is zero.
    """
    mine, theirs = ([usage.get(name) for name in (form.input, form.output)] for form in (keys, other))
    if not any(mine) and any(theirs):
        keys, other, mine, theirs = other, keys, theirs, mine
    for name, count, twin, duplicate in zip(
        (keys.input, keys.output), mine, (other.input, other.output), theirs, strict=True
    ):
        if duplicate and duplicate != count:
            raise BillingError(
                "usage_contradiction",
                f"{name} {safe_repr(count)} and {twin} {safe_repr(duplicate)} must be the same; "
                "ask the provider which is right",
            )
    merged = {name: value for name, value in usage.items() if name not in other.all or name == "total_tokens"}
    for name, twin in ((keys.input_details, other.input_details), (keys.output_details, other.output_details)):
        details, repeated = usage.get(name), usage.get(twin)
        if not details:
            merged[name] = repeated
        else:
            _list_differing(f"usage.{twin}", repeated, details, notes)
    return merged, keys


def _list_differing(path: str, repeated: Any, details: Any, notes: NotesBuilder) -> None:
    """List what a second object of details states otherwise than the first one, which is read."""
    if not isinstance(repeated, dict) or not isinstance(details, dict):
        notes.list_unknown(path, repeated)
        return
    for key, value in repeated.items():
        if value != details.get(key):
            notes.list_unknown(path, {key: value})


def _singular(name: str) -> str:
    return name.replace("_tokens_details", "_token_details")


def _read_details(usage: dict[str, Any], name: str, notes: NotesBuilder) -> dict[str, Any]:
    """Return the token details under either spelling: audio and Realtime write ``input_token_details``."""
    first = require_object("the token details", usage.get(name))
    second = require_object("the token details", usage.get(_singular(name)))
    if first and second:
        _list_differing(f"usage.{_singular(name)}", second, first, notes)
    return first or second


def _read_input_details(
    details: dict[str, Any], usage: dict[str, Any], keys: FormatKeys, notes: NotesBuilder
) -> dict[str, int]:
    """Return cached and written tokens and those of each modality, by argument of ``Usage``."""
    where = f"usage.{keys.input_details}"
    counts: dict[str, int] = {}
    cached = _read_same("cached tokens", _CACHED_KEYS, details, usage)
    if cached is not None:
        counts["cache_read_tokens"] = cached
    counts |= _read_writes(details, usage, where, notes)
    for modality, argument in _INPUT_MODALITIES.items():
        if (count := read_count(details, f"{modality}_tokens")) or f"{modality}_tokens" in details:
            counts[argument] = count
    of_cache = require_object("cached_tokens_details", details.get("cached_tokens_details"))
    for modality, argument in _CACHED_MODALITIES.items():
        counts[argument] = read_count(of_cache, f"{modality}_tokens")
    known = [f"{modality}_tokens" for modality in _CACHED_MODALITIES]
    notes.list_unknown(f"{where}.cached_tokens_details", of_cache, [*known, "text_tokens"])
    notes.list_contained(f"{where}.cached_tokens_details.text_tokens", of_cache.get("text_tokens", 0), cached or 0)
    modalities = [f"{modality}_tokens" for modality in _INPUT_MODALITIES]
    others = ("cached_tokens_details", *_CACHED_KEYS, *_WRITTEN_KEYS, *_LIFETIME_KEYS, *_CONTAINED_KEYS)
    notes.list_unknown(where, details, [*modalities, *others])
    return counts


def _read_writes(details: dict[str, Any], usage: dict[str, Any], where: str, notes: NotesBuilder) -> dict[str, int]:
    """Return the tokens written to a cache, by lifetime."""
    written = _read_same("tokens written to a cache", _WRITTEN_KEYS, details, usage)
    lifetimes: list[dict[str, Any]] = []
    for place, container in ((where, details), ("usage", usage)):
        for name in _LIFETIME_KEYS:
            found = require_object(name, container.get(name))
            notes.list_unknown(f"{place}.{name}", found, (*_5M_KEYS, *_1H_KEYS))
            lifetimes.append(found)
    of_5m = _read_same("tokens written for 5 minutes", _5M_KEYS, *lifetimes, usage)
    of_1h = _read_same("tokens written for 1 hour", _1H_KEYS, *lifetimes, usage)
    short, long = split_writes(written, of_5m, of_1h, notes)
    return {"cache_write_tokens": short, "cache_write_1h_tokens": long}


def _read_output_details(
    details: dict[str, Any],
    usage: dict[str, Any],
    keys: FormatKeys,
    response: dict[str, Any],
    output: int,
    notes: NotesBuilder,
) -> dict[str, int]:
    """Return reasoning tokens and those of each modality, by argument of ``Usage``."""
    names = {f"{modality}_tokens": argument for modality, argument in _OUTPUT_MODALITIES.items()}
    names["reasoning_tokens"] = "reasoning_tokens"
    counts = {argument: read_count(details, name) for name, argument in names.items() if name in details}
    notes.list_unknown(f"usage.{keys.output_details}", details, [*names, *_CONTAINED_KEYS])
    if not details:
        modality = _output_modality(usage, keys, response)
        if modality is not None:
            counts[_OUTPUT_MODALITIES[modality]] = output
    return counts


def _output_modality(usage: dict[str, Any], keys: FormatKeys, response: dict[str, Any]) -> str | None:
    """Return the modality of an output that is all of one: of an image generation or of speech."""
    kind = response.get("type")
    if kind in _AUDIO_EVENTS:
        return "audio"
    items = response.get("data")
    is_image_list = isinstance(items, list | tuple) and any(
        item_field(item, name) is not None for item in items[:1] for name in IMAGE_ITEM_KEYS
    )
    if kind in _IMAGE_EVENTS or is_image_list:
        return "image"
    of_input = usage.get(keys.input_details)
    if keys is RESPONSES_KEYS and isinstance(of_input, dict) and of_input.keys() == {"text_tokens", "image_tokens"}:
        return "image"  # the usage object of OpenAI's images API, without its response
    return None


def _counts_beside(total: Any, stated: int, reasoning: int, counts: dict[str, int]) -> frozenset[str]:
    """Return the counts that the total shows to be beside the prompt or the completion.

    Reasoning comes first. If the same number of audio tokens stands beside the prompt instead, more audio than prompt
    is a contradiction, so that no total is explained by the wrong count.
    """
    if type(total) is not int or total <= stated:
        return frozenset()
    beside = {"reasoning": reasoning, "audio": counts.get("audio_input_tokens", 0)}
    for names in (("reasoning",), ("audio",), ("reasoning", "audio")):
        if all(beside[name] for name in names) and total == stated + sum(beside[name] for name in names):
            return frozenset(names)
    return frozenset()


def _list_contained(details: dict[str, Any], name: str, whole: int, notes: NotesBuilder) -> None:
    """List parts that are more than the count that should contain them."""
    for key in _CONTAINED_KEYS:
        if details.get(key):
            notes.list_contained(f"usage.{name}.{key}", details[key], whole)


def _read_same(what: str, names: tuple[str, ...], *objects: dict[str, Any]) -> int | None:
    """Return the count under whichever names it has, in whichever of the objects. All must be the same number."""
    stated = [
        (name, require_count(name, found[name])) for found in objects for name in names if found.get(name) is not None
    ]
    for name, count in stated[1:]:
        if count != stated[0][1]:
            raise BillingError(
                "usage_contradiction",
                f"{what}: {stated[0][0]} {stated[0][1]} and {name} {count} must be the same; "
                "ask the provider which is right",
            )
    return stated[0][1] if stated else None


def _check_misses(usage: dict[str, Any], input_tokens: int) -> None:
    """Raise ``usage_contradiction`` unless DeepSeek's hits and misses add up to the prompt."""
    if usage.get("prompt_cache_miss_tokens") is not None:
        hit, miss = read_count(usage, "prompt_cache_hit_tokens"), read_count(usage, "prompt_cache_miss_tokens")
        require_total("prompt_tokens", input_tokens, {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": miss})


def _embedding_output(name: str, usage: dict[str, Any], input_tokens: object) -> int:
    """Return 0: an embedding has no output tokens, as its total shows."""
    if usage.get("total_tokens") == input_tokens:
        return 0
    raise BillingError("invalid_usage", f"{name} is missing from a usage with the keys {format_keys(usage)}")
