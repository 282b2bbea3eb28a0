"""The most that a request can cost: what a gateway holds before it lets the request through."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS_BY_NAME
from brivionix_billing.rating import Charge, RateCard
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
}
_MOST_CHOICES: Final = 128
_TOOLS: Final = {
    "web_search": "web_search_calls",
    "file_search": "file_search_calls",
    "code_interpreter": "code_interpreter_sessions",
    "image_generation": "image_generation_calls",
}
_USUAL_TOOL_CALLS: Final = 10
"""Calls of a provider's tool that are allowed for where the request does not bound them (``max_tool_calls``)."""


class Modalities(NamedTuple):
    """What a request may have beside text."""

    images: bool
    audio: bool
    audio_output: bool
    """Audio in the output."""
    image_output: bool
    """Images in the output."""


def request_modalities(request: Mapping[str, Any], count: TokenCount) -> Modalities:
    """By the parts of the input, and the ``modalities`` that are asked for."""
    parts, modalities = count.by_kind(), request.get("modalities")
    asked = modalities if isinstance(modalities, list | tuple) else ()
    return Modalities("images" in parts, "audio" in parts, "audio" in asked, "image" in asked)


class WorstCase(NamedTuple):
    """The most that a request can use, and cost. ``reasons`` states which bounds are not guaranteed."""

    input_tokens: int
    output_tokens: int
    """Of all choices together."""
    calls: dict[str, int]
    """Calls of the provider's tools that cost a fee, by argument of ``Usage``: ``{"web_search_calls": 10}``."""
    is_guaranteed: bool
    """Whether the provider cannot report more than this: no tool of the provider's own runs, nothing is unseen."""
    reasons: tuple[str, ...]
    input_count: TokenCount
    """The count of the request that this was made from."""
    charge: Charge | None
    """At the dearest prices that it can meet; ``None`` where no group and time were given."""

    @property
    def credits(self) -> Decimal:
        """The Credits to hold. Raises ``invalid_argument`` where the worst case was made without prices."""
        if self.charge is None:
            raise BillingError("invalid_argument", "a worst case in Credits needs a price book, a group and a time")
        return self.charge.credits


def max_output_tokens(request: Mapping[str, Any], api: Api, facts: ModelInfo | None, count: TokenCount) -> int:
    """The most output tokens of a request, all its choices together. A limit of another API bounds nothing.

    Raises ``invalid_request`` for bounds that are no counts, ``cost_unbounded`` where neither the request nor the book
    says.
    """
    keys = _OUTPUT_KEYS[api]
    given = [_require_count(request[key], key) for key in keys if request.get(key) is not None]
    asked = max(given) if given else None
    choices = _require_count(request["n"], "n") if request.get("n") is not None else 1
    if not 1 <= choices <= _MOST_CHOICES:
        raise BillingError("invalid_request", f"n is {choices}; a request has 1 to {_MOST_CHOICES} choices")
    if facts is not None:
        room = facts.window - int(count) if count.exact else facts.window
        most = max(0, min(facts.max_output, room))
        asked = most if asked is None else min(asked, most)
    if asked is None:
        raise BillingError(
            "cost_unbounded", f"the request has none of {', '.join(keys)}, and no price book says the model's limit"
        )
    if asked * choices > MAX_COUNT:
        raise BillingError("invalid_request", f"{asked} output tokens in each of {choices} choices are more than 10^12")
    return asked * choices


def tool_call_bound(request: Mapping[str, Any], allowed: int | None) -> tuple[dict[str, int], bool]:
    """The calls with a fee that a request can make at the most, and whether anything bounds them."""
    tools = request.get("tools")
    kinds = (
        [str(tool.get("type")) for tool in tools if isinstance(tool, Mapping)]
        if isinstance(tools, list | tuple)
        else []
    )
    if request.get("web_search_options") is not None:
        kinds.append("web_search")
    if request.get("max_tool_calls") is not None:
        bound, known = _require_count(request["max_tool_calls"], "max_tool_calls"), True
    elif allowed is not None:
        bound, known = _require_count(allowed, "max_tool_calls", "invalid_argument"), True
    else:
        bound, known = _USUAL_TOOL_CALLS, False
    found = {}
    for tool, argument in _TOOLS.items():
        if any(kind.startswith(tool) for kind in kinds):
            # A code interpreter costs per container, and a request has one.
            found[argument] = min(bound, 1) if tool == "code_interpreter" else bound
    return found, known or not found


def most_expensive_charge(
    book: PriceBook,
    model: str,
    *,
    group: str,
    at: datetime,
    service_tier: str | None,
    tokens: int,
    output: int,
    calls: Mapping[str, int],
    kinds: Modalities,
) -> Charge:
    """The dearest charge for at most so many input and output tokens and calls.

    ``kinds`` is what there may be beside text; audio has to have a price (``meter_unpriced``). No cache discount is
    assumed, writing to a cache is where that costs more, and of the two context tiers the dearer one that the input can
    reach. Raises what ``PriceBook.rate`` raises.
    """
    short, long = book.rate_cards(model, group=group, at=at, service_tier=service_tier)
    inputs = ["input", "cache_write", "cache_write_1h", *(["image_input"] if kinds.images else [])]
    inputs += ["audio_input"] if kinds.audio else []
    outputs = [
        "output",
        *(["audio_output"] if kinds.audio_output else []),
        *(["image_output"] if kinds.image_output else []),
    ]
    for meter, there in (
        ("audio_input", kinds.audio),
        ("audio_output", kinds.audio_output),
        ("image_output", kinds.image_output),
    ):
        if there and short.unit_rates[METERS_BY_NAME[meter].position] is None:
            # Told before the call: afterwards the usage would have such tokens, and no charge.
            raise BillingError(
                "meter_unpriced", f"the request may use {meter}, and {safe_repr(model)} has no price of it"
            )
    reached = [(short, tokens if long is None else min(tokens, short.context_above or 0))]
    if long is not None and tokens > (short.context_above or 0):
        reached.append((long, tokens))
    charges = []
    for card, amount in reached:
        counts: dict[str, int] = {"input_tokens": amount, "output_tokens": output}
        on = _most_expensive_meter(card, inputs)
        if on != "input":
            counts[f"{on}_tokens"] = amount
        on = _most_expensive_meter(card, outputs)
        if on != "output":
            counts[f"{on}_tokens"] = output
        usage = Usage(**counts, **calls, estimated=True)  # type: ignore[arg-type]  # names of counts only
        charges.append(book.rate(usage, model=model, group=group, at=at, service_tier=service_tier))
    return max(charges, key=lambda charge: charge.units)


def _most_expensive_meter(card: RateCard, meters: list[str]) -> str:
    return max(meters, key=lambda name: card.unit_rates[METERS_BY_NAME[name].position] or 0)


def _require_count(value: object, key: str, code: str = "invalid_request") -> int:
    least = 0 if key == "max_tool_calls" else 1
    if type(value) is not int or not least <= value <= MAX_COUNT:
        raise BillingError(code, f"{key} is {safe_repr(value)}; it is a whole number from {least} to 10^12")
    return value
