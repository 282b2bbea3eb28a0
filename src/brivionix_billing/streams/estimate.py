"""Estimates the usage of a stream without reported usage, from the content so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.streams.fallback_counter import FallbackCounter, output_limit
from brivionix_billing.streams.reader import StreamReader
from brivionix_billing.usage import MAX_COUNT, Usage, billable_body

__all__ = ["Estimate", "estimate_usage"]


class Estimate(NamedTuple):
    """An estimate: the marked body, the usage that it contains, notes on how it was made, and warnings."""

    body: dict[str, Any]
    usage: Usage
    notes: list[str]
    warnings: list[str]


def estimate_usage(
    reader: StreamReader | None,
    request: Mapping[str, Any] | None,
    counter: FallbackCounter,
    input_count: int | None = None,
) -> Estimate:
    """Return the estimate for the content so far. ``input_count`` is the input of the request if it was counted before.

    Never raises; parts that cannot be billed are left out with a warning.
    """
    notes: list[str] = []
    warnings: list[str] = []
    reported = None if reader is None else _reported_so_far(reader, reader.usage, warnings)
    if reported is not None and reported.input_tokens:
        input_tokens = reported.input_tokens
        notes.append("the input was reported by the stream")
    else:
        input_tokens = _estimate_input(reader, request, counter, notes, input_count)
        if reader is not None and reader.stated_input > input_tokens:
            input_tokens = reader.stated_input
            notes.append("the input was raised to the tokens that the stream stated")
    output_tokens = 0
    calls: list[dict[str, Any]] = []
    if reader is not None:
        output_tokens = _estimate_output(reader, request, reported, counter, notes)
        calls = reader.calls()
        if reader.uncounted:
            notes.append(f"not included: {', '.join(reader.uncounted)}")
    input_tokens, output_tokens = min(input_tokens, MAX_COUNT), min(output_tokens, MAX_COUNT)
    notes += counter.notes
    for body in _candidate_bodies(reader, reported, input_tokens, output_tokens, calls):
        try:
            body = billable_body(body)
            usage = Usage.from_response(body)
        except BillingError as error:
            warnings.append(f"left out of the estimate: {error.message}")
            continue
        if (usage.estimated, usage.input_tokens, usage.output_tokens) == (True, input_tokens, output_tokens):
            return Estimate(body, usage, notes, list(dict.fromkeys(warnings)))
    body = {"usage": _plain_body(input_tokens, output_tokens)}
    return Estimate(body, Usage.from_response(body), notes, list(dict.fromkeys(warnings)))


def _candidate_bodies(
    reader: StreamReader | None,
    reported: Usage | None,
    input_tokens: int,
    output_tokens: int,
    calls: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield bodies from the most to the least detailed one. The first readable one is used."""
    if reader is None:
        return
    if reader.usage is not None and reported is not None and reported.input_tokens:
        # In the provider's own keys, so that reported caches and modalities stay on their meters.
        is_same = reported.output_tokens == output_tokens
        stated = reader.usage if is_same else reader.with_output(reader.usage, output_tokens)
        yield reader.build_body(stated | {"estimated": True}, calls)
    plain = _plain_body(input_tokens, output_tokens)
    model_field = {"model": reader.model} if reader.model else {}
    tier_field = {} if reader.service_tier is None else {"service_tier": reader.service_tier}
    output_field = {"output": calls} if calls else {}
    yield {**model_field, **tier_field, "usage": plain, **output_field}
    yield {**model_field, "usage": plain, **output_field}


def _plain_body(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {"input_tokens": input_tokens, "output_tokens": output_tokens, "estimated": True}


def _reported_so_far(reader: StreamReader, usage: dict[str, Any] | None, warnings: list[str]) -> Usage | None:
    """Return the usage that the stream has reported so far, if it is readable."""
    if usage is None:
        return None
    try:
        return Usage.from_response({reader.usage_key: usage})
    except BillingError as error:
        warnings.append(f"the usage reported before the end is not used: {error.message}")
        return None


def _estimate_input(
    reader: StreamReader | None,
    request: Mapping[str, Any] | None,
    counter: FallbackCounter,
    notes: list[str],
    input_count: int | None,
) -> int:
    if request is None:
        notes.append("no request was given, so its input counts as 0")
        return 0
    try:
        if input_count is None:
            count = counter.request(request, reader.api if reader else None)
        else:
            count = counter.note(input_count)
        earlier = request.get("previous_response_id") or request.get("conversation")
    except Exception as error:  # an object of the caller may raise anything
        notes.append(f"the request is unreadable ({type(error).__name__}), so its input counts as 0")
        return 0
    notes.append("the input was counted from the request")
    if earlier:
        notes.append("earlier turns that the request refers to are not included")
    return count


def _estimate_output(
    reader: StreamReader,
    request: Mapping[str, Any] | None,
    reported: Usage | None,
    counter: FallbackCounter,
    notes: list[str],
) -> int:
    """Return the counted output, but no less than the stream reported."""
    counted_usage = None if reader.counted_usage is None else _reported_so_far(reader, reader.counted_usage, [])
    counted = reader.text_buffer.total() + (counted_usage.output_tokens if counted_usage else 0)
    if reader.tool_calls:
        counted += len(reader.tool_calls) * counter.tool_call_overhead()
    notes.append("the output was counted from the received content")
    try:
        limit = output_limit(request, reader.api) if request is not None else None
    except Exception:  # as above
        limit = None
    if limit is not None and counted > limit:
        notes.append(f"the output was limited to the {limit} tokens that the request allows")
        counted = limit
    return max(counted, reported.output_tokens if reported else reader.stated_output)
