"""Bounds the input of requests to ``generateContent`` of Gemini.

``byte_bounds`` explains how texts and structures are bounded. Documented by Google are the rest:

- An image up to 384 x 384 pixels has 258 tokens, and a larger one 258 per tile. Gemini 3 has at most 2 240 per image.
- A second of audio has 32 tokens. The bound assumes the lowest usual rate, 4 kbit/s.
- Thinking is part of ``maxOutputTokens``.
- Videos, PDF files, files by URI, cached contents and the tools that Google runs have no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.byte_bounds import ByteBounds
from brivionix_billing.tokens.images import Size, size_of_data_url
from brivionix_billing.tokens.request_counter import require_objects
from brivionix_billing.tokens.token_count import CountBuilder

__all__ = ["count_gemini", "gemini_settings"]

_REQUEST_ALLOWANCE: Final = 64
_CONTENT_ALLOWANCE: Final = 16
_TOOLS_PROMPT: Final = (64, 512)
"""Typical and largest text that introduces tools. Google documents none."""
_TILE: Final = 258
_MAX_IMAGE: Final = 2_240
_MAX_TILES: Final = 256
"""A longer image has no bound."""
_AUDIO_TOKENS_PER_SECOND: Final = 32
_MIN_AUDIO_BYTES: Final = 500
_TYPICAL_AUDIO_BYTES: Final = 16_000
_REQUEST_KEYS: Final = frozenset(
    {
        *("model", "contents", "systemInstruction", "system_instruction", "tools", "toolConfig", "tool_config"),
        *("generationConfig", "generation_config", "safetySettings", "safety_settings", "labels"),
    }
)
_CONTENT_KEYS: Final = frozenset({"role", "parts"})
_PART_KEYS: Final = frozenset(
    {
        *("text", "thought", "thoughtSignature", "thought_signature", "inlineData", "inline_data", "functionCall"),
        *("function_call", "functionResponse", "function_response"),
    }
)
_DATA_KEYS: Final = frozenset({"mimeType", "mime_type", "data", "displayName", "display_name"})
_CALL_KEYS: Final = frozenset({"id", "name", "args", "response"})
_FUNCTION_KEYS: Final = frozenset({"functionDeclarations", "function_declarations"})
_TOOL_CONFIG_KEYS: Final = frozenset({"functionCallingConfig", "function_calling_config"})
_CALLING_KEYS: Final = frozenset({"mode", "allowedFunctionNames", "allowed_function_names"})
_SCHEMA_KEYS: Final = ("responseSchema", "response_schema", "responseJsonSchema", "response_json_schema")
_SETTING_KEYS: Final = frozenset(
    {
        *("maxOutputTokens", "max_output_tokens", "candidateCount", "candidate_count", "temperature", "topP", "top_p"),
        *("topK", "top_k", "seed", "stopSequences", "stop_sequences", "presencePenalty", "presence_penalty"),
        *("frequencyPenalty", "frequency_penalty", "responseMimeType", "response_mime_type", "thinkingConfig"),
        *("thinking_config", "responseLogprobs", "logprobs", "responseModalities", "response_modalities"),
        *_SCHEMA_KEYS,
    }
)
_THINKING_KEYS: Final = frozenset(
    {*("thinkingBudget", "thinking_budget", "includeThoughts", "include_thoughts", "thinkingLevel", "thinking_level")}
)


def count_gemini(builder: CountBuilder, request: Mapping[str, Any]) -> None:
    """Add every part of a request with its bound. Raises ``invalid_request`` if it is invalid."""
    bounds = ByteBounds(builder, "Gemini")
    bounds.check_keys("unseen", request, _REQUEST_KEYS, "the request")
    bounds.add_tokens("messages", 0, _REQUEST_ALLOWANCE)
    instruction = _either(request, "systemInstruction", "system_instruction")
    if isinstance(instruction, str):
        bounds.add_text("system", instruction, "systemInstruction")
    elif instruction is not None:
        _count_content(bounds, "system", require_objects([instruction], "systemInstruction")[0])
    for content in require_objects(request.get("contents"), "contents"):
        _count_content(bounds, "messages", content)
    for tool in require_objects(request.get("tools"), "tools"):
        _count_tool(bounds, tool)
    choice = _either(request, "toolConfig", "tool_config")
    if isinstance(choice, Mapping):
        bounds.check_keys("unseen", choice, _TOOL_CONFIG_KEYS, "toolConfig")
        calling = _either(choice, "functionCallingConfig", "function_calling_config")
        if isinstance(calling, Mapping):
            bounds.check_keys("unseen", calling, _CALLING_KEYS, "functionCallingConfig")
    _count_settings(bounds, gemini_settings(request))


def gemini_settings(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the generation settings of a request. Raises ``invalid_request`` if they are no object."""
    settings = _either(request, "generationConfig", "generation_config")
    if settings is None or isinstance(settings, Mapping):
        return settings or {}
    raise BillingError("invalid_request", f"generationConfig is {safe_repr(settings)}; use an object")


