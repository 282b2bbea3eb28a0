"""Usage in tables: a row is priced like the line of a usage file that says the same."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, Usage
from brivionix_billing.tables import TableOptions, find_files, open_usage, parse_mapping, parse_values, usage_lines
from brivionix_billing.times import parse_instant
from brivionix_billing.usage.record_file import MAX_LINE, Record, RejectedRecord, read_records
from profiles import examples
from strategies import counts

AT = "2026-10-01T00:00:03.113Z"
HEAD = ["request_id", "at", "account", "group", "model"]
ROW = ["req_1", AT, "acct_7", "default", "gpt-5.4-mini"]
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zstandard": lambda data: zstandard.ZstdCompressor().compress(data),
}


def read(content: bytes, **options: Any) -> list[Record | RejectedRecord]:
    """Return the records of usage of any form."""
    return list(read_records(usage_lines(io.BytesIO(content), TableOptions(**options))))


def only(content: bytes, **options: Any) -> Record:
    """Return the only record, which is not rejected."""
    (record,) = read(content, **options)
    assert isinstance(record, Record), record
    return record


def table(*rows: list[Any], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    """Return rows as CSV."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue().encode(encoding)


def refusal(content: bytes, **options: Any) -> BillingError:
    with pytest.raises(BillingError) as caught:
        read(content, **options)
    return caught.value


@given(counts())
@settings(max_examples=examples(300), deadline=None)
def test_counts_read_as_the_arguments_of_usage(arguments: dict[str, int]) -> None:
    """A usage object with ``counts`` is the usage of these arguments, whatever they are."""
    assert Usage.from_response({"usage": {"counts": arguments}}) == Usage(**arguments)  # type: ignore[arg-type]  # integers


@given(
    counts(),
    st.sampled_from(",\t;|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"]),
    st.sampled_from(sorted(COMPRESSIONS)),
    st.text("abc 客户账号é,;\"'", min_size=1, max_size=12).map(lambda text: f"a{text}z"),
    st.randoms(),
)
@settings(max_examples=examples(300), deadline=None)
def test_a_row_has_the_usage_of_its_columns(
    arguments: dict[str, int], delimiter: str, encoding: str, compression: str, account: str, random: Any
) -> None:
    """Whatever delimiter, encoding and compression a table has, and whatever the order of its columns."""
    arguments = arguments or {"input_tokens": 0}
    account = account.replace("é", "e") if encoding == "gb18030" else account
    cells = [*zip(HEAD, ROW, strict=True), *arguments.items()]
    random.shuffle(cells)
    names, values = map(list, zip(*cells, strict=True))
    values[names.index("account")] = account
    record = only(COMPRESSIONS[compression](table(names, values, delimiter=delimiter, encoding=encoding)))
    assert record.usage == Usage(**arguments)  # type: ignore[arg-type]  # integers
    assert (record.request_id, record.origin.account, record.origin.model) == ("req_1", account, "gpt-5.4-mini")
    assert record.at == datetime.fromisoformat(AT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4), min_size=1, max_size=6),
    st.sampled_from(["array", "indented array", "one after the other", "indented"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(max_examples=examples(300), deadline=None)
def test_json_of_any_layout_reads_like_json_lines(values: list[Any], layout: str, encoding: str) -> None:
    """An array, and values one after the other, indented or not, have the values of their lines."""
    indent = 1 if "indented" in layout else None
    if "array" in layout:
        text = json.dumps(values, indent=indent, ensure_ascii=False)
    else:
        text = "\n".join(json.dumps(value, indent=indent, ensure_ascii=False) for value in values)
    lines = usage_lines(io.BytesIO(text.encode(encoding, "surrogatepass")))
    assert [json.loads(line.decode("utf-8-sig")) for line in lines] == values


def test_a_parquet_file_reads_like_its_rows(tmp_path: Path) -> None:
    """Times with a zone, missing counts, decimal quantities and tags of Parquet are those of the record."""
    path = str(tmp_path / "usage.parquet")
    duckdb.sql(
        "COPY (SELECT 'req_' || i AS request_id, TIMESTAMPTZ '2026-10-01 08:00:00+08' AS at, 'acct' AS account, "
        "'default' AS \"group\", 'gpt-5.4' AS model, CAST(i AS BIGINT) AS input_tokens, "
        "CASE WHEN i = 1 THEN 7 END AS output_tokens, CAST(1.5 AS DECIMAL(18, 6)) AS audio_input_seconds, "
        f"['a', 'b'] AS tags FROM range(3) rows(i)) TO '{path}'"
    )
    with open_usage(path) as lines:
        records = list(read_records(lines))
    assert [record.usage for record in records if isinstance(record, Record)] == [
        Usage(input_tokens=index, output_tokens=7 if index == 1 else 0, audio_input_seconds=1.5)  # type: ignore[arg-type]  # a float is exact here
        for index in range(3)
    ]
    assert {record.at for record in records} == {datetime(2026, 10, 1, tzinfo=UTC)}


def test_a_column_of_bodies_is_read_like_the_body() -> None:
    """A column ``usage`` has the body of the provider as JSON."""
    body = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 10}}
    record = only(table([*HEAD, "usage"], [*ROW, json.dumps(body)]))
    assert record.usage == Usage.from_response(body)


