"""What counting a request needs, whichever API it is for: contents, tools, calls and their results, formats."""

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
_MOST_VALUES: Final = 1_000_000
_DICT: Final = frozenset({dict})
ROLES: Final = ("user", "assistant", "system", "developer")
ToolRenderer = Callable[[Sequence[Mapping[str, Any]], str, int], RenderedTools]
"""Writes tools out under a namespace, with so much room."""


@dataclass(slots=True)
class RequestCounter:
    """One walk through one request."""

    tally: CountBuilder
    write: ToolRenderer
    conversations: ConversationCache
    image_size: ImageSizeLookup | None
    api: Literal["chat", "responses"]
    render_budget: int = MAX_RENDERED_CHARACTERS
    """What its tools may still take to write out."""
    tool_names: dict[str | None, str] = field(default_factory=dict)
    """Ids of calls -> names of the tools."""
    parallel_calls: int = 0
    """Calls made at once so far."""
    has_system_message: bool = False
    """Whether it has a message of the system."""
    key: Key | None = None
    """Under which the conversation is remembered, if it is."""
    seen: CachedConversation | None = None
    """What it went on from."""

    def count_message(self, role: object, content: object, *, remark: bool = False) -> None:
        """A message of the system, the user or the assistant; ``remark``: a tool call follows it."""
        if not isinstance(role, str):
            raise BillingError("invalid_request", f"a message's role is {safe_repr(role)}; it is a text such as 'user'")
        kind = "system" if role in SYSTEM else "messages"
        self.tally.add_rule(kind, "message")
        if role not in ROLES:
            tokens = self.tally.count_text(role)
            self.tally.add_estimate(kind, tokens, 2 * tokens + 8, "how a message of another role is shown is not known")
        if role == "assistant":
            self.tally.add_rule(kind, "commentary_message" if remark else "final_message")
        count_content(self.tally, kind, content, self.api, self.image_size)

    def count_text_message(self, role: str, text: str) -> None:
        """A message of the system, the user or the assistant that is a text: as :meth:`message`, and faster."""
        kind = "messages"
        if role in SYSTEM:
            kind, self.has_system_message = "system", True
        self.tally.add_rule(kind, "message")
        if role == "assistant":
            self.tally.add_rule(kind, "final_message")
        self.tally.add_text(kind, text)

    def count_unknown_keys(self, kind: str, thing: Mapping[str, Any], known: frozenset[str]) -> None:
        """What stands in a message or an item under keys that are not known: the model may be shown it."""
        for key in thing.keys() - known:
            tokens = sum(map(self.tally.count_text, iter_texts(thing[key])))
            if tokens:
                self.tally.add_estimate(kind, tokens, 2 * tokens + 16, f"what {safe_repr(key, 40)} adds is not known")

    def resume(self, messages: Sequence[Mapping[str, Any]], way: str) -> int:
        """Go on, with nothing counted yet, from what is known of a conversation; how many messages that covers."""
        if len(messages) < MIN_CACHED_MESSAGES:
            return 0
        self.key = conversation_key(way, messages)
        self.seen = self.conversations.find(self.key, messages)
        if self.seen is None:
            return 0
        found = self.seen.progress
        self.tally.restore(found.counted)
        self.tool_names, self.parallel_calls, self.has_system_message = (
            dict(found.names),
            found.parallel_calls,
            found.system,
        )
        self.render_budget = found.render_budget
        return found.number

    def store_progress(self, messages: Sequence[Mapping[str, Any]], number: int) -> None:
        """Remember the conversation, of which ``number`` messages are counted."""
        if self.key is None:
            return
        # What a caller says of an image's size may change.
        if self.image_size is None or not self.tally.has_estimates("images"):
            progress = CountProgress(
                number,
                self.tally.snapshot(),
                dict(self.tool_names),
                self.parallel_calls,
                self.has_system_message,
                self.render_budget,
            )
            self.conversations.store(self.key, messages, progress, self.seen)

    def count_tools(self, functions: Sequence[Mapping[str, Any]], namespace: str = "functions") -> None:
        """Function tools, written out."""
        written = self._written(functions, namespace)
        tokens = self.tally.count_text(written.text)
        if self.tally.family.vocabulary_unknown:
            self.tally.add_estimate("tools", tokens, None, "how this model is shown its tools is not known")
            return
        if not written.unverified:
            self.tally.add_exact("tools", tokens, len(written.text))
            return
        why = f"how {written.unverified[0]} in a tool's schema is written out is known from no request"
        self.tally.add_estimate("tools", tokens, self._most(tokens, functions, written), why)

    def count_deferred_tools(self, functions: Sequence[Mapping[str, Any]], around: int) -> None:
        """Function tools that a search of the provider's may put into the input while it runs."""
        written = self._written(functions, "functions")
        most = self._most(self.tally.count_text(written.text), functions, written) + around * len(functions)
        bound = None if self.tally.family.vocabulary_unknown else most
        self.tally.add_estimate("tools", 0, bound, "which tools a search finds is not known before")

    def _written(self, functions: Sequence[Mapping[str, Any]], namespace: str) -> RenderedTools:
        written = self.write(functions, namespace, self.render_budget)
        self.render_budget -= written.cost
        return written

    def _most(self, tokens: int, functions: Sequence[Mapping[str, Any]], written: RenderedTools) -> int:
        """The most that function tools cost: what is not written out may be shown as it stands, beside the rest."""
        most, whole = tokens + tokens // 4 + 16, self.tally.count_text(to_json(functions))
        return most + whole if written.has_omissions else max(most, whole)

    def count_tool_call(self, name: object, arguments: object, namespace: object = None) -> str:
        """A call of a tool; returns the tool's name in full."""
        if not isinstance(name, str):
            raise BillingError("invalid_request", f"a call's name is {safe_repr(name)}; it is the name of a tool")
        full = f"{namespace if isinstance(namespace, str) and namespace else 'functions'}.{name}"
        self.tally.add_rule("tool calls", "call")
        self.tally.add_text("tool calls", full)
        self.tally.add_text("tool calls", arguments if isinstance(arguments, str) else to_json(arguments))
        return full

    def count_tool_result(self, full: str, content: object) -> None:
        """What a tool gave back."""
        self.tally.add_rule("tool results", f"result_{self.api}")
        self.tally.add_text("tool results", full if self.tally.dialect.result_full_name else full.rpartition(".")[2])
        count_content(self.tally, "tool results", content, self.api, self.image_size)

    def count_parallel_calls(self, calls: int) -> None:
        """So many calls were made at once."""
        for _ in range(calls - 1):
            self.tally.add_rule("tool calls", f"parallel_{self.api}")

    def count_output_schema(self, name: object, description: object, schema: object) -> None:
        """The JSON Schema of a structured output."""
        said = f"\n// {description}" if isinstance(description, str) and description else ""
        text = f"# Response Formats\n\n## {name}\n{said}\n{to_json(schema)}"
        tokens = self.tally.count_text(text)
        self.tally.add_rule("format", "schema")
        why = "how the schema of a structured output is shown to the model is known from no request"
        self.tally.add_estimate("format", tokens, tokens + tokens // 2 + 32, why)


def iter_texts(value: Any) -> Iterator[str]:
    """Every text in a value. Raises ``request_too_large`` for a value of more than a million parts."""
    left = [value]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, str):
            if value:
                yield value
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    raise BillingError("request_too_large", f"a part of the request holds more than {_MOST_VALUES} values")


def require_name(value: object, what: str) -> str | None:
    """An id or a name that a message may have. Raises ``invalid_request`` for what is no text."""
    if value is None or isinstance(value, str):
        return value
    raise BillingError("invalid_request", f"{what} is {safe_repr(value)}; it is a text")


def require_objects(value: object, what: str) -> list[Mapping[str, Any]]:
    """A list of objects; ``None`` is an empty one. Raises ``invalid_request`` for anything else."""
    if value is None:
        return []
    if isinstance(value, list | tuple) and (
        set(map(type, value)) <= _DICT or all(isinstance(item, Mapping) for item in value)
    ):
        return list(value)
    raise BillingError("invalid_request", f"{what} is {safe_repr(value)}; it is a list of objects")


def to_json(value: object) -> str:
    """JSON without spaces. Raises ``invalid_request`` for what is too deep or no JSON."""
    try:
        return _ENCODER.encode(value)
    except (RecursionError, TypeError, ValueError) as error:
        raise BillingError("invalid_request", f"a part of the request is not JSON: {error}") from None
