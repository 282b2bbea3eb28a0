"""The rate card: what one token of each meter costs, for one model, group, service tier and context tier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from functools import partial
from math import gcd
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import divide_exactly, format_plain, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, TOKEN_METERS
from brivionix_billing.usage import Usage

__all__ = [
    "SERVICE_TIERS",
    "UNITS_PER_CREDIT",
    "ChannelRate",
    "PriceVector",
    "RateCard",
    "effective_service_tier",
    "normalize_service_tier",
    "unit_rate",
]

UNITS_PER_CREDIT: Final = 10**18
"""Charges are whole numbers of this unit. It holds 6 decimals of a price per 1 M tokens times 6 of a ratio."""

SERVICE_TIERS: Final = ("standard", "batch", "flex", "priority")
_TIER_NAMES: Final = {
    **{name: name for name in SERVICE_TIERS},
    "default": "standard",  # what OpenAI's responses call it
    "auto": "standard",  # a request's wish; a response that repeats it served the usual tier
    "fast": "priority",
}

PriceVector = tuple[Decimal | None, ...]
"""A price per meter, in the order of ``METERS``: USD per 1 M tokens or per 1 000 calls; ``None``: not sold."""


def normalize_service_tier(name: object) -> str:
    """The tier that a name means, in any case; ``None`` is standard. Raises ``unknown_service_tier``.

    >>> normalize_service_tier("Priority"), normalize_service_tier("default"), normalize_service_tier(None)
    ('priority', 'standard', 'standard')
    """
    if name is None:
        return "standard"
    tier = _TIER_NAMES.get(name.lower()) if isinstance(name, str) else None
    if tier is None:
        known = ", ".join(_TIER_NAMES)
        raise BillingError("unknown_service_tier", f"{safe_repr(name)} is no service tier; these are: {known}")
    return tier


def effective_service_tier(served: str | None, asked: str | None) -> str | None:
    """Which of two tier names decides: the one that the provider says it served, if it says so.

    ``auto`` in a response repeats a wish and says nothing. A batch is asked for by its own endpoint, and the bodies
    that come back from it may say ``default``: that does not make them standard.
    """
    if asked is not None:
        wanted = normalize_service_tier(asked)  # a name that is none is an error, though it may not decide
        if served is None or served.lower() == "auto":
            return asked
        if wanted == "batch" and _TIER_NAMES.get(served.lower()) == "standard":
            return asked
    return served


class ChannelRate(NamedTuple):
    """What one Credit costs on a payment channel, in money, and since when."""

    currency: str
    price: Decimal
    since: datetime


def unit_rate(price: Decimal, ratio: Decimal, per: int, nominal_per_credit: Decimal) -> int | None:
    """Units (10^-18 Credit) that one token or call costs, or ``None`` where that is not a whole number."""
    (p, p_places), (r, r_places), (n, n_places) = map(to_scaled, (price, ratio, nominal_per_credit))
    return divide_exactly(p * r * UNITS_PER_CREDIT * 10**n_places, per * n * 10 ** (p_places + r_places))


@dataclass(frozen=True, slots=True, eq=False)
class RateCard:
    """Prices resolved for one (model, group, service tier, context tier) over the time in which all of them hold.

    Made by ``PriceBook``. ``list_prices`` are the provider's; ``unit_prices`` are what this group pays (nominal USD),
    which is list price x ``ratio``, or a price of its own.
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
    """When the list price began to hold."""
    group_since: datetime
    """When the group's terms began to hold."""
    list_prices: PriceVector
    ratio: Decimal
    has_group_prices: bool
    """The group has token prices of its own for this model; the ratio is then only on the fees of tools."""
    unit_prices: PriceVector
    currency: str
    nominal_per_credit: Decimal
    channels: Mapping[str, ChannelRate]
    price_book_digest: str
    """Digest of the price book that this card was resolved from."""
    unit_rates: tuple[int | None, ...] = field(init=False)
    """Per meter: what one token or call costs, in 10^-18 Credit."""
    list_rates: tuple[int | None, ...] = field(init=False)
    """The same at the list price."""
    quantum: int = field(init=False)
    """Greatest common divisor of ``unit_rates``: a charge counts in quanta, which keeps its numbers small and fast."""
    scaled_rates: tuple[int | None, ...] = field(init=False)
    """``unit_rates`` in quanta."""

    def __post_init__(self) -> None:
        units = self._to_unit_rates(self.unit_prices, "price")
        quantum = gcd(*(u for u in units if u is not None)) or 1
        put = object.__setattr__
        put(self, "channels", MappingProxyType(dict(self.channels)))
        put(self, "unit_rates", units)
        put(self, "list_rates", self._to_unit_rates(self.list_prices, "list price"))
        put(self, "quantum", quantum)
        put(self, "scaled_rates", tuple(None if u is None else u // quantum for u in units))

    def __reduce__(self) -> tuple[Any, ...]:
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        return partial(RateCard, **{**given, "channels": dict(self.channels)}), ()

    def _to_unit_rates(self, prices: PriceVector, what: str) -> tuple[int | None, ...]:
        out: list[int | None] = []
        for meter, price in zip(METERS, prices, strict=True):
            if price is None:
                out.append(None)
                continue
            units = unit_rate(price, Decimal(1), meter.per, self.nominal_per_credit)
            if units is None:
                raise BillingError(
                    "price_not_exact",
                    f"{self.model}, group {self.group}, {self.service_tier}: the {what} of {meter.name}, "
                    f"{format_plain(price)} {self.currency} per {meter.per}, is finer than 10^-18 Credit a count",
                )
            out.append(units)
        return tuple(out)

    def ratio_for(self, place: int) -> Decimal | None:
        """The ratio on a meter's list price; ``None`` where the group has a price of its own instead."""
        return None if self.has_group_prices and METERS[place] in TOKEN_METERS else self.ratio

    def charge_quanta(self, usage: Usage) -> int:
        """The charge for a usage, in quanta. Raises ``meter_unpriced``."""
        total = 0
        for index, quantity in usage.quantities():
            if quantity:
                rate = self.scaled_rates[index]
                if rate is None:
                    raise BillingError(
                        "meter_unpriced",
                        f"{quantity} of meter {METERS[index].name}, but {self.model} ({self.service_tier}) has no "
                        f"price for it; add one to the price file",
                    )
                total += quantity * rate
        return total

    def channel(self, name: str) -> ChannelRate:
        """The channel's price. Raises ``unknown_channel``."""
        try:
            return self.channels[name]
        except (KeyError, TypeError):
            known = ", ".join(self.channels) or "none"
            raise BillingError(
                "unknown_channel", f"no channel {safe_repr(name)} with a price at that time; there are: {known}"
            ) from None
