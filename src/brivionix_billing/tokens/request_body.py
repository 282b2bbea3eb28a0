"""Parses a request body and detects its API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["Api", "detect_api", "parse_request", "requested_service_tier"]

Api = Literal["chat", "responses", "embeddings", "anthropic", "gemini"]
_APIS: Final = ("chat", "responses", "embeddings", "anthropic", "gemini")
_TEXT_REQUEST_KEYS: Final = frozenset(
    {"max_output_tokens", "max_tokens", "max_completion_tokens", "tools", "instructions", "stream", "text", "reasoning"}
)
"""Keys of requests for text output. A body with one of them is not for embeddings."""


def detect_api(body: Mapping[str, Any], api: str | None = None) -> Api:
    """Return the API of a body: the argument, else the one that its keys determine.

    A body with ``messages`` is taken for chat completions. Pass ``anthropic`` for Anthropic's format.

    Raises ``invalid_request`` if the body is for no API or for two, and ``invalid_argument`` if ``api`` is unknown.
    """
    if api is not None:
        if api in _APIS:
            return api  # type: ignore[return-value]  # one of the literals
        raise BillingError("invalid_argument", f"api is {safe_repr(api)}; use one of: {', '.join(_APIS)}")
    has_messages, inputs = body.get("messages") is not None, body.get("input")
    if has_messages and inputs is not None:
        raise BillingError("invalid_request", "the body has both 'messages' and 'input'; pass api= to choose one")
    if "contents" in body and not has_messages and inputs is None:
        return "gemini"
    if has_messages or "messages" in body:
        return "chat"
    is_texts = (
        isinstance(inputs, list | tuple) and bool(inputs) and not any(isinstance(item, Mapping) for item in inputs)
    )
    if (is_texts or "encoding_format" in body or "dimensions" in body) and not body.keys() & _TEXT_REQUEST_KEYS:
        return "embeddings"
    # A text under 'prompt' belongs to the old completions API, which is not counted. An object is a stored prompt.
    if "input" in body or "instructions" in body or isinstance(body.get("prompt"), Mapping):
        return "responses"
    keys = ", ".join([safe_repr(key, 40) for key in list(body)[:20]]) or "(none)"
    raise BillingError("invalid_request", f"a body with the keys {keys} is not a request; add 'messages' or 'input'")


def requested_service_tier(body: Mapping[str, Any]) -> str | None:
    """Return the service tier that a body requests. Raises ``invalid_request`` if it is invalid."""
    tier = body.get("service_tier")
    if tier is None or (isinstance(tier, str) and tier.lower() != "batch"):
        return tier
    # A batch is a file of requests. A single call with this tier is answered, and billed, at the standard price.
    raise BillingError("invalid_request", f"service_tier is {safe_repr(tier)}; use another tier, or none")


def parse_request(request: object) -> Mapping[str, Any]:
    """Return the body of a request, from an object, its JSON text, or a pydantic model. Raises ``invalid_request``."""
    if type(request) is dict or isinstance(request, Mapping):
        return request
    if isinstance(request, str | bytes | bytearray):
        try:
            # A duplicate key is rejected, because the provider may read the other value.
            parsed = loads_strict(bytes(request) if isinstance(request, bytearray) else request, "the request")
        except BillingError as error:
            raise BillingError("invalid_request", error.message) from None
        if isinstance(parsed, dict):
            return parsed
        raise BillingError("invalid_request", f"the request is {safe_repr(parsed)}; use an object")
    dump = getattr(request, "model_dump", None)
    content = dump() if callable(dump) else None
    if isinstance(content, Mapping):
        return content
    raise BillingError("invalid_request", f"the request is {safe_repr(request)}; use an object, or its JSON text")
