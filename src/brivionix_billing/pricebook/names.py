"""Names of models: exact names and aliases, dated snapshots, and patterns.

An exact name wins over a snapshot, and a snapshot over a pattern. Of several patterns that match a name, the one with
the most literal characters wins. Two patterns with equally many, for different models, may not match the same name:
:func:`pattern_conflicts` finds them, so that every name has exactly one meaning.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple

from brivionix_billing.pricebook.patterns import matcher

__all__ = ["ModelNames", "NamePattern", "name_pattern", "overlap", "pattern_conflicts"]

_SNAPSHOT: Final = re.compile(r"(.+)[-@]([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})", re.ASCII)
_MAX_REWRITES: Final = 4
"""A name is rewritten by patterns at most this often: ``openai/ft:gpt-5.4:x`` takes two."""
_MAX_LENGTH: Final = 256
_MAX_COMPARED: Final = 1_000_000
"""Pairs of similar patterns that are compared at most."""


class NamePattern(NamedTuple):
    """A pattern of names with ``*``, and what a matching name means."""

    text: str
    target: str
    """A name; ``*`` in it stands for what ``*`` of the pattern matched."""
    literals: int
    """Number of characters that are not ``*``."""
    prefix: str
    suffix: str
    test: Callable[[str], bool] | None
    """A test of the whole name, if the pattern has several ``*``."""

    def matches(self, name: str) -> bool:
        """Return whether a name matches."""
        if not name.startswith(self.prefix) or not name.endswith(self.suffix):
            return False
        return len(name) >= self.literals if self.test is None else self.test(name)

    def rewrite(self, name: str) -> str:
        """Return the name that a matching name means."""
        return self.target.replace("*", name[len(self.prefix) : len(name) - len(self.suffix)], 1)


def name_pattern(text: str, target: str) -> NamePattern:
    """Return a pattern. With ``*`` in ``target``, it must have exactly one ``*`` itself."""
    prefix, _, rest = text.partition("*")
    stars = text.count("*")
    test = matcher([text]) if stars > 1 else None
    return NamePattern(text, target, len(text) - stars, prefix, rest.rpartition("*")[2], test)


def pattern_conflicts(patterns: Iterable[NamePattern]) -> Iterator[tuple[NamePattern, NamePattern]]:
    """Yield pairs of patterns that match a common name, while neither is more specific and their targets differ.

    Raises ``OverflowError`` if too many patterns begin alike to compare them all.
    """
    by_size: dict[int, list[NamePattern]] = {}
    for pattern in patterns:
        by_size.setdefault(pattern.literals, []).append(pattern)
    compared = 0
    for group in by_size.values():
        for one, other in _alike_pairs(group):
            compared += 1
            if compared > _MAX_COMPARED:
                raise OverflowError
            if (one.target != other.target or "*" in one.target) and overlap(one.text, other.text):
                yield one, other


def _alike_pairs(patterns: Sequence[NamePattern]) -> Iterator[tuple[NamePattern, NamePattern]]:
    """Yield each pair of patterns of which both the beginnings and the ends agree, as far as both have them.

    All other pairs match no common name. An index by beginning and end finds these without comparing all pairs.
    """
    index: dict[str, dict[str, list[int]]] = {}
    for number, pattern in enumerate(patterns):
        index.setdefault(pattern.prefix, {}).setdefault(pattern.suffix, []).append(number)
    ends = {prefix: sorted(suffix[::-1] for suffix in by_suffix) for prefix, by_suffix in index.items()}
    for number, one in enumerate(patterns):
        tails = {one.suffix[start:] for start in range(len(one.suffix) + 1)}
        for length in range(len(one.prefix) + 1):
            prefix = one.prefix[:length]
            if prefix not in index:
                continue
            # Ends that are part of the end of this pattern, and those that contain it.
            alike = tails & index[prefix].keys()
            reverse = one.suffix[::-1]
            for position in range(bisect_left(ends[prefix], reverse), len(ends[prefix])):
                if not ends[prefix][position].startswith(reverse):
                    break
                alike.add(ends[prefix][position][::-1])
            for suffix in alike:
                for other in index[prefix][suffix]:
                    if length < len(one.prefix) or other < number:
                        yield patterns[other], one


def overlap(one: str, other: str) -> bool:
    """Return whether a name exists that both patterns match.

    >>> overlap("openai/*", "*-mini"), overlap("openai/*", "azure/*")
    (True, False)
    """
    reachable = {0}  # positions in ``other`` after a part of a common name that the read part of ``one`` matches
    for character in one:
        following = set()
        here = _skip_stars(other, reachable)
        if not here:
            return False
        if character == "*":
            reachable = set(range(min(here), len(other) + 1))
            continue
        for position in here:
            if position < len(other):
                if other[position] == "*":
                    following.add(position)
                elif other[position] == character:
                    following.add(position + 1)
        reachable = following
    return len(other) in _skip_stars(other, reachable)


def _skip_stars(pattern: str, positions: Iterable[int]) -> set[int]:
    """Return the positions, and those behind stars that follow them: a star may match nothing."""
    out = set()
    for position in positions:
        out.add(position)
        while position < len(pattern) and pattern[position] == "*":
            position += 1
            out.add(position)
    return out


class ModelNames:
    """Resolves names to models. Immutable."""

    __slots__ = ("exact", "patterns", "released")

    def __init__(
        self, exact: Mapping[str, str], patterns: Sequence[NamePattern], released: Mapping[str, date | None]
    ) -> None:
        """``released`` states the release of each model: a snapshot cannot be older."""
        self.exact, self.released = exact, released
        self.patterns: Sequence[NamePattern] = sorted(patterns, key=lambda pattern: -pattern.literals)

    def resolve(self, name: str, *, ignored: str | None = None) -> str | None:
        """Return the model that a name means, or ``None``. The exact name ``ignored`` counts as not stated."""
        for _ in range(_MAX_REWRITES + 1):
            if len(name) > _MAX_LENGTH:
                return None
            model = (self.exact.get(name) if name != ignored else None) or self._snapshot(name, ignored)
            if model is not None:
                return model
            pattern = next((each for each in self.patterns if each.matches(name)), None)
            if pattern is None:
                return None
            name = pattern.rewrite(name)
        return None

    def _snapshot(self, name: str, ignored: str | None) -> str | None:
        snapshot = _SNAPSHOT.fullmatch(name)
        base = self.exact.get(snapshot[1]) if snapshot and snapshot[1] != ignored else None
        if snapshot is None or base is None:
            return None
        try:
            day = date.fromisoformat(snapshot[2])
        except ValueError:
            return None
        released = self.released[base]
        return base if released is None or day >= released else None
