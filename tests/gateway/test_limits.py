"""Limits of the gateway: no customer stalls the others, and none without Credits has work done."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.gateway import GatewayError, GatewayLimits
from brivionix_billing.gateway.intake import require_few_values
from brivionix_billing.gateway.workers import FairExecutor, Workers
from examples.gateway.ledger_probe import LedgerProbe
from exchange_kit import AT, CHAT, Answer, Flow, run

LONG = json.dumps({**CHAT, "messages": [{"role": "user", "content": "word " * 20_000}]}).encode()
USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
BODY = json.dumps({"model": "gpt-5.4-mini", "choices": [], "usage": USAGE}).encode()


class Upload:
    """A body that arrives in pieces of 1 KiB, and counts those that were read."""

    def __init__(self, body: bytes) -> None:
        self.body, self.read = body, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), 1024):
            self.read += 1
            yield self.body[start : start + 1024]


def refusal(work: Callable[[Flow], Awaitable[Any]], **options: Any) -> GatewayError:
    """Return the error that a flow ends with. Nothing is held afterwards."""

    async def caught(flow: Flow) -> GatewayError:
        with pytest.raises(GatewayError) as error:
            await work(flow)
        return error.value

    flow, error = run(None, caught, **options)
    assert flow.ledger.balance("acct", at=AT).held == 0
    return error


async def admit(flow: Flow, body: Any, **options: Any) -> Any:
    token = await flow.billing.authenticate(flow.header)
    return await flow.billing.admit(body, id="req_1", at=AT, token=token, api="chat", **options)


def test_a_customer_without_credits_is_refused_before_the_body_is_read() -> None:
    """Of a long body of an account without Credits, only the first pieces are read, and none is counted."""
    upload = Upload(LONG)

    async def work(flow: Flow) -> None:
        flow.ledger.adjust("acct", -1000, reason="test", author="test", id="empty", at=AT)
        await admit(flow, upload)

    error = refusal(work)
    assert (error.status, error.code, upload.read) == (402, "insufficient_credits", 5)


def test_a_long_body_of_a_customer_without_credits_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that the service has read already are refused by the balance, before they are counted."""

    async def work(flow: Flow) -> None:
        flow.ledger.adjust("acct", -1000, reason="test", author="test", id="empty", at=AT)
        monkeypatch.setattr(flow.billing.counters, "get", None)
        await admit(flow, LONG)

    assert refusal(work).status == 402


