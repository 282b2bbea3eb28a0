"""Reads a row of the log of new-api: what was consumed, and by which ratios it was charged."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from brivionix_billing.reconcile.gateway.expression import Expression, ExpressionError, Outcome, parse
from brivionix_billing.reconcile.gateway.log_values import to_fraction
from brivionix_billing.reconcile.gateway.new_api_call import (
    TASK_FACTORS,
    TOKEN_KINDS,
    Call,
    ContradictionError,
    Part,
    RequestRule,
    Tool,
)

__all__ = ["read_call", "read_quantities"]

_TOOL_METERS: Final = {
    "web_search": "web_search",
    "web_search_preview": "web_search",
    "google_search": "web_search",
    "file_search": "file_search",
    "code_interpreter": "code_interpreter",
    "image_generation": "image_generation",
    "image_generation_call": "image_generation",
    "maps_search": "maps_search",
}
_SERVICE_TIER: Final = re.compile(r"service_tier\W+(?:==\W*)?[\"']?(\w+)", re.ASCII)
_MAX_TIME: Final = 253_402_300_799
"""The last second of the year 9999."""
_MAX_DURATION: Final = 86_400
_CACHE_COUNTS: Final = ("cache_tokens", "cache_creation_tokens_5m", "cache_creation_tokens_1h", "cache_creation_tokens")


def _count(other: Mapping[str, Any], name: str) -> int:
    value = other.get(name)
    if type(value) is int and value >= 0:
        return value
    if value is None or value == "" or isinstance(value, bool | list | dict):
        return 0
    number = to_fraction(value)
    if number is None or number.denominator != 1:
        raise ContradictionError(f"{name} {value!r} is not a whole number")
    if number < 0:
        raise ContradictionError(f"{name} is {number}")
    return int(number)


def _counts(other: Mapping[str, Any], names: tuple[str, ...]) -> list[int]:
    """Return several counts, which is faster than one by one if all are whole numbers or missing."""
    found = [other.get(name, 0) for name in names]
    if set(map(type, found)) == {int} and min(found) >= 0:
        return found
    return [_count(other, name) for name in names]


def _ratio(other: Mapping[str, Any], name: str, default: Fraction) -> Fraction:
    number = to_fraction(other.get(name))
    return default if number is None or number < 0 else number


_RATIO_KEYS: Final = {
    "cache_read": "cache_ratio",
    "image_input": "image_ratio",
    "audio_input": "audio_ratio",
    "audio_output": "audio_ratio",
    "output": "completion_ratio",
}
"""Kind of tokens -> the key of ``other`` with its price in relation to that of input."""
_ONE: Final = Fraction(1)
_ZERO: Final = Fraction(0)


def read_call(row: Mapping[str, Any], other: Mapping[str, Any], quota_per_unit: int) -> Call:
    """Return what a row states. Raises :class:`ContradictionError` for counts that cannot be true."""
    at = datetime.fromtimestamp(_limit(row.get("created_at"), _MAX_TIME), UTC)
    start = at - timedelta(seconds=_limit(row.get("use_time"), _MAX_DURATION))
    user = to_fraction(other.get("user_group_ratio"))
    quantities, total = read_quantities(row, other)
    call = Call(
        mode=_mode(other),
        at=at,
        start=start,
        quantities={kind: count for kind, count in quantities.items() if count},
        input_total=total,
        stated_ratio=_ratio(other, "group_ratio", _ONE),
        user_ratio=None if user is None or user < 0 else user,
        quota_per_unit=quota_per_unit,
    )
    call.tools = _tools(other, quota_per_unit)
    _read_service_tier(call, row, other)
    if call.mode == "expression":
        _read_expression(call, other, quantities)
    elif call.mode == "request":
        call.parts = [Part("request", 1, _ratio(other, "model_price", _ZERO) * quota_per_unit)]
        call.factor = _factor(other)
    elif call.mode == "ratio":
        _read_ratios(call, other)
    elif (to_fraction(other.get("model_price")) or 0) > 0:
        call.parts = [Part("request", 1, _ratio(other, "model_price", _ZERO) * quota_per_unit)]
        call.factor = _factor(other)
    return call


def _limit(value: object, highest: int) -> int:
    """Return a number of seconds, at least 0 and at most ``highest``."""
    number = value if type(value) is int else int(to_fraction(value) or 0)
    return min(max(number, 0), highest)


def _mode(other: Mapping[str, Any]) -> str:
    if other.get("billing_mode") == "tiered_expr" or other.get("expr_b64"):
        return "expression"
    if other.get("task_id") or "pre_consumed" in other or "actual_quota" in other:
        return "task"
    if (to_fraction(other.get("model_price")) or 0) > 0:
        return "request"
    return "ratio"


def read_quantities(row: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Return disjoint numbers of tokens by meter, and all input tokens."""
    prompt, completion = _count(row, "prompt_tokens"), _count(row, "completion_tokens")
    if other.get("audio") or other.get("ws"):
        return _audio_quantities(other, prompt, completion)
    cached, five, hour, created = _counts(other, _CACHE_COUNTS)
    written = created or _count(other, "cache_write_tokens")
    if created and five + hour > created:
        raise ContradictionError(f"{five} + {hour} tokens were written to the cache, but {created} in all")
    written = max(written, five + hour)
    image = _count(other, "image_output") if other.get("image") or "image_ratio" in other else 0
    audio = 0
    if other.get("audio_input_seperate_price"):
        audio = _count(other, "audio_input_token_count")
    found = {
        "input": prompt,
        "cache_read": cached,
        "cache_write": written - hour,
        "cache_write_1h": hour,
        "image_input": image,
        "audio_input": audio,
        "output": completion,
    }
    if other.get("claude") or other.get("usage_semantic") == "anthropic":
        total = prompt + cached + written
        stated = _count(other, "input_tokens_total")
        if stated and stated < total:
            raise ContradictionError(f"{stated} input tokens in all, but {prompt} + {cached} + {written}")
        return found, total
    inside = cached + written + image + audio
    if inside > prompt:
        raise ContradictionError(f"{inside} cached, written, image and audio tokens, of {prompt} input tokens")
    found["input"] = prompt - inside
    return found, prompt


