"""A gateway that stops: within a bounded time, and with everything posted or logged."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from brivionix_billing.gateway import GatewayError, GatewayPolicy, Resolution
from brivionix_billing.ledger import LedgerThreadPool
from exchange_kit import AT, BOOK, CHAT, EVENTS, Answer, Flow, chat_events

STREAMED = {**CHAT, "stream": True}
COUNTS = {"prompt_tokens": 21, "completion_tokens": 13}
WHOLE = json.dumps({"choices": [{"message": {"content": "Hello there"}}], "usage": COUNTS}).encode()


@pytest.fixture
def flow() -> Iterator[Flow]:
    """A flow whose database answers at once, or whose retries would take an hour."""
    flow = Flow(retry_delays=(3600,))
    yield flow
    flow.ledger.close()


@pytest.mark.parametrize("resolution", ["estimate", "hold", "release"])
def test_a_provider_that_never_answers_does_not_keep_the_service(resolution: Resolution) -> None:
    """The waiting client gets an error, and the request is charged by the policy for what was sent."""

    async def work() -> tuple[Flow, GatewayError]:
        flow, sent = Flow(GatewayPolicy(unanswered=resolution)), asyncio.Event()

        async def never() -> Answer:
            sent.set()
            await asyncio.Event().wait()
            raise AssertionError

        waiting = asyncio.create_task(flow.forward(CHAT, never))
        await sent.wait()
        await flow.billing.close(0.01)
        with pytest.raises(GatewayError) as caught:
            await waiting
        return flow, caught.value

    flow, error = asyncio.run(work())
    assert error.code == "upstream_broke_off"
    if resolution == "release":
        assert len(flow.entries("release")) == 1
    else:
        usage, credits = flow.settled()
        assert usage.estimated
        assert (credits == flow.held()) == (resolution == "hold")


def test_an_open_stream_is_cut_told_and_estimated() -> None:
    """The client's stream ends with an error event, and what arrived is charged, although the client is still there."""

    async def work() -> tuple[Flow, bytes]:
        flow = Flow()
        events = chat_events(["Hello", " there"], COUNTS)
        answer = Answer(events[:2], headers=EVENTS, proceed=asyncio.Event())
        found = await flow.forward(STREAMED, answer)
        iterator = aiter(found)
        head = [await anext(iterator), await anext(iterator)]
        await flow.billing.close(0.01)
        assert answer.is_closed
        return flow, b"".join([*head, *[piece async for piece in iterator]])

    flow, received = asyncio.run(work())
    assert b"event: error" in received
    usage, credits = flow.settled()
    assert (usage.estimated, usage.output_tokens) == (True, 2)
    assert credits == BOOK.rate(usage, model=CHAT["model"], group="default", at=AT).credits


def test_what_comes_to_its_end_in_time_is_charged_exactly() -> None:
    """Requests that are open when the service stops may finish."""

    async def work() -> Flow:
        flow = Flow()
        sent, proceed = asyncio.Event(), asyncio.Event()

        async def late() -> Answer:
            sent.set()
            await proceed.wait()
            return Answer([WHOLE])

        waiting = asyncio.create_task(flow.forward(CHAT, late))
        await sent.wait()
        asyncio.get_running_loop().call_later(0.05, proceed.set)
        await flow.billing.close(10)
        assert (await waiting).body == WHOLE
        return flow

    usage, _ = asyncio.run(work()).settled()
    assert usage == Usage(input_tokens=21, output_tokens=13)


def test_a_request_of_a_flow_that_was_given_up_is_settled_at_the_stop() -> None:
    """A service that admitted a request and lost it leaves no hold."""

    async def work() -> Flow:
        flow = Flow()
        await flow.admit(CHAT)
        await flow.billing.close(0.01)
        return flow

    usage, _ = asyncio.run(work()).settled()
    assert usage.estimated
    assert usage.output_tokens == 0


def test_a_request_that_comes_while_the_service_stops_is_refused() -> None:
    """Nothing is held for it, and the client may try again."""

    async def work() -> Flow:
        flow = Flow()
        await flow.billing.close(0.01)
        flow.billing.threads = LedgerThreadPool()
        with pytest.raises(GatewayError) as caught:
            await flow.forward(CHAT, Answer([WHOLE]))
        assert (caught.value.status, caught.value.code) == (503, "gateway_stopping")
        return flow

    assert asyncio.run(work()).entries("hold") == []


def test_a_request_is_forwarded_once() -> None:
    """What was settled cannot be sent again without a new hold."""

    async def work() -> None:
        flow = Flow()
        admitted = await flow.admit(CHAT)
        await flow.billing.release(admitted)

        async def send(_: Any) -> Any:
            raise AssertionError

        with pytest.raises(BillingError, match="admit it again"):
            await flow.billing.forward(admitted, send)
        await flow.billing.close(1)

    asyncio.run(work())


def test_a_charge_that_waits_for_its_retry_is_tried_once_more_at_the_stop(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop does not wait for an hour: the next attempt is made at once, and posts it."""
    settle, failures = flow.ledger.settle, [1]

    def failing(*args: Any, **options: Any) -> Any:
        if failures:
            failures.pop()
            raise BillingError("ledger_unavailable", "busy")
        return settle(*args, **options)

    monkeypatch.setattr(flow.ledger, "settle", failing)
    monkeypatch.setattr("brivionix_billing.gateway.billing._POSTING_SECONDS", 0.01)

    async def work() -> None:
        assert (await flow.forward(CHAT, Answer([WHOLE]))).body == WHOLE
        await flow.billing.close(0.01)

    asyncio.run(work())
    assert flow.settled()[0] == Usage(input_tokens=21, output_tokens=13)


def test_a_charge_that_the_database_never_takes_is_logged_at_the_stop(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if the database does not even answer: the record has all that a settlement by hand needs."""
    release = threading.Event()
    settle = flow.ledger.settle

    def hanging(*args: Any, **options: Any) -> Any:
        release.wait(20)
        return settle(*args, **options)

    monkeypatch.setattr(flow.ledger, "settle", hanging)
    for name in ("_POSTING_SECONDS", "_STOP_SECONDS"):
        monkeypatch.setattr(f"brivionix_billing.gateway.billing.{name}", 0.01)

    async def work() -> None:
        assert (await flow.forward(CHAT, Answer([WHOLE]))).body == WHOLE
        await flow.billing.close(0.01)
        release.set()

    with caplog.at_level(logging.CRITICAL, "brivionix_billing.gateway"):
        asyncio.run(work())
    (line,) = {found.getMessage() for found in caplog.records if "post it manually" in found.getMessage()}
    record = json.loads(line.partition(": ")[2])
    assert Usage.from_response(record["usage"]) == Usage(input_tokens=21, output_tokens=13)
    assert (record["account"], record["model"], record["request_id"]) == ("acct", CHAT["model"], "req_1")
