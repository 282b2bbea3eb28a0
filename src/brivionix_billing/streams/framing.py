"""Splits the bytes of a stream into events: server-sent events, a JSON list, or Amazon's binary frames.

The first bytes decide which, not a content type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from brivionix_billing.streams.aws_frames import AwsFrames
from brivionix_billing.streams.json_list import JsonList
from brivionix_billing.streams.sse import BOM, MAX_EVENT_BYTES, SseEvent, SseParser

__all__ = ["Framing"]


class Framing:
    """Turns pieces of bytes, cut anywhere, into events."""

    __slots__ = ("_frames", "_has_begun", "_list", "_max_event_bytes", "_sse")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._sse = SseParser(max_event_bytes)
        self._list: JsonList | None = None
        self._frames: AwsFrames | None = None
        self._has_begun = False  # whether anything but white space arrived

    @property
    def is_one_value(self) -> bool:
        """Whether all that arrived is one JSON value: a response in place of a stream."""
        return self._sse.is_one_value if self._list is None else self._list.is_one_value

    @property
    def is_broken(self) -> bool:
        """Whether a binary frame was invalid. What follows it cannot be read."""
        return self._frames is not None and self._frames.is_broken

    @property
    def has_unread_bytes(self) -> bool:
        """Whether bytes arrived that are no event, or no whole one."""
        if self._frames is not None:
            return bool(self._frames.unfinished_bytes)
        if self._list is not None:
            return bool(self._list.unfinished_bytes or self._list.foreign)
        return bool(self._sse.foreign_bytes or self._sse.unfinished_bytes)

    def feed(self, data: bytes) -> Iterable[SseEvent | dict[str, Any]]:
        """Return the events that ``data`` completes: texts to parse, or those of frames. An invalid frame is empty."""
        if not self._has_begun:
            data = self._begin(data)
        if self._frames is not None:
            return self._frames.feed(data)
        if self._list is not None:
            return [SseEvent("", value) for value in self._list.feed(data)]
        return self._sse.feed(data)

    def _begin(self, data: bytes) -> bytes:
        """Choose the parser by the first bytes. Returns those that it reads."""
        begin = data.removeprefix(BOM).lstrip()
        self._has_begun = bool(begin)
        if begin.startswith(b"["):
            self._list = JsonList(self._max_event_bytes)
            return begin
        if data.startswith(b"\0"):  # no text begins so
            self._frames = AwsFrames(self._max_event_bytes)
        return data

    def pop_oversize_count(self) -> int:
        """Return the number of events that were too large since the last call. They are skipped."""
        return self._sse.pop_oversize_count() if self._list is None else self._list.pop_oversize_count()

    def flush(self, *, if_cheap: bool = False) -> SseEvent | None:
        """Return a last event without the blank line that ends it: see :meth:`SseParser.flush`."""
        return self._sse.flush(if_cheap=if_cheap)
