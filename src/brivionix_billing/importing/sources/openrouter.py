"""Reads OpenRouter's list of models, ``GET https://openrouter.ai/api/v1/models``.

Prices are texts, USD per single unit. A price of 0 of anything but prompt and completion means that nothing is charged
for it apart from the tokens, so it is left out. ``overrides`` apply in their order to requests with strictly more
prompt tokens than ``min_prompt_tokens``, or in a window of UTC; later ones win. A negative price means that another
model's price applies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import after_discount, multiply
from brivionix_billing.importing.amounts import Row, RowError, fits_price
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedModel, PriceSet
from brivionix_billing.importing.names import clean_text, name_problem
from brivionix_billing.importing.price_sets import Boundary, build_set, meter_prices, with_windows
from brivionix_billing.importing.reading import as_mapping, unreadable
from brivionix_billing.importing.windows import ALL_DAYS, State, Window, divide_week, parse_hours

__all__ = ["read"]

_TOKEN: Final = 1_000_000
_KEYS: Final[dict[str, tuple[str, int]]] = {
    "prompt": ("input", _TOKEN),
    "completion": ("output", _TOKEN),
    "input_cache_read": ("cache_read", _TOKEN),
    "input_cache_write": ("cache_write", _TOKEN),
    "input_cache_write_1h": ("cache_write_1h", _TOKEN),
    "internal_reasoning": ("reasoning", _TOKEN),
    "audio": ("audio_input", _TOKEN),
    "audio_output": ("audio_output", _TOKEN),
    "input_audio_cache": ("audio_cache_read", _TOKEN),
    "image_token": ("image_input", _TOKEN),
    "image_output": ("image_output", _TOKEN),
    "image": ("input_images", 1),
    "request": ("request", 1),
    "web_search": ("web_search", 1000),
}
_ALWAYS: Final = frozenset({"prompt", "completion"})
_CONDITIONS: Final = frozenset({"min_prompt_tokens", "utc_start", "utc_end", "utc_days"})
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FREE: Final = (":free", "/free", "-free")


class _Override(NamedTuple):
    above: int
    """0 if the number of prompt tokens does not matter."""
    window: Window | None
    prices: dict[str, Decimal]


def read(data: object, file_name: str = "") -> Catalog:
    """Return the catalog of OpenRouter's models. Raises ``source_unreadable``."""
    found = as_mapping(data).get("data") if isinstance(data, dict) else data
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    if not any("pricing" in row and "id" in row for row in rows):
        raise unreadable(
            "openrouter",
            "the file is not OpenRouter's list of models",
            "pass the answer of GET https://openrouter.ai/api/v1/models",
        )
    catalog = Catalog("openrouter", cached_as_input=True)
    for row in rows:
        _read_row(catalog, row)
    taken = set(catalog.models)
    for row in rows:
        slug, model = row.get("canonical_slug"), catalog.models.get(str(row.get("id")))
        if (
            model is not None
            and isinstance(slug, str)
            and slug not in taken
            and not name_problem(slug)
            and "*" not in slug
        ):
            model.aliases.append(slug)
            taken.add(slug)
    return catalog


def _read_row(catalog: Catalog, row: Mapping[str, Any]) -> None:
    name = row.get("id") if isinstance(row.get("id"), str) else ""
    problem = name_problem(name) or ("appears twice" if name in catalog.models else None)
    pricing = as_mapping(row.get("pricing"))
    if problem or not pricing:
        catalog.reject(str(name), problem or "states no price")
        return
    try:
        standard = _read_pricing(catalog, Row(catalog, str(name)), pricing)
        if not any(meter_prices(standard).values()) and not str(name).endswith(_FREE):
            raise RowError("", "all its prices are 0, and nothing shows that it is free")
    except RowError as error:
        catalog.priced_rows += bool(error.field)
        catalog.reject(str(name), f"{error.field}: {error.reason}" if error.field else error.reason)
        return
    catalog.priced_rows += 1
    size = row.get("context_length")
    output = as_mapping(row.get("top_provider")).get("max_completion_tokens")
    stated = {"window": size, "max_output": output}
    catalog.models[str(name)] = ImportedModel(
        str(name),
        [DatedPrices(None, {"standard": standard})],
        display_name=clean_text(row.get("name")),
        vendor=clean_text(str(name).partition("/")[0]) if "/" in str(name) else None,
        context={key: value for key, value in stated.items() if type(value) is int and 0 < value <= 10**12},
    )


