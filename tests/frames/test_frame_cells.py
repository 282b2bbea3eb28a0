"""Cells of unusual types and values are read like those of a usage file, or are an error."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.frames import rate, totals
from brivionix_billing.tables import TableOptions, usage_lines
from brivionix_billing.usage.record_file import Record, read_records
from frame_kit import rows_of
from model_kit import book_of
from paths import ROOT
from samples import code_of

BOOK = PriceBook.load(ROOT / "pricing.yaml")
AT = "2026-10-20T08:00:00Z"
COMMON: dict[str, Any] = {"at": AT, "group": "default", "model": "gpt-5.4-mini"}


def rows(*changes: dict[str, Any]) -> pa.Table:
    """Return a table of one usual row for each change of it."""
    return pa.Table.from_pylist([{**COMMON, "input_tokens": 9, **change} for change in changes])


def local_times(*texts: str) -> list[datetime]:
    """Return times without a time zone."""
    return [datetime.fromisoformat(text) for text in texts]


def outcomes(frame: Any, book: PriceBook = BOOK, **options: Any) -> list[Any]:
    """Return the Credits of each row, or its error code."""
    return [row["problem"] or row["credits"] for row in rows_of(rate(frame, book, **options))]


def outcomes_of_file(frame: pa.Table, book: PriceBook = BOOK) -> list[Any]:
    """Return the same of the usage file that says what the table says."""
    lines = [json.dumps({"request_id": "r", "account": "a", **row}, default=str) for row in frame.to_pylist()]
    found: list[Any] = []
    options = TableOptions(mapping={"at": "at"})  # read like rows of a table
    for record in read_records(
        usage_lines(io.BytesIO("\n".join(lines).encode()), options), conventions=book.conventions
    ):
        try:
            found.append(book.rate_record(record).credits if isinstance(record, Record) else record.code)
        except BillingError as error:
            found.append(error.code)
    return found


CELLS: dict[str, list[Any]] = {
    "at": [
        *(AT, "2026-10-20T08:00:00.5Z", "2026-10-20T16:00:00+08:00", "2026-10-20 08:00:00Z", "2026-10-20", " " + AT),
        *("2026-10-20T08:00:00", "2026-02-30T00:00:00Z", "2026-10-20T08:00:60Z", "2026-10-20T24:00:00Z", "1792483200"),
        *("1792483200000", "0001-01-01T00:00:00+01:00", "2026-10-20T08:00:00+14:30", "2026-10-20T08:00:00+99:00", ""),
        *("2026-10-20T8:00:00Z", "2026-10-20T08:00:00.1234567Z", "tomorrow", "infinity", "2026-10-12T00:00:00Z", None),
        *("2026-10-11T23:59:59.999999Z", "2026-10-20T08:00:00z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59.999999Z"),
    ],
    "group": ["default", "coding", "nobody", "", None, " default", "default "],
    "model": ["gpt-5.4-mini", "gpt-5.4-mini-2026-03-17", "gpt-9", "", None, "a'b\"c\\d\n", "模型"],
    "service_tier": ["standard", "Priority", "flex", "auto", "wibble", "", None],
    "region": ["global", "mars", "", None],
    "mode": ["fast", "turbo", None],
    "upstream": ["nobody", "", None],
    "served_model": ["gpt-5.4", "", None],
    "served_service_tier": ["priority", "wibble", None],
    "estimated": ["true", "no", "maybe", None],
    "input_tokens": [
        "9",
        "09",
        "9.0",
        "9.5",
        "1.000",
        "-1",
        "1e3",
        " 9",
        "1000000000000",
        "1000000000001",
        "",
        None,
        "x",
    ],
    "cache_read_tokens": [0, 9, 10, -1, 10**12 + 1, 2**63 - 1, -(2**63), None],
    "total_tokens": [9, 8, None, -1],
    "reasoning_tokens": [0, 1, None],
    "web_search_calls": [0, 1, None],
    "image_output_tokens": [0, 1],
}


@pytest.mark.parametrize("column", CELLS)
def test_a_cell_is_read_like_that_of_a_usage_file(column: str) -> None:
    """Texts and integers have the price or the error code that they have in a usage file."""
    table = rows(*({column: cell} for cell in CELLS[column]))
    assert outcomes(table) == outcomes_of_file(table)


@pytest.mark.parametrize(
    ("column", "kind", "cells"),
    [
        ("input_tokens", pa.float64(), [9.0, 9.5, -1.0, 1e12, 1e12 + 1, None]),
        ("input_tokens", pa.decimal128(38, 2), [Decimal("9.00"), Decimal("9.50"), Decimal("-1"), Decimal(10**12 + 1)]),
        ("input_tokens", pa.uint64(), [9, 2**64 - 1, None]),
        ("input_tokens", pa.int8(), [9, -1, None]),
        ("seconds", pa.float64(), [0.1, 12.5, 0.0001, 1e12, 123456789.123, 1e-320, None]),
        ("seconds", pa.float32(), [0.5, 12.25]),
        ("seconds", pa.decimal128(38, 20), [Decimal("0.1"), Decimal("0.0001"), Decimal("12.125")]),
        ("seconds", pa.string(), ["1", "1.5", "0.0001", "1e3"]),
        ("robot_minutes", pa.float64(), [0.1, 0.000001, 0.0000001, 1e12]),
        ("robot_minutes", pa.int64(), [3, 10**12, 10**12 + 1]),
    ],
)
def test_numbers_of_every_type_are_exact(column: str, kind: pa.DataType, cells: list[Any]) -> None:
    """A number costs what the same number costs in a usage file, or is rejected with the same code."""
    name = "audio_input_seconds" if column == "seconds" else column
    price = "{input: 1, cache_read: 1, output: 1, audio_input_seconds: 0.123, robot_minutes: 7.5}"
    book = book_of(
        f"m: {{prices: [{{from: 2026-01-01, standard: {price}}}]}}", "meters: {robot_minutes: {unit: minute, per: 10}}"
    )
    table = pa.table({"at": [AT] * len(cells), "group": ["g"] * len(cells), "model": ["m"] * len(cells)})
    table = table.append_column(name, pa.array(cells, kind))
    expected = []
    for cell in cells:
        # JSON has no other decimals than those that Python writes for a float.
        number = format(cell, "f") if isinstance(cell, Decimal) else cell
        line = {"request_id": "r", "account": "a", "at": AT, "group": "g", "model": "m", name: number}
        lines = usage_lines(io.BytesIO(json.dumps(line).encode()), TableOptions({name: name}, {}, ["robot_minutes"]))
        (record,) = read_records(lines)
        expected.append(book.rate_record(record).credits if isinstance(record, Record) else record.code)
    assert outcomes(table, book) == expected


def test_numbers_that_are_none_are_an_error() -> None:
    """NaN and infinity are errors, and not zero."""
    table = rows({"input_tokens": float("nan")}, {"input_tokens": float("inf")})
    assert outcomes(table) == ["invalid_record"] * 2


@pytest.mark.parametrize("kind", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_unit(kind: str) -> None:
    """A timestamp has the price of its instant, whatever its unit and its zone are."""
    at = datetime(2026, 10, 12, tzinfo=UTC)  # the tier is sold from then on
    for zone in ("UTC", "Asia/Shanghai", "+08:00"):
        table = pa.table({"at": pa.array([at], pa.timestamp(kind, tz=zone)), "input_tokens": [1_000_000]})
        values = {"group": "default", "model": "gpt-5.4-mini", "service_tier": "flex"}
        assert outcomes(table, values=values) == [Decimal("0.375")]


def test_timestamps_without_a_zone_need_one() -> None:
    """A naive timestamp is an error, unless its zone is passed; then it is the instant of that local time."""
    local = [*local_times("2026-10-12T07:59:59", "2026-10-12T08:00:00"), None]
    table = pa.table({"at": pa.array(local, pa.timestamp("us")), "input_tokens": [1_000_000] * 3})
    values = {"group": "default", "model": "gpt-5.4-mini", "service_tier": "flex"}
    with pytest.raises(BillingError) as caught:
        rate(table, BOOK, values=values)
    assert code_of(caught) == "invalid_time"
    found = outcomes(table, values=values, naive_time_zone="Asia/Shanghai")
    assert found == ["service_tier_unavailable", Decimal("0.375"), "invalid_record"]


def test_a_local_time_that_occurs_twice_or_never_is_an_error() -> None:
    """The hour that clocks repeat or skip has no price, and the minutes around it have."""
    times = ("01:59", "02:00", "02:59", "03:00")
    local = local_times(*(f"{day}T{time}" for day in ("2026-10-25", "2026-03-29") for time in times))
    table = pa.table({"at": pa.array(local, pa.timestamp("us")), "input_tokens": [1] * len(local)})
    values = {"group": "default", "model": "gpt-5.4-mini"}
    found = outcomes(table, values=values, naive_time_zone="Europe/Berlin")
    priced = Decimal("0.00000075")
    assert found == [priced, "invalid_time", "invalid_time", priced] * 2


def test_a_date_is_midnight_in_utc_or_in_the_stated_zone() -> None:
    """A date costs what its midnight in UTC costs, or in the zone of times without one; as a text likewise."""
    days = [date(2026, 10, 11), date(2026, 10, 12), date(2026, 10, 13)]
    values = {"group": "default", "model": "gpt-5.4-mini", "service_tier": "flex"}
    missing, priced = "service_tier_unavailable", Decimal("0.375")  # the tier has a price from midnight in UTC on
    for column in (days, [day.isoformat() for day in days]):
        table = pa.table({"at": column, "input_tokens": [1_000_000] * 3})
        assert outcomes(table, values=values) == [missing, priced, priced]
        assert outcomes(table, values=values, naive_time_zone="Asia/Shanghai") == [missing, missing, priced]


def test_texts_without_an_offset_are_times_of_the_stated_zone() -> None:
    """A time as text costs what a timestamp of the zone costs; one that occurs twice has no price."""
    texts = ["2026-10-12T07:59:59", "2026-10-12T08:00:00", "2026-10-12T00:00:00Z"]
    table = pa.table({"at": texts, "input_tokens": [1_000_000] * 3})
    values = {"group": "default", "model": "gpt-5.4-mini", "service_tier": "flex"}
    priced = Decimal("0.375")
    assert outcomes(table, values=values) == ["invalid_time", "invalid_time", priced]
    assert outcomes(table, values=values, naive_time_zone="Asia/Shanghai") == [
        "service_tier_unavailable",
        priced,
        priced,
    ]


def test_whole_bodies_are_read() -> None:
    """A column of provider bodies, as JSON or as structs, costs what the bodies cost."""
    bodies = [
        {"prompt_tokens": 12_000, "completion_tokens": 800, "prompt_tokens_details": {"cached_tokens": 10_000}},
        {"input_tokens": 1_000_000, "output_tokens": 0},
    ]
    expected = [Decimal("0.00585"), Decimal("0.75")]
    texts = pa.table(
        {**{name: [value] * 2 for name, value in COMMON.items()}, "usage": [json.dumps(b) for b in bodies]}
    )
    structs = pa.Table.from_pylist([{**COMMON, "usage": body} for body in bodies])
    for table in (texts, structs):
        assert outcomes(table) == expected
        (total,) = rows_of(totals(table, BOOK))
        assert (total["requests"], total["credits"]) == (2, Decimal("0.75585"))


def test_a_row_is_never_lost() -> None:
    """Rows with errors keep their place and their other columns, and totals count them by their code."""
    table = rows({}, {"input_tokens": -1}, {"model": "gpt-9"}, {"at": "tomorrow"}, {"input_tokens": None}, {})
    table = table.append_column("note", pa.array(list("abcdef")))
    rated = rows_of(rate(table, BOOK))
    assert [row["note"] for row in rated] == list("abcdef")
    codes = [None, "invalid_usage", "unknown_model", "invalid_time", "invalid_record", None]
    assert [row["problem"] for row in rated] == codes
    assert all((row["credits"] is None) == (row["problem"] is not None) for row in rated)
    summed = rows_of(totals(table, BOOK, ("day",)))
    assert [(row["day"], row["problem"], row["requests"]) for row in summed] == [
        (None, "invalid_time", 1),
        ("2026-10-20", None, 2),
        ("2026-10-20", "invalid_record", 1),
        ("2026-10-20", "invalid_usage", 1),
        ("2026-10-20", "unknown_model", 1),
    ]


def test_amounts_beyond_38_digits_are_a_problem() -> None:
    """A charge that does not fit its column has a code, and a charge of 38 digits is exact."""
    price = "{input: 1, cache_read: 1, output: 1, robot: 1000000}"
    top = "meters: {robot: {unit: robot, per: 1}}"
    group = "{g: {terms: [{from: 2026-01-01, ratio: 1000, models: ['*']}]}}"
    book = book_of(f"m: {{prices: [{{from: 2026-01-01, standard: {price}}}]}}", top, group)
    table = pa.table({"at": [AT] * 3, "group": ["g"] * 3, "model": ["m"] * 3, "robot": [10**12, 10**8, 1]})
    assert outcomes(table, book) == ["invalid_money", Decimal(10**17), Decimal(10**9)]
    (priced, problem) = rows_of(totals(table, book))
    assert (priced["credits"], problem["problem"]) == (Decimal(10**17 + 10**9), "invalid_money")


def test_sums_beyond_64_bits_are_exact() -> None:
    """Sums of counts and amounts beyond 2^63 do not wrap."""
    count = 10_000
    table = pa.table(
        {
            **{name: [value] * count for name, value in COMMON.items()},
            "input_tokens": [10**12] * count,
            "output_tokens": [10**12 - 1] * count,
        }
    )
    for frame in (table, pl.from_arrow(table), table.to_pandas()):
        (total,) = rows_of(totals(frame, BOOK))
        assert total["input_tokens"] == 10**12 * count
        assert total["output_tokens"] == (10**12 - 1) * count
        assert total["credits"] == count * (10**12 * Decimal("0.00000075") + (10**12 - 1) * Decimal("0.0000045"))


def test_a_relation_stays_on_its_connection() -> None:
    """A rated relation can be joined and stored on the connection of the relation, whatever its settings are."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Asia/Shanghai'; SET python_enable_replacements = true")
    connection.register("usage", rows({}, {"at": "2026-10-20T08:00:00+08:00"}))
    rated = rate(connection.table("usage"), BOOK)
    rated.create("rated")
    assert connection.sql("SELECT sum(credits) FROM rated").fetchall() == [(Decimal("0.0000135"),)]
    summed = totals(connection.table("usage"), BOOK, ("day",))
    summed.create("summed")
    assert connection.sql("SELECT day, requests FROM summed").fetchall() == [("2026-10-20", 2)]


def test_pandas_objects_are_read() -> None:
    """Columns of Python objects in pandas are read."""
    frame = pd.DataFrame([{**COMMON, "input_tokens": Decimal(9)}, {**COMMON, "input_tokens": None}])
    assert outcomes(frame) == [Decimal("0.00000675"), "invalid_record"]


_ROW = rows({})
_UNREADABLE = {
    "a column of mixed types": pd.DataFrame([{**COMMON, "input_tokens": 9}, {**COMMON, "input_tokens": "x"}]),
    "two columns of one name": pd.concat([_ROW.to_pandas(), _ROW.to_pandas()[["input_tokens"]]], axis=1),
    "a type without a counterpart": _ROW.set_column(3, "input_tokens", pa.array([Decimal(9)], pa.decimal256(60))),
}


@pytest.mark.parametrize("what", _UNREADABLE)
def test_a_frame_that_cannot_be_read_is_an_error(what: str) -> None:
    """Mixed types, repeated names and types that DuckDB does not have are invalid arguments of both functions."""
    for function in (rate, totals):
        with pytest.raises(BillingError, match="the frame cannot be read") as caught:
            function(_UNREADABLE[what], BOOK)
        assert code_of(caught) == "invalid_argument"
