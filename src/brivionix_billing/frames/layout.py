"""The columns of a usage table that a price depends on, and their values in DuckDB's SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import DESCENDANTS, MAX_QUANTITY_PLACES, METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.tables import Columns, TableOptions
from brivionix_billing.usage import MAX_COUNT
from brivionix_billing.usage.readers.plain import COUNT_NAMES

__all__ = ["Column", "Count", "FrameLayout", "FrameOptions", "needed_columns", "quote", "text_literal"]

_KEYS: Final = (
    *("group", "model", "service_tier", "region", "mode", "upstream"),
    *("served_model", "served_service_tier", "estimated"),
)
"""Columns by which rows are classified: few different values, compared as text."""
_PLACEHOLDERS: Final = ("request_id", "account")
"""Columns of a usage table without an effect on the price."""
_INTEGER: Final = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_KEY_TYPE: Final = re.compile(r"VARCHAR|ENUM.*|UUID|\"?NULL\"?")
_NAIVE_TIME: Final = re.compile(r"TIMESTAMP(_S|_MS|_NS)?")
_INSTANT: Final = (
    r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
)
"""Texts that this library and DuckDB read as the same instant. Other texts are read by this library."""
_EXACT_DOUBLE: Final = 10**15
"""Decimal numbers of up to 15 digits survive the way through a double."""


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """How the columns of a frame are read."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    """Other names of columns: ``{"created_at": "at"}``."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Values of columns that the frame does not have, the same for every row."""
    naive_time_zone: str | None = None
    """The time zone of timestamps without one."""


class Column(NamedTuple):
    """A column of the frame."""

    name: str
    """Its name in the frame."""
    type: str
    """Its type in DuckDB."""

    @property
    def sql(self) -> str:
        """The column in SQL."""
        return quote(self.name)


class Count(NamedTuple):
    """A column of quantities."""

    argument: str
    """An argument of ``Usage``, or a meter of the price file."""
    column: Column
    places: int
    """Decimal places of its quantities. They are summed as whole numbers of ``10**-places``."""

    @property
    def maximum(self) -> int:
        """The largest stored quantity of a row."""
        return int(MAX_COUNT * 10**self.places)

    @property
    def stated_sql(self) -> str:
        """The value, ``NULL`` if the row states none."""
        return f"nullif({self.column.sql}, '')" if self.column.type == "VARCHAR" else self.column.sql

    @property
    def sql(self) -> str:
        """The stored quantity as ``BIGINT``: 0 if the row states none, -1 if it is not plainly valid."""
        return f"CASE WHEN {self.stated_sql} IS NULL THEN 0 {self._valid_cases()} ELSE -1 END"

    def _valid_cases(self) -> str:
        value, scale = self.column.sql, int(10**self.places)
        kind = self.column.type
        if _INTEGER.fullmatch(kind):
            stored = f"CAST({value} AS BIGINT)" + (f" * {scale}" if scale > 1 else "")
            return f"WHEN {value} BETWEEN 0 AND {MAX_COUNT} THEN {stored}"
        if kind == "VARCHAR":
            stored = f"CAST({value} AS BIGINT) * {scale}"
            return f"WHEN regexp_full_match({value}, '[0-9]{{1,12}}') THEN {stored}"
        if kind in ("FLOAT", "DOUBLE"):
            number = f"CAST({value} AS DOUBLE)"
            stored = f"round({number} * {scale})"
            return (
                f"WHEN {number} >= 0 AND {number} * {scale} < {_EXACT_DOUBLE} AND {number} <= {MAX_COUNT} "
                f"AND {stored} / {scale} = {number} THEN CAST({stored} AS BIGINT)"
            )
        if kind.startswith("DECIMAL"):
            stored = f"CAST({value} AS DECIMAL(38,18)) * {scale}"
            return (
                f"WHEN {value} BETWEEN 0 AND {MAX_COUNT} THEN "
                f"CASE WHEN {stored} = trunc({stored}) THEN CAST({stored} AS BIGINT) ELSE -1 END"
            )
        return ""


