"""Meters a stream while it is forwarded from the provider to the client."""

from __future__ import annotations

import asyncio
import json

from brivionix_billing.gateway.admission import AdmittedRequest
from brivionix_billing.gateway.client_errors import error_body
from brivionix_billing.gateway.stream_filter import UsageChunkFilter

__all__ = ["MeteredStream"]


class MeteredStream:
    """Reads the usage of a stream while it is forwarded.

    Pass every piece of the provider to :meth:`feed` and forward what it returns; then call :meth:`complete` or
    :meth:`fail`, forward what they return, and in any case :meth:`close`, also if the client disconnects. ``closed`` is
    then set, and the settlement that waits for it starts. ``max_buffered_bytes`` bounds what is kept of the answer for
    an estimate, in bytes.
    """

    def __init__(self, admitted: AdmittedRequest, max_buffered_bytes: int = 1024 * 1024) -> None:
        self.admitted = admitted
        self.usage = admitted.usage_stream()
        self.closed = asyncio.Event()
        self.end: str | None = None
        """How the stream ended: ``complete`` or ``failed`` by the provider; ``None``: it was left before its end."""
        self.buffer = bytearray()
        self._max_buffered_bytes = max_buffered_bytes
        self._tail = b"\n\n"
        self._filter = UsageChunkFilter() if admitted.strip_usage_chunk else None

    def feed(self, piece: bytes) -> list[bytes]:
        """Meter a piece of the provider; return the pieces to forward."""
        self.usage.feed(piece)
        if len(self.buffer) < self._max_buffered_bytes:
            self.buffer += piece
        self._tail = (self._tail + piece)[-4:]
        return [piece] if self._filter is None else self._filter.feed(piece)

    def complete(self) -> bytes:
        """Note that the provider ended the stream; return the rest to forward."""
        self.end = "complete"
        return b"" if self._filter is None else self._filter.flush()

    def fail(self) -> bytes:
        """Note that the provider broke off; return an error event, so that clients do not mistake it for complete."""
        rest = self.complete()
        self.end = "failed"
        message = "The provider broke the answer off. What arrived is charged."
        error = error_body(502, "upstream_broke_off", message, error_format=self.admitted.error_format)
        separator = b"" if self._tail.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
        return rest + separator + b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"

    def close(self) -> None:
        """Note that nothing more will be forwarded. Idempotent."""
        self.closed.set()
