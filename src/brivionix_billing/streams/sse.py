"""Parses server-sent events from bytes in pieces of any size.

The rules are those of the WHATWG HTML standard, section "Server-sent events". A line ends with CR, LF or CRLF. A line
that starts with a colon is a comment. Several data lines of one event are joined by line feeds. A blank line ends the
event. Only the data and the name of an event matter here.

Providers break the standard in two ways, and both are read. Some end an event with one line end instead of two: a line
of data that is a whole JSON object, followed by another one, is an event of its own. Others send JSON without any
framing, one value per line or one value over many lines (a whole response): a line that begins with a bracket begins
such a value. A stream that is a list is read by :mod:`brivionix_billing.streams.json_list`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic_core import from_json

__all__ = ["BOM", "DONE", "MAX_EVENT_BYTES", "SseEvent", "SseParser"]

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of an event, in bytes. Larger ones are skipped, so that an endless event cannot fill the memory. The
largest real ones contain an image or repeat the whole response."""

DONE: Final = b"[DONE]"
"""Data of the last event of OpenAI and OpenAI-compatible providers, in place of JSON."""

_SMALL_EVENT_BYTES: Final = 4096
"""Size up to which an unfinished event is always examined, in bytes."""
BOM: Final = b"\xef\xbb\xbf"
"""Byte order mark of UTF-8, which may precede a stream."""


class SseEvent(NamedTuple):
    """One event: its name and its data."""

    name: str
    data: bytes


