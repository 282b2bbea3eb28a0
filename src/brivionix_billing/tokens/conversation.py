"""Conversations that were counted before: a request that goes on from one is counted from there.

A chat completion request holds the whole conversation, so each turn repeats all turns before it. Looking every message
up costs little, but it is done again with every turn; here the messages that were there the last time are compared as
one list, which is several times as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Final, NamedTuple

__all__ = ["SYSTEM", "Conversations", "Sums"]

SYSTEM: Final = ("system", "developer")
_MESSAGE: Final = 256
"""A message weighs so many characters more than its text."""
_WORTH_KEEPING: Final = 8
"""A shorter one is counted as fast without."""


class Sums(NamedTuple):
    """What the plain messages at the begin of a conversation add up to."""

    messages: int = 0
    """How many they are."""
    characters: int = 0
    system: int = 0
    asked: int = 0
    answered: int = 0
    system_tokens: int = 0
    tokens: int = 0
    """Of the texts of user and assistant."""
    system_characters: int = 0


class _Seen(NamedTuple):
    messages: list[dict[str, Any]]
    """Copies: the caller may change what it gave us."""
    sums: Sums

    @property
    def weight(self) -> int:
        """In characters."""
        return self.sums.characters + _MESSAGE * self.sums.messages


class Conversations:
    """Remembers plain messages (a role and a text, nothing else) by how the conversation begins, up to a bound."""

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._weight = 0
        self._seen: dict[tuple[Any, ...], _Seen] = {}
        self._lock = Lock()

    def sums(self, messages: Sequence[Mapping[str, Any]], count: Callable[[str], int]) -> tuple[Sums, Sums]:
        """The sums over the plain messages at the begin, and over those of them that were remembered.

        ``count`` gives the tokens of a text; it is asked for the others.
        """
        key = tuple([message.get("content") for message in messages[:2]])
        try:
            seen = self._seen.get(key)
        except TypeError:  # the first contents are lists of parts
            return Sums(), Sums()
        start = Sums()
        # One comparison in C. Equal dicts of texts are the same messages.
        if seen is not None and messages[: seen.sums.messages] == seen.messages:
            start = seen.sums
        found = _added(start, messages, count)
        if found.messages >= _WORTH_KEEPING and found.messages != start.messages:
            kept = seen.messages if seen is not None and start.messages else []
            new = [dict(message) for message in messages[start.messages : found.messages]]
            self._keep(key, _Seen([*kept, *new], found))
        return found, start

    def _keep(self, key: tuple[Any, ...], seen: _Seen) -> None:
        with self._lock:
            self._drop(key)
            if seen.weight <= self._most // 4:  # one huge conversation shall not push out all others
                self._seen[key] = seen
                self._weight += seen.weight
            while self._weight > self._most:
                self._drop(next(iter(self._seen)))  # what was not counted for longest stands first

    def _drop(self, key: tuple[Any, ...]) -> None:
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


def _added(start: Sums, messages: Sequence[Mapping[str, Any]], count: Callable[[str], int]) -> Sums:
    number, characters, system, asked, answered, system_tokens, tokens, system_characters = start
    for message in messages[number:]:
        content, role = message.get("content"), message.get("role")
        if type(content) is not str or len(message) != 2:
            break
        if role == "user":
            asked += 1
            tokens += count(content)
        elif role == "assistant":
            answered += 1
            tokens += count(content)
        elif role in SYSTEM:
            system += 1
            system_tokens += count(content)
            system_characters += len(content)
        else:
            break
        characters += len(content)
        number += 1
    return Sums(number, characters, system, asked, answered, system_tokens, tokens, system_characters)
