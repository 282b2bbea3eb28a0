"""Two hundred streams at once through the SDKs of OpenAI and Anthropic, many of which their clients leave."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from openai import AsyncOpenAI

from brivionix_billing import Usage
from brivionix_billing.decimals import sum_exact
from brivionix_billing.gateway import GatewayPolicy
from exchange_kit import BOOK, MESSAGES
from gateway_kit import CHAT, DAY, RESPONSES, Customer, Stack, clock, running

STREAMS = 200
KINDS = ("chat", "responses", "anthropic")
MODELS = {"chat": CHAT["model"], "responses": RESPONSES["model"], "anthropic": MESSAGES["model"]}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    url = f"sqlite:///{tmp_path_factory.mktemp('gateway') / 'ledger.db'}"
    with running(url, book=BOOK, policy=GatewayPolicy()) as found:
        yield found


class Clients:
    """One client of each SDK, which report what their streams say."""

    def __init__(self, stack: Stack, customer: Customer) -> None:
        from anthropic import AsyncAnthropic  # it is slow to import, and every process of a run imports this module

        options: dict[str, Any] = {"api_key": customer.secret, "max_retries": 0, "timeout": 60}
        self.openai = AsyncOpenAI(base_url=f"{stack.url}/v1", **options)
        self.anthropic = AsyncAnthropic(base_url=stack.url, **options)

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.openai.close()
        await self.anthropic.close()

    def create(self, kind: str) -> Any:
        if kind == "chat":
            options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
            return self.openai.chat.completions.create(**CHAT, **options)
        if kind == "responses":
            return self.openai.responses.create(**RESPONSES, stream=True)
        return self.anthropic.messages.create(**MESSAGES, stream=True)


def read_usage(kind: str, events: list[Any]) -> Usage:
    """Return the usage that the SDK's events of a stream state."""
    if kind == "chat":
        return Usage.from_response(events[-1])
    if kind == "responses":
        return Usage.from_response(events[-1].response)
    start = next(event.message for event in events if event.type == "message_start").model_dump()
    end = next(event.usage for event in events if event.type == "message_delta")
    return Usage.from_response({**start, "usage": {**start["usage"], "output_tokens": end.output_tokens}})


def has_last_text(kind: str, event: Any) -> bool:
    """Return whether the text of an answer is complete after an event; its usage is yet to come."""
    if kind == "chat":
        return any(choice.finish_reason for choice in event.choices)
    return event.type in ("response.output_text.done", "content_block_stop")


@pytest.mark.parametrize("leaving", ["a third leave somewhere", "half leave after the last text"])
def test_two_hundred_streams_of_which_many_are_left(stack: Stack, leaving: str) -> None:
    """Whether its client stays or leaves, a stream costs what the provider reports, exactly once."""
    customer = stack.customer(pay="850000")

    async def one(clients: Clients, number: int) -> tuple[str, Usage] | None:
        kind = KINDS[number % 3]
        stream = await clients.create(kind)
        events = aiter(stream)
        if number % 9 < 6 if leaving.startswith("a third") else number % 2:
            return kind, read_usage(kind, [event async for event in events])
        if leaving.startswith("a third"):
            for _ in range(number % 7):
                await anext(events)
        else:
            while not has_last_text(kind, await anext(events)):
                pass
        await stream.close()
        return None

    async def all_of_them() -> list[tuple[str, Usage] | None]:
        async with Clients(stack, customer) as clients:
            return await asyncio.gather(*(one(clients, number) for number in range(STREAMS)))

    gc.disable()  # the SDKs leave generators open, which the collector might close on a thread of the servers
    try:
        found = asyncio.run(all_of_them())
    finally:
        gc.enable()
    stack.wait_for(customer, STREAMS)
    stack.settled_up(customer)
    usages = dict(filter(None, found))
    assert usages.keys() == set(KINDS)
    kinds = Counter(KINDS[number % 3] for number in range(STREAMS))
    expected = sorted(
        (usages[kind], BOOK.rate(usages[kind], model=MODELS[kind], group="default", at=clock()).credits)
        for kind in KINDS
        for _ in range(kinds[kind])
    )
    entries = stack.booked(customer)
    charged = sorted((Usage.from_response(entry.content["usage"]), entry.credits) for entry in entries)
    assert charged == expected
    assert sum(result is None for result in found) >= STREAMS // 4
    used: Decimal = sum_exact(credits for _, credits in expected)
    assert stack.ledger.balance(customer.account, at=DAY.end).available == 10**6 - used
