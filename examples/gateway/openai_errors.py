"""Refusals as OpenAI's clients expect them, with the library's codes.

What a :class:`BillingError` says is for the operator: it may name prices, groups or the database. So a client is told
a sentence of this table, or the error's own message where that speaks of nothing but the client's request.
"""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.responses import JSONResponse

from brivionix_billing import BillingError
from brivionix_billing.decimals import format_plain
from brivionix_billing.ledger import ShortfallError

__all__ = ["GatewayError", "error_body", "from_billing_error", "from_provider_error", "error_response"]

_ERROR_TYPES: Final = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_CLIENT_SAFE_CODES: Final = frozenset(
    {"invalid_request", "request_too_large", "cost_unbounded", "unknown_service_tier", "invalid_period"}
)
"""Codes whose messages speak of the client's request only."""
_CLIENT_MESSAGES: Final = {
    "malformed_authorization": "Send your API token as: Authorization: Bearer YOUR_TOKEN",
    "unknown_token": "This API token is not known.",
    "token_disabled": "This API token is disabled.",
    "token_expired": "This API token has expired.",
    "token_exhausted": "This API token has spent its limit.",
    "unknown_model": "There is no such model here; GET /v1/models lists those that you may use.",
    "unknown_group": "The group of this API token is not served any more.",
    "model_not_allowed": "The group of this API token may not use this model; GET /v1/models lists those it may.",
    "no_price": "This model is not sold at this time.",
    "service_tier_unavailable": "This model is not sold in this service tier.",
    "meter_unpriced": "The request asks for a tool or a kind of content that is not sold here.",
    "ledger_unavailable": "Your balance cannot be checked at the moment. Try again soon.",
}
_STATUS: Final = {"meter_unpriced": 400, "invalid_period": 400}
"""Where a request is to blame for what, in a bill, would be the gateway's own fault."""
_OPERATOR_CODES: Final = frozenset(
    {"invalid_api_key", "insufficient_quota", "billing_hard_limit_reached", "account_deactivated"}
)
"""Codes of the provider that speak of the gateway's account there, not of the client's here."""


class GatewayError(Exception):
    """A refusal that is the gateway's own, and not the library's."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param


def error_body(status: int, code: str | None, message: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error in OpenAI's shape."""
    kind = _ERROR_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: GatewayError) -> JSONResponse:
    """The answer to a refusal of the gateway's own."""
    return JSONResponse(error_body(error.status, error.code, error.message, error.param), error.status)


def from_billing_error(error: BillingError) -> GatewayError:
    """What a client is told of an error of the library."""
    status = _STATUS.get(error.code, error.http_status or 500)
    if isinstance(error, ShortfallError):
        # 402 and not 429: clients try a 429 again by themselves, and waiting brings no Credits.
        whose = "Your account has" if error.code == "insufficient_credits" else "The limit of this API token leaves"
        told = (
            f"{whose} {format_plain(error.available)} Credits, and this request may cost up to "
            f"{format_plain(error.needed)}. "
            "Top up, or allow fewer output tokens."
        )
    elif error.code in _CLIENT_SAFE_CODES:
        told = error.message
    else:
        told = _CLIENT_MESSAGES.get(error.code, "The gateway failed. Nothing was charged.")
    param = "model" if error.code in ("unknown_model", "model_not_allowed", "no_price") else None
    return GatewayError(status, error.code if status < 500 or status == 503 else "internal_error", told, param)


def from_provider_error(status: int, body: bytes) -> JSONResponse:
    """What a client is told of an error of the provider: its own words where they concern the client."""
    try:
        said = json.loads(body)["error"]
        message, code, param = said["message"], said.get("code"), said.get("param")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message, code, param = None, None, None
    ours = status in (401, 402, 403, 407) or code in _OPERATOR_CODES
    if isinstance(message, str):
        message = message.encode("utf-8", "replace").decode()
    if ours or status < 400 or not isinstance(message, str):
        # A wrong key of the gateway is no wrong token of the client, and its words may show the key.
        status = 502 if ours or status < 400 else status
        return JSONResponse(error_body(status, "upstream_error", "The provider failed. Nothing was charged."), status)
    code = code if isinstance(code, str) else "upstream_error"
    return JSONResponse(error_body(status, code, message, param if isinstance(param, str) else None), status)
