"""Mutations of structure: they change a JSON value and leave the rest valid, and repeat parts many times.

Random bytes seldom pass a JSON parser. A part that is repeated many times shows work that grows faster than the input.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final

__all__ = ["make_mutator"]

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**53, 10**30, -(2**63), 0.5, 1e308, 1e-320, "", "0", "1e9", "-1", "٣", "NaN"),
    *("\ud800", "\u202e", "\x1b[31m", "x" * 300, [], {}, [[]], [{}], {"": 0}, [None]),
)
_MAX_REPEATED: Final = 400


def make_mutator(prefix: int, mutate_bytes: Callable[[bytes, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    """Return a mutator for data with ``prefix`` bytes before its JSON, or its lines or events of JSON."""

    def mutate(data: bytes, limit: int, seed: int) -> bytes:
        chance = random.Random(seed)
        kind = chance.random()
        if kind < 0.4:
            return mutate_bytes(data, limit)
        head, body = data[:prefix], data[prefix:]
        if kind < 0.5 and body:
            start = chance.randrange(len(body))
            part = body[start : start + chance.randint(1, 200)]
            body = body[:start] + part * chance.randint(2, _MAX_REPEATED) + body[start + len(part) :]
        else:
            body = _mutate_json(body, chance)
        return (head + body)[:limit]

    return mutate


def _mutate_json(body: bytes, chance: random.Random) -> bytes:
    """Return the bytes with one JSON value changed: of the whole, or of one of its lines."""
    lines = body.split(b"\n")
    candidates = [(0, len(lines), b"")] if body[:1] in b"{[" else []
    for number, line in enumerate(lines):
        start = line.find(b"{")
        if start >= 0:
            candidates.append((number, number + 1, line[:start]))
    for first, end, head in chance.sample(candidates, min(3, len(candidates))):
        try:
            value = json.loads(b"\n".join(lines[first:end])[len(head) :])
        except (ValueError, RecursionError):
            continue
        text = json.dumps(_mutate_value(value, chance), ensure_ascii=chance.random() < 0.5)
        return b"\n".join([*lines[:first], head + text.encode("utf-8", "surrogatepass"), *lines[end:]])
    return body


def _mutate_value(value: Any, chance: random.Random) -> Any:
    """Return the value after a change at a random place within it."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        if isinstance(value, int | float) and chance.random() < 0.6:
            return chance.choice([value + 1, -value, value * 2, f"{value}", 1.5 * value if abs(value) < 1e300 else 0])
        return chance.choice(_VALUES)
    if isinstance(value, dict):
        key = chance.choice(list(value))
        change = chance.random()
        if change < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        if change < 0.2:
            return {**value, chance.choice([*value, key.upper(), key + "x", "total", ""]): value[key]}
        if change < 0.25:
            return {**value, **{f"{key}{number}": value[key] for number in range(chance.randint(1, 50))}}
        return {**value, key: _mutate_value(value[key], chance)}
    place = chance.randrange(len(value))
    change = chance.random()
    if change < 0.1:
        return value[:place] + value[place + 1 :]
    if change < 0.2:
        return value[:place] + [value[place]] * chance.randint(2, 50) + value[place + 1 :]
    return [*value[:place], _mutate_value(value[place], chance), *value[place + 1 :]]
