"""Providers that answer strangely: nothing that was answered is free, and nothing that was not is charged."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brivionix_billing import Usage
from examples.gateway.threaded_server import ThreadedServer
from gateway_kit import CHAT, Stack, running

ANSWER = '{"model": %s, "choices": [{"message": {"content": "Hello there"}}], "usage": %s}'
USAGE = '{"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12%s}'


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    """What the provider answers."""
    return {}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, said: dict[str, Any]) -> Iterator[Stack]:
    async def answer(request: Request) -> Response:
        await request.body()
        return Response(said["body"].encode(), 200, {"content-type": said.get("type", "application/json")})

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
    with (
        ThreadedServer(app) as provider,
        running(f"sqlite:///{tmp_path_factory.mktemp('gw') / 'ledger.db'}", upstream=provider.url) as found,
    ):
        yield found


@pytest.mark.parametrize(
    "body",
    [
        ANSWER % ('"\\ud800"', USAGE % ""),
        ANSWER % ('"gpt-5.4-mini"', USAGE % ', "\\ud800": 0'),
        ANSWER % ('"gpt-5.4-mini"', USAGE % ', "cost": 1152921504606846976'),
        ANSWER % ('"gpt-5.4-mini"', '{"prompt_tokens": 10, "completion_tokens": -2}'),
    ],
)
def test_an_answer_whose_usage_no_journal_can_hold_is_charged_by_an_estimate(
    stack: Stack, said: dict[str, Any], body: str
) -> None:
    """Half of a surrogate pair, numbers beyond JSON, negative counts: an estimate is booked, and no hold is left."""
    said.update(body=body, type="application/json")
    customer = stack.customer()
    assert stack.post("/v1/chat/completions", customer, CHAT).status_code == 200
    (entry,) = stack.booked(customer)
    assert entry.credits > 0
    assert Usage.from_response(entry.content["usage"]).estimated
    assert stack.ledger.balance(customer.account, at=entry.booked_at).held == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", ['{"error": {"message": "overloaded"}}', "", "<html>busy</html>"])
def test_what_is_no_answer_is_not_charged(stack: Stack, said: dict[str, Any], body: str, stream: bool) -> None:
    """A provider that says 200 and answers nothing, or a proxy's page, has failed: 502, and the hold is released."""
    said.update(body=body, type="application/json")
    customer = stack.customer()
    answer = stack.post("/v1/chat/completions", customer, {**CHAT, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert stack.booked(customer) == []
    stack.settled_up(customer)


@pytest.mark.parametrize("body", ["[1]", "null", '{"done": true}', "\x00\x01 compressed?"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_nobody_can_read_costs_the_hold(
    stack: Stack, said: dict[str, Any], body: str, stream: bool
) -> None:
    """It may have been an answer of any length, so it is not free: the maximum is charged, and its record is an
    estimate."""
    said.update(body=body, type="application/json")
    customer = stack.customer()
    sent = {**CHAT, "stream": stream, "max_completion_tokens": 300}
    assert stack.post("/v1/chat/completions", customer, sent).status_code == 200
    (hold,), (entry,) = stack.booked(customer, "hold"), stack.booked(customer)
    assert entry.credits == Decimal(hold.content["credits"])
    assert Usage.from_response(entry.content["usage"]).estimated
    stack.settled_up(customer)


def test_a_strange_type_of_content_leaves_no_hold(stack: Stack, said: dict[str, Any]) -> None:
    """Whatever the provider calls its stream: it is passed on as one, and charged."""
    said.update(body='data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', type="text/event-stream; x=\xe9")
    customer = stack.customer()
    answer = stack.post("/v1/chat/completions", customer, {**CHAT, "stream": True})
    assert answer.status_code == 200
    (entry,) = stack.booked(customer)
    assert entry.credits > 0


def test_where_pricing_itself_fails_what_was_held_is_booked_for_any_request(
    stack: Stack, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for one with tools, whose worst case is no usage that could be written down."""

    def broken(*_: Any) -> None:
        raise RuntimeError("a mistake in the gateway")

    monkeypatch.setattr("brivionix_billing.gateway.billing.price_response", broken)
    said.update(body=ANSWER % ('"gpt-5.4-mini"', USAGE % ""), type="application/json")
    customer = stack.customer()
    assert stack.post("/v1/chat/completions", customer, {**CHAT, "web_search_options": {}}).status_code == 200
    (entry,) = stack.booked(customer)
    assert entry.credits > 0
    assert stack.ledger.balance(customer.account, at=entry.booked_at).held == 0


def test_a_number_that_json_cannot_hold_is_refused(stack: Stack) -> None:
    """What would go to the provider as Infinity is the client's mistake."""
    customer = stack.customer()
    body = b'{"model": "gpt-5.4-mini", "messages": [], "temperature": 1e400}'
    answer = stack.http.post("/v1/chat/completions", content=body, headers=customer.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
