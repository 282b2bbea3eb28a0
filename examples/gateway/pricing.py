"""From what came back to what is booked. Nothing that was answered is free because its usage is strange."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.rating import Charge
from brivionix_billing.streams import StreamUsage
from brivionix_billing.usage import billable_body

from .admission import AdmittedRequest

__all__ = ["PricedResponse", "price_response"]

_LOG: Final = logging.getLogger("gateway")


class PricedResponse(NamedTuple):
    """A charge, and the body that goes into the journal with it."""

    charge: Charge
    usage: dict[str, Any] | None
    """``None``: as the charge has it."""


def price_response(book: PriceBook, call: AdmittedRequest, stated: Mapping[str, Any], answer: bytes) -> PricedResponse:
    """The charge for a response, or for what is known of a stream.

    ``stated`` is the body with the usage, ``answer`` what the client got of it. If the provider's usage cannot be
    billed, an estimate is: counted from the answer, and if even that has no price, from the most that the request
    allowed. Both are marked as estimates, in the journal and on the bill, and the operator is told.
    """
    try:
        kept = billable_body(stated)
        return _rate_body(book, call, kept)
    except BillingError as error:
        refused = error
    # No texts: customers' words do not belong into a log.
    said = json.dumps({key: stated[key] for key in ("model", "service_tier", "usage") if key in stated})
    _LOG.error("%s: the usage cannot be billed (%s: %s); provider: %s", call.id, refused.code, refused.message, said)
    stream = StreamUsage(call.request, call.counter)
    for event in _events(call, answer):
        stream.feed(event)
    worst = {
        "input_tokens": call.worst_case.input_tokens,
        "output_tokens": call.worst_case.output_tokens,
        "estimated": True,
    }
    try:
        found = _rate_body(book, call, stream.result().body)
    except BillingError:
        found = _rate_body(book, call, {"usage": worst})
    _LOG.error(
        "%s: booked %s Credits, estimated; correct it when the provider's word is known", call.id, found.charge.credits
    )
    return found


def _rate_body(book: PriceBook, call: AdmittedRequest, body: dict[str, Any]) -> PricedResponse:
    canonical_json(body)  # what no journal can hold is refused here, where an estimate can still take its place
    usage = Usage.from_response(body)
    charge = book.rate(
        usage, model=call.model, group=call.token.group, at=call.received_at, service_tier=call.service_tier
    )
    return PricedResponse(charge, body)


def _events(call: AdmittedRequest, answer: bytes) -> Iterator[dict[str, Any]]:
    """An answer as events without what cannot be billed: its usage, and the tier that it claims."""
    body = _parse_object(answer)
    if body and call.api == "chat":
        yield _without_usage(body)
    elif body:
        items = body.get("output")
        for place, item in enumerate(items if isinstance(items, list) else ()):
            yield {"type": "response.output_item.done", "output_index": place, "item": item}
        yield {"type": "response.completed", "response": _without_usage(body)}
    for line in () if body else answer.split(b"\n"):
        if line.startswith(b"data:"):
            event = _without_usage(_parse_object(line[5:]))
            if isinstance(event.get("response"), dict):
                event["response"] = _without_usage(event["response"])
            yield event


def _parse_object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _without_usage(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("usage", "service_tier")}
