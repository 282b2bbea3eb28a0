"""Usage in Parquet files as one view of DuckDB."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from brivionix_billing.frames.layout import text_literal
from brivionix_billing.tables import UsageLines

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

__all__ = ["ParquetView", "create_view", "parquet_files"]


class ParquetView(NamedTuple):
    """The columns and the size of the view ``frame``, which has the number of each line as ``_b_line``."""

    names: Sequence[str]
    types: Sequence[str]
    rows: int


def parquet_files(lines: object) -> list[str] | None:
    """Return the absolute paths of the files of usage, if all are Parquet and no preset changes their rows."""
    if not isinstance(lines, UsageLines) or lines.options.preset is not None or not lines.files:
        return None
    try:
        import duckdb  # noqa: F401  # without it, the usual path reads the files
    except ImportError:
        return None
    paths = list(map(os.path.abspath, lines.files))
    for path in paths:
        if glob.has_magic(path) or not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            if file.read(4) != b"PAR1":
                return None
    return paths


def create_view(connection: Connection, files: Sequence[str]) -> ParquetView | None:
    """Create the view ``frame`` of the rows of files, in their order; ``None``: their columns differ."""
    parts, first = [], 1
    shape: list[tuple[str, str]] | None = None
    for path in files:
        table = f"read_parquet({text_literal(path)}, hive_partitioning = false, file_row_number = true)"
        found = connection.sql(f"SELECT * EXCLUDE (file_row_number) FROM {table}")
        columns = list(zip(found.columns, map(str, found.types), strict=True))
        if shape is not None and columns != shape:
            return None
        shape = columns
        parts.append(f"SELECT * EXCLUDE (file_row_number), file_row_number + {first} AS _b_line FROM {table}")
        counted = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        first += counted[0] if counted else 0
    connection.execute(f"CREATE TEMP VIEW frame AS {' UNION ALL '.join(parts)}")
    names, types = zip(*(shape or ()), strict=True)
    return ParquetView(names, types, first - 1)
