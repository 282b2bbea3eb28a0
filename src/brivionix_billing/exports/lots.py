"""Purchased lots and what an account has of them: the parts of a position, and its deferred revenue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.ledger.units import minor_unit

__all__ = ["MoneyKey", "Position", "PurchasedLot"]


class MoneyKey(NamedTuple):
    """An account in money of one channel and currency."""

    name: str
    """``cash``, ``deferred``, ``usage``, ``breakage`` (expired Credits), ``corrections``, ``tax``, ``fees`` or
    ``transfers`` (between accounts)."""
    channel: str
    currency: str


@dataclass(frozen=True, slots=True)
class PurchasedLot:
    """The purchase of a lot. Amounts are in units of 10^-18."""

    id: str
    day: str
    channel: str
    currency: str
    paid: int
    credits: int

    def cost(self, remaining: int) -> int:
        """Return the exact purchase price of some of its Credits, rounded to 10^-18."""
        return round_quotient(self.paid * remaining, self.credits, Rounding.HALF_UP)

    def deferred(self, remaining: int) -> int:
        """Return the purchase price of its remaining Credits, rounded to minor units."""
        minor = minor_unit(self.currency)
        return round_quotient(self.paid // minor * remaining, self.credits, Rounding.HALF_UP) * minor


@dataclass(slots=True)
class Position:
    """What an account has at one moment, in units of 10^-18."""

    lots: dict[str, int] = field(default_factory=dict)
    """Purchased lot -> remaining Credits."""
    promotional: int = 0
    owed: int = 0
    """Negative if there is a debt."""

    @property
    def net(self) -> int:
        """The balance: remaining Credits of all lots, held or not, less the debt."""
        return sum(self.lots.values()) + self.promotional + self.owed

    def deferred(self, lots: Mapping[str, PurchasedLot]) -> dict[MoneyKey, int]:
        """Return the deferred revenue by channel and currency."""
        sums: dict[MoneyKey, int] = {}
        for id, remaining in self.lots.items():
            key = MoneyKey("deferred", lots[id].channel, lots[id].currency)
            sums[key] = sums.get(key, 0) + lots[id].deferred(remaining)
        return sums
