"""A gateway under a real server, with a provider behind it that replays recordings, and customers with Credits."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import openai
import pytest
from openai import OpenAI

from brivionix_billing import PriceBook
from brivionix_billing.gateway import GatewayPolicy
from brivionix_billing.ledger import Entry, Ledger
from brivionix_billing.times import Period
from examples.gateway.app import create_app
from examples.gateway.config import Config
from examples.gateway.http_protocol import guarded_by
from examples.gateway.recorded_provider import create_provider
from examples.gateway.service import Gateway
from examples.gateway.threaded_server import ThreadedServer
from paths import ROOT

__all__ = [
    "BODIES",
    "BOOK",
    "CHAT",
    "DAY",
    "MODEL",
    "POLICY",
    "RESPONSES",
    "ROOT",
    "TOOLS",
    "Customer",
    "Stack",
    "clock",
    "refused",
    "running",
    "sdk",
]

BOOK: Final = PriceBook.load(ROOT / "pricing.yaml")
MODEL: Final = "gpt-5.4-mini"
DAY: Final = Period.parse("2026-11-20T00:00:00Z/2026-11-21T00:00:00Z")
CHAT: Final[dict[str, Any]] = {"model": MODEL, "messages": [{"role": "user", "content": "Book me a flight"}]}
RESPONSES: Final[dict[str, Any]] = {"model": MODEL, "input": "What is 2+2?"}
TOOLS: Final = {
    "chat": [{"type": "function", "function": {"name": "delete_file", "parameters": {"type": "object"}}}],
    "responses": [{"type": "function", "name": "get_capital", "parameters": {"type": "object"}}],
}
BODIES: Final[dict[str, dict[str, Any]]] = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES}
_NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
_BEGUN: Final = time.monotonic()


def clock() -> datetime:
    """The time of the tests: it runs, on a day whose prices are known."""
    return _NOON + timedelta(seconds=time.monotonic() - _BEGUN)


@dataclass(frozen=True)
class Customer:
    """An account with one token."""

    account: str
    secret: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


@dataclass
class Stack:
    """What runs: a provider, a gateway before it, and a second hand on the gateway's ledger."""

    url: str
    ledger: Ledger
    gateway: Gateway
    loop: asyncio.AbstractEventLoop
    seen: list[dict[str, Any]]
    """The bodies that the provider got."""
    headers: list[dict[str, str]]
    """The headers that the provider got with each."""
    http: httpx.Client
    """A client without an SDK."""
    _customers: int = field(default=0)

    def customer(self, *, pay: str = "8500", group: str = "default", **settings: Any) -> Customer:
        """A new account that paid so much, with a token."""
        self._customers += 1
        account, token = f"acct_{self._customers}", f"tok_{self._customers}"
        self.ledger.open_account(account, at=clock())
        if pay != "0":
            quote = BOOK.quote("rmb", at=clock(), pay=pay)
            self.ledger.top_up(account, quote, reference=f"pi_{account}", id=f"evt_{account}", at=clock())
        made = self.ledger.create_token(account, id=token, **{"at": clock(), "group": group, **settings})
        assert made.secret is not None
        return Customer(account, made.secret, token)

    def quiet(self) -> None:
        """Wait until the gateway has booked everything."""
        waiting: Future[bool] = asyncio.run_coroutine_threadsafe(self.gateway.billing.background.wait_idle(), self.loop)
        waiting.result(20)

    def booked(self, customer: Customer, kind: str = "settle") -> list[Entry]:
        """The entries of a kind, when all is booked."""
        self.quiet()
        return [entry for entry in self.ledger.journal(customer.account) if entry.kind == kind]

    def wait_for(self, customer: Customer, settlements: int) -> None:
        """Wait until so many requests are settled: the gateway may not have noticed yet that clients have left."""
        pause = threading.Event()
        for _ in range(2000):
            if sum(entry.kind == "settle" for entry in self.ledger.journal(customer.account)) >= settlements:
                return
            pause.wait(0.01)
        raise AssertionError("nothing was settled")

    def settled_up(self, customer: Customer) -> None:
        """Nothing is held, and every hold was settled or released, once."""
        holds = self.booked(customer, "hold")
        ended = [entry.content["hold"] for kind in ("settle", "release") for entry in self.booked(customer, kind)]
        assert sorted(ended) == sorted(entry.id for entry in holds)
        assert self.ledger.balance(customer.account, at=clock()).held == 0

    def post(self, path: str, customer: Customer, body: Any, **headers: str) -> httpx.Response:
        """A request without an SDK."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(path, content=content, headers={**customer.headers, **headers})

    def get(self, path: str, customer: Customer) -> httpx.Response:
        return self.http.get(path, headers=customer.headers)


POLICY: Final = GatewayPolicy(abandoned="estimate", max_drain_seconds=0.3)
"""A provider of the tests that says nothing more is not waited for."""


@contextmanager
def running(url: str, *, policy: GatewayPolicy = POLICY, book: PriceBook = BOOK, **settings: Any) -> Iterator[Stack]:
    """A provider and a gateway on ports of their own, with the ledger at a database URL."""
    config = replace(
        Config(
            retry_delays=(0.05, 0.05),
            upstream_key="sk-upstream",
            anthropic_key="sk-ant",
            forwarded_headers=frozenset({"x-demo", "anthropic-version"}),
        ),
        **settings,
    )
    made: list[tuple[Gateway, asyncio.AbstractEventLoop]] = []
    provider = create_provider()
    ledger = Ledger.open(url, book, synchronous="NORMAL")

    def make() -> Gateway:
        gateway = Gateway(config, book, Ledger.open(url, book, synchronous="NORMAL"), clock=clock, policy=policy)
        made.append((gateway, asyncio.get_running_loop()))
        return gateway

    try:
        with ThreadedServer(provider) as behind:
            if "upstream" not in settings:
                config = replace(config, upstream=f"{behind.url}/v1", anthropic=f"{behind.url}/v1")
            with (
                ThreadedServer(create_app(make), http=guarded_by(config)) as server,
                # Nothing here is encrypted, and reading the machine's certificates takes longer than a request.
                httpx.Client(base_url=server.url, trust_env=False, verify=False, timeout=20) as client,
            ):
                yield Stack(server.url, ledger, *made[0], provider.state.seen, provider.state.headers, client)
        assert ledger.verify() == []
    finally:
        ledger.close()


def sdk(stack: Stack, secret: str) -> OpenAI:
    return OpenAI(base_url=f"{stack.url}/v1", api_key=secret, max_retries=0, timeout=20)


def refused(stack: Stack, secret: str, **body: Any) -> openai.APIStatusError:
    """How the SDK tells that a chat was refused."""
    with sdk(stack, secret) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{**CHAT, **body})
    return caught.value
