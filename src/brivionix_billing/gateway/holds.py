"""Holds of requests: each is settled or released once, whatever happens to the request, the client or the database."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from brivionix_billing.errors import BillingError
from brivionix_billing.gateway.admission import AdmittedRequest
from brivionix_billing.gateway.background import BackgroundTasks
from brivionix_billing.gateway.observed_shares import ObservedShares
from brivionix_billing.gateway.pricing import PricedResponse
from brivionix_billing.gateway.safe_log import describe_exception, loggable, without_quotes
from brivionix_billing.ledger import DEFAULT_HOLD_TTL, Ledger, LedgerThreadPool

__all__ = ["HoldManager"]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")


class HoldManager:
    """Holds, settles and releases Credits for requests, in tasks of the service that no request can cancel.

    ``clock`` returns the current time with a time zone. ``retry_delays`` are the seconds to wait before a settlement or
    release is retried that the database did not accept. ``shares`` say what limits by window count of a hold;
    ``None``: all of it.
    """

    def __init__(
        self,
        ledger: Ledger,
        threads: LedgerThreadPool,
        background: BackgroundTasks,
        clock: Callable[[], datetime],
        retry_delays: Sequence[float],
        shares: ObservedShares | None = None,
    ) -> None:
        self._ledger, self._threads, self._background, self._clock = ledger, threads, background, clock
        self._retry_delays, self._shares = tuple(retry_delays), shares
        self._stopping = asyncio.Event()
        self._unposted: dict[str, tuple[AdmittedRequest, PricedResponse | None]] = {}

    def stop_retrying(self) -> None:
        """Try what waits for a retry once more, and nothing after that."""
        self._stopping.set()

    def log_unposted(self) -> None:
        """Log everything that is not posted yet, because the process ends."""
        for admitted, priced in list(self._unposted.values()):
            _log_record(admitted, priced)

    async def hold(self, admitted: AdmittedRequest) -> None:
        """Hold the worst case of a request. If this raises, nothing is held, or the hold is being released.

        Raises ``insufficient_credits``, ``token_limit``, ``limit_reached`` and the other errors of ``Ledger.hold``.
        """
        elapsed = self._clock() - admitted.received_at
        expected = 1 if self._shares is None else self._shares.expected(admitted.token.account, admitted.model)
        try:
            await self._threads.run(
                self._ledger.hold,
                admitted.token.account,
                admitted.worst_case,
                id=admitted.id,
                at=admitted.received_at,  # the time of the charge too, so that no month ends between the two
                ttl=DEFAULT_HOLD_TTL + elapsed,  # from now on, however long the body took to arrive
                token=admitted.token,
                tags=admitted.tags,
                expected=expected,
            )
        except asyncio.CancelledError:
            # The thread posts the hold although this task was cancelled, and no request is left to use it.
            self.release(admitted)
            raise
        except BillingError as error:
            if error.code == "ledger_unavailable":
                # The database may have committed the hold without answering.
                self.release(admitted)
            raise

    def release(self, admitted: AdmittedRequest) -> asyncio.Task[None]:
        """Release what a request held. Await the task, or not: it completes in any case."""
        return self._background.start(self._resolve(admitted, None))

    def settle(self, admitted: AdmittedRequest, priced: PricedResponse) -> asyncio.Task[None]:
        """Charge what a request used. Await the task, or not: it completes in any case."""
        if self._shares is not None:
            self._shares.observe(admitted.token.account, admitted.model, admitted.worst_case, priced.charge)
        return self._background.start(self._resolve(admitted, priced))

    async def _resolve(self, admitted: AdmittedRequest, priced: PricedResponse | None) -> None:
        """Post the end of a hold, with retries. The id makes it idempotent, so it is never posted twice."""
        self._unposted[admitted.id] = admitted, priced
        try:
            if not await self._post(admitted, priced):
                # The hold expires, and a later settlement is charged all the same.
                _log_record(admitted, priced)
        finally:
            self._unposted.pop(admitted.id, None)

    async def _post(self, admitted: AdmittedRequest, priced: PricedResponse | None) -> bool:
        """Return whether the end of a hold was posted."""
        ledger, without_usage, delays = self._ledger, False, iter(self._retry_delays)
        while True:
            try:
                if priced is None:
                    await self._threads.run(ledger.release, admitted.id, at=self._clock())
                else:
                    charge = priced.charge.credits if without_usage else priced.charge
                    usage = None if without_usage else priced.usage
                    await self._threads.run(
                        ledger.settle, admitted.id, charge, at=self._clock(), usage=usage, upstream=admitted.upstream
                    )
                return True
            except BillingError as error:
                if priced is None and error.code in ("unknown_hold", "hold_resolved"):
                    return True  # it was never posted, or it has expired: nothing is held
                _LOG.error("%s: %s: %s", admitted.id, error.code, without_quotes(error.message))
                if error.code == "ledger_unavailable":
                    pass  # retry
                elif priced is None or without_usage or error.code == "hold_resolved":
                    break
                else:
                    without_usage = True  # the journal rejects this usage: post the same Credits without it
                    continue
            except Exception as error:  # a charge must not be lost to a bug: the log has its record
                _LOG.error("%s: unexpected error: %s", admitted.id, describe_exception(error))
                break
            delay = next(delays, None)
            if delay is None:
                break
            if self._stopping.is_set():
                delays = iter(())  # one attempt more
            else:
                await self._pause(delay)
        return False

    async def _pause(self, seconds: float) -> None:
        """Wait before a retry, but not while the service stops."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            pass


def _log_record(admitted: AdmittedRequest, priced: PricedResponse | None) -> None:
    """Log a record with everything that a settlement by hand needs."""
    record = {
        "request_id": admitted.id,
        "at": admitted.received_at.isoformat(),
        "account": admitted.token.account,
        "group": admitted.token.group,
        "model": admitted.model,
        "service_tier": admitted.service_tier,
        "usage": None if priced is None else loggable(priced.usage, max_items=1000),
        "credits": "0" if priced is None else str(priced.charge.credits),
    }
    if admitted.upstream is not None:
        record["upstream"] = admitted.upstream
    _LOG.critical("not posted, post it manually: %s", json.dumps(record))
