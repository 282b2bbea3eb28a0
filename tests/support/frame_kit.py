"""Usage tables of every kind of data frame, and their figures by ``PriceBook.rate``, one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa

import model_oracle
from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.meters import METERS
from model_oracle import ModelRequest

__all__ = ["KINDS", "Row", "expected_rates", "expected_totals", "row_of_model_request", "rows_of", "table_of"]

_ATTRIBUTES: Final = ("at", "account", "group", "model", "service_tier", "region", "mode", "served_model")
_EXACT: Final = Context(prec=200)


class Row(NamedTuple):
    """A row of a usage table: columns beside the quantities, and the arguments of ``Usage``."""

    attributes: dict[str, Any]
    counts: dict[str, Decimal | int]


def row_of_model_request(request: ModelRequest, account: str, size: int) -> Row:
    """Return a request of a book with all features as a row."""
    arguments = model_oracle.arguments_of(request)
    own, served = arguments.pop("quantities"), arguments.pop("model")
    attributes = {
        "at": request.at,
        "account": account,
        "group": request.group,
        "model": request.model,
        "service_tier": request.tier,
        "region": request.region,
        "mode": request.mode,
        "served_model": served,
    }
    counts = {"input_tokens": 0, **arguments, **own}
    return Row(attributes, {name: count * size for name, count in counts.items()})


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table."""
    columns: dict[str, Any] = {}
    for name in _ATTRIBUTES:
        kind = pa.timestamp("us", tz="UTC") if name == "at" else pa.string()
        columns[name] = pa.array([row.attributes.get(name) for row in rows], kind)
    counts = dict.fromkeys(name for row in rows for name in row.counts)
    for name in counts or ("input_tokens",):
        values = [row.counts.get(name) for row in rows]
        is_whole = all(isinstance(value, int | None) for value in values)
        # Numbers must not be converted in the caller's decimal context.
        columns[name] = pa.array(values, pa.int64() if is_whole else pa.decimal128(38, 6))
    return pa.table(columns)


KINDS: Final[Mapping[str, Callable[[pa.Table], Any]]] = {
    "duckdb": lambda table: duckdb.connect().from_arrow(table),
    "polars": lambda table: pl.from_arrow(table),
    "polars lazy": lambda table: pl.DataFrame(pl.from_arrow(table)).lazy(),
    "pandas": lambda table: table.to_pandas(),
    "pandas by labels": lambda table: table.to_pandas().set_index(pd.Index([7] * table.num_rows)),
    "pyarrow": lambda table: table,
}
"""Kind of frame -> a function that makes such a frame of an Arrow table."""


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a frame of any kind."""
    if isinstance(frame, pa.Table):
        return list(frame.to_pylist())
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return list(frame.to_dicts())
    if isinstance(frame, pd.DataFrame):
        # pandas has NaN for a text that is missing.
        return [
            {str(name): None if value is None or value != value else value for name, value in row.items()}
            for row in frame.to_dict("records")
        ]
    if hasattr(frame, "rdd") or hasattr(frame, "toArrow"):
        return [row.asDict() for row in frame.collect()]
    return list(frame.to_arrow_table().to_pylist())


def expected_rates(book: PriceBook, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the added columns of rows, by ``PriceBook.rate``."""
    names = ("credits", "nominal", *(f"cost_{name}" for name in book.channels()))
    found = []
    for row in rows:
        given = row.attributes
        counts = dict(row.counts)
        own = {name: counts.pop(name) for name in list(counts) if name in book.meters and name not in METERS}
        problem, tier = None, None
        amounts: dict[str, Decimal | None] = dict.fromkeys(names)
        try:
            usage = Usage(**counts, quantities=own, model=given.get("served_model"))  # type: ignore[arg-type]
            charge = book.rate(
                usage,
                **{name: given.get(name) for name in ("model", "group", "at", "service_tier", "region", "mode")},  # type: ignore[arg-type]
            )
            tier = charge.context_tier
            amounts |= {"credits": charge.credits, "nominal": charge.nominal.amount}
            amounts |= {f"cost_{name}": charge.cost(name).amount for name in charge.card.channels}
        except BillingError as error:
            problem = error.code
        found.append({**amounts, "context_tier": tier, "problem": problem})
    return found


def expected_totals(
    book: PriceBook, rows: Sequence[Row], by: Mapping[str, Callable[[Row], Any]]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the sums of rows by (values of ``by``, problem)."""
    counts = dict.fromkeys(name for row in rows for name in row.counts) or {"input_tokens": None}
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row, rated in zip(rows, expected_rates(book, rows), strict=True):
        problem = rated.pop("problem")
        del rated["context_tier"]
        key = (*(value(row) for value in by.values()), problem)
        numbers = {name: Decimal(row.counts.get(name, 0)) for name in counts} | rated
        if problem is not None:
            numbers = dict.fromkeys(numbers)
        total = sums.setdefault(key, {"requests": 0, **{name: Decimal(0) for name in numbers}})
        total["requests"] += 1
        for name, number in numbers.items():
            known = total[name]
            total[name] = None if number is None or known is None else _EXACT.add(known, number)
    return sums


def day_of(row: Row) -> str:
    """Return the day of a row in UTC."""
    at: datetime = row.attributes["at"]
    return at.date().isoformat()
