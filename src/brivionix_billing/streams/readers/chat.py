"""Reads chunks of OpenAI's chat completions and text completions, and of OpenAI-compatible providers.

OpenAI sends the usage once, in a last chunk without choices, and only if the request sets
``stream_options.include_usage``. Other providers send it with the last choice, or cumulatively in every chunk. The last
one counts. It is final if the answer is complete and none of it arrived after that usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.streams.reader import MAX_NAMES, StreamReader, arguments_text, content_text, index_or
from brivionix_billing.streams.text_buffer import TextBuffer
from brivionix_billing.usage.response_context import truncate_name

__all__ = ["ChatReader"]

_HIDDEN: Final = "reasoning that the stream does not show, if there was any"


class ChatReader(StreamReader):
    """Reads chunks with ``choices``."""

    api = "chat"
    count_keys = ("prompt_tokens", "completion_tokens")

    def __init__(self, text_buffer: TextBuffer, request: Mapping[str, Any]) -> None:
        super().__init__(text_buffer, request)
        choices_requested = request.get("n")
        self._expected_choices = choices_requested if type(choices_requested) is int and choices_requested > 0 else 1
        self._started_choices: set[int] = set()
        self._finished: set[int] = set()
        self._usage_is_current = False  # whether no part of the answer arrived after the last usage
        self._usage_only_chunk = False  # whether the last usage arrived in a chunk without choices
        self._names: dict[tuple[int, int], str] = {}
        if request.get("reasoning_effort") != "none":
            self.uncounted[_HIDDEN] = None

    @property
    def done(self) -> bool:
        complete = len(self._finished) >= self._expected_choices and self._finished >= self._started_choices
        is_alone = self._usage_only_chunk and bool(self._started_choices)
        return self.usage is not None and self._usage_is_current and (self.ended or is_alone or complete)

    def read(self, event: dict[str, Any], name: str) -> None:
        """Read one chunk."""
        self._update_served(event)
        usage, has_content = event.get("usage"), False
        choices = self._bounded_objects(event.get("choices"), "choices")
        for position, choice in choices:
            index = index_or(choice.get("index"), position)
            if len(self._started_choices) < MAX_NAMES:
                self._started_choices.add(index)
            has_content |= self._read_choice(index, choice)
            if choice.get("finish_reason") is not None and index in self._started_choices:
                self._finished.add(index)
            usage = usage or choice.get("usage")  # the position of Moonshot
        groq = event.get("x_groq")
        if not usage and isinstance(groq, dict):
            usage = groq.get("usage")
        if event.get("is_end") is True:  # of ERNIE
            self.ended = True
        if has_content:
            self._usage_is_current = False
        if self._update_usage(usage):
            self._usage_is_current, self._usage_only_chunk = True, not choices

    def _read_choice(self, index: int, choice: dict[str, Any]) -> bool:
        """Buffer the text of one choice. Returns whether there was any."""
        texts: dict[tuple[Any, ...], str] = {(index, "text"): content_text(choice.get("text"))}
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            texts[index, "content"] = content_text(delta.get("content"))
            texts[index, "refusal"] = content_text(delta.get("refusal"))
            # DeepSeek and vLLM call it reasoning_content, Groq and OpenRouter reasoning. Some send both.
            reasoning = content_text(delta.get("reasoning_content")) or content_text(delta.get("reasoning"))
            reasoning = reasoning or content_text(delta.get("reasoning_details"))
            if reasoning:
                self.uncounted.pop(_HIDDEN, None)
            texts[index, "reasoning"] = reasoning
            for position, call in self._bounded_objects(delta.get("tool_calls"), "tool calls"):
                self._read_call(index, position, call, texts)
            if isinstance(delta.get("function_call"), dict):
                self._read_call(index, -1, {"function": delta["function_call"]}, texts)
            if isinstance(delta.get("audio"), dict):
                self.uncounted["the tokens of audio"] = None
                texts[index, "audio"] = content_text(delta["audio"].get("transcript"))
        for part, text in texts.items():
            self.text_buffer.add(part, text)
        return any(texts.values())

    def _read_call(self, index: int, position: int, call: dict[str, Any], texts: dict[tuple[Any, ...], str]) -> None:
        """Add name and arguments of a tool call. Some providers repeat the name in every chunk; it counts once."""
        key = (index, index_or(call.get("index"), position))
        function = call.get("function") or call.get("custom")
        if not isinstance(function, dict):
            return
        self._add_tool_call(key)
        name = content_text(function.get("name"))
        if name and truncate_name(name) != self._names.get(key):
            if len(self._names) < MAX_NAMES:
                self._names[key] = truncate_name(name)
            texts["name", *key] = texts.get(("name", *key), "") + name
        arguments = arguments_text(function.get("arguments")) or arguments_text(function.get("input"))
        texts["call", *key] = texts.get(("call", *key), "") + arguments
