"""Reads events of Amazon Bedrock's ConverseStream, as boto3 returns them.

A key names the event, and its value is the event. The wire format is binary frames, not server-sent events, so the
events are fed as objects. The usage arrives once, in ``metadata``, after ``messageStop``. No event names the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.streams.reader import StreamReader, arguments_text, bounded_value, content_text, index_or
from brivionix_billing.streams.text_buffer import TextBuffer
from brivionix_billing.usage.response_context import reduce_trace

__all__ = ["EVENTS", "BedrockReader"]

EVENTS: Final = (
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
)
"""The events except ``metadata``, a name that other providers use as well."""


class BedrockReader(StreamReader):
    """Reads events such as ``{"contentBlockDelta": {...}}``."""

    api = "bedrock"
    count_keys = ("inputTokens", "outputTokens")

    def __init__(self, text_buffer: TextBuffer, request: Mapping[str, Any]) -> None:
        super().__init__(text_buffer, request)
        self._context: dict[str, Any] = {}

    @property
    def done(self) -> bool:
        return self.usage is not None

    def read(self, event: dict[str, Any], name: str) -> None:
        """Read one event."""
        metadata = event.get("metadata")
        if isinstance(metadata, dict):
            self.ended = True
            self._context = {
                key: bounded_value(metadata[key]) for key in ("serviceTier", "performanceConfig") if key in metadata
            }
            trace = reduce_trace(metadata.get("trace"))
            if trace:
                self._context["trace"] = trace
            self._update_usage(metadata.get("usage"))
        if "messageStop" in event:
            self.ended = True
        for key in ("contentBlockStart", "contentBlockDelta"):
            block = event.get(key)
            if isinstance(block, dict):
                self._read_block(index_or(block.get("contentBlockIndex")), block.get("start") or block.get("delta"))

    def build_body(self, usage: dict[str, Any], calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        return {"usage": usage, **self._context}

    def _read_block(self, index: Any, part: Any) -> None:
        if not isinstance(part, dict):
            return
        self.text_buffer.add((index, "text"), content_text(part.get("text")))
        tool, reasoning = part.get("toolUse"), part.get("reasoningContent")
        if isinstance(tool, dict):
            self.text_buffer.add((index, "name"), content_text(tool.get("name")))
            self.text_buffer.add((index, "input"), arguments_text(tool.get("input")))
        if isinstance(reasoning, dict):
            self.uncounted.setdefault("thinking that the stream does not show, or shows as a summary")
            self.text_buffer.add((index, "reasoning"), content_text(reasoning.get("text")))
