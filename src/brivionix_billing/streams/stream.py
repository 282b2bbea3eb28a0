"""Reads one stream, from its first piece to the body of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.meters import METERS
from brivionix_billing.streams.estimate import estimate_usage
from brivionix_billing.streams.events import (
    bare_error,
    event_error,
    inner_events,
    parse_event_json,
    reader_for_event,
    to_plain_event,
    to_sse_event,
)
from brivionix_billing.streams.fallback_counter import BYTES_PER_TOKEN, CounterProtocol, FallbackCounter, output_limit
from brivionix_billing.streams.framing import Framing
from brivionix_billing.streams.reader import StreamReader, describe_error
from brivionix_billing.streams.readers.other import OtherReader
from brivionix_billing.streams.sse import DONE, MAX_EVENT_BYTES, SseEvent
from brivionix_billing.streams.text_buffer import TextBuffer
from brivionix_billing.usage import MAX_COUNT, Conventions, Usage, billable_body

__all__ = ["StreamResult", "StreamUsage"]

_MAX_WARNINGS: Final = 20


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The usage of a stream, as far as it is known."""

    body: dict[str, Any]
    """The value of ``usage`` in the record. ``Usage.from_response(body)`` is :attr:`usage`."""
    estimated: bool
    """Whether the counts are an estimate because the provider's usage is missing. The body and the usage are marked
    too."""
    reason: str | None
    """Why the usage is an estimate and how it was made; ``None`` if it is none."""
    warnings: tuple[str, ...] = ()
    """Warnings about the stream."""
    answered: bool = True
    """Whether the provider had started to answer. If not, it rejected the request, failed or was not reached: bill
    nothing."""
    usage_error: BillingError | None = None
    """The error of a reported usage that cannot be billed. The body contains that usage."""
    unreadable: bool = False
    """Whether something arrived of which nothing could be read. The usage is a rough estimate from the number of bytes.
    The provider may bill it, so it is never "nothing to bill": charge the hold, the estimate, or by hand."""
    _usage: Usage | None = field(default=None, repr=False)

    @property
    def state(self) -> str:
        """``reported``, ``estimated`` or ``unreadable``."""
        return "unreadable" if self.unreadable else "estimated" if self.estimated else "reported"

    @property
    def usage(self) -> Usage:
        """The usage. Raises :attr:`usage_error` if the reported usage cannot be billed."""
        if self._usage is None:
            raise self.usage_error or BillingError("unknown_usage_format", "no usage")
        return self._usage


