"""Builds the price sets of a service tier: context tiers are complete, variants are factors where possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import multiply
from brivionix_billing.importing.amounts import RowError, exact_ratio, fits_price
from brivionix_billing.importing.catalog import Catalog, PriceSet
from brivionix_billing.importing.units import TOKEN_METERS, TOOL_METERS, sort_meters
from brivionix_billing.importing.windows import State, Week, calendar_name

__all__ = [
    "Boundary",
    "VARIANT_KEYS",
    "add_variant",
    "build_set",
    "context_list",
    "factor_fits",
    "meter_prices",
    "with_windows",
]

VARIANT_KEYS: Final = ("windows", "regions", "modes")
_OUTPUTS: Final = frozenset({"output", "reasoning", "citation", "audio_output", "image_output", "video_output"})


class Boundary(NamedTuple):
    """The number of input tokens that a context tier starts above, or if ``inclusive``, at."""

    tokens: int
    inclusive: bool = False


def meter_prices(price_set: Mapping[str, Any]) -> dict[str, Decimal]:
    """Return only the prices of a set."""
    return {name: price for name, price in price_set.items() if isinstance(price, Decimal)}


def context_list(price_set: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the context tiers of a set as a list."""
    found = price_set.get("long_context", [])
    return [found] if isinstance(found, dict) else list(found)


def build_set(base: Mapping[str, Decimal], contexts: Mapping[Boundary, Mapping[str, Decimal]]) -> PriceSet:
    """Return a price set. A context tier may state only what changes at its boundary.

    Tokens that have a price only from a boundary on cost what input or output costs below it, as in the sources that
    omit prices. Raises :class:`RowError` for any other price that exists only from a boundary on.
    """
    prices = dict(base)
    for stated in contexts.values():
        for name in stated:
            if name in prices:
                continue
            fallback = "output" if name in _OUTPUTS else "input"
            if name not in TOKEN_METERS or fallback not in prices:
                raise RowError(name, "has a price only above a number of input tokens")
            prices[name] = prices[fallback]
    out: PriceSet = {name: prices[name] for name in sort_meters(prices)}
    tiers: list[dict[str, Any]] = []
    current = prices
    for boundary in sorted(contexts):
        changed = {**current, **contexts[boundary]}
        if changed == current:
            continue
        current = changed
        written = {n: p for n, p in changed.items() if n in TOKEN_METERS or p != prices[n]}
        key = "at_least" if boundary.inclusive else "above"
        tiers.append({key: boundary.tokens, **{name: written[name] for name in sort_meters(written)}})
    if tiers:
        out["long_context"] = tiers[0] if len(tiers) == 1 else tiers
    return out


def add_variant(price_set: PriceSet, key: str, name: str, variant: PriceSet) -> None:
    """Add a set of prices of a window, region or mode: as a factor if it is one, not at all if nothing changes."""
    plain = {k: v for k, v in price_set.items() if k not in VARIANT_KEYS}
    factor = _common_factor(plain, variant)
    if factor == 1:
        return
    if factor is not None:
        price_set.setdefault(key, {})[name] = {"factor": factor}
        return
    inherited = {n for n, p in meter_prices(plain).items() if n not in TOKEN_METERS and variant.get(n) == p}
    price_set.setdefault(key, {})[name] = {n: v for n, v in variant.items() if n not in inherited}


def with_windows(catalog: Catalog, week: Week, set_of: Callable[[State], PriceSet]) -> PriceSet:
    """Return the prices of the usual state of a week, with those of the other states as windows."""
    out = set_of(week.usual)
    for state, calendars in week.calendars.items():
        for calendar in calendars:
            name = calendar_name(calendar)
            catalog.calendars[name] = calendar
            add_variant(out, "windows", name, set_of(state))
    return out


def factor_fits(price_set: Mapping[str, Any], factor: Decimal, meters: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether every price times the factor is a price that the price file holds."""
    return all(
        fits_price(multiply(price, factor), name, meters.get(name, {}).get("per"))
        for prices in _flat_sets(price_set)
        for name, price in prices.items()
        if name not in TOOL_METERS
    )


def _flat_sets(price_set: Mapping[str, Any]) -> Iterable[dict[str, Decimal]]:
    yield meter_prices(price_set)
    for tier in context_list(price_set):
        yield meter_prices(tier)
    for key in VARIANT_KEYS:
        for variant in price_set.get(key, {}).values():
            if "factor" not in variant:
                yield from _flat_sets(variant)


def _common_factor(base: Mapping[str, Any], variant: Mapping[str, Any]) -> Decimal | None:
    """Return the factor between two sets, if it is the same for every price."""
    ours, theirs = context_list(base), context_list(variant)
    if [_bounds(tier) for tier in ours] != [_bounds(tier) for tier in theirs]:
        return None
    if any(key in variant for key in VARIANT_KEYS):
        return None
    factor: Decimal | None = None
    for one, other in zip([base, *ours], [variant, *theirs], strict=True):
        prices, changed = meter_prices(one), meter_prices(other)
        if prices.keys() != changed.keys():
            return None
        for name, price in prices.items():
            if name in TOOL_METERS:
                if price != changed[name]:
                    return None
                continue
            if not price and not changed[name]:
                continue
            ratio = exact_ratio(changed[name], price)
            if not ratio or (factor is not None and ratio != factor):
                return None
            factor = ratio
    return Decimal(1) if factor is None else factor


def _bounds(tier: Mapping[str, Any]) -> tuple[Any, Any]:
    return tier.get("above"), tier.get("at_least")
