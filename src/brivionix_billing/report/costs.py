"""The costs of requests: which price of a cost book is compared with the price of a sales channel, and by which rate.

A cost book is a price book whose groups are the upstreams. Its Credit is the unit in which the upstreams count. Its
channels are the ways to pay the upstreams, each with the price of a Credit in a currency. A sale through a channel is
compared with the cost in the same currency. No other exchange rate exists.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from brivionix_billing.decimals import format_plain, to_scaled
from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.rate_card import UNIT_DECIMALS, RateCard
from brivionix_billing.usage.record_file import Record

__all__ = ["MONEY_DECIMALS", "CostBasis", "channel_amount", "cost_amount", "cost_bases", "default_upstream"]
__all__ += ["nominal_amount", "upstream_of"]

_RATE_DECIMALS: Final = 18
"""Maximum number of decimal places of the price of a Credit."""
MONEY_DECIMALS: Final = UNIT_DECIMALS + _RATE_DECIMALS
"""Amounts of money are integers of 10^-36 of a currency, so that sums are exact."""


class CostBasis(NamedTuple):
    """The way in which costs are expressed in the currency of a sales channel."""

    currency: str
    channel: str | None
    """A channel of the cost book; ``None``: the nominal price, which is in the same currency."""

    def describe(self, book: PriceBook) -> str:
        """Return the basis in words, such as ``channel bank of the cost book``."""
        if self.channel is not None:
            return f"channel {self.channel} of the cost book"
        return f"nominal price of the cost book, {format_plain(book.nominal_per_credit)} {self.currency} per Credit"


def cost_bases(book: PriceBook, costs: PriceBook) -> tuple[dict[str, CostBasis], dict[str, str]]:
    """Return the basis of each sales channel, and the currency of each channel whose costs are not known in it.

    A channel of the cost book in the same currency is used first: that of the same name, or the only one. Otherwise, it
    is the nominal price, if that is in this currency. Raises ``invalid_argument`` if several channels are possible.
    """
    bases: dict[str, CostBasis] = {}
    missing: dict[str, str] = {}
    cost_channels = {name: costs.channel(name).currency for name in costs.channels()}
    for name in book.channels():
        currency = book.channel(name).currency
        possible = [other for other, other_currency in cost_channels.items() if other_currency == currency]
        if name in possible:
            bases[name] = CostBasis(currency, name)
        elif len(possible) > 1:
            raise BillingError(
                "invalid_argument",
                f"the cost book has several channels in {currency}: {', '.join(possible)}; name one of them {name}, "
                "like the sales channel",
            )
        elif possible or costs.currency == currency:
            bases[name] = CostBasis(currency, possible[0] if possible else None)
        else:
            missing[name] = currency
    return bases, missing


def default_upstream(costs: PriceBook) -> str | None:
    """Return the upstream of records that name none: the group ``default``, or the only group of the cost book."""
    groups = costs.group_names
    return "default" if "default" in groups else groups[0] if len(groups) == 1 else None


def upstream_of(record: Record, default: str | None) -> str:
    """Return the upstream of a record. Raises ``unknown_group`` if it names none and there is no default."""
    upstream = record.origin.upstream or default
    if upstream is None:
        raise BillingError(
            "unknown_group",
            "the record names no upstream, and the cost book has several groups; name its upstream, or add a group "
            "default",
        )
    return upstream


def channel_amount(units: int, card: RateCard, channel: str) -> int | None:
    """Return what Credits cost on a channel, in 10^-36 of its currency; ``None`` if it has no price at that time."""
    rate = card.channels.get(channel)
    if rate is None:
        return None
    return units * _scaled_price(rate.price)


def nominal_amount(units: int, card: RateCard) -> int:
    """Return the nominal price of Credits, in 10^-36 of its currency."""
    return units * _scaled_price(card.nominal_per_credit)


@lru_cache(4096)
def _scaled_price(price: Decimal) -> int:
    """Return the price of a Credit in 10^-18 of its currency."""
    coefficient, places = to_scaled(price)
    return coefficient * 10 ** (_RATE_DECIMALS - places)  # type: ignore[no-any-return]


def cost_amount(units: int, card: RateCard, basis: CostBasis) -> int | None:
    """Return a cost in 10^-36 of the currency of its basis; ``None`` if the channel has no price at that time."""
    return nominal_amount(units, card) if basis.channel is None else channel_amount(units, card, basis.channel)
