"""Streams for the tests: recorded and synthetic ones, ways to cut them, and counters without a vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from brivionix_billing.streams import StreamResult, StreamUsage
from paths import DATA, SHARED_DATA

__all__ = [
    "FEW",
    "MADE",
    "SHARED",
    "Bytes",
    "Never",
    "Sample",
    "boundaries",
    "chat_chunk",
    "events_of",
    "fed",
    "frames",
    "sse",
]

Sample = dict[str, Any]
SHARED: Final = SHARED_DATA / "openai_streams.jsonl"
"""All recorded streams, which are not part of this repository."""


def _lines(path: Path) -> list[Sample]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


FEW: Final = _lines(DATA / "streams.jsonl")
MADE: Final = _lines(DATA / "streams_made.jsonl")


class Bytes:
    """A counter with one token per byte, so that the counts of parts add up."""

    def text(self, text: str, /) -> int:
        return len(text.encode())

    def chat(self, request: Any, /) -> int:
        return 1000 + len(request["messages"])

    def responses(self, request: Any, /) -> int:
        return 2000 + len(request["input"])


class Never:
    """A counter that must not be called."""

    def text(self, text: str, /) -> int:
        raise AssertionError(f"a text was counted: {text[:40]}")

    def chat(self, request: Any, /) -> int:
        raise AssertionError("a request was counted")

    responses = chat


def fed(*pieces: object, request: Any = None, counter: Any = None, **more: Any) -> StreamUsage:
    """Return a stream that was fed these pieces."""
    stream = StreamUsage(request, counter or Bytes(), **more)
    for piece in pieces:
        stream.feed(piece)
    return stream


def sse(*events: Any) -> str:
    """Return events in the framing of a provider."""
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)


def frames(text: str) -> list[tuple[str, str]]:
    """Return name and data of each event: an independent parser of SSE, over the whole text at once."""
    found: list[tuple[str, str]] = []
    name, data, later = "", list[str](), None
    for line in re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))[:-1]:
        field, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if not line:
            if "\n".join(data):
                found.append((name if later is None else later, "\n".join(data)))
            name, data, later = "", [], None
        elif field == "data":
            if len(data) == 1 and is_object(data[0]) and (value[:1] == "{" or value.strip() == "[DONE]"):
                found.append((name, data[0]))  # providers that end an event with one line end
                name, data, later = later or "", [], None
            data.append(value)
        elif field == "event" and data:
            later = value
        elif field == "event":
            name = value
    return found


def is_object(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return text[:1] == "{" and isinstance(json.loads(text), dict)
    except ValueError:
        return False


def events_of(text: str) -> list[dict[str, Any]]:
    """Return the JSON of each event of a stream."""
    return [json.loads(data) for _, data in frames(text) if data != "[DONE]"]


def boundaries(text: str) -> Iterator[str]:
    """Return the prefixes of a stream that end with an event, including the empty and the whole one."""
    ends = [0, *(match.end() for match in re.finditer("(?:\r\n|\r|\n){2}", text))]
    return (text[:end] for end in ends)


def chat_chunk(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk of a chat with one choice."""
    delta = {} if content is None else {"content": content}
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def same(one: StreamResult, other: StreamResult) -> bool:
    """Return whether two results report the same usage."""
    return (one.body, one.estimated, one.reason, one.usage_error is None) == (
        other.body,
        other.estimated,
        other.reason,
        other.usage_error is None,
    )
