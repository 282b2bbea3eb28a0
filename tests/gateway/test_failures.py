"""The gateway where something fails: the provider, the client, the database, or the gateway itself."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.requests import Request

from brivionix_billing import BillingError, Usage
from brivionix_billing.gateway import GatewayLimits
from brivionix_billing.ledger import Ledger
from examples.gateway.web import AnswerStream
from gateway_kit import (
    BODIES,
    BOOK,
    CHAT,
    DAY,
    MODEL,
    RESPONSES,
    TOOLS,
    Stack,
    clock,
    refused,
    running,
    sdk,
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(
        f"sqlite:///{tmp_path_factory.mktemp('gateway') / 'ledger.db'}", limits=GatewayLimits(max_body_bytes=100_000)
    ) as found:
        yield found


# The provider


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 429, 500, 502, 503, 504, 529])
def test_a_failure_of_the_provider_is_passed_on_and_costs_nothing(
    stack: Stack, path: str, status: int, stream: bool
) -> None:
    """The provider's status and words reach the client, with its retry-after, and what was held is released."""
    customer = stack.customer()
    answer = stack.post(path, customer, {**BODIES[path], "stream": stream}, **{"x-demo": f"status={status}"})
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == f"Recorded failure {status}"
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)
    assert len(stack.booked(customer, "release")) == 1
    stack.settled_up(customer)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_of_the_gateway_is_no_wrong_token_of_the_client(stack: Stack, status: int) -> None:
    """What the provider says of the gateway's own key is a 502 without its words."""
    customer = stack.customer()
    answer = stack.post("/v1/responses", customer, RESPONSES, **{"x-demo": f"status={status}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert "Recorded" not in answer.text
    stack.settled_up(customer)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_an_answer_without_usage_is_estimated(stack: Stack, path: str, stream: bool) -> None:
    """Where the provider leaves the usage out, the answer is counted and charged as an estimate."""
    customer = stack.customer()
    answer = stack.post(path, customer, {**BODIES[path], "stream": stream}, **{"x-demo": "usage=no"})
    assert answer.status_code == 200
    (entry,) = stack.booked(customer)
    usage = Usage.from_response(entry.content["usage"])
    assert usage.estimated
    assert usage.output_tokens > 4
    assert entry.credits == BOOK.rate(usage, model=MODEL, group="default", at=entry.at).credits
    stack.settled_up(customer)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_a_usage_that_contradicts_itself_is_not_free(
    stack: Stack, path: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """More cached tokens than input cannot be billed: an estimate is, and the log has the provider's word."""
    customer = stack.customer()
    answer = stack.post(path, customer, {**BODIES[path], "stream": stream}, **{"x-demo": "usage=odd"})
    assert answer.status_code == 200
    (entry,) = stack.booked(customer)
    usage = Usage.from_response(entry.content["usage"])
    assert usage.estimated
    assert 4 < usage.output_tokens < 200
    assert "usage_contradiction" in caplog.text
    assert "1000000" in caplog.text
    assert list(stack.ledger.records(customer.account, DAY))


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_that_breaks_off_ends_with_an_error_and_costs_an_estimate(stack: Stack, path: str) -> None:
    """The client is told that the answer is not whole; what came is charged."""
    customer = stack.customer()
    with sdk(stack, customer.secret) as client:
        create: Any = client.responses.create if path.endswith("responses") else client.chat.completions.create
        with pytest.raises(openai.APIError, match="broke the answer off"):
            list(create(**BODIES[path], stream=True, extra_headers={"x-demo": "cut=4"}))
    (entry,) = stack.booked(customer)
    assert Usage.from_response(entry.content["usage"]).estimated
    assert entry.credits > 0
    stack.settled_up(customer)


def test_a_stream_that_breaks_off_before_the_first_word_costs_its_input(stack: Stack) -> None:
    """The provider accepted the request and may bill it: an estimate of the input is charged."""
    customer = stack.customer()
    answer = stack.post("/v1/responses", customer, {**RESPONSES, "stream": True}, **{"x-demo": "cut=0"})
    assert "upstream_broke_off" in answer.text
    (entry,) = stack.booked(customer)
    usage = Usage.from_response(entry.content["usage"])
    assert (usage.estimated, usage.output_tokens) == (True, 0)
    assert usage.input_tokens > 0
    stack.settled_up(customer)


def test_a_stream_that_ends_without_a_word_costs_nothing(stack: Stack) -> None:
    """A provider that ends its stream before it began to answer has done nothing to charge for."""
    customer = stack.customer()
    answer = stack.post("/v1/chat/completions", customer, {**CHAT, "stream": True}, **{"x-demo": "stop=0"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(stack.booked(customer, "release")) == 1


@pytest.mark.parametrize(("events", "kind"), [(0, "release"), (5, "settle")])
def test_a_failure_within_a_stream_costs_what_came_before_it(stack: Stack, events: int, kind: str) -> None:
    """The SDK raises the provider's error and hangs up: nothing is charged if no answer came, else what came."""
    customer = stack.customer()
    with sdk(stack, customer.secret) as client, pytest.raises(openai.APIError, match="Overloaded"):
        list(client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-demo": f"error={events}"}))
    assert len(stack.booked(customer, kind)) == 1
    stack.settled_up(customer)


def test_a_provider_that_cannot_be_reached_is_502_and_costs_nothing(tmp_path: Path) -> None:
    """Nobody listens where the provider should be: 502, and the hold is released."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with running(f"sqlite:///{tmp_path / 'ledger.db'}", upstream=nobody) as stack:
        customer = stack.customer()
        for stream in (False, True):
            answer = stack.post("/v1/responses", customer, {**RESPONSES, "stream": stream})
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
        assert len(stack.booked(customer, "release")) == 2
        stack.settled_up(customer)


def test_the_provider_gets_the_gateways_key_and_not_the_clients_token(stack: Stack) -> None:
    """The client's bearer token, cookies and ids stay here; the body arrives as it was sent."""
    customer, sent = stack.customer(), {**CHAT, "tools": TOOLS["chat"], "seed": 7, "temperature": 0.1}
    assert stack.post("/v1/chat/completions", customer, sent, cookie="a=b").status_code == 200
    assert stack.seen[-1] == sent
    assert stack.headers[-1]["authorization"] == "Bearer sk-upstream"
    assert "cookie" not in stack.headers[-1]
    assert customer.secret not in json.dumps(stack.seen)


# Clients that go away


def gone_after(stack: Stack, customer: Any, path: str, demo: str, lines: int) -> None:
    """Begin a stream, read some of it, and hang up."""
    body = {**BODIES[path], "stream": True}
    headers = {**customer.headers, "x-demo": demo}
    with stack.http.stream("POST", path, json=body, headers=headers) as answer:
        came = answer.iter_lines()
        for _ in range(lines):
            next(came)


@pytest.mark.parametrize("path", BODIES)
def test_a_client_that_hangs_up_pays_for_what_came(stack: Stack, path: str) -> None:
    """A stream that its client leaves is cut at the provider, and charged as an estimate of what came."""
    customer = stack.customer()
    gone_after(stack, customer, path, "wait=6", 6)
    wait_for_settle(stack, customer.account)
    (entry,) = stack.booked(customer)
    usage = Usage.from_response(entry.content["usage"])
    assert usage.estimated
    assert 0 < usage.input_tokens < 30
    stack.settled_up(customer)


def test_a_client_that_hangs_up_before_the_first_word_pays_for_its_request(stack: Stack) -> None:
    """The provider works on a request from its first moment: the input is charged, as an estimate."""
    customer = stack.customer()
    gone_after(stack, customer, "/v1/chat/completions", "wait=0", 0)
    wait_for_settle(stack, customer.account)
    (entry,) = stack.booked(customer)
    usage = Usage.from_response(entry.content["usage"])
    assert (usage.estimated, usage.output_tokens) == (True, 0)
    assert usage.input_tokens > 0


def test_a_client_that_does_not_wait_for_a_whole_answer_pays_exactly(stack: Stack) -> None:
    """An answer that is no stream is read to its end, whoever is still there: the provider bills it as well."""
    customer = stack.customer()
    headers = {**customer.headers, "x-demo": "slow=0.3"}
    with pytest.raises(httpx.ReadTimeout):
        stack.http.post("/v1/responses", json=RESPONSES, headers=headers, timeout=0.1)
    wait_for_settle(stack, customer.account)
    (entry,) = stack.booked(customer)
    assert not Usage.from_response(entry.content["usage"]).estimated


def wait_for_settle(stack: Stack, account: str) -> None:
    """The gateway may not have noticed yet that its client is gone."""
    done = threading.Event()
    for _ in range(1000):
        if any(entry.kind in ("settle", "release") for entry in stack.ledger.journal(account)):
            return
        done.wait(0.01)
    raise AssertionError("nothing was booked")


# Cancellation, wherever it comes


def request_of(stack: Stack, customer: Any, body: dict[str, Any], name: str) -> Request:
    """A request as the framework would hand it over."""
    sent = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        return sent.pop()

    headers = [(key.lower().encode(), value.encode()) for key, value in customer.headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "request_id": name}
    return Request(scope, receive)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_cancelled_at_any_moment_leaves_no_hold(stack: Stack, stream: bool) -> None:
    """Cancelled after one step of the loop, after two, and so on until it is through: no hold is ever left over."""
    customer = stack.customer(pay="850000")
    body = {**CHAT, "stream": stream}

    async def cancelled_after(steps: int) -> bool:
        request = request_of(stack, customer, body, f"req_{stream}_{steps}")
        task = asyncio.create_task(stack.gateway.handle_completion(request, "chat"))
        for _ in range(steps):
            await asyncio.sleep(0.0005)
        was_done = task.done()
        if was_done:
            response = task.result()
            if isinstance(response, AnswerStream):
                await response.answer.aclose()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return was_done

    async def all_moments() -> int:
        for steps in range(2000):
            if await cancelled_after(steps):
                return steps
        raise AssertionError("it never came through")

    found = asyncio.run_coroutine_threadsafe(all_moments(), stack.loop)
    assert found.result(30) > 3
    stack.settled_up(customer)


def test_a_gateway_that_stops_books_the_streams_that_it_cuts(tmp_path: Path) -> None:
    """A stream that is open when the service stops is charged as an estimate before the process ends."""
    with running(f"sqlite:///{tmp_path / 'ledger.db'}") as stack:
        customer = stack.customer()
        client = httpx.Client(trust_env=False)
        headers = {**customer.headers, "x-demo": "wait=5"}
        request = client.build_request(
            "POST", f"{stack.url}/v1/responses", json={**RESPONSES, "stream": True}, headers=headers
        )
        lines = client.send(request, stream=True).iter_lines()
        assert next(lines) == "event: response.created"
    client.close()
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", BOOK)
    (entry,) = (entry for entry in ledger.journal(customer.account) if entry.kind == "settle")
    assert Usage.from_response(entry.content["usage"]).estimated
    ledger.close()


# The database


class Failing:
    """A ledger's operation that fails so many times, before or after it was done."""

    def __init__(self, operation: Any, times: int, *, done: bool = False) -> None:
        self._operation, self.left, self._done = operation, times, done

    def __call__(self, *args: Any, **more: Any) -> Any:
        if self.left:
            self.left -= 1
            if self._done:
                self._operation(*args, **more)
            raise BillingError("ledger_unavailable", "host=db.internal password=hunter2")
        return self._operation(*args, **more)


@pytest.mark.parametrize("done", [False, True])
def test_a_charge_that_the_database_did_not_take_is_tried_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """The client has its answer; the charge is booked once, in the background, when the database is back."""
    customer = stack.customer()
    monkeypatch.setattr(stack.gateway.ledger, "settle", Failing(stack.gateway.ledger.settle, 2, done=done))
    assert stack.post("/v1/chat/completions", customer, CHAT).status_code == 200
    assert len(stack.booked(customer)) == 1
    stack.settled_up(customer)


def test_a_charge_that_is_never_taken_is_told_to_the_operator_whole(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When all tries fail, the log has a record with which the hold can be settled by hand."""
    customer = stack.customer()
    monkeypatch.setattr(stack.gateway.ledger, "settle", Failing(stack.gateway.ledger.settle, 99))
    assert stack.post("/v1/chat/completions", customer, CHAT).status_code == 200
    assert stack.booked(customer) == []
    monkeypatch.undo()
    (line,) = (record.message for record in caplog.records if record.levelno == logging.CRITICAL)
    told = json.loads(line.partition(": ")[2])
    usage = Usage.from_response(told["usage"])
    charge = BOOK.rate(usage, model=told["model"], group=told["group"], at=clock())
    stack.ledger.settle(told["request_id"], charge, usage=told["usage"], at=clock())
    stack.settled_up(customer)


@pytest.mark.parametrize("done", [False, True])
def test_a_hold_that_the_database_did_not_take_is_503_and_released(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """A hold that may have been made when the database failed is given back; the database's words stay here."""
    customer = stack.customer()
    monkeypatch.setattr(stack.gateway.ledger, "hold", Failing(stack.gateway.ledger.hold, 1, done=done))
    error = refused(stack, customer.secret)
    assert (type(error), error.status_code, error.code) == (openai.InternalServerError, 503, "ledger_unavailable")
    assert "hunter2" not in error.response.text
    assert len(stack.booked(customer, "release")) == done
    stack.settled_up(customer)


def test_a_mistake_in_pricing_is_not_free(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the charge cannot be made for whatever reason, what was held is charged, and the hold does not stay."""

    def broken(*_: Any) -> Any:
        raise RuntimeError

    customer = stack.customer()
    monkeypatch.setattr("brivionix_billing.gateway.billing.price_response", broken)
    answer = stack.post("/v1/chat/completions", customer, {**CHAT, "max_completion_tokens": 200})
    assert answer.status_code == 200
    (hold,), (entry,) = stack.booked(customer, "hold"), stack.booked(customer)
    assert entry.credits == Decimal(hold.content["credits"])
    stack.settled_up(customer)


def test_an_internal_error_says_nothing_and_has_an_id(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of the gateway is 500 internal_error, with the id under which the log has it."""
    monkeypatch.setattr(stack.gateway.billing.counters, "get", lambda model: 1 // 0)
    answer = stack.post("/v1/responses", stack.customer(), RESPONSES)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"].startswith("req_")
    assert "division" not in answer.text
