"""Rows of Parquet files, read by DuckDB."""

from __future__ import annotations

import glob
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import truediv
from typing import IO

from brivionix_billing.errors import BillingError, missing_extra
from brivionix_billing.files import create_file
from brivionix_billing.tables.columns import TableOptions
from brivionix_billing.tables.mappings import columns_of
from brivionix_billing.tables.queries import Queries

__all__ = ["parquet_bytes", "parquet_lines", "require_parquet"]

_ROWS = 10_000


def parquet_lines(source: IO[bytes], options: TableOptions) -> Iterator[bytes]:
    """Yield the rows of a Parquet file as lines of a usage file. Raises ``missing_extra`` without DuckDB."""
    try:
        import duckdb
    except ImportError:
        raise missing_extra("usage in Parquet", "frames", "export it as CSV") from None
    with _path(source) as path, duckdb.connect() as connection:
        try:
            connection.execute("SET TimeZone = 'UTC'")
            counted = connection.execute("SELECT sum(num_rows) FROM parquet_file_metadata(?)", [path]).fetchone()
            read, count = 0, int(counted[0] or 1) if counted else 1
            # Without hive_partitioning, a folder named "group=default" does not replace the group of the rows.
            query, queries = "SELECT * FROM read_parquet(?, hive_partitioning = false)", Queries(connection)
            rows = queries.run(lambda: connection.execute(query, [path]))
            columns = columns_of([column[0] for column in rows.description or ()], options)
            while batch := queries.run(lambda: rows.fetchmany(_ROWS)):
                for row in batch:
                    yield columns.line(row)
                read += len(batch)
                options.position.fraction_of_file = partial(truediv, read, count)
        except duckdb.Error as error:
            raise BillingError("file_unreadable", f"the usage is no valid Parquet file: {error}") from None


def require_parquet(otherwise: str = "use CSV") -> None:
    """Raise ``missing_extra`` if DuckDB is not installed."""
    try:
        import duckdb  # noqa: F401
    except ImportError:
        raise missing_extra("Parquet", "frames", otherwise) from None


def parquet_bytes(rows: Iterable[Sequence[str | None]], types: Mapping[str, str]) -> bytes:
    """Return a file of Parquet. ``types`` has the type of each column in SQL, and cells are texts of these types.

    Equal rows give equal bytes. Raises ``missing_extra``, and ``invalid_argument`` for a cell that does not fit.
    """
    require_parquet()
    import duckdb

    names = [_quoted(name, '"') for name in types]
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        source, target = os.path.join(folder, "rows.jsonl"), os.path.join(folder, "rows.parquet")
        with create_file(source) as file:
            file.writelines(json.dumps(dict(zip(types, row, strict=True))) + "\n" for row in rows)
        texts = ", ".join(f"{_quoted(name)}: 'VARCHAR'" for name in types)
        typed = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in zip(names, types.values(), strict=True))
        table = f"read_json({_quoted(source)}, format = 'newline_delimited', columns = {{{texts}}})"
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET threads = 1")  # for the same order of rows, and the same bytes
            # Every name in the query is quoted.
            connection.execute(f"COPY (SELECT {typed} FROM {table}) TO {_quoted(target)} (FORMAT parquet)")  # noqa: S608
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise BillingError("invalid_argument", f"the rows do not fit into Parquet: {reason}; use CSV") from None
        with open(target, "rb") as written:
            return written.read()


def _quoted(text: str, quote: str = "'") -> str:
    return quote + text.replace(quote, quote * 2) + quote


@contextmanager
def _path(source: IO[bytes]) -> Iterator[str]:
    """Yield the path of a file. What is no file, such as stdin, is copied to one.

    So is a file with a name such as ``s*.parquet``, for which DuckDB reads all files that match.
    """
    raw = getattr(source, "raw", source)
    if (
        isinstance(raw, io.FileIO)
        and isinstance(raw.name, str)
        and not glob.has_magic(path := os.path.abspath(raw.name))
    ):
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        yield copy.name
