"""Counts the parts that requests of both APIs have: contents, tools, calls and their results, formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.content import ImageSizeLookup, count_content
from brivionix_billing.tokens.conversation_cache import (
    MIN_CACHED_MESSAGES,
    CachedConversation,
    ConversationCache,
    CountProgress,
    Key,
    conversation_key,
)
from brivionix_billing.tokens.token_count import CountBuilder
from brivionix_billing.tokens.tool_signatures import MAX_RENDERED_CHARACTERS, RenderedTools

__all__ = [
    "ROLES",
    "SYSTEM",
    "RequestCounter",
    "compact_json",
    "to_json",
    "require_name",
    "require_objects",
    "iter_texts",
]

SYSTEM: Final = ("system", "developer")
_CUSTOM_FORMAT_MARGIN: Final = 256
"""One recorded request has a grammar, which adds about 90 tokens besides its text."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=dict)
_END_CHARACTERS: Final = 64
_TOOLS_WITH_MARGIN: Final = 64
"""Tokens of rendered tools from which the bound has a token more."""
_UNKNOWN_KEY_MARGIN: Final = 64
_MAX_VALUES: Final = 1_000_000
_DICT_ONLY: Final = frozenset({dict})
ROLES: Final = ("user", "assistant", "system", "developer")
WRAPPED: Final = "multi_tool_use.parallel"
"""Name that stands for a tool whose call is wrapped with others."""
WRAPPED_LAST: Final = "multi_tool_use.parallel, last"
"""The same for the last call of a wrapper."""
ToolRenderer = Callable[[Sequence[Mapping[str, Any]], str, int], RenderedTools]
"""Function that renders tools under a namespace, within a budget of characters."""


