"""How a gateway applies limits by window: the status of a refusal, and the share of a hold that limits count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.gateway import GatewayPolicy, from_billing_error
from brivionix_billing.gateway.observed_shares import ObservedShares
from brivionix_billing.ledger import LimitReachedError

NOW = datetime(2026, 11, 1, tzinfo=UTC)
UNIT = 10**18


def observe(shares: ObservedShares, credits: int, tokens: int = 0, model: str = "a") -> None:
    """Record a request that used some of 1000 units and some of 1000 tokens."""
    most: Any = SimpleNamespace(charge=SimpleNamespace(units=1000), input_tokens=400, output_tokens=600)
    used: Any = SimpleNamespace(units=credits, usage=SimpleNamespace(input_tokens=tokens, output_tokens=0))
    shares.observe("acct", model, most, used)


def test_a_quantile_of_the_last_200_requests_is_expected() -> None:
    """With fewer than 20 requests of the account and model, the worst case is expected."""
    shares = ObservedShares(Decimal("0.95"))
    for used in range(1, 20):
        observe(shares, used)
    assert shares.expected("acct", "a") == 1
    observe(shares, 20)
    assert shares.expected("acct", "a") == Decimal("0.019")  # the 19th of 20
    assert shares.expected("acct", "b") == shares.expected("other", "a") == 1
    for _ in range(200):
        observe(shares, 2, tokens=100)
    assert shares.expected("acct", "a") == Decimal("0.1")  # the larger share, and only the last 200
    for _ in range(200):
        observe(shares, 5000)
    assert shares.expected("acct", "a") == 1
    for _ in range(200):
        observe(shares, 0)
    assert shares.expected("acct", "a") == Decimal("0.001")


def test_the_status_of_a_limit_is_that_of_the_policy() -> None:
    """429 has Retry-After, 402 has not; a limit below the request is always 402."""
    error = LimitReachedError("daily", "credits", 2 * UNIT, UNIT, 2 * UNIT, NOW + timedelta(seconds=90.5), now=NOW)
    retry, pay = from_billing_error(error), from_billing_error(error, 402)
    assert (retry.status, retry.headers["retry-after"]) == (429, "91")
    assert (pay.status, "retry-after" in pay.headers) == (402, False)
    never = LimitReachedError("daily", "credits", UNIT, 0, 2 * UNIT, None, now=NOW)
    assert from_billing_error(never).status == 402


@pytest.mark.parametrize(
    "wrong", [{"limit_status": 500}, {"expected_quantile": Decimal(0)}, {"expected_quantile": 0.9}]
)
def test_a_wrong_policy_is_refused(wrong: dict[str, Any]) -> None:
    """A status other than 429 and 402, and a quantile outside 0 to 1, are errors."""
    with pytest.raises(BillingError, match=next(iter(wrong))):
        GatewayPolicy(**wrong)
