"""Clients that leave at any moment, stall, or are slow: each request is settled once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from brivionix_billing.gateway import AdmittedRequest, GatewayError, GatewayPolicy, NotSentError
from exchange_kit import AT, CHAT, EVENTS, Answer, Flow, chat_events, run

STREAMED: dict[str, Any] = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
COUNTS: dict[str, Any] = {"prompt_tokens": 21, "completion_tokens": 13, "total_tokens": 34}
SHORT = chat_events(["Hello", " there"], COUNTS)
LONG = chat_events(["word "] * 100, COUNTS)
WHOLE = json.dumps({"model": CHAT["model"], "choices": [{"message": {"content": "Hi"}}], "usage": COUNTS}).encode()
ANSWERS: dict[str, tuple[dict[str, Any], Callable[[], Answer]]] = {
    "short": (STREAMED, lambda: Answer(SHORT, headers=EVENTS)),
    "long": (STREAMED, lambda: Answer(LONG, headers=EVENTS)),
    "cut": (STREAMED, lambda: Answer(LONG[:66], headers=EVENTS, error=ConnectionError())),
    "silent": (STREAMED, lambda: Answer(SHORT[:1], headers=EVENTS, proceed=asyncio.Event())),
    "JSON": (STREAMED, lambda: Answer([WHOLE])),
    "complete": (CHAT, lambda: Answer([WHOLE[:9], WHOLE[9:]])),
    "broken": (CHAT, lambda: Answer([WHOLE[:9]], error=ConnectionError())),
    "rejected": (CHAT, lambda: Answer([b"{}"], 400)),
}


@pytest.mark.parametrize(("request_", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_a_client_may_be_cancelled_at_every_turn_of_the_loop(
    request_: dict[str, Any], answer: Callable[[], Answer]
) -> None:
    """It is only ever cancelled, its hold is resolved once, no task fails, and no stream counts as drained for ever."""

    async def send(_: AdmittedRequest) -> Answer:
        await asyncio.sleep(0)
        return answer()

    async def cancelled(flow: Flow, turns: int, is_first: bool) -> None:
        admitted = await flow.admit(request_)

        async def client() -> None:
            try:
                async for _ in await flow.billing.forward(admitted, send):
                    pass
            except GatewayError:
                pass

        async def cancel() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()

        early = asyncio.create_task(cancel()) if is_first else None
        waiting = asyncio.create_task(client())
        await (early or cancel())
        await asyncio.wait([waiting])
        assert waiting.cancelled() or waiting.exception() is None
        assert await flow.billing.background.wait_idle(5)
        assert flow.billing.drained_streams == 0

    async def work(flow: Flow) -> list[str]:
        failures: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["message"]))
        for turns in range(1, 26):
            await cancelled(flow, turns, True)
            await cancelled(flow, turns, False)
        gc.collect()
        await asyncio.sleep(0)
        return failures

    flow, failures = run(GatewayPolicy(max_drain_seconds=0.01, stall_seconds=0.01), work)
    assert failures == []
    assert flow.ledger.balance("acct", at=AT).held == 0
    assert len(flow.entries("hold")) == len(flow.entries()) + len(flow.entries("release")) == 50


def test_a_stream_that_was_read_to_its_end_does_not_count_as_drained() -> None:
    """Else, after 200 of them, the provider would not be read on for clients that do leave."""

    async def work(flow: Flow) -> None:
        for _ in range(3):
            assert [piece async for piece in await flow.forward(STREAMED, Answer(SHORT, headers=EVENTS))] == SHORT
            assert flow.billing.drained_streams == 0

    run(None, work)


@pytest.mark.parametrize("words", range(59, 65))
def test_a_slow_client_gets_every_piece(words: int) -> None:
    """Also if the provider has ended, and the queue of the client is full at that moment."""
    events = chat_events(["word "] * words, COUNTS)

    async def work(flow: Flow) -> list[bytes]:
        found = await flow.forward(STREAMED, Answer(events, headers=EVENTS))
        for _ in range(400):
            await asyncio.sleep(0)
        return [piece async for piece in found]

    assert run(None, work)[1] == events


def test_a_client_that_stalls_when_the_provider_breaks_off_counts_as_gone() -> None:
    """There is no room for the error event: the task ends all the same, with no exception left over."""

    async def work(flow: Flow) -> list[str]:
        failures: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["message"]))
        await flow.forward(STREAMED, Answer(LONG[:64], headers=EVENTS, error=ConnectionError()))
        assert await flow.billing.background.wait_idle(5)
        assert flow.billing.drained_streams == 0
        gc.collect()
        await asyncio.sleep(0)
        return failures

    flow, failures = run(GatewayPolicy(stall_seconds=0.01), work)
    assert failures == []
    assert flow.settled()[0].estimated


@pytest.mark.parametrize(("request_", "pieces"), [(CHAT, [WHOLE[:9]]), (CHAT, []), (STREAMED, [])])
@pytest.mark.parametrize("effort", ["none", "high"])
def test_an_answer_that_never_ends_is_bounded_after_its_client_has_left(
    request_: dict[str, Any], pieces: list[bytes], effort: str
) -> None:
    """It is closed after ``max_drain_seconds``, and charged as abandoned: the hold if the model may reason."""
    answer = Answer(pieces, proceed=asyncio.Event())

    async def work(flow: Flow) -> None:
        waiting = asyncio.create_task(flow.forward({**request_, "reasoning_effort": effort}, answer))
        while not flow.billing._exchanges:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    flow, _ = run(GatewayPolicy(max_drain_seconds=0.01), work)
    assert answer.is_closed
    assert (flow.settled()[1] == flow.held()) == (effort == "high")


def test_white_space_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers send blank lines to keep a connection open; before an answer too, they are bounded in memory."""
    monkeypatch.setattr("brivionix_billing.gateway.exchange._MAX_ANSWER_BYTES", 100)
    read: list[bytes] = []

    def endless() -> Any:
        while len(read) < 1000:
            read.append(b"\n" * 10)
            yield read[-1]

    async def work(flow: Flow) -> None:
        with pytest.raises(GatewayError, match="broke off"):
            await flow.forward(CHAT, Answer(endless()))

    flow, _ = run(None, work)
    assert len(read) == 11
    assert flow.settled()[0].estimated


