"""The queries of one frame: classifies rows, and computes what they cost in whole numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from brivionix_billing.frames.amounts import AmountColumns
from brivionix_billing.frames.core_rows import RowOutcome
from brivionix_billing.frames.layout import FrameLayout, quote, text_literal
from brivionix_billing.frames.row_classes import RowClass
from brivionix_billing.frames.times import HOUR, LAST, TimePiece, case_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation as Relation

__all__ = ["CHANGED", "ClassTable", "FrameQuery", "decimal_text", "run_query", "table_of"]

CHANGED: Final = "error('the rows are not those that rate() read; rate them again')"


@dataclass(slots=True)
class ClassTable:
    """The classes of a frame as a table ``c``, and what a row costs by it."""

    number: str
    """The type in which quanta are computed."""
    reasoning: int | None
    """The index of the count of reasoning, if a class has a price for it."""
    has_minimum: bool
    has_unpriced: bool
    on: str
    """The condition that a row ``q`` is of a class ``c``."""
    sql: str = ""

    def quanta(self, counts: Sequence[str]) -> str:
        """Return the quanta of a row."""
        terms = [f"CAST({name} AS {self.number}) * c.r{index}" for index, name in enumerate(counts)]
        quanta = " + ".join(["c.fixed", *terms])
        if self.reasoning is not None:
            output = " + ".join(f"{name} * c.o{index}" for index, name in enumerate(counts))
            quanta += f" + c.reasoning * least({counts[self.reasoning]}, {output})"
        return f"greatest({quanta}, c.minimum)" if self.has_minimum else quanta

    def problem(self, counts: Sequence[str]) -> str:
        """Return the error code of a row, ``NULL`` if it has a price."""
        if not self.has_unpriced:
            return "c.problem"
        unpriced = " + ".join(f"{name} * c.u{index}" for index, name in enumerate(counts))
        return f"CASE WHEN {unpriced} > 0 THEN 'meter_unpriced' ELSE c.problem END"


class FrameQuery:
    """Common table expressions over the view ``frame``. Their columns start with ``_b``, beside those of the frame.

    ``_b_rows`` has ``_b_time``, the counts ``_b0, _b1, ...`` and ``_b_ok``: whether this row is computed by the engine.
    ``_b_classified`` adds the number of its class and what its class costs.
    """

    def __init__(self, layout: FrameLayout, limits: Sequence[int]) -> None:
        self.layout, self.limits = layout, limits
        self.local: Sequence[TimePiece] = ()
        """The offsets of local times, if the times are naive."""
        self.pieces: Sequence[TimePiece] | None = ()
        """The numbers of times; ``None``: see ``hours``."""
        self.hours: Mapping[int, Sequence[TimePiece]] = {}
        self.labels: Mapping[str, Sequence[TimePiece]] = {}
        """Unit of time -> the offsets by which it is counted."""
        self.key_names = [f"_bk{index}" for index in range(len(layout.keys))]
        self.count_names = [f"_b{index}" for index in range(len(layout.counts))]

    @property
    def base(self) -> str:
        """The expressions up to ``_b_base``: the frame with times, keys and counts."""
        layout = self.layout
        time = layout.time_sql
        columns = [f"CAST({column.sql} AS VARCHAR) AS _bk{index}" for index, column in enumerate(layout.keys.values())]
        columns += [f"{count.sql} AS _b{index}" for index, count in enumerate(layout.counts)]
        stated = " OR ".join(f"{count.stated_sql} IS NOT NULL" for count in layout.counts) or "FALSE"
        listed = "".join(f", {column}" for column in (*columns, f"({stated}) AS _b_stated"))
        return f"_b_base AS (SELECT *, {time} AS _b_local{listed} FROM frame)"

    @property
    def rows(self) -> str:
        """The expressions up to ``_b_rows``."""
        time = f"_b_local - {case_of('_b_local', self.local)}" if self.local else "_b_local"
        context = " + ".join(f"CAST({self._input} > {limit} AS TINYINT)" for limit in self.limits) or "0"
        number = "0"
        source = "_b_timed"
        hours = ""
        if self.pieces is None:
            inner = max((len(pieces) for pieces in self.hours.values()), default=1) - 1
            rows = [
                [hour, pieces[0].value, *(value for piece in pieces[1:] for value in piece)]
                + [None, None] * (inner + 1 - len(pieces))
                for hour, pieces in self.hours.items()
            ]
            names = ["hour", "n0", *(f"{kind}{index}" for index in range(1, inner + 1) for kind in ("t", "n"))]
            hours = ", _b_hours AS (" + table_of(rows, [(name, "BIGINT") for name in names]) + ")"
            cases = "".join(f" WHEN _b_time >= h.t{index} THEN h.n{index}" for index in range(inner, 0, -1))
            number = f"CASE{cases} ELSE h.n0 END" if cases else "h.n0"
            source = f"_b_timed LEFT JOIN _b_hours h ON _b_time // {HOUR} = h.hour"
        elif self.pieces:
            number = case_of("_b_time", self.pieces)
        return (
            f"{self.base}, _b_timed AS (SELECT *, {time} AS _b_time FROM _b_base){hours}, "
            f"_b_rows AS (SELECT _b_timed.*, {self._is_ok} AS _b_ok, {context} AS _b_context, "
            f"{number} AS _b_number FROM {source})"
        )

    @property
    def _input(self) -> str:
        index = self.layout.index_of("input_tokens")
        return "0" if index is None else f"_b{index}"

    @property
    def _is_ok(self) -> str:
        layout = self.layout
        if layout.body is not None:
            return "FALSE"
        tests = ["_b_stated", f"_b_time BETWEEN 0 AND {LAST}", *(f"{name} >= 0" for name in self.count_names)]
        for meter in layout.meters:
            factors = layout.disjoint(meter)
            if min(factors) < 0:
                tests.append(f"{_sum(factors, self.count_names)} >= 0")
        output = layout.index_of("output_tokens")
        reasoning, total = layout.index_of("reasoning_tokens"), layout.index_of("total_tokens")
        output_sql = "0" if output is None else f"_b{output}"
        if reasoning is not None:
            tests.append(f"_b{reasoning} <= {output_sql}")
        if total is not None:
            tests.append(f"({layout.counts[total].stated_sql} IS NULL OR _b{total} = {self._input} + {output_sql})")
        return f"coalesce({' AND '.join(tests)}, FALSE)"

    @property
    def class_columns(self) -> list[str]:
        """The columns that decide the class of a row."""
        return [*self.key_names, "_b_number", "_b_context"]

    def label(self, unit: str) -> str:
        """Return the number of a day, hour or month in SQL; see :meth:`Labels.of_number`."""
        pieces = self.labels[unit]
        offset = case_of("_b_time", pieces) if pieces else "0"
        if unit == "hour":
            return f"(_b_time + {offset}) // {HOUR} * {HOUR} - {offset}"
        day = f"CAST((_b_time + {offset}) // {24 * HOUR} AS INTEGER)"
        if unit == "day":
            return day
        date = f"(DATE '1970-01-01' + {day})"
        return f"(year({date}) * 12 + month({date}))"

    def classes(self, classes: Mapping[tuple[Any, ...], RowClass], amounts: AmountColumns) -> ClassTable:
        """Return the table of classes, by the values of ``class_columns``."""
        found = list(classes.values())
        counts = len(self.count_names)
        table = ClassTable(
            number="BIGINT" if all(each.is_small or not each.fits for each in found) else "HUGEINT",
            reasoning=self.layout.index_of("reasoning_tokens") if any(each.reasoning_rate for each in found) else None,
            has_minimum=any(each.minimum for each in found),
            has_unpriced=any(any(each.unpriced) for each in found),
            on=" AND ".join(f"q.{name} IS NOT DISTINCT FROM c.{name}" for name in self.class_columns),
        )
        columns = [*((name, "VARCHAR") for name in self.key_names), ("_b_number", "BIGINT"), ("_b_context", "BIGINT")]
        columns += [("ix", "BIGINT"), ("tier", "VARCHAR"), ("problem", "VARCHAR"), ("by_core", "BOOLEAN")]
        columns += [(f"a{index}", amounts.sql_type(name)) for index, name in enumerate(amounts.names)]
        columns += [(name, table.number) for name in ("fixed", "reasoning", "minimum")]
        columns += [(f"{kind}{index}", table.number) for kind in ("r", "o", "u") for index in range(counts)]
        rows: list[list[Any]] = []
        for index, (key, each) in enumerate(classes.items()):
            factors = [
                decimal_text(factor, amounts.places[name])
                for name, factor in zip(amounts.names, each.amount_factors, strict=True)
            ]
            row = [*key, index, each.context_tier, each.problem, not each.fits]
            row += [*factors, each.fixed, each.reasoning_rate, each.minimum, *each.rates, *each.output, *each.unpriced]
            rows.append(row if each.fits else row[: len(key) + 4] + [None] * (len(columns) - len(key) - 4))
        table.sql = table_of(rows, columns)
        return table

    def classified(self, table: ClassTable, amounts: AmountColumns) -> str:
        """Return the expressions up to ``_b_classified``."""
        kept = "".join(f", c.a{index} AS _b_a{index}" for index in range(len(amounts.names)))
        return (
            f"{self.rows}, _b_classes AS ({table.sql}), "
            f"_b_joined AS (SELECT q.*, c.ix AS _b_class, c.tier AS _b_tier{kept}, "
            f"coalesce(NOT q._b_ok OR c.by_core, FALSE) AS _b_core, {table.problem(self.count_names)} AS _b_problem, "
            f"CASE WHEN q._b_ok THEN {table.quanta(self.count_names)} END AS _b_quanta "
            f"FROM _b_rows q LEFT JOIN _b_classes c ON {table.on}), "
            f"_b_classified AS (SELECT * EXCLUDE (_b_problem, _b_quanta), "
            f"CASE WHEN _b_ok AND _b_class IS NULL THEN {CHANGED} ELSE _b_problem END AS _b_problem, "
            "CASE WHEN _b_problem IS NULL THEN CAST(_b_quanta AS DECIMAL(38,0)) END AS _b_quanta FROM _b_joined)"
        )

    @property
    def row_key(self) -> str:
        """A text by which rows that are priced by the core are found again."""
        texts = [f"CAST({sql} AS VARCHAR)" for sql in self.row_values]
        return f"CAST(to_json([{', '.join(texts)}]) AS VARCHAR)"

    @property
    def row_values(self) -> list[str]:
        """The instant of a row, and the columns that are read. An unreadable time is the text that it has."""
        columns = [column.sql for name, column in self.layout.read.items() if name != "at"]
        at = self.layout.at
        if at is None:
            return ["_b_time", *columns]
        is_naive = self.layout.naive_time_zone is not None
        value = (
            f"CASE WHEN isfinite({at.sql}) THEN CAST({at.sql} AS TIMESTAMP) END"
            if is_naive
            else (f"CASE WHEN _b_time IS NULL THEN CAST({at.sql} AS VARCHAR) END")
        )
        return ["_b_time", value, *columns]

    def outcomes(self, outcomes: Mapping[str, RowOutcome], amounts: AmountColumns) -> str:
        """Return the rows that the core priced, by their texts, as a query."""
        rows = [
            [key, each.problem, each.context_tier, *map(decimal_text, each.amounts, amounts.places.values())]
            for key, each in outcomes.items()
        ]
        types = [(f"a{index}", amounts.sql_type(name)) for index, name in enumerate(amounts.names)]
        return table_of(rows, [("row_key", "VARCHAR"), ("problem", "VARCHAR"), ("tier", "VARCHAR"), *types])


def _sum(factors: Iterable[int], names: Iterable[str]) -> str:
    terms = [f"{factor} * {name}" for factor, name in zip(factors, names, strict=True) if factor]
    return " + ".join(terms) or "0"


def decimal_text(amount: int | None, places: int) -> str | None:
    """Return an amount in the smallest parts of a column as plain text."""
    if amount is None:
        return None
    digits = str(amount).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def run_query(relation: Relation, sql: str) -> Relation:
    """Return the result of a query over a relation, which is ``frame`` in it."""
    return cast("Relation", relation.query("frame", sql))


def table_of(rows: Sequence[Sequence[Any]], columns: Sequence[tuple[str, str]]) -> str:
    """Return a query that yields rows. DuckDB reads them from JSON much faster than from ``VALUES``."""
    texts = [[None if value is None else _text(value) for value in row] for row in rows]
    data = text_literal(json.dumps(texts, ensure_ascii=False))
    listed = ", ".join(f"CAST(r[{index}] AS {kind}) AS {quote(name)}" for index, (name, kind) in enumerate(columns, 1))
    return f"SELECT {listed} FROM (SELECT unnest(from_json({data}, '[[\"VARCHAR\"]]')) AS r)"


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
