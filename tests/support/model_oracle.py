"""An oracle for the whole price model: docs/pricing-yaml.md in fractions, over the plain data of a price file.

It shares no code with the library. A variant with prices of its own is applied by rewriting the price set around it,
so that there is one set and one factor at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

from oracle import WITHOUT_CACHE, RefusedError, entry_at
from rich_books import in_window
from strategies import Data, containing_arguments

__all__ = ["ModelRequest", "PricedRequest", "arguments_of", "outcome", "price_request"]

_INPUTS: Final = ("cache_read", "explicit_cache_read", "cache_write")
_CALLS: Final = ("web_search", "web_search_low", "web_search_high", "maps_search")
_TOKENS: Final = ("input", "cache_read", "explicit_cache_read", "cache_write", "output", "citation", "reasoning")
_PER: Final = {"audio_input_seconds": 1, "robot_minutes": 10, "request": 1, **dict.fromkeys(_CALLS, 1_000)}
_FALLBACKS: Final = {
    "explicit_cache_read": "cache_read",
    "citation": "output",
    "web_search_low": "web_search",
    "web_search_high": "web_search",
}
_TIER_NAMES: Final = {None: "standard", "scale": "standard", "ultrafast": "ultra"}
_TIERS: Final = ("standard", "batch", "flex", "priority", "ultra")
_USUAL_REGIONS: Final = (None, "home", "global")
_SECTIONS: Final = ("regions", "modes", "windows")


class ModelRequest(NamedTuple):
    """One request, as a caller rates it."""

    quantities: dict[str, Fraction]
    """Meter -> disjoint quantity."""
    reasoning: int
    """Tokens of the output that are reasoning."""
    model: str
    group: str
    tier: str | None
    at: datetime
    region: str | None
    mode: str | None
    served: str | None
    """The model that the usage states."""

    @property
    def input_tokens(self) -> Fraction:
        """All input tokens."""
        return sum((self.quantities.get(name, Fraction(0)) for name in _TOKENS[:4]), Fraction(0))


class PricedRequest(NamedTuple):
    """The price of a request, and on what it depends."""

    model: str
    tier: str
    context: str
    conditions: dict[str, str]
    """Router, region, mode and window that apply."""
    lines: dict[str, Fraction]
    """Meter -> Credits."""
    uncached: Fraction
    """Credits at list price without cache."""
    at_list: Fraction
    """Credits at list price."""

    @property
    def credits(self) -> Fraction:
        """The charge."""
        return sum(self.lines.values(), Fraction(0))


def arguments_of(request: ModelRequest) -> dict[str, Any]:
    """Return the arguments of ``Usage`` for the quantities of a request."""
    whole = {name: int(n) for name, n in request.quantities.items() if name in _TOKENS or name in _CALLS}
    # Built from text, so that it is exact in any decimal context.
    exact = {name: Decimal(f"{int(n * 10**6)}E-6") for name, n in request.quantities.items() if name not in whole}
    own = {name: exact.pop(name) for name in ("robot_minutes",) if name in exact}
    return {
        **containing_arguments(whole),
        **exact,
        "reasoning_tokens": request.reasoning,
        "quantities": own,
        "model": request.served,
    }


def outcome(book: Data, request: ModelRequest) -> str:
    """Return ``priced``, or the code of the error."""
    try:
        price_request(book, request)
    except RefusedError as refused:
        return str(refused)
    return "priced"


def price_request(book: Data, request: ModelRequest) -> PricedRequest:
    """Return the price of a request. Raises ``RefusedError`` with the code that the library must raise."""
    named = request.model.removeprefix("openai/")
    is_router = "routes_to" in book["models"][named]
    if book.get("priced_model") == "served" and request.served is not None and not is_router:
        named = request.served
    model, router = named, None
    if "routes_to" in book["models"][named]:
        if request.served is None:
            raise RefusedError("unknown_model")
        if "routes_to" in book["models"][request.served]:
            raise RefusedError("model_not_allowed")
        model, router = request.served, named
    terms = entry_at(book["groups"][request.group]["terms"], request.at)
    if terms is None:
        raise RefusedError("unknown_group")
    asked = None if request.tier is None else request.tier.lower()
    tier = _TIER_NAMES.get(asked, asked) or "standard"
    listed = _sold(book, model, tier, request.at)
    rate = _rate(book, model, request.at)
    fees = _fees(book, model, request.at)
    if router is not None:
        fee = Fraction(_sold(book, router, "standard", request.at)["router_fee"])
        fees["router_fee"] = fee * _rate(book, router, request.at)
    if request.mode == "fast" and tier in ("standard", "priority") and not _mentions(listed, "modes", "fast"):
        tier = "priority"  # without a price of its own, this mode is a name of the tier
        listed, mode = _sold(book, model, tier, request.at), None
    else:
        mode = request.mode
    override = terms.get("overrides", {}).get(model, {}).get("prices", {}).get(tier)
    chosen = _choose(book, listed, request, mode)
    discount = _discount(book, model, request.at)
    at_list, context, minimum = _table(listed, chosen, request.input_tokens, discount)
    at_list = {**fees, **{name: price * rate for name, price in at_list.items()}}
    minimum = minimum if minimum is None else minimum * rate
    terms_of_model = terms.get("overrides", {}).get(router or model, {})
    ratio = Fraction(terms_of_model.get("ratio", terms["ratio"]))
    paid = {name: price * ratio for name, price in at_list.items()}
    list_minimum = minimum or Fraction(0)
    minimum = minimum if minimum is None else minimum * ratio
    if override is not None:
        own, _, own_minimum = _table(override, chosen, request.input_tokens, discount)
        paid |= own
        minimum = minimum if own_minimum is None else own_minimum
    conditions = {"router": router} | dict(zip(("region", "mode", "window"), chosen, strict=True))
    stated = {name: value for name, value in conditions.items() if value is not None}
    return _charge(book, request, (model, tier, context, stated), at_list, paid, (list_minimum, minimum or Fraction(0)))


def _charge(
    book: Data,
    request: ModelRequest,
    names: tuple[str, str, str, dict[str, str]],
    at_list: Mapping[str, Fraction],
    paid: Mapping[str, Fraction],
    minimums: tuple[Fraction, Fraction],
) -> PricedRequest:
    per_credit = Fraction(book["credit"]["nominal_per_credit"])
    lines: dict[str, Fraction] = {}
    list_total = uncached = Fraction(0)
    contains = book.get("unpriced_tokens") == "as_container"
    for name, quantity in _billed(request, paid, contains=contains).items():
        per = _PER.get(name, 1_000_000)
        lines[name] = quantity * paid[name] / per / per_credit
        listed = at_list.get(name, paid[name])
        list_total += quantity * listed / per / per_credit
        uncached += quantity * at_list.get(WITHOUT_CACHE.get(name, name), listed) / per / per_credit
    list_minimum, minimum = (each / per_credit for each in minimums)
    missing = minimum - sum(lines.values(), Fraction(0))
    if missing > 0:
        lines["minimum_charge"] = missing
    list_total, uncached = max(list_total, list_minimum), max(uncached, list_minimum)
    return PricedRequest(*names, lines, uncached, list_total)


def _billed(request: ModelRequest, paid: Mapping[str, Fraction], *, contains: bool) -> dict[str, Fraction]:
    billed: dict[str, Fraction] = {}
    for name, quantity in request.quantities.items():
        meter = name if name in paid else _FALLBACKS.get(name, name)
        if meter not in paid and contains and name in _INPUTS:
            meter = "input"  # a cached token is contained in nothing else that has a price
        if meter not in paid:
            raise RefusedError("meter_unpriced")
        billed[meter] = billed.get(meter, Fraction(0)) + quantity
    if "reasoning" in paid:
        # Citations with a price of their own are charged as citations, even if they were reasoned about.
        reasoning = min(Fraction(request.reasoning), billed.get("output", Fraction(0)))
        billed["output"] = billed.get("output", Fraction(0)) - reasoning
        billed["reasoning"] = reasoning
    if "request" in paid:
        billed["request"] = Fraction(1)
    if "router_fee" in paid:
        billed["router_fee"] = request.input_tokens
    return {name: quantity for name, quantity in billed.items() if quantity}


# --- what is sold ---


def _sold(book: Data, model: str, tier: str, at: datetime) -> Data:
    entries = book["models"][model]["prices"]
    sold = {name: entry_at([e for e in entries if name in e], at) for name in _TIERS}
    entry = sold.get(tier)
    if entry is None:
        raise RefusedError("service_tier_unavailable" if any(sold.values()) else "no_price")
    prices: Data = entry[tier]
    return prices


def _rate(book: Data, model: str, at: datetime) -> Fraction:
    if "currency" not in book["models"][model]:
        return Fraction(1)
    entry = entry_at(book["exchange_rates"]["CNY"], at)
    if entry is None:
        raise RefusedError("no_price")
    return Fraction(entry["rate"])


def _default(entries: list[Data], model: str, at: datetime) -> Data | None:
    def applies(entry: Data) -> bool:
        patterns = [pattern.replace("*", ".*").replace("?", ".") for pattern in entry.get("models", ["*"])]
        return any(re.fullmatch(pattern, model) for pattern in patterns)

    return entry_at([entry for entry in entries if applies(entry)], at)


def _fees(book: Data, model: str, at: datetime) -> dict[str, Fraction]:
    allowed = book["models"][model].get("tools", list(book["tools"]))
    found = {name: _default(book["tools"][name], model, at) for name in allowed}
    return {name: Fraction(entry["per_1000_calls"]) for name, entry in found.items() if entry is not None}


def _discount(book: Data, model: str, at: datetime) -> Fraction | None:
    entry = _default(book["cache_discount"], model, at)
    if entry is None or book["models"][model].get("cache_discount") is False:
        return None
    return Fraction(entry["discount"])


# --- price sets ---


def _mentions(item: Data, section: str, name: str) -> bool:
    variants = [variant for part in _SECTIONS for variant in item.get(part, {}).values()]
    return name in item.get(section, {}) or any(_mentions(variant, section, name) for variant in variants)


def _rewritten(item: Data, section: str, name: str | None) -> tuple[Data, Fraction]:
    """Return the price set in a variant, and the factor that applies to it."""
    variant = item.get(section, {}).get(name)
    if variant is None:
        return item, Fraction(1)
    if "factor" in variant:
        return item, Fraction(variant["factor"])
    inherited = {key: value for key, value in item.items() if key in _PER or key == "minimum"}
    out = {**inherited, **variant}
    for later in _SECTIONS[_SECTIONS.index(section) + 1 :]:
        factors = {key: value for key, value in item.get(later, {}).items() if "factor" in value}
        out[later] = {**factors, **variant.get(later, {})}
    return out, Fraction(1)


def _choose(
    book: Data, listed: Data, request: ModelRequest, mode: str | None
) -> tuple[str | None, str | None, str | None]:
    """Return the region, the mode and the window that apply."""
    region = None if request.region in _USUAL_REGIONS else request.region
    region = "us" if region == "us-east-1" else region
    if not listed.get("regions"):
        region = None
    if region is not None and region not in listed["regions"]:
        raise RefusedError("region_unavailable")
    item, _ = _rewritten(listed, "regions", region)
    if mode is not None and mode not in item.get("modes", {}):
        raise RefusedError("mode_unavailable")
    item, _ = _rewritten(item, "modes", mode)
    windows = [name for name in item.get("windows", {}) if in_window(book["calendars"][name], request.at)]
    return region, mode, windows[0] if windows else None


def _table(
    item: Data, chosen: tuple[str | None, str | None, str | None], input_tokens: Fraction, discount: Fraction | None
) -> tuple[dict[str, Fraction], str, Fraction | None]:
    """Return the price of each meter, the context tier, and the minimum charge."""
    total = Fraction(1)
    for section, name in zip(_SECTIONS, chosen, strict=True):
        item, factor = _rewritten(item, section, name)
        total *= factor
    stated = {name: item[name] for name in (*_TOKENS, *_PER) if name in item}
    context, contexts = "short", item.get("long_context", [])
    for tier in contexts:
        is_reached = input_tokens > tier["above"] if "above" in tier else input_tokens >= tier["at_least"]
        if is_reached:
            stated |= {name: tier[name] for name in _TOKENS if name in tier}
            context = f">{tier['above']}" if "above" in tier else f">={tier['at_least']}"
    if context != "short" and len(contexts) == 1:
        context = "long"
    prices = {name: Fraction(price) * (1 if name in _CALLS else total) for name, price in stated.items()}
    if "cache_read" not in prices and discount is not None:
        prices["cache_read"] = prices["input"] * (1 - discount)
    return prices, context, Fraction(item["minimum"]) if "minimum" in item else None