@pytest.mark.parametrize("pieces", [[], [b'{"error"']])
def test_a_rejection_whose_body_never_ends_is_free(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The status says it all, so the client is not kept waiting."""
    monkeypatch.setattr("brivionix_billing.gateway.exchange._MAX_ERROR_SECONDS", 0.01)

    async def work(flow: Flow) -> int:
        with pytest.raises(GatewayError) as caught:
            await flow.forward(CHAT, Answer(pieces, 429, proceed=asyncio.Event()))
        return caught.value.status

    flow, status = run(None, work)
    assert (status, len(flow.entries("release")), flow.entries()) == (429, 1, [])


def test_a_rejection_is_free_when_the_service_stops() -> None:
    """Its body was still being read."""

    async def work(flow: Flow) -> None:
        waiting = asyncio.create_task(flow.forward(CHAT, Answer([], 500, proceed=asyncio.Event())))
        while not flow.billing._exchanges:
            await asyncio.sleep(0)
        await flow.billing.close(0.01)
        with pytest.raises(GatewayError):
            await waiting

    flow, _ = run(None, work)
    assert (len(flow.entries("release")), flow.entries()) == (1, [])


def test_a_client_that_reads_nothing_does_not_hold_up_a_stop() -> None:
    """The provider has ended, and only the client is waited for: not beyond the time that the stop allows."""

    async def work(flow: Flow) -> float:
        events = chat_events(["word "] * 62, COUNTS)
        await flow.forward(STREAMED, Answer(events, headers=EVENTS))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await flow.billing.close(0.2)
        return loop.time() - begun

    flow, seconds = run(None, work)
    assert seconds < 3
    assert not flow.settled()[0].estimated


def test_a_hold_that_is_posted_while_the_service_stops_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop waits for it: the threads of the ledger end after the release."""

    async def work(flow: Flow) -> None:
        loop, hold = asyncio.get_running_loop(), flow.ledger.hold
        closing: list[Any] = []

        def slow(*args: Any, **options: Any) -> Any:
            found = hold(*args, **options)
            closing.append(asyncio.run_coroutine_threadsafe(flow.billing.close(0.5), loop))
            while not flow.billing._is_closing:
                pass
            return found

        monkeypatch.setattr(flow.ledger, "hold", slow)
        with pytest.raises(GatewayError, match="restarted"):
            await flow.admit(CHAT)
        await asyncio.wrap_future(closing[0])

    flow, _ = run(None, work)
    assert len(flow.entries("release")) == 1
    assert flow.ledger.balance("acct", at=AT).held == 0


@pytest.mark.parametrize("error", [RuntimeError(), NotSentError()])
def test_a_provider_that_cannot_be_stopped_is_settled_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client library that ignores its cancellation: what it reports after the stop is neither posted nor logged."""
    monkeypatch.setattr("brivionix_billing.gateway.billing._STOP_SECONDS", 0.1)

    async def work(flow: Flow) -> None:
        admitted = await flow.admit(CHAT)

        async def send(_: AdmittedRequest) -> Answer:
            for _turn in range(2):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
            raise error

        waiting = asyncio.create_task(flow.billing.forward(admitted, send))
        await asyncio.sleep(0)
        await flow.billing.close(0.01)
        await asyncio.wait([waiting])
        assert isinstance(waiting.exception(), GatewayError)

    with caplog.at_level(logging.CRITICAL, "brivionix_billing.gateway"):
        flow, _ = run(None, work)
    assert caplog.messages == []
    assert flow.settled()[0].estimated


WORKING = {
    "comments": b": PROCESSING\n\n",
    "pings": b'event: ping\ndata: {"type": "ping"}\n\n',
}


@pytest.mark.parametrize("piece", WORKING.values(), ids=WORKING)
@pytest.mark.parametrize("is_left", [True, False])
def test_a_provider_that_only_says_that_it_works_is_not_free(piece: bytes, is_left: bool) -> None:
    """Comments and pings are no answer, and no reason for none: a model may be reasoning, so the policy decides."""

    async def work(flow: Flow) -> None:
        answer = Answer([piece] * 3, headers=EVENTS, error=None if is_left else ConnectionError(), proceed=proceed)
        client = await flow.forward(STREAMED, answer)
        if is_left:
            await client.aclose()
        else:
            proceed.set()
            _ = [part async for part in client]

    proceed = asyncio.Event()
    flow, _ = run(GatewayPolicy(max_drain_seconds=0.01), work)
    usage, charged = flow.settled()
    assert usage.estimated
    assert charged == flow.held() if is_left else charged > 0


def test_a_provider_that_reports_an_error_instead_of_an_answer_is_free() -> None:
    """An error event says that there is no answer, whatever came before it, and whether the client has left or not."""
    error = b'event: error\ndata: {"error": {"message": "Overloaded", "code": "overloaded"}}\n\n'

    async def work(flow: Flow) -> None:
        answer = Answer([WORKING["comments"], error], headers=EVENTS, proceed=asyncio.Event())
        client = await flow.forward(STREAMED, answer)
        await anext(aiter(client))
        await client.aclose()

    flow, _ = run(GatewayPolicy(max_drain_seconds=0.05), work)
    assert flow.entries() == []
    assert len(flow.entries("release")) == 1
