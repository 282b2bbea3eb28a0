"""Rows of Parquet files, read by DuckDB."""

from __future__ import annotations

import glob
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from operator import truediv
from typing import IO

from brivionix_billing.errors import BillingError, missing_extra
from brivionix_billing.tables.columns import TableOptions
from brivionix_billing.tables.mappings import columns_of

__all__ = ["parquet_lines"]

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
            rows = connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [path])
            columns = columns_of([column[0] for column in rows.description or ()], options)
            while batch := rows.fetchmany(_ROWS):
                for row in batch:
                    yield columns.line(row)
                read += len(batch)
                options.position.fraction_of_file = partial(truediv, read, count)
        except duckdb.Error as error:
            raise BillingError("file_unreadable", f"the usage is no valid Parquet file: {error}") from None


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
