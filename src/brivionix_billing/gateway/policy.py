"""What a gateway charges for a request whose usage is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["DEFAULT_POLICY", "GatewayPolicy", "Resolution", "may_reason"]

Resolution = Literal["hold", "estimate", "release"]
_RESOLUTIONS: Final = ("hold", "estimate", "release")


@dataclass(frozen=True, slots=True)
class GatewayPolicy:
    """What is charged for a request whose usage is not known: the hold, an estimate, or nothing (``release``).

    Each case is logged as an error, so that it can be compared with the provider's bill. Raises ``invalid_argument``.
    """

    unreadable: Resolution = "hold"
    """Something arrived of which nothing could be read. It may have been an answer of any length."""
    unanswered: Resolution = "estimate"
    """The request was sent, and no answer arrived: a timeout, a broken connection, or the stop of the service. An
    estimate is that of the input, and of the output that did arrive."""
    abandoned: Resolution | None = None
    """The client left, and the provider was not read to the end of the answer. ``None``: the hold if the model may
    reason, because reasoning that no text shows may cost more than the text; else an estimate of what arrived."""
    max_drain_seconds: float = 600
    """How long a provider is read on after its client has left."""
    max_drain_bytes: int = 16 * 1024 * 1024
    max_drained_streams: int = 200
    """How many streams may be read on at the same time."""
    stall_seconds: float = 60
    """A client that takes nothing of its stream for so long counts as gone."""
    alarm_factor: Decimal = Decimal(2)
    """A charge above this multiple of the worst case is logged as an alarm. It is charged all the same."""

    def __post_init__(self) -> None:
        for name in ("unreadable", "unanswered", "abandoned"):
            value = getattr(self, name)
            if value not in _RESOLUTIONS and not (name == "abandoned" and value is None):
                raise BillingError("invalid_argument", f"{name} is {safe_repr(value)}; use one of {_RESOLUTIONS}")

    def for_abandoned(self, request: Mapping[str, Any], api: str, family: str) -> Resolution:
        """Return what is charged for an answer that its client left; see :func:`may_reason`."""
        if self.abandoned is not None:
            return self.abandoned
        return "hold" if may_reason(request, api, family) else "estimate"


DEFAULT_POLICY: Final = GatewayPolicy()

_NOT_REASONING: Final = ("gpt-4", "gpt-5-chat", "embeddings")
"""Beginnings of the token families of models that do not reason."""


def may_reason(request: Mapping[str, Any], api: str, family: str) -> bool:
    """Return whether the answer to a request may contain reasoning that the client is not shown.

    Models of Anthropic reason if the request says so. Others do unless the effort is ``none``, or their token family
    is one that does not reason.
    """
    if api == "anthropic":
        thinking = request.get("thinking")
        return isinstance(thinking, Mapping) and thinking.get("type") != "disabled"
    reasoning = request.get("reasoning")
    effort = request.get("reasoning_effort") or (reasoning.get("effort") if isinstance(reasoning, Mapping) else None)
    return effort != "none" and not family.startswith(_NOT_REASONING)
