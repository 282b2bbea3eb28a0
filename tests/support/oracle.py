"""An oracle: the rules of docs/concepts.md, implemented again in fractions over the plain data of a price book.

It shares no arithmetic with the library, prefers simple code to fast code, and reads the dicts of the book.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any, Final, NamedTuple

from strategies import Data, instant

__all__ = [
    "FEES",
    "Bill",
    "RefusedError",
    "allocate",
    "charge",
    "least_payment",
    "meters",
    "micro_credits_for",
    "price",
    "round_to_integer",
    "shown",
    "sold_at",
]

TIERS: Final = ("standard", "batch", "flex", "priority")
MINOR: Final = {"CNY": 100, "USD": 100, "JPY": 1, "KWD": 1000, "LBP": 100}
UNCACHED: Final = {
    "cache_read": "input",
    "audio_cache_read": "audio_input",
    "image_cache_read": "image_input",
    "video_cache_read": "video_input",
}
WITHOUT_CACHE: Final = {
    **UNCACHED,
    "cache_write": "input",
    "cache_write_1h": "input",
    "cache_write_12h": "input",
    "explicit_cache_read": "input",
    "audio_cache_write": "audio_input",
}
FALLBACKS: Final = {
    "explicit_cache_read": "cache_read",
    "citation": "output",
    "web_search_low": "web_search",
    "web_search_high": "web_search",
    "image_input": "input",
    "image_cache_read": "cache_read",
    "video_input": "input",
    "video_cache_read": "cache_read",
}
"""Meter -> the meter that is charged if a model has no price for it."""
CONTAINING: Final = {"image_cache_read": "image_input", "video_cache_read": "video_input"}
"""Meter with a fallback -> a meter that contains it; if that has a price, the fallback does not apply."""
SIMPLE: Final = (
    *("audio_input_seconds", "audio_output_seconds", "video_input_seconds", "video_output_seconds", "compute_seconds"),
    *("input_characters", "output_characters", "input_images", "output_images", "input_pixels", "output_pixels"),
    *("pages", "annotation_pages", "queries"),
)
"""Meters whose argument has their name and is part of no other."""
FEES: Final = ("web_search", "file_search", "code_interpreter", "image_generation")


class RefusedError(Exception):
    """The request has no price. ``args[0]`` is the error code that the library must raise."""


class Bill(NamedTuple):
    """The cost of a request, and its cost without group and cache."""

    credits: Fraction
    nominal: Fraction
    lines: dict[str, Fraction]
    """Meter -> Credits."""
    at_list: Fraction
    """Credits at list price."""
    uncached: Fraction
    """Credits at list price without cache."""
    long: bool


def entry_at(entries: Sequence[Data], at: datetime) -> Data | None:
    """Return the entry in force: the last one that has started, if it has not ended."""
    started = [entry for entry in entries if instant(entry["from"]) <= at]
    if not started or ("until" in started[-1] and instant(started[-1]["until"]) <= at):
        return None
    return started[-1]


def meters(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the disjoint quantities of meters for the arguments of ``Usage``."""

    def of(name: str) -> int:
        return counts.get(name, 0)

    audio_read, image_read = of("audio_cache_read_tokens"), of("image_cache_read_tokens")
    audio_write, explicit_read = of("audio_cache_write_tokens"), of("explicit_cache_read_tokens")
    audio = of("audio_input_tokens") - audio_read - audio_write
    image = of("image_input_tokens") - image_read
    video_read = of("video_cache_read_tokens")
    video = of("video_input_tokens") - video_read
    written = of("cache_write_tokens") + of("cache_write_1h_tokens") + of("cache_write_12h_tokens")
    media_output = of("audio_output_tokens") + of("image_output_tokens") + of("video_output_tokens")
    quantities = {
        "input": of("input_tokens") - of("cache_read_tokens") - written - audio - image - video,
        "cache_read": of("cache_read_tokens") - audio_read - image_read - video_read - explicit_read,
        "output": of("output_tokens") - media_output - of("citation_tokens"),
        "cache_write": of("cache_write_tokens") - audio_write,
        "cache_write_1h": of("cache_write_1h_tokens"),
        "cache_write_12h": of("cache_write_12h_tokens"),
        "explicit_cache_read": explicit_read,
        "audio_input": audio,
        "audio_cache_read": audio_read,
        "audio_cache_write": audio_write,
        "audio_output": of("audio_output_tokens"),
        "image_input": image,
        "image_cache_read": image_read,
        "image_output": of("image_output_tokens"),
        "video_input": video,
        "video_cache_read": video_read,
        "video_output": of("video_output_tokens"),
        "citation": of("citation_tokens"),
        "web_search": of("web_search_calls") - of("web_search_low_calls") - of("web_search_high_calls"),
        "web_search_low": of("web_search_low_calls"),
        "web_search_high": of("web_search_high_calls"),
        "maps_search": of("maps_search_calls"),
        "file_search": of("file_search_calls"),
        "code_interpreter": of("code_interpreter_sessions"),
        "image_generation": of("image_generation_calls"),
        "vector_storage": of("vector_storage_gigabyte_days"),
        "cache_storage": of("cache_storage_token_hours"),
        **{name: of(name) for name in SIMPLE},
    }
    return {name: count for name, count in quantities.items() if count}


