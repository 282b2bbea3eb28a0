"""Price books with everything that a price can depend on, and an oracle that computes the price in fractions.

The oracle reads the plain data of the book, and shares no code with the library. It finds windows by comparing the
digits of a local time, so it shares no arithmetic of calendars either.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from strategies import Data, N, instant

__all__ = [
    "RichRequest",
    "arguments_of",
    "card_prices",
    "context_bounds",
    "in_window",
    "rich_books_with_changes",
    "rich_books_with_requests",
    "rich_price",
]

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PER: Final = {
    "input": 1_000_000,
    "cache_read": 1_000_000,
    "output": 1_000_000,
    "reasoning": 1_000_000,
    "web_search": 1_000,
    "audio_input_seconds": 1,
    "own_minutes": 60,
    "request": 1,
}
FEES: Final = ("web_search",)
DIMENSIONS: Final = ("regions", "modes", "windows")


class RichRequest(NamedTuple):
    """The quantities, the time, the region and the mode of one request."""

    quantities: dict[str, Fraction]
    """Disjoint; ``reasoning`` is part of ``output``."""
    at: datetime
    region: str | None
    mode: str | None


def in_window(calendar: Data, at: datetime) -> bool:
    """Return whether a time is in a window of a calendar."""
    rules = [rule for rule in calendar["rules"] if instant(rule["from"]) <= at]
    if not rules:
        return False
    local = at.astimezone(ZoneInfo(calendar["time_zone"]))
    clock = local.strftime("%H:%M")

    def starts_on(day: datetime) -> bool:
        excluded = rules[-1].get("excluded_dates", [])
        return (
            WEEKDAYS[day.weekday()] in rules[-1].get("weekdays", WEEKDAYS) and day.strftime("%Y-%m-%d") not in excluded
        )

    for hours in rules[-1]["hours"]:
        start, end = hours.split("-")
        if start < end and start <= clock < end and starts_on(local):
            return True
        if start >= end and clock >= start and starts_on(local):
            return True
        if start >= end and clock < end and starts_on(local - timedelta(days=1)):
            return True
    return False


def rich_price(book: Data, request: RichRequest) -> Fraction:
    """Return the nominal price of a request."""
    tier = book["models"]["m"]["prices"][0]["standard"]
    active = next((name for name in tier.get("windows", {}) if in_window(book["calendars"][name], request.at)), None)
    node, factor = tier, Fraction(1)
    for dimension, name in zip(DIMENSIONS, (request.region, request.mode, active), strict=True):
        variant = tier.get(dimension, {}).get(name)
        if variant is None:
            continue
        if "factor" in variant:
            factor *= Fraction(variant["factor"])
        else:
            node = variant
    tokens = sum(request.quantities.get(name, Fraction(0)) for name in ("input", "cache_read"))
    prices = {name: tier[name] for name in PER if name in tier} | {name: node[name] for name in PER if name in node}
    for context in node.get("long_context", []):
        if tokens > context["above"] if "above" in context else tokens >= context["at_least"]:
            prices |= {name: context[name] for name in PER if name in context}
    quantities = {**request.quantities, "request": Fraction(1)}
    reasoning = quantities.pop("reasoning", Fraction(0))
    if "reasoning" in prices:
        quantities |= {"output": quantities.get("output", Fraction(0)) - reasoning, "reasoning": reasoning}
    total = Fraction(0)
    for name, quantity in quantities.items():
        if name in prices and quantity:
            total += quantity * Fraction(prices[name]) / PER[name] * (1 if name in FEES else factor)
    scale = Fraction(book["groups"]["g"]["terms"][0]["ratio"])
    for rate in book.get("exchange_rates", {}).get("CNY", []):
        if instant(rate["from"]) <= request.at:
            rate_now = Fraction(rate["rate"])
    if "exchange_rates" in book:
        scale *= rate_now
    return max(total, Fraction(node.get("minimum", tier.get("minimum", "0")))) * scale


_price: Final = st.integers(0, 9_999).map(lambda n: N(f"{n / 100:.2f}"))
_factor: Final = st.sampled_from([N("0.5"), N("1.1"), N("2"), N("1")])
_HOURS: Final = ("09:00-12:00", "14:00-18:00", "22:00-06:00", "00:00-24:00", "23:30-00:30")


def _token_prices(draw: DrawFn, names: list[str]) -> Data:
    return {name: draw(_price) for name in names}


def _contexts(draw: DrawFn, names: list[str]) -> list[Data]:
    bounds = sorted(draw(st.sets(st.sampled_from([100, 5_000, 200_000]), max_size=3)))
    keys = ("above", "at_least")
    return [{draw(st.sampled_from(keys)): bound, **_token_prices(draw, names)} for bound in bounds]


def _calendar(draw: DrawFn) -> Data:
    rules = []
    for start in sorted(draw(st.sets(st.sampled_from(["2026-01-01", "2026-03-01T16:00:00Z"]), min_size=1))):
        rule: Data = {"from": start, "hours": draw(st.lists(st.sampled_from(_HOURS), min_size=1, max_size=2))}
        if draw(st.booleans()):
            rule["weekdays"] = sorted(draw(st.sets(st.sampled_from(WEEKDAYS), min_size=1)), key=WEEKDAYS.index)
        if draw(st.booleans()):
            rule["excluded_dates"] = ["2026-02-03", "2026-03-29"]
        rules.append(rule)
    return {
        "time_zone": draw(st.sampled_from(["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York"])),
        "rules": rules,
    }


def rich_tier(draw: DrawFn) -> Data:
    """Draw the prices of a tier, with any context tiers, regions, modes, windows and minimum charge."""
    names = ["input", "cache_read", "output", *(["reasoning"] if draw(st.booleans()) else [])]
    tier: Data = _token_prices(draw, names)
    for name in ("web_search", "audio_input_seconds", "request"):
        tier[name] = draw(_price)
    # Another price of 60 units would not be a whole number of the unit of charges.
    tier["own_minutes"] = N(str(draw(st.integers(0, 99)) * 6))
    if draw(st.booleans()):
        tier["minimum"] = draw(_price)
    contexts = _contexts(draw, names)
    if contexts:
        tier["long_context"] = contexts
    variants = {"regions": ["us", "eu"], "modes": ["fast"], "windows": ["peak"]}
    with_own_prices = draw(st.sampled_from([None, *DIMENSIONS]))
    for dimension, options in variants.items():
        chosen = sorted(draw(st.sets(st.sampled_from(options))))
        if chosen:
            tier[dimension] = {name: _variant(draw, names, own=dimension == with_own_prices) for name in chosen}
    return tier


@st.composite
def rich_books_with_changes(draw: DrawFn) -> Data:
    """Draw a price book of one model whose prices change several times."""
    starts = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01"][: draw(st.integers(2, 4))]
    return {
        "version": 1,
        "credit": {"currency": "USD", "nominal_per_credit": N("1")},
        "meters": {"own_minutes": {"unit": "minute", "per": 60}},
        "calendars": {"peak": _calendar(draw)},
        "models": {"m": {"prices": [{"from": start, "standard": rich_tier(draw)} for start in starts]}},
        "groups": {"g": {"terms": [{"from": "2026-01-01", "ratio": N("1"), "models": ["m"]}]}},
    }


def card_prices(tier: Data, names: tuple[str | None, ...], tokens: int) -> dict[str, Fraction] | None:
    """Return the price of each meter, and ``minimum``, of a number of input tokens in a region, mode and window.

    ``None`` if the tier has no price of one of them.
    """
    node, factor = tier, Fraction(1)
    for dimension, name in zip(DIMENSIONS, names, strict=True):
        if name is None:
            continue
        variant = tier.get(dimension, {}).get(name)
        if variant is None:
            return None
        if "factor" in variant:
            factor *= Fraction(variant["factor"])
        else:
            node = variant
    prices = {name: tier[name] for name in PER if name in tier} | {name: node[name] for name in PER if name in node}
    for context in node.get("long_context", []):
        if tokens > context["above"] if "above" in context else tokens >= context["at_least"]:
            prices |= {name: context[name] for name in PER if name in context}
    charged = {name: Fraction(price) * (1 if name in FEES else factor) for name, price in prices.items()}
    minimum = Fraction(node["minimum"] if "minimum" in node else tier.get("minimum", "0"))
    return charged | ({"minimum": minimum} if minimum else {})


def context_bounds(tier: Data, names: tuple[str | None, ...]) -> set[int]:
    """Return the largest number of input tokens below each boundary in a region, mode and window."""
    node = tier
    for dimension, name in zip(DIMENSIONS, names, strict=True):
        variant = tier.get(dimension, {}).get(name, {"factor": 1})
        node = node if "factor" in variant else variant
    return {each["above"] if "above" in each else each["at_least"] - 1 for each in node.get("long_context", [])}


@st.composite
def rich_books_with_requests(draw: DrawFn) -> tuple[Data, list[RichRequest]]:
    """Draw a price book of one model, and requests of any region, mode and time."""
    tier = rich_tier(draw)
    book: Data = {
        "version": 1,
        "credit": {"currency": "USD", "nominal_per_credit": draw(st.sampled_from([N("1"), N("0.5")]))},
        "meters": {"own_minutes": {"unit": "minute", "per": 60}},
        "models": {"m": {"prices": [{"from": "2026-01-01", "standard": tier}]}},
        "groups": {
            "g": {
                "terms": [
                    {"from": "2026-01-01", "ratio": draw(st.sampled_from([N("1"), N("0.75"), N("0")])), "models": ["m"]}
                ]
            }
        },
    }
    if "windows" in tier:
        book["calendars"] = {"peak": _calendar(draw)}
    if draw(st.booleans()):
        book["exchange_rates"] = {
            "CNY": [{"from": "2026-01-01", "rate": N("0.14")}, {"from": "2026-03-01", "rate": N("0.125")}]
        }
        book["models"]["m"]["currency"] = "CNY"
    requests = [
        draw(_request(sorted(tier.get("regions", {})), sorted(tier.get("modes", {}))))
        for _ in range(draw(st.integers(1, 5)))
    ]
    return book, requests


def _variant(draw: DrawFn, names: list[str], *, own: bool) -> Data:
    if not own:
        return {"factor": draw(_factor)}
    prices: Data = _token_prices(draw, names)
    contexts = _contexts(draw, names)
    return prices | ({"long_context": contexts} if contexts else {})


_count: Final = st.one_of(st.integers(0, 300), st.integers(0, 300_000))


@st.composite
def _request(draw: DrawFn, regions: list[str], modes: list[str]) -> RichRequest:
    quantities: dict[str, Fraction] = {
        name: Fraction(draw(_count)) for name in ("input", "cache_read", "output", "web_search")
    }
    if draw(st.booleans()):  # exactly at a boundary, or beside it
        total = draw(st.sampled_from([99, 100, 101, 4_999, 5_000, 5_001, 199_999, 200_000, 200_001]))
        quantities["cache_read"] = Fraction(draw(st.integers(0, total)))
        quantities["input"] = total - quantities["cache_read"]
    quantities["reasoning"] = Fraction(draw(st.integers(0, int(quantities["output"]))))
    quantities["audio_input_seconds"] = Fraction(draw(st.integers(0, 5_000)), 1_000)
    quantities["own_minutes"] = Fraction(draw(st.integers(0, 5_000)), 100)
    seconds = draw(st.one_of(st.integers(0, 120 * 86_400), st.integers(0, 120 * 48).map(lambda n: n * 1_800)))
    at = instant("2026-01-01") + timedelta(seconds=seconds)
    return RichRequest(quantities, at, draw(st.sampled_from([None, *regions])), draw(st.sampled_from([None, *modes])))


def arguments_of(request: RichRequest) -> dict[str, Any]:
    """Return the arguments of ``Usage`` for a request."""
    from decimal import Decimal

    def decimal(name: str) -> Decimal:
        value = request.quantities[name]
        return Decimal(value.numerator) / Decimal(value.denominator)

    counts = {
        name: int(request.quantities[name]) for name in ("input", "cache_read", "output", "reasoning", "web_search")
    }
    return {
        "input_tokens": counts["input"] + counts["cache_read"],
        "cache_read_tokens": counts["cache_read"],
        "output_tokens": counts["output"],
        "reasoning_tokens": counts["reasoning"],
        "web_search_calls": counts["web_search"],
        "audio_input_seconds": decimal("audio_input_seconds"),
        "quantities": {"own_minutes": decimal("own_minutes")},
    }
