"""Merkle trees as RFC 6962 hashes them: leaf = SHA-256(0x00 || data), node = SHA-256(0x01 || left || right).

A root commits to every leaf and to their order. A proof shows that one leaf is under a root, and reveals only hashes of
the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

__all__ = [
    "RootBuilder",
    "extend_trees",
    "hash_pairs",
    "inclusion_proof",
    "leaf_hash",
    "merkle_root",
    "root_from_proof",
]

_HASH_BYTES: Final = 32
_MAX_HEIGHT: Final = 18
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
        extend_trees([(self, leaves)])

    def append_tree(self, node: bytes, height: int) -> None:
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


def hash_pairs(packed: bytes) -> bytes:
    """Return the nodes above pairs of nodes, packed like them: each follows the one before without a gap."""
    return b"".join([sha256(b"\1" + packed[start : start + 64]).digest() for start in range(0, len(packed), 64)])


def extend_trees(parts: Iterable[tuple[RootBuilder, bytes]], hash_pairs: Callable[[bytes], bytes] = hash_pairs) -> None:
    """Append packed leaf hashes to several trees. Each is named once.

    ``hash_pairs`` is called once per level for all trees together, so that an engine can compute many nodes at a time.
    """
    perfect = [_PerfectTree(*part) for builder, leaves in parts for part in _split_leaves(builder, leaves)]
    for done in range(_MAX_HEIGHT):
        growing = [tree for tree in perfect if tree.height > done]
        if not growing:
            break
        nodes, start = hash_pairs(b"".join([tree.level for tree in growing])), 0
        for tree in growing:
            end = start + len(tree.level) // 2
            tree.level, start = nodes[start:end], end
    for tree in perfect:
        tree.builder.append_tree(tree.level, tree.height)


@dataclass(slots=True)
class _PerfectTree:
    """A perfect tree that is appended to another one."""

    builder: RootBuilder
    level: bytes
    """The nodes of the highest level that is known, packed. At first, the leaves."""
    height: int


def _split_leaves(builder: RootBuilder, leaves: bytes) -> Iterator[tuple[RootBuilder, bytes, int]]:
    """Yield the leaves of perfect trees that can follow a tree one after the other, with their heights."""
    start, count, size = 0, len(leaves) // _HASH_BYTES, builder.size
    while start < count:
        # The largest perfect tree that can follow: its size divides that of the tree so far.
        height = min((count - start).bit_length() - 1, _MAX_HEIGHT)
        if size:
            height = min(height, (size & -size).bit_length() - 1)
        end = start + (1 << height)
        yield builder, leaves[start * _HASH_BYTES : end * _HASH_BYTES], height
        start, size = end, size + (1 << height)


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
