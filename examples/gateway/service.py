"""The example gateway: authenticates, admits, forwards to the provider, and settles or releases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from starlette.requests import Request
from starlette.responses import Response

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.gateway import (
    AdmittedRequest,
    Api,
    GatewayBilling,
    GatewayError,
    MeteredStream,
    encode_request,
    from_provider_error,
)
from brivionix_billing.ledger import ApiToken, Ledger

from .config import Config
from .web import MeteredResponse, error_response, read_body

__all__ = ["Gateway"]

_LOG: Final = logging.getLogger("gateway")
_PATHS: Final[dict[Api, str]] = {"chat": "/chat/completions", "responses": "/responses"}


def _now() -> datetime:
    return datetime.now(UTC)


class Gateway:
    """The shared state of all requests. Construct it where its event loop runs, and :meth:`close` it there."""

    def __init__(
        self, config: Config, book: PriceBook, ledger: Ledger, *, clock: Callable[[], datetime] = _now
    ) -> None:
        self.config, self.book, self.ledger, self.clock = config, book, ledger, clock
        self.billing = GatewayBilling(book, ledger, clock=clock, retry_delays=config.retry_delays)
        self.client = httpx.AsyncClient(
            base_url=config.upstream,
            timeout=httpx.Timeout(config.read_seconds, connect=config.connect_seconds, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            trust_env=False,  # a proxy from the environment must not see customers' requests
        )

    async def open(self) -> None:
        """Prepare for the first request."""
        await self.billing.open()

    async def close(self) -> None:
        """Post everything that is still to be posted, then close all connections."""
        await self.billing.background.wait_idle()
        await self.client.aclose()
        await self.billing.close()
        self.ledger.close()

    async def token(self, request: Request) -> ApiToken:
        """Return the token of a request. Raises the errors with status 401, and ``ledger_unavailable``."""
        return await self.billing.authenticate(request.headers.get("authorization"))

    async def handle_completion(self, request: Request, api: Api) -> Response:
        """Answer a request to a model."""
        at, token = self.clock(), await self.token(request)
        body = await read_body(request, self.config.max_body_bytes, self.config.body_timeout_seconds)
        admitted = await self.billing.admit(body, id=request.scope["request_id"], at=at, token=token, api=api)
        # From here on the service is in charge: the client may disconnect, and the hold is resolved all the same.
        task = self.billing.background.start(self._forward(admitted, request))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_discard_response)
            raise

    async def _forward(self, admitted: AdmittedRequest, request: Request) -> Response:
        """Forward a request whose worst case is held. On return the hold is resolved, or a stream will resolve it."""
        try:
            upstream = await self.client.send(self._upstream_request(admitted, request), stream=True)
        except httpx.HTTPError as error:
            self.billing.release(admitted)
            _LOG.warning("%s: the provider cannot be reached: %s", admitted.id, type(error).__name__)
            raise GatewayError(
                502, "upstream_unreachable", "The provider cannot be reached. Nothing was charged."
            ) from None
        except BaseException:
            self.billing.release(admitted)
            raise
        content_type = upstream.headers.get("content-type", "")
        if admitted.streamed and upstream.status_code == 200 and content_type.startswith("text/event-stream"):
            response = MeteredResponse(MeteredStream(admitted, self.config.max_buffered_bytes), upstream)
            self.billing.background.start(self._settle_stream(response))
            return response
        try:
            body = await upstream.aread()
        except httpx.HTTPError as error:
            self.billing.release(admitted)
            _LOG.warning("%s: the provider broke its answer off: %s", admitted.id, type(error).__name__)
            raise GatewayError(502, "upstream_broke_off", "The provider broke off. Nothing was charged.") from None
        except BaseException:
            self.billing.release(admitted)
            raise
        finally:
            await upstream.aclose()
        if upstream.status_code != 200:
            self.billing.release(admitted)
            return _relay_provider_error(upstream, body)
        if not await self.billing.settle_response(admitted, body):
            _LOG.error(
                "%s: the provider answered 200 without an answer: %s",
                admitted.id,
                body[:1000].decode("utf-8", "replace"),
            )
            raise GatewayError(502, "upstream_error", "The provider failed. Nothing was charged.")
        return Response(body, media_type="application/json")

    def _upstream_request(self, admitted: AdmittedRequest, request: Request) -> httpx.Request:
        forwarded = {name: value for name, value in request.headers.items() if name in self.config.forwarded_headers}
        own = {
            "content-type": "application/json",
            "accept": "text/event-stream" if admitted.streamed else "application/json",
            "accept-encoding": "identity",  # pieces are forwarded as they arrive, and are read on the way
        }
        if self.config.upstream_key:
            own["authorization"] = f"Bearer {self.config.upstream_key}"
        return self.client.build_request(
            "POST", _PATHS[admitted.api], content=encode_request(admitted.request), headers={**forwarded, **own}
        )

    async def _settle_stream(self, response: MeteredResponse) -> None:
        try:
            await response.stream.closed.wait()
        finally:
            await response.aclose()
        await self.billing.settle_stream(response.stream)

    async def balance(self, token: ApiToken) -> dict[str, Any]:
        """Return the balance of a token's account, and what the token may spend."""
        balance = await self.billing.threads.run(self.ledger.balance, token.account, at=self.clock())
        limit = None if token.limit is None else str(token.limit)
        return {**balance.as_dict(), "token": {"id": token.id, "limit": limit, "spent": str(token.spent)}}

    def models(self, token: ApiToken) -> list[str]:
        """Return the models that a token may use now."""
        try:
            return self.book.models(group=token.group, at=self.clock())
        except BillingError as error:
            if error.code == "unknown_group":
                return []  # an empty list, because a list was requested
            raise


def _relay_provider_error(upstream: httpx.Response, body: bytes) -> Response:
    response = error_response(from_provider_error(upstream.status_code, body))
    if response.status_code == 502:
        _LOG.error("the provider answered %s: %s", upstream.status_code, body[:1000].decode("utf-8", "replace"))
    for name in ("retry-after", "retry-after-ms"):
        if name in upstream.headers:
            response.headers[name] = upstream.headers[name]
    return response


def _discard_response(task: asyncio.Task[Response]) -> None:
    """Close the stream of a request that was cancelled while it waited: its client will not read it."""
    if not task.cancelled() and task.exception() is None and isinstance(response := task.result(), MeteredResponse):
        response.stream.close()
