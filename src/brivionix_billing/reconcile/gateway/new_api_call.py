"""A request as a row of the log of new-api states it: what was consumed, by which prices, and the charge of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Final, NamedTuple

from brivionix_billing.reconcile.gateway.expression import Expression, Outcome
from brivionix_billing.reconcile.gateway.log_values import sum_products

__all__ = ["TASK_FACTORS", "TOKEN_KINDS", "Call", "ContradictionError", "Part", "RequestRule", "Tool"]

TOKEN_KINDS: Final = (
    *("input", "cache_read", "cache_write", "cache_write_1h", "image_input"),
    *("audio_input", "audio_output", "output"),
)
"""Meters of tokens that a row of new-api can state. They are disjoint."""
TASK_FACTORS: Final = ("n", "size", "seconds", "resolution", "duration", "video_input", "samples")


class ContradictionError(Exception):
    """Counts that contradict each other, with both."""


class Part(NamedTuple):
    """One kind of tokens or calls, and the price that the row states for it."""

    kind: str
    """The meter of the price file."""
    quantity: int
    price: Fraction
    """Quota per unit, before the ratio of the group."""
    relative: Fraction | None = None
    """The price in relation to the model ratio; ``None`` if it does not depend on it."""


class Tool(NamedTuple):
    """Calls of a tool with a fee of its own."""

    meter: str
    calls: int
    price: Fraction
    """Quota per call, before the ratio of the group."""


class RequestRule(NamedTuple):
    """A condition on the request that multiplies what an expression gives."""

    multiplier: Fraction
    is_matched: bool
    service_tier: str | None
    """The service tier that the condition names."""


@dataclass(slots=True)
class Call:
    """A request as the log states it. Amounts are in quota."""

    mode: str
    """``ratio``, ``request``, ``expression`` or ``task``."""
    at: datetime
    """The time of the row, which is that of the end of the request."""
    start: datetime
    quantities: dict[str, int]
    """Meter -> tokens, without those that are 0."""
    input_total: int
    """All input tokens, which decide the context tier."""
    stated_ratio: Fraction
    """The ratio of the group that the row states."""
    user_ratio: Fraction | None
    """The ratio of the user's group, which replaces that of the group."""
    model_ratio: Fraction | None = None
    parts: list[Part] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    factor: Fraction = Fraction(1)
    """Other ratios: images, seconds, size."""
    service_tier: str | None = None
    rules: tuple[RequestRule, ...] = ()
    """All request rules, matched or not."""
    multiplier: Fraction = Fraction(1)
    """The product of the request rules that matched."""
    expression: Expression | None = None
    expression_problem: str = ""
    outcome: Outcome | None = None
    stated_tier: str = ""
    variables: dict[str, Fraction] = field(default_factory=dict)
    is_per_request: bool = False
    quota_per_unit: int = 500_000

    @property
    def ratio(self) -> Fraction:
        """The ratio that applies to the group of the row by its own statement."""
        return self.stated_ratio if self.user_ratio is None else self.user_ratio

    @property
    def tool_quota(self) -> Fraction:
        """What the tools cost before the ratio of the group."""
        return sum_products([(tool.calls, tool.price) for tool in self.tools])

    @property
    def base(self) -> Fraction:
        """What the row states as the charge before the ratio of the group, without tools."""
        if self.outcome is not None:
            return self.expression_quota(self.outcome) * self.multiplier * self.factor
        total = sum_products([(part.quantity, part.price) for part in self.parts])
        return total if self.factor == 1 else total * self.factor

    def expression_quota(self, outcome: Outcome) -> Fraction:
        """Return what an expression gives, in quota."""
        if self.is_per_request and not outcome.is_fixed:
            return outcome.value * self.quota_per_unit
        return outcome.value * self.quota_per_unit / 1_000_000

    @property
    def exact(self) -> Fraction:
        """The charge that follows from the row's own figures, before rounding."""
        return (self.base + self.tool_quota if self.tools else self.base) * self.ratio

    @property
    def is_per_call(self) -> bool:
        """Whether the charge does not depend on tokens."""
        is_fixed = self.outcome is not None and self.outcome.is_fixed
        return self.mode in ("request", "task") or self.is_per_request or is_fixed

    @property
    def is_empty(self) -> bool:
        """Whether nothing was consumed that could be charged."""
        return not (self.quantities or self.tools or self.is_per_call)

    def as_float(self, order: str) -> float | None:
        """Repeat the operations of the gateway with floats. ``None`` if their order is not known."""
        tools = float(self.tool_quota * self.ratio)
        if self.mode == "ratio" and self.model_ratio is not None and all(p.relative is not None for p in self.parts):
            model, ratio, factor = float(self.model_ratio), float(self.ratio), float(self.factor)
            if order == "part_by_part":
                return sum(p.quantity * float(p.relative or 0) * model * ratio for p in self.parts) * factor + tools
            if order == "per_million":
                usd = model * 1_000_000 / self.quota_per_unit
                spent = sum(p.quantity * (usd * float(p.relative or 0)) for p in self.parts) / 1_000_000
                return spent * self.quota_per_unit * ratio * factor + tools
            tokens = 0.0
            for part in self.parts:
                tokens += part.quantity * float(part.relative or 0)
            if order == "ratios_first":
                return tokens * (model * ratio) * factor + tools
            return tokens * model * ratio * factor + tools
        if self.mode == "request" and self.parts:
            price = float(self.parts[0].price / self.quota_per_unit)
            if order == "ratios_first":
                return price * float(self.ratio) * self.quota_per_unit * float(self.factor) + tools
            return price * self.quota_per_unit * float(self.ratio) * float(self.factor) + tools
        return None
