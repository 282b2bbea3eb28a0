"""The public functions, for every kind of data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from brivionix_billing.errors import BillingError, missing_extra, safe_repr
from brivionix_billing.frames.layout import FrameOptions
from brivionix_billing.pricebook import PriceBook

__all__ = ["rate", "totals"]

F = TypeVar("F")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def rate(
    frame: F,
    book: PriceBook,
    *,
    mapping: Mapping[str, str] = _NOTHING,
    values: Mapping[str, str] = _NOTHING,
    naive_time_zone: str | None = None,
) -> F:
    """Return the rows of a usage table with what each costs, as a frame of the same kind.

    Adds ``credits``, ``nominal``, ``cost_<channel>`` for each channel, ``context_tier`` and ``problem``. Amounts are
    exact decimals, those of ``book.rate``. If a row has no price, ``problem`` is the error code of ``book.rate`` or of
    the record of a usage file, and the amounts are null.

    ``mapping`` names columns: ``{"created_at": "at"}``. ``values`` are those of columns that the frame does not have:
    ``{"group": "default"}``. ``naive_time_zone`` is the zone of timestamps without one.

    Raises ``invalid_argument`` if the frame is no usage table, ``invalid_time`` for timestamps without a time zone,
    ``missing_extra``.
    """
    options = FrameOptions(dict(mapping), dict(values), naive_time_zone)
    return cast("F", _module_for(frame).rate(frame, book, options))


def totals(
    frame: F,
    book: PriceBook,
    by: Sequence[str] = (),
    *,
    time_zone: str = "UTC",
    mapping: Mapping[str, str] = _NOTHING,
    values: Mapping[str, str] = _NOTHING,
    naive_time_zone: str | None = None,
) -> F:
    """Return the exact sums of a usage table, as a frame of the same kind.

    ``by`` has names of columns, ``day``, ``hour`` or ``month`` of the request in ``time_zone``, and fields of columns
    such as ``tags.team``. The sums have ``by``, ``problem``, ``requests``, the quantities, ``credits``, ``nominal`` and
    ``cost_<channel>``. Requests without a price have rows of their own, by their error code in ``problem``. A cost is
    null if the channel had no price for one of the requests.

    The other arguments are those of :func:`rate`. Raises ``invalid_argument``, ``invalid_time``, ``invalid_period`` for
    an unknown time zone, ``missing_extra``.
    """
    options = FrameOptions(dict(mapping), dict(values), naive_time_zone)
    return cast("F", _module_for(frame).totals(frame, book, options, by, time_zone))


def _module_for(frame: object) -> Any:
    """Return the module for a kind of frames. Raises ``missing_extra``, ``invalid_argument``."""
    try:
        import duckdb  # noqa: F401  # every kind needs it
        import narwhals as nw
        import pyarrow  # noqa: F401  # every kind needs it
    except ImportError:
        raise missing_extra("a data frame", "frames") from None
    from brivionix_billing.frames import eager, lazy, relations, spark

    try:
        found = nw.from_native(frame, pass_through=True)
    except nw.exceptions.DuplicateError as error:
        raise BillingError("invalid_argument", f"the frame cannot be read: {error}; rename one column") from None
    if isinstance(found, nw.DataFrame):
        return eager
    if isinstance(found, nw.LazyFrame):
        kind = found.implementation
        if kind.is_duckdb():
            return relations
        if kind.is_polars():
            return lazy
        if kind.is_pyspark() or kind.is_pyspark_connect():
            return spark
    raise BillingError(
        "invalid_argument",
        f"{safe_repr(frame)} is no data frame of DuckDB, Polars, pandas, PyArrow or PySpark; use one of these",
    )
