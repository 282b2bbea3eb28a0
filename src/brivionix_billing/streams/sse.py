"""Server-sent events, read from bytes in whatever pieces they arrive.

The rules are those of the WHATWG HTML standard, section "Server-sent events": a line ends with CR, LF or CRLF, a line
that begins with a colon is a comment, several data lines of one event are joined by line feeds, a blank line ends the
event. Only data and the event's name matter here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic_core import from_json

__all__ = ["DONE", "MAX_EVENT", "SseEvent", "SseParser"]

MAX_EVENT: Final = 16 * 1024 * 1024
"""A larger event is passed over: what never ends must not fill the memory. The largest that providers send hold a
picture, or repeat the whole response."""

DONE: Final = b"[DONE]"
"""What OpenAI and its kin send as the last event, in place of JSON."""

_SMALL: Final = 4096
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
        "_limit",
        "_name",
        "_oversize",
        "_part",
        "_part_size",
        "_size",
        "_skipping",
        "_tried",
    )

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._part: list[bytes] = []  # the line that has not ended yet, in the pieces that came
        self._part_size = 0
        self._data: list[bytes] = []
        self._size = 0  # of the lines of this event
        self._name = ""
        self._after_cr = False
        self._skipping = False  # whether the rest of this event is passed over
        self._head: bytes | None = b""  # the first bytes, until they are known to be a byte order mark or not
        self._oversize = 0
        self._tried = 0  # how large the unfinished event was when its JSON was last looked for

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
                self._part_size += len(line)
                if self._fits(self._part_size):
                    self._part.append(line)
        return events

    def pop_oversize_count(self) -> int:
        """How many events were larger than the limit and were passed over, since this was asked last."""
        found, self._oversize = self._oversize, 0
        return found

    def flush(self, *, hurry: bool = False) -> SseEvent | None:
        """The event in which the bytes break off, if all of its JSON is there and only its line ends are missing.

        It is given once; should the line ends still come, they end nothing. To put a large event together takes time:
        who is in a ``hurry``, because he asks at every piece, gets it only if it has doubled since it was tried.
        """
        pieces = (piece.rstrip() for piece in reversed(self._part or self._data))
        last = next((piece[-1:] for piece in pieces if piece), b"")
        if self._skipping or last not in (b"}", b"]"):
            return None  # most often; a large event that is still coming must not be put together at every question
        size = self._size + self._part_size
        if hurry and size > _SMALL and size < 2 * self._tried:
            return None
        self._tried = size
        lines = list(self._data)
        if self._part:
            field, value = _split_field(b"".join(self._part))
            if field != b"data":
                return None
            lines.append(value)
        data = b"\n".join(lines).strip()
        if data != DONE:
            try:
                whole = isinstance(from_json(data), dict)
            except ValueError:
                whole = False
            if not whole:
                return None
        self._skipping = True
        return SseEvent(self._name, data)

    def _fits(self, line_size: int) -> bool:
        """Whether the event is still within the limit. It must not depend on how the bytes were cut into pieces."""
        if self._size + line_size > self._limit and not self._skipping:
            self._skipping = True
            self._oversize += 1
        if self._skipping:
            self._part.clear()  # the size alone says that the line is not blank
            self._data.clear()
        return not self._skipping

    def _end_line(self, end: bytes, events: list[SseEvent]) -> None:
        line = end
        if self._part_size:
            self._part_size += len(end)
            if self._fits(self._part_size):
                line = b"".join((*self._part, end))
            self._part, size = [], self._part_size
            self._part_size = 0
        else:
            size = len(line)
            self._fits(size)
        if not size:
            data = b"\n".join(self._data)
            if data and not self._skipping:
                events.append(SseEvent(self._name, data))
            self._data, self._size, self._name, self._skipping = [], 0, "", False
            self._tried = 0
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
