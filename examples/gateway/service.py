"""The gateway itself: admit, hold, forward, and settle or release."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from starlette.requests import Request
from starlette.responses import Response

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.ledger import ApiToken, Ledger, LedgerThreadPool, parse_bearer

from .admission import AdmittedRequest, Api, CounterPool, encode_request, prepare_request, read_body
from .background import BackgroundTasks
from .config import Config
from .holds import HoldManager
from .openai_errors import GatewayError, from_provider_error
from .pricing import PricedResponse, price_response
from .streaming import MeteredStream

__all__ = ["Gateway"]

_LOG: Final = logging.getLogger("gateway")
_PATHS: Final[dict[Api, str]] = {"chat": "/chat/completions", "responses": "/responses"}


def _now() -> datetime:
    return datetime.now(UTC)


class Gateway:
    """What all requests share. Make it where its event loop will run, and :meth:`close` it there."""

    def __init__(
        self, config: Config, book: PriceBook, ledger: Ledger, *, clock: Callable[[], datetime] = _now
    ) -> None:
        self.config, self.book, self.ledger, self.clock = config, book, ledger, clock
        self.jobs = BackgroundTasks()
        # SQLite writes one transaction at a time; PostgreSQL as many as the engine has connections.
        self.threads = LedgerThreadPool(1 if ledger.engine.dialect.name == "sqlite" else 5)
        self.cashier = HoldManager(ledger, self.threads, self.jobs, clock, config.retry_delays)
        self.counters = CounterPool(book)
        self.client = httpx.AsyncClient(
            base_url=config.upstream,
            timeout=httpx.Timeout(config.read_seconds, connect=config.connect_seconds, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            trust_env=False,  # a proxy that somebody set for other things must not see customers' requests
        )

    async def open(self) -> None:
        """Get ready for the first request."""
        await asyncio.to_thread(self.counters.warm)

    async def close(self) -> None:
        """Book all that is still to be booked, then let go."""
        await self.jobs.wait_idle()
        await self.client.aclose()
        self.threads.close()
        self.ledger.close()

    async def token(self, request: Request) -> ApiToken:
        """The token of a request. Raises what is to be answered with 401, and ``ledger_unavailable``."""
        secret = parse_bearer(request.headers.get("authorization"))
        return await self.threads.run(self.ledger.authenticate, secret, at=self.clock())

    async def handle_completion(self, request: Request, api: Api) -> Response:
        """The answer to a request to a model."""
        at, token = self.clock(), await self.token(request)
        body = await read_body(request, self.config.max_body_bytes, self.config.body_timeout_seconds)
        # Counting a long request takes a while, in which others are served.
        call = await asyncio.to_thread(
            prepare_request,
            body,
            id=request.scope["request_id"],
            at=at,
            token=token,
            api=api,
            book=self.book,
            counters=self.counters,
        )
        await self.cashier.hold(call)
        # From here on it is a job of the service. Whoever waits for it may go; the hold is resolved all the same.
        job = self.jobs.start(self._forward(call, request))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(self._discard_response)
            raise

    async def _forward(self, call: AdmittedRequest, request: Request) -> Response:
        """Send a request whose worst case is held. Before this ends, the hold is resolved, or a stream will do it."""
        try:
            upstream = await self.client.send(self._upstream_request(call, request), stream=True)
        except httpx.HTTPError as error:
            self.cashier.release(call)
            _LOG.warning("%s: the provider cannot be reached: %s", call.id, type(error).__name__)
            raise GatewayError(
                502, "upstream_unreachable", "The provider cannot be reached. Nothing was charged."
            ) from None
        except BaseException:
            self.cashier.release(call)
            raise
        kind = upstream.headers.get("content-type", "")
        if call.streamed and upstream.status_code == 200 and kind.startswith("text/event-stream"):
            passing = MeteredStream(call, upstream, self.config.max_buffered_bytes)
            self.jobs.start(self._settle_stream(passing))
            return passing
        try:
            body = await upstream.aread()
        except httpx.HTTPError as error:
            self.cashier.release(call)
            _LOG.warning("%s: the provider broke its answer off: %s", call.id, type(error).__name__)
            raise GatewayError(502, "upstream_broke_off", "The provider broke off. Nothing was charged.") from None
        except BaseException:
            self.cashier.release(call)
            raise
        finally:
            await upstream.aclose()
        if upstream.status_code != 200:
            self.cashier.release(call)
            return self._relay_provider_error(upstream, body)
        if not await self._settle_response(call, body):
            self.cashier.release(call)
            _LOG.error(
                "%s: the provider answered 200 with no answer in it: %s",
                call.id,
                body[:1000].decode("utf-8", "replace"),
            )
            raise GatewayError(502, "upstream_error", "The provider failed. Nothing was charged.")
        return Response(body, media_type="application/json")

    def _upstream_request(self, call: AdmittedRequest, request: Request) -> httpx.Request:
        passed = {name: value for name, value in request.headers.items() if name in self.config.forwarded_headers}
        own = {
            "content-type": "application/json",
            "accept": "text/event-stream" if call.streamed else "application/json",
            "accept-encoding": "identity",  # pieces are sent on as they come, and are read on the way
        }
        if self.config.upstream_key:
            own["authorization"] = f"Bearer {self.config.upstream_key}"
        return self.client.build_request(
            "POST", _PATHS[call.api], content=encode_request(call.request), headers={**passed, **own}
        )

    def _relay_provider_error(self, upstream: httpx.Response, body: bytes) -> Response:
        answer = from_provider_error(upstream.status_code, body)
        if answer.status_code == 502:
            _LOG.error("the provider answered %s: %s", upstream.status_code, body[:1000].decode("utf-8", "replace"))
        for name in ("retry-after", "retry-after-ms"):
            if name in upstream.headers:
                answer.headers[name] = upstream.headers[name]
        return answer

    async def _settle_response(self, call: AdmittedRequest, body: bytes) -> bool:
        """Book a whole response, before the client gets it; unless it is no answer, but an error or something else."""
        try:
            stated: Any = json.loads(body)
        except (ValueError, RecursionError):
            stated = None
        if not isinstance(stated, dict) or not stated.keys() & {"usage", "choices", "output"}:
            return False
        await self._book(call, stated, body)
        return True

    async def _settle_stream(self, passing: MeteredStream) -> None:
        """Wait for the end of a stream, and book it."""
        try:
            await passing.finished.wait()
        finally:
            await passing.close()
        result = await asyncio.to_thread(passing.usage.result)  # an estimate counts tokens
        if result.answered or (passing.client_disconnected and not passing.received_data):
            # A client that leaves before the first word has still put the provider to work on its request.
            await self._book(passing.call, result.body, bytes(passing.buffer))
        else:
            await self.cashier.release(passing.call)
        if result.estimated:
            _LOG.info("%s: an estimate: %s", passing.call.id, result.reason)

    async def _book(self, call: AdmittedRequest, stated: dict[str, Any], answer: bytes) -> None:
        try:
            found = await asyncio.to_thread(price_response, self.book, call, stated, answer)
        except Exception:
            # No answer is free because of a mistake in here. What was held is the one figure that is sure.
            _LOG.critical("%s: the charge could not be made; all that was held is booked", call.id, exc_info=True)
            assert call.worst_case.charge is not None
            found = PricedResponse(call.worst_case.charge, None)
        await self.cashier.settle(call, found)

    def _discard_response(self, job: asyncio.Task[Response]) -> None:
        """The answer of a request that was cancelled while it waited: a stream that nobody will read is ended."""
        if not job.cancelled() and job.exception() is None and isinstance(response := job.result(), MeteredStream):
            response.finished.set()

    async def balance(self, token: ApiToken) -> dict[str, Any]:
        """What a token's account has, and what the token may spend."""
        found = await self.threads.run(self.ledger.balance, token.account, at=self.clock())
        limit = None if token.limit is None else str(token.limit)
        return {**found.as_dict(), "token": {"id": token.id, "limit": limit, "spent": str(token.spent)}}

    def models(self, token: ApiToken) -> list[str]:
        """The models that a token may use now."""
        try:
            return self.book.models(group=token.group, at=self.clock())
        except BillingError as error:
            if error.code == "unknown_group":
                return []  # nothing, rather than an error where a list was asked for
            raise
