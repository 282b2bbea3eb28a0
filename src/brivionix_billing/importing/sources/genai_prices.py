"""Reads genai-prices' data, ``prices/new_data/v2/data.json`` of pydantic/genai-prices.

A list of providers with models; prices are USD per 1 M tokens or per 1000 calls. Rules, from genai-prices' own
calculation:

- Of conditional prices, the last one applies whose start date or time of day (UTC) matches.
- A price above a boundary of input tokens applies to the whole request; each price has its own boundaries.
- ``price_variants`` replace single prices for a batch, a service tier or a fast mode.
- Tokens without a price of their own cost what the tokens cost that contain them: ``unpriced_tokens: as_container``.
- Some prices are not decimals, such as a twelfth of a dollar. The meter stays without a price, and such a model refuses
  tokens without a price, because they do not cost what input costs.
- A name without a provider means the model of the first provider whose ``model_match`` matches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.importing.amounts import InexactError, Row, RowError, exact_ratio, fits_price, parse_number
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedModel, PriceSet
from brivionix_billing.importing.names import clean_text, name_problem, qualified_names
from brivionix_billing.importing.price_sets import Boundary, add_variant, build_set, with_windows
from brivionix_billing.importing.reading import as_list, as_mapping, unreadable
from brivionix_billing.importing.sources.genai_names import PlainModel, add_aliases, owner_of
from brivionix_billing.importing.windows import State, Window, divide_week, parse_hours

__all__ = ["read"]

_KEYS: Final[dict[str, tuple[str, Decimal]]] = {
    **{
        key: (meter, Decimal(1))
        for key, meter in {
            "input_mtok": "input",
            "input_text_mtok": "input",
            "output_mtok": "output",
            "output_text_mtok": "output",
            "cache_read_mtok": "cache_read",
            "cache_text_read_mtok": "cache_read",
            "cache_write_mtok": "cache_write",
            "cache_write_5m_mtok": "cache_write",
            "cache_write_1h_mtok": "cache_write_1h",
            "output_reasoning_mtok": "reasoning",
            "output_citation_mtok": "citation",
            "input_audio_mtok": "audio_input",
            "cache_audio_read_mtok": "audio_cache_read",
            "cache_audio_write_mtok": "audio_cache_write",
            "output_audio_mtok": "audio_output",
            "input_image_mtok": "image_input",
            "cache_image_read_mtok": "image_cache_read",
            "output_image_mtok": "image_output",
            "input_video_mtok": "video_input",
            "cache_video_read_mtok": "video_cache_read",
            "output_video_mtok": "video_output",
            "input_mchars": "input_characters",
            "web_searches_kcount": "web_search",
            "storage_searches_kcount": "file_search",
            "rerank_searches_kcount": "queries",
            "input_document_kpages": "pages",
            "input_annotated_document_kpages": "annotation_pages",
        }.items()
    },
    "requests_kcount": ("request", Decimal("0.001")),
    "input_gpixels": ("input_pixels", Decimal("0.001")),
}
"""Price key -> meter, and the factor to the unit of the price file."""
_OWN_METERS: Final = {
    "social_searches_kcount": ("social_searches", "call"),
    "code_executions_kcount": ("code_executions", "call"),
    "input_text_messages_kcount": ("text_messages", "message"),
}
"""Price key -> meter that the price file must declare, and its unit; per 1000."""
_HOURS: Final = {
    "audio_hours": "audio_input_seconds",
    "input_audio_hours": "audio_input_seconds",
    "output_audio_hours": "audio_output_seconds",
}
_SECONDS_PER_HOUR: Final = Decimal(3600)
_MAX_TIERS: Final = 50
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_Graded = dict[int, Decimal]
"""The prices of one meter by the number of input tokens above which they apply; the base price has 0 as its key."""


class _Prices(NamedTuple):
    """The prices of one condition, by meter."""

    meters: dict[str, _Graded | None]
    """``None``: there is a price, which a price file does not hold."""


class _Condition(NamedTuple):
    """Prices that apply from a date on, or at times of day, or always."""

    start: str | None
    window: Window | None
    prices: _Prices


def read(data: object, file_name: str = "") -> Catalog:
    """Return the catalog of genai-prices' data. Raises ``source_unreadable``."""
    providers = [p for p in data if isinstance(p, dict)] if isinstance(data, list) else []
    if not any("models" in provider and "id" in provider for provider in providers):
        raise unreadable(
            "genai-prices",
            "the file is not a list of providers with models",
            "pass prices/new_data/v2/data.json of pydantic/genai-prices",
        )
    catalog = Catalog("genai-prices", cached_as_input=True, unpriced_tokens="as_container")
    rows = [
        (provider, model)
        for provider in providers
        for model in as_list(provider.get("models"))
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    ]
    providers_of: dict[str, list[str]] = {}
    for provider, model in rows:
        found = providers_of.setdefault(model["id"], [])
        if str(provider.get("id")) not in found:
            found.append(str(provider.get("id")))
    owners = {model: owner_of(providers, model) for model, found in providers_of.items() if len(found) > 1}
    names = qualified_names(providers_of, {model: owner for model, owner in owners.items() if owner})
    plain: list[PlainModel] = []
    for provider, row in rows:
        name = names[str(provider.get("id")), row["id"]]
        model_read = _read_model(catalog, str(provider.get("id")), name, row)
        if model_read is not None and name == row["id"]:
            plain.append(PlainModel(model_read, row, provider))
    for each in plain:
        alias = f"{each.provider.get('id')}/{each.model.name}"
        if len(providers_of[each.model.name]) > 1 and alias not in catalog.models and not name_problem(alias):
            each.model.aliases.append(alias)
    add_aliases(catalog, plain, providers)
    return catalog


