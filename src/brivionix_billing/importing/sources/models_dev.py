"""Reads models.dev: ``api.json``, or the TOML file of one model.

Prices are USD per 1 M tokens. ``tiers`` and ``context_over_200k`` apply to the whole request above their size.
``experimental.modes`` are service tiers if the request to the provider states one, else modes. A price that a tier or
mode does not state is the one around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final

from brivionix_billing.importing.amounts import Row, RowError
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedModel, PriceSet
from brivionix_billing.importing.names import clean_text, meter_word, name_problem, qualified_names
from brivionix_billing.importing.price_sets import Boundary, add_variant, build_set, meter_prices
from brivionix_billing.importing.reading import as_mapping, unreadable

__all__ = ["read"]

_KEYS: Final = {
    "input": "input",
    "output": "output",
    "reasoning": "reasoning",
    "cache_read": "cache_read",
    "cache_write": "cache_write",
    "input_audio": "audio_input",
    "output_audio": "audio_output",
}
_LEGACY_BOUNDARY: Final = 200_000
"""The boundary of ``context_over_200k``."""
_FIRST_PARTY: Final = (
    *("openai", "anthropic", "google", "xai", "mistral", "deepseek", "cohere", "alibaba", "moonshotai", "zai"),
    *("zhipuai", "minimax", "llama", "meta", "perplexity", "amazon-bedrock", "azure"),
)
"""Providers that keep an ambiguous model name without a prefix: those who made the model come first."""
_LOCAL: Final = frozenset({"lmstudio", "ollama", "llamafile"})
_SERVICE_TIERS: Final = {"priority": "priority", "flex": "flex", "batch": "batch", "fast": "priority"}


def read(data: object, file_name: str = "") -> Catalog:
    """Return the catalog of ``api.json``, or of one model's TOML. Raises ``source_unreadable``."""
    catalog = Catalog("models.dev")
    top = as_mapping(data)
    if "cost" in top or "limit" in top:
        name = PurePath(file_name.replace("\\", "/")).stem or str(top.get("id") or "")
        _read_model(catalog, name, "", top)
        return catalog
    rows = [
        (str(provider_id), str(model_id), model)
        for provider_id, provider in top.items()
        for model_id, model in as_mapping(as_mapping(provider).get("models")).items()
        if isinstance(model, dict)
    ]
    if not rows:
        raise unreadable(
            "models.dev",
            "the file is neither api.json nor the TOML file of a model",
            "pass https://models.dev/api.json, or providers/NAME/models/MODEL.toml",
        )
    providers_of: dict[str, list[str]] = {}
    for provider_id, model_id, _ in rows:
        providers_of.setdefault(model_id, []).append(provider_id)
    owners: dict[str, str] = {
        model: owner
        for model, found in providers_of.items()
        if (owner := next((provider for provider in _FIRST_PARTY if provider in found), None)) is not None
    }
    names = qualified_names(providers_of, owners)
    for provider_id, model_id, row in rows:
        name = names[provider_id, model_id]
        _read_model(catalog, name, provider_id, row)
    taken = set(names.values())
    for provider_id, model_id, _ in rows:
        model, alias = catalog.models.get(model_id), f"{provider_id}/{model_id}"
        is_plain = names[provider_id, model_id] == model_id and len(providers_of[model_id]) > 1
        if model is not None and is_plain and alias not in taken:
            model.aliases.append(alias)
            taken.add(alias)
    return catalog


