"""Scheduled changes of any part of a price: the price list has each of them, and so has the page."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings

from brivionix_billing import PriceBook
from brivionix_billing.pages import price_list, pricing_page
from brivionix_billing.pages.formatting import LANGUAGES
from model_kit import book_of
from rich_books import card_prices, context_bounds, rich_books_with_changes
from samples import utc
from strategies import Data, instant, render

AT = utc("2026-01-15")
DIMENSIONS = ("region", "mode", "window")
VARIATIONS = list(itertools.product((None, "us", "eu"), (None, "fast"), (None, "peak")))
MANY = 60
Json = dict[str, Any]


def pairs(prices: list[str | None]) -> list[Fraction | None]:
    """Return two prices as fractions."""
    return [None if price is None else Fraction(price) for price in prices]


def listed(changes: list[Json], when: str, names: tuple[str | None, ...]) -> list[Json]:
    """Return the changes of a time in a region, mode and window."""
    conditions = {dimension: name for dimension, name in zip(DIMENSIONS, names, strict=True) if name is not None}
    return [c for c in changes if instant(c["at"]) == instant(when) and c.get("conditions", {}) == conditions]


@settings(max_examples=MANY, deadline=None)
@given(rich_books_with_changes())
def test_each_scheduled_change_of_a_price_is_listed(book: Data) -> None:
    """Whatever changes for some number of input tokens is listed with both prices, or as a boundary that moves."""
    entries = book["models"]["m"]["prices"]
    (group,) = price_list(PriceBook.loads(render(book)), at=AT)["groups"]
    for before, after in itertools.pairwise(entries):
        for names in VARIATIONS:
            found = listed(group["changes"], after["from"], names)
            bounds = [context_bounds(entry["standard"], names) for entry in (before, after)]
            probes = {0, *(bound + more for bound in bounds[0] | bounds[1] for more in (0, 1))}
            old, new = ({n: card_prices(entry["standard"], names, n) for n in probes} for entry in (before, after))
            sold = [prices[0] is not None for prices in (old, new)]
            if sold[0] != sold[1]:
                assert found
                assert {change["kind"] for change in found} == {"begins" if sold[1] else "ends"}
            elif old == new and bounds[0] == bounds[1]:
                assert not found
            for tokens in probes if all(sold) else ():
                was, now = old[tokens] or {}, new[tokens] or {}
                for name in {*was, *now} - {"minimum"}:
                    if was.get(name) != now.get(name):
                        expected = [was.get(name), now.get(name)]
                        shown = [pairs(change["nominal"][name]) for change in found if name in change["nominal"]]
                        assert expected in shown or any("boundary" in change for change in found)
                if was.get("minimum") != now.get("minimum"):
                    minima = [pairs(change["minimum"]) for change in found]
                    assert all(each == [was.get("minimum"), now.get("minimum")] for each in minima)
                    assert minima
            if all(sold) and bounds[0] != bounds[1]:
                assert any("boundary" in change or None in change["above"] for change in found)


@settings(max_examples=MANY // 3, deadline=None)
@given(rich_books_with_changes())
def test_the_page_can_show_any_scheduled_change(book: Data) -> None:
    """The page has a line for each time of a scheduled change, in both languages."""
    price_book = PriceBook.loads(render(book))
    times = {change["at"] for change in price_list(price_book, at=AT)["groups"][0]["changes"]}
    for language in LANGUAGES:
        html = pricing_page(price_book, at=AT, locale=language)
        for at in times:
            day = instant(at)
            date = f"2026年{day.month}月{day.day}日" if language == "zh_CN" else f"{day:%b} {day.day}, 2026"
            assert f"<li>{date}" in html


TWO = "long_context: [{above: 128000, input: 2, output: 4}, {at_least: 256000, input: 3, output: 6}]"


def changes_of(first: str, second: str) -> tuple[list[Json], str]:
    """Return the scheduled changes from one price set to another, and the page."""
    prices = f"{{from: 2026-01-01, standard: {{{first}}}}}, {{from: 2026-12-01, standard: {{{second}}}}}"
    book = book_of(f"m: {{prices: [{prices}]}}")
    return price_list(book, at=AT)["groups"][0]["changes"], pricing_page(book, at=AT)


def test_context_tiers_that_end_are_listed() -> None:
    """If a model loses its context tiers, the price of each range becomes the one for any number of tokens."""
    changes, html = changes_of(f"input: 1, output: 2, {TWO}", "input: 1, output: 2")
    assert [(c["context"], c["above"], c["kind"], c["nominal"]) for c in changes] == [
        (">128000", [128_000, None], "changes", {"input": ["2", "1"], "output": ["4", "2"]}),
        (">=256000", [255_999, None], "changes", {"input": ["3", "1"], "output": ["6", "2"]}),
    ]
    assert "m · Standard · over 128,000 and under 256,000 input tokens: Input: $2.00 → $1.00; Output: $4.00" in html
    assert "m · Standard · from 256,000 input tokens: Input: $3.00 → $1.00; Output: $6.00 → $2.00" in html


def test_a_boundary_that_moves_is_named_as_the_file_states_it() -> None:
    """A moved boundary is shown before and after, with "over" and "from" as in the file."""
    _, html = changes_of(f"input: 1, output: 2, {TWO}", f"input: 1, output: 2, {TWO.replace('above', 'at_least')}")
    assert "Long context: over 128,000 → from 128,000 input tokens" in html


def test_a_range_that_begins_without_another_price_is_listed() -> None:
    """A new boundary is listed even if the prices above it are still those below it."""
    same = "long_context: {above: 1000, input: 1, output: 2}"
    changes, html = changes_of("input: 1, output: 2", f"input: 1, output: 2, {same}")
    assert [(change["above"], change["nominal"]) for change in changes] == [([None, 1000], {})]
    assert "m · Standard · over 1,000 input tokens: prices of their own" in html


@pytest.mark.parametrize(
    ("first", "second", "minimum", "text"),
    [
        ("minimum: 0.01", "minimum: 0.05", ["0.01", "0.05"], "$0.01 → $0.05"),
        ("cache_read: 1", "minimum: 0.05, cache_read: 1", [None, "0.05"], "– → $0.05"),
        ("minimum: 0.01", "cache_read: 1", ["0.01", None], "$0.01 → –"),
    ],
)
def test_a_change_of_the_minimum_is_listed(first: str, second: str, minimum: list[str | None], text: str) -> None:
    """A minimum charge that changes, begins or ends is in the list, through each channel, and on the page."""
    changes, html = changes_of(f"input: 1, output: 2, {first}", f"input: 1, output: 2, {second}")
    (change,) = changes
    assert change["minimum"] == minimum
    expected = [None if each is None else Fraction(each) * Fraction("0.85") for each in minimum]
    assert pairs(change["minimum_topup"]["c"]) == expected
    assert f"At least per request: {text}" in html


def test_a_model_with_only_a_listed_fee_begins_with_its_price() -> None:
    """A tier whose own price of a tool begins lists that price, because it is no default fee."""
    book = book_of("m: {prices: [{from: 2026-12-01, standard: {web_search: 7}}]}")
    (change,) = price_list(book, at=AT)["groups"][0]["changes"]
    assert (change["kind"], change["nominal"]) == ("begins", {"web_search": [None, "7"]})