def _read_model(catalog: Catalog, provider: str, name: str, row: Mapping[str, Any]) -> ImportedModel | None:
    problem = name_problem(name) or ("appears twice" if name in catalog.models else None)
    if problem:
        catalog.reject(name, problem)
        return None
    try:
        conditions = _read_conditions(catalog, Row(catalog, name), row.get("prices"))
        variants = list(_read_variants(catalog, name, row))
        prices = _read_dated(catalog, conditions, variants)
    except RowError as error:
        catalog.priced_rows += error.reason != _NO_PRICE
        catalog.reject(name, f"{error.field}: {error.reason}" if error.field else error.reason)
        return None
    catalog.priced_rows += 1
    stated = [*(condition.prices for condition in conditions), *(variant.prices for variant in variants)]
    window = row.get("context_window")
    model = ImportedModel(
        name,
        prices,
        display_name=clean_text(row.get("name")),
        vendor=clean_text(provider),
        context={"window": window} if type(window) is int and 0 < window <= 10**12 else {},
        unpriced_tokens="refuse" if any(None in each.meters.values() for each in stated) else "as_container",
    )
    catalog.models[name] = model
    return model


_NO_PRICE: Final = "states no price"


def _read_conditions(catalog: Catalog, prices: Row, stated: object) -> list[_Condition]:
    entries = stated if isinstance(stated, list) else [{"prices": stated}]
    conditions: list[_Condition] = []
    for entry in map(as_mapping, entries):
        start, window = _constraint(as_mapping(entry.get("constraint")), len(conditions))
        conditions.append(_Condition(start, window, _read_prices(catalog, prices, as_mapping(entry.get("prices")))))
    if not any(condition.prices.meters for condition in conditions):
        raise RowError("", _NO_PRICE)
    stated_prices = [graded or {} for condition in conditions for graded in condition.prices.meters.values()]
    is_zero = all(not price for graded in stated_prices for price in graded.values())
    if is_zero and not prices.model.endswith((":free", "-free", "/free")):
        raise RowError("", "all its prices are 0, and nothing shows that it is free")
    return conditions


