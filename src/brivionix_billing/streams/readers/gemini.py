"""Chunks of Gemini's ``streamGenerateContent``: each is a GenerateContentResponse.

``usageMetadata`` stands in many chunks, in the last one at least, and is cumulative: the last one holds. Gemini 3 may
send it in a chunk of its own, without any content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brivionix_billing.streams.reader import (
    MAX_NAMES,
    StreamReader,
    arguments_text,
    content_text,
    enumerate_objects,
    index_or,
)
from brivionix_billing.streams.text_buffer import TextBuffer

__all__ = ["GeminiReader"]

_HIDDEN: Final = "thinking that the stream does not show, if there was any"
_SUMMARY: Final = "thinking beyond its summary (the summary was counted in its place)"


class GeminiReader(StreamReader):
    """Reads chunks with ``candidates`` or ``usageMetadata``."""

    api = "gemini"
    count_keys = ("promptTokenCount", "candidatesTokenCount")
    usage_key = "usageMetadata"

    def __init__(self, tally: TextBuffer, request: Mapping[str, Any]) -> None:
        super().__init__(tally, request)
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        config = request.get("generationConfig")
        wanted = config.get("candidateCount") if isinstance(config, Mapping) else None
        self._wanted = wanted if type(wanted) is int and wanted > 0 else 1
        self._blocked = False
        self._current = False  # whether nothing of the answer came after the last usage
        self.uncounted[_HIDDEN] = None

    @property
    def done(self) -> bool:
        return self.usage is not None and self._current and self.ended

    def read(self, event: dict[str, Any], name: str) -> None:
        """One chunk."""
        self._update_served(event, model="modelVersion")
        came = False
        for place, candidate in self._bounded_objects(event.get("candidates"), "candidates"):
            index = index_or(candidate.get("index"), place)
            if len(self._begun) < MAX_NAMES:
                self._begun.add(index)
            content = candidate.get("content")
            if isinstance(content, dict):
                came |= self._parts(index, content.get("parts"))
            if candidate.get("finishReason") and index in self._begun:
                self._finished.add(index)
        feedback = event.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self._blocked = True  # then there is no candidate
        complete = len(self._finished) >= self._wanted and self._finished >= self._begun
        self.ended = self._blocked or complete
        if came:
            self._current = False
        if self._update_usage(event.get("usageMetadata")):
            self._current = True
            if "thoughtsTokenCount" in (self.usage or {}):
                self.uncounted.pop(_HIDDEN, None)

    def with_output(self, usage: dict[str, Any], output: int) -> dict[str, Any]:
        thoughts = usage.get("thoughtsTokenCount")  # stand beside the candidates' tokens, not in them
        return super().with_output(usage, output - thoughts if type(thoughts) is int else output)

    def build_body(self, usage: dict[str, Any], calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        named = {} if self.model is None else {"modelVersion": self.model}
        return {**named, "usageMetadata": usage}

    def _parts(self, index: int, parts: Any) -> bool:
        came = False
        for _, part in enumerate_objects(parts):
            kind = "thought" if part.get("thought") is True else "text"
            if kind == "thought":
                self.uncounted.pop(_HIDDEN, None)
                self.uncounted.setdefault(_SUMMARY)
            texts = {kind: content_text(part.get("text"))}
            call = part.get("functionCall")
            if isinstance(call, dict):
                texts["call"] = content_text(call.get("name")) + arguments_text(call.get("args"))
            code = part.get("executableCode")
            if isinstance(code, dict):
                texts["code"] = content_text(code.get("code"))
            if "inlineData" in part:
                self.uncounted.setdefault("pictures and sound")
                came = True
            for name, text in texts.items():
                self.tally.add((index, name), text)
                came |= bool(text)
        return came
