"""Classes of rows that have the same rate card: the core resolves and prices each class once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from math import gcd
from typing import Final

from brivionix_billing.errors import BillingError
from brivionix_billing.frames.amounts import DIGITS, AmountColumns
from brivionix_billing.frames.core_rows import CoreRows
from brivionix_billing.frames.layout import FrameLayout
from brivionix_billing.meters import METERS, MINIMUM_METER
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.price_sets import PriceSet
from brivionix_billing.rating import RateCard
from brivionix_billing.usage import Usage
from brivionix_billing.usage.fields import make_fields

__all__ = ["RowClass", "RowClasses", "context_limits"]

_INT64: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RowClass:
    """The price of the rows of a class, as whole numbers by which their counts are multiplied.

    The quanta of a row are ``max(minimum, fixed + sum(rates x counts) + reasoning_rate x min(reasoning, output))``.
    Its amounts are quanta x ``amount_factors``.
    """

    problem: str | None
    """The error code, if no row of the class has a price."""
    context_tier: str | None
    rates: tuple[int, ...]
    """For each count."""
    fixed: int
    """Charged per request."""
    reasoning_rate: int
    """The price of reasoning less that of other output, if the model has one."""
    output: tuple[int, ...]
    """The output of which reasoning is a part: one factor for each count."""
    minimum: int
    unpriced: tuple[int, ...]
    """The quantities without a price: one factor for each count. If their sum is not zero, neither is the problem."""
    amount_factors: tuple[int | None, ...]
    """For each column of amounts; ``None`` if the channel has no price."""
    maximum: int
    """No row of the class has more quanta, also in between."""
    card: RateCard | None = None
    """The rate card of its rows, if they have a price."""

    @property
    def is_linear(self) -> bool:
        """Whether the amounts of a sum of counts are the sum of the amounts."""
        return not self.reasoning_rate and not self.minimum

    @property
    def fits(self) -> bool:
        """Whether the amounts of every row fit their columns."""
        return all(self.maximum * (factor or 0) < 10**DIGITS for factor in self.amount_factors)

    @property
    def is_small(self) -> bool:
        """Whether the quanta of every row fit 64 bits."""
        return self.maximum <= _INT64

    def lacks_price(self, counts: Sequence[int]) -> bool:
        """Return whether counts, or a sum of them, have quantities without a price."""
        return any(self.unpriced) and sum(map(int.__mul__, self.unpriced, counts)) > 0

    def quanta(self, requests: int, counts: Sequence[int]) -> int:
        """Return the quanta of the summed counts of requests, if the class is linear."""
        return self.fixed * requests + sum(map(int.__mul__, self.rates, counts))


def context_limits(book: PriceBook) -> list[int]:
    """Return the largest numbers of input tokens below the boundaries of all context tiers of a book."""
    found: set[int] = set()

    def visit(price_set: PriceSet) -> None:
        found.update(context.boundary.last_below for context in price_set.contexts)
        for variants in price_set.variants.values():
            for variant in variants.values():
                if isinstance(variant, PriceSet):
                    visit(variant)

    for tiers in book.resolver.models.values():
        for timeline in tiers.values():
            for entry in timeline.entries:
                visit(entry.value)
    return sorted(found)


class RowClasses:
    """Resolves classes of rows by their keys, their time and their context tier. Each is resolved once."""

    def __init__(self, book: PriceBook, layout: FrameLayout, amounts: AmountColumns, core: CoreRows) -> None:
        self._book, self._layout, self._amounts, self._core = book, layout, amounts, core
        self.limits = context_limits(book)
        self._resolved: dict[tuple[object, ...], RowClass] = {}
        self._by_card: dict[int, tuple[RateCard, RowClass]] = {}

    def resolve(self, keys: Sequence[str | None], time: int, example: datetime, context: int) -> RowClass:
        """Return the class of rows with these keys, for a time number and a number of exceeded context limits."""
        key = (*keys, time, context)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = self._resolve(keys, example, context)
        return found

    def _resolve(self, keys: Sequence[str | None], example: datetime, context: int) -> RowClass:
        try:
            card = self._core.card(keys, example)
            cards = self._book.rate_cards(
                card.router or card.model,
                group=card.group,
                at=example,
                service_tier=card.service_tier,
                served_model=card.model if card.router else None,
            )
        except BillingError as error:
            return _without_price(error.code, len(self._layout.counts), len(self._amounts.names))
        tokens = self.limits[context - 1] + 1 if context else 0
        for other in cards:
            upper = other.context.upper
            if other.variation == card.variation and (upper is None or tokens <= upper.last_below):
                card = other
                break
        known = self._by_card.get(id(card))
        if known is None:
            known = self._by_card[id(card)] = (card, self._of_card(card))
        return known[1]

    def _of_card(self, card: RateCard) -> RowClass:
        layout = self._layout
        counts = len(layout.counts)
        rates, output, unpriced = [0] * counts, [0] * counts, [0] * counts
        fixed, _ = _charged(card, None)
        for meter in layout.meters:
            factors = layout.disjoint(meter)
            try:
                units, on_output = _charged(card, meter)
            except BillingError:
                unpriced = [one + factor for one, factor in zip(unpriced, factors, strict=True)]
                continue
            rates = [one + (units - fixed) * factor for one, factor in zip(rates, factors, strict=True)]
            output = [one + on_output * factor for one, factor in zip(output, factors, strict=True)]
        reasoning_rate = 0
        if "reasoning" in card.unit_rates and layout.index_of("reasoning_tokens") is not None:
            reasoning_rate = card.unit_rates["reasoning"] - card.unit_rates.get("output", 0)
        quantum = reduce(gcd, rates, gcd(fixed, reasoning_rate, card.minimum_units)) or 1
        rates = [rate // quantum for rate in rates]
        fixed, reasoning_rate, minimum = fixed // quantum, reasoning_rate // quantum, card.minimum_units // quantum
        largest = sum(abs(rate) * count.maximum for rate, count in zip(rates, layout.counts, strict=True))
        reasoned = abs(reasoning_rate) * max((count.maximum for count in layout.counts), default=0)
        prices = {f"cost_{name}": channel.price for name, channel in card.channels.items()}
        prices |= {"nominal": self._amounts.nominal_per_credit}
        factors_of_amounts = tuple(
            quantum
            if name == "credits"
            else (quantum * self._amounts.factor(name, prices[name]) if name in prices else None)
            for name in self._amounts.names
        )
        return RowClass(
            problem=None,
            context_tier=card.context_tier,
            rates=tuple(rates),
            fixed=fixed,
            reasoning_rate=reasoning_rate,
            output=tuple(output),
            minimum=minimum,
            unpriced=tuple(unpriced),
            amount_factors=factors_of_amounts,
            maximum=largest + fixed + reasoned + minimum,
            card=card,
        )


def _charged(card: RateCard, meter: str | None) -> tuple[int, int]:
    """Return the charge of the smallest quantity of a meter in 10^-18 Credit, and how much of it is output.

    It leaves out the minimum charge. Raises ``meter_unpriced``.
    """
    basic = [int(meter == name) for name in ("input", "cache_read", "output")]
    input_tokens = int(meter is not None and meter in METERS and METERS[meter].direction == "input")
    others = () if meter is None or any(basic) else ((meter, 1),)
    usage = Usage.from_fields(make_fields(input_tokens, basic[0], basic[1], basic[2], 0, None, None, others))
    billed = dict(card.billed_quantities(usage))
    billed.pop(MINIMUM_METER.name, None)
    units = sum(quantity * card.unit_rates[name] for name, quantity in billed.items() if quantity)
    return units, billed.get("output", 0)


def _without_price(problem: str, counts: int, amounts: int) -> RowClass:
    nothing = (0,) * counts
    return RowClass(problem, None, nothing, 0, 0, nothing, 0, nothing, (None,) * amounts, 0)
