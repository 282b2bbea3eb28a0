"""A gateway without a server: a provider that answers as a test says, and a ledger in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from brivionix_billing import PriceBook, Usage
from brivionix_billing.gateway import AdmittedRequest, Api, ClientAnswer, GatewayBilling, GatewayPolicy
from brivionix_billing.ledger import Entry, Ledger
from paths import ROOT

__all__ = ["AT", "BOOK", "CHAT", "MESSAGES", "Answer", "Flow", "chat_events", "run"]

T = TypeVar("T")
AT: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)

_FURTHER_MODELS: Final = """
  router-test:
    context: {window: 272000, max_output: 128000}
    routes_to: ["gpt-5.4*"]
    prices: [{from: 2026-01-01, standard: {router_fee: 0.14}}]
  claude-test:
    context: {window: 200000, max_output: 8192}
    prices: [{from: 2026-01-01, standard: {input: 3, cache_read: 0.3, cache_write: 3.75, output: 15}}]
  embedding-test:
    context: {max_input: 8192}
    prices: [{from: 2026-01-01, standard: {input: 0.02}}]
  image-test:
    context: {max_output: 6240}
    prices: [{from: 2026-01-01, standard: {input: 5, image_input: 10, image_output: 40}}]
  image-unbounded:
    prices: [{from: 2026-01-01, standard: {input: 5, image_output: 40}}]
  image-both:
    prices: [{from: 2026-01-01, standard: {input: 5, image_output: 40, output_images: 0.04}}]
  image-flat:
    prices: [{from: 2026-01-01, standard: {output_images: 0.04}}]
  whisper-test:
    prices: [{from: 2026-01-01, standard: {audio_input_seconds: 0.0001}}]
  transcribe-test:
    context: {max_input: 16000, max_output: 2000}
    prices: [{from: 2026-01-01, standard: {input: 2.5, audio_input: 6, output: 10}}]
"""
_UPSTREAMS: Final = """
upstreams:
  beside: {cache_read: beside_input}
"""


def _book() -> PriceBook:
    text = (ROOT / "pricing.yaml").read_text(encoding="utf-8")
    head, mark, rest = text.partition("\nmodels:\n")
    return PriceBook.loads(f"{head}{_UPSTREAMS}{mark}{_FURTHER_MODELS}{rest}")


BOOK: Final = _book()
"""``pricing.yaml``, with models of every API and an upstream that has conventions."""
CHAT: Final[dict[str, Any]] = {
    "model": "gpt-5.4-mini",
    "messages": [{"role": "user", "content": "Book me a flight"}],
    "max_completion_tokens": 500,
}
MESSAGES: Final[dict[str, Any]] = {
    "model": "claude-test",
    "messages": [{"role": "user", "content": "Book me a flight"}],
    "max_tokens": 500,
}


@dataclass
class Answer:
    """The answer of a provider. It breaks off with ``error`` after its pieces, or goes on when ``proceed`` is set."""

    pieces: Iterable[bytes] = ()
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    error: BaseException | None = None
    proceed: asyncio.Event | None = None
    rest: Iterable[bytes] = ()
    is_closed: bool = False

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece
        if self.proceed is not None:
            await self.proceed.wait()
            for piece in self.rest:
                await asyncio.sleep(0)
                yield piece
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.is_closed = True


EVENTS: Final = {"content-type": "text/event-stream"}


def chat_events(words: Iterable[str], usage: Mapping[str, Any] | None, model: str = "gpt-5.4-mini") -> list[bytes]:
    """Return the events of a chat stream, one piece each."""
    chunks: list[dict[str, Any]] = [
        {"model": model, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in words
    ]
    if usage is not None:
        chunks.append({"model": model, "choices": [], "usage": usage})
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


class Flow:
    """The billing of a gateway with one customer who has 1000 Credits."""

    def __init__(self, policy: GatewayPolicy | None = None, **options: Any) -> None:
        self.ledger = Ledger.open("sqlite://", BOOK)
        self.ledger.open_account("acct", at=AT)
        self.ledger.grant("acct", 1000, reason="test", id="grant", at=AT)
        secret = self.ledger.create_token("acct", group="default", id="token", at=AT).secret
        self.header = f"Bearer {secret}"
        self.billing = GatewayBilling(BOOK, self.ledger, clock=lambda: AT, policy=policy or GatewayPolicy(), **options)
        self._count = 0

    async def admit(self, request: Any, api: Api = "chat", **options: Any) -> AdmittedRequest:
        """Admit a request of the customer."""
        self._count += 1
        token = await self.billing.authenticate(self.header)
        body = request if isinstance(request, bytes) or "file" in request else json.dumps(request).encode()
        return await self.billing.admit(body, id=f"req_{self._count}", at=AT, token=token, api=api, **options)

    async def forward(
        self,
        request: Any,
        answer: Answer | BaseException | Callable[[], Awaitable[Any]],
        api: Api = "chat",
        **options: Any,
    ) -> ClientAnswer:
        """Admit a request and forward it to a provider that answers so."""
        admitted = await self.admit(request, api, **options)

        async def send(_: AdmittedRequest) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return await answer() if callable(answer) else answer

        return await self.billing.forward(admitted, send)

    def entries(self, kind: str = "settle") -> list[Entry]:
        """Return the entries of a kind."""
        return [entry for entry in self.ledger.journal("acct") if entry.kind == kind]

    def settled(self) -> tuple[Usage, Decimal]:
        """Return the usage and the Credits of the only settlement, after checks that nothing is held any more."""
        (entry,) = self.entries()
        assert self.ledger.balance("acct", at=AT).held == 0
        assert self.ledger.verify() == []
        return Usage.from_response(entry.content["usage"]), entry.credits

    def held(self) -> Decimal:
        """Return the Credits of the last hold."""
        return Decimal(self.entries("hold")[-1].content["credits"])


def run(policy: GatewayPolicy | None, work: Callable[[Flow], Awaitable[T]], **options: Any) -> tuple[Flow, T]:
    """Run a flow to its end: until all is posted."""

    async def whole() -> tuple[Flow, T]:
        flow = Flow(policy, **options)
        result = await work(flow)
        assert await flow.billing.background.wait_idle(10)
        # Nothing counts as in progress that is not: such a customer would be refused some day.
        assert flow.billing.in_progress.requests_of_account.total() == len(flow.billing._unresolved)
        flow.billing.threads.close()
        return flow, result

    return asyncio.run(whole())
