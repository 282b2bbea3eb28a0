"""Totals by units of time, by any column and by tags; mappings of columns; errors of arguments."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.frames import rate, totals
from brivionix_billing.times import CalendarDays
from frame_kit import KINDS, rows_of
from paths import ROOT
from samples import code_of

BOOK = PriceBook.load(ROOT / "pricing.yaml")
VALUES = {"group": "default", "model": "gpt-5.4-mini"}


def requests_at(times: list[datetime]) -> pa.Table:
    """Return a table with a request at each time."""
    return pa.table({"at": pa.array(times, pa.timestamp("us", tz="UTC")), "input_tokens": [1] * len(times)})


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("UTC", "2026-10-25T00:00:00"),
        ("Asia/Shanghai", "2026-10-25T16:00:00"),
        ("Europe/Berlin", "2026-10-25T01:00:00"),  # clocks are put back
        ("Europe/Berlin", "2026-03-29T01:00:00"),  # and forward
        ("Asia/Kathmandu", "2026-10-31T18:15:00"),  # an offset of 5:45
        ("Australia/Lord_Howe", "2026-04-04T15:00:00"),  # by half an hour
        ("America/Asuncion", "2024-03-24T03:00:00"),  # at midnight
        ("America/Sao_Paulo", "2018-11-04T03:00:00"),  # a day that starts at 01:00
        ("Pacific/Apia", "2011-12-30T10:00:00"),  # a day that does not exist
        ("Africa/Casablanca", "2026-02-15T02:00:00"),
    ],
)
def test_units_of_time_in_every_zone(zone: str, around: str) -> None:
    """Days, hours and months of a time zone are those that Python's zones have, also where clocks are changed."""
    middle = datetime.fromisoformat(around).replace(tzinfo=UTC)
    times = [middle + timedelta(minutes=minutes, microseconds=-1) for minutes in range(-3000, 3000, 15)]
    times += [time + timedelta(microseconds=1) for time in times]
    days, hours = CalendarDays(zone), Counter[tuple[Any, ...]]()
    for time in times:
        local = time.astimezone(ZoneInfo(zone))
        start = time - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        hour = start.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")
        day = days.at(time).value
        hours[day, hour, day[:7]] += 1
    found = rows_of(totals(requests_at(times), BOOK, ("day", "hour", "month"), time_zone=zone, values=VALUES))
    assert {(row["day"], row["hour"], row["month"]): row["requests"] for row in found} == hours


def test_rows_of_the_core_have_units_of_time() -> None:
    """A row whose time only the core can read is in the same day, hour and month as the others."""
    times = ["2026-10-20T18:30:00Z", "2026-10-20 18:30:00Z", "2026-10-21T02:30:00+08:00", "1792521000"]
    table = pa.table({"at": times, "input_tokens": [1] * 4})
    by = ("day", "hour", "month")
    (row,) = rows_of(totals(table, BOOK, by, time_zone="Asia/Kolkata", values=VALUES))
    assert [row[name] for name in by] == ["2026-10-21", "2026-10-21T00:00+05:30", "2026-10"]
    assert row["requests"] == 4


def test_any_column_is_a_key_and_keeps_its_type() -> None:
    """Totals can have columns of every type as keys; null is a value of its own, and the rows are in order."""
    table = pa.table(
        {
            "at": ["2026-10-20T08:00:00Z"] * 4,
            "input_tokens": [1, 2, 3, -1],
            "project": pa.array([10, 9, None, 9], pa.int32()),
            "share": pa.array([0.1, 0.1, 0.5, 0.1], pa.float64()),
            "flag": pa.array([True, False, None, False]),
        }
    )
    for kind in ("pyarrow", "polars", "duckdb"):
        found = rows_of(totals(KINDS[kind](table), BOOK, ("project", "share", "flag"), values=VALUES))
        assert [(row["project"], row["share"], row["flag"], row["problem"]) for row in found] == [
            (None, 0.5, None, None),
            (9, 0.1, False, None),
            (9, 0.1, False, "invalid_usage"),
            (10, 0.1, True, None),
        ]
    schema = totals(table, BOOK, ("project", "share", "flag"), values=VALUES).schema
    assert [schema.field(name).type for name in ("project", "share", "flag")] == [pa.int32(), pa.float64(), pa.bool_()]


@pytest.mark.parametrize("kind", ["text", "struct", "map"])
def test_tags_are_keys(kind: str) -> None:
    """A tag is a key, whether tags are JSON text, structs or maps; rows without it have null."""
    tags: list[Any] = [{"team": "a b", "cost-centre": "7"}, {"team": "c"}, None, {"team": "c", "cost-centre": None}]
    types = {
        "text": pa.string(),
        "struct": pa.struct([("team", pa.string()), ("cost-centre", pa.string())]),
        "map": pa.map_(pa.string(), pa.string()),
    }
    cells: list[Any] = tags
    if kind == "text":
        cells = [json.dumps(tags[0]), json.dumps(tags[1]), "not JSON", json.dumps(tags[3])]
    elif kind == "map":
        cells = [None if cell is None else list(cell.items()) for cell in tags]
    table = requests_at([datetime(2026, 10, 20, tzinfo=UTC)] * 4).append_column("tags", pa.array(cells, types[kind]))
    found = rows_of(totals(table, BOOK, ("tags.team", "tags.cost-centre"), values=VALUES))
    assert [(row["tags.team"], row["tags.cost-centre"], row["requests"]) for row in found] == [
        (None, None, 1),
        ("a b", "7", 1),
        ("c", None, 2),
    ]


