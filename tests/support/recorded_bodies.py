"""Recorded bodies of providers."""

from __future__ import annotations

import json
from typing import Any

from paths import DATA, SHARED_DATA

__all__ = ["ALL", "Json", "KEPT", "REAL", "REFUSED"]

Json = dict[str, Any]


KEPT = DATA / "provider_responses.jsonl"


ALL = SHARED_DATA / "provider_responses.jsonl"


REAL = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]


REFUSED = {
    176: ("unknown_usage_key", "tool_calls_executed is 1, of which 0 are web searches"),
    204: ("unknown_usage_key", "'advisor_message' by 'claude-opus-4-8' with 2518 input and 22 output"),
    250: ("unknown_usage_key", "'advisor_message' by 'claude-fable-5' with 2564 input and 99 output"),
    992: ("usage_contradiction", "total_tokens 109 is not prompt_tokens 35 + completion_tokens 12 = 47"),
}
"""Real bodies that are refused, by their number: each holds a count that nobody can price from it."""
