"""Price sets: the listed prices of one model and service tier, and the variations of them.

A set has prices by meter, context tiers, and variants by region, mode and window. A variant is a factor on the prices
around it, or a set of its own. The region is applied first, then the mode, then the window. A variant that is a set
replaces the prices around it; factors that stand beside it still apply. Validation makes sure that no two sets compete.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from brivionix_billing.decimals import multiply
from brivionix_billing.meters import METERS, REQUEST_METERS, Meter
from brivionix_billing.rating.rate_card import Boundary, ContextRange, PriceFactor, Variation

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = [
    "DIMENSIONS",
    "USUAL_REGIONS",
    "ContextPrices",
    "PriceSet",
    "SelectedPrices",
    "boundary_of",
    "compile_price_set",
]

DIMENSIONS: Final = ("region", "mode", "window")
"""The dimensions of variants, in the order in which they apply. The price file has them as ``regions`` and so on."""

USUAL_REGIONS: Final = frozenset({"default", "global", "not_available"})
"""Names of regions, in lower case, that mean the usual price unless the file declares them."""


class ContextPrices(NamedTuple):
    """The prices from a boundary on."""

    boundary: Boundary
    prices: Mapping[str, Decimal]


class SelectedPrices(NamedTuple):
    """The prices that apply to one variation, before the default discounts and fees."""

    contexts: tuple[tuple[ContextRange, Mapping[str, Decimal]], ...]
    """In rising order of input tokens."""
    factors: tuple[PriceFactor, ...]
    minimum: Decimal | None


class PriceSet(NamedTuple):
    """The listed prices of a service tier, compiled."""

    prices: Mapping[str, Decimal]
    contexts: tuple[ContextPrices, ...]
    minimum: Decimal | None
    variants: Mapping[str, Mapping[str, PriceSet | Decimal]]
    """Dimension -> name -> a set of its own, or a factor."""

    @property
    def is_plain(self) -> bool:
        """Whether the start time and the mode of a request do not matter."""
        return not self.variants.get("window") and self.minimum is None

    def names(self, dimension: str) -> tuple[str, ...]:
        """Return the names of all variants of a dimension, also those inside of other variants."""
        found = dict.fromkeys(self.variants.get(dimension, ()))
        for variants in self.variants.values():
            for variant in variants.values():
                if isinstance(variant, PriceSet):
                    found |= dict.fromkeys(variant.names(dimension))
        return tuple(found)

    def options(self, dimension: str, chosen: Variation) -> Mapping[str, PriceSet | Decimal]:
        """Return the variants of a dimension that apply to what was chosen in the dimensions before it."""
        around = self._around(chosen)
        found: dict[str, PriceSet | Decimal] = {}
        for price_set in around:
            variants = price_set.variants.get(dimension, {})
            # Beside a set that replaces the prices, only factors still apply.
            found |= {
                name: variant
                for name, variant in variants.items()
                if price_set is around[-1] or isinstance(variant, Decimal)
            }
        return found

    def _around(self, chosen: Variation) -> list[PriceSet]:
        """Return this set, and every set inside of it that replaces the prices around it."""
        around = [self]
        for dimension, name in chosen.named():
            variant = next(
                (s.variants[dimension][name] for s in reversed(around) if name in s.variants.get(dimension, ())), None
            )
            if isinstance(variant, PriceSet):
                around.append(variant)
        return around

    def select(self, variation: Variation, meters: Mapping[str, Meter] = METERS) -> SelectedPrices:
        """Return the prices of a variation. Names without a variant change nothing."""
        current, factors = self, []
        around = [self]
        for dimension, name in variation.named():
            for candidate in reversed(around):
                variant = candidate.variants.get(dimension, {}).get(name)
                if variant is not None:
                    break
            if isinstance(variant, Decimal):
                factors.append(PriceFactor(dimension, name, variant))
            elif variant is not None:
                current = variant
                around.append(current)
        total = Decimal(1)
        for factor in factors:
            total = multiply(total, factor.factor)
        minimum = next((each.minimum for each in reversed(around) if each.minimum is not None), None)
        return SelectedPrices(_context_ranges(current, total, meters), tuple(factors), minimum)


def _context_ranges(
    price_set: PriceSet, factor: Decimal, meters: Mapping[str, Meter]
) -> tuple[tuple[ContextRange, Mapping[str, Decimal]], ...]:
    boundaries = [context.boundary for context in price_set.contexts]
    lower: list[Boundary | None] = [None, *boundaries]
    upper: list[Boundary | None] = [*boundaries, None]
    prices = [price_set.prices, *(context.prices for context in price_set.contexts)]
    names = ["short", *(["long"] if len(boundaries) == 1 else map(str, boundaries))]
    return tuple(
        (ContextRange(*context), _multiplied(listed, factor, meters))
        for *context, listed in zip(names, lower, upper, prices, strict=True)
    )


def _multiplied(prices: Mapping[str, Decimal], factor: Decimal, meters: Mapping[str, Meter]) -> Mapping[str, Decimal]:
    if factor == 1:
        return prices
    return {name: price if is_fee(name, meters) else multiply(price, factor) for name, price in prices.items()}


def is_fee(name: str, meters: Mapping[str, Meter] = METERS) -> bool:
    """Return whether a meter is the fee of a tool or of a router: no factor applies, and variants inherit it."""
    meter = meters.get(name) or REQUEST_METERS.get(name)
    return meter is not None and (meter.is_tool or name == "router_fee")


def boundary_of(item: schema.ContextPrices) -> Boundary:
    """Return the boundary of a context tier of the price file."""
    return Boundary(item.at_least, True) if item.at_least is not None else Boundary(item.above or 0, False)


def compile_price_set(item: schema.PriceSet, around: Mapping[str, Decimal] | None = None) -> PriceSet:
    """Compile a price set. What it does not state is inherited from the prices ``around`` it."""
    prices = {**(around or {}), **item.prices}
    variants: dict[str, Mapping[str, PriceSet | Decimal]] = {}
    for dimension in DIMENSIONS:
        stated: Mapping[str, schema.VariantPrices] = getattr(item, f"{dimension}s")
        if stated:
            variants[dimension] = {
                name: variant.factor if variant.factor is not None else compile_price_set(variant, prices)
                for name, variant in stated.items()
            }
    contexts = tuple(ContextPrices(boundary_of(tier), {**prices, **tier.prices}) for tier in item.long_context)
    return PriceSet(prices, contexts, item.minimum, variants)
