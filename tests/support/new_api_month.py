"""A month of rows of new-api's log, written from the description of its settlement, with faults of every cause.

Nothing here uses the code that is tested. Quota is computed as the gateway does it: ratios are doubles, and the sum is
rounded once, halves up. Prices of the price file and ratios of the gateway stand in two tables side by side.
"""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

__all__ = ["CAUSES", "PRICES", "Month"]

PRICES = """
version: 1
credit: {currency: USD, nominal_per_credit: 1}
tools:
  web_search: [{from: 2026-01-01, per_1000_calls: 10}]
  file_search: [{from: 2026-01-01, per_1000_calls: 2.5}]
models:
  mini:
    prices:
      - {from: 2026-01-01, standard: {input: 0.8, cache_read: 0.08, output: 4.4}}
      - from: 2026-09-01
        standard: {input: 0.75, cache_read: 0.075, output: 4.5}
        flex: {input: 0.375, cache_read: 0.0375, output: 2.25}
        priority: {input: 1.5, cache_read: 0.15, output: 9}
  large:
    prices:
      - {from: 2026-01-01, standard: {input: 6, cache_read: 0.6, output: 33}}
      - from: 2026-10-15
        standard:
          input: 5
          cache_read: 0.5
          output: 30
          long_context: {above: 272000, input: 10, cache_read: 1, output: 45}
        batch: {input: 2.5, cache_read: 0.25, output: 15}
  odd:
    prices:
      - {from: 2026-01-01, standard: {input: 0.66, cache_read: 0.022, output: 1.98}}
  claude-big:
    prices:
      - from: 2026-01-01
        standard: {input: 3, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6, output: 15}
  voice:
    prices:
      - from: 2026-01-01
        standard: {input: 4, output: 16, audio_input: 32, audio_output: 64}
  eyes:
    prices:
      - {from: 2026-01-01, standard: {input: 2, image_input: 5, output: 8}}
  draw:
    prices:
      - {from: 2026-01-01, standard: {input: 0, output: 0, request: 0.04}}
  sold-to-few:
    prices:
      - {from: 2026-01-01, standard: {input: 1, output: 2}}
groups:
  default: {terms: [{from: 2026-01-01, ratio: 1, models: ["*"]}]}
  vip:
    terms:
      - {from: 2026-01-01, ratio: 0.95, models: [mini, large, odd, claude-big, voice, eyes, draw]}
      - {from: 2026-08-01, ratio: 0.85, models: [mini, large, odd, claude-big, voice, eyes, draw]}
  partner: {terms: [{from: 2026-01-01, ratio: 0.7, models: [mini, large, odd, claude-big, voice, eyes, draw]}]}
  free: {terms: [{from: 2026-01-01, ratio: 0, models: [mini]}]}
"""
SEPTEMBER, MID_OCTOBER, NOVEMBER = 1788220800, 1792022400, 1793491200
OCTOBER = 1790812800
GROUPS = {"default": 1, "vip": 0.85, "partner": 0.7}
USERS = [f"user-{number}" for number in range(40)]
MIX = ("mini", "mini", "mini", "large", "large", "odd", "claude-big", "voice", "eyes", "draw")
AGREED = {"user-3": 0.6, "user-11": 0.65}
"""Users whose group has a ratio of its own, in every group."""
CAUSES = (
    *("rounding", "minimum_charge", "arithmetic", "input_price", "output_price", "cache_price", "cache_write_price"),
    *("group_ratio", "user_group_ratio", "price_date", "context_tier", "service_tier", "tool_fee", "per_call_price"),
    *("expression", "usage_missing", "usage_contradiction", "subscription", "duplicate", "refunded", "saturated"),
    *("unknown_model", "model_not_allowed"),
)
LARGE = 'len > 272000 ? tier("long", p * 10 + cr * 1 + c * 45) : tier("base", p * 5 + cr * 0.5 + c * 30)'
MINI = 'tier("base", p * 0.75 + cr * 0.075 + c * 4.5) ||| when(param("service_tier") == "flex") * 0.5'


