"""Differences in the plans that two price files sell. Subscriptions keep the terms that they were made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from brivionix_billing.pricebook.book import PriceBook
from brivionix_billing.pricebook.plans import Plan
from brivionix_billing.pricebook.price_change import PriceChange, Values, boundaries, compare_over_time
from brivionix_billing.times import Timeline

__all__ = ["plan_changes"]


def plan_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    """Yield the differences in the terms of plans, each over the period in which new subscriptions get other terms."""
    before, after = old.plan_terms(), new.plan_terms()
    for name in dict.fromkeys([*before, *after]):
        times = boundaries(terms[name] for terms in (before, after) if name in terms)

        def values(terms: Mapping[str, Timeline[Plan]], at: datetime, name: str = name) -> Values:
            plan = terms[name].at(at).value if name in terms else None
            return {} if plan is None else {(name, *term): value for term, value in _values(plan).items()}

        yield from compare_over_time("plan", times, lambda at: values(before, at), lambda at: values(after, at))


def _values(plan: Plan) -> Values:
    return {
        ("credits",): plan.credits,
        ("period",): plan.period,
        ("time_zone",): plan.zone,
        **{("price", channel, price.currency): price.amount for channel, price in plan.prices.items()},
        **{(kind,): ", ".join(getattr(plan, kind)) or "all" for kind in ("models", "groups", "tags")},
        ("priority",): str(plan.priority),
        ("rollover",): str(plan.rollover).lower(),
        ("overflow",): str(plan.overflow).lower(),
    }
