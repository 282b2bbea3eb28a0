"""Model patterns of a group: ``*`` matches any number of characters, ``?`` exactly one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["matcher"]


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tests whether a name matches any of the patterns.

    >>> matcher(["*-codex", "gpt-5.4*"])("gpt-5.3-codex")
    True
    """
    given = list(patterns)
    if "*" in given:
        return lambda name: True
    names = frozenset(pattern for pattern in given if "*" not in pattern and "?" not in pattern)
    wild = [pattern for pattern in given if pattern not in names]
    if not wild:
        return names.__contains__
    one = re.compile("|".join(f"(?:{_to_regex(pattern)})" for pattern in wild))
    return lambda name: name in names or one.fullmatch(name) is not None


def _to_regex(pattern: str) -> str:
    first, *rest = [_escape_part(part) for part in pattern.split("*")]
    if not rest:
        return first
    # The shortest match before each part always suffices. Atomic groups prevent the engine from trying all others,
    # which would take exponential time for a pattern of many stars.
    return first + "".join(f"(?>.*?{part})" for part in rest[:-1] if part) + ".*" + rest[-1]


def _escape_part(part: str) -> str:
    return "".join("." if c == "?" else re.escape(c) for c in part)
