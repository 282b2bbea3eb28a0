"""The billing of a gateway's requests, from authentication to settlement."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from brivionix_billing.gateway.admission import AdmittedRequest, Api, CounterPool, prepare_request
from brivionix_billing.gateway.background import BackgroundTasks
from brivionix_billing.gateway.holds import HoldManager
from brivionix_billing.gateway.metered_stream import MeteredStream
from brivionix_billing.gateway.pricing import PricedResponse, price_response
from brivionix_billing.ledger import ApiToken, Ledger, LedgerThreadPool, parse_bearer
from brivionix_billing.pricebook import PriceBook

__all__ = ["DEFAULT_RETRY_DELAYS", "GatewayBilling"]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")

DEFAULT_RETRY_DELAYS: Final = (0.2, 1.0, 5.0, 20.0, 60.0)
"""Seconds before each retry of a settlement that the database did not accept."""


class GatewayBilling:
    """Authenticates, admits, holds and settles the requests of a gateway.

    Construct it in the process whose event loop serves the requests, and :meth:`close` it there. ``clock`` returns the
    current time with a time zone; no other clock is read. See the package for the flow and its guarantees.
    """

    def __init__(
        self,
        book: PriceBook,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime],
        retry_delays: Sequence[float] = DEFAULT_RETRY_DELAYS,
    ) -> None:
        self.book, self.ledger, self.clock = book, ledger, clock
        self.background = BackgroundTasks()
        # SQLite runs one writing transaction at a time, PostgreSQL as many as the engine has connections.
        self.threads = LedgerThreadPool(1 if ledger.engine.dialect.name == "sqlite" else 5)
        self.holds = HoldManager(ledger, self.threads, self.background, clock, retry_delays)
        self.counters = CounterPool(book)

    async def open(self) -> None:
        """Load the vocabularies, so that the first request does not wait for them."""
        await asyncio.to_thread(self.counters.warm)

    async def close(self) -> None:
        """Post everything that is still to be posted, then close the threads. The ledger stays open."""
        await self.background.wait_idle()
        self.threads.close()

    async def authenticate(self, authorization: str | None) -> ApiToken:
        """Return the API token of an ``Authorization`` header. Raises the errors with status 401, and 503."""
        secret = parse_bearer(authorization)
        return await self.threads.run(self.ledger.authenticate, secret, at=self.clock())

    async def admit(self, body: bytes, *, id: str, at: datetime, token: ApiToken, api: Api) -> AdmittedRequest:
        """Check a request, compute its worst case and hold it.

        Raises ``GatewayError`` and ``BillingError``; then nothing is held. From here on, exactly one of
        :meth:`release`, :meth:`settle_response` and :meth:`settle_stream` must follow, in a task of :attr:`background`.
        """
        # Counting a long request takes a while, during which others are served.
        admitted = await asyncio.to_thread(
            prepare_request, body, id=id, at=at, token=token, api=api, book=self.book, counters=self.counters
        )
        await self.holds.hold(admitted)
        return admitted

    def release(self, admitted: AdmittedRequest) -> asyncio.Task[None]:
        """Release the hold of a request that the provider did not answer."""
        return self.holds.release(admitted)

    async def settle_response(self, admitted: AdmittedRequest, body: bytes) -> bool:
        """Charge a complete response. Returns ``False`` if the body is no answer; the hold is then released.

        Await it before the client gets the response, so that no answer is delivered unposted.
        """
        try:
            reported: Any = json.loads(body)
        except (ValueError, RecursionError):
            reported = None
        if not isinstance(reported, dict) or not reported.keys() & {"usage", "choices", "output"}:
            self.release(admitted)
            return False
        await self._settle(admitted, reported, body)
        return True

    async def settle_stream(self, stream: MeteredStream) -> None:
        """Wait for the end of a stream, however it ends, and charge or release it.

        Start it in :attr:`background` before the first piece is forwarded.
        """
        await stream.closed.wait()
        result = await asyncio.to_thread(stream.usage.result)  # an estimate counts tokens
        if stream.is_billable:
            await self._settle(stream.admitted, result.body, bytes(stream.buffer))
        else:
            await self.release(stream.admitted)
        if result.estimated:
            _LOG.info("%s: estimated: %s", stream.admitted.id, result.reason)

    async def _settle(self, admitted: AdmittedRequest, reported: dict[str, Any], answer: bytes) -> None:
        try:
            priced = await asyncio.to_thread(price_response, self.book, admitted, reported, answer)
        except Exception:
            # An internal error must not make an answer free. The hold is the only amount that is certain.
            _LOG.critical("%s: pricing failed; the whole hold is charged", admitted.id, exc_info=True)
            charge = admitted.worst_case.charge
            if charge is None:
                raise
            priced = PricedResponse(charge, None)
        await self.holds.settle(admitted, priced)
