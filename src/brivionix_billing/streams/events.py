"""Converts the pieces that a gateway feeds to plain dicts, and detects the reader of an event."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import from_json

from brivionix_billing.streams.reader import StreamReader
from brivionix_billing.streams.readers import anthropic, bedrock
from brivionix_billing.streams.readers.anthropic import AnthropicReader
from brivionix_billing.streams.readers.bedrock import BedrockReader
from brivionix_billing.streams.readers.chat import ChatReader
from brivionix_billing.streams.readers.gemini import GeminiReader
from brivionix_billing.streams.readers.other import OtherReader, has_usage_or_text
from brivionix_billing.streams.readers.responses import ResponsesReader
from brivionix_billing.streams.sse import SseEvent

__all__ = [
    "bare_error",
    "to_plain_event",
    "event_error",
    "inner_events",
    "reader_for_event",
    "to_sse_event",
    "parse_event_json",
]

_JSON: Final = json.JSONDecoder()
_CHAT_OBJECTS: Final = ("chat.completion.chunk", "chat.completion", "text_completion")
_OTHER_EVENTS: Final = (
    *("message-", "content-", "tool-", "interaction.", "step.", "transcript.", "speech.", "thread."),
    *("image_generation.", "image_edit."),
)
"""Beginnings of the names of events of Cohere, Gemini's Interactions, and OpenAI's audio, images and Assistants."""
_GEMINI_KEYS: Final = ("usageMetadata", "promptFeedback", "serverContent")
_CODE_KEYS: Final = ("code", "statusCode", "error_code", "status_code")
_SUCCESSES: Final = ("0", "200", "201", "ok", "success", "succeeded")
_MESSAGE_KEYS: Final = ("message", "error_msg", "errorMessage", "msg", "detail", "status_msg")
_ANSWER_KEYS: Final = (
    *("choices", "candidates", "output", "usage", "content", "delta", "data", "text", "response", "results", "payload"),
)


def reader_for_event(event: Mapping[str, Any], name: str) -> type[StreamReader] | None:
    """Return the reader that an event requires, or ``None`` if any stream may contain the event."""
    kind = event.get("type") or event.get("event_type") or name
    if isinstance(kind, str):
        if kind.startswith("response."):
            return ResponsesReader
        if kind in anthropic.EVENTS:
            return AnthropicReader
    if isinstance(event.get("choices"), list | tuple) or event.get("object") in _CHAT_OBJECTS:
        return ChatReader
    if isinstance(event.get("candidates"), list | tuple) or any(
        isinstance(event.get(key), dict) for key in _GEMINI_KEYS
    ):
        return GeminiReader
    if any(isinstance(event.get(key), dict) for key in bedrock.EVENTS):
        return BedrockReader
    metadata = event.get(
        "metadata"
    )  # other providers use this name too; in Bedrock it is the only key, and contains the usage
    usage = metadata.get("usage") if isinstance(metadata, dict) and len(event) == 1 else None
    if isinstance(usage, dict) and "inputTokens" in usage:
        return BedrockReader
    if isinstance(kind, str) and kind.startswith(_OTHER_EVENTS):
        return OtherReader
    return OtherReader if has_usage_or_text(event) else None


def inner_events(event: Mapping[str, Any]) -> list[Any]:
    """Return the event inside a chunk of Bedrock's InvokeModel or of Code Assist; else the event itself.

    boto3 decodes its bytes. A caller that reads the frames itself has them in Base64, with or without ``chunk``.
    """
    chunk = event.get("chunk") if "chunk" in event else event
    data = chunk.get("bytes") if isinstance(chunk, Mapping) else None
    if isinstance(data, str):
        data = b64decode(data, validate=True)
    if isinstance(data, bytes):
        return [parse_event_json(data)[0]]
    response = event.get("response")
    if isinstance(response, dict) and isinstance(response.get("candidates"), list) and "type" not in event:
        return [response]  # Gemini's Code Assist
    return [event]


def event_error(event: Mapping[str, Any], name: str) -> Any:
    """Return the error that an event reports, if it does. Each provider has its own format."""
    if event.get("error"):
        error = event["error"]
        return (error.get("message") or error) if isinstance(error, dict) else error
    if (event.get("type") or name) == "error":
        return event.get("message") or "no reason given"
    for key, value in event.items():
        if isinstance(key, str) and key.endswith("Exception"):  # Bedrock
            return (value.get("message") or key) if isinstance(value, dict) else key
    return None


def bare_error(event: Mapping[str, Any]) -> Any:
    """Return the error of an object that is nothing but an error, in place of a stream.

    ERNIE, DashScope, MiniMax, Hunyuan, FastAPI and gateways answer so. A message without a code that shows a failure
    may be an answer, and is no error.
    """
    if any(event.get(key) not in (None, "", [], {}) for key in _ANSWER_KEYS):
        return None
    for key in ("base_resp", "Response", "fault"):
        inner = event.get(key)
        if isinstance(inner, Mapping):
            error = inner.get("Error") or inner.get("faultstring")
            code = inner.get("status_code")
            if error:
                return (error.get("Message") or error) if isinstance(error, Mapping) else error
            if type(code) is int and code != 0:
                return inner.get("status_msg") or code
    errors = event.get("errors")
    if isinstance(errors, list) and errors:
        return errors[0]
    text = next((event[key] for key in _MESSAGE_KEYS if isinstance(event.get(key), str | list) and event[key]), None)
    failed = event.get("success") is False or any(_is_failure(event.get(key)) for key in _CODE_KEYS)
    return text if failed or event.keys() == {"detail"} else None


def _is_failure(code: Any) -> bool:
    """Return whether a code is not that of a success: a number, or a name such as ``InvalidParameter``."""
    if isinstance(code, str):
        return bool(code) and code.lower() not in _SUCCESSES
    return type(code) is int and code not in (0, 200, 201)


def parse_event_json(data: bytes) -> tuple[Any, str]:
    """Return the JSON of an event, and the text after it, which should be empty.

    JSON that a strict parser rejects (half a surrogate pair, an invalid byte) is read as far as possible. An object is
    read even if text follows it. A caller may already have used this usage, so the result must not change.
    """
    try:
        return from_json(data), ""
    except ValueError:
        text = data.decode("utf-8", "replace")
        value, end = _JSON.raw_decode(text)
        rest = text[end:].strip()
        if rest and not isinstance(value, dict):
            raise ValueError("more than one value") from None
        return value, rest


def to_sse_event(piece: object) -> SseEvent | None:
    """Return the frame of an SSE client's event object with ``data`` and ``event`` (httpx-sse and others)."""
    data = getattr(piece, "data", None)
    if not isinstance(data, str) or isinstance(piece, Mapping) or hasattr(piece, "model_dump"):
        return None
    name = getattr(piece, "event", None)
    return SseEvent(name if isinstance(name, str) else "", data.encode("utf-8", "surrogatepass"))


def to_plain_event(piece: object) -> Any:
    """Return a dict for a mapping or an SDK object (pydantic), under the names of the wire format."""
    if type(piece) is dict:
        return piece
    if isinstance(piece, dict):
        return dict(piece)  # a plain dict, without overridden methods
    if isinstance(piece, Mapping):
        return dict(piece)
    dump = getattr(piece, "model_dump", None)
    if dump is None:
        return None
    try:
        # Exclude None, because SDKs fill in absent fields. Suppress warnings, because SDKs build objects that their own
        # types forbid.
        return dump(by_alias=True, exclude_none=True, warnings=False)
    except TypeError:  # an older pydantic, or an object with a similar method
        return dump()
