"""OpenAI's three usage objects: chat completions, embeddings, Responses.

Rules, from OpenAI's API reference: prompt (input) tokens contain the cached and the audio tokens, completion (output)
tokens contain the reasoning tokens; ``total_tokens`` is their sum. The predicted-output counts are contained in the
completion tokens and cost what those cost. A web search costs per search action; opening or scanning a page that was
found costs nothing more.
"""

from __future__ import annotations

from typing import Any, Final

from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.usage.model import MAX_COUNT, Usage, assembled, checked_count

__all__ = ["read_chat", "read_responses"]


# Keys that carry nothing to bill: contained in a count that is billed, or times and the upstream's own price.
_IDLE: Final = frozenset(
    {
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
        "text_tokens",
        "cost",
        "cost_details",
        "is_byok",
        "completion_time",
        "prompt_time",
        "queue_time",
        "total_time",
    }
)
_IN: Final = {
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "audio_tokens": "audio_input_tokens",
    "image_tokens": "image_input_tokens",
}
_CACHED: Final = {"audio_tokens": "audio_cache_read_tokens", "image_tokens": "image_cache_read_tokens"}
_OUT: Final = {
    "reasoning_tokens": "reasoning_tokens",
    "audio_tokens": "audio_output_tokens",
    "image_tokens": "image_output_tokens",
}
_CHAT: Final = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    }
)
_RESPONSES: Final = frozenset(
    {"input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details"}
)
# Calls with a fee of their own kind: per container session, per image.
_OTHER_FEES: Final = frozenset({"code_interpreter_call", "image_generation_call"})
_ZERO: Final = 0


