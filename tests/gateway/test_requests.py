"""Whom the gateway lets in, what it refuses, and how OpenAI's own SDK hears of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import openai
import pytest
from openai import OpenAI

from brivionix_billing.gateway import GatewayLimits
from brivionix_billing.ledger import Plan
from gateway_kit import (
    CHAT,
    DAY,
    MODEL,
    RESPONSES,
    Customer,
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


# Tokens


def test_an_unknown_token_is_an_authentication_error(stack: Stack) -> None:
    """A secret that nobody was given is 401 unknown_token."""
    error = refused(stack, "sk-nobody-has-this-one-here")
    assert (type(error), error.status_code, error.code) == (openai.AuthenticationError, 401, "unknown_token")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"enabled": False}, "token_disabled"),
        ({"expires": DAY.start, "at": DAY.start - timedelta(days=1)}, "token_expired"),
    ],
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
    answer = stack.http.request("GET" if get else "POST", path, headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "malformed_authorization"
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_frozen_account_is_403(stack: Stack) -> None:
    """A request of a frozen account is refused with a message without the operator's reason; its balance is shown."""
    customer = stack.customer(pay="85")
    stack.ledger.freeze(customer.account, reason="stolen card", id=f"freeze-{customer.account}", at=clock())
    error = refused(stack, customer.secret)
    assert (type(error), error.code) == (openai.PermissionDeniedError, "account_frozen")
    assert "Your account is frozen." in error.message
    assert "stolen" not in error.message
    assert "frozen_at" in stack.get("/v1/balance", customer).json()
    assert stack.booked(customer, "hold") == []


def test_a_limit_by_window_is_429_with_the_time_to_retry_and_402_if_no_time_helps(stack: Stack) -> None:
    """A refused request holds nothing; the balance shows the limits of the account and of the own token."""
    customer, other = stack.customer(), stack.customer()
    limit = partial(stack.ledger.set_limit, customer.account, unit="requests", window="24h", at=clock())
    limit("burst", 1, id="limit-1")
    limit("other", 9, token=None, tag="team=x", id="limit-2")
    stack.ledger.hold(customer.account, "1", id="held", at=clock())
    answer = stack.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {customer.secret}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "limit_reached")
    assert 24 * 3600 <= int(answer.headers["retry-after"]) <= 24 * 3600 + 24 * 60
    assert "'burst'" in answer.json()["error"]["message"]
    assert len(stack.booked(customer, "hold")) == 1
    limit("burst", 0, id="limit-3")
    answer = stack.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {customer.secret}"})
    assert (answer.status_code, "retry-after" in answer.headers) == (402, False)
    shown = stack.get("/v1/balance", customer).json()["limits"]
    assert [(each["name"], each["used"], each["left"]) for each in shown] == [("burst", "1", "0"), ("other", "0", "9")]
    assert "limits" not in stack.get("/v1/balance", other).json()


