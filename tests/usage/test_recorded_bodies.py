"""Recorded responses of many providers, each compared with an oracle."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

import usage_oracle
from body_builders import as_namespaces, as_sdk_objects
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import billable_body
from recorded_bodies import ALL, REAL, REFUSED, Json
from samples import code_of


def rejection(body: Any) -> tuple[str, str]:
    """Return code and message of the error."""
    with pytest.raises(BillingError) as caught:
        Usage.from_response(body)
    return code_of(caught), str(caught.value)


def check(number: int, body: Json) -> str:
    """Compare a recorded body with the oracle. Returns ``read`` or the error code."""
    if number in REFUSED:
        code, excerpt = REFUSED[number]
        error = rejection(body)
        assert error[0] == code
        assert excerpt in error[1]
        assert rejection(billable_body(body)) == error
        return code
    usage, expected = Usage.from_response(body), usage_oracle.read(body)
    assert usage.meters == expected.meters
    assert (usage.total_tokens, usage.reasoning_tokens) == (expected.tokens, expected.reasoning)
    assert expected.total in (None, usage.total_tokens)
    assert (usage.service_tier, usage.model) == (expected.tier, expected.model)
    for variant in (
        as_sdk_objects(body),
        as_namespaces(body),
        billable_body(body),
        billable_body(as_sdk_objects(body)),
    ):
        assert Usage.from_response(variant) == usage
    return "read"


@pytest.mark.parametrize("line", REAL, ids=lambda line: line["n"])
def test_recorded_responses_are_read_like_the_oracle(line: Json) -> None:
    """A recorded response is read as the oracle reads it, or rejected for a count without a known price."""
    check(line["n"], line["body"])


def test_all_789_recorded_responses_are_read_or_rejected() -> None:
    """Of 789 recorded responses, 785 are read as the oracle reads them, and 4 are rejected with known reasons."""
    if not ALL.exists():
        pytest.skip(f"the full set of recorded responses is missing ({ALL.name} in a folder next to the repository)")
    lines = [json.loads(line) for line in ALL.read_text(encoding="utf-8").splitlines()]
    tally = Counter(check(line["n"], line["body"]) for line in lines)
    assert tally == {"read": 785, "unknown_usage_key": 3, "usage_contradiction": 1}
    body_by_number = {line["n"]: line["body"] for line in lines}
    assert all(body_by_number[line["n"]] == line["body"] for line in REAL)


def test_the_sample_has_every_format() -> None:
    """The sample contains every set of keys that the oracle distinguishes, and the special keys of each provider."""
    keys = {key for line in REAL for key in json.dumps(line["body"]).split('"')}
    assert keys >= {"num_cached_tokens", "prompt_cache_miss_tokens", "queue_time", "cost_details", "billed_units"}
    assert keys >= {"iterations", "thinking_tokens", "toolUsePromptTokenCount", "VIDEO", "DOCUMENT", "cacheDetails"}
    assert {line["n"] for line in REAL} >= set(REFUSED)
