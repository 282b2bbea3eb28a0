"""Generated price books in which all features of the price file meet: several models, tiers, groups and a router.

The books are plain data. ``model_oracle`` computes their prices. Prices, factors, rates, ratios and discounts have so
few decimal places that every product is a whole number of units.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

import model_oracle
from model_oracle import ModelRequest
from strategies import Data, N, instant

__all__ = ["model_books", "model_books_with_requests", "token_quantities"]

_TOKENS: Final = ("cache_read", "reasoning", "citation", "explicit_cache_read", "cache_write")
_OTHERS: Final = ("web_search", "web_search_high", "audio_input_seconds", "robot_minutes", "request")
_SECTIONS: Final = ("regions", "modes", "windows")
_VARIANTS: Final = {"regions": ("us", "eu"), "modes": ("fast",), "windows": ("peak", "weekend")}
_CHOICES: Final = {section: [set(names), set(names), set(names[-1:]), set()] for section, names in _VARIANTS.items()}
_TIERS: Final = ("standard", "priority", "ultra")
_NAMES: Final = ("gpt-a", "gpt-b", "ds-c")
_STARTS: Final = ("2026-01-01", "2026-02-11T01:00:00Z")
_SIZES: Final = (100, 5_000, 200_000)

_price: Final = st.integers(0, 9_999).map(lambda n: N(f"{n / 100:.2f}"))
_factor: Final = st.sampled_from([N("0.5"), N("1.1"), N("2"), N("1")])
_ratio: Final = st.sampled_from([N("1"), N("0.8"), N("1.25"), N("0"), N("0.75")])
_discount: Final = st.sampled_from([N("0.9"), N("0.5"), N("0"), N("1")])


class _Shape(NamedTuple):
    """What a price set states. Later entries and prices of groups must have the shape of the first entry."""

    tokens: Sequence[str]
    others: Sequence[str]
    bounds: Sequence[tuple[str, int]]
    has_minimum: bool
    variants: dict[str, dict[str, _Shape | None]]
    """Section -> name -> the shape of its own prices, or ``None`` for a factor."""


def _shape(
    draw: DrawFn, tokens: Sequence[str], others: Sequence[str], sections: Sequence[str], required: dict[str, set[str]]
) -> _Shape:
    """Draw a shape. ``required`` names the variants that must be in it, because others beside it have prices."""
    chosen = {
        section: {
            name: draw(st.integers(0, 2)) == 0
            for name in sorted(required.get(section, set()) | draw(st.sampled_from(_CHOICES[section])))
        }
        for section in sections
    }
    variants: dict[str, dict[str, _Shape | None]] = {}
    for place, section in enumerate(sections):
        later = sections[place + 1 :]
        rivals = {other: {name for name, is_own in chosen[other].items() if is_own} for other in later}
        variants[section] = {
            name: _shape(draw, tokens, _subset(draw, others), later, rivals) if is_own else None
            for name, is_own in chosen[section].items()
        }
    sizes = sorted(draw(st.sets(st.sampled_from(_SIZES), max_size=2)))
    bounds = [(draw(st.sampled_from(["above", "at_least"])), size) for size in sizes]
    return _Shape(tokens, others, bounds, draw(st.integers(0, 3)) == 0, variants)


def _subset(draw: DrawFn, names: Sequence[str]) -> list[str]:
    return sorted(draw(st.sets(st.sampled_from(names)))) if names else []


def _fill(draw: DrawFn, shape: _Shape) -> Data:
    """Draw the prices of a shape."""
    item: Data = {name: draw(_price) for name in (*shape.tokens, *shape.others)}
    if shape.has_minimum:
        item["minimum"] = draw(st.sampled_from([N("0"), N("0.01"), N("5")]))
    if shape.bounds:
        item["long_context"] = [{kind: size, **{n: draw(_price) for n in shape.tokens}} for kind, size in shape.bounds]
    for section, variants in shape.variants.items():
        if variants:
            item[section] = {
                name: {"factor": draw(_factor)} if inner is None else _fill(draw, inner)
                for name, inner in variants.items()
            }
    return item


def _dated(draw: DrawFn, entry: Any) -> list[Data]:
    starts = draw(st.sampled_from([_STARTS[:1], _STARTS[:1], _STARTS, _STARTS, _STARTS[1:]]))
    return [{"from": start, **entry()} for start in starts]


@st.composite
def model_books(draw: DrawFn) -> Data:
    """Draw a valid price book as data."""
    names = sorted(draw(st.sets(st.sampled_from(_NAMES), min_size=1)))
    shapes = {}
    for name in names:
        for tier in _TIERS:
            tokens = ["input", "output", *_subset(draw, _TOKENS)]
            sections = _SECTIONS if draw(st.integers(0, 3)) else ()
            shapes[name, tier] = _shape(draw, tokens, _subset(draw, _OTHERS), sections, {})
    models = {name: _model(draw, name, shapes) for name in names}
    if draw(st.booleans()):
        fee = {"standard": {"router_fee": draw(_price)}}
        models["route"] = {
            "context": {"max_input": 250_000},
            "routes_to": [names[0], "*"],
            "prices": _dated(draw, lambda: fee),
            **draw(st.sampled_from([{}, {"currency": "CNY"}])),
        }
    book: Data = {
        "version": 1,
        "credit": {"currency": "USD", "nominal_per_credit": draw(st.sampled_from([N("1"), N("0.5"), N("2")]))},
        "meters": {"robot_minutes": {"unit": "minute", "per": 10}},
        "calendars": {
            "peak": {
                "time_zone": "Asia/Shanghai",
                "rules": [{"from": "2026-01-01", "weekdays": ["mon", "wed", "fri"], "hours": ["08:00-20:00"]}],
            },
            "weekend": {
                "time_zone": "Asia/Shanghai",
                "rules": [{"from": "2026-01-01", "weekdays": ["sat", "sun"], "hours": ["00:00-24:00"]}],
            },
        },
        "service_tiers": {"standard": ["scale"], "ultra": ["ultrafast"]},
        "regions": {"us": ["us-east-1"], "default": ["home"]},
        "exchange_rates": {
            "CNY": [
                {"from": draw(st.sampled_from(["2026-01-01", "2026-01-20"])), "rate": N("0.14")},
                {"from": "2026-03-01", "rate": N("0.125")},
            ]
        },
        "aliases": {"openai/*": "*"},
        "cache_discount": _defaults(draw, names, "discount", _discount),
        "tools": {
            "web_search": _defaults(draw, names, "per_1000_calls", _price),
            "maps_search": [{"from": "2026-01-01", "per_1000_calls": draw(_price)}],
        },
        "channels": {"rmb": {"currency": "CNY", "prices": [{"from": "2026-01-01", "price_per_credit": N("0.85")}]}},
        "models": models,
        "groups": {
            "default": {"terms": [{"from": "2026-01-01", "ratio": draw(_ratio), "models": ["*"]}]},
            "vip": {"terms": _dated(draw, lambda: _terms(draw, models, shapes))},
        },
    }
    settings = {"priced_model": "served", "unpriced_tokens": "as_container"}
    return book | {name: value for name, value in settings.items() if draw(st.integers(0, 3)) == 0}


def _defaults(draw: DrawFn, names: Sequence[str], key: str, value: st.SearchStrategy[N]) -> list[Data]:
    """Draw defaults of which one or two apply to a model at a time, by pattern."""
    gpt = [{"from": start, key: draw(value), "models": ["gpt-*"]} for start in _STARTS[: draw(st.integers(0, 2))]]
    other = [{"from": "2026-01-01", key: draw(value), "models": ["ds-?"]} for _ in range(draw(st.integers(0, 1)))]
    kept = [entry for entry in (*gpt, *other) if any(name.startswith(entry["models"][0][:2]) for name in names)]
    return sorted(kept, key=lambda entry: instant(entry["from"]))


def _model(draw: DrawFn, name: str, shapes: dict[tuple[str, str], _Shape]) -> Data:
    def entry() -> Data:
        tiers = sorted(draw(st.sets(st.sampled_from(_TIERS), min_size=1)))
        return {tier: _fill(draw, shapes[name, tier]) for tier in tiers}

    model: Data = {"context": {"max_input": 250_000, "max_output": 4_000}, "prices": _dated(draw, entry)}
    if draw(st.integers(0, 2)) == 0:
        model["currency"] = "CNY"
    if draw(st.integers(0, 3)) == 0:
        model["cache_discount"] = False
    tools = draw(st.sampled_from([None, None, [], ["web_search"]]))
    return model | ({} if tools is None else {"tools": tools})


def _terms(draw: DrawFn, models: Data, shapes: dict[tuple[str, str], _Shape]) -> Data:
    overrides: Data = {}
    for name, model in models.items():
        kind = draw(st.integers(0, 3))
        if kind == 0:
            overrides[name] = {"ratio": draw(_ratio)}
        elif kind == 1 and "routes_to" not in model:
            sold = [tier for tier in _TIERS if any(tier in entry for entry in model["prices"])]
            tiers = sorted(draw(st.sets(st.sampled_from(sold), min_size=1)))
            overrides[name] = {"prices": {tier: _fill(draw, shapes[name, tier]) for tier in tiers}}
    terms = {"ratio": draw(_ratio), "models": ["*"]}
    return terms | ({"overrides": overrides} if overrides else {})


_count: Final = st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 300_000))


@st.composite
def token_quantities(draw: DrawFn) -> dict[str, Fraction]:
    """Draw quantities of token meters, often with an input beside a boundary."""
    names = draw(st.sets(st.sampled_from(["cache_read", "explicit_cache_read", "cache_write", "output", "citation"])))
    quantities = {name: draw(_count) for name in sorted(names | {"input"})}
    if draw(st.booleans()):
        inputs = ("input", "cache_read", "explicit_cache_read", "cache_write")
        others = sum(quantities.get(name, 0) for name in inputs[1:])
        size = draw(st.sampled_from(_SIZES)) + draw(st.integers(-1, 1))
        if others <= size:
            quantities["input"] = size - others
    return {name: Fraction(count) for name, count in quantities.items() if count}


@st.composite
def _quantities(draw: DrawFn) -> dict[str, Fraction]:
    quantities = draw(token_quantities())
    for name, places in (
        *[("web_search", 1), ("web_search_low", 1), ("web_search_high", 1), ("maps_search", 1)],
        *[("audio_input_seconds", 1_000), ("robot_minutes", 1_000_000)],
    ):
        if draw(st.integers(0, 3)) == 0:
            quantities[name] = Fraction(draw(st.integers(1, 9_999)), places)
    return quantities


@st.composite
def model_books_with_requests(draw: DrawFn, most: int = 6) -> tuple[Data, list[ModelRequest]]:
    """Draw a book and requests, most of which have a price."""
    book = draw(model_books())
    requests = []
    for _ in range(draw(st.integers(1, most))):
        request = _request(draw, book, is_sold=draw(st.integers(0, 9)) > 0)
        requests.append(_without_unpriced_meters(book, request) if draw(st.integers(0, 4)) else request)
    return book, requests


def _request(draw: DrawFn, book: Data, *, is_sold: bool) -> ModelRequest:
    """Draw a request: a combination that is sold, if there is one among a few, or any combination."""
    names = list(book["models"])
    quantities = draw(_quantities())
    output = int(quantities.get("output", 0) + quantities.get("citation", 0))
    reasoning = draw(st.integers(0, output))
    request = ModelRequest({}, 0, names[0], "default", None, instant(_STARTS[0]), None, None, None)
    for _ in range(4 if is_sold else 1):
        model = draw(st.sampled_from(names))
        request = ModelRequest(
            {},
            0,
            draw(st.sampled_from(["", "", "openai/"])) + model,
            draw(st.sampled_from(["default", "vip"])),
            draw(st.sampled_from([None, "standard", "Scale", "priority", "ultra", "ultrafast"])),
            _time(draw),
            draw(st.sampled_from([None, "us", "us-east-1", "eu", "home", "global", *([] if is_sold else ["mars"])])),
            draw(st.sampled_from([None, None, "fast", *([] if is_sold else ["turbo"])])),
            draw(st.sampled_from([None, *names] if model == "route" else [None, None, *names])),
        )
        if model_oracle.outcome(book, request) == "priced":
            break
    return request._replace(quantities=quantities, reasoning=reasoning)


def _time(draw: DrawFn) -> datetime:
    seconds = draw(st.one_of(st.integers(0, 90 * 86_400), st.integers(0, 90 * 24).map(lambda hours: hours * 3_600)))
    later = instant(_STARTS[0]) + timedelta(seconds=seconds)
    return draw(st.sampled_from([*map(instant, _STARTS), later, later]))


def _without_unpriced_meters(book: Data, request: ModelRequest) -> ModelRequest:
    """Return the request without the meters that have no price. Whether they have one depends on nothing else."""

    def has_price(name: str) -> bool:
        alone = request._replace(quantities={name: request.quantities[name]}, reasoning=0)
        return model_oracle.outcome(book, alone) != "meter_unpriced"

    if model_oracle.outcome(book, request) != "meter_unpriced":
        return request
    kept = {name: quantity for name, quantity in request.quantities.items() if has_price(name)}
    reasoning = min(request.reasoning, int(kept.get("output", 0) + kept.get("citation", 0)))
    return request._replace(quantities=kept, reasoning=reasoning)
