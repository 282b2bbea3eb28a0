"""One stream, from its first piece to the body of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.streams.counting import Counter, Counting
from brivionix_billing.streams.estimate import estimated
from brivionix_billing.streams.events import as_event, error_of, family, framed, parsed
from brivionix_billing.streams.reader import Reader
from brivionix_billing.streams.sse import DONE, MAX_EVENT, Event, SseParser
from brivionix_billing.streams.text import Tally
from brivionix_billing.usage import Usage, reported

__all__ = ["StreamResult", "StreamUsage"]

_MAX_FAULTS: Final = 20


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What a stream used, as far as is known."""

    body: dict[str, Any]
    """What to write as ``usage`` into the record. ``Usage.from_response(body)`` is :attr:`usage`."""
    estimated: bool
    """Whether the counts are an estimate: the provider's never came. The body and the usage are marked, too."""
    reason: str | None
    """Why it is an estimate, and how it was made; ``None`` if it is none."""
    faults: tuple[str, ...] = ()
    """What was strange about the stream."""
    answered: bool = True
    """Whether anything of an answer came, or a usage. If not, the provider refused or was not reached: bill nothing."""
    refused: BillingError | None = None
    """Set if the provider stated a usage that cannot be billed. The body holds it all the same."""
    _usage: Usage | None = field(default=None, repr=False)

    @property
    def usage(self) -> Usage:
        """The usage. Raises what ``Usage.from_response`` raises of the provider's body (:attr:`refused`)."""
        if self._usage is None:
            raise self.refused or BillingError("usage_shape", "no usage")
        return self._usage


