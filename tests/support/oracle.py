"""An oracle: the rules of docs/concepts.md once more, in fractions, over the plain data of a price book.

It shares no arithmetic with the library, takes the slow and obvious way everywhere, and reads the book's own dicts.
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
    "allocated",
    "bought",
    "charge",
    "least_payment",
    "meters",
    "price",
    "rounded",
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
WITHOUT_CACHE: Final = {**UNCACHED, "cache_write": "input", "cache_write_1h": "input"}
FEES: Final = ("web_search", "file_search", "code_interpreter", "image_generation")


class RefusedError(Exception):
    """The request has no price; ``args[0]`` is the code that the library must answer with."""


class Bill(NamedTuple):
    """What a request costs, and what it would cost without group and cache."""

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
    """The entry in force: the last that began, unless its own end has come."""
    begun = [entry for entry in entries if instant(entry["from"]) <= at]
    if not begun or ("until" in begun[-1] and instant(begun[-1]["until"]) <= at):
        return None
    return begun[-1]


def meters(counts: Mapping[str, int]) -> dict[str, int]:
    """Disjoint meters of contained counts."""

    def of(name: str) -> int:
        return counts.get(name, 0)

    audio_read, image_read = of("audio_cache_read_tokens"), of("image_cache_read_tokens")
    audio, image = of("audio_input_tokens") - audio_read, of("image_input_tokens") - image_read
    video_read = of("video_cache_read_tokens")
    video = of("video_input_tokens") - video_read
    written, written_1h = of("cache_write_tokens"), of("cache_write_1h_tokens")
    found = {
        "input": of("input_tokens") - of("cache_read_tokens") - written - written_1h - audio - image - video,
        "cache_read": of("cache_read_tokens") - audio_read - image_read - video_read,
        "output": of("output_tokens") - of("audio_output_tokens") - of("image_output_tokens"),
        "cache_write": written,
        "cache_write_1h": written_1h,
        "audio_input": audio,
        "audio_cache_read": audio_read,
        "audio_output": of("audio_output_tokens"),
        "image_input": image,
        "image_cache_read": image_read,
        "image_output": of("image_output_tokens"),
        "video_input": video,
        "video_cache_read": video_read,
        "web_search": of("web_search_calls"),
        "file_search": of("file_search_calls"),
        "code_interpreter": of("code_interpreter_sessions"),
        "image_generation": of("image_generation_calls"),
    }
    return {name: count for name, count in found.items() if count}


def sold_at(model: Data, at: datetime) -> dict[str, Data]:
    """Service tier -> its prices at a time. An entry that does not name a tier leaves it as it was."""
    found = {}
    for tier in TIERS:
        entry = entry_at([e for e in model["prices"] if tier in e], at)
        if entry is not None:
            found[tier] = entry[tier]
    return found


def price(book: Data, model: str, group: str, tier: str, meter: str, long: bool, at: datetime) -> Fraction | None:
    """What a group pays for one token or call of a meter, in USD; ``None``: not priced. The model is sold then."""
    terms = entry_at(book["groups"][group]["terms"], at)
    assert terms is not None
    listed = sold_at(book["models"][model], at)[tier]
    special = terms.get("overrides", {}).get(model, {})
    own, ratio = special.get("prices", {}).get(tier), Fraction(special.get("ratio", terms["ratio"]))
    return _paid(book, own, meter, long, at, _price(book, listed, meter, long, at), ratio)


def shown(value: Fraction, coin_digits: int) -> Fraction:
    """A price as a page shows it: at least four digits from the first that is not zero on, at least those of a coin."""
    places = coin_digits
    while 0 < value * 10**places < 1000:
        places += 1
    return Fraction(rounded(value * 10**places, "half_up"), 10**places)


def charge(book: Data, counts: Mapping[str, int], model: str, group: str, tier: str, at: datetime) -> Bill:
    """The exact price of one request."""
    terms = entry_at(book["groups"][group]["terms"], at) if group in book["groups"] else None
    if terms is None:
        raise RefusedError("unknown_group")
    if not any(re.fullmatch(p.replace("*", ".*").replace("?", "."), model) for p in terms["models"]):
        raise RefusedError("model_not_allowed")
    sold = sold_at(book["models"][model], at)
    if tier not in sold:
        raise RefusedError("service_tier_unavailable" if sold else "no_price")
    listed = sold[tier]
    special = terms.get("overrides", {}).get(model, {})
    own = special.get("prices", {}).get(tier)
    ratio = Fraction(special.get("ratio", terms["ratio"]))
    far = listed.get("long_context")
    long = far is not None and counts.get("input_tokens", 0) > far["above"]
    used = meters(counts)
    at_list = {meter: _price(book, listed, meter, long, at) for meter in {*used, *WITHOUT_CACHE.values()}}
    paid = {meter: _paid(book, own, meter, long, at, at_list[meter], ratio) for meter in used}
    lines: dict[str, Fraction] = {}
    full = uncached = Fraction(0)
    per_credit = Fraction(book["credit"]["nominal_per_credit"])
    for meter, count in used.items():
        price = paid[meter]
        if price is None:
            raise RefusedError("meter_unpriced")
        lines[meter] = count * price / per_credit
        here = at_list[meter]
        without = at_list.get(WITHOUT_CACHE.get(meter, meter))
        # Only the group prices it: there is nothing to save against.
        here = price if here is None else here
        full += count * here / per_credit
        uncached += count * (here if without is None else without) / per_credit
    credits = sum(lines.values(), Fraction(0))
    return Bill(credits, credits * per_credit, lines, full, uncached, long)


def _paid(
    book: Data, own: Data | None, meter: str, long: bool, at: datetime, listed: Fraction | None, ratio: Fraction
) -> Fraction | None:
    """What the group pays: list price x ratio, or its own price of a token. Fees are never a group's own."""
    if own is not None and meter not in FEES:
        return _price(book, own, meter, long, at)
    return None if listed is None else listed * ratio


