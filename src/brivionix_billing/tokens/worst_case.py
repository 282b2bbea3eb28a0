"""The worst case of a request: the most tokens, calls and Credits that it can use.

A gateway holds this amount before it forwards the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, REQUEST_METERS, TOKEN_METERS, Meter
from brivionix_billing.rating import Charge, RateCard
from brivionix_billing.times import as_utc
from brivionix_billing.tokens.gemini import gemini_settings
from brivionix_billing.tokens.request_body import Api
from brivionix_billing.tokens.token_count import TokenCount
from brivionix_billing.usage import MAX_COUNT, Usage

if TYPE_CHECKING:
    from brivionix_billing.pricebook import PriceBook
    from brivionix_billing.pricebook.book import ModelInfo

__all__ = ["WorstCase", "most_expensive_charge", "request_modalities", "max_output_tokens", "tool_call_bound"]

_OUTPUT_KEYS: Final = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "responses": ("max_output_tokens",),
    "embeddings": (),
    "anthropic": ("max_tokens",),
    "gemini": ("maxOutputTokens", "max_output_tokens"),
}
_MAX_CHOICES: Final = 128
_FEE_ARGUMENTS: Final = {
    "web_search": "web_search_calls",
    "file_search": "file_search_calls",
    "code_interpreter": "code_interpreter_sessions",
    "image_generation": "image_generation_calls",
}
_ASSUMED_TOOL_CALLS: Final = 10
"""Assumed calls of each tool of the provider if nothing bounds them (``max_tool_calls``)."""


class Modalities(NamedTuple):
    """The modalities of a request besides text."""

    images: bool
    audio: bool
    audio_output: bool
    """Audio in the output."""
    image_output: bool
    """Images in the output."""


def request_modalities(request: Mapping[str, Any], count: TokenCount) -> Modalities:
    """Return the modalities of the counted input, and those that ``modalities`` requests as output."""
    parts, modalities = {part.kind for part in count.parts}, request.get("modalities")
    if modalities is None and request.get("contents") is not None:
        settings = gemini_settings(request)
        modalities = settings.get("responseModalities", settings.get("response_modalities"))
    outputs = [str(name).lower() for name in modalities] if isinstance(modalities, list | tuple) else []
    return Modalities("images" in parts, "audio" in parts, "audio" in outputs, "image" in outputs)


class WorstCase(NamedTuple):
    """The most that a request can use and cost. ``reasons`` states why it is not guaranteed."""

    input_tokens: int
    output_tokens: int
    """Output tokens of all choices together."""
    calls: dict[str, int]
    """Calls of the provider's tools with a fee, by argument of ``Usage``: ``{"web_search_calls": 10}``."""
    is_guaranteed: bool
    """Whether the provider cannot report more than this. If it can, ``reasons`` states why."""
    reasons: tuple[str, ...]
    input_count: TokenCount
    """The count of the request from which the worst case follows."""
    charge: Charge | None
    """The charge at the most expensive prices that can apply; ``None`` without a group and a time."""

    @property
    def credits(self) -> Decimal:
        """The Credits to hold. Raises ``invalid_argument`` if the worst case has no charge."""
        if self.charge is None:
            raise BillingError("invalid_argument", "a worst case in Credits needs a price book, a group and a time")
        return self.charge.credits


def max_output_tokens(request: Mapping[str, Any], api: Api, model_info: ModelInfo | None, count: TokenCount) -> int:
    """Return the most output tokens of a request, of all its choices together.

    A limit that belongs to another API is ignored. Raises ``invalid_request`` for an invalid limit, and
    ``cost_unbounded`` if neither the request nor the price book has one.
    """
    keys = _OUTPUT_KEYS[api]
    choices_key = "n"
    if api == "gemini":
        request = gemini_settings(request)
        choices_key = "candidateCount" if request.get("candidateCount") is not None else "candidate_count"
    limits = [_require_count(request[key], key) for key in keys if request.get(key) is not None]
    limit = max(limits) if limits else None
    choices = _require_count(request[choices_key], choices_key) if request.get(choices_key) is not None else 1
    if not 1 <= choices <= _MAX_CHOICES:
        raise BillingError("invalid_request", f"{choices_key} is {choices}; use 1 to {_MAX_CHOICES}")
    if model_info is not None:
        limits = [] if limit is None else [limit]
        if model_info.max_output is not None:
            limits.append(model_info.max_output)
        if model_info.window is not None:
            limits.append(max(0, model_info.window - int(count)) if count.exact else model_info.window)
        limit = min(limits) if limits else None
    if limit is None:
        raise BillingError(
            "cost_unbounded", f"the request has none of {', '.join(keys)}, and no price book states the model's limit"
        )
    if limit * choices > MAX_COUNT:
        raise BillingError("invalid_request", f"{limit} output tokens in each of {choices} choices are more than 10^12")
    return limit * choices


