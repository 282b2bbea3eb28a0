"""Shared by the tests of bills: a price book in which everything changes in October 2026, and usage for it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from brivionix_billing import PriceBook
from brivionix_billing.invoice import Header, VerificationReport, Verifier, aggregate_usage, build_invoice, seal
from brivionix_billing.times import Period
from paths import ROOT

__all__ = ["BOOK", "OCTOBER", "ROOT", "TEXT", "billed", "body", "header", "record", "usages", "verified", "written"]

Json = dict[str, Any]
OCTOBER: Final = Period.parse("2026-10")

TEXT: Final = """\
version: 1
credit: {currency: USD, nominal_per_credit: NOMINAL}
cache_discount:
  - {from: 2026-01-01, discount: 0.90}
  - {from: 2026-10-25, discount: 0.5}
tools:
  web_search: [{from: 2026-01-01, per_1000_calls: 10}, {from: 2026-10-20, per_1000_calls: 12.5}]
  file_search: [{from: 2026-10-10, per_1000_calls: 2.5}]
channels:
  rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}, {from: 2026-10-15, price_per_credit: 0.9}]}
  stripe: {currency: USD, prices: [{from: 2026-01-01, price_per_credit: 0.12}]}
  konbini: {currency: JPY, prices: [{from: 2026-10-10, price_per_credit: 18.333}]}
models:
  alpha:
    released: 2026-01-01
    encoding: o200k_base
    context: {window: 400000, max_input: 272000, max_output: 128000}
    prices:
      - from: 2026-01-01
        standard:
            input: PRICE
            output: 15
            audio_input: 40
            long_context: {above: 1000, input: 5, output: 22.5, audio_input: 80}
        priority: {input: 5, cache_read: 0.7, output: 30}
      - from: 2026-10-12T12:00:00Z
        standard: {input: 3, output: 16, long_context: {above: 1000, input: 6, output: 24}}
        batch: {input: 1.25, cache_read: 0.13, output: 7.5}
  beta:
    released: 2026-01-01
    encoding: o200k_base
    context: {window: 400000, max_input: 272000, max_output: 128000}
    prices:
      - from: 2026-01-01
        standard: {input: 0.75, cache_read: 0.075, output: 4.5}
groups:
  default: {terms: [{from: 2026-01-01, ratio: 1, models: ["*"]}]}
  half: {terms: [{from: 2026-01-01, ratio: RATIO, models: ["*"]}, {from: 2026-10-20, ratio: 0.7, models: ["alpha"]}]}
  own:
    terms:
      - from: 2026-01-01
        ratio: 1
        models: ["*"]
        overrides:
          alpha:
            prices:
              standard:
                input: 1.5
                cache_write: 2
                output: 12
                audio_input: 9
                long_context: {above: 1000, input: 2, cache_write: 2.5, output: 13, audio_input: 10}
          beta: {ratio: 0.333}
  free: {terms: [{from: 2026-01-01, ratio: 0, models: ["beta"]}]}