def _read_model(catalog: Catalog, name: str, provider: str, row: Mapping[str, Any]) -> None:
    problem = name_problem(name) or ("appears twice" if name in catalog.models else None)
    cost = as_mapping(row.get("cost"))
    if not cost:
        problem = "states no price"
    if problem:
        catalog.reject(name, problem)
        return
    try:
        tiers = _read_tiers(catalog, Row(catalog, name), cost, as_mapping(row.get("experimental")))
        if not any(meter_prices(tiers["standard"]).values()) and not _is_free(name, provider):
            raise RowError("", "all its prices are 0, and nothing shows that it is free")
    except RowError as error:
        catalog.priced_rows += bool(error.field)
        catalog.reject(name, f"{error.field}: {error.reason}" if error.field else error.reason)
        return
    catalog.priced_rows += 1
    limit = as_mapping(row.get("limit"))
    stated = {"window": limit.get("context"), "max_input": limit.get("input"), "max_output": limit.get("output")}
    released = row.get("release_date")
    catalog.models[name] = ImportedModel(
        name,
        [DatedPrices(None, tiers)],
        display_name=clean_text(row.get("name")),
        vendor=clean_text(provider),
        context={key: size for key, size in stated.items() if type(size) is int and 0 < size <= 10**12},
        released=_day(released),
    )


def _day(value: object) -> str | None:
    """Return a full date as text; models.dev also has months and years."""
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        return None


def _is_free(name: str, provider: str) -> bool:
    return provider in _LOCAL or name.endswith((":free", "-free", "/free"))


def _read_tiers(
    catalog: Catalog, prices: Row, cost: Mapping[str, Any], experimental: Mapping[str, Any]
) -> dict[str, PriceSet]:
    standard = _read_set(catalog, prices, "cost", cost, {})
    tiers = {"standard": standard}
    base = meter_prices(standard)
    for name, mode in as_mapping(experimental.get("modes")).items():
        field = f"experimental.modes.{name}"[:120]
        stated = as_mapping(as_mapping(mode).get("cost"))
        if not stated:
            continue
        body = as_mapping(as_mapping(as_mapping(mode).get("provider")).get("body"))
        found = _read_set(catalog, prices, field, stated, base)
        tier = body.get("service_tier")
        if tier is not None:
            word = _SERVICE_TIERS.get(tier, meter_word(tier)) if isinstance(tier, str) else ""
            if not word or word in tiers:
                catalog.reject(prices.model, "its service tier is not a word, or has prices already", field)
                continue
            tiers[word] = found
            if word not in _SERVICE_TIERS.values():
                catalog.service_tiers.setdefault(word, [])
            continue
        speed = body.get("speed")
        label = speed if isinstance(speed, str) else str(name)
        if name_problem(label):
            catalog.reject(prices.model, "the name of the mode has a character that is not allowed", field)
        else:
            add_variant(standard, "modes", label, found)
    return tiers


def _read_set(
    catalog: Catalog, prices: Row, field: str, cost: Mapping[str, Any], around: Mapping[str, Decimal]
) -> PriceSet:
    base = {**around, **_read_prices(catalog, prices, field, cost)}
    contexts: dict[Boundary, dict[str, Decimal]] = {}
    tiers = cost.get("tiers") or []
    if not isinstance(tiers, list):
        raise RowError(f"{field}.tiers", "is not a list")
    for stated in map(as_mapping, tiers):
        condition = as_mapping(stated.get("tier"))
        size = condition.get("size")
        if condition.get("type", "context") != "context" or type(size) is not int or not 0 < size <= 10**12:
            raise RowError(f"{field}.tiers", "a tier does not depend on a number of input tokens")
        contexts[Boundary(size)] = _read_prices(catalog, prices, f"{field}.tiers", stated)
    legacy = as_mapping(cost.get("context_over_200k"))
    if legacy and Boundary(_LEGACY_BOUNDARY) not in contexts:
        contexts[Boundary(_LEGACY_BOUNDARY)] = _read_prices(catalog, prices, f"{field}.context_over_200k", legacy)
    return build_set(base, contexts)


def _read_prices(catalog: Catalog, prices: Row, field: str, cost: Mapping[str, Any]) -> dict[str, Decimal]:
    out: dict[str, Decimal] = {}
    for key, value in cost.items():
        if key in ("tiers", "context_over_200k", "tier") or value is None:
            continue
        meter = _KEYS.get(key)
        if meter is None:
            catalog.reject(prices.model, "a price in a unit that is not known", f"{field}.{key}"[:120])
        else:
            out[meter] = prices.price(f"{field}.{key}", value, meter)
    return out
