"""Adds up the rows of Parquet files in DuckDB: sums by rate card, and the leaves of the Merkle trees.

A *plain* row is one whose canonical text and whose price follow from SQL. All other rows go through the usual path as
lines of a usage file: those that are rejected or unusual, and all rows of an id that occurs more than once. So the
usual path decides every special case, and both together give what it gives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from enum import IntEnum
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.frames.layout import quote, text_literal
from brivionix_billing.frames.query import table_of
from brivionix_billing.frames.rater import FrameRater
from brivionix_billing.frames.row_classes import RowClass
from brivionix_billing.frames.times import Labels, microseconds, to_instant
from brivionix_billing.invoice.aggregation.account_usage import (
    AggregatedUsage,
    DailyUsage,
    RequestReference,
    UsageBucket,
    card_identity,
)
from brivionix_billing.invoice.aggregation.buckets import bill_quantities
from brivionix_billing.invoice.aggregation.chunks import Chunk, FoundRecords
from brivionix_billing.invoice.aggregation.leaves import MANY_LEAVES, Forest, LeafRun
from brivionix_billing.invoice.aggregation.reader import ChunkReader
from brivionix_billing.invoice.aggregation.record_sql import RecordSql
from brivionix_billing.invoice.aggregation.sorted_leaves import (
    BATCH_ROWS,
    leaf_runs,
    node_hasher,
    sorted_query,
)
from brivionix_billing.merkle import RootBuilder
from brivionix_billing.rating import RateCard
from brivionix_billing.tables import Columns, TableOptions
from brivionix_billing.tables.queries import Queries, WorkProgress
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage
from brivionix_billing.usage.fields import make_fields
from brivionix_billing.usage.record_file import Record, read_records

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

__all__ = ["PlainRows"]

_LINES: Final = 10_000
_MAX_FOUND: Final = 1_000
_EXAMPLE: Final = {"request_id": "-", "at": "2026-01-01T00:00:00Z"}
_SPLIT_COLUMNS: Final = ("token", "project", "tags")
LeafCallback = Callable[[LeafRun], None]


class _Parts(IntEnum):
    """The work per row of each step, for the progress: about its time."""

    REPEATED = 8
    GROUPS = 20
    ENDS = 3
    SORTED = 90
    TREES = 35


_PARTS_PER_LINE: Final = 200
"""The work per row that is read as a line."""


class _Kind(NamedTuple):
    """What rows with the same texts have in common."""

    account: str
    estimated: bool
    split: tuple[str, ...]


class _Group(NamedTuple):
    """The sums of the plain rows of one kind and class, on one day."""

    key: tuple[Any, ...]
    """The values of :attr:`PlainRows._key`."""
    in_scope: bool
    day: int | None
    requests: int
    first: int
    """In microseconds since 1970."""
    last: int
    sums: list[int]
    stated: list[int]
    """In how many rows each count is stated."""


class PlainRows:
    """The plain rows of some files, as a table of DuckDB."""

    def __init__(
        self,
        connection: Connection,
        names: list[str],
        record: RecordSql,
        rater: FrameRater,
        reader: ChunkReader,
        options: TableOptions,
        count: int,
        progress: WorkProgress,
    ) -> None:
        self._progress, self._queries = progress, Queries(connection, progress)
        progress.total = count * sum(_Parts)
        self._connection, self._record, self._rater, self._reader = connection, record, rater, reader
        self._names, self._count = names, count
        self._columns = Columns(names, options)
        zone = reader.period.zone if reader.period else "UTC"
        self._days = Labels(zone)
        query = self._query = rater.query(connection.table("frame"), ("day",), zone)
        kind = {"account": record.column("account") or "NULL"}
        if "estimated" in rater.layout.columns:
            kind["estimated"] = f"CAST({rater.layout.columns['estimated'].sql} AS VARCHAR)"
        if reader.dimensions is not None:
            kind |= {name: sql for name in _SPLIT_COLUMNS if (sql := record.column(name)) is not None}
        self._kind = kind
        self._grouped = (*kind, *rater.layout.keys)
        """The columns whose values are those of :attr:`_key`, by the names of this library."""
        self._key = [*(f"_bq{index}" for index in range(len(kind))), *query.class_columns]
        """The columns that decide what a row costs, and who pays."""
        self._factors = {meter: rater.layout.disjoint(meter) for meter in rater.layout.meters}
        """The quantity of each meter as a sum of counts."""
        self._kinds: dict[tuple[Any, ...], _Kind | None] = {}
        twice = self._create_repeated()
        self._ctes = self._marked(is_repeated=bool(twice))
        self._groups, self._classes, others = self._group()
        connection.execute("CREATE TEMP TABLE _b_leaves (_b_account VARCHAR, _b_id VARCHAR, _b_leaf VARCHAR)")
        self._has_others = others or sum(group.requests for group in self._groups) < count
        if not self._has_others:  # all rows were found to be plain, so the tests need not be repeated
            self._ctes += ", _b_usual AS (SELECT * REPLACE (TRUE AS _b_plain) FROM _b_kept)"
        else:
            self._ctes += ", _b_usual AS (FROM _b_kept)"

    def _create_repeated(self) -> int:
        """Find the request ids that occur more than once by their hash. A collision only makes a row not plain."""
        query = (
            f"CREATE TEMP TABLE _b_repeated AS SELECT hash({self._record.request_id}) AS h FROM frame "
            "GROUP BY h HAVING count(*) > 1"
        )
        # The import takes as long as the query.
        self._queries.run(lambda: self._connection.execute(query), self._count * _Parts.REPEATED, _import_pyarrow)
        return int((self._connection.execute("SELECT count(*) FROM _b_repeated").fetchone() or (0,))[0])

    def _marked(self, *, is_repeated: bool) -> str:
        """Return the expressions up to ``_b_marked``: all rows, and whether each is plain and in scope."""
        scope = "TRUE"
        if self._reader.period is not None:
            ends = microseconds(self._reader.period.start), microseconds(self._reader.period.end)
            scope = f"_b_time >= {ends[0]} AND _b_time < {ends[1]}"
        if self._reader.account is not None:
            scope += f" AND {self._kind['account']} = {text_literal(self._reader.account)}"
        plain = f"_b_ok AND {self._record.is_safe(self._grouped)}"
        if is_repeated:
            plain += f" AND hash({self._record.request_id}) NOT IN (SELECT h FROM _b_repeated)"
        kinds = ", ".join(f"{sql} AS _bq{index}" for index, sql in enumerate(self._kind.values()))
        return (
            f"WITH {self._query.rows}, _b_marked AS (SELECT *, {kinds}, coalesce({plain}, FALSE) AS _b_plain, "
            f"coalesce({scope}, FALSE) AS _b_in FROM _b_rows)"
        )

    def _group(self) -> tuple[list[_Group], dict[tuple[Any, ...], RowClass], bool]:
        """Return the sums of plain rows, their classes, and whether there are rows that only look plain."""
        width = len(self._key)
        names = self._query.count_names
        sums = [f"CAST(sum({name}) AS HUGEINT)" for name in names]
        sums += [f"count({count.stated_sql})" for count in self._rater.layout.counts]
        query = (
            f"{self._ctes} SELECT {', '.join(self._key)}, _b_in, CASE WHEN _b_in THEN {self._query.label('day')} END, "
            f"{', '.join(['count(*), min(_b_time), max(_b_time)', *sums])} FROM _b_marked WHERE _b_plain GROUP BY ALL"
        )
        found = self._queries.run(lambda: self._connection.execute(query).fetchall(), self._count * _Parts.GROUPS)
        middle = width + 5
        end = middle + len(names)
        groups = [
            _Group._make([row[:width], *row[width:middle], list(map(int, row[middle:end])), list(row[end:])])
            for row in found
        ]
        start = len(self._kind)
        classes = self._rater.resolve({group.key[start:] for group in groups})
        others = {
            group.key
            for group in groups
            if self._kind_of(group.key) is None or not _is_summed(classes[group.key[start:]], group.sums)
        }
        if others:
            types = ["VARCHAR"] * (width - 2) + ["BIGINT", "BIGINT"]
            table = table_of([list(key) for key in others], list(zip(self._key, types, strict=True)))
            same = " AND ".join(f"m.{name} IS NOT DISTINCT FROM o.{name}" for name in self._key)
            self._connection.execute(f"CREATE TEMP TABLE _b_unusual AS {table}")
            self._ctes += (
                ", _b_kept AS (SELECT m.* REPLACE (m._b_plain AND NOT EXISTS (SELECT 1 FROM _b_unusual o "
                f"WHERE {same}) AS _b_plain) FROM _b_marked m)"
            )
        else:
            self._ctes += ", _b_kept AS (SELECT * FROM _b_marked)"
        return [group for group in groups if group.key not in others], classes, bool(others)

    def _kind_of(self, key: Sequence[Any]) -> _Kind | None:
        """Return what rows of a key have in common; ``None`` if their record is rejected."""
        texts = tuple(key[:-2])
        if texts not in self._kinds:
            layout = self._rater.layout
            found = dict(zip(self._grouped, texts, strict=True))
            values = found | _EXAMPLE | {count.argument: 0 for count in layout.counts}
            line = self._columns.line([values.get(name) for name in self._columns.names])
            record = next(read_records([line], conventions=self._reader.book.conventions), None)
            kind = None
            if isinstance(record, Record) and all(starmap(self._record.is_safe_value, found.items())):
                dimensions = self._reader.dimensions
                split = () if dimensions is None else dimensions.values(record, line)
                kind = _Kind(record.origin.account, record.estimated, split)
            self._kinds[texts] = kind
        return self._kinds[texts]

    def other_chunks(self) -> Iterator[Chunk]:
        """Yield the rows that are not plain, as chunks of the usual path."""
        if not self._has_others:
            return
        names = ", ".join(map(quote, self._names))
        # A cursor of its own would not see the temporary tables, and adding leaves would end this result.
        query = f"CREATE TEMP TABLE _b_others AS {self._ctes} SELECT _b_line, {names} FROM _b_kept WHERE NOT _b_plain"
        self._queries.run(lambda: self._connection.execute(query))
        ((count,),) = self._connection.execute("SELECT count(*) FROM _b_others").fetchall()
        self._progress.total += count * _PARTS_PER_LINE
        found = self._queries.run(lambda: self._connection.execute("FROM _b_others ORDER BY _b_line"))
        while batch := self._queries.run(lambda: found.fetchmany(_LINES)):
            yield self._reader.read([self._columns.line(row[1:]) for row in batch], [row[0] for row in batch])
            self._progress.add(len(batch) * _PARTS_PER_LINE)

    def find_lines(self, request_id: str) -> Iterator[bytes]:
        """Yield the rows with a request id, as lines of a usage file."""
        names = ", ".join(map(quote, self._names))
        query = f"SELECT {names} FROM frame WHERE {self._record.request_id} = ? ORDER BY _b_line"
        found = self._queries.run(lambda: self._connection.execute(query, [request_id]).fetchall())
        yield from map(self._columns.line, found)

    def add_leaves(self, run: LeafRun) -> None:
        """Add billed records of the usual path."""
        import pyarrow as pa

        ids, texts = run.ids(), [leaf.hex() for leaf in run.split_leaves()]
        found = pa.table({"_b_account": [run.account] * len(ids), "_b_id": ids, "_b_leaf": texts})
        self._connection.from_arrow(found).insert_into("_b_leaves")

    def add_to(self, usage: AggregatedUsage, on_leaves: LeafCallback | None) -> None:
        """Add the plain rows to what the other rows add up to."""
        usage.lines = self._count
        found = [group for group in self._groups if not group.in_scope]
        if found:
            usage.out_of_scope += sum(group.requests for group in found)
            ends = min(group.first for group in found), max(group.last for group in found)
            accounts = frozenset(list(dict.fromkeys(group.key[0] for group in found))[:_MAX_FOUND])
            earliest, latest = (format_instant(to_instant(end))[:-1] for end in ends)
            usage.found = usage.found.join(FoundRecords(earliest, latest, accounts))
        self._add_ends(usage)
        self._add_trees(usage, on_leaves)
        self._progress.finish()

    def _billed_groups(self) -> Iterator[tuple[_Group, _Kind, RateCard]]:
        for group in self._groups:
            kind = self._kind_of(group.key)
            card = self._classes[group.key[len(self._kind) :]].card
            if group.in_scope and kind is not None and card is not None:
                yield group, kind, card

    def _add_buckets(self, usage: AggregatedUsage) -> None:
        """Add the sums of all groups."""
        buckets: dict[tuple[Any, ...], UsageBucket] = {}
        for account in usage.accounts.values():
            for bucket in account.buckets:
                buckets[bucket.account, card_identity(bucket.card), bucket.estimated, bucket.split] = bucket
        for group, kind, card in self._billed_groups():
            account = usage.account(kind.account)
            identity = kind.account, card_identity(card), kind.estimated, kind.split
            if identity not in buckets:
                buckets[identity] = UsageBucket(kind.account, card, kind.estimated, kind.split)
                account.buckets.append(buckets[identity])
            day = account.days.setdefault((self._days.of_number("day", group.day or 0), card.model), DailyUsage())
            day.requests += group.requests
            day.units += buckets[identity].add(group.requests, self._billed(card, group).items())

    def _billed(self, card: RateCard, group: _Group) -> Mapping[str, int]:
        """Return the billed quantities of a group. They are linear in its sums."""
        sums = {meter: sum(map(int.__mul__, factors, group.sums)) for meter, factors in self._factors.items()}
        basic = [sums.pop(meter, 0) for meter in ("input", "cache_read", "output")]
        index = self._rater.layout.index_of("input_tokens")
        others = tuple((meter, quantity) for meter, quantity in sums.items() if quantity)
        tokens = 0 if index is None else group.sums[index]
        usage = Usage.from_fields(make_fields(tokens, basic[0], basic[1], basic[2], 0, None, None, others))
        billed = bill_quantities(card, usage)
        if "request" in billed:
            billed["request"] = group.requests
        return billed

    def _add_ends(self, usage: AggregatedUsage) -> None:
        """Add all accounts, and find the first and the last request of each."""
        ends_of: dict[str, tuple[int, int]] = {}
        for group, kind, _ in self._billed_groups():
            first, last = ends_of.get(kind.account, (group.first, group.last))
            ends_of[kind.account] = min(first, group.first), max(last, group.last)
            usage.account(kind.account)
        if not ends_of:
            return
        rows = [[account, *ends] for account, ends in ends_of.items()]
        table = table_of(rows, [("account", "VARCHAR"), ("first", "BIGINT"), ("last", "BIGINT")])
        pair = f"{{'at': {self._record.at_text}, 'id': {self._record.request_id}}}"
        query = (
            f"{self._ctes}, _b_ends AS ({table}) SELECT e.account, min({pair}) FILTER (_b_time = e.first), "
            f"max({pair}) FILTER (_b_time = e.last) FROM _b_usual k JOIN _b_ends e ON k._bq0 = e.account "
            "WHERE _b_plain AND _b_in AND (_b_time = e.first OR _b_time = e.last) GROUP BY ALL"
        )
        found = self._queries.run(lambda: self._connection.execute(query).fetchall(), self._count * _Parts.ENDS)
        for name, *ends in found:
            account = usage.account(name)
            earliest, latest = (RequestReference(end["at"], end["id"]) for end in ends)
            account.first = earliest if account.first is None else min(earliest, account.first)
            account.last = latest if account.last is None else max(latest, account.last)

    def _present(self) -> set[str]:
        """Return the columns in which no plain row lacks a value."""
        names = {"at", "request_id"}
        for index, name in enumerate(self._grouped):
            if all(group.key[index] for group in self._groups):
                names.add(name)
        for index, count in enumerate(self._rater.layout.counts):
            if all(group.stated[index] == group.requests for group in self._groups):
                names.add(count.argument)
        return names

    def _add_trees(self, usage: AggregatedUsage, on_leaves: LeafCallback | None) -> None:
        """Add the sums, and build the tree of each account over its plain rows and the other ones."""
        for account in usage.accounts.values():
            account.tree = RootBuilder()
        if not usage.accounts:
            return
        names = table_of([[name] for name in usage.accounts], [("name", "VARCHAR")])
        self._connection.execute(f"CREATE TYPE _b_name AS ENUM ({names})")
        columns = f"{self._kind['account']} AS _b_account, {self._record.request_id} AS _b_id, "
        columns += f"{self._record.leaf(self._present())} AS _b_leaf"
        rows = f"SELECT {columns} FROM _b_usual WHERE _b_plain AND _b_in"
        if self._has_others:
            rows += " UNION ALL FROM _b_leaves"
        rows = f"SELECT * REPLACE (CAST(_b_account AS _b_name) AS _b_account) FROM ({rows})"
        has_lines = on_leaves is not None
        query = sorted_query(self._ctes, rows, has_lines=has_lines)
        reader = self._queries.run(
            lambda: self._connection.sql(query).to_arrow_reader(BATCH_ROWS),
            self._count * _Parts.SORTED,
            lambda: self._add_buckets(usage),
        )
        forest = Forest(node_hasher(self._connection, self._queries), MANY_LEAVES)
        with closing(leaf_runs(reader, self._queries, has_lines=has_lines)) as batches:
            for size, runs in batches:
                for run in runs:
                    forest.extend(usage.accounts[run.account].tree, run.leaves)
                    if on_leaves is not None:
                        on_leaves(run)
                self._progress.add(size * _Parts.TREES)
        forest.finish()
        for account in usage.accounts.values():
            account.requests = account.tree.size


def _import_pyarrow() -> None:
    import pyarrow  # noqa: F401  # without it, the usual path reads the files


def _is_summed(each: RowClass, sums: Sequence[int]) -> bool:
    """Return whether the billed quantities of a class follow from its summed counts."""
    card = each.card
    if each.problem is not None or card is None or each.lacks_price(sums):
        return False
    return not (card.minimum_units or card.list_minimum_units or "reasoning" in card.unit_rates)
