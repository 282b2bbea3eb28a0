"""Writes YAML as people write price files: short mappings on one line, names quoted only where needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain

__all__ = ["MAX_LINE", "write_block", "write_item", "write_scalar"]

MAX_LINE: Final = 112
"""Maximum length of a line that holds a whole mapping or list, in characters."""
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9._/+-]*", re.ASCII)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z)?", re.ASCII)
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that some YAML readers do not read as text."""


def write_scalar(value: object, *, is_date: bool = False) -> str:
    """Return a text or number as YAML. A text that a reader could take for something else is quoted."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format_plain(value)
    text = str(value)
    if is_date and _DAY.fullmatch(text):
        return text
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def write_block(key: str, value: Any, indent: int) -> Iterator[str]:
    """Yield the lines of one entry of a mapping."""
    head = f"{' ' * indent}{write_scalar(key)}:"
    flow = _flow(value, key)
    if len(head) + 1 + len(flow) <= MAX_LINE and _is_simple(value):
        yield f"{head} {flow}"
        return
    yield head
    yield from _block(value, indent + 2)


def _block(value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from write_block(key, item, indent)
        return
    for item in value:
        yield from write_item(item, indent)


def write_item(item: Any, indent: int) -> Iterator[str]:
    """Yield the lines of one item of a list."""
    flow = _flow(item)
    if not isinstance(item, Mapping) or (_is_simple(item) and indent + 2 + len(flow) <= MAX_LINE):
        yield f"{' ' * indent}- {flow}"
        return
    lines = list(_block(item, indent + 2))
    yield f"{' ' * indent}- {lines[0].lstrip()}"
    yield from lines[1:]


def _is_simple(value: Any) -> bool:
    """Return whether a value is read easily on one line: it has at most one level of mappings with several keys."""
    if isinstance(value, Mapping):
        return all(
            not isinstance(item, Mapping | list) or (len(item) <= 1 and _is_leaf(item)) for item in value.values()
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(not isinstance(item, Mapping | list) for item in value)
    return True


def _is_leaf(value: Any) -> bool:
    items = value.values() if isinstance(value, Mapping) else value
    return not any(isinstance(item, Mapping | list) for item in items)


def _flow(value: Any, key: str = "") -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write_scalar(name)}: {_flow(item, name)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return write_scalar(value, is_date=key in ("from", "until", "released"))