def sold_at(model: Data, at: datetime) -> dict[str, Data]:
    """Return service tier -> prices at a time. An entry that does not name a tier does not change it."""
    prices = {}
    for tier in TIERS:
        entry = entry_at([e for e in model["prices"] if tier in e], at)
        if entry is not None:
            prices[tier] = entry[tier]
    return prices


def price(book: Data, model: str, group: str, tier: str, meter: str, long: bool, at: datetime) -> Fraction | None:
    """Return the price in USD of one token or call for a group, ``None`` if it has none. The model must be sold."""
    terms = entry_at(book["groups"][group]["terms"], at)
    assert terms is not None
    listed = sold_at(book["models"][model], at)[tier]
    model_overrides = terms.get("overrides", {}).get(model, {})
    override, ratio = (
        model_overrides.get("prices", {}).get(tier),
        Fraction(model_overrides.get("ratio", terms["ratio"])),
    )
    return _paid(book, override, meter, long, at, _price(book, listed, meter, long, at), ratio)


def shown(value: Fraction, minor_digits: int) -> Fraction:
    """Return a price as a page shows it: with at least four significant digits and all minor digits of the currency."""
    places = minor_digits
    while 0 < value * 10**places < 1000:
        places += 1
    return Fraction(round_to_integer(value * 10**places, "half_up"), 10**places)


def charge(book: Data, counts: Mapping[str, int], model: str, group: str, tier: str, at: datetime) -> Bill:
    """Return the exact price of one request."""
    terms = entry_at(book["groups"][group]["terms"], at) if group in book["groups"] else None
    if terms is None:
        raise RefusedError("unknown_group")
    if not any(re.fullmatch(p.replace("*", ".*").replace("?", "."), model) for p in terms["models"]):
        raise RefusedError("model_not_allowed")
    sold = sold_at(book["models"][model], at)
    if tier not in sold:
        raise RefusedError("service_tier_unavailable" if sold else "no_price")
    listed = sold[tier]
    model_overrides = terms.get("overrides", {}).get(model, {})
    override = model_overrides.get("prices", {}).get(tier)
    ratio = Fraction(model_overrides.get("ratio", terms["ratio"]))
    long_context = listed.get("long_context")
    long = long_context is not None and counts.get("input_tokens", 0) > long_context["above"]
    quantities = _with_fallbacks(book, listed, override, meters(counts), long, at)
    at_list = {meter: _price(book, listed, meter, long, at) for meter in {*quantities, *WITHOUT_CACHE.values()}}
    paid = {meter: _paid(book, override, meter, long, at, at_list[meter], ratio) for meter in quantities}
    lines: dict[str, Fraction] = {}
    list_total = uncached = Fraction(0)
    per_credit = Fraction(book["credit"]["nominal_per_credit"])
    for meter, count in quantities.items():
        price = paid[meter]
        if price is None:
            raise RefusedError("meter_unpriced")
        lines[meter] = count * price / per_credit
        list_price = at_list[meter]
        uncached_price = at_list.get(WITHOUT_CACHE.get(meter, meter))
        # A meter that only the group prices has no savings.
        list_price = price if list_price is None else list_price
        list_total += count * list_price / per_credit
        uncached += count * (list_price if uncached_price is None else uncached_price) / per_credit
    credits = sum(lines.values(), Fraction(0))
    return Bill(credits, credits * per_credit, lines, list_total, uncached, long)


def _with_fallbacks(
    book: Data, listed: Data, override: Data | None, quantities: dict[str, int], long: bool, at: datetime
) -> dict[str, int]:
    """Move tokens without a price of their own to the meter that is charged instead."""
    out: dict[str, int] = {}
    for meter, count in quantities.items():
        name = meter
        own = [table for table in (listed, override) if table is not None]
        names = [meter, CONTAINING.get(meter, meter)]
        if meter in FALLBACKS and all(_price(book, table, each, long, at) is None for table in own for each in names):
            name = FALLBACKS[meter]
        out[name] = out.get(name, 0) + count
    return out


