"""Compares nominal prices with genai-prices: every model, tier and side of 272 000 input tokens, on random usage.

``python benchmarks/against_genai_prices.py`` prints where both agree, and each kind of difference with its figures.
genai-prices takes what a request was beside its tokens as ``price_context``: ``{"service_tier": "flex"}`` or
``"priority"``, and ``{"processing": "batch"}``. What it does not know there it prices as standard.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from random import Random
from typing import NamedTuple

import genai_prices

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.decimals import format_plain
from timing import ROOT

AT = datetime(2026, 10, 20, 8, tzinfo=UTC)
ABOVE = 272_000
MODELS = ("gpt-5.5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.3-codex", "gpt-5.2")
CONTEXTS: dict[str, dict[str, str]] = {
    "standard": {"service_tier": "default"},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
SIDES = {"up to 272 000": (1, ABOVE), "above 272 000": (ABOVE + 1, 900_000)}

Counts = tuple[int, int, int]
"""Input with cached, cached, output."""
Price = Decimal | str
"""A price in USD, or in words why there is none."""


class Compared(NamedTuple):
    """How the prices of one model, tier and side compare."""

    model: str
    tier: str
    side: str
    tried: int
    agreed: int
    first: tuple[Counts, Price, Price] | None
    """The first that did not agree: usage, price here, price there."""


def here(book: PriceBook, counts: Counts, model: str, tier: str, at: datetime = AT) -> Price:
    total, cached, output = counts
    try:
        usage = Usage(input_tokens=total, cache_read_tokens=cached, output_tokens=output)
        return book.rate(usage, model=model, group="default", at=at, service_tier=tier).nominal.amount
    except BillingError as error:
        return error.code


def there(counts: Counts, model: str, context: dict[str, str], at: datetime = AT) -> Price:
    total, cached, output = counts
    try:
        usage = genai_prices.Usage(input_tokens=total, cache_read_tokens=cached, output_tokens=output)
        found: Decimal = genai_prices.calc_price(
            usage, model, provider_id="openai", genai_request_timestamp=at, price_context=context
        ).total_price
    except (LookupError, ValueError) as error:
        return type(error).__name__
    return found


def usages(rng: Random, low: int, high: int, count: int) -> Iterator[Counts]:
    """Random requests, the two at the edges first, half of them with cached tokens."""
    for number in range(count):
        total = (low, high)[number] if number < 2 else rng.randint(low, high)
        cached = rng.randint(0, total) if rng.random() < 0.5 else 0
        yield total, cached, rng.randint(0, 128_000)


def compare(book: PriceBook, seed: int, count: int) -> list[Compared]:
    rng = Random(seed)
    compared = []
    for model in MODELS:
        for tier, context in CONTEXTS.items():
            for side, (low, high) in SIDES.items():
                agreed, first = 0, None
                for counts in usages(rng, low, high, count):
                    ours, theirs = here(book, counts, model, tier), there(counts, model, context)
                    if ours == theirs:
                        agreed += 1
                    elif first is None:
                        first = counts, ours, theirs
                compared.append(Compared(model, tier, side, count, agreed, first))
    return compared


def meter_prices(price: Callable[[Counts], Price], side: str) -> dict[str, Price]:
    """What a million tokens of each meter cost, found out by asking for whole requests."""
    size = 250_000 if side == "up to 272 000" else 500_000
    asked: dict[str, Counts] = {"input": (size, 0, 0), "cached": (size, size, 0), "output": (size, 0, 1_000_000)}
    found = {name: price(counts) for name, counts in asked.items()}
    whole = found["input"]
    for name, value in found.items():
        if isinstance(value, Decimal) and isinstance(whole, Decimal):
            found[name] = value - whole if name == "output" else value * (1_000_000 // size)
    return found


def differences(book: PriceBook, compared: Sequence[Compared]) -> Iterator[tuple[str, ...]]:
    """A line per meter whose price differs, or per refusal."""
    for one in compared:
        if one.first is None:
            continue
        model, tier, side = one.model, one.tier, one.side
        ours = meter_prices(partial(here, book, model=model, tier=tier), side)
        theirs = meter_prices(partial(there, model=model, context=CONTEXTS[tier]), side)
        for meter, value in ours.items():
            if value != theirs[meter]:
                yield model, tier, side, meter, shown(value), shown(theirs[meter])


def names_and_dates(book: PriceBook) -> Iterator[tuple[str, ...]]:
    """The same request under other names of its tier and at an earlier date."""
    counts, model = (12_000, 10_000, 800), "gpt-5.4-mini"
    early = datetime(2026, 10, 1, tzinfo=UTC)
    cases = [
        ("'Priority'", "Priority", {"service_tier": "Priority"}, AT),
        ("'batch' as service tier", "batch", {"service_tier": "batch"}, AT),
        ("'wibble'", "wibble", {"service_tier": "wibble"}, AT),
        ("'flex' on 2026-10-01, before it was quoted", "flex", {"service_tier": "flex"}, early),
    ]
    for words, tier, context, at in cases:
        yield words, shown(here(book, counts, model, tier, at)), shown(there(counts, model, context, at))


def shown(price: Price) -> str:
    return format_plain(price) if isinstance(price, Decimal) else price


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=2026)
    arguments.add_argument("--count", type=int, default=250, help="usages per model, tier and side (default 250)")
    given = arguments.parse_args()
    book = PriceBook.load(ROOT / "pricing.yaml")
    compared = compare(book, given.seed, given.count)

    print(f"genai-prices {genai_prices.__version__}; USD nominal at {AT.date()}, group default; exact equality\n")
    print(
        table(
            ("model", "tier", "input tokens", "agree"),
            [(c.model, c.tier, c.side, f"{c.agreed} of {c.tried}") for c in compared],
        )
    )
    tried, agreed = sum(c.tried for c in compared), sum(c.agreed for c in compared)
    print(f"\n{agreed} of {tried} prices agree, to the last digit.\n\nWhere they do not, USD per 1 M tokens:\n")
    print(table(("model", "tier", "input tokens", "meter", "here", "genai-prices"), list(differences(book, compared))))
    print("\nFor example:\n")
    print(
        table(
            ("model", "tier", "input (cached) / output", "here", "genai-prices"),
            [
                (c.model, c.tier, f"{c.first[0][0]} ({c.first[0][1]}) / {c.first[0][2]}", *map(shown, c.first[1:]))
                for c in compared
                if c.first is not None
            ],
        )
    )
    print("\nNames and dates of tiers; 12 000 input (10 000 cached), 800 output of gpt-5.4-mini, USD:\n")
    print(table(("service tier", "here", "genai-prices"), list(names_and_dates(book))))


if __name__ == "__main__":
    main()
