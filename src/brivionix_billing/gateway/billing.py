"""The billing of a gateway's requests, from authentication to settlement."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from brivionix_billing.errors import BillingError
from brivionix_billing.gateway.admission import AdmittedRequest, Api, CounterPool, PreparedRequest, count_request
from brivionix_billing.gateway.background import BackgroundTasks
from brivionix_billing.gateway.client_errors import GatewayError, from_billing_error
from brivionix_billing.gateway.exchange import ClientAnswer, Exchange, Send
from brivionix_billing.gateway.holds import HoldManager
from brivionix_billing.gateway.intake import INLINE_BYTES, Body, Parse, body_size, is_quick, read_content
from brivionix_billing.gateway.limits import (
    DEFAULT_LIMITS,
    GatewayLimits,
    InProgress,
    Slot,
    gateway_stopping,
)
from brivionix_billing.gateway.long_work import LONG_BYTES, LongWork, count_long_request
from brivionix_billing.gateway.metered_stream import MeteredStream
from brivionix_billing.gateway.observed_shares import ObservedShares
from brivionix_billing.gateway.policy import DEFAULT_POLICY, GatewayPolicy, Resolution
from brivionix_billing.gateway.pricing import (
    PricedResponse,
    parse_answer,
    parse_long_answer,
    price_response,
    price_unknown,
    read_answer,
)
from brivionix_billing.gateway.recent_tokens import RecentTokens
from brivionix_billing.gateway.safe_log import describe_exception, without_quotes
from brivionix_billing.gateway.turns import Pace
from brivionix_billing.gateway.workers import Workers
from brivionix_billing.ledger import ApiToken, Ledger, LedgerThreadPool, LimitReachedError, parse_bearer
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.streams import StreamResult

__all__ = ["DEFAULT_RETRY_DELAYS", "GatewayBilling"]

T = TypeVar("T")
_LOG: Final = logging.getLogger("brivionix_billing.gateway")

DEFAULT_RETRY_DELAYS: Final = (0.2, 1.0, 5.0, 20.0, 60.0)
"""Seconds before each retry of a settlement that the database did not accept."""
_POSTING_SECONDS: Final = 2.0
"""How long an answer waits for its settlement. It is posted in any case, also if that takes longer."""
_STOP_SECONDS: Final = 5.0
"""How long a stopping service may take to post what it broke off."""
_INLINE_ANSWER_BYTES: Final = 128 * 1024
"""Up to this size, the work takes less than the change to another thread, and blocks the loop for about 1 ms."""


class GatewayBilling:
    """Authenticates, admits, holds, forwards and settles the requests of a gateway.

    Construct it in the process whose event loop serves the requests, and :meth:`close` it there. ``clock`` returns the
    current time with a time zone; no other clock is read. ``max_buffered_bytes`` bounds what is kept of a stream for an
    estimate. See the package for the flow and its guarantees.
    """

    def __init__(
        self,
        book: PriceBook,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime],
        retry_delays: Sequence[float] = DEFAULT_RETRY_DELAYS,
        policy: GatewayPolicy = DEFAULT_POLICY,
        limits: GatewayLimits = DEFAULT_LIMITS,
        max_buffered_bytes: int = 1024 * 1024,
    ) -> None:
        self.book, self.ledger, self.clock = book, ledger, clock
        self.policy, self.limits = policy, limits
        self.max_buffered_bytes = max_buffered_bytes
        self.drained_streams = 0
        """Streams whose clients have left, and whose providers are still read."""
        self.background = BackgroundTasks()
        # SQLite runs one writing transaction at a time, PostgreSQL as many as the engine has connections.
        self.threads = LedgerThreadPool(1 if ledger.engine.dialect.name == "sqlite" else 5)
        shares = None if policy.expected_quantile is None else ObservedShares(policy.expected_quantile)
        self.holds = HoldManager(ledger, self.threads, self.background, clock, retry_delays, shares)
        self.counters = CounterPool(book)
        self.workers = Workers()
        self.long_work = LongWork(book, self.workers)
        self.in_progress = InProgress(limits)
        self._pace = Pace(limits.long_body_bytes_per_second)
        self.stream_pace = Pace(limits.stream_bytes_per_second)
        self._unresolved: dict[str, tuple[AdmittedRequest, Slot]] = {}
        self._exchanges: dict[asyncio.Task[Any], Exchange] = {}
        self._is_closing = False
        self._recent_tokens = RecentTokens()
        self._given_up: set[str] = set()
        """Requests that :meth:`close` settles, although their own flows may still come to an end."""

    async def open(self) -> None:
        """Load the vocabularies, so that the first request does not wait for them."""
        await asyncio.to_thread(self.counters.warm)

    async def close(self, seconds: float = 30) -> None:
        """Let open requests finish for so many seconds; settle the others by policy, and end the threads.

        It ends a few seconds later at the latest. What the database has not accepted by then is logged as a record,
        with level ``CRITICAL``. The ledger stays open. Requests that come meanwhile are refused. May be called twice.
        """
        self._is_closing = True
        if not await self.background.wait_idle(seconds):
            self.holds.stop_retrying()
            for exchange in list(self._exchanges.values()):
                exchange.stop()
            await self.background.wait_idle(_STOP_SECONDS)
        # What is left was admitted by a flow that did not come to its end.
        for admitted, _ in list(self._unresolved.values()):
            self._given_up.add(admitted.id)
            self.background.start(self.settle_unknown(admitted, self.policy.unanswered))
        is_idle = await self.background.wait_idle(_STOP_SECONDS)
        self.background.cancel()
        if not is_idle:
            self.holds.log_unposted()
        self.threads.close(wait=is_idle)
        self.workers.close()
        self.long_work.close()

    async def authenticate(
        self, authorization: str | None, *, api_key: str | None = None, for_admission: bool = False
    ) -> ApiToken:
        """Return the API token of an ``Authorization`` header, or of the ``x-api-key`` of Anthropic's clients.

        With ``for_admission``, the token may be the one of a second ago. Then only :meth:`admit` may use it, whose hold
        checks the token again. Raises the errors with status 401, and 503.
        """
        self._require_open()
        if authorization is None and api_key is not None:
            authorization = f"Bearer {api_key}"
        secret = parse_bearer(authorization)
        now = asyncio.get_running_loop().time()
        token = self._recent_tokens.get(secret, now) if for_admission else None
        if token is None:
            token = await self.threads.run(self.ledger.authenticate, secret, at=self.clock())
            self._recent_tokens.add(secret, token, now)
        return token

    async def admit(
        self,
        body: Body,
        *,
        id: str,
        at: datetime,
        token: ApiToken,
        api: Api,
        upstream: str | None = None,
        parse: Parse | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> AdmittedRequest:
        """Read and check a request, compute its worst case and hold it.

        ``body`` is the JSON body, best as an iterable of its pieces: then a customer without Credits is refused before
        it is read, and :class:`GatewayLimits` bound its size and time. Of a form it is the fields, with the content of
        files as bytes, or the pieces and ``parse``, which returns the fields. ``upstream`` names the upstream in the
        price file if its counts have conventions. ``tags`` are those of the request, for limits of the ledger.

        Raises ``GatewayError`` and ``BillingError``; then nothing is held. From here on, exactly one of
        :meth:`forward`, :meth:`release`, :meth:`settle_response`, :meth:`settle_stream` and :meth:`settle_unknown` must
        follow; all but the first in a task of :attr:`background`.
        """
        self._require_open()
        slot = self.in_progress.enter(token)
        try:
            require_credits, wait_pace = partial(self._require_credits, token), partial(self._pace.wait, token.account)
            content = await read_content(body, slot, self.limits, require_credits, wait_pace, parse)
            size = body_size(content)
            prepared = await self._count(content, size, api, token, at)
            admitted = prepared.admitted(id, at, token, api, self.counters, upstream, tags)
            await self._hold(admitted)
        except BaseException:
            slot.leave()
            raise
        self._unresolved[admitted.id] = admitted, slot
        return admitted

    async def _count(
        self, content: bytes | Mapping[str, Any], size: int, api: Api, token: ApiToken, at: datetime
    ) -> PreparedRequest:
        """Check and count a request. A long one takes a while, during which others are served."""
        account, max_values = token.account, self.limits.max_json_values

        def count() -> PreparedRequest:
            self._require_open()
            return count_request(content, api, token.group, at, self.book, self.counters, max_values)

        if is_quick(content):
            return count()
        if size <= INLINE_BYTES:
            await self._require_credits(token)  # which was checked before a longer body was read
        with self.in_progress.counting(account):
            if isinstance(content, bytes) and size >= LONG_BYTES:
                work = partial(count_long_request, content, api, token.group, at, max_values)
                return await self.long_work.run(account, work, in_thread=count)
            return await self.workers.run(account, size, count)

    async def _require_credits(self, token: ApiToken) -> None:
        """Raise ``insufficient_credits`` without any. Else the hold compares the balance with the real amount."""
        balance = await self.threads.run(self.ledger.balance, token.account, at=self.clock())
        if balance.available <= 0:
            owner = "Your account" if token.member is None else "The account that pays for you"
            raise GatewayError(402, "insufficient_credits", f"{owner} has no Credits available. Top up.")

    async def _hold(self, admitted: AdmittedRequest) -> None:
        self._require_open()
        try:
            with self.background.busy():  # a hold that is being posted when the service stops must be released
                await self.holds.hold(admitted)
                if self._is_closing:
                    self.holds.release(admitted)
                    self._require_open()
        except LimitReachedError as error:
            raise from_billing_error(error, self.policy.limit_status) from None
        except BillingError as error:
            if error.code == "token_changed":
                self._recent_tokens.clear()  # so that the client's retry is authenticated anew
            raise

    def _require_open(self) -> None:
        if self._is_closing:
            raise gateway_stopping()

    async def forward(self, admitted: AdmittedRequest, send: Send) -> ClientAnswer:
        """Send an admitted request, settle its answer, and return it. A client may leave at any moment.

        ``send`` sends the request and returns the response of the provider before its body is read. It raises
        ``NotSentError`` if nothing was sent. Raises ``GatewayError`` if there is no answer; then the hold is resolved.
        """
        if admitted.id not in self._unresolved:
            raise BillingError("hold_resolved", f"request {admitted.id} was settled or released before; admit it again")
        exchange = Exchange(self, admitted, send)
        task = self.start_exchange(exchange, exchange.run())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            exchange.leave()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # no one else retrieves it
            raise

    def start_exchange(self, exchange: Exchange, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task of an exchange, which :meth:`close` stops."""
        task = self.background.start(work)
        self._exchanges[task] = exchange
        task.add_done_callback(self._exchanges.pop)
        return task

    def release(self, admitted: AdmittedRequest) -> asyncio.Task[None]:
        """Release the hold of a request that the provider did not answer."""
        if not self._claim(admitted):
            return self.background.start(_nothing())
        return self.holds.release(admitted)

    def _claim(self, admitted: AdmittedRequest) -> bool:
        """Return whether a request may be resolved now. When the service stops, two may try: the first one does."""
        _, slot = self._unresolved.pop(admitted.id, (None, None))
        if slot is not None:
            slot.leave()
        return slot is not None or admitted.id not in self._given_up

    async def settle_response(self, admitted: AdmittedRequest, body: bytes) -> bool:
        """Charge a complete answer. Returns ``False`` if the body is no answer; the hold is then released.

        What it is, its bytes say: JSON, or events although none were requested. A body of which nothing can be read is
        settled by the policy. Await it before the client gets the answer, so that no answer is delivered unposted; it
        waits two seconds at most, and the posting goes on.
        """
        reported = await self._parse_answer(admitted, body)
        if reported is not None:
            await self._settle(admitted, reported, body)
            return True
        result = await self._work(admitted, len(body), partial(read_answer, admitted, body))
        if not result.answered or body.lstrip()[:1] == b"<":
            self.release(admitted)  # an error, nothing, or a page of some proxy
            return False
        await self._settle_result(admitted, result, body)
        return True

    async def _parse_answer(self, admitted: AdmittedRequest, body: bytes) -> dict[str, Any] | None:
        """Return a JSON answer that states a usage, or ``None``. Of a long one, only what is billable."""
        if len(body) < LONG_BYTES:
            return parse_answer(body)
        account, work = admitted.token.account, partial(parse_long_answer, body)
        try:
            return await self.long_work.run(account, work)
        except GatewayError:  # the process has died, or the service stops
            return await self.workers.run(account, len(body), work)

    async def settle_stream(self, stream: MeteredStream) -> None:
        """Wait for the end of a stream, however it ends, and charge or release it.

        Start it in :attr:`background` before the first piece is forwarded.
        """
        await stream.closed.wait()
        admitted, policy = stream.admitted, self.policy
        result = await self._work(admitted, len(stream.buffer), stream.usage.result)  # an estimate counts tokens
        if not result.answered and (stream.usage.failed or stream.end == "complete"):
            self.release(admitted)  # the provider said why it does not answer, or ended its answer before it began
        elif stream.end is None and result.estimated:
            resolution = policy.for_abandoned(admitted.request, admitted.api, admitted.counter.family.name)
            _LOG.error("%s: the client left, and the provider was not read to its end", admitted.id)
            await self._settle_unknown(admitted, resolution, result)
        elif not result.answered:
            await self._settle_unknown(admitted, policy.unanswered, result)
        else:
            await self._settle_result(admitted, result, bytes(stream.buffer))

    async def settle_unknown(self, admitted: AdmittedRequest, resolution: Resolution, received: bytes = b"") -> None:
        """Charge or release a request whose answer is not known: the hold, or an estimate, or nothing."""
        result = await self._work(admitted, len(received), partial(read_answer, admitted, received))
        await self._settle_unknown(admitted, resolution, result)

    async def wait_briefly(self, settlement: asyncio.Task[Any]) -> None:
        """Wait for a settlement, but not longer than a client should. It goes on."""
        await asyncio.wait((settlement,), timeout=_POSTING_SECONDS)

    async def _settle_result(self, admitted: AdmittedRequest, result: StreamResult, answer: bytes) -> None:
        if result.unreadable:
            _LOG.error("%s: %s bytes arrived of which nothing could be read", admitted.id, len(answer))
            await self._settle_unknown(admitted, self.policy.unreadable, result)
            return
        for warning in result.warnings:
            _LOG.info("%s: %s", admitted.id, without_quotes(warning))
        if result.estimated:
            _LOG.warning("%s: no usage was reported; it is estimated from the answer", admitted.id)
        await self._settle(admitted, result.body, answer)

    async def _settle_unknown(self, admitted: AdmittedRequest, resolution: Resolution, result: StreamResult) -> None:
        if resolution == "release":
            _LOG.error("%s: released by policy; the provider may bill it", admitted.id)
            self.release(admitted)
            return
        await self._post(admitted, 0, lambda: price_unknown(self.book, admitted, resolution, result))

    async def _settle(self, admitted: AdmittedRequest, reported: dict[str, Any], answer: bytes) -> None:
        await self._post(
            admitted,
            len(answer),
            lambda: price_response(self.book, admitted, reported, answer, self.policy),
            inline=len(answer) <= _INLINE_ANSWER_BYTES,
        )

    async def _post(
        self, admitted: AdmittedRequest, size: int, price: Callable[[], PricedResponse], *, inline: bool = False
    ) -> None:
        """Price and settle a request. If pricing fails for whatever reason, the hold is charged."""
        try:
            priced = price() if inline else await self._work(admitted, size, price)
        except Exception as error:
            # An internal error must not make an answer free. The hold is the only amount that is certain.
            reason = error.code if isinstance(error, BillingError) else describe_exception(error)
            _LOG.critical("%s: pricing failed; the whole hold is charged: %s", admitted.id, reason)
            charge = admitted.worst_case.charge
            if charge is None:
                raise
            priced = PricedResponse(charge, None)
        if not self._claim(admitted):
            return
        await self.wait_briefly(self.holds.settle(admitted, priced))

    async def _work(self, admitted: AdmittedRequest, size: int, work: Callable[[], T]) -> T:
        """Run work on an answer of so many bytes, which may count its request again, in a thread."""
        return await self.workers.run(admitted.token.account, size + len(admitted.body), work)


async def _nothing() -> None:
    pass