def read_chat(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """Chat completions, legacy completions and embeddings (which have no completion tokens)."""
    output = usage.get("completion_tokens")
    if output is None:
        output = _no_output("completion_tokens", usage, usage["prompt_tokens"])
    inside, outside = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if usage.keys() <= _CHAT:
        found = _usual(usage["prompt_tokens"], output, usage.get("total_tokens"), inside, outside, around)
        if found is not None:
            return found
    return _read_slowly(usage, around, _CHAT, usage["prompt_tokens"], output, inside, outside, ())


def read_responses(usage: dict[str, Any], around: dict[str, Any]) -> Usage:
    """The Responses API. Searches are counted from the output items where the body has them."""
    output = usage.get("output_tokens")
    if output is None:
        output = _no_output("output_tokens", usage, usage["input_tokens"])
    inside, outside = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    items = around.get("output") or ()
    if usage.keys() <= _RESPONSES and not items:
        found = _usual(usage["input_tokens"], output, usage.get("total_tokens"), inside, outside, around)
        if found is not None:
            return found
    return _read_slowly(usage, around, _RESPONSES, usage["input_tokens"], output, inside, outside, items)


def _usual(prompt: Any, output: Any, total: Any, inside: Any, outside: Any, around: dict[str, Any]) -> Usage | None:
    """The usage, if it is of the usual kind: text, perhaps cached, perhaps with reasoning. It is read fast."""
    read: Any = 0
    reasoning: Any = 0
    if inside is not None:
        if type(inside) is not dict:
            return None
        for key, count in inside.items():
            if count is not _ZERO:
                if key != "cached_tokens":
                    return None
                read = count
    if outside is not None:
        if type(outside) is not dict:
            return None
        for key, count in outside.items():
            if count is not _ZERO:
                if key != "reasoning_tokens":
                    return None
                reasoning = count
    tier, model = around.get("service_tier"), around.get("model")
    if (
        type(prompt) is type(output) is type(read) is type(reasoning) is int
        and 0 <= read <= prompt <= MAX_COUNT
        and 0 <= reasoning <= output <= MAX_COUNT
        and (total is None or (type(total) is int and total == prompt + output))
        and (tier is None or type(tier) is str)
        and (model is None or type(model) is str)
    ):
        return assembled(prompt, prompt - read, read, output, reasoning, tier or None, model or None)
    return None


def _read_slowly(
    usage: dict[str, Any],
    around: dict[str, Any],
    known: frozenset[str],
    prompt: Any,
    output: Any,
    inside: Any,
    outside: Any,
    items: Any,
) -> Usage:
    """Key by key: what is unusual is told apart from what is wrong."""
    if known is _RESPONSES and outside is None and isinstance(inside, dict) and "text_tokens" in inside:
        # The shape of an image generation: its output is images, but nothing in it says how many.
        raise BillingError(
            "usage_shape",
            "input_tokens_details with text_tokens but no output_tokens_details: the usage of an image generation, "
            "whose output tokens are not text; it is not read yet",
        )
    _refuse_unknown("usage", {key: value for key, value in usage.items() if key not in known})
    basic = {"cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0}
    rest: dict[str, Any] = {"total_tokens": usage.get("total_tokens")}
    for details, meaning in ((inside, _IN), (outside, _OUT)):
        unknown = {}
        for key, count in _pairs("the token details", details).items():
            if count is None:
                continue
            name = meaning.get(key)
            if name in basic:
                basic[name] = checked_count(key, count)
            elif name is not None:
                rest[name] = checked_count(key, count)
            elif key == "cached_tokens_details":
                cached = {k: v for k, v in _pairs(key, count).items() if v is not None}
                rest.update({_CACHED[k]: checked_count(k, v) for k, v in cached.items() if k in _CACHED})
                unknown.update({k: v for k, v in cached.items() if k not in _CACHED})
            else:
                unknown[key] = count
        _refuse_unknown("the token details", unknown)
    for item in items if isinstance(items, list | tuple) else ():
        if _get(item, "type") in _OTHER_FEES:
            raise BillingError(
                "usage_unknown_key",
                f"the output has a {_get(item, 'type')}, which costs a fee that no meter here holds",
            )
        call = _paid_call(item)
        if call:
            rest[call] = rest.get(call, 0) + 1
    return Usage(
        checked_count("prompt_tokens" if known is _CHAT else "input_tokens", prompt),
        checked_count("completion_tokens" if known is _CHAT else "output_tokens", output),
        **basic,
        **rest,
        # A tier decides the price: one that cannot be read is refused, not left out.
        service_tier=None if around.get("service_tier") == "" else around.get("service_tier"),
        model=_name(around.get("model")),
    )


def _paid_call(item: object) -> str | None:
    """The meter argument that one output item of a response counts on, if it is a tool call that costs a fee."""
    kind = _get(item, "type")
    if kind == "file_search_call":
        return "file_search_calls"
    if kind != "web_search_call":
        return None
    what = _get(_get(item, "action"), "type")
    return "web_search_calls" if what in (None, "search") else None


def _get(item: object, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def _refuse_unknown(where: str, rest: dict[str, Any]) -> None:
    """A whole number that nobody can account for may be money; floats, texts and flags are not counts."""
    for key, value in rest.items():
        if key not in _IDLE and _holds_count(value):
            raise BillingError(
                "usage_unknown_key",
                f"{where} has {quoted(key)}: {quoted(value)}, and nobody here knows what that costs; "
                "is the name misspelt?",
            )


def _holds_count(value: Any, depth: int = 0) -> bool:
    """Whether a whole number other than zero stands anywhere in it; what is too deep to see through may hold one."""
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 8 or any(_holds_count(item, depth + 1) for item in inner)
    return type(value) is int and value != 0


def _pairs(name: str, details: Any) -> dict[str, Any]:
    if details is None:
        return {}
    if type(details) is dict:
        return details
    raise BillingError("usage_invalid", f"{name} is {quoted(details)}, not an object")


def _no_output(name: str, usage: dict[str, Any], prompt: object) -> int:
    """An embedding has no output tokens; its total says so."""
    if usage.get("total_tokens") == prompt:
        return 0
    keys = ", ".join(quoted(key, 40) for key in list(usage)[:20])
    raise BillingError("usage_invalid", f"{name} is missing from a usage with the keys {keys}")


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 256 else None
