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

__all__ = ["ROLES", "SYSTEM", "RequestCounter", "to_json", "require_name", "require_objects", "iter_texts"]

SYSTEM: Final = ("system", "developer")
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=dict)
_MAX_VALUES: Final = 1_000_000
_DICT_ONLY: Final = frozenset({dict})
ROLES: Final = ("user", "assistant", "system", "developer")
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
        count_content(self.builder, kind, content, self.api, self.image_size)

    def count_text_message(self, role: str, text: str) -> None:
        """Count a message whose content is a text: the fast path of :meth:`count_message`."""
        kind = "messages"
        if role in SYSTEM:
            kind, self.has_system_message = "system", True
        self.builder.add_rule(kind, "message")
        if role == "assistant":
            self.builder.add_rule(kind, "final_message")
        self.builder.add_text(kind, text)

    def count_unknown_keys(self, kind: str, value: Mapping[str, Any], known_keys: frozenset[str]) -> None:
        """Count the texts under unknown keys of a message or an item, because the model may receive them."""
        for key in value.keys() - known_keys:
            tokens = sum(map(self.builder.count_text, iter_texts(value[key])))
            if tokens:
                self.builder.add_estimate(
                    kind, tokens, 2 * tokens + 16, f"the tokens of {safe_repr(key, 40)} are unknown"
                )

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
            return
        reason = f"how {rendered.unverified[0]} in a tool's schema is rendered is confirmed by no recorded request"
        self.builder.add_estimate("tools", tokens, self._schema_bound(tokens, functions, rendered), reason)

    def count_deferred_tools(self, functions: Sequence[Mapping[str, Any]], overhead: int) -> None:
        """Count function tools that a search of the provider may add to the input while it runs."""
        rendered = self._render_tools(functions, "functions")
        upper = self._schema_bound(self.builder.count_text(rendered.text), functions, rendered) + overhead * len(
            functions
        )
        bound = None if self.builder.family.vocabulary_unknown else upper
        self.builder.add_estimate("tools", 0, bound, "the tools that a search finds are unknown before the call")

    def _render_tools(self, functions: Sequence[Mapping[str, Any]], namespace: str) -> RenderedTools:
        rendered = self.render(functions, namespace, self.render_budget)
        self.render_budget -= rendered.cost
        return rendered

    def _schema_bound(self, tokens: int, functions: Sequence[Mapping[str, Any]], rendered: RenderedTools) -> int:
        """Return the upper bound of function tools. An omitted part may be shown as it is, besides the rest."""
        upper, raw = tokens + tokens // 4 + 16, self.builder.count_text(to_json(functions))
        return upper + raw if rendered.has_omissions else max(upper, raw)

    def count_tool_call(self, name: object, arguments: object, namespace: object = None) -> str:
        """Count a call of a tool. Returns the full name of the tool."""
        if not isinstance(name, str):
            raise BillingError("invalid_request", f"a call's name is {safe_repr(name)}; use the name of a tool")
        full_name = f"{namespace if isinstance(namespace, str) and namespace else 'functions'}.{name}"
        self.builder.add_rule("tool calls", "call")
        self.builder.add_text("tool calls", full_name)
        self.builder.add_text("tool calls", arguments if isinstance(arguments, str) else to_json(arguments))
        return full_name

    def count_tool_result(self, full_name: str, content: object) -> None:
        """Count the result of a tool."""
        self.builder.add_rule("tool results", f"result_{self.api}")
        self.builder.add_text(
            "tool results", full_name if self.builder.dialect.result_full_name else full_name.rpartition(".")[2]
        )
        count_content(self.builder, "tool results", content, self.api, self.image_size)

    def count_parallel_calls(self, calls: int) -> None:
        """Count the overhead of parallel calls."""
        for _ in range(calls - 1):
            self.builder.add_rule("tool calls", f"parallel_{self.api}")

    def count_output_schema(self, name: object, description: object, schema: object) -> None:
        """Count the JSON Schema of a structured output."""
        comment = f"\n// {description}" if isinstance(description, str) and description else ""
        text = f"# Response Formats\n\n## {name}\n{comment}\n{to_json(schema)}"
        tokens = self.builder.count_text(text)
        self.builder.add_rule("format", "schema")
        reason = "how the schema of a structured output is shown to the model is confirmed by no recorded request"
        self.builder.add_estimate("format", tokens, tokens + tokens // 2 + 32, reason)


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
