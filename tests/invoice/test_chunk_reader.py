"""Chunks: lines that are read like earlier ones give the rows and sums of lines that are parsed in full."""

from __future__ import annotations

import io
import json
import marshal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from bill_kit import BOOK, body, loaded, record, text, written
from brivionix_billing import PriceBook
from brivionix_billing.invoice.aggregation import reader as reader_module
from brivionix_billing.invoice.aggregation.chunks import Chunk, FoundRecords
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.aggregation.reader import ChunkReader, read_chunks
from brivionix_billing.invoice.aggregation.rows import BucketSums
from brivionix_billing.processes import Workers
from brivionix_billing.times import Period
from brivionix_billing.usage import line_patterns, record_file
from brivionix_billing.usage.line_patterns import LinePatterns
from brivionix_billing.usage.record_file import RejectedRecord
from profiles import examples

PERIOD = Period.parse("2026-10", "Asia/Shanghai")
WITHIN_A_DAY = Period(datetime(2026, 10, 12, 10, tzinfo=UTC), datetime(2026, 10, 12, 14, tzinfo=UTC), "UTC")
ABROAD = Period(datetime.fromisoformat("2026-10-12T20:00+08:00"), datetime.fromisoformat("2026-10-13T00:00+08:00"))
BY_SERVED = loaded(text().replace("version: 1\n", "version: 1\npriced_model: served\n"))
WITH_FRACTION = loaded(text().replace("12T12:00:00Z", "12T12:00:00.5Z"))


