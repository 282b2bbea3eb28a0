"""A stream on its way from the provider to the client."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import httpx
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from brivionix_billing.streams import StreamUsage

from .admission import AdmittedRequest
from .openai_errors import error_body

__all__ = ["MeteredStream"]

_EVENT_END: Final = re.compile(rb"\r?\n\r?\n")
_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_MAX_EVENT: Final = 1024 * 1024
"""What is longer is no chunk of usage, and is not waited for."""


class MeteredStream(StreamingResponse):
    """Sends each piece on as it comes, and feeds it to a :class:`StreamUsage`.

    ``over`` is set at whatever end: the stream is complete, the provider broke off, or the client went away and this
    response was cancelled. What is to be done then is for a job of the service: who is cancelled cannot wait.
    """

    def __init__(self, call: AdmittedRequest, upstream: httpx.Response, most_kept: int) -> None:
        self.call, self.upstream = call, upstream
        self.usage = StreamUsage(call.request, call.counter)
        self.finished = asyncio.Event()
        self.client_disconnected = True
        """Whether the client went away: so it is, unless the provider came to an end before."""
        self.received_data = False
        """Whether the provider has said anything, be it that it failed."""
        self.buffer = bytearray()
        """What came, up to a limit."""
        self._most_kept = most_kept
        self._pieces = self._without_usage_chunk() if call.strip_usage_chunk else self._read()
        super().__init__(self._pieces, media_type="text/event-stream")
        self.headers["cache-control"] = "no-cache"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.finished.set()

    async def close(self) -> None:
        """Hang up on the provider, if it has not ended."""
        await self._pieces.aclose()
        await self.upstream.aclose()

    async def _read(self) -> AsyncGenerator[bytes]:
        tail = b"\n\n"
        try:
            # Closed here and now: what is left to the garbage collector is closed on any thread, at any time.
            async with aclosing(self.upstream.aiter_bytes()) as pieces:  # type: ignore[type-var]  # a generator it is
                async for piece in pieces:
                    self.received_data = True
                    self.usage.feed(piece)
                    if len(self.buffer) < self._most_kept:
                        self.buffer += piece
                    tail = (tail + piece)[-4:]
                    yield piece
            self.client_disconnected = False
        except httpx.HTTPError:
            # An end without a word would look like a complete answer to some clients.
            self.client_disconnected = False
            said = error_body(502, "upstream_broke_off", "The provider broke the answer off. What came is charged.")
            begin = b"" if tail.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
            yield begin + b"event: error\ndata: " + json.dumps(said).encode() + b"\n\n"

    async def _without_usage_chunk(self) -> AsyncGenerator[bytes]:
        """Whole events, without the one that only tells the usage, for which the client did not ask."""
        waiting = b""
        async with aclosing(self._read()) as pieces:
            async for piece in pieces:
                seen = max(0, len(waiting) - 3)  # an end may lie across two pieces; what was looked at is not again
                waiting += piece
                begin = 0
                for end in _EVENT_END.finditer(waiting, seen):
                    event = waiting[begin : end.end()]
                    begin = end.end()
                    if not _is_usage_chunk(event):
                        yield event
                waiting = waiting[begin:]
                if len(waiting) > _MAX_EVENT:
                    yield waiting
                    waiting = b""
        if waiting:
            yield waiting


def _is_usage_chunk(event: bytes) -> bool:
    if not _NO_CHOICES.search(event) or not event.startswith(b"data:"):
        return False
    try:
        chunk: Any = json.loads(event[5:])
    except ValueError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)
