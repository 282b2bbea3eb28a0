"""The worst case of requests that are not priced by the text alone: images and transcriptions.

No provider publishes how it counts them, so the bounds are wide and say so: ``worst_case.is_guaranteed`` is false where
they follow from an assumption.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.gateway.client_errors import GatewayError
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge, RateCard
from brivionix_billing.times import as_utc
from brivionix_billing.tokens import CountPart, TokenCount, TokenCounter, WorstCase
from brivionix_billing.usage import Usage

__all__ = ["MIN_AUDIO_BYTES_PER_SECOND", "image_worst_case", "transcription_worst_case"]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")
_MAX_IMAGES: Final = 10
"""Images of one request that OpenAI's API reference allows."""
_TOKENS_PER_PARTIAL_IMAGE: Final = 100
"""Further output tokens of each partial image of a stream, by OpenAI's image guide."""
_OVERHEAD: Final = 64
"""Assumed bound of the tokens around a prompt."""
MIN_AUDIO_BYTES_PER_SECOND: Final = 750
"""Assumed lower bound of the bytes of a second of audio: 6 kbit/s, the lowest of Opus (RFC 6716, section 2.1.1)."""
_TEXT_FORMATS: Final = frozenset({"text", "srt", "vtt"})


def image_worst_case(
    book: PriceBook, counter: TokenCounter, request: Mapping[str, Any], *, group: str, at: datetime
) -> WorstCase:
    """Return the worst case of a request to generate images.

    By the image, it is ``n`` images. By the token, it is the model's maximum output of the price file for each image;
    ``cost_unbounded`` if the file has none. The prompt has at most a token per byte.
    """
    prompt, count = request.get("prompt"), request.get("n")
    if not isinstance(prompt, str):
        raise GatewayError(400, "invalid_request", "The request has no prompt; add 'prompt'.", "prompt")
    images = 1 if count is None else count
    if type(images) is not int or not 1 <= images <= _MAX_IMAGES:
        raise GatewayError(400, "invalid_request", f"n must be a whole number from 1 to {_MAX_IMAGES}.", "n")
    partial = request.get("partial_images") or 0
    if type(partial) is not int or not 0 <= partial <= _MAX_IMAGES:
        raise GatewayError(400, "invalid_request", "partial_images must be a small whole number.", "partial_images")
    input_tokens = len(prompt.encode("utf-8", "surrogatepass")) + _OVERHEAD
    per_image = book.model_info(counter.model).max_output
    output = None if per_image is None else images * (per_image + partial * _TOKENS_PER_PARTIAL_IMAGE)

    def usage(card: RateCard) -> Usage:
        counts: dict[str, Any] = {}
        if "output_images" in card.unit_rates:
            counts["output_images"] = images
        if "image_output" in card.unit_rates or "output" in card.unit_rates:
            if output is None:
                raise _unbounded_error(counter.model, "context.max_output, the tokens of its largest image")
            counts |= {"output_tokens": output, "image_output_tokens": output}
        if "input" in card.unit_rates:
            counts["input_tokens"] = input_tokens
        return Usage(**counts, estimated=True)

    return _worst_case(book, counter, request, group, at, usage, (f"at most a token per byte and {_OVERHEAD} more",))


def transcription_worst_case(
    book: PriceBook, counter: TokenCounter, request: Mapping[str, Any], *, group: str, at: datetime
) -> WorstCase:
    """Return the worst case of a request to transcribe or translate a file.

    By the second, the file has at least 750 bytes per second. By the token of audio, it is the maximum input and output
    of the model that the price file states; ``cost_unbounded`` if it states none. Without either price, the model does
    not hear: ``meter_unpriced``.
    """
    file = request.get("file")
    if not isinstance(file, bytes):
        raise GatewayError(400, "invalid_request", "The form has no file; add 'file'.", "file")
    if request.get("response_format") in _TEXT_FORMATS:
        raise GatewayError(
            400,
            "invalid_request",
            "An answer in this response_format states no usage; use json, verbose_json or diarized_json.",
            "response_format",
        )
    seconds = -(-len(file) // MIN_AUDIO_BYTES_PER_SECOND)
    facts = book.model_info(counter.model)

    def usage(card: RateCard) -> Usage:
        counts: dict[str, Any] = {}
        if "audio_input_seconds" in card.unit_rates:
            counts["audio_input_seconds"] = seconds
        # A model without a price of audio does not hear: what it might report would be charged like a text.
        if "audio_input" in card.unit_rates:
            most = facts.max_input or facts.window
            if most is None or (facts.max_output or facts.window) is None:
                raise _unbounded_error(counter.model, "context.max_input and context.max_output")
            counts |= {"input_tokens": most, "output_tokens": facts.max_output or facts.window}
            if card.unit_rates["audio_input"] > card.unit_rates.get("input", 0):
                counts["audio_input_tokens"] = most
        return Usage(**counts, estimated=True)

    reasons = (f"a second of audio is assumed to have at least {MIN_AUDIO_BYTES_PER_SECOND} bytes",)
    return _worst_case(book, counter, request, group, at, usage, reasons)


def _unbounded_error(model: str, what: str) -> BillingError:
    _LOG.error("%s cannot be sold here: its price file does not bound what it may use; state %s", model, what)
    return BillingError("cost_unbounded", f"the most that {model} may cost here is not known; use another model")


def _worst_case(
    book: PriceBook,
    counter: TokenCounter,
    request: Mapping[str, Any],
    group: str,
    at: datetime,
    usage_for: Callable[[RateCard], Usage],
    reasons: tuple[str, ...],
) -> WorstCase:
    tier, mode = request.get("service_tier"), request.get("speed")
    cards = book.possible_rate_cards(
        counter.model,
        group=group,
        at=at,
        service_tier=tier if isinstance(tier, str) else None,
        mode=mode if isinstance(mode, str) else None,  # the charge is made in it, too
    )
    charges = []
    for card in cards:
        usage = usage_for(card)
        if not usage.meters:
            raise BillingError("meter_unpriced", f"{card.model} has no price for what this request asks for")
        charges.append(Charge(card.charge_quanta(usage), usage, card, as_utc(at)))
    charge = max(charges, key=lambda each: each.units)
    usage = charge.usage
    calls = {
        METERS[name].argument: int(quantity) for name, quantity in usage.meters.items() if not METERS[name].is_token
    }
    part = CountPart("messages", usage.input_tokens, usage.input_tokens, False, reasons[0])
    count = TokenCount((part,))
    return WorstCase(usage.input_tokens, usage.output_tokens, calls, False, reasons, count, charge)
