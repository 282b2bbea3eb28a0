"""Receipts of random requests, and the keys and price books to verify them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.invoice import key_id, seal
from brivionix_billing.invoice.receipts import make_receipt
from brivionix_billing.times import parse_instant
from paths import DATA, ROOT

__all__ = [
    "BOOKS",
    "KEY",
    "OTHER_KEY",
    "Json",
    "Sample",
    "altered_text",
    "book",
    "boundary_samples",
    "forge",
    "samples",
    "text",
]

Json = dict[str, Any]
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
BOOKS: Final = ("shipped", "everything", "model")
_FILES: Final = {
    "shipped": ROOT / "pricing.yaml",
    "everything": DATA / "everything.yaml",
    "model": DATA / "price_model.yaml",
}
_NAMES: Final[dict[str, tuple[list[str], list[str | None]]]] = {
    "shipped": (
        ["gpt-5.5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.3-codex", "gpt-5.2"],
        [None, "batch", "flex", "priority"],
    ),
    "everything": (["alpha", "alpha-latest", "router"], ["ultra", "ultrafast"]),
    "model": (["alpha", "beta", "openai/beta", "route"], [None, "ultra"]),
}
_BOUNDARIES: Final = (
    *("2026-02-01", "2026-03-01", "2026-10-12", "2026-10-14", "2026-12-01", "2026-12-03"),
    *(f"2026-10-19T{hour:02}:00:00Z" for hour in (2, 4, 6, 10, 14, 22)),  # a Monday, windows in Shanghai
    *("2026-10-05T02:00:00Z", "2026-10-07T02:30:00Z"),  # days without windows
)
_IDS: Final = ("req_{}", "chatcmpl-{}", "请求-{}", "réq {}", 'a"b\\{}', "🙂{}")


class Sample(NamedTuple):
    """A genuine receipt and the name of its price book."""

    book: str
    receipt: bytes
    request_id: str
    account: str | None


def text(name: str) -> str:
    """Return the text of a price file."""
    return _FILES[name].read_text(encoding="utf-8")


def altered_text(name: str) -> str:
    """Return a price file in which every price of 2026-01-01 or 2025-12-11 has another date."""
    return text(name).replace(": 2026-01-01", ": 2025-12-31").replace("from: 2025-12-11", "from: 2025-12-12")


@cache
def book(name: str, *, altered: bool = False) -> PriceBook:
    """Return a price book."""
    return PriceBook.loads(altered_text(name) if altered else text(name))


def samples(random: Random, count: int) -> Iterator[Sample]:
    """Yield receipts of random requests. Requests that cannot be priced are skipped."""
    made = 0
    while made < count:
        name = BOOKS[made % len(BOOKS)]
        models, tiers = _NAMES[name]
        model = random.choice(models)
        estimated = random.random() < 0.2
        usage = _usage(random, estimated=estimated, served="alpha" if model.startswith("rout") else None)
        at = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=random.randrange(400 * 86_400))
        if random.random() < 0.4:  # the start or the end of a price or of a window
            at = parse_instant(random.choice(_BOUNDARIES))
            at += timedelta(microseconds=random.choice([0, 0, 0, 1, -1, 500_000]))
        elif random.random() < 0.3:
            at += timedelta(microseconds=random.randrange(1_000_000))
        try:
            charge = book(name).rate(
                usage,
                model=model,
                group="default",
                at=at,
                service_tier=random.choice(tiers),
                region=random.choice([None, None, "us", "us-east-1"]),
                mode=random.choice([None, None, "quick", "fast"]),
            )
        except BillingError:
            continue
        request_id = random.choice(_IDS).format(made)
        account = random.choice([None, "acct_7", "客户-8"])
        yield Sample(name, make_receipt(charge, request_id=request_id, key=KEY, account=account), request_id, account)
        made += 1


def boundary_samples() -> Iterator[Sample]:
    """Yield receipts of requests exactly at the boundaries of context tiers and at the start of a price."""
    for tokens in (100, 101, 199, 200, 201):
        charge = book("model").rate(
            Usage(input_tokens=tokens, output_tokens=5_000),
            model="alpha",
            group="default",
            at=parse_instant("2026-05-02"),
        )
        name = f"tokens-{tokens}"
        yield Sample("model", make_receipt(charge, request_id=name, key=KEY), name, None)
    for text in ("2026-10-12T00:00:00Z", "2026-10-12T00:00:00.500000Z"):
        charge = book("shipped").rate(
            Usage(input_tokens=10), model="gpt-5.5", group="default", at=parse_instant(text), service_tier="flex"
        )
        yield Sample("shipped", make_receipt(charge, request_id=text, key=KEY), text, None)


def _usage(random: Random, *, estimated: bool, served: str | None) -> Usage:
    size = random.choice([10, 1_000, 300_000])
    cached, new = random.randrange(size), random.randrange(size)
    if random.random() < 0.4:  # at a boundary of a context tier, or beside it
        cached, new = 0, random.choice([100, 200, 128_000, 256_000, 272_000]) + random.randrange(-1, 2)
    if random.random() < 0.1:
        cached, new = 0, 0
    output = random.randrange(size)
    counts: Json = {
        "input_tokens": cached + new,
        "cache_read_tokens": cached,
        "output_tokens": output,
        "reasoning_tokens": random.randrange(output + 1),
    }
    if random.random() < 0.3:
        counts["web_search_calls"] = random.randrange(20)
    if random.random() < 0.3:
        counts["robot_minutes"] = random.randrange(10**7) / 10**4
    body: Json = {"usage": {"counts": counts, "estimated": estimated}}
    for index in range(random.choice([0, 0, 0, 1, 3, 40])):
        body["usage"][f"new_count_{index}"] = random.randrange(1, 10**9)
    return Usage.from_response({**body, **({} if served is None else {"model": served})})


def forge(receipt: bytes, change: Callable[[Json], object], key: Ed25519PrivateKey = KEY) -> bytes:
    """Return a changed receipt, sealed with the issuer's key: what a dishonest issuer would sign."""
    document = copy.deepcopy(json.loads(receipt))
    change(document)
    rest = {name: value for name, value in document.items() if name not in ("hash", "signature")}
    return canonical_json(seal({**rest, "signing_key": key_id(key.public_key())}, key))