def test_a_plan_without_overflow_is_shown_and_named_in_its_refusal(stack: Stack) -> None:
    """The balance has the plan and what is left of it. A request that it does not cover is 402, also with Credits."""
    customer, other = stack.customer(pay="85"), stack.customer()
    plan = Plan(name="free", credits="0.000001", period="day", overflow=False)  # type: ignore[arg-type]
    stack.ledger.subscribe(customer.account, plan, id=f"sub-{customer.account}", at=clock())
    shown = stack.get("/v1/balance", customer).json()["plan"]
    assert (shown["plan"], shown["state"], shown["remaining"], shown["overflow"]) == (
        "free",
        "active",
        "0.000001",
        False,
    )
    answer = stack.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {customer.secret}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_credits")
    assert f"Your plan 'free' lasts until {shown['ends']}; renew or change it." in answer.json()["error"]["message"]
    assert "plan" not in stack.get("/v1/balance", other).json()


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
        json.dumps({**CHAT, "Model": "gpt-5.5"}).encode(),
        json.dumps({**CHAT, "me\u017f\u017fages": []}).encode(),  # a long s
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
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "meter_unpriced")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_413(stack: Stack, declared: bool) -> None:
    """A body beyond the limit is refused, whether it says its length or comes in pieces."""
    customer, body = stack.customer(), b" " * 100_001
    content = body if declared else iter([body[:50_000], body[50_000:]])
    answer = stack.http.post("/v1/responses", content=content, headers=customer.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_unknown_paths_and_methods_have_the_shape_of_errors(stack: Stack) -> None:
    """What is not there is 404 or 405, as an error of OpenAI's shape."""
    for method, path, status in (("GET", "/v1/files", 404), ("GET", "/v1/responses", 405)):
        answer = stack.http.request(method, path)
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
    assert "at most 100 days" in stack.get("/v1/usage?period=2026-01-01/2026-12-01", customer).text
    assert stack.get("/v1/usage?period=2026-10", customer).json()["usage"] == []


def test_requests_are_those_of_the_account(stack: Stack) -> None:
    """GET /v1/requests tells the account's own requests with their cost, page by page; bad values are 400."""
    customer, other = stack.customer(pay="85"), stack.customer(pay="85")
    for who in (customer, other, customer):
        assert stack.post("/responses", who, RESPONSES).status_code == 200
    entries = stack.booked(customer)
    page = stack.get("/v1/requests?limit=1", customer).json()
    (newest,) = page["requests"]
    rest = stack.get(f"/requests?model={MODEL}&token={customer.token}&after={page['next']}", customer).json()
    assert [newest["id"], *(each["id"] for each in rest["requests"])] == [
        entry.content["hold"] for entry in reversed(entries)
    ]
    assert rest["next"] is None
    assert (newest["state"], Decimal(newest["credits"])) == ("settled", entries[-1].credits)
    assert Decimal(newest["cost"]["CNY"]) == entries[-1].credits * Decimal("0.85")
    assert stack.get(f"/requests?token={other.token}", customer).json()["requests"] == []
    for query in ("limit=0", "limit=101", "limit=x", "after=x", "period=x", "period=2026-01-01/2026-12-01"):
        assert stack.get(f"/v1/requests?{query}", customer).status_code == 400
    assert stack.http.get("/v1/requests").status_code == 401


# Members


def test_a_member_learns_what_it_used_and_not_what_the_account_has(stack: Stack) -> None:
    """Its balance, usage and requests are its own, and no answer has an amount of the account or of other members."""
    owner = stack.customer(pay="85")
    ledger, account = stack.ledger, owner.account
    ledger.add_member(account, "ann", id="join-ann", at=clock())
    secret = ledger.create_token(account, id="tok-ann", at=clock(), group="default", member="ann").secret
    ledger.set_limit(account, "ann", 60, window="day", member="ann", id="limit-ann", at=clock())
    ledger.set_limit(account, "all", 70, window="day", id="limit-all", at=clock())
    ann = Customer(account, str(secret), "tok-ann")
    for who in (owner, ann):
        assert stack.post("/responses", who, RESPONSES).status_code == 200
    first, second = stack.booked(owner)
    shown = stack.get("/v1/balance", ann).json()
    assert shown.keys() == {"account", "member", "token", "limits"}
    assert [limit["name"] for limit in shown["limits"]] == ["ann"]
    assert [limit["name"] for limit in stack.get("/v1/balance", owner).json()["limits"]] == ["all"]
    (line,) = stack.get("/v1/usage", ann).json()["usage"]
    assert (line["member"], Decimal(line["credits"])) == ("ann", second.credits)
    (found,) = stack.get("/v1/requests", ann).json()["requests"]
    assert (found["id"], found.keys() & {"cost", "lots", "owed"}) == (second.content["hold"], set())
    assert len(stack.get("/v1/requests", owner).json()["requests"]) == 2
    assert first.content["hold"] not in stack.get("/v1/requests", ann).text
    (everyone,) = ledger.limits(account, at=clock(), include_members=False)
    ledger.hold(account, everyone.left, id="others", at=clock())
    refused = stack.post("/responses", ann, RESPONSES)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "limit_reached")
    assert "'all' is reached: it is that of the account that pays for you" in refused.json()["error"]["message"]
    ledger.remove_limit(account, "all", id="no-limit", at=clock())
    ledger.hold(account, ledger.balance(account, at=clock()).available, id="rest", at=clock())
    refused = stack.post("/responses", ann, RESPONSES)
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_credits")
    assert "does not have them available" in refused.json()["error"]["message"]
    ledger.freeze_member(account, "ann", reason="leaked", id="freeze-ann", at=clock())
    refused = stack.post("/responses", ann, RESPONSES)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "member_frozen")
