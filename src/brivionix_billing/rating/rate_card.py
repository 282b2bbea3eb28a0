"""The rate card: the price of one unit of each meter, for one model, group, service tier and context tier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from math import gcd
from types import MappingProxyType
from typing import Any, NamedTuple

from brivionix_billing.decimals import (
    AmountUnit,
    amount_unit,
    format_plain,
    multiply,
    to_scaled,
)
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import (
    BASIC_METERS,
    CONTAINERS,
    METERS,
    MINIMUM_METER,
    REQUEST_METERS,
    Meter,
    custom_meter,
    format_quantity,
)
from brivionix_billing.rating.card_texts import CardTexts, format_texts
from brivionix_billing.rating.conditions import (
    STANDARD_VARIATION,
    Boundary,
    ContextRange,
    PriceFactor,
    Variation,
)
from brivionix_billing.rating.labels import NO_LABELS, Labels
from brivionix_billing.rating.units import UNIT_DECIMALS, UNITS_PER_CREDIT, unit_rate
from brivionix_billing.usage import Usage

__all__ = [
    "STANDARD_VARIATION",
    "UNITS_PER_CREDIT",
    "UNIT_DECIMALS",
    "Boundary",
    "CardTexts",
    "ChannelRate",
    "ContextRange",
    "PriceFactor",
    "PriceMap",
    "RateCard",
    "Variation",
    "unit_rate",
]

PriceMap = Mapping[str, Decimal]
"""Meter -> its price, per that meter's ``per``: for tokens per 1 M. A meter that is not in it is not sold."""


class ChannelRate(NamedTuple):
    """The price of one Credit on a payment channel, and the time from which it applies."""

    currency: str
    price: Decimal
    since: datetime


