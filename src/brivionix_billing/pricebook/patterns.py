"""Model patterns of a group: ``*`` is any run of characters, ``?`` any one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["matcher"]


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is matched by any of the patterns.

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
    # The shortest run before each part is always enough. Atomic groups keep the engine from trying all the others,
    # which a pattern of many stars would turn into a hang.
    return first + "".join(f"(?>.*?{part})" for part in rest[:-1] if part) + ".*" + rest[-1]


def _escape_part(part: str) -> str:
    return "".join("." if c == "?" else re.escape(c) for c in part)
