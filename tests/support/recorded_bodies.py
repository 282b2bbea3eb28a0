"""Response bodies recorded from providers."""

from __future__ import annotations

import json
from typing import Any

from paths import DATA, SHARED_DATA

__all__ = ["ALL", "Json", "REAL", "REFUSED", "SAMPLE"]

Json = dict[str, Any]

SAMPLE = DATA / "provider_responses.jsonl"
"""The file of the sample that belongs to the tests."""
ALL = SHARED_DATA / "provider_responses.jsonl"
"""The file of all recordings, which may be missing."""
REAL = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
"""The bodies of the sample, each with its number ``n`` among all recordings."""
REFUSED = {
    176: ("unknown_usage_key", "tool_calls_executed is 1, of which 0 are web searches"),
    204: ("unknown_usage_key", "'advisor_message' by 'claude-opus-4-8' with 2518 input and 22 output"),
    250: ("unknown_usage_key", "'advisor_message' by 'claude-fable-5' with 2564 input and 99 output"),
    992: ("usage_contradiction", "total_tokens 109 is not prompt_tokens 35 + completion_tokens 12 = 47"),
}
"""Number of a rejected body -> error code and part of the message. Each one has a count without a known price."""
