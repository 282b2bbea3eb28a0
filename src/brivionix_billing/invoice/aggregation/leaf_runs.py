"""Leaves of Merkle trees from tables of Arrow that are sorted by account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = ["LeafRun", "leaf_runs"]

_HASH_BYTES: Final = 32


class LeafRun(NamedTuple):
    """Rows of a batch that follow one another and have the same account."""

    account: str
    leaves: bytes
    """The hashes of the rows, one after the other."""
    ids: Any
    """The request ids, as a column of Arrow."""

    def split_leaves(self) -> list[bytes]:
        """Return the hash of each row."""
        return [self.leaves[start : start + _HASH_BYTES] for start in range(0, len(self.leaves), _HASH_BYTES)]


def leaf_runs(batch: Any) -> Iterator[LeafRun]:
    """Yield the runs of a batch of Arrow with the columns account, request id and hash, sorted by account."""
    names, ids, leaves = batch.columns
    start = 0
    while start < batch.num_rows:
        name = names[start].as_py()
        end = _end_of_run(names, start, batch.num_rows, name)
        yield LeafRun(name, _packed(leaves, start, end), ids[start:end])
        start = end


def _end_of_run(names: Any, start: int, end: int, name: str) -> int:
    """Return where the rows of an account end, by bisection."""
    if names[end - 1].as_py() == name:
        return end
    low, high = start, end - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if names[middle].as_py() == name else (low, middle)
    return high


def _packed(leaves: Any, start: int, end: int) -> bytes:
    """Return the hashes of a column without copying each: they follow one another in its buffer."""
    part = leaves[start:end].cast("binary")
    first = memoryview(part.buffers()[1]).cast("i")[part.offset]
    return bytes(memoryview(part.buffers()[2])[first : first + (end - start) * _HASH_BYTES])
