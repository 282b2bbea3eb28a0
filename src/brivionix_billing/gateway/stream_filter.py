"""Forwards a stream without the chunk that only states its usage, if the client did not request that chunk."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["UsageChunkFilter"]

_EVENT_END: Final = re.compile(rb"\n\r?\n")
"""A pattern that began with an optional CR would find the same ends, but the search would be up to 20 times as slow."""
_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_MAX_EVENT_BYTES: Final = 1024 * 1024
"""A longer event is not a usage chunk, and is forwarded without waiting for its end."""


class UsageChunkFilter:
    r"""Cuts bytes of server-sent events into whole events, and drops the usage-only chunk of chat completions.

    >>> events = UsageChunkFilter()
    >>> events.feed(b'data: {"choices":[1]}\n\ndata: {"choices":[],"usage":{}}\n\nda')
    [b'data: {"choices":[1]}\n\n']
    >>> events.flush()
    b'da'
    """

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the events to forward that end in this piece."""
        searched = max(0, len(self._pending) - 3)  # an end may span two pieces; earlier bytes were searched already
        self._pending += piece
        ends = [found.end() for found in _EVENT_END.finditer(self._pending, searched)]
        events: list[bytes] = []
        start = 0
        for end in ends:
            event = bytes(self._pending[start:end])
            start = end
            if not _is_usage_chunk(event):
                events.append(event)
        del self._pending[:start]
        if len(self._pending) > _MAX_EVENT_BYTES:
            events.append(self.flush())
        return events

    def flush(self) -> bytes:
        """Return the bytes of an event that has not ended. Call it at the end of the stream."""
        pending = bytes(self._pending)
        self._pending.clear()
        return pending


def _is_usage_chunk(event: bytes) -> bool:
    if not _NO_CHOICES.search(event) or not event.startswith(b"data:"):
        return False
    try:
        chunk: Any = json.loads(event[5:])
    except ValueError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)
