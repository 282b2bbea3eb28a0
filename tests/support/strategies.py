"""Shared Hypothesis strategies: usage, and random but valid price books as data and as YAML text.

A book is plain data (dicts, lists, strings, integers and :class:`N`), so the oracle can read it without the classes of
the library. Every price is a whole number of units. Prices have at most 4 decimal places, ratios 3 and discounts 2.
The prime factors of nominal_per_credit are 2 and 5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from brivionix_billing.meters import TOKEN_METERS

__all__ = [
    "ARGUMENTS",
    "Data",
    "N",
    "TIERS",
    "bodies",
    "books",
    "channels",
    "containing_arguments",
    "counts",
    "instants",
    "json_texts",
    "json_values",
    "render",
]

json_texts: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_json_integers: Final = st.integers(-(2**53) + 1, 2**53 - 1)
# RFC 8785 writes a double between 2^53 and 10^21 as a whole number, which is parsed as an int.
_json_floats: Final = st.floats(allow_nan=False, allow_infinity=False).filter(lambda f: not 2**53 <= abs(f) < 1e21)
_json_leaves: Final = st.none() | st.booleans() | _json_integers | _json_floats | json_texts
json_values: st.SearchStrategy[Any] = _json_leaves
for _ in range(3):  # at most three levels
    json_values = (
        _json_leaves | st.lists(json_values, max_size=4) | st.dictionaries(json_texts, json_values, max_size=4)
    )
Data = dict[str, Any]
TIERS: Final = ("standard", "batch", "flex", "priority")
METERS: Final = tuple(meter.name for meter in TOKEN_METERS if meter.name != "input")
MODELS: Final = ("m-1", "m-2", "x-1")
DATES: Final = ("2026-01-01", "2026-02-01", "2026-03-15T12:30:00Z", "2026-05-01", "2026-07-01T00:00:00.000001Z")
ENDS: Final = ("2026-08-01", "2026-12-31T23:59:59+08:00")


class N(str):
    """A number, as its text in the price file."""

    __slots__ = ()


def instant(text: str) -> datetime:
    """Parse a time without the library."""
    return datetime.fromisoformat(text if "T" in text else text + "T00:00:00+00:00")


instants: Final = st.one_of(
    st.sampled_from([instant(text) for text in DATES + ENDS]),
    st.integers(0, 365 * 86_400 - 1).map(lambda seconds: instant(DATES[0]) + timedelta(seconds=seconds)),
)


def _decimals(least: int, most: int, places: int) -> st.SearchStrategy[N]:
    return st.builds(_text, st.integers(least, most), st.integers(0, places))


def _text(coefficient: int, places: int) -> N:
    digits = str(coefficient).rjust(places + 1, "0")
    return N(f"{digits[:-places]}.{digits[-places:]}" if places else digits)


_price = _decimals(0, 99_999, 4)
_ratio = st.one_of(st.sampled_from([N("0"), N("1"), N("0.8"), N("1.25")]), _decimals(0, 999, 3))
_discount = st.one_of(
    st.sampled_from([N("0.9"), N("0.90"), N("0"), N("1")]), _decimals(0, 99, 2).filter(lambda n: float(n) <= 1)
)


# --- usage ---

ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "input": ("input_tokens",),
    "cache_read": ("input_tokens", "cache_read_tokens"),
    "cache_write": ("input_tokens", "cache_write_tokens"),
    "cache_write_1h": ("input_tokens", "cache_write_1h_tokens"),
    "cache_write_12h": ("input_tokens", "cache_write_12h_tokens"),
    "explicit_cache_read": ("input_tokens", "cache_read_tokens", "explicit_cache_read_tokens"),
    "audio_cache_write": ("input_tokens", "cache_write_tokens", "audio_input_tokens", "audio_cache_write_tokens"),
    "audio_input": ("input_tokens", "audio_input_tokens"),
    "image_input": ("input_tokens", "image_input_tokens"),
    "audio_cache_read": ("input_tokens", "cache_read_tokens", "audio_input_tokens", "audio_cache_read_tokens"),
    "image_cache_read": ("input_tokens", "cache_read_tokens", "image_input_tokens", "image_cache_read_tokens"),
    "video_input": ("input_tokens", "video_input_tokens"),
    "video_cache_read": ("input_tokens", "cache_read_tokens", "video_input_tokens", "video_cache_read_tokens"),
    "output": ("output_tokens",),
    "audio_output": ("output_tokens", "audio_output_tokens"),
    "image_output": ("output_tokens", "image_output_tokens"),
    "video_output": ("output_tokens", "video_output_tokens"),
    "citation": ("output_tokens", "citation_tokens"),
    "web_search": ("web_search_calls",),
    "file_search": ("file_search_calls",),
    "code_interpreter": ("code_interpreter_sessions",),
    "image_generation": ("image_generation_calls",),
    "web_search_low": ("web_search_calls", "web_search_low_calls"),
    "web_search_high": ("web_search_calls", "web_search_high_calls"),
    "maps_search": ("maps_search_calls",),
    "audio_input_seconds": ("audio_input_seconds",),
    "audio_output_seconds": ("audio_output_seconds",),
    "video_input_seconds": ("video_input_seconds",),
    "video_output_seconds": ("video_output_seconds",),
    "compute_seconds": ("compute_seconds",),
    "input_characters": ("input_characters",),
    "output_characters": ("output_characters",),
    "input_images": ("input_images",),
    "output_images": ("output_images",),
    "input_pixels": ("input_pixels",),
    "output_pixels": ("output_pixels",),
    "pages": ("pages",),
    "annotation_pages": ("annotation_pages",),
    "queries": ("queries",),
    "vector_storage": ("vector_storage_gigabyte_days",),
    "cache_storage": ("cache_storage_token_hours",),
}
"""Meter -> the arguments of ``Usage`` that count one of its units, as OpenAI and ``Usage`` document them."""

_count = st.one_of(st.just(0), st.integers(0, 400), st.integers(0, 400_000))
_common_quantities = st.fixed_dictionaries({"input": _count, "cache_read": _count, "output": _count})
_any_quantities = st.dictionaries(st.sampled_from(sorted(ARGUMENTS)), _count, max_size=15)


def containing_arguments(quantities: Mapping[str, int]) -> dict[str, int]:
    """Return the arguments of ``Usage`` for disjoint quantities of meters, without zeros."""
    arguments: dict[str, int] = {}
    for meter, quantity in quantities.items():
        for name in ARGUMENTS[meter] if quantity else ():
            arguments[name] = arguments.get(name, 0) + quantity
    return arguments


@st.composite
def counts(draw: DrawFn) -> dict[str, int]:
    """Draw arguments of ``Usage`` for any meters, and reasoning tokens."""
    arguments = containing_arguments(draw(st.one_of(_common_quantities, _any_quantities)))
    reasoning = draw(st.integers(0, arguments.get("output_tokens", 0)))
    return arguments | ({"reasoning_tokens": reasoning} if reasoning else {})


# --- bodies ---

_leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 400),
    st.sampled_from([10**12, 10**12 + 1, 10**400, -1, 2**63]),
    st.floats(),
    st.text(max_size=4),
)
_KEYS: Final = (
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_tokens_details",
    "model",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "cached_tokens",
    "cache_write_tokens",
    "output",
    "audio_tokens",
    "image_tokens",
    "reasoning_tokens",
    "cached_tokens_details",
    "service_tier",
    "type",
    "action",
    "cost",
    "cache_creation_input_tokens",
    "cache_creation",
    "iterations",
    "server_tool_use",
    "speed",
    "estimated",
    "usageMetadata",
    "promptTokenCount",
    "candidatesTokenCount",
    "promptTokensDetails",
    "modality",
    "tokenCount",
    "inputTokens",
    "outputTokens",
    "cacheDetails",
    "ttl",
    "meta",
    "billed_units",
    "tokens",
)
_keys = st.one_of(
    st.sampled_from(_KEYS),
    st.text(max_size=5),
)
_part: st.SearchStrategy[Any] = _leaf
for _ in range(3):  # at most three levels
    _part = st.one_of(_leaf, st.lists(_part, max_size=3), st.dictionaries(_keys, _part, max_size=7))
bodies: Final = _part


# --- price books ---


def _dates(draw: DrawFn, most: int, least: int = 1) -> list[str]:
    chosen = draw(st.sets(st.sampled_from(DATES), min_size=least, max_size=most))
    return sorted(chosen, key=instant)


def _dated(draw: DrawFn, most: int, entry: Callable[[], Data], least: int = 1) -> list[Data]:
    entries = [{"from": date, **entry()} for date in _dates(draw, most, least)]
    if entries and draw(st.integers(0, 4)) == 0:
        entries[-1]["until"] = draw(st.sampled_from(ENDS))
    return entries


def _prices(draw: DrawFn, meters: list[str], above: int | None) -> Data:
    prices: Data = {meter: draw(_price) for meter in meters}
    if above is not None:
        prices["long_context"] = {"above": above, **{meter: draw(_price) for meter in meters}}
    return prices


_priced_meters = st.tuples(
    st.one_of(st.just(list(METERS)), st.lists(st.sampled_from(METERS), unique=True), st.just(["output"])),
    st.sampled_from([None, None, 1, 100, 1_000, 272_000]),
)
"""The meters with a price apart from input, and the tokens above which the long context starts, per model and tier."""


@st.composite
def books(draw: DrawFn) -> Data:
    """Draw a valid price book as data."""
    names = sorted(draw(st.sets(st.sampled_from(MODELS), min_size=1)))
    priced_meters = {(name, tier): draw(_priced_meters) for name in names for tier in TIERS}
    models = {name: _model(draw, name, priced_meters) for name in names}
    groups = {
        name: {"terms": _dated(draw, 2, lambda: _terms(draw, models, priced_meters))}
        for name in draw(st.sampled_from([("default",), ("default", "vip"), ("default", "vip", "staff")]))
    }
    return {
        "version": 1,
        "credit": {"currency": "USD", "nominal_per_credit": draw(st.sampled_from(_NOMINALS))},
        "cache_discount": _dated(draw, 2, lambda: {"discount": draw(_discount)}, least=0),
        "tools": {
            tool: _dated(draw, 2, lambda: {"per_1000_calls": draw(_price)}, least=0)
            for tool in ("web_search", "file_search", "code_interpreter", "image_generation")
        },
        "channels": {
            name: _channel(draw, currency)
            for name, currency in (("rmb", "CNY"), ("stripe", "USD"), ("konbini", "JPY"), ("knet", "KWD"))
        },
        "models": models,
        "groups": groups,
    }


_NOMINALS: Final = (N("1"), N("1"), N("1.0"), N("2"), N("0.5"), N("0.8"), N("10"), N("0.04"))


def _model(draw: DrawFn, name: str, priced_meters: dict[tuple[str, str], tuple[list[str], int | None]]) -> Data:
    def entry() -> Data:
        tiers = draw(st.sets(st.sampled_from(TIERS), min_size=1))
        return {
            tier: _prices(draw, ["input", *priced_meters[name, tier][0]], priced_meters[name, tier][1])
            for tier in sorted(tiers)
        }

    return {
        "released": "2026-01-01",
        "encoding": "o200k_base",
        "context": {"window": 400_000, "max_input": 272_000, "max_output": 128_000},
        "aliases": [name + "-latest"],
        "prices": _dated(draw, 3, entry),
    }


def _terms(draw: DrawFn, models: Data, priced_meters: dict[tuple[str, str], tuple[list[str], int | None]]) -> Data:
    patterns = draw(st.sampled_from([["*"], ["m-*"], ["?-1"], ["m-1"], ["*-2", "x*"], ["*"]]))
    patterns = patterns if any(_allowed(patterns, name) for name in models) else ["*"]
    patterns = [pattern for pattern in patterns if any(_allowed([pattern], name) for name in models)]
    overrides: Data = {}
    for name in models:
        kind = draw(st.integers(0, 5)) if _allowed(patterns, name) else 5
        tiers = sorted({tier for entry in models[name]["prices"] for tier in TIERS if tier in entry})
        if kind == 0:
            overrides[name] = {"ratio": draw(_ratio)}
        elif kind == 1:
            chosen = draw(st.sets(st.sampled_from(tiers), min_size=1))
            extra = draw(st.sampled_from([[], ["cache_read"], ["cache_write", "audio_output"]]))
            overrides[name] = {
                "prices": {
                    tier: _prices(
                        draw,
                        list(dict.fromkeys(["input", *priced_meters[name, tier][0], *extra])),
                        priced_meters[name, tier][1],
                    )
                    for tier in sorted(chosen)
                }
            }
    return {"ratio": draw(_ratio), "models": patterns, **({"overrides": overrides} if overrides else {})}


def _allowed(patterns: list[str], name: str) -> bool:
    """Return whether a pattern matches. The oracle has its own matching; this one only keeps the book valid."""
    matches = {"*": True, "m-*": name[0] == "m", "?-1": name[2] == "1", "m-1": name == "m-1", "*-2": name[2] == "2"}
    return any(matches.get(pattern, name[0] == "x") for pattern in patterns)


@st.composite
def channels(draw: DrawFn) -> Data:
    """Draw a payment channel as data, in a currency with 0, 2 or 3 minor digits."""
    return _channel(draw, draw(st.sampled_from(["CNY", "JPY", "KWD", "LBP"])))


def _channel(draw: DrawFn, currency: str) -> Data:
    per_credit = st.one_of(_decimals(1, 99_999, 5), st.sampled_from([N("0.85"), N("0.12"), N("10740"), N("0.333333")]))
    thresholds = st.one_of(st.integers(1, 5_000).map(lambda n: N(str(n))), _decimals(1, 99_999, 6))

    def volume() -> Data:
        marks = sorted(
            draw(st.sets(thresholds, min_size=1, max_size=3).filter(lambda s: len(set(map(float, s))) == len(s))),
            key=float,
        )
        discounts = sorted(draw(st.sets(st.integers(1, 99), min_size=len(marks), max_size=len(marks))))
        return {
            "applies_to": draw(st.sampled_from(["all", "above"])),
            "tiers": [{"at_least": m, "discount": _text(d, 2)} for m, d in zip(marks, discounts, strict=True)],
        }

    return {
        "currency": currency,
        "prices": _dated(draw, 2, lambda: {"price_per_credit": draw(per_credit)}),
        "volume_discounts": _dated(draw, 2, volume, least=0),
    }


# --- the YAML of a book ---


def render(data: Any, random: Random | None = None, indent: int = 0) -> str:
    """Return a book as YAML. With ``random``, the order of keys, the comments and the spelling of numbers vary."""
    pad = "  " * indent
    if isinstance(data, dict):
        items = list(data.items())
        if not items:
            return " {}\n"
        lines = []
        if random:
            random.shuffle(items)
        for key, value in items:
            if random and random.random() < 0.2:
                lines.append(f"{pad}# a comment: 1 {{\n")
            lines.append(f"{pad}{_key(key, random)}:{render(value, random, indent + 1)}")
        return "\n" * (indent > 0) + "".join(lines)
    if isinstance(data, list):
        if not data:
            return " []\n"
        if all(isinstance(item, str | int) for item in data):
            return f" [{', '.join(_scalar(item, random) for item in data)}]\n"
        return "\n" + "".join(f"{pad}-{render(item, random, indent + 1)}" for item in data)
    return f" {_scalar(data, random)}\n"


def _key(text: str, random: Random | None) -> str:
    return json.dumps(text) if random and random.random() < 0.3 else text


def _scalar(value: Any, random: Random | None) -> str:
    if isinstance(value, N):
        return _spelled_differently(value, random) if random else value
    return json.dumps(value)


def _spelled_differently(number: N, random: Random) -> str:
    """Return the number in a different spelling, with trailing zeros or an exponent."""
    whole, _, fraction = number.partition(".")
    kind = random.randrange(3)
    if kind == 0:
        return f"{whole}.{fraction}{'0' * random.randint(1, 3)}"
    if kind == 1:
        return f"{int(whole + fraction)}{random.choice('eE')}-{len(fraction)}"
    return number
