"""Rows and totals of data frames have exactly the figures of ``PriceBook.rate``."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brivionix_billing import PriceBook
from brivionix_billing.frames import rate, totals
from frame_kit import KINDS, Row, day_of, expected_rates, expected_totals, row_of_model_request, rows_of, table_of
from model_books import model_books_with_requests
from model_kit import PEAK, book_of
from model_oracle import ModelRequest
from profiles import examples
from request_strategies import RatingRequest, book_settings, books_with_requests
from samples import utc
from strategies import Data, render

FRAME_SETTINGS = settings(book_settings, max_examples=examples(48))
ANY_KIND = st.sampled_from(list(KINDS))
SIZES = st.sampled_from([1, 1, 1, 10**6])
"""Factors on the counts of a request: one in four has counts around 10^12."""


def row_of_request(request: RatingRequest, account: str, size: int) -> Row:
    """Return a request of a book with many meters as a row."""
    attributes = {"at": request.at, "account": account, "group": request.group, "model": request.model}
    attributes["service_tier"] = request.tier
    counts: dict[str, Decimal | int] = {"input_tokens": 0, **request.counts}
    return Row(attributes, {name: count * size for name, count in counts.items()})


def check(book: PriceBook, rows: list[Row], kind: str) -> None:
    """Compare a frame of a kind with ``book.rate``: row by row, and in sums by account and day."""
    frame = KINDS[kind](table_of(rows))
    expected = expected_rates(book, rows)
    added = list(expected[0])
    rated = [{name: row[name] for name in added} for row in rows_of(rate(frame, book))]
    assert rated == expected
    by = {"account": lambda row: row.attributes["account"], "day": day_of}
    summed: dict[Any, Any] = {}
    for row in rows_of(totals(frame, book, tuple(by))):
        key = tuple(row.pop(name) for name in (*by, "problem"))
        assert key not in summed
        summed[key] = row
    assert summed == expected_totals(book, rows, by)


@FRAME_SETTINGS
@given(model_books_with_requests(most=5), st.lists(SIZES, min_size=5, max_size=5), ANY_KIND)
def test_books_with_all_features(case: tuple[Data, list[ModelRequest]], sizes: list[int], kind: str) -> None:
    """Frames of a book with windows, regions, modes, routers, minimums and own meters have the figures of the book."""
    data, requests = case
    book = PriceBook.loads(render(data))
    # Each request is in three rows, so that sums have several.
    rows = [
        row_of_model_request(request, f"acct_{index % 2}", size)
        for index in range(3)
        for request, size in zip(requests, sizes, strict=False)
    ]
    for row in expected_rates(book, rows[: len(requests)]):
        event(row["problem"] or "priced")
    check(book, rows, kind)


@FRAME_SETTINGS
@given(books_with_requests(most=5), st.lists(SIZES, min_size=5, max_size=5), ANY_KIND)
def test_books_with_all_meters(case: tuple[Data, list[RatingRequest]], sizes: list[int], kind: str) -> None:
    """Frames of a book with every meter, dated prices, groups and channels have the figures of the book."""
    data, requests = case
    book = PriceBook.loads(render(data))
    rows = [
        row_of_request(request, f"acct_{index % 2}", size)
        for index in range(3)
        for request, size in zip(requests, sizes, strict=False)
    ]
    for row in expected_rates(book, rows[: len(requests)]):
        event(row["problem"] or "priced")
    check(book, rows, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_of_every_boundary(kind: str) -> None:
    """A row on either side of a context tier, a window and a price date has the price of its side, in every kind."""
    prices = "windows: {peak: {factor: 2}}, long_context: {above: 1000, input: 3, cache_read: 0.3, output: 4}"
    standard = f"{{input: 1, cache_read: 0.1, output: 2, {prices}}}"
    book = book_of(
        f"m: {{prices: [{{from: 2026-01-01, standard: {standard}}}, {{from: 2026-10-20, standard: {standard}}}]}}",
        PEAK,
    )
    times = ["2026-10-19T07:59:59.999999", "2026-10-19T08:00:00", "2026-10-19T15:59:59.999999", "2026-10-19T16:00:00"]
    times += ["2026-10-19T23:59:59.999999", "2026-10-20T00:00:00", "2025-12-31T23:59:59.999999", "2026-01-01T00:00:00"]
    rows = [
        Row(
            {"at": utc(time), "account": "a", "group": "g", "model": "m"},
            {"input_tokens": tokens, "cache_read_tokens": 1000, "output_tokens": output},
        )
        for time in times
        for tokens in (1000, 1001, 10**12, 10**12 + 1)
        for output in (0, 10**12)
    ]
    assert {row["context_tier"] for row in expected_rates(book, rows)} == {"short", "long", None}
    assert {row["problem"] for row in expected_rates(book, rows)} == {None, "invalid_usage", "unknown_group"}
    check(book, rows, kind)
