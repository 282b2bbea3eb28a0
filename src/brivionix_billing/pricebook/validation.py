"""Validates what the schema cannot express: dates in order, names that exist, prices that the unit can represent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, NamedTuple, cast

from brivionix_billing.decimals import (
    after_discount,
    decimal_from_scaled,
    decimal_places,
    format_plain,
    multiply,
    to_scaled,
)
from brivionix_billing.errors import safe_repr
from brivionix_billing.meters import CALL_METERS, METERS_BY_NAME, TOKEN_METERS, Meter
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.rating.charge import UNIT_DECIMALS
from brivionix_billing.rating.rate_card import SERVICE_TIERS, unit_rate
from brivionix_billing.times import END_OF_TIME, Timeline, format_instant
from brivionix_billing.topup import CREDIT_PLACES

__all__ = ["UnlocatedFinding", "ParsedSections", "validate"]

Path = tuple[int | str, ...]


class UnlocatedFinding(NamedTuple):
    """A finding at ``path``; if ``at_key``, at the name itself instead of its value."""

    path: Path
    message: str
    hint: str
    at_key: bool = False


class ParsedSections(NamedTuple):
    """The sections of a file that could be parsed; ``names`` has all model names, parsed or not."""

    names: Sequence[str]
    credit: schema.Credit | None
    cache_discount: Sequence[schema.CacheDiscount]
    tools: schema.Tools
    channels: dict[str, schema.Channel]
    models: dict[str, schema.Model]
    groups: dict[str, schema.Group]


def validate(file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Yield all findings, in no particular order."""
    yield from _check_dates(("cache_discount",), file.cache_discount)
    for meter in CALL_METERS:
        yield from _check_dates(("tools", meter.name), getattr(file.tools, meter.name))
    for name, channel in file.channels.items():
        yield from _check_channel(("channels", name), channel)
    yield from _check_aliases(file)
    for name, model in file.models.items():
        yield from _check_model(("models", name), model)
    for name, group in file.groups.items():
        yield from _check_group(("groups", name), group, file)
    if file.credit is not None:
        yield from _check_exactness(file, file.credit.nominal_per_credit)


def _check_dates(
    path: Path, entries: Sequence[schema.DatedEntry], indexes: Sequence[int] | None = None
) -> Iterator[UnlocatedFinding]:
    """Check that each entry starts after the previous one, and that no ``until`` overlaps the next."""
    places = range(len(entries)) if indexes is None else indexes
    before: schema.DatedEntry | None = None
    for place, entry in zip(places, entries, strict=True):
        if entry.until is not None and entry.until <= entry.since:
            yield UnlocatedFinding(
                (*path, place, "until"), "ends before it starts", f"write a time after {format_instant(entry.since)}"
            )
        if before is not None:
            if entry.since <= before.since:
                yield UnlocatedFinding(
                    (*path, place, "from"),
                    f"starts at {format_instant(entry.since)}, not after the entry before it "
                    f"({format_instant(before.since)})",
                    "keep entries in order of time; append the newest at the end",
                )
            elif before.until is not None and before.until > entry.since:
                yield UnlocatedFinding(
                    (*path, place, "from"),
                    f"starts at {format_instant(entry.since)}, while the entry before it is effective until "
                    f"{format_instant(before.until)}",
                    "dates may not overlap",
                )
        before = entry


def _check_channel(path: Path, channel: schema.Channel) -> Iterator[UnlocatedFinding]:
    yield from _check_dates((*path, "prices"), channel.prices)
    yield from _check_dates((*path, "volume_discounts"), channel.volume_discounts)
    if (
        channel.min_payment is not None
        and channel.max_payment is not None
        and channel.min_payment > channel.max_payment
    ):
        yield UnlocatedFinding((*path, "min_payment"), "is more than max_payment", "write a smaller amount")
    for index, volume in enumerate(channel.volume_discounts):
        for place, (before, here) in enumerate(pairwise(volume.tiers), 1):
            for name in ("at_least", "discount"):
                if getattr(here, name) <= getattr(before, name):
                    yield UnlocatedFinding(
                        (*path, "volume_discounts", index, "tiers", place, name),
                        f"is not more than in the tier before ({format_plain(getattr(before, name))})",
                        "thresholds and discounts rise from tier to tier",
                    )
        for place, tier in enumerate(volume.tiers):
            if decimal_places(tier.at_least) > CREDIT_PLACES:
                yield UnlocatedFinding(
                    (*path, "volume_discounts", index, "tiers", place, "at_least"),
                    "has more than 6 decimal places",
                    "Credits are sold in steps of 0.000001",
                )


