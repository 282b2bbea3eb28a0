"""What a gateway charges for a request whose usage is not known, and how it applies limits by window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["DEFAULT_POLICY", "GatewayPolicy", "OtherModel", "Resolution", "may_reason"]

Resolution = Literal["hold", "estimate", "release"]
_RESOLUTIONS: Final = ("hold", "estimate", "release")
OtherModel = Literal["price_file", "higher"]
_OTHER_MODEL: Final = ("price_file", "higher")


@dataclass(frozen=True, slots=True)
class GatewayPolicy:
    """What is charged for a request whose usage is not known: the hold, an estimate, or nothing (``release``).

    Each case is logged as an error, so that it can be compared with the provider's bill. The policy also says what is
    charged if another model answered, how far a provider is read on, and how limits by window are applied. Raises
    ``invalid_argument``.
    """

    unreadable: Resolution = "hold"
    """Something arrived of which nothing could be read. It may have been an answer of any length."""
    unanswered: Resolution = "estimate"
    """The request was sent, and no answer arrived: a timeout, a broken connection, or the stop of the service. An
    estimate is that of the input, and of the output that did arrive."""
    abandoned: Resolution | None = None
    """The client left, and the provider was not read to the end of the answer. ``None``: the hold if the model may
    reason, because reasoning that no text shows may cost more than the text; else an estimate of what arrived."""
    other_model: OtherModel = "price_file"
    """What is charged if the provider served another model than the requested one, which is no router. ``price_file``:
    what its ``priced_model`` says, so the requested model by default. ``higher``: the served model if that costs more.
    Each case is logged as a warning."""
    max_drain_seconds: float = 600
    """How long a provider is read on after its client has left."""
    max_drain_bytes: int = 16 * 1024 * 1024
    max_drained_streams: int = 200
    """How many streams may be read on at the same time."""
    stall_seconds: float = 60
    """A client that takes nothing of its stream for so long counts as gone."""
    alarm_factor: Decimal = Decimal(2)
    """A charge above this multiple of the worst case is logged as an alarm. It is charged all the same."""
    limit_status: Literal[429, 402] = 429
    """The status of a request that a limit by window refuses. Clients retry a 429 automatically, and the header
    ``Retry-After`` says when. If waiting does not help, because the limit is below the request, it is 402."""
    expected_quantile: Decimal | None = None
    """``None``: limits by window count the worst case of requests in flight. Otherwise, they count the share of it that
    this quantile of the last 200 requests used, of the same account and model in this process, such as 0.95. Then a
    window can be exceeded: at most by what requests in flight use above their shares. The hold is the worst case."""

    def __post_init__(self) -> None:
        for name in ("unreadable", "unanswered", "abandoned"):
            value = getattr(self, name)
            if value not in _RESOLUTIONS and not (name == "abandoned" and value is None):
                raise BillingError("invalid_argument", f"{name} is {safe_repr(value)}; use one of {_RESOLUTIONS}")
        if self.other_model not in _OTHER_MODEL:
            raise BillingError(
                "invalid_argument", f"other_model is {safe_repr(self.other_model)}; use one of {_OTHER_MODEL}"
            )

        if self.limit_status not in (429, 402):
            raise BillingError("invalid_argument", f"limit_status is {safe_repr(self.limit_status)}; use 429 or 402")
        quantile = self.expected_quantile
        if quantile is not None and not (isinstance(quantile, Decimal) and 0 < quantile <= 1):
            raise BillingError(
                "invalid_argument", f"expected_quantile is {safe_repr(quantile)}; use a Decimal above 0 and at most 1"
            )

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
