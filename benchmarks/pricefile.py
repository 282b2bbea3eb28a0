"""A price file as large as anybody's: thousands of models of many vendors, dated prices, tiers, groups.

``python benchmarks/pricefile.py 3000 > big.yaml`` writes one. The same number always gives the same file.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from decimal import Decimal
from random import Random

__all__ = ["price_file"]

_HEAD = """version: 1
credit:
  currency: USD
  nominal_per_credit: 1
cache_discount:
  - from: 2025-01-01
    discount: 0.90
tools:
  web_search:
    - from: 2025-01-01
      per_1000_calls: 10
channels:
  rmb:
    currency: CNY
    prices:
      - from: 2025-01-01
        price_per_credit: 0.85
  stripe:
    currency: USD
    prices:
      - from: 2025-01-01
        price_per_credit: 0.12
"""
_VENDORS = 40
_TIER_SHARE = {"standard": Decimal(1), "batch": Decimal("0.5"), "flex": Decimal("0.5"), "priority": Decimal(2)}


def price_file(models: int = 3000, groups: int = 50) -> str:
    """The file's text: one to three dated entries a model, one to four tiers an entry, some with long context."""
    rng = Random(models)
    lines = [_HEAD + "models:"]
    for number in range(models):
        lines += _model(rng, number)
    lines.append("groups:\n  default:\n    terms:\n      - from: 2025-01-01\n        ratio: 1\n        models: ['*']")
    for number in range(groups):
        lines += _group(rng, number, models)
    return "\n".join(lines) + "\n"


def _name(number: int) -> str:
    return f"vendor{number % _VENDORS}-model-{number // _VENDORS}"


def _model(rng: Random, number: int) -> list[str]:
    released = date(2025, 1, 1) + timedelta(days=rng.randrange(400))
    lines = [
        f"  {_name(number)}:",
        f"    released: {released}",
        "    encoding: o200k_base",
        "    context: {window: 1050000, max_input: 922000, max_output: 128000}",
    ]
    if rng.random() < 0.3:
        lines.append(f"    aliases: [{_name(number)}-latest]")
    lines.append("    prices:")
    tiers = [tier for tier in _TIER_SHARE if tier == "standard" or rng.random() < 0.4]
    long_context = rng.random() < 0.2
    since = released
    for _ in range(rng.choice((1, 1, 2, 3))):
        cents = Decimal(rng.randrange(5, 2000)) / 100
        lines.append(f"      - from: {since}")
        for tier in tiers:
            price = cents * _TIER_SHARE[tier]
            lines.append(f"        {tier}:")
            lines += [f"          {meter}: {value}" for meter, value in _meters(price).items()]
            if long_context:
                far = ", ".join(f"{meter}: {value}" for meter, value in _meters(price * 2).items())
                lines.append(f"          long_context: {{above: 272000, {far}}}")
        since += timedelta(days=rng.randrange(30, 200))
    return lines


def _meters(price: Decimal) -> dict[str, Decimal]:
    return {"input": price, "cache_read": price / 10, "output": price * 6}


def _group(rng: Random, number: int, models: int) -> list[str]:
    lines = [f"  group-{number}:", "    terms:"]
    since = date(2025, 1, 1)
    for _ in range(rng.choice((1, 2, 3))):
        vendors = rng.sample(range(min(_VENDORS, models)), min(5, models))
        patterns = ", ".join(f"vendor{vendor}-*" for vendor in vendors)
        lines += [
            f"      - from: {since}",
            f"        ratio: {Decimal(rng.randrange(50, 150)) / 100}",
            f"        models: [{patterns}]",
            "        overrides:",
            f"          {_name(vendors[0])}: {{ratio: {Decimal(rng.randrange(50, 150)) / 100}}}",
        ]
        since += timedelta(days=rng.randrange(30, 200))
    return lines


if __name__ == "__main__":
    print(price_file(int(sys.argv[1]) if len(sys.argv) > 1 else 3000), end="")