@dataclass(slots=True)
class RequestCounter:
    """The state of counting one request."""

    builder: CountBuilder
    render: ToolRenderer
    conversations: ConversationCache
    image_size: ImageSizeLookup | None
    api: Literal["chat", "responses"]
    render_budget: int = MAX_RENDERED_CHARACTERS
    """Remaining budget for rendering tools, in characters."""
    tool_names: dict[str | None, str] = field(default_factory=dict)
    """Id of a tool call -> name of the tool."""
    parallel_calls: int = 0
    """Number of parallel calls so far."""
    has_system_message: bool = False
    """Whether a message of the system was counted."""
    system_end: str | None = None
    """The end of the text of the first message of the system."""
    has_tools: bool = False
    """Whether the request has function tools."""
    key: Key | None = None
    """Key of the conversation in the cache, if it is cached."""
    cached: CachedConversation | None = None
    """The cached conversation that this request continues."""

    def count_message(self, role: object, content: object, *, commentary: bool = False) -> None:
        """Count a message of the system, the user or the assistant; ``commentary``: a tool call follows it."""
        if not isinstance(role, str):
            raise BillingError("invalid_request", f"a message's role is {safe_repr(role)}; use a text such as 'user'")
        kind = "system" if role in SYSTEM else "messages"
        self.builder.add_rule(kind, "message")
        if role not in ROLES:
            tokens = self.builder.count_text(role)
            self.builder.add_estimate(
                kind, tokens, 2 * tokens + 8, "how a message of another role is shown to the model is unknown"
            )
        if role == "assistant":
            self.builder.add_rule(kind, "commentary_message" if commentary else "final_message")
        if kind == "system":
            self._note_system_end(content)
        count_content(self.builder, kind, content, self.api, self.image_size)

    def _note_system_end(self, content: object) -> None:
        if self.system_end is None:
            part = content[-1] if isinstance(content, list | tuple) and content else content
            text = part.get("text") if isinstance(part, Mapping) else part
            self.system_end = text[-_END_CHARACTERS:] if isinstance(text, str) else ""

    def count_after_system(self, kind: str, *, is_first: bool) -> None:
        """Count the blank line between the message of the system and what the provider appends to it.

        It costs a token, unless it merges with the end of the text. No other message of the system is extended.
        """
        end = self.system_end
        if end is None:
            return
        tokens = 1
        if is_first:
            tokens = self.builder.count_text(f"{end}\n\n") - self.builder.count_text(end)
        self.builder.add_exact(kind, tokens, 2)

    def count_text_message(self, role: str, text: str) -> None:
        """Count a message whose content is a text: the fast path of :meth:`count_message`."""
        kind = "messages"
        if role in SYSTEM:
            kind, self.has_system_message = "system", True
            if self.system_end is None:
                self.system_end = text[-_END_CHARACTERS:]
        self.builder.add_rule(kind, "message")
        if role == "assistant":
            self.builder.add_rule(kind, "final_message")
        self.builder.add_text(kind, text)

    def count_unknown_keys(self, kind: str, value: Mapping[str, Any], known_keys: frozenset[str]) -> None:
        """Count unknown keys of a message or an item, because the model may receive them.

        The bound is the JSON of the value at one token per byte: no encoding makes more.
        """
        for key in value.keys() - known_keys:
            if value[key] is None:
                continue
            tokens = sum(map(self.builder.count_text, iter_texts(value[key])))
            size = len(to_json(value[key]).encode("utf-8", "replace"))
            self.builder.charge_characters(size)
            reason = f"the tokens of {safe_repr(key, 40)} are unknown"
            self.builder.add_estimate(kind, tokens, size + _UNKNOWN_KEY_MARGIN, reason)

    def resume(self, messages: Sequence[Mapping[str, Any]], variant: str) -> int:
        """Continue from the cached count of a conversation. Returns the number of messages that it covers."""
        if len(messages) < MIN_CACHED_MESSAGES:
            return 0
        self.key = conversation_key(variant, messages)
        self.cached = self.conversations.find(self.key, messages)
        if self.cached is None:
            return 0
        progress = self.cached.progress
        self.builder.restore(progress.snapshot)
        self.tool_names, self.parallel_calls, self.has_system_message = (
            dict(progress.tool_names),
            progress.parallel_calls,
            progress.has_system_message,
        )
        self.system_end = progress.system_end
        self.render_budget = progress.render_budget
        return progress.message_count

    def store_progress(self, messages: Sequence[Mapping[str, Any]], message_count: int) -> None:
        """Cache the conversation, of which ``message_count`` messages are counted."""
        if self.key is None:
            return
        # The caller may return another size of an image next time.
        if self.image_size is None or not self.builder.has_estimates("images"):
            progress = CountProgress(
                message_count,
                self.builder.snapshot(),
                dict(self.tool_names),
                self.parallel_calls,
                self.has_system_message,
                self.system_end,
                self.render_budget,
            )
            self.conversations.store(self.key, messages, progress, self.cached)

    def count_tools(self, functions: Sequence[Mapping[str, Any]], namespace: str = "functions") -> None:
        """Count function tools in their rendered form."""
        rendered = self._render_tools(functions, namespace)
        tokens = self.builder.count_text(rendered.text)
        if self.builder.family.vocabulary_unknown:
            self.builder.add_estimate("tools", tokens, None, "how this model is shown its tools is unknown")
            return
        if not rendered.unverified:
            self.builder.add_exact("tools", tokens, len(rendered.text))
            if tokens >= _TOOLS_WITH_MARGIN:
                self.builder.add_margin("tools", 1, "few recorded requests with tools differ by a token")
            return
        reason = f"how {rendered.unverified[0]} in a tool's schema is rendered is confirmed by no recorded request"
        bound: int | None = self._schema_bound(tokens, functions, rendered)
        if rendered.unknown:
            reason, bound = f"what {rendered.unknown} of a tool adds to the input is unknown", None
        self.builder.add_estimate("tools", tokens, bound, reason)

    def count_deferred_tools(self, functions: Sequence[Mapping[str, Any]], overhead: int) -> None:
        """Count function tools that a search of the provider may add to the input while it runs."""
        rendered = self._render_tools(functions, "functions")
        upper = self._schema_bound(self.builder.count_text(rendered.text), functions, rendered) + overhead * len(
            functions
        )
        bound = None if self.builder.family.vocabulary_unknown or rendered.unknown else upper
        self.builder.add_estimate("tools", 0, bound, "the tools that a search finds are unknown before the call")

    def _render_tools(self, functions: Sequence[Mapping[str, Any]], namespace: str) -> RenderedTools:
        rendered = self.render(functions, namespace, self.render_budget)
        self.render_budget -= rendered.cost
        return rendered

    def _schema_bound(self, tokens: int, functions: Sequence[Mapping[str, Any]], rendered: RenderedTools) -> int:
        """Return the upper bound of function tools. An omitted part may be shown as it is, besides the rest."""
        upper, raw = tokens + tokens // 4 + 16, self.builder.count_text(to_json(functions))
        # The format of a custom tool, such as a grammar, comes with an explanation.
        upper += _CUSTOM_FORMAT_MARGIN * sum(1 for tool in functions if tool.get("format") is not None)
        return upper + raw if rendered.has_omissions else max(upper, raw)

    def count_tool_call(self, name: object, arguments: object, namespace: object = None) -> str:
        """Count a call of a tool. Returns the full name of the tool."""
        if not isinstance(name, str):
            raise BillingError("invalid_request", f"a call's name is {safe_repr(name)}; use the name of a tool")
        full_name = f"{namespace if isinstance(namespace, str) and namespace else 'functions'}.{name}"
        self.builder.add_rule("tool calls", "call")
        self.builder.add_text("tool calls", full_name)
        text = arguments if isinstance(arguments, str) else to_json(arguments)
        compact = compact_json(text) if self.api == "chat" and self.builder.dialect.layout == "classic" else text
        tokens = self.builder.add_text("tool calls", compact)
        if compact != text and (whole := self.builder.count_text(text)) > tokens:
            self.builder.add_margin("tool calls", whole - tokens, "the spaces in the arguments of a call")
        return full_name

    def count_wrapped_calls(self, calls: Sequence[tuple[str | None, object, object]]) -> None:
        """Count several calls (id, name, arguments) that the model is shown as one call of a wrapper."""
        texts = []
        for call_id, name, arguments in calls:
            if not isinstance(name, str):
                raise BillingError("invalid_request", f"a call's name is {safe_repr(name)}; use the name of a tool")
            text = compact_json(arguments if isinstance(arguments, str) else to_json(arguments))
            texts.append(f'{{"recipient_name":{to_json(f"functions.{name}")},"parameters":{text}}}')
            self.tool_names[call_id] = WRAPPED if call_id != calls[-1][0] else WRAPPED_LAST
        self.builder.add_rule("tool calls", "parallel_wrapper")
        self.builder.add_text("tool calls", f'{{"tool_uses":[{",".join(texts)}]}}')
        reason = "how parallel calls and their results are shown is confirmed by few recorded requests"
        self.builder.add_estimate("tool calls", 0, 4 * len(calls), reason)

    def count_tool_result(self, full_name: str, content: object) -> None:
        """Count the result of a tool. The results of wrapped calls are the lines of one text."""
        if full_name in (WRAPPED, WRAPPED_LAST):
            if isinstance(content, str):
                self.builder.add_text("tool results", content if full_name == WRAPPED_LAST else f"{content}\n")
            else:
                self.builder.add_estimate("tool results", 1, 2, "how a result in parts is shown is unknown")
                count_content(self.builder, "tool results", content, self.api, self.image_size)
            return
        self.builder.add_rule("tool results", f"result_{self.api}")
        self.builder.add_text(
            "tool results", full_name if self.builder.dialect.result_full_name else full_name.rpartition(".")[2]
        )
        count_content(self.builder, "tool results", content, self.api, self.image_size)

    def count_parallel_calls(self, calls: int) -> None:
        """Count the overhead of parallel calls."""
        for _ in range(calls - 1):
            self.builder.add_rule("tool calls", f"parallel_{self.api}")


