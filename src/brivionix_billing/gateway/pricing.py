"""Pricing of an answer: by the reported usage, else by an estimate, by the hold, or by what the policy says.

An answer is never free because its usage is malformed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.gateway.admission import AdmittedRequest
from brivionix_billing.gateway.policy import DEFAULT_POLICY, GatewayPolicy, Resolution
from brivionix_billing.gateway.safe_log import loggable, without_quotes
from brivionix_billing.gateway.served_model import other_model
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.streams import StreamResult
from brivionix_billing.tokens import WorstCase
from brivionix_billing.usage import Usage, billable_body

__all__ = [
    "PricedResponse",
    "parse_answer",
    "parse_long_answer",
    "price_response",
    "price_unknown",
    "read_answer",
]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")
_USAGE_KEYS: Final = ("usage", "service_tier")


class PricedResponse(NamedTuple):
    """A charge, and the body that the journal stores with it."""

    charge: Charge
    usage: dict[str, Any] | None
    """``None``: the usage of the charge."""


def read_answer(admitted: AdmittedRequest, answer: bytes) -> StreamResult:
    """Read the usage of a complete answer, whatever it is: JSON, events although none were requested, or neither."""
    stream = admitted.usage_stream()
    stream.feed(answer)
    return stream.result()


def parse_answer(body: bytes) -> dict[str, Any] | None:
    """Return a JSON answer that states a usage, whatever follows it; ``None`` for everything else."""
    try:
        reported: Any = json.loads(body)
    except RecursionError:
        return None
    except ValueError:
        try:
            reported, _ = json.JSONDecoder().raw_decode(body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n"))
        except (ValueError, RecursionError):
            return None
    return reported if isinstance(reported, dict) and isinstance(reported.get("usage"), dict) else None


def parse_long_answer(body: bytes) -> dict[str, Any] | None:
    """Return the billable part of a JSON answer that states a usage, such as one with images or embeddings."""
    reported = parse_answer(body)
    if reported is None:
        return None
    try:
        return billable_body(reported)
    except BillingError:  # raised again where it is priced
        return {name: reported[name] for name in ("model", *_USAGE_KEYS) if name in reported}


def price_response(
    book: PriceBook,
    admitted: AdmittedRequest,
    reported: Mapping[str, Any],
    answer: bytes,
    policy: GatewayPolicy = DEFAULT_POLICY,
) -> PricedResponse:
    """Return the charge for an answer, or for the part of a stream that arrived. It may count: run it in a thread.

    ``reported`` is the body with the usage, ``answer`` the bytes that the client got. If the reported usage cannot be
    billed, an estimate is counted from the answer; if that has no price, the worst case is charged. Both are marked as
    estimates in the journal and on the bill, and an error is logged for the operator. Raises what ``PriceBook.rate``
    raises if not even the worst case has a price.
    """
    try:
        priced = _rate_body(book, admitted, billable_body(reported))
    except BillingError as error:
        usage_error = error
    else:
        estimate = _estimate_uncounted(admitted, priced.charge.usage, answer)
        if estimate is None:
            priced = _apply_other_model(book, admitted, priced, policy)
            _log_oddities(admitted, priced.charge, policy)
            return priced
        _LOG.error("%s: the provider reports no tokens, although text arrived", admitted.id)
        return _price_estimate(book, admitted, estimate, policy)
    stated = json.dumps(loggable({key: reported[key] for key in ("model", *_USAGE_KEYS) if key in reported}))
    _LOG.error(
        "%s: the usage cannot be billed (%s: %s); provider: %s",
        admitted.id,
        usage_error.code,
        without_quotes(usage_error.message),
        stated,
    )
    stream = admitted.usage_stream()
    for event in _answer_events(admitted, answer):
        stream.feed(event)
    return _price_estimate(book, admitted, stream.result(), policy)


def _apply_other_model(
    book: PriceBook, admitted: AdmittedRequest, priced: PricedResponse, policy: GatewayPolicy
) -> PricedResponse:
    """Return the charge that the policy says if another model than the requested one served a request."""
    served = other_model(book, admitted, priced.charge.usage)
    if served is None or policy.other_model == "price_file" or priced.usage is None:
        return priced
    try:
        higher = _rate_body(book, admitted, priced.usage, model=served)
    except BillingError as error:
        _LOG.error("%s: %s has no price here: %s", admitted.id, served, error.code)
        return priced
    return higher if higher.charge.units > priced.charge.units else priced


def _price_estimate(
    book: PriceBook, admitted: AdmittedRequest, result: StreamResult, policy: GatewayPolicy
) -> PricedResponse:
    """Return the charge for an estimate, or the hold where an estimate says nothing."""
    # The text of a transcription says nothing about its seconds, and that of an answer with images nothing about them.
    is_held = admitted.api in ("images", "transcriptions") or (result.unreadable and policy.unreadable != "estimate")
    return price_unknown(book, admitted, "hold" if is_held else "estimate", result)


def price_unknown(
    book: PriceBook, admitted: AdmittedRequest, resolution: Resolution, result: StreamResult
) -> PricedResponse:
    """Return the charge for a request whose usage is not known: an estimate that has a price, else the worst case.

    An error is logged, so that the charge can be corrected when the provider's figures are known.
    """
    priced = None
    if resolution == "estimate":
        try:
            priced = _rate_body(book, admitted, result.body)
        except BillingError:
            resolution = "hold"
    if priced is not None and _is_too_much(priced.charge, admitted.worst_case, result):
        resolution, priced = "hold", None
    if priced is None:
        try:
            priced = _rate_body(book, admitted, _worst_body(admitted))
        except BillingError:
            charge = admitted.worst_case.charge
            if charge is None:
                raise
            priced = PricedResponse(charge, None)
    _LOG.error(
        "%s: charged %s Credits, %s; correct it when the provider's figures are known",
        admitted.id,
        format_plain(priced.charge.credits),
        "estimated" if resolution == "estimate" else "the worst case",
    )
    return priced


def _is_too_much(charge: Charge, worst: WorstCase, result: StreamResult) -> bool:
    """Return whether an estimate is above what the request can cost: bytes that cannot be read say nothing more."""
    is_bound = result.unreadable or worst.is_guaranteed
    return is_bound and worst.charge is not None and charge.units > worst.charge.units


def _worst_body(admitted: AdmittedRequest) -> dict[str, Any]:
    """Return the body of a worst case, from which a bill can be made."""
    charge = admitted.worst_case.charge
    # The record of a router must name the model: the most expensive one that it may choose.
    served = {"model": charge.card.model} if charge is not None and charge.card.router else {}
    return {**served, "usage": _worst_usage(admitted)}


def _worst_usage(admitted: AdmittedRequest) -> dict[str, Any]:
    """Return a usage object with the quantities of a worst case."""
    worst = admitted.worst_case
    stated: dict[str, Any] = {"input_tokens": worst.input_tokens, "output_tokens": worst.output_tokens}
    most = None if worst.charge is None else worst.charge.usage
    meters = {} if most is None else most.meters
    details: dict[str, dict[str, Any]] = {
        direction: {
            f"{meter.modality}_tokens": meters[name]
            for name, meter in METERS.items()
            if name in meters and meter.direction == direction and meter.modality in ("audio", "image")
        }
        for direction in ("input", "output")
    }
    if most is not None and admitted.conventions is None:  # by which writes to a cache may stand beside the input
        if most.cache_write_tokens:
            details["input"]["cache_write_tokens"] = most.cache_write_tokens
        if "cache_write_1h" in meters:
            details["input"]["cache_creation"] = {"ephemeral_1h_input_tokens": meters["cache_write_1h"]}
        if most.reasoning_tokens:
            details["output"]["reasoning_tokens"] = most.reasoning_tokens
    for direction, counts in details.items():
        if counts:
            stated[f"{direction}_tokens_details"] = counts
    calls = {METERS[name].argument: value for name, value in meters.items() if not METERS[name].is_token}
    return {**stated, **({"quantities": calls} if calls else {}), "estimated": True}


def _rate_body(
    book: PriceBook, admitted: AdmittedRequest, body: dict[str, Any], *, model: str | None = None
) -> PricedResponse:
    canonical_json(body)  # a body that the journal cannot store is rejected here, while an estimate is still possible
    charge = book.rate(
        Usage.from_response(body, conventions=admitted.conventions),
        model=model or admitted.model,
        group=admitted.token.group,
        at=admitted.received_at,
        service_tier=admitted.service_tier,
        mode=admitted.mode,
    )
    return PricedResponse(charge, body)


def _estimate_uncounted(admitted: AdmittedRequest, usage: Usage, answer: bytes) -> StreamResult | None:
    """Return an estimate of an answer whose usage states no input or no output, although it has a text."""
    has_output = usage.output_tokens or admitted.api == "embeddings"  # which have none, and are long
    if usage.estimated or (usage.input_tokens and has_output):
        return None
    result = read_answer(admitted, answer)
    return result if result.estimated and result.answered and not result.unreadable else None


def _log_oddities(admitted: AdmittedRequest, charge: Charge, policy: GatewayPolicy) -> None:
    """Log what a charge leaves out, what is odd about its usage, and a charge far above the worst case."""
    for path, value in charge.unaccounted:
        _LOG.warning("%s: not charged: %s %s", admitted.id, loggable(path), loggable(value))
    for warning in charge.warnings:
        _LOG.warning("%s: %s", admitted.id, without_quotes(warning))
    worst = admitted.worst_case
    most = worst.charge
    if most is not None and charge.units > most.units * policy.alarm_factor:
        _LOG.critical(
            "%s: ALARM: charged %s Credits, and the worst case was %s; compare it with the provider's bill",
            admitted.id,
            format_plain(charge.credits),
            format_plain(most.credits),
        )
    elif charge.usage.output_tokens > worst.output_tokens:
        _LOG.error(
            "%s: the provider reports %s output tokens; the request allowed %s",
            admitted.id,
            charge.usage.output_tokens,
            worst.output_tokens,
        )


def _answer_events(admitted: AdmittedRequest, answer: bytes) -> Iterator[dict[str, Any]]:
    """Yield an answer as events, without what cannot be billed: its usage and the tier that it states."""
    body = _parse_object(answer)
    if body and admitted.api == "responses":
        items = body.get("output")
        for index, item in enumerate(items if isinstance(items, list) else ()):
            yield {"type": "response.output_item.done", "output_index": index, "item": item}
        yield {"type": "response.completed", "response": _without_usage(body)}
    elif body:
        yield _without_usage(body)
    for line in () if body else answer.split(b"\n"):
        if line.startswith(b"data:"):
            event = _without_usage(_parse_object(line[5:]))
            # Responses nests the body under one key, Anthropic under the other.
            for key in ("response", "message"):
                if isinstance(event.get(key), dict):
                    event[key] = _without_usage(event[key])
            yield event


def _parse_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _without_usage(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in _USAGE_KEYS}
