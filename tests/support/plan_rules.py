"""Rules of the state machine of the ledger: operations on plans, in the ledger and in the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from brivionix_billing import Payable
from brivionix_billing.ledger import Entry, Ledger
from brivionix_billing.pricebook.plans import Plan
from ledger_kit import later
from ledger_model import Model
from plan_model import ModelTerms

TERMS = (
    ModelTerms("small", 40, 500),
    ModelTerms("large", 90, 900),
    ModelTerms("bound", 60, 750, overflow=False),
    ModelTerms("model", 50, 333, overflow=False, model="a"),
    ModelTerms("free", 7, 0),
    ModelTerms("free and bound", 9, 0, overflow=False),
)


SHARES = st.sampled_from([None, "1", "1", "1", "0.5", "1.2"])
"""Parts of an order that are paid at once; ``None``: nothing."""
SELDOM = st.sampled_from([False, False, False, True])


def to_plan(terms: ModelTerms) -> Plan:
    return Plan(
        name=terms.name,
        credits=terms.credits,  # type: ignore[arg-type]  # an int is a number of Credits, too
        period="day",
        prices={"stripe": Payable(terms.price, "USD")} if terms.price else {},
        overflow=terms.overflow,
        models=(terms.model,) if terms.model else (),
    )


def channel(terms: ModelTerms) -> str | None:
    return "stripe" if terms.price else None


class PlanRules:
    """Operations on plans of the account."""

    ledger: Ledger
    model: Model
    new: Callable[[str], str]
    both: Callable[[Callable[[], Entry], Callable[[], Any]], Entry | None]
    paid: Callable[[str, str, int], None]

    def renew_free_plan(self) -> None:
        """Post what is due if a free plan is, and open its allowance in the model."""
        plan, now = self.model.plan, self.model.now
        if plan is not None and plan.is_free_and_due(now):
            self.model.tick()
            self.ledger.expire(at=later(now))
            self.model.signals.watch_expiries(self.model)
            self.open_free_allowance()

    def open_free_allowance(self) -> None:
        lot = self.ledger.subscriptions("acct", at=later(self.model.now))[-1].lots[-1]
        self.model.renew(lot)
        self.model.signals.watch(self.model, "plan_renewed", None)

    def with_plan(self, ask: Callable[[], Entry], expected: Callable[[], Any]) -> Entry | None:
        """Run an operation in both, and open the allowance of a free plan that it makes due."""
        entry = self.both(ask, expected)
        plan = self.model.plan
        if entry is not None and plan is not None and plan.is_free_and_due(self.model.now):
            self.open_free_allowance()
        return entry

    @precondition(lambda self: self.model.plan is None or self.model.plan.has_ended(self.model.now))
    @rule(terms=st.sampled_from(TERMS), share=SHARES)
    def subscribe(self, terms: ModelTerms, share: str | None) -> None:
        """Subscribe, or subscribe anew after a cancelled plan, and pay the first period or a part of it."""
        id, now = self.new("sub"), self.model.now
        self.with_plan(
            lambda: self.ledger.subscribe("acct", to_plan(terms), id=id, at=later(now), channel=channel(terms)),
            lambda: self.model.subscribe(id, terms),
        )
        if share is not None:
            self.order_period(0, share)

    @precondition(lambda self: self.model.plan)
    @rule(tax=st.sampled_from([0, 0, 19]), share=SHARES, early=SELDOM)
    def renew(self, tax: int, share: str | None, early: bool) -> None:
        """Order a period, and pay it or a part of it, mostly after the end of the one before."""
        plan = self.model.plan
        if early or plan is None or plan.ends is None or plan.ends <= self.model.now:
            self.order_period(tax, share)

    @precondition(lambda self: self.model.plan and self.model.plan.starts is not None)
    @rule(share=SHARES)
    def wait_for_the_end(self, share: str | None) -> None:
        """Wait until the period ends, and renew it late."""
        assert self.model.plan is not None
        self.model.now = max(self.model.now, (self.model.plan.ends or 0) + 1)
        self.order_period(0, share)

    def order_period(self, tax: int, share: str | None) -> None:
        id, now, plan = self.new("period"), self.model.now, self.model.plan
        assert plan is not None
        entry = self.both(
            lambda: self.ledger.order_period("acct", plan.id, id=id, at=later(now), tax_rate=f"0.{tax:02d}"),
            lambda: self.model.order_period(id, tax),
        )
        if entry is not None and share is not None:
            self.paid(id, share, 0)

    @precondition(lambda self: self.model.plan)
    @rule(terms=st.sampled_from(TERMS), at_end=SELDOM, share=SHARES)
    def change_plan(self, terms: ModelTerms, at_end: bool, share: str | None) -> None:
        id, now, plan = self.new("change"), self.model.now, self.model.plan
        assert plan is not None
        entry = self.with_plan(
            lambda: self.ledger.change_plan(
                "acct", plan.id, to_plan(terms), id=id, at=later(now), channel=channel(terms), at_period_end=at_end
            ),
            lambda: self.model.change_plan(id, terms, at_end=at_end),
        )
        if entry is not None and share is not None and "order" in entry.result:
            self.paid(id, share, 0)

    @precondition(lambda self: self.model.plan)
    @rule(sure=SELDOM)
    def cancel_plan(self, sure: bool) -> None:
        id, now, plan = self.new("cancel"), self.model.now, self.model.plan
        if plan is None or not sure:
            return
        self.both(
            lambda: self.ledger.cancel_plan("acct", plan.id, id=id, at=later(now)), lambda: self.model.cancel_plan()
        )

    def same_plan(self) -> None:
        """The subscription has the period, the lots and the next plan of the model."""
        plan, now = self.model.plan, self.model.now
        if plan is None:
            return
        stored = self.ledger.subscriptions("acct", at=later(now))[-1]
        assert (stored.id, stored.plan, list(stored.lots)) == (plan.id, plan.terms.name, plan.lots)
        assert stored.ends == (None if plan.ends is None else later(plan.ends))
        assert stored.next_plan == (None if plan.cancelled else (plan.later or plan.terms).name)
        assert (stored.state == "ended") == plan.has_ended(now)
