"""Reads events of every other API: any event that contains a usage object or a text.

Cohere, Gemini's Interactions, transcription, speech and images of OpenAI, Ollama, Bedrock's InvokeModel, watsonx,
DashScope, llama.cpp, SGLang, Text Generation Inference (TGI), and whole responses that arrive in place of a stream. The
usage object is found as ``Usage.from_response`` finds it, in the event or in one of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.streams.reader import StreamReader, arguments_text
from brivionix_billing.streams.text_buffer import TextBuffer
from brivionix_billing.usage import billable_body

__all__ = ["OtherReader", "has_usage_or_text"]

_METRICS_KEY: Final = "amazon-bedrock-invocationMetrics"
_USAGE_KEYS: Final = ("usage", "usageMetadata", "usage_metadata", "meta", _METRICS_KEY)
_PARTS: Final = (
    *("delta", "interaction", "response", "message", "data", "result", "output", "meta_info", "details"),
    *("metadata", "messageMetadata"),
)
"""Keys under which an event may have the response, or a part of it, with the usage."""
_TEXT_KEYS: Final = (
    *("text", "content", "thinking", "completion", "generated_text", "outputText", "generation", "response"),
    *("tool_plan", "arguments", "transcript", "thought", "refusal", "answer"),
)
"""Keys of texts that the model has written."""
_MEDIA_KEYS: Final = ("b64_json", "partial_image_b64", "audio")
"""Keys of images and of speech in Base64."""
_REASON_KEYS: Final = ("finish_reason", "stop_reason", "completionReason", "done_reason", "FinishReason")
_NO_REASONS: Final = (None, "", "not_finished", "null")
"""Values of a reason before the end: of watsonx, and of DashScope, which writes null as a text."""
_FINAL_ENDINGS: Final = (
    *(".done", ".complete", ".completed", ".incomplete", ".failed", ".end", "-end", "message_stop", "completed"),
    *("message_end", "finish"),
)
_MAX_DEPTH: Final = 5


class OtherReader(StreamReader):
    """Reads events by what they contain."""

    api = "other"

    def __init__(self, text_buffer: TextBuffer, request: Mapping[str, Any]) -> None:
        super().__init__(text_buffer, request)
        self._body: dict[str, Any] = {}
        """The response so far, reduced to its billable parts."""

    @property
    def done(self) -> bool:
        return self.ended and self.usage is not None

    def read(self, event: dict[str, Any], name: str) -> None:
        """Read one event."""
        for part in _parts(event):
            self._update_served(part, "model_id" if "model_id" in part else "model")
        for found in _billable_parts(event):
            self._merge(found)
        if any(isinstance(part.get(key), str) and part[key] for part in _parts(event) for key in _MEDIA_KEYS):
            self.has_media = True
        text = event_text(event)
        if text and not _repeats(event):
            self.text_buffer.add("text", text)
        if _is_final(event, name):
            self.ended = True

    def body(self) -> dict[str, Any]:
        return self.build_body(dict(self.usage or {}))

    def build_body(self, usage: dict[str, Any], calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        key = self.usage_key_of_body
        named = {} if self.model is None else {"model": self.model}  # an earlier event may name it
        return {**named, **self._body, key: usage}

    @property
    def usage_key_of_body(self) -> str:
        """The key of the usage object in the body."""
        return next((key for key in _USAGE_KEYS if key in self._body), "usage")

    def _merge(self, found: dict[str, Any]) -> None:
        """Merge a reduced response with what was read before."""
        key = next((key for key in _USAGE_KEYS if key in found), None)
        if key is None:
            key, found = "usage", {"usage": found}
        if self.usage is not None and key != self.usage_key_of_body:
            if key != _METRICS_KEY:
                return  # Bedrock's metrics are final; other counts beside them are those of a part
            self._body, self.usage = {}, None
        if self._update_usage(found[key]):
            self._body = {**self._body, **found, key: self.usage}


def has_usage_or_text(event: Mapping[str, Any]) -> bool:
    """Return whether an event has anything that this reader reads."""
    if "custom_id" in event or "recordId" in event:
        return False  # lines of batch results are many requests, not a stream of one
    return bool(event_text(event)) or next(_billable_parts(event), None) is not None


def event_text(event: Mapping[str, Any]) -> str:
    """Return the text of an event: strings under the usual keys, and a ``delta`` that is a text."""
    texts: list[str] = []
    _collect_texts(event, texts, 0)
    delta = event.get("delta")
    if isinstance(delta, str) and "audio" not in str(event.get("type")):
        texts.append(delta)
    return "".join(texts)


def _collect_texts(value: Any, texts: list[str], depth: int) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in _TEXT_KEYS and isinstance(item, str):
                texts.append(item)
            elif key == "arguments" and isinstance(item, Mapping):
                texts.append(arguments_text(item))
            elif isinstance(item, Mapping | list) and depth < _MAX_DEPTH and key not in _USAGE_KEYS:
                _collect_texts(item, texts, depth + 1)
    elif isinstance(value, list):
        for item in value[:1024]:
            if isinstance(item, Mapping | list):
                _collect_texts(item, texts, depth + 1)


def _parts(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield event
    for key in _PARTS:
        part = event.get(key)
        if isinstance(part, Mapping):
            yield part


def _billable_parts(event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the reduced response of the event, or of the first part of it that has a usage object."""
    for part in _parts(event):
        try:
            found = billable_body(part)
        except BillingError:
            continue
        yield found
        return


def _is_final(event: Mapping[str, Any], name: str) -> bool:
    """Return whether an event ends the response."""
    if event.get("done") is True or event.get("stop") is True or _METRICS_KEY in event:
        return True
    kind = event.get("type") or event.get("event_type") or event.get("event") or name
    inner = event.get("event")
    if event.get("is_end") is True or (isinstance(inner, Mapping) and "completionEnd" in inner):
        return True  # of ERNIE and of Nova Sonic
    if isinstance(kind, str) and kind.endswith(_FINAL_ENDINGS) and not kind.endswith(("content-end", "start-end")):
        return True
    for part in _parts(event):
        lists = (part.get("results"), part.get("responses"), part.get("choices") or part.get("Choices"))
        for each in (part, *(item for items in lists for item in _first_of(items))):
            if any(each.get(key) not in _NO_REASONS for key in _REASON_KEYS):
                return True
    return False


def _first_of(items: Any) -> list[Mapping[str, Any]]:
    return [item for item in items[:1] if isinstance(item, Mapping)] if isinstance(items, list) else []


def _repeats(event: Mapping[str, Any]) -> bool:
    """Return whether an event repeats texts that came before it, as events named ``done`` do, and TGI's last one."""
    if event.get("generated_text") and isinstance(event.get("token"), Mapping):
        return True
    kind = event.get("type") or event.get("event_type")
    return isinstance(kind, str) and kind.endswith((".done", ".completed", "-end"))
