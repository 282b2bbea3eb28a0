"""Answers of the demo's provider that were not recorded: made by the formats that Anthropic and OpenAI document.

Their usage is fixed and does not depend on the request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["embeddings", "images", "message", "message_events", "transcription", "transcription_events"]

_TEXT: Final = "I can help plan it, but I cannot book flights from here."
_USAGE: Final = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 1024,
    "output_tokens": 16,
    "service_tier": "standard",
}
_TRANSCRIPTION_USAGE: Final = {"type": "duration", "seconds": 9}


def message(model: str) -> dict[str, Any]:
    """Return a complete answer of Anthropic's Messages API."""
    return {
        "id": "msg_made",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": _TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _USAGE,
    }


def message_events(model: str) -> Iterator[str]:
    """Yield the same answer as a stream: the first event states the input, and the last but one the output."""
    start = {**message(model), "content": [], "stop_reason": None, "usage": {**_USAGE, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    for word in _TEXT.split(" "):
        delta = {"type": "text_delta", "text": f"{word} " if word != _TEXT.split(" ")[-1] else word}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    events += [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": _USAGE["output_tokens"]},
        },
        {"type": "message_stop"},
    ]
    for event in events:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}"


def embeddings(model: str, inputs: object) -> dict[str, Any]:
    """Return an answer of the Embeddings API."""
    count = len(inputs) if isinstance(inputs, list) else 1
    data = [{"object": "embedding", "index": index, "embedding": [0.6, 0.8]} for index in range(count)]
    return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}}


def images(count: int) -> dict[str, Any]:
    """Return an answer of the Images API for a model that is priced by the token."""
    details = {"text_tokens": 9, "image_tokens": 0}
    output = 272 * count
    return {
        "created": 1759436803,
        "data": [{"b64_json": "aGVsbG8="}] * count,
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": details,
            "output_tokens": output,
            "total_tokens": 9 + output,
        },
    }


def transcription() -> dict[str, Any]:
    """Return an answer of the Transcriptions API for a model that is priced by the second."""
    return {"text": _TEXT, "usage": _TRANSCRIPTION_USAGE}


def transcription_events() -> Iterator[str]:
    """Yield the same answer as a stream."""
    yield "data: " + json.dumps({"type": "transcript.text.delta", "delta": _TEXT})
    yield "data: " + json.dumps({"type": "transcript.text.done", "text": _TEXT, "usage": _TRANSCRIPTION_USAGE})
