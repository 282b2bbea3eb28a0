"""Reads the prices and groups of a new-api gateway.

Three files are understood: the answer of ``GET /api/pricing``, the answer of ``GET /api/ratio_config``, and an export
of the options (key and value, with JSON texts such as ``ModelRatio``). Rules, from new-api's own settlement:

- USD per 1 M input tokens = ratio x 1 000 000 / ``QuotaPerUnit``, usually ratio x 2. All other token prices are ratios
  of it. A cache read without a ratio costs what input costs.
- A cache write of one hour costs 1.6 times that of five minutes; only Claude models have it.
- A price per call replaces all token prices: all tokens are free.
- A ratio of 37.5 with a completion ratio of 1 is the placeholder for an unknown model.
- Which groups may use a model is only in ``/api/pricing``; elsewhere a group has all models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import multiply
from brivionix_billing.errors import BillingError
from brivionix_billing.importing.amounts import Row, RowError, exact_ratio, fits_price, parse_number
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedGroup, ImportedModel, PriceSet
from brivionix_billing.importing.names import clean_text, name_problem
from brivionix_billing.importing.price_sets import build_set, context_list, meter_prices
from brivionix_billing.importing.reading import as_list, as_mapping, parse_source, unreadable
from brivionix_billing.importing.sources.new_api_expression import ExpressionError, parse_expression

__all__ = ["read"]

_MILLION: Final = Decimal(1_000_000)
_DEFAULT_QUOTA_PER_UNIT: Final = Decimal(500_000)
_PLACEHOLDER_RATIO: Final = Decimal("37.5")
_HOUR_FACTOR: Final = Decimal("1.6")
_DEFAULT_CREATE_RATIO: Final = Decimal("1.25")

_OPTIONS: Final = {
    "ModelRatio": "model_ratio",
    "CompletionRatio": "completion_ratio",
    "CacheRatio": "cache_ratio",
    "CreateCacheRatio": "create_cache_ratio",
    "ModelPrice": "model_price",
    "ImageRatio": "image_ratio",
    "AudioRatio": "audio_ratio",
    "AudioCompletionRatio": "audio_completion_ratio",
    "ModelBillingMode": "billing_mode",
    "ModelBillingExpr": "billing_expr",
    "billing_setting.billing_mode": "billing_mode",
    "billing_setting.billing_expr": "billing_expr",
}
"""Key of an option -> name of the same value in a row of ``/api/pricing``."""
_IGNORED_OPTIONS: Final = {
    "GroupGroupRatio": "ratios that depend on two groups",
    "TopupGroupRatio": "prices of top-ups",
}


def read(data: object, file_name: str = "") -> Catalog:
    """Return the catalog of a gateway. Raises ``source_unreadable``."""
    catalog = Catalog("new-api", cached_as_input=True)
    top = as_mapping(data)
    content = top.get("data", data)
    if isinstance(content, list) and any("model_name" in as_mapping(row) for row in content):
        _read_pricing(catalog, content, top)
    elif isinstance(content, list) and any({"key", "value"} <= as_mapping(row).keys() for row in content):
        _read_options(catalog, {str(row["key"]): row.get("value") for row in map(as_mapping, content) if "key" in row})
    elif "model_ratio" in as_mapping(content) or "model_price" in as_mapping(content):
        _read_models(catalog, _by_model(as_mapping(content)), _DEFAULT_QUOTA_PER_UNIT)
    elif any(key in as_mapping(content) for key in ("ModelRatio", "ModelPrice", "ModelBillingExpr")):
        _read_options(catalog, as_mapping(content))
    else:
        raise unreadable(
            "new-api",
            "the file has no prices of a new-api gateway",
            "pass the answer of GET /api/pricing or /api/ratio_config, or an export of the options",
        )
    return catalog


def _read_options(catalog: Catalog, options: Mapping[str, Any]) -> None:
    tables = {name: _table(options[key]) for key, name in _OPTIONS.items() if key in options}
    quota = _quota_per_unit(options.get("QuotaPerUnit"))
    _read_models(catalog, _by_model(tables), quota)
    for key, meaning in _IGNORED_OPTIONS.items():
        if _table(options.get(key)):
            catalog.reject("", f"{meaning} have no place in an imported price file; set them by hand", key)
    ratios, usable = _table(options.get("GroupRatio")), _table(options.get("UserUsableGroups"))
    for name, ratio in ratios.items():
        _read_group(catalog, name, ratio, ["*"], usable.get(name))


def _table(value: object) -> dict[str, Any]:
    """Return the content of an option, which is a JSON text."""
    if isinstance(value, str):
        try:
            return as_mapping(parse_source(value.encode("utf-8", "replace"), "new-api"))
        except BillingError:
            raise unreadable("new-api", "an option is not valid JSON", "export the options again") from None
    return as_mapping(value)


def _quota_per_unit(value: object) -> Decimal:
    if value is None:
        return _DEFAULT_QUOTA_PER_UNIT
    try:
        quota = parse_number(value, "QuotaPerUnit")
    except RowError as error:
        raise unreadable("new-api", f"QuotaPerUnit: {error.reason}", "export the options again") from None
    if not quota or exact_ratio(_MILLION, quota, 12) is None:
        raise unreadable("new-api", "QuotaPerUnit gives prices that are not decimals", "convert the ratios by hand")
    return quota


def _by_model(tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn tables by ratio into rows by model."""
    rows: dict[str, dict[str, Any]] = {}
    for column, values in tables.items():
        if column in _OPTIONS.values():
            for model, value in as_mapping(values).items():
                rows.setdefault(model, {})[column] = value
    return rows


