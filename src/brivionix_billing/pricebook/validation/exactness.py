"""Checks that every price, with all factors on it, is a whole number of 10^-18 Credit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, cached_property, reduce
from itertools import product
from typing import Final

from brivionix_billing.decimals import (
    after_discount,
    decimal_from_scaled,
    decimal_places,
    format_plain,
    multiply,
    to_scaled,
)
from brivionix_billing.meters import METERS, REQUEST_METERS, TOKEN_METERS, Meter, custom_meter
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.price_sets import DIMENSIONS
from brivionix_billing.pricebook.validation.findings import ParsedSections, Path, UnlocatedFinding
from brivionix_billing.rating.rate_card import UNIT_DECIMALS, unit_rate

__all__ = ["check_exactness"]

_ONE = Decimal(1)
_UNCACHED = frozenset(meter.uncached_meter for meter in TOKEN_METERS if meter.cache == "read")
"""Meters whose price less the default cache discount is a price, too."""


@dataclass(frozen=True)
class _Factors:
    """Everything that a price of one kind can be multiplied by."""

    ratios: frozenset[Decimal]
    shares: frozenset[Decimal]
    """What remains after a default cache discount."""
    exchange: frozenset[Decimal]
    inverse_places: int | None
    """Decimal places of 1 / nominal_per_credit; ``None`` if they never end."""

    @cached_property
    def places(self) -> int:
        """Most decimal places of a product of these factors."""
        return sum(_most_places(each) for each in (self.ratios, self.shares, self.exchange))

    def room(self, meter: Meter | None, variants: frozenset[Decimal]) -> int:
        """Return the decimal places that a price may have so that every product is exact."""
        if self.inverse_places is None:
            return -100
        unit = _POWERS_OF_TEN.get(1 if meter is None else meter.per * 10**meter.places)
        if unit is None:
            return -100
        return UNIT_DECIMALS - unit - self.places - _most_places(variants) - self.inverse_places


_POWERS_OF_TEN = {10**power: power for power in range(40)}


@cache
def _most_places(numbers: frozenset[Decimal]) -> int:
    return max(map(decimal_places, numbers))


def check_exactness(file: ParsedSections, credit: schema.Credit) -> Iterator[UnlocatedFinding]:
    """Yield prices that are not a whole number of units. Usually the number of digits proves that they are."""
    ratios = {_ONE}
    for group in file.groups.values():
        for terms in group.terms:
            ratios |= {terms.ratio, *(o.ratio for o in terms.overrides.values() if o.ratio is not None)}
    shares = frozenset({_ONE, *(after_discount(entry.discount) for entry in file.cache_discount)})
    plain = _Factors(frozenset(ratios), shares, frozenset({_ONE}), _inverse_places(credit.nominal_per_credit))
    own = replace(plain, ratios=frozenset({_ONE}))
    meters = {**METERS, **REQUEST_METERS}
    meters |= {name: custom_meter(name, item.unit, item.per) for name, item in file.meters.items()}
    for name, fees in file.tools.fees.items():
        for index, fee in enumerate(fees):
            if name in meters:
                yield from _check_price(
                    ("tools", name, index, "per_1000_calls"),
                    fee.per_1000_calls,
                    meters[name],
                    plain,
                    _NO_VARIANTS,
                    credit,
                )
    path: Path
    for name, model in file.models.items():
        rates = file.exchange_rates.get(model.currency or "")
        factors = replace(plain, exchange=frozenset(rate.rate for rate in rates)) if rates else plain
        for index, entry in enumerate(model.prices):
            for tier, item in entry.tiers.items():
                path = ("models", name, "prices", index, tier)
                yield from _check_set(path, item, meters, factors, _variant_factors(item), credit)
    for name, group in file.groups.items():
        for index, terms in enumerate(group.terms):
            for model_name, override in terms.overrides.items():
                for tier, item in (override.prices.tiers if override.prices else {}).items():
                    path = ("groups", name, "terms", index, "overrides", model_name, "prices", tier)
                    yield from _check_set(path, item, meters, own, _variant_factors(item), credit)


_PARTS: Final = ("ratio", "rest of the cache discount", "exchange rate", "factor")
_NO_VARIANTS: frozenset[Decimal] = frozenset({_ONE})


def _variant_factors(item: schema.PriceSet) -> frozenset[Decimal]:
    """Return every product of the factors in a price set."""
    products = {_ONE}
    for dimension in DIMENSIONS:
        found = set(_factors_of(item, f"{dimension}s"))
        products |= {multiply(product, factor) for product in products for factor in found}
    return frozenset(products)


def _factors_of(item: schema.PriceSet, section: str) -> Iterator[Decimal]:
    for name in ("regions", "modes", "windows"):
        for variant in getattr(item, name).values():
            if variant.factor is None:
                yield from _factors_of(variant, section)
            elif name == section:
                yield variant.factor


def _check_set(
    path: Path,
    item: schema.PriceSet,
    meters: dict[str, Meter],
    factors: _Factors,
    variants: frozenset[Decimal],
    credit: schema.Credit,
) -> Iterator[UnlocatedFinding]:
    sets: Iterable[tuple[Path, schema.MeterPrices]] = [
        (path, item),
        *(((*path, "long_context", index), tier) for index, tier in enumerate(item.long_context)),
    ]
    for here, prices in sets:
        for name, price in prices.prices.items():
            if name in meters:
                yield from _check_price((*here, name), price, meters[name], factors, variants, credit)
    if item.minimum is not None:
        yield from _check_price((*path, "minimum"), item.minimum, None, factors, _NO_VARIANTS, credit)
    for section in ("regions", "modes", "windows"):
        for name, variant in getattr(item, section).items():
            if variant.factor is None:
                yield from _check_set((*path, section, name), variant, meters, factors, variants, credit)


def _check_price(
    path: Path,
    price: Decimal,
    meter: Meter | None,
    factors: _Factors,
    variants: frozenset[Decimal],
    credit: schema.Credit,
) -> Iterator[UnlocatedFinding]:
    if -int(price.as_tuple().exponent) <= factors.room(meter, variants):
        return
    shares = factors.shares if meter is not None and meter.name in _UNCACHED else _NO_VARIANTS
    per = 1 if meter is None else meter.per * 10**meter.places
    unit = "minimum charge" if meter is None else "token or call" if meter.is_token or meter.is_tool else meter.unit
    nominal = credit.nominal_per_credit
    for parts in product(*map(sorted, (factors.ratios, shares, factors.exchange, variants))):
        factor = reduce(multiply, parts)
        if unit_rate(price, factor, per, nominal) is None:
            stated = [format_plain(price)]
            stated += [
                f"{format_plain(part)} ({what})" for part, what in zip(parts, _PARTS, strict=True) if part != _ONE
            ]
            yield UnlocatedFinding(
                path,
                f"{' x '.join(stated)} / {format_plain(nominal)} is not a whole number of 10^-18 Credit per {unit}",
                "round the price or the ratio",
            )
            return


def _inverse_places(value: Decimal) -> int | None:
    """Return the decimal places of ``1 / value``, or ``None`` if they never end."""
    numerator, scale = to_scaled(value)
    inverse, rest = divmod(10 ** (64 + scale), numerator)
    return None if rest else decimal_places(decimal_from_scaled(inverse, 64))
