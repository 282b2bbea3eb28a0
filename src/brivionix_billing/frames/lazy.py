"""Rates and totals lazy frames of Polars, when they are collected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from brivionix_billing.frames import eager
from brivionix_billing.frames.layout import FrameOptions, needed_columns
from brivionix_billing.pricebook import PriceBook

if TYPE_CHECKING:
    import polars as pl

__all__ = ["rate", "totals"]


def rate(frame: pl.LazyFrame, book: PriceBook, options: FrameOptions) -> pl.LazyFrame:
    """Return a frame with the columns that rating adds. The streaming engine rates it in parts."""
    return _mapped(frame, lambda part: eager.rate(part, book, options), is_by_row=True)


def totals(
    frame: pl.LazyFrame, book: PriceBook, options: FrameOptions, by: Sequence[str], time_zone: str
) -> pl.LazyFrame:
    """Return the sums of a frame."""
    needed = frame.select(needed_columns(frame.collect_schema().names(), book, options, by))
    return _mapped(needed, lambda part: eager.totals(part, book, options, by, time_zone), is_by_row=False)


def _mapped(frame: pl.LazyFrame, function: Callable[[pl.DataFrame], pl.DataFrame], *, is_by_row: bool) -> pl.LazyFrame:
    import polars as pl

    schema = function(pl.DataFrame(schema=frame.collect_schema())).schema
    return frame.map_batches(function, schema=schema, streamable=is_by_row)
