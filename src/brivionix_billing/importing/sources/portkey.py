"""Reads a provider of Portkey-AI/models, ``pricing/PROVIDER.json``.

Prices are US cents per single unit. ``custom_pricing`` has prices by region, service tier and number of input tokens,
and wins over ``pay_as_you_go``. A price of 0 of anything but plain input and output means that the model does not have
it, so it is left out. The entry ``default`` is for unknown models: its zeros are not prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final

from brivionix_billing.importing.amounts import Row, RowError
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedModel, PriceSet
from brivionix_billing.importing.names import clean_text, meter_word, name_problem
from brivionix_billing.importing.price_sets import Boundary, add_variant, build_set, meter_prices
from brivionix_billing.importing.reading import as_mapping, unreadable

__all__ = ["read"]

_TOKEN: Final = Decimal(10_000)
"""Cents per token -> USD per 1 M tokens."""
_CALL: Final = Decimal(10)
"""Cents per call -> USD per 1000 calls."""
_UNIT: Final = Decimal("0.01")
_RATES: Final = {
    "request_token": "input",
    "response_token": "output",
    "cache_read_input_token": "cache_read",
    "cache_write_input_token": "cache_write",
    "request_audio_token": "audio_input",
    "response_audio_token": "audio_output",
    "cache_read_audio_input_token": "audio_cache_read",
    "cache_write_audio_input_token": "audio_cache_write",
    "request_text_token": "input",
    "response_text_token": "output",
    "cache_read_text_input_token": "cache_read",
    "request_image_token": "image_input",
    "response_image_token": "image_output",
    "cache_read_image_input_token": "image_cache_read",
}
_ADDITIONAL: Final[dict[str, tuple[str, Decimal]]] = {
    "web_search": ("web_search", _CALL),
    "search": ("web_search", _CALL),
    "file_search": ("file_search", _CALL),
    "cache_write_1h": ("cache_write_1h", _TOKEN),
    "thinking_token": ("reasoning", _TOKEN),
}
_ALWAYS: Final = frozenset({"request_token", "response_token"})
_TIERS: Final = {name: name for name in ("standard", "batch", "flex", "priority")}
_NOT_PRICES: Final = frozenset({"pay_as_you_go", "batch_config", "calculate", "currency", "type", "sort_key", "params"})
_MAX_DEPTH: Final = 4


def read(data: object, file_name: str = "") -> Catalog:
    """Return the catalog of one provider. Raises ``source_unreadable``."""
    rows = {name: row for name, row in as_mapping(data).items() if isinstance(row, dict) and "pricing_config" in row}
    if not rows:
        raise unreadable(
            "portkey",
            "the file does not have the prices of a provider",
            "pass pricing/PROVIDER.json of Portkey-AI/models",
        )
    catalog = Catalog("portkey")
    vendor = clean_text(PurePath(file_name.replace("\\", "/")).stem)
    for name, row in rows.items():
        if name == "default":
            catalog.reject(name, "is the placeholder for unknown models")
        else:
            _read_row(catalog, name, row, vendor)
    return catalog


def _read_row(catalog: Catalog, name: str, row: Mapping[str, Any], vendor: str | None) -> None:
    problem = name_problem(name)
    config = as_mapping(row.get("pricing_config"))
    custom = as_mapping(row.get("custom_pricing"))
    currency = config.get("currency", "USD")
    try:
        if problem:
            raise RowError("name", problem)
        if currency != "USD":
            raise RowError("currency", f"prices in {str(currency)[:10]} are not imported")
        tiers = _read_tiers(catalog, Row(catalog, name), config, custom)
        if not tiers:
            raise RowError("", "states no price")
        if not any(any(meter_prices(tier).values()) for tier in tiers.values()) and not name.endswith(":free"):
            raise RowError("", "all its prices are 0, and nothing shows that it is free")
    except RowError as error:
        catalog.priced_rows += bool(error.field)
        catalog.reject(name, f"{error.field}: {error.reason}" if error.field else error.reason)
        return
    catalog.priced_rows += 1
    catalog.models[name] = ImportedModel(name, [DatedPrices(None, tiers)], vendor=vendor)


def _read_tiers(
    catalog: Catalog, prices: Row, config: Mapping[str, Any], custom: Mapping[str, Any]
) -> dict[str, PriceSet]:
    for field in config:
        if field not in _NOT_PRICES:
            catalog.reject(prices.model, "not a price of a request", f"pricing_config.{field}"[:120])
    usual = _read_rates(catalog, prices, as_mapping(config.get("pay_as_you_go")), "pay_as_you_go")
    tiers: dict[str, PriceSet] = {"standard": build_set(usual, {})} if usual else {}
    batch = as_mapping(config.get("batch_config"))
    if batch:
        tiers["batch"] = build_set(_with_usual(_read_rates(catalog, prices, batch, "batch_config"), usual), {})
    regions = as_mapping(custom.get("regions"))
    bounds = _read_bounds(as_mapping(custom.get("context_tier_map")))
    by_region = {
        region: _read_modes(catalog, prices, as_mapping(value), bounds, usual) for region, value in regions.items()
    }
    modes: dict[str, PriceSet] = {}
    for name, found in by_region.pop("default", {}).items():
        if name in _TIERS:
            tiers[name] = found
        else:
            modes[name] = found
    for names, own in by_region.items():
        for region in filter(None, (part.strip() for part in names.split(","))):
            if name_problem(region):
                catalog.reject(prices.model, "the name of the region has a character that is not allowed", "regions")
                continue
            for tier, found in own.items():
                if tier in tiers:
                    add_variant(tiers[tier], "regions", region, found)
                    catalog.regions.setdefault(region, [])
                else:
                    catalog.reject(prices.model, f"{tier} has prices in {region}, but not by default", "custom_pricing")
    for name, found in modes.items():
        if "standard" not in tiers or name_problem(name):
            catalog.reject(prices.model, "a mode without standard prices, or with an invalid name", "execution_modes")
        else:
            add_variant(tiers["standard"], "modes", name, found)
    return tiers


def _read_bounds(stated: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of input tokens above which each named context tier applies."""
    bounds = {}
    for start, name in stated.items():
        if not start.isascii() or not start.isdigit() or len(start) > 12 or not isinstance(name, str):
            raise RowError("context_tier_map", "its keys are not numbers of tokens")
        bounds[name] = int(start)
    return bounds