def _either(value: Mapping[str, Any], name: str, other: str) -> Any:
    found = value.get(name)
    return value.get(other) if found is None else found


def _count_content(bounds: ByteBounds, kind: str, content: Mapping[str, Any]) -> None:
    bounds.check_keys(kind, content, _CONTENT_KEYS, "a content")
    bounds.add_tokens(kind, 1, _CONTENT_ALLOWANCE)
    parts = content.get("parts")
    for part in require_objects([parts] if isinstance(parts, Mapping) else parts, "parts"):
        bounds.check_keys(kind, part, _PART_KEYS, "a part")
        if part.get("text") is not None:
            bounds.add_text("reasoning" if part.get("thought") else kind, part["text"], "text")
        bounds.add_opaque("reasoning", _either(part, "thoughtSignature", "thought_signature"))
        data = _either(part, "inlineData", "inline_data")
        if data is not None:
            _count_data(bounds, require_objects([data], "inlineData")[0])
        for name, other, call_kind in (
            ("functionCall", "function_call", "tool calls"),
            ("functionResponse", "function_response", "tool results"),
        ):
            call = _either(part, name, other)
            if call is not None:
                call = require_objects([call], name)[0]
                bounds.check_keys(call_kind, call, _CALL_KEYS, name)
                bounds.add_structure(call_kind, call)


def _count_data(bounds: ByteBounds, data: Mapping[str, Any]) -> None:
    bounds.check_keys("unseen", data, _DATA_KEYS, "inlineData")
    mime_type, content = str(_either(data, "mimeType", "mime_type")), data.get("data")
    if mime_type.startswith("image/") and isinstance(content, str):
        size = size_of_data_url(f"data:{mime_type};base64,{content}")
        upper = None if size is None else _image_bound(size)
        if size is not None and upper is not None:
            tokens = _TILE if max(size) <= 384 else _TILE * -(-size[0] // 768) * -(-size[1] // 768)
            reason = "an image is counted by Google's guide, and bounded by the smallest tiles"
            bounds.add_tokens("images", min(tokens, upper), upper, reason)
            return
    elif mime_type.startswith("audio/") and isinstance(content, str):
        size_in_bytes = len(content) * 3 // 4
        tokens = size_in_bytes * _AUDIO_TOKENS_PER_SECOND // _TYPICAL_AUDIO_BYTES + _AUDIO_TOKENS_PER_SECOND
        upper = size_in_bytes * _AUDIO_TOKENS_PER_SECOND // _MIN_AUDIO_BYTES + _AUDIO_TOKENS_PER_SECOND
        bounds.add_tokens("audio", tokens, max(tokens, upper), "audio is counted by its length, 32 tokens per second")
        return
    kind = "images" if mime_type.startswith("image/") else "files"
    bounds.add_unbounded(kind, f"data of type {safe_repr(mime_type, 40)}")


def _image_bound(size: Size) -> int | None:
    """Return the most tokens of an image: its tiles have a side of 1 / 1.5 of the shorter side, at least 256 px."""
    side = max(256, min(768, min(size) * 2 // 3))
    tiles = -(-size[0] // side) * -(-size[1] // side)
    return max(_MAX_IMAGE, _TILE * (tiles + 1)) if tiles <= _MAX_TILES else None


def _count_tool(bounds: ByteBounds, tool: Mapping[str, Any]) -> None:
    bounds.check_keys("unseen", tool, _FUNCTION_KEYS, "a tool")
    bounds.add_tokens("tools", *_TOOLS_PROMPT)
    for function in require_objects(_either(tool, "functionDeclarations", "function_declarations"), "tools"):
        bounds.add_structure("tools", function)


def _count_settings(bounds: ByteBounds, settings: Mapping[str, Any]) -> None:
    bounds.check_keys("unseen", settings, _SETTING_KEYS, "generationConfig")
    thinking = _either(settings, "thinkingConfig", "thinking_config")
    if isinstance(thinking, Mapping):
        bounds.check_keys("unseen", thinking, _THINKING_KEYS, "thinkingConfig")
    elif thinking is not None:
        bounds.add_unbounded("unseen", "thinkingConfig")
    for key in _SCHEMA_KEYS:
        if settings.get(key) is not None:
            bounds.add_tokens("format", *_TOOLS_PROMPT)
            bounds.add_structure("format", settings[key])
