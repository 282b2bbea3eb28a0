"""Counts unknown keys of a request. Known settings cost nothing. The effect of other keys is unknown.

An unknown key may add any number of tokens: ``reasoning.mode: pro`` multiplies the input by more than a hundred. So it
makes a count an estimate without a bound, whatever its value. Only ``null`` means that a key is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import safe_repr
from brivionix_billing.tokens.anthropic import OUTPUT_KEYS, REQUEST_KEYS, THINKING_KEYS
from brivionix_billing.tokens.request_counter import RequestCounter, iter_texts

__all__ = ["KNOWN_REQUEST_KEYS", "SETTING_OBJECTS", "count_unknown_keys"]

# Keys that other modules count.
_COUNTED_KEYS: Final = frozenset({"tools", "response_format", "text", "prediction", "reasoning"})
_COUNTED_BY_API: Final = {
    "chat": frozenset({"messages", "functions", "web_search_options"}),
    "responses": frozenset({"input", "instructions", "previous_response_id", "conversation", "prompt"}),
}
# Keys of settings that the model does not receive, or that other modules count.
_KEYS_OF_SETTINGS: Final = {
    "reasoning": frozenset({"effort", "summary", "generate_summary", "context", "enabled", "max_tokens", "exclude"}),
    "text": frozenset({"format", "verbosity"}),
    "stream_options": frozenset({"include_usage", "include_obfuscation"}),
}
# Keys of objects that may be texts instead.
_KEYS_OF_CHOICES: Final = {
    "tool_choice": frozenset(
        {
            "type",
            "name",
            "function",
            "custom",
            "allowed_tools",
            "mode",
            "tools",
            "server_label",
            "disable_parallel_tool_use",
        }
    ),
    "prediction": frozenset({"type", "content"}),
}
_NAMED_TOOL: Final = frozenset({"name"})
# Settings, which the model does not receive.
_SETTING_KEYS: Final = frozenset(
    {
        *("model", "stream", "stream_options", "n", "stop", "temperature", "top_p", "seed", "user", "store"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tool_calls", "tool_choice"),
        *("parallel_tool_calls", "function_call", "logprobs", "top_logprobs", "logit_bias", "service_tier"),
        *("presence_penalty", "frequency_penalty", "metadata", "modalities", "audio", "reasoning_effort", "verbosity"),
        *("include", "background", "truncation", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
        *("stream_id", "provider", "route", "transforms", "models", "stop_sequences", "top_k"),
        *("extra_headers", "extra_body", "timeout"),
    }
)
_KEYS_OF_SETTINGS["extra_body"] = _SETTING_KEYS  # an SDK merges it with the request
_KNOWN_KEYS: Final = {api: _COUNTED_KEYS | keys | _SETTING_KEYS for api, keys in _COUNTED_BY_API.items()}
SETTING_OBJECTS: Final = frozenset({*_KEYS_OF_SETTINGS, "thinking", "output_config"})
"""Keys of requests whose values are objects with settings of the request, in any API."""
KNOWN_REQUEST_KEYS: Final = frozenset().union(
    *_KNOWN_KEYS.values(), *_KEYS_OF_SETTINGS.values(), REQUEST_KEYS, THINKING_KEYS, OUTPUT_KEYS
)
"""Keys of requests and of their settings, in any API that is counted by them."""


def count_unknown_keys(counter: RequestCounter, request: Mapping[str, Any]) -> None:
    """Count the texts under every unknown key of a request and its settings, as an estimate without a bound."""
    known_keys = _KNOWN_KEYS[counter.api]
    if not request.keys() <= known_keys:
        _count_unknown(counter, "", request, known_keys)
    for name in _KEYS_OF_SETTINGS.keys() & request.keys():
        settings, known_keys = request[name], _KEYS_OF_SETTINGS[name]
        if isinstance(settings, Mapping):
            _count_unknown(counter, f"{name}.", settings, known_keys)
        elif settings is not None:
            reason = f"what {safe_repr(name, 40)} adds to the input is unknown, because it is no object"
            counter.builder.add_estimate("unseen", 0, None, reason)
    for name in _KEYS_OF_CHOICES.keys() & request.keys():
        choice = request[name]
        if isinstance(choice, Mapping):
            _count_unknown(counter, f"{name}.", choice, _KEYS_OF_CHOICES[name])
            for key in ("function", "custom"):
                if isinstance(choice.get(key), Mapping):
                    _count_unknown(counter, f"{name}.{key}.", choice[key], _NAMED_TOOL)


def _count_unknown(counter: RequestCounter, place: str, value: Mapping[str, Any], known_keys: frozenset[str]) -> None:
    for key in value.keys() - known_keys:
        if value[key] is None:
            continue
        tokens = sum(map(counter.builder.count_text, iter_texts(value[key])))
        reason = f"what {safe_repr(f'{place}{key}', 60)} adds to the input is unknown"
        counter.builder.add_estimate("unseen", tokens, None, reason)