def _audio_quantities(other: Mapping[str, Any], prompt: int, completion: int) -> tuple[dict[str, int], int]:
    text_in, text_out = _count(other, "text_input"), _count(other, "text_output")
    audio_in, audio_out = _count(other, "audio_input"), _count(other, "audio_output")
    if prompt and text_in + audio_in > prompt:
        raise ContradictionError(f"{text_in} + {audio_in} tokens of text and audio, of {prompt} input tokens")
    if completion and text_out + audio_out > completion:
        raise ContradictionError(f"{text_out} + {audio_out} tokens of text and audio, of {completion} output tokens")
    cached = _count(other, "cache_tokens")
    if cached > max(prompt, text_in + audio_in):
        raise ContradictionError(f"{cached} tokens are cached, of {prompt} input tokens")
    found = {"input": text_in, "audio_input": audio_in, "output": text_out, "audio_output": audio_out}
    return found, max(prompt, text_in + audio_in)


def _read_ratios(call: Call, other: Mapping[str, Any]) -> None:
    model = call.model_ratio = _ratio(other, "model_ratio", _ZERO)
    per_unit = call.quota_per_unit
    separate = to_fraction(other.get("audio_input_price")) if other.get("audio_input_seperate_price") else None
    for kind in TOKEN_KINDS:
        quantity = call.quantities.get(kind)
        if not quantity:
            continue
        if kind == "audio_input" and separate is not None:
            call.parts.append(Part(kind, quantity, separate * per_unit / 1_000_000))
        elif kind == "input":
            call.parts.append(Part(kind, quantity, model, _ONE))
        elif kind == "cache_write":
            _split_writes(call, other, quantity)
        else:
            relative = _relative_price(other, kind)
            call.parts.append(Part(kind, quantity, model * relative, relative))
    call.factor = _factor(other)


def _relative_price(other: Mapping[str, Any], kind: str) -> Fraction:
    """Return the price of a kind of tokens in relation to that of input."""
    if kind == "cache_write_1h":
        return _ratio(other, "cache_creation_ratio_1h", _create_ratio(other) * Fraction(8, 5))
    relative = _ratio(other, _RATIO_KEYS[kind], _ONE)
    return relative * _ratio(other, "audio_completion_ratio", _ONE) if kind == "audio_output" else relative


def _create_ratio(other: Mapping[str, Any]) -> Fraction:
    return _ratio(other, "cache_creation_ratio", Fraction(5, 4))


def _split_writes(call: Call, other: Mapping[str, Any], quantity: int) -> None:
    """Add the tokens that were written to the cache: those stated for 5 minutes, and the rest at the general ratio."""
    model, create = call.model_ratio or _ZERO, _create_ratio(other)
    five = _ratio(other, "cache_creation_ratio_5m", create)
    stated = min(_count(other, "cache_creation_tokens_5m"), quantity)
    for count, ratio in ((stated, five), (quantity - stated, create)):
        if count:
            call.parts.append(Part("cache_write", count, model * ratio, ratio))


def _factor(other: Mapping[str, Any]) -> Fraction:
    """Return the product of the other ratios that a row states."""
    factor = _ONE
    ratios = other.get("other_ratios")
    source = ratios if isinstance(ratios, Mapping) else {k: other[k] for k in TASK_FACTORS if k in other}
    for value in source.values():
        number = to_fraction(value)
        if number is not None and number > 0:
            factor *= number
    return factor


