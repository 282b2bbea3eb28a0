"""Sums of usage and amounts over the rows of a relation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.frames.amounts import DIGITS
from brivionix_billing.frames.grouping import UNITS, Grouping
from brivionix_billing.frames.layout import quote
from brivionix_billing.frames.query import ClassTable, decimal_text, table_of
from brivionix_billing.frames.rater import FrameRater
from brivionix_billing.frames.row_classes import RowClass

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation as Relation

__all__ = ["total_relation"]

_GROUPED: Final = "_b_grouped_table"
_MAX_SUM: Final = 10**DIGITS


def total_relation(rater: FrameRater, relation: Relation, by: Sequence[str], time_zone: str) -> Relation:
    """Return the sums of a relation as a relation. Raises ``invalid_argument``, ``invalid_period``."""
    return _Totals(rater, relation, Grouping(by, rater.layout, time_zone)).result()


class _Totals:
    """The totals of one relation.

    The engine sums the counts of most rows by class, and each sum is priced once. A class with a minimum charge, a
    price of reasoning, or quantities without a price has no such sums: the engine prices its rows. Rows that the engine
    cannot price are priced by the core, each different one once.
    """

    def __init__(self, rater: FrameRater, relation: Relation, grouping: Grouping) -> None:
        self._rater, self._relation, self._grouping = rater, relation, grouping
        self._query = rater.query(relation, grouping.units, grouping.zone)
        self._values = [f"_g{index}" for index in range(len(grouping.names))]
        self._sums = [f"_s{index}" for index in range(len(rater.layout.counts))]
        self._amounts = [f"_a{index}" for index in range(len(rater.amounts.names))]
        self._columns = self._checked_columns()

    def _checked_columns(self) -> list[tuple[str, str]]:
        layout, amounts = self._rater.layout, self._rater.amounts
        columns = [*zip(self._grouping.names, self._grouping.types, strict=True), ("problem", "VARCHAR")]
        columns.append(("requests", "BIGINT"))
        columns += [(count.argument, f"DECIMAL({DIGITS},{count.places})") for count in layout.counts]
        columns += [(name, amounts.sql_type(name)) for name in amounts.names]
        names = [name for name, _ in columns]
        repeated = next((name for index, name in enumerate(names) if name in names[:index]), None)
        if repeated is not None:
            raise BillingError(
                "invalid_argument", f"by has {safe_repr(repeated)}, which is a column of sums; rename it"
            )
        return columns

    def result(self) -> Relation:
        """Return the totals."""
        query, rater = self._query, self._rater
        grouped = self._run(
            f"WITH {query.rows} SELECT {', '.join(self._grouped(['_b_ok', *query.class_columns]))} "
            "FROM _b_rows GROUP BY ALL",
        ).to_arrow_table()
        sums = ", ".join(["sum(_n)", *(f"sum({name})" for name in self._sums)])
        found = self._run(
            f"SELECT _b_ok, {', '.join(query.class_columns)}, {sums} FROM {_GROUPED} GROUP BY ALL", grouped
        ).fetchall()
        width = 1 + len(query.class_columns)
        classes = rater.resolve(row[1:width] for row in found if row[0])
        totals = {tuple(row[1:width]): list(map(int, row[width:])) for row in found if row[0]}
        by_row = [index for index, (key, each) in enumerate(classes.items()) if not _is_summed(each, totals[key])]
        table = query.classes(classes, rater.amounts)
        ctes = query.classified(table, rater.amounts)
        parts = [self._priced_sums(table, by_row)]
        if by_row:
            parts.append(self._priced_rows(by_row))
        core: list[list[Any]] = []
        if not all(row[0] for row in found) or not all(each.fits for each in classes.values()):
            core = self._core_rows(ctes)
        return self._run(
            self._summed(ctes if by_row else f"_b_classes AS ({table.sql})", parts, core, grouped), grouped
        )

    def _run(self, sql: str, _b_grouped_table: Any = None) -> Relation:
        """Run a query over ``frame``. DuckDB finds the table of sums by the name of the argument."""
        return cast("Relation", self._relation.query("frame", sql))

    def _grouped(self, others: Iterable[str]) -> list[str]:
        """Return the values by which rows are grouped, other columns, the requests, and the summed counts."""
        values = [f"{sql} AS {name}" for sql, name in zip(self._grouping.sql(self._query), self._values, strict=True)]
        sums = [
            f"CAST(sum({count}) AS DECIMAL({DIGITS},0)) AS {name}"
            for count, name in zip(self._query.count_names, self._sums, strict=True)
        ]
        return [*values, *others, "count(*) AS _n", *sums]

    def _priced_sums(self, table: ClassTable, by_row: Sequence[int]) -> str:
        """Return a query of the sums of classes with their amounts."""
        sums = [f"CAST(q.{name} AS HUGEINT)" for name in self._sums]
        quanta = " + ".join(["q._n * c.fixed", *(f"{name} * c.r{index}" for index, name in enumerate(sums))])
        amounts = [f"CAST({quanta} AS DECIMAL({DIGITS},0)) * c.a{index}" for index in range(len(self._amounts))]
        columns = [f"q.{name}" for name in (*self._values, "_n", *self._sums)]
        columns += [f"{sql} AS {name}" for sql, name in zip(amounts, self._amounts, strict=True)]
        left_out = f" AND c.ix NOT IN ({', '.join(map(str, by_row))})" if by_row else ""
        return (
            f"SELECT c.problem AS _p, {', '.join(columns)} FROM {_GROUPED} q JOIN _b_classes c ON {table.on} "
            f"WHERE q._b_ok AND NOT c.by_core{left_out}"
        )

    def _priced_rows(self, by_row: Sequence[int]) -> str:
        """Return a query of sums of classes whose rows the engine prices one by one."""
        amounts = [f"sum(_b_quanta * _b_a{index}) AS {name}" for index, name in enumerate(self._amounts)]
        # An amount that some rows do not have is none: a sum of the others would be too small.
        known = [
            f"CASE WHEN count(_b_quanta * _b_a{i}) = count(*) THEN {sql.partition(' AS ')[0]} END AS {name}"
            for i, (sql, name) in enumerate(zip(amounts, self._amounts, strict=True))
        ]
        listed = ["_b_problem AS _p", *self._grouped([]), *known]
        where = f"_b_ok AND NOT _b_core AND _b_class IN ({', '.join(map(str, by_row))})"
        return f"SELECT {', '.join(listed)} FROM _b_classified WHERE {where} GROUP BY ALL"

    def _core_rows(self, ctes: str) -> list[list[Any]]:
        """Return sums of the rows that the core prices."""
        grouping, rater = self._grouping, self._rater
        values = [f"{sql} AS {name}" for sql, name in zip(grouping.sql(self._query), self._values, strict=True)]
        cells = [f"{sql} AS _v{index}" for index, sql in enumerate(self._query.row_values)]
        texts = [f"CAST({name} AS VARCHAR)" for name in self._values]
        rows = self._run(
            f"WITH {ctes} SELECT {', '.join([*texts, '_n', *(f'_v{index}' for index in range(len(cells)))])} FROM ("
            f"SELECT {', '.join([*values, *cells])}, count(*) AS _n FROM _b_classified WHERE _b_core GROUP BY ALL)"
        ).fetchall()
        width = len(texts)
        found = []
        for row in rows:
            requests, time, *others = row[width:]
            outcome = rater.core.outcome(time, others)
            counts = outcome.counts or (None,) * len(self._sums)
            found.append(
                [
                    *grouping.with_labels(row[:width], outcome.at),
                    outcome.problem,
                    requests,
                    *(None if count is None else count * requests for count in counts),
                    *(
                        None if amount is None else decimal_text(amount * requests, places)
                        for amount, places in zip(outcome.amounts, rater.amounts.places.values(), strict=True)
                    ),
                ]
            )
        return found

    def _summed(self, ctes: str, parts: Sequence[str], core: Sequence[Sequence[Any]], grouped: Any) -> str:
        """Return the query of the totals over all parts."""
        grouping, rater = self._grouping, self._rater
        labelled, joins = [], ""
        for name, value in zip(grouping.names, self._values, strict=True):
            if name in UNITS:
                numbers = [row[0] for row in self._run(f"SELECT DISTINCT {value} FROM {_GROUPED}", grouped).fetchall()]
                ctes += f", _b_{name} AS ({grouping.label_table(name, numbers)})"
                joins += f" LEFT JOIN _b_{name} ON {value} = _b_{name}.number"
                labelled.append(f"_b_{name}.label AS {value}")
            else:
                labelled.append(value)
        sums = ["_n", *self._sums, *self._amounts]
        columns = [*zip(self._values, grouping.types, strict=True), ("_p", "VARCHAR"), ("_n", "BIGINT")]
        columns += [(name, f"DECIMAL({DIGITS},0)") for name in self._sums]
        columns += [
            (column, rater.amounts.sql_type(name))
            for column, name in zip(self._amounts, rater.amounts.names, strict=True)
        ]
        union = f"SELECT {', '.join([*labelled, '_p', *sums])} FROM ({' UNION ALL BY NAME '.join(parts)}){joins}"
        if core:
            union += f" UNION ALL BY NAME {table_of(core, columns)}"
        amounts = [f"CASE WHEN count({name}) = count(*) THEN sum({name}) END" for name in self._amounts]
        scaled = [
            f"CASE WHEN _p IS NULL THEN sum({name}) * {decimal_text(1, count.places)} END"
            for name, count in zip(self._sums, rater.layout.counts, strict=True)
        ]
        listed = [
            f"CAST({sql} AS {kind}) AS {quote(name)}"
            for sql, (name, kind) in zip(
                [*self._values, "_p", "sum(_n)", *scaled, *amounts], self._columns, strict=True
            )
        ]
        keys = ", ".join([*self._values, "_p"])
        order = ", ".join(f"{index} NULLS FIRST" for index in range(1, len(self._values) + 2))
        return f"WITH {ctes} SELECT {', '.join(listed)} FROM ({union}) GROUP BY {keys} ORDER BY {order}"


def _is_summed(each: RowClass, totals: Sequence[int]) -> bool:
    """Return whether the amounts of a class follow from its summed counts, and all numbers fit 128 bits."""
    requests, *counts = totals
    if not each.fits or each.problem is not None:
        return True
    return each.is_linear and not each.lacks_price(counts) and requests * each.maximum < _MAX_SUM
