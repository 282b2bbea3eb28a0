"""Notices of WeChat Pay, API v3.

Format: https://pay.weixin.qq.com/docs/merchant/apis/h5-payment/payment-notice.html; refunds and signatures there, too.
The body is signed with the platform's RSA key, and its resource is encrypted with the merchant's APIv3 key. Amounts are
in fen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.notices.notice import Notice, invalid_notice_error, optional_text, require_key
from brivionix_billing.ledger.notices.signatures import decrypt_aes_gcm, verify_rsa_sha256
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.money import Payable
from brivionix_billing.times import as_utc, parse_instant

__all__ = ["wechat_notice"]

_PROVIDER: Final = "WeChat Pay"
_TOLERANCE: Final = timedelta(minutes=5)
"""Maximum age of a signature, as WeChat Pay recommends."""


def wechat_notice(
    body: bytes,
    headers: Mapping[str, str],
    *,
    public_keys: Mapping[str, bytes | str],
    api_v3_key: bytes,
    merchant: str,
    at: datetime,
    channel: str = "wechat",
) -> Notice:
    """Verify and decrypt a notice of WeChat Pay, and convert it.

    ``public_keys`` has the public key or certificate of the platform by serial number, in PEM format. ``merchant`` is
    your ``mchid``, and ``at`` the current time. The order is ``out_trade_no``, and the account ``attach``.

    Raises ``invalid_notice``, ``invalid_argument``, ``missing_extra``.
    """
    values = {name.lower(): value for name, value in headers.items()}
    parts = [
        require_key(_PROVIDER, values, f"wechatpay-{name}") for name in ("timestamp", "nonce", "signature", "serial")
    ]
    timestamp, nonce, signature, serial = parts
    if serial not in public_keys:
        raise invalid_notice_error(_PROVIDER, "it is signed with an unknown key; add the key of its serial number")
    message = b"\n".join((timestamp.encode(), nonce.encode(), body, b""))
    verify_rsa_sha256(_PROVIDER, public_keys[serial], signature, message)
    if not timestamp.isdecimal() or abs(as_utc(at).timestamp() - int(timestamp)) > _TOLERANCE.total_seconds():
        raise invalid_notice_error(_PROVIDER, "its signature is older than five minutes; check your clock")
    notice = _parse(body)
    resource = require_key(_PROVIDER, notice, "resource")
    text = decrypt_aes_gcm(
        _PROVIDER,
        api_v3_key,
        str(require_key(_PROVIDER, resource, "nonce")),
        str(require_key(_PROVIDER, resource, "ciphertext")),
        str(resource.get("associated_data") or ""),
    )
    return _convert(require_key(_PROVIDER, notice, "id"), _parse(text), channel, merchant)


def _parse(text: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise invalid_notice_error(_PROVIDER, "the body is not a JSON object")
    return value


def _convert(id: str, body: Mapping[str, Any], channel: str, merchant: str) -> Notice:
    if body.get("mchid") != merchant:
        raise invalid_notice_error(_PROVIDER, "it belongs to another merchant")
    reference = require_key(_PROVIDER, body, "transaction_id")
    order = optional_text(_PROVIDER, body.get("out_trade_no"))
    currency = (body.get("amount") or {}).get("currency") or "CNY"
    if "refund_status" in body:
        status = body["refund_status"]
        return Notice(
            id=require_key(_PROVIDER, body, "refund_id"),
            kind={"SUCCESS": "refund", "CLOSED": "refund_failed"}.get(status, "pending"),
            channel=channel,
            reference=reference,
            amount=_fen(require_key(_PROVIDER, body, "amount", "refund"), currency),
            order=order,
            operation=optional_text(_PROVIDER, body.get("out_refund_no")),
        )
    account = optional_text(_PROVIDER, body.get("attach"))
    if body.get("trade_state") != "SUCCESS":
        return Notice(id=id, kind="pending", channel=channel, reference=reference, order=order, account=account)
    # A coupon of type NOCASH lowers what the merchant receives. One of type CASH is paid by WeChat Pay.
    coupons = sum(
        _fen(require_key(_PROVIDER, coupon, "amount"), currency).minor
        for coupon in body.get("promotion_detail") or ()
        if isinstance(coupon, Mapping) and coupon.get("type") == "NOCASH"
    )
    total = _fen(require_key(_PROVIDER, body, "amount", "total"), currency)
    payment = ReceivedPayment(
        channel=channel,
        reference=reference,
        gross=Payable(total.minor - coupons, currency),
        coupon=Payable(coupons, currency) if coupons else None,
        at=_time(require_key(_PROVIDER, body, "success_time")),
    )
    return Notice(
        id=id, kind="payment", channel=channel, reference=reference, payment=payment, order=order, account=account
    )


def _fen(amount: Any, currency: str) -> Payable:
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
        raise invalid_notice_error(_PROVIDER, "an amount is not a whole number of fen")
    return Payable(amount, currency)


def _time(text: Any) -> datetime:
    try:
        return parse_instant(text)
    except (BillingError, TypeError):
        raise invalid_notice_error(_PROVIDER, "success_time is not a time") from None