def expanding_request(levels: int) -> dict[str, Any]:
    """Return a short request whose tools double at every level of references."""
    schemas: dict[str, Any] = {
        f"d{level}": {"properties": {name: {"$ref": f"#/$defs/d{level + 1}"} for name in "ab"}}
        for level in range(levels)
    }
    parameters = {"type": "object", "$defs": {**schemas, f"d{levels}": {}}, "properties": {"x": {"$ref": "#/$defs/d0"}}}
    return {**CHAT, "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}


@pytest.mark.parametrize("escape", [False, True])
def test_a_short_body_that_expands_is_not_counted_on_the_event_loop(escape: bool) -> None:
    """A small schema with references takes long, so it is counted in a thread, and only with Credits."""
    body = json.dumps(expanding_request(12)).encode()
    assert len(body) < 4096
    if escape:
        body = body.replace(b"$ref", rb"$re\u0066")
    threads: list[threading.Thread] = []

    async def work(flow: Flow) -> None:
        get = flow.billing.counters.get

        def watched(model: str) -> Any:
            threads.append(threading.current_thread())
            return get(model)

        flow.billing.counters.get = watched  # type: ignore[method-assign]  # on purpose
        admitted = await admit(flow, body)
        await flow.billing.release(admitted)
        flow.ledger.adjust("acct", -1000, reason="test", author="test", id="empty", at=AT)
        with pytest.raises(GatewayError, match="no Credits"):
            await flow.admit(body)

    run(None, work)
    assert threading.main_thread() is not threads[0]
    assert len(threads) == 2  # once to count, and once for the admitted request


def test_a_body_in_pieces_is_admitted_like_its_bytes() -> None:
    """The pieces of a body lead to the same request and the same hold as its bytes."""

    async def work(flow: Flow) -> tuple[Any, Any]:
        token = await flow.billing.authenticate(flow.header)
        options: Any = {"at": AT, "token": token, "api": "chat"}
        whole = await flow.billing.admit(LONG, id="a", **options)
        pieces = await flow.billing.admit(Upload(LONG), id="b", **options)
        return whole, pieces

    _, (whole, pieces) = run(None, work)
    assert (whole.request, whole.body, whole.worst_case) == (pieces.request, pieces.body, pieces.worst_case)


@pytest.mark.parametrize(
    ("limits", "body", "expected"),
    [
        (GatewayLimits(max_body_bytes=len(LONG) - 1), LONG, (413, "request_too_large")),
        (GatewayLimits(max_bytes_per_account=len(LONG) - 1), LONG, (429, "too_many_requests")),
        (GatewayLimits(max_bytes=len(LONG) - 1), LONG, (503, "overloaded")),
        (GatewayLimits(max_json_values=5), json.dumps(CHAT).encode(), (413, "request_too_large")),
    ],
)
@pytest.mark.parametrize("in_pieces", [True, False])
def test_a_body_beyond_a_limit_is_refused(
    limits: GatewayLimits, body: bytes, expected: tuple[int, str], in_pieces: bool
) -> None:
    """Each limit of a body has its status, whether the body comes as bytes or in pieces."""
    error = refusal(lambda flow: admit(flow, Upload(body) if in_pieces else body), limits=limits)
    assert (error.status, error.code) == expected
    assert ("retry-after" in error.headers) == (error.status in (429, 503))


def test_a_body_that_never_ends_is_refused() -> None:
    """A client that stops in the middle of its body gets 408, and its place is free again."""

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    error = refusal(lambda flow: admit(flow, body()), limits=GatewayLimits(body_seconds=0.01))
    assert (error.status, error.code) == (408, "request_too_slow")


@pytest.mark.parametrize("limits", [{"max_requests_per_token": 2}, {"max_requests_per_account": 2}])
def test_requests_in_progress_are_limited(limits: dict[str, int]) -> None:
    """A third request is refused while two are in progress, and admitted when one has ended."""

    async def work(flow: Flow) -> None:
        first, _ = await flow.admit(CHAT), await flow.admit(CHAT)
        with pytest.raises(GatewayError) as error:
            await flow.admit(CHAT)
        assert (error.value.status, error.value.code) == (429, "too_many_requests")
        await flow.billing.settle_response(first, BODY)
        await flow.admit(CHAT)

    run(None, work, limits=GatewayLimits(**limits))


def test_a_stream_is_in_progress_until_its_provider_has_ended() -> None:
    """A client that leaves a stream frees no place: the provider is still read for it."""
    proceed = asyncio.Event()
    answer = Answer([b'data: {"choices": []}\n\n'], headers={"content-type": "text/event-stream"}, proceed=proceed)

    async def work(flow: Flow) -> None:
        client = await flow.forward({**CHAT, "stream": True}, answer)
        await client.aclose()
        with pytest.raises(GatewayError, match="too many requests"):
            await flow.admit(CHAT)
        proceed.set()
        assert await flow.billing.background.wait_idle(10)
        await flow.admit(CHAT)

    run(None, work, limits=GatewayLimits(max_requests_per_token=1))


def test_long_bodies_that_wait_are_limited_per_account() -> None:
    """Of an account whose bodies are being counted, further ones are refused, without a place in the queue."""

    async def work(flow: Flow) -> None:
        proceed = threading.Event()
        blockers = [asyncio.create_task(flow.billing.workers.run("acct", 0, lambda: proceed.wait(10))) for _ in "abc"]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(admit(flow, LONG))
        while not flow.billing.in_progress.counted_of_account:
            await asyncio.sleep(0)
        with pytest.raises(GatewayError, match="too many long requests"):
            await flow.admit(LONG)
        proceed.set()
        await asyncio.gather(waiting, *blockers)
        await flow.admit(LONG)

    run(None, work, limits=GatewayLimits(max_counted_per_account=1))


def test_settlements_that_wait_refuse_no_request() -> None:
    """An account whose streams all end at once may send its next long request: settlements are not its requests."""

    async def work(flow: Flow) -> None:
        proceed = threading.Event()
        blockers = [asyncio.create_task(flow.billing.workers.run("acct", 0, lambda: proceed.wait(10))) for _ in "abcd"]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(admit(flow, LONG))
        while not flow.billing.in_progress.counted_of_account:
            await asyncio.sleep(0)
        proceed.set()
        await asyncio.gather(waiting, *blockers)

    run(None, work, limits=GatewayLimits(max_counted_per_account=1))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_accounts_take_turns(accounts: list[int]) -> None:
    """Work that waits runs in rounds: in each round one of every account that still waits, in their order."""

    async def work() -> list[int]:
        threads, done = FairExecutor(ThreadPoolExecutor(1), 1), list[int]()
        proceed = threading.Event()
        running: list[asyncio.Task[Any]] = [asyncio.create_task(threads.run("blocker", lambda: proceed.wait(10)))]
        await asyncio.sleep(0)
        for account in accounts:
            running.append(asyncio.create_task(threads.run(str(account), partial(done.append, account))))
        await asyncio.sleep(0)
        proceed.set()
        await asyncio.gather(*running)
        threads.close()
        return done

    expected, waiting = list[int](), {account: accounts.count(account) for account in dict.fromkeys(accounts)}
    while any(waiting.values()):
        for account in waiting:
            if waiting[account]:
                waiting[account] -= 1
                expected.append(account)
    assert asyncio.run(work()) == expected


@given(st.data())
def test_a_cancelled_turn_blocks_nobody(data: st.DataObject) -> None:
    """Whichever of the waiting tasks are cancelled, all others run, and the threads are free again."""
    count = data.draw(st.integers(1, 10))
    cancelled = data.draw(st.sets(st.integers(0, count - 1)))

    async def work() -> None:
        threads, proceed = FairExecutor(ThreadPoolExecutor(1), 1), threading.Event()
        first = asyncio.create_task(threads.run("blocker", lambda: proceed.wait(10)))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(threads.run(str(index % 3), partial(int, index))) for index in range(count)]
        await asyncio.sleep(0)
        for index in cancelled:
            tasks[index].cancel()
        proceed.set()
        results = await asyncio.gather(first, *tasks, return_exceptions=True)
        for index, result in enumerate(results[1:]):
            assert isinstance(result, asyncio.CancelledError) if index in cancelled else result == index
        assert await threads.run("last", lambda: "free") == "free"
        assert threads._turns._waiting == {}
        threads.close()

    asyncio.run(work())


