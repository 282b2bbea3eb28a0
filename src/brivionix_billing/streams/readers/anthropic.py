"""Reads events of Anthropic's Messages API.

``message_start`` reports the input and the tier. ``message_delta`` reports the output so far, and may repeat any other
count. Counts are cumulative: the larger one counts, and counts that a delta does not contain stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.streams.reader import StreamReader, arguments_text, content_text, index_or
from brivionix_billing.streams.text_buffer import TextBuffer

__all__ = ["EVENTS", "AnthropicReader"]

EVENTS: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
_HIDDEN_THINKING: Final = "thinking that the stream does not show, or shows as a summary"


class AnthropicReader(StreamReader):
    """Reads events such as ``message_start``."""

    api = "anthropic"

    def __init__(self, text_buffer: TextBuffer, request: Mapping[str, Any]) -> None:
        super().__init__(text_buffer, request)
        self._output_reported = False
        self._stopped = False  # whether a ``message_stop`` arrived
        self._search_count = 0

    @property
    def done(self) -> bool:
        return self.ended and self._output_reported

    @property
    def is_empty(self) -> bool:
        return super().is_empty and not self._search_count

    def read(self, event: dict[str, Any], name: str) -> None:
        """Read one event."""
        kind = event.get("type") or name
        if kind == "message_start":
            message = event.get("message")
            if isinstance(message, dict):
                if self._stopped:  # another message in the same stream
                    self._stopped = self.ended = self._output_reported = False
                    self._start_response()
                self._update_served(message)
                self._update_usage(message.get("usage"))
        elif kind == "content_block_start":
            self._read_block(event)
        elif kind == "content_block_delta":
            self._read_delta(event)
        elif kind == "message_delta":
            usage = event.get("usage")
            if self._update_usage(usage):
                self._replace_by_iterations(usage)
                self._output_reported = "output_tokens" in (self.usage or {})
            delta = event.get("delta")
            if isinstance(delta, dict) and delta.get("stop_reason") is not None:
                self.ended = True
        elif kind == "message_stop":
            self.ended = self._stopped = True

    def _replace_by_iterations(self, stated: Any) -> None:
        """Take the counts of an event as they are if it has an entry for each run of a model.

        The counts at the start are those before a compaction, which has an entry of its own.
        """
        if self.usage is not None and isinstance(stated, dict) and stated.get("iterations"):
            names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
            self.usage |= {name: stated[name] for name in names if type(stated.get(name)) is int}
            self.warnings.clear()

    def with_output(self, usage: dict[str, Any], output: int) -> dict[str, Any]:
        changed = super().with_output(usage, output)
        reported = changed.get("server_tool_use")
        searches = reported.get("web_search_requests") if isinstance(reported, dict) else None
        if self._search_count > (searches if type(searches) is int else 0):
            # The provider reports searches only at the end. Searches with a result were made.
            changed["server_tool_use"] = {"web_search_requests": self._search_count}
        return changed

    def _read_block(self, event: dict[str, Any]) -> None:
        block, index = event.get("content_block"), index_or(event.get("index"))
        if not isinstance(block, dict):
            return
        kind = block.get("type")
        if kind == "web_search_tool_result":
            self._search_count += 1
            self.uncounted.setdefault("the input that searches add")
        if kind in ("thinking", "redacted_thinking"):
            self.uncounted.setdefault(_HIDDEN_THINKING)
        self.text_buffer.add((index, "name"), content_text(block.get("name")))
        self.text_buffer.add((index, "text"), content_text(block.get("text")))
        self.text_buffer.add((index, "thinking"), content_text(block.get("thinking")))
        self.text_buffer.add((index, "input"), arguments_text(block.get("input")))

    def _read_delta(self, event: dict[str, Any]) -> None:
        delta, index = event.get("delta"), index_or(event.get("index"))
        if isinstance(delta, dict):
            self.text_buffer.add((index, "text"), content_text(delta.get("text")))
            self.text_buffer.add((index, "thinking"), content_text(delta.get("thinking")))
            self.text_buffer.add((index, "input"), arguments_text(delta.get("partial_json")))
