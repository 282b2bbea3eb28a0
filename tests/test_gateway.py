"""The gateway where something is wrong: with the token, the request, the provider, the client or the database."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from starlette.requests import Request

from brivionix_billing import BillingError, Usage
from brivionix_billing.errors import CODES
from brivionix_billing.ledger import Ledger
from examples.gateway.config import configured
from examples.gateway.demo import EVERYTHING, fill
from examples.gateway.errors import of_billing
from examples.gateway.passing import Passing
from gateway_kit import BOOK, CHAT, DAY, MODEL, RESPONSES, ROOT, TOOLS, Stack, clock, running

BODIES: dict[str, dict[str, Any]] = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('gateway') / 'ledger.db'}", most_bytes=100_000) as found:
        yield found


def sdk(stack: Stack, secret: str) -> OpenAI:
    return OpenAI(base_url=f"{stack.url}/v1", api_key=secret, max_retries=0, timeout=20)


def refused(stack: Stack, secret: str, **body: Any) -> openai.APIStatusError:
    """How the SDK tells that a chat was refused."""
    with sdk(stack, secret) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{**CHAT, **body})
    return caught.value


# Tokens


def test_an_unknown_token_is_an_authentication_error(stack: Stack) -> None:
    """A secret that nobody was given is 401 unknown_token."""
    error = refused(stack, "sk-nobody-has-this-one-here")
    assert (type(error), error.status_code, error.code) == (openai.AuthenticationError, 401, "unknown_token")


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"enabled": False}, "token_disabled"), ({"expires": DAY.start}, "token_expired")],
)
def test_a_token_that_is_not_good_now_is_an_authentication_error(
    stack: Stack, settings: dict[str, Any], code: str
) -> None:
    """A token that is disabled or has expired is 401, and the code says which."""
    error = refused(stack, stack.customer(**settings).secret)
    assert (type(error), error.code) == (openai.AuthenticationError, code)


def test_a_token_that_has_spent_its_limit_is_an_authentication_error(stack: Stack) -> None:
    """A token with nothing left of its limit is 401 token_exhausted."""
    customer = stack.customer(limit="0.1")
    stack.ledger.charge(customer.account, "0.1", id="spent", at=clock(), token=customer.token)
    error = refused(stack, customer.secret)
    assert (type(error), error.code) == (openai.AuthenticationError, "token_exhausted")


@pytest.mark.parametrize("header", ["", "Bearer", "Basic dXNlcjpwYXNz", "Bearer two words", "sk-alone"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/responses", "/v1/models", "/balance", "/v1/usage"])
def test_a_malformed_header_is_401_on_every_path(stack: Stack, header: str, path: str) -> None:
    """Without a bearer token nothing is told, and the answer has the shape of OpenAI's errors and an id."""
    get = not path.endswith(("completions", "responses"))
    answer = httpx.request("GET" if get else "POST", stack.url + path, headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "token_malformed"
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


# Credits


def test_too_few_credits_are_402_with_the_figures(stack: Stack) -> None:
    """An account without Credits for the worst case gets 402, which the SDK does not try again, and both figures."""
    customer = stack.customer(pay="0.85")
    error = refused(stack, customer.secret, n=100)
    assert (error.status_code, error.code, error.type) == (402, "insufficient_credits", "insufficient_quota")
    assert "1 Credits" in error.message
    assert stack.booked(customer, "hold") == []


def test_a_402_is_not_tried_again(stack: Stack) -> None:
    """The SDK with its usual retries asks once where Credits are lacking."""
    customer = stack.customer(pay="0")
    with (
        OpenAI(base_url=f"{stack.url}/v1", api_key=customer.secret, max_retries=5) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.responses.create(**RESPONSES)
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_the_limit_of_a_token_is_402(stack: Stack) -> None:
    """A request that may cost more than is left of the token's limit is 402 token_limit; a smaller one passes."""
    customer = stack.customer(limit="0.002")
    error = refused(stack, customer.secret)
    assert (error.status_code, error.code) == (402, "token_limit")
    assert stack.post("/v1/chat/completions", customer, {**CHAT, "max_completion_tokens": 150}).status_code == 200
    stack.settled_up(customer)


# Requests


def test_a_model_of_another_group_is_a_permission_error(stack: Stack) -> None:
    """A group that may not use a model gets 403 model_not_allowed, whatever name of it is asked for."""
    customer = stack.customer(group="mini-only")
    for name in ("gpt-5.4", "gpt-5.4-2026-03-05"):
        error = refused(stack, customer.secret, model=name)
        assert (type(error), error.code) == (openai.PermissionDeniedError, "model_not_allowed")
    with sdk(stack, customer.secret) as client, pytest.raises(openai.PermissionDeniedError):
        client.models.retrieve("gpt-5.4")
    assert stack.booked(customer, "hold") == []


def test_an_unknown_model_is_not_found(stack: Stack) -> None:
    """A model that the price file does not have is 404 unknown_model, and the price file is not spoken of."""
    error = refused(stack, stack.customer().secret, model="gpt-9")
    assert (type(error), error.code, error.param) == (openai.NotFoundError, "unknown_model", "model")
    assert "price file" not in error.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"messages": []}',
        b'{"model": 5, "messages": []}',
        b'{"model": "gpt-5.4-mini", "model": "gpt-5.5", "messages": [{"role": "user", "content": "x"}]}',
        json.dumps({**CHAT, "temperature": float("nan")}).encode(),
        json.dumps({**CHAT, "stream": "yes"}).encode(),
        json.dumps({**CHAT, "stream": True, "stream_options": 5}).encode(),
        json.dumps({**CHAT, "service_tier": "wibble"}).encode(),
        json.dumps({**CHAT, "background": True}).encode(),
        json.dumps({**CHAT, "n": -1}).encode(),
        json.dumps({**CHAT, "max_completion_tokens": "many"}).encode(),
        b"[" * 50_000,
    ],
)
def test_a_bad_body_is_400_and_nothing_is_held(stack: Stack, body: bytes) -> None:
    """What is no request, or cannot be bounded, or says one thing twice, never reaches the provider."""
    customer, before = stack.customer(), len(stack.seen)
    answer = stack.post("/v1/chat/completions", customer, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert stack.booked(customer, "hold") == []
    assert len(stack.seen) == before


def test_a_tool_that_is_not_sold_is_400(stack: Stack) -> None:
    """A tool without a price is refused before the call, as the client's mistake."""
    tools = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    answer = stack.post("/v1/responses", stack.customer(), {**RESPONSES, "tools": tools})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "meter_not_priced")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_413(stack: Stack, declared: bool) -> None:
    """A body beyond the limit is refused, whether it says its length or comes in pieces."""
    customer, body = stack.customer(), b" " * 100_001
    content = body if declared else iter([body[:50_000], body[50_000:]])
    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{stack.url}/v1/responses", content=content, headers=customer.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_unknown_paths_and_methods_have_the_shape_of_errors(stack: Stack) -> None:
    """What is not there is 404 or 405, as an error of OpenAI's shape."""
    for method, path, status in (("GET", "/v1/files", 404), ("GET", "/v1/responses", 405)):
        answer = httpx.request(method, stack.url + path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


# The account


def test_balance_and_usage_tell_of_the_account(stack: Stack) -> None:
    """GET /v1/balance and /v1/usage tell what the ledger says, and a bad period is 400."""
    customer = stack.customer(pay="85", limit=50)
    assert stack.post("/responses", customer, RESPONSES).status_code == 200
    (entry,) = stack.booked(customer)
    balance = stack.get("/v1/balance", customer).json()
    assert Decimal(balance["available"]) == 100 - entry.credits
    assert balance["token"] == {"id": customer.token, "limit": "50", "spent": str(entry.credits)}
    for query in ("", "?period=2026-11&by=token&zone=Asia/Shanghai"):
        (line,) = stack.get(f"/usage{query}", customer).json()["usage"]
        assert (line["model"], Decimal(line["credits"]), line["requests"]) == (MODEL, entry.credits, 1)
        assert line["token"] == (customer.token if query else "")
    assert stack.get("/v1/usage?period=yesterday", customer).status_code == 400
    assert stack.get("/v1/usage?period=2026-10", customer).json()["usage"] == []


# The provider


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("status", [400, 429, 500, 503])
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
    assert stack.ledger.records(customer.account, DAY)


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


def test_a_stream_that_breaks_off_before_the_first_word_costs_nothing(stack: Stack) -> None:
    """Where the provider never began to answer, all that was held is released."""
    customer = stack.customer()
    answer = stack.post("/v1/responses", customer, {**RESPONSES, "stream": True}, **{"x-demo": "cut=0"})
    assert "error" in answer.text
    assert len(stack.booked(customer, "release")) == 1
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
    request = stack.gateway.client.build_request("POST", "/x")
    assert str(request.url).endswith("/v1/x")
    assert customer.secret not in json.dumps(stack.seen)


# Clients that go away


def gone_after(stack: Stack, customer: Any, path: str, demo: str, lines: int) -> None:
    """Begin a stream, read some of it, and hang up."""
    body = {**BODIES[path], "stream": True}
    headers = {**customer.headers, "x-demo": demo}
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("POST", stack.url + path, json=body, headers=headers) as answer,
    ):
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
        httpx.post(f"{stack.url}/v1/responses", json=RESPONSES, headers=headers, timeout=0.1, trust_env=False)
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
        task = asyncio.create_task(stack.gateway.answer(request, "chat"))
        for _ in range(steps):
            await asyncio.sleep(0.0005)
        was_done = task.done()
        if was_done:
            response = task.result()
            if isinstance(response, Passing):
                response.over.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return was_done

    async def all_moments() -> int:
        for steps in range(200):
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
    monkeypatch.setattr("examples.gateway.service.priced", broken)
    answer = stack.post("/v1/chat/completions", customer, {**CHAT, "max_completion_tokens": 200})
    assert answer.status_code == 200
    (hold,), (entry,) = stack.booked(customer, "hold"), stack.booked(customer)
    assert entry.credits == Decimal(hold.content["credits"])
    stack.settled_up(customer)


