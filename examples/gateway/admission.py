"""One request to a model: its body read and checked, and the most that it can cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from starlette.requests import Request

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.ledger import ApiToken
from brivionix_billing.tokens import TokenCounter, WorstCase

from .openai_errors import GatewayError

__all__ = ["Api", "AdmittedRequest", "CounterPool", "prepare_request", "read_body"]

Api = Literal["chat", "responses"]


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A request that may be sent to the provider, once its worst case is held."""

    id: str
    received_at: datetime
    """When it came in: the time whose prices hold."""
    token: ApiToken
    api: Api
    model: str
    """As asked for."""
    request: dict[str, Any]
    """What the provider gets."""
    strip_usage_chunk: bool
    """The gateway asked the provider for the usage of a stream, and the client did not."""
    counter: TokenCounter
    worst_case: WorstCase

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream."""
        return self.request.get("stream") is True

    @property
    def service_tier(self) -> str | None:
        """The tier that was asked for."""
        tier = self.request.get("service_tier")
        return tier if isinstance(tier, str) else None


class CounterPool:
    """A token counter per model: each remembers what it counted, and a conversation costs only what is new."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._made: dict[str, TokenCounter] = {}

    def get(self, model: str) -> TokenCounter:
        """The counter of a model. Raises ``unknown_model``."""
        name = self._book.resolve_model(model)
        found = self._made.get(name)
        if found is None:
            found = self._made.setdefault(name, TokenCounter(name, self._book))
        return found

    def warm(self) -> None:
        """Load the vocabularies, which takes a moment, before the first request waits for it."""
        for name in self._book.model_names:
            self.get(name).text("")


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request. Raises 413 for a large one, before it is in memory, and 408 for a slow one."""
    too_large = GatewayError(413, "request_too_large", f"The body of a request may have {most} bytes at the most.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise GatewayError(408, "request_too_slow", "The request took too long to arrive.") from None
    return bytes(body)


def prepare_request(
    body: bytes, *, id: str, at: datetime, token: ApiToken, api: Api, book: PriceBook, counters: CounterPool
) -> AdmittedRequest:
    """What can be wrong with a request is found here, before Credits are held. It counts: run it in a thread.

    Raises what ``TokenCounter.worst_case`` raises, among it that the token's group may not use the model.
    """
    request = _parse_body(body)
    model = request.get("model")
    if not isinstance(model, str):
        raise GatewayError(400, "invalid_request", "The request names no model.", "model")
    if not isinstance(request.get("stream"), bool | None):
        raise GatewayError(400, "invalid_request", "stream is true or false.", "stream")
    if request.get("background"):
        # Its usage would only be known to whoever asks for the response later, and this gateway does not.
        raise GatewayError(400, "invalid_request", "background is not offered here.", "background")
    counter = counters.get(model)
    worst = counter.worst_case(request, group=token.group, at=at, api=api)
    try:
        encode_request(request)
    except ValueError:
        raise GatewayError(400, "invalid_request", "The request has a number that JSON cannot hold.") from None
    sent, hides = _with_stream_usage(request) if api == "chat" and request.get("stream") else (request, False)
    return AdmittedRequest(id, at, token, api, model, sent, hides, counter, worst)


def _parse_body(body: bytes) -> dict[str, Any]:
    try:
        # A key that stands twice is refused: the provider might read the one that was not counted.
        request = loads_strict(body, "the request")
    except BillingError as error:
        raise BillingError("invalid_request", error.message) from None
    if not isinstance(request, dict):
        raise GatewayError(400, "invalid_request", "The body of a request is a JSON object.")
    return request


def _with_stream_usage(request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The request, asking for the usage of its stream; and whether the client did not want to see it."""
    options = request.get("stream_options")
    if not isinstance(options, Mapping | None):
        raise GatewayError(400, "invalid_request", "stream_options is an object.", "stream_options")
    asked = options is not None and options.get("include_usage") is True
    return {**request, "stream_options": {**(options or {}), "include_usage": True}}, not asked


def encode_request(request: Mapping[str, Any]) -> bytes:
    """What is sent to the provider is what was counted, written anew, and not the bytes that it was read from."""
    return json.dumps(request, separators=(",", ":"), allow_nan=False).encode()
