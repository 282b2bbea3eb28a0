"""The example's service, without a server: what its queries may do to others."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.gateway import GatewayError
from brivionix_billing.ledger import ApiToken, Ledger
from brivionix_billing.times import Period
from examples.gateway.config import Config
from examples.gateway.service import Gateway
from exchange_kit import AT, BOOK

PERIOD = Period.parse("2026-10")


def with_gateway(work: Callable[[Gateway], Awaitable[None]]) -> None:
    """Run work with a gateway that has an empty ledger."""

    async def run() -> None:
        gateway = Gateway(Config(), BOOK, Ledger.open("sqlite://", BOOK), clock=lambda: AT)
        try:
            await work(gateway)
        finally:
            await gateway.close()

    asyncio.run(run())


def new_token(ledger: Ledger, account: str) -> ApiToken:
    """Return a token of a new account."""
    ledger.open_account(account, at=AT)
    ledger.create_token(account, group="default", id=f"tok_{account}", at=AT)
    return ledger.token(f"tok_{account}")


def test_queries_of_usage_are_limited_per_account() -> None:
    """Beyond 4 at a time, status 429: the model requests of all customers wait behind them."""

    async def work(gateway: Gateway) -> None:
        first, second = new_token(gateway.ledger, "acct_1"), new_token(gateway.ledger, "acct_2")
        queries = [asyncio.create_task(gateway.usage(first, PERIOD, by_token=False)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(GatewayError) as caught:
            await gateway.usage(first, PERIOD, by_token=False)
        assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
        assert await gateway.usage(second, PERIOD, by_token=True) == []
        assert await asyncio.gather(*queries) == [[]] * 4
        assert await gateway.usage(first, PERIOD, by_token=False) == []
        assert not gateway._queries

    with_gateway(work)


def test_a_probe_that_fails_when_nobody_waits_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Else the log would get the error of the database with its message and a traceback for each probe."""

    async def work(gateway: Gateway) -> None:
        def fail(*_: Any) -> None:
            time.sleep(0.2)
            raise BillingError("ledger_unavailable", "a message of the database")

        gateway.ledger.entry = fail  # type: ignore[method-assign,assignment]  # on purpose
        assert await gateway.probe.check() == "busy"
        await gateway.billing.background.wait_idle()
        gc.collect()

    with_gateway(work)
    assert "a message" not in caplog.text
