"""Counts unknown keys of a request. Known settings cost nothing; other keys may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import safe_repr
from brivionix_billing.tokens.request_counter import RequestCounter, iter_texts

__all__ = ["count_unknown_keys"]

# Keys that other modules count.
_COUNTED_KEYS: Final = frozenset({"tools", "response_format", "text", "prediction", "reasoning"})
_COUNTED_BY_API: Final = {
    "chat": frozenset({"messages", "functions", "web_search_options"}),
    "responses": frozenset({"input", "instructions", "previous_response_id", "conversation", "prompt"}),
}
# Settings, which the model does not receive.
_SETTING_KEYS: Final = frozenset(
    {
        *("model", "stream", "stream_options", "n", "stop", "temperature", "top_p", "seed", "user", "store"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tool_calls", "tool_choice"),
        *("parallel_tool_calls", "function_call", "logprobs", "top_logprobs", "logit_bias", "service_tier"),
        *("presence_penalty", "frequency_penalty", "metadata", "modalities", "audio", "reasoning_effort", "verbosity"),
        *("include", "background", "truncation", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
        *("context_management", "stream_id", "provider", "route", "transforms", "models", "stop_sequences", "top_k"),
        *("extra_headers", "extra_body", "timeout"),
    }
)


def count_unknown_keys(counter: RequestCounter, request: Mapping[str, Any]) -> None:
    """Count the texts under every unknown key, as an estimate without a bound, because their effect is unknown."""
    known_keys = _COUNTED_KEYS | _COUNTED_BY_API[counter.api] | _SETTING_KEYS
    for key in request.keys() - known_keys:
        texts = list(iter_texts(request[key]))
        if texts:
            tokens = sum(map(counter.builder.count_text, texts))
            counter.builder.add_estimate(
                "unseen", tokens, None, f"what {safe_repr(key, 40)} adds to the input is unknown"
            )