def _check_aliases(file: ParsedSections) -> Iterator[UnlocatedFinding]:
    owner: dict[str, str] = {}
    for name, model in file.models.items():
        for place, alias in enumerate(model.aliases):
            other = alias if alias in file.names else owner.setdefault(alias, name)
            if alias in file.names or other != name or alias in model.aliases[:place]:
                yield UnlocatedFinding(
                    ("models", name, "aliases", place),
                    f"the alias {safe_repr(alias)} is taken by {safe_repr(other)}",
                    "use a name for one model only",
                )


def _check_model(path: Path, model: schema.Model) -> Iterator[UnlocatedFinding]:
    for size in ("max_input", "max_output"):
        if getattr(model.context, size) > model.context.window:
            yield UnlocatedFinding(
                (*path, "context", size), "is more than the window", "write a smaller number of tokens"
            )
    for index, entry in enumerate(model.prices):
        here = (*path, "prices", index)
        if entry.since.date() < model.released:
            yield UnlocatedFinding(
                (*here, "from"), "is before the model was released", f"write {model.released} or later"
            )
        if index and entry.since < model.prices[index - 1].since:
            yield UnlocatedFinding(
                (*here, "from"),
                f"starts before the entry above it ({format_instant(model.prices[index - 1].since)})",
                "keep entries in order of time; append the newest at the end",
            )
        if not any(getattr(entry, tier) for tier in SERVICE_TIERS):
            yield UnlocatedFinding(here, "names no service tier", f"give prices for one of {', '.join(SERVICE_TIERS)}")
    for tier in SERVICE_TIERS:
        dated = [(i, entry) for i, entry in enumerate(model.prices) if getattr(entry, tier)]
        for problem in _check_dates((*path, "prices"), [e for _, e in dated], [i for i, _ in dated]):
            place = problem.path[len(path) + 1]
            # An entry out of order was reported above; this is two prices of one tier for the same time.
            out_of_order = isinstance(place, int) and model.prices[place].since < model.prices[max(0, place - 1)].since
            if not out_of_order:
                yield problem._replace(message=f"{tier}: {problem.message}")
        for index, entry in dated:
            yield from _check_tier((*path, "prices", index, tier), getattr(entry, tier))


def _priced_meters(prices: schema.MeterPrices) -> set[str]:
    return {meter.name for meter in TOKEN_METERS if getattr(prices, meter.name) is not None}


def _check_tier(path: Path, prices: schema.TierPrices) -> Iterator[UnlocatedFinding]:
    base = _priced_meters(prices)
    if not base:
        yield UnlocatedFinding(path, "has no price", "give at least 'input'")
    if prices.long_context is not None:
        far = _priced_meters(prices.long_context)
        for name in sorted(base - far):
            yield UnlocatedFinding(
                (*path, "long_context"), f"has no price for {name}", f"add '{name}', as the tier has it"
            )
        for name in sorted(far - base):
            yield UnlocatedFinding((*path, "long_context", name), "has no price in the tier itself", "price it in both")


def _check_group(path: Path, group: schema.Group, file: ParsedSections) -> Iterator[UnlocatedFinding]:
    yield from _check_dates((*path, "terms"), group.terms)
    for index, terms in enumerate(group.terms):
        here = (*path, "terms", index)
        for place, pattern in enumerate(terms.models):
            if pattern not in file.names and not any(map(matcher([pattern]), file.names)):
                yield UnlocatedFinding(
                    (*here, "models", place),
                    f"no model {safe_repr(pattern)} in this file",
                    _suggest_model(pattern, file),
                )
        for name, override in terms.overrides.items():
            at = (*here, "overrides", name)
            if name not in file.names:
                yield UnlocatedFinding(
                    at, f"no model {safe_repr(name)} in this file", _suggest_model(name, file), at_key=True
                )
            elif not matcher(terms.models)(name):
                yield UnlocatedFinding(at, "is not among the models of these terms", "add it to 'models'", at_key=True)
            if (override.ratio is None) == (override.prices is None):
                yield UnlocatedFinding(
                    at, "must have either ratio or prices", "a ratio replaces the group's; prices replace all"
                )
            model = file.models.get(name)
            if override.prices is not None and model is not None:
                follower = group.terms[index + 1].since if index + 1 < len(group.terms) else END_OF_TIME
                span = terms.since, min(terms.until or END_OF_TIME, follower)
                yield from _check_override((*at, "prices"), override.prices, model, span)


