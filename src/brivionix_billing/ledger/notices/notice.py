"""A payment notice in the terms of the ledger, independent of its provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.money import Payable

__all__ = ["KINDS", "Notice", "invalid_notice_error", "optional_text", "require_key"]

KINDS: Final = ("payment", "pending", "refund", "refund_failed", "dispute", "dispute_won", "ignored")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a provider reports about a payment."""

    id: str
    """Id of the notice, refund or dispute at the provider; the id of the operation that posts a refund or dispute."""
    kind: str
    """``payment``, ``refund``, ``refund_failed``, ``dispute`` or ``dispute_won``; ``pending``: the payment is not
    final; ``ignored``: it changes nothing."""
    channel: str
    reference: str
    """Id of the payment at the provider."""
    payment: ReceivedPayment | None = None
    """The payment, if one was received."""
    amount: Payable | None = None
    """Amount of a refund or dispute, with tax."""
    is_total: bool = False
    """Whether ``amount`` is the sum of all refunds of the payment, and not one refund."""
    order: str | None = None
    account: str | None = None
    operation: str | None = None
    """Id of the ledger's own operation that the refund belongs to, if the caller passed it to the provider."""


def invalid_notice_error(provider: str, problem: str) -> BillingError:
    """Build the error of a notice that cannot be trusted or read."""
    return BillingError("invalid_notice", f"{provider} notice: {problem}")


def require_key(provider: str, body: Mapping[str, Any], *path: str) -> Any:
    """Return a value of a notice. Raises ``invalid_notice`` if it is missing."""
    value: Any = body
    for key in path:
        if not isinstance(value, Mapping) or value.get(key) in (None, ""):
            raise invalid_notice_error(provider, f"{'.'.join(path)} is missing; check the version of the API")
        value = value[key]
    return value


def optional_text(provider: str, value: Any) -> str | None:
    """Return an id of a notice that may be missing. Raises ``invalid_notice`` if it is not a text."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise invalid_notice_error(provider, f"{safe_repr(value)} is not an id")
    return value
