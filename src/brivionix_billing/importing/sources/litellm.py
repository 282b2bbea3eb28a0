"""Reads litellm's price map, ``model_prices_and_context_window.json``.

One object per model; prices are USD per single unit, with the variant in the suffix of the key. Rules, from litellm's
own calculation:

- A price above a context boundary applies to the whole request with more input tokens than that; for xAI, also to one
  with exactly as many. A meter without a price above the boundary keeps the one below it.
- A meter without a price in a service tier costs what it costs in the standard tier; reasoning costs what output costs.
  A price of a tier that has no price above the boundary applies at any length. (litellm's calculation falls back to
  the standard price above the boundary, so that long requests would be cheaper in priority.)
- ``tiered_pricing`` is a complete table by input tokens, with the upper end of a range included.
- ``off_peak_pricing`` replaces prices within its windows, at any length.
- A cached token without a price costs what an input token costs.
- Models that report tokens by modality (Gemini) bill a modality without a price like text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.importing.amounts import Row, RowError
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedModel, PriceSet
from brivionix_billing.importing.names import clean_text, meter_word, name_problem
from brivionix_billing.importing.price_sets import Boundary, build_set, factor_fits, with_windows
from brivionix_billing.importing.reading import as_list, as_mapping, unreadable
from brivionix_billing.importing.sources import litellm_keys as keys
from brivionix_billing.importing.windows import ALL_DAYS, Window, divide_week, parse_hours

__all__ = ["read"]

_FREE_PROVIDERS: Final = frozenset(
    {"ollama", "ollama_chat", "lemonade", "llamafile", "lm_studio", "searxng", "duckduckgo"}
)
"""Providers that run on the user's machine, or never charge."""
_TEXT_MODES: Final = frozenset({"chat", "completion", "responses", "realtime"})
"""Modes of models that read input from a cache. All others, such as ``embedding`` and ``image_edit``, do not."""
_INCLUSIVE_PROVIDERS: Final = frozenset({"xai"})
_MODALITIES: Final = {"supports_vision": "image", "supports_audio_input": "audio", "supports_video_input": "video"}
_WEEKDAY_NAMES: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_Prices = dict[str, Decimal]


class _Table(NamedTuple):
    """The prices of one service tier, as stated."""

    base: _Prices
    contexts: dict[int, _Prices]


def read(data: object, file_name: str = "") -> Catalog:
    """Return the catalog of litellm's map. Raises ``source_unreadable``."""
    rows = {name: row for name, row in as_mapping(data).items() if isinstance(row, dict) and name != "sample_spec"}
    if not any("litellm_provider" in row for row in rows.values()):
        raise unreadable(
            "litellm",
            "the file is not litellm's map of models",
            "pass model_prices_and_context_window.json of BerriAI/litellm",
        )
    catalog = Catalog("litellm", cached_as_input=True)
    aliases: dict[str, str] = {}
    dbu_rows = 0
    for name, row in rows.items():
        dbu_rows += any("_dbu_cost_" in key for key in row)
        if "alias_of" in row and not any(_is_price(key, value) for key, value in row.items()):
            aliases[name] = str(row["alias_of"])
            continue
        _read_row(catalog, name, row)
    for alias, target in aliases.items():
        if target not in catalog.models:
            catalog.reject(alias, f"is an alias of {target[:128]}, which was not imported")
        elif problem := name_problem(alias):
            catalog.reject(alias, problem)
        else:
            catalog.models[target].aliases.append(alias)
    if dbu_rows:
        catalog.note("dbu_ignored", f"{dbu_rows} rows also state prices in Databricks units, which are not USD")
    return catalog


def _is_price(key: str, value: object) -> bool:
    return ("cost" in key and "_dbu_" not in key and value is not None) or key == "tiered_pricing"


def _numbers(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, str) and set(value) <= set("0.eE+-"):
        yield 0
    else:
        yield value