@dataclass(frozen=True, slots=True, eq=False)
class RateCard:
    """Prices resolved for one (model, group, service tier, context tier) and the period in which all of them apply.

    Constructed by ``PriceBook``. ``list_prices`` are the provider's. ``unit_prices`` are what this group pays, in
    nominal quota: list price x exchange rate x ``ratio``, or a price of its own.
    """

    model: str
    group: str
    service_tier: str
    context: ContextRange
    start: datetime
    end: datetime
    price_since: datetime
    """The time from which the list price applies."""
    group_since: datetime
    """The time from which the group's terms apply."""
    list_prices: PriceMap
    """In ``list_currency``, with the factors of region, mode and window."""
    ratio: Decimal
    group_priced: frozenset[str]
    """Meters for which the group has its own price. The ratio does not apply to them."""
    unit_prices: PriceMap
    currency: str
    nominal_per_credit: Decimal
    channels: Mapping[str, ChannelRate]
    price_book_digest: str
    """Digest of the price book from which the card was resolved."""
    meters: Mapping[str, Meter]
    """All meters of the price book."""
    variation: Variation = STANDARD_VARIATION
    factors: tuple[PriceFactor, ...] = ()
    """The factors that ``list_prices`` contain."""
    list_currency: str = ""
    """The currency of ``list_prices``; empty: ``currency``."""
    exchange_rate: Decimal | None = None
    """The value of one unit of ``list_currency`` in ``currency``."""
    nominal_meters: frozenset[str] = frozenset()
    """Meters whose list price is in ``currency``, although those of the model are in ``list_currency``."""
    router: str | None = None
    """The router that the request named, if it was served by ``model``."""
    minimum: Decimal | None = None
    """The minimum charge of a request, in nominal quota."""
    labels: Labels = NO_LABELS
    """What the price book calls its names."""
    list_minimum: Decimal | None = None
    """The provider's minimum charge of a request, in ``list_currency``."""
    has_group_minimum: bool = False
    """Whether ``minimum`` is one of this group; otherwise it is ``list_minimum`` x exchange rate x ``ratio``."""
    unpriced_as_container: bool = False
    """Whether tokens on a meter without a price cost what the tokens that contain them cost."""
    unit_rates: Mapping[str, int] = field(init=False)
    """Meter -> the price of one token, call, or smallest part of another unit, in 10^-18 Credit."""
    list_rates: Mapping[str, int] = field(init=False)
    """The same at the list price."""
    minimum_units: int = field(init=False)
    """The minimum charge of a request, in 10^-18 Credit."""
    list_minimum_units: int = field(init=False)
    """The same at the list price."""
    quantum: int = field(init=False)
    """Greatest common divisor of ``unit_rates``. A charge counts in quanta, which keeps its numbers small and fast."""
    scaled_rates: Mapping[str, int] = field(init=False)
    """``unit_rates`` in quanta."""
    is_plain: bool = field(init=False)
    """Whether the usual usage is charged as it is: its three meters have prices, and nothing is charged per request."""
    credit_unit: AmountUnit = field(init=False)
    """The Credits of one quantum."""
    nominal_unit: AmountUnit = field(init=False)
    """The nominal quota of one quantum."""
    cost_units: Mapping[str, tuple[AmountUnit, str]] = field(init=False)
    """Channel -> the cost of one quantum and its currency."""
    _texts: CardTexts | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "list_currency", self.list_currency or self.currency)
        put(self, "channels", MappingProxyType(dict(self.channels)))
        minimum = 0
        if self.minimum:
            minimum = self._require_rate("minimum charge", self.minimum, self.minimum, "request")
            one_credit = {MINIMUM_METER.name: self.nominal_per_credit}
            put(self, "list_prices", {**self.list_prices, **one_credit})
            put(self, "unit_prices", {**self.unit_prices, **one_credit})
        put(self, "minimum_units", minimum)
        listed = self.list_minimum or Decimal(0)
        nominal = multiply(listed, self.exchange_rate or Decimal(1))
        put(self, "list_minimum_units", self._require_rate("minimum charge", listed, nominal, "request"))
        rates = self._to_unit_rates(self.unit_prices, "price", Decimal(1))
        quantum = gcd(*rates.values()) or 1
        put(self, "unit_rates", rates)
        put(self, "list_rates", self._to_unit_rates(self.list_prices, "list price", self.exchange_rate or Decimal(1)))
        put(self, "quantum", quantum)
        put(self, "scaled_rates", {name: rate // quantum for name, rate in rates.items()})
        put(self, "is_plain", REQUEST_METERS.keys().isdisjoint(rates) and rates.keys() >= set(BASIC_METERS))
        put(self, "credit_unit", amount_unit(quantum, UNIT_DECIMALS))
        put(self, "nominal_unit", self._quantum_unit(self.nominal_per_credit))
        put(self, "cost_units", {name: (self._quantum_unit(r.price), r.currency) for name, r in self.channels.items()})

    def _quantum_unit(self, factor: Decimal) -> AmountUnit:
        coefficient, places = to_scaled(factor)
        return amount_unit(self.quantum * coefficient, UNIT_DECIMALS + places)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        plain = {
            "channels": dict(self.channels),
            "meters": None if self.meters is METERS else dict(self.meters),
        }
        return _rebuild_card, ({**arguments, **plain},)

    def _to_unit_rates(self, prices: PriceMap, what: str, exchange_rate: Decimal) -> dict[str, int]:
        rates = {}
        for name, price in prices.items():
            meter = self.meter(name)
            nominal = price if self.is_nominal(name) else multiply(price, exchange_rate)
            what_of = f"{what} of {name}"
            rates[name] = self._require_rate(what_of, price, nominal, meter.unit, meter.per, meter.places)
        return rates

    def _require_rate(
        self, what: str, price: Decimal, nominal: Decimal, unit: str, per: int = 1, places: int = 0
    ) -> int:
        rate = unit_rate(nominal, Decimal(1), per * 10**places, self.nominal_per_credit)
        if rate is None:
            raise BillingError(
                "price_not_exact",
                f"{self.model}, group {self.group}, {self.service_tier}: the {what}, {format_plain(price)} "
                f"{self.currency} per {per}, is not a whole number of 10^-18 Credit per {unit}; use fewer decimal "
                "places",
            )
        return rate

    def meter(self, name: str) -> Meter:
        """Return the meter of a price."""
        return REQUEST_METERS.get(name) or self.meters[name]

    @property
    def has_group_prices(self) -> bool:
        """Whether the group has its own prices for this model."""
        return bool(self.group_priced)

    @property
    def context_tier(self) -> str:
        """``short``, ``long``, or if the model has several boundaries, the one that was crossed: ``>128000``."""
        return self.context.name

    def is_nominal(self, meter: str) -> bool:
        """Return whether the list price of a meter is in the nominal currency: no exchange rate applies to it."""
        return self.exchange_rate is None or meter in self.nominal_meters or meter == MINIMUM_METER.name

    def ratio_for(self, meter: str) -> Decimal | None:
        """Return the ratio on the list price of a meter; ``None`` if the group has its own price instead."""
        if meter == MINIMUM_METER.name:
            return Decimal(1)
        return None if meter in self.group_priced else self.ratio

    def billed_quantities(self, usage: Usage) -> Sequence[tuple[str, int]]:
        """Return (meter, stored quantity) of all that a request is charged for.

        Tokens on a meter that this model has no price for are billed on its fallback, and if the price file says so, on
        the meter that contains them. Raises ``meter_unpriced`` if there is none.
        """
        extras = usage.extras
        if self.is_plain and (extras is None or not extras.meters):
            return usage.quantities()
        quantities = dict(usage.quantities())
        rates = self.scaled_rates
        for name, quantity in list(quantities.items()):
            if quantity and name not in rates:
                meter = self.meters.get(name)
                while meter is not None and meter.name not in rates:
                    fallback = meter.fallback_among(rates)
                    meter = None if fallback is None else self.meters[fallback]
                if meter is None and self.unpriced_as_container:
                    container = next((other for other in CONTAINERS.get(name, ()) if other in rates), None)
                    meter = None if container is None else self.meters[container]
                if meter is None:
                    raise self._unpriced_error(name, quantity)
                del quantities[name]
                quantities[meter.name] = quantities.get(meter.name, 0) + quantity
        if "reasoning" in rates:
            reasoning = min(usage.reasoning_tokens, quantities.get("output", 0))
            quantities["output"] = quantities.get("output", 0) - reasoning
            quantities["reasoning"] = reasoning
        if "request" in rates:
            quantities["request"] = 1
        if "router_fee" in rates:
            quantities["router_fee"] = usage.input_tokens
        if self.minimum_units:
            charged = sum(quantity * self.unit_rates[name] for name, quantity in quantities.items() if quantity)
            quantities[MINIMUM_METER.name] = max(0, self.minimum_units - charged)
        return tuple(quantities.items())

    def _unpriced_error(self, name: str, quantity: int) -> BillingError:
        meter = self.meters.get(name) or custom_meter(name, "unit")
        return BillingError(
            "meter_unpriced",
            f"{format_quantity(quantity, meter)} of meter {name}, but {self.model} ({self.service_tier}) has no "
            f"price for it; add one to the price file",
        )

    def charge_quanta(self, usage: Usage) -> int:
        """Return the charge for a usage, in quanta. Raises ``meter_unpriced``."""
        rates = self.scaled_rates
        return sum(quantity * rates[name] for name, quantity in self.billed_quantities(usage) if quantity)

    def list_and_uncached_rates(self, name: str) -> tuple[int, int]:
        """Return the list rate of a meter, and the list rate that the same tokens would have without a cache.

        The supplement to the minimum charge has none: that at the list price is another, see :meth:`list_supplements`.
        """
        if name == MINIMUM_METER.name:
            return 0, 0
        rate = self.list_rates.get(name)
        if rate is None:
            rate = self.unit_rates.get(name, 0)  # only this group has a price for it, so nothing can be saved
        uncached = self.meter(name).uncached_meter
        # Tokens that are written to a cache would be plain input without one: their premium is a cost of the cache.
        return rate, rate if uncached is None else self.list_rates.get(uncached, rate)

    def list_supplements(self, quantities: Iterable[tuple[str, int]]) -> tuple[int, int]:
        """Return what the billed quantities of one request cost less than the minimum charge at the list price.

        In 10^-18 Credit: at the list price, and at the list price without a cache. Unlike all other figures of a
        request, these do not follow from sums over many requests.
        """
        if not self.list_minimum_units:
            return 0, 0
        listed = uncached = 0
        for name, quantity in quantities:
            list_rate, uncached_rate = self.list_and_uncached_rates(name)
            listed += quantity * list_rate
            uncached += quantity * uncached_rate
        return max(0, self.list_minimum_units - listed), max(0, self.list_minimum_units - uncached)

    def channel(self, name: str) -> ChannelRate:
        """Return the price of a channel. Raises ``unknown_channel``."""
        try:
            return self.channels[name]
        except (KeyError, TypeError):
            known = ", ".join(self.channels)
            advice = f"use one of: {known}" if known else "add one to the price file"
            raise BillingError(
                "unknown_channel",
                f"no channel {safe_repr(name)} has a price at that time; {advice}",
                near=(name, self.channels),
            ) from None

    @property
    def texts(self) -> CardTexts:
        """The prices of this card as documents write them, formatted at the first use."""
        texts = self._texts
        if texts is None:
            texts = format_texts(self)
            object.__setattr__(self, "_texts", texts)
        return texts

    def conditions(self, meter: str | None = None) -> dict[str, str]:
        """Return what a record states about the price beside model, group and tiers; empty for the usual price.

        For one ``meter``, the currency of the list prices is left out if its own price is in the nominal currency.
        """
        found = {"router": self.router} if self.router else {}
        found |= dict(self.variation.named())
        if self.exchange_rate is not None and not (meter and self.is_nominal(meter)):
            found |= {"list_currency": self.list_currency, "exchange_rate": format_plain(self.exchange_rate)}
        return found


def _rebuild_card(arguments: dict[str, Any]) -> RateCard:
    return RateCard(**{**arguments, "meters": arguments["meters"] or METERS})
