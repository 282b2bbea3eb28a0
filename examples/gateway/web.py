"""What the gateway needs of Starlette: reading a body, error responses, and a streaming response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from brivionix_billing.gateway import GatewayError, MeteredStream

__all__ = ["MeteredResponse", "error_response", "read_body"]


def error_response(error: GatewayError) -> JSONResponse:
    """Return the response to an error."""
    return JSONResponse(error.body, error.status)


async def read_body(request: Request, max_bytes: int, timeout_seconds: float) -> bytes:
    """Return the body of a request. Raises 413 for a large one, before it is in memory, and 408 for a slow one."""
    too_large = GatewayError(413, "request_too_large", f"The body of a request may have at most {max_bytes} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise GatewayError(408, "request_too_slow", "The request took too long to arrive.") from None
    return bytes(body)


class MeteredResponse(StreamingResponse):
    """Forwards a stream piece by piece while it is metered.

    However the response ends (complete, broken off by the provider, or cancelled because the client disconnected), the
    stream is closed, and the settlement that waits for it runs as a task of the service.
    """

    def __init__(self, stream: MeteredStream, upstream: httpx.Response) -> None:
        self.stream, self.upstream = stream, upstream
        self._pieces = self._forward()
        super().__init__(self._pieces, media_type="text/event-stream")
        self.headers["cache-control"] = "no-cache"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.stream.close()

    async def aclose(self) -> None:
        """Close the connection to the provider, if it has not ended."""
        await self._pieces.aclose()
        await self.upstream.aclose()

    async def _forward(self) -> AsyncGenerator[bytes]:
        try:
            # Closed here: a generator that is left to the garbage collector is closed on any thread, at any time.
            async with aclosing(self.upstream.aiter_bytes()) as pieces:  # type: ignore[type-var]  # it is a generator
                async for piece in pieces:
                    for part in self.stream.feed(piece):
                        yield part
            if rest := self.stream.complete():
                yield rest
        except httpx.HTTPError:
            yield self.stream.fail()
