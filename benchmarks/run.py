"""All benchmarks in one table, from one run: ``make bench``. README.md explains each row and its target."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from bill import bill
from brivionix_billing import PriceBook, Usage
from pricefile import price_file
from timing import ROOT, Row, Times, calls, processes, show, statements
from token_speed import tokens

# Without this, litellm fetches its prices over the network at import.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

PRICES = ROOT / "pricing.yaml"
AT = datetime(2026, 10, 20, 8, tzinfo=UTC)
MODEL = "gpt-5.4-mini"
EXPECTED = Decimal("0.00585")
"""12 000 input tokens, of which 10 000 cached, and 800 output tokens of gpt-5.4-mini."""

BODY: dict[str, Any] = {
    "id": "chatcmpl-0001",
    "object": "chat.completion",
    "created": 1792483200,
    "model": "gpt-5.4-mini-2026-03-17",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 12_000,
        "completion_tokens": 800,
        "total_tokens": 12_800,
        "prompt_tokens_details": {"cached_tokens": 10_000, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 320,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
}

_REQUEST = f"model='{MODEL}', group='default', at=at"
_COUNTS = "input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800"
OURS = "brivionix_billing"
PEER = "genai-prices"

# What a gateway does with a usage that it has: label, statement, and how many times as fast as the peer's price it must
# be. The peer computes a price only.
_STEPS = (
    ("rate + .credits", "book.rate(usage, {r}).credits", 50),
    ("... + .nominal + one .cost", "c = book.rate(usage, {r}); c.credits, c.nominal, c.cost('rmb')", 30),
    (
        "... + the record as JSON (as_json)",
        "c = book.rate(usage, {r}); c.credits, c.nominal, c.cost('rmb'), c.as_json()",
        8,
    ),
    (
        "... + the record as JSON (json.dumps of as_dict)",
        "c = book.rate(usage, {r}); c.credits, c.nominal, c.cost('rmb'), dumps(c.as_dict())",
        None,
    ),
    (
        "... + .explain()",
        "c = book.rate(usage, {r}); c.credits, c.nominal, c.cost('rmb'), c.as_json(), c.explain()",
        2,
    ),
)


def rate() -> list[Row]:
    """Time what a gateway does with a usage, prices loaded, against a peer that computes a price only."""
    names = _contestants()
    price = f"calc_price(peer_usage, '{MODEL}', provider_id='openai', genai_request_timestamp=at)"
    peers = {
        PEER: price,
        "litellm": f"cost_per_token(model='{MODEL}', prompt_tokens=12_000, completion_tokens=800, "
        "cache_read_input_tokens=10_000)",
    }
    rate_only = f"book.rate(usage, {_REQUEST})"
    steps = {label: statement.format(r=_REQUEST) for label, statement, _ in _STEPS}
    construct = {
        "Usage(...) + rate": f"book.rate(Usage({_COUNTS}), {_REQUEST})",
        "peer with its usage": price.replace("peer_usage", f"PeerUsage({_COUNTS})"),
    }
    _require_agreement({OURS: rate_only, **peers}, names)
    times = statements({OURS: rate_only, **steps, **construct, **peers}, names)
    rows = _against("rate", times, OURS, demanded=50)
    rows.append(_compare("Usage(...) + rate", times["Usage(...) + rate"], times["peer with its usage"], 50))
    rows += [_compare(label, times[label], times[PEER], demanded) for label, _, demanded in _STEPS]
    return rows


def body() -> list[Row]:
    """Time a provider's response, a dict, to its Credits."""
    names = _contestants()
    statement = {
        OURS: f"book.rate(Usage.from_response(body), {_REQUEST})",
        PEER: "extract_usage(body, provider_id='openai', api_flavor='chat').calc_price(genai_request_timestamp=at)",
        "litellm": "completion_cost(completion_response=body)",
    }
    _require_agreement(statement, names)
    credits = f"{statement[OURS]}.credits"
    times = statements({**statement, "credits": credits}, names)
    return [
        *_against("body to charge", times, OURS, demanded=30),
        *_against("body to .credits", times, "credits", demanded=30)[:1],
    ]


def _contestants() -> dict[str, Any]:
    import genai_prices
    import litellm

    return {
        "book": PriceBook.load(PRICES),
        "Usage": Usage,
        "usage": Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800),
        "at": AT,
        "body": BODY,
        "dumps": json.dumps,
        "calc_price": genai_prices.calc_price,
        "extract_usage": genai_prices.extract_usage,
        "PeerUsage": genai_prices.Usage,
        "peer_usage": genai_prices.Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800),
        "cost_per_token": litellm.cost_per_token,
        "completion_cost": litellm.completion_cost,
    }


