"""Differences in the plans that two price files sell. Subscriptions keep the terms that they were made with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from brivionix_billing.pricebook.book import PriceBook
from brivionix_billing.pricebook.compile import timeline
from brivionix_billing.pricebook.plan_schema import PlanTerms
from brivionix_billing.pricebook.plans import Plan
from brivionix_billing.pricebook.price_change import PriceChange, Values, boundaries, compare_over_time
from brivionix_billing.times import Timeline

__all__ = ["is_plan_sold", "plan_changes"]


def plan_changes(old: PriceBook, new: PriceBook) -> Iterator[PriceChange]:
    """Yield the differences in the terms of plans, each over the period in which new subscriptions get other terms."""
    for name in dict.fromkeys([*old.file.plans, *new.file.plans]):
        times = boundaries(_terms(book, name) for book in (old, new))

        def values(book: PriceBook, at: datetime, name: str = name) -> Values:
            plan = book.plans(at=at).get(name)
            return {} if plan is None else {(name, *term): value for term, value in _values(plan).items()}

        yield from compare_over_time("plan", times, lambda at: values(old, at), lambda at: values(new, at))


def is_plan_sold(book: PriceBook, name: str, start: datetime, end: datetime) -> bool:
    """Return whether a plan could be subscribed to at some time of a period."""
    return any(terms.start < end and start < terms.end for terms in _terms(book, name).entries)


def _terms(book: PriceBook, name: str) -> Timeline[PlanTerms]:
    plan = book.file.plans.get(name)
    return timeline([] if plan is None else plan.terms, lambda terms: terms)


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