def _read_pricing(catalog: Catalog, rows: list[Any], top: Mapping[str, Any]) -> None:
    vendors = {
        vendor["id"]: clean_text(vendor.get("name"))
        for vendor in map(as_mapping, as_list(top.get("vendors")))
        if isinstance(vendor.get("id"), int)
    }
    by_model: dict[str, dict[str, Any]] = {}
    models_of: dict[str, list[str]] = {}
    for row in map(as_mapping, rows):
        name = row.get("model_name")
        if not isinstance(name, str):
            catalog.reject("", "a row has no model_name")
            continue
        if name in by_model:
            catalog.reject(name, "appears twice; the first row was read")
            continue
        per_call = row.get("quota_type") == 1
        by_model[name] = {k: v for k, v in row.items() if k in _OPTIONS.values() and (per_call or k != "model_price")}
        for group in as_list(row.get("enable_groups")):
            models_of.setdefault(str(group), []).append(_name_without_stars(name))
    _read_models(catalog, by_model, _DEFAULT_QUOTA_PER_UNIT)
    for row in map(as_mapping, rows):
        model = catalog.models.get(_name_without_stars(str(row.get("model_name"))))
        if model is not None and isinstance(row.get("vendor_id"), int):
            model.vendor = vendors.get(row["vendor_id"])
    usable = as_mapping(top.get("usable_group"))
    for name, ratio in as_mapping(top.get("group_ratio")).items():
        models = sorted({*models_of.get(name, []), *models_of.get("all", [])} & catalog.models.keys())
        if models:
            everything = len(models) == len(catalog.models)
            _read_group(catalog, name, ratio, ["*"] if everything else models, usable.get(name))
        else:
            catalog.reject("", f"the group {name[:80]} has no imported model", "group_ratio")


def _read_group(catalog: Catalog, name: str, ratio: object, models: list[str], description: object) -> None:
    problem = name_problem(name)
    try:
        if problem:
            raise RowError("", problem)
        value = Row(catalog, "").number("ratio", ratio)
        if value > 1000:
            raise RowError("", "the ratio is more than 1000")
    except RowError as error:
        catalog.reject("", f"the group {name[:80]}: {error.reason}", "GroupRatio")
        return
    catalog.groups[name] = ImportedGroup(name, value, models, clean_text(description))


def _read_models(catalog: Catalog, rows: Mapping[str, Mapping[str, Any]], quota_per_unit: Decimal) -> None:
    for name, row in rows.items():
        problem = name_problem(name)
        try:
            if problem:
                raise RowError("", problem)
            base = _name_without_stars(name)
            if "*" in name and (not base or base in rows or base in catalog.models):
                raise RowError("", "is a pattern of names, and no name is left for the model")
            prices = _read_row(catalog, Row(catalog, name), row, quota_per_unit)
        except RowError as error:
            catalog.priced_rows += bool(error.field)
            catalog.reject(name, f"{error.field}: {error.reason}" if error.field else error.reason)
            continue
        catalog.priced_rows += 1
        model = ImportedModel(base, [DatedPrices(None, {"standard": prices})])
        if "request" in prices:
            model.unpriced_tokens = "as_container"  # the price per call is that of all tokens
        if name != base:
            model.aliases.append(name)
            catalog.note("pattern", f"is a pattern of names; it is an alias of the model {base}", name)
        catalog.models[base] = model