def test_names_of_columns_can_be_mapped() -> None:
    """Columns with other names are read under the mapped ones; Unix times are times in UTC."""
    head = ["id", "created_at", "username", "group", "model_name", "prompt_tokens"]
    mapping = parse_mapping(
        ["request_id=id", "at=created_at", "account=username", "model=model_name", "input_tokens=prompt_tokens"]
    )
    record = only(table(head, ["r", "1790812803", "acme", "default", "gpt-5.4", "9"]), mapping=mapping)
    assert (record.at, record.origin.account) == (datetime.fromtimestamp(1790812803, UTC), "acme")
    assert record.usage == Usage(input_tokens=9)


def test_fields_of_json_can_be_mapped_too() -> None:
    """Objects with other names are read like rows, also if some of them lack a field."""
    rows = [
        {"id": "a", "created_at": 1790812803, "username": "acme", "model_name": "gpt-5.4", "prompt_tokens": 9},
        {"id": "b", "created_at": 1790812804, "model_name": "gpt-5.4", "prompt_tokens": 9, "completion_tokens": 2},
    ]
    pairs = ["request_id=id", "at=created_at", "account=username", "model=model_name", "input_tokens=prompt_tokens"]
    options = {"mapping": parse_mapping([*pairs, "output_tokens=completion_tokens"]), "values": {"group": "default"}}
    for content in (json.dumps(rows), "\n".join(map(json.dumps, rows))):
        first, second = read(content.encode(), **options)
        assert isinstance(first, Record)
        assert (first.usage, first.origin.group) == (Usage(input_tokens=9), "default")
        assert isinstance(second, RejectedRecord)
        assert (second.request_id, "account" in second.message) == ("b", True)


def test_a_value_stands_for_a_column_that_is_missing() -> None:
    """Every row of a table without a column has the value that is set for it."""
    head, row = [*HEAD[:3], "model", "input_tokens"], [*ROW[:3], "gpt-5.4", 9]
    record = only(table(head, row), values=parse_values(["group=coding", "service_tier=priority"]))
    assert (record.origin.group, record.origin.service_tier) == ("coding", "priority")
    assert "which also has a value" in refusal(table([*HEAD, "input_tokens"], [*ROW, 9]), values={"group": "x"}).message
    for pairs in (["group"], ["group="], ["input_tokens=5"], ["group=a", "group=b"]):
        with pytest.raises(BillingError, match="NAME=VALUE"):
            parse_values(pairs)


