"""What a charge depends on in a response beside its usage object: output items, tool usage, searches, its kind.

Readers look at the keys of :data:`RESPONSE_KEYS` only. :func:`reduce_response` reduces them to plain JSON without any
text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.usage.notes import is_number_text
from brivionix_billing.usage.tool_calls import (
    billable_item_type,
    container_id,
    item_field,
    require_output_items,
)

__all__ = [
    "IMAGE_ITEM_KEYS",
    "RESPONSE_KEYS",
    "TRACE_KEYS",
    "count_grounding",
    "count_images",
    "count_media",
    "ground_once",
    "has_embeddings",
    "is_image_list",
    "reduce_item",
    "reduce_response",
    "reduce_trace",
    "truncate_name",
]

TRACE_KEYS: Final = ("trace", "amazon-bedrock-trace")
"""Keys of Bedrock's trace, whose guardrails are charged by units."""
RESPONSE_KEYS: Final = ("output", "tool_usage", "candidates", "data", "type", *TRACE_KEYS)
"""The keys of a response that change what is billed, beside those that state what was served."""

MAX_NAME_LENGTH: Final = 257
"""Maximum length of an extracted name, in characters. One more than a name may have, so that a reader rejects it."""
_MAX_GROUNDED: Final = 1024
_MAX_TOOLS: Final = 64
_MAX_IMAGES: Final = 1024
_MAX_DEPTH: Final = 4
_MAX_TRACE_DEPTH: Final = 7
IMAGE_ITEM_KEYS: Final = ("b64_json", "url", "revised_prompt")
"""Keys of an item of ``data`` that is an image."""
_MEDIA_KEYS: Final = ("url", "base64", "image")
"""Keys of an item of ``images`` or ``artifacts`` that is an image."""
_PAGE_KEYS: Final = ("title", "content", "description", "snippet", "markdown")
"""Keys of an item of ``data`` that is a page that a search found, and has a URL as an image may have."""


def reduce_response(response: object, *, has_items: bool) -> dict[str, Any]:
    """Return what a charge depends on, as plain JSON, without texts.

    ``has_items`` says whether the output items of this format may be billable.
    """
    reduced: dict[str, Any] = {}
    items = _get(response, "output")
    if not has_items and isinstance(items, Iterator):
        items = None  # the reader of this format does not look at them
    kinds = [(item, billable_item_type(item)) for item in require_output_items(items)]
    billable = [reduce_item(item, kind) for item, kind in kinds if kind is not None]
    if billable:
        reduced["output"] = billable
    tool_usage = _get(response, "tool_usage")
    if isinstance(tool_usage, Mapping):
        numbers = _numbers_of(tool_usage)
        if numbers:
            reduced["tool_usage"] = numbers
    candidates = _reduce_candidates(_get(response, "candidates"))
    if candidates:
        reduced["candidates"] = candidates
    images = count_images(_get(response, "data"))
    if images:
        reduced["data"] = [{"url": ""}] * _bounded(images, _MAX_IMAGES, "images")
    elif has_embeddings(response):
        reduced["data"] = [{"embedding": ""}]
    kind = _get(response, "type")
    if isinstance(kind, str) and kind.endswith((".done", ".completed")):
        reduced["type"] = truncate_name(kind)
    for key in TRACE_KEYS:
        trace = reduce_trace(_get(response, key))
        if trace:
            reduced[key] = trace
    return reduced


def reduce_trace(value: object, depth: int = 0) -> Any:
    """Return the usage objects in a trace of Bedrock, where they are in it, and nothing else."""
    if depth > _MAX_TRACE_DEPTH:
        return None
    if isinstance(value, list | tuple):
        items = [reduce_trace(item, depth + 1) or {} for item in value[:_MAX_TOOLS]]
        return items if any(items) else None
    if not isinstance(value, Mapping):
        return None
    found = {}
    for key, item in islice(value.items(), _MAX_TOOLS):
        inner = _numbers_of(item) if key == "usage" and isinstance(item, Mapping) else reduce_trace(item, depth + 1)
        if inner:
            found[truncate_name(str(key))] = inner
    return found


def reduce_item(item: object, kind: str) -> dict[str, Any]:
    """Reduce an output item of a billable ``kind`` to what its fee depends on, without its texts and results.

    The action of a web search is kept, because not every action is paid.
    """
    kind = str.__str__(kind)  # an SDK's enumeration is a string as well
    if kind == "web_search_call" and item_field(item_field(item, "action"), "type") is not None:
        return {"type": kind, "action": {"type": "search"}}
    container = container_id(item) if kind == "code_interpreter_call" else None
    return {"type": kind} if container is None else {"type": kind, "container_id": truncate_name(container)}