def _read_pricing(catalog: Catalog, prices: Row, pricing: Mapping[str, Any]) -> PriceSet:
    remaining = Decimal(1)
    if pricing.get("discount") is not None:
        discount = prices.number("discount", pricing["discount"])
        if discount > 1:
            raise RowError("discount", "is more than 1")
        remaining = after_discount(discount)
    base = _read_prices(catalog, prices, pricing, remaining, "")
    if "input" not in base and "output" not in base and not base:
        raise RowError("", "states no price")
    stated = pricing.get("overrides") or []
    if not isinstance(stated, list):
        raise RowError("overrides", "is not a list")
    overrides = [
        _read_override(catalog, prices, as_mapping(item), remaining, label) for label, item in enumerate(stated)
    ]
    windows = [override.window for override in overrides if override.window is not None]
    by_prices: dict[str, State] = {repr(_set_in(base, overrides, frozenset())): frozenset()}

    def resolve(state: State) -> State:
        return by_prices.setdefault(repr(_set_in(base, overrides, state)), state)

    week = divide_week(windows, resolve=resolve)
    if week is None:
        raise RowError("overrides", "its hours cannot be expressed")
    return with_windows(catalog, week, lambda state: _set_in(base, overrides, state))


def _read_prices(
    catalog: Catalog, prices: Row, stated: Mapping[str, Any], remaining: Decimal, where: str
) -> dict[str, Decimal]:
    out: dict[str, Decimal] = {}
    for key, value in stated.items():
        if key in ("discount", "overrides") or value is None or (where and key in _CONDITIONS):
            continue
        known = _KEYS.get(key)
        if known is None:
            catalog.reject(prices.model, "a price in a unit that is not known", f"{where}{key}"[:120])
            continue
        meter, scale = known
        price = multiply(prices.price(f"{where}{key}", value, meter, scale), remaining)
        if not fits_price(price, meter):
            raise RowError(f"{where}{key}", "has too many digits after the discount")
        if price or key in _ALWAYS:
            out[meter] = price
    return out


def _read_override(
    catalog: Catalog, prices: Row, stated: Mapping[str, Any], remaining: Decimal, label: int
) -> _Override:
    above = stated.get("min_prompt_tokens") or 0
    if isinstance(above, bool) or not isinstance(above, int | Decimal) or not 0 <= above <= 10**12 or above % 1:
        raise RowError("overrides.min_prompt_tokens", "is not a whole number of tokens of at most 10^12")
    window = None
    if any(key in stated for key in ("utc_start", "utc_end", "utc_days")):
        start, end = parse_hours(stated.get("utc_start", "00:00")), parse_hours(stated.get("utc_end", "00:00"))
        if start is None or end is None:
            raise RowError("overrides.utc_start", "is not a time of day like 16:30")
        window = Window(start, end, _read_days(stated.get("utc_days")), label)
    found = _read_prices(catalog, prices, stated, remaining, "overrides.")
    return _Override(int(above), window, found)


def _read_days(days: object) -> frozenset[int]:
    if days is None:
        return ALL_DAYS
    names = [day.strip().lower()[:3] for day in days if isinstance(day, str)] if isinstance(days, list) else []
    if not names or len(names) != len(days) or not set(names) <= set(_DAYS):  # type: ignore[arg-type]  # a list here
        raise RowError("overrides.utc_days", "is not a list of names of weekdays")
    return frozenset(map(_DAYS.index, names))


def _set_in(base: Mapping[str, Decimal], overrides: Sequence[_Override], state: State) -> PriceSet:
    """Return the prices of a state of the week: each override applies from its boundary on."""
    active = [o for o in overrides if o.window is None or o.window.label in state]

    def at(tokens: int) -> dict[str, Decimal]:
        prices = dict(base)
        for override in active:
            if override.above <= tokens:
                prices |= override.prices
        return prices

    return build_set(at(0), {Boundary(tokens): at(tokens) for tokens in sorted({o.above for o in active} - {0})})
