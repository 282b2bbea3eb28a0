"""Which shape a provider's body has, decided from the body alone; a reader per shape stands in a file of its own.

To add a provider: write a reader ``(usage object, response) -> Usage`` and teach :func:`detect_shape` the keys that
only its usage object has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.parsing import ContextKeys, format_keys
from brivionix_billing.usage.readers import anthropic, bedrock, cohere, gemini, openai
from brivionix_billing.usage.usage import Usage

__all__ = [
    "LocatedUsage",
    "UsageReader",
    "BodyShape",
    "get_field",
    "locate_usage",
    "read_usage",
    "detect_shape",
    "unreadable_error",
]

UsageReader = Callable[[dict[str, Any], dict[str, Any]], Usage]
"""Takes the usage object and the response around it, which has what the shape's ``around`` names, where it is given."""


class BodyShape(NamedTuple):
    """A reader, and the keys of a response around the usage object that say what was served."""

    reader: UsageReader
    context_keys: ContextKeys


_CHAT: Final = BodyShape(openai.read_chat, openai.CONTEXT_KEYS)
_RESPONSES: Final = BodyShape(openai.read_responses, openai.CONTEXT_KEYS)
_ANTHROPIC: Final = BodyShape(anthropic.read_usage, anthropic.AROUND)
_GEMINI: Final = BodyShape(gemini.read_usage, gemini.AROUND)
_BEDROCK: Final = BodyShape(bedrock.read_usage, bedrock.AROUND)
_COHERE: Final = BodyShape(cohere.read_usage, cohere.AROUND)

# Input tokens do not contain the cached ones: not OpenAI's way of counting.
_EXCLUSIVE_CACHE_KEYS: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"})
# What else Anthropic says inside the usage object; unless a key stands beside it that Anthropic does not have.
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
"""What a response calls its usage object; and (true) by which count a usage object without a response is known."""
_USAGE_KEYS: Final = tuple(name for name, bare in _USAGE_LOCATIONS if not bare)
_MAX_DEPTH: Final = 8
_CONTEXT_KEYS: Final = (
    *(key for shape in (_CHAT, _GEMINI, _BEDROCK) for key in shape.context_keys),  # Anthropic's are among OpenAI's
    "output",
)


class LocatedUsage(NamedTuple):
    """A body whose usage object was found."""

    usage: dict[str, Any]
    response: object
    """The response around it, as it was given; ``None`` for a bare usage object."""
    key: str
    """What the response calls it."""


def read_usage(body: object) -> Usage:
    """The usage in ``body``; see :meth:`Usage.from_response`."""
    if type(body) is dict:
        usage = body.get("usage")
        if type(usage) is dict:
            if "usageMetadata" in body or "usage_metadata" in body or "meta" in body:
                _reject_second_usage("usage", body)
            if "prompt_tokens" in usage:
                return openai.read_chat(usage, body)  # what nearly every body is, by the shortest way
            return detect_shape(usage).reader(usage, body)
        if usage is None:
            if body.get("prompt_tokens") is not None:
                return openai.read_chat(body, {})
            if body.get("input_tokens") is not None:
                return detect_shape(body).reader(body, {})
    try:
        usage, around, _ = locate_usage(body)
        return detect_shape(usage).reader(usage, {name: get_field(around, name) for name in _CONTEXT_KEYS})
    except BillingError:
        raise
    except Exception as error:  # whatever an SDK's object does when it is asked
        raise unreadable_error(body, error) from error


def detect_shape(usage: dict[str, Any]) -> BodyShape:
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
        f"a usage object with the keys {format_keys(usage)} is of no shape that is known here "
        "(OpenAI chat, Responses, embeddings; Anthropic; Gemini; Bedrock Converse; Cohere)",
    )


def locate_usage(body: object) -> LocatedUsage:
    """An SDK object, or any mapping, opened no further than needed: the texts of a response are never copied."""
    for name, bare in _USAGE_LOCATIONS:
        usage = get_field(body, name)
        if usage is None or (name == "meta" and get_field(usage, "billed_units") is None):
            continue
        if not bare:
            _reject_second_usage(name, body)
        around, usage = (None, body) if bare else (body, usage)
        return LocatedUsage(usage if type(usage) is dict else to_plain_data(usage), around, name)
    if isinstance(body, Mapping) and "usage" in body:
        raise BillingError(
            "unknown_usage_format", "usage is null; a stream carries it only if asked: stream_options.include_usage"
        )
    if isinstance(body, Mapping):
        raise BillingError("unknown_usage_format", f"no usage in a body with the keys {format_keys(body)}")
    raise BillingError("unknown_usage_format", f"no usage in a {type(body).__name__}; give a response or its usage")


def _reject_second_usage(name: str, body: object) -> None:
    """Refuse a second usage object: two gateways have written into this body, and which is right nobody here knows."""
    for other in _USAGE_KEYS:
        second = None if other == name else get_field(body, other)
        if second is not None and (other != "meta" or get_field(second, "billed_units") is not None):
            told = "meta.billed_units" if other == "meta" else other
            raise BillingError("usage_contradiction", f"a body with two usage objects, {name} and {told}; give one")


def unreadable_error(body: object, error: Exception) -> BillingError:
    """The refusal of an object that raises an error of its own when it is read."""
    try:
        words = safe_repr(str(error))
    except Exception:
        words = "no reason given"
    return BillingError(
        "unknown_usage_format", f"a {type(body).__name__} cannot be read: {type(error).__name__}: {words}"
    )


def get_field(body: object, name: str) -> Any:
    """What a mapping or an object has under a name."""
    if isinstance(body, Mapping):
        return body.get(name)
    if body is None or isinstance(body, str | bytes | int | float | list | tuple):
        return None
    return getattr(body, name, None)


def to_plain_data(value: object, depth: int = 0) -> Any:
    """Plain dicts and lists out of mappings, pydantic models and simple objects, to a depth that bounds the work."""
    if depth > _MAX_DEPTH:
        raise BillingError(
            "unknown_usage_format", f"a usage object nested more than {_MAX_DEPTH} deep is not a usage object"
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
        raise BillingError("unknown_usage_format", f"usage is {safe_repr(value)}, not an object with counts")
    return value