def iter_texts(value: Any) -> Iterator[str]:
    """Yield every text in a value. Raises ``request_too_large`` if it has more than a million parts."""
    pending = [value]
    for _ in range(_MAX_VALUES):
        if not pending:
            return
        value = pending.pop()
        if isinstance(value, str):
            if value:
                yield value
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
    raise BillingError("request_too_large", f"a part of the request has more than {_MAX_VALUES} values; send less")


def require_name(value: object, label: str) -> str | None:
    """Return an optional id or name. Raises ``invalid_request`` if it is not a text."""
    if value is None or isinstance(value, str):
        return value
    raise BillingError("invalid_request", f"{label} is {safe_repr(value)}; use a text")


def require_objects(value: object, label: str) -> list[Mapping[str, Any]]:
    """Return a list of objects; ``None`` is an empty one. Raises ``invalid_request`` for anything else."""
    if value is None:
        return []
    if isinstance(value, list | tuple) and (
        set(map(type, value)) <= _DICT_ONLY or all(isinstance(item, Mapping) for item in value)
    ):
        return list(value)
    raise BillingError("invalid_request", f"{label} is {safe_repr(value)}; use a list of objects")


def to_json(value: object) -> str:
    """Return JSON without spaces. Raises ``invalid_request`` if the value is nested too deeply or is not JSON."""
    try:
        return _ENCODER.encode(value)
    except (RecursionError, TypeError, ValueError) as error:
        raise BillingError("invalid_request", f"a part of the request is not JSON: {error}") from None


def compact_json(text: str) -> str:
    """Return a JSON text without spaces between its values, or the text itself if it is not JSON."""
    if '": ' not in text and ", " not in text:
        return text
    try:
        return _ENCODER.encode(json.loads(text))
    except (RecursionError, ValueError):
        return text
