"""Admission: parses and checks the body of a request, and computes the maximum that it can cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError
from brivionix_billing.gateway.client_errors import ErrorFormat, GatewayError
from brivionix_billing.gateway.intake import require_few_values
from brivionix_billing.gateway.limits import DEFAULT_LIMITS
from brivionix_billing.gateway.media import image_worst_case, transcription_worst_case
from brivionix_billing.ledger import ApiToken
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.streams import StreamUsage
from brivionix_billing.tokens import TokenCounter, WorstCase
from brivionix_billing.tokens.unknown_keys import KNOWN_REQUEST_KEYS, SETTING_OBJECTS
from brivionix_billing.usage import Conventions

__all__ = ["AdmittedRequest", "Api", "CounterPool", "PreparedRequest", "count_request", "prepare_request"]

Api = Literal["chat", "responses", "anthropic", "embeddings", "images", "transcriptions"]
"""The API that a client calls: Chat Completions, Responses, Anthropic's Messages, Embeddings, and so on."""

_KNOWN_KEYS: Final = KNOWN_REQUEST_KEYS | {"prompt", "size", "quality", "partial_images", "dimensions"}
_MAX_KEPT_LENGTH: Final = 4096
_MAX_KEPT_ITEMS: Final = 100
_MEDIA: Final = {"images": image_worst_case, "transcriptions": transcription_worst_case}


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A request that may be sent to the provider as soon as its worst case is held."""

    id: str
    """The id of the hold, of the charge, and of the record on the bill."""
    received_at: datetime
    """The time of the request, whose prices apply."""
    token: ApiToken
    api: Api
    model: str
    """The requested model."""
    request: dict[str, Any]
    """The fields of the request; of a form, with the content of files as bytes. A long JSON body is not kept twice:
    then the fields that are long are missing here."""
    body: bytes
    """The JSON for the provider: what was counted, encoded again, not the bytes that the client sent. Empty for a
    form."""
    strip_usage_chunk: bool
    """The provider is asked for the usage of a stream, but the client did not ask for it."""
    worst_case: WorstCase
    counter: TokenCounter
    upstream: str | None = None
    """The name of the upstream in the price file, if its counts need conventions."""
    conventions: Conventions | None = None
    tags: Mapping[str, str] | None = None
    """Tags of the request, by which limits of the ledger may count it."""

    def usage_stream(self) -> StreamUsage:
        """Return a reader of the answer's usage. Its estimates take the input from the worst case."""
        count = self.worst_case.input_count
        return StreamUsage(self.request, self.counter, conventions=self.conventions, input_count=count)

    @property
    def streamed(self) -> bool:
        """Whether the client asked for a stream."""
        return self.request.get("stream") in (True, "true")  # a form has texts only

    @property
    def service_tier(self) -> str | None:
        """The requested service tier."""
        tier = self.request.get("service_tier")
        return tier if isinstance(tier, str) else None

    @property
    def mode(self) -> str | None:
        """The requested mode, which Anthropic calls speed."""
        mode = self.request.get("speed")
        return mode if isinstance(mode, str) else None

    @property
    def error_format(self) -> ErrorFormat:
        """The format of errors that the client expects."""
        return "anthropic" if self.api == "anthropic" else "openai"


