"""Plain implementations of canonical JSON (RFC 8785) and Merkle trees (RFC 6962) for the oracle of bills."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

__all__ = ["canonical", "inclusion", "leaf", "root", "split"]

Json = Any
_SHORT: Final = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def canonical(value: Json) -> str:
    """Return the canonical text of a JSON value. Floats that need an exponent are not supported."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        assert value == 0 or 1e-6 <= abs(value) < 1e21, "numbers with an exponent are not supported"
        # repr has the fewest digits that distinguish a double from its neighbours.
        return format(Decimal(repr(value)).normalize(), "f")
    if isinstance(value, str):
        escaped = (_SHORT.get(ord(c)) or (f"\\u{ord(c):04x}" if ord(c) < 32 else c) for c in value)
        return '"' + "".join(escaped) + '"'
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
    return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in keys) + "}"


def leaf(record: Json) -> bytes:
    """Return the leaf hash of a record."""
    return sha256(b"\0" + canonical(record).encode()).digest()


def split(count: int) -> int:
    """Return the largest power of two below a count."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def root(leaves: Sequence[bytes]) -> bytes:
    """Return MTH of RFC 6962, 2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\1" + root(leaves[:k]) + root(leaves[k:])).digest()


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return PATH of RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*inclusion(leaves[:k], index), root(leaves[k:])]
    return [*inclusion(leaves[k:], index - k), root(leaves[:k])]
