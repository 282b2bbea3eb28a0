"""All figures of the README in one table, from one run: ``make bench``.

README.md beside this says what each row measures and what was demanded.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from bill import bill
from brivionix_billing import PriceBook, Usage
from pricefile import price_file
from timing import ROOT, Row, Times, calls, processes, show, statements
from token_speed import tokens

# litellm asks the network for its prices at import, unless told not to.
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

_ASK = f"model='{MODEL}', group='default', at=at, service_tier='standard'"
OURS = "brivionix_billing"


def rate() -> list[Row]:
    """Four integers to a charge, prices loaded."""
    names = _contestants()
    four = "input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800"
    statement = {
        OURS: f"book.rate(Usage({four}, cache_write_tokens=0), {_ASK})",
        "with reasoning": f"book.rate(Usage({four}, reasoning_tokens=320), {_ASK})",
        "genai-prices": f"calc_price(TheirUsage({four}), '{MODEL}', provider_id='openai', genai_request_timestamp=at)",
        "litellm": f"cost_per_token(model='{MODEL}', prompt_tokens=12_000, completion_tokens=800, "
        "cache_read_input_tokens=10_000)",
    }
    _agree(statement, names)
    times = statements(statement, names)
    return [
        *_against("rate", times, OURS, demanded=50),
        *_against("rate, reasoning_tokens given", times, "with reasoning", demanded=50)[:1],
    ]


def body() -> list[Row]:
    """The provider's response, a dict, to a charge."""
    names = _contestants()
    statement = {
        OURS: f"book.rate(Usage.from_response(body), {_ASK})",
        "genai-prices": "extract_usage(body, provider_id='openai', api_flavor='chat')"
        ".calc_price(genai_request_timestamp=at)",
        "litellm": "completion_cost(completion_response=body)",
    }
    _agree(statement, names)
    return _against("body", statements(statement, names), OURS, demanded=30)


def _contestants() -> dict[str, Any]:
    import genai_prices
    import litellm

    return {
        "book": PriceBook.load(PRICES),
        "Usage": Usage,
        "at": AT,
        "body": BODY,
        "calc_price": genai_prices.calc_price,
        "extract_usage": genai_prices.extract_usage,
        "TheirUsage": genai_prices.Usage,
        "cost_per_token": litellm.cost_per_token,
        "completion_cost": litellm.completion_cost,
    }


def _agree(statement: dict[str, str], names: dict[str, Any]) -> None:
    """All contestants do the same work: they find the same price (litellm's to within a float)."""
    for name, text in statement.items():
        found = eval(text, dict(names))
        if name == "litellm":
            total = sum(found) if isinstance(found, tuple) else found
            assert abs(total - float(EXPECTED)) < 1e-12, (name, found)
        else:
            price = found.total_price if name == "genai-prices" else found.nominal.amount
            assert price == EXPECTED, (name, found)


def _against(what: str, times: dict[str, Times], ours: str, demanded: float) -> list[Row]:
    here = times[ours]
    rows = []
    for name in ("genai-prices", "litellm"):
        ratio = times[name].best / here.best
        judged = name == "genai-prices"
        rows.append(
            Row(
                f"{what}: against {name}",
                f"{here.best * 1e6:.2f} us; {times[name].best * 1e6:.2f} us "
                f"(medians {here.median * 1e6:.2f}, {times[name].median * 1e6:.2f})",
                f"{ratio:.1f}x",
                f">= {demanded:g}x" if judged else "",
                ratio >= demanded if judged else None,
            )
        )
    return rows


def imports() -> list[Row]:
    """What ``import brivionix_billing`` takes, against ``import pydantic``, which says little but its own name."""
    times = processes(
        {
            "nothing": "pass",
            OURS: "import brivionix_billing",
            "pydantic": "import pydantic",
            "a model": "from pydantic import BaseModel",
        },
        rounds=15,
    )
    empty, here = times["nothing"], times[OURS]
    rows = []
    for name, said in (("pydantic", "import pydantic"), ("a model", "from pydantic import BaseModel")):
        ratio = (here.median - empty.median) / (times[name].median - empty.median)
        judged = name == "pydantic"
        rows.append(
            Row(
                f"import: against {said}",
                f"{(here.median - empty.median) * 1e3:.1f} ms; {(times[name].median - empty.median) * 1e3:.1f} ms "
                f"(best {(here.best - empty.best) * 1e3:.1f}, {(times[name].best - empty.best) * 1e3:.1f})",
                f"{ratio:.2f}x",
                "<= 1.5x" if judged else "",
                ratio <= 1.5 if judged else None,
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
    used = ", ".join(f"{name} {version(name)}" for name in ("pydantic", "PyYAML", "genai-prices", "litellm"))
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    print(used)
    print(show(rows))


if __name__ == "__main__":
    main()
