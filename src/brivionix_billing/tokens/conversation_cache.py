"""Conversations that were counted before: a request that goes on from one is counted from there.

A request holds the whole conversation, so each turn repeats all turns before it. Looking every text up costs little,
but it is done again with every turn; here the messages that were there the last time are compared as one list, which
is many times as fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final, NamedTuple

from brivionix_billing.tokens.token_count import CountSnapshot

__all__ = ["MIN_CACHED_MESSAGES", "ConversationCache", "Key", "CountProgress", "CachedConversation", "conversation_key"]

Key = tuple[str | None, ...]

_PART: Final = 128
"""A message, and each object and list in it, weighs so many characters more than its texts."""
MIN_CACHED_MESSAGES: Final = 8
"""A shorter one is counted as fast without."""


class CountProgress(NamedTuple):
    """How far a walk through a conversation has come."""

    number: int
    """Messages that are counted."""
    counted: CountSnapshot
    names: dict[str | None, str]
    """Ids of calls -> names of the tools."""
    parallel_calls: int
    """Calls made at once so far, where the last message counted was one."""
    system: bool
    render_budget: int


class CachedConversation(NamedTuple):
    """A conversation that was counted."""

    messages: list[Any]
    """Copies: the caller may change what it gave us. Texts alone, so that what is equal counts the same: 1 == True."""
    progress: CountProgress
    weight: int
    """In characters."""


class ConversationCache:
    """Remembers conversations by how they begin, up to a bound."""

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._weight = 0
        self._seen: dict[Key, CachedConversation] = {}
        self._lock = Lock()

    def find(self, key: Key, messages: Sequence[Mapping[str, Any]]) -> CachedConversation | None:
        """What was counted of a conversation before."""
        seen = self._seen.get(key)
        # One comparison in C.
        if seen is not None and messages[: len(seen.messages)] == seen.messages:
            return seen
        return None

    def store(
        self, key: Key, messages: Sequence[Mapping[str, Any]], progress: CountProgress, seen: CachedConversation | None
    ) -> None:
        """Remember what came of a conversation that went on from ``seen``; all ``messages`` are compared next time."""
        known, weight = (seen.messages, [seen.weight]) if seen is not None else ([], [0])
        try:
            new = [_copy_weighed(message, weight) for message in messages[len(known) :]]
        except (TypeError, RecursionError):
            return
        if new:
            self._keep(key, CachedConversation([*known, *new], progress, weight[0]))

    def _keep(self, key: Key, seen: CachedConversation) -> None:
        with self._lock:
            self._drop(key)
            if seen.weight <= self._most // 4:  # one huge conversation shall not push out all others
                self._seen[key] = seen
                self._weight += seen.weight
            while self._weight > self._most:
                self._drop(next(iter(self._seen)))  # what was not counted for longest stands first

    def _drop(self, key: Key) -> None:
        dropped = self._seen.pop(key, None)
        if dropped is not None:
            self._weight -= dropped.weight

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._seen.clear()
            self._weight = 0

    @property
    def characters(self) -> int:
        """What they weigh."""
        return self._weight


def conversation_key(way: str, messages: Sequence[Mapping[str, Any]]) -> Key:
    """How a conversation begins. ``way``: what else decides how it is counted."""
    return (way, *[_first_text(message) for message in messages[:2]])


def _first_text(message: Mapping[str, Any]) -> str | None:
    """A text that the message begins with, if it has one."""
    content: Any = message.get("content")
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        content = content[0].get("text")
    return content if isinstance(content, str) else None


def _copy_weighed(value: Any, weight: list[int]) -> Any:
    """A copy of a value of texts; its weight is added. Raises ``TypeError`` for any other value."""
    if type(value) is str:
        weight[0] += len(value)
        return value
    if value is None:
        return None
    weight[0] += _PART
    if type(value) is list:
        return [_copy_weighed(item, weight) for item in value]
    if type(value) is not dict:
        raise TypeError
    copy = value.copy()
    for key, item in value.items():
        if type(key) is not str:
            raise TypeError
        weight[0] += len(key)
        if type(item) is str:  # as nearly all are
            weight[0] += len(item)
        else:
            copy[key] = _copy_weighed(item, weight)
    return copy
