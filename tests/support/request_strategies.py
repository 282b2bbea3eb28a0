"""A price book, and requests that mostly have a price in it: so that few examples are spent on refusals."""

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
from strategies import ARGUMENTS, DATES, ENDS, MODELS, TIERS, Data, books, contained, counts, instant, instants

__all__ = ["Ask", "few", "fitted", "made", "priced", "questions", "rated"]

few: Final = settings(
    max_examples=examples(50),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Making a failing price book small takes minutes. Take this line out to see the smallest.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
"""For tests that load whole price books."""
MOMENTS: Final = [instant(text) for text in DATES + ENDS]


class Ask(NamedTuple):
    """One request."""

    counts: dict[str, int]
    model: str
    group: str
    tier: str
    at: datetime


@st.composite
def questions(draw: DrawFn, most: int = 6) -> tuple[Data, list[Ask]]:
    """A book and some requests. The exact instants of the book are among their times."""
    data = draw(books())
    groups, models = list(data["groups"]), list(data["models"])
    cells = [(m, g, tier, at) for m in models for g in groups for tier in TIERS for at in MOMENTS]
    sold = [cell for cell in cells if _answered(data, Ask({}, *cell))]
    anything = st.tuples(
        st.sampled_from(MODELS), st.sampled_from(["default", "vip"]), st.sampled_from(TIERS), instants
    ).filter(lambda cell: cell[0] in models)
    cell = st.one_of(*[st.sampled_from(sold)] * 7, anything) if sold else anything
    asks = []
    for _ in range(draw(st.integers(1, most))):
        ask = Ask(draw(counts()), *draw(cell))
        asks.append(fitted(data, ask) if draw(st.integers(0, 9)) else ask)
    return data, asks


def fitted(data: Data, ask: Ask) -> Ask:
    """The same request without the meters that have no price."""
    found = oracle.meters(ask.counts)
    if _answered(data, ask) or not _answered(data, ask._replace(counts={})):
        return ask
    keep = {m: n for m, n in found.items() if _answered(data, ask._replace(counts=contained({m: n})))}
    return ask._replace(counts=contained(keep))


def _answered(data: Data, ask: Ask) -> bool:
    try:
        oracle.charge(data, *ask)
    except oracle.RefusedError:
        return False
    return True


def made(counts: dict[str, int]) -> Usage:
    """The usage of these arguments."""
    assert set(counts) <= {name for names in ARGUMENTS.values() for name in names} | {"reasoning_tokens"}
    return Usage(**counts)  # type: ignore[arg-type]  # they are counts only


def priced(data: Data, book: PriceBook, asks: Iterable[Ask]) -> Iterator[tuple[Ask, Charge, oracle.Bill]]:
    """The charges of the requests beside the oracle's. Where the oracle refuses, the book must, by the same code."""
    for ask in asks:
        try:
            bill = oracle.charge(data, *ask)
        except oracle.RefusedError as refused:
            code = str(refused)
            event(code)
            with pytest.raises(BillingError) as caught:
                rated(book, ask)
            assert caught.value.code == code
        else:
            event("priced")
            yield ask, rated(book, ask), bill


def rated(book: PriceBook, ask: Ask) -> Charge:
    """The library's answer."""
    return book.rate(made(ask.counts), model=ask.model, group=ask.group, at=ask.at, service_tier=ask.tier)
