"""Detects the format of a provider's body from the body alone, and passes it to the reader of that format.

To add a provider, write a reader ``(usage object, response) -> UsageFields`` in ``readers/``, and add the key that only
its usage object has to :data:`_FORMATS_BY_KEY`. A reader must keep the law of :mod:`brivionix_billing.usage.notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.conventions import Conventions, apply_conventions
from brivionix_billing.usage.envelopes import BATCH_TIER, substitute_usage, unwrap
from brivionix_billing.usage.fields import UsageExtras, UsageFields, with_quantities, with_tier
from brivionix_billing.usage.notes import MAX_UNACCOUNTED, NotesBuilder, UsageNotes, with_root
from brivionix_billing.usage.parsing import ContextKeys, format_keys, whole_numbers
from brivionix_billing.usage.readers import (
    anthropic,
    bedrock,
    cohere,
    gemini,
    interactions,
    openai,
    plain,
    vendors,
)
from brivionix_billing.usage.readers.plain import QUANTITY_KEYS
from brivionix_billing.usage.renamed_usage import AI_SDK_KEYS, RENAMED_KEYS, rename_ai_sdk, rename_counts
from brivionix_billing.usage.response_context import (
    RESPONSE_KEYS,
    TRACE_KEYS,
    count_images,
    ground_once,
    reduce_trace,
)
from brivionix_billing.usage.token_details import CHAT_KEYS

__all__ = [
    "BodyFormat",
    "LocatedUsage",
    "UsageReader",
    "detect_format",
    "get_field",
    "locate_usage",
    "read_located_usage",
    "read_usage",
    "to_plain_data",
    "unreadable_error",
]

UsageReader = Callable[[dict[str, Any], dict[str, Any]], UsageFields]
"""Takes the usage object and the response, which is empty if the body is a usage object without one."""


class BodyFormat(NamedTuple):
    """A reader, and the keys of a response that state what was served."""

    reader: UsageReader
    context_keys: ContextKeys


def _read_renamed(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    return openai.read_chat(rename_counts(usage), response)


def _read_ai_sdk(usage: dict[str, Any], response: dict[str, Any]) -> UsageFields:
    return openai.read_responses(rename_ai_sdk(usage), {**response, "output": None})


_CHAT: Final = BodyFormat(openai.read_chat, openai.CONTEXT_KEYS)
_RENAMED: Final = BodyFormat(_read_renamed, openai.CONTEXT_KEYS)
_AI_SDK: Final = BodyFormat(_read_ai_sdk, openai.CONTEXT_KEYS)
_RESPONSES: Final = BodyFormat(openai.read_responses, openai.CONTEXT_KEYS)
_ANTHROPIC: Final = BodyFormat(anthropic.read_usage, anthropic.CONTEXT_KEYS)
_GEMINI: Final = BodyFormat(gemini.read_usage, gemini.CONTEXT_KEYS)
_BEDROCK: Final = BodyFormat(bedrock.read_usage, bedrock.CONTEXT_KEYS)
_FORMATS_BY_KEY: Final[Mapping[str, BodyFormat]] = {
    "prompt_tokens": _CHAT,
    "generation_token_count": BodyFormat(plain.read_llama, plain.CONTEXT_KEYS),
    "promptTokenCount": _GEMINI,
    "prompt_token_count": _GEMINI,
    "total_input_tokens": BodyFormat(interactions.read_usage, interactions.CONTEXT_KEYS),
    "inputTokens": _BEDROCK,
    "billed_units": BodyFormat(cohere.read_usage, cohere.CONTEXT_KEYS),
    **dict.fromkeys(plain.OLLAMA_KEYS, BodyFormat(plain.read_ollama, plain.CONTEXT_KEYS)),
    "inputTextTokenCount": BodyFormat(plain.read_titan, plain.CONTEXT_KEYS),
    **dict.fromkeys(
        ("inputTokenCount", "outputTokenCount"), BodyFormat(plain.read_invocation_metrics, plain.CONTEXT_KEYS)
    ),
    "generated_token_count": BodyFormat(plain.read_watsonx, plain.CONTEXT_KEYS),
    "seconds": BodyFormat(plain.read_duration, plain.CONTEXT_KEYS),
    "counts": BodyFormat(plain.read_counts, plain.CONTEXT_KEYS),
    "totalTokenCount": _GEMINI,
    "total_token_count": _GEMINI,
    "total_tokens": BodyFormat(plain.read_total, plain.CONTEXT_KEYS),
    **dict.fromkeys((*plain.QUANTITY_KEYS, "quantities"), BodyFormat(plain.read_quantities, plain.CONTEXT_KEYS)),
    **dict.fromkeys(RENAMED_KEYS, _RENAMED),
    **dict.fromkeys(plain.GUARDRAIL_KEYS, BodyFormat(plain.read_quantities, plain.CONTEXT_KEYS)),
    "models": BodyFormat(vendors.read_models, vendors.CONTEXT_KEYS),
    **dict.fromkeys(vendors.VENDOR_KEYS, BodyFormat(vendors.read_vendor_counts, vendors.CONTEXT_KEYS)),
}
"""A key of a usage object -> its format, in the order in which the keys are looked for. ``input_tokens`` is not here,
because two formats have it."""

# With these keys, the input tokens do not contain the cached ones, unlike OpenAI's.
_EXCLUSIVE_CACHE_KEYS: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"})
# Other keys of Anthropic's usage object, unless it also has a key that Anthropic does not have.
_NON_ANTHROPIC_KEYS: Final = frozenset({"total_tokens", "input_tokens_details"})
_ANTHROPIC_ONLY_KEYS: Final = frozenset({"service_tier", "server_tool_use", "iterations", "inference_geo", "speed"})
_NON_RESPONSES_KEYS: Final = _EXCLUSIVE_CACHE_KEYS | _ANTHROPIC_ONLY_KEYS

_CUSTOM_KEY: Final = "quantities"
"""Key of a usage object, of any format, for the quantities of meters that a price file declares."""
_METRICS_KEY: Final = "amazon-bedrock-invocationMetrics"
_USAGE_KEYS: Final = ("usage", "usageMetadata", "usage_metadata", "meta", _METRICS_KEY)
"""The keys of a usage object in a response."""
_BARE_KEYS: Final = (
    *("prompt_tokens", "input_tokens", "generation_token_count", "promptTokenCount", "prompt_token_count"),
    *("inputTokens", "billed_units", "total_input_tokens", *plain.OLLAMA_KEYS, "inputTextTokenCount"),
    *("inputTokenCount", "outputTokenCount"),
)
"""Counts that only a usage object has, or an answer that has its counts beside the text."""
_ALL_OUTPUT: Final = BodyFormat(vendors.read_output, vendors.CONTEXT_KEYS)
_IMAGES: Final = BodyFormat(vendors.read_images, vendors.CONTEXT_KEYS)
_TOTAL_ONLY_KEYS: Final = ("data", "results", "embeddings", "object")
"""Keys of embeddings and of rerank, whose usage may be a total alone."""
_TEXT_KEYS: Final = frozenset({"embedding", "embeddings", "embeddingsByType", "context", "generation", "message"})
"""Keys of answers whose counts stand beside the text. Their numbers are no quantities."""
_MAX_DEPTH: Final = 8
_CONTEXT_KEYS: Final = (
    *(key for found in (_CHAT, _GEMINI, _BEDROCK) for key in found.context_keys),  # Anthropic's are among OpenAI's
    *RESPONSE_KEYS,
)


class LocatedUsage(NamedTuple):
    """A body whose usage object was found."""

    usage: dict[str, Any]
    response: object
    """The response as the caller gave it; ``None`` for a usage object without a response."""
    key: str
    """The key of the usage object in the response, or the count by which it was found."""
    is_batch: bool = False
    """Whether the body is a line of batch results."""


def read_usage(body: object) -> UsageFields:
    """Read the usage in ``body``; see :meth:`Usage.from_response`."""
    try:  # the formats that nearly all bodies have, without a further call
        if type(body) is dict:
            usage = body.get("usage")
            if type(usage) is dict:
                if not (
                    "usageMetadata" in body
                    or "usage_metadata" in body
                    or "meta" in body
                    or "quantities" in usage
                    or body.get("object") == "batch"
                ):
                    if "prompt_tokens" in usage:  # nearly every body, by the shortest way
                        return openai.read_plain(usage, body, CHAT_KEYS, ()) or openai.read_chat(usage, body)
                    if "input_tokens" in usage and "amazon-bedrock-trace" not in body:
                        return detect_format(usage).reader(usage, body)
            elif usage is None and _CUSTOM_KEY not in body:
                if body.get("prompt_tokens") is not None:
                    return openai.read_chat(body, {})
                if body.get("input_tokens") is not None:
                    return detect_format(body).reader(body, {})
    except BillingError:
        pass  # it may have to be unwrapped, or its numbers to be converted
    return read_located_usage(body)


def read_located_usage(body: object, conventions: Conventions | None = None) -> UsageFields:
    """Read the usage in a body of any type, by the conventions of its upstream."""
    try:
        usage, response, key, is_batch = locate_usage(body)
        context = {name: get_field(response, name) for name in _CONTEXT_KEYS}
        if conventions is not None and conventions.grounding == "per_prompt":
            context["candidates"] = ground_once(context["candidates"])
        try:
            fields = _read_counts(usage, response, context, conventions)
        except BillingError:
            whole, tools = whole_numbers(usage), whole_numbers(context["tool_usage"])
            if whole is usage and tools is context["tool_usage"]:
                raise
            context["tool_usage"] = tools
            fields = _read_counts(whole, response, context, conventions)
        extras = fields.extras
        if extras is not None and extras.notes is not None and key in ("meta", "usage_metadata", _METRICS_KEY):
            fields = fields._replace(extras=extras._replace(notes=with_root(extras.notes, key)))
        fields = _with_traces(fields, context)
        return with_tier(fields, BATCH_TIER) if is_batch else fields
    except BillingError:
        raise
    except Exception as error:  # an SDK object may raise anything when an attribute is read
        raise unreadable_error(body, error) from error


def _with_traces(fields: UsageFields, context: dict[str, Any]) -> UsageFields:
    """Add the units of guardrails, which have a fee, to what is unaccounted."""
    notes = NotesBuilder()
    for key in TRACE_KEYS:
        if context[key] is not None:
            notes.list_unknown(key, reduce_trace(context[key]))
    found = notes.build()
    if found is None:
        return fields
    extras = fields.extras or UsageExtras()
    own = extras.notes or UsageNotes()
    own = own._replace(unaccounted=(*own.unaccounted, *found.unaccounted)[:MAX_UNACCOUNTED])
    return fields._replace(extras=extras._replace(notes=own))


def _read_counts(
    usage: dict[str, Any], response: object, context: dict[str, Any], conventions: Conventions | None
) -> UsageFields:
    """Read a usage object, and the quantities of the meters that a price file declares."""
    if conventions is not None:
        usage = apply_conventions(usage, conventions)
    custom = usage.get(_CUSTOM_KEY)
    if custom is None:
        return detect_format(usage, response).reader(usage, context)
    counts = {name: value for name, value in usage.items() if name != _CUSTOM_KEY}
    fields = detect_format(counts, response).reader(counts, context) if counts else UsageFields()
    return with_quantities(fields, custom)


def detect_format(usage: dict[str, Any], response: object = None) -> BodyFormat:
    """Return the format of a usage object. Raises ``unknown_usage_format``, with the keys, if it is unknown.

    A usage object whose only count is a total is read if its ``response`` is one of embeddings or of rerank.
    """
    if "prompt_tokens" in usage:
        return _CHAT
    if "input_tokens" in usage:
        if _NON_RESPONSES_KEYS.isdisjoint(usage) or not (
            _NON_ANTHROPIC_KEYS.isdisjoint(usage) or _EXCLUSIVE_CACHE_KEYS & usage.keys()
        ):
            return _RESPONSES
        return _ANTHROPIC
    if "inputTokens" in usage and (isinstance(usage["inputTokens"], Mapping) or not AI_SDK_KEYS.isdisjoint(usage)):
        return _AI_SDK
    for key, found in _FORMATS_BY_KEY.items():
        if key in usage and (key != "total_tokens" or _may_be_all_input(usage, response)):
            return found
    if "completion_tokens" in usage and usage.get("total_tokens") == usage["completion_tokens"]:
        return _ALL_OUTPUT
    if count_images(get_field(response, "data")):
        return _IMAGES
    raise BillingError(
        "unknown_usage_format",
        f"the format of a usage object with the keys {format_keys(usage)} is unknown; docs/usage-file.md lists the "
        "formats that are read",
    )


def _may_be_all_input(usage: Mapping[str, Any], response: object) -> bool:
    """Return whether a total without parts is all input, as of embeddings and of rerank."""
    if "completion_tokens" in usage or "output_tokens" in usage:
        return False
    if get_field(response, "object") not in (None, "list"):
        return False
    places = (response, get_field(response, "output"))  # DashScope has its answer in ``output``
    return any(get_field(place, key) is not None for place in places for key in _TOTAL_ONLY_KEYS)


def locate_usage(body: object) -> LocatedUsage:
    """Find the usage object of a mapping or SDK object. Only the usage object is copied, never the texts."""
    body, is_batch = unwrap(body)
    for name in _USAGE_KEYS:
        usage = get_field(body, name)
        if usage is None or (name == "meta" and get_field(usage, "billed_units") is None):
            continue
        if name != _METRICS_KEY:
            _reject_second_usage(name, body)
        return LocatedUsage(usage if type(usage) is dict else to_plain_data(usage), body, name, is_batch)
    bare_keys = () if isinstance(body, Mapping) and "inference_status" in body else _BARE_KEYS
    for name in bare_keys:
        if get_field(body, name) is not None:
            return LocatedUsage(_bare_usage(body), None, name, is_batch)
    substitute = substitute_usage(body)
    if substitute is not None:
        return LocatedUsage(substitute, body, "usage", is_batch)
    if isinstance(body, Mapping) and (_CUSTOM_KEY in body or not QUANTITY_KEYS.isdisjoint(body)):
        return LocatedUsage(dict(body), None, "quantities", is_batch)
    if isinstance(body, Mapping) and (body.get("type") == "duration" and "seconds" in body):
        return LocatedUsage(dict(body), None, "seconds", is_batch)
    if isinstance(body, Mapping) and "usage" in body:
        raise BillingError(
            "unknown_usage_format", "usage is null; to have it in a stream, set stream_options.include_usage to true"
        )
    if isinstance(body, Mapping):
        raise BillingError(
            "unknown_usage_format",
            f"no usage in a body with the keys {format_keys(body)}; give a response or its usage object",
        )
    raise BillingError(
        "unknown_usage_format", f"no usage in a {type(body).__name__}; give a response or its usage object"
    )


def _bare_usage(body: object) -> dict[str, Any]:
    """Return a body that is a usage object, or an answer with its counts beside the text, without that text."""
    if isinstance(body, Mapping) and not _TEXT_KEYS.isdisjoint(body):
        body = {key: value for key, value in body.items() if key not in _TEXT_KEYS}
    usage: dict[str, Any] = body if type(body) is dict else to_plain_data(body)
    return usage


def _reject_second_usage(name: str, body: object) -> None:
    """Reject a second usage object: two gateways wrote into this body, and it does not say which one is right."""
    for other in _USAGE_KEYS:
        second = None if other == name else get_field(body, other)
        if other == _METRICS_KEY:
            continue  # Bedrock repeats the counts of the answer
        if second is not None and (other != "meta" or get_field(second, "billed_units") is not None):
            label = "meta.billed_units" if other == "meta" else other
            raise BillingError("usage_contradiction", f"the body has two usage objects, {name} and {label}; remove one")


def unreadable_error(body: object, error: Exception) -> BillingError:
    """Return the error for an object that raises when it is read."""
    try:
        reason = safe_repr(str(error))
    except Exception:
        reason = "no reason given"
    return BillingError(
        "unknown_usage_format", f"a {type(body).__name__} cannot be read: {type(error).__name__}: {reason}"
    )


def get_field(body: object, name: str) -> Any:
    """Return the value of a key of a mapping, or of an attribute of an object."""
    if isinstance(body, Mapping):
        return body.get(name)
    if body is None or isinstance(body, str | bytes | int | float | list | tuple):
        return None
    return getattr(body, name, None)


def to_plain_data(value: object, depth: int = 0) -> Any:
    """Convert mappings, pydantic models and simple objects to plain dicts and lists, to a bounded depth."""
    if depth > _MAX_DEPTH:
        raise BillingError(
            "unknown_usage_format",
            f"the usage object is nested more than {_MAX_DEPTH} deep; give the usage object alone",
        )
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, Mapping):
        value = dump()
    if isinstance(value, Mapping):
        return {str(key): to_plain_data(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Enum):
        value = value.value
    if depth and isinstance(value, list | tuple):
        return [to_plain_data(item, depth + 1) for item in value]
    if value is None or isinstance(value, str | bytes | int | float | list | tuple):
        if depth:
            return value
    elif isinstance(getattr(value, "__dict__", None), dict):
        return {key: to_plain_data(item, depth + 1) for key, item in vars(value).items() if not key.startswith("_")}
    if depth == 0:
        raise BillingError("unknown_usage_format", f"usage is {safe_repr(value)}; use an object with counts")
    return value
