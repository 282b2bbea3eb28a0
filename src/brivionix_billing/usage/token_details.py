"""Reads the token details of OpenAI's usage objects: cached and written tokens, and those of each modality.

OpenAI, OpenAI-compatible providers and gateways write the same count under different names
(:data:`_CACHED_KEYS`, :data:`_WRITTEN_KEYS`), in the details or beside the totals, and some write the keys of both of
OpenAI's formats. Equal counts are duplicates. Different ones are a contradiction, or are listed as unaccounted.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.fields import require_count
from brivionix_billing.usage.notes import NotesBuilder
from brivionix_billing.usage.parsing import format_keys, modality_arguments, read_count, require_object, split_writes
from brivionix_billing.usage.response_context import is_image_list

__all__ = [
    "CACHED_MODALITIES",
    "CACHE_PLACES",
    "CHAT_KEYS",
    "DETAIL_KEYS",
    "INPUT_MODALITIES",
    "MODALITIES_BESIDE",
    "REASONING_BESIDE",
    "RESPONSES_KEYS",
    "FormatKeys",
    "list_contained_details",
    "merge_formats",
    "read_details",
    "read_input_details",
    "read_modalities_beside",
    "read_output_details",
    "read_reasoning_beside",
    "read_searches",
    "singular_key",
]


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


INPUT_MODALITIES: Final = modality_arguments("input")
CACHED_MODALITIES: Final = modality_arguments("input", "read")
_OUTPUT_MODALITIES: Final = modality_arguments("output")
_CACHED_KEYS: Final = (
    *("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"),
    "cached_input_tokens",
)
"""Keys of the cached tokens, in the token details or beside the totals."""
_WRITTEN_KEYS: Final = (
    *("cache_write_tokens", "cache_creation_tokens", "cached_creation_tokens"),
    *("cache_creation_input_tokens", "cache_write_input_tokens", "created_cache_tokens"),
)
"""Keys of the tokens written to a cache, in the token details or beside the totals."""
_LIFETIME_KEYS: Final = ("cache_creation", "cache_creation_token_details")
"""Keys of the objects that divide written tokens by lifetime."""
_5M_KEYS: Final = ("ephemeral_5m_input_tokens", "claude_cache_creation_5_m_tokens")
_1H_KEYS: Final = ("ephemeral_1h_input_tokens", "claude_cache_creation_1_h_tokens")
_LANGCHAIN_KEYS: Final = {
    **{name: f"{name}_tokens" for name in ("text", "audio", "image", "video", "reasoning")},
    "cache_read": "cached_tokens",
    "cache_creation": "cache_write_tokens",
}
"""Names of LangChain's token details -> OpenAI's."""
CACHE_PLACES: Final = ("device", "host", "storage", "reused_device", "reused_host")
"""Names under which SGLang says from where the cached tokens were read."""
_CONTAINED_KEYS: Final = ("text_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
"""Keys of the token details for parts that have the price of the whole."""
_SEARCHES_KEY: Final = "web_search_requests"
"""Key of litellm for searches, which :func:`read_searches` reads."""
DETAIL_KEYS: Final = frozenset({*_CACHED_KEYS, *_WRITTEN_KEYS, *_LIFETIME_KEYS, *_5M_KEYS, *_1H_KEYS})
"""Keys of the token details that some providers write beside the totals."""
MODALITIES_BESIDE: Final = ("image_tokens", "video_tokens", "audio_tokens")
"""Keys of a modality that DashScope writes beside the totals."""
REASONING_BESIDE: Final = ("reasoning_tokens", "reasoning_output_tokens")
"""Keys of reasoning tokens that SGLang, Inception and Codex write beside the totals."""
_RESEARCH_KEYS: Final = ("citation_tokens", "num_search_queries", "search_context_size")
"""Keys of Perplexity, which bills the reasoning tokens beside the totals in addition."""
_PER_TURN: Final = "_per_turn"
"""Ending of the keys of lists in which vLLM divides a count by turns."""
_AUDIO_EVENTS: Final = frozenset({"speech.audio.done"})
_IMAGE_EVENTS: Final = frozenset({"image_generation.completed", "image_edit.completed"})


def merge_formats(
    usage: dict[str, Any], keys: FormatKeys, other: FormatKeys, notes: NotesBuilder
) -> tuple[dict[str, Any], FormatKeys]:
    """Merge the keys of both formats, which new-api writes. Equal counts are duplicates, others a contradiction.

    The pair of a format that was not used is zero.
    """
    mine, theirs = ([usage.get(name) for name in (form.input, form.output)] for form in (keys, other))
    if not any(mine) and any(theirs):
        keys, other, mine, theirs = other, keys, theirs, mine
    if keys.input not in usage:  # the input is in one format, the output in the other
        raise BillingError("invalid_usage", f"{keys.input} is missing from a usage with the keys {format_keys(usage)}")
    mine, theirs = _without_cache_beside(usage, keys, mine), _without_cache_beside(usage, other, theirs)
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


def _without_cache_beside(usage: dict[str, Any], keys: FormatKeys, counts: list[Any]) -> list[Any]:
    """Return input and output, with the cache that Anthropic states beside the input, if the prompt contains it.

    Moonshot and others write Anthropic's keys and those of chat completions.
    """
    parts = [counts[0], *(usage.get(name) for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))]
    whole = sum(part for part in parts if type(part) is int)
    is_contained = keys is RESPONSES_KEYS and whole == usage.get(CHAT_KEYS.input)
    return [whole if is_contained else counts[0], counts[1]]


def _list_differing(path: str, repeated: Any, details: Any, notes: NotesBuilder) -> None:
    """List what a second object of details states otherwise than the first one, which is read."""
    if not isinstance(repeated, dict) or not isinstance(details, dict):
        notes.list_unknown(path, repeated)
        return
    for key, value in repeated.items():
        if value != details.get(key):
            notes.list_unknown(path, {key: value})


def singular_key(name: str) -> str:
    """Return the other spelling of a key of token details, which audio and Realtime use."""
    return name.replace("_tokens_details", "_token_details")


def read_details(usage: dict[str, Any], name: str, notes: NotesBuilder) -> dict[str, Any]:
    """Return the token details under either spelling, such as ``input_token_details``."""
    first = require_object("the token details", usage.get(name))
    second = require_object("the token details", usage.get(singular_key(name)))
    if first and second:
        _list_differing(f"usage.{singular_key(name)}", second, first, notes)
    return _from_langchain(first or second)


def _from_langchain(details: dict[str, Any]) -> dict[str, Any]:
    """Return token details with OpenAI's names. LangChain states 0 writes beside the writes by lifetime."""
    if _LANGCHAIN_KEYS.keys().isdisjoint(details) or isinstance(details.get("cache_creation"), dict):
        return details
    renamed = {_LANGCHAIN_KEYS.get(key, key): value for key, value in details.items()}
    if len(renamed) < len(details):
        return details  # both names, so that the others are listed
    if renamed.get("cache_write_tokens") == 0 and any(details.get(key) for key in (*_5M_KEYS, *_1H_KEYS)):
        del renamed["cache_write_tokens"]
    return renamed


