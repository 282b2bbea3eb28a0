"""What stands in a request beside messages, items and tools: known settings cost nothing, anything else may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.tokens.walk import Walk

__all__ = ["count_rest"]

_MOST_VALUES: Final = 1_000_000
# Counted elsewhere.
_COUNTED: Final = frozenset({"messages", "tools", "functions", "response_format", "text", "prediction", "reasoning"})
_COUNTED_BY_API: Final = {
    "chat": frozenset({"web_search_options"}),
    "responses": frozenset({"input", "instructions", "previous_response_id", "conversation", "prompt"}),
}
# Settings: they say how to answer, and are not shown to the model.
_SETTINGS: Final = frozenset(
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


def count_rest(walk: Walk, request: Mapping[str, Any]) -> None:
    """Count the texts under every key that is not known, as an estimate without a bound: nobody knows what they do."""
    known = _COUNTED | _COUNTED_BY_API[walk.api] | _SETTINGS
    for key in request.keys() - known:
        texts = list(_texts(request[key]))
        if texts:
            tokens = sum(map(walk.tally.measured, texts))
            walk.tally.guess("unseen", tokens, None, f"what {quoted(key, 40)} adds to the input is not known")


def _texts(value: Any) -> Iterator[str]:
    """Every string in it."""
    left = [value]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, str):
            if value:
                yield value
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    raise BillingError("request_too_large", f"a part of the request holds more than {_MOST_VALUES} values")
