"""The charge of one request. It keeps what it was made from, so every figure can be derived again."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple, final

from brivionix_billing.decimals import Rounding, decimal_from_scaled, format_plain, round_quotient, to_scaled
from brivionix_billing.meters import METERS, METERS_BY_NAME
from brivionix_billing.money import Money
from brivionix_billing.rating.rate_card import RateCard
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage

__all__ = ["QUOTA_PER_USD", "UNIT_DECIMALS", "Charge", "ChargeLine", "Savings"]

UNIT_DECIMALS: Final = 18
QUOTA_PER_USD: Final = 500_000
"""Gateways of the new-api family count quota so; their integer is rounded, ours is not."""


class ChargeLine(NamedTuple):
    """One meter of a charge. ``credits == quantity x unit_price / per / nominal_per_credit``, exactly."""

    meter: str
    quantity: int
    list_price: Decimal | None
    """The provider's price, USD per ``per``; ``None`` where only the group has a price for it."""
    per: int
    ratio: Decimal | None
    """``None`` where the group has a price of its own instead."""
    unit_price: Decimal
    """What this group pays, nominal USD per ``per``."""
    credits: Decimal


class Savings(NamedTuple):
    """Credits saved against list price without cache: ``list - cache - group`` is what was charged.

    ``group`` is negative where a ratio above 1 makes the group dearer than the list, ``cache`` where writing to the
    cache cost more than reading from it saved.
    """

    list: Decimal
    """What the request would cost at the list price with no token cached."""
    cache: Decimal
    group: Decimal


@final
class Charge(tuple[int, Usage, RateCard, datetime]):
    """What one request costs. Made by ``PriceBook.rate``; immutable; exact."""

    # A tuple for speed: (quanta, usage, card, time). Everything a person reads is derived on demand.
    __slots__ = ()

    @property
    def usage(self) -> Usage:
        """What was used."""
        return self[1]

    @property
    def card(self) -> RateCard:
        """The rate card that was applied."""
        return self[2]

    @property
    def at(self) -> datetime:
        """When the request was made: the time whose prices hold."""
        return self[3]

    @property
    def model(self) -> str:
        """The model as the price file names it."""
        return self[2].model

    @property
    def group(self) -> str:
        """The group whose terms applied."""
        return self[2].group

    @property
    def service_tier(self) -> str:
        """The service tier that was priced."""
        return self[2].service_tier

    @property
    def context_tier(self) -> str:
        """``short`` or ``long``."""
        return self[2].context_tier

    @property
    def estimated(self) -> bool:
        """Whether the token counts were estimated because the provider reported none."""
        return self[1].estimated

    @property
    def price_book_digest(self) -> str:
        """Digest of the price book."""
        return self[2].price_book_digest

    @property
    def units(self) -> int:
        """The charge in 10^-18 Credit."""
        return self[0] * self[2].quantum

    @property
    def credits(self) -> Decimal:
        """The exact charge in Credits."""
        return decimal_from_scaled(self.units, UNIT_DECIMALS)

    @property
    def nominal(self) -> Money:
        """The exact nominal quota used up."""
        return Money(self._multiply_units(self[2].nominal_per_credit), self[2].currency)

    def cost(self, channel: str) -> Money:
        """What the Credits of this charge cost to top up on a channel, at its price of the request's time. Exact."""
        rate = self[2].channel(channel)
        return Money(self._multiply_units(rate.price), rate.currency)

    def _multiply_units(self, factor: Decimal) -> Decimal:
        coefficient, places = to_scaled(factor)
        return decimal_from_scaled(self.units * coefficient, UNIT_DECIMALS + places)

    @property
    def lines(self) -> tuple[ChargeLine, ...]:
        """A line per meter that was used; their Credits sum to the charge."""
        card = self[2]
        lines = []
        for index, quantity in self[1].quantities():
            units, price = card.unit_rates[index], card.unit_prices[index]
            if quantity and units is not None and price is not None:
                meter = METERS[index]
                credits = decimal_from_scaled(quantity * units, UNIT_DECIMALS)
                lines.append(
                    ChargeLine(
                        meter.name, quantity, card.list_prices[index], meter.per, card.ratio_for(index), price, credits
                    )
                )
        return tuple(lines)

    @property
    def savings(self) -> Savings:
        """What cache and group saved against the list price."""
        card = self[2]
        uncached = listed = 0
        for index, quantity in self[1].quantities():
            here, full = list_and_uncached_rates(card, index)
            listed += quantity * here
            uncached += quantity * full
        return Savings(
            decimal_from_scaled(uncached, UNIT_DECIMALS),
            decimal_from_scaled(uncached - listed, UNIT_DECIMALS),
            decimal_from_scaled(listed - self.units, UNIT_DECIMALS),
        )

    def gateway_quota(self) -> int:
        """The gateway's integer quota: 500 000 per nominal USD, half up, at least 1 for what is not free.

        For comparing with a gateway's log; bills are made from the exact charge.
        """
        coefficient, places = to_scaled(self.nominal.amount)
        if not coefficient:
            return 0
        return max(1, round_quotient(coefficient * QUOTA_PER_USD, 10**places, Rounding.HALF_UP))

    def explain(self, locale: str = "en") -> str:
        """The whole calculation in words and figures, ``en`` or ``zh_CN``, for redoing it with a pocket calculator."""
        from brivionix_billing.rating.explanation import explain

        return explain(self, locale)

    def as_dict(self) -> dict[str, Any]:
        """What ``rate`` prints for a request: amounts are strings, plain decimals."""
        card = self[2]
        return {
            "model": card.model,
            "group": card.group,
            "service_tier": card.service_tier,
            "context_tier": card.context_tier,
            "at": format_instant(self[3]),
            "estimated": self.estimated,
            "credits": format_plain(self.credits),
            "nominal": format_plain(self.nominal.amount),
            "cost": {name: format_plain(self.cost(name).amount) for name in card.channels},
            "lines": [
                {
                    "meter": line.meter,
                    "quantity": line.quantity,
                    "list_price": None if line.list_price is None else format_plain(line.list_price),
                    "per": line.per,
                    "ratio": None if line.ratio is None else format_plain(line.ratio),
                    "unit_price": format_plain(line.unit_price),
                    "credits": format_plain(line.credits),
                }
                for line in self.lines
            ],
            "price_since": format_instant(card.price_since),
            "price_book": card.price_book_digest,
        }

    def __repr__(self) -> str:
        return (
            f"<Charge {format_plain(self.credits)} Credits: {self.model}, group {self.group}, {self.service_tier}, "
            f"{format_instant(self.at)}>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charge) and (self.units, self.usage, self.at, self.as_dict()) == (
            other.units,
            other.usage,
            other.at,
            other.as_dict(),
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.units, self.usage, self.at))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (tuple(self),)


def _unpickle(fields: tuple[int, Usage, RateCard, datetime]) -> Charge:
    return tuple.__new__(Charge, fields)


# What is written to a cache would have been plain input without one: its premium is a cost of the cache.
_CACHE_WRITE_BASE_METER: Final = {"cache_write": "input", "cache_write_1h": "input"}


def list_and_uncached_rates(card: RateCard, index: int) -> tuple[int, int]:
    """Units per count of a meter at the list price, and what the same count would cost there without a cache."""
    here = card.list_rates[index]
    if here is None:
        here = card.unit_rates[index] or 0  # only this group has a price for it: nothing to save against
    plain = METERS[index].uncached_meter or _CACHE_WRITE_BASE_METER.get(METERS[index].name)
    if plain is None:
        return here, here
    full = card.list_rates[METERS_BY_NAME[plain].position]
    return here, here if full is None else full
