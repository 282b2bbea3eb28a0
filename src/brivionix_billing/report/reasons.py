"""Finds why a request costs more than it brings, by pricing it again without one of its properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.meters import MINIMUM_METER
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.charge import Charge
from brivionix_billing.rating.rate_card import STANDARD_VARIATION, RateCard
from brivionix_billing.report.costs import MONEY_DECIMALS, CostBasis, channel_amount, cost_amount

__all__ = ["LOSS_REASONS", "CostedRequest", "loss_reason"]

LOSS_REASONS: Final = ("retry", "tier", "context", "conditions", "cache", "minimum", "price")
"""The reasons, in the order in which they are tried. The first one without which there is no loss is reported."""


class CostedRequest(NamedTuple):
    """A request with its charge and its costs."""

    book: PriceBook
    costs: PriceBook
    charge: Charge
    own: Charge
    """The cost of the call that was billed."""
    retries: tuple[Charge, ...]
    """The costs of further attempts."""
    upstream: str

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All costs."""
        return (self.own, *self.retries)


def loss_reason(costed: CostedRequest, channel: str, basis: CostBasis) -> tuple[str, str]:
    """Return the reason why a request makes a loss through a channel, and a detail in English.

    ========== ==========================================================================
    retry      without its further attempts there is no loss
    tier       in the standard tier there is no loss
    context    at the prices of a short context there is no loss
    conditions without the prices of its region, mode or window there is no loss
    cache      if nothing was cached there is no loss
    minimum    without the minimum charge of the upstream there is no loss
    price      the price is below the cost
    ========== ==========================================================================
    """
    sale, cost = costed.charge, costed.own

    def is_profit(sold: int, bought: int, *others: Charge) -> bool:
        revenue = channel_amount(sold, sale.card, channel) or 0
        amounts = [
            cost_amount(bought, cost.card, basis),
            *(cost_amount(each.units, each.card, basis) for each in others),
        ]
        return revenue >= sum(amount or 0 for amount in amounts)

    if costed.retries and is_profit(sale.units, cost.units):
        number = len(costed.retries)
        return "retry", f"{number} further {'attempt' if number == 1 else 'attempts'}"
    changed: tuple[tuple[str, bool, str, Callable[[PriceBook, Charge], int]], ...] = (
        ("tier", sale.service_tier != "standard", sale.service_tier, _in_standard_tier),
        ("context", cost.card.context.lower is not None, cost.context_tier, _in_short_context),
        ("conditions", sale.variation != cost.variation, _names(cost) or _names(sale), _without_conditions),
        ("cache", sale.usage.input_tokens > 0, "cached tokens", _uncached),
        ("minimum", bool(cost.card.minimum_units), "minimum charge of the upstream", _without_minimum),
    )
    for reason, applies, detail, price in changed:
        if not applies:
            continue
        try:
            sold, bought = price(costed.book, sale), price(costed.costs, cost)
        except BillingError:
            continue  # no such price, so this cannot be the reason
        if (sold, bought) != (sale.units, cost.units) and is_profit(sold, bought, *costed.retries):
            return reason, detail
    return "price", _price_detail(sale, cost, channel, basis)


def _names(charge: Charge) -> str:
    return ", ".join(name for _, name in charge.variation.named())


def _in_standard_tier(book: PriceBook, charge: Charge) -> int:
    card = charge.card
    resolved = book.resolver.resolve(card.model, card.group, charge.at, "standard")
    variation = resolved.cards.variation(card.variation.region, card.variation.mode, charge.at)
    return _units(resolved.cards.card(charge.usage.input_tokens, variation), charge)


def _in_short_context(book: PriceBook, charge: Charge) -> int:
    card = charge.card
    cards = book.resolver.resolve(card.model, card.group, charge.at, card.service_tier).cards
    return _units(cards.card(0, card.variation), charge)


def _without_conditions(book: PriceBook, charge: Charge) -> int:
    card = charge.card
    cards = book.resolver.resolve(card.model, card.group, charge.at, card.service_tier).cards
    return _units(cards.card(charge.usage.input_tokens, STANDARD_VARIATION), charge)


def _units(card: RateCard, charge: Charge) -> int:
    return card.charge_quanta(charge.usage) * card.quantum + sum(part.units for part in charge.parts)


def _uncached(_: PriceBook, charge: Charge) -> int:
    """Return the charge if every cached token were plain input."""
    card, units = charge.card, 0
    for name, quantity in card.billed_quantities(charge.usage):
        if quantity:
            meter = card.meter(name).uncached_meter
            units += quantity * card.unit_rates.get(meter or name, card.unit_rates[name])
    return units + sum(part.units for part in charge.parts)


def _without_minimum(_: PriceBook, charge: Charge) -> int:
    quantities = charge.card.billed_quantities(charge.usage)
    return charge.units - sum(quantity for name, quantity in quantities if name == MINIMUM_METER.name)


def _price_detail(sale: Charge, cost: Charge, channel: str, basis: CostBasis) -> str:
    """Name the meter with the largest loss, with both of its prices in the currency of the channel."""
    sold, bought = dict(sale.card.billed_quantities(sale.usage)), dict(cost.card.billed_quantities(cost.usage))
    worst: tuple[int, str] | None = None
    for name, quantity in bought.items():
        paid = cost_amount(quantity * cost.card.unit_rates.get(name, 0), cost.card, basis) or 0
        got = channel_amount(sold.get(name, 0) * sale.card.unit_rates.get(name, 0), sale.card, channel) or 0
        if worst is None or got - paid < worst[0]:
            worst = got - paid, name
    if worst is None or worst[0] >= 0:
        return ""
    name = worst[1]
    meter = cost.card.meter(name)
    per = meter.per * 10**meter.places
    price = channel_amount(sale.card.unit_rates.get(name, 0) * per, sale.card, channel) or 0
    paid = cost_amount(cost.card.unit_rates.get(name, 0) * per, cost.card, basis) or 0
    texts = [format_plain(decimal_from_scaled(amount, MONEY_DECIMALS)) for amount in (price, paid)]
    return f"{name}: sold at {texts[0]}, bought at {texts[1]} {basis.currency} per {meter.per}"
