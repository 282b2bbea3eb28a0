"""Allowances of plans: the lots that payments open, and those of free plans, which the ledger opens by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.plans import SubscriptionRow, add_allowance, allowance_content, bind_lot, next_period
from brivionix_billing.ledger.posting.payments import open_lot
from brivionix_billing.ledger.projections import OrderRow
from brivionix_billing.ledger.units import units_to_text

__all__ = [
    "bind_lots",
    "order_period",
    "paid_subscription",
    "plan_content",
    "post_allowance",
    "post_due",
    "renew_free_plan",
]


def paid_subscription(account: LockedAccount, order: OrderRow) -> SubscriptionRow | None:
    """Return the subscription whose allowance the next payment of an order opens, if it comes in time.

    ``None``: the order belongs to no plan, its period is over, or it is paid already. Then the payment opens an
    ordinary lot, which does not expire.
    """
    id = order.subscription
    if (
        id is None
        or order.state not in ("open", "partial")
        or (order.ends is not None and order.ends <= account.booked_at)
    ):
        return None
    if id == account.row.subscription:
        return account.subscription
    return account.store.fetch_one(SubscriptionRow, account.store.sql.subscription, id)


def order_period(account: LockedAccount, row: SubscriptionRow, order: OrderRow) -> tuple[str, str]:
    """Return the period that an order pays for. The first one starts with the first payment."""
    if order.starts is not None and order.ends is not None:
        return order.starts, order.ends
    return next_period(row, account.booked_at)


def plan_content(row: SubscriptionRow, period: tuple[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the terms of the lot of a payment for a plan. Raises ``invalid_argument`` if the caller states others."""
    stated = [name for name in ("expires", "only", "priority") if name in given]
    if stated:
        raise BillingError(
            "invalid_argument", f"the payment opens an allowance of subscription {safe_repr(row.id)}; omit {stated[0]}"
        )
    begins = row.starts is None or period[0] > row.starts
    return allowance_content(row, row.next_terms if begins else row.terms, period[1])


def post_allowance(
    account: LockedAccount, row: SubscriptionRow, order: OrderRow | None, lot: str, period: tuple[str, str]
) -> None:
    """Add a new lot to its subscription."""
    lots, id = row.lots, row.id
    add_allowance(row, order, lot, period)
    account.mark_changed(row)
    bind_lots(account, row, lots)
    if row.renews_at is not None and id == account.row.subscription:
        account.note_expiry(row.renews_at)


def bind_lots(account: LockedAccount, row: SubscriptionRow, lots: list[str]) -> None:
    """Let the requests of a plan without overflow use the lots of its earlier allowance."""
    for id in [] if row.terms.overflow else lots:
        lot = account.lot(id)
        if bind_lot(account.row, lot, row.id):
            account.mark_changed(lot)


def post_due(account: LockedAccount) -> int:
    """Post due expiries, and the allowance of a free plan. Returns the number of entries."""
    due = account.row.next_expiry
    if due is None or due > account.booked_at:
        return 0
    count = account.expire_due()
    return count if renew_free_plan(account) is None else count + 1


def renew_free_plan(account: LockedAccount) -> Entry | None:
    """Open the allowance of a free plan if its period is due. Periods that are over get none: it would have expired."""
    row, now = account.subscription, account.booked_at
    if row is None or row.cancelled_at is not None or row.next_terms.price or (row.ends is not None and row.ends > now):
        return None
    period, terms = next_period(row, now), row.next_terms
    content = {
        "subscription": row.id,
        "reason": terms.plan,
        "credits": units_to_text(terms.credits),
        **allowance_content(row, terms, period[1]),
    }
    id = account.system_entry_id()
    draft = open_lot(account, id, "plan_renewed", terms.credits, content, None)
    post_allowance(account, row, None, id, period)
    draft.result["period"] = list(period)
    return account.post_entry(id, draft)