def _constraint(constraint: Mapping[str, Any], label: int) -> tuple[str | None, Window | None]:
    if not constraint:
        return None, None
    day = constraint.get("start_date")
    if isinstance(day, str) and _DAY.fullmatch(day) and constraint.keys() == {"start_date"}:
        try:
            date.fromisoformat(day)
        except ValueError:
            raise RowError("constraint", f"{day} is not a date") from None
        return day, None
    start, end = parse_hours(constraint.get("start_time")), parse_hours(constraint.get("end_time"))
    if start is None or end is None or constraint.keys() != {"start_time", "end_time"}:
        raise RowError("constraint", "is neither a start date nor hours of a day in whole minutes of UTC")
    return None, Window(start, end, label=label)


def _read_prices(catalog: Catalog, prices: Row, stated: Mapping[str, Any]) -> _Prices:
    meters: dict[str, _Graded | None] = {}
    for field, value in stated.items():
        if value is None:
            continue
        if field in _OWN_METERS:
            meter, unit = _OWN_METERS[field]
            catalog.meters[meter] = {"unit": unit, "per": 1000}
            meters[meter] = _graded(prices, field, value, meter, Decimal(1), 1000)
        elif field in _HOURS:
            meter = _HOURS[field]
            price = exact_ratio(parse_number(value, field), _SECONDS_PER_HOUR, 18)
            if price is not None and fits_price(price, meter):
                meters[meter] = {0: price}
                continue
            # A third of a cent per second is not exact, so such a model counts hours, on a meter of the file.
            meter = meter.replace("_seconds", "_hours")
            catalog.meters[meter] = {"unit": "hour", "per": 1}
            meters[meter] = {0: prices.price(field, value, meter, Decimal(1), per=1)}
        elif field in _KEYS:
            meter, scale = _KEYS[field]
            graded: _Graded | None
            try:
                graded = _graded(prices, field, value, meter, scale, None)
            except InexactError as error:
                if meter in ("input", "output"):
                    raise
                catalog.reject(prices.model, error.reason, error.field)
                graded = None
            if meters.setdefault(meter, graded) != graded:
                raise RowError(field, f"is another price of {meter}, which another field states, too")
        else:
            catalog.reject(prices.model, "a price in a unit that is not known", field)
    return _Prices(meters)


def _graded(prices: Row, field: str, value: object, meter: str, scale: Decimal, per: int | None) -> _Graded:
    if not isinstance(value, dict):
        return {0: prices.price(field, value, meter, scale, per=per)}
    out = {0: prices.price(f"{field}.base", value.get("base"), meter, scale, per=per)}
    tiers = value.get("tiers") or []
    if not isinstance(tiers, list) or len(tiers) > _MAX_TIERS:
        raise RowError(field, "its tiers are not a short list")
    for tier in map(as_mapping, tiers):
        start = tier.get("start")
        if type(start) is not int or not 0 < start <= 10**12 or start in out:
            raise RowError(field, "a tier does not start at a number of tokens of its own")
        out[start] = prices.price(f"{field}.tiers", tier.get("price"), meter, scale, per=per)
    return out


def _read_dated(catalog: Catalog, conditions: Sequence[_Condition], variants: Sequence[_Variant]) -> list[DatedPrices]:
    starts = {c.start for c in conditions} | {variant.start for variant in variants}
    dated: list[DatedPrices] = []
    for start in [None, *sorted(day for day in starts if day is not None)]:
        tiers = _tiers_at(catalog, conditions, variants, start)
        if not dated:
            dated.append(DatedPrices(start, tiers))
            continue
        before: dict[str, PriceSet] = {}
        for entry in dated:
            before |= entry.tiers
        changed = {tier: prices for tier, prices in tiers.items() if before.get(tier) != prices}
        if changed:
            dated.append(DatedPrices(start, changed))
    return dated


class _Variant(NamedTuple):
    """Prices that replace some of the standard ones, in a service tier or a mode."""

    start: str | None
    dimension: str
    name: str
    prices: _Prices


