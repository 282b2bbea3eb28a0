"""Checks the figures of a row of new-api that are beside its prices: usage, tiers, subscriptions and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brivionix_billing.reconcile.gateway.causes import Cause
from brivionix_billing.reconcile.gateway.log_values import to_fraction
from brivionix_billing.reconcile.gateway.new_api_call import Call
from brivionix_billing.reconcile.gateway.offers import Offer

__all__ = ["missing_usage", "states_other_tier", "subscription_problem", "unexplained"]


def missing_usage(call: Call, offer: Offer, other: Mapping[str, Any]) -> str:
    """Return what is missing of the usage of a request with tokens; empty if nothing is."""
    if call.mode not in ("ratio", "expression") or call.is_per_call:
        return ""
    admin = other.get("admin_info")
    if isinstance(admin, Mapping) and admin.get("local_count_tokens"):
        return "the provider reported no usage; the gateway counted the tokens itself"
    if call.tools and not call.quantities:
        return ""
    if not call.input_total:
        return "no input tokens were reported"
    if not call.quantities.get("output") and not call.quantities.get("audio_output") and offer.price("output"):
        return "no output tokens were reported"
    return ""


def states_other_tier(call: Call) -> bool:
    """Return whether a row states another tier of its expression than the one that applies."""
    if call.expression is None or call.outcome is None or not call.stated_tier:
        return False
    return call.stated_tier != call.outcome.tier and call.stated_tier in (name for name, _ in call.expression.tiers)


def unexplained(other: Mapping[str, Any], logged: int) -> Cause:
    """Return the cause of a quota that no price explains."""
    if other.get("billing_source") == "subscription":
        paid = to_fraction(other.get("subscription_pre_consumed"))
        if logged == 0 or (paid is not None and paid == logged):
            return Cause("subscription", "a subscription paid, and the row was not settled")
    if not other:
        return Cause("arithmetic", "the row states no ratios, and the quota is not that of the price file")
    return Cause("arithmetic", "the quota does not follow from the figures of the row")


def subscription_problem(other: Mapping[str, Any], logged: int) -> str:
    """Return how the figures of a subscription contradict the quota; empty if they do not."""
    names = ("pre_consumed", "post_delta", "consumed", "total", "used", "remain")
    paid, delta, consumed, total, used, remain = (to_fraction(other.get(f"subscription_{name}")) for name in names)
    wallet = to_fraction(other.get("wallet_quota_deducted"))
    if other.get("billing_source") != "subscription":
        if consumed:
            return f"the subscription paid {consumed}, but the wallet is stated as the source"
        if other.get("billing_preference") == "subscription_only" and other.get("billing_source") == "wallet":
            return "only a subscription may pay, but the wallet did"
        if wallet and wallet != logged and other.get("billing_source") == "wallet":
            return f"the wallet paid {wallet} of {logged}"
        return ""
    settled = None if paid is None else paid + (delta or 0)
    if consumed is None:
        consumed = settled
    elif settled is not None and settled != consumed:
        return f"{paid} in advance and {delta} afterwards are not {consumed}"
    if consumed is not None and consumed + (wallet or 0) != logged:
        return f"the subscription paid {consumed} and the wallet {wallet or 0}, of {logged}"
    if consumed is None and wallet:
        return f"a subscription is stated as the source, but the wallet paid {wallet}"
    if total is not None and used is not None and remain is not None and total - used != remain:
        return f"{used} used of {total} do not leave {remain}"
    return ""
