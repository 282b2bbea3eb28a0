"""The example gateway: reads requests, sends them to a provider, and leaves the billing to the library."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import Any, Final, TypeVar

import aiohttp
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.gateway import (
    DEFAULT_POLICY,
    AdmittedRequest,
    Api,
    GatewayBilling,
    GatewayError,
    GatewayPolicy,
    NotSentError,
    UpstreamAnswer,
)
from brivionix_billing.ledger import ApiToken, Ledger, RequestPage, Subscription, UsageLine
from brivionix_billing.times import Period

from .config import Config
from .ledger_probe import LedgerProbe
from .provider_client import ProviderAnswer, form_data
from .signals import SignalDelivery, log_signal, webhook
from .web import answer_response, body_pieces, parse_form

__all__ = ["API_PATHS", "Gateway"]

_LOG: Final = logging.getLogger("gateway")
T = TypeVar("T")
API_PATHS: Final[dict[Api, str]] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "anthropic": "/messages",
    "embeddings": "/embeddings",
    "images": "/images/generations",
    "transcriptions": "/audio/transcriptions",
}
_IDLE_SECONDS: Final = 4
"""How long an idle connection to a provider is kept: less than the 5 s of uvicorn, on which vLLM and others run. A
request on a connection that the provider closes at that moment fails after it was sent, and costs an estimate."""
_MAX_QUERIES: Final = 4
_LARGE_BYTES: Final = 256 * 1024
_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
"""Failures before the first byte of a request was sent. After any other, the provider may bill it."""


_PLAN_KEYS: Final = ("plan", "state", "credits", "remaining", "starts", "ends", "overflow", "next_plan")
"""What a customer sees of the plan."""


def _plan(subscription: Subscription) -> dict[str, Any]:
    values = subscription.as_dict()
    return {key: values[key] for key in _PLAN_KEYS}


def _now() -> datetime:
    return datetime.now(UTC)


class Gateway:
    """The shared state of all requests. Construct it where its event loop runs, and :meth:`close` it there."""

    def __init__(
        self,
        config: Config,
        book: PriceBook,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime] = _now,
        policy: GatewayPolicy = DEFAULT_POLICY,
    ) -> None:
        self.config, self.book, self.ledger, self.clock = config, book, ledger, clock
        self.billing = GatewayBilling(
            book,
            ledger,
            clock=clock,
            retry_delays=config.retry_delays,
            policy=policy,
            limits=config.limits,
            max_buffered_bytes=config.max_buffered_bytes,
        )
        self.probe = LedgerProbe(self.billing)
        bases = {"anthropic": config.anthropic}
        self._urls = {api: bases.get(api, config.upstream) + path for api, path in API_PATHS.items()}
        self._forwarded = {name.encode(): name for name in config.forwarded_headers}
        self._queries: Counter[str] = Counter()
        """By account, its queries of usage and requests in progress."""
        # Nothing of the environment: a proxy of it must not see customers' requests. No cookies: they would be shared.
        self.client = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(sock_read=config.read_seconds, sock_connect=config.connect_seconds),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        send = webhook(self.client, config.webhook) if config.webhook else log_signal
        self.signals = SignalDelivery(ledger, send, clock, config.signal_seconds)

    async def open(self) -> None:
        """Prepare for the first request."""
        await self.billing.open()
        self.signals.open()

    async def close(self) -> None:
        """Settle everything that is open, then close all connections."""
        await self.signals.close()
        await self.billing.close(1)  # by now, the server has waited for its requests
        await self.client.close()
        self.ledger.close()

    async def token(self, request: Request, *, for_admission: bool = False) -> ApiToken:
        """Return the token of a request. Raises the errors with status 401, and ``ledger_unavailable``."""
        headers = request.headers
        return await self.billing.authenticate(
            headers.get("authorization"), api_key=headers.get("x-api-key"), for_admission=for_admission
        )

    async def handle_completion(self, request: Request, api: Api) -> Response:
        """Answer a request to a model."""
        at, token, limits = self.clock(), await self.token(request, for_admission=True), self.config.limits
        is_form = api == "transcriptions"
        admitted = await self.billing.admit(
            body_pieces(request, limits.max_form_bytes if is_form else limits.max_body_bytes),
            id=request.scope["request_id"],
            at=at,
            token=token,
            api=api,
            parse=partial(parse_form, request.headers) if is_form else None,
        )

        async def send(admitted: AdmittedRequest) -> UpstreamAnswer:
            data, headers = self.upstream_request(admitted, request.headers)
            try:
                found = await self.client.post(self._urls[api], data=data, headers=headers, allow_redirects=False)
            except _NOT_SENT as error:
                raise NotSentError from error
            return ProviderAnswer(found)

        return answer_response(await self.billing.forward(admitted, send))

    def upstream_request(
        self, admitted: AdmittedRequest, headers: Headers
    ) -> tuple[bytes | BytesIO | aiohttp.FormData, dict[str, str]]:
        """Return body and headers for the provider: what was counted, the gateway's key, few of the client's."""
        config, forwarded = self.config, self._forwarded
        own = {
            "accept": "text/event-stream" if admitted.streamed else "application/json",
            "accept-encoding": "identity",  # pieces are forwarded as they arrive, and are read on the way
            **{forwarded[name]: value.decode("latin-1") for name, value in headers.raw if name in forwarded},
        }
        if admitted.api == "anthropic":
            own = {"anthropic-version": "2023-06-01", **own, "x-api-key": config.anthropic_key}
        elif config.upstream_key:
            own["authorization"] = f"Bearer {config.upstream_key}"
        if admitted.api == "transcriptions":
            return form_data(admitted.request), own
        own["content-type"] = "application/json"
        # A large body is read piece by piece, so that other requests are served between two pieces.
        body = admitted.body
        return BytesIO(body) if len(body) > _LARGE_BYTES else body, own

    async def balance(self, token: ApiToken) -> dict[str, Any]:
        """Return the balance of a token's account, what the token may spend, and its limits and plan, if any.

        A member gets its own limits, and not the balance: that is of the account that pays for it.
        """
        run, at, member = self.billing.threads.run, self.clock(), token.member
        limit = None if token.limit is None else str(token.limit)
        shown: dict[str, Any] = {"token": {"id": token.id, "limit": limit, "spent": str(token.spent)}}
        plans = []
        if member is None:
            shown = {**(await run(self.ledger.balance, token.account, at=at)).as_dict(), **shown}
            found = await run(self.ledger.subscriptions, token.account, at=at)
            plans = [plan for plan in found if plan.state != "ended"]
            limits = await run(self.ledger.limits, token.account, at=at, include_members=False)
        else:
            shown = {"account": token.account, "member": member, **shown}
            limits = await run(self.ledger.limits, token.account, at=at, member=member)
        windows = [window.as_dict() for window in limits if window.token in (None, token.id)]
        if windows:
            shown["limits"] = windows
        if plans:
            shown["plan"] = _plan(plans[-1])
        return shown

    async def usage(self, token: ApiToken, period: Period, *, by_token: bool) -> list[UsageLine]:
        """Return the usage of a token's account, or of its member. Raises status 429 beyond a few queries at a time.

        Holds and settlements of all customers wait for the ledger meanwhile.
        """
        keys = ("day", "model", *(["token"] if by_token else []), *(["member"] if token.member else []))
        lines = await self._query(token.account, partial(self.ledger.usage, period=period, by=keys))
        return [line for line in lines if token.member in (None, line.member)]

    async def requests(self, account: str, **filters: Any) -> RequestPage:
        """Return a page of the requests of an account. It is limited as :meth:`usage` is."""
        return await self._query(account, partial(self.ledger.requests, at=self.clock(), **filters))

    async def _query(self, account: str, query: Callable[[str], T]) -> T:
        if self._queries[account] >= _MAX_QUERIES:
            raise GatewayError(429, "too_many_requests", "You have too many queries of usage in progress.")
        self._queries[account] += 1
        try:
            return await self.billing.threads.run(query, account)
        finally:
            self._queries[account] -= 1
            if not self._queries[account]:
                del self._queries[account]

    def models(self, token: ApiToken) -> list[str]:
        """Return the models that a token may use now."""
        try:
            return self.book.models(group=token.group, at=self.clock())
        except BillingError as error:
            if error.code == "unknown_group":
                return []  # an empty list, because a list was requested
            raise
