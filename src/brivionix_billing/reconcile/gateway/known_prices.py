"""Remembers prices that were found right, so that most rows of a log are only multiplied and compared.

All rows with the same prices, in the same period and context tier, cost a sum of quantity x price. The first of them is
checked in full; the others do not need to be.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fractions import Fraction
from math import lcm
from operator import mul
from typing import Final, NamedTuple

from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.rating.rate_card import RateCard
from brivionix_billing.times import END_OF_TIME

__all__ = ["KnownPrices", "Terms", "make_terms"]

_MAX_KNOWN: Final = 100_000
_MAX_TOKENS: Final = 2**62


class Terms(NamedTuple):
    """Prices that were found right, and where they apply."""

    start: float
    end: float
    """Unix seconds."""
    first_input: int
    last_input: int
    """Input tokens of the context tier."""
    prices: tuple[int, ...]
    """Of each kind of tokens or calls, in the order of the quantities."""
    constant: int
    """What every request costs."""
    scale: int
    """All amounts are in the unit of the log / scale."""

    def total(self, quantities: Sequence[int]) -> int:
        """Return what a request costs."""
        total: int = sum(map(mul, quantities, self.prices), self.constant)
        return total


def make_terms(
    cards: CardSet, card: RateCard, prices: Sequence[Fraction], constant: Fraction, scale: int | None = None
) -> Terms:
    """Return the terms of a card at prices of a unit each. ``scale`` is the smallest one if it is not given.

    Raises ``ValueError`` if the prices are no whole numbers at this scale.
    """
    if scale is None:
        scale = lcm(constant.denominator, *(price.denominator for price in prices))
    scaled = [amount * scale for amount in (constant, *prices)]
    if any(amount.denominator != 1 for amount in scaled):
        raise ValueError("a price has more decimal places")
    terms, lower, upper = cards.terms, card.context.lower, card.context.upper
    return Terms(
        terms.start.timestamp() if terms.start.year > 1 else float("-inf"),
        float("inf") if terms.end == END_OF_TIME else terms.end.timestamp(),
        0 if lower is None else lower.last_below + 1,
        _MAX_TOKENS if upper is None else upper.last_below,
        tuple(map(int, scaled[1:])),
        int(scaled[0]),
        scale,
    )


class KnownPrices:
    """The prices of one log, by whatever decides them in this log."""

    def __init__(self) -> None:
        self._known: dict[Hashable, list[Terms]] = {}

    def find(self, key: Hashable, at: float, input_total: int) -> Terms | None:
        """Return the terms at a time, in Unix seconds, for a number of input tokens."""
        for terms in self._known.get(key, ()):
            if terms[0] <= at < terms[1] and terms[2] <= input_total <= terms[3]:  # faster than by name
                return terms
        return None

    def keep(self, key: Hashable, terms: Terms) -> None:
        """Keep terms that were found right."""
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        known = self._known.setdefault(key, [])
        if terms not in known:
            known.insert(0, terms)  # the latest first, because most logs are in the order of time
