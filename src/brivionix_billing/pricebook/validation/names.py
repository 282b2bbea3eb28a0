"""Checks what a file declares: names and patterns of models, and its own meters, tiers, regions and calendars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from brivionix_billing.errors import safe_repr
from brivionix_billing.meters import METERS, MINIMUM_METER, REQUEST_METERS
from brivionix_billing.pricebook.names import NamePattern, name_pattern, pattern_conflicts
from brivionix_billing.pricebook.unaccounted import ACTIONS
from brivionix_billing.pricebook.validation.findings import (
    ParsedSections,
    Path,
    UnlocatedFinding,
    check_dates,
    suggest,
)
from brivionix_billing.rating import SERVICE_TIERS

__all__ = ["check_declarations", "check_names"]

_ARGUMENTS = frozenset(meter.argument for meter in METERS.values())


def check_declarations(file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Check meters, calendars, service tiers, regions and exchange rates."""
    for name, meter in file.meters.items():
        if name in METERS or name in REQUEST_METERS or name in _ARGUMENTS:
            yield UnlocatedFinding(
                ("meters", name), f"the meter {name} is built in", "remove it, or use another name", at_key=True
            )
        if meter.unit == MINIMUM_METER.unit:
            yield UnlocatedFinding(("meters", name, "unit"), "is reserved", "use another word")
    known = [*ACTIONS, *METERS, *file.meters]
    for pattern, action in file.unaccounted.items():
        if action not in known:
            yield UnlocatedFinding(
                ("unaccounted", pattern),
                f"{safe_repr(action)} is no action",
                suggest(action, known, "write report, reject, ignore, or the name of a meter"),
            )
    for name, calendar in file.calendars.items():
        yield from check_dates(("calendars", name, "rules"), calendar.rules)
    yield from _check_tier_names(file.service_tiers)
    yield from _check_repeated("regions", file.regions)
    currency = file.credit.currency if file.credit else None
    for code, rates in file.exchange_rates.items():
        if code == currency:
            yield UnlocatedFinding(
                ("exchange_rates", code), "is the currency of the Credits itself", "remove it", at_key=True
            )
        yield from check_dates(("exchange_rates", code), rates)


def _check_tier_names(declared: Mapping[str, Sequence[str]]) -> Iterator[UnlocatedFinding]:
    yield from _check_repeated("service_tiers", declared)
    for tier, names in declared.items():
        for place, name in enumerate(names):
            if name.lower() in SERVICE_TIERS and name.lower() != tier:
                yield UnlocatedFinding(
                    ("service_tiers", tier, place), f"{safe_repr(name)} is a tier itself", "remove it"
                )


def _check_repeated(section: str, declared: Mapping[str, Sequence[str]]) -> Iterator[UnlocatedFinding]:
    owner = {name.lower(): name for name in declared}
    for key, names in declared.items():
        for place, name in enumerate(names):
            other = owner.setdefault(name.lower(), key)
            if other != key:
                yield UnlocatedFinding(
                    (section, key, place), f"{safe_repr(name)} means {safe_repr(other)} already", "keep it in one place"
                )


def check_names(file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Check that every name, alias and pattern means exactly one model."""
    owner: dict[str, str] = {}
    path: Path
    patterns: dict[NamePattern, Path] = {}
    for name, model in file.models.items():
        for place, alias in enumerate(model.aliases):
            path = ("models", name, "aliases", place)
            if "*" in alias:
                patterns.setdefault(name_pattern(alias, name), path)
                continue
            other = alias if alias in file.names else owner.setdefault(alias, name)
            if alias in file.names or other != name or alias in model.aliases[:place]:
                yield UnlocatedFinding(
                    path,
                    f"the alias {safe_repr(alias)} is taken by {safe_repr(other)}",
                    "use a name for one model only",
                )
    for text, target in file.aliases.items():
        path = ("aliases", text)
        if "*" not in text and (text in file.names or text in owner):
            yield UnlocatedFinding(
                path, f"{safe_repr(text)} is the name of a model already", "use a name for one model only", at_key=True
            )
        if "*" in target:
            if text.count("*") != 1 or target.count("*") != 1:
                yield UnlocatedFinding(
                    path, "'*' must stand once on each side", 'write it like "openai/*": "*"', at_key=True
                )
        elif target not in file.names and target not in owner:
            yield UnlocatedFinding(
                path,
                f"no model {safe_repr(target)} in this file",
                suggest(target, file.names, "write a model's name, or * for what * matched"),
            )
        if "*" in text:
            patterns.setdefault(name_pattern(text, target), path)
    try:
        for one, rival in pattern_conflicts(patterns):
            yield UnlocatedFinding(
                patterns[rival],
                f"the pattern {safe_repr(rival.text)} and {safe_repr(one.text)} match the same names, and neither is "
                "more specific",
                "write more characters in one of them",
            )
    except OverflowError:
        yield UnlocatedFinding(
            ("aliases",), "too many patterns begin alike to compare them all", "write more characters before the '*'"
        )
