"""Real responses of many providers, each held against an oracle."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

import usage_oracle
from body_builders import sdk, spaced
from brivionix_billing import BillingError, Usage
from brivionix_billing.usage import billable_body
from recorded_bodies import ALL, REAL, REFUSED, Json
from samples import code_of


def refused(body: Any) -> tuple[str, str]:
    """Code and words of the refusal."""
    with pytest.raises(BillingError) as caught:
        Usage.from_response(body)
    return code_of(caught), str(caught.value)


def held(number: int, body: Json) -> str:
    """Hold a real body against the oracle; what became of it."""
    if number in REFUSED:
        code, words = REFUSED[number]
        told = refused(body)
        assert told[0] == code
        assert words in told[1]
        assert refused(billable_body(body)) == told
        return code
    usage, told_by_oracle = Usage.from_response(body), usage_oracle.read(body)
    assert usage.meters == told_by_oracle.meters
    assert (usage.total_tokens, usage.reasoning_tokens) == (told_by_oracle.tokens, told_by_oracle.reasoning)
    assert told_by_oracle.total in (None, usage.total_tokens)
    assert (usage.service_tier, usage.model) == (told_by_oracle.tier, told_by_oracle.model)
    for again in (sdk(body), spaced(body), billable_body(body), billable_body(sdk(body))):
        assert Usage.from_response(again) == usage
    return "read"


@pytest.mark.parametrize("line", REAL, ids=lambda line: line["n"])
def test_real_responses_are_read_or_refused_by_name(line: Json) -> None:
    """A response that a provider sent is read as the oracle reads it, or refused for a count nobody can price."""
    held(line["n"], line["body"])


def test_all_789_real_responses() -> None:
    """Of 789 real responses 785 are read, each as the oracle reads it, and 4 are refused for reasons that are named."""
    if not ALL.exists():
        pytest.skip(f"the full set of real responses is not there ({ALL.name} in a folder beside the repository)")
    lines = [json.loads(line) for line in ALL.read_text(encoding="utf-8").splitlines()]
    tally = Counter(held(line["n"], line["body"]) for line in lines)
    assert tally == {"read": 785, "unknown_usage_key": 3, "usage_contradiction": 1}
    numbers = {line["n"]: line["body"] for line in lines}
    assert all(numbers[line["n"]] == line["body"] for line in REAL)


def test_the_sample_has_every_shape() -> None:
    """The real responses kept here have every set of keys that the oracle tells apart, and each provider's own keys."""
    keys = {key for line in REAL for key in json.dumps(line["body"]).split('"')}
    assert keys >= {"num_cached_tokens", "prompt_cache_miss_tokens", "queue_time", "cost_details", "billed_units"}
    assert keys >= {"iterations", "thinking_tokens", "toolUsePromptTokenCount", "VIDEO", "DOCUMENT", "cacheDetails"}
    assert {line["n"] for line in REAL} >= set(REFUSED)