@given(st.lists(st.integers(0, 4), max_size=10), st.sets(st.integers(0, 9)))
def test_what_waits_is_refused_when_the_threads_are_closed(accounts: list[int], cancelled: set[int]) -> None:
    """It does not wait for the work that runs, and all places are free after that."""

    async def work() -> None:
        threads, proceed = FairExecutor(ThreadPoolExecutor(1), 1), threading.Event()
        running = asyncio.create_task(threads.run("blocker", lambda: proceed.wait(10)))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(threads.run(str(account), lambda: None)) for account in accounts]
        await asyncio.sleep(0)
        for index in cancelled.intersection(range(len(accounts))):
            waiting[index].cancel()
        threads.close()
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        for index, result in enumerate(results):
            refused = isinstance(result, GatewayError) and result.code == "gateway_stopping"
            assert isinstance(result, asyncio.CancelledError) if index in cancelled else refused
        assert not running.done()
        proceed.set()
        assert await running
        assert (threads._turns._free, threads._turns._waiting) == (1, {})

    asyncio.run(work())


def test_short_work_does_not_wait_for_long_work() -> None:
    """While a long body is counted, a short one is too."""

    async def work() -> None:
        workers, proceed = Workers(), threading.Event()
        long = [asyncio.create_task(workers.run("a", 10**7, lambda: proceed.wait(10))) for _ in range(3)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(workers.run("b", 5000, lambda: "short"), 5) == "short"
        assert not any(task.done() for task in long)
        proceed.set()
        await asyncio.gather(*long)
        workers.close()

    asyncio.run(work())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=',[{"\\:a'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet=',[{"\\:a'), inner, max_size=4),
)


