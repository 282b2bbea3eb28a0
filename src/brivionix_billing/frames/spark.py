"""Rates and totals PySpark data frames: each worker rates its rows as Arrow tables, with an embedded DuckDB.

The workers need this library with the extra ``frames``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from brivionix_billing.frames import eager
from brivionix_billing.frames.amounts import DIGITS, AmountColumns
from brivionix_billing.frames.grouping import Grouping
from brivionix_billing.frames.layout import FrameLayout, FrameOptions, needed_columns
from brivionix_billing.frames.rater import ADDED_TEXTS, require_free
from brivionix_billing.pricebook import PriceBook

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType

__all__ = ["rate", "totals"]

_TYPES: Final = {"timestamp_ntz": "TIMESTAMP", "boolean": "BOOLEAN", "float": "FLOAT", "double": "DOUBLE"}
"""Type of Spark -> type of DuckDB."""
_ROWS: Final = 200_000
"""Rows that a worker rates at once."""


def rate(frame: DataFrame, book: PriceBook, options: FrameOptions) -> DataFrame:
    """Return a frame with the columns that rating adds."""
    from pyspark.sql.types import DecimalType, StringType, StructField, StructType

    amounts = AmountColumns(book)
    require_free(frame.columns, (*amounts.names, *ADDED_TEXTS))
    needed = needed_columns(frame.columns, book, options)
    _layout(frame, needed, book, options)
    fields = [StructField(name, DecimalType(DIGITS, places)) for name, places in amounts.places.items()]
    fields += [StructField(name, StringType()) for name in ADDED_TEXTS]

    def rated(table: pa.Table) -> pa.Table:
        added = eager.rate_arrow(table.select(needed), book, options)
        for name in added.column_names:
            table = table.append_column(name, added[name])
        return table

    return _mapped(frame, rated, StructType([*frame.schema.fields, *fields]))


def totals(frame: DataFrame, book: PriceBook, options: FrameOptions, by: Sequence[str], time_zone: str) -> DataFrame:
    """Return the sums of a frame: the workers sum their rows, and Spark adds their sums."""
    from pyspark.sql import functions as f
    from pyspark.sql.types import DecimalType, LongType, StringType, StructField, StructType

    needed = needed_columns(frame.columns, book, options, by)
    layout = _layout(frame, needed, book, options)
    Grouping(by, layout, time_zone)
    stored = {field.name: field.dataType for field in frame.schema.fields}
    names = {ours: column.name for ours, column in layout.columns.items()}
    keys = [StructField(name, stored.get(names.get(name, name), StringType())) for name in by]
    keys.append(StructField("problem", StringType()))
    sums = [StructField("requests", LongType())]
    sums += [StructField(count.argument, DecimalType(DIGITS, count.places)) for count in layout.counts]
    sums += [StructField(name, DecimalType(DIGITS, places)) for name, places in AmountColumns(book).places.items()]

    def summed(table: pa.Table) -> pa.Table:
        return eager.total_arrow(table, book, options, by, time_zone)

    parts = _mapped(frame.select([_column(name) for name in needed]), summed, StructType([*keys, *sums]))
    too_large = f.raise_error(f.lit("invalid_money: a sum has more than 38 digits"))
    added = [
        # A sum that lacks an amount is none. Without ANSI mode, Spark turns a sum that is too large into null.
        f.when(f.count(_column(field.name)) == f.count(f.lit(1)), f.coalesce(f.sum(_column(field.name)), too_large))
        .cast(field.dataType)
        .alias(field.name)
        for field in sums
    ]
    return parts.groupBy([_column(field.name) for field in keys]).agg(*added)


def _layout(frame: DataFrame, needed: Sequence[str], book: PriceBook, options: FrameOptions) -> FrameLayout:
    """Return the columns of a frame, so that errors in them are raised here and not by a worker.

    Their types matter only where they are an error.
    """
    kinds = {field.name: _TYPES.get(field.dataType.simpleString(), "VARCHAR") for field in frame.schema.fields}
    return FrameLayout(needed, [kinds[name] for name in needed], book, options)


def _column(name: str) -> Column:
    """Return a column by its name, which may have dots."""
    from pyspark.sql import functions as f

    return f.col("`" + name.replace("`", "``") + "`")


def _mapped(frame: DataFrame, function: Callable[[pa.Table], pa.Table], schema: StructType) -> DataFrame:
    """Return a frame of what a function makes of the rows, a part at a time."""

    def parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(batch)
            if sum(each.num_rows for each in held) >= _ROWS:
                yield from function(pa.Table.from_batches(held)).to_batches()
                held = []
        if held:
            yield from function(pa.Table.from_batches(held)).to_batches()

    return frame.mapInArrow(parts, schema)
