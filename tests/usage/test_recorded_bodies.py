"""Recorded responses of many providers, each compared with an oracle."""

from __future__ import annotations

import json

import pytest

import usage_oracle
from body_builders import as_namespaces, as_sdk_objects
from brivionix_billing import Usage
from brivionix_billing.usage import billable_body
from recorded_bodies import ALL, NOTED, REAL, Json

COSTS = ("usage.cost", "usage.pydantic_ai_gateway.cost_estimate", "usageMetadata.pydantic_ai_gateway.cost_estimate")
"""Paths of an upstream's own price, which is no quantity."""


def check(number: int, body: Json) -> None:
    """Compare a recorded body with the oracle."""
    usage, expected = Usage.from_response(body), usage_oracle.read(body)
    noted = NOTED.get(number, {})
    others = [(path, value) for path, value in usage.unaccounted if not path.startswith(COSTS)]
    fetched = [entry for entry in others if not entry[0].endswith("web_fetch_requests")]
    assert tuple(fetched) == noted.get("unaccounted", ())
    parts = {model: (part.input_tokens, part.output_tokens) for model, part in usage.parts}
    assert parts == noted.get("parts", {})
    assert usage.meters == expected.meters
    assert (usage.total_tokens, usage.reasoning_tokens) == (expected.tokens, expected.reasoning)
    assert expected.total in (None, usage.total_tokens) or "usage.total_tokens" in dict(usage.unaccounted)
    assert (usage.service_tier, usage.model) == (expected.tier, expected.model)
    for variant in (
        as_sdk_objects(body),
        as_namespaces(body),
        billable_body(body),
        billable_body(as_sdk_objects(body)),
    ):
        assert Usage.from_response(variant) == usage


@pytest.mark.parametrize("line", REAL, ids=lambda line: line["n"])
def test_recorded_responses_are_read_like_the_oracle(line: Json) -> None:
    """A recorded response is read as the oracle reads it, and a count without a known price is listed."""
    check(line["n"], line["body"])


def test_all_789_recorded_responses_are_read() -> None:
    """All 789 recorded responses are read as the oracle reads them."""
    if not ALL.exists():
        pytest.skip(f"the full set of recorded responses is missing ({ALL.name} in a folder next to the repository)")
    lines = [json.loads(line) for line in ALL.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        check(line["n"], line["body"])
    assert len(lines) == 789
    body_by_number = {line["n"]: line["body"] for line in lines}
    assert all(body_by_number[line["n"]] == line["body"] for line in REAL)


def test_the_sample_has_every_format() -> None:
    """The sample contains every set of keys that the oracle distinguishes, and the special keys of each provider."""
    keys = {key for line in REAL for key in json.dumps(line["body"]).split('"')}
    assert keys >= {"num_cached_tokens", "prompt_cache_miss_tokens", "queue_time", "cost_details", "billed_units"}
    assert keys >= {"iterations", "thinking_tokens", "toolUsePromptTokenCount", "VIDEO", "DOCUMENT", "cacheDetails"}
    assert {line["n"] for line in REAL} >= set(NOTED)