def count_images(items: object) -> int:
    """Count the items of ``data`` that are images."""
    if not isinstance(items, list | tuple):
        return 0
    return sum(map(_is_image, items))


def is_image_list(items: object) -> bool:
    """Return whether ``data`` is a list of images, as its first item shows."""
    return isinstance(items, list | tuple) and bool(items) and _is_image(items[0])


def _is_image(item: object) -> bool:
    return any(item_field(item, name) is not None for name in IMAGE_ITEM_KEYS) and not any(
        item_field(item, name) is not None for name in _PAGE_KEYS
    )


def count_media(items: object) -> int:
    """Count the items of ``images`` or ``artifacts``: texts in Base64 (Bedrock), or objects with a URL or Base64."""
    if not isinstance(items, list | tuple):
        return 0
    return sum(
        bool(item) if isinstance(item, str) else any(item_field(item, key) is not None for key in _MEDIA_KEYS)
        for item in items
    )


def has_embeddings(response: object) -> bool:
    """Return whether a response has embeddings: in ``data``, or in ``output`` as DashScope's."""
    if _get(_get(response, "output"), "embeddings") is not None:
        return True
    items = _get(response, "data")
    return isinstance(items, list | tuple) and bool(items) and item_field(items[0], "embedding") is not None


def ground_once(candidates: Any) -> list[dict[str, Any]]:
    """Return grounded candidates as if each prompt was grounded by one search, as older Gemini models are charged."""
    reduced = _reduce_candidates(candidates)
    grounded = [each for each in reduced if each["groundingMetadata"].get("webSearchQueries")]
    for each in grounded:
        each["groundingMetadata"]["webSearchQueries"] = []
    if grounded:
        grounded[0]["groundingMetadata"]["webSearchQueries"] = [""]
    return reduced


def truncate_name(name: str) -> str:
    """Truncate a name to a length that is still too long for a name."""
    return name[:MAX_NAME_LENGTH]


class _Grounding(NamedTuple):
    """How a candidate was grounded."""

    queries: int
    has_maps: bool


def _read_grounding(candidates: Any) -> list[_Grounding]:
    """Return how each candidate was grounded, in the keys of JSON or of the SDK."""
    found: list[_Grounding] = []
    for candidate in candidates if isinstance(candidates, list | tuple) else ():
        grounding = item_field(candidate, "groundingMetadata") or item_field(candidate, "grounding_metadata")
        queries = item_field(grounding, "webSearchQueries") or item_field(grounding, "web_search_queries")
        chunks = item_field(grounding, "groundingChunks") or item_field(grounding, "grounding_chunks")
        count = _bounded(len(queries), _MAX_GROUNDED, "searches") if isinstance(queries, list | tuple) else 0
        has_maps = isinstance(chunks, list | tuple) and any(item_field(chunk, "maps") for chunk in chunks)
        if count or has_maps:
            found.append(_Grounding(count, has_maps))
    return found


def count_grounding(candidates: Any) -> dict[str, int]:
    """Count the searches that grounded an answer, by argument of ``Usage``: each query, and one use of Maps.

    Google charges Gemini 3 by query and older models by grounded prompt; ``upstreams`` of a price file say which.
    """
    found = _read_grounding(candidates)
    counts = {
        "web_search_calls": sum(each.queries for each in found),
        "maps_search_calls": int(any(each.has_maps for each in found)),
    }
    return {name: count for name, count in counts.items() if count}


def _reduce_candidates(candidates: Any) -> list[dict[str, Any]]:
    """Return the searches that grounded each candidate, without their texts."""
    return [
        {
            "groundingMetadata": {
                **({"webSearchQueries": [""] * each.queries} if each.queries else {}),
                **({"groundingChunks": [{"maps": {"uri": ""}}]} if each.has_maps else {}),
            }
        }
        for each in _read_grounding(candidates)
    ]


def _numbers_of(value: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return the numbers of an object that are not zero, without its texts."""
    found: dict[str, Any] = {}
    _bounded(len(value), _MAX_TOOLS, "tools")
    for key, item in value.items():
        if isinstance(item, Mapping):
            _bounded(depth, _MAX_DEPTH, "levels of tool_usage")
            inner = _numbers_of(item, depth + 1)
            if inner:
                found[truncate_name(str(key))] = inner
        elif (type(item) in (int, float) and item) or (isinstance(item, str) and is_number_text(key, item)):
            found[truncate_name(str(key))] = item
    return found


def _bounded(count: int, limit: int, what: str) -> int:
    if count > limit:
        raise BillingError("unknown_usage_format", f"{count} {what} in one response; at most {limit} are read")
    return count


def _get(response: object, name: str) -> Any:
    return None if response is None else item_field(response, name)