def _require_agreement(statement: dict[str, str], names: dict[str, Any]) -> None:
    """Check that all contestants do the same work: they compute the same price (litellm's up to float rounding)."""
    for name, text in statement.items():
        result = eval(text, dict(names))
        if name == "litellm":
            total = sum(result) if isinstance(result, tuple) else result
            assert abs(total - float(EXPECTED)) < 1e-12, (name, result)
        else:
            price = result.total_price if name == PEER else result.nominal.amount
            assert price == EXPECTED, (name, result)


def _against(what: str, times: dict[str, Times], ours: str, demanded: float) -> list[Row]:
    return [
        _compare(f"{what}: against {PEER}", times[ours], times[PEER], demanded),
        _compare(f"{what}: against litellm", times[ours], times["litellm"], None),
    ]


def _compare(what: str, ours: Times, peer: Times, demanded: float | None) -> Row:
    ratio = peer.best / ours.best
    return Row(
        what,
        f"{ours.best * 1e6:.2f} us; {peer.best * 1e6:.2f} us "
        f"(medians {ours.median * 1e6:.2f}, {peer.median * 1e6:.2f})",
        f"{ratio:.1f}x",
        "" if demanded is None else f">= {demanded:g}x",
        None if demanded is None else ratio >= demanded,
    )


_IMPORTS = (
    ("import brivionix_billing", "import pydantic", True),
    ("from brivionix_billing import PriceBook, Usage", "from pydantic import BaseModel", False),
)
"""Both packages import their public names at the first use, so the second pair is what programs pay."""


def imports() -> list[Row]:
    """Time imports in fresh processes."""
    programs = {"nothing": "pass", **{text: text for pair in _IMPORTS for text in pair[:2]}}
    times = processes(programs, rounds=15)
    empty = times["nothing"]
    rows = []
    for ours, peer, is_judged in _IMPORTS:
        ratio = (times[ours].median - empty.median) / (times[peer].median - empty.median)
        rows.append(
            Row(
                f"{ours}: against {peer}",
                f"{(times[ours].median - empty.median) * 1e3:.1f} ms; "
                f"{(times[peer].median - empty.median) * 1e3:.1f} ms "
                f"(best {(times[ours].best - empty.best) * 1e3:.1f}, {(times[peer].best - empty.best) * 1e3:.1f})",
                f"{ratio:.2f}x",
                "<= 1x" if is_judged else "",
                ratio <= 1 if is_judged else None,
            )
        )
    return rows


def load() -> list[Row]:
    """Price files read, checked and compiled, against PyYAML's C loader on the same text."""
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        big = Path(folder) / "pricing.yaml"
        big.write_text(price_file(3000), encoding="utf-8")
        return [
            _loaded("load: pricing.yaml, 5 models", PRICES, 25, 0.010, "a few ms"),
            _loaded("load: 3000 models", big, 5, 1.2, "about 1 s"),
        ]


def _loaded(what: str, path: Path, rounds: int, most: float, demanded: str) -> Row:
    text = path.read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    PriceBook.load(path)
    times = calls({OURS: partial(PriceBook.load, path), "yaml": lambda: yaml.load(text, loader)}, rounds)
    here, plain = times[OURS].best, times["yaml"].best
    return Row(
        what,
        f"{here * 1e3:.1f} ms; {loader.__name__} {plain * 1e3:.1f} ms; {len(text) / 1e3:.0f} kB",
        f"{here / plain:.2f}x",
        demanded,
        here <= most,
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"  # not every part needs all of them


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", default="rate,body,import,load,tokens,bill", help="some of: %(default)s")
    arguments.add_argument(
        "--lines", type=int, default=1_000_000, help="of the usage file to bill (default %(default)s)"
    )
    given = arguments.parse_args()
    parts: dict[str, Callable[[], list[Row]]] = {
        "import": imports,
        "load": load,
        "rate": rate,
        "body": body,
        "tokens": tokens,
        "bill": partial(bill, given.lines),
    }
    chosen = given.only.split(",")
    unknown = set(chosen) - set(parts)
    if unknown:
        arguments.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(parts)}")
    rows: list[Row] = []
    for name, part in parts.items():
        if name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += part()
    used = ", ".join(f"{name} {_version(name)}" for name in ("pydantic", "PyYAML", "genai-prices", "litellm"))
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    print(used)
    print(show(rows))


if __name__ == "__main__":
    main()