def test_served_attributes_and_estimates_are_columns() -> None:
    """What the provider served, and the mark of an estimate, are those of the usage."""
    head = [*HEAD, "output_tokens", "estimated", "served_model", "served_service_tier", "service_tier"]
    usage = only(table(head, [*ROW, 5, "true", "gpt-5.4", "priority", "auto"])).usage
    assert (usage.estimated, usage.model, usage.service_tier) == (True, "gpt-5.4", "priority")


def test_meters_of_the_price_file_are_columns() -> None:
    """A meter that only the price file has is a quantity, if it is named to the reader."""
    record = only(table([*HEAD, "robot_minutes"], [*ROW, "2.5"]), meters=["robot_minutes"])
    assert record.usage == Usage(quantities={"robot_minutes": 2.5})  # type: ignore[dict-item]  # a float is exact here


@pytest.mark.parametrize("value", ["1e3", "1,000", "-5", "12.5", "12.000", "five", "0x10", "1_000", "NaN"])
def test_a_cell_that_is_no_whole_number_is_rejected(value: str) -> None:
    """It is neither guessed nor taken for zero, and the other rows are read."""
    wrong, right = read(table([*HEAD, "input_tokens"], [*ROW, value], ["req_2", *ROW[1:], "5"]))
    assert isinstance(wrong, RejectedRecord)
    assert (wrong.line, wrong.request_id, wrong.code) == (1, "req_1", "invalid_usage")
    assert "input_tokens" in wrong.message
    assert isinstance(right, Record)


def test_a_row_of_another_length_is_rejected() -> None:
    """A row with a missing or an additional cell is rejected with its number, and the next one is read."""
    content = table([*HEAD, "input_tokens"], [*ROW], [*ROW, "5", "6"], [*ROW, "5"])
    assert [type(record) for record in read(content)] == [RejectedRecord, RejectedRecord, Record]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PK\x03\x04rest", "Excel"),
        (b"SQLite format 3\0rest", "SQLite"),
        (b"%PDF-1.7", "PDF"),
        (b"<html>", "HTML"),
        (b"just words\nand more\n", "begins with 'just words'"),
        (bytes(range(128, 256)) * 9, "neither UTF-8 nor GBK"),
        (b"a,b\0c\n", "no text"),
        (gzip.compress(b"x" * 1000)[:-9], "damaged"),
        (gzip.compress(gzip.compress(b"{}")), "compressed twice"),
        (b"PAR1 and no more", "Parquet"),
        (table([*HEAD, "input_tokens"]) + b'"never closed,1', "no valid CSV"),
    ],
    ids=[
        "zip",
        "sqlite",
        "pdf",
        "html",
        "words",
        "bytes",
        "NUL",
        "cut gzip",
        "gzip of gzip",
        "cut parquet",
        "open quote",
    ],
)
def test_what_is_no_usage_gets_one_message(content: bytes, expected: str) -> None:
    """A file of another kind is refused as a whole, with what it looks like."""
    error = refusal(content)
    assert error.code == "file_unreadable"
    assert expected in error.message


@pytest.mark.parametrize(
    ("head", "mapping", "expected"),
    [
        (["request_id", "at", "account", "group", "input_tokens"], {}, "--map model=COLUMN"),
        ([*HEAD, "words"], {}, "--map input_tokens=COLUMN"),
        ([*HEAD, "usage", "input_tokens"], {}, "usage and input_tokens"),
        ([*HEAD, "input_tokens", "input_tokens"], {}, "two columns"),
        ([*HEAD, "input_tokens", "cached_read_tokens"], {}, "looks like cache_read_tokens"),
        ([*HEAD, "input_tokens"], {"created": "at"}, "'created'"),
    ],
)
def test_a_table_without_the_columns_is_refused(head: list[str], mapping: dict[str, str], expected: str) -> None:
    """No row is read from a table whose columns would be read wrongly or not at all."""
    error = refusal(table(head, ["x"] * len(head)), mapping=mapping)
    assert error.code == "invalid_argument"
    assert expected in error.message