def test_columns_can_be_mapped() -> None:
    """Other names of columns are mapped, and keys may be named by either name."""
    table = pa.table({"created_at": ["2026-10-20T08:00:00Z"], "user": ["u"], "prompt": [1_000_000]})
    mapping = {"created_at": "at", "user": "account", "prompt": "input_tokens"}
    for frame in (table, pl.DataFrame(pl.from_arrow(table)), duckdb.connect().from_arrow(table)):
        (rated,) = rows_of(rate(frame, BOOK, mapping=mapping, values=VALUES))
        assert (rated["user"], rated["credits"]) == ("u", Decimal("0.75"))
        for name in ("account", "user"):
            (total,) = rows_of(totals(frame, BOOK, (name,), mapping=mapping, values=VALUES))
            assert (total[name], total["input_tokens"]) == ("u", 1_000_000)


def test_names_are_only_names() -> None:
    """Names of columns and values with quotes and markup are names and values, never SQL."""
    name = "a\"b'; DROP TABLE x; --"
    table = requests_at([datetime(2026, 10, 20, tzinfo=UTC)]).append_column(name, pa.array([name]))
    table = table.append_column("group", pa.array([name])).append_column("model", pa.array(["gpt-5.4-mini"]))
    (row,) = rows_of(totals(table, BOOK, (name,)))
    assert (row[name], row["problem"]) == (name, "unknown_group")
    (row,) = rows_of(rate(table, BOOK))
    assert (row[name], row["problem"]) == (name, "unknown_group")


def names_of(frame: Any) -> list[str]:
    """Return the names of the columns of a frame of any kind."""
    if isinstance(frame, pl.LazyFrame):
        return frame.collect_schema().names()
    return list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)


TABLE = requests_at([datetime(2026, 10, 20, tzinfo=UTC)])


@pytest.mark.parametrize(
    ("code", "table", "arguments"),
    [
        ("invalid_argument", TABLE, {"by": "account"}),
        ("invalid_argument", TABLE, {"by": ("day", "day")}),
        ("invalid_argument", TABLE, {"by": ("acount",)}),
        ("invalid_argument", TABLE, {"by": ("at.x",)}),
        ("invalid_argument", TABLE, {"by": ("input_tokens",)}),
        ("invalid_argument", TABLE.append_column("day", pa.array(["x"])), {"by": ("day",)}),
        ("invalid_argument", TABLE.append_column("tags", pa.array([{"a": 1}])), {"by": ("tags.b",)}),
        ("invalid_argument", TABLE.append_column("input_tokns", pa.array([1])), {}),
        ("invalid_argument", TABLE.append_column("service_tier", pa.array([1.5])), {}),
        ("invalid_argument", TABLE, {"mapping": {"x": "at"}}),
        ("invalid_argument", TABLE.drop_columns(["input_tokens"]), {}),
        ("invalid_argument", TABLE.drop_columns(["at"]), {}),
        ("invalid_argument", TABLE, {"values": {"group": "default"}}),
        ("invalid_period", TABLE, {"by": ("day",), "time_zone": "Mars/Olympus"}),
    ],
)
def test_wrong_arguments_are_errors(code: str, table: pa.Table, arguments: dict[str, Any]) -> None:
    """A wrong argument, or a table that is no usage table, is an error for every kind of frame."""
    for frame in (table, pl.DataFrame(pl.from_arrow(table)).lazy()):
        with pytest.raises(BillingError) as caught:
            totals(frame, BOOK, **{"values": VALUES, **arguments})
        assert code_of(caught) == code


def test_columns_are_not_overwritten() -> None:
    """A frame that has a column of the name of one that is added is an error."""
    for name in ("credits", "cost_rmb", "problem"):
        for frame in KINDS.values():
            with pytest.raises(BillingError) as caught:
                rate(frame(TABLE.append_column(name, pa.array([1]))), BOOK, values=VALUES)
            assert code_of(caught) == "invalid_argument"


def test_what_is_no_frame_is_an_error() -> None:
    """A list or a path is not a frame."""
    for value in ([{"at": "2026-10-20T08:00:00Z"}], "usage.parquet", None, 7):
        with pytest.raises(BillingError) as caught:
            rate(value, BOOK)
        assert code_of(caught) == "invalid_argument"


@pytest.mark.parametrize("kind", KINDS)
def test_empty_frames_have_the_same_columns(kind: str) -> None:
    """A frame without rows gives frames without rows, with the columns that other frames have."""
    full, empty = (KINDS[kind](table) for table in (TABLE, TABLE.slice(0, 0)))
    for one, other in (
        (rate(full, BOOK, values=VALUES), rate(empty, BOOK, values=VALUES)),
        (totals(full, BOOK, ("day",), values=VALUES), totals(empty, BOOK, ("day",), values=VALUES)),
    ):
        assert rows_of(other) == []
        assert names_of(one) == names_of(other)
