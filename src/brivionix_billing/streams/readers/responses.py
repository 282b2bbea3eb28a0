"""Reads events of OpenAI's Responses API.

The terminal event repeats the whole response: its usage, the served tier and model, and the output items, including
searches with a fee. Before it, finished items are collected one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import safe_repr
from brivionix_billing.streams.reader import (
    MAX_NAMES,
    StreamReader,
    arguments_text,
    content_text,
    enumerate_objects,
    index_or,
)
from brivionix_billing.streams.text_buffer import TextBuffer
from brivionix_billing.usage.response_context import reduce_item, reduce_response, truncate_name
from brivionix_billing.usage.tool_calls import billable_item_type

__all__ = ["ResponsesReader"]

_TERMINAL: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)
_HIDDEN: Final = "reasoning that the stream does not show"
_SUMMARY: Final = "reasoning beyond its summary (the summary was counted in its place)"


class ResponsesReader(StreamReader):
    """Reads events whose type starts with ``response.``."""

    api = "responses"

    def __init__(self, text_buffer: TextBuffer, request: Mapping[str, Any]) -> None:
        super().__init__(text_buffer, request)
        self._items: dict[Any, dict[str, Any]] = {}
        self._streamed_items: set[Any] = set()  # indexes of output items whose text arrived in deltas
        self._earlier: list[dict[str, Any]] = []  # finished items of earlier responses
        self._response_id: str | None = None
        self._final = False
        self._beside: dict[str, Any] = {}  # what tools used beside the model

    @property
    def done(self) -> bool:
        return self._final and self.usage is not None

    def build_body(self, usage: dict[str, Any], calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        return {**super().build_body(usage, calls), **self._beside}

    def calls(self) -> list[dict[str, Any]]:
        """Return the finished items that cost a fee, reduced to what determines it."""
        return [*self._earlier, *self._items.values()]

    def read(self, event: dict[str, Any], name: str) -> None:
        """Read one event. Its type is in the data, or else in the name of its frame."""
        kind = event.get("type") or name
        response = event.get("response")
        if isinstance(response, dict):
            self._read_response(kind, response)
        elif kind == "response.output_item.added":
            self._read_added_item(event)
        elif kind == "response.output_item.done":
            self._read_finished_item(event)
        elif kind.endswith(".delta"):
            self._read_delta(kind, event)

    def _read_response(self, kind: str, response: dict[str, Any]) -> None:
        self._update_served(response)
        name = response.get("id")
        if isinstance(name, str) and name:
            if self._final and name != self._response_id:  # the next response of a Realtime session
                self._earlier, self._items, self._final = self.calls()[:MAX_NAMES], {}, False
                self._start_response()
            self._response_id = truncate_name(name)
        self._update_usage(response.get("usage"))
        if kind not in _TERMINAL:
            return
        self._final = self.ended = True
        error = response.get("error")
        if isinstance(error, dict):
            self.failed = True
            self.warnings.append(f"the response failed: {safe_repr(error.get('message') or error.get('code'))}")
        self._beside = reduce_response({"tool_usage": response.get("tool_usage")}, has_items=False)
        items = list(enumerate_objects(response.get("output")))
        if items:  # some gateways omit them here; then the collected items count
            kinds = [(index, item, billable_item_type(item)) for index, item in items]
            self._items = {index: reduce_item(item, kind) for index, item, kind in kinds if kind is not None}

    def _read_added_item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if not isinstance(item, dict):
            return
        if item.get("type") == "reasoning":
            self.uncounted.setdefault(_HIDDEN)
        if item.get("type") in ("function_call", "custom_tool_call"):
            self._add_tool_call(_output_index(event))
        self.text_buffer.add(("name", _output_index(event)), content_text(item.get("name")))

    def _read_finished_item(self, event: dict[str, Any]) -> None:
        item, index = event.get("item"), _output_index(event)
        if not isinstance(item, dict):
            return
        if str(item.get("type")).endswith("search_call"):
            self.uncounted.setdefault("the input that searches add")
        kind = billable_item_type(item)
        key = truncate_name(item["id"]) if isinstance(item.get("id"), str) else index
        if kind is None:
            self._items.pop(key, None)
        elif len(self._items) < MAX_NAMES:
            self._items[key] = reduce_item(item, kind)
        if index not in self._streamed_items:
            # Providers without deltas send at least the finished text.
            for key in ("content", "summary", "arguments", "input", "code"):
                value = item.get(key)
                self.text_buffer.add(
                    (key, index), content_text(value) if key in ("content", "summary") else arguments_text(value)
                )

    def _read_delta(self, kind: str, event: dict[str, Any]) -> None:
        text, index = event.get("delta"), _output_index(event)
        if not isinstance(text, str):
            return
        if "audio" in kind and "transcript" not in kind:
            self.uncounted.setdefault("the tokens of audio")
            return
        if "reasoning" in kind:
            self.uncounted.pop(_HIDDEN, None)
            if "summary" in kind:
                self.uncounted.setdefault(_SUMMARY)
        if len(self._streamed_items) < MAX_NAMES:
            self._streamed_items.add(index)
        indexes = index_or(event.get("content_index")), index_or(event.get("summary_index"))
        self.text_buffer.add((truncate_name(kind), index, *indexes), text)


def _output_index(event: dict[str, Any]) -> Any:
    index = event.get("output_index")
    return truncate_name(index) if isinstance(index, str) else index_or(index)
