"""The rate card: the price of one unit of each meter, for one model, group, service tier and context tier."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from math import gcd
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import (
    ZERO_UNIT,
    AmountUnit,
    amount_unit,
    divide_exactly,
    format_plain,
    multiply,
    to_scaled,
)
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import (
    CONTAINERS,
    METERS,
    MINIMUM_METER,
    REQUEST_METERS,
    Meter,
    custom_meter,
    format_quantity,
)
from brivionix_billing.rating.labels import NO_LABELS, Labels
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage

__all__ = [
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

UNIT_DECIMALS: Final = 18
"""Charges are whole numbers of 10^-18 Credit. It allows 6 decimals of a price per 1 M tokens times 6 of a ratio."""
UNITS_PER_CREDIT: Final = 10**UNIT_DECIMALS


class Boundary(NamedTuple):
    """A number of input tokens from which other prices apply."""

    tokens: int
    is_inclusive: bool
    """Whether the other prices apply to this number already (``at_least``), or only above it."""

    @property
    def last_below(self) -> int:
        """The largest number of input tokens below the boundary."""
        return self.tokens - 1 if self.is_inclusive else self.tokens

    def __str__(self) -> str:
        return f"{'>=' if self.is_inclusive else '>'}{self.tokens}"

    @property
    def complement(self) -> str:
        """The numbers below the boundary, such as ``<=272000``."""
        return f"{'<' if self.is_inclusive else '<='}{self.tokens}"


class ContextRange(NamedTuple):
    """The numbers of input tokens to which a context tier applies."""

    name: str
    """``short``, ``long``, or if a model has several boundaries, the one that was crossed: ``>128000``."""
    lower: Boundary | None
    upper: Boundary | None

    @property
    def is_long(self) -> bool:
        """Whether the range starts at a boundary."""
        return self.lower is not None

    @property
    def bounds(self) -> dict[str, int]:
        """The bounds as stated: ``over`` or ``from``, then ``up_to`` or ``under``; empty for any number."""
        found = {}
        if self.lower is not None:
            found["from" if self.lower.is_inclusive else "over"] = self.lower.tokens
        if self.upper is not None:
            found["under" if self.upper.is_inclusive else "up_to"] = self.upper.tokens
        return found

    def __str__(self) -> str:
        parts = [*([str(self.lower)] if self.lower else []), *([self.upper.complement] if self.upper else [])]
        return " ".join(parts) or "any"


ANY_CONTEXT: Final = ContextRange("short", None, None)


class PriceFactor(NamedTuple):
    """A factor on the list prices of a model; the fees of tools are not multiplied."""

    dimension: str
    """``region``, ``mode`` or ``window``."""
    name: str
    factor: Decimal


class Variation(NamedTuple):
    """What distinguishes prices of the same model, group and service tier beside the number of input tokens."""

    region: str | None = None
    """The serving region that has a price of its own; ``None``: the usual price."""
    mode: str | None = None
    """The serving mode that has a price of its own."""
    window: str | None = None
    """The calendar in whose window the request started."""

    def named(self) -> tuple[tuple[str, str], ...]:
        """Return (dimension, name) of those that apply."""
        return tuple((name, value) for name, value in self._asdict().items() if value is not None)


_BASIC_METERS: Final = frozenset({"input", "cache_read", "output"})
STANDARD_VARIATION: Final = Variation()

PriceMap = Mapping[str, Decimal]
"""Meter -> its price, per that meter's ``per``: for tokens per 1 M. A meter that is not in it is not sold."""


class ChannelRate(NamedTuple):
    """The price of one Credit on a payment channel, and the time from which it applies."""

    currency: str
    price: Decimal
    since: datetime


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class LineText(NamedTuple):
    """The prices of one meter as documents write them."""

    meter: Meter
    unit: AmountUnit
    """The Credits of one token, call, or smallest part of another unit."""
    nominal_unit: AmountUnit
    prices: dict[str, Any]
    """``list_price``, ``per``, ``ratio`` (``None`` if the group has its own price instead) and ``unit_price``; also
    ``list_currency`` if it is not that of the card."""
    json_head: str
    """JSON of the line up to its quantity."""
    json_middle: str
    """JSON of the line from its quantity to its Credits."""


class ChannelText(NamedTuple):
    """The price of a Credit on a channel as documents write it."""

    name: str
    currency: str
    price: str
    json_key: str
    unit: AmountUnit


class CardTexts(NamedTuple):
    """What records and explanations say about a card, formatted once per card."""

    lines: dict[str, LineText]
    """By meter."""
    channels: dict[str, ChannelText]
    nominal_per_credit: str
    price_since: str
    group_since: str
    conditions: dict[str, str]
    """See :meth:`RateCard.conditions`."""
    json_head: str
    """JSON of a record up to its time."""
    json_tail: str
    """JSON of a record after its lines."""


def unit_rate(price: Decimal, ratio: Decimal, per: int, nominal_per_credit: Decimal) -> int | None:
    """Return the units (10^-18 Credit) of one token or call, or ``None`` if they are not a whole number."""
    (p, p_places), (r, r_places), (n, n_places) = map(to_scaled, (price, ratio, nominal_per_credit))
    return divide_exactly(p * r * UNITS_PER_CREDIT * 10**n_places, per * n * 10 ** (p_places + r_places))


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
        put(self, "is_plain", REQUEST_METERS.keys().isdisjoint(rates) and rates.keys() >= _BASIC_METERS)
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
                "unknown_channel", f"no channel {safe_repr(name)} has a price at that time; {advice}"
            ) from None

    @property
    def texts(self) -> CardTexts:
        """The prices of this card as documents write them, formatted at the first use."""
        texts = self._texts
        if texts is None:
            texts = self._format_texts()
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

    def _format_texts(self) -> CardTexts:
        nominal, nominal_places = to_scaled(self.nominal_per_credit)
        lines: dict[str, LineText] = {}
        for name, price in self.unit_prices.items():
            meter, rate = self.meter(name), self.unit_rates[name]
            listed, ratio = self.list_prices.get(name), self.ratio_for(name)
            prices: dict[str, Any] = {
                "list_price": None if listed is None else format_plain(listed),
                "per": meter.per,
                "ratio": None if ratio is None else format_plain(ratio),
                "unit_price": format_plain(price),
                **(
                    {"list_currency": self.currency} if self.exchange_rate is not None and self.is_nominal(name) else {}
                ),
            }
            lines[name] = LineText(
                meter,
                amount_unit(rate, UNIT_DECIMALS) if rate else ZERO_UNIT,
                amount_unit(rate * nominal, UNIT_DECIMALS + nominal_places) if rate else ZERO_UNIT,
                prices,
                f'{{"meter":{_to_json(name)},"quantity":',
                f',{_to_json(prices)[1:-1]},"credits":',
            )
        names = {name: getattr(self, name) for name in ("model", "group", "service_tier", "context_tier")}
        price_since = format_instant(self.price_since)
        tail = {"price_since": price_since, "price_book": self.price_book_digest}
        channels = {
            name: ChannelText(
                name, rate.currency, format_plain(rate.price), f"{_to_json(name)}:", self.cost_units[name][0]
            )
            for name, rate in self.channels.items()
        }
        conditions = self.conditions()
        return CardTexts(
            lines,
            channels,
            format_plain(self.nominal_per_credit),
            price_since,
            format_instant(self.group_since),
            conditions,
            f'{_to_json({**names, **conditions})[:-1]},"at":',
            _to_json(tail)[1:],
        )


def _rebuild_card(arguments: dict[str, Any]) -> RateCard:
    return RateCard(**{**arguments, "meters": arguments["meters"] or METERS})
