"""The example gateway delivers the signals of the ledger, at least once and in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from brivionix_billing.ledger import Ledger, Signal
from examples.gateway.signals import SignalDelivery, log_signal, webhook
from ledger_kit import NOW, later, opened


@pytest.fixture
def ledger() -> Any:
    """Yield a ledger with two signals of each of two accounts."""
    with opened("sqlite://") as ledger:
        for account in ("ada", "bob"):
            ledger.open_account(account, at=NOW)
            for number in (1, 2):
                name = f"{account}-{number}"
                ledger.set_signal(account, name, "low_balance", threshold=number, id=name, at=NOW)
        yield ledger


def deliver(ledger: Ledger, send: Callable[[Signal], Coroutine[Any, Any, None]], at: datetime = NOW) -> int:
    """Deliver one batch."""

    async def main() -> int:
        delivery = SignalDelivery(ledger, send, lambda: at, 1)
        try:
            return await delivery.deliver_batch()
        finally:
            await delivery.close()

    return asyncio.run(main())


def test_a_failure_keeps_the_order_of_its_account(ledger: Ledger) -> None:
    """After a failure, the later signals of the account wait for the end of the lease. Other accounts do not."""
    sent: list[str] = []

    async def send(signal: Signal) -> None:
        if signal.account == "ada" and len(sent) < 2:
            raise aiohttp.ClientError("refused")
        sent.append(signal.name)

    assert [deliver(ledger, send, later(seconds)) for seconds in (0, 30, 60)] == [2, 0, 2]
    assert sent == ["bob-1", "bob-2", "ada-1", "ada-2"]
    assert ledger.signals() == []


def test_a_webhook_gets_each_signal_as_json(ledger: Ledger) -> None:
    """A receiver on loopback gets each signal with a key by which it finds repetitions; 500 is a failure."""
    seen: list[tuple[str, str]] = []

    async def receive(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((request.headers["idempotency-key"], body["content"]["threshold"]))
        return web.Response(status=500 if body["account"] == "bob" else 204)

    async def main() -> int:
        app = web.Application()
        app.router.add_post("/hook", receive)
        async with TestServer(app) as server, aiohttp.ClientSession() as client:
            delivery = SignalDelivery(ledger, webhook(client, str(server.make_url("/hook"))), lambda: NOW, 1)
            try:
                return await delivery.deliver_batch()
            finally:
                await delivery.close()

    assert asyncio.run(main()) == 2
    assert seen == [("ada/1", "1"), ("ada/2", "2"), ("bob/1", "1")]
    assert [signal.account for signal in ledger.signals()] == ["bob", "bob"]


def test_without_a_webhook_signals_are_logged(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A line of the log has the figures of a signal."""
    with caplog.at_level(logging.WARNING):
        deliver(ledger, log_signal)
    assert caplog.messages[0] == "signal low_balance of ada, number 1: {'balance': '0', 'threshold': '1'}"


def test_the_service_delivers_in_the_background(ledger: Ledger) -> None:
    """After the start, signals are delivered without a request; the stop waits for what is being sent."""
    sent: list[str] = []

    async def main() -> None:
        done = asyncio.Event()

        async def send(signal: Signal) -> None:
            sent.append(signal.name)
            if len(sent) == 4:
                done.set()

        delivery = SignalDelivery(ledger, send, lambda: NOW, 1)
        delivery.open()
        await asyncio.wait_for(done.wait(), 20)
        await delivery.close()

    asyncio.run(main())
    assert sent == ["ada-1", "ada-2", "bob-1", "bob-2"]