def _name_without_stars(name: str) -> str:
    """Return the name of a model for a pattern such as ``gpt-4-gizmo-*``; any other name is returned as it is."""
    return name.replace("*", "").strip("-_/.: ") if "*" in name else name


def _read_row(catalog: Catalog, prices: Row, row: Mapping[str, Any], quota_per_unit: Decimal) -> PriceSet:
    if row.get("billing_mode") == "tiered_expr":
        expression = row.get("billing_expr")
        try:
            found = parse_expression(expression if isinstance(expression, str) else "", prices)
        except ExpressionError as error:
            raise RowError("billing_expr", str(error)) from None
        _require_price(prices.model, any(_all_prices(found)), "all its prices are 0")
        return found
    per_call = row.get("model_price")
    if isinstance(per_call, int | Decimal) and not isinstance(per_call, bool) and per_call >= 0:
        _require_price(prices.model, per_call > 0, "its price per call is 0")
        request = prices.price("model_price", per_call, "request")
        return build_set({"request": request, "input": Decimal(0), "output": Decimal(0)}, {})
    if row.get("model_ratio") is None:
        raise RowError("", "states no price")
    ratio = prices.number("model_ratio", row["model_ratio"])
    completion = (
        None if row.get("completion_ratio") is None else prices.number("completion_ratio", row["completion_ratio"])
    )
    if ratio == _PLACEHOLDER_RATIO and completion in (None, Decimal(1)):
        raise RowError("", "a ratio of 37.5 is new-api's placeholder for an unknown model")
    _require_price(prices.model, bool(ratio), "its ratio is 0")
    per_ratio = exact_ratio(_MILLION, quota_per_unit, 12)
    assert per_ratio is not None  # noqa: S101  # checked when the options were read
    return _ratio_prices(catalog, prices, row, multiply(ratio, per_ratio), completion)


def _require_price(model: str, is_priced: bool, problem: str) -> None:
    """Raise :class:`RowError` for a price of 0, unless the name shows that the model is free."""
    if not is_priced and not model.endswith((":free", "-free", "/free")):
        raise RowError("", f"{problem}, and nothing shows that it is free")


def _all_prices(found: PriceSet) -> Iterator[Decimal]:
    yield from meter_prices(found).values()
    for tier in context_list(found):
        yield from meter_prices(tier).values()


def _ratio_prices(
    catalog: Catalog, prices: Row, row: Mapping[str, Any], base: Decimal, completion: Decimal | None
) -> PriceSet:
    out = {"input": base}
    if completion is not None:
        out["output"] = multiply(base, completion)
    else:
        catalog.note(
            "output_unpriced",
            "new-api has a built-in completion ratio for this model, which the file does not state; "
            "GET /api/pricing states it",
            prices.model,
        )

    def ratio_of(field: str) -> Decimal | None:
        return None if row.get(field) is None else prices.number(field, row[field])

    cached, written = ratio_of("cache_ratio"), ratio_of("create_cache_ratio")
    is_claude = "claude" in prices.model.lower()
    if cached is not None:
        out["cache_read"] = multiply(base, cached)
    if written is not None or is_claude:
        out["cache_write"] = multiply(base, _DEFAULT_CREATE_RATIO if written is None else written)
    if is_claude:
        out["cache_write_1h"] = multiply(out["cache_write"], _HOUR_FACTOR)
    image, audio, audio_completion = map(ratio_of, ("image_ratio", "audio_ratio", "audio_completion_ratio"))
    if image is not None:
        out["image_input"] = multiply(base, image)
    if audio is not None:
        out["audio_input"] = multiply(base, audio)
        out["audio_output"] = multiply(out["audio_input"], Decimal(1) if audio_completion is None else audio_completion)
    for meter, price in out.items():
        if not fits_price(price, meter) or price > _MILLION:
            raise RowError("model_ratio", f"the price of {meter} has too many digits, or is too large")
    return build_set(out, {})
