"""Conventions: what the counts of an upstream contain, where it differs from the format that its bodies have.

Some upstreams count cached or audio tokens beside the prompt, or reasoning tokens beside the completion, under the same
keys as OpenAI, which contains them. A body does not say so. The operator must, in ``upstreams`` of the price file.
Seen: Azure's Grok deployments report cached tokens beside the prompt, and Mistral's Voxtral audio tokens. Gemini's
OpenAI-compatible endpoint leaves reasoning out of the completion, but not out of the total.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["OPENAI_CONVENTIONS", "Conventions", "apply_conventions"]

_INPUT_KEYS: Final = ("prompt_tokens", "input_tokens")
_OUTPUT_KEYS: Final = ("completion_tokens", "output_tokens")


class Conventions(NamedTuple):
    """What the counts of OpenAI's formats contain, and how Gemini's searches are counted."""

    cache_read: str = "in_input"
    """``in_input``, or ``beside_input``: the prompt does not contain the cached tokens."""
    audio_input: str = "in_input"
    """``in_input``, or ``beside_input``: the prompt does not contain the audio tokens."""
    reasoning: str = "in_output"
    """``in_output``; ``beside_output``: the completion does not contain the reasoning tokens; ``rest_of_total``: no
    count states them, and they are what the total has beyond prompt and completion."""
    grounding: str = "per_query"
    """``per_query``: each query of Gemini's search is a web search; ``per_prompt``: each grounded prompt is one, as
    for Gemini 2.5 and older."""


OPENAI_CONVENTIONS: Final = Conventions()


def apply_conventions(usage: Mapping[str, Any], conventions: Conventions) -> dict[str, Any]:
    """Return a usage object of OpenAI's formats as OpenAI would state it. Objects of other formats stay as they are.

    A count that is not a whole number stays, so that the reader names it.
    """
    counts = dict(usage)
    input_key = next((key for key in _INPUT_KEYS if key in counts), None)
    output_key = next((key for key in _OUTPUT_KEYS if key in counts), None)
    if input_key is None or conventions == OPENAI_CONVENTIONS:
        return counts
    if input_key == "input_tokens" and "cache_read_input_tokens" in counts:
        return counts  # Anthropic states what its counts contain
    stated = (counts.get(input_key), counts.get(output_key) if output_key else 0, counts.get("total_tokens"))
    if not all(type(count) is int for count in stated if count is not None) or stated[0] is None:
        return counts
    prompt, completion, total = stated[0], stated[1] or 0, stated[2]
    added_input = added_output = 0
    if conventions.cache_read == "beside_input":
        added_input += _detail(counts, input_key, "cached_tokens")
    if conventions.audio_input == "beside_input":
        added_input += _detail(counts, input_key, "audio_tokens")
    if conventions.reasoning == "beside_output" and output_key:
        added_output += _detail(counts, output_key, "reasoning_tokens")
    elif conventions.reasoning == "rest_of_total" and total is not None and total > prompt + completion:
        added_output += total - prompt - completion
    counts[input_key] = prompt + added_input
    if output_key:
        counts[output_key] = completion + added_output
    if total == prompt + completion:  # the total leaves out what the counts leave out
        counts["total_tokens"] = total + added_input + added_output
    return counts


def _detail(counts: Mapping[str, Any], key: str, name: str) -> int:
    """Return a count of the token details, or of the usage object itself."""
    details = counts.get(f"{key}_details")
    found = details.get(name) if isinstance(details, Mapping) else None
    if found is None:
        found = counts.get(name)
    return found if type(found) is int and found > 0 else 0