class NoDifferenceError(Exception):
    """The fault does not change the charge of this request."""


def half_up(value: float) -> int:
    return math.floor(value + 0.5)


@dataclass
class Usage:
    """What one request consumed, before it becomes a row."""

    model: str
    group: str
    user: str
    at: int
    prompt: int
    cached: int = 0
    completion: int = 0
    written_5m: int = 0
    written_1h: int = 0
    image: int = 0
    audio_in: int = 0
    audio_out: int = 0
    searches: int = 0
    files: int = 0
    kind: str = "ratio"
    flex: bool = False
    ratios: dict[str, float] = field(default_factory=dict)
    """Ratios of the gateway that this request is charged by."""
    group_ratio: float = 1
    user_ratio: float = -1
    prices: dict[str, float] = field(default_factory=lambda: {"web_search": 10, "file_search": 2.5})
    model_price: float = 0.04
    expression: str = ""

    @property
    def factor(self) -> float:
        return self.group_ratio if self.user_ratio < 0 else self.user_ratio


def ratios_of(model: str, at: int, *, long: bool = False, tier: str = "standard") -> dict[str, float]:
    """The gateway's ratios of a model: 1 is 2 USD per 1 M tokens."""
    if model == "mini":
        model_ratio = {"standard": 0.375, "flex": 0.1875, "priority": 0.75}[tier]
        return {"model": model_ratio, "completion": 6, "cache": 0.1} if at >= SEPTEMBER else {
            "model": 0.4, "completion": 5.5, "cache": 0.1}  # fmt: skip
    if model == "large":
        if at < MID_OCTOBER:
            return {"model": 3, "completion": 5.5, "cache": 0.1}
        if tier == "batch":
            return {"model": 1.25, "completion": 6, "cache": 0.1}
        return {"model": 5, "completion": 4.5, "cache": 0.1} if long else {"model": 2.5, "completion": 6, "cache": 0.1}
    others: dict[str, dict[str, float]] = {
        "odd": {"model": 0.33, "completion": 3, "cache": 0.022 / 0.66},
        "claude-big": {"model": 1.5, "completion": 5, "cache": 0.1, "create": 1.25, "create_1h": 2},
        "voice": {"model": 2, "completion": 4, "audio": 8, "audio_completion": 2},
        "eyes": {"model": 1, "completion": 4, "image": 2.5},
        "draw": {},
        "sold-to-few": {"model": 0.5, "completion": 2},
    }
    return others[model]


def tool_quota(use: Usage) -> float:
    fees = use.prices["web_search"] / 1000 * use.searches + use.prices["file_search"] / 1000 * use.files
    return fees * use.factor * 500_000


def quota_of(use: Usage) -> float:
    """The charge before rounding, as the gateway computes it."""
    if use.kind == "call":
        return use.model_price * 500_000 * use.factor
    if use.kind == "expression":
        long = "long" in use.expression and use.prompt > 272_000
        p, c, cr = use.ratios["p_long" if long else "p"], use.ratios["c_long" if long else "c"], use.ratios["cr"]
        value = (use.prompt - use.cached) * p + use.cached * cr * (2 if long else 1) + use.completion * c
        return value * (0.5 if use.flex else 1) / 1_000_000 * 500_000 * use.factor + tool_quota(use)
    ratios = use.ratios
    if use.kind == "audio":
        tokens = (use.prompt - use.audio_in) + (use.completion - use.audio_out) * ratios["completion"]
        tokens += use.audio_in * ratios["audio"]
        tokens += use.audio_out * ratios["audio"] * ratios["audio_completion"]
    elif use.kind == "claude":
        tokens = use.prompt + use.cached * ratios["cache"] + use.completion * ratios["completion"]
        tokens += use.written_5m * ratios["create"] + use.written_1h * ratios["create_1h"]
    else:
        tokens = use.prompt - use.cached - use.image + use.cached * ratios.get("cache", 1)
        tokens += use.image * ratios.get("image", 1) + use.completion * ratios["completion"]
    return tokens * (ratios["model"] * use.factor) + tool_quota(use)


