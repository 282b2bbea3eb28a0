"""The rate card: the price of one token of each meter, for one model, group, service tier and context tier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from functools import partial
from math import gcd
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import ZERO_UNIT, AmountUnit, amount_unit, divide_exactly, format_plain, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, METERS_BY_NAME
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage

__all__ = [
    "SERVICE_TIERS",
    "UNITS_PER_CREDIT",
    "UNIT_DECIMALS",
    "CardTexts",
    "ChannelRate",
    "PriceVector",
    "RateCard",
    "effective_service_tier",
    "normalize_service_tier",
    "unit_rate",
]

UNIT_DECIMALS: Final = 18
"""Charges are whole numbers of 10^-18 Credit. It allows 6 decimals of a price per 1 M tokens times 6 of a ratio."""
UNITS_PER_CREDIT: Final = 10**UNIT_DECIMALS

SERVICE_TIERS: Final = ("standard", "batch", "flex", "priority")
_TIER_NAMES: Final = {
    **{name: name for name in SERVICE_TIERS},
    "default": "standard",  # OpenAI's responses
    "auto": "standard",  # requested; a response that repeats it served the standard tier
    "fast": "priority",
}

PriceVector = tuple[Decimal | None, ...]
"""A price per meter, in the order of ``METERS``: USD per 1 M tokens or per 1 000 calls; ``None``: not sold."""


def normalize_service_tier(name: object) -> str:
    """Return the tier that a name means, in any case; ``None`` is standard. Raises ``unknown_service_tier``.

    >>> normalize_service_tier("Priority"), normalize_service_tier("default"), normalize_service_tier(None)
    ('priority', 'standard', 'standard')
    """
    if name is None:
        return "standard"
    tier = _TIER_NAMES.get(name.lower()) if isinstance(name, str) else None
    if tier is None:
        known = ", ".join(_TIER_NAMES)
        raise BillingError("unknown_service_tier", f"{safe_repr(name)} is not a service tier; use one of {known}")
    return tier


def effective_service_tier(served: str | None, requested: str | None) -> str | None:
    """Return the tier name that decides the price: the served one, if the provider reports it.

    ``auto`` in a response repeats the request and reports nothing. A batch is requested through its own endpoint, and
    the bodies that it returns may report ``default``: that does not make them standard. Raises ``unknown_service_tier``
    for an unknown requested tier, even if the served one decides.
    """
    if requested is not None:
        tier = normalize_service_tier(requested)
        if served is None or served.lower() == "auto":
            return requested
        if tier == "batch" and _TIER_NAMES.get(served.lower()) == "standard":
            return requested
    return served


class ChannelRate(NamedTuple):
    """The price of one Credit on a payment channel, and the time from which it applies."""

    currency: str
    price: Decimal
    since: datetime


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class LineText(NamedTuple):
    """The prices of one meter as documents write them."""

    meter: str
    per: int
    unit: AmountUnit
    """The Credits of one token or call."""
    nominal_unit: AmountUnit
    list_price: str | None
    ratio: str | None
    """``None`` if the group has its own price instead."""
    unit_price: str
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

    lines: tuple[LineText | None, ...]
    channels: dict[str, ChannelText]
    nominal_per_credit: str
    price_since: str
    group_since: str
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

    Constructed by ``PriceBook``. ``list_prices`` are the provider's. ``unit_prices`` are what this group pays (nominal
    USD): list price x ``ratio``, or a price of its own.
    """

    model: str
    group: str
    service_tier: str
    context_tier: str
    """``short``, or ``long`` for a request with more input tokens than ``context_above``."""
    context_above: int | None
    start: datetime
    end: datetime
    price_since: datetime
    """The time from which the list price applies."""
    group_since: datetime
    """The time from which the group's terms apply."""
    list_prices: PriceVector
    ratio: Decimal
    has_group_prices: bool
    """The group has its own token prices for this model. The ratio then applies to the fees of tools only."""
    unit_prices: PriceVector
    currency: str
    nominal_per_credit: Decimal
    channels: Mapping[str, ChannelRate]
    price_book_digest: str
    """Digest of the price book from which the card was resolved."""
    unit_rates: tuple[int | None, ...] = field(init=False)
    """Per meter: the price of one token or call, in 10^-18 Credit."""
    list_rates: tuple[int | None, ...] = field(init=False)
    """The same at the list price."""
    quantum: int = field(init=False)
    """Greatest common divisor of ``unit_rates``. A charge counts in quanta, which keeps its numbers small and fast."""
    scaled_rates: tuple[int | None, ...] = field(init=False)
    """``unit_rates`` in quanta."""
    credit_unit: AmountUnit = field(init=False)
    """The Credits of one quantum."""
    nominal_unit: AmountUnit = field(init=False)
    """The nominal quota of one quantum."""
    cost_units: Mapping[str, tuple[AmountUnit, str]] = field(init=False)
    """Channel -> the cost of one quantum and its currency."""
    _texts: CardTexts | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        rates = self._to_unit_rates(self.unit_prices, "price")
        quantum = gcd(*(rate for rate in rates if rate is not None)) or 1
        put = object.__setattr__
        put(self, "channels", MappingProxyType(dict(self.channels)))
        put(self, "unit_rates", rates)
        put(self, "list_rates", self._to_unit_rates(self.list_prices, "list price"))
        put(self, "quantum", quantum)
        put(self, "scaled_rates", tuple(None if rate is None else rate // quantum for rate in rates))
        put(self, "credit_unit", amount_unit(quantum, UNIT_DECIMALS))
        put(self, "nominal_unit", self._quantum_unit(self.nominal_per_credit))
        put(self, "cost_units", {name: (self._quantum_unit(r.price), r.currency) for name, r in self.channels.items()})

    def _quantum_unit(self, factor: Decimal) -> AmountUnit:
        coefficient, places = to_scaled(factor)
        return amount_unit(self.quantum * coefficient, UNIT_DECIMALS + places)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        return partial(RateCard, **{**arguments, "channels": dict(self.channels)}), ()

    def _to_unit_rates(self, prices: PriceVector, what: str) -> tuple[int | None, ...]:
        rates: list[int | None] = []
        for meter, price in zip(METERS, prices, strict=True):
            if price is None:
                rates.append(None)
                continue
            rate = unit_rate(price, Decimal(1), meter.per, self.nominal_per_credit)
            if rate is None:
                raise BillingError(
                    "price_not_exact",
                    f"{self.model}, group {self.group}, {self.service_tier}: the {what} of {meter.name}, "
                    f"{format_plain(price)} {self.currency} per {meter.per}, is not a whole number of 10^-18 Credit "
                    f"per {meter.unit}; use fewer decimal places",
                )
            rates.append(rate)
        return tuple(rates)

    def ratio_for(self, position: int) -> Decimal | None:
        """Return the ratio on the list price of a meter; ``None`` if the group has its own price instead."""
        return None if self.has_group_prices and METERS[position].unit == "token" else self.ratio

    def charge_quanta(self, usage: Usage) -> int:
        """Return the charge for a usage, in quanta. Raises ``meter_unpriced``."""
        total = 0
        for position, quantity in usage.quantities():
            if quantity:
                rate = self.scaled_rates[position]
                if rate is None:
                    raise BillingError(
                        "meter_unpriced",
                        f"{quantity} of meter {METERS[position].name}, but {self.model} ({self.service_tier}) has no "
                        f"price for it; add one to the price file",
                    )
                total += quantity * rate
        return total

    def list_and_uncached_rates(self, position: int) -> tuple[int, int]:
        """Return the list rate of a meter, and the list rate that the same tokens would have without a cache."""
        rate = self.list_rates[position]
        if rate is None:
            rate = self.unit_rates[position] or 0  # only this group has a price for it, so nothing can be saved
        meter = METERS[position]
        if meter.cache is None:
            return rate, rate
        # Tokens that are written to a cache would be plain input without one: their premium is a cost of the cache.
        uncached = self.list_rates[METERS_BY_NAME[meter.parents[0]].position]
        return rate, rate if uncached is None else uncached

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

    def _format_texts(self) -> CardTexts:
        nominal, nominal_places = to_scaled(self.nominal_per_credit)
        lines: list[LineText | None] = []
        for meter, listed, price, rate in zip(METERS, self.list_prices, self.unit_prices, self.unit_rates, strict=True):
            if price is None or rate is None:
                lines.append(None)
                continue
            ratio = self.ratio_for(meter.position)
            prices: dict[str, Any] = {
                "list_price": None if listed is None else format_plain(listed),
                "per": meter.per,
                "ratio": None if ratio is None else format_plain(ratio),
                "unit_price": format_plain(price),
            }
            lines.append(
                LineText(
                    meter.name,
                    meter.per,
                    amount_unit(rate, UNIT_DECIMALS) if rate else ZERO_UNIT,
                    amount_unit(rate * nominal, UNIT_DECIMALS + nominal_places) if rate else ZERO_UNIT,
                    prices["list_price"],
                    prices["ratio"],
                    prices["unit_price"],
                    f'{{"meter":{_to_json(meter.name)},"quantity":',
                    f',{_to_json(prices)[1:-1]},"credits":',
                )
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
        return CardTexts(
            tuple(lines),
            channels,
            format_plain(self.nominal_per_credit),
            price_since,
            format_instant(self.group_since),
            f'{_to_json(names)[:-1]},"at":',
            _to_json(tail)[1:],
        )
