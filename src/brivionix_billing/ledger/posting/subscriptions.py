"""Entries of subscriptions: subscribe to a plan, order a period, change the plan, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.plans import (
    PlanTerms,
    SubscriptionRow,
    next_period,
    read_terms,
    subscription_row,
    terms_column,
)
from brivionix_billing.ledger.posting.orders import order_row
from brivionix_billing.ledger.posting.plan_changes import move_allowance
from brivionix_billing.ledger.projections import OrderRow
from brivionix_billing.ledger.restrictions import Restriction
from brivionix_billing.ledger.units import (
    minor_unit,
    to_units,
    units_to_payable,
    units_to_text,
)
from brivionix_billing.pricebook.plans import Plan
from brivionix_billing.rating import UNITS_PER_CREDIT

__all__ = ["cancel", "change_plan", "order_period", "plan_content", "subscribe", "tax_rate_content"]


def plan_content(plan: Plan, channel: str | None) -> dict[str, Any]:
    """Return the terms of a plan by a payment channel, in the format of the journal.

    Raises ``invalid_argument``, ``unknown_channel``.
    """
    if not isinstance(plan, Plan):
        raise BillingError("invalid_argument", f"{safe_repr(plan)} is not a plan; use PriceBook.plan, or a Plan")
    only = None
    if plan.models or plan.groups or plan.tags:
        only = Restriction(models=plan.models, groups=plan.groups, tags=plan.tags).as_dict()
    if plan.is_free and channel is not None:
        raise BillingError("invalid_argument", f"plan {safe_repr(plan.name)} is free; omit the channel")
    if not plan.is_free and channel not in plan.prices:
        raise BillingError(
            "unknown_channel",
            f"plan {safe_repr(plan.name)} is not sold by {safe_repr(channel)}; use {', '.join(sorted(plan.prices))}",
        )
    price = None if channel is None else plan.prices[channel]
    return {
        "plan": plan.name,
        "credits": units_to_text(to_units(plan.credits, "the Credits of a plan")),
        "period": plan.period,
        "zone": plan.zone,
        "priority": plan.priority,
        **({} if price is None else {"channel": channel, "currency": price.currency, "price": str(price.amount)}),
        **({} if only is None else {"only": only}),
        **({} if not plan.rollover else {"rollover": True}),
        **({} if plan.overflow else {"overflow": False}),
    }


def tax_rate_content(rate: Decimal | int | str | None) -> dict[str, Any]:
    """Return a rate of tax in the format of the journal. Raises ``invalid_argument``."""
    units = 0 if rate is None else to_units(rate, "the rate of tax")
    if units >= UNITS_PER_CREDIT:
        raise BillingError("invalid_argument", f"tax_rate is {safe_repr(rate)}; use a share such as 0.19, below 1")
    return {"tax_rate": units_to_text(units)} if units else {}


def subscribe(account: LockedAccount, id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Subscribe an account to a plan. Raises ``subscription_active`` if it has a subscription that has not ended."""
    current = account.subscription
    if current is not None and not current.has_ended(account.booked_at):
        raise BillingError(
            "subscription_active",
            f"account {safe_repr(account.id)} has the subscription {safe_repr(current.id)} to plan "
            f"{safe_repr(current.terms.plan)}; change its plan, or cancel it and wait for its end",
        )
    account.use_subscription(subscription_row(id, account.id, content, account.booked_at))
    return EntryDraft("subscribed", account.booked_at, content)


def _require_subscription(account: LockedAccount, id: str) -> SubscriptionRow:
    """Return the current subscription. Raises ``unknown_subscription``, and ``subscription_closed`` if cancelled."""
    require_id(id, "the subscription")
    row = account.subscription
    if row is None or row.id != id:
        row = account.store.fetch_one(SubscriptionRow, account.store.sql.subscription, id)
        if row is None or row.account != account.id:
            raise BillingError(
                "unknown_subscription", f"account {safe_repr(account.id)} has no subscription {safe_repr(id)}"
            )
    if row.cancelled_at is not None:
        raise BillingError(
            "subscription_closed", f"subscription {safe_repr(id)} was cancelled at {row.cancelled_at}; subscribe anew"
        )
    return row