"""


def text(nominal: str = "1", price: str = "2.5", ratio: str = "0.5") -> str:
    """Return the price file with some of its numbers."""
    return TEXT.replace("NOMINAL", nominal).replace("PRICE", price, 1).replace("RATIO", ratio)


@cache
def loaded(of: str) -> PriceBook:
    """Return the price book of a text. It is parsed once."""
    return PriceBook.loads(of)


BOOK: Final = loaded(text())


def body(kind: str = "chat", tokens: int = 900, cached: int = 300, out: int = 50, **envelope: Any) -> Json:
    """Return a usage object in one of the formats: chat, responses, or whole (with its response envelope)."""
    if kind == "chat":
        return {
            "prompt_tokens": tokens,
            "completion_tokens": out,
            "total_tokens": tokens + out,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": out // 2},
        }
    usage = {
        "input_tokens": tokens,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens + out,
    }
    if kind == "responses":
        return usage
    return {"id": "resp_1", "model": "alpha", "service_tier": "default", **envelope, "usage": usage}


def record(number: int = 1, **changes: Any) -> Json:
    """Return a record of October."""
    at = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(hours=7 * number)
    base = {
        "request_id": f"req_{number}",
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account": "acct_1",
        "group": "default",
        "model": "alpha",
        "service_tier": "standard",
        "usage": body(("chat", "responses", "whole")[number % 3], 400 + 37 * number, 100, 10 + number),
    }
    return {**base, **changes}


def written(records: Iterable[Json], **options: Any) -> bytes:
    """Return a usage file."""
    return b"".join(json.dumps(r, **options).encode() + b"\n" for r in records)


def header(**changes: Any) -> Header:
    """Return the header of a bill."""
    defaults: Json = {"account": "acct_1", "period": OCTOBER, "period_name": "2026-10", "issued": OCTOBER.end}
    return Header(**{**defaults, "issuer": "Example Gateway Ltd", **changes})


def billed(usage: bytes, book: PriceBook = BOOK, key: Any = None, **changes: Any) -> Json:
    """Return a sealed bill over a usage file."""
    head = header(**changes)
    aggregated = aggregate_usage(usage.splitlines(keepends=True), book, head.period)
    return seal(build_invoice(aggregated.accounts[head.account], head, book), key)


def verified(document: Any, usage: bytes | None, book: PriceBook = BOOK, **options: Any) -> VerificationReport:
    """Return the report on a document."""
    return _verifier(usage, book).verify(document, **options)


@lru_cache(maxsize=8)
def _verifier(usage: bytes | None, book: PriceBook) -> Verifier:
    """Return a verifier that reads the usage once, however many documents it verifies."""
    return Verifier(None if usage is None else lambda: io.BytesIO(usage), book)


# --- generated usage ---

_tokens = st.one_of(st.integers(0, 30), st.integers(900, 1100), st.integers(0, 2_000_000))
MOMENTS: Final = (
    "2026-09-30T23:59:59.999Z",
    "2026-10-01T00:00:00Z",
    "2026-10-09T23:59:59.999999Z",
    "2026-10-10T00:00:00Z",
    "2026-10-12T12:00:00.000Z",
    "2026-10-15T00:00:00.001Z",
    "2026-10-20T00:00:00Z",
    "2026-10-25T06:00:00Z",
    "2026-10-31T23:59:59.999999Z",
    "2026-11-01T00:00:00Z",
)


@st.composite
def _body(draw: DrawFn) -> Json:
    kind = draw(st.sampled_from(["chat", "chat", "responses", "responses", "whole", "searches"]))
    tokens, out = draw(_tokens), draw(_tokens)
    cached = draw(st.integers(0, tokens))
    usage = body("whole" if kind == "searches" else kind, tokens, cached, out)
    if kind in ("whole", "searches"):
        usage["service_tier"] = draw(st.sampled_from(["default", "auto", "priority", "standard"]))
    if kind == "searches":
        kinds = st.sampled_from(["search", "open_page"])
        calls = [{"type": "web_search_call", "action": {"type": draw(kinds)}} for _ in range(draw(st.integers(0, 3)))]
        usage["output"] = [*calls, {"type": "file_search_call"}][: draw(st.integers(0, 4))]
    elif kind == "chat" and draw(st.booleans()):
        kind = draw(st.sampled_from(["audio_tokens", "cache_write_tokens"]))
        usage["prompt_tokens_details"][kind] = draw(st.integers(0, tokens - cached))
    if draw(st.integers(0, 3)) == 0:
        usage.get("usage", usage)["estimated"] = draw(st.booleans())
    return usage


@st.composite
def usages(draw: DrawFn) -> list[Json]:
    """Records of two accounts, in and around October; some are repeated, some conflict."""
    records: list[Json] = []
    for number in range(draw(st.integers(1, 9))):
        records.append(
            {
                "request_id": draw(st.sampled_from([f"r{number}", f"请求 {number}", f'"{number}:\\'])),
                "at": draw(st.sampled_from(MOMENTS)),
                "account": draw(st.sampled_from(["acct_1", "acct_1", "acct_1", "acct_2"])),
                "group": draw(st.sampled_from(["default", "half", "own", "free", "unknown"])),
                "model": draw(st.sampled_from(["alpha", "beta", "alpha-2026-02-03"])),
                "service_tier": draw(st.sampled_from(["standard", "standard", "batch", "priority", None])),
                "usage": draw(_body()),
            }
        )
    repeated = draw(st.lists(st.sampled_from(records), max_size=3))
    changed = [
        {**r, "account": "acct_1", "usage": body()} for r in draw(st.lists(st.sampled_from(records), max_size=1))
    ]
    return draw(st.permutations([*records, *repeated, *changed]))
