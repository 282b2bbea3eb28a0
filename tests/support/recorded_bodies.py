"""Response bodies recorded from providers."""

from __future__ import annotations

import json
from typing import Any

from paths import DATA, SHARED_DATA

__all__ = ["ALL", "Json", "NOTED", "REAL", "SAMPLE"]

Json = dict[str, Any]

SAMPLE = DATA / "provider_responses.jsonl"
"""The file of the sample that belongs to the tests."""
ALL = SHARED_DATA / "provider_responses.jsonl"
"""The file of all recordings, which may be missing."""
REAL = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
"""The bodies of the sample, each with its number ``n`` among all recordings."""
NOTED: dict[int, dict[str, Any]] = {
    176: {"unaccounted": (("usage.server_tool_use_details.tool_calls_executed", 1),)},
    204: {"parts": {"claude-opus-4-8": (2518, 22)}},
    250: {"parts": {"claude-fable-5": (2564, 99)}},
    992: {"unaccounted": (("usage.total_tokens", 109),)},
}
"""Number of a body -> numbers on no meter, or (input, output) tokens of other models."""
