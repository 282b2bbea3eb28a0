"""Compares the prices of a catalog with those that a price file has at some time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import after_discount, multiply
from brivionix_billing.importing.calendar_matching import common_windows
from brivionix_billing.importing.catalog import PriceSet
from brivionix_billing.importing.price_sets import VARIANT_KEYS, context_list
from brivionix_billing.importing.units import TOKEN_METERS, TOOL_METERS, sort_meters
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.times import parse_instant

__all__ = ["FileDefaults", "changed_tiers", "lost_contexts", "set_in_force"]

_CACHE_READS: Final = {
    meter.name: meter.uncached_meter
    for meter in METERS.values()
    if meter.cache == "read" and meter.fallback not in meter.parents[:1] and meter.uncached_meter is not None
}
_LEVEL_KEYS: Final = frozenset({"above", "at_least", "long_context", *VARIANT_KEYS})


class FileDefaults:
    """The defaults of a price file that apply to one model at one time: fees of tools, and the cache discount."""

    def __init__(self, data: Mapping[str, Any], model: str, at: datetime) -> None:
        stated = data["models"].get(model, {})
        allowed = stated.get("tools")
        self.fees: dict[str, Any] = {}
        # Default fees are in the currency of the Credits.
        currency = data["credit"]["currency"]
        in_nominal = (stated.get("currency") or currency) == currency
        for tool, entries in (data.get("tools") or {}).items() if in_nominal else ():
            entry = _in_force(entries, model, at)
            if entry is not None and (allowed is None or tool in allowed):
                self.fees[tool] = entry["per_1000_calls"]
        discount = _in_force(data.get("cache_discount") or (), model, at)
        applies = discount is not None and stated.get("cache_discount", True)
        self.discount = Decimal(discount["discount"]) if discount is not None and applies else None

    def complete(self, prices: Mapping[str, Any]) -> dict[str, Any]:
        """Return the prices of one level with the defaults for what they do not state."""
        out = dict(prices)
        for cached, plain in _CACHE_READS.items():
            if cached not in out and plain in out and self.discount is not None:
                out[cached] = multiply(Decimal(out[plain]), after_discount(self.discount))
        return {**self.fees, **out}


def _in_force(entries: Iterable[Mapping[str, Any]], model: str, at: datetime) -> Mapping[str, Any] | None:
    found = None
    for entry in entries:
        patterns = entry.get("models")
        if _started(entry, at) and (patterns is None or matcher(patterns)(model)):
            found = entry
    return found


def _started(entry: Mapping[str, Any], at: datetime) -> bool:
    until = entry.get("until")
    return parse_instant(entry["from"]) <= at and (until is None or at < parse_instant(until))


def set_in_force(entries: Sequence[Mapping[str, Any]], tier: str, at: datetime) -> Mapping[str, Any] | None:
    """Return the price set of a service tier at a time, or ``None`` if the model is not sold in it."""
    found = None
    for entry in entries:
        if tier in entry and parse_instant(entry["from"]) <= at:
            found = entry[tier] if _started(entry, at) else None
    return found


def changed_tiers(
    entries: Sequence[Mapping[str, Any]],
    tiers: Mapping[str, PriceSet],
    at: datetime,
    defaults: FileDefaults,
    minutes: Mapping[str, int],
) -> dict[str, PriceSet]:
    """Return the price sets of the tiers that differ from those in force.

    Only what the source states is compared. A changed set keeps what only the price file states. ``minutes`` has the
    minutes of the week of all calendars.
    """
    out: dict[str, PriceSet] = {}
    for tier, imported in tiers.items():
        current = set_in_force(entries, tier, at)
        if current is None:
            out[tier] = _without_defaults(imported, defaults)
        elif not _covers(_comparable(current, imported), imported, defaults, minutes):
            out[tier] = _carry_over(current, _without_defaults(imported, defaults))
    return out


def lost_contexts(entries: Sequence[Mapping[str, Any]], tiers: Mapping[str, PriceSet], at: datetime) -> list[str]:
    """Return the tiers whose prices of long context a new entry would not have any more."""
    return [
        tier
        for tier, prices in tiers.items()
        if "long_context" not in prices and "long_context" in (set_in_force(entries, tier, at) or {})
    ]


def _comparable(current: Mapping[str, Any], imported: PriceSet) -> Mapping[str, Any]:
    """Return a set without its prices of long context if the source states none."""
    if "long_context" in imported:
        return current
    return {name: value for name, value in current.items() if name != "long_context"}


def _without_defaults(imported: PriceSet, defaults: FileDefaults) -> PriceSet:
    return {
        name: value for name, value in imported.items() if name not in TOOL_METERS or defaults.fees.get(name) != value
    }


def _covers(
    current: Mapping[str, Any], imported: Mapping[str, Any], defaults: FileDefaults, minutes: Mapping[str, int]
) -> bool:
    """Return whether everything that the source states is in force already, in every minute of the week."""
    pairs: Iterable[tuple[str | None, str | None]] = [(None, None)]
    if imported.get("windows"):
        weeks = [{name: minutes[name] for name in each.get("windows") or ()} for each in (current, imported)]
        pairs = common_windows(*weeks)
    if not all(
        _covers_prices(_variant(current, "windows", ours), _variant(imported, "windows", theirs), defaults)
        for ours, theirs in pairs
    ):
        return False
    return all(
        name in (current.get(key) or {})
        and _covers_prices(_variant(current, key, name), _variant(imported, key, name), defaults)
        for key in VARIANT_KEYS
        if key != "windows"
        for name in imported.get(key) or {}
    )


def _covers_prices(current: Mapping[str, Any], imported: Mapping[str, Any], defaults: FileDefaults) -> bool:
    """Compare the prices of two sets without their variants, at every length."""
    ours, theirs = context_list(current), context_list(imported)
    if [_bounds(level) for level in ours] != [_bounds(level) for level in theirs]:
        return False
    for one, other in zip([current, *ours], [imported, *theirs], strict=True):
        known = defaults.complete({**_meters(current), **_meters(one)})
        if any(known.get(name) != price for name, price in _meters(other).items()):
            return False
    return True


def _variant(price_set: Mapping[str, Any], key: str, name: str | None) -> Mapping[str, Any]:
    """Return the prices of a variant: the factor is multiplied out, and what it does not state is inherited."""
    if name is None:
        return price_set
    variant = price_set[key][name]
    factor = variant.get("factor")
    if factor is None:
        return {**_meters(price_set), **variant}
    levels = [{**level, **_multiplied(level, Decimal(factor))} for level in context_list(price_set)]
    return {**_multiplied(price_set, Decimal(factor)), **({"long_context": levels} if levels else {})}


def _multiplied(level: Mapping[str, Any], factor: Decimal) -> dict[str, Any]:
    return {
        name: price if name in TOOL_METERS else multiply(Decimal(price), factor)
        for name, price in _meters(level).items()
    }


def _meters(level: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in level.items() if name not in _LEVEL_KEYS}


def _bounds(level: Mapping[str, Any]) -> tuple[Any, Any]:
    return level.get("above"), level.get("at_least")


def _carry_over(current: Mapping[str, Any], imported: PriceSet) -> PriceSet:
    """Return the imported set with the meters and variants that only the current one has."""
    kept = {name: value for name, value in _meters(current).items() if name not in imported}
    far = {_bounds(level): level for level in context_list(current)}
    meters = {**_meters(imported), **kept}
    out: PriceSet = {name: meters[name] for name in sort_meters(meters)}
    levels = []
    for level in context_list(imported):
        there: Mapping[str, Any] = far.get(_bounds(level), {})
        around: dict[str, Any] = {n: there.get(n, v) for n, v in kept.items() if n in TOKEN_METERS}
        own = around | _meters(level)
        bounds: dict[str, Any] = {key: level[key] for key in ("above", "at_least") if key in level}
        levels.append({**bounds, **{name: own[name] for name in sort_meters(own)}})
    if levels:
        out["long_context"] = levels[0] if len(levels) == 1 else levels
    for key in VARIANT_KEYS:
        variants: dict[str, Any] = {**(current.get(key) or {}), **(imported.get(key) or {})}
        if key == "windows" and imported.get(key):
            variants = imported[key]  # of a whole week, in which windows of the file would apply a second time
        if variants:
            out[key] = variants
    return out
