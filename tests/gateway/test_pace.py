"""The pace of long bodies and streams: a limited rate for all together, in turns of the accounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from brivionix_billing.gateway import GatewayError, GatewayLimits, GatewayPolicy
from brivionix_billing.gateway.intake import read_content
from brivionix_billing.gateway.limits import InProgress
from brivionix_billing.gateway.turns import PACED_BYTES, Pace
from exchange_kit import AT, CHAT, EVENTS, Answer, Flow, chat_events, run

SHORT, PART = b" " * (PACED_BYTES - 1), b" " * PACED_BYTES
STOPPED = 1
"""A rate in bytes per second at which nothing passes in a test, after the first part."""


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(body: AsyncIterator[bytes], *, pace: Pace) -> Any:
    """Read a body of a customer with Credits, who has 60 s for it."""

    async def require_credits() -> None: ...

    token: Any = SimpleNamespace(id="token", account="acct")
    limits = GatewayLimits(body_seconds=60)
    slot = InProgress(limits).enter(token)
    return await read_content(body, slot, limits, require_credits, lambda count: pace.wait("acct", count))


def test_a_short_body_never_waits_for_long_ones() -> None:
    """While a long body waits, bodies below the size of a part are read."""

    async def work() -> None:
        pace = Pace(STOPPED)
        long = asyncio.create_task(read(pieces(PART, PART), pace=pace))
        await asyncio.sleep(0.01)
        assert await asyncio.wait_for(read(pieces(SHORT), pace=pace), 5) == SHORT
        assert not long.done()
        long.cancel()

    asyncio.run(work())


@pytest.mark.parametrize("size", [PACED_BYTES, 1000])
def test_a_long_body_is_read_at_the_rate(size: int) -> None:
    """Whatever the size of its pieces is, after each part nothing passes for the time of its bytes."""

    class Clocked(Pace):
        async def wait(self, account: str, count: int) -> None:
            passed.append(count)

    passed: list[int] = []
    body = b" " * (5 * PACED_BYTES)
    cut = [body[start : start + size] for start in range(0, len(body), size)]
    assert asyncio.run(read(pieces(*cut), pace=Clocked(1))) == body
    assert all(PACED_BYTES <= count < PACED_BYTES + size for count in passed)
    assert len(body) - sum(passed) < PACED_BYTES


def test_after_a_part_the_next_waits_for_the_time_of_its_bytes() -> None:
    """The delay is the number of bytes by the rate."""

    async def work() -> list[float]:
        loop, delays = asyncio.get_running_loop(), list[float]()

        def call_soon(delay: float, callback: Callable[[], None]) -> asyncio.Handle:
            delays.append(delay)
            return loop.call_soon(callback)

        loop.call_later = call_soon  # type: ignore[method-assign,assignment]  # the test does not wait
        pace = Pace(1000)
        for count in (500, 4000):
            await pace.wait("acct", count)
        return delays

    assert asyncio.run(work()) == [0.5, 4]


def test_bodies_of_several_accounts_take_turns() -> None:
    """An account with many long bodies is not read more of than one with a single body."""

    async def work() -> list[str]:
        pace, order = Pace(10**9), list[str]()

        async def wait(account: str) -> None:
            await pace.wait(account, 1)
            order.append(account)

        await pace.wait("first", 10**6)
        await asyncio.gather(*[wait("greedy") for _ in range(5)], wait("other"))
        return order

    assert asyncio.run(work()) == ["greedy", "other", *["greedy"] * 4]


def test_a_body_that_waits_for_others_is_not_too_slow() -> None:
    """The time limit of a body counts its client's time only. A client that stops after that is still too slow."""

    async def work() -> None:
        loop, later = asyncio.get_running_loop(), [0.0]
        time = loop.time
        loop.time = lambda: time() + later[0]  # type: ignore[method-assign]  # the test does not wait

        class Slow(Pace):
            async def wait(self, account: str, count: int) -> None:
                later[0] += 100

        assert await read(pieces(PART, PART, PART), pace=Slow(1)) == PART * 3

        async def stopping() -> AsyncIterator[bytes]:
            yield PART
            later[0] += 61
            await asyncio.Event().wait()

        with pytest.raises(GatewayError, match="too long"):
            await read(stopping(), pace=Slow(1))

    asyncio.run(work())


def test_the_gateway_reads_long_bodies_at_the_rate_of_its_limits() -> None:
    """The second part of a long body waits for the first one of another account."""

    async def work(flow: Flow) -> None:
        token = await flow.billing.authenticate(flow.header)
        long = flow.billing.admit(pieces(PART, PART, b"{}"), id="a", at=AT, token=token, api="chat")
        task = asyncio.create_task(long)
        await asyncio.sleep(0.1)
        assert not task.done()
        await flow.admit(CHAT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(None, work, limits=GatewayLimits(long_body_bytes_per_second=STOPPED))


@pytest.mark.parametrize("size", [PACED_BYTES - 2000, 3 * PACED_BYTES])
def test_a_long_stream_is_read_at_the_rate(size: int) -> None:
    """A provider that sends all at once is read on after each part of 64 KiB; a short stream never waits."""

    class Clocked(Pace):
        async def wait(self, account: str, count: int) -> None:
            passed.append((account, count))

    passed: list[tuple[str, int]] = []
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    comment = b":" + b" " * (size - 3) + b"\n\n"

    async def work(flow: Flow) -> bytes:
        flow.billing.stream_pace = Clocked(1)
        answer = Answer([comment + b"".join(chat_events(["Hi"], usage))], headers=EVENTS)
        return b"".join([part async for part in await flow.forward({**CHAT, "stream": True}, answer)])

    flow, forwarded = run(None, work)
    assert forwarded.startswith(comment)
    assert flow.settled()[0].output_tokens == 2
    assert passed == [("acct", PACED_BYTES)] * (size // PACED_BYTES)


def test_a_stream_that_waits_for_its_turn_is_settled_when_its_client_leaves() -> None:
    """The rate is that of the limits, and no wait is longer than a provider is read on."""

    async def work(flow: Flow) -> None:
        events = chat_events(["Hi"], None)[0] + b": a comment\n\n" * (PACED_BYTES // 4)
        answer = Answer([events], headers=EVENTS)
        client = await flow.forward({**CHAT, "stream": True}, answer)
        size, parts = 0, aiter(client)  # one that nothing refers to would be closed, as if the client left
        async for part in parts:
            size += len(part)
            if size >= PACED_BYTES:
                break
        await asyncio.sleep(0.01)
        assert not answer.is_closed
        await client.aclose()

    flow, _ = run(GatewayPolicy(max_drain_seconds=0), work, limits=GatewayLimits(stream_bytes_per_second=STOPPED))
    assert flow.settled()[0].estimated
