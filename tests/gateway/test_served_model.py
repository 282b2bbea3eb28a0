"""Answers of another model than the requested one."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from fractions import Fraction

import pytest

from brivionix_billing import BillingError, Usage
from brivionix_billing.gateway import GatewayPolicy
from exchange_kit import AT, BOOK, CHAT, Answer, Flow, run

USAGE = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}


def answer(model: str) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": "word " * 900}, "finish_reason": "stop"}
    return Answer([json.dumps({"model": model, "choices": [choice], "usage": USAGE}).encode()])


def charged(policy: GatewayPolicy, served: str, requested: str = "gpt-5.4-mini") -> tuple[Flow, Decimal]:
    flow, _ = run(policy, lambda flow: flow.forward({**CHAT, "model": requested}, answer(served)))
    return flow, flow.settled()[1]


def price(input_price: str, output_price: str) -> Fraction:
    """Return the Credits of the usage: one Credit is one US dollar of list prices per million tokens."""
    return (1000 * Fraction(input_price) + 1000 * Fraction(output_price)) / 10**6


@pytest.mark.parametrize("policy", [GatewayPolicy(), GatewayPolicy(other_model="higher")])
@pytest.mark.parametrize("served", ["gpt-5.4-mini", "gpt-5.4-mini-2026-03-17", "some-deployment"])
def test_a_name_of_the_requested_model_is_no_other_model(
    policy: GatewayPolicy, served: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A snapshot, and a name that the price file does not have, cost the requested model, without a warning."""
    with caplog.at_level(logging.WARNING, "brivionix_billing.gateway"):
        _, credits = charged(policy, served)
    assert credits == price("0.75", "4.5")
    assert not [record for record in caplog.records if "was served" in record.message]


@pytest.mark.parametrize(
    ("policy", "served", "expected"),
    [
        (GatewayPolicy(), "gpt-5.5", price("0.75", "4.5")),
        (GatewayPolicy(other_model="higher"), "gpt-5.5", price("5", "30")),
        (GatewayPolicy(other_model="higher"), "gpt-5.4", price("2.5", "15")),
    ],
)
def test_the_policy_decides_what_another_model_costs(
    policy: GatewayPolicy, served: str, expected: Fraction, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with both names, and a bill of the journal has the same charge."""
    with caplog.at_level(logging.WARNING, "brivionix_billing.gateway"):
        flow, credits = charged(policy, served)
    assert credits == expected
    assert any(f"gpt-5.4-mini was requested, and {served} was served" in record.message for record in caplog.records)
    (record,) = flow.ledger.records("acct", "2026-11")
    usage = Usage.from_response(record["usage"])
    assert BOOK.rate(usage, model=record["model"], group=record["group"], at=AT).credits == credits


def test_a_cheaper_model_costs_no_less_than_the_requested_one() -> None:
    """With ``higher``, a model that the provider served in place of a more expensive one costs the requested one."""
    _, credits = charged(GatewayPolicy(other_model="higher"), "gpt-5.4-mini", "gpt-5.5")
    assert credits == price("5", "30")


def test_an_unknown_policy_is_an_error() -> None:
    """A misspelled policy does not become the default."""
    with pytest.raises(BillingError, match="other_model"):
        GatewayPolicy(other_model="highest")  # type: ignore[arg-type]  # on purpose
