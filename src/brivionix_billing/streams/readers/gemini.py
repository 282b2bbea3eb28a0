"""Reads chunks of Gemini's ``streamGenerateContent``: each is a GenerateContentResponse.

``usageMetadata`` is in many chunks, at least in the last one, and is cumulative: the last one counts. Gemini 3 may send
it in a separate chunk without content. The Live API has its parts in ``serverContent``, and ends with ``turnComplete``.
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
    """Reads chunks with ``candidates``, ``usageMetadata`` or ``serverContent``."""

    api = "gemini"
    count_keys = ("promptTokenCount", "candidatesTokenCount")
    usage_key = "usageMetadata"

    def __init__(self, text_buffer: TextBuffer, request: Mapping[str, Any]) -> None:
        super().__init__(text_buffer, request)
        self._started_candidates: set[int] = set()
        self._finished: set[int] = set()
        config = request.get("generationConfig")
        candidates_requested = config.get("candidateCount") if isinstance(config, Mapping) else None
        self._expected_candidates = (
            candidates_requested if type(candidates_requested) is int and candidates_requested > 0 else 1
        )
        self._blocked = self._turn_complete = False
        self._usage_is_current = False  # whether no part of the answer arrived after the last usage
        self.uncounted[_HIDDEN] = None

    @property
    def done(self) -> bool:
        return self.usage is not None and self._usage_is_current and self.ended

    @property
    def stated_output(self) -> int:
        return max(super().stated_output, self._stated("responseTokenCount"))  # of the Live API

    def read(self, event: dict[str, Any], name: str) -> None:
        """Read one chunk."""
        self._update_served(event, model="modelVersion")
        has_content = False
        for position, candidate in self._bounded_objects(event.get("candidates"), "candidates"):
            index = index_or(candidate.get("index"), position)
            if len(self._started_candidates) < MAX_NAMES:
                self._started_candidates.add(index)
            content = candidate.get("content")
            if isinstance(content, dict):
                has_content |= self._read_parts(index, content.get("parts"))
            if candidate.get("finishReason") and index in self._started_candidates:
                self._finished.add(index)
        feedback = event.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self._blocked = True  # a blocked prompt has no candidates
        complete = len(self._finished) >= self._expected_candidates and self._finished >= self._started_candidates
        has_content |= self._read_turn(event)
        self.ended = self._blocked or complete or self._turn_complete
        if has_content:
            self._usage_is_current = False
        if self._update_usage(event.get("usageMetadata")):
            self._usage_is_current = True
            if "thoughtsTokenCount" in (self.usage or {}):
                self.uncounted.pop(_HIDDEN, None)

    def _read_turn(self, event: dict[str, Any]) -> bool:
        """Read the content of a message of the Live API. Returns whether there was any."""
        content, call = event.get("serverContent"), event.get("toolCall")
        parts: list[Any] = []
        if isinstance(content, dict):
            turn, transcript = content.get("modelTurn"), content.get("outputTranscription")
            parts += list((turn.get("parts") if isinstance(turn, dict) else None) or ())
            if isinstance(transcript, dict):
                parts.append({"text": transcript.get("text")})
        if isinstance(call, dict):
            parts += [{"functionCall": each} for _, each in enumerate_objects(call.get("functionCalls"))]
        if parts and self._turn_complete:  # the next turn
            self._turn_complete = False
            self._start_response()
        has_content = self._read_parts(0, parts)
        if isinstance(content, dict) and (content.get("turnComplete") or content.get("interrupted")):
            self._turn_complete = True
        return has_content

    def with_output(self, usage: dict[str, Any], output: int) -> dict[str, Any]:
        thoughts = usage.get("thoughtsTokenCount")  # not included in the candidates' tokens
        return super().with_output(usage, output - thoughts if type(thoughts) is int else output)

    def build_body(self, usage: dict[str, Any], calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        model_field = {} if self.model is None else {"modelVersion": self.model}
        return {**model_field, "usageMetadata": usage}

    def _read_parts(self, index: int, parts: Any) -> bool:
        has_content = False
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
                self.uncounted.setdefault("images and audio")
                has_content = True
            for name, text in texts.items():
                self.text_buffer.add((index, name), text)
                has_content |= bool(text)
        return has_content
