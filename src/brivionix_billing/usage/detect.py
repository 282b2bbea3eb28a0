"""Detects the format of a provider's body from the body alone, and passes it to the reader of that format.

To add a provider, write a reader ``(usage object, response) -> UsageFields`` in ``readers/`` and teach
:func:`detect_format` the keys that only its usage object has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.conventions import Conventions, apply_conventions
from brivionix_billing.usage.fields import UsageFields
from brivionix_billing.usage.parsing import ContextKeys, format_keys
from brivionix_billing.usage.readers import anthropic, bedrock, cohere, gemini, openai

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


_CHAT: Final = BodyFormat(openai.read_chat, openai.CONTEXT_KEYS)
_RESPONSES: Final = BodyFormat(openai.read_responses, openai.CONTEXT_KEYS)
_ANTHROPIC: Final = BodyFormat(anthropic.read_usage, anthropic.CONTEXT_KEYS)
_GEMINI: Final = BodyFormat(gemini.read_usage, gemini.CONTEXT_KEYS)
_BEDROCK: Final = BodyFormat(bedrock.read_usage, bedrock.CONTEXT_KEYS)
_COHERE: Final = BodyFormat(cohere.read_usage, cohere.CONTEXT_KEYS)

# With these keys, the input tokens do not contain the cached ones, unlike OpenAI's.
_EXCLUSIVE_CACHE_KEYS: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"})
# Other keys of Anthropic's usage object, unless it also has a key that Anthropic does not have.
_NON_ANTHROPIC_KEYS: Final = frozenset({"total_tokens", "input_tokens_details"})
_ANTHROPIC_ONLY_KEYS: Final = frozenset({"service_tier", "server_tool_use", "iterations", "inference_geo", "speed"})
_NON_RESPONSES_KEYS: Final = _EXCLUSIVE_CACHE_KEYS | _ANTHROPIC_ONLY_KEYS

_USAGE_LOCATIONS: Final = (
    ("usage", False),
    ("prompt_tokens", True),
    ("input_tokens", True),
    ("usageMetadata", False),
    ("usage_metadata", False),
    ("promptTokenCount", True),
    ("prompt_token_count", True),
    ("inputTokens", True),
    ("billed_units", True),
    ("meta", False),
)
"""(key, bare): the key of a usage object in a response, or, if bare, a count that only a usage object has."""
_USAGE_KEYS: Final = tuple(name for name, bare in _USAGE_LOCATIONS if not bare)
_MAX_DEPTH: Final = 8
_CONTEXT_KEYS: Final = (
    *(key for found in (_CHAT, _GEMINI, _BEDROCK) for key in found.context_keys),  # Anthropic's are among OpenAI's
    "output",
)


class LocatedUsage(NamedTuple):
    """A body whose usage object was found."""

    usage: dict[str, Any]
    response: object
    """The response as the caller gave it; ``None`` for a usage object without a response."""
    key: str
    """The key of the usage object in the response, or the count by which it was found."""


def read_usage(body: object) -> UsageFields:
    """Read the usage in ``body``; see :meth:`Usage.from_response`."""
    if type(body) is dict:
        usage = body.get("usage")
        if type(usage) is dict:
            if "usageMetadata" in body or "usage_metadata" in body or "meta" in body:
                _reject_second_usage("usage", body)
            if "prompt_tokens" in usage:
                return openai.read_chat(usage, body)  # nearly every body, by the shortest way
            return detect_format(usage).reader(usage, body)
        if usage is None:
            if body.get("prompt_tokens") is not None:
                return openai.read_chat(body, {})
            if body.get("input_tokens") is not None:
                return detect_format(body).reader(body, {})
    return read_located_usage(body)


def read_located_usage(body: object, conventions: Conventions | None = None) -> UsageFields:
    """Read the usage in a body of any type, by the conventions of its upstream."""
    try:
        usage, response, _ = locate_usage(body)
        if conventions is not None:
            usage = apply_conventions(usage, conventions)
        return detect_format(usage).reader(usage, {name: get_field(response, name) for name in _CONTEXT_KEYS})
    except BillingError:
        raise
    except Exception as error:  # an SDK object may raise anything when an attribute is read
        raise unreadable_error(body, error) from error


def detect_format(usage: dict[str, Any]) -> BodyFormat:
    """Return the format of a usage object. Raises ``unknown_usage_format``, with the keys, if it is unknown."""
    if "prompt_tokens" in usage:
        return _CHAT
    if "input_tokens" in usage:
        if _NON_RESPONSES_KEYS.isdisjoint(usage) or not (
            _NON_ANTHROPIC_KEYS.isdisjoint(usage) or _EXCLUSIVE_CACHE_KEYS & usage.keys()
        ):
            return _RESPONSES
        return _ANTHROPIC
    if "promptTokenCount" in usage or "prompt_token_count" in usage:
        return _GEMINI
    if "inputTokens" in usage:
        return _BEDROCK
    if "billed_units" in usage:
        return _COHERE
    raise BillingError(
        "unknown_usage_format",
        f"the format of a usage object with the keys {format_keys(usage)} is unknown; known are OpenAI chat, Responses "
        "and embeddings, Anthropic, Gemini, Bedrock Converse and Cohere",
    )


def locate_usage(body: object) -> LocatedUsage:
    """Find the usage object of a mapping or SDK object. Only the usage object is copied, never the texts."""
    for name, bare in _USAGE_LOCATIONS:
        usage = get_field(body, name)
        if usage is None or (name == "meta" and get_field(usage, "billed_units") is None):
            continue
        if not bare:
            _reject_second_usage(name, body)
        response, usage = (None, body) if bare else (body, usage)
        return LocatedUsage(usage if type(usage) is dict else to_plain_data(usage), response, name)
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


def _reject_second_usage(name: str, body: object) -> None:
    """Reject a second usage object: two gateways wrote into this body, and it does not say which one is right."""
    for other in _USAGE_KEYS:
        second = None if other == name else get_field(body, other)
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
