"""An oracle for bills: the rules of docs/concepts.md and of the words in a document, in fractions, on plain data.

Nothing of the library is imported. Everything takes the slow and obvious way: one request at a time, numbers from their
text, Merkle trees by the recursion of RFC 6962, canonical JSON written out by hand.
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
# Lines are shown in this order.
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
    """A price file as plain data; every scalar is its text."""
    return yaml.load(text, Loader=yaml.BaseLoader)  # the loader that makes nothing but strings


def when(text: str) -> datetime:
    """A time."""
    return datetime.fromisoformat(text if "T" in text else text + "T00:00:00+00:00").astimezone(UTC)


def _in_force(entries: Iterable[Json], at: datetime) -> Json:
    begun = [entry for entry in entries if when(entry["from"]) <= at]
    return begun[-1] if begun else None


class Rated(NamedTuple):
    """One request: meter -> (quantity, list price, ratio, price), and what it stands under."""

    model: str
    group: str
    tier: str
    context: str
    since: datetime
    meters: dict[str, tuple[int, Fraction | None, Fraction | None, Fraction]]
    list_and_full: dict[str, tuple[Fraction, Fraction]]
    estimated: bool


class RefusedError(Exception):
    """No price for this request."""


def _tier(asked: str | None, served: str | None) -> str:
    told = None if served is None or served.lower() == "auto" else served.lower()
    want = SERVED.get((asked or "standard").lower(), (asked or "standard").lower())
    want = "standard" if want == "auto" else want
    if told is None or (want == "batch" and told in ("default", "standard")):
        return want
    return SERVED.get(told, told)


def rate(book: Json, record: Json) -> Rated:
    """The prices of one request."""
    at, group = when(record["at"]), record["group"]
    model = next(
        (name for name in book["models"] if record["model"] in (name, f"{name}-{record['model'][-10:]}")), None
    )
    terms = _in_force(book["groups"].get(group, {}).get("terms", []), at)
    if model is None or terms is None or not any(_matches(pattern, model) for pattern in terms["models"]):
        raise RefusedError("model or group")
    used = usage_oracle.read(record["usage"])
    tier = _tier(record.get("service_tier"), used.tier)
    entry = _in_force([e for e in book["models"][model]["prices"] if tier in e], at)
    if entry is None:
        raise RefusedError("tier")
    special = terms.get("overrides", {}).get(model, {})
    own = special.get("prices", {}).get(tier)
    factor = Fraction(special.get("ratio", terms["ratio"]))
    far = entry[tier].get("long_context")
    long = far is not None and used.input > int(far["above"])
    listed = _vector(book, far if long else entry[tier], at)
    paid = _vector(book, own.get("long_context", own) if long else own, at) if own else listed
    meters, savings = {}, {}
    for meter in METERS:
        if meter not in used.meters:
            continue
        if paid.get(meter) is None:
            raise RefusedError("meter")
        # A group's own prices are for tokens and final; the fees of tools are always list price x ratio.
        ratio = None if own and meter not in FEES else factor
        price = paid[meter] * (1 if ratio is None else ratio)
        here = listed.get(meter)
        meters[meter] = (used.meters[meter], here, ratio, price)
        base = price if here is None else here
        plain = "input" if meter.startswith("cache_write") else meter.replace("cache_read", "input")
        savings[meter] = (base, listed.get(plain, base))
    context = "long" if long else "short"
    return Rated(model, group, tier, context, when(entry["from"]), meters, savings, used.estimated)


def _vector(book: Json, stated: Json, at: datetime) -> dict[str, Fraction]:
    found = {meter: Fraction(stated[meter]) for meter in METERS if meter in stated}
    discount = _in_force(book.get("cache_discount", []), at)
    for meter in ("cache_read", "audio_cache_read", "image_cache_read", "video_cache_read"):
        fresh = meter.replace("cache_read", "input")
        if meter not in found and fresh in found and discount is not None:
            found[meter] = found[fresh] * (1 - Fraction(discount["discount"]))
    for tool, entries in book.get("tools", {}).items():
        fee = _in_force(entries, at)
        if fee is not None:
            found[tool] = Fraction(fee["per_1000_calls"])
    return found


def _matches(pattern: str, model: str) -> bool:
    head, star, tail = pattern.partition("*")
    return pattern == model or bool(star and model.startswith(head) and model.endswith(tail))


def _per(meter: str) -> int:
    return 1000 if meter in FEES else 1_000_000


# --- the bill ---


class Expected(NamedTuple):
    """What a bill must hold, and the ids of records that cannot be billed."""

    lines: list[Json]
    totals: Json
    savings: Json
    days: list[Json]
    evidence: Json
    refused: list[str]


def text_of(value: Fraction) -> str:
    """An exact decimal without idle zeros."""
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
    return _fixed(int(value * 10**places), places)


def _fixed(number: int, places: int) -> str:
    digits = str(abs(number)).rjust(places + 1, "0")
    sign = "-" if number < 0 else ""
    return f"{sign}{digits[: len(digits) - places]}" + (f".{digits[len(digits) - places :]}" if places else "")


def _shown(amounts: list[Fraction], digits: int) -> list[str]:
    """Shown parts, and their total at the end: half up, then largest remainder."""
    exact = sum(amounts, Fraction(0))
    total = int(exact * 10**digits + Fraction(1, 2))
    shares = [amount * total / exact if exact else Fraction(0) for amount in amounts]
    parts = [int(share) for share in shares]
    order = sorted(range(len(amounts)), key=lambda i: (parts[i] - shares[i], i))
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return [_fixed(part, digits) for part in [*parts, total]]


def closing(opening: str, movements: Iterable[str], used: str) -> str:
    """What is left of a balance."""
    return text_of(Fraction(opening) + sum(map(Fraction, movements), Fraction(0)) - Fraction(used))


def bill(
    lines: Iterable[bytes], book: Json, start: datetime, end: datetime, account: str, zone: str = "UTC"
) -> Expected:
    """The bill of an account, from lines that hold sound records (perhaps twice, perhaps with prices missing)."""
    found: dict[str, list[Json]] = {}
    for line in lines:
        record = json.loads(line)
        found.setdefault(record["request_id"], []).append(record)
    conflicts = {name for name, same in found.items() if any(r != same[0] for r in same)}
    billed, refused, aside, doubled = [], [], 0, 0
    for name, same in found.items():
        mine = [r for r in same if r["account"] == account and start <= when(r["at"]) < end]
        if not mine:
            continue
        try:
            rated = rate(book, mine[0])
        except RefusedError:
            rated = None
        if name in conflicts or rated is None:
            refused.append(name)
            aside += len(mine)
        else:
            doubled += len(same) - 1
            billed.append((sha256(name.encode()).digest(), same[0], rated))
    billed.sort(key=lambda row: row[0])
    per_credit = Fraction(book["credit"]["nominal_per_credit"])
    channels = sorted(book.get("channels", {}))

    sums: dict[Json, Json] = {}
    parts: dict[str, dict[Json, Fraction]] = {}
    missing = dict.fromkeys(channels, Fraction(0))
    listed = full = Fraction(0)
    guessed: Json = [0, Fraction(0)]
    days: dict[tuple[str, str], Json] = {}
    for _, record, rated in billed:
        prices = {name: _in_force(book["channels"][name]["prices"], when(record["at"])) for name in channels}
        spent = Fraction(0)
        for meter, (count, list_price, ratio, price) in rated.meters.items():
            key = (*rated[:3], rated.context, rated.since, meter, list_price, ratio, price)
            row = sums.setdefault(key, {"quantity": 0, "credits": Fraction(0), "channels": {}})
            credits = count * price / _per(meter) / per_credit
            spent += credits
            row["quantity"] += count
            row["credits"] += credits
            here, uncached = rated.list_and_full[meter]
            listed += count * here / _per(meter) / per_credit
            full += count * uncached / _per(meter) / per_credit
            for name, entry in prices.items():
                if entry is not None:
                    cost = credits * Fraction(entry["price_per_credit"])
                    row["channels"][name] = row["channels"].get(name, Fraction(0)) + cost
        # What a clock on the wall of that zone showed.
        day = (when(record["at"]).astimezone(ZoneInfo(zone)).date().isoformat(), rated.model)
        requests, so_far = days.get(day, (0, Fraction(0)))
        days[day] = (requests + 1, so_far + spent)
        if rated.estimated:
            guessed = [guessed[0] + 1, guessed[1] + spent]
        for name, entry in prices.items():
            if entry is None:
                missing[name] += spent
            else:
                part = parts.setdefault(name, {})
                at_price = (when(entry["from"]), Fraction(entry["price_per_credit"]))
                part[at_price] = part.get(at_price, Fraction(0)) + spent
    left = (refused, aside, doubled)
    return _document(book, per_credit, sums, parts, missing, (listed, full), guessed, days, billed, left)


def _document(
    book: Json,
    per_credit: Fraction,
    sums: dict[Json, Json],
    parts: dict[str, dict[Json, Fraction]],
    missing: dict[str, Fraction],
    savings: tuple[Fraction, Fraction],
    guessed: Json,
    days: dict[tuple[str, str], Json],
    billed: list[Json],
    left: tuple[list[str], int, int],
) -> Expected:
    def order(key: Json) -> Json:
        model, group, tier, context, since, meter, list_price, ratio, price = key
        place = METERS.index(meter)
        nothing = Fraction(-1)
        return (
            *(model, group, tier, context == "long", since, place),
            nothing if list_price is None else list_price,
            nothing if ratio is None else ratio,
            price,
        )

    keys = sorted(sums, key=order)
    credits = [sums[key]["credits"] for key in keys]
    columns = {"credits": _shown(credits, 6), "nominal": _shown([c * per_credit for c in credits], 2)}
    exact = {name: [sums[key]["channels"].get(name, Fraction(0)) for key in keys] for name in parts}
    currencies = {name: book["channels"][name]["currency"] for name in parts}
    shown_channels = {name: _shown(amounts, MINOR[currencies[name]]) for name, amounts in exact.items()}

    def shown(place: int) -> Json:
        return {
            "credits": columns["credits"][place],
            "nominal": columns["nominal"][place],
            "channels": {name: column[place] for name, column in shown_channels.items()},
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
            "rounded": shown(place),
        }
        for place, key in enumerate(keys)
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
                    for (since, price), amount in sorted(parts[name].items())
                ],
                "credits_without_price": text_of(missing[name]),
            }
            for name in parts
        },
        "estimated": {"requests": guessed[0], "credits": text_of(guessed[1])},
        "rounded": shown(-1),
    }
    listed, full = savings
    refused, aside, doubled = left
    times = sorted((record["at"][:-1], record["request_id"]) for _, record, _ in billed)
    ends = (
        [{"request_id": times[place][1], "at": times[place][0] + "Z"} for place in (0, -1)] if times else [None, None]
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
            "duplicates": doubled,
            "rejected": aside,
        },
        refused,
    )
