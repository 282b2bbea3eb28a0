"""Helpers of the tests of plans: plans, and an account that pays for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from brivionix_billing import Payable
from brivionix_billing.ledger import Entry, Ledger, ReceivedPayment, Subscription
from brivionix_billing.pricebook.plans import Plan
from ledger_kit import NOW


def plan(name: str = "basic", credits: Any = 100, price: str | None = "12", **terms: Any) -> Plan:
    """Return a plan, by default of 100 Credits a month for 12 USD."""
    prices = {} if price is None else {"stripe": Payable(price, "USD")}
    return Plan(**{"name": name, "credits": credits, "period": "month", "prices": prices, **terms})


def subscribe(ledger: Ledger, terms: Plan, at: datetime = NOW, id: str = "sub", account: str = "acct") -> None:
    """Subscribe an account, and pay the first period."""
    ledger.subscribe(account, terms, id=id, at=at, channel=None if terms.is_free else "stripe")
    if not terms.is_free:
        ledger.order_period(account, id, id=f"{id}-1", at=at)
        pay(ledger, f"{id}-1", at)


def pay(ledger: Ledger, order: str, at: datetime, gross: str | None = None, reference: str | None = None) -> Entry:
    """Pay an order, by default all of it. The lot has the id ``pay-REFERENCE``."""
    reference = order if reference is None else reference
    due = ledger.order(order, at=at)
    amount = due.due if gross is None else Payable(gross, due.due.currency)
    payment = ReceivedPayment(channel="stripe", reference=reference, gross=amount, at=at)
    return ledger.receive_payment(due.account, payment, id=f"pay-{reference}", at=at, order=order)


def subscription(ledger: Ledger, at: datetime, account: str = "acct") -> Subscription:
    """Return the last subscription of an account."""
    return ledger.subscriptions(account, at=at)[-1]
