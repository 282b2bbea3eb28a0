"""Opens usage in Parquet in DuckDB, to add up its plain rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.frames.layout import FrameOptions, text_literal
from brivionix_billing.frames.rater import FrameRater
from brivionix_billing.invoice.aggregation.parquet_view import create_view, parquet_files
from brivionix_billing.invoice.aggregation.plain_rows import PlainRows
from brivionix_billing.invoice.aggregation.reader import ChunkReader
from brivionix_billing.invoice.aggregation.record_sql import RecordSql
from brivionix_billing.tables import Columns, TableOptions, UsageLines
from brivionix_billing.tables.queries import WorkProgress

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

__all__ = ["open_plain_rows"]

_MAX_MEGABYTES: Final = 3000
"""Maximum memory of DuckDB. Beyond it, sorted rows move to temporary files."""


@contextmanager
def open_plain_rows(
    lines: object, reader: ChunkReader, report: Callable[[int, int], None] | None = None
) -> Iterator[PlainRows | None]:
    """Yield the plain rows of usage, or ``None`` if it is no Parquet, or has columns that this module cannot write.

    ``report`` is called with (lines, 0) while they are read.
    """
    files = parquet_files(lines)
    if files is None or not isinstance(lines, UsageLines):
        yield None
        return
    import duckdb

    with tempfile.TemporaryDirectory(prefix="brivionix-") as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{_memory_limit()}MB'")
        connection.execute(f"SET temp_directory = {text_literal(folder)}")
        position = lines.options.position
        total = position.total
        try:
            rows = _prepare(connection, files, reader, lines.options, report)
        except (BillingError, duckdb.Error, ImportError):
            rows = None  # the usual path needs no PyArrow, and finds the words for what is wrong
            position.total, position.done = total, 0
        try:
            yield rows
        except duckdb.Error as error:
            raise BillingError("file_unreadable", f"the usage cannot be added up: {error}") from None


def _prepare(
    connection: Connection,
    files: Sequence[str],
    reader: ChunkReader,
    options: TableOptions,
    report: Callable[[int, int], None] | None,
) -> PlainRows | None:
    table = create_view(connection, files)
    if table is None:
        return None
    names, types = list(table.names), list(table.types)
    zone = options.naive_time_zone
    silent = TableOptions(options.mapping, options.values, options.meters, naive_time_zone=zone)
    rater = FrameRater(names, types, reader.book, FrameOptions(options.mapping, options.values, zone))
    record = RecordSql(names, types, rater.layout, silent)
    if not record.supports_table:
        return None
    for _ in files[1:]:
        Columns(names, options)  # notes the columns that are not read for each file, as the usual path does
    progress = WorkProgress(options.position, table.rows, report)
    return PlainRows(connection, names, record, rater, reader, options, table.rows, progress)


def _memory_limit() -> int:
    """Return the memory for DuckDB in MB: at most half of the machine's."""
    try:
        return min(_MAX_MEGABYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2_000_000)
    except (AttributeError, ValueError, OSError):  # not known on this system
        return _MAX_MEGABYTES
