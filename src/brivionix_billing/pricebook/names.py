"""Names of models: exact names and aliases, dated snapshots, and patterns.

An exact name wins over a snapshot, and a snapshot over a pattern. Of several patterns that match a name, the one with
the most literal characters wins. Two patterns with equally many, for different models, may not match the same name:
:func:`pattern_conflicts` finds them, so that every name has exactly one meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple

from brivionix_billing.pricebook.patterns import matcher

__all__ = ["ModelNames", "NamePattern", "name_pattern", "pattern_conflicts"]

_SNAPSHOT: Final = re.compile(r"(.+)[-@]([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})", re.ASCII)
_MAX_REWRITES: Final = 4
"""A name is rewritten by patterns at most this often: ``openai/ft:gpt-5.4:x`` takes two."""
_MAX_LENGTH: Final = 256


class NamePattern(NamedTuple):
    """A pattern of names with ``*``, and what a matching name means."""

    text: str
    target: str
    """A name; ``*`` in it stands for what ``*`` of the pattern matched."""
    literals: int
    """Number of characters that are not ``*``."""
    prefix: str
    suffix: str

    def matches(self, name: str) -> bool:
        """Return whether a name matches."""
        if not name.startswith(self.prefix) or not name.endswith(self.suffix):
            return False
        return len(name) >= self.literals if self.text.count("*") == 1 else matcher([self.text])(name)

    def rewrite(self, name: str) -> str:
        """Return the name that a matching name means."""
        return self.target.replace("*", name[len(self.prefix) : len(name) - len(self.suffix)], 1)


def name_pattern(text: str, target: str) -> NamePattern:
    """Return a pattern. With ``*`` in ``target``, it must have exactly one ``*`` itself."""
    prefix, _, rest = text.partition("*")
    return NamePattern(text, target, len(text) - text.count("*"), prefix, rest.rpartition("*")[2])


def pattern_conflicts(patterns: Iterable[NamePattern]) -> Iterator[tuple[NamePattern, NamePattern]]:
    """Yield pairs of patterns that match a common name, while neither is more specific and their targets differ."""
    ordered = sorted(patterns, key=lambda pattern: pattern.prefix)
    for index, one in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if not other.prefix.startswith(one.prefix):
                break
            if one.literals == other.literals and one.target != other.target and _overlap(one.text, other.text):
                yield one, other


def _overlap(one: str, other: str) -> bool:
    """Return whether a name exists that both patterns match."""
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

    __slots__ = ("_exact", "_patterns", "_released")

    def __init__(
        self, exact: Mapping[str, str], patterns: Sequence[NamePattern], released: Mapping[str, date | None]
    ) -> None:
        """``released`` states the release of each model: a snapshot cannot be older."""
        self._exact, self._released = exact, released
        self._patterns = sorted(patterns, key=lambda pattern: -pattern.literals)

    def resolve(self, name: str) -> str | None:
        """Return the model that a name means, or ``None``."""
        for _ in range(_MAX_REWRITES + 1):
            if len(name) > _MAX_LENGTH:
                return None
            model = self._exact.get(name) or self._snapshot(name)
            if model is not None:
                return model
            pattern = next((each for each in self._patterns if each.matches(name)), None)
            if pattern is None:
                return None
            name = pattern.rewrite(name)
        return None

    def _snapshot(self, name: str) -> str | None:
        snapshot = _SNAPSHOT.fullmatch(name)
        base = self._exact.get(snapshot[1]) if snapshot else None
        if snapshot is None or base is None:
            return None
        try:
            day = date.fromisoformat(snapshot[2])
        except ValueError:
            return None
        released = self._released[base]
        return base if released is None or day >= released else None