def tool_call_bound(request: Mapping[str, Any], max_tool_calls: int | None) -> tuple[dict[str, int], bool]:
    """Return the most calls with a fee that a request can make, and whether anything bounds them."""
    tools = request.get("tools")
    kinds = (
        [str(tool.get("type")) for tool in tools if isinstance(tool, Mapping)]
        if isinstance(tools, list | tuple)
        else []
    )
    if request.get("web_search_options") is not None:
        kinds.append("web_search")
    if request.get("max_tool_calls") is not None:
        bound, is_bounded = _require_count(request["max_tool_calls"], "max_tool_calls"), True
    elif max_tool_calls is not None:
        bound, is_bounded = _require_count(max_tool_calls, "max_tool_calls", "invalid_argument"), True
    else:
        bound, is_bounded = _ASSUMED_TOOL_CALLS, False
    calls = {}
    for tool, argument in _FEE_ARGUMENTS.items():
        if any(kind.startswith(tool) for kind in kinds):
            # The fee of a code interpreter is per container, and a request has one.
            calls[argument] = min(bound, 1) if tool == "code_interpreter" else bound
    return calls, is_bounded or not calls


def most_expensive_charge(
    book: PriceBook,
    model: str,
    *,
    group: str,
    at: datetime,
    service_tier: str | None,
    mode: str | None,
    input_tokens: int,
    output_tokens: int,
    calls: Mapping[str, int],
    modalities: Modalities,
) -> Charge:
    """Return the most expensive charge for at most this many tokens and calls.

    ``modalities`` are those besides text; audio and image output must have a price (``meter_unpriced``). No cache
    discount is assumed. Every meter that the tokens may be on counts where it costs more than the usual one, and so do
    every context tier that the input can reach, every region, and every model that a router may choose. The window is
    that of ``at``. Raises what ``PriceBook.rate`` raises.
    """
    charges = [
        _card_charge(card, model, at, input_tokens, output_tokens, calls, modalities)
        for card in book.possible_rate_cards(model, group=group, at=at, service_tier=service_tier, mode=mode)
        if card.context.lower is None or card.context.lower.last_below < input_tokens
    ]
    return max(charges, key=lambda charge: charge.units)


def _card_charge(
    card: RateCard,
    model: str,
    at: datetime,
    input_tokens: int,
    output_tokens: int,
    calls: Mapping[str, int],
    modalities: Modalities,
) -> Charge:
    """Return the most expensive charge by one rate card."""
    for meter, is_present in (
        ("audio_input", modalities.audio),
        ("audio_output", modalities.audio_output),
        ("image_output", modalities.image_output),
    ):
        if is_present and meter not in card.unit_rates:
            # Raise before the call. Afterwards, the usage would have such tokens and no charge.
            raise BillingError(
                "meter_unpriced", f"the request may use {meter}, and {safe_repr(model)} has no price for it"
            )
    if card.context.upper is not None:
        input_tokens = min(input_tokens, card.context.upper.last_below)
    counts: dict[str, int] = {"input_tokens": input_tokens, "output_tokens": output_tokens, **calls}
    for candidates, amount in (
        (_candidates("input", modalities.audio, modalities.images), input_tokens),
        (_candidates("output", modalities.audio_output, modalities.image_output), output_tokens),
    ):
        best = max(candidates, key=lambda name: card.unit_rates.get(name, 0))
        counts |= dict.fromkeys(candidates[best], amount)
    for name in ("web_search_low", "web_search_high"):
        searches = calls.get("web_search_calls", 0)
        if searches and card.unit_rates.get(name, 0) > card.unit_rates.get("web_search", 0):
            counts[METERS[name].argument] = searches
    usage = Usage(**counts, estimated=True)  # type: ignore[arg-type]  # names of counts only
    return Charge(card.charge_quanta(usage), usage, card, as_utc(at))


@cache
def _candidates(direction: str, audio: bool, images: bool) -> dict[str, list[str]]:
    """Return the meters that tokens may be on, the usual one first, with their arguments and all that contain these."""
    possible = {"text": True, "audio": audio, "image": images}
    meters = [meter for meter in TOKEN_METERS if meter.direction == direction and possible.get(meter.modality or "")]
    meters += [REQUEST_METERS["reasoning"]] if direction == "output" else []
    meters.sort(key=lambda meter: meter.name != direction)
    return {
        meter.name: [meter.argument, *(METERS[parent].argument for parent in _containing(meter))] for meter in meters
    }


def _containing(meter: Meter) -> list[str]:
    """Return all meters whose arguments contain the argument of a meter."""
    return [name for parent in meter.parents for name in (parent, *_containing(METERS[parent]))]


def _require_count(value: object, key: str, code: str = "invalid_request") -> int:
    minimum = 0 if key == "max_tool_calls" else 1
    if type(value) is not int or not minimum <= value <= MAX_COUNT:
        raise BillingError(code, f"{key} is {safe_repr(value)}; use a whole number from {minimum} to 10^12")
    return value