def _read_row(catalog: Catalog, name: str, row: dict[str, Any]) -> None:
    stated = {key: value for key, value in row.items() if _is_price(key, value)}
    if not stated:
        catalog.reject(name, "states no price")
        return
    is_zero = all(number == 0 for key, value in stated.items() if key != "tiered_pricing" for number in _numbers(value))
    if "tiered_pricing" not in stated and is_zero:
        if not _is_free(name, row):
            catalog.reject(name, "all its prices are 0, and nothing shows that it is free")
            return
    else:
        catalog.priced_rows += 1
    problem = name_problem(name)
    if problem:
        catalog.reject(name, problem)
        return
    try:
        tiers = _read_tiers(catalog, Row(catalog, name), row)
    except RowError as error:
        catalog.reject(name, f"{error.field}: {error.reason}")
        return
    catalog.models[name] = ImportedModel(
        name,
        [DatedPrices(None, tiers)],
        vendor=clean_text(row.get("litellm_provider")),
        context={
            key: row[stated_as]
            for key, stated_as in (("max_input", "max_input_tokens"), ("max_output", "max_output_tokens"))
            if type(row.get(stated_as)) is int and 0 < row[stated_as] <= 10**12
        },
        caches_input=row["mode"] in _TEXT_MODES if isinstance(row.get("mode"), str) else None,
    )


def _is_free(name: str, row: Mapping[str, Any]) -> bool:
    return (
        str(row.get("litellm_provider")) in _FREE_PROVIDERS
        or name.endswith((":free", "-free", "/free"))
        or (row.get("mode") == "moderation" and row.get("litellm_provider") == "openai")
    )


def _read_tiers(catalog: Catalog, prices: Row, row: Mapping[str, Any]) -> dict[str, PriceSet]:
    tables = _read_tables(catalog, prices, row)
    standard = tables.pop("standard", _Table({}, {}))
    inclusive = str(row.get("litellm_provider")) in _INCLUSIVE_PROVIDERS
    graded = _read_tiered_pricing(prices, row)
    modalities = _modalities(prices.model, row)
    off_peak = _read_off_peak(prices, row)
    tiers: dict[str, PriceSet] = {}
    for tier in ["standard", *tables]:
        table = standard if tier == "standard" else _with_standard(tables[tier], standard)
        if graded is not None and tier == "standard":
            table = graded
            inclusive = False
        table = _complete(table, modalities)
        if not table.base:
            continue
        built = _build(table, inclusive)
        if off_peak is not None:
            built = _with_off_peak(catalog, built, table, off_peak, inclusive)
        _add_factors(catalog, prices, row, built)
        tiers[tier] = built
        if tier not in ("standard", "batch", "flex", "priority"):
            catalog.service_tiers.setdefault(tier, [])
    if not tiers:
        raise RowError("its prices", "none of them is in a unit that is known")
    return tiers


def _build(table: _Table, inclusive: bool) -> PriceSet:
    return build_set(table.base, {Boundary(tokens, inclusive): far for tokens, far in table.contexts.items()})


def _read_tables(catalog: Catalog, prices: Row, row: Mapping[str, Any]) -> dict[str, _Table]:
    """Return the stated prices by service tier."""
    tables: dict[str, _Table] = {}
    for field, value in row.items():
        if not _is_price(field, value) or field in ("tiered_pricing", "off_peak_pricing"):
            continue
        if isinstance(value, dict):
            base = tables.setdefault("standard", _Table({}, {})).base
            base.update(_read_nested(catalog, prices, field, value))
            continue
        if field in keys.DUPLICATES and row.get(keys.DUPLICATES[field]) is not None:
            if row[keys.DUPLICATES[field]] != value:
                catalog.reject(prices.model, f"differs from {keys.DUPLICATES[field]}, which was imported", field)
            continue
        key = keys.parse_key(field, str(row.get("mode")))
        if key is None:
            catalog.reject(prices.model, "a price in a unit that is not known", field)
            continue
        price = prices.price(field, value, key.meter, key.scale, per=key.per)
        if key.declaration is not None:
            catalog.meters[key.meter] = key.declaration
        table = tables.setdefault(key.tier, _Table({}, {}))
        target = table.base if key.above is None else table.contexts.setdefault(key.above, {})
        if target.setdefault(key.meter, price) != price:
            raise RowError(field, f"is another price of {key.meter}, which another field states, too")
    return tables


def _read_nested(catalog: Catalog, prices: Row, field: str, value: dict[str, Any]) -> _Prices:
    out: _Prices = {}
    if field == "search_context_cost_per_query":
        by_size = {
            size: prices.price(f"{field}.{size}", value[f"search_context_size_{size}"], "web_search", 1000)
            for size in ("medium", "low", "high")
            if value.get(f"search_context_size_{size}") is not None
        }
        usual = by_size.pop("medium", None)
        if usual is not None:
            out["web_search"] = usual
        out |= {f"web_search_{size}": price for size, price in by_size.items() if price != usual}
    elif field == "guardrail_cost_per_unit":
        for unit, price in value.items():
            meter = meter_word("guardrail_" + re.sub(r"([A-Z])", r"_\1", str(unit)))
            out[meter] = prices.price(f"{field}.{unit}"[:120], price, meter)
            catalog.meters[meter] = {"unit": "text_unit", "per": 1}
    else:
        catalog.reject(prices.model, "a table of prices that is not known", field)
    return out