def rounded(use: Usage, value: float | None = None) -> int:
    exact = quota_of(use) if value is None else value
    quota = int(Decimal(repr(round(exact, 6))).quantize(Decimal(1), ROUND_HALF_UP))
    return 1 if quota < 1 and use.factor and (use.prompt or use.completion) else quota


class Month:
    """Rows of October 2026, and the cause of each faulty one by its request id."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.causes: dict[str, str] = {}
        self._number = 0

    def rows(self, clean: int, faulty: int = 0) -> Iterator[dict[str, Any]]:
        """Yield clean rows, and ``faulty`` rows of every cause among them."""
        plan: list[str] = [""] * clean + [cause for cause in CAUSES for _ in range(faulty)]
        self.random.shuffle(plan)
        for cause in plan:
            if not cause:
                use = self.usage()
                yield from self.special(use) if self.random.random() < 0.02 else [self.row(use)]
                continue
            made = self.fault(cause)
            row = made if isinstance(made, dict) else made[-1]
            self.causes[row["request_id"]] = cause
            yield from [made] if isinstance(made, dict) else made

    def fault(self, cause: str) -> dict[str, Any] | list[dict[str, Any]]:
        while True:
            try:
                made: dict[str, Any] | list[dict[str, Any]] = getattr(self, f"fault_{cause}")()
            except NoDifferenceError:
                continue
            return made

    def usage(self, *models: str, group: str = "") -> Usage:
        rng = self.random
        model = rng.choice(
            models or ("mini", "mini", "mini", "large", "large", "odd", "claude-big", "voice", "eyes", "draw")
        )
        use = Usage(
            model=model,
            group=group or rng.choice(list(GROUPS)),
            user=rng.choice(USERS),
            at=rng.randrange(OCTOBER, NOVEMBER),
            prompt=int(rng.lognormvariate(8, 1.3)) + 1,
            completion=int(rng.lognormvariate(6, 1.2)) + 1,
        )
        use.group_ratio = GROUPS[use.group]
        use.user_ratio = AGREED.get(use.user, -1)
        if model in ("mini", "large", "odd") and rng.random() < 0.5:
            use.cached = int(use.prompt * rng.random())
        if model in ("mini", "large") and rng.random() < 0.1:
            use.searches, use.files = rng.choice([(1, 0), (3, 0), (0, 2), (2, 1)])
        if model == "large" and rng.random() < 0.2:
            use.prompt = rng.randrange(272_001, 900_000)
        if model == "claude-big":
            use.kind = "claude"
            use.cached = rng.choice([0, rng.randrange(50_000)])
            use.written_5m, use.written_1h = rng.choice(
                [(0, 0), (rng.randrange(1, 9000), 0), (700, rng.randrange(1, 9000))]
            )
        if model == "voice":
            use.kind = "audio"
            use.audio_in, use.audio_out = use.prompt // 2, use.completion // 3
        if model == "eyes":
            use.image = use.prompt // 3
        if model == "draw":
            use.kind, use.prompt, use.completion = "call", rng.choice([0, 40]), 0
        self.price(use)
        if (model == "mini" or (model == "large" and use.at >= MID_OCTOBER)) and rng.random() < 0.3:
            self.as_expression(use)
        return use

    def price(self, use: Usage) -> None:
        use.ratios = ratios_of(use.model, use.at, long=use.prompt > 272_000)

    def as_expression(self, use: Usage) -> None:
        use.kind = "expression"
        use.flex = use.model == "mini" and self.random.random() < 0.3
        use.expression = MINI if use.model == "mini" else LARGE
        use.ratios = {"p": 0.75, "cr": 0.075, "c": 4.5} if use.model == "mini" else {
            "p": 5, "cr": 0.5, "c": 30, "p_long": 10, "c_long": 45}  # fmt: skip

    def row(self, use: Usage, quota: int | None = None, **changes: Any) -> dict[str, Any]:
        """The row of the log for a request, with the quota that follows from it unless another is given."""
        self._number += 1
        number = self._number
        other: dict[str, Any] = {
            "group_ratio": use.group_ratio,
            "user_group_ratio": use.user_ratio,
            "frt": self.random.randrange(100, 3000),
            "request_path": "/v1/chat/completions",
            "billing_source": "wallet",
            "admin_info": {"use_channel": ["4"]},
        }
        quota = rounded(use) if quota is None else quota
        if use.kind == "call":
            other |= {"model_price": use.model_price, "model_ratio": 0}
        elif use.kind == "expression":
            other |= {
                "billing_mode": "tiered_expr",
                "expr_b64": base64.b64encode(use.expression.encode()).decode(),
                "matched_tier": "long" if use.model == "large" and use.prompt > 272_000 else "base",
                "cache_tokens": use.cached,
            }
            if use.model == "mini":
                condition = 'param("service_tier") == "flex"'
                other["request_rules"] = [{"cond": condition, "multiplier": 0.5, "matched": use.flex}]
        else:
            other |= {
                "model_ratio": use.ratios["model"],
                "completion_ratio": use.ratios["completion"],
                "model_price": -1,
            }
            other |= {"cache_tokens": use.cached, "cache_ratio": use.ratios.get("cache", 1)}
        if use.kind == "claude":
            other |= {"claude": True, "usage_semantic": "anthropic"}
            if use.written_5m or use.written_1h:
                other |= {
                    "cache_creation_tokens": use.written_5m + use.written_1h,
                    "cache_creation_ratio": use.ratios["create"],
                    "cache_creation_tokens_5m": use.written_5m,
                    "cache_creation_ratio_5m": use.ratios["create"],
                    "cache_creation_tokens_1h": use.written_1h,
                    "cache_creation_ratio_1h": use.ratios["create_1h"],
                }
        if use.kind == "audio":
            other |= {"audio": True, "audio_input": use.audio_in, "audio_output": use.audio_out}
            other |= {"text_input": use.prompt - use.audio_in, "text_output": use.completion - use.audio_out}
            other |= {"audio_ratio": use.ratios["audio"], "audio_completion_ratio": use.ratios["audio_completion"]}
        if use.image:
            other |= {"image": True, "image_ratio": use.ratios["image"], "image_output": use.image}
        names = (("web_search", use.searches), ("file_search", use.files))
        if use.searches or use.files:
            other["tool_surcharges"] = [{"name": n, "count": c, "price": use.prices[n]} for n, c in names if c]
        if not changes.pop("wallet", False) and self.random.random() < 0.05:
            advance = self.random.randrange(1, 5000)
            other |= {
                "billing_source": "subscription",
                "subscription_id": 5,
                "subscription_pre_consumed": advance,
                "subscription_post_delta": quota - advance,
                "subscription_consumed": quota,
                "wallet_quota_deducted": 0,
            }
        other |= changes.pop("other", {})
        return {
            "id": number,
            "user_id": int(use.user.split("-")[1]),
            "created_at": use.at,
            "type": 2,
            "content": "",
            "username": use.user,
            "token_name": "laptop",
            "model_name": use.model,
            "quota": quota,
            "prompt_tokens": use.prompt,
            "completion_tokens": use.completion,
            "use_time": self.random.randrange(1, 40),
            "is_stream": self.random.random() < 0.5,
            "channel": 4,
            "token_id": 31,
            "group": use.group,
            "ip": "",
            "request_id": f"{use.at}{number:012d}",
            "upstream_request_id": f"up-{number}",
            "other": json.dumps(other, separators=(",", ":")),
            **changes,
        }

    def special(self, use: Usage) -> list[dict[str, Any]]:
        """Clean rows that are no ordinary charges: top-ups, errors, and a task with its refund."""
        row = self.row(use)
        chosen = self.random.randrange(3)
        if chosen == 0:
            return [row | {"type": self.random.choice([1, 3, 4, 5, 7]), "quota": 0, "other": ""}]
        if chosen == 1:
            paid, actual = 40_000, self.random.randrange(1, 40_000)
            figures = {"task_id": f"task-{row['id']}", "pre_consumed": paid, "actual_quota": actual}
            figures["quota_delta"] = actual - paid
            return [row | {"type": 6, "quota": paid - actual, "request_id": "", "upstream_request_id": "",
                           "prompt_tokens": 0, "completion_tokens": 0, "other": json.dumps(figures)}]  # fmt: skip
        return [row]

    # Faults. Each returns the faulty row, or several rows of which the last one is faulty.

    def text_usage(self, *, least: int = 500, models: tuple[str, ...] = ("mini", "large", "odd"), cached: bool = False,
                   plain: bool = True) -> Usage:  # fmt: skip
        """A request of text in ratio mode whose parts are all large enough to tell their prices apart."""
        while True:
            use = self.usage(*models)
            if use.kind != "ratio" or use.prompt < least or use.completion < least // 2:
                continue
            if plain and (use.searches or use.files or use.prompt > 272_000):
                continue
            if cached and use.cached < least // 4:
                continue
            return use

    def either(self, use: Usage, change: Callable[[Usage], None]) -> dict[str, Any]:
        """A row with another ratio, which is also stated, or was only used for the quota."""
        quota = rounded(use)
        right = self.row(use, wallet=True)
        change(use)
        if rounded(use) == quota:
            raise NoDifferenceError
        if self.random.random() < 0.7:
            return self.row(use)
        return right | {"quota": rounded(use)}

    def stated(self, use: Usage, change: Callable[[Usage], None]) -> dict[str, Any]:
        change(use)
        return self.row(use)

    def fault_rounding(self) -> dict[str, Any]:
        while True:
            use = self.usage("mini", "large", "odd", "claude-big", "eyes")
            exact = quota_of(use)
            if exact > 20 and 0.01 < exact % 1 < 0.99 and abs(exact % 1 - 0.5) > 0.001:
                wrong = math.floor(exact) if exact % 1 > 0.5 else math.ceil(exact)
                return self.row(use, wrong)

    def fault_minimum_charge(self) -> dict[str, Any]:
        use = self.usage("mini", group="default")
        use.kind, use.user_ratio, use.user = "ratio", -1, "user-1"
        use.prompt, use.cached, use.completion, use.searches, use.files = 1, 0, 0, 0, 0
        self.price(use)
        if self.random.random() < 0.5:
            return self.row(use, 0)
        use.prompt = self.random.randrange(2, 15)
        return self.row(use, 10)

    def fault_arithmetic(self) -> dict[str, Any]:
        use = self.text_usage()
        quota = rounded(use)
        return self.row(use, quota + self.random.randrange(3, 60) * max(7, quota // 70) + 3)

    def fault_input_price(self) -> dict[str, Any]:
        use = self.text_usage(models=("mini", "large", "odd"))

        def change(use: Usage) -> None:
            factor = self.random.choice([1.13, 0.87, 1.31, 2.7])
            use.ratios = {**use.ratios, "model": round(use.ratios["model"] * factor, 6)}
            if self.random.random() < 0.4:  # only input became dearer
                use.ratios["completion"] /= factor
                use.ratios["cache"] /= factor

        return self.stated(use, change)

    def fault_output_price(self) -> dict[str, Any]:
        use = self.text_usage()

        def change(use: Usage) -> None:
            use.ratios = {**use.ratios, "completion": use.ratios["completion"] * self.random.choice([0.77, 1.23, 1.7])}

        def forget(use: Usage) -> None:
            use.ratios = {**use.ratios, "completion": 1}

        return self.stated(use, change) if self.random.random() < 0.6 else self.either(use, forget)

    def fault_cache_price(self) -> dict[str, Any]:
        use = self.text_usage(cached=True)

        def change(use: Usage) -> None:
            use.ratios = {**use.ratios, "cache": self.random.choice([0.25, 0.5, 0.2])}

        def forget(use: Usage) -> None:
            use.ratios = {**use.ratios, "cache": 1}

        return self.stated(use, change) if self.random.random() < 0.5 else self.either(use, forget)

    def fault_cache_write_price(self) -> dict[str, Any]:
        while True:
            use = self.usage("claude-big")
            if use.written_5m + use.written_1h > 1500 and use.completion > 200:
                break
        key = "create_1h" if use.written_1h else "create"

        def change(use: Usage) -> None:
            use.ratios = {**use.ratios, key: self.random.choice([1, 1.1, 3, 1.7])}

        def forget(use: Usage) -> None:
            use.ratios = {**use.ratios, "create_1h": 1, "create": 1}

        return self.stated(use, change) if self.random.random() < 0.6 else self.either(use, forget)

    def fault_group_ratio(self) -> dict[str, Any]:
        while True:
            use = self.usage("mini", "large", "odd", "claude-big", "voice", "eyes")
            if use.user_ratio < 0 and quota_of(use) > 500:
                break

        def change(use: Usage) -> None:
            use.group_ratio = self.random.choice([ratio for group, ratio in GROUPS.items() if group != use.group])

        def invent(use: Usage) -> None:
            use.group_ratio = self.random.choice([1.17, 0.43])

        return self.either(use, change) if self.random.random() < 0.6 else self.stated(use, invent)

    def fault_user_group_ratio(self) -> dict[str, Any]:
        while True:
            use = self.usage("mini", "large", "odd", "claude-big")
            if quota_of(use) > 500:
                break
        if self.random.random() < 0.5:
            use.user, use.user_ratio = "user-5", self.random.choice([0.5, 0.33, 1.4])
            return self.row(use)
        use.user, use.user_ratio = "user-3", AGREED["user-3"]
        row = self.row(use)
        use.user_ratio = -1
        return row | {"quota": rounded(use)}

    def fault_price_date(self) -> dict[str, Any]:
        while True:
            use = self.text_usage(models=("mini", "large"))
            if use.model == "mini" or use.at > MID_OCTOBER + 60:
                break

        def change(use: Usage) -> None:
            use.ratios = ratios_of(use.model, OCTOBER if use.model == "large" else SEPTEMBER - 1)

        return self.either(use, change)

    def fault_context_tier(self) -> dict[str, Any]:
        while True:
            use = self.usage("large")
            if use.at > MID_OCTOBER + 60 and use.prompt > 272_000 and use.completion > 20:
                break
        if use.kind == "expression":
            row = self.row(use, wallet=True)
            short = (use.prompt - use.cached) * 5 + use.cached * 0.5 + use.completion * 30
            return row | {"quota": half_up(short / 2 * use.factor + tool_quota(use))}

        def change(use: Usage) -> None:
            use.ratios = ratios_of("large", use.at)

        return self.either(use, change)

    def fault_service_tier(self) -> dict[str, Any]:
        use = self.text_usage(models=("mini",))

        def change(use: Usage) -> None:
            use.ratios = ratios_of("mini", use.at, tier=self.random.choice(["flex", "priority"]))

        return self.either(use, change)

    def fault_tool_fee(self) -> dict[str, Any]:
        while True:
            use = self.usage("mini", "large")
            if use.searches or use.files:
                break
        if self.random.random() < 0.6:
            use.prices = {name: price * self.random.choice([2.5, 3, 1.4]) for name, price in use.prices.items()}
            return self.row(use)
        row = self.row(use, wallet=True)
        use.prices = {"web_search": 0, "file_search": 0}
        return row | {"quota": rounded(use)}

    def fault_per_call_price(self) -> dict[str, Any]:
        use = self.usage("draw")
        use.model_price = self.random.choice([0.05, 0.02, 0.08])
        return self.row(use)

    def fault_expression(self) -> dict[str, Any]:
        while True:
            use = self.usage("mini", "large")
            if use.kind == "expression" and use.completion > 100 and use.prompt - use.cached > 100:
                break
        name = self.random.choice(["p", "c"])
        changed = use.ratios[name] * 1.37
        use.expression = use.expression.replace(f"{name} * {use.ratios[name]}", f"{name} * {changed!r}")
        use.ratios = {**use.ratios, name: changed}
        if use.model == "large" and use.prompt > 272_000:
            use.expression = LARGE.replace("c * 45", "c * 52").replace("p * 10", "p * 11")
            use.ratios |= {"p": 5, "c": 30, "c_long": 52, "p_long": 11}
        return self.row(use)

    def fault_usage_missing(self) -> dict[str, Any]:
        use = self.text_usage()
        row = self.row(use, 0 if self.random.random() < 0.5 else None)
        other = json.loads(row["other"]) | {"cache_tokens": 0}
        return row | {"prompt_tokens": 0, "completion_tokens": 0, "other": json.dumps(other)}

    def fault_usage_contradiction(self) -> dict[str, Any]:
        use = self.text_usage(cached=True)
        if self.random.random() < 0.8:
            use.cached = use.prompt + self.random.randrange(1, 5000)
            return self.row(use)
        return self.row(use) | {"completion_tokens": -self.random.randrange(1, 500)}

    def fault_subscription(self) -> dict[str, Any]:
        use = self.text_usage()
        quota = rounded(use)
        figures = {"billing_source": "subscription", "subscription_id": 5, "wallet_quota_deducted": 0}
        figures |= {"subscription_pre_consumed": 1000, "subscription_post_delta": quota - 1000}
        chosen = self.random.randrange(3)
        if chosen == 0:
            figures |= {"subscription_consumed": quota + 700}
        elif chosen == 1:
            figures |= {"subscription_consumed": quota, "wallet_quota_deducted": quota}
        else:
            figures |= {"subscription_consumed": quota, "subscription_post_delta": quota + 1000}
        return self.row(use, other=figures)

    def fault_duplicate(self) -> list[dict[str, Any]]:
        use = self.usage()
        row = self.row(use)
        self._number += 1
        again = row | {"id": self._number}
        if row["upstream_request_id"] and self.random.random() < 0.5:
            return [row, again | {"request_id": f"retry-{self._number}", "created_at": row["created_at"] + 5}]
        return [row | {"request_id": f"twice-{self._number}"}, again | {"request_id": f"twice-{self._number}"}]

    def fault_refunded(self) -> list[dict[str, Any]]:
        use = self.usage("mini", "large")
        row = self.row(use)
        self._number += 1
        refund = {"id": self._number, "type": 6, "other": "{}", "upstream_request_id": "", "prompt_tokens": 0}
        return [row, row | refund | {"completion_tokens": 0}]

    def fault_saturated(self) -> dict[str, Any]:
        use = self.text_usage(models=("large",))
        use.completion *= 10**8
        limit = 2**31 - 1
        marked = {"use_channel": ["4"], "quota_saturation": {"limit": limit}}
        return self.row(use, limit, other={"admin_info": marked} if self.random.random() < 0.5 else {})

    def fault_unknown_model(self) -> dict[str, Any]:
        return self.row(self.usage()) | {"model_name": self.random.choice(["mystery-1", "mini-2"])}

    def fault_model_not_allowed(self) -> dict[str, Any]:
        use = self.usage("sold-to-few", group=self.random.choice(["vip", "partner"]))
        return self.row(use)
