"""The HTTP server of the gateway: uvicorn's, with limits for clients that are slow, idle, or too many.

uvicorn waits without a limit for headers that never end, for clients that never read, and for bodies that go on after
the response. A proxy before the gateway usually limits them. Here they are limited without one.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from brivionix_billing.gateway import error_body

from .config import Config
from .web import SECURITY_HEADERS

__all__ = ["ConnectionLimits", "GuardedProtocol", "guarded_by"]

_MAX_SILENT_BYTES: Final = 64 * 1024
"""Maximum size of headers, and of everything else that is no body, such as trailers and extensions of chunks."""


@dataclass(slots=True)
class ConnectionLimits:
    """Limits of the connections of one server, and those that wait for a request."""

    max_connections: int
    header_seconds: float
    """How long headers may take, and how long a client may go on with a body after its response."""
    write_seconds: float
    """How long a client may take to read what was sent."""
    idle: dict[asyncio.Protocol, asyncio.Transport] = field(default_factory=dict)
    """Connections that wait for the rest of a request, or for the next one, the longest idle first."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    _silent_bytes = 0
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def __init__(self, limits: ConnectionLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits = limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Accept a connection. Beyond the maximum, the longest idle one is closed, or this one if none is idle."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that pause_writing is called for everything that is not sent
        idle = self.limits.idle
        if len(self.connections) > self.limits.max_connections:
            oldest = next(iter(idle), None)
            (transport if oldest is None else idle.pop(oldest)).abort()
        self._wait_for_header(self.limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.limits.idle.pop(self, None)
        for timer in (self._header_timer, self._write_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless it is no body and too long."""
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > _MAX_SILENT_BYTES:
            self.transport.abort()

    def _is_answering(self) -> bool:
        """Return whether a request was received and its response is not complete."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body)

    def _wait_for_header(self, seconds: float) -> None:
        self._end_header()
        self.limits.idle.pop(self, None)
        self.limits.idle[self] = self.transport  # at the end
        self._header_timer = self.loop.call_later(seconds, self.transport.abort)

    def _end_header(self) -> None:
        self._silent_bytes = 0
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, with the headers of every response, and close the connection.

        What follows a request that has no response yet gets no answer. The connection is closed after the response.
        """
        if self._is_answering():
            self.cycle.keep_alive = False
            return
        message = "The request is not valid HTTP, or its length is ambiguous."
        body = json.dumps(error_body(400, "invalid_request", message)).encode()
        headers = {**SECURITY_HEADERS, b"content-type": b"application/json", b"connection": b"close"}
        lines = [b"%s: %s" % pair for pair in headers.items()]
        self.transport.write(
            b"\r\n".join([b"HTTP/1.1 400 Bad Request", *lines, b"content-length: %d" % len(body), b"", body])
        )
        self.transport.close()

    def on_message_begin(self) -> None:
        """Note the first byte of a request. It must not come before the response to another one.

        One read may have thousands of requests, which uvicorn would store. Clients send them again.
        """
        if self._is_answering():
            raise ValueError("a request before the response to another")  # as in on_headers_complete
        super().on_message_begin()
        self._wait_for_header(self.limits.header_seconds)

    def on_headers_complete(self) -> None:
        """Start the request, unless its length is ambiguous: a proxy might see the end of its body elsewhere."""
        self._end_header()
        lengths = [value for name, value in self.headers if name == b"content-length"]
        encodings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if len(lengths) + len(encodings) > 1 or encodings not in ([], [b"chunked"]):
            raise ValueError("ambiguous length")  # the parser takes it for a malformed request: status 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note a part of the body."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._silent_bytes = 0
        self.limits.idle.pop(self, None)
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().on_message_complete()
        # uvicorn notes the end only of requests that have no response yet.
        self.cycle.more_body = False

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of this one."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle.response_complete and self.cycle.more_body:
            self._unread_timer = self.loop.call_later(self.limits.header_seconds, self.transport.abort)
        elif self.cycle.response_complete:
            self._wait_for_header(self.timeout_keep_alive + self.limits.header_seconds)

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than it is sent to."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client has read everything."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def guarded_by(config: Config) -> Any:
    """Return the protocol with the limits of a configuration, for ``uvicorn.Config(http=...)``."""
    limits = ConnectionLimits(config.max_connections, config.header_seconds, config.write_seconds)
    return partial(GuardedProtocol, limits)
