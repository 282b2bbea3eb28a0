"""Reads the objects of a JSON list from bytes in pieces of any size: Gemini's stream without SSE, and lists of chunks.

An object is returned when its last brace arrives, so a list that is cut keeps all objects before the cut.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["JsonList"]

_TOKEN: Final = re.compile(rb'["\\{}\[\]]')
"""Bytes that decide where an object of a list ends."""
_SPACE: Final = b" \t\r\n,"


class JsonList:
    r"""Turns pieces of bytes into the objects of a list.

    >>> objects = JsonList(1000)
    >>> objects.feed(b'[{"text": "}"}\n,{"a')
    [b'{"text": "}"}']
    >>> objects.feed(b'": [1]}]'), objects.is_one_value
    ([b'{"a": [1]}'], False)
    """

    __slots__ = ("_count", "_depth", "_in_text", "_is_escaped", "_max_bytes", "_oversize", "_parts", "_size", "foreign")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._depth = 0  # 1 within the list, more within an object of it
        self._in_text = self._is_escaped = False
        self._parts: list[bytes] = []  # the unfinished object
        self._size = 0
        self._count = self._oversize = 0
        self.foreign = 0
        """Bytes that are neither an object nor between two of them."""

    @property
    def is_one_value(self) -> bool:
        """Whether all that arrived is a list of one object: a response in place of a stream."""
        return self._count == 1 and self._depth == 0

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of an object that is not whole; the bracket of a list in which none has arrived."""
        return self._size if self._count else max(self._size, self._depth)

    def pop_oversize_count(self) -> int:
        """Return the number of skipped oversize objects since the last call."""
        count, self._oversize = self._oversize, 0
        return count

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the objects that ``piece`` completes."""
        objects: list[bytes] = []
        start = 0  # where the part of the current object begins in this piece
        position = 0
        if self._is_escaped and piece:
            self._is_escaped, position = False, 1
        while True:
            found = _TOKEN.search(piece, position)
            if self._depth <= 1:
                self.foreign += len(piece[position : found.start() if found else None].strip(_SPACE))
            if found is None:
                break
            position, token = found.end(), found[0]
            if self._in_text:
                if token == b"\\":
                    self._is_escaped = position == len(piece)
                    position += 1
                elif token == b'"':
                    self._in_text = False
            elif token == b'"':
                self._in_text = True
            elif token in b"{[":
                if self._depth == 1:
                    start = found.start()
                self._depth += 1
            elif token in b"}]":
                self._depth = max(self._depth - 1, 0)
                if self._depth == 1:
                    self._keep(piece[start:position])
                    self._end_object(objects)
                    start = position
        if self._depth > 1:
            self._keep(piece[start:])
        return objects

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_bytes:
            self._parts = []
        else:
            self._parts.append(part)

    def _end_object(self, objects: list[bytes]) -> None:
        if self._size > self._max_bytes:
            self._oversize += 1
        else:
            objects.append(b"".join(self._parts))
        self._count += 1
        self._parts, self._size = [], 0
