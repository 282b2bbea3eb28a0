"""Prices the usual rows of litellm by known prices: those of models whose earlier rows were found right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, subtract
from brivionix_billing.rating import Charge
from brivionix_billing.reconcile.gateway.comparing import parse_fast
from brivionix_billing.reconcile.gateway.known_prices import KnownPrices, make_terms
from brivionix_billing.reconcile.gateway.litellm_row import (
    OWN_COLUMNS,
    OWN_METADATA,
    PLAIN_METERS,
    PlainTime,
    RowTimes,
    account_of,
    find_own_traffic,
    model_of,
    plain_quantities,
)
from brivionix_billing.reconcile.gateway.log_part import plain_text
from brivionix_billing.reconcile.gateway.log_values import parse_object
from brivionix_billing.reconcile.gateway.offers import Offers
from brivionix_billing.reconcile.rows import NO_CAUSE, format_amount

__all__ = ["NOISE", "NOISE_TEXT", "KnownCallers", "PricedRow", "is_noise"]

NOISE: Final = Decimal("1e-9")
"""Amounts that differ by less, as a fraction, differ by float arithmetic only."""
NOISE_TEXT: Final = "the amounts differ by float arithmetic"
_MAX_CALLERS: Final = 100_000
_PLACES: Final = 18
"""Decimal places of known prices."""
_MAX_COEFFICIENT: Final = 10**15
"""Up to here, a double has all digits of a decimal number."""
_PRICE_COLUMNS: Final = ("model", "model_group", "status", "cache_hit")
"""Columns on which the prices of a row depend, beside its group, tier and time."""
_COLUMNS: Final = tuple(dict.fromkeys((*_PRICE_COLUMNS, *(name for name in OWN_COLUMNS if name != "request_tags"))))
_METADATA: Final = ("service_tier", *(name for name in OWN_METADATA if name != "tags"))


class PricedRow(NamedTuple):
    """A row that known prices show to be right."""

    cause: str
    amounts: tuple[Decimal, Decimal]
    """The logged and the expected amount."""
    texts: str
    """The cells of both amounts and of the difference."""
    details: str
    """The cells of the details."""
    at: PlainTime


def is_noise(spend: Decimal, expected: Decimal) -> bool:
    """Return whether two amounts differ by float arithmetic only."""
    return abs(spend - expected) <= NOISE * abs(expected)


class KnownCallers:
    """The callers of one log, and the prices that their rows have.

    A caller is everything in a row on which its result depends, apart from its usage, time and amount. Callers of one
    model, group and tier have the same prices, so a log may have nearly as many callers as rows.
    """

    def __init__(self, offers: Offers, times: RowTimes, group_of: Callable[[Mapping[str, Any]], str]) -> None:
        self._offers, self._times, self._group_of = offers, times, group_of
        self._callers: dict[tuple[object, ...], tuple[str, KnownPrices]] = {}
        """Caller -> the cells of its details after the time, and its prices by the kinds of quantities."""
        self._prices: dict[tuple[object, ...], KnownPrices] = {}

    def price(self, row: dict[str, Any]) -> PricedRow | None:
        """Return the amounts of a row by known prices; ``None`` if it must be checked in full.

        May raise ``KeyError``, ``TypeError`` and other errors of unusual rows.
        """
        metadata = row["metadata"]
        if type(metadata) is str:
            metadata = parse_fast(metadata)
        body = metadata["usage_object"]
        caller = _caller(row, metadata)
        known = self._callers.get(caller) or self._meet(caller, row, metadata)
        if known is None:
            return None
        cells, prices = known
        if row["prompt_tokens"] != body["prompt_tokens"]:
            return None
        counts = plain_quantities(body)
        if counts is None or row["completion_tokens"] != counts[3]:
            return None
        at = self._times.read_plain(row["startTime"])
        terms = prices.find(tuple(map(bool, counts)), at[0], body["prompt_tokens"])
        spend = row["spend"]
        if terms is None or type(spend) is not float:
            return None
        logged, expected = Decimal(repr(spend)), decimal_from_scaled(terms.total(counts), _PLACES)
        text = format_amount(expected)
        if logged == expected:
            return PricedRow(NO_CAUSE, (logged, expected), f"{text},{text},0", f"{at[1]},{cells}", at)
        if not is_noise(logged, expected):
            return None
        texts = f"{format_amount(logged)},{text},{format_amount(subtract(logged, expected))}"
        return PricedRow("float_noise", (logged, expected), texts, f"{at[1]},{cells}{NOISE_TEXT}", at)

    def keep(self, row: Mapping[str, Any], charge: Charge) -> None:
        """Keep the prices of a row that was found right, if it is a usual one. Raises what :meth:`price` raises."""
        metadata = parse_object(row["metadata"])
        body = metadata["usage_object"]
        counts = plain_quantities(body)
        card = charge.card
        cards = self._offers.card_set(card.model, card.group, charge.at, card.service_tier)
        if counts is None or len(cards.variations()) != 1 or card.minimum:
            return
        used = {name: count for name, count in zip(PLAIN_METERS, counts, strict=True) if count}
        if used != {name: quantity for name, quantity in charge.usage.quantities() if quantity}:
            return
        caller = _caller(row, metadata)
        if not all(value is None or type(value) is str for value in caller):
            return  # 1 and True are equal, but are written otherwise
        offer = self._offers.of_card(card)
        prices = [(offer.price(name) or Fraction(0)) * offer.ratio for name in PLAIN_METERS]
        constant = offer.listed.get("request", Fraction(0)) * offer.ratio
        terms = make_terms(cards, card, prices, constant, 10**_PLACES)
        if decimal_from_scaled(terms.total(counts), _PLACES) != charge.nominal.amount:
            return
        key = self._price_key(row, metadata)
        if key not in self._prices:
            if len(self._prices) > _MAX_CALLERS:
                self._prices.clear()
                self._callers.clear()
            self._prices[key] = KnownPrices()
        self._prices[key].keep(tuple(map(bool, counts)), terms)

    def _price_key(self, row: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[object, ...]:
        return (*map(row.get, _PRICE_COLUMNS), self._group_of(row), metadata.get("service_tier"))

    def _meet(
        self, caller: tuple[object, ...], row: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> tuple[str, KnownPrices] | None:
        """Return the cells and the prices of a new caller; ``None`` if no prices are known, or it may be the proxy."""
        prices = self._prices.get(self._price_key(row, metadata))
        if prices is None or not all(value is None or type(value) is str for value in caller):
            return None
        if find_own_traffic(row, metadata):
            return None
        if len(self._callers) > _MAX_CALLERS:
            self._callers.clear()
        cells = ",".join(map(plain_text, (account_of(row), model_of(row), self._group_of(row))))
        found = self._callers[caller] = f"{cells},", prices
        return found


def _caller(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the values that make a caller. Tags are lists, which cannot be keys."""
    tags = repr(row.get("request_tags")), repr(metadata.get("tags"))
    return (*map(row.get, _COLUMNS), *map(metadata.get, _METADATA), *tags)
