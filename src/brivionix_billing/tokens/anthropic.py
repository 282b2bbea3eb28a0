"""Bounds the input of requests to ``/v1/messages`` of Anthropic.

``byte_bounds`` explains how texts and structures are bounded. Documented by Anthropic are the rest:

- An image has about width x height / 750 tokens, after it is scaled down. No model counts more than 4 784.
- Tools add a system prompt of at most 804 tokens. Tools that Anthropic defines or runs have no bound.
- Thinking is part of ``max_tokens``. Earlier thinking counts again in a tool loop; its signature contains all of it.
- A structured output adds a system prompt besides its schema.
- PDF files, files by id, documents by URL, skills, MCP servers and other containers have no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.byte_bounds import ByteBounds
from brivionix_billing.tokens.images import size_of_data_url
from brivionix_billing.tokens.request_counter import require_objects
from brivionix_billing.tokens.token_count import CountBuilder

__all__ = ["OUTPUT_KEYS", "REQUEST_KEYS", "THINKING_KEYS", "count_anthropic"]

_REQUEST_ALLOWANCE: Final = 32
_MESSAGE_ALLOWANCE: Final = 16
_BLOCK_ALLOWANCE: Final = 8
_TOOLS_PROMPT: Final = (346, 1_024)
"""Typical and largest system prompt for tools, with an allowance above the documented 804."""
_FORMAT_PROMPT: Final = (256, 1_024)
"""The same for a structured output, whose size is not documented."""
_MAX_IMAGE: Final = 5_000
"""Largest image, with an allowance above the documented 4 784."""
_TYPICAL_IMAGE: Final = 1_600
_PIXELS_PER_TOKEN: Final = 750
REQUEST_KEYS: Final = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "metadata", "stop_sequences", "stream", "temperature"),
        *("top_k", "top_p", "tools", "tool_choice", "thinking", "service_tier", "anthropic_version", "output_config"),
        *("output_format", "inference_geo", "cache_control", "speed"),
    }
)
THINKING_KEYS: Final = frozenset({"type", "budget_tokens", "display"})
OUTPUT_KEYS: Final = frozenset({"effort", "format"})
_MESSAGE_KEYS: Final = frozenset({"role", "content"})
_TOOL_KEYS: Final = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control", "eager_input_streaming"}
)
_BLOCK_KEYS: Final = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "cache_control", "citations", "title", "context"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "search_result": frozenset({"type", "source", "title", "content", "citations", "cache_control"}),
}


def count_anthropic(builder: CountBuilder, request: Mapping[str, Any]) -> None:
    """Add every part of a request with its bound. Raises ``invalid_request`` if it is invalid."""
    bounds = ByteBounds(builder, "Anthropic")
    bounds.check_keys("unseen", request, REQUEST_KEYS, "the request")
    bounds.add_tokens("messages", 3, _REQUEST_ALLOWANCE)
    _count_content(bounds, "system", request.get("system"))
    for message in require_objects(request.get("messages"), "messages"):
        bounds.check_keys("messages", message, _MESSAGE_KEYS, "a message")
        bounds.add_tokens("messages", 4, _MESSAGE_ALLOWANCE)
        _count_content(bounds, "messages", message.get("content"))
    _count_tools(bounds, request)
    _count_settings(bounds, request)


def _count_content(bounds: ByteBounds, kind: str, content: object) -> None:
    if content is None or isinstance(content, str):
        bounds.add_text(kind, content or "", "content")
        return
    for block in require_objects(content, "content"):
        _count_block(bounds, kind, block)


def _count_block(bounds: ByteBounds, kind: str, block: Mapping[str, Any]) -> None:
    block_type = block.get("type")
    known_keys = _BLOCK_KEYS.get(block_type) if isinstance(block_type, str) else None
    if known_keys is None:
        bounds.add_unbounded("unseen", f"a block of type {safe_repr(block_type, 40)}")
        return
    bounds.check_keys(kind, block, known_keys, f"a block of type {block_type}")
    bounds.add_tokens(kind, 0, _BLOCK_ALLOWANCE)
    if block_type == "text":
        bounds.add_text(kind, block.get("text"), "text")
    elif block_type == "image":
        _count_image(bounds, block.get("source"))
    elif block_type == "document":
        _count_document(bounds, block)
    elif block_type == "tool_use":
        bounds.add_structure("tool calls", {"name": block.get("name"), "input": block.get("input")})
    elif block_type == "tool_result":
        bounds.add_structure("tool results", {"id": block.get("tool_use_id"), "is_error": block.get("is_error")})
        _count_content(bounds, "tool results", block.get("content"))
    elif block_type == "thinking":
        bounds.add_text("reasoning", block.get("thinking") or "", "thinking")
        bounds.add_opaque("reasoning", block.get("signature"))
    elif block_type == "redacted_thinking":
        bounds.add_opaque("reasoning", block.get("data"))
    else:
        bounds.add_structure(kind, {"source": block.get("source"), "title": block.get("title")})
        _count_content(bounds, kind, block.get("content"))


def _count_image(bounds: ByteBounds, source: object) -> None:
    reason = "an image is counted by Anthropic's guide, and bounded by the largest image"
    size = None
    if isinstance(source, Mapping) and source.get("type") == "base64" and isinstance(source.get("data"), str):
        size = size_of_data_url(f"data:{source.get('media_type')};base64,{source['data']}")
    if size is None:
        bounds.add_tokens("images", _TYPICAL_IMAGE, _MAX_IMAGE, reason)
        return
    tokens = size[0] * size[1] // _PIXELS_PER_TOKEN + 1
    # The documented number is approximate. Sides may be padded to the next 28 pixels.
    padded = (size[0] + 56) * (size[1] + 56) // _PIXELS_PER_TOKEN + 64
    bounds.add_tokens("images", min(tokens, _TYPICAL_IMAGE), min(_MAX_IMAGE, padded * 5 // 4), reason)


def _count_document(bounds: ByteBounds, block: Mapping[str, Any]) -> None:
    source = block.get("source")
    bounds.add_structure("files", {"title": block.get("title"), "context": block.get("context")})
    kind = source.get("type") if isinstance(source, Mapping) else None
    if isinstance(source, Mapping) and kind == "text":
        bounds.add_text("files", source.get("data"), "the data of a document")
    elif isinstance(source, Mapping) and kind == "content":
        _count_content(bounds, "files", source.get("content"))
    else:
        bounds.add_unbounded("files", f"a document with a source of type {safe_repr(kind, 40)}")
    citations = block.get("citations")
    if isinstance(citations, Mapping) and citations.get("enabled"):
        bounds.add_unbounded("files", "the numbering of sentences for citations")


def _count_tools(bounds: ByteBounds, request: Mapping[str, Any]) -> None:
    tools = require_objects(request.get("tools"), "tools")
    if not tools:
        return
    bounds.add_tokens("tools", *_TOOLS_PROMPT)
    for tool in tools:
        if tool.get("type") not in (None, "custom"):
            bounds.add_unbounded("unseen", f"a tool of type {safe_repr(tool.get('type'), 40)}")
            continue
        if not isinstance(tool.get("name"), str):
            raise BillingError("invalid_request", f"a tool's name is {safe_repr(tool.get('name'))}; use a text")
        bounds.check_keys("tools", tool, _TOOL_KEYS, "a tool")
        bounds.add_structure("tools", tool)
    bounds.add_structure("tools", request.get("tool_choice"))


def _count_settings(bounds: ByteBounds, request: Mapping[str, Any]) -> None:
    for name, known_keys in (("thinking", THINKING_KEYS), ("output_config", OUTPUT_KEYS)):
        settings = request.get(name)
        if isinstance(settings, Mapping):
            bounds.check_keys("unseen", settings, known_keys, name)
        elif settings is not None:
            bounds.add_unbounded("unseen", name)
    config = request.get("output_config")
    for output_format in (request.get("output_format"), config.get("format") if isinstance(config, Mapping) else None):
        if output_format is not None:
            bounds.add_tokens("format", *_FORMAT_PROMPT)
            bounds.add_structure("format", output_format)
