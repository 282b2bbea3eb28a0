"""One exchange with a provider: sends an admitted request, reads the answer, and settles it, whoever is still there.

A task of the service reads the provider; the client takes what it needs from a queue. So a client that disconnects
stops its own reading, not the metering: the provider bills the whole answer, and only its end states the usage.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

from brivionix_billing.gateway.admission import AdmittedRequest
from brivionix_billing.gateway.client_errors import RESPONSE_HEADERS, GatewayError, from_provider_error
from brivionix_billing.gateway.metered_stream import MeteredStream
from brivionix_billing.gateway.safe_log import describe_body, describe_exception
from brivionix_billing.gateway.turns import PACED_BYTES

if TYPE_CHECKING:
    from brivionix_billing.gateway.billing import GatewayBilling

__all__ = ["ClientAnswer", "Exchange", "NotSentError", "Send", "UpstreamAnswer"]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")
_QUEUED_PIECES: Final = 64
_METERED_BYTES: Final = 16 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_ERROR_SECONDS: Final = 10.0
"""How long the body of an error is waited for. Its status alone says that there is no answer."""
_MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""A complete answer beyond this, in bytes, is not kept; ten large images in base64 have some 50 MB."""
_PASSED_HEADERS: Final = ("retry-after", "retry-after-ms")
_NUMBER_OR_DATE: Final = re.compile(r"[A-Za-z0-9:,. +-]{1,64}", re.ASCII)
_CHARGED: Final = {
    "release": "Nothing was charged.",
    "hold": "The maximum was charged, because the provider may bill the request.",
    "estimate": "An estimate was charged, because the provider may bill the request.",
}
_NO_STREAM: Final = (b"", b"{", b"[", b"<")
"""First bytes of bodies that are no events: nothing, JSON, or a page of some proxy."""
_WHITE: Final = b" \t\r\n\xef\xbb\xbf"


class NotSentError(Exception):
    """To raise in ``send`` if the provider certainly did not get the request: no address, no connection, no TLS."""


