"""Checks models, their price sets, and the defaults for several models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from brivionix_billing.errors import safe_repr
from brivionix_billing.meters import METERS, Meter, custom_meter
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.patterns import is_pattern, matcher
from brivionix_billing.pricebook.price_sets import DIMENSIONS, USUAL_REGIONS, boundary_of
from brivionix_billing.pricebook.validation.findings import (
    ParsedSections,
    Path,
    UnlocatedFinding,
    check_dates,
    suggest,
)
from brivionix_billing.rating import SERVICE_TIERS
from brivionix_billing.times import format_instant

__all__ = ["check_defaults", "check_model", "check_price_set"]

_ORDER_HINT = "keep entries in order of time; append the newest at the end"


def check_defaults(file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Check the default cache discount and the default fees of tools."""
    yield from _check_default_entries(("cache_discount",), file.cache_discount, file)
    for name, fees in file.tools.fees.items():
        meter = _meter(name, file)
        if meter is None or not meter.is_tool:
            tools = [known.name for known in METERS.values() if known.is_tool]
            yield UnlocatedFinding(
                ("tools", name),
                f"the key {safe_repr(name)} is not known",
                suggest(name, tools, f"known here: {', '.join(tools)}"),
                at_key=True,
            )
        yield from _check_default_entries(("tools", name), fees, file)


def _check_default_entries(
    path: Path, entries: Sequence[schema.DefaultEntry], file: ParsedSections
) -> Iterator[UnlocatedFinding]:
    if all(entry.models is None for entry in entries):
        yield from check_dates(path, entries)
        return
    reach: list[frozenset[str]] = []
    for index, entry in enumerate(entries):
        yield from check_dates(path, [entry], [index])
        for place, pattern in enumerate(entry.models or ()):
            is_pending = not file.names and is_pattern(pattern)
            if not is_pending and not any(map(matcher([pattern]), file.names)):
                yield UnlocatedFinding(
                    (*path, index, "models", place),
                    f"no model {safe_repr(pattern)} in this file",
                    suggest(pattern, file.names, "write a model's name, or a pattern that matches one"),
                )
        reach.append(frozenset(file.names if entry.models is None else filter(matcher(entry.models), file.names)))
        for earlier in range(index):
            common = sorted(reach[earlier] & reach[index])
            if not common and entry.since >= entries[earlier].since:
                continue
            for problem in check_dates(path, [entries[earlier], entry], [earlier, index]):
                if problem.path[len(path)] == index and problem.path[-1] == "from":
                    yield problem


