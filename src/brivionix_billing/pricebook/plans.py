"""Plans: recurring allowances of Credits, at a price per period or free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal, get_args

from brivionix_billing.decimals import decimal_places, parse_plain_decimal, require_finite
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import Payable
from brivionix_billing.pricebook.lot_order import require_priority
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import load_zone
from brivionix_billing.topup import CREDIT_PLACES

__all__ = ["DEFAULT_PLAN_PRIORITY", "PLAN_PERIODS", "Plan", "PlanPeriod"]

PlanPeriod = Literal["day", "week", "month"]
PLAN_PERIODS: Final[tuple[str, ...]] = get_args(PlanPeriod)
DEFAULT_PLAN_PRIORITY: Final = 40
"""Priority of an allowance that states none: it is used before other Credits, whose default is 50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recurring allowance of Credits. A subscription in the ledger keeps the terms that it was made with.

    Raises ``invalid_argument``, ``invalid_money`` and ``invalid_period``.
    """

    name: str
    credits: Decimal
    """Allowance of a period, in Credits."""
    period: PlanPeriod
    zone: str = "UTC"
    """Time zone of the dates on which a period starts."""
    prices: Mapping[str, Payable] = field(default_factory=dict)
    """Channel -> price of a period, without tax. Empty: the plan is free."""
    models: tuple[str, ...] = ()
    """Models, or patterns, that the allowance is restricted to; as ``groups`` and ``tags``. Empty: all."""
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    priority: int = DEFAULT_PLAN_PRIORITY
    """Of the lots that a request may use, one with a lower number is used first."""
    rollover: bool = False
    """Unused Credits stay after the end of their period. Otherwise they expire."""
    overflow: bool = True
    """Requests may use other Credits of the account when the allowance is used up."""

    def __post_init__(self) -> None:
        require_text("the name of a plan", self.name)
        credits = parse_plain_decimal(self.credits) if isinstance(self.credits, str) else self.credits
        is_amount = isinstance(credits, int | Decimal) and not isinstance(credits, bool)
        if not is_amount or require_finite(Decimal(credits)) <= 0:
            raise BillingError(
                "invalid_money", f"credits is {safe_repr(self.credits)}; use a str, int or Decimal above 0"
            )
        if decimal_places(Decimal(credits)) > CREDIT_PLACES:
            raise BillingError(
                "invalid_money", f"credits is {safe_repr(self.credits)}; Credits are sold in steps of 0.000001"
            )
        object.__setattr__(self, "credits", Decimal(credits))
        if self.period not in PLAN_PERIODS:
            raise BillingError("invalid_argument", f"period is {safe_repr(self.period)}; use {', '.join(PLAN_PERIODS)}")
        load_zone(require_text("the time zone", self.zone))
        for channel, price in self.prices.items():
            require_text("a channel", channel)
            if not isinstance(price, Payable) or price.minor <= 0:
                raise BillingError(
                    "invalid_money", f"the price by {safe_repr(channel)} is {safe_repr(price)}; use a Payable above 0"
                )
        for kind in ("models", "groups", "tags"):
            names: Iterable[str] = getattr(self, kind)
            if isinstance(names, str):
                raise BillingError("invalid_argument", f"{kind} is {safe_repr(names)}; use a list of texts")
            object.__setattr__(self, kind, tuple(names))
        require_priority(self.priority)
        for name in ("rollover", "overflow"):
            if not isinstance(getattr(self, name), bool):
                raise BillingError("invalid_argument", f"{name} is {safe_repr(getattr(self, name))}; use True or False")
        if self.rollover and not self.prices:
            raise BillingError(
                "invalid_argument", "a free plan with rollover grows without a limit; add prices, or remove rollover"
            )

    @property
    def is_free(self) -> bool:
        """Whether a period costs nothing."""
        return not self.prices
