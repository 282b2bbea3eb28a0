"""Events of Stripe: Checkout, PaymentIntent, refunds and disputes.

Formats: https://docs.stripe.com/api/events/types. Signatures are verified by Stripe's library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.notices.notice import Notice, invalid_notice_error, optional_text, require_key
from brivionix_billing.ledger.notices.stripe_currencies import from_stripe_units
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.money import Payable

__all__ = ["stripe_notice"]

_PROVIDER: Final = "Stripe"
_TOLERANCE_SECONDS: Final = 300
"""Maximum age of a signature, in seconds: the default of Stripe's library."""


def stripe_notice(
    payload: bytes, signature: str, secret: str, *, channel: str = "stripe", tolerance: int = _TOLERANCE_SECONDS
) -> Notice:
    """Verify an event of Stripe, and convert it.

    ``payload`` is the body as received, ``signature`` the header ``Stripe-Signature``, and ``secret`` that of the
    endpoint. The order is ``client_reference_id`` or ``metadata.order``, and the account ``metadata.account``. A
    PaymentIntent without either is ignored: the session of Checkout that it belongs to is credited. A refund with
    ``metadata.operation`` belongs to that operation of the ledger.

    Raises ``invalid_notice``, ``missing_extra``, ``unknown_currency``, ``invalid_money``.
    """
    try:
        import stripe
    except ImportError:
        raise BillingError(
            "missing_extra",
            "verifying a notice of Stripe requires stripe, which is not installed: "
            "pip install 'brivionix-billing[payments]'",
        ) from None
    try:
        text = payload.decode()
        stripe.WebhookSignature.verify_header(text, signature, secret, tolerance)
        event = json.loads(text)
    except stripe.SignatureVerificationError as error:
        raise invalid_notice_error(_PROVIDER, f"the signature is invalid: {error}; check the secret") from None
    except (ValueError, AttributeError, RecursionError):
        raise invalid_notice_error(_PROVIDER, "the body is not JSON") from None
    return convert_event(event, channel)


def convert_event(event: Any, channel: str) -> Notice:
    """Convert an event whose signature was verified."""
    kind = require_key(_PROVIDER, event, "type")
    id, body = require_key(_PROVIDER, event, "id"), require_key(_PROVIDER, event, "data", "object")
    created = require_key(_PROVIDER, event, "created")
    is_valid = isinstance(kind, str) and isinstance(body, Mapping) and isinstance(created, int)
    if not is_valid or not 0 <= created < 2**37:
        raise invalid_notice_error(_PROVIDER, "type, created or data.object is invalid; check the version of the API")
    convert = _CONVERTERS.get(kind)
    if convert is None:
        return Notice(id=id, kind="ignored", channel=channel, reference=id)
    return convert(id, body, channel, datetime.fromtimestamp(created, UTC))


def _amount(body: Mapping[str, Any], *path: str) -> Payable:
    return from_stripe_units(require_key(_PROVIDER, body, *path), require_key(_PROVIDER, body, "currency"))


def _id(value: Any) -> str | None:
    """Return the id of an object, which Stripe may have expanded."""
    return optional_text(_PROVIDER, value.get("id") if isinstance(value, Mapping) else value)


def _metadata(body: Mapping[str, Any], key: str) -> str | None:
    metadata = body.get("metadata")
    return optional_text(_PROVIDER, metadata.get(key)) if isinstance(metadata, Mapping) else None


def _session(id: str, body: Mapping[str, Any], channel: str, at: datetime) -> Notice:
    status, session = require_key(_PROVIDER, body, "payment_status"), require_key(_PROVIDER, body, "id")
    order = _id(body.get("client_reference_id")) or _metadata(body, "order")
    reference = _id(body.get("payment_intent")) or session
    if status != "paid":
        return Notice(
            id=id,
            kind="pending" if status == "unpaid" else "ignored",
            channel=channel,
            reference=reference,
            order=order,
            account=_metadata(body, "account"),
        )
    details = body.get("total_details") or {}
    parts = {
        name: _amount(body, "total_details", key) if details.get(key) else None
        for name, key in (("tax", "amount_tax"), ("coupon", "amount_discount"))
    }
    payment = ReceivedPayment(channel=channel, reference=reference, gross=_amount(body, "amount_total"), at=at, **parts)
    return _payment(id, payment, order, _metadata(body, "account"))


def _intent(id: str, body: Mapping[str, Any], channel: str, at: datetime) -> Notice:
    reference = require_key(_PROVIDER, body, "id")
    order, account = _metadata(body, "order"), _metadata(body, "account")
    if order is None and account is None:
        return Notice(id=id, kind="ignored", channel=channel, reference=reference)
    tax = ((body.get("amount_details") or {}).get("tax") or {}).get("total_tax_amount")
    payment = ReceivedPayment(
        channel=channel,
        reference=reference,
        gross=_amount(body, "amount_received"),
        at=at,
        tax=_amount(body, "amount_details", "tax", "total_tax_amount") if tax else None,
    )
    return _payment(id, payment, order, account)


def _processing(id: str, body: Mapping[str, Any], channel: str, at: datetime) -> Notice:
    reference = require_key(_PROVIDER, body, "id")
    order, account = _metadata(body, "order"), _metadata(body, "account")
    return Notice(id=id, kind="pending", channel=channel, reference=reference, order=order, account=account)


def _payment(id: str, payment: ReceivedPayment, order: str | None, account: str | None) -> Notice:
    return Notice(
        id=id,
        kind="payment",
        channel=payment.channel,
        reference=payment.reference,
        payment=payment,
        order=order,
        account=account,
    )


def _returned(kind: str) -> Callable[[str, Mapping[str, Any], str, datetime], Notice]:
    """Return a converter of refunds or disputes, whose id is that of the object: each has several events."""

    def convert(id: str, body: Mapping[str, Any], channel: str, at: datetime) -> Notice:
        reference = _id(body.get("payment_intent")) or _id(require_key(_PROVIDER, body, "charge"))
        status = body.get("status")
        stated = kind
        if kind == "refund" and status != "succeeded":
            stated = "refund_failed" if status in ("failed", "canceled") else "pending"
        return Notice(
            id=require_key(_PROVIDER, body, "id"),
            kind=stated,
            channel=channel,
            reference=reference or id,
            amount=_amount(body, "amount"),
            operation=_metadata(body, "operation"),
        )

    return convert


_CONVERTERS: Final[dict[str, Callable[[str, Mapping[str, Any], str, datetime], Notice]]] = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "payment_intent.succeeded": _intent,
    "payment_intent.processing": _processing,
    "refund.created": _returned("refund"),
    "refund.updated": _returned("refund"),
    "refund.failed": _returned("refund"),
    "charge.dispute.funds_withdrawn": _returned("dispute"),
    "charge.dispute.funds_reinstated": _returned("dispute_won"),
}
"""Types of events. ``charge.refunded`` is not one of them: its amount is the sum of all refunds."""