def count_values(value: Any) -> int:
    """Return the number of values in a JSON value, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count_values, inner))


@given(json_values)
def test_every_json_value_counts_and_no_sign_within_a_text(value: Any) -> None:
    """A body beyond the limit is refused, and one of half the limit never is, whatever is in its texts."""
    body, count = json.dumps(value).encode(), count_values(value)
    require_few_values(body, 2 * count)  # an empty array is counted as if it had a value
    if count > 1:
        with pytest.raises(GatewayError):
            require_few_values(body, count - 2)  # the outermost value is not counted


@pytest.mark.parametrize("key", ["N", "Max_Tokens", "MODEL", "\u017ftream", "Stream_Options"])
def test_a_key_in_another_case_is_refused(key: str) -> None:
    """A key that a provider may read as another one is refused, although it is alone: it was not counted."""
    names = {"n": 128, "max_tokens": 9, "model": "gpt-5.5", "stream_options": {}}
    request = {**CHAT, key: names.get(key.casefold(), 1)}
    if key.casefold() == "model":
        del request["model"]
    error = refusal(lambda flow: flow.admit(request))
    assert (error.status, error.code) == (400, "invalid_request")


def test_a_setting_in_another_case_is_refused() -> None:
    """The same holds within the objects of settings: such a stream would end without its usage."""
    request = {**CHAT, "stream": True, "stream_options": {"Include_Usage": False}}
    assert "include_usage" in refusal(lambda flow: flow.admit(request)).message


def test_names_of_customers_may_have_any_case() -> None:
    """Keys that are no settings of a request are passed on: metadata, and parameters of functions."""
    function = {"name": "f", "parameters": {"type": "object", "properties": {"Model": {"type": "string"}}}}
    request = {**CHAT, "metadata": {"Model": "x"}, "tools": [{"type": "function", "function": function}]}
    _, admitted = run(None, lambda flow: flow.admit(request))
    assert admitted.request == request


def test_an_unknown_error_of_reading_frees_the_place() -> None:
    """A client that disconnects while its body is read is counted no more."""

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        raise ConnectionResetError

    async def work(flow: Flow) -> None:
        with pytest.raises(ConnectionResetError):
            await admit(flow, body())

    run(None, work)


def test_a_model_that_does_not_exist_frees_the_place() -> None:
    """A request that the price file refuses is counted no more."""

    async def work(flow: Flow) -> None:
        with pytest.raises(BillingError, match="no-such-model"):
            await flow.admit({**CHAT, "model": "no-such-model"})

    run(None, work)


def test_the_health_of_a_blocked_ledger_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the ledger does not answer, the probe says so without waiting for it, and asks it only once."""
    asked: list[str] = []

    async def work(flow: Flow) -> None:
        proceed = threading.Event()

        def entry(id: str) -> None:
            asked.append(id)
            proceed.wait(10)

        monkeypatch.setattr(flow.ledger, "entry", entry)
        probe = LedgerProbe(flow.billing)
        assert await asyncio.gather(*(probe.check() for _ in range(20))) == ["busy"] * 20
        monkeypatch.setattr("examples.gateway.ledger_probe._MAX_SECONDS", 0.0)
        with pytest.raises(BillingError, match="has not answered"):
            await probe.check()
        proceed.set()
        assert await flow.billing.background.wait_idle(10)
        assert await probe.check() == "ok"

    run(None, work)
    assert len(asked) == 2