@contextmanager
def patterns(*, learning: bool) -> Iterator[None]:
    """Begin without patterns, and learn from every line or from none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_patterns, "_LEARN_EVERY", 1)
        patch.setattr(line_patterns, "PATTERNS", LinePatterns())
        if not learning:
            patch.setattr(LinePatterns, "observe", lambda *_: None)
        yield


class Content(NamedTuple):
    """What some chunks state together, without what depends on where one begins."""

    rows: list[tuple[Any, ...]]
    sums: dict[int, tuple[int, dict[str, int]]]
    rejected: list[RejectedRecord]
    out_of_scope: int
    found: FoundRecords
    size: int


def join_chunks(*chunks: Chunk) -> Content:
    """Return the content of some chunks."""
    rows = sorted(
        row for chunk in chunks for _, packed in chunk.partitions for row in marshal.loads(packed)
    )  # packed here
    sums: dict[int, BucketSums] = {}
    for chunk in chunks:
        for number, found in chunk.sums.items():
            sums.setdefault(number, BucketSums()).add(found.requests, found.quantities.items())
    return Content(
        rows,
        {number: (found.requests, found.quantities) for number, found in sums.items()},
        [record for chunk in chunks for record in chunk.rejected],
        sum(chunk.out_of_scope for chunk in chunks),
        reduce(FoundRecords.join, (chunk.found for chunk in chunks), FoundRecords()),
        sum(chunk.size for chunk in chunks),
    )


# The price changes, the day in the zone, a period and a date in UTC begin at these times.
_BOUNDARIES = [
    datetime.fromisoformat(at)
    for at in (
        *("2026-09-30T16:00Z", "2026-10-12T00:00Z", "2026-10-12T10:00Z", "2026-10-12T12:00Z", "2026-10-12T14:00Z"),
        *("2026-10-12T16:00Z", "2026-10-20T00:00Z", "2026-10-25T00:00Z", "2026-10-31T16:00Z"),
    )
]
_DIGITS = ["", ".0", ".00", ".000", ".000000", ".000001", ".5", ".50", ".500000", ".499", ".999", ".999999"]


@st.composite
def times(draw: DrawFn) -> str:
    """Draw a time at a boundary, or up to a second from it, or of a date that does not exist."""
    at = draw(st.sampled_from(_BOUNDARIES)) + timedelta(seconds=draw(st.sampled_from([-1, 0, 0, 1])))
    written = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") + draw(st.sampled_from(_DIGITS)) + "Z"
    return draw(st.sampled_from([written] * 9 + [written.replace("10-31", "10-32")]))


@st.composite
def usages(draw: DrawFn) -> dict[str, Any]:
    """Draw a usage object in one of the formats."""
    kind = draw(st.sampled_from(["chat", "responses", "whole", "whole"]))
    tokens, cached = draw(st.sampled_from([(999, 0), (1000, 999), (1001, 1001), (1001, 1002), (10**12, 0)]))
    more: dict[str, Any] = {}
    if kind == "whole":
        more["service_tier"] = draw(st.sampled_from(["default", "priority", "flex"]))
        more["model"] = draw(st.sampled_from(["alpha", "beta"]))
        if draw(st.integers(0, 3)) == 0:
            more["output"] = [{"type": "web_search_call", "action": {"type": "search"}}]
    return body(kind, tokens, cached, draw(st.sampled_from([0, 1, 50])), **more)


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "request_id": st.sampled_from([f"req_{number}" for number in range(20)]),
    "at": times(),
    "account": st.sampled_from(["acct_1", "acct_2", "账", " "]),
    "group": st.sampled_from(["default", "half", "own", "free", "unknown"]),
    "model": st.sampled_from(["alpha", "alpha", "beta", "unknown"]),
    "service_tier": st.sampled_from(["standard", "priority", "batch", None]),
    "usage": usages(),
}


@st.composite
def files(draw: DrawFn) -> list[dict[str, Any]]:
    """Draw records of which each differs from an earlier one in one or two values, so that readers know most."""
    found = [draw(st.fixed_dictionaries(_VALUES))]
    for number in range(draw(st.integers(0, 7))):
        line = dict(draw(st.sampled_from(found)), request_id=f"other_{number}")
        for name in draw(st.lists(st.sampled_from(list(_VALUES)), min_size=1, max_size=2)):
            line[name] = draw(_VALUES[name])
        if draw(st.integers(0, 7)) == 0:
            line.pop("service_tier", None)
        found.append(line)
    return found


@settings(max_examples=examples(800), deadline=None)
@given(
    files(),
    st.sampled_from([BOOK, WITH_FRACTION, BY_SERVED]),
    st.sampled_from([PERIOD, WITHIN_A_DAY, ABROAD, None]),
    st.sampled_from([None, None, "acct_1"]),
    st.integers(0, 3).map(lambda number: number == 0),
)
def test_known_lines_give_the_rows_of_parsed_ones(
    lines: list[dict[str, Any]], book: PriceBook, period: Period | None, account: str | None, is_split: bool
) -> None:
    """A reader that knows the lines of a file gives the same rows, sums and rejections as one that parses each."""
    content = [json.dumps(line, ensure_ascii=number % 2 == 0).encode() for number, line in enumerate(lines)]
    compare(content, book, period, account, Dimensions(["hour"]) if is_split else None)


def compare(
    content: list[bytes],
    book: PriceBook = BOOK,
    period: Period | None = PERIOD,
    account: str | None = None,
    dimensions: Dimensions | None = None,
) -> None:
    """Compare the chunks of readers that learn from lines with those of a reader per line."""
    numbers = range(1, len(content) + 1)
    with patterns(learning=False):
        alone = [
            ChunkReader(book, period, account, dimensions).read([line], [number])
            for line, number in zip(content, numbers, strict=True)
        ]
    buckets = {key: number for chunk in alone for key, number in chunk.buckets.items()}
    with patterns(learning=True):
        reader = ChunkReader(book, period, account, dimensions)
        first = reader.read(content, numbers)
        second = reader.read(content, numbers)
        third = ChunkReader(book, period, account, dimensions).read(content, numbers)
    assert join_chunks(first) == join_chunks(second) == join_chunks(third) == join_chunks(*alone)
    assert first.buckets == third.buckets == buckets
    assert second.buckets == {}


_OTHER_VALUES: list[dict[str, Any]] = [
    {},
    {"account": "acct_2"},
    {"group": "half"},
    {"model": "beta"},
    {"service_tier": "priority"},
    {"service_tier": None},
    {"usage": body("whole", service_tier="priority")},
    {"usage": body("whole", model="beta")},
    {"usage": body("whole", tokens=1001)},
    {"usage": body("whole", output=[{"type": "web_search_call", "action": {"type": "search"}}])},
    {"at": "2026-10-12T11:59:59.999Z"},
    {"at": "2026-10-12T16:00:00.000Z"},
    {"at": "2026-10-13T12:00:00.000Z"},
    {"at": "2026-10-12T13:59:59.999Z"},
    {"at": "2026-10-12T14:00:00.000Z"},
    {"at": "2026-10-12T09:59:59.999Z"},
    {"at": "2026-10-12T12:00:00.49Z"},
]


@pytest.mark.parametrize("changes", _OTHER_VALUES)
def test_each_value_counts(changes: dict[str, Any]) -> None:
    """A line that differs from known ones in one value is read as if they were not known."""
    known = [record(n, at=f"2026-10-12T12:00:0{n}.000Z", usage=body("whole")) for n in range(1, 4)]
    other = record(4, **{**known[0], **changes, "request_id": "other"})
    lines = written([*known, other]).splitlines()
    compare(lines)
    compare(lines, dimensions=Dimensions(["hour"]))
    compare(lines, WITH_FRACTION, WITHIN_A_DAY)
    compare(lines, BY_SERVED, None)


def test_a_date_that_does_not_exist_is_rejected() -> None:
    """A line of the 32nd of October is rejected, after known ones of the 1st of November and the 31st of October."""
    days = ("2026-11-01", "2026-10-31", "2026-10-32")
    lines = written(record(n, at=f"{day}T00:00:00Z", usage=body()) for n, day in enumerate([*days[:2] * 3, days[2]]))
    compare(lines.splitlines(), period=None)
    with patterns(learning=True):
        (rejected,) = ChunkReader(BOOK, None, None).read(lines.splitlines(), range(7)).rejected
    assert rejected.line == 6


@pytest.mark.parametrize("digits", _DIGITS)
@pytest.mark.parametrize("boundary", _BOUNDARIES)
def test_a_known_price_ends_at_its_time(boundary: datetime, digits: str) -> None:
    """Lines at a boundary and a second before and after it, in any spelling, are read as if none was known."""
    spelled = [
        (boundary + timedelta(seconds=seconds)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") + digits + "Z"
        for seconds in (-1, 0, 1)
    ]
    order = spelled + spelled[::-1] + spelled
    lines = written(record(n, at=at, usage=body()) for n, at in enumerate(order)).splitlines()
    compare(lines, WITH_FRACTION)
    compare(lines, BOOK, WITHIN_A_DAY)
    compare(lines, BOOK, ABROAD)


def test_known_lines_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lines with the same keys, names and date, only the first two are parsed or priced."""
    content = written(record(2, request_id=f"r{n}", usage=body("chat", 900 + n)) for n in range(9)).splitlines()
    with patterns(learning=True):
        reader = ChunkReader(BOOK, PERIOD, None)
        reader.read(content[:2], range(1, 3))
        monkeypatch.setattr(ChunkReader, "_add_record", None)
        (sums,) = reader.read(content[2:], range(3, 10)).sums.values()
    assert sums.requests == 7


