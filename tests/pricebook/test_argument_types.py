"""Arguments of a price book that have the wrong type: each is a ``BillingError`` with the code of its name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, PriceBook, Usage
from model_kit import AT, MILLION, book_of
from profiles import examples
from samples import code_of

BOOK = book_of(
    "m: {prices: [{from: 2026-01-01, standard: {input: 1}, priority: {input: 2}}]}\n"
    "  n: {prices: [{from: 2026-01-01, standard: {input: 1, regions: {us: {factor: 2}}, "
    "modes: {fast: {factor: 2}}}}]}\n"
    "  r: {routes_to: [m, n], prices: [{from: 2026-01-01, standard: {router_fee: 1}}]}",
    "upstreams: {azure: {cache_read: beside_input}}",
)
REPORTED = Usage.from_response({"model": "n", "usage": {"prompt_tokens": 1, "completion_tokens": 0, "odd": 7}})
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.integers(),
    st.booleans(),
    st.floats(),
    st.binary(),
    st.fractions(),
    st.lists(st.text(max_size=3), max_size=3),
    st.tuples(st.text(max_size=3)),
    st.dictionaries(st.integers(), st.text(max_size=3), max_size=2),
    st.frozensets(st.integers(), max_size=2),
    st.sampled_from([Decimal("NaN"), Fraction(1, 3), object(), str, len, MILLION, BOOK, AT, Ellipsis]),
)
CODES = {
    "model": "unknown_model",
    "served_model": "unknown_model",
    "name": "unknown_model",
    "group": "unknown_group",
    "service_tier": "unknown_service_tier",
    "region": "region_unavailable",
    "mode": "mode_unavailable",
    "channel": "unknown_channel",
    "upstream": "unknown_upstream",
    "at": "invalid_time",
}
"""Argument -> the code of the error if it has the wrong type."""
PRICED: dict[str, Any] = {"model": "n", "group": "g", "at": AT, "service_tier": "standard"}
CALLS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (PriceBook.rate, {"usage": MILLION, **PRICED, "region": "us", "mode": "fast"}),
    (PriceBook.rate, {"usage": Usage(model="n", service_tier="default", region="us", mode="fast"), **PRICED,
                      "region": "us", "mode": "fast"}),
    (PriceBook.rate_cards, {**PRICED, "model": "r", "served_model": "m"}),
    (PriceBook.possible_rate_cards, {**PRICED, "mode": "fast"}),
    (PriceBook.next_change, PRICED),
    (PriceBook.models, {"group": "g", "at": AT}),
    (PriceBook.groups, {"at": AT}),
    (PriceBook.service_tiers, {"model": "m", "at": AT}),
    (PriceBook.ratio, {"group": "g", "at": AT}),
    (PriceBook.resolve_model, {"name": "m"}),
    (PriceBook.model_info, {"model": "m"}),
    (PriceBook.is_router, {"model": "m"}),
    (PriceBook.channel, {"name": "c"}),
    (PriceBook.quote, {"channel": "c", "at": AT, "credits": 1}),
    (PriceBook.conventions, {"upstream": "azure"}),
]  # fmt: skip


@settings(max_examples=examples(200))
@given(st.sampled_from(CALLS), st.data())
def test_a_name_of_the_wrong_type_is_an_error_with_the_code_of_the_name(
    call: tuple[Callable[..., Any], dict[str, Any]], data: st.DataObject
) -> None:
    """Every argument that is a name or a time refuses values of other types, whatever the usage states as served."""
    method, arguments = call
    method(BOOK, **arguments)  # priced, before and after one argument is spoiled
    name = data.draw(st.sampled_from(sorted(arguments.keys() & CODES.keys())))
    junk = data.draw(JUNK.filter(lambda value: name != "at" or not isinstance(value, datetime)))
    with pytest.raises(BillingError) as caught:
        method(BOOK, **{**arguments, name: junk})
    expected = "unknown_channel" if method is PriceBook.channel else CODES[name]
    assert code_of(caught) == expected
    assert len(str(caught.value)) < 600


@settings(max_examples=examples(50))
@given(JUNK | st.dictionaries(st.text(max_size=3), st.integers() | st.lists(st.text()), min_size=1))
def test_actions_of_the_wrong_type_are_an_error(junk: Any) -> None:
    """What the caller says about numbers on no meter is a mapping of texts to texts."""
    if junk == {}:
        return
    with pytest.raises(BillingError) as caught:
        BOOK.rate(REPORTED, model="m", group="g", at=AT, unaccounted=junk)
    assert code_of(caught) == "invalid_argument"


@settings(max_examples=examples(50))
@given(JUNK)
def test_a_usage_of_the_wrong_type_is_an_error(junk: Any) -> None:
    """Only a ``Usage`` can be priced: a body must be read first."""
    if isinstance(junk, Usage):
        return
    with pytest.raises(BillingError) as caught:
        BOOK.rate(junk, model="m", group="g", at=datetime(2026, 10, 20, tzinfo=UTC))
    assert code_of(caught) == "unknown_usage_format"
