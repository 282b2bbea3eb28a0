"""Server-sent events, read from bytes in whatever pieces they arrive.

The rules are those of the WHATWG HTML standard, section "Server-sent events": a line ends with CR, LF or CRLF, a line
that begins with a colon is a comment, several data lines of one event are joined by line feeds, a blank line ends the
event. Only data and the event's name matter here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic_core import from_json

__all__ = ["DONE", "MAX_EVENT_BYTES", "SseEvent", "SseParser"]

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""A larger event is passed over: what never ends must not fill the memory. The largest that providers send hold a
picture, or repeat the whole response."""

DONE: Final = b"[DONE]"
"""What OpenAI and its kin send as the last event, in place of JSON."""

_SMALL_EVENT_BYTES: Final = 4096
"""An unfinished event up to this size is looked at whenever somebody asks for it."""
_BOM: Final = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event: the name it was given, and its data."""

    name: str
    data: bytes


class SseParser:
    r"""Pieces of bytes in, whole events out.

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
        "_head",
        "_max_event_bytes",
        "_name",
        "_oversize",
        "_partial_line",
        "_partial_size",
        "_size",
        "_skipping",
        "_tried_size",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._partial_line: list[bytes] = []  # the line that has not ended yet, in the pieces that came
        self._partial_size = 0
        self._data: list[bytes] = []
        self._size = 0  # of the lines of this event
        self._name = ""
        self._after_cr = False
        self._skipping = False  # whether the rest of this event is passed over
        self._head: bytes | None = b""  # the first bytes, until they are known to be a byte order mark or not
        self._oversize = 0
        self._tried_size = 0  # how large the unfinished event was when its JSON was last looked for

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that ``piece`` completes."""
        if self._head is not None:
            piece = self._head + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._head = piece
                return []
            self._head = None
            piece = piece.removeprefix(_BOM)
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

    def pop_oversize_count(self) -> int:
        """How many events were larger than the limit and were passed over, since this was asked last."""
        count, self._oversize = self._oversize, 0
        return count

    def flush(self, *, if_cheap: bool = False) -> SseEvent | None:
        """The event in which the bytes break off, if all of its JSON is there and only its line ends are missing.

        It is given once; should the line ends still come, they end nothing. To put a large event together takes time:
        who is in a ``hurry``, because he asks at every piece, gets it only if it has doubled since it was tried.
        """
        pieces = (piece.rstrip() for piece in reversed(self._partial_line or self._data))
        last = next((piece[-1:] for piece in pieces if piece), b"")
        if self._skipping or last not in (b"}", b"]"):
            return None  # most often; a large event that is still coming must not be put together at every question
        size = self._size + self._partial_size
        if if_cheap and size > _SMALL_EVENT_BYTES and size < 2 * self._tried_size:
            return None
        self._tried_size = size
        lines = list(self._data)
        if self._partial_line:
            field, value = _split_field(b"".join(self._partial_line))
            if field != b"data":
                return None
            lines.append(value)
        data = b"\n".join(lines).strip()
        if data != DONE:
            try:
                is_object = isinstance(from_json(data), dict)
            except ValueError:
                is_object = False
            if not is_object:
                return None
        self._skipping = True
        return SseEvent(self._name, data)

    def _within_limit(self, line_size: int) -> bool:
        """Whether the event is still within the limit. It must not depend on how the bytes were cut into pieces."""
        if self._size + line_size > self._max_event_bytes and not self._skipping:
            self._skipping = True
            self._oversize += 1
        if self._skipping:
            self._partial_line.clear()  # the size alone says that the line is not blank
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
            data = b"\n".join(self._data)
            if data and not self._skipping:
                events.append(SseEvent(self._name, data))
            self._data, self._size, self._name, self._skipping = [], 0, "", False
            self._tried_size = 0
        elif not self._skipping:
            self._size += size
            field, value = _split_field(line)
            if field == b"data":
                self._data.append(value)
            elif field == b"event":
                self._name = value.decode("utf-8", "replace")


def _split_field(line: bytes) -> tuple[bytes, bytes]:
    """Name and value of a line. A comment has the empty name."""
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")