class SseParser:
    r"""Turns pieces of bytes into whole events.

    >>> parser = SseParser()
    >>> parser.feed(b"event: gre")
    []
    >>> parser.feed(b"eting\r\ndata: hel")
    []
    >>> parser.feed(b"lo\r\n\r\n: a comment\n\n")
    [SseEvent(name='greeting', data=b'hello')]
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_foreign_bytes",
        "_head",
        "_max_event_bytes",
        "_name",
        "_next_name",
        "_oversize",
        "_partial_line",
        "_partial_size",
        "_raw",
        "_raw_events",
        "_size",
        "_skipping",
        "_tried_size",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._partial_line: list[bytes] = []  # the unfinished line, in pieces
        self._partial_size = 0
        self._data: list[bytes] = []
        self._size = 0  # bytes of the lines of this event
        self._name = ""
        self._next_name: str | None = None  # the name of the next event, if it arrived after the data of this one
        self._raw = False  # whether the data of this event is JSON without framing
        self._raw_events = 0
        self._foreign_bytes = 0
        self._after_cr = False
        self._skipping = False  # whether the rest of this event is skipped
        self._head: bytes | None = b""  # the first bytes, until a byte order mark is recognised or excluded
        self._oversize = 0
        self._tried_size = 0  # size of the unfinished event when its JSON was last parsed

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Return the events that ``piece`` completes."""
        if self._head is not None:
            piece = self._head + piece
            if len(piece) < len(BOM) and BOM.startswith(piece):
                self._head = piece
                return []
            self._head = None
            piece = piece.removeprefix(BOM)
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]  # the second half of a CRLF
            self._after_cr = False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        events: list[SseEvent] = []
        for line in piece.splitlines(keepends=True):
            if line.endswith((b"\n", b"\r")):
                self._end_line(line.rstrip(b"\r\n"), events)
            else:
                self._partial_size += len(line)
                if self._within_limit(self._partial_size):
                    self._partial_line.append(line)
        return events

    @property
    def foreign_bytes(self) -> int:
        """Bytes of lines that are neither an event nor JSON: of a stream in another format."""
        return self._foreign_bytes + (self._partial_size if self._is_foreign_part() else 0)

    @property
    def is_one_value(self) -> bool:
        """Whether all that arrived is one JSON value without framing: a response in place of a stream."""
        return self._raw_events == 1

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of an event or of a JSON value without framing that is not whole: of a stream that was cut."""
        if self._skipping:
            return 0
        head = b"".join(self._partial_line[:8])[:32].lstrip() if self._partial_line else b""
        field, value = _split_field(head)
        has_data = bool(self._data) or head.startswith((b"{", b"[")) or (field == b"data" and bool(value.strip()))
        return self._size + self._partial_size if self._raw or has_data else 0

    def _is_foreign_part(self) -> bool:
        head = self._partial_line[0][:1] if self._partial_line else b""
        return bool(head) and head not in b":deir {["

    def pop_oversize_count(self) -> int:
        """Return the number of skipped oversize events since the last call."""
        count, self._oversize = self._oversize, 0
        return count

    def flush(self, *, if_cheap: bool = False) -> SseEvent | None:
        """Return the last event if its JSON is complete and only its line ends are missing.

        It is returned once; line ends that arrive later end no event. Joining a large event is expensive. With
        ``if_cheap``, for a caller that asks after every piece, it is joined only after its size has doubled.
        """
        pieces = (piece.rstrip() for piece in reversed(self._partial_line or self._data))
        last = next((piece[-1:] for piece in pieces if piece), b"")
        if self._skipping or last not in (b"}", b"]"):
            return None  # the most frequent case; an unfinished large event is not joined on every call
        size = self._size + self._partial_size
        if if_cheap and size > _SMALL_EVENT_BYTES and size < 2 * self._tried_size:
            return None
        self._tried_size = size
        lines = list(self._data)
        is_raw = self._raw
        if self._partial_line:
            line = b"".join(self._partial_line)
            field, value = _split_field(line)
            if self._raw or (not lines and line.lstrip().startswith((b"{", b"["))):
                value, is_raw = line, True
            elif field != b"data":
                return None
            lines.append(value)
        data = b"\n".join(lines).strip()
        if data != DONE:
            try:
                is_whole = isinstance(from_json(data), dict | list)
            except ValueError:
                is_whole = False
            if not is_whole:
                return None
        self._skipping = True
        self._raw_events += is_raw
        return SseEvent(self._name, data)

    def _within_limit(self, line_size: int) -> bool:
        """Return whether the event is within the limit. The result must not depend on where the bytes are cut."""
        if self._size + line_size > self._max_event_bytes and not self._skipping:
            self._skipping = True
            self._oversize += 1
        if self._skipping:
            self._partial_line.clear()  # the size alone shows that the line is not blank
            self._data.clear()
        return not self._skipping

    def _end_line(self, tail: bytes, events: list[SseEvent]) -> None:
        line = tail
        if self._partial_size:
            self._partial_size += len(tail)
            if self._within_limit(self._partial_size):
                line = b"".join((*self._partial_line, tail))
            self._partial_line, size = [], self._partial_size
            self._partial_size = 0
        else:
            size = len(line)
            self._within_limit(size)
        if not size:
            if not self._raw:
                name, self._next_name = self._next_name, None
                self._end_event(events, self._name if name is None else name)
        elif not self._skipping:
            self._read_line(line, size, events)

    def _read_line(self, line: bytes, size: int, events: list[SseEvent]) -> None:
        if self._raw or (not self._data and line.lstrip().startswith((b"{", b"["))):
            self._read_raw(line, size, events)
            return
        field, value = _split_field(line)
        if field == b"data":
            if self._data and _begins_event(value) and _is_whole(self._data[0]) and len(self._data) == 1:
                self._end_event(events, self._name)  # one line end in place of two
            self._data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
            if self._data:
                self._next_name = name
            else:
                self._name = name
        elif field not in (b"", b"id", b"retry"):
            self._foreign_bytes += size
        self._size += size

    def _read_raw(self, line: bytes, size: int, events: list[SseEvent]) -> None:
        """Read a line of JSON without framing. It is parsed when it may be whole, each time at twice the size."""
        self._raw = True
        self._size += size
        self._data.append(line)
        if line.rstrip().endswith((b"}", b"]")) and self._size >= 2 * self._tried_size:
            self._tried_size = self._size
            data = b"\n".join(self._data)
            try:
                from_json(data)
            except ValueError:
                return
            self._end_event(events, self._name)

    def _end_event(self, events: list[SseEvent], name: str) -> None:
        data = b"\n".join(self._data)
        if data and not self._skipping:
            events.append(SseEvent(name, data))
            self._raw_events += self._raw
        self._name, self._next_name = self._next_name or "", None
        self._data, self._size, self._skipping, self._raw = [], 0, False, False
        self._tried_size = 0


def _begins_event(value: bytes) -> bool:
    return value.startswith(b"{") or value.strip() == DONE


def _is_whole(data: bytes) -> bool:
    """Return whether a line of data is a JSON object of its own."""
    if not (data.startswith(b"{") and data.rstrip().endswith(b"}")):
        return False
    try:
        from_json(data)
    except ValueError:
        return False
    return True


def _split_field(line: bytes) -> tuple[bytes, bytes]:
    """Return the name and value of a line. A comment has an empty name."""
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")
