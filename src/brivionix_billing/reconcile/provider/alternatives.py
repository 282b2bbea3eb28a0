"""Finds the price that a provider applied, by recomputing the amount at other prices of the cost book.

Nothing is guessed: a cause is named only if the amount follows from it within the tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.rate_card import UNIT_DECIMALS

__all__ = ["Alternatives", "Explanation", "Part", "amount_of"]

_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_CHANGES: Final = 200
_DATA_RESIDENCY: Final = Fraction(11, 10)
"""OpenAI's and Anthropic's factor for processing in one region, which is not a dimension of the report."""
_HALF: Final = Fraction(1, 2)
"""Batch and flex prices of a model for which the cost book has none."""

Part = tuple[RateCard, str, int]
"""(rate card, meter, stored quantity)."""


class Explanation(NamedTuple):
    """A cause, and the words that name the price."""

    cause: str
    text: str


def amount_of(parts: Sequence[Part]) -> Fraction:
    """Return the amount of parts in the currency of the cost book, exactly."""
    return sum((_amount(card, card.unit_rates.get(meter, 0), quantity) for card, meter, quantity in parts), Fraction(0))


def _amount(card: RateCard, rate: int, quantity: int) -> Fraction:
    return Fraction(rate * quantity, 10**UNIT_DECIMALS) * Fraction(card.nominal_per_credit)


class Alternatives:
    """Other prices of a cost book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._cards: dict[tuple[str, str, str, datetime], list[RateCard]] = {}
        self._changes: dict[tuple[str, str, str], list[datetime]] = {}

    def explain(
        self, parts: Sequence[Part], amount: Fraction, tolerance: Fraction, scale: Fraction = Fraction(1)
    ) -> Explanation | None:
        """Return the cause by which the parts cost ``amount``, or ``None``.

        ``scale`` is their quantity divided by ours, if the report states it.
        """
        if not parts:
            return None
        for explanation, total in self._totals(parts):
            if abs(total * scale - amount) <= tolerance:
                return explanation
        return None

    def _totals(self, parts: Sequence[Part]) -> Iterator[tuple[Explanation, Fraction]]:
        """Yield every cause with the amount that it gives, the most specific first."""
        base = amount_of(parts)
        for cause, text, choose in self._choices(parts):
            total = Fraction(0)
            for card, meter, quantity in parts:
                rate = choose(card, meter)
                if rate is None:
                    break
                total += _amount(card, rate, quantity)
            else:
                if total != base:
                    yield Explanation(cause, text), total
        yield Explanation("data_residency", "the price times 1.1"), base * _DATA_RESIDENCY
        yield Explanation("service_tier", "half of the price, as for batch or flex"), base * _HALF

    def _choices(self, parts: Sequence[Part]) -> Iterator[tuple[str, str, _Choice]]:
        cards = list({id(card): card for card, _, _ in parts}.values())
        yield "cache_price", "cached tokens at the price of input", _Uncached()
        tiers = self._book.all_service_tiers
        for tier in tiers:
            if any(card.service_tier != tier for card in cards):
                yield "service_tier", f"the price of tier {tier}", _Other(self, tier=tier)
        for change in sorted({at for card in cards for at in self.changes(card)}, reverse=True):
            yield "price_date", f"the price of {change.date().isoformat()}", _Other(self, at=change)
        for name in sorted({other.context_tier for card in cards for other in self.cards(card)}):
            yield "context_tier", f"the price of context {name}", _Other(self, context=name)
        regions = {other.variation.region for card in cards for other in self.cards(card)}
        for region in sorted(regions, key=str):
            yield "region", f"the price of region {region or 'none'}", _Other(self, region=region or "")
        modes = {other.variation.mode for card in cards for other in self.cards(card)}
        for mode in sorted(modes, key=str):
            yield "mode", f"the price of mode {mode or 'none'}", _Other(self, mode=mode or "")
        windows = {other.variation.window for card in cards for other in self.cards(card)}
        for window in sorted(windows, key=str):
            yield "peak_price", f"the price of window {window or 'none'}", _Other(self, window=window or "")
        yield "list_price", "the list price, without the discount of the cost book", _Listed()

    def changes(self, card: RateCard) -> list[datetime]:
        """Return the times from which a price of a card's model applies in its tier."""
        key = card.model, card.group, card.service_tier
        found = self._changes.get(key)
        if found is None:
            found, at = [], _LONG_AGO
            for _ in range(_MAX_CHANGES):
                following = self._book.next_change(card.model, group=card.group, at=at, service_tier=card.service_tier)
                if following is None:
                    break
                found.append(following)
                at = following
            self._changes[key] = found
        return found

    def cards(self, card: RateCard, tier: str | None = None, at: datetime | None = None) -> list[RateCard]:
        """Return all cards of a card's model, in its tier or another, at its time or another."""
        when, name = at or card.price_since, tier or card.service_tier
        key = card.model, card.group, name, when
        found = self._cards.get(key)
        if found is None:
            try:
                found = self._book.rate_cards(card.model, group=card.group, at=when, service_tier=name)
            except BillingError:
                found = []
            self._cards[key] = found
        return found


class _Choice:
    """Returns the rate that another price gives a meter, in 10^-18 Credit, or ``None`` if there is no such price."""

    def __call__(self, card: RateCard, meter: str) -> int | None:
        raise NotImplementedError


class _Uncached(_Choice):
    def __call__(self, card: RateCard, meter: str) -> int | None:
        found = card.meters.get(meter)
        uncached = None if found is None else found.uncached_meter
        return card.unit_rates.get(uncached or meter)


class _Listed(_Choice):
    def __call__(self, card: RateCard, meter: str) -> int | None:
        return card.list_rates.get(meter)


class _Other(_Choice):
    def __init__(
        self,
        alternatives: Alternatives,
        tier: str | None = None,
        at: datetime | None = None,
        context: str | None = None,
        region: str | None = None,
        mode: str | None = None,
        window: str | None = None,
    ) -> None:
        self._alternatives, self._tier, self._at = alternatives, tier, at
        self._context, self._region, self._mode, self._window = context, region, mode, window

    def __call__(self, card: RateCard, meter: str) -> int | None:
        wanted = (
            card.context_tier if self._context is None else self._context,
            card.variation.region if self._region is None else self._region or None,
            card.variation.mode if self._mode is None else self._mode or None,
            card.variation.window if self._window is None else self._window or None,
        )
        for other in self._alternatives.cards(card, self._tier, self._at):
            if (other.context_tier, *other.variation) == wanted:
                return other.unit_rates.get(meter)
        return None


def as_decimal(amount: Fraction, places: int = 18) -> Decimal:
    """Return a fraction, rounded to decimal places."""
    scaled = round(amount * 10**places)
    sign, digits = (1 if scaled < 0 else 0), tuple(map(int, str(abs(scaled))))
    return Decimal((sign, digits, -places))