def test_an_internal_error_says_nothing_and_has_an_id(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of the gateway is 500 internal_error, with the id under which the log has it."""
    monkeypatch.setattr(stack.gateway.counters, "of", lambda model: 1 // 0)
    answer = stack.post("/v1/responses", stack.customer(), RESPONSES)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"].startswith("req_")
    assert "division" not in answer.text


# Starting


def test_settings_come_from_options_and_else_from_the_environment() -> None:
    """An option wins over the environment; the provider's key is read from there only, and never shown."""
    environment = {"GATEWAY_PORT": "9000", "GATEWAY_DB": "here.db", "GATEWAY_UPSTREAM_KEY": "sk-secret\n"}
    config = configured(["--port", "9001"], environment)
    assert (config.port, config.db, config.upstream_key, config.demo) == (9001, "here.db", "sk-secret", False)
    assert "sk-secret" not in repr(config)
    assert configured(["--demo"], {}).db == "gateway-demo.db"


def test_one_command_starts_the_demo(tmp_path: Path) -> None:
    """`python -m examples.gateway --demo` prints what to try, and what it prints works; Ctrl+C ends it cleanly."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "examples.gateway", "--demo", "--port", str(port)]
    command += ["--db", str(tmp_path / "demo.db"), "--prices", str(ROOT / "pricing.yaml")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        greeting = "".join(iter(started.stdout.readline, "Stop the gateway with Ctrl+C.\n"))
        secret = re.search(r"sk-demo\S+", greeting)
        assert f"http://127.0.0.1:{port}/v1" in greeting
        assert secret is not None
        transport = httpx.HTTPTransport(retries=8)  # it listens a moment after it has greeted
        with httpx.Client(transport=transport, headers={"authorization": f"Bearer {secret[0]}"}, timeout=20) as client:
            answer = client.post(f"http://127.0.0.1:{port}/v1/responses", json=RESPONSES)
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=20)
    assert (answer.status_code, started.returncode, errors) == (200, 0, "")
    ledger = Ledger.open(str(tmp_path / "demo.db"))
    assert ledger.verify() == []
    assert ledger.balance("demo", at=clock()).held == 0
    ledger.close()


# The documentation


def page_rows() -> list[tuple[str, str]]:
    """Code and status of each row of the page's table of errors."""
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)


@pytest.mark.parametrize(("code", "status"), page_rows())
def test_the_page_says_the_status_of_each_code(code: str, status: str) -> None:
    """A code of the library in the table of docs/gateway.md has the status that the gateway answers with."""
    if code in CODES:
        assert of_billing(BillingError(code, "")).status == int(status)
    else:
        assert code.startswith(("upstream_", "unknown_path", "unknown_method", "internal_error"))


def test_the_example_of_the_page_works(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of docs/gateway.md runs as it stands there, but for address and token."""
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", stack.url).replace(EVERYTHING, stack.customer().secret)
    exec(compile(code, "docs/gateway.md", "exec"), {})
    assert "I can help plan it" in capsys.readouterr().out


def test_the_demo_starts_twice_with_the_same_account() -> None:
    """Filling the demo's ledger again, another day, changes nothing."""
    ledger = Ledger.open("sqlite://", BOOK)
    for days in (0, 1):
        fill(ledger, BOOK, clock() + timedelta(days=days))
    assert ledger.balance("demo", at=clock()).available == 100
    assert ledger.authenticate(EVERYTHING, at=clock()).group == "default"
    assert ledger.verify() == []
    ledger.close()