def read_input_details(
    details: dict[str, Any], usage: dict[str, Any], keys: FormatKeys, notes: NotesBuilder
) -> dict[str, int]:
    """Return cached and written tokens and those of each modality, by argument of ``Usage``."""
    where = f"usage.{keys.input_details}"
    counts: dict[str, int] = {}
    cached = _read_same("cached tokens", _CACHED_KEYS, details, usage)
    if cached is not None:
        counts["cache_read_tokens"] = cached
    counts |= _read_writes(details, usage, where, notes)
    for modality, argument in INPUT_MODALITIES.items():
        if (count := read_count(details, f"{modality}_tokens")) or f"{modality}_tokens" in details:
            counts[argument] = count
    of_cache = require_object("cached_tokens_details", details.get("cached_tokens_details"))
    for modality, argument in CACHED_MODALITIES.items():
        counts[argument] = read_count(of_cache, f"{modality}_tokens")
    known = [f"{modality}_tokens" for modality in CACHED_MODALITIES]
    notes.list_unknown(f"{where}.cached_tokens_details", of_cache, [*known, "text_tokens"])
    notes.list_contained(f"{where}.cached_tokens_details.text_tokens", of_cache.get("text_tokens", 0), cached or 0)
    modalities = [f"{modality}_tokens" for modality in INPUT_MODALITIES]
    others = ("cached_tokens_details", *DETAIL_KEYS, *_CONTAINED_KEYS, _SEARCHES_KEY)
    wholes = {**details, keys.input: usage[keys.input]}
    notes.list_unknown(where, details, [*modalities, *others, *_repeated_turns(details, wholes)])
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
    of_5m = _read_same("tokens written for 5 minutes", _5M_KEYS, *lifetimes, details, usage)
    of_1h = _read_same("tokens written for 1 hour", _1H_KEYS, *lifetimes, details, usage)
    short, long = split_writes(written, of_5m, of_1h, notes)
    return {"cache_write_tokens": short, "cache_write_1h_tokens": long}


