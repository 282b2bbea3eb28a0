"""Model patterns of a group: ``*`` matches any number of characters, ``?`` exactly one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["assign_patterns", "is_pattern", "matcher"]


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


def is_pattern(text: str) -> bool:
    """Return whether a text stands for several names."""
    return "*" in text or "?" in text


def assign_patterns(patterns: Iterable[str], names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each name that something matches, what wins: the name itself, else the most specific pattern.

    The most specific pattern has the most characters besides ``*`` and ``?``. Several are a conflict.

    >>> assign_patterns(["gpt-*", "gpt-5*", "gpt-4"], ["gpt-4", "gpt-5.4", "other"])
    {'gpt-4': ('gpt-4',), 'gpt-5.4': ('gpt-5*',)}
    """
    given = list(patterns)
    exact = {text for text in given if not is_pattern(text)}
    wild = [
        (len(text) - text.count("*") - text.count("?"), text, matcher([text])) for text in given if is_pattern(text)
    ]
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in exact:
            found[name] = (name,)
            continue
        matching = [(literals, text) for literals, text, test in wild if test(name)]
        if matching:
            most = max(matching)[0]
            found[name] = tuple(text for literals, text in matching if literals == most)
    return found


def _to_regex(pattern: str) -> str:
    first, *rest = [_escape_part(part) for part in pattern.split("*")]
    if not rest:
        return first
    # The shortest match before each part always suffices. Atomic groups prevent the engine from trying all others,
    # which would take exponential time for a pattern of many stars.
    return first + "".join(f"(?>.*?{part})" for part in rest[:-1] if part) + ".*" + rest[-1]


def _escape_part(part: str) -> str:
    return "".join("." if c == "?" else re.escape(c) for c in part)
