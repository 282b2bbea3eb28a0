"""Merkle trees as RFC 6962 hashes them: leaf = SHA-256(0x00 || data), node = SHA-256(0x01 || left || right).

A root commits to every leaf and to their order. A proof shows that one leaf is under a root, and reveals only hashes of
the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

__all__ = ["RootBuilder", "inclusion_proof", "leaf_hash", "root_from_proof", "merkle_root"]

_HASH_BYTES: Final = 32
_MAX_HEIGHT: Final = 16
"""Bounds how much of a tree is copied at once."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf, 32 bytes."""
    return sha256(b"\0" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class RootBuilder:
    """Computes the root over leaf hashes incrementally. Memory grows with the logarithm of their number."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        size, peaks = self.size, self._peaks
        for leaf in leaves:
            # One peak per bit of the size: a new leaf carries upwards like adding 1 to a binary number.
            node, count = leaf, size
            while count & 1:
                node = sha256(b"\1" + peaks.pop() + node).digest()
                count >>= 1
            peaks.append(node)
            size += 1
        self.size = size

    def extend_packed(self, leaves: bytes) -> None:
        """Append leaf hashes that follow one another without a gap, 32 bytes each. Faster than :meth:`extend`."""
        start, count = 0, len(leaves) // _HASH_BYTES
        while start < count:
            # The largest perfect tree that can follow: its size divides that of the tree so far.
            height = min((count - start).bit_length() - 1, _MAX_HEIGHT)
            if self.size:
                height = min(height, (self.size & -self.size).bit_length() - 1)
            end = start + (1 << height)
            level = leaves[start * _HASH_BYTES : end * _HASH_BYTES]
            for _ in range(height):
                level = b"".join(
                    [sha256(b"\1" + level[i : i + 64]).digest() for i in range(0, len(level), 2 * _HASH_BYTES)]
                )
            self._append(level, height)
            start = end

    def _append(self, node: bytes, height: int) -> None:
        """Append the root of a perfect tree of 2^height leaves, by which the size so far is divisible."""
        # One peak per bit of the size: a new tree carries upwards like adding to a binary number.
        count = self.size >> height
        while count & 1:
            node = _node(self._peaks.pop(), node)
            count >>= 1
        self._peaks.append(node)
        self.size += 1 << height

    def root(self) -> bytes:
        """Return the root so far. Without leaves, it is SHA-256 of the empty string."""
        if not self._peaks:
            return sha256(b"").digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = _node(peak, root)
        return root


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    builder = RootBuilder()
    builder.extend(leaves)
    return builder.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of RFC 6962, section 2.1.1: the sibling hashes from the leaf up to the root."""
    path: list[bytes] = []
    start, end = 0, len(leaves)
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(merkle_root(leaves[middle:end]))
            end = middle
        else:
            path.append(merkle_root(leaves[start:middle]))
            start = middle
    path.reverse()
    return path


def root_from_proof(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof leads to, or ``None`` if its length is wrong for such a tree."""
    if not 0 <= index < size:
        return None
    turns: list[bool] = []  # from the root down: whether the leaf is in the right part
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        turns.append(index >= middle)
        start, end = (middle, end) if index >= middle else (start, middle)
    if len(turns) != len(path):
        return None
    node = leaf
    for right, sibling in zip(reversed(turns), path, strict=True):
        node = _node(sibling, node) if right else _node(node, sibling)
    return node


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)
