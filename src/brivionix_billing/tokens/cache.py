"""A bounded memory of what was counted, keyed by content. Safe to use from threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Final, NamedTuple, TypeVar

__all__ = ["GenerationalCache", "CacheInfo"]

T = TypeVar("T")
_ENTRY_OVERHEAD: Final = 64
"""An entry weighs so many characters more than its text: very many short ones are bounded as well."""


class CacheInfo(NamedTuple):
    """What a cache holds, and how often it helped."""

    hits: int
    misses: int
    entries: int
    characters: int
    """What it holds now; an entry weighs its text and 64 more, a message of a conversation its text and 256 more."""
    most_characters: int


class GenerationalCache:
    """Remembers values by key, up to a bound.

    There are two generations. What is new, or was found in the old one, is put into the young one; when that is half of
    what is allowed, it becomes the old one, and the old one is dropped. So a look-up changes nothing and needs no lock,
    and what is used stays. The keys are the contents themselves: two contents are never taken for each other.
    """

    def __init__(self, most_characters: int) -> None:
        self.most = most_characters
        self.recent: dict[Hashable, Any] = {}
        """Only for looking up; see :meth:`used`."""
        self._old: dict[Hashable, Any] = {}
        self._weight = self._old_weight = 0
        self._hits = self._misses = 0
        self._lock = Lock()

    def get(self, key: Hashable, size: int, make: Callable[[], T]) -> T:
        """The value of a key, made where it is not there. Made outside the lock: two threads may both make it."""
        found: T | None = self.recent.get(key)
        if found is not None:
            self.record_hits(1)
            return found
        found = self._old.get(key)
        with self._lock:
            if found is None:
                self._misses += 1
            else:
                self._hits += 1
        made = make() if found is None else found
        weight = size + _ENTRY_OVERHEAD
        if weight <= self.most // 8:  # one huge text shall not push out all others
            with self._lock:
                if key not in self.recent:
                    if self._weight + weight > self.most // 2:
                        self._old, self._old_weight = self.recent, self._weight
                        self.recent, self._weight = {}, 0
                    self.recent[key] = made
                    self._weight += weight
        return made

    def record_hits(self, times: int) -> None:
        """So many look-ups in :attr:`young` found what they looked for."""
        with self._lock:
            self._hits += times

    def clear(self) -> None:
        """Forget everything but the figures."""
        with self._lock:
            self.recent, self._old = {}, {}
            self._weight = self._old_weight = 0

    def info(self) -> CacheInfo:
        """What it holds, and how often it helped."""
        with self._lock:
            entries = len(self.recent.keys() | self._old.keys())
            return CacheInfo(self._hits, self._misses, entries, self._weight + self._old_weight, self.most)
