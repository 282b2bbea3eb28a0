"""Payment notices of Stripe, WeChat Pay and Alipay, and bank transfers, matched to orders and posted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from brivionix_billing import BillingError, Payable
from brivionix_billing.ledger import Entry, Ledger
from brivionix_billing.ledger.notices import Notice, alipay_notice, bank_transfer, stripe_notice, wechat_notice
from brivionix_billing.ledger.notices.stripe_events import convert_event
from ledger_kit import NOW, available, got, later, quote, refused

KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
API_V3 = b"0123456789abcdef0123456789abcdef"
BEFORE = "2026-11-01T20:00:10+08:00"
"""Ten seconds after ``NOW``, in Beijing."""


def sign(message: bytes) -> str:
    return base64.b64encode(KEY.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()


@pytest.fixture
def ordered(ledger: Ledger) -> Iterator[Ledger]:
    """A ledger with an order of each channel: 100 Credits for 12.00 USD and 2.40 tax, and for 85 CNY."""
    tax = Payable(240, "USD")
    ledger.create_order("acct", quote("12", "stripe"), id="o_usd", at=NOW, expires=later(3600), tax=tax)
    ledger.create_order("acct", quote("85"), id="o_cny", at=NOW, expires=later(3600))
    yield ledger
    assert ledger.verify() == []


# --- Stripe ---


def event(kind: str, body: dict[str, Any], id: str = "evt_1", seconds: int = 10) -> dict[str, Any]:
    return {"id": id, "type": kind, "created": int(later(seconds).timestamp()), "data": {"object": body}}


def session(**changes: Any) -> dict[str, Any]:
    """Build a session of Checkout, as in Stripe's API reference."""
    return {
        "id": "cs_1",
        "object": "checkout.session",
        "amount_subtotal": 1_200,
        "amount_total": 1_440,
        "currency": "usd",
        "client_reference_id": "o_usd",
        "payment_intent": "pi_1",
        "payment_status": "paid",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 240},
        "metadata": {},
        **changes,
    }


def intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1_440,
        "amount_received": 1_440,
        "currency": "usd",
        "metadata": {"order": "o_usd"},
        "status": "succeeded",
        **changes,
    }


def post(ledger: Ledger, body: dict[str, Any], seconds: float = 20) -> Entry | None:
    return ledger.post_notice(convert_event(body, "stripe"), at=later(seconds))


def posted(ledger: Ledger, body: dict[str, Any], seconds: float = 20) -> Entry:
    entry = post(ledger, body, seconds)
    assert entry is not None
    return entry


def test_checkout_and_payment_intent_credit_a_payment_once(ordered: Ledger) -> None:
    """Two events of one payment, in any order and repeated, credit it once, with the tax of Checkout."""
    first = posted(ordered, event("checkout.session.completed", session()))
    assert got(first.credits, first.content["tax"], first.content["order"]) == (100, "2.40", "o_usd")
    for again in (event("payment_intent.succeeded", intent(), "evt_2"), event("checkout.session.completed", session())):
        assert posted(ordered, again).repeated
    assert available(ordered) == 200


def test_a_delayed_payment_is_pending_until_it_succeeds(ordered: Ledger) -> None:
    """CASES 51: Checkout completed without money posts nothing; the money, days later, is late if it came late."""
    assert post(ordered, event("checkout.session.completed", session(payment_status="unpaid"))) is None
    assert post(ordered, event("payment_intent.processing", intent())) is None
    assert ordered.order("o_usd", at=later(20)).state == "open"
    done = event("checkout.session.async_payment_succeeded", session(), seconds=3_000)
    assert got(posted(ordered, done, 90_000).credits, ordered.order("o_usd", at=NOW).state) == (100, "paid")


def test_a_notice_before_its_order_is_delivered_again(ledger: Ledger) -> None:
    """A notice that arrives before its order raises ``unknown_order``, so that the provider sends it again."""
    with refused("unknown_order"):
        post(ledger, event("payment_intent.succeeded", intent()))
    ledger.create_order("acct", quote("14.40", "stripe"), id="o_usd", at=NOW, expires=later(60))
    assert posted(ledger, event("payment_intent.succeeded", intent())).credits == 120


def test_a_discount_of_checkout_is_a_coupon(ordered: Ledger) -> None:
    """A discount of 2.00 lowers the payment, and the customer gets the Credits of the full price."""
    details = {"amount_discount": 200, "amount_tax": 200}
    paid = session(amount_total=1_200, total_details=details, payment_intent={"id": "pi_9", "object": "payment_intent"})
    entry = posted(ordered, event("checkout.session.completed", paid))
    assert got(entry.credits, entry.content["paid"], entry.content["coupon"]) == (100, "10.00", "2.00")
    assert ordered.payment("stripe", "pi_9").id == entry.id