def test_the_cache_of_a_reader_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader forgets what it knows when this is much, and states the numbers of all buckets again."""
    monkeypatch.setattr(reader_module, "_MAX_CACHED", 2)
    lines = written(record(2, request_id=f"r{n}", account=f"a{n}") for n in range(9)).splitlines()
    reader = ChunkReader(BOOK, PERIOD, None)
    first = reader.read(lines, range(9))
    second = reader.read(lines, range(9))
    assert len(first.buckets) == 9
    assert join_chunks(first) == join_chunks(second)
    assert first.buckets == second.buckets


def test_accounts_that_were_found_are_surely_all_below_a_thousand() -> None:
    """A chunk says that an account has no record only if it has less than a thousand others."""
    for accounts, surely in ((999, True), (1000, False), (1001, False)):
        lines = written(
            record(2, request_id=f"r{n}", account=f"a{n}", at="2026-11-05T00:00:00Z") for n in range(accounts)
        )
        found = ChunkReader(BOOK, PERIOD, None).read(lines.splitlines(), range(accounts)).found
        assert found.is_without("other") is surely
        assert not found.is_without("a7")
        assert not found.is_without(f"a{accounts - 1}")


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.sampled_from([b"{}", b"", b"x" * 30, written([record()])[:-1]]), max_size=9),
    st.booleans(),
    st.integers(1, 5),
    st.sampled_from([40, 500]),
    st.sampled_from([7, 40]),
)
def test_chunks_have_the_lines_of_the_file(
    content: list[bytes], has_end: bool, size: int, longest: int, block: int
) -> None:
    """Chunks of any size have the line numbers and rows of a file that is read line by line."""
    file = b"\n".join(content) + b"\n" * has_end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "CHUNK_LINES", size)
        patch.setattr(record_file, "_MAX_PIECE", longest)
        patch.setattr(record_file, "_BLOCK_BYTES", block)
        lines = list(record_file.bounded_lines(io.BytesIO(file)))
        whole = ChunkReader(BOOK, PERIOD, None).read(lines, range(1, len(lines) + 1))
        chunks = list(read_chunks(io.BytesIO(file), ChunkReader(BOOK, PERIOD, None), Workers()))
    assert [chunk.lines for chunk in chunks if chunk.lines > size] == []
    assert sum(chunk.lines for chunk in chunks) == whole.lines
    assert join_chunks(*chunks) == join_chunks(whole)
    assert whole.size == len(file)
