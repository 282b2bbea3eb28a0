"""Rates and totals frames in memory: Polars, pandas, PyArrow, by Narwhals and an embedded DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import narwhals as nw
import pyarrow as pa

from brivionix_billing.errors import BillingError
from brivionix_billing.frames import relations
from brivionix_billing.frames.amounts import AmountColumns
from brivionix_billing.frames.layout import FrameOptions, needed_columns
from brivionix_billing.frames.rater import ADDED_TEXTS, require_free
from brivionix_billing.pricebook import PriceBook

__all__ = ["rate", "rate_arrow", "total_arrow", "totals"]

_ROW: Final = "_b_row"


def rate(native: Any, book: PriceBook, options: FrameOptions) -> Any:
    """Return a frame with the columns that rating adds."""
    frame = nw.from_native(native, eager_only=True)
    require_free(frame.columns, (*AmountColumns(book).names, *ADDED_TEXTS))
    table = _to_arrow(frame, needed_columns(frame.columns, book, options))
    added = nw.from_arrow(rate_arrow(table, book, options), backend=frame.implementation)
    if frame.implementation.is_pandas_like():
        added.to_native().index = native.index  # otherwise pandas would match the rows by their numbers
    return nw.concat([frame, added], how="horizontal").to_native()


def totals(native: Any, book: PriceBook, options: FrameOptions, by: Sequence[str], time_zone: str) -> Any:
    """Return the sums of a frame."""
    frame = nw.from_native(native, eager_only=True)
    table = _to_arrow(frame, needed_columns(frame.columns, book, options, by))
    summed = total_arrow(table, book, options, by, time_zone)
    return nw.from_arrow(summed, backend=frame.implementation).to_native()


def rate_arrow(table: pa.Table, book: PriceBook, options: FrameOptions) -> pa.Table:
    """Return the added columns for the rows of an Arrow table, in their order."""
    relation = _embedded(table.append_column(_ROW, pa.array(range(table.num_rows), pa.int64())))
    rated = relations.rate(relation, book, options, _ROW)
    return rated.order(_ROW).to_arrow_table().drop_columns([_ROW])


def total_arrow(table: pa.Table, book: PriceBook, options: FrameOptions, by: Sequence[str], time_zone: str) -> pa.Table:
    """Return the sums over an Arrow table."""
    return relations.totals(_embedded(table), book, options, by, time_zone).to_arrow_table()


def _to_arrow(frame: nw.DataFrame[Any], names: Sequence[str]) -> pa.Table:
    with _readable():
        return frame.select(*names).to_arrow()


def _embedded(table: pa.Table) -> Any:
    """Return a relation of an Arrow table on a database of its own."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    with _readable():
        return connection.from_arrow(table)


@contextmanager
def _readable() -> Iterator[None]:
    """Raise ``invalid_argument`` for a column with mixed types, or of a type that DuckDB does not have."""
    try:
        yield
    except (pa.ArrowException, duckdb.Error) as error:
        reason = " ".join(str(error).split())
        raise BillingError(
            "invalid_argument", f"the frame cannot be read: {reason}; use one usual type per column"
        ) from None