class CounterPool:
    """One token counter per model. Each caches what it counted, so a conversation costs only its new messages."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._counters: dict[str, TokenCounter] = {}

    def get(self, model: str) -> TokenCounter:
        """Return the counter of a model. Raises ``unknown_model``."""
        name = self._book.resolve_model(model)
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters.setdefault(name, TokenCounter(name, self._book))
        return counter

    def conventions(self, upstream: str | None) -> Conventions | None:
        """Return the conventions of an upstream of the price file. Raises ``unknown_upstream``."""
        return None if upstream is None else self._book.conventions(upstream)

    def warm(self) -> None:
        """Load the vocabularies before the first request, which would otherwise wait for them."""
        for name in self._book.model_names:
            self.get(name).text("")


class PreparedRequest(NamedTuple):
    """A request that was checked and counted; see :class:`AdmittedRequest`."""

    model: str
    request: dict[str, Any]
    body: bytes
    strip_usage_chunk: bool
    worst_case: WorstCase

    def without_content(self) -> PreparedRequest:
        """Return the request without its long fields. Its body has them."""
        return self._replace(request={key: value for key, value in self.request.items() if not _is_long(value)})

    def admitted(
        self,
        id: str,
        at: datetime,
        token: ApiToken,
        api: Api,
        counters: CounterPool,
        upstream: str | None,
        tags: Mapping[str, str] | None = None,
    ) -> AdmittedRequest:
        """Return the request as one that may be sent as soon as its worst case is held."""
        counter, conventions = counters.get(self.model), counters.conventions(upstream)
        return AdmittedRequest(id, at, token, api, *self, counter, upstream, conventions, tags)


def prepare_request(
    body: bytes | Mapping[str, Any],
    *,
    id: str,
    at: datetime,
    token: ApiToken,
    api: Api,
    book: PriceBook,
    counters: CounterPool,
    upstream: str | None = None,
    max_json_values: int = DEFAULT_LIMITS.max_json_values,
) -> AdmittedRequest:
    """Check a request and compute its worst case, before any Credits are held. It counts tokens: run it in a thread.

    ``body`` is the JSON body as the client sent it, or the fields of a form with the content of files as bytes. ``at``
    is the time of the request, and ``upstream`` the name of its upstream in the price file, if that has conventions.
    Raises ``GatewayError`` for a malformed request, ``unknown_upstream``, and what ``TokenCounter.worst_case`` raises,
    such as ``model_not_allowed``.
    """
    prepared = count_request(body, api, token.group, at, book, counters, max_json_values)
    return prepared.admitted(id, at, token, api, counters, upstream)


def count_request(
    body: bytes | Mapping[str, Any],
    api: Api,
    group: str,
    at: datetime,
    book: PriceBook,
    counters: CounterPool,
    max_json_values: int,
) -> PreparedRequest:
    """Check a request and compute its worst case, as :func:`prepare_request` does."""
    request = dict(body) if isinstance(body, Mapping) else _parse_body(body, max_json_values)
    model = request.get("model")
    if not isinstance(model, str):
        raise GatewayError(400, "invalid_request", "The request has no model; add 'model'.", "model")
    stream = request.get("stream")
    if not isinstance(stream, bool | None) and not (isinstance(body, Mapping) and stream in ("true", "false")):
        raise GatewayError(400, "invalid_request", "stream must be true or false.", "stream")
    if request.get("background"):
        # The usage of a background response is only known to a client that fetches it later.
        raise GatewayError(400, "invalid_request", "background is not supported here.", "background")
    counter = counters.get(model)
    media = _MEDIA.get(api)
    if media is not None:
        worst_case = media(book, counter, request, group=group, at=at)
    else:
        worst_case = counter.worst_case(request, group=group, at=at, api=api)  # type: ignore[arg-type]  # no media
    strip_usage_chunk = False
    if api == "chat" and stream:
        request, strip_usage_chunk = _with_stream_usage(request)
    encoded = b"" if isinstance(body, Mapping) else _encode(request)
    return PreparedRequest(model, request, encoded, strip_usage_chunk, worst_case)


def _is_long(value: object) -> bool:
    """Return whether the value of a field is not worth keeping: its JSON may have more than a few kilobytes."""
    if isinstance(value, str | bytes):
        return len(value) > _MAX_KEPT_LENGTH
    if isinstance(value, list | dict):
        return len(value) > _MAX_KEPT_ITEMS or len(json.dumps(value)) > _MAX_KEPT_LENGTH
    return False


def _parse_body(body: bytes, max_values: int) -> dict[str, Any]:
    require_few_values(body, max_values)
    try:
        # A repeated key is rejected: the provider might read the value that was not counted.
        request = loads_strict(body, "the request")
    except BillingError as error:
        raise BillingError("invalid_request", error.message) from None
    if not isinstance(request, dict):
        raise GatewayError(400, "invalid_request", "The body of a request must be a JSON object.")
    _require_exact_keys(request)
    for name in SETTING_OBJECTS:
        if isinstance(settings := request.get(name), dict):
            _require_exact_keys(settings)
    return request


def _require_exact_keys(members: Mapping[str, Any]) -> None:
    """Reject a key that is the key of a request in another case.

    Providers written in Go read "N" as "n" (and the Kelvin sign as "k"), and of both the last one. It was not counted.
    """
    if len({key.casefold() for key in members}) < len(members):
        raise GatewayError(400, "invalid_request", "The request has two keys that differ in upper and lower case only.")
    for key in members:
        folded = key.casefold()
        if folded != key and folded in _KNOWN_KEYS:
            message = f"The request has the key {folded!r} in another case; write it in lower case."
            raise GatewayError(400, "invalid_request", message, folded)


def _with_stream_usage(request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the request with the usage of its stream requested, and whether the client did not request it."""
    options = request.get("stream_options")
    if not isinstance(options, Mapping | None):
        raise GatewayError(400, "invalid_request", "stream_options must be an object.", "stream_options")
    is_requested = options is not None and options.get("include_usage") is True
    return {**request, "stream_options": {**(options or {}), "include_usage": True}}, not is_requested


def _encode(request: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(request, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise GatewayError(400, "invalid_request", "The request has a number that JSON cannot represent.") from None