def test_an_intent_of_nobody_is_ignored(ordered: Ledger) -> None:
    """The PaymentIntent of a Checkout session without metadata is ignored; one with an account needs no order."""
    assert post(ordered, event("payment_intent.succeeded", intent(metadata={}))) is None
    assert post(ordered, event("customer.created", {"id": "cus_1"})) is None
    assert post(ordered, event("checkout.session.completed", session(payment_status="no_payment_required"))) is None
    tax = {"tax": {"total_tax_amount": 240}}
    free = intent(metadata={"account": "acct"}, amount_details=tax, id="pi_3")
    assert posted(ordered, event("payment_intent.succeeded", free)).credits == 100


def test_refunds_and_disputes_of_stripe(ordered: Ledger) -> None:
    """A refund in the dashboard, its failure, a dispute and its win are posted once each, with tax."""
    posted(ordered, event("payment_intent.succeeded", intent()))
    refund = {"id": "re_1", "amount": 144, "currency": "usd", "payment_intent": "pi_1", "status": "pending"}
    assert post(ordered, event("refund.created", refund)) is None
    done = event("refund.updated", {**refund, "status": "succeeded"})
    assert got(posted(ordered, done).refund_amount, available(ordered)) == (Payable(144, "USD"), 190)
    assert posted(ordered, done).repeated
    failed = event("refund.failed", {**refund, "status": "failed"})
    assert got(posted(ordered, failed).kind, available(ordered)) == ("reverse", 200)
    dispute = {"id": "du_1", "amount": 1_440, "currency": "usd", "charge": "ch_1", "payment_intent": "pi_1"}
    posted(ordered, event("charge.dispute.funds_withdrawn", dispute))
    assert available(ordered) == 100
    posted(ordered, event("charge.dispute.funds_reinstated", dispute))
    assert available(ordered) == 200
    assert post(ordered, event("refund.failed", {**refund, "id": "re_0", "status": "failed"})) is None


def test_a_refund_of_the_ledger_is_not_posted_again(ordered: Ledger) -> None:
    """A refund that the ledger posted before it was paid is recognised by its operation, and reversed if it fails."""
    lot = posted(ordered, event("payment_intent.succeeded", intent())).id
    ordered.refund("acct", lot, id="refund-1", at=later(30), credits="10")
    body = {"id": "re_1", "amount": 144, "currency": "usd", "payment_intent": "pi_1", "status": "succeeded"}
    body["metadata"] = {"operation": "refund-1"}
    assert posted(ordered, event("refund.created", body)).repeated
    assert available(ordered) == 190
    posted(ordered, event("refund.failed", {**body, "status": "failed"}))
    assert available(ordered) == 200


def test_a_refund_before_its_payment_is_delivered_again(ordered: Ledger) -> None:
    """A refund of a payment that is not credited yet raises ``unknown_payment``."""
    body = {"id": "re_1", "amount": 144, "currency": "usd", "payment_intent": "pi_1", "status": "succeeded"}
    with refused("unknown_payment"):
        post(ordered, event("refund.created", body))


@pytest.mark.parametrize("broken", [{}, {"type": 1}, {"created": "x"}, {"data": {"object": 1}}, {"id": None}, []])
def test_a_malformed_event_is_an_error(broken: Any) -> None:
    """An event of another format raises ``invalid_notice``, and nothing else."""
    with refused("invalid_notice"):
        convert_event({**event("payment_intent.succeeded", intent()), **broken} if broken else broken, "stripe")
    for wrong in ({"id": None}, {"metadata": {"order": 7}}):
        with refused("invalid_notice"):
            convert_event(event("payment_intent.succeeded", intent(**wrong)), "stripe")


def test_stripes_library_verifies_the_signature() -> None:
    """A signed event is read; another body, another secret and an old signature are refused."""
    pytest.importorskip("stripe")
    body = json.dumps(event("payment_intent.succeeded", intent())).encode()

    def header(text: bytes, at: float) -> str:
        signed = hmac.new(b"whsec_1", f"{int(at)}.".encode() + text, hashlib.sha256).hexdigest()
        return f"t={int(at)},v1={signed}"

    assert stripe_notice(body, header(body, time.time()), "whsec_1").reference == "pi_1"
    for text, signature, secret in (
        (body + b" ", header(body, time.time()), "whsec_1"),
        (body, header(body, time.time()), "whsec_2"),
        (body, header(body, time.time() - 400), "whsec_1"),
        (body, "", "whsec_1"),
        (b"[1", header(b"[1", time.time()), "whsec_1"),
    ):
        with refused("invalid_notice"):
            stripe_notice(text, signature, secret)


