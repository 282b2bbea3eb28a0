"""Merkle trees as RFC 6962 hashes them: leaf = SHA-256(0x00 || data), node = SHA-256(0x01 || left || right).

A root commits to every leaf and to their order. A proof shows that one leaf is under a root, and reveals only hashes of
the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

__all__ = ["RootBuilder", "inclusion_proof", "leaf_hash", "root_from_proof", "merkle_root"]


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
