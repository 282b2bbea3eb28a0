"""The leaves of billed records in tree order, and the trees of many accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from brivionix_billing.merkle import RootBuilder, extend_trees, hash_pairs

__all__ = ["HASH_BYTES", "HEX_DIGITS", "MANY_LEAVES", "Forest", "LeafRun"]

HASH_BYTES: Final = 32
HEX_DIGITS: Final = 64
MANY_LEAVES: Final = 1 << 18
"""For an engine that hashes many nodes at a time."""
_FEW_LEAVES: Final = 1 << 14
"""So that other processes are not kept waiting."""
_LEAVES_PER_TREE: Final = 32


class LeafRun(NamedTuple):
    """Records that follow one another in the tree of an account."""

    account: str
    leaves: bytes
    """The leaf hashes, packed."""
    lines: bytes | memoryview
    """The lines of the list of records in UTF-8, empty if they were not requested."""

    def split_leaves(self) -> list[bytes]:
        """Return the hash of each record."""
        return [self.leaves[start : start + HASH_BYTES] for start in range(0, len(self.leaves), HASH_BYTES)]

    def ids(self) -> list[str]:
        """Return the request id of each record."""
        return [line[HEX_DIGITS + 1 :] for line in str(self.lines, "utf-8").split("\n")[:-1]]


class Forest:
    """Appends leaves to the trees of many accounts, of which it hashes many nodes at a time."""

    def __init__(self, hash_level: Callable[[bytes], bytes] = hash_pairs, batch: int = _FEW_LEAVES) -> None:
        """``batch`` is a number of leaves that are collected before nodes are hashed. It grows with many trees."""
        self._hash_level, self._batch = hash_level, batch
        self._leaves: dict[RootBuilder, list[bytes]] = {}
        self._size = 0

    def extend(self, tree: RootBuilder, leaves: bytes) -> None:
        """Append packed leaf hashes to a tree."""
        self._leaves.setdefault(tree, []).append(leaves)
        self._size += len(leaves) // HASH_BYTES
        if self._size >= max(self._batch, min(_LEAVES_PER_TREE * len(self._leaves), MANY_LEAVES)):
            self.finish()

    def finish(self) -> None:
        """Complete the trees over all leaves so far."""
        parts = [(tree, b"".join(leaves)) for tree, leaves in self._leaves.items()]
        self._leaves.clear()
        self._size = 0
        extend_trees(parts, self._hash_level)
