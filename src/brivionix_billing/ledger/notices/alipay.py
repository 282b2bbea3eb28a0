"""Asynchronous notices of Alipay.

Format: https://opendocs.alipay.com, notices of ``alipay.trade.page.pay``. The form is signed with Alipay's RSA key
(RSA2). Times are those of Beijing, and amounts are in yuan.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from brivionix_billing.decimals import format_plain, parse_plain_decimal
from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.notices.notice import Notice, invalid_notice_error, optional_text, require_key
from brivionix_billing.ledger.notices.signatures import verify_rsa_sha256
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.money import Payable

__all__ = ["alipay_notice"]

_PROVIDER: Final = "Alipay"
_CURRENCY: Final = "CNY"


def alipay_notice(form: Mapping[str, str], *, public_key: bytes | str, app_id: str, channel: str = "alipay") -> Notice:
    """Verify a notice of Alipay, and convert it.

    ``form`` has the decoded fields of the form, ``public_key`` is Alipay's in PEM format, and ``app_id`` yours. The
    order is ``out_trade_no``, and the account ``passback_params``. A refund states the sum of all refunds.

    Raises ``invalid_notice``, ``invalid_argument``, ``missing_extra``.
    """
    if form.get("sign_type") != "RSA2":
        raise invalid_notice_error(_PROVIDER, "sign_type is not RSA2; set it in the console of Alipay")
    # Alipay sends no empty fields, and its own libraries sign none.
    signed = {name: value for name, value in form.items() if value and name not in ("sign", "sign_type")}
    message = "&".join(f"{name}={signed[name]}" for name in sorted(signed))
    verify_rsa_sha256(_PROVIDER, public_key, require_key(_PROVIDER, form, "sign"), message.encode())
    if form.get("app_id") != app_id:
        raise invalid_notice_error(_PROVIDER, "it belongs to another app_id")
    return _convert(form, channel)


def _convert(form: Mapping[str, str], channel: str) -> Notice:
    reference, status = require_key(_PROVIDER, form, "trade_no"), form.get("trade_status")
    id = require_key(_PROVIDER, form, "notify_id")
    order = optional_text(_PROVIDER, form.get("out_trade_no"))
    account = optional_text(_PROVIDER, form.get("passback_params"))
    if form.get("refund_fee"):
        amount = _yuan(form, "refund_fee")
        operation = optional_text(_PROVIDER, form.get("out_biz_no"))
        return Notice(
            id=f"{reference}/{operation or form.get('gmt_refund') or id}",
            kind="refund",
            channel=channel,
            reference=reference,
            amount=amount,
            is_total=True,
            order=order,
            operation=operation,
        )
    if status not in ("TRADE_SUCCESS", "TRADE_FINISHED"):
        kind = "pending" if status == "WAIT_BUYER_PAY" else "ignored"
        return Notice(id=id, kind=kind, channel=channel, reference=reference, order=order, account=account)
    total = _yuan(form, "total_amount")
    # The difference is a discount of the merchant. What Alipay pays for the buyer is part of the receipt.
    gross = _yuan(form, "receipt_amount") if form.get("receipt_amount") else total
    payment = ReceivedPayment(
        channel=channel,
        reference=reference,
        gross=gross,
        coupon=Payable(total.minor - gross.minor, _CURRENCY) if total.minor > gross.minor else None,
        at=_time(form, "gmt_payment"),
    )
    return Notice(
        id=id, kind="payment", channel=channel, reference=reference, payment=payment, order=order, account=account
    )


def _yuan(form: Mapping[str, str], name: str) -> Payable:
    try:
        return Payable(format_plain(parse_plain_decimal(str(require_key(_PROVIDER, form, name)))), _CURRENCY)
    except BillingError as error:
        raise invalid_notice_error(_PROVIDER, f"{name}: {error.message}") from None


def _time(form: Mapping[str, str], name: str) -> datetime:
    try:
        at = datetime.strptime(f"{require_key(_PROVIDER, form, name)} +0800", "%Y-%m-%d %H:%M:%S %z")  # Beijing
        return at.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise invalid_notice_error(_PROVIDER, f"{name} is not a time of the form 2026-10-01 08:00:00") from None