class UpstreamAnswer(Protocol):
    """The answer of a provider, its body not read yet; a response of httpx is one."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, in lower case or found in any case."""

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body, decompressed."""

    async def aclose(self) -> None:
        """Close the connection."""


Send = Callable[[AdmittedRequest], Awaitable[UpstreamAnswer]]
"""Sends a request to the provider. It raises :class:`NotSentError` if nothing was sent; any other exception means that
the provider may have got the request, and may bill it."""


class ClientAnswer:
    """What the client gets: status, media type, headers, and either a ``body`` or pieces to iterate over.

    Iterate with ``async for``. :meth:`aclose` says that the client takes nothing more.
    """

    def __init__(self, status: int, media_type: str, body: bytes | None, exchange: Exchange | None = None) -> None:
        self.status, self.media_type, self.body = status, media_type, body
        self.headers = dict(RESPONSE_HEADERS)
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self._exchange is None:
            yield self.body or b""
            return
        try:
            while (piece := await self._exchange.queue.get()) is not None:
                yield piece
        finally:
            self._exchange.leave()

    async def aclose(self) -> None:
        """Note that the client takes nothing more. Idempotent."""
        if self._exchange is not None:
            self._exchange.leave()


class Exchange:
    """One request on its way; see :meth:`GatewayBilling.forward`."""

    def __init__(self, billing: GatewayBilling, admitted: AdmittedRequest, send: Send) -> None:
        self._billing, self._admitted, self._send = billing, admitted, send
        self._policy = billing.policy
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_PIECES)
        self._is_left = self._is_stopped = self._is_draining = False
        self._is_reading = True
        """Whether the provider may still be read."""
        self._timer: asyncio.Timeout | None = None
        self._deadline: float | None = None
        """Time of the loop until which the provider is read."""
        self._drained_bytes = self._unpaced_bytes = 0

    async def run(self) -> ClientAnswer:
        """Send the request and return the answer. On return it is settled or released, or a task reads the stream."""
        received = bytearray()
        upstream: UpstreamAnswer | None = None
        is_pumped = False
        try:
            async with self._limit_time():
                upstream = await self._send(self._admitted)
                pieces = upstream.aiter_bytes()
                if not 200 <= upstream.status_code < 300:
                    raise await self._read_rejection(upstream, pieces)
                content_type = upstream.headers.get("content-type") or ""
                # Where the type does not say that it is a stream, the bytes do: providers and proxies send streams
                # under any type.
                is_stream = content_type.lower().startswith("text/event-stream")
                if not is_stream:
                    await _read_head(pieces, received)
                    is_stream = bytes(received.lstrip(_WHITE)[:1]) not in _NO_STREAM
                if self._admitted.streamed and is_stream:
                    self._billing.start_exchange(self, self._pump(upstream, bytes(received), pieces))
                    upstream, is_pumped = None, True
                    return ClientAnswer(200, "text/event-stream", None, self)
                async for piece in pieces:
                    _keep(piece, received)
            await _close_quietly(upstream)
            upstream = None
            return await self._complete(bytes(received), content_type)
        except GatewayError:
            raise
        except NotSentError as error:
            self._billing.release(self._admitted)
            cause = type(error.__cause__ or error).__name__
            _LOG.warning("%s: the provider cannot be reached: %s", self._admitted.id, cause)
            message = "The provider cannot be reached. Nothing was charged."
            raise GatewayError(502, "upstream_unreachable", message) from None
        except BaseException as error:
            raise await self._settle_unanswered(error, bytes(received)) from None
        finally:
            if not is_pumped:
                self._end_reading()
            if upstream is not None:
                await _close_quietly(upstream)

    async def _read_rejection(self, upstream: UpstreamAnswer, pieces: AsyncIterator[bytes]) -> GatewayError:
        body = bytearray()
        try:
            async with asyncio.timeout(_MAX_ERROR_SECONDS):
                async for piece in pieces:
                    body += piece
                    if len(body) > _MAX_ERROR_BYTES:
                        break
        except (Exception, asyncio.CancelledError):  # also at a stop: the status alone says that there is no answer
            pass
        self._billing.release(self._admitted)
        error = from_provider_error(upstream.status_code, bytes(body))
        if error.status == 502:
            reason = describe_body(bytes(body))
            _LOG.error("%s: the provider answered %s: %s", self._admitted.id, upstream.status_code, reason)
        passed = {name: upstream.headers.get(name) or "" for name in _PASSED_HEADERS}
        # A server does not send a header with other signs, and breaks the answer off.
        error.headers |= {name: value for name, value in passed.items() if _NUMBER_OR_DATE.fullmatch(value)}
        return error

    async def _complete(self, answer: bytes, media_type: str) -> ClientAnswer:
        if not await self._billing.settle_response(self._admitted, answer):
            _LOG.error("%s: the provider answered without an answer: %s", self._admitted.id, describe_body(answer))
            raise GatewayError(502, "upstream_error", "The provider failed. Nothing was charged.")
        if answer.lstrip(_WHITE)[:1] in (b"{", b"["):
            media_type = "application/json"
        elif _has_events(answer):
            media_type = "text/event-stream"
        return ClientAnswer(200, media_type or "text/plain", answer)

    async def _settle_unanswered(self, error: BaseException, received: bytes) -> BaseException:
        """Settle a request that may have been sent, by policy; return the error for the client."""
        billing, resolution, admitted = self._billing, self._policy.unanswered, self._admitted
        if self._is_left and not self._is_stopped and isinstance(error, TimeoutError):
            resolution = self._policy.for_abandoned(admitted.request, admitted.api, admitted.counter.family.name)
        reason = "the service stops" if self._is_stopped else describe_exception(error)
        _LOG.error("%s: sent, but no whole answer arrived: %s", admitted.id, reason)
        settlement = billing.background.start(billing.settle_unknown(admitted, resolution, received))
        if not isinstance(error, Exception):
            return error  # cancelled; the settlement runs on
        await billing.wait_briefly(settlement)
        return GatewayError(502, "upstream_broke_off", f"The provider broke off. {_CHARGED[resolution]}")

    # Streams

    async def _pump(self, upstream: UpstreamAnswer, head: bytes, pieces: AsyncIterator[bytes]) -> None:
        """Read the provider to its end, or to the bounds of a stream that its client left; then settle."""
        stream = MeteredStream(self._admitted, self._billing.max_buffered_bytes)
        try:
            async with self._limit_time():
                if head:
                    await self._deliver(stream, head)
                async for piece in pieces:
                    await self._deliver(stream, piece)
                await self._put(stream.complete())
        except Exception as error:
            self._end_reading()
            if self._is_stopped or not isinstance(error, TimeoutError) or not self._is_left:
                reason = "the service stops" if self._is_stopped else describe_exception(error)
                _LOG.warning("%s: the stream was broken off: %s", self._admitted.id, reason)
                await self._put(stream.fail())
        finally:
            self._end_reading()
            stream.close()
            settlement = self._billing.background.start(self._billing.settle_stream(stream))
            try:
                await _close_quietly(upstream)
                await self._billing.wait_briefly(settlement)
            finally:
                await self._put(None)

    async def _deliver(self, stream: MeteredStream, piece: bytes) -> None:
        for start in range(0, len(piece), _METERED_BYTES):
            part = piece[start : start + _METERED_BYTES]
            # Together, because each part for the client costs as much as the metering of many events.
            await self._put(b"".join(stream.feed(part)))
            self._unpaced_bytes += len(part)
            if self._unpaced_bytes >= PACED_BYTES:
                count, self._unpaced_bytes = self._unpaced_bytes, 0
                await self._billing.stream_pace.wait(self._admitted.token.account, count)
            elif start:
                await asyncio.sleep(0)  # other streams are served between two parts of a large piece
        if self._is_left:
            self._drained_bytes += len(piece)
            if self._drained_bytes > self._policy.max_drain_bytes:
                raise TimeoutError

    async def _put(self, part: bytes | None) -> None:
        """Queue a part for the client, or the end, unless it is gone. One that takes nothing for too long is gone."""
        if self._is_left or part == b"":
            return
        try:
            self.queue.put_nowait(part)
        except asyncio.QueueFull:
            seconds = 0 if self._is_stopped else self._policy.stall_seconds
            try:
                await asyncio.wait_for(self.queue.put(part), seconds)
            except TimeoutError:
                self.leave()

    def leave(self) -> None:
        """Note that the client takes nothing more. Idempotent."""
        if self._is_left:
            return
        self._is_left = True
        while not self.queue.empty():
            self.queue.get_nowait()  # wakes the pump if it waits for room
        self.queue.put_nowait(None)  # the end, for a reader that still waits
        if not self._is_reading or self._is_stopped:
            return
        seconds = self._policy.max_drain_seconds
        if self._admitted.streamed:
            if self._billing.drained_streams < self._policy.max_drained_streams:
                self._is_draining = True
                self._billing.drained_streams += 1
            else:
                seconds = 0
        self._read_until(seconds)

    def stop(self) -> None:
        """Stop reading the provider: the service stops."""
        self._is_stopped = True
        self._read_until(0)
        if not self._is_reading:
            self.leave()  # only its client is waited for

    @asynccontextmanager
    async def _limit_time(self) -> AsyncIterator[None]:
        """Bound a block by the deadline, which may still change."""
        async with asyncio.timeout_at(self._deadline) as self._timer:
            try:
                yield
            finally:
                self._timer = None

    def _read_until(self, seconds: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + seconds
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(self._deadline)

    def _end_reading(self) -> None:
        """Note that the provider is read no more. Idempotent."""
        self._is_reading = False
        if self._is_draining:
            self._is_draining = False
            self._billing.drained_streams -= 1


def _keep(piece: bytes, received: bytearray) -> None:
    received += piece
    if len(received) > _MAX_ANSWER_BYTES:
        raise OverflowError("the answer is too large to be kept")


async def _read_head(pieces: AsyncIterator[bytes], received: bytearray) -> None:
    """Read up to the first byte that is no white space, which tells JSON from events."""
    async for piece in pieces:
        _keep(piece, received)
        if piece.lstrip(_WHITE):
            break


def _has_events(answer: bytes) -> bool:
    """Return whether an answer is a stream of server-sent events."""
    return any(line.startswith((b"data:", b"event:")) for line in answer[:4096].split(b"\n"))


async def _close_quietly(upstream: UpstreamAnswer) -> None:
    try:
        await upstream.aclose()
    except Exception:  # the connection is of no use any more
        pass