class StreamUsage:
    r"""Reads a stream while it is forwarded and reports its usage at any time.

    ``request`` is the body that was sent, for the input of an estimate. ``counter`` is a token counter with the methods
    of ``brivionix_billing.tokens.TokenCounter``. Neither is used unless an estimate is needed. ``input_count`` is the
    input of the request if it was counted before, such as a ``TokenCount``; then the request may lack its content.
    ``conventions`` are those of the upstream: see :meth:`brivionix_billing.Usage.from_response`.

    >>> stream = StreamUsage()
    >>> stream.feed('data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n')
    >>> stream.feed('data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\n')
    >>> stream.done, stream.result().usage
    (True, Usage(input_tokens=9, output_tokens=1))
    """

    __slots__ = (
        "_byte_count",
        "_conventions",
        "_counter",
        "_error",
        "_event_count",
        "_framing",
        "_further_warnings",
        "_input_count",
        "_reader",
        "_readers",
        "_request",
        "_result",
        "_unknown_size",
        "_warnings",
    )

    def __init__(
        self,
        request: Mapping[str, Any] | None = None,
        counter: CounterProtocol | None = None,
        *,
        max_event_bytes: int = MAX_EVENT_BYTES,
        conventions: Conventions | None = None,
        input_count: int | None = None,
    ) -> None:
        self._conventions = conventions
        self._input_count = input_count
        detail = ""
        try:
            # Only the methods of a plain dict are known not to raise.
            self._request = (
                request if type(request) is dict else dict(request) if isinstance(request, Mapping) else None
            )
        except Exception as error:
            self._request, detail = None, f" ({describe_error(error)})"
        self._counter = FallbackCounter(counter, self._request or {})
        self._framing = Framing(max_event_bytes)
        self._readers: dict[type[StreamReader], StreamReader] = {}
        self._reader: StreamReader | None = None
        self._byte_count = 0
        self._error: str | None = None
        self._warnings: list[str] = []
        self._further_warnings = 0
        self._event_count = 0
        self._unknown_size = 0  # characters of events that could not be read
        self._result: StreamResult | None = None
        if request is not None and self._request is None:
            self._warn(f"a request of type {type(request).__name__} is not a JSON object and is ignored{detail}")

    def feed(self, piece: object) -> None:
        """Read the next piece: bytes or text of server-sent events, cut anywhere, or one event as dict or SDK object.

        Never raises. Unreadable pieces become :attr:`warnings`.
        """
        self._result = None
        try:
            self._feed(piece)
        except Exception as error:  # an object of the caller may raise anything; the stream of a gateway must continue
            self._warn(f"an object of type {type(piece).__name__} could not be read: {describe_error(error)}")

    @property
    def done(self) -> bool:
        """Whether the final usage has arrived. Then the result is no estimate, unless its zeros contradict the text."""
        try:
            self._flush(if_cheap=True)
        except Exception as error:
            self._warn(f"an event could not be read: {describe_error(error)}")
        return self._reader is not None and self._reader.done

    @property
    def failed(self) -> bool:
        """Whether the provider reported an error. Without an answer before it, there is nothing to bill."""
        return self._error is not None or (self._reader is not None and self._reader.failed)

    @property
    def api(self) -> str | None:
        """API of the events: ``chat``, ``responses``, ``anthropic``, ``gemini``, ``bedrock`` or ``other``.

        ``other`` are events that were read by what they contain; ``None``: no event was understood.
        """
        return self._reader.api if self._reader else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the stream: the first ones as text, then the number of the others."""
        further = (f"... and {self._further_warnings} more",) if self._further_warnings else ()
        return (*self._warnings, *further)

    def result(self) -> StreamResult:
        """Return the usage so far. Can be called at any time, repeatedly, and never raises."""
        try:
            self._flush()
        except Exception as error:
            self._warn(f"an event could not be read: {describe_error(error)}")
        if self._reader is not None and self._framing.is_one_value and self._event_count <= 2:
            self._reader.end()  # a whole response in place of a stream
        if self._result is None:
            self._result = self._build_result()
        return self._result

    def _build_result(self) -> StreamResult:
        reader = self._reader
        try:
            if reader is not None and reader.done:
                return self._reported(reader)
        except Exception as error:
            self._warn(f"the usage could not be read: {describe_error(error)}")
        try:
            return self._estimate()
        except Exception as error:
            self._warn(f"no estimate could be made: {describe_error(error)}")
            usage = Usage(0, 0, estimated=True)
            body = {"usage": {"input_tokens": 0, "output_tokens": 0, "estimated": True}}
            return StreamResult(
                body, True, "no estimate could be made", self.warnings, True, unreadable=True, _usage=usage
            )

    def _feed(self, piece: object) -> None:
        data = None
        if isinstance(piece, str):
            data = str.encode(piece, "utf-8", "surrogatepass")
        elif type(piece) is bytes:
            data = piece
        elif isinstance(piece, bytes | bytearray | memoryview):
            data = memoryview(piece).tobytes()
        if data is not None:
            self._feed_bytes(data)
            return
        frame = to_sse_event(piece)
        if frame is None:
            self._handle_event(to_plain_event(piece), "", type(piece).__name__)
        else:
            self._handle_frame(frame)

    def _feed_bytes(self, data: bytes) -> None:
        self._byte_count += len(data)
        for event in self._framing.feed(data):
            if isinstance(event, SseEvent):
                self._handle_frame(event)
            elif event:
                self._handle_event(event, "", "frame")
            else:
                self._unknown_size += 1
                self._warn("a binary frame has no JSON object")
        for _ in range(self._framing.pop_oversize_count()):
            self._unknown_size += 1
            self._warn("an event was too large and was skipped")
        if self._framing.is_broken:
            self._unknown_size = max(self._unknown_size, self._byte_count)
            self._warn("a binary frame has a wrong checksum or size; what follows it is not read")

    def _reported(self, reader: StreamReader) -> StreamResult:
        body = reader.body()
        try:
            body = billable_body(body)
            usage = Usage.from_response(body, conventions=self._conventions)
        except BillingError as error:
            return StreamResult(body, False, None, (*self.warnings, error.message), usage_error=error)
        missing = self._contradicted_counts(reader, usage)
        if missing:
            return self._estimate(f"the provider reported {missing}, although text arrived")
        self._check_limit(reader, usage)
        # The provider may be a gateway that estimates.
        reason = "the provider marks its usage as an estimate" if usage.estimated else None
        return StreamResult(body, usage.estimated, reason, self.warnings, _usage=usage)

    def _contradicted_counts(self, reader: StreamReader, usage: Usage) -> str | None:
        """Return which counts are 0 although text arrived; ``None`` if none is."""
        if reader.text_buffer.empty and not reader.tool_calls and not reader.has_discarded_text:
            return None
        zeros = [name for name, count in (("input", usage.input_tokens), ("output", usage.output_tokens)) if not count]
        if not zeros or any(name not in ("input", "cache_read", "output") for name in usage.meters):
            return None  # seconds or images may be billed in place of tokens
        return f"no {' and no '.join(zeros)} tokens"

    def _check_limit(self, reader: StreamReader, usage: Usage) -> None:
        """Warn of more output than the request allowed."""
        try:
            limit = None if self._request is None else output_limit(self._request, reader.api)
        except Exception:  # an object of the caller may raise anything
            return
        if limit is not None and usage.output_tokens > limit:
            self._warn(f"the provider reports {usage.output_tokens} output tokens; the request allowed {limit}")

    def _unreadable(self) -> StreamResult:
        """Return the result of a stream of which nothing could be read: an estimate from its size."""
        size = max(self._byte_count, self._unknown_size)
        estimate = estimate_usage(None, self._request, self._counter, self._input_count)
        body = {
            "usage": {
                "input_tokens": estimate.usage.input_tokens,
                "output_tokens": min(-(-size // BYTES_PER_TOKEN), MAX_COUNT),
                "estimated": True,
            }
        }
        reason = f"{size} bytes arrived, none of which could be read: one output token per {BYTES_PER_TOKEN} bytes"
        reason = "; ".join((reason, *estimate.notes))
        warnings = (*self.warnings, f"{size} bytes arrived without a known event; feed them decompressed")
        usage = Usage.from_response(body)
        return StreamResult(body, True, reason, warnings, True, unreadable=True, _usage=usage)

    def _estimate(self, why: str | None = None) -> StreamResult:
        has_foreign = self._unknown_size or self._framing.has_unread_bytes
        if self._reader is None and self._error is None and has_foreign:
            return self._unreadable()
        estimate = estimate_usage(self._reader, self._request, self._counter, self._input_count)
        reason = "; ".join(dict.fromkeys((why or self._estimate_reason(), *estimate.notes)))
        reader = self._reader
        # A text, a call or a search.
        has_output = any(name not in METERS or METERS[name].direction != "input" for name in estimate.usage.meters)
        has_usage = reader is not None and reader.usage is not None
        # A model that is still reasoning has shown nothing, and is billed.
        has_started = reader is not None and self._error is None and not reader.failed
        answered = has_output or has_usage or has_started
        warnings = (*self.warnings, *estimate.warnings)
        # Quantities were stated, and none of them could be read: that is not "nothing to bill".
        unreadable = reader is not None and (
            (reader.states_quantities and not estimate.usage.meters) or (reader.has_media and not has_output)
        )
        return StreamResult(
            estimate.body, True, reason, warnings, answered, unreadable=unreadable, _usage=estimate.usage
        )

    def _estimate_reason(self) -> str:
        if self._error is not None:
            return f"the provider ended the stream with an error: {self._error}"
        if self._reader is None:
            return "no known event arrived" if self._byte_count or self._event_count else "nothing arrived"
        if not self._reader.ended:
            return "the stream was interrupted or has not ended yet"
        if self._reader.api == "chat" and self._request is not None and not _requests_usage(self._request):
            return "the stream ended without usage, and the request did not set stream_options.include_usage"
        return "the stream ended without usage"

    def _handle_frame(self, event: SseEvent) -> None:
        data = event.data.strip()
        self._event_count += 1
        if data == DONE:
            if self._reader is not None:
                self._reader.end()
            return
        try:
            value, rest = parse_event_json(data)
        except (ValueError, RecursionError):
            self._unknown_size += len(data)
            self._warn(f"an event of {len(data)} bytes is not JSON")
            return
        if rest:
            self._warn(f"an event has {len(rest)} characters after its JSON, which are ignored")
        for each in value if isinstance(value, list) else [value]:  # Gemini sends a list of chunks without SSE
            self._handle_event(each, event.name, type(each).__name__)

    def _handle_event(self, event: Any, name: str, type_name: str) -> None:
        self._event_count += 1
        if not isinstance(event, dict):
            self._unknown_size += len(safe_repr(event, 1000))
            self._warn(f"an event of type {type_name} is not a JSON object")
            return
        try:
            for inner in inner_events(event):
                self._dispatch(inner, name)
        except Exception as error:  # a gateway forwards any event; its stream must continue
            self._warn(f"an event could not be read: {describe_error(error)}")
        if self._reader is not None:
            self._after_event(self._reader)

    def _dispatch(self, event: dict[str, Any], name: str) -> None:
        error = event_error(event, name)
        if error is None and self._reader is None:
            error = bare_error(event)
        if error is not None:
            self._error = safe_repr(error)
            self._warn(f"the provider reports an error: {self._error}")
        kind = reader_for_event(event, name)
        reader = self._reader
        if kind is OtherReader and reader is not None and not reader.is_empty:
            kind = type(reader)  # what it contains belongs to this stream
        is_replaced = kind is not None and isinstance(reader, OtherReader) and reader.usage is None
        if kind is not None and (reader is None or (not isinstance(reader, kind) and (reader.is_empty or is_replaced))):
            # An event that only resembles another API must not decide the API of a stream.
            reader = self._reader = self._readers.get(kind) or self._create_reader(kind)
        if reader is None or (kind is not None and not isinstance(reader, kind)):
            if error is None and (event.get("type") or name) != "ping":
                if reader is None:
                    self._unknown_size += len(safe_repr(event, 1000))
                where = f"in a stream of {reader.api}" if reader else "before any known event"
                self._warn(f"an event with the keys {safe_repr(list(event)[:8])} arrived {where}")
            return
        reader.read(event, name)

    def _create_reader(self, kind: type[StreamReader]) -> StreamReader:
        text_buffer = TextBuffer(self._counter.text)
        try:
            reader = kind(text_buffer, self._request or {})
        except Exception as error:
            self._warn(f"the request could not be read: {describe_error(error)}")
            reader = kind(text_buffer, {})
        self._readers[kind] = reader
        return reader

    def _after_event(self, reader: StreamReader) -> None:
        """Collect warnings after each event, readable or not, and discard text that the usage covers."""
        for warning in reader.warnings:
            self._warn(warning)
        reader.warnings.clear()
        self._counter.served_model = reader.model
        if reader.done and reader.stated_output:
            reader.discard_text()

    def _flush(self, *, if_cheap: bool = False) -> None:
        """Handle a last event without the blank line that ends it."""
        event = self._framing.flush(if_cheap=if_cheap)
        if event is not None:
            self._result = None
            self._handle_frame(event)

    def _warn(self, text: str) -> None:
        if len(self._warnings) < _MAX_WARNINGS:
            self._warnings.append(escape_unprintable(text))  # keys of a provider
        else:
            self._further_warnings += 1


def _requests_usage(request: Mapping[str, Any]) -> bool:
    options = request.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True
