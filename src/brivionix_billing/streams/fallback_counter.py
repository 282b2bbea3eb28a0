"""Counts for estimates, with fallbacks: the tokens of texts and requests, and the output limit of a request.

No function in this module raises. If an accurate count is impossible, a rougher one is returned with a note. The
tokenizer is loaded at the first count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from brivionix_billing.errors import BillingError, safe_repr

if TYPE_CHECKING:
    from brivionix_billing.tokens import TokenCounter

__all__ = ["BYTES_PER_TOKEN", "CounterProtocol", "FallbackCounter", "output_limit"]

BYTES_PER_TOKEN: Final = 4
# Keys of a request whose values the model does not receive as text.
_NON_TEXT_KEYS: Final = frozenset(
    {
        *("model", "role", "type", "id", "tool_call_id", "tool_use_id", "call_id", "cache_control", "signature"),
        *("data", "url", "image_url", "file_id", "file_data", "mimeType", "media_type", "fileUri", "service_tier"),
        *("user", "metadata", "safety_identifier", "encrypted_content", "generationConfig", "inferenceConfig"),
        *("stop", "stop_sequences", "safetySettings", "modelId", "stream_options", "tool_choice", "toolConfig"),
    }
)

# The output limit of a request by API: the key of the object that contains it, its keys, and the key of the number of
# choices.
_LIMIT_KEYS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "chat": ("", ("max_completion_tokens", "max_tokens"), "n"),
    "responses": ("", ("max_output_tokens",), ""),
    "anthropic": ("", ("max_tokens",), ""),
    "gemini": ("generationConfig", ("maxOutputTokens",), "candidateCount"),
    "bedrock": ("inferenceConfig", ("maxTokens",), ""),
}
# An object of the caller may contain the same object many times, nested many times.
_MAX_VALUES: Final = 1_000_000
_MAX_TEXT_CHARACTERS: Final = 64 * 1024 * 1024


class CounterProtocol(Protocol):
    """A counter: ``brivionix_billing.tokens.TokenCounter``, or an object with its methods."""

    def text(self, text: str, /) -> int: ...

    def chat(self, request: Any, /) -> int: ...

    def responses(self, request: Any, /) -> int: ...


class FallbackCounter:
    """A counter that is created at first use, for the model that the stream names or the request asks for.

    If it cannot count, the next one is used: o200k_base, and finally the length of the text.
    """

    def __init__(self, counter: CounterProtocol | None, request: Mapping[str, Any]) -> None:
        self._requested_model = request.get("model")
        self._counter: CounterProtocol | None = None
        self._candidates = (
            [self._model_counter, self._o200k_counter]
            if counter is None
            else [lambda: counter, self._model_counter, self._o200k_counter]
        )
        self._last_error: str | None = None
        self.served_model: str | None = None
        self.notes: dict[str, None] = {}
        """Notes on what makes the count less accurate."""

    def text(self, text: str) -> int:
        """Return the tokens of a text."""
        text = _join_surrogates(text)
        while text and self._candidates:
            try:
                if self._counter is None:
                    self._counter = self._candidates[0]()
                return max(0, int(self._counter.text(text)))
            except Exception as error:
                # A tokenizer may fail: unknown model, missing tiktoken, no vocabulary, a broken counter of the caller.
                # A gateway must still be able to settle.
                self._last_error = _error_label(error)
                self._counter = None
                del self._candidates[0]
                if not self._candidates:
                    self.notes[f"no tokenizer ({self._last_error}): one token per {BYTES_PER_TOKEN} bytes of text"] = (
                        None
                    )
        return -(-len(text.encode()) // BYTES_PER_TOKEN)

    def request(self, request: Mapping[str, Any], api: str | None) -> int:
        """Return the input tokens of a request."""
        self.text("a")  # selects a working counter
        if self._counter is not None and api not in ("anthropic", "gemini", "bedrock"):
            try:
                count = None
                kind = _request_api(request, api)
                if kind == "chat":
                    count = self._counter.chat(request)
                elif kind == "responses":
                    count = self._counter.responses(request)
                if count is not None:
                    return self.note(count)
            except Exception as error:  # the counter may reject the request
                self.notes[f"the input was counted from its texts alone ({_error_label(error)})"] = None
        return self.text("\n".join(_iter_request_texts(request)))

    def note(self, count: int) -> int:
        """Return the tokens of a counted input, and note why it is not exact."""
        self.notes |= dict.fromkeys(f"the input is an estimate: {reason}" for reason in _count_caveats(count))
        return max(0, int(count))

    def tool_call_overhead(self) -> int:
        """Return the tokens of a tool call besides its name and arguments, if recorded requests confirm them."""
        self.text("a")  # as above
        counter = self._counter
        if counter is None or not isinstance(counter, _counter_class()):
            return 0
        rule = counter.family.dialect.call
        return rule.tokens if rule.samples else 0

    def _model_counter(self) -> CounterProtocol:
        # Each text of the stream is counted once, so a cache is useless.
        return _counter_class()(str(self.served_model or self._requested_model), cache_characters=0)

    def _o200k_counter(self) -> CounterProtocol:
        name = self.served_model or self._requested_model
        problem = (
            "no model is named"
            if name is None
            else f"the model {safe_repr(name)} cannot be counted ({self._last_error})"
        )
        counter = _counter_class()("unknown", encoding="o200k_base", cache_characters=0)
        self.notes[f"{problem}: counted with o200k_base"] = None
        return counter


def _request_api(request: Mapping[str, Any], api: str | None) -> str | None:
    """Return the API of a request: that of the stream, unless the keys of the request exclude it."""
    chat, responses = "messages" in request, "input" in request or "instructions" in request
    if chat and (api == "chat" or not responses):
        return "chat"
    if responses and (api == "responses" or not chat):
        return "responses"
    return ("chat" if request.get("messages") else "responses") if chat else None


def _counter_class() -> type[TokenCounter]:
    from brivionix_billing.tokens import TokenCounter  # only if an estimate is needed

    return TokenCounter


def _count_caveats(count: int) -> tuple[str, ...]:
    """Return the unknown facts of a :class:`~brivionix_billing.tokens.TokenCount`; none for a plain number."""
    reasons = getattr(count, "reasons", ())
    return tuple(str(reason) for reason in reasons[:3]) if isinstance(reasons, tuple) else ()


def output_limit(request: Mapping[str, Any], api: str) -> int | None:
    """Return the most output tokens that the request allows for all choices, or ``None`` without a limit.

    Only keys that the provider obeys count. Clients may send other keys, which must not limit their bill.
    """
    container_key, keys, choices_key = _LIMIT_KEYS.get(api, ("", (), ""))
    container = request.get(container_key) if container_key else request
    if not isinstance(container, Mapping):
        return None
    limits = [container[key] for key in keys if _is_positive(container.get(key))]
    choices = container.get(choices_key) if choices_key else None
    return max(limits) * (choices if _is_positive(choices) else 1) if limits else None


def _is_positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _join_surrogates(text: str) -> str:
    """Join surrogate halves: a character outside the BMP may arrive in two pieces."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _error_label(error: Exception) -> str:
    return error.code if isinstance(error, BillingError) else type(error).__name__


def _iter_request_texts(request: Mapping[str, Any]) -> list[str]:
    """Return every string of a request that the model may receive, whatever its format."""
    texts: list[str] = []
    pending: list[Any] = [request]
    ancestors: set[int] = set()  # ids of the objects that contain the value
    values = size = 0
    while pending and values < _MAX_VALUES and size < _MAX_TEXT_CHARACTERS:
        value = pending.pop()
        values += 1
        if isinstance(value, str):
            texts.append(value)
            size += len(value)
        elif isinstance(value, _Leave):
            ancestors.discard(value.identity)
        elif isinstance(value, Mapping | list | tuple) and id(value) not in ancestors:
            ancestors.add(id(value))
            pending.append(_Leave(id(value)))
            if isinstance(value, Mapping):
                pending.extend([item for key, item in value.items() if key not in _NON_TEXT_KEYS][::-1])
            else:
                pending.extend(reversed(value))
    return texts


class _Leave:
    """Marks the end of an object's content. After it, the object may occur again."""

    __slots__ = ("identity",)

    def __init__(self, identity: int) -> None:
        self.identity = identity