def test_without_stripes_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, the error names the extra to install; a notice is never read unverified."""
    monkeypatch.setitem(sys.modules, "stripe", None)
    with pytest.raises(BillingError, match=r"pip install 'brivionix-billing\[payments\]'") as caught:
        stripe_notice(b"{}", "t=1", "whsec_1")
    assert caught.value.code == "missing_extra"


# --- WeChat Pay ---


def transaction(**changes: Any) -> dict[str, Any]:
    """Build a transaction, as in WeChat Pay's documentation."""
    return {
        "mchid": "1900000109",
        "out_trade_no": "o_cny",
        "transaction_id": "4200000001",
        "trade_state": "SUCCESS",
        "success_time": BEFORE,
        "amount": {"total": 8_500, "payer_total": 8_500, "currency": "CNY", "payer_currency": "CNY"},
        **changes,
    }


def wechat(resource: dict[str, Any], *, sent: datetime = NOW, **changes: Any) -> Notice:
    """Encrypt and sign a notice, and convert it."""
    nonce, extra = "fdasflkja484", "transaction"
    secret = AESGCM(API_V3).encrypt(nonce.encode(), json.dumps(resource).encode(), extra.encode())
    body = json.dumps(
        {
            "id": "EV-1",
            "event_type": "TRANSACTION.SUCCESS",
            "resource": {
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": base64.b64encode(secret).decode(),
                "nonce": nonce,
                "associated_data": extra,
            },
        }
    ).encode()
    timestamp = str(int(sent.timestamp()))
    headers = {
        "Wechatpay-Timestamp": timestamp,
        "Wechatpay-Nonce": "593BEC0C930BF1AFEB40B4A08C8FB242",
        "Wechatpay-Signature": sign(f"{timestamp}\n593BEC0C930BF1AFEB40B4A08C8FB242\n{body.decode()}\n".encode()),
        "Wechatpay-Serial": "PUB_KEY_ID_1",
        **changes.pop("headers", {}),
    }
    given = {"public_keys": {"PUB_KEY_ID_1": PUBLIC}, "api_v3_key": API_V3, "merchant": "1900000109", "at": NOW}
    return wechat_notice(body, headers, channel="rmb", **{**given, **changes})


def test_a_payment_by_wechat_pays_its_order(ordered: Ledger) -> None:
    """A payment of 85 CNY pays the order; a coupon of the merchant is a coupon, one of WeChat Pay is not."""
    entry = ordered.post_notice(wechat(transaction()), at=later(20))
    assert entry is not None
    assert got(entry.credits, ordered.order("o_cny", at=NOW).state) == (100, "paid")
    coupons = [{"coupon_id": "1", "amount": 500, "type": "NOCASH"}, {"coupon_id": "2", "amount": 300, "type": "CASH"}]
    other = transaction(transaction_id="42-2", promotion_detail=coupons)
    entry = ordered.post_notice(wechat(other), at=later(20))
    assert entry is not None
    assert got(entry.credits, entry.content["gross"], entry.content["coupon"]) == (100, "80.00", "5.00")


def test_refunds_by_wechat(ordered: Ledger) -> None:
    """A successful refund is posted once; a closed one posts nothing; an unpaid transaction is pending."""
    ordered.post_notice(wechat(transaction()), at=later(20))
    refund = {
        "mchid": "1900000109",
        "out_trade_no": "o_cny",
        "transaction_id": "4200000001",
        "out_refund_no": "refund-9",
        "refund_id": "50200207182018070300011301001",
        "refund_status": "SUCCESS",
        "success_time": BEFORE,
        "amount": {"total": 8_500, "refund": 1_700, "payer_total": 8_500, "payer_refund": 1_700},
    }
    for _ in range(2):
        ordered.post_notice(wechat(refund), at=later(30))
        assert available(ordered) == 180
    closed = {**refund, "refund_id": "5", "refund_status": "CLOSED"}
    assert ordered.post_notice(wechat(closed), at=later(30)) is None
    assert ordered.post_notice(wechat(transaction(trade_state="NOTPAY")), at=later(30)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {"Wechatpay-Nonce": "other"}},
        {"headers": {"Wechatpay-Signature": "AAAA"}},
        {"headers": {"Wechatpay-Serial": "other"}},
        {"headers": {"Wechatpay-Timestamp": "1"}},
        {"api_v3_key": b"f" * 32},
        {"api_v3_key": b"short"},
        {"merchant": "1"},
        {"at": later(301)},
    ],
)
def test_a_forged_notice_of_wechat_is_refused(change: dict[str, Any]) -> None:
    """Another nonce, signature, key, merchant or time raises ``invalid_notice``."""
    with refused("invalid_notice"):
        wechat(transaction(), **change)


