"""Writes a catalog as the text of a complete price file."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.importing.catalog import UNDATED_START, Catalog, DatedPrices, ImportedModel, PriceSet
from brivionix_billing.importing.price_sets import VARIANT_KEYS, context_list
from brivionix_billing.importing.units import TOKEN_METERS
from brivionix_billing.importing.yaml_text import write_block
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.times import parse_instant

__all__ = ["WrittenFile", "entries_from", "group_sections", "model_section", "used_sections", "write_price_file"]


class WrittenFile(NamedTuple):
    """The text of a price file, and where its models are."""

    text: str
    lines: list[int]
    """The first line of each model, rising."""
    names: list[str]

    def model_at(self, line: int) -> str | None:
        """Return the model that a line belongs to, or ``None`` if it is outside of the models."""
        index = bisect_right(self.lines, line) - 1
        return self.names[index] if 0 <= index < len(self.names) else None


def write_price_file(catalog: Catalog, start: str | None = None, origin: str = "") -> WrittenFile:
    """Return the text of a price file. ``start`` is the date of prices to which the source gives none."""
    since = start or UNDATED_START
    used = used_sections(catalog, catalog.models.values())
    lines = [*_head(catalog, since, origin)]
    if catalog.cached_as_input:
        lines += ["", f"# {catalog.source} bills a cached token without a price of its own like any other input token."]
        lines += write_block("cache_discount", [{"from": since, "discount": Decimal(0)}], 0)
    if catalog.unpriced_tokens != "refuse":
        lines += ["", f"# {catalog.source} bills tokens without a price of their own like those that contain them."]
        lines += write_block("unpriced_tokens", catalog.unpriced_tokens, 0)
    for section, content in used.items():
        if content:
            lines += ["", *write_block(section, content, 0)]
    lines += ["", "models:"]
    starts, names = [], []
    for model in catalog.models.values():
        starts.append(len(lines) + 1)
        names.append(model.name)
        stated = model_section(
            model, since, has_discount=catalog.cached_as_input, unpriced_tokens=catalog.unpriced_tokens
        )
        lines += write_block(model.name, stated, 2)
    if not names:
        lines[-1] = "models: {}"
    starts.append(len(lines) + 1)
    lines += ["", *write_block("groups", group_sections(catalog, since), 0)]
    return WrittenFile("\n".join(lines) + "\n", starts, names)


def _head(catalog: Catalog, since: str, origin: str) -> Iterator[str]:
    shown = "".join(character for character in origin if character.isprintable())[:120]
    yield f"# Prices imported from {catalog.source}{f' ({shown})' if shown else ''} by: brivionix-billing import"
    yield f"# Prices to which the source gives no date start on {since}."
    yield ""
    yield "version: 1"
    yield "credit: {currency: USD, nominal_per_credit: 1}"


def model_section(model: ImportedModel, since: str, *, has_discount: bool, unpriced_tokens: str) -> dict[str, Any]:
    """Return a model as the price file has it.

    ``has_discount``: the file has a default cache discount. ``unpriced_tokens``: the setting of the file.
    """
    entries = entries_from(model, since)
    first = entries[0].start or since
    stated: dict[str, Any] = {
        "display_name": model.display_name if model.display_name != model.name else None,
        "vendor": model.vendor,
        # A price may not start before its model is released, so the date is kept only if it does not.
        "released": model.released if model.released is not None and model.released <= first[:10] else None,
        "context": model.context,
        "currency": model.currency,
        "unpriced_tokens": model.unpriced_tokens if model.unpriced_tokens != unpriced_tokens else None,
        "aliases": model.aliases,
    }
    section: dict[str, Any] = {key: value for key, value in stated.items() if value}
    if has_discount and not _caches_input(model):
        section["cache_discount"] = False
    return {**section, "prices": [{"from": entry.start, **entry.tiers} for entry in entries]}


def _caches_input(model: ImportedModel) -> bool:
    """Return whether the default cache discount applies to a model: to one that writes text, as far as is known.

    A model for embeddings, reranking, images or audio has no cached input, unless the source states a price of it.
    """
    sets = [prices for entry in model.prices for prices in entry.tiers.values()]
    if not any(name in prices for prices in sets for name in _CACHED_BY_DEFAULT):
        return True  # the discount has no effect
    if model.caches_input is not None:
        return model.caches_input
    if _NO_TEXT_NAME.search(model.name.lower()):
        return False
    tokens = [price for prices in sets for name, price in prices.items() if name in TOKEN_METERS]
    return any(prices.get("output") for prices in sets) or not any(tokens)


_NO_TEXT_NAME: Final = re.compile(
    r"(?<![a-z])(?:embed(?:ding)?s?|rerank(?:er)?|whisper|tts|transcribe|dall-e|moderation)(?![a-z])"
)
"""Names of models that write no text, if the source does not say what kind of model it is."""
_CACHED_BY_DEFAULT: Final = frozenset(
    meter.uncached_meter for meter in METERS.values() if meter.cache == "read" and meter.fallback is None
)


def entries_from(model: ImportedModel, since: str) -> list[DatedPrices]:
    """Return the dated prices from a time on: what applies then as one entry, and the later ones."""
    at = parse_instant(since)
    tiers: dict[str, PriceSet] = {}
    later = []
    for entry in model.prices:
        if entry.start is None or parse_instant(entry.start) <= at:
            tiers |= entry.tiers
        else:
            later.append(entry)
    return [DatedPrices(since, tiers), *later] if tiers else later


def used_sections(catalog: Catalog, models: Iterable[ImportedModel]) -> dict[str, dict[str, Any]]:
    """Return the sections that models refer to, without what no model uses."""
    meters: set[str] = set()
    tiers: set[str] = set()
    variants: dict[str, set[str]] = {key: set() for key in VARIANT_KEYS}
    for model in models:
        for entry in model.prices:
            tiers |= entry.tiers.keys()
            for price_set in entry.tiers.values():
                _collect(price_set, meters, variants)
    return {
        "meters": {name: value for name, value in catalog.meters.items() if name in meters},
        "calendars": {name: value for name, value in catalog.calendars.items() if name in variants["windows"]},
        "service_tiers": {name: value for name, value in catalog.service_tiers.items() if name in tiers},
        "regions": {name: value for name, value in catalog.regions.items() if name in variants["regions"]},
    }


def _collect(price_set: Mapping[str, Any], meters: set[str], variants: dict[str, set[str]]) -> None:
    meters |= {name for name, value in price_set.items() if isinstance(value, Decimal)}
    for tier in context_list(price_set):
        _collect(tier, meters, variants)
    for key, names in variants.items():
        for name, variant in price_set.get(key, {}).items():
            names.add(name)
            _collect(variant, meters, variants)


def group_sections(catalog: Catalog, since: str) -> dict[str, Any]:
    """Return the groups. If the source has none, there is one group with all models at the list price."""
    groups: dict[str, Any] = {}
    for group in catalog.groups.values():
        models = [name for name in group.models if any(map(matcher([name]), catalog.models))]
        if models:
            stated = {"display_name": group.display_name} if group.display_name else {}
            groups[group.name] = {**stated, "terms": [{"from": since, "ratio": group.ratio, "models": models}]}
    if groups:
        return groups
    return {"default": {"terms": [{"from": since, "ratio": Decimal(1), "models": ["*"]}]}}
