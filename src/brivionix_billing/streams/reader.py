"""The common part of the readers: the state that they collect, and the body that follows from it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar, Final

from brivionix_billing.errors import safe_repr
from brivionix_billing.streams.text_buffer import TextBuffer
from brivionix_billing.usage.parsing import decimal_to_json, whole_numbers
from brivionix_billing.usage.response_context import truncate_name

__all__ = [
    "MAX_NAMES",
    "StreamReader",
    "enumerate_objects",
    "content_text",
    "index_or",
    "bounded_value",
    "describe_error",
    "arguments_text",
    "add_counts",
    "merge_counts",
]

MAX_NAMES: Final = 4096
"""Maximum number of choices, calls or blocks that are distinguished. It bounds the memory of a stream with invented
indexes."""
_MAX_KEYS: Final = 256
_MAX_VALUES: Final = 2048
_MAX_USAGE_CHARACTERS: Final = 64 * 1024
_MAX_DEPTH: Final = 64


class StreamReader:
    """Reads the events of one API, one at a time. It keeps the usage so far, names, and a bounded buffer of text.

    ``read`` may raise on an invalid event. The caller records that as a warning.
    """

    api: ClassVar[str]
    count_keys: ClassVar[tuple[str, str]] = ("input_tokens", "output_tokens")
    """Keys of input and output in the usage object of the API."""
    usage_key: ClassVar[str] = "usage"
    """Key of the usage object in a body."""

    def __init__(self, text_buffer: TextBuffer, request: Mapping[str, Any]) -> None:
        self.text_buffer = text_buffer
        self.request = request
        self.model: str | None = None
        self.service_tier: Any = None
        self.usage: dict[str, Any] | None = None
        """The last usage that the stream reported, final or not."""
        self._earlier_usage: dict[str, Any] | None = None  # the sum of the responses before the current one
        self._current_usage: dict[str, Any] | None = None  # the usage of the current response
        self.counted_usage: dict[str, Any] | None = None
        """The usage that looked final when the text was discarded. It covers the text before."""
        self.has_discarded_text = False
        """Whether there was text that :meth:`discard_text` discarded."""
        self.ended = False
        """Whether the stream reported that it is complete."""
        self.failed = False
        """Whether the provider reported that the whole response failed."""
        self.uncounted: dict[str, None] = {}
        """Costs that the stream does not show, in the order of their first hint."""
        self.tool_calls: set[Hashable] = set()
        """Calls of the client's tools that the model has started."""
        self.has_media = False
        """Whether audio or an image arrived, which no estimate covers."""
        self.warnings: list[str] = []
        """Warnings about the current event. The caller removes them."""

    @property
    def is_empty(self) -> bool:
        """Whether the reader has no text, no call and no usage. Then the stream may be of another API."""
        return self.usage is None and self.text_buffer.empty and not self.tool_calls and not self.calls()

    @property
    def done(self) -> bool:
        """Whether the final usage has arrived."""
        raise NotImplementedError

    def read(self, event: dict[str, Any], name: str) -> None:
        """Read one event, with the name of its SSE frame."""
        raise NotImplementedError

    def end(self) -> None:
        """Handle the end marker of the stream (``[DONE]``)."""
        self.ended = True

    def discard_text(self) -> None:
        """Discard the text so far, because the reported usage covers it."""
        self.has_discarded_text |= not self.text_buffer.empty or bool(self.tool_calls)
        self.text_buffer.clear()
        self.tool_calls.clear()
        self.counted_usage = self.usage

    def body(self) -> dict[str, Any]:
        """Return a response as without streaming, reduced to its billable parts."""
        return self.build_body(dict(self.usage or {}), self.calls())

    def calls(self) -> list[dict[str, Any]]:
        """Return the output items so far that cost a fee. Only the Responses API has them."""
        return []

    def with_output(self, usage: dict[str, Any], output: int) -> dict[str, Any]:
        """Return ``usage`` with ``output`` tokens, in the provider's own keys, which include caches."""
        changed = {key: value for key, value in usage.items() if not key.startswith("total")}
        changed[self.count_keys[1]] = output
        return changed

    def build_body(self, usage: dict[str, Any], calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """Return a body with this usage and these output items."""
        body: dict[str, Any] = {}
        if self.model is not None:
            body["model"] = self.model
        if self.service_tier is not None:
            body["service_tier"] = self.service_tier
        body[self.usage_key] = usage
        if calls:
            body["output"] = list(calls)
        return body

    def _add_tool_call(self, call: Hashable) -> None:
        """Add a call of a tool, which may occur in several events."""
        if len(self.tool_calls) < MAX_NAMES:
            self.tool_calls.add(call)

    def _update_served(self, response: Mapping[str, Any], model: str = "model", tier: str = "service_tier") -> None:
        """Update the served model and tier, if this event names them."""
        name = response.get(model)
        if isinstance(name, str) and name:
            self.model = truncate_name(name)
        if response.get(tier) not in (None, ""):
            self.service_tier = bounded_value(response[tier])

    def _bounded_objects(self, value: Any, label: str) -> list[tuple[int, dict[str, Any]]]:
        """Return the objects of a list, up to a number that bounds the work."""
        if isinstance(value, list | tuple) and len(value) > MAX_NAMES:
            self.warnings.append(f"{len(value)} {label} in an event; at most {MAX_NAMES} are read")
            value = value[:MAX_NAMES]
        return list(enumerate_objects(value))

    @property
    def stated_input(self) -> int:
        """The input tokens of the usage so far, if it states them, even if the usage as a whole cannot be read."""
        return self._stated(self.count_keys[0])

    @property
    def stated_output(self) -> int:
        """The output tokens of the usage so far, if it states them, even if the usage as a whole cannot be read."""
        return self._stated(self.count_keys[1])

    @property
    def states_quantities(self) -> bool:
        """Whether the usage so far has a number that is not zero."""
        return _number_sum(self.usage) > 0

    def _stated(self, name: str) -> int:
        count = (self.usage or {}).get(name)
        return count if type(count) is int and count > 0 else 0

    def _update_usage(self, usage: Any) -> bool:
        """Merge a usage that an event reports with the usage so far: counts are cumulative and never decrease."""
        if usage is None or usage == {}:
            return False
        if not isinstance(usage, dict):
            self.warnings.append(f"usage is {safe_repr(usage)}; expected an object with counts")
            return False
        try:
            usage = whole_numbers(_BoundedCopy().copy(usage))
        except Exception as error:  # an object of the caller may raise anything
            self.warnings.append(f"a usage cannot be stored: {describe_error(error)}")
            return False
        if self.usage is None:
            self._current_usage = None
        decreases: list[str] = []
        if self._current_usage is not None:
            usage, decreases = merge_counts(self._current_usage, usage)
        try:
            self._current_usage = usage = _BoundedCopy().copy(usage)
            if self._earlier_usage is not None:
                usage = _BoundedCopy().copy(add_counts(self._earlier_usage, usage))
            self.usage = usage
        except ValueError as error:
            self.warnings.append(f"a usage cannot be stored: {describe_error(error)}")
            return False
        self.warnings += decreases
        return True

    def _start_response(self) -> None:
        """Start the next one of several responses in one stream. Their counts are added."""
        if self.usage is not None:
            self._earlier_usage, self._current_usage = self.usage, None
            self.warnings.append(
                "the stream has several responses; their counts are added, and the context tier is that of the sum: "
                "feed each response to a StreamUsage of its own"
            )


def add_counts(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the sum of each count of the usage objects of two responses."""
    added = {**first, **second}
    for key, new in second.items():
        old = first.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            added[key] = add_counts(old, new)
        elif type(old) is type(new) is int:
            added[key] = old + new
        elif type(old) in (int, float) and type(new) in (int, float):
            added[key] = float(Decimal(repr(old)) + Decimal(repr(new)))
        elif isinstance(old, list) and isinstance(new, list):
            added[key] = [*old, *new]
        elif new is None:
            added[key] = old
    return added


def merge_counts(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the larger of each count of two usage objects of one response, and a warning for each decrease.

    Counts are cumulative: a later zero, or a chunk with a part of the counts, takes nothing away.
    """
    warnings: list[str] = []
    merged = dict(before)
    for key, new in after.items():
        old = before.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            merged[key], further = merge_counts(old, new)
            warnings += further
        elif type(old) is type(new) is int or (type(old) is type(new) is float):
            merged[key] = max(old, new)
            if new < old and not key.startswith("total"):
                warnings.append(f"{key} decreased from {old} to {new}; the larger value counts")
        elif isinstance(old, list) and isinstance(new, list):
            merged[key] = max(new, old, key=_number_sum)
        elif new is not None and new != "":
            merged[key] = new
    if type(merged.get("total_tokens")) is int:
        _merge_total(merged, before, after)
    return merged, warnings


def _merge_total(merged: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    """Add up the totals of two chunks that each state a part of the counts."""
    for input_key, output_key in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        parts = [merged.get(input_key), merged.get(output_key)]
        halves = [
            each.get("total_tokens") == (each.get(input_key) or 0) + (each.get(output_key) or 0)
            for each in (before, after)
        ]
        if all(type(part) is int for part in parts) and all(halves):
            merged["total_tokens"] = sum(parts)


def _number_sum(value: Any) -> int:
    if isinstance(value, dict | list):
        return sum(map(_number_sum, value.values() if isinstance(value, dict) else value))
    return value if type(value) is int else 0


class _BoundedCopy:
    """Copies a usage object within bounds, so that later changes of the caller have no effect."""

    def __init__(self) -> None:
        self._values = self._text = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return plain JSON. Any other value becomes a list with its text, which is no count."""
        kind = type(value)
        if kind is int and -(2**63) <= value < 2**63:
            return value
        if value is None or kind is bool or kind is float:
            return value
        if isinstance(value, str):
            return self._copy_text(value)
        if kind is Decimal and (number := decimal_to_json(value)) is not None:
            return number
        if isinstance(value, dict | list | tuple):
            self._values += len(value)
            self._check_bounds(depth <= _MAX_DEPTH)
            if isinstance(value, dict):
                self._check_bounds(len(value) <= _MAX_KEYS)
                return {self._copy_text(key): self.copy(item, depth + 1) for key, item in value.items()}
            return [self.copy(item, depth + 1) for item in value]
        if kind is int:
            self._text += value.bit_length() // 3
            self._check_bounds(True)
            return value
        return [safe_repr(value)]

    def _copy_text(self, value: Any) -> str:
        text = value if type(value) is str else str.__str__(value) if isinstance(value, str) else str(value)
        self._text += len(text)
        if self._text > _MAX_USAGE_CHARACTERS:
            self._check_bounds(False)
        return text

    def _check_bounds(self, within: bool) -> None:
        if not within or self._values > _MAX_VALUES or self._text > _MAX_USAGE_CHARACTERS:
            raise ValueError(f"it has more than {_MAX_KEYS} keys or {_MAX_USAGE_CHARACTERS} characters, or is too deep")


def describe_error(error: Exception) -> str:
    """Return the type of an error, and its message if it is readable."""
    try:
        return f"{type(error).__name__}: {safe_repr(str(error))}"
    except Exception:
        return type(error).__name__


def bounded_value(value: Any, is_nested: bool = False) -> Any:
    """Return a name at a bounded length, or another value at a bounded size.

    Unlike in a stored body, an object is kept, because Bedrock puts its tiers into objects.
    """
    if isinstance(value, str):
        return truncate_name(value)
    if isinstance(value, dict) and not is_nested:
        return {truncate_name(str(key)): bounded_value(item, True) for key, item in islice(value.items(), 8)}
    if type(value) is int and value.bit_length() > 64:
        return [safe_repr(value)]
    return value if value is None or type(value) in (bool, int, float) else [safe_repr(value)]


def index_or(value: Any, default: int = -1) -> int:
    """Return the index of a choice, a call or a block if it is valid, else ``default``."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else default


def enumerate_objects(value: Any) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield the objects of a list with their indexes. Other values are skipped."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield index, item


def content_text(value: Any) -> str:
    """Return the text of a content: a string, or parts with ``text``, ``refusal``, ``thinking`` or ``summary``."""
    if isinstance(value, str):
        return value
    texts = [
        content_text(part[key])
        for _, part in enumerate_objects(value)
        for key in ("text", "refusal", "thinking", "summary")
        if isinstance(part.get(key), str | list)
    ]
    return "".join(texts)


def arguments_text(value: Any) -> str:
    """Return the arguments of a call as text. Providers send a string of JSON, or the object itself."""
    if value is None or value == {}:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