def _tools(other: Mapping[str, Any], quota_per_unit: int) -> list[Tool]:
    tools = []
    listed = other.get("tool_surcharges")
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, Mapping):
            tools.append((str(item.get("name", "")), item.get("count"), item.get("price"), 1000))
    if not tools:
        # Before tool_surcharges, each tool had its own keys.
        for name in ("web_search", "file_search"):
            if other.get(name):
                tools.append((name, other.get(f"{name}_call_count"), other.get(f"{name}_price"), 1000))
        if other.get("image_generation_call"):
            tools.append(("image_generation", 1, other.get("image_generation_call_price"), 1))
    found = []
    for name, count, price, per in tools:
        number, amount = to_fraction(count), to_fraction(price)
        if number is not None and number < 0:
            raise ContradictionError(f"{name} was called {number} times")
        if number and amount is not None:
            found.append(Tool(_tool_meter(name), int(number), amount * quota_per_unit / per))
    return found


def _tool_meter(name: str) -> str:
    text = name.strip().lower().replace(" ", "_").replace("-", "_").removesuffix("_calls").removesuffix("_call")
    if text in _TOOL_METERS:
        return _TOOL_METERS[text]
    return next((meter for part, meter in _TOOL_METERS.items() if part in text), text)


def _read_service_tier(call: Call, row: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    rules = other.get("request_rules")
    found = []
    for rule in rules if isinstance(rules, list) else []:
        if not isinstance(rule, Mapping):
            continue
        number = to_fraction(rule.get("multiplier"))
        if number is None:
            continue
        tier = _SERVICE_TIER.search(str(rule.get("cond", "")))
        found.append(RequestRule(number, bool(rule.get("matched")), tier[1] if tier else None))
        if found[-1].is_matched:
            call.multiplier *= number
            call.service_tier = found[-1].service_tier or call.service_tier
    call.rules = tuple(found)
    admin = other.get("admin_info")
    for place in (other, admin if isinstance(admin, Mapping) else {}, row):
        stated = place.get("service_tier")
        if isinstance(stated, str) and stated:
            call.service_tier = stated
            return


def _read_expression(call: Call, other: Mapping[str, Any], quantities: Mapping[str, int]) -> None:
    call.stated_tier = str(other.get("matched_tier") or "")
    call.is_per_request = other.get("billing_unit") == "request"
    try:
        text = base64.b64decode(str(other.get("expr_b64") or ""), validate=True).decode("utf-8")
        expression = parse(text)
        call.variables = _variables(call, other, quantities, expression)
        call.expression = expression
        call.outcome = expression.evaluate(call.variables, call.at)
    except ValueError:  # also binascii.Error and UnicodeDecodeError
        call.expression_problem = "expr_b64 is not text in base64"
    except ExpressionError as error:
        call.expression_problem = f"the expression has {error}"
    fixed = to_fraction(other.get("fixed_price"))
    if call.outcome is None and fixed is not None and fixed > 0:
        call.outcome = Outcome(fixed * 1_000_000, call.stated_tier, True)


def _variables(
    call: Call, other: Mapping[str, Any], quantities: Mapping[str, int], expression: Expression
) -> dict[str, Fraction]:
    names = expression.names
    image_cached = _count(other, "image_cache_tokens")
    image_out = _count(other, "image_output_tokens")
    audio_out = quantities.get("audio_output", 0) or _count(other, "audio_output")
    audio_in = quantities.get("audio_input", 0) or _count(other, "audio_input")
    image = quantities.get("image_input", 0)
    kinds = {
        "cr": quantities.get("cache_read", 0),
        "cc": quantities.get("cache_write", 0),
        "cc1h": quantities.get("cache_write_1h", 0),
        "img": image,
        "img_cr": image_cached,
        "ai": audio_in,
        "img_o": image_out,
        "ao": audio_out,
    }
    inputs = ("cr", "cc", "cc1h", "img", "ai")
    prompt = quantities.get("input", 0) + sum(kinds[name] for name in inputs if name not in names)
    if not quantities.get("audio_input") and "ai" in names:
        prompt -= audio_in
    output = quantities.get("output", 0) + quantities.get("audio_output", 0)
    output -= (audio_out if "ao" in names else 0) + (image_out if "img_o" in names else 0)
    values = {**kinds, "p": max(prompt, 0), "c": max(output, 0), "len": call.input_total}
    values["image_count"] = _count(other, "image_count")
    stated = other.get("billing_tokens")
    if isinstance(stated, Mapping):
        values |= {name: _count(stated, name) for name in values if name in stated}
    return {name: Fraction(value) for name, value in values.items()}