class FrameLayout:
    """The columns of one frame that are read.

    Raises ``invalid_argument`` if the frame is no usage table, ``invalid_time`` for times without a time zone.
    """

    def __init__(self, names: Sequence[str], types: Sequence[str], book: PriceBook, options: FrameOptions) -> None:
        custom = _custom_meters(book)
        values = dict(options.values)
        columns = _columns(names, book, options)
        self.types = dict(zip(names, types, strict=True))
        found = {ours: Column(name, self.types[name]) for name, ours in zip(names, columns.names, strict=True)}
        self.columns = found
        """Columns by the names of this library."""
        constants = {name: value for name, value in values.items() if name not in found}
        placeholders = dict.fromkeys(_PLACEHOLDERS, "-")
        self.options = TableOptions({}, constants | placeholders, custom, naive_time_zone=options.naive_time_zone)
        """How a row of the columns that are read becomes a record."""
        self.body = found.get("usage")
        """The column of whole bodies, if the frame has no quantities."""
        self.counts = tuple(
            Count(name, column, _places(name))
            for name, column in found.items()
            if name in COUNT_NAMES or name in custom
        )
        self.keys: dict[str, Column] = {name: found[name] for name in _KEYS if name in found}
        if "estimated" in found and found["estimated"].type == "BOOLEAN":
            del self.keys["estimated"]  # a mark, valid in every row
        for name, column in self.keys.items():
            if not _KEY_TYPE.fullmatch(column.type) and not _INTEGER.fullmatch(column.type):
                raise BillingError(
                    "invalid_argument", f"the column {safe_repr(column.name)} ({name}) is {column.type}; use text"
                )
        self.at = found.get("at")
        self.naive_time_zone: str | None = None
        if self.at is not None and _NAIVE_TIME.fullmatch(self.at.type):
            if options.naive_time_zone is None:
                raise BillingError(
                    "invalid_time",
                    f"the timestamps of the column {safe_repr(self.at.name)} have no time zone; pass "
                    "naive_time_zone='UTC', or the zone in which they were written (--naive-time-zone of a command)",
                )
            self.naive_time_zone = options.naive_time_zone
        elif self.at is not None and self.at.type == "DATE":
            self.naive_time_zone = options.naive_time_zone

    @property
    def read(self) -> dict[str, Column]:
        """All columns that a price depends on, by the names of this library."""
        found = {} if self.at is None else {"at": self.at}
        found |= self.keys
        found |= {count.argument: count.column for count in self.counts}
        return found | ({} if self.body is None else {"usage": self.body})

    def index_of(self, argument: str) -> int | None:
        """Return the index of the column of an argument among the counts."""
        return next((index for index, count in enumerate(self.counts) if count.argument == argument), None)

    def disjoint(self, meter: str) -> tuple[int, ...]:
        """Return the quantity of a meter as a sum of counts: one factor for each.

        The argument of a meter contains those of its descendants, so these are subtracted.
        """
        argument = METERS[meter].argument if meter in METERS else meter
        factors = [int(count.argument == argument) for count in self.counts]
        for name in DESCENDANTS.get(meter, ()):
            factors = [one - other for one, other in zip(factors, self.disjoint(name), strict=True)]
        return tuple(factors)

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters of the counts, and those that contain them."""
        custom = [count.argument for count in self.counts if count.argument not in COUNT_NAMES]
        return tuple(meter for meter in (*METERS, *custom) if any(self.disjoint(meter)))

    @property
    def time_sql(self) -> str:
        """The instant in microseconds since 1970 as ``BIGINT``, ``NULL`` if DuckDB cannot read it.

        Of a naive timestamp it is still in local time.
        """
        if self.at is None:
            at = text_literal(str(self.options.values["at"]))
            return _text_time(at)
        value, kind = self.at.sql, self.at.type
        if kind.startswith(("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")):
            value = f"CAST({value} AS TIMESTAMP WITH TIME ZONE)"  # one with nanoseconds is of another type
            return f"CASE WHEN isfinite({value}) THEN epoch_us({value}) END"
        if _NAIVE_TIME.fullmatch(kind) or kind == "DATE":
            local = f"CAST({value} AS TIMESTAMP)"
            return f"CASE WHEN isfinite({local}) THEN epoch_us({local}) END"
        if kind == "VARCHAR":
            return _text_time(value)
        if _INTEGER.fullmatch(kind):  # Unix times: 10 digits are seconds, 13 are milliseconds
            number = f"CAST({value} AS BIGINT)"
            return (
                f"CASE WHEN {value} BETWEEN {10**9} AND {10**10 - 1} THEN {number} * 1000000 "
                f"WHEN {value} BETWEEN {10**12} AND {10**13 - 1} THEN {number} * 1000 END"
            )
        return "CAST(NULL AS BIGINT)"


def needed_columns(names: Sequence[str], book: PriceBook, options: FrameOptions, by: Iterable[str] = ()) -> list[str]:
    """Return the columns of a frame that prices depend on, and those that rows are grouped by.

    Raises ``invalid_argument`` if the frame is no usage table.
    """
    columns = _columns(names, book, options)
    read = {"at", "usage", *_KEYS, *COUNT_NAMES, *_custom_meters(book)}
    read |= {part for name in (*by, *options.mapping) for part in (name, name.partition(".")[0])}
    return [name for name, ours in zip(names, columns.names, strict=True) if ours in read or name in read]


def _columns(names: Sequence[str], book: PriceBook, options: FrameOptions) -> Columns:
    known = [options.mapping.get(name, name) for name in names]
    missing = {name: "-" for name in _PLACEHOLDERS if name not in known}
    return Columns(names, TableOptions(options.mapping, missing | dict(options.values), _custom_meters(book)))


def _custom_meters(book: PriceBook) -> list[str]:
    return [name for name in book.meters if name not in METERS]


def _text_time(value: str) -> str:
    return (
        f"CASE WHEN regexp_full_match({value}, {text_literal(_INSTANT)}) "
        f"THEN epoch_us(TRY_CAST({value} AS TIMESTAMP WITH TIME ZONE)) END"
    )


def _places(argument: str) -> int:
    if argument in COUNT_NAMES:
        return next((meter.places for meter in METERS.values() if meter.argument == argument), 0)
    return MAX_QUANTITY_PLACES


def quote(name: str) -> str:
    """Return a name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """Return a text in SQL."""
    return "'" + text.replace("'", "''") + "'"
