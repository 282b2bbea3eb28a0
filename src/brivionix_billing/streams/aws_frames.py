"""Parses the binary frames of Amazon's event streams (``application/vnd.amazon.eventstream``), as Bedrock sends them.

A frame is its length and the length of its headers (4 bytes each, big-endian), a CRC-32 of these 8 bytes, headers, a
payload, and a CRC-32 of everything before. A header is the length of its name, the name, a type and a value. The header
``:event-type`` names the event, ``:exception-type`` an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from
from typing import Any, Final
from zlib import crc32

from pydantic_core import from_json

__all__ = ["AwsFrames"]

_PRELUDE_SIZE: Final = 12
_MIN_SIZE: Final = 16
_VALUE_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Type of a header -> the size of its value. Types 6 and 7 (bytes and text) begin with their size."""
_TEXT_TYPE: Final = 7
_SIZED_TYPES: Final = (6, _TEXT_TYPE)


class AwsFrames:
    """Turns pieces of bytes, cut anywhere, into events as boto3 returns them."""

    __slots__ = ("_buffer", "_max_event_bytes", "is_broken")

    def __init__(self, max_event_bytes: int) -> None:
        self._buffer = bytearray()
        self._max_event_bytes = max_event_bytes
        self.is_broken = False
        """Whether a frame had a wrong checksum or size. What follows cannot be read."""

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of a frame that is not whole: of a stream that was cut."""
        return len(self._buffer)

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """Yield the events that ``piece`` completes. The event of an invalid frame is empty."""
        if self.is_broken:
            return
        self._buffer += piece
        while len(self._buffer) >= _PRELUDE_SIZE and not self.is_broken:
            size, headers_size, checksum = unpack_from(">III", self._buffer)
            is_valid = _MIN_SIZE + headers_size <= size <= self._max_event_bytes + _MIN_SIZE
            if checksum != crc32(self._buffer[:8]) or not is_valid:
                self._give_up()
            elif len(self._buffer) < size:
                return
            elif unpack_from(">I", self._buffer, size - 4)[0] != crc32(self._buffer[: size - 4]):
                self._give_up()
            else:
                frame = bytes(self._buffer[:size])
                del self._buffer[:size]
                try:
                    event = _read_frame(frame, _PRELUDE_SIZE + headers_size)
                except (ValueError, LookupError):
                    event = {}
                yield event

    def _give_up(self) -> None:
        self.is_broken = True
        self._buffer.clear()


def _read_frame(frame: bytes, start: int) -> dict[str, Any]:
    """Return the event of a frame whose payload begins at ``start``."""
    payload = frame[start:-4]
    value = from_json(payload) if payload.strip() else {}
    headers = dict(_headers(frame[_PRELUDE_SIZE:start]))
    if ":exception-type" in headers or headers.get(":message-type") == "error":
        name = headers.get(":exception-type") or headers.get(":error-code") or "error"
        return {name if name.endswith("Exception") else f"{name}Exception": value}
    name = headers.get(":event-type", "")
    if isinstance(value, dict) and ("bytes" in value or not name):
        return value
    return {name: value}


def _headers(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the headers that are texts."""
    position = 0
    while position < len(data):
        name_end = position + 1 + data[position]
        name, kind = data[position + 1 : name_end].decode("utf-8", "replace"), data[name_end]
        position = name_end + 1
        if kind in _SIZED_TYPES:
            size = int.from_bytes(data[position : position + 2], "big")
            position += 2
        else:
            size = _VALUE_SIZES[kind]
        if kind == _TEXT_TYPE:
            yield name, data[position : position + size].decode("utf-8", "replace")
        position += size