def _with_standard(own: _Table, standard: _Table) -> _Table:
    """Return the prices of a tier; a meter without a price in it has that of the standard tier, with its contexts."""
    lacking = {name for name in standard.base if name not in own.base}
    if "output" in own.base:
        lacking.discard("reasoning")
    contexts = {tokens: dict(far) for tokens, far in own.contexts.items()}
    for tokens, far in standard.contexts.items():
        for name, price in far.items():
            if name in lacking or (name not in own.base and name not in standard.base):
                contexts.setdefault(tokens, {}).setdefault(name, price)
    return _Table({**{name: standard.base[name] for name in lacking}, **own.base}, contexts)


def _complete(table: _Table, modalities: set[str]) -> _Table:
    """Write out prices that litellm's calculation derives from other ones, where a price file would not."""
    base = dict(table.base)
    out = _Table(base, {tokens: dict(far) for tokens, far in table.contexts.items()})
    derived: dict[str, str] = {}
    if not base.get("output") and "image_output" in base:
        derived["output"] = "image_output"  # a model whose only output is images
    for modality in ("audio", "image", "video"):
        if modality in modalities and "input" in base and f"{modality}_input" not in base:
            derived[f"{modality}_input"] = "input"
        priced = f"{modality}_input" in base or f"{modality}_input" in derived
        if priced and "cache_read" in base and f"{modality}_cache_read" not in base:
            derived[f"{modality}_cache_read"] = "cache_read"
    for name, origin in derived.items():
        base[name] = base[origin]
        for far in out.contexts.values():
            if origin in far:
                far[name] = far[origin]
    return out


def _modalities(name: str, row: Mapping[str, Any]) -> set[str]:
    """Return the modalities of input that have no price and are billed like text. Only Gemini reports them."""
    provider = str(row.get("litellm_provider"))
    if "gemini" not in name or not provider.startswith(("gemini", "vertex_ai")):
        return set()
    has_images = any(str(row.get(key)) not in ("None", "0") for key in ("input_cost_per_image",))
    found = {modality for key, modality in _MODALITIES.items() if row.get(key) is True}
    return found - {"image"} if has_images else found


def _read_tiered_pricing(prices: Row, row: Mapping[str, Any]) -> _Table | None:
    stated = row.get("tiered_pricing")
    if stated is None:
        return None
    field = "tiered_pricing"
    if not isinstance(stated, list) or not stated or not all(isinstance(tier, dict) for tier in stated):
        raise RowError(field, "is not a list of price tiers")
    if not all(isinstance(tier.get("range"), list) and len(tier["range"]) == 2 for tier in stated):
        raise RowError(field, "its tiers do not depend on input tokens, which a price file cannot express")
    ordered = sorted(stated, key=lambda tier: _tokens(field, tier["range"][0]))
    starts = [_tokens(field, tier["range"][0]) for tier in ordered]
    ends = [_tokens(field, tier["range"][1]) for tier in ordered]
    if starts[0] != 0 or starts[1:] != ends[:-1]:
        raise RowError(field, "its ranges have gaps or do not start at 0")
    names = {key for tier in ordered for key in tier if key != "range"}
    sets = [_read_graded_set(prices, tier, names, row) for tier in ordered]
    return _Table(sets[0], dict(zip(starts[1:], sets[1:], strict=True)))


def _read_graded_set(prices: Row, tier: Mapping[str, Any], names: set[str], row: Mapping[str, Any]) -> _Prices:
    out: _Prices = {}
    for field in sorted(names):
        key = keys.parse_key(field, "chat")
        if key is None or key.tier != "standard" or key.above is not None:
            raise RowError("tiered_pricing", f"{field[:80]} in a tier is not known")
        value = tier.get(field)
        if value is None:
            # A tier that lacks a price bills such tokens as its input, or reasoning as its output.
            value = tier.get("output_cost_per_token" if key.meter == "reasoning" else "input_cost_per_token")
        if key.meter == "output" and tier.get(field) is None:
            value = row.get("output_cost_per_token")
        out[key.meter] = prices.price(f"tiered_pricing.{field}", value, key.meter, key.scale)
    if "output" not in out and row.get("output_cost_per_token") is not None:
        out["output"] = prices.price("output_cost_per_token", row["output_cost_per_token"], "output", 10**6)
    return out


