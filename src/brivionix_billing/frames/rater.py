"""Rates and totals DuckDB relations, on the connection of the relation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.frames.amounts import AmountColumns
from brivionix_billing.frames.core_rows import CoreRows, RowOutcome
from brivionix_billing.frames.layout import FrameLayout, FrameOptions, quote
from brivionix_billing.frames.query import CHANGED, FrameQuery, run_query
from brivionix_billing.frames.row_classes import RowClass, RowClasses
from brivionix_billing.frames.times import DAY, HOUR, LAST, PriceTimes, day_pieces, local_pieces, zone_pieces
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import load_zone

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation as Relation

__all__ = ["ADDED_TEXTS", "FrameRater", "require_free"]

ADDED_TEXTS: Final = ("context_tier", "problem")
"""The columns beside the amounts that rating adds."""


def require_free(names: Iterable[str], added: Iterable[str]) -> None:
    """Raise ``invalid_argument`` if a frame has a column of the name of one that is added."""
    taken = set(names)
    for name in added:
        if name in taken:
            raise BillingError("invalid_argument", f"the frame has a column {safe_repr(name)} already; rename it")


class FrameRater:
    """Rates frames that have the same columns."""

    def __init__(self, names: Sequence[str], types: Sequence[str], book: PriceBook, options: FrameOptions) -> None:
        self.layout = FrameLayout(names, types, book, options)
        self.amounts = AmountColumns(book)
        self._times = PriceTimes(book)
        self.core = CoreRows(book, self.layout, self.amounts)
        self._classes = RowClasses(book, self.layout, self.amounts, self.core)

    @property
    def added(self) -> tuple[str, ...]:
        """The names of the columns that :meth:`rate` adds."""
        return (*self.amounts.names, *ADDED_TEXTS)

    def rate(self, relation: Relation, kept: str = "*") -> Relation:
        """Return a relation of the columns ``kept`` of a relation and those that are added."""
        require_free(self.layout.types, self.added)
        query = self.query(relation)
        keys = ", ".join(query.class_columns)
        found = run_query(relation, f"WITH {query.rows} SELECT DISTINCT _b_ok, {keys} FROM _b_rows").fetchall()
        classes = self.resolve(row[1:] for row in found if row[0])
        ctes = query.classified(query.classes(classes, self.amounts), self.amounts)
        amounts = [f"_b_quanta * _b_a{index}" for index in range(len(self.amounts.names))]
        tier, problem, source = "CASE WHEN _b_problem IS NULL THEN _b_tier END", "_b_problem", "_b_classified"
        if any(not row[0] for row in found) or not all(each.fits for each in classes.values()):
            outcomes = self._price_rows(relation, query, ctes)
            ctes += f", _b_outcomes AS ({query.outcomes(outcomes, self.amounts)})"
            source += f" LEFT JOIN _b_outcomes o ON CASE WHEN _b_core THEN {query.row_key} END = o.row_key"
            amounts = [f"CASE WHEN _b_core THEN o.a{index} ELSE {sql} END" for index, sql in enumerate(amounts)]
            tier = f"CASE WHEN _b_core THEN o.tier ELSE {tier} END"
            problem = f"CASE WHEN NOT _b_core THEN _b_problem WHEN o.row_key IS NULL THEN {CHANGED} ELSE o.problem END"
        else:
            problem = f"CASE WHEN _b_core THEN {CHANGED} ELSE _b_problem END"
        if kept == "*":
            kept = ", ".join(quote(name) for name in self.layout.types)
        listed = [f"{sql} AS {quote(name)}" for name, sql in zip(self.added, (*amounts, tier, problem), strict=True)]
        return run_query(relation, f"WITH {ctes} SELECT {kept}, {', '.join(listed)} FROM {source}")

    def query(self, relation: Relation, units: Iterable[str] = (), zone: str = "UTC") -> FrameQuery:
        """Return the queries of a relation for the times that it has, and for units of time in a zone."""
        layout = self.layout
        query = FrameQuery(layout, self._classes.limits)
        time = layout.time_sql
        ((*ends,),) = run_query(relation, f"SELECT min({time}), max({time}) FROM frame").fetchall()
        first, last = (min(max(end or 0, 0), LAST) for end in ends)
        if layout.naive_time_zone is not None:
            query.local = local_pieces(load_zone(layout.naive_time_zone), first, last)
            first, last = max(first - 2 * DAY, 0), last + 2 * DAY
        query.pieces = self._times.pieces(first, last)
        if query.pieces is None:
            hour = f"_b_time // {HOUR}"
            query.pieces = ()
            found = run_query(relation, f"WITH {query.rows} SELECT DISTINCT {hour} FROM _b_rows WHERE _b_ok")
            query.pieces = None
            query.hours = {row[0]: self._times.hour(row[0]) for row in found.fetchall()}
        offsets = zone_pieces(load_zone(zone), first, last) if units and zone != "UTC" else []
        query.labels = {unit: offsets if unit == "hour" or not offsets else day_pieces(offsets) for unit in units}
        return query

    def resolve(self, found: Iterable[Sequence[Any]]) -> dict[tuple[Any, ...], RowClass]:
        """Return the classes of rows by the values of ``FrameQuery.class_columns``."""
        classes = {}
        for row in found:
            *keys, number, context = row
            classes[tuple(row)] = self._classes.resolve(keys, number, self._times.examples[number], context)
        return classes

    def _price_rows(self, relation: Relation, query: FrameQuery, ctes: str) -> dict[str, RowOutcome]:
        """Return what the rows cost that the engine cannot price, by their texts."""
        values = ", ".join(query.row_values)
        select = f"SELECT DISTINCT ON (k) {query.row_key} AS k, {values} FROM _b_classified WHERE _b_core"
        rows = run_query(relation, f"WITH {ctes} {select}")
        return {key: self.core.outcome(time, row) for key, time, *row in rows.fetchall()}
