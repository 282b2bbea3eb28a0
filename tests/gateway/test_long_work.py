"""Long requests and answers: read in a process of their own, with the same result."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.gateway import GatewayError, GatewayPolicy, billing, prepare_request
from brivionix_billing.gateway import long_work as module
from brivionix_billing.gateway.long_work import LONG_BYTES
from brivionix_billing.processes import create_pool
from exchange_kit import AT, BOOK, CHAT, EVENTS, MESSAGES, Answer, Flow, chat_events, run

WORDS = "word " * (LONG_BYTES // 5)
LONG: dict[str, Any] = {
    **CHAT,
    "messages": [{"role": "user", "content": WORDS}],
    "stream": True,
    "reasoning_effort": "low",
}


@pytest.fixture(scope="module")
def one_process() -> Iterator[ProcessPoolExecutor]:
    with create_pool(1, module._start, (BOOK,)) as pool:
        yield pool


@pytest.fixture
def process(one_process: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all these tests use one other process: to start it takes longer than they do."""
    kept = SimpleNamespace(submit=one_process.submit, shutdown=lambda **_: None)
    monkeypatch.setattr(module, "create_pool", lambda *_, **__: kept)


async def counted_elsewhere(flow: Flow, request: Any, **options: Any) -> Any:
    """Admit a request while no thread of this process counts."""
    flow.billing.workers.run = None  # type: ignore[assignment,method-assign]  # on purpose
    return await flow.admit(request, **options)


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("api", ["chat", "anthropic"])
def test_a_long_request_is_counted_in_another_process(api: Any) -> None:
    """Its body and its worst case are those of this process. Only its long fields are not kept twice."""
    request = LONG if api == "chat" else {**MESSAGES, "system": WORDS, "thinking": {"type": "disabled"}}
    _, (admitted, expected) = run(None, lambda flow: both(flow, request, api))
    assert (admitted.body, admitted.worst_case) == (expected.body, expected.worst_case)
    kept = {name: value for name, value in expected.request.items() if value not in (WORDS, LONG["messages"])}
    assert admitted.request == kept
    assert len(kept) == len(expected.request) - 1
    assert admitted.streamed == expected.streamed


async def both(flow: Flow, request: Any, api: Any) -> tuple[Any, Any]:
    admitted = await counted_elsewhere(flow, request, api=api)
    body = json.dumps(request).encode()
    counters = flow.billing.counters
    token = admitted.token
    return admitted, prepare_request(body, id="x", at=AT, token=token, api=api, book=BOOK, counters=counters)


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"model": "gpt-5.4-mini", "messages": [' + b" " * LONG_BYTES, BillingError),
        (json.dumps({**LONG, "model": "no-such-model"}).encode(), BillingError),
        (json.dumps({**LONG, "stream": 1}).encode(), GatewayError),
        (b"[" + b"1," * LONG_BYTES + b"1]", GatewayError),
    ],
)
def test_errors_of_the_other_process_arrive(body: bytes, error: type[Exception]) -> None:
    """A malformed or refused request has the error that a short one has."""

    async def work(flow: Flow) -> None:
        with pytest.raises(error):
            await counted_elsewhere(flow, body)

    run(None, work)


@pytest.mark.usefixtures("process")
def test_an_estimate_of_a_long_request_has_its_input() -> None:
    """A stream without usage costs the input that was counted, although its text is not kept."""

    async def work(flow: Flow) -> int:
        client = await flow.forward(LONG, Answer(chat_events(["Hi"], None), headers=EVENTS))
        _ = [part async for part in client]
        return len(WORDS)

    flow, _ = run(GatewayPolicy(), work)
    usage, _ = flow.settled()
    assert usage.estimated
    assert usage.input_tokens == pytest.approx(LONG_BYTES // 5, rel=0.01)


ANSWERS: dict[str, Any] = {
    "embeddings": {"object": "list", "data": [{"embedding": [0.5] * 70_000}], "usage": {"prompt_tokens": 9}},
    "chat": {"choices": [{"message": {"content": WORDS}}], "usage": {"prompt_tokens": 9, "completion_tokens": 500}},
    "no usage": {"choices": [{"message": {"content": WORDS}}]},
    "odd usage": {"choices": [{"message": {"content": WORDS}}], "usage": {"prompt_tokens": -1}},
}


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_long_answer_costs_what_it_costs_here(answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage and charge of a long answer are the same, whichever process reads it."""

    def charged(long_bytes: int) -> tuple[Any, Any]:
        monkeypatch.setattr(billing, "LONG_BYTES", long_bytes)
        flow, _ = run(None, lambda flow: flow.forward(CHAT, Answer([json.dumps({"model": "m", **answer}).encode()])))
        return flow.settled()

    assert charged(LONG_BYTES) == charged(10**9)


def test_a_death_of_the_other_process_is_a_refusal_and_not_an_end(caplog: pytest.LogCaptureFixture) -> None:
    """A request whose process is killed gets 503, and the next one is counted by another process."""

    async def work(flow: Flow) -> None:
        await flow.admit(LONG)
        process = flow.billing.long_work._process
        assert process is not None
        pool = process._executor
        assert isinstance(pool, ProcessPoolExecutor)
        (pid,) = pool._processes
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(GatewayError) as error:
            await flow.admit(LONG)
        assert (error.value.status, error.value.code) == (503, "overloaded")
        assert (await flow.admit(LONG)).streamed

    run(None, work)
    assert "has died" in caplog.text


def _fail(_: Any) -> None:
    os._exit(1)


def test_without_another_process_a_long_request_is_counted_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no process can be started, long requests are served all the same, and the log says so once."""
    monkeypatch.setattr(module, "_start", _fail)

    async def work(flow: Flow) -> None:
        for _ in range(2):
            assert (await flow.admit(LONG)).streamed

    run(None, work)
    assert caplog.text.count("no process can be started") == 1


def test_a_stopping_gateway_does_not_wait_for_the_queue() -> None:
    """What waits to be counted when the service stops is refused, and the other process ends."""

    async def work(flow: Flow) -> list[Any]:
        waiting = [asyncio.create_task(flow.admit(LONG)) for _ in range(5)]
        await asyncio.sleep(0.1)
        await flow.billing.close(0)
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)

    flow, results = run(None, work)
    assert {result.code for result in results} == {"gateway_stopping"}
    assert flow.ledger.balance("acct", at=AT).held == 0


def test_without_room_for_a_process_a_thread_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are counted and answers charged as reported, although the machine has no file or process left."""

    def fail(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    async def work(flow: Flow) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(ProcessPoolExecutor, "_spawn_process", fail)
            usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
            message = {"role": "assistant", "content": WORDS}
            body = json.dumps({"model": "gpt-5.4-mini", "choices": [{"message": message}], "usage": usage}).encode()
            answer = await flow.forward({**LONG, "stream": False}, Answer([body]))
            assert (answer.status, answer.body) == (200, body)
        await flow.admit(LONG)
        assert flow.billing.long_work._has_worked  # as soon as there is room
        flow.billing.long_work.close()

    flow, _ = run(None, work)
    (entry,) = flow.entries()
    assert entry.content["usage"]["usage"]["completion_tokens"] == 2