def _price(book: Data, stated: Data, meter: str, long: bool, at: datetime) -> Fraction | None:
    """USD for one token or call."""
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


# --- top-up: everything in minor units of money and millionths of a Credit ---


class _Curve(NamedTuple):
    marks: list[int]
    slopes: list[Fraction]
    """Minor units of money per millionth of a Credit, from each mark on."""
    whole: bool
    """The reached slope holds for all Credits, not only for those above the mark."""

    def cost(self, credits: int) -> Fraction:
        reached = max(i for i, mark in enumerate(self.marks) if mark <= credits)
        if self.whole:
            return credits * self.slopes[reached]
        total = Fraction(0)
        for i in range(reached + 1):
            end = credits if i == reached else self.marks[i + 1]
            total += (end - self.marks[i]) * self.slopes[i]
        return total

    def most(self, minor: int) -> int:
        """The most millionths whose cost is at most ``minor``."""
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


def bought(channel: Data, at: datetime, minor: int) -> int:
    """Millionths of a Credit that so many minor units buy: the most that they pay for."""
    return _curve(channel, at).most(minor)


def least_payment(channel: Data, at: datetime, wanted: int) -> int:
    """The fewest minor units that buy at least ``wanted`` millionths, found by trying."""
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


# --- rounding and sharing out ---


def rounded(value: Fraction, mode: str) -> int:
    """The whole number that a named rounding gives."""
    sign, size = (-1 if value < 0 else 1), abs(value)
    floor = size.numerator // size.denominator
    rest = size - floor
    up = {
        "up": rest > 0,
        "down": False,
        "half_up": rest >= Fraction(1, 2),
        "half_even": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1),
    }[mode]
    return sign * (floor + up)


def allocated(amount: int, weights: Sequence[int]) -> list[int]:
    """Largest remainder, for an amount and weights that are not negative."""
    shares = [Fraction(amount * weight, sum(weights)) for weight in weights]
    parts = [share.numerator // share.denominator for share in shares]
    order = sorted(range(len(weights)), key=lambda i: (parts[i] - shares[i], i))
    for i in order[: amount - sum(parts)]:
        parts[i] += 1
    return parts