@pytest.mark.parametrize("pairs", [["at"], ["=x"], ["at="], ["at=x", "at=y"], ["at=x", "model=x"]])
def test_a_mapping_that_says_nothing_is_refused(pairs: list[str]) -> None:
    """A mapping names one column for one name."""
    with pytest.raises(BillingError) as caught:
        parse_mapping(pairs)
    assert caught.value.code == "invalid_argument"


def test_columns_that_are_not_read_are_named() -> None:
    """Columns without an effect on the price are reported once; nothing is dropped in silence."""
    notes: list[str] = []
    read(table([*HEAD, "input_tokens", "colour", "tags"], [*ROW, 5, "red", "x"]), note=notes.append)
    assert notes == ["columns without an effect on the price: colour"]


class Unbuffered:
    """A source of bytes that has no ``read1``."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def peek(self, size: int) -> bytes:
        """Return the first bytes."""
        return self._file.getvalue()[:size]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)


def test_a_source_may_have_lines_only() -> None:
    """Lines are read from a source that cannot read blocks."""
    content = b"".join(json.dumps({"request_id": f"r{n}"}).encode() + b"\n" for n in range(3))
    assert b"".join(usage_lines(Unbuffered(content))) == content  # type: ignore[arg-type]  # not quite a file


@pytest.mark.parametrize("taken", range(5))
def test_blocks_begin_after_the_lines_that_were_read(tmp_path: Path, taken: int) -> None:
    """The lines that are left of opened usage are the same line by line and in blocks, also of a block in use."""
    lines = [json.dumps({"request_id": f"r{n}"}).encode() + b"\n" for n in range(4)]
    for name, part in (("a.jsonl", lines[:3]), ("b.jsonl", lines[3:])):
        (tmp_path / name).write_bytes(b"".join(part))
    for read_rest in (lambda usage: usage.blocks(), iter):
        with open_usage(str(tmp_path)) as usage:
            assert [next(usage) for _ in range(min(taken, 4))] == lines[:taken]
            assert b"".join(read_rest(usage)) == b"".join(lines[taken:])


def test_folders_and_patterns_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    """The usage files of a folder and of a pattern follow one another; other files are left alone."""
    (tmp_path / "b").mkdir()
    for name, id in (("b/2.csv", "second"), ("a.json", "first"), ("c.jsonl.gz", "third")):
        record = {"request_id": id, "at": AT, "account": "a", "group": "g", "model": "m", "usage": {"prompt_tokens": 1}}
        content = json.dumps(record).encode()
        if name.endswith("csv"):
            content = table([*HEAD, "input_tokens"], [id, *ROW[1:], 1])
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (tmp_path / "notes.txt").write_text("nothing")
    with open_usage(str(tmp_path)) as lines:
        assert [record.request_id for record in read_records(lines)] == ["first", "second", "third"]
    assert find_files(str(tmp_path / "*.js*")) == [str(tmp_path / name) for name in ("a.json", "c.jsonl.gz")]
    for path in (tmp_path / "none.*", tmp_path / "b" / "missing.csv"):
        with pytest.raises(BillingError, match=r"none|missing") as caught, open_usage(str(path)) as lines:
            list(lines)
        assert caught.value.code == "file_unreadable"


ARRAY = b"[" + b",\n".join([b'{"request_id": "r"}'] * 50_000)


@pytest.mark.parametrize(
    "end", [b"", b",", b", nonsense]", b', {"request_id": "r"', b", nonsense" + b" " * 3_000_000 + b"]"]
)
def test_a_json_array_without_its_end_is_an_error(end: bytes) -> None:
    """A long array is read piece by piece. What cannot be read hides the rows after it, so it is no rejected line."""
    lines: list[bytes] = []
    with pytest.raises(BillingError, match="not valid JSON after row 50000") as caught:
        lines.extend(usage_lines(io.BytesIO(ARRAY + end)))
    assert caught.value.code == "file_unreadable"
    assert len(list(usage_lines(io.BytesIO(ARRAY + b"]")))) == 50_000


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, zstandard.ZstdCompressor(write_checksum=True).compress],
    ids=["gzip", "bzip2", "zstandard"],
)
def test_damaged_compression_is_an_error(compress: Callable[[bytes], bytes]) -> None:
    """No row after the damage is missing without notice."""
    rows = "".join(f"req_{index},{AT},acct_7,default,gpt-5.4-mini,{index}\n" for index in range(2000))
    content = compress((",".join([*HEAD, "input_tokens"]) + "\n" + rows).encode())
    assert len(read(content)) == 2000
    for place in range(100, len(content), len(content) // 5):
        for damaged in (content[:place], content[:place] + b"\xff" * 8 + content[place + 8 :]):
            with pytest.raises(BillingError) as caught:
                read(damaged)
            assert caught.value.code == "file_unreadable"


def test_frames_of_zstandard_follow_one_another() -> None:
    """They are read as one file."""
    head = COMPRESSIONS["zstandard"](",".join([*HEAD, "input_tokens"]).encode() + b"\n")
    row = COMPRESSIONS["zstandard"](",".join([*ROW, "5"]).encode() + b"\n")
    assert len(read(head + row + row)) == 2


def test_the_folders_of_a_parquet_file_say_nothing(tmp_path: Path) -> None:
    """A folder named like a column and its value does not replace that column."""
    folder = tmp_path / "group=vip" / "model=gpt-5.4-pro"
    folder.mkdir(parents=True)
    write_parquet(folder / "usage.parquet")
    with open_usage(str(folder)) as lines:
        (record,) = read_records(lines)
    assert isinstance(record, Record)
    assert (record.origin.group, record.origin.model) == ("default", "gpt-5.4-mini")


@pytest.mark.parametrize("name", ["use*.parquet", "[u]sage.parquet", "usage?.parquet"])
def test_a_parquet_file_named_like_a_pattern_is_one_file(tmp_path: Path, name: str) -> None:
    """Other files that the pattern matches are not read."""
    for each in (name, "usage.parquet", "usage1.parquet", "used.parquet"):
        write_parquet(tmp_path / each)
    with open_usage(str(tmp_path / name)) as lines:
        assert len(list(lines)) == 1


def test_a_compressed_parquet_file_is_read(tmp_path: Path) -> None:
    """Like every other form."""
    write_parquet(tmp_path / "usage.parquet")
    packed = tmp_path / "usage.parquet.gz"
    packed.write_bytes(gzip.compress((tmp_path / "usage.parquet").read_bytes()))
    with open_usage(str(packed)) as lines:
        assert len(list(lines)) == 1


def write_parquet(path: Path) -> None:
    """Write one row."""
    values = ", ".join(f"'{value}' AS \"{name}\"" for name, value in zip(HEAD, ROW, strict=True))
    with duckdb.connect() as connection:
        connection.sql(f"SELECT {values}, 5 AS input_tokens").write_parquet(str(path.parent / "new"))
    (path.parent / "new").rename(path)


def test_a_row_without_any_quantity_is_rejected() -> None:
    """It is not priced at 0: the quantities got lost before. A stated 0 is priced."""
    for column in ("input_tokens", "usage"):
        (record,) = read(",".join([*HEAD, column]).encode() + b"\n" + ",".join([*ROW, ""]).encode())
        assert isinstance(record, RejectedRecord)
    (record,) = read(",".join([*HEAD, "input_tokens"]).encode() + b"\n" + ",".join([*ROW, "0"]).encode())
    assert isinstance(record, Record)


@pytest.mark.parametrize("column", ["served_service_tier", "served_model", "estimated", "input_tokens"])
def test_a_column_beside_whole_bodies_is_refused(column: str) -> None:
    """The body says the same, and the column would be dropped."""
    with pytest.raises(BillingError, match=f"a column usage and {column}"):
        read(",".join([*HEAD, "usage", column]).encode() + b"\n")


def test_repeated_keys_are_rejected_in_every_form() -> None:
    """Of two values of a key, none is chosen: in a cell, and in a row to which the options add something."""
    usage = '{"usage": {"input_tokens": 5, "input_tokens": 0, "output_tokens": 0}}'
    cell = '"' + usage.replace('"', '""') + '"'
    row = json.dumps(dict(zip(HEAD, ROW, strict=True)))[:-1].encode() + f', "usage": {usage}}}'.encode()
    for content, options in (
        (",".join([*HEAD, "usage"]).encode() + b"\n" + ",".join([*ROW, cell]).encode(), {}),
        (row, {"values": {"region": "eu"}}),
    ):
        (record,) = read(content, **options)
        assert isinstance(record, RejectedRecord)


def test_a_row_beyond_the_maximum_is_an_error() -> None:
    """The second part of a long row is not read as a row, and cells of many lines do not fill the memory."""
    head = ",".join([*HEAD, "input_tokens"]).encode() + b"\n"
    row = ",".join([*ROW, "5"]).encode() + b"\n"
    for content in (b"x" * MAX_LINE + row, b'"\n",' * MAX_LINE, b'"' + b"x\n" * MAX_LINE):
        with pytest.raises(BillingError, match=r"more than|larger than") as caught:
            read(head + row + content)
        assert caught.value.code == "file_unreadable"


def test_a_table_of_very_many_columns_is_refused() -> None:
    """Their names are compared with the known ones, which would take minutes."""
    with pytest.raises(BillingError, match="100006 columns"):
        read(",".join([*HEAD, "input_tokens", *(f"c{index}" for index in range(100_000))]).encode() + b"\n")


@pytest.mark.parametrize(
    ("shown", "instant"),
    [
        ("2026-10-01 08:00:03.113", AT),
        ("2026-10-01T08:00:03.113", AT),
        ("2026-10-01 08:00", "2026-10-01T00:00:00Z"),
        ("2026-10-01", "2026-09-30T16:00:00Z"),
        (AT, AT),
        ("2026-10-01T02:00:03.113+02:00", AT),
        ("1790812803", "2026-10-01T00:00:03Z"),
    ],
)
def test_times_without_an_offset_are_those_of_the_stated_zone(shown: str, instant: str) -> None:
    """With a time zone, a time without an offset is the instant at which its clocks show it; all others stay."""
    row = dict(zip(HEAD, ["req_1", shown, *ROW[2:]], strict=True))
    for form in (table([*row, "input_tokens"], [*row.values(), "5"]), json.dumps(row | {"input_tokens": 5}).encode()):
        assert only(form, naive_time_zone="Asia/Shanghai").at == parse_instant(instant)


@pytest.mark.parametrize("shown", ["2026-10-25T02:30:00", "2026-03-29 02:30:00"])
def test_a_time_that_clocks_show_twice_or_never_is_rejected(shown: str) -> None:
    """A local time that is no single instant is a rejected record that names the zone."""
    content = table([*HEAD, "input_tokens"], ["req_1", shown, *ROW[2:], "5"])
    (found,) = read(content, naive_time_zone="Europe/Berlin")
    assert isinstance(found, RejectedRecord)
    assert (found.code, "(twice or never in Europe/Berlin)" in found.message) == ("invalid_time", True)


def test_an_unknown_zone_of_times_is_an_error() -> None:
    """A zone that does not exist is an error, not a table of rejected records."""
    assert refusal(table([*HEAD, "input_tokens"], [*ROW, "5"]), naive_time_zone="Mars/Base").code == "invalid_period"
