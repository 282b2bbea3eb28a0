"""The words for what is found about a row of a gateway's log, the same for all gateways."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.reconcile.rows import State

__all__ = ["CAUSE_OF_KIND", "Cause", "Verdict", "cause_of_error"]

CAUSE_OF_KIND: Final = {
    "input": "input_price",
    "image_input": "input_price",
    "audio_input": "input_price",
    "output": "output_price",
    "audio_output": "output_price",
    "cache_read": "cache_price",
    "cache_write": "cache_write_price",
    "cache_write_1h": "cache_write_price",
    "request": "per_call_price",
}
"""Meter -> the cause of a row that has another price for it."""
_CAUSE_OF_ERROR: Final = {
    "unknown_group": "model_not_allowed",
    "model_not_allowed": "model_not_allowed",
    "no_price": "price_date",
    "unknown_service_tier": "service_tier",
    "service_tier_unavailable": "service_tier",
    "usage_contradiction": "usage_contradiction",
    "invalid_usage": "usage_contradiction",
    "unknown_usage_format": "usage_missing",
}


class Cause(NamedTuple):
    """A cause of a difference, and what it was found by."""

    name: str
    text: str


class Verdict(NamedTuple):
    """What was found about a row."""

    state: State
    cause: str
    expected: Decimal | int | None
    """The charge by the price file; ``None`` if there is none."""
    text: str = ""
    """What the cause was found by, for people."""


def cause_of_error(error: BillingError) -> str:
    """Return the cause of a row that the price book does not price."""
    return _CAUSE_OF_ERROR.get(error.code, "unknown_model")
