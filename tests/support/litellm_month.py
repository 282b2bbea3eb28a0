"""A month of rows of litellm's spend log, computed with doubles as the proxy does it, with faults of every cause."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["CAUSES", "Month"]

CAUSES = (
    *("arithmetic", "input_price", "output_price", "cache_price", "cache_write_price", "price_date", "context_tier"),
    *("service_tier", "tool_fee", "usage_missing", "usage_contradiction", "duplicate", "unknown_model"),
    *("model_not_allowed", "unmapped_model", "own_traffic", "rounding"),
)
Prices = dict[str, float]
MINI: Prices = {"input": 0.75e-6, "cached": 0.075e-6, "output": 4.5e-6, "written": 0.75e-6}
OLD_MINI: Prices = {"input": 0.8e-6, "cached": 0.08e-6, "output": 4.4e-6, "written": 0.8e-6}
FLEX_MINI: Prices = {"input": 0.375e-6, "cached": 0.0375e-6, "output": 2.25e-6, "written": 0.375e-6}
LARGE: Prices = {"input": 5e-6, "cached": 0.5e-6, "output": 30e-6, "written": 5e-6}
LONG_LARGE: Prices = {"input": 10e-6, "cached": 1e-6, "output": 45e-6, "written": 10e-6}
CLAUDE: Prices = {"input": 3e-6, "cached": 0.3e-6, "output": 15e-6, "written": 3.75e-6}


@dataclass
class Request:
    """What one request consumed."""

    model: str
    prices: Prices
    prompt: int
    completion: int
    cached: int = 0
    written: int = 0
    searches: int = 0
    fee: float = 0.01

    @property
    def spend(self) -> float:
        prices = self.prices
        tokens = (self.prompt - self.cached - self.written) * prices["input"] + self.cached * prices["cached"]
        return tokens + self.written * prices["written"] + self.completion * prices["output"] + self.searches * self.fee


class Month:
    """Rows of late October 2026, and the cause of each faulty one by its request id."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.causes: dict[str, str] = {}
        self._number = 0

    def rows(self, clean: int, faulty: int = 0) -> Iterator[dict[str, Any]]:
        """Yield clean rows, and ``faulty`` rows of every cause among them."""
        plan = [""] * clean + [cause for cause in CAUSES for _ in range(faulty)]
        self.random.shuffle(plan)
        for cause in plan:
            row = self.row(self.request())
            if not cause:
                yield self.failed(row) if self.random.random() < 0.03 else row
                continue
            made = self.fault(cause)
            self.causes[made[-1]["request_id"]] = cause
            yield from made

    def request(self, *models: str) -> Request:
        rng = self.random
        model = rng.choice(models or ("mini", "mini", "large", "claude-big"))
        prices = {"mini": MINI, "large": LARGE, "claude-big": CLAUDE}[model]
        use = Request(model, prices, rng.randrange(400, 40_000), rng.randrange(200, 4_000))
        if rng.random() < 0.5:
            use.cached = rng.randrange(100, use.prompt // 2)
        if model == "claude-big" and rng.random() < 0.6:
            use.written = rng.randrange(50, use.prompt // 3)
        if model == "large" and rng.random() < 0.2:
            use.prompt, use.prices = rng.randrange(272_001, 900_000), LONG_LARGE
        if model != "claude-big" and rng.random() < 0.1:
            use.searches = rng.randrange(1, 4)
        return use

    def row(self, use: Request, **changes: Any) -> dict[str, Any]:
        self._number += 1
        day, second = 16 + self._number % 14, self._number % 60
        usage: dict[str, Any] = {"prompt_tokens": use.prompt, "completion_tokens": use.completion}
        usage |= {"total_tokens": use.prompt + use.completion}
        if use.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": use.cached}
        if use.written:
            usage |= {"cache_creation_input_tokens": use.written, "cache_read_input_tokens": use.cached}
        if use.searches:
            usage["server_tool_use"] = {"web_search_requests": use.searches}
        return {
            "request_id": f"chatcmpl-{self._number}",
            "call_type": "acompletion",
            "api_key": "88dc28d0f030c55e",
            "spend": use.spend,
            "total_tokens": use.prompt + use.completion,
            "prompt_tokens": use.prompt,
            "completion_tokens": use.completion,
            "startTime": f"2026-10-{day:02d} 00:00:{second:02d}.{self._number % 1000:03d}",
            "endTime": f"2026-10-{day:02d} 00:01:{second:02d}.{self._number % 1000:03d}",
            "model": use.model,
            "model_id": "m-1",
            "model_group": use.model,
            "custom_llm_provider": "openai",
            "user": f"u-{self.random.randrange(20)}",
            "metadata": {"usage_object": usage},
            "cache_hit": "False",
            "request_tags": ["team:blue"],
            "team_id": "t-1",
            "status": "success",
            **changes,
        }

    @staticmethod
    def failed(row: dict[str, Any]) -> dict[str, Any]:
        counts = {"total_tokens": 0, "prompt_tokens": 0, "completion_tokens": 0}
        return row | counts | {"spend": 0.0, "status": "failure", "metadata": {}}

    def fault(self, cause: str) -> list[dict[str, Any]]:
        rng = self.random
        use = self.request("mini")
        use.searches = 0
        if cause == "arithmetic":
            return [self.row(use, spend=use.spend * 1.0713 + 0.000123)]
        if cause in ("input_price", "output_price"):
            name = cause.removesuffix("_price")
            use.prices = {**MINI, name: round(MINI[name] * rng.choice([0.8, 1.2, 2]), 12)}
        elif cause == "cache_price":
            use.cached = max(use.cached, 150)
            use.prices = {**MINI, "cached": rng.choice([MINI["input"], 0, 0.2e-6])}
        elif cause == "cache_write_price":
            use = self.request("claude-big")
            use.written = max(use.written, 40)
            use.prices = {**CLAUDE, "written": rng.choice([3e-6, 6e-6, 0, 4.5e-6])}
        elif cause == "price_date":
            use.prices = OLD_MINI
        elif cause == "service_tier":
            use.prices = FLEX_MINI
        elif cause == "context_tier":
            use = self.request("large")
            use.prompt, use.prices = 300_000 + rng.randrange(90_000), LARGE
        elif cause == "tool_fee":
            use.searches, use.fee = rng.randrange(1, 4), rng.choice([0, 0.025])
        elif cause == "usage_missing":
            return [self.row(use) | {"metadata": {}}]
        elif cause == "usage_contradiction":
            use.cached = use.prompt + 10
        elif cause == "duplicate":
            row = self.row(use)
            return [row, dict(row)]
        elif cause == "unknown_model":
            return [self.row(use, model="mystery", model_group="mystery")]
        elif cause == "model_not_allowed":
            return [self.row(use, model="sold-to-few", model_group="sold-to-few", team_id="vip")]
        elif cause == "unmapped_model":
            return [self.row(use, spend=0.0)]
        elif cause == "own_traffic":
            name = "litellm-internal-health-check"
            return [self.row(use, request_tags=[name], user=name if rng.random() < 0.5 else "")]
        elif cause == "rounding":
            return [self.row(use, spend=round(use.spend, 5))]
        return [self.row(use)]
