"""A bounded cache of counts, keyed by content. It is safe to use from threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Final, NamedTuple, TypeVar

__all__ = ["GenerationalCache", "CacheInfo"]

T = TypeVar("T")
_ENTRY_OVERHEAD: Final = 64
"""Weight of an entry beyond its text, in characters. It bounds the memory of many short entries."""


class CacheInfo(NamedTuple):
    """The contents of a cache, and its hits and misses."""

    hits: int
    misses: int
    entries: int
    characters: int
    """Weight of the entries: an entry weighs its text and 64, a message of a conversation its text and 256."""
    max_characters: int


class GenerationalCache:
    """Caches values by key, up to a bound.

    There are two generations. New values, and values found in the old generation, go into the recent one. When the
    recent one reaches half of the bound, it becomes the old one, and the previous old one is dropped. So a hit in the
    recent generation changes nothing and needs no lock, and values in use stay. The keys are the contents themselves,
    so two contents are never confused.
    """

    def __init__(self, max_characters: int) -> None:
        self.max_characters = max_characters
        self.recent: dict[Hashable, Any] = {}
        """The recent generation. Read only; report hits to :meth:`record_hits`."""
        self._old: dict[Hashable, Any] = {}
        self._weight = self._old_weight = 0
        self._hits = self._misses = 0
        self._lock = Lock()

    def get(self, key: Hashable, size: int, compute: Callable[[], T]) -> T:
        """Return the value of a key; compute it if it is missing.

        The computation holds no lock, so two threads may compute the same value.
        """
        cached: T | None = self.recent.get(key)
        if cached is not None:
            self.record_hits(1)
            return cached
        cached = self._old.get(key)
        with self._lock:
            if cached is None:
                self._misses += 1
            else:
                self._hits += 1
        value = compute() if cached is None else cached
        weight = size + _ENTRY_OVERHEAD
        if weight <= self.max_characters // 8:  # one huge text must not displace all others
            with self._lock:
                if key not in self.recent:
                    if self._weight + weight > self.max_characters // 2:
                        self._old, self._old_weight = self.recent, self._weight
                        self.recent, self._weight = {}, 0
                    self.recent[key] = value
                    self._weight += weight
        return value

    def record_hits(self, times: int) -> None:
        """Record hits in the recent generation that bypassed :meth:`get`."""
        with self._lock:
            self._hits += times

    def clear(self) -> None:
        """Drop all entries. Hits and misses stay."""
        with self._lock:
            self.recent, self._old = {}, {}
            self._weight = self._old_weight = 0

    def info(self) -> CacheInfo:
        """Return the contents, hits and misses."""
        with self._lock:
            entries = len(self.recent.keys() | self._old.keys())
            return CacheInfo(self._hits, self._misses, entries, self._weight + self._old_weight, self.max_characters)