def read_modalities_beside(
    usage: dict[str, Any], keys: FormatKeys, counts: dict[str, int], input_tokens: int, notes: NotesBuilder
) -> None:
    """Read counts of a modality beside the totals, into ``counts``: DashScope repeats the details so.

    Without details, images and video beside ``input_tokens`` are contained in it.
    """
    for name in MODALITIES_BESIDE:
        count, modality = usage.get(name), name.removesuffix("_tokens")
        if count in (counts.get(INPUT_MODALITIES[modality]), counts.get(_OUTPUT_MODALITIES[modality])):
            continue
        has_details = bool(usage.get(keys.input_details)) or modality == "audio" or keys is CHAT_KEYS
        if has_details or type(count) is not int or not 0 <= count <= input_tokens:
            notes.list_number(f"usage.{name}", count)
        else:
            counts[INPUT_MODALITIES[modality]] = count


def _repeated_turns(details: dict[str, Any], wholes: dict[str, Any]) -> list[str]:
    """Return the keys of lists whose sum is the count that they divide by turns, as vLLM states it."""
    return [
        key
        for key, turns in details.items()
        if key.endswith(_PER_TURN) and isinstance(turns, list) and all(type(turn) is int for turn in turns)
        if sum(turns) == wholes.get(key.removesuffix(_PER_TURN))
    ]


def read_reasoning_beside(usage: dict[str, Any], output: int, notes: NotesBuilder) -> int:
    """Return the reasoning tokens beside the totals, which the output contains. Others are listed."""
    found = 0
    for name in REASONING_BESIDE:
        count = usage.get(name)
        if type(count) is int and 0 <= count <= output and not any(usage.get(key) for key in _RESEARCH_KEYS):
            found = max(found, count)
        else:
            notes.list_number(f"usage.{name}", count)
    return found


def read_output_details(
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
    if "reasoning_tokens" not in details and "thinking_tokens" in details:
        details = {("reasoning_tokens" if key == "thinking_tokens" else key): item for key, item in details.items()}
    counts = {argument: read_count(details, name) for name, argument in names.items() if name in details}
    turns = _repeated_turns(details, {**details, keys.output: output})
    notes.list_unknown(f"usage.{keys.output_details}", details, [*names, *_CONTAINED_KEYS, *turns])
    if not details:
        modality = _output_modality(usage, keys, response)
        if modality is not None:
            counts[_OUTPUT_MODALITIES[modality]] = output
    return counts


def _output_modality(usage: dict[str, Any], keys: FormatKeys, response: dict[str, Any]) -> str | None:
    """Return the modality of an output that is all of one: of an image generation or of speech."""
    kind = response.get("type")
    kind = kind if isinstance(kind, str) else None
    if kind in _AUDIO_EVENTS:
        return "audio"
    if kind in _IMAGE_EVENTS or is_image_list(response.get("data")):
        return "image"
    of_input = usage.get(keys.input_details)
    is_bare = keys is RESPONSES_KEYS and usage.keys() <= keys.all and not response.get("output")
    if is_bare and isinstance(of_input, dict) and of_input.keys() == {"text_tokens", "image_tokens"}:
        return "image"  # the usage object of OpenAI's images API, without its response
    return None


def read_searches(details: dict[str, Any]) -> dict[str, int]:
    """Return the web searches that litellm states among the details of the input, by argument of ``Usage``."""
    count = read_count(details, _SEARCHES_KEY)
    return {"web_search_calls": count} if count else {}


def list_contained_details(details: dict[str, Any], name: str, whole: int, notes: NotesBuilder) -> None:
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