def check_model(path: Path, model: schema.Model, file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Check one model: limits, dates, names and prices."""
    for size in ("max_input", "max_output"):
        number, window = getattr(model.context, size), model.context.window
        if number is not None and window is not None and number > window:
            yield UnlocatedFinding(
                (*path, "context", size), "is more than the window", "write a smaller number of tokens"
            )
    own_currency = None if file.credit is None else file.credit.currency
    if model.currency not in (None, own_currency, *file.exchange_rates):
        yield UnlocatedFinding(
            (*path, "currency"),
            f"no exchange rate of {model.currency}",
            f"add what 1 {model.currency} is worth in {own_currency or 'the currency of credit'}: "
            f"exchange_rates: {{{model.currency}: [{{from: DATE, rate: RATE}}]}}",
        )
    for place, name in enumerate(model.tools or ()):
        if name not in file.tools.fees:
            yield UnlocatedFinding(
                (*path, "tools", place),
                f"{safe_repr(name)} has no default fee",
                suggest(name, file.tools.fees, "add it to 'tools' at the top, or to the prices of this model"),
            )
    for place, pattern in enumerate(model.routes_to):
        if not any(name != path[-1] for name in filter(matcher([pattern]), file.names)):
            yield UnlocatedFinding(
                (*path, "routes_to", place),
                f"no other model {safe_repr(pattern)} in this file",
                suggest(pattern, file.names, "write a model's name, or a pattern that matches one"),
            )
    yield from _check_entries(path, model, file)


def _check_entries(path: Path, model: schema.Model, file: ParsedSections) -> Iterator[UnlocatedFinding]:
    known = (*SERVICE_TIERS, *file.service_tiers)
    for index, entry in enumerate(model.prices):
        here = (*path, "prices", index)
        if model.released is not None and entry.since.date() < model.released:
            yield UnlocatedFinding(
                (*here, "from"), "is before the model was released", f"write {model.released} or later"
            )
        if index and entry.since < model.prices[index - 1].since:
            yield UnlocatedFinding(
                (*here, "from"),
                f"starts before the entry above it ({format_instant(model.prices[index - 1].since)})",
                _ORDER_HINT,
            )
        if not entry.tiers:
            yield UnlocatedFinding(here, "names no service tier", f"give prices for one of {', '.join(known)}")
        for tier in entry.tiers:
            if tier not in known:
                yield UnlocatedFinding(
                    (*here, tier),
                    f"the key {safe_repr(tier)} is not known",
                    suggest(tier, known, f"use one of {', '.join(known)}, or add it to service_tiers"),
                    at_key=True,
                )
    for tier in dict.fromkeys(tier for entry in model.prices for tier in entry.tiers):
        dated = [(i, entry) for i, entry in enumerate(model.prices) if tier in entry.tiers]
        for problem in check_dates((*path, "prices"), [e for _, e in dated], [i for i, _ in dated]):
            place = problem.path[len(path) + 1]
            # An entry out of order was reported above; this is two prices of one tier for the same time.
            out_of_order = isinstance(place, int) and model.prices[place].since < model.prices[max(0, place - 1)].since
            if not out_of_order:
                yield problem._replace(message=f"{tier}: {problem.message}")
        for index, entry in dated:
            tier_path = (*path, "prices", index, tier)
            yield from check_price_set(tier_path, entry.tiers[tier], file)
            yield from _check_router(tier_path, model, tier, entry.tiers[tier])


def _check_router(path: Path, model: schema.Model, tier: str, item: schema.PriceSet) -> Iterator[UnlocatedFinding]:
    if not model.routes_to:
        if "router_fee" in item.prices:
            yield UnlocatedFinding(
                (*path, "router_fee"), "the model is not a router", "add 'routes_to' to the model, or remove the fee"
            )
    elif tier != "standard" or item.model_fields_set != {"router_fee"}:
        yield UnlocatedFinding(
            path,
            "a router has one price, its fee",
            "write standard: {router_fee: 0.14}; all else is the price of the model that serves the request",
        )


def _meter(name: str, file: ParsedSections) -> Meter | None:
    declared = file.meters.get(name)
    return METERS.get(name) or (None if declared is None else custom_meter(name, declared.unit))


def _token_meters(prices: Iterable[str]) -> set[str]:
    return {name for name in prices if name == "reasoning" or (name in METERS and METERS[name].is_token)}


def check_price_set(
    path: Path, item: schema.PriceSet, file: ParsedSections, around: frozenset[str] = frozenset()
) -> Iterator[UnlocatedFinding]:
    """Check the prices of a service tier, with all that is inside them."""
    yield from _check_meters(path, item, file)
    base = _token_meters(item.prices)
    if not item.prices:
        yield UnlocatedFinding(path, "has no price", "give at least 'input'")
    for index, tier in enumerate(item.long_context):
        here = (*path, "long_context", index)
        yield from _check_meters(here, tier, file)
        yield from _check_same_meters(here, base, _token_meters(tier.prices), "as the tier has it")
        if (tier.above is None) == (tier.at_least is None):
            yield UnlocatedFinding(
                here, "must have either above or at_least", "write above: 272000 for more than 272000 input tokens"
            )
    for index, (before, here_tier) in enumerate(pairwise(item.long_context), 1):
        if boundary_of(here_tier).last_below <= boundary_of(before).last_below:
            yield UnlocatedFinding(
                (*path, "long_context", index), "its boundary is not above the one before it", "keep them in order"
            )
    yield from _check_variants(path, item, file, base)


def _check_variants(
    path: Path, item: schema.PriceSet, file: ParsedSections, base: set[str]
) -> Iterator[UnlocatedFinding]:
    sections = [f"{dimension}s" for dimension in DIMENSIONS]
    for section in sections:
        variants: dict[str, schema.VariantPrices] = getattr(item, section)
        for name, variant in variants.items():
            here = (*path, section, name)
            if section == "windows" and name not in file.calendars:
                yield UnlocatedFinding(
                    here,
                    f"no calendar {safe_repr(name)} in this file",
                    suggest(name, file.calendars, "add it to 'calendars'"),
                    at_key=True,
                )
            if section == "regions" and name.lower() in USUAL_REGIONS and not _is_declared_region(name, file):
                yield UnlocatedFinding(
                    here,
                    f"{safe_repr(name)} means the price without a region",
                    "write it outside 'regions'"
                    + ("" if name == "default" else f", or declare regions: {{{name}: []}}"),
                    at_key=True,
                )
            if variant.factor is not None:
                if variant.prices or variant.model_fields_set != {"factor"}:
                    yield UnlocatedFinding(here, "has a factor and prices", "keep one of them")
                continue
            yield from check_price_set(here, variant, file)
            yield from _check_same_meters(here, base, _token_meters(variant.prices), "as the prices around it have it")
            for inner in sections[: sections.index(section) + 1]:
                if getattr(variant, inner):
                    yield UnlocatedFinding(
                        (*here, inner), f"{inner} cannot be inside {section}", "regions hold modes, and modes windows"
                    )
            for later in sections[sections.index(section) + 1 :]:
                for rival, prices in getattr(item, later).items():
                    if prices.factor is None and rival not in getattr(variant, later):
                        yield UnlocatedFinding(
                            here,
                            f"has its own prices, and so has {later}.{rival}: which of them applies to both?",
                            f"write {later}: {{{rival}: ...}} inside {section}.{name}",
                        )


def _is_declared_region(name: str, file: ParsedSections) -> bool:
    return name != "default" and name.lower() in map(str.lower, file.regions)


def _check_meters(path: Path, item: schema.MeterPrices, file: ParsedSections) -> Iterator[UnlocatedFinding]:
    for name in item.prices:
        if name not in schema.KNOWN_METERS and name not in file.meters:
            known = (*schema.KNOWN_METERS, *file.meters)
            yield UnlocatedFinding(
                (*path, name),
                f"the key {safe_repr(name)} is not known",
                suggest(name, known, "use the name of a meter, or add it to 'meters'"),
                at_key=True,
            )


def _check_same_meters(path: Path, base: set[str], there: set[str], where: str) -> Iterator[UnlocatedFinding]:
    for name in sorted(base - there):
        yield UnlocatedFinding(path, f"has no price for {name}", f"add '{name}', {where}")
    for name in sorted(there - base):
        yield UnlocatedFinding((*path, name), "has no price in the tier itself", "price it in both")
