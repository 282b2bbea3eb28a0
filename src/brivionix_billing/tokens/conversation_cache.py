"""Caches counted conversations, so that a request that continues one is counted from there.

A request holds the whole conversation, so each turn repeats all turns before it. Looking up every text is cheap, but
happens again on every turn. Here the earlier messages are compared as one list, which is many times as fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final, NamedTuple

from brivionix_billing.tokens.token_count import CountSnapshot

__all__ = ["MIN_CACHED_MESSAGES", "ConversationCache", "Key", "CountProgress", "CachedConversation", "conversation_key"]

Key = tuple[str | None, ...]

_NODE_WEIGHT: Final = 128
"""Weight of a message, and of each object and list in it, beyond its texts, in characters."""
MIN_CACHED_MESSAGES: Final = 8
"""Minimum number of messages of a cached conversation. Shorter ones are counted as fast without the cache."""


class CountProgress(NamedTuple):
    """The state of a count after a number of messages."""

    message_count: int
    """Number of counted messages."""
    snapshot: CountSnapshot
    tool_names: dict[str | None, str]
    """Id of a tool call -> name of the tool."""
    parallel_calls: int
    """Parallel calls so far, if the last counted message is a call."""
    has_system_message: bool
    system_end: str | None
    render_budget: int


class CachedConversation(NamedTuple):
    """A counted conversation."""

    messages: list[Any]
    """Copies, because the caller may change the originals. They hold texts only: 1 == True, but both count
    differently."""
    progress: CountProgress
    weight: int
    """Weight in characters."""


class ConversationCache:
    """Caches conversations by their first messages, up to a bound."""

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._weight = 0
        self._conversations: dict[Key, CachedConversation] = {}
        self._lock = Lock()

    def find(self, key: Key, messages: Sequence[Mapping[str, Any]]) -> CachedConversation | None:
        """Return the cached part of a conversation, if there is one."""
        cached = self._conversations.get(key)
        # One comparison, in C.
        if cached is not None and messages[: len(cached.messages)] == cached.messages:
            return cached
        return None

    def store(
        self,
        key: Key,
        messages: Sequence[Mapping[str, Any]],
        progress: CountProgress,
        cached: CachedConversation | None,
    ) -> None:
        """Store the progress of a conversation that continues ``cached``.

        The next look-up compares all ``messages``.
        """
        earlier, weight = (cached.messages, [cached.weight]) if cached is not None else ([], [0])
        try:
            added = [_copy_weighed(message, weight) for message in messages[len(earlier) :]]
        except (TypeError, RecursionError):
            return
        if added:
            self._insert(key, CachedConversation([*earlier, *added], progress, weight[0]))

    def _insert(self, key: Key, cached: CachedConversation) -> None:
        with self._lock:
            self._drop(key)
            if cached.weight <= self._max_characters // 4:  # one huge conversation must not displace all others
                self._conversations[key] = cached
                self._weight += cached.weight
            while self._weight > self._max_characters:
                self._drop(next(iter(self._conversations)))  # the least recently stored is first

    def _drop(self, key: Key) -> None:
        dropped = self._conversations.pop(key, None)
        if dropped is not None:
            self._weight -= dropped.weight

    def clear(self) -> None:
        """Drop all conversations."""
        with self._lock:
            self._conversations.clear()
            self._weight = 0

    @property
    def characters(self) -> int:
        """Weight of all conversations, in characters."""
        return self._weight


def conversation_key(variant: str, messages: Sequence[Mapping[str, Any]]) -> Key:
    """Return the key of a conversation: its first texts.

    ``variant`` is a condition that changes how the conversation is counted.
    """
    return (variant, *[_first_text(message) for message in messages[:2]])


def _first_text(message: Mapping[str, Any]) -> str | None:
    """Return the first text of a message, if it starts with one."""
    content: Any = message.get("content")
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        content = content[0].get("text")
    return content if isinstance(content, str) else None


def _copy_weighed(value: Any, weight: list[int]) -> Any:
    """Copy a value of texts and add its weight. Raises ``TypeError`` for any other value."""
    if type(value) is str:
        weight[0] += len(value)
        return value
    if value is None:
        return None
    weight[0] += _NODE_WEIGHT
    if type(value) is list:
        return [_copy_weighed(item, weight) for item in value]
    if type(value) is not dict:
        raise TypeError
    copy = value.copy()
    for key, item in value.items():
        if type(key) is not str:
            raise TypeError
        weight[0] += len(key)
        if type(item) is str:  # the most frequent case
            weight[0] += len(item)
        else:
            copy[key] = _copy_weighed(item, weight)
    return copy
