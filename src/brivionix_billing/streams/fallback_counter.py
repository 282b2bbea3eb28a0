"""Counting for estimates: the tokenizer, fetched when the first text is counted; the request's input; its upper limit.

Nothing here raises. An estimate that cannot be made well is made worse, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from brivionix_billing.errors import BillingError, safe_repr

if TYPE_CHECKING:
    from brivionix_billing.tokens import TokenCounter

__all__ = ["CounterProtocol", "FallbackCounter", "output_limit"]

_BYTES_PER_TOKEN: Final = 4
# What stands in a request and does not go into the model as text.
_NON_TEXT_KEYS: Final = frozenset(
    {
        *("model", "role", "type", "id", "tool_call_id", "tool_use_id", "call_id", "cache_control", "signature"),
        *("data", "url", "image_url", "file_id", "file_data", "mimeType", "media_type", "fileUri", "service_tier"),
        *("user", "metadata", "safety_identifier", "encrypted_content", "generationConfig", "inferenceConfig"),
        *("stop", "stop_sequences", "safetySettings", "modelId", "stream_options", "tool_choice", "toolConfig"),
    }
)

# Where a request of each family says how much may be written: the object in it, the keys, and how many answers.
_LIMIT_KEYS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "chat": ("", ("max_completion_tokens", "max_tokens"), "n"),
    "responses": ("", ("max_output_tokens",), ""),
    "anthropic": ("", ("max_tokens",), ""),
    "gemini": ("generationConfig", ("maxOutputTokens",), "candidateCount"),
    "bedrock": ("inferenceConfig", ("maxTokens",), ""),
}
# A request that is no JSON may contain the same object many times, each of which contains another many times.
_MAX_VALUES: Final = 1_000_000
_MAX_TEXT_CHARACTERS: Final = 64 * 1024 * 1024


class CounterProtocol(Protocol):
    """What counts: ``brivionix_billing.tokens.TokenCounter``, or anything with its methods."""

    def text(self, text: str, /) -> int: ...

    def chat(self, request: Any, /) -> int: ...

    def responses(self, request: Any, /) -> int: ...


class FallbackCounter:
    """A counter that is made when it is first needed, for the model that the stream names or the request asks for.

    If it cannot count, the next best is taken: o200k_base, and in the end the length of the text.
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
        """What makes the count worse than it could be."""

    def text(self, text: str) -> int:
        """Tokens of a text."""
        text = _join_surrogates(text)
        while text and self._candidates:
            try:
                if self._counter is None:
                    self._counter = self._candidates[0]()
                return max(0, int(self._counter.text(text)))
            except Exception as error:
                # Whatever keeps a tokenizer from counting (the model is not known, tiktoken is not installed, its
                # vocabulary cannot be fetched, the caller's counter is broken) must not keep a gateway from settling.
                self._last_error = _error_label(error)
                self._counter = None
                del self._candidates[0]
                if not self._candidates:
                    self.notes[f"no tokenizer ({self._last_error}): a token per {_BYTES_PER_TOKEN} bytes of text"] = (
                        None
                    )
        return -(-len(text.encode()) // _BYTES_PER_TOKEN)

    def request(self, request: Mapping[str, Any], api: str | None) -> int:
        """Tokens of what the request puts in."""
        self.text("a")  # finds the counter that works
        if self._counter is not None and api not in ("anthropic", "gemini", "bedrock"):
            try:
                count = None
                kind = _request_api(request, api)
                if kind == "chat":
                    count = self._counter.chat(request)
                elif kind == "responses":
                    count = self._counter.responses(request)
                if count is not None:
                    self.notes |= dict.fromkeys(
                        f"of the input is estimated: {reason}" for reason in _count_caveats(count)
                    )
                    return max(0, int(count))
            except Exception as error:  # a request may hold what the counter refuses
                self.notes[f"the input was counted from its texts alone ({_error_label(error)})"] = None
        return self.text("\n".join(_iter_request_texts(request)))

    def tool_call_overhead(self) -> int:
        """Tokens that a tool call needs beside its name and arguments, as far as real requests of its family tell."""
        self.text("a")  # as above
        counter = self._counter
        if counter is None or not isinstance(counter, _counter_class()):
            return 0
        rule = counter.family.dialect.call
        return rule.tokens if rule.samples else 0

    def _model_counter(self) -> CounterProtocol:
        # A cache would keep the texts of this stream; they are counted once.
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
    """How the provider read the request: as the stream shows; by its keys where that leaves nothing to read."""
    chat, responses = "messages" in request, "input" in request or "instructions" in request
    if chat and (api == "chat" or not responses):
        return "chat"
    if responses and (api == "responses" or not chat):
        return "responses"
    return ("chat" if request.get("messages") else "responses") if chat else None


def _counter_class() -> type[TokenCounter]:
    from brivionix_billing.tokens import TokenCounter  # not before an estimate is needed

    return TokenCounter


def _count_caveats(count: int) -> tuple[str, ...]:
    """What a :class:`~brivionix_billing.tokens.TokenCount` does not know; nothing for a plain number."""
    reasons = getattr(count, "reasons", ())
    return tuple(str(reason) for reason in reasons[:3]) if isinstance(reasons, tuple) else ()


def output_limit(request: Mapping[str, Any], api: str) -> int | None:
    """The most output tokens that the request allows, over all its answers, or ``None`` if it sets no limit.

    Only the keys count that the provider obeys: a client may send any others along, and must not cap its bill by them.
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
    """The text with surrogate halves joined: a character outside the BMP may come in two pieces."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _error_label(error: Exception) -> str:
    return error.code if isinstance(error, BillingError) else type(error).__name__


def _iter_request_texts(request: Mapping[str, Any]) -> list[str]:
    """Every string of a request that the model may read, in no particular shape."""
    texts: list[str] = []
    pending: list[Any] = [request]
    ancestors: set[int] = set()  # the objects around the value, by identity
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
    """Stands behind what is in an object: from there on the object may come again."""

    __slots__ = ("identity",)

    def __init__(self, identity: int) -> None:
        self.identity = identity
