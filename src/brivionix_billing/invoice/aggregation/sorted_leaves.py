"""The leaves of billed records in tree order, which DuckDB hashes and sorts, and the trees over them.

No Python object is made per record: hashes and lines are read from the buffers of Arrow.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, cast

from brivionix_billing.invoice.aggregation.leaves import HASH_BYTES, HEX_DIGITS, LeafRun
from brivionix_billing.merkle import hash_pairs
from brivionix_billing.tables.queries import Queries

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
    from duckdb import DuckDBPyRelation as Relation

__all__ = ["BATCH_ROWS", "leaf_runs", "node_hasher", "sorted_query"]

BATCH_ROWS: Final = 1 << 17
"""Maximum number of records of a batch."""
_AHEAD: Final = 4
"""Batches that are kept in memory, so that both cores are used while nodes are hashed and lists are written."""
_PAIR_BYTES: Final = 64
_MIN_PAIRS: Final = 1 << 13
"""Fewer nodes are hashed here, because a query would take longer."""
_TASK_PAIRS: Final = 1 << 14
"""Pairs that one thread of DuckDB hashes at a time."""


def sorted_query(ctes: str, rows: str, *, has_lines: bool) -> str:
    """Return a query of rows by account, then by the hash of their request ids: account, and line of the list.

    ``rows`` is a query with the columns ``_b_account`` (an enumeration, by whose order they are sorted), ``_b_id`` and
    ``_b_leaf`` (in hexadecimal). A line begins with the leaf; without ``has_lines``, it has no more.
    """
    # Only what is needed later is sorted, as one text. 128 bits of the hash order like all, as no two ids share them.
    line = "concat(_b_leaf, ' ', _b_id, chr(10))" if has_lines else "_b_leaf"
    return (
        f"{ctes} SELECT _b_account, {line} AS _b_line FROM ({rows}) "
        "ORDER BY _b_account, CAST(left(sha256(_b_id), 32) AS UUID)"
    )


def leaf_runs(reader: Any, queries: Queries, *, has_lines: bool) -> Generator[tuple[int, list[LeafRun]]]:
    """Yield (number of records, their runs) of batches of Arrow, which a result of :func:`sorted_query` is read as."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with closing(queries.iterate(iter(reader), _AHEAD)) as batches:
        for batch in batches:
            names, lines = batch.columns
            lines = lines.cast(pa.binary())
            packed = unhexlify(_Texts(pc.binary_slice(lines, 0, HEX_DIGITS) if has_lines else lines).all)
            texts = _Texts(lines) if has_lines else None
            runs = []
            for start, end in _runs(names):
                run_lines = memoryview(b"") if texts is None else texts.slice(start, end)
                run = LeafRun(names[start].as_py(), packed[start * HASH_BYTES : end * HASH_BYTES], run_lines)
                runs.append(run)
            yield batch.num_rows, runs


class _Texts:
    """The texts of a column of Arrow without nulls, as they follow one another in its buffer."""

    def __init__(self, column: Any) -> None:
        import pyarrow as pa

        column = column.cast(pa.binary())
        _, offsets, data = column.buffers()
        self._offsets = memoryview(offsets).cast("B").cast("i")[column.offset : column.offset + len(column) + 1]
        self._data = memoryview(data)

    def slice(self, start: int, end: int) -> memoryview:
        """Return the texts of some rows in UTF-8."""
        return self._data[self._offsets[start] : self._offsets[end]]

    @property
    def all(self) -> memoryview:
        """The texts of all rows."""
        return self.slice(0, len(self._offsets) - 1)


def _runs(names: Any) -> Iterator[tuple[int, int]]:
    """Yield where the rows of each account start and end, by bisection."""
    start, count = 0, len(names)
    while start < count:
        end = _end_of_run(names, start, count, names[start].as_py())
        yield start, end
        start = end


def _end_of_run(names: Any, start: int, end: int, name: str) -> int:
    if names[end - 1].as_py() == name:
        return end
    low, high = start, end - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if names[middle].as_py() == name else (low, middle)
    return high


def node_hasher(connection: Connection, queries: Queries) -> Callable[[bytes], bytes]:
    """Return a function like :func:`merkle.hash_pairs` that hashes many nodes with all threads of DuckDB."""
    import pyarrow as pa

    cursor = connection.cursor()  # the result of the leaves stays open on the connection

    def hash_level(packed: bytes) -> bytes:
        count = len(packed) // _PAIR_BYTES
        if count < _MIN_PAIRS:
            return hash_pairs(packed)
        buffers = [None, pa.py_buffer(packed)]
        pairs = pa.FixedSizeBinaryArray.from_buffers(pa.binary(_PAIR_BYTES), count, buffers)
        table = pa.Table.from_arrays([pairs], ["pair"])
        parts = pa.Table.from_batches(table.to_batches(_TASK_PAIRS))
        nodes = queries.run(lambda: _hash_pairs(cursor, parts))
        return b"".join([unhexlify(_Texts(chunk).all) for chunk in nodes.column(0).chunks])

    return hash_level


def _hash_pairs(cursor: Connection, pairs: Any) -> Any:
    found = cursor.from_arrow(pairs).query("pairs", r"SELECT sha256('\x01'::BLOB || pair) FROM pairs")
    return cast("Relation", found).to_arrow_table()
