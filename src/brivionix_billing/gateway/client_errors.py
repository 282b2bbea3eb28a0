"""Errors in the formats that the clients of OpenAI and Anthropic expect, with the codes of this library.

The message of a :class:`BillingError` is for the operator: it may name prices, groups or the database. A client gets a
sentence of the table below, or the error's own message if that only concerns the client's request.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.ledger import LimitReachedError, ShortfallError
from brivionix_billing.times import format_instant

__all__ = ["RESPONSE_HEADERS", "ErrorFormat", "GatewayError", "error_body", "from_billing_error", "from_provider_error"]

ErrorFormat = Literal["openai", "anthropic"]

RESPONSE_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every response: it is not cached, and not taken for a page."""

_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_ERROR_TYPES: Final = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_CLIENT_SAFE_CODES: Final = frozenset(
    {"invalid_request", "request_too_large", "cost_unbounded", "unknown_service_tier", "invalid_period"}
)
"""Codes whose messages only concern the client's request."""
_CLIENT_MESSAGES: Final = {
    "malformed_authorization": "Send your API token as: Authorization: Bearer YOUR_TOKEN",
    "unknown_token": "This API token is unknown.",
    "token_disabled": "This API token is disabled.",
    "token_expired": "This API token has expired.",
    "token_exhausted": "This API token has spent its limit.",
    "token_changed": "This API token was changed a moment ago. Try again.",
    "account_frozen": "Your account is frozen. Contact the support.",
    "member_frozen": "Your access is frozen. Contact the owner of the account that pays for you.",
    "member_removed": "You are no longer a member of the account that paid for you.",
    "unknown_model": "This model does not exist here; GET /v1/models lists the models that you may use.",
    "unknown_group": "The group of this API token is no longer served.",
    "model_not_allowed": "The group of this API token may not use this model; GET /v1/models lists the models it may.",
    "no_price": "This model is not sold at this time.",
    "service_tier_unavailable": "This model is not sold in this service tier.",
    "meter_unpriced": "The request uses a tool or a kind of content that is not sold here.",
    "ledger_unavailable": "Your balance cannot be checked at the moment. Try again soon.",
}
_STATUS: Final = {"meter_unpriced": 400, "invalid_period": 400}
"""Status of codes for which the request is to blame, although in a bill the gateway would be."""
_OPERATOR_CODES: Final = frozenset(
    {"invalid_api_key", "insufficient_quota", "billing_hard_limit_reached", "account_deactivated"}
)
"""Codes of the provider that concern the gateway's account there, not the client's account here."""
_OPERATOR_MESSAGE: Final = "Your credit balance"
"""Beginning of a message for which Anthropic has no code of its own: the gateway's account there is empty."""


def error_body(
    status: int, code: str | None, message: str, param: str | None = None, error_format: ErrorFormat = "openai"
) -> dict[str, Any]:
    """Return the body of an error in OpenAI's format, or Anthropic's."""
    if error_format == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message, "code": code}}
    kind = _ERROR_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class GatewayError(Exception):
    """An error to answer a client with: an HTTP status, headers such as ``retry-after``, and a body."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers: dict[str, str] = dict(RESPONSE_HEADERS)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.code, self.message, self.param), {"headers": self.headers}

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer in OpenAI's format, JSON data."""
        return self.body_in("openai")

    def body_in(self, error_format: ErrorFormat) -> dict[str, Any]:
        """Return the body of the answer in the format that the client expects, JSON data."""
        return error_body(self.status, self.code, self.message, self.param, error_format)


def from_billing_error(error: BillingError, limit_status: int = 429) -> GatewayError:
    """Return the answer to a client for an error of the library. Nothing is disclosed that is not the client's own.

    ``limit_status`` is the status for a limit by window that resets: see ``GatewayPolicy``.
    """
    if isinstance(error, LimitReachedError):
        return _limit_error(error, limit_status)
    status = _STATUS.get(error.code, error.http_status or 500)
    if isinstance(error, ShortfallError) and error.hidden_from is not None:
        message = (
            f"This request may cost up to {format_plain(error.needed)} Credits, and the account that pays for you does "
            "not have them available. Contact its owner, or allow fewer output tokens."
        )
    elif isinstance(error, ShortfallError):
        # 402 and not 429: clients retry a 429 automatically, and waiting brings no Credits.
        subject = "Your account has" if error.code == "insufficient_credits" else "The limit of this API token leaves"
        message = (
            f"{subject} {format_plain(error.available)} Credits{' for this request' if error.restricted else ''}, and "
            f"this request may cost up to {format_plain(error.needed)}. "
        )
        if error.resets is None:
            message += "Top up, or allow fewer output tokens."
        else:
            message += f"Your plan {error.plan!r} lasts until {format_instant(error.resets)}; renew or change it."
    elif error.code in _CLIENT_SAFE_CODES:
        message = error.message
    else:
        message = _CLIENT_MESSAGES.get(error.code, "The gateway failed. Nothing was charged.")
    param = "model" if error.code in ("unknown_model", "model_not_allowed", "no_price") else None
    return GatewayError(status, error.code if status < 500 or status == 503 else "internal_error", message, param)


def _limit_error(error: LimitReachedError, status: int) -> GatewayError:
    """Return the answer for a limit by window. A 429 says when a retry can succeed."""
    name = "Credits" if error.unit == "credits" else error.unit
    if error.hidden_from is None:
        use = f"{format_plain(error.used)} of {format_plain(error.amount)} {name} are used, and this request"
    else:
        use = "it is that of the account that pays for you, and this request"
    message = f"The limit {error.limit!r} is reached: {use} may use up to {format_plain(error.requested)} {name}. "
    if error.resets is None:
        return GatewayError(402, error.code, message + "Allow fewer output tokens.")
    answer = GatewayError(status, error.code, f"{message}Try again after {format_instant(error.resets)}.")
    if status == 429:
        answer.headers["retry-after"] = str(error.retry_seconds)
    return answer


def from_provider_error(status: int, body: bytes) -> GatewayError:
    """Return the answer to a client for an error of the provider: its own message if that concerns the client."""
    try:
        value = json.loads(body)
        error = value["error"]
        message, code, param = error["message"], error.get("code"), error.get("param")
        if code is None and value.get("type") == "error":
            code = error.get("type")  # Anthropic has it in the place of OpenAI's code
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message, code, param = None, None, None
    code = code if isinstance(code, str) else None
    concerns_operator = status in (401, 402, 403, 407) or code in _OPERATOR_CODES
    if isinstance(message, str):
        concerns_operator |= message.startswith(_OPERATOR_MESSAGE)
        message = message.encode("utf-8", "replace").decode()
    is_error = 400 <= status < 600  # servers cannot send others
    if concerns_operator or not is_error or not isinstance(message, str):
        # A wrong key of the gateway is not a wrong token of the client, and the message may contain the key.
        status = 502 if concerns_operator or not is_error else status
        return GatewayError(status, "upstream_error", "The provider failed. Nothing was charged.")
    return GatewayError(status, code or "upstream_error", message, param if isinstance(param, str) else None)