def _read_variants(catalog: Catalog, name: str, row: Mapping[str, Any]) -> Iterator[_Variant]:
    for variant in map(as_mapping, as_list(row.get("price_variants"))):
        when = as_mapping(variant.get("when"))
        target = _variant_target(when)
        shown = "price_variants " + ", ".join(f"{key}: {value}" for key, value in when.items())[:80]
        if target is None:
            catalog.reject(name, "a price file has no such condition", shown)
            continue
        try:
            start, window = _constraint(as_mapping(variant.get("constraint")), 0)
            if window is not None:
                raise RowError("constraint", "hours of a variant")
            prices = _read_prices(catalog, Row(catalog, name), as_mapping(variant.get("prices")))
        except RowError as error:
            catalog.reject(name, error.reason, shown)
            continue
        yield _Variant(start, *target, prices)


def _variant_target(when: Mapping[str, Any]) -> tuple[str, str] | None:
    if when == {"processing": "batch"}:
        return "tier", "batch"
    if when == {"speed": "fast"}:
        return "mode", "fast"
    tier = when.get("service_tier") if when.keys() == {"service_tier"} else None
    known = {"default": "standard", "flex": "flex", "priority": "priority", "fast": "priority"}
    return ("tier", known[tier]) if isinstance(tier, str) and tier in known else None


def _tiers_at(
    catalog: Catalog, conditions: Sequence[_Condition], variants: Sequence[_Variant], start: str | None
) -> dict[str, PriceSet]:
    """Return the prices of every tier that apply from a date on, until the next date."""
    usual = next(
        (
            (index, condition)
            for index, condition in reversed(list(enumerate(conditions)))
            if condition.window is None and _has_started(condition.start, start)
        ),
        (0, conditions[0]),
    )
    later = {index: c for index, c in enumerate(conditions) if c.window is not None and index > usual[0]}
    windows = [condition.window for condition in later.values() if condition.window is not None]

    def active(state: State) -> _Prices:
        return conditions[max(state)].prices if state else usual[1].prices

    def resolve(state: State) -> State:
        prices = active(state)
        same = next((index for index, condition in later.items() if condition.prices == prices), None)
        return frozenset() if same is None or prices == usual[1].prices else frozenset({same})

    week = divide_week([w._replace(label=index) for index, w in zip(later, windows, strict=True)], resolve=resolve)
    if week is None:
        raise RowError("constraint", "its hours cannot be expressed")

    tiers: dict[str, PriceSet] = {}
    in_force = [variant for variant in variants if _has_started(variant.start, start)]
    for tier in dict.fromkeys(["standard", *(v.name for v in in_force if v.dimension == "tier")]):
        own = [v.prices for v in in_force if v.dimension == "tier" and v.name == tier]
        by_state = {state: _set_of(_overlay(active(state), own)) for state in (week.usual, *week.calendars)}
        tiers[tier] = with_windows(catalog, week, by_state.__getitem__)
    for variant in in_force:
        if variant.dimension == "mode":
            own = [v.prices for v in in_force if (v.dimension, v.name) == ("mode", variant.name)]
            add_variant(tiers["standard"], "modes", variant.name, _set_of(_overlay(active(week.usual), own)))
    return tiers


def _has_started(start: str | None, at: str | None) -> bool:
    return start is None or (at is not None and start <= at)


def _overlay(prices: _Prices, variants: Sequence[_Prices]) -> _Prices:
    """Return the prices with those of the variants; the first variant that states a price wins."""
    meters = dict(prices.meters)
    for variant in reversed(variants):
        meters |= variant.meters
    return _Prices(meters)


def _set_of(prices: _Prices) -> PriceSet:
    held = {meter: graded for meter, graded in prices.meters.items() if graded is not None}
    base = {meter: graded[0] for meter, graded in held.items()}
    contexts: dict[Boundary, dict[str, Decimal]] = {}
    for meter, graded in held.items():
        for start, price in graded.items():
            if start:
                contexts.setdefault(Boundary(start), {})[meter] = price
    return build_set(base, contexts)