class StreamUsage:
    r"""Reads a stream as it passes and knows at any time what it used.

    ``request`` is the body that was sent, for the input of an estimate; ``counter`` a counter of tokens, if you have
    one already, with the methods of ``brivionix_billing.tokens.TokenCounter``. Neither is touched unless an estimate is
    needed.

    >>> stream = StreamUsage()
    >>> stream.feed('data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n')
    >>> stream.feed('data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\n')
    >>> stream.done, stream.result().usage
    (True, Usage(input_tokens=9, output_tokens=1))
    """

    __slots__ = ("_bytes", "_counting", "_error", "_faults", "_more", "_reader", "_request", "_result", "_sse", "_told")

    def __init__(
        self, request: Mapping[str, Any] | None = None, counter: Counter | None = None, *, max_event: int = MAX_EVENT
    ) -> None:
        self._request = request if isinstance(request, Mapping) else None
        self._counting = Counting(counter, self._request or {})
        self._sse = SseParser(max_event)
        self._reader: Reader | None = None
        self._bytes = 0
        self._error: str | None = None
        self._faults: list[str] = []
        self._more = 0
        self._told = 0
        self._result: StreamResult | None = None
        if request is not None and self._request is None:
            self._fault(f"a request of type {type(request).__name__} is no JSON object; it is not used")

    def feed(self, piece: object) -> None:
        """The next piece: bytes or text of server-sent events, cut anywhere; or one event as dict or SDK object.

        It never raises: what cannot be read is remembered in :attr:`faults`.
        """
        self._result = None
        if isinstance(piece, str):
            piece = piece.encode("utf-8", "surrogatepass")
        if isinstance(piece, bytes | bytearray | memoryview):
            self._bytes += len(piece)
            for whole in self._sse.feed(bytes(piece)):
                self._frame(whole)
            for _ in range(self._sse.take_oversize()):
                self._fault("an event was too large, and was passed over")
            return
        try:
            frame = framed(piece)
            event = as_event(piece) if frame is None else None
        except Exception as error:  # whatever an SDK's object does when it is asked
            what = type(piece).__name__
            self._fault(f"an object of type {what} could not be read: {type(error).__name__}: {quoted(str(error))}")
            return
        if frame is None:
            self._event(event, "", type(piece).__name__)
        else:
            self._frame(frame)

    @property
    def done(self) -> bool:
        """Whether the usage that counts has come. Then the result is no estimate."""
        self._flush()
        return self._reader is not None and self._reader.done

    @property
    def family(self) -> str | None:
        """What the events are: ``chat``, ``responses``, ``anthropic``, ``gemini``, ``bedrock``; ``None`` if unknown."""
        return self._reader.family if self._reader else None

    @property
    def faults(self) -> tuple[str, ...]:
        """What was strange about the stream, the first of it in words."""
        more = (f"... and {self._more} more",) if self._more else ()
        return (*self._faults, *more)

    def result(self) -> StreamResult:
        """What was used so far. It may be asked at any time, any number of times, and never raises."""
        self._flush()
        if self._result is None:
            reader = self._reader
            self._result = self._reported(reader) if reader is not None and reader.done else self._estimate()
        return self._result

    def _reported(self, reader: Reader) -> StreamResult:
        body = reader.body()
        try:
            body = reported(body)
            usage = Usage.from_response(body)
        except BillingError as error:
            return StreamResult(body, False, None, (*self.faults, error.message), refused=error)
        # Another gateway may be the provider, and may have estimated.
        reason = "the provider marks its own usage as an estimate" if usage.estimated else None
        return StreamResult(body, usage.estimated, reason, self.faults, _usage=usage)

    def _estimate(self) -> StreamResult:
        made = estimated(self._reader, self._request, self._counting)
        reason = "; ".join(dict.fromkeys((self._why(), *made.notes)))
        answered = bool(made.usage.output_tokens) or (self._reader is not None and self._reader.usage is not None)
        faults = (*self.faults, *made.faults)
        if self._bytes and not self._told:
            faults += (f"{self._bytes} bytes came without an event; feed them decompressed, with their line ends",)
        return StreamResult(made.body, True, reason, faults, answered, _usage=made.usage)

    def _why(self) -> str:
        if self._error is not None:
            return f"the provider broke the stream off with an error: {self._error}"
        if self._reader is None:
            return "no event of a known kind came" if self._bytes or self._told else "nothing came"
        if not self._reader.ended:
            return "the stream was cut off, or has not ended yet"
        if self._reader.family == "chat" and self._request is not None and not _asks(self._request):
            return "the stream ended without usage, and the request did not ask for it (stream_options.include_usage)"
        return "the stream ended without usage"

    def _frame(self, event: Event) -> None:
        data = event.data.strip()
        self._told += 1
        if data == DONE:
            if self._reader is not None:
                self._reader.end()
            return
        try:
            value = parsed(data)
        except (ValueError, RecursionError):
            self._fault(f"an event is not JSON: {quoted(data[:60].decode('utf-8', 'replace'))}")
            return
        self._event(value, event.name, type(value).__name__)

    def _event(self, event: Any, name: str, what: str) -> None:
        self._told += 1
        if not isinstance(event, dict):
            self._fault(f"an event of type {what} is no JSON object")
            return
        try:
            self._read(event, name)
        except Exception as error:  # a gateway forwards whatever comes; its stream must not end here
            self._fault(f"an event could not be read: {type(error).__name__}: {quoted(str(error))}")
        if self._reader is not None:
            self._settle(self._reader)

    def _read(self, event: dict[str, Any], name: str) -> None:
        error = error_of(event, name)
        if error is not None:
            self._error = quoted(error)
            self._fault(f"the provider reports an error: {self._error}")
        kind = family(event, name)
        reader = self._reader
        if reader is None and kind is not None:
            reader = self._reader = kind(Tally(self._counting.text), self._request or {})
        if reader is None or (kind is not None and not isinstance(reader, kind)):
            if error is None and (event.get("type") or name) != "ping":
                where = f"in a stream of {reader.family}" if reader else "before any that is known"
                self._fault(f"an event with the keys {quoted(list(event)[:8])} came {where}")
            return
        reader.read(event, name)

    def _settle(self, reader: Reader) -> None:
        """What is to be done after each event, whether it could be read or not."""
        for fault in reader.faults:
            self._fault(fault)
        reader.faults.clear()
        self._counting.served = reader.model
        if reader.done:
            reader.settle()

    def _flush(self) -> None:
        """A stream may end without the blank line that ends its last event."""
        event = self._sse.flush()
        if event is not None:
            self._result = None
            self._frame(event)

    def _fault(self, text: str) -> None:
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(text)
        else:
            self._more += 1


def _asks(request: Mapping[str, Any]) -> bool:
    options = request.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True
