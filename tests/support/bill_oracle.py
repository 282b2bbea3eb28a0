"""An oracle for bills: the rules of docs/concepts.md and docs/invoice.md in fractions, on plain data.

It imports nothing from the library, and is slow and obvious: it rates one request at a time, reads numbers from their
text, and computes Merkle trees by the recursion of RFC 6962.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction
from hashlib import sha256
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import yaml

import usage_oracle
from bill_hashes import canonical, inclusion, leaf, root, split

__all__ = ["Expected", "bill", "canonical", "closing", "inclusion", "leaf", "read_book", "root", "split", "text_of"]

Json = Any
# The order of lines.
METERS: Final[tuple[str, ...]] = (
    "input",
    "cache_read",
    "output",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_cache_read",
    "audio_output",
    "image_input",
    "image_cache_read",
    "image_output",
    "video_input",
    "video_cache_read",
    "web_search",
    "file_search",
    "code_interpreter",
    "image_generation",
)
FEES: Final = frozenset(METERS[-4:])
SERVED: Final = {"default": "standard", "fast": "priority"}
MINOR: Final = {"USD": 2, "CNY": 2, "JPY": 0, "KWD": 3}


# --- prices ---


def read_book(text: str) -> Json:
    """Return a price file as plain data. Every scalar is its text."""
    return yaml.load(text, Loader=yaml.BaseLoader)  # this loader converts nothing


def when(text: str) -> datetime:
    """Return the instant of a text."""
    return datetime.fromisoformat(text if "T" in text else text + "T00:00:00+00:00").astimezone(UTC)


def _in_force(entries: Iterable[Json], at: datetime) -> Json:
    started = [entry for entry in entries if when(entry["from"]) <= at]
    return started[-1] if started else None


class Rated(NamedTuple):
    """One request: meter -> (quantity, list price, ratio, price), and the values that identify its lines."""

    model: str
    group: str
    tier: str
    context: str
    since: datetime
    meters: dict[str, tuple[int, Fraction | None, Fraction | None, Fraction]]
    list_and_full: dict[str, tuple[Fraction, Fraction]]
    estimated: bool


class UnpricedError(Exception):
    """The request has no price."""


def _tier(requested: str | None, served: str | None) -> str:
    reported = None if served is None or served.lower() == "auto" else served.lower()
    expected = SERVED.get((requested or "standard").lower(), (requested or "standard").lower())
    expected = "standard" if expected == "auto" else expected
    if reported is None or (expected == "batch" and reported in ("default", "standard")):
        return expected
    return SERVED.get(reported, reported)


def rate(book: Json, record: Json) -> Rated:
    """Return the prices of one request."""
    at, group = when(record["at"]), record["group"]
    model = next(
        (name for name in book["models"] if record["model"] in (name, f"{name}-{record['model'][-10:]}")), None
    )
    terms = _in_force(book["groups"].get(group, {}).get("terms", []), at)
    if model is None or terms is None or not any(_matches(pattern, model) for pattern in terms["models"]):
        raise UnpricedError("model or group")
    used = usage_oracle.read(record["usage"])
    tier = _tier(record.get("service_tier"), used.tier)
    entry = _in_force([e for e in book["models"][model]["prices"] if tier in e], at)
    if entry is None:
        raise UnpricedError("tier")
    override = terms.get("overrides", {}).get(model, {})
    own = override.get("prices", {}).get(tier)
    factor = Fraction(override.get("ratio", terms["ratio"]))
    long_prices = entry[tier].get("long_context")
    long = long_prices is not None and used.input > int(long_prices["above"])
    listed = _vector(book, long_prices if long else entry[tier], at)
    paid = _vector(book, own.get("long_context", own) if long else own, at) if own else listed
    meters, savings = {}, {}
    for meter in METERS:
        if meter not in used.meters:
            continue
        if paid.get(meter) is None:
            raise UnpricedError("meter")
        # The own token prices of a group are final. The fees of tools are always list price x ratio.
        ratio = None if own and meter not in FEES else factor
        price = paid[meter] * (1 if ratio is None else ratio)
        list_price = listed.get(meter)
        meters[meter] = (used.meters[meter], list_price, ratio, price)
        base = price if list_price is None else list_price
        plain = "input" if meter.startswith("cache_write") else meter.replace("cache_read", "input")
        savings[meter] = (base, listed.get(plain, base))
    context = "long" if long else "short"
    return Rated(model, group, tier, context, when(entry["from"]), meters, savings, used.estimated)


def _vector(book: Json, stated: Json, at: datetime) -> dict[str, Fraction]:
    prices = {meter: Fraction(stated[meter]) for meter in METERS if meter in stated}
    discount = _in_force(book.get("cache_discount", []), at)
    for meter in ("cache_read", "audio_cache_read", "image_cache_read", "video_cache_read"):
        fresh = meter.replace("cache_read", "input")
        if meter not in prices and fresh in prices and discount is not None:
            prices[meter] = prices[fresh] * (1 - Fraction(discount["discount"]))
    for tool, entries in book.get("tools", {}).items():
        fee = _in_force(entries, at)
        if fee is not None:
            prices[tool] = Fraction(fee["per_1000_calls"])
    return prices


def _matches(pattern: str, model: str) -> bool:
    head, star, tail = pattern.partition("*")
    return pattern == model or bool(star and model.startswith(head) and model.endswith(tail))


def _per(meter: str) -> int:
    return 1000 if meter in FEES else 1_000_000


# --- the bill ---


class Expected(NamedTuple):
    """The expected parts of a bill, and the ids of rejected records."""

    lines: list[Json]
    totals: Json
    savings: Json
    days: list[Json]
    evidence: Json
    rejected: list[str]


def text_of(value: Fraction) -> str:
    """Return an exact decimal without trailing zeros."""
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
    return _fixed(int(value * 10**places), places)


def _fixed(number: int, places: int) -> str:
    digits = str(abs(number)).rjust(places + 1, "0")
    sign = "-" if number < 0 else ""
    return f"{sign}{digits[: len(digits) - places]}" + (f".{digits[len(digits) - places :]}" if places else "")


def _round_column(amounts: list[Fraction], digits: int) -> list[str]:
    """Return rounded amounts, and last their total: half up, then largest remainder."""
    exact = sum(amounts, Fraction(0))
    total = int(exact * 10**digits + Fraction(1, 2))
    shares = [amount * total / exact if exact else Fraction(0) for amount in amounts]
    parts = [int(share) for share in shares]
    order = sorted(range(len(amounts)), key=lambda i: (parts[i] - shares[i], i))
    for index in order[: total - sum(parts)]:
        parts[index] += 1
    return [_fixed(part, digits) for part in [*parts, total]]


def closing(opening: str, movements: Iterable[str], used: str) -> str:
    """Return the closing balance."""
    return text_of(Fraction(opening) + sum(map(Fraction, movements), Fraction(0)) - Fraction(used))


def bill(
    lines: Iterable[bytes], book: Json, start: datetime, end: datetime, account: str, zone: str = "UTC"
) -> Expected:
    """Return the expected bill of an account. The lines are valid records, perhaps repeated or without a price."""
    by_id: dict[str, list[Json]] = {}
    for line in lines:
        record = json.loads(line)
        by_id.setdefault(record["request_id"], []).append(record)
    conflicts = {name for name, same in by_id.items() if any(r != same[0] for r in same)}
    billed, rejected, rejected_count, duplicates = [], [], 0, 0
    for name, same in by_id.items():
        in_scope = [r for r in same if r["account"] == account and start <= when(r["at"]) < end]
        if not in_scope:
            continue
        try:
            rated = rate(book, in_scope[0])
        except UnpricedError:
            rated = None
        if name in conflicts or rated is None:
            rejected.append(name)
            rejected_count += len(in_scope)
        else:
            duplicates += len(same) - 1
            billed.append((sha256(name.encode()).digest(), same[0], rated))
    billed.sort(key=lambda row: row[0])
    per_credit = Fraction(book["credit"]["nominal_per_credit"])
    channels = sorted(book.get("channels", {}))

    sums: dict[Json, Json] = {}
    price_periods: dict[str, dict[Json, Fraction]] = {}
    missing = dict.fromkeys(channels, Fraction(0))
    listed = full = Fraction(0)
    estimated: Json = [0, Fraction(0)]
    days: dict[tuple[str, str], Json] = {}
    for _, record, rated in billed:
        prices = {name: _in_force(book["channels"][name]["prices"], when(record["at"])) for name in channels}
        spent = Fraction(0)
        for meter, (count, line_list_price, ratio, price) in rated.meters.items():
            key = (*rated[:3], rated.context, rated.since, meter, line_list_price, ratio, price)
            row = sums.setdefault(key, {"quantity": 0, "credits": Fraction(0), "channels": {}})
            credits = count * price / _per(meter) / per_credit
            spent += credits
            row["quantity"] += count
            row["credits"] += credits
            list_price, uncached = rated.list_and_full[meter]
            listed += count * list_price / _per(meter) / per_credit
            full += count * uncached / _per(meter) / per_credit
            for name, entry in prices.items():
                if entry is not None:
                    cost = credits * Fraction(entry["price_per_credit"])
                    row["channels"][name] = row["channels"].get(name, Fraction(0)) + cost
        # The date on a wall clock in that zone.
        day = (when(record["at"]).astimezone(ZoneInfo(zone)).date().isoformat(), rated.model)
        requests, so_far = days.get(day, (0, Fraction(0)))
        days[day] = (requests + 1, so_far + spent)
        if rated.estimated:
            estimated = [estimated[0] + 1, estimated[1] + spent]
        for name, entry in prices.items():
            if entry is None:
                missing[name] += spent
            else:
                periods = price_periods.setdefault(name, {})
                period = (when(entry["from"]), Fraction(entry["price_per_credit"]))
                periods[period] = periods.get(period, Fraction(0)) + spent
    counts = (rejected, rejected_count, duplicates)
    return _document(book, per_credit, sums, price_periods, missing, (listed, full), estimated, days, billed, counts)


def _document(
    book: Json,
    per_credit: Fraction,
    sums: dict[Json, Json],
    price_periods: dict[str, dict[Json, Fraction]],
    missing: dict[str, Fraction],
    savings: tuple[Fraction, Fraction],
    estimated: Json,
    days: dict[tuple[str, str], Json],
    billed: list[Json],
    counts: tuple[list[str], int, int],
) -> Expected:
    def order(key: Json) -> Json:
        model, group, tier, context, since, meter, list_price, ratio, price = key
        position = METERS.index(meter)
        none = Fraction(-1)
        return (
            *(model, group, tier, context == "long", since, position),
            none if list_price is None else list_price,
            none if ratio is None else ratio,
            price,
        )

    keys = sorted(sums, key=order)
    credits = [sums[key]["credits"] for key in keys]
    columns = {"credits": _round_column(credits, 6), "nominal": _round_column([c * per_credit for c in credits], 2)}
    exact = {name: [sums[key]["channels"].get(name, Fraction(0)) for key in keys] for name in price_periods}
    currencies = {name: book["channels"][name]["currency"] for name in price_periods}
    rounded_channels = {name: _round_column(amounts, MINOR[currencies[name]]) for name, amounts in exact.items()}

    def rounded(index: int) -> Json:
        return {
            "credits": columns["credits"][index],
            "nominal": columns["nominal"][index],
            "channels": {name: column[index] for name, column in rounded_channels.items()},
        }

    lines = [
        {
            "model": key[0],
            "group": key[1],
            "service_tier": key[2],
            "context_tier": key[3],
            "price_since": key[4].isoformat().replace("+00:00", "Z"),
            "meter": key[5],
            "quantity": str(sums[key]["quantity"]),
            "list_price": None if key[6] is None else text_of(key[6]),
            "per": _per(key[5]),
            "ratio": None if key[7] is None else text_of(key[7]),
            "unit_price": text_of(key[8]),
            "credits": text_of(sums[key]["credits"]),
            "rounded": rounded(index),
        }
        for index, key in enumerate(keys)
    ]
    total = sum(credits, Fraction(0))
    totals = {
        "requests": len(billed),
        "credits": text_of(total),
        "nominal": {
            "currency": book["credit"]["currency"],
            "amount": text_of(total * per_credit),
            "per_credit": text_of(per_credit),
        },
        "channels": {
            name: {
                "currency": currencies[name],
                "amount": text_of(sum(exact[name], Fraction(0))),
                "price_periods": [
                    {
                        "price_per_credit": text_of(price),
                        "since": since.isoformat().replace("+00:00", "Z"),
                        "credits": text_of(amount),
                    }
                    for (since, price), amount in sorted(price_periods[name].items())
                ],
                "credits_without_price": text_of(missing[name]),
            }
            for name in price_periods
        },
        "estimated": {"requests": estimated[0], "credits": text_of(estimated[1])},
        "rounded": rounded(-1),
    }
    listed, full = savings
    rejected, rejected_count, duplicates = counts
    times = sorted((record["at"][:-1], record["request_id"]) for _, record, _ in billed)
    ends = (
        [{"request_id": times[index][1], "at": times[index][0] + "Z"} for index in (0, -1)] if times else [None, None]
    )
    return Expected(
        lines,
        totals,
        {"list": text_of(full), "cache": text_of(full - listed), "group": text_of(listed - total)},
        [
            {"day": day, "model": model, "requests": requests, "credits": text_of(credits)}
            for (day, model), (requests, credits) in sorted(days.items())
        ],
        {
            "records": len(billed),
            "first": ends[0],
            "last": ends[1],
            "merkle_root": "sha256:" + root([leaf(record) for _, record, _ in billed]).hex(),
            "duplicates": duplicates,
            "rejected": rejected_count,
        },
        rejected,
    )