def _read_modes(
    catalog: Catalog, prices: Row, region: Mapping[str, Any], bounds: Mapping[str, int], usual: Mapping[str, Decimal]
) -> dict[str, PriceSet]:
    out = {}
    for name, mode in as_mapping(region.get("execution_modes")).items():
        where = f"execution_modes.{name}"[:60]
        contexts = as_mapping(as_mapping(mode).get("context_tiers"))
        if not contexts:
            out[name] = build_set(_with_usual(_read_config(catalog, prices, as_mapping(mode), where), usual), {})
            continue
        by_start = {}
        for tier, value in contexts.items():
            if tier not in bounds:
                raise RowError("context_tiers", f"{tier[:40]} is not in the context_tier_map")
            by_start[bounds[tier]] = _read_config(catalog, prices, as_mapping(value), where)
        if 0 not in by_start:
            raise RowError("context_tiers", "none starts at 0 tokens")
        base = _with_usual(by_start.pop(0), usual)
        out[name] = build_set(base, {Boundary(start): found for start, found in by_start.items()})
    return out


def _read_config(catalog: Catalog, prices: Row, holder: Mapping[str, Any], where: str) -> dict[str, Decimal]:
    config = as_mapping(holder.get("pricing_config"))
    return _read_rates(catalog, prices, as_mapping(config.get("pay_as_you_go")), where)


def _with_usual(own: Mapping[str, Decimal], usual: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return prices; what they do not state costs what it costs in ``pay_as_you_go``."""
    return {**usual, **own}


def _read_rates(catalog: Catalog, prices: Row, rates: Mapping[str, Any], where: str) -> dict[str, Decimal]:
    out: dict[str, Decimal] = {}
    for key, value in rates.items():
        if key == "additional_units":
            for unit, stated in as_mapping(value).items():
                known = _ADDITIONAL.get(unit)
                if known is None:
                    if as_mapping(stated).get("price"):
                        catalog.reject(prices.model, "a price in a unit that is not known", f"{where}.{unit}"[:120])
                    continue
                price = prices.price(f"{where}.{unit}", as_mapping(stated).get("price"), *known)
                if price and out.setdefault(known[0], price) != price:
                    catalog.reject(prices.model, f"differs from another price of {known[0]}", f"{where}.{unit}"[:120])
        elif key == "image":
            out |= _read_images(catalog, prices, as_mapping(value), where)
        elif key in _RATES:
            price = prices.price(f"{where}.{key}", as_mapping(value).get("price"), _RATES[key], _TOKEN)
            if price or key in _ALWAYS:
                out.setdefault(_RATES[key], price)
        elif as_mapping(value).get("price"):
            catalog.reject(prices.model, "a price in a unit that is not known", f"{where}.{key}"[:120])
    return out


def _read_images(catalog: Catalog, prices: Row, images: Mapping[str, Any], where: str) -> dict[str, Decimal]:
    out = {}
    for path, value in _leaves(images, ()):
        words = [word for word in path if word != "default"]
        meter = meter_word("_".join(["output_images", *words]))
        price = prices.price(f"{where}.image", value, meter, _UNIT)
        if price:
            out[meter] = price
            if words:
                catalog.meters[meter] = {"unit": "image", "per": 1}
    return out


def _leaves(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in node.items():
        if key == "price":
            yield path, value
        elif isinstance(value, dict) and len(path) < _MAX_DEPTH:
            yield from _leaves(value, (*path, key))
