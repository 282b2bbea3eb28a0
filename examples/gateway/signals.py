"""Delivers the signals of the ledger: to a webhook, or to the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import aiohttp

from brivionix_billing import BillingError
from brivionix_billing.gateway import describe_exception
from brivionix_billing.ledger import Ledger, LedgerThreadPool, Signal

__all__ = ["SignalDelivery", "log_signal", "webhook"]

_LOG: Final = logging.getLogger("gateway")
_TIMEOUT_SECONDS: Final = 10
"""Time that a receiver has to answer. It is shorter than the lease of a batch."""
_BATCH: Final = 5
"""Signals in a batch: if each needs the whole timeout, the batch is delivered within its lease of a minute."""
Send = Callable[[Signal], Awaitable[None]]


async def log_signal(signal: Signal) -> None:
    """Write a signal to the log. It has no secrets."""
    _LOG.warning("signal %s of %s, number %s: %s", signal.kind, signal.account, signal.number, dict(signal.content))


def webhook(client: aiohttp.ClientSession, url: str) -> Send:
    """Return a function that posts a signal as JSON. Any status but 2xx is a failure, so that it is sent again."""

    async def send(signal: Signal) -> None:
        headers = {"idempotency-key": f"{signal.account}/{signal.number}"}
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with client.post(
            url, json=signal.as_dict(), headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            if not 200 <= answer.status < 300:
                raise aiohttp.ClientError(f"the receiver answered with status {answer.status}")

    return send


class SignalDelivery:
    """Reads the outbox of a ledger, and sends each signal at least once, in order per account.

    Several gateways may run it on the same ledger: a batch is leased to one of them.
    """

    def __init__(self, ledger: Ledger, send: Send, clock: Callable[[], datetime], seconds: float) -> None:
        self._ledger, self._send, self._clock, self._seconds = ledger, send, clock, seconds
        self._threads = LedgerThreadPool()
        """Its own thread: that of the requests closes before the service has stopped."""
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to deliver in the background."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop. A signal that was sent and not acknowledged is sent again after the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._threads.close()

    async def _run(self) -> None:
        while True:
            try:
                delivered = await self.deliver_batch()
            except BillingError as error:  # the database may be back soon
                _LOG.warning("signals cannot be read: %s", error.code)
                delivered = 0
            if not delivered:
                await asyncio.sleep(self._seconds)

    async def deliver_batch(self) -> int:
        """Deliver one batch. Returns the number of signals that were delivered.

        After a failure, the later signals of the account wait until the lease ends.
        """
        batch = await self._threads.run(self._ledger.lease_signals, at=self._clock(), limit=_BATCH)
        delivered, failed = 0, set()
        for signal in batch:
            if signal.account in failed:
                continue
            try:
                await self._send(signal)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                failed.add(signal.account)
                _LOG.warning(
                    "signal %s of %s was not delivered: %s", signal.number, signal.account, describe_exception(error)
                )
                continue
            await self._threads.run(self._ledger.acknowledge_signals, signal.account, signal.number, at=self._clock())
            delivered += 1
        return delivered
