"""What a gateway may log: ids, codes, names of types and keys, and numbers; never a text of a customer or a model.

A word may be a text too, so a word of the provider is only logged if it looks like a name: letters, digits, and a few
signs. So a log line is always one line, without control characters.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Mapping
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final

__all__ = ["describe_body", "describe_exception", "loggable", "without_quotes"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,63}")
_QUOTED: Final = re.compile(r"""(?<!\w)b?('(?:\\.|[^'\\])*('|$)|"(?:\\.|[^"\\])*("|$))""", re.DOTALL)
"""A quoted value as ``repr`` writes it, with its escapes; one that was truncated has no end."""
_MAX_ITEMS: Final = 40
_MAX_DEPTH: Final = 6
_MAX_FRAMES: Final = 8


def loggable(value: Any, depth: int = _MAX_DEPTH, *, max_items: int = _MAX_ITEMS) -> Any:
    """Return JSON data with its numbers and names, and ``"?"`` for every other text.

    >>> loggable({"model": "gpt-5.4-mini", "usage": {"tokens": 5, "note": "Dear customer, ..."}})
    {'model': 'gpt-5.4-mini', 'usage': {'tokens': 5, 'note': '?'}}
    """
    if isinstance(value, str):
        return value if _NAME.fullmatch(value) else "?"
    if isinstance(value, int):
        return value if abs(value) < 10**30 else "?"
    if value is None or isinstance(value, float | Decimal):
        return value if not isinstance(value, Decimal) else str(value)
    if depth and isinstance(value, Mapping):
        items = list(value.items())[:max_items]
        return {loggable(str(key)): loggable(item, depth - 1, max_items=max_items) for key, item in items}
    if depth and isinstance(value, list | tuple):
        return [loggable(item, depth - 1, max_items=max_items) for item in value[:max_items]]
    return "?"


def describe_body(body: bytes) -> str:
    """Return what a body is: its size, and of JSON its type, its keys, and the code and type of an error."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return f"{len(body)} bytes that are not JSON"
    if not isinstance(value, dict):
        return f"{len(body)} bytes of JSON, a {type(value).__name__}"
    keys = ", ".join(map(str, loggable(list(value)[:10])))
    error = value.get("error")
    facts = {}
    if isinstance(error, dict):
        facts = {name: loggable(error[name], 0) for name in ("code", "type", "param", "status") if error.get(name)}
    error_facts = "".join(f"; error {name} {fact}" for name, fact in facts.items())
    return f"{len(body)} bytes of JSON with the keys {keys or '(none)'}{error_facts}"


def describe_exception(error: BaseException) -> str:
    """Return the type of an exception and where it was raised, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    where = " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {where or 'an unknown place'}"


def without_quotes(message: str) -> str:
    """Return a message of this library without the values that it quotes, which may be a provider's texts.

    >>> without_quotes("usage.prompt_tokens is 'Dear customer'; expected a whole number")
    'usage.prompt_tokens is (value); expected a whole number'
    """
    return " ".join(_QUOTED.sub("(value)", message).split())