def _check_override(
    path: Path, prices: schema.GroupPrices, model: schema.Model, span: tuple[datetime, datetime]
) -> Iterator[UnlocatedFinding]:
    """Compare group-specific prices with the list prices that are effective during the terms."""
    begin, end = span
    for tier in SERVICE_TIERS:
        own: schema.TierPrices | None = getattr(prices, tier)
        if own is None:
            continue
        dated = Timeline([(e.since, e.until, getattr(e, tier)) for e in model.prices if getattr(e, tier)])
        listed = [entry.value for entry in dated.entries if entry.start < end and begin < entry.end]
        here = (*path, tier)
        if not dated.entries:
            yield UnlocatedFinding(
                here,
                "the model is not sold in this tier",
                "remove it, or add the tier to the model",
            )
            continue
        yield from _check_tier(here, own)
        for name in sorted(set().union(*map(_priced_meters, listed)) - _priced_meters(own)):
            yield UnlocatedFinding(
                here,
                f"has no price for {name}",
                "price every meter of the list price; where that changes under these terms, append new terms",
            )
        bounds = {entry.long_context.above if entry.long_context else None for entry in listed}
        bound = own.long_context.above if own.long_context else None
        if listed and bounds != {bound}:
            wanted = " or ".join("none" if b is None else f"above {b}" for b in sorted(bounds, key=lambda b: b or 0))
            yield UnlocatedFinding(
                here, "its long context is not that of the list price", f"the list price has {wanted}"
            )


def _suggest_model(name: str, file: ParsedSections) -> str:
    close = get_close_matches(name, file.names, 1) if len(file.names) <= 500 else []
    return f"did you mean {safe_repr(close[0])}?" if close else "write a model's name, or a pattern that matches one"


def _check_exactness(file: ParsedSections, nominal_per_credit: Decimal) -> Iterator[UnlocatedFinding]:
    """Check that every price times every ratio is a whole number of units. Usually the number of digits proves it."""
    ratios = {Decimal(1)}
    for group in file.groups.values():
        for terms in group.terms:
            ratios |= {terms.ratio, *(o.ratio for o in terms.overrides.values() if o.ratio is not None)}
    shares = {Decimal(1), *(after_discount(entry.discount) for entry in file.cache_discount)}
    more = _inverse_decimal_places(nominal_per_credit)
    room = (
        -100
        if more is None
        else UNIT_DECIMALS - 6 - max(map(decimal_places, ratios)) - max(map(decimal_places, shares)) - more
    )
    for path, meter, price in _iter_prices(file):
        if -cast(int, price.as_tuple().exponent) <= room:
            continue
        # A default cached price is a share of an input price, so inputs are checked with every share as well.
        for ratio in ratios:
            for share in shares if any(m.uncached_meter == meter.name for m in TOKEN_METERS) else (Decimal(1),):
                factor = multiply(ratio, share)
                if unit_rate(price, factor, meter.per, nominal_per_credit) is None:
                    yield UnlocatedFinding(
                        path,
                        f"{format_plain(price)} x {format_plain(factor)} / {format_plain(nominal_per_credit)} is "
                        "not a whole number of 10^-18 Credit per token or call",
                        "round the price or the ratio",
                    )


def _inverse_decimal_places(value: Decimal) -> int | None:
    """Return the decimal places of ``1 / value``, or ``None`` if they never end."""
    numerator, scale = to_scaled(value)
    inverse, rest = divmod(10 ** (64 + scale), numerator)
    return None if rest else decimal_places(decimal_from_scaled(inverse, 64))


def _iter_prices(file: ParsedSections) -> Iterator[tuple[Path, Meter, Decimal]]:
    for path, prices in _iter_tiers(file):
        for meter in TOKEN_METERS:
            price = getattr(prices, meter.name)
            if price is not None:
                yield (*path, meter.name), meter, price
    for tool in schema.Tools.model_fields:
        for index, fee in enumerate(getattr(file.tools, tool)):
            yield ("tools", tool, index, "per_1000_calls"), METERS_BY_NAME[tool], fee.per_1000_calls


def _iter_tiers(file: ParsedSections) -> Iterator[tuple[Path, schema.MeterPrices]]:
    for name, model in file.models.items():
        for index, entry in enumerate(model.prices):
            yield from _iter_tiers_of(("models", name, "prices", index), entry)
    for name, group in file.groups.items():
        for index, terms in enumerate(group.terms):
            for model_name, override in terms.overrides.items():
                if override.prices is not None:
                    yield from _iter_tiers_of(
                        ("groups", name, "terms", index, "overrides", model_name, "prices"), override.prices
                    )


def _iter_tiers_of(path: Path, holder: Any) -> Iterator[tuple[Path, schema.MeterPrices]]:
    for tier in SERVICE_TIERS:
        prices: schema.TierPrices | None = getattr(holder, tier)
        if prices is not None:
            yield (*path, tier), prices
            if prices.long_context is not None:
                yield (*path, tier, "long_context"), prices.long_context
