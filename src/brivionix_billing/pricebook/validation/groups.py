"""Checks the terms of groups."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from brivionix_billing.errors import safe_repr
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.patterns import assign_patterns, is_pattern, matcher
from brivionix_billing.pricebook.price_sets import DIMENSIONS, PriceSet, compile_price_set
from brivionix_billing.pricebook.validation.findings import (
    ParsedSections,
    Path,
    UnlocatedFinding,
    check_dates,
    suggest,
)
from brivionix_billing.pricebook.validation.models import check_price_set
from brivionix_billing.rating.rate_card import Variation
from brivionix_billing.times import END_OF_TIME, Timeline

__all__ = ["check_group"]

_MODEL_HINT = "write a model's name, or a pattern that matches one"


def check_group(path: Path, group: schema.Group, file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Check the dated terms of a group."""
    yield from check_dates((*path, "terms"), group.terms)
    for index, terms in enumerate(group.terms):
        here = (*path, "terms", index)
        for place, pattern in enumerate(terms.models):
            # A file without models is the start of an import, which patterns are for.
            is_pending = not file.names and is_pattern(pattern)
            if not is_pending and pattern not in file.names and not any(map(matcher([pattern]), file.names)):
                yield UnlocatedFinding(
                    (*here, "models", place),
                    f"no model {safe_repr(pattern)} in this file",
                    suggest(pattern, file.names, _MODEL_HINT),
                )
        follower = group.terms[index + 1].since if index + 1 < len(group.terms) else END_OF_TIME
        span = terms.since, min(terms.until or END_OF_TIME, follower)
        yield from _check_overrides((*here, "overrides"), terms, span, file)


def _check_overrides(
    path: Path, terms: schema.DatedTerms, span: tuple[datetime, datetime], file: ParsedSections
) -> Iterator[UnlocatedFinding]:
    """Check that each override applies to a model of the terms, and that its prices fit each model it applies to."""
    allowed = list(filter(matcher(terms.models), file.names))
    assigned = assign_patterns(terms.overrides, allowed)
    conflicts: set[tuple[str, ...]] = set()
    for name, winners in assigned.items():
        if len(winners) > 1 and winners not in conflicts:
            conflicts.add(winners)
            yield UnlocatedFinding(
                (*path, winners[1]),
                f"this pattern and {safe_repr(winners[0])} match {safe_repr(name)}, and neither is more specific",
                "write more characters in one of them, or the full name",
                at_key=True,
            )
    for key, override in terms.overrides.items():
        at = (*path, key)
        models = [name for name, winners in assigned.items() if winners[0] == key]
        is_useful = models or (is_pattern(key) and (not file.names or any(map(matcher([key]), allowed))))
        if not is_useful:
            yield _useless_override(at, key, file)
        if (override.ratio is None) == (override.prices is None):
            yield UnlocatedFinding(
                at, "must have either ratio or prices", "a ratio replaces the group's; prices replace all"
            )
        if override.prices is None:
            continue
        for name in models:
            model = file.models.get(name)
            found = [] if model is None else list(_check_override((*at, "prices"), override.prices, model, span, file))
            if is_pattern(key):
                found = [each._replace(message=f"{name}: {each.message}") for each in found]
            yield from found
            if found:
                break  # the other models of a pattern have mostly the same findings


def _useless_override(path: Path, key: str, file: ParsedSections) -> UnlocatedFinding:
    if any(map(matcher([key]), file.names)):
        verb = "matches none of" if is_pattern(key) else "is not among"
        return UnlocatedFinding(path, f"{verb} the models of these terms", "add it to 'models'", at_key=True)
    return UnlocatedFinding(
        path, f"no model {safe_repr(key)} in this file", suggest(key, file.names, _MODEL_HINT), at_key=True
    )


def _check_override(
    path: Path,
    prices: schema.GroupPrices,
    model: schema.Model,
    span: tuple[datetime, datetime],
    file: ParsedSections,
) -> Iterator[UnlocatedFinding]:
    """Compare group-specific prices with the list prices that are effective during the terms."""
    begin, end = span
    for tier, own in prices.tiers.items():
        dated = Timeline([(e.since, e.until, e.tiers[tier]) for e in model.prices if tier in e.tiers])
        listed = [entry.value for entry in dated.entries if entry.start < end and begin < entry.end]
        here = (*path, tier)
        if not dated.entries:
            yield UnlocatedFinding(
                here, "the model is not sold in this tier", "remove it, or add the tier to the model"
            )
            continue
        yield from check_price_set(here, own, file)
        for name in sorted(set().union(*(item.prices for item in listed)) - own.prices.keys()):
            yield UnlocatedFinding(
                here,
                f"has no price for {name}",
                "price every meter of the list price; where that changes under these terms, append new terms",
            )
        own_set, listed_sets = compile_price_set(own), [compile_price_set(item) for item in listed]
        bounds = {_boundaries(item) for item in listed_sets}
        if listed and bounds != {_boundaries(own_set)}:
            wanted = " or ".join(sorted(", ".join(each) or "none" for each in bounds))
            yield UnlocatedFinding(
                here, "its long context is not that of the list price", f"the list price has {wanted}"
            )
        different = [] if len(bounds) != 1 else _different_contexts(own_set, listed_sets)
        if different:
            yield UnlocatedFinding(
                here, f"its long context in {different[0]} is not that of the list price", "use the same boundaries"
            )
        for dimension in DIMENSIONS:
            names = {item.names(dimension) for item in listed_sets}
            if listed and {frozenset(each) for each in names} != {frozenset(own_set.names(dimension))}:
                wanted = " or ".join(sorted(", ".join(each) or "none" for each in names))
                yield UnlocatedFinding(
                    here, f"its {dimension}s are not those of the list price", f"the list price has {wanted}"
                )


def _different_contexts(own: PriceSet, listed: list[PriceSet]) -> list[str]:
    """Return the variations in which the boundaries of two sets differ."""
    found = []
    for item in listed:
        for region in (None, *item.names("region")):
            for mode in (None, *item.names("mode")):
                for window in (None, *item.names("window")):
                    variation = Variation(region, mode, window)
                    ranges = [[context for context, _ in each.select(variation).contexts] for each in (own, item)]
                    if ranges[0] != ranges[1]:
                        found.append(", ".join(f"{dimension} {name}" for dimension, name in variation.named()))
    return [name for name in found if name]


def _boundaries(item: PriceSet) -> tuple[str, ...]:
    names = {True: "at least", False: "above"}
    return tuple(f"{names[context.boundary.is_inclusive]} {context.boundary.tokens}" for context in item.contexts)
