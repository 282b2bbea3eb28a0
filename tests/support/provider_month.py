"""Makes usage and the reports that providers would write of it, with seeded faults.

Prices are plain numbers here, and the sums are made by hand. Nothing is computed by the library.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

__all__ = [
    "COSTS",
    "Request",
    "aggregate",
    "anthropic_analytics",
    "anthropic_costs",
    "anthropic_usage",
    "make_requests",
    "new_api_data",
    "openai_cost_export",
    "openai_costs",
    "openai_usage_export",
    "openrouter_generations",
    "usage_file",
]

COSTS: Final = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
groups:
  openai: {terms: [{from: 2026-01-01, ratio: 1, models: ["gpt-*"]}]}
  anthropic: {terms: [{from: 2026-01-01, ratio: 1, models: ["claude-*"]}]}
models:
  gpt-5.4-mini:
    released: 2026-03-17
    prices:
      - from: 2026-03-17
        standard: {input: 0.75, cache_read: 0.075, output: 4.5}
        batch: {input: 0.375, cache_read: 0.0375, output: 2.25}
      - from: 2026-10-15
        standard: {input: 0.6, cache_read: 0.06, output: 4}
  gpt-5.5:
    released: 2026-04-23
    prices:
      - from: 2026-04-23
        standard: {input: 5, cache_read: 0.5, output: 30}
        priority: {input: 12.5, cache_read: 1.25, output: 75}
  claude-opus-5:
    aliases: [claude-opus-latest]
    prices:
      - from: 2026-01-01
        standard: {input: 5, cache_read: 0.5, cache_write: 6.25, cache_write_1h: 10, output: 25}
        batch: {input: 2.5, cache_read: 0.25, cache_write: 3.125, cache_write_1h: 5, output: 12.5}
"""
_CHANGE: Final = datetime(2026, 10, 15, tzinfo=UTC)
_PRICES: Final = {
    ("gpt-5.4-mini", "standard"): {"input": "0.75", "cache_read": "0.075", "output": "4.5"},
    ("gpt-5.4-mini", "new"): {"input": "0.6", "cache_read": "0.06", "output": "4"},
    ("gpt-5.4-mini", "batch"): {"input": "0.375", "cache_read": "0.0375", "output": "2.25"},
    ("gpt-5.5", "standard"): {"input": "5", "cache_read": "0.5", "output": "30"},
    ("claude-opus-5", "standard"): {
        "input": "5", "cache_read": "0.5", "cache_write": "6.25", "cache_write_1h": "10", "output": "25",
    },
    ("claude-opus-5", "batch"): {
        "input": "2.5", "cache_read": "0.25", "cache_write": "3.125", "cache_write_1h": "5", "output": "12.5",
    },
}  # fmt: skip
_SNAPSHOTS: Final = {"gpt-5.4-mini": "gpt-5.4-mini-2026-03-17", "gpt-5.5": "gpt-5.5-2026-04-23"}
_OPENAI_WORDS: Final = {"input": "input", "cache_read": "cached input", "output": "output"}
_TOKEN_TYPES: Final = {
    "input": "uncached_input_tokens",
    "cache_read": "cache_read_input_tokens",
    "output": "output_tokens",
    "cache_write": "cache_creation.ephemeral_5m_input_tokens",
    "cache_write_1h": "cache_creation.ephemeral_1h_input_tokens",
}
Key = tuple[str, str, str, str]
"""(day, model, tier, meter)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    id: str
    at: datetime
    model: str
    tier: str
    counts: dict[str, int] = field(hash=False)
    """Meter -> tokens, disjoint."""

    def cost(self, meter: str) -> Decimal:
        """Return what the tokens of a meter cost, in USD."""
        tier = "new" if self.model == "gpt-5.4-mini" and self.tier == "standard" and self.at >= _CHANGE else self.tier
        return Decimal(_PRICES[self.model, tier][meter]) * self.counts[meter] / 1_000_000

    @property
    def total(self) -> Decimal:
        """Return what the request costs, in USD."""
        return sum((self.cost(meter) for meter in self.counts), Decimal(0))


def make_requests(vendor: str, days: int, per_day: int, seed: int = 1) -> list[Request]:
    """Return requests from 2026-10-10 on, none within 20 minutes of midnight in UTC."""
    rng = random.Random(seed)
    found: list[Request] = []
    for day in range(days):
        for _ in range(per_day):
            at = datetime(2026, 10, 10, tzinfo=UTC) + timedelta(days=day, seconds=rng.randrange(1200, 85_200))
            counts = {"input": rng.randrange(100, 9000), "cache_read": rng.randrange(0, 5000)}
            counts["output"] = rng.randrange(10, 3000)
            if vendor == "anthropic":
                model, tier = "claude-opus-5", rng.choice(["standard", "standard", "batch"])
                counts |= {"cache_write": rng.randrange(0, 2000), "cache_write_1h": rng.randrange(0, 900)}
            else:
                model = rng.choice(["gpt-5.4-mini", "gpt-5.5"])
                tier = "batch" if model == "gpt-5.4-mini" and rng.random() < 0.3 else "standard"
            found.append(Request(f"req_{len(found):07d}", at, model, tier, counts))
    return sorted(found, key=lambda request: request.at)


def usage_file(requests: Iterable[Request]) -> bytes:
    """Return a usage file of requests, in the formats of the vendors."""
    return b"".join(json.dumps(_record(request)).encode() + b"\n" for request in requests)


def _record(request: Request) -> dict[str, Any]:
    counts = request.counts
    if request.model.startswith("claude"):
        usage: dict[str, Any] = {
            "input_tokens": counts["input"],
            "output_tokens": counts["output"],
            "cache_read_input_tokens": counts["cache_read"],
            "cache_creation_input_tokens": counts["cache_write"] + counts["cache_write_1h"],
            "cache_creation": {
                "ephemeral_5m_input_tokens": counts["cache_write"],
                "ephemeral_1h_input_tokens": counts["cache_write_1h"],
            },
        }
    else:
        usage = {
            "prompt_tokens": counts["input"] + counts["cache_read"],
            "completion_tokens": counts["output"],
            "total_tokens": sum(counts.values()),
            "prompt_tokens_details": {"cached_tokens": counts["cache_read"]},
        }
    return {
        "request_id": request.id,
        "at": request.at.isoformat().replace("+00:00", "Z"),
        "account": "acct_1",
        "group": "default",
        "model": request.model,
        "service_tier": request.tier,
        "usage": usage,
    }


def aggregate(requests: Iterable[Request], shift: timedelta = timedelta(0)) -> dict[Key, tuple[int, Decimal]]:
    """Return the tokens and costs by day, model, tier and meter. ``shift`` moves the days."""
    sums: dict[Key, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for request in requests:
        day = (request.at + shift).date().isoformat()
        for meter, count in request.counts.items():
            key = day, request.model, request.tier, meter
            tokens, cost = sums[key]
            sums[key] = tokens + count, cost + request.cost(meter)
    return sums


def _days(sums: Iterable[Key]) -> list[str]:
    return sorted({key[0] for key in sums})


def _unix(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def openai_costs(sums: dict[Key, tuple[int, Decimal]], pages: int = 2, *, floats: bool = False) -> list[bytes]:
    """Return pages of the Costs API. The tier is in no line, so tiers are summed."""
    items: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for (day, model, _, meter), (_, cost) in sums.items():
        items[day, f"{_SNAPSHOTS[model]}, {_OPENAI_WORDS[meter]}"] += cost
    buckets = [
        {
            "object": "bucket",
            "start_time": _unix(day),
            "end_time": _unix(day) + 86_400,
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": float(cost) if floats else f"@{cost}@", "currency": "usd"},
                    "line_item": item,
                    "project_id": None,
                }
                for (own, item), cost in sorted(items.items())
                if own == day
            ],
        }
        for day in _days(sums)
    ]
    found = []
    size = -(-len(buckets) // pages)
    for start in range(0, len(buckets), size):
        more = start + size < len(buckets)
        page = {"object": "page", "data": buckets[start : start + size], "has_more": more}
        page["next_page"] = "page_2" if more else None
        found.append(json.dumps(page).replace('"@', "").replace('@"', "").encode())
    return found


def openai_cost_export(sums: dict[Key, tuple[int, Decimal]]) -> bytes:
    """Return a cost export of the dashboard: one amount per day, and a day without use."""
    names = "start_time end_time start_time_iso end_time_iso amount_value amount_currency line_item project_id"
    lines = ["\t".join([*names.split(), "organization_id", "organization_name"])]
    days: dict[str, Decimal] = defaultdict(Decimal)
    for (day, *_), (_, cost) in sums.items():
        days[day] += cost
    last = max(days)
    unused = (datetime.fromisoformat(last) + timedelta(days=1)).date().isoformat()
    for day in [*sorted(days), unused]:
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        times = [str(_unix(day)), str(_unix(day) + 86_400), start.isoformat(), (start + timedelta(days=1)).isoformat()]
        rest = [f"{days[day]:.16f}", "usd", "", "", "org-EXAMPLE", "Example"] if day in days else [""] * 6
        lines.append("\t".join([*times, *rest]))
    return "\n".join(lines).encode()


def openai_usage_export(sums: dict[Key, tuple[int, Decimal]], delimiter: str = ",") -> bytes:
    """Return a usage export of the dashboard, with a byte order mark."""
    names = (
        "start_time end_time start_time_iso end_time_iso project_id num_model_requests user_id api_key_id model batch "
        "service_tier input_tokens output_tokens input_cached_tokens input_uncached_tokens input_text_tokens "
        "output_text_tokens input_cached_text_tokens input_audio_tokens input_cached_audio_tokens output_audio_tokens"
    )
    lines = [delimiter.join(names.split())]
    rows: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for (day, model, tier, meter), (tokens, _) in sums.items():
        rows[day, model, tier][meter] = tokens
    for (day, model, tier), counts in sorted(rows.items()):
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        uncached, cached, output = (counts.get(meter, 0) for meter in ("input", "cache_read", "output"))
        numbers = (uncached + cached, output, cached, uncached, uncached, output, cached, 0, 0, 0)
        cells = [
            str(_unix(day)), str(_unix(day) + 86_400), start.isoformat(), (start + timedelta(days=1)).isoformat(),
            "proj_1", "10.0", "user_1", "key_1", _SNAPSHOTS[model], "TRUE" if tier == "batch" else "FALSE",
            "default", *(f"{number}.0" for number in numbers),
        ]  # fmt: skip
        lines.append(delimiter.join(cells))
    return b"\xef\xbb\xbf" + "\r\n".join(lines).encode()


def _anthropic_page(data: list[Any]) -> bytes:
    return json.dumps({"data": data, "has_more": False, "next_page": None}).encode()


def _span(day: str) -> dict[str, str]:
    end = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    return {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{end}T00:00:00Z"}


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")


def anthropic_costs(sums: dict[Key, tuple[int, Decimal]]) -> bytes:
    """Return a cost report of the first generation, in cents."""
    return _anthropic_page(
        [
            {
                **_span(day),
                "results": [
                    {
                        "amount": _plain(cost * 100), "currency": "USD", "cost_type": "tokens", "model": model,
                        "context_window": "0-200k", "service_tier": tier, "token_type": _TOKEN_TYPES[meter],
                        "inference_geo": "global", "workspace_id": None, "description": f"{model} Usage",
                    }
                    for (own, model, tier, meter), (_, cost) in sorted(sums.items())
                    if own == day
                ],
            }
            for day in _days(sums)
        ]
    )  # fmt: skip


def anthropic_analytics(sums: dict[Key, tuple[int, Decimal]], discount: Decimal = Decimal(0)) -> bytes:
    """Return a cost report of the second generation, in fractional cents."""
    return _anthropic_page(
        [
            {
                **_span(day),
                "group": {
                    "model": model, "cost_type": "tokens", "token_type": _TOKEN_TYPES[meter], "service_tier": tier,
                    "product": None, "workspace_id": None, "rbac_group_id": None,
                },
                "cost": {
                    "amount": _plain(cost * 100 * (1 - discount)), "list_amount": _plain(cost * 100),
                    "currency": "USD", "requests": None,
                },
            }
            for (day, model, tier, meter), (_, cost) in sorted(sums.items())
        ]
    )  # fmt: skip


def anthropic_usage(sums: dict[Key, tuple[int, Decimal]]) -> bytes:
    """Return a usage report of messages."""
    rows: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for (day, model, tier, meter), (tokens, _) in sums.items():
        rows[day, model, tier][meter] = tokens
    return _anthropic_page(
        [
            {
                **_span(day),
                "results": [
                    {
                        "uncached_input_tokens": counts["input"], "output_tokens": counts["output"],
                        "cache_read_input_tokens": counts["cache_read"],
                        "cache_creation": {
                            "ephemeral_5m_input_tokens": counts["cache_write"],
                            "ephemeral_1h_input_tokens": counts["cache_write_1h"],
                        },
                        "server_tool_use": {"web_search_requests": 0}, "model": model, "service_tier": tier,
                        "api_key_id": None, "workspace_id": None, "context_window": None, "inference_geo": None,
                    }
                    for (own, model, tier), counts in sorted(rows.items())
                    if own == day
                ],
            }
            for day in _days(sums)
        ]
    )  # fmt: skip


def new_api_data(requests: Iterable[Request]) -> bytes:
    """Return ``GET /api/data/self``: hourly tokens and quota by model. Each request is rounded to a whole quota."""
    rows: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for request in requests:
        hour = int(request.at.timestamp()) // 3600 * 3600
        row = rows[hour, request.model]
        row[0] += sum(request.counts.values())
        row[1] += 1
        row[2] += max(1, int((request.total * 500_000).quantize(Decimal(1))))
    data = [
        {
            "id": 0, "user_id": 7, "username": "shop", "model_name": model, "created_at": hour, "token_used": tokens,
            "count": count, "quota": quota,
        }
        for (hour, model), (tokens, count, quota) in sorted(rows.items())
    ]  # fmt: skip
    return json.dumps({"success": True, "message": "", "data": data}).encode()


def openrouter_generations(requests: Iterable[Request]) -> bytes:
    """Return answers of ``GET /api/v1/generation``, one per line."""
    lines = []
    for request in requests:
        data = {
            "id": request.id,
            "created_at": request.at.isoformat(),
            "model": request.model,
            "total_cost": float(request.total),
            "native_tokens_prompt": request.counts["input"] + request.counts["cache_read"],
            "native_tokens_completion": request.counts["output"],
            "native_tokens_cached": request.counts["cache_read"],
            "is_byok": False,
        }
        lines.append(json.dumps({"data": data}))
    return "\n".join(lines).encode()


def changed(request: Request, **counts: int) -> Request:
    """Return a request with other counts."""
    return replace(request, counts=request.counts | counts)
