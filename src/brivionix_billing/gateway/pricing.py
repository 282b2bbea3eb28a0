"""Pricing of a response: by the reported usage, else by an estimate, else by the worst case.

An answer is never free because its usage is malformed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.errors import BillingError
from brivionix_billing.gateway.admission import AdmittedRequest
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.streams import StreamUsage
from brivionix_billing.usage import Usage, billable_body

__all__ = ["PricedResponse", "price_response"]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")


class PricedResponse(NamedTuple):
    """A charge, and the body that the journal stores with it."""

    charge: Charge
    usage: dict[str, Any] | None
    """``None``: the usage of the charge."""


def price_response(
    book: PriceBook, admitted: AdmittedRequest, reported: Mapping[str, Any], answer: bytes
) -> PricedResponse:
    """Return the charge for a response, or for the part of a stream that arrived. It may count: run it in a thread.

    ``reported`` is the body with the usage, ``answer`` the bytes that the client got. If the reported usage cannot be
    billed, an estimate is counted from the answer; if that has no price, the worst case is charged. Both are marked as
    estimates in the journal and on the bill, and an error is logged for the operator. Raises what ``PriceBook.rate``
    raises if not even the worst case has a price.
    """
    try:
        return _rate_body(book, admitted, billable_body(reported))
    except BillingError as error:
        usage_error = error
    # Only these keys are logged: never log what customers or models wrote.
    stated = json.dumps({key: reported[key] for key in ("model", "service_tier", "usage") if key in reported})
    _LOG.error(
        "%s: the usage cannot be billed (%s: %s); provider: %s",
        admitted.id,
        usage_error.code,
        usage_error.message,
        stated,
    )
    stream = StreamUsage(admitted.request, admitted.counter)
    for event in _answer_events(admitted, answer):
        stream.feed(event)
    worst_usage = {
        "input_tokens": admitted.worst_case.input_tokens,
        "output_tokens": admitted.worst_case.output_tokens,
        "estimated": True,
    }
    try:
        priced = _rate_body(book, admitted, stream.result().body)
    except BillingError:
        priced = _rate_body(book, admitted, {"usage": worst_usage})
    _LOG.error(
        "%s: charged %s Credits, estimated; correct it when the provider's figures are known",
        admitted.id,
        priced.charge.credits,
    )
    return priced


def _rate_body(book: PriceBook, admitted: AdmittedRequest, body: dict[str, Any]) -> PricedResponse:
    canonical_json(body)  # a body that the journal cannot store is rejected here, while an estimate is still possible
    charge = book.rate(
        Usage.from_response(body),
        model=admitted.model,
        group=admitted.token.group,
        at=admitted.received_at,
        service_tier=admitted.service_tier,
    )
    return PricedResponse(charge, body)


def _answer_events(admitted: AdmittedRequest, answer: bytes) -> Iterator[dict[str, Any]]:
    """Yield an answer as events, without what cannot be billed: its usage and the tier that it states."""
    body = _parse_object(answer)
    if body and admitted.api == "chat":
        yield _without_usage(body)
    elif body:
        items = body.get("output")
        for index, item in enumerate(items if isinstance(items, list) else ()):
            yield {"type": "response.output_item.done", "output_index": index, "item": item}
        yield {"type": "response.completed", "response": _without_usage(body)}
    for line in () if body else answer.split(b"\n"):
        if line.startswith(b"data:"):
            event = _without_usage(_parse_object(line[5:]))
            if isinstance(event.get("response"), dict):
                event["response"] = _without_usage(event["response"])
            yield event


def _parse_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _without_usage(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("usage", "service_tier")}
