"""A bill with every section, for tests of its page."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bill_kit import billed, record, written
from brivionix_billing.invoice import key_id
from brivionix_billing.invoice.header import Balance
from brivionix_billing.times import Period

__all__ = ["FULL", "GUESSED", "Json", "KEY", "MARKUP", "ROWS", "full"]

Json = dict[str, Any]


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


ROWS = [
    record(n, group=group, model=model)
    for n, (group, model) in enumerate(
        [("default", "alpha"), ("half", "alpha"), ("own", "beta"), ("free", "beta")] * 9, 1
    )
]


GUESSED = record(90, usage={"prompt_tokens": 5, "completion_tokens": 5, "estimated": True})


MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp; {{7*7}} $& $1"


FULL: Json = {
    "issuer": "北京网关 GmbH & Co",
    "issuer_tax_number": "DE 123",
    "issuer_details": ["1 Example Road", MARKUP],
    "customer": MARKUP,
    "customer_tax_number": "<b>9</b>",
    "customer_details": ["c/o 客户"],
    "channel": "rmb",
}


def full(key: Any = KEY, **changes: Any) -> Json:
    """Return a bill with every section, in the time zone of Shanghai."""
    period = Period.parse("2026-10", "Asia/Shanghai")
    usage = written([*ROWS, GUESSED])
    plain = billed(usage, period=period)
    used = Decimal(plain["totals"]["credits"])
    balance = Balance("12.5", [(MARKUP, "50"), ("Refund", "-0.25")], format(Decimal("62.25") - used, "f"))
    return billed(
        usage,
        key=key,
        period=period,
        issued=period.end,
        balance=balance,
        signing_key=None if key is None else key_id(key.public_key()),
        **{**FULL, **changes},
    )
