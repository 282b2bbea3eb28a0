"""Reviews a valid file: what it states that no table, page or bill will show. It moves no money, so it is a note."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Final

from brivionix_billing.decimals import format_plain, multiply
from brivionix_billing.errors import safe_repr
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.calendars import compile_calendar
from brivionix_billing.pricebook.compile import model_names
from brivionix_billing.pricebook.names import overlap
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.pricebook.validation.findings import Path, UnlocatedFinding
from brivionix_billing.rating.messages import LOCALES
from brivionix_billing.rating.service_tiers import SERVICE_TIERS
from brivionix_billing.times import format_instant

__all__ = ["review"]


def review(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    """Yield notes, in no particular order."""
    used = _Used(file)
    for section, names, declared in (
        ("meters", used.meters, file.meters),
        ("calendars", used.calendars, file.calendars),
        ("regions", used.regions | {"default"}, file.regions),
        ("exchange_rates", used.currencies, file.exchange_rates),
    ):
        for name in declared:
            if name not in names:
                yield UnlocatedFinding((section, name), "no price uses it", "use it in a price, or remove it", True)
    for tier, others in file.service_tiers.items():
        if tier not in used.tiers and not (others and tier in SERVICE_TIERS):
            yield UnlocatedFinding(
                ("service_tiers", tier), "no model is sold in this tier", "price it for a model, or remove it", True
            )
    for tier in file.labels.service_tiers:
        if tier not in used.tiers:
            message, hint = "no model is sold in this tier, so nothing shows it", "price the tier, or remove the label"
            yield UnlocatedFinding(("labels", "service_tiers", tier), message, hint, True)
    for region in file.labels.regions:
        if region not in used.regions:
            message, hint = "no price uses this region, so nothing shows it", "price the region, or remove the label"
            yield UnlocatedFinding(("labels", "regions", region), message, hint, True)
    if not file.models:
        yield UnlocatedFinding(("models",), "no model", "add one, or run import --into with this file", True)
    yield from _taken_names(file)
    yield from _small_prices(file)
    yield from _unreachable_models(file)
    yield from _unreachable_defaults(file)
    yield from _overlapping_windows(file)
    yield from _unreachable_patterns(file)
    yield from _unconverted_prices(file)
    yield from _missing_languages(file)


_LEAST_TOKEN: Final = Decimal("0.0002")
"""A price per 1 M tokens below this one is probably that of a single token."""
_LEAST_CALL: Final = Decimal("0.09")
"""The same of a price per 1000 calls."""


def _small_prices(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    """Yield prices that look like those of a single token or call."""
    for tool, fees in file.tools.fees.items():
        for index, fee in enumerate(fees):
            yield from _small_price(("tools", tool, index, "per_1000_calls"), tool, fee.per_1000_calls)
    for path, item in _price_sets(file):
        for meter, price in item.prices.items():
            yield from _small_price((*path, meter), meter, price)
        for place, context in enumerate(item.long_context):
            for meter, price in context.prices.items():
                yield from _small_price((*path, "long_context", place, meter), meter, price)


def _price_sets(file: schema.PriceFile) -> Iterator[tuple[Path, schema.PriceSet]]:
    """Yield the prices of each tier of models and overrides, and those of their regions, modes and windows."""
    sets: list[tuple[Path, schema.PriceSet]] = [
        (("models", name, "prices", index, tier), item)
        for name, model in file.models.items()
        for index, entry in enumerate(model.prices)
        for tier, item in entry.tiers.items()
    ]
    for name, group in file.groups.items():
        for index, terms in enumerate(group.terms):
            for model_name, override in terms.overrides.items():
                own = override.prices.tiers if override.prices else {}
                here = "groups", name, "terms", index, "overrides", model_name, "prices"
                sets += [((*here, tier), item) for tier, item in own.items()]
    while sets:
        path, item = sets.pop()
        yield path, item
        for section in ("regions", "modes", "windows"):
            sets += [((*path, section, name), variant) for name, variant in getattr(item, section).items()]


def _small_price(path: Path, name: str, price: Decimal) -> Iterator[UnlocatedFinding]:
    meter = METERS.get(name)
    least = None if meter is None else _LEAST_TOKEN if meter.is_token else _LEAST_CALL if meter.is_tool else None
    if meter is None or least is None or not 0 < price < least:
        return
    unit = "1 M tokens" if meter.is_token else "1000 calls"
    meant = format_plain(multiply(price, Decimal(meter.per)))
    yield UnlocatedFinding(path, f"{format_plain(price)} is a price per {unit}", f"did you mean {meant}?")


def _overlapping_windows(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    """Yield windows during which the price of an earlier window of the same tier applies."""
    calendars = {name: compile_calendar(name, item) for name, item in file.calendars.items()}
    overlapping = cache(lambda one, other: calendars[one].overlaps(calendars[other]))
    for path, item in _price_sets(file):
        names = list(item.windows)
        for index, name in enumerate(names):
            first = next((other for other in names[:index] if overlapping(other, name)), None)
            if first is not None:
                yield UnlocatedFinding(
                    (*path, "windows", name),
                    f"overlaps the window {safe_repr(first)}, whose price applies while both do, as it stands first",
                    "check that this order is meant, or write hours that do not overlap",
                    True,
                )


def _unreachable_patterns(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    """Yield patterns of ``aliases`` by which no name ever means a model."""
    names = model_names(file)
    meant = {*names.exact, *(f"{name}{mark}*" for name in names.exact for mark in "-@")}
    meant |= {pattern.text for pattern in names.patterns if "*" not in pattern.target}
    pending = {text: target for text, target in file.aliases.items() if "*" in text and "*" in target}
    while found := [text for text, target in pending.items() if _overlaps_any(target, meant)]:
        meant.update(found)
        for text in found:
            del pending[text]
    for text in pending:
        yield UnlocatedFinding(
            ("aliases", text), "no name that matches means a model", "correct what it means, or remove it", True
        )


def _overlaps_any(pattern: str, others: set[str]) -> bool:
    """Return whether a name exists that a pattern and one of the others match."""
    prefix = pattern.partition("*")[0]
    return any(
        overlap(pattern, other)
        for other in others
        if other.startswith(prefix) or prefix.startswith(other.partition("*")[0])  # the fast test of most
    )


def _unconverted_prices(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    """Yield the first price of models that starts before the exchange rate of its currency."""
    for name, model in file.models.items():
        rates = file.exchange_rates.get(model.currency or "")
        if rates and model.prices[0].since < rates[0].since:
            yield UnlocatedFinding(
                ("models", name, "prices", 0, "from"),
                f"no exchange rate of {model.currency} before {format_instant(rates[0].since)}, so requests until then "
                "have no price",
                "add an earlier rate to exchange_rates",
            )


class _Used:
    """The names that prices refer to."""

    def __init__(self, file: schema.PriceFile) -> None:
        self.meters: set[str] = {*file.tools.fees, *file.unaccounted.values()}
        self.calendars: set[str] = set()
        self.regions: set[str] = set()
        self.tiers: set[str] = set()
        self.currencies = {model.currency for model in file.models.values() if model.currency}
        for model in file.models.values():
            for entry in model.prices:
                for tier, item in entry.tiers.items():
                    self.tiers.add(tier)
                    self._add(item)

    def _add(self, item: schema.PriceSet) -> None:
        self.meters |= item.prices.keys()
        self.calendars |= item.windows.keys()
        self.regions |= item.regions.keys()
        for variants in (item.regions, item.modes, item.windows):
            for variant in variants.values():
                self._add(variant)


def _taken_names(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    """Yield models whose name would mean an older model without them: bills from before they existed used that one."""
    names = model_names(file)
    for name, model in file.models.items():
        other = names.resolve(name, ignored=name)
        if other is None or other == name:
            continue
        start, other_start = model.prices[0].since, file.models[other].prices[0].since
        if start > other_start:
            yield UnlocatedFinding(
                ("models", name),
                f"without this model, the name means {other}, which is older: requests of this name before "
                f"{format_instant(start)} have no price any more",
                f"if {other} was billed under this name, remove this model, and add its prices to {other}",
                True,
            )


def _unreachable_models(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    patterns = {pattern for group in file.groups.values() for terms in group.terms for pattern in terms.models}
    usable = matcher(patterns)
    for name in file.models:
        if not usable(name):
            yield UnlocatedFinding(
                ("models", name), "no group may use this model", "add it to the 'models' of a group", True
            )


def _unreachable_defaults(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    for tool, fees in file.tools.fees.items():
        for index, fee in enumerate(fees):
            if fee.models is None and len(file.models) > 1:
                yield UnlocatedFinding(
                    ("tools", tool, index),
                    f"the fee applies to all {len(file.models)} models, and every price table shows it for each",
                    'if not all of them have this tool, add models: ["gpt-*"]',
                )


def _missing_languages(file: schema.PriceFile) -> Iterator[UnlocatedFinding]:
    parts: list[tuple[Path, object, tuple[str, ...]]] = [
        *((("models", name), model, ("display_name", "vendor", "description")) for name, model in file.models.items()),
        *((("groups", name), group, ("display_name", "description")) for name, group in file.groups.items()),
        *((("channels", name), item, ("display_name", "description")) for name, item in file.channels.items()),
        *((("plans", name), item, ("display_name", "description")) for name, item in file.plans.items()),
        *((("calendars", name), item, ("display_name",)) for name, item in file.calendars.items()),
        *((("meters", name), item, ("label",)) for name, item in file.meters.items()),
        *((("labels", kind), texts, tuple(texts)) for kind, texts in file.labels),
    ]
    for path, part, fields in parts:
        for field in fields:
            texts: dict[str, str] | None = part[field] if isinstance(part, dict) else getattr(part, field)
            missing = [] if texts is None or "" in texts else [name for name in LOCALES if name not in texts]
            if missing:
                yield UnlocatedFinding(
                    (*path, field), f"has no text in {safe_repr(missing[0])}", "add it; until then, the other is shown"
                )
    for name, item in file.meters.items():
        if item.label is None:
            yield UnlocatedFinding(
                ("meters", name), "has no label, so pages and bills show its name", "add label: {en: ..., zh_CN: ...}"
            )