@pytest.mark.parametrize(
    "change", [{"amount": {}}, {"amount": {"total": "1"}}, {"success_time": 3}, {"transaction_id": None}]
)
def test_a_malformed_transaction_of_wechat_is_refused(change: dict[str, Any]) -> None:
    """A transaction without amount, time or id raises ``invalid_notice``."""
    with refused("invalid_notice"):
        wechat(transaction(**change))


# --- Alipay ---


def alipay(changes: dict[str, str] | None = None, **after_signing: str) -> Notice:
    """Sign a form, as in Alipay's documentation, and convert it."""
    form = {
        "notify_id": "2026110100222",
        "notify_type": "trade_status_sync",
        "app_id": "2021001",
        "charset": "utf-8",
        "out_trade_no": "o_cny",
        "trade_no": "2026110122001",
        "trade_status": "TRADE_SUCCESS",
        "subject": "100 点数",
        "total_amount": "85.00",
        "receipt_amount": "85.00",
        "buyer_pay_amount": "80.00",
        "gmt_payment": "2026-11-01 20:00:10",
        **(changes or {}),
    }
    form |= {"sign": sign("&".join(f"{name}={form[name]}" for name in sorted(form)).encode()), "sign_type": "RSA2"}
    return alipay_notice({**form, **after_signing}, public_key=PUBLIC.decode(), app_id="2021001", channel="rmb")


def test_a_payment_by_alipay_pays_its_order(ordered: Ledger) -> None:
    """A payment pays the order at its time in Beijing; TRADE_FINISHED later repeats it; a discount is a coupon."""
    notice = alipay()
    assert notice.payment is not None
    assert notice.payment.at == later(10)
    entry = ordered.post_notice(notice, at=later(20))
    assert entry is not None
    assert got(entry.credits, entry.content["gross"]) == (100, "85.00")
    again = ordered.post_notice(alipay({"trade_status": "TRADE_FINISHED"}), at=later(30))
    assert again is not None
    assert again.repeated
    coupon = ordered.post_notice(alipay({"trade_no": "2", "receipt_amount": "68.00"}), at=later(30))
    assert coupon is not None
    assert got(coupon.credits, coupon.content["coupon"]) == (100, "17.00")
    assert ordered.post_notice(alipay({"trade_status": "WAIT_BUYER_PAY"}), at=later(30)) is None


def test_refunds_by_alipay_state_their_sum(ordered: Ledger) -> None:
    """Alipay states the sum of all refunds: the second notice posts the difference, and a repeated one nothing."""
    ordered.post_notice(alipay(), at=later(20))
    for number, total, left in (("r1", "8.50", 190), ("r1", "8.50", 190), ("r2", "25.50", 170), ("r1", "8.50", 170)):
        refund = {"refund_fee": total, "out_biz_no": number, "gmt_refund": "2026-11-01 20:01:00"}
        ordered.post_notice(alipay(refund), at=later(60))
        assert available(ordered) == left


def test_a_forged_notice_of_alipay_is_refused() -> None:
    """A changed amount, another signature method, another app and a malformed amount raise ``invalid_notice``."""
    for changes, after in (
        ({}, {"total_amount": "8500.00"}),
        ({}, {"sign_type": "RSA"}),
        ({}, {"sign": "!"}),
        ({"app_id": "1"}, {}),
        ({"receipt_amount": "1e3"}, {}),
        ({"receipt_amount": "0.001"}, {}),
        ({"gmt_payment": "yesterday"}, {}),
        ({"trade_no": ""}, {}),
    ):
        with pytest.raises(BillingError) as caught:
            alipay(changes, **after)
        assert caught.value.code == "invalid_notice", changes


# --- bank transfers ---


def test_a_bank_transfer_pays_a_part_of_its_order(ordered: Ledger) -> None:
    """A transfer of half of the amount credits half of the Credits, and the second half pays the order."""
    for reference, state in (("t1", "partial"), ("t2", "paid")):
        transfer = bank_transfer(reference, Payable("42.50", "CNY"), at=later(9), channel="rmb", order="o_cny")
        entry = ordered.post_notice(transfer, at=datetime(2026, 11, 3, tzinfo=UTC))
        assert entry is not None
        assert got(entry.credits, ordered.order("o_cny", at=NOW).state) == (50, state)


def test_a_payment_of_nobody_is_an_error(ordered: Ledger) -> None:
    """A transfer with neither order nor account is an error that names it; with an account, it is credited."""
    transfer = bank_transfer("t1", Payable("42.50", "CNY"), at=NOW, channel="rmb")
    with pytest.raises(BillingError, match="payment 't1' names neither an order nor an account"):
        ordered.post_notice(transfer, at=NOW)
    known = bank_transfer("t1", Payable("42.50", "CNY"), at=NOW, channel="rmb", account="acct")
    entry = ordered.post_notice(known, at=NOW)
    assert entry is not None
    assert entry.credits == 50
