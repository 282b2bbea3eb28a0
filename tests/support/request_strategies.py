"""Strategies for a price book and requests, most of which have a price, so that few examples are refusals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

import oracle
from brivionix_billing import BillingError, Charge, PriceBook, Usage
from profiles import examples
from strategies import (
    ARGUMENTS,
    DATES,
    ENDS,
    MODELS,
    TIERS,
    Data,
    books,
    containing_arguments,
    counts,
    instant,
    instants,
)

__all__ = [
    "RatingRequest",
    "book_settings",
    "books_with_requests",
    "drop_unpriced_meters",
    "priced_requests",
    "rate_request",
    "usage_of",
]

book_settings: Final = settings(
    max_examples=examples(50),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Shrinking a failing price book takes minutes. Remove this line to see the smallest one.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
"""Settings of tests that load whole price books."""
BOOK_INSTANTS: Final = [instant(text) for text in DATES + ENDS]


class RatingRequest(NamedTuple):
    """Usage, model, group, tier and time of one request."""

    counts: dict[str, int]
    model: str
    group: str
    tier: str
    at: datetime


@st.composite
def books_with_requests(draw: DrawFn, most: int = 6) -> tuple[Data, list[RatingRequest]]:
    """Draw a book and requests. The exact instants of the book are among their times."""
    data = draw(books())
    groups, models = list(data["groups"]), list(data["models"])
    cells = [(m, g, tier, at) for m in models for g in groups for tier in TIERS for at in BOOK_INSTANTS]
    sold = [cell for cell in cells if _has_price(data, RatingRequest({}, *cell))]
    anything = st.tuples(
        st.sampled_from(MODELS), st.sampled_from(["default", "vip"]), st.sampled_from(TIERS), instants
    ).filter(lambda cell: cell[0] in models)
    cell = st.one_of(*[st.sampled_from(sold)] * 7, anything) if sold else anything
    requests = []
    for _ in range(draw(st.integers(1, most))):
        request = RatingRequest(draw(counts()), *draw(cell))
        requests.append(drop_unpriced_meters(data, request) if draw(st.integers(0, 9)) else request)
    return data, requests


def drop_unpriced_meters(data: Data, request: RatingRequest) -> RatingRequest:
    """Return the request without the meters that have no price."""
    quantities = oracle.meters(request.counts)
    if _has_price(data, request) or not _has_price(data, request._replace(counts={})):
        return request
    priced_quantities = {
        m: n for m, n in quantities.items() if _has_price(data, request._replace(counts=containing_arguments({m: n})))
    }
    return request._replace(counts=containing_arguments(priced_quantities))


def _has_price(data: Data, request: RatingRequest) -> bool:
    """Return whether the oracle has a price for a request."""
    try:
        oracle.charge(data, *request)
    except oracle.RefusedError:
        return False
    return True


def usage_of(counts: dict[str, int]) -> Usage:
    """Return the usage of these arguments."""
    assert set(counts) <= {name for names in ARGUMENTS.values() for name in names} | {"reasoning_tokens"}
    return Usage(**counts)  # type: ignore[arg-type]  # all arguments are counts


def priced_requests(
    data: Data, book: PriceBook, requests: Iterable[RatingRequest]
) -> Iterator[tuple[RatingRequest, Charge, oracle.Bill]]:
    """Yield each priced request with its charge and the bill of the oracle.

    If the oracle refuses a request, the book must refuse it with the same code.
    """
    for request in requests:
        try:
            bill = oracle.charge(data, *request)
        except oracle.RefusedError as refused:
            code = str(refused)
            event(code)
            with pytest.raises(BillingError) as caught:
                rate_request(book, request)
            assert caught.value.code == code
        else:
            event("priced")
            yield request, rate_request(book, request), bill


def rate_request(book: PriceBook, request: RatingRequest) -> Charge:
    """Rate a request with the library."""
    return book.rate(
        usage_of(request.counts), model=request.model, group=request.group, at=request.at, service_tier=request.tier
    )