def _paid(
    book: Data, override: Data | None, meter: str, long: bool, at: datetime, listed: Fraction | None, ratio: Fraction
) -> Fraction | None:
    """Return the price for the group: list price x ratio, or its override. Fees have no overrides."""
    if override is not None and meter not in FEES:
        return _price(book, override, meter, long, at)
    return None if listed is None else listed * ratio


def _price(book: Data, stated: Data, meter: str, long: bool, at: datetime) -> Fraction | None:
    """Return the list price of one token or call, in USD."""
    if meter in FEES:
        fee = entry_at(book.get("tools", {}).get(meter, []), at)
        return None if fee is None else Fraction(fee["per_1000_calls"]) / 1000
    table: Data = stated["long_context"] if long else stated
    if meter in table:
        return Fraction(table[meter]) / 1_000_000
    discount = entry_at(book.get("cache_discount", []), at)
    if meter in UNCACHED and UNCACHED[meter] in table and discount is not None:
        return Fraction(table[UNCACHED[meter]]) * (1 - Fraction(discount["discount"])) / 1_000_000
    return None


# --- top-up: amounts in minor units of money and millionths of a Credit ---


class _Curve(NamedTuple):
    marks: list[int]
    slopes: list[Fraction]
    """Minor units of money per millionth of a Credit, from each mark on."""
    applies_to_all: bool
    """Whether the reached slope applies to all Credits, not only to those above the mark."""

    def cost(self, credits: int) -> Fraction:
        reached = max(i for i, mark in enumerate(self.marks) if mark <= credits)
        if self.applies_to_all:
            return credits * self.slopes[reached]
        total = Fraction(0)
        for i in range(reached + 1):
            end = credits if i == reached else self.marks[i + 1]
            total += (end - self.marks[i]) * self.slopes[i]
        return total

    def most(self, minor: int) -> int:
        """Return the largest number of millionths whose cost is at most ``minor``."""
        best = 0
        for i, mark in enumerate(self.marks):
            left = minor - self.cost(mark)
            if left >= 0:
                reach = mark + left // self.slopes[i]
                end = self.marks[i + 1] - 1 if i + 1 < len(self.marks) else reach
                best = max(best, min(int(reach), int(end)))
        return best


def _curve(channel: Data, at: datetime) -> _Curve:
    price = entry_at(channel["prices"], at)
    if price is None:
        raise RefusedError("unknown_channel")
    volume: Any = entry_at(channel.get("volume_discounts", []), at) or {"applies_to": "above", "tiers": []}
    step = Fraction(price["price_per_credit"]) * MINOR[channel["currency"]] / 1_000_000
    marks = [0, *(int(Fraction(tier["at_least"]) * 1_000_000) for tier in volume["tiers"])]
    slopes = [step, *(step * (1 - Fraction(tier["discount"])) for tier in volume["tiers"])]
    return _Curve(marks, slopes, volume["applies_to"] == "all")


def micro_credits_for(channel: Data, at: datetime, minor: int) -> int:
    """Return the largest number of millionths of a Credit that the minor units pay for."""
    return _curve(channel, at).most(minor)


def least_payment(channel: Data, at: datetime, wanted: int) -> int:
    """Return the fewest minor units that buy at least ``wanted`` millionths, by bisection."""
    curve = _curve(channel, at)
    low, high = 0, 1
    while curve.most(high) < wanted:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        if curve.most(middle) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


# --- rounding and allocation ---


def round_to_integer(value: Fraction, mode: str) -> int:
    """Round to an integer in a named mode."""
    sign, size = (-1 if value < 0 else 1), abs(value)
    floor = size.numerator // size.denominator
    fraction = size - floor
    up = {
        "up": fraction > 0,
        "down": False,
        "half_up": fraction >= Fraction(1, 2),
        "half_even": fraction > Fraction(1, 2) or (fraction == Fraction(1, 2) and floor % 2 == 1),
    }[mode]
    return sign * (floor + up)


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """Allocate by largest remainder. Neither the amount nor a weight may be negative."""
    shares = [Fraction(amount * weight, sum(weights)) for weight in weights]
    parts = [share.numerator // share.denominator for share in shares]
    order = sorted(range(len(weights)), key=lambda i: (parts[i] - shares[i], i))
    for i in order[: amount - sum(parts)]:
        parts[i] += 1
    return parts