def _order_content(
    account: LockedAccount,
    row: SubscriptionRow,
    terms: PlanTerms,
    amounts: tuple[int, int],
    period: tuple[str | None, str | None],
    expires: str,
    content: Mapping[str, Any],
) -> dict[str, Any]:
    """Return an order for a plan. ``amounts``: its price without tax, and its Credits."""
    pay, credits = amounts
    currency = str(terms.currency)
    minor = minor_unit(currency)
    rate = to_units(content.get("tax_rate", "0"), "the rate of tax")
    tax = round_quotient(pay // minor * rate, UNITS_PER_CREDIT, Rounding.HALF_UP)
    return {
        "credits": units_to_text(credits),
        "pay": str(units_to_payable(pay, currency).amount),
        "currency": currency,
        "channel": terms.channel,
        "price_per_credit": terms.price_per_credit,
        "quoted": account.booked_at,
        "expires": expires,
        "subscription": row.id,
        **({} if period[0] is None else {"starts": period[0], "ends": period[1]}),
        **({} if not tax else {"tax": str(units_to_payable(tax * minor, currency).amount)}),
    }


def _cancel_order(account: LockedAccount, draft: EntryDraft, row: SubscriptionRow, *, current: bool) -> None:
    """Cancel the last order if nothing was paid for it. An order of the current period only if ``current``."""
    order = None if row.order is None else account.store.fetch_one(OrderRow, account.store.sql.order, row.order)
    if order is None or order.state != "open" or (not current and order.starts == row.starts):
        return
    order.state = "cancelled"
    account.mark_changed(order)
    draft.result["cancelled"] = order.id


def _add_order(account: LockedAccount, id: str, draft: EntryDraft, row: SubscriptionRow, order: dict[str, Any]) -> None:
    draft.result["order"] = order
    account.add_row(order_row(id, account.id, order, account.booked_at))
    row.order = id


def order_period(account: LockedAccount, subscription: str, id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Order the next period of a plan that is not free. It replaces an earlier order that was not paid.

    Raises ``unknown_subscription``, ``subscription_closed``, and ``invalid_argument`` if the plan is free, the period
    was paid already, or the order would expire after its period, or has expired.
    """
    row, now = _require_subscription(account, subscription), account.booked_at
    draft, terms = EntryDraft("plan_order", now, content), row.next_terms
    if not terms.price:
        raise BillingError("invalid_argument", f"plan {safe_repr(terms.plan)} is free; the ledger renews it by itself")
    if row.starts is not None and row.starts > now:
        raise BillingError("invalid_argument", f"subscription {safe_repr(row.id)} is already paid until {row.ends}")
    starts, ends = next_period(row, now)
    expires = content.get("expires", ends)
    if not now < expires <= ends:
        raise BillingError(
            "invalid_argument", f"expires is {expires}; use a time after now, at most {ends}, the end of the period"
        )
    period = (None, None) if row.starts is None else (starts, ends)
    _cancel_order(account, draft, row, current=row.starts is None)
    order = _order_content(account, row, terms, (terms.price, terms.credits), period, expires, content)
    _add_order(account, id, draft, row, order)
    account.mark_changed(row)
    return draft


def change_plan(account: LockedAccount, subscription: str, id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Change the plan at the end of the period, or at once if it is in a paid period or not paid yet.

    Raises ``unknown_subscription``, ``subscription_closed``, ``invalid_argument``.
    """
    row, now = _require_subscription(account, subscription), account.booked_at
    draft, text = EntryDraft("plan_changed", now, content), terms_column(content["terms"])
    terms = read_terms(text)
    account.mark_changed(row)
    if row.starts is not None and row.ends is not None and (content["when"] == "period_end" or row.ends <= now):
        # Nothing is left of a period that is over, so its plan changes with the renewal.
        row.next_text = None if text == row.terms_text else text
        _cancel_order(account, draft, row, current=False)
        if row.renews_at is not None:
            account.note_expiry(row.renews_at)
        return draft
    if row.starts is not None:
        _require_immediate(row, terms, now)
    _cancel_order(account, draft, row, current=True)
    if row.starts is None or row.ends is None:
        row.terms_text, row.next_text = text, None
        return draft
    amounts = move_allowance(account, id, draft, row, text)
    if amounts is not None:
        period = row.starts, row.ends
        _add_order(account, id, draft, row, _order_content(account, row, terms, amounts, period, row.ends, content))
    account.repay_owed(draft)
    return draft


def _require_immediate(row: SubscriptionRow, terms: PlanTerms, now: str) -> None:
    problem = None
    old = row.terms
    if not terms.price:
        problem = "a free plan starts at the end of a period"
    elif str(row.starts) > now:
        problem = f"the period from {row.starts} is paid already"
    elif old.calendar != terms.calendar:
        problem = "the plans have different periods or time zones"
    elif old.price and (old.channel, old.currency) != (terms.channel, terms.currency):
        problem = f"its period was paid by {old.channel} in {old.currency}, and there is no exchange rate"
    if problem is not None:
        raise BillingError(
            "invalid_argument",
            f"subscription {safe_repr(row.id)} cannot change to plan {safe_repr(terms.plan)} at once: {problem}; "
            "change it at the end of the period",
        )


def cancel(account: LockedAccount, subscription: str, content: Mapping[str, Any]) -> EntryDraft:
    """Cancel a subscription: its plan ends with its period. Its order for a later period is cancelled."""
    row = _require_subscription(account, subscription)
    draft = EntryDraft("plan_cancelled", account.booked_at, content)
    _cancel_order(account, draft, row, current=row.starts is None)
    row.cancelled_at, row.next_text = account.booked_at, None
    account.mark_changed(row)
    return draft
