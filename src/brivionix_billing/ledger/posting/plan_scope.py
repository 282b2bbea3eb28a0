"""Binds the requests of an account to its plan, if that has no overflow to other Credits."""

from __future__ import annotations

from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.plans import SubscriptionRow
from brivionix_billing.ledger.restrictions import RequestScope

__all__ = ["binding_plan", "plan_scope"]


def binding_plan(account: LockedAccount) -> SubscriptionRow | None:
    """Return the subscription that must pay for all requests of an account now, or ``None``.

    A plan binds from its first period until it has ended, also while its renewal is not paid.
    """
    row = account.subscription
    if row is None or row.starts is None or row.terms.overflow or row.has_ended(account.booked_at):
        return None
    return row


def plan_scope(account: LockedAccount, scope: RequestScope) -> RequestScope:
    """Return the scope of a new request, bound to the plan of the account if there is one without overflow."""
    row = binding_plan(account)
    return scope if row is None else scope._replace(plan=row.id)
