"""Which shape a provider's body has, decided from the body alone; a reader per shape stands in a file of its own.

To add a provider: write a reader ``(usage object, what stands around it) -> Usage`` and let :func:`_reader` know by
which keys its usage object is told from all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.usage import openai
from brivionix_billing.usage.model import Usage

__all__ = ["Reader", "read"]

Reader = Callable[[dict[str, Any], dict[str, Any]], Usage]
"""Takes the usage object and the response around it: ``service_tier``, ``model``, ``output`` where there are any."""

# These keys mean that input tokens do not contain the cached ones: not OpenAI's way of counting.
_ANTHROPIC: Final = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")
_AROUND: Final = ("service_tier", "model", "output")


def read(body: object) -> Usage:
    """The usage in ``body``; see :meth:`Usage.from_response`."""
    if type(body) is dict:
        usage = body.get("usage")
        if type(usage) is dict:
            return _reader(usage)(usage, body)
        if usage is None and ("prompt_tokens" in body or "input_tokens" in body):
            return _reader(body)(body, {})
    usage, around = _opened(body)
    return _reader(usage)(usage, around)


def _reader(usage: dict[str, Any]) -> Reader:
    if "prompt_tokens" in usage:
        return openai.read_chat
    if "input_tokens" in usage and not any(key in usage for key in _ANTHROPIC):
        return openai.read_responses
    if any(key in usage for key in _ANTHROPIC):
        raise BillingError(
            "usage_shape",
            f"a usage object of Anthropic's shape (keys {_keys(usage)}) is not read yet; build a Usage from its counts",
        )
    raise BillingError(
        "usage_shape",
        f"a usage object with the keys {_keys(usage)} is of no shape that is known here "
        "(OpenAI chat, Responses, embeddings)",
    )


def _opened(body: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """An SDK object, or any mapping, opened no further than needed: the texts of a response are never copied."""
    usage = _field(body, "usage")
    around = body
    if usage is None and (_field(body, "prompt_tokens") is not None or _field(body, "input_tokens") is not None):
        usage, around = body, None
    if usage is None:
        if isinstance(body, Mapping) and "usage" in body:
            raise BillingError(
                "usage_shape", "usage is null; a stream carries it only if asked: stream_options.include_usage"
            )
        if isinstance(body, Mapping):
            raise BillingError("usage_shape", f"no usage in a body with the keys {_keys(body)}")
        raise BillingError("usage_shape", f"no usage in a {type(body).__name__}; give a response or its usage")
    return _as_dict(usage), {name: _field(around, name) for name in _AROUND}


def _field(body: object, name: str) -> Any:
    if isinstance(body, Mapping):
        return body.get(name)
    if body is None or isinstance(body, str | bytes | int | float | list | tuple):
        return None
    return getattr(body, name, None)


def _as_dict(value: object, depth: int = 0) -> Any:
    """Plain dicts out of mappings, pydantic models and simple objects; a usage object is at most two deep."""
    if depth > 4:
        raise BillingError("usage_shape", "a usage object nested more than four deep is not a usage object")
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, Mapping):
        value = dump()
    if isinstance(value, Mapping):
        return {str(key): _as_dict(item, depth + 1) for key, item in value.items()}
    if value is None or isinstance(value, str | bytes | int | float | list | tuple):
        if depth:
            return value
    elif isinstance(getattr(value, "__dict__", None), dict):
        return {key: _as_dict(item, depth + 1) for key, item in vars(value).items() if not key.startswith("_")}
    if depth == 0:
        raise BillingError("usage_shape", f"usage is {quoted(value)}, not an object with counts")
    return value


def _keys(body: Iterable[Any]) -> str:
    names = [quoted(key, 40) for key in list(body)[:20]]
    return ", ".join(names) if names else "(none)"