def _tokens(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value != value or value < 0:
        raise RowError(field, "a range has no number of tokens")
    if value > 10**12 or value != int(value):
        raise RowError(field, "a range is not a whole number of tokens of at most 10^12")
    return int(value)


class _OffPeak(NamedTuple):
    windows: list[Window]
    zone: str
    prices: _Prices


def _read_off_peak(prices: Row, row: Mapping[str, Any]) -> _OffPeak | None:
    block = row.get("off_peak_pricing")
    if not isinstance(block, dict):
        return None
    field = "off_peak_pricing"
    windows = [window for hours in _texts(block.get("hours_utc")) for window in [_window(field, hours, ALL_DAYS)]]
    for rule in as_list(block.get("windows")):
        rule = as_mapping(rule)
        days = rule.get("weekdays")
        weekdays = ALL_DAYS if days is None else frozenset(_weekday(field, day) for day in as_list(days))
        windows += [_window(field, hours, weekdays) for hours in _texts(rule.get("hours_utc"))]
    found: _Prices = {}
    for name, value in block.items():
        if name in ("hours_utc", "windows", "weekday_timezone") or value is None:
            continue
        key = keys.parse_key(name, "chat")
        if key is None or key.tier != "standard" or key.above is not None:
            raise RowError(field, f"{name[:80]} is not known")
        found[key.meter] = prices.price(f"{field}.{name}", value, key.meter, key.scale)
    return _OffPeak(windows, str(block.get("weekday_timezone") or "UTC"), found)


def _texts(value: object) -> list[object]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _window(field: str, hours: object, weekdays: frozenset[int]) -> Window:
    start, _, end = hours.partition("-") if isinstance(hours, str) else ("", "", "")
    times = parse_hours(start.strip()), parse_hours(end.strip())
    if times[0] is None or times[1] is None:
        raise RowError(field, "a window has no hours like 16:30-00:30")
    return Window(times[0], times[1], weekdays)


def _weekday(field: str, value: object) -> int:
    if type(value) is int and 1 <= value <= 7:
        return value - 1
    if isinstance(value, str) and value.strip().lower()[:3] in _WEEKDAY_NAMES:
        return _WEEKDAY_NAMES.index(value.strip().lower()[:3])
    raise RowError(field, "a weekday is not a number from 1 to 7 or a name")


def _with_off_peak(catalog: Catalog, built: PriceSet, table: _Table, off_peak: _OffPeak, inclusive: bool) -> PriceSet:
    week = divide_week(off_peak.windows, off_peak.zone)
    if week is None:
        raise RowError("off_peak_pricing", "weekdays in a time zone with daylight saving time")
    changed = {name: price for name, price in off_peak.prices.items() if name in table.base}
    contexts = {
        tokens: {name: price for name, price in far.items() if name not in changed}
        for tokens, far in table.contexts.items()
    }
    reduced = _build(_Table({**table.base, **changed}, contexts), inclusive)
    return with_windows(catalog, week, lambda state: dict(reduced if state else built))


def _add_factors(catalog: Catalog, prices: Row, row: Mapping[str, Any], built: PriceSet) -> None:
    """Add the factors of regions and of fast mode."""
    stated: list[tuple[str, str, str, object]] = []
    for field, region in keys.REGION_FACTORS.items():
        if row.get(field) is not None:
            stated.append((field, "regions", region, row[field]))
    specific = as_mapping(row.get("provider_specific_entry"))
    for name, value in specific.items():
        if name == "fast":
            stated.append((f"provider_specific_entry.{name}", "modes", "fast", value))
        elif name == "us":
            stated.append((f"provider_specific_entry.{name}", "regions", name, value))
    for field, dimension, name, value in stated:
        try:
            factor = prices.number(field, value)
        except RowError as error:
            catalog.reject(prices.model, error.reason, field)
            continue
        if not 0 < factor <= 1000 or not factor_fits(built, factor, catalog.meters):
            catalog.reject(prices.model, "the factor gives prices with too many digits, or is out of range", field)
            continue
        if factor != 1:
            built.setdefault(dimension, {})[name] = {"factor": factor}
            if dimension == "regions":
                catalog.regions.setdefault(name, [])
