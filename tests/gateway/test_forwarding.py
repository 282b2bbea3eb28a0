"""What is charged for every way in which a provider answers, and in which a client takes it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, Usage
from brivionix_billing.gateway import (
    RESPONSE_HEADERS,
    ClientAnswer,
    GatewayError,
    GatewayPolicy,
    NotSentError,
    Resolution,
)
from exchange_kit import AT, BOOK, CHAT, EVENTS, MESSAGES, Answer, Flow, chat_events, run

COUNTS = {"prompt_tokens": 21, "completion_tokens": 13, "total_tokens": 34}
WHOLE = json.dumps(
    {"model": "gpt-5.4-mini", "choices": [{"message": {"content": "Hello there"}}], "usage": COUNTS}
).encode()
STREAM = chat_events(["Hello", " there"], COUNTS)
EXACT = Usage(input_tokens=21, output_tokens=13, model="gpt-5.4-mini")
STREAMED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


def price(usage: Usage, model: str = "gpt-5.4-mini") -> Decimal:
    """Return the Credits of a usage."""
    return BOOK.rate(usage, model=model, group="default", at=AT).credits


async def read_all(answer: ClientAnswer) -> bytes:
    """Return what a client gets that takes everything."""
    return answer.body if answer.body is not None else b"".join([piece async for piece in answer])


# The bytes decide


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("content_type", ["text/event-stream", "TEXT/Event-Stream; x", "text/plain", "", None])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_stream_is_charged_under_any_content_type(status: int, content_type: str | None, streamed: bool) -> None:
    """Requested or not, under any type and any status 2xx: the client gets the bytes, and the usage is exact."""
    headers = {} if content_type is None else {"content-type": content_type}
    request = STREAMED if streamed else CHAT
    answer = Answer([b"".join(STREAM)[:7], b"".join(STREAM)[7:]], status, headers)

    async def work(flow: Flow) -> tuple[str, bytes]:
        found = await flow.forward(request, answer)
        return found.media_type, await read_all(found)

    flow, (media_type, body) = run(None, work)
    assert (media_type, body) == ("text/event-stream", b"".join(STREAM))
    assert flow.settled() == (EXACT, price(EXACT))
    assert answer.is_closed


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/plain", None])
def test_a_stream_is_forwarded_while_it_arrives(content_type: str | None) -> None:
    """Under any content type, the client has the first event before the provider sends the second."""
    headers = {} if content_type is None else {"content-type": content_type}

    async def work(flow: Flow) -> None:
        proceed = asyncio.Event()
        pieces = aiter(await flow.forward(STREAMED, Answer(STREAM[:1], 200, headers, proceed=proceed, rest=STREAM[1:])))
        assert await anext(pieces) == STREAM[0]
        proceed.set()
        assert [piece async for piece in pieces] == STREAM[1:]

    flow, _ = run(None, work)
    assert flow.settled() == (EXACT, price(EXACT))


@pytest.mark.parametrize("requested", [True, False])
def test_events_that_arrive_together_are_forwarded_together(requested: bool) -> None:
    """A provider that sends many events at once makes one part of them, without a usage that was not requested."""

    async def work(flow: Flow) -> list[bytes]:
        request = STREAMED if requested else {**CHAT, "stream": True}
        return [part async for part in await flow.forward(request, Answer([b"".join(STREAM)], headers=EVENTS))]

    flow, parts = run(None, work)
    assert parts == [b"".join(STREAM if requested else [*STREAM[:-2], STREAM[-1]])]
    assert flow.settled() == (EXACT, price(EXACT))


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/event-stream"])
def test_json_in_the_place_of_a_stream_is_charged(content_type: str) -> None:
    """A provider that ignores ``stream`` is read and charged exactly."""

    async def work(flow: Flow) -> bytes:
        return await read_all(await flow.forward(STREAMED, Answer([WHOLE], headers={"content-type": content_type})))

    flow, body = run(None, work)
    assert body == WHOLE
    assert flow.settled() == (EXACT, price(EXACT))


@pytest.mark.parametrize("rest", [b" x", b"}", b"\n<html>", WHOLE], ids=["a word", "a brace", "a page", "an answer"])
def test_what_follows_an_answer_does_not_make_it_free(rest: bytes) -> None:
    """The first value of the body is the answer; a proxy or a second answer may stand behind it."""

    async def work(flow: Flow) -> None:
        await flow.forward(CHAT, Answer([WHOLE + rest]))

    assert run(None, work)[0].settled() == (EXACT, price(EXACT))


def test_an_answer_that_ends_within_its_json_costs_the_hold() -> None:
    """A body that ends too early, without an error of the connection, cannot be read."""

    async def work(flow: Flow) -> None:
        await flow.forward(CHAT, Answer([WHOLE[:-40]]))

    flow, _ = run(None, work)
    assert flow.settled()[1] == flow.held()


def test_spaces_before_the_json_do_not_make_it_a_stream() -> None:
    """Some providers send line feeds to keep a connection open, and then JSON."""

    async def work(flow: Flow) -> str:
        return (await flow.forward(STREAMED, Answer([b"\n", b"\r\n ", WHOLE], headers={}))).media_type

    flow, media_type = run(None, work)
    assert media_type == "application/json"
    assert flow.settled()[0] == EXACT


@pytest.mark.parametrize("counts", [{"prompt_tokens": 0, "completion_tokens": 0}, {**COUNTS, "completion_tokens": 0}])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_count_of_zero_is_not_believed_if_a_text_arrived(counts: dict[str, Any], streamed: bool) -> None:
    """A provider whose counter failed reports zeros; the answer is estimated, streamed or not."""
    usage = {**counts, "total_tokens": counts["prompt_tokens"]}
    whole = json.dumps({"choices": [{"message": {"content": "Hello there"}}], "usage": usage}).encode()

    async def work(flow: Flow) -> None:
        answer = Answer(chat_events(["Hello", " there"], usage), headers=EVENTS) if streamed else Answer([whole])
        await read_all(await flow.forward(STREAMED if streamed else CHAT, answer))

    usage_, credits = run(None, work)[0].settled()
    assert usage_.estimated
    assert usage_.output_tokens == 2
    assert usage_.input_tokens > 0
    assert credits == price(usage_)


# Only what was not sent, or was rejected, is free


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (NotSentError(), "upstream_unreachable"),
        (Answer([b'{"error": {"message": "no", "code": "rate_limit"}}'], 429), "rate_limit"),
        (Answer([b"gone"], 503), "upstream_error"),
        (Answer([], 302), "upstream_error"),
        (Answer([b'{"error": {"message": "overloaded"}}']), "upstream_error"),
        (Answer([], error=ConnectionError(), status_code=500), "upstream_error"),
    ],
)
@pytest.mark.parametrize("request_", [CHAT, STREAMED])
def test_what_was_not_sent_or_was_rejected_is_free(answer: Any, code: str, request_: dict[str, Any]) -> None:
    """Without a connection, or with an error of the provider, the hold is released."""

    async def work(flow: Flow) -> str:
        with pytest.raises(GatewayError) as caught:
            await flow.forward(request_, answer)
        return caught.value.code

    flow, found = run(None, work)
    assert found == code
    assert len(flow.entries("release")) == 1
    assert flow.entries() == []


@pytest.mark.parametrize("failure", [TimeoutError(), ConnectionResetError(), RuntimeError("bug")])
@pytest.mark.parametrize("resolution", ["estimate", "hold", "release"])
@pytest.mark.parametrize("is_sent", [False, True], ids=["before the headers", "within the body"])
def test_a_request_that_was_sent_and_not_answered_is_charged_by_policy(
    failure: Exception, resolution: Resolution, is_sent: bool
) -> None:
    """A timeout or a broken connection does not say that the provider bills nothing; the client hears of it."""
    answer: Any = Answer([WHOLE[:40]], error=failure) if is_sent else failure

    async def work(flow: Flow) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await flow.forward(CHAT, answer)
        return caught.value

    flow, error = run(GatewayPolicy(unanswered=resolution), work)
    assert (error.status, error.code) == (502, "upstream_broke_off")
    assert ("Nothing was charged" in error.message) == (resolution == "release")
    if resolution == "release":
        assert len(flow.entries("release")) == 1
        return
    usage, credits = flow.settled()
    assert usage.estimated
    assert credits == (flow.held() if resolution == "hold" else price(usage))
    assert 0 < credits <= flow.held()


@pytest.mark.parametrize("resolution", ["estimate", "hold", "release"])
@pytest.mark.parametrize("request_", [CHAT, STREAMED])
def test_an_unreadable_answer_is_charged_by_policy(resolution: Resolution, request_: dict[str, Any]) -> None:
    """Bytes of which nothing can be read are passed on; they cost the hold, an estimate by their number, or nothing."""
    body = b"\x1f\x8b compressed" * 50

    async def work(flow: Flow) -> bytes:
        return await read_all(await flow.forward(request_, Answer([body], headers={})))

    flow, found = run(GatewayPolicy(unreadable=resolution), work)
    assert found == body
    if resolution == "release":
        assert len(flow.entries("release")) == 1
        return
    usage, credits = flow.settled()
    assert usage.estimated
    if resolution == "hold":
        assert credits == flow.held()
    else:
        assert usage.output_tokens == -(-len(body) // 4)
        assert credits == price(usage)


def test_the_record_of_a_charged_hold_contains_its_calls_of_tools() -> None:
    """A hold with searches has a usage with searches, so that the bill of the month is what was charged."""
    request = {**CHAT, "web_search_options": {}}

    async def work(flow: Flow) -> None:
        await flow.forward(request, Answer([b"\x00"], headers={}))

    flow, _ = run(None, work)
    usage, credits = flow.settled()
    assert usage.meters["web_search"] == 10
    assert credits == price(usage) == flow.held()


def test_a_charged_hold_of_anthropic_is_the_whole_hold() -> None:
    """At most, all input is written to a cache, and the record says so."""

    async def work(flow: Flow) -> None:
        await flow.forward(MESSAGES, Answer([b"\x00"], headers={}), "anthropic")

    flow, _ = run(None, work)
    usage, credits = flow.settled()
    assert usage.meters.keys() == {"cache_write", "output"}
    assert credits == price(usage, "claude-test") == flow.held()


@pytest.mark.parametrize("answer", [b"\x00", json.dumps({"choices": [], "usage": COUNTS}).encode()])
def test_the_record_of_a_routers_charged_hold_names_a_model(answer: bytes) -> None:
    """Without the model that served the request, the bill of the month could not be made."""

    async def work(flow: Flow) -> None:
        await flow.forward({**CHAT, "model": "router-test"}, Answer([answer], headers={}))

    flow, _ = run(None, work)
    usage, credits = flow.settled()
    assert usage.model is not None
    assert credits == price(usage, "router-test") == flow.held()


@pytest.mark.parametrize("policy", [GatewayPolicy(), GatewayPolicy(unreadable="estimate")])
@pytest.mark.parametrize("error", [None, ConnectionError()])
def test_bytes_that_cannot_be_read_never_cost_more_than_the_hold(
    policy: GatewayPolicy, error: Exception | None
) -> None:
    """A million bytes without meaning are no quarter of a million tokens, if 500 were allowed."""

    async def work(flow: Flow) -> None:
        with suppress(GatewayError):
            await flow.forward(CHAT, Answer([b"a" * 1_000_000], headers={}, error=error))

    flow, _ = run(policy, work)
    usage, credits = flow.settled()
    assert credits == price(usage) == flow.held()


@pytest.mark.parametrize("status", [101, 302, 399, 600, 999])
def test_a_status_that_no_server_can_pass_on_is_502(status: int) -> None:
    """The message of the provider is not passed on with it."""
    body = json.dumps({"error": {"message": "no"}}).encode()

    async def work(flow: Flow) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await flow.forward(CHAT, Answer([body], status))
        return caught.value

    error = run(None, work)[1]
    assert (error.status, error.code) == (502, "upstream_error")


@pytest.mark.parametrize(
    ("value", "is_passed"),
    [("5", True), ("Wed, 21 Oct 2026 07:28:00 GMT", True), ("\x015", False), ("5\r\nx: y", False), ("\xff", False)],
)
def test_only_a_header_that_a_server_can_send_is_passed_on(value: str, is_passed: bool) -> None:
    """With another one, the server would break the answer off."""

    async def work(flow: Flow) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await flow.forward(CHAT, Answer([b"{}"], 429, {"retry-after": value}))
        return caught.value

    passed = {"retry-after": value} if is_passed else {}
    assert run(None, work)[1].headers == {**RESPONSE_HEADERS, **passed}


# Clients that leave


async def leave_after(flow: Flow, answer: Answer, pieces: int, request: dict[str, Any] = STREAMED) -> None:
    """Take some pieces of a stream, and leave."""
    found = await flow.forward(request, answer)
    iterator = aiter(found)
    for _ in range(pieces):
        await anext(iterator)
    await found.aclose()


@pytest.mark.parametrize("pieces", range(4))
def test_a_client_that_leaves_pays_what_the_provider_reports(pieces: int) -> None:
    """Hidden reasoning included: leaving after the last text, before the usage, gains nothing."""
    usage = {**COUNTS, "completion_tokens": 20_000, "completion_tokens_details": {"reasoning_tokens": 19_995}}
    events = chat_events(["Hello", " there"], usage)

    async def work(flow: Flow) -> None:
        proceed = asyncio.Event()
        answer = Answer(events[:3], headers=EVENTS, proceed=proceed, rest=events[3:])
        await leave_after(flow, answer, pieces, {**STREAMED, "max_completion_tokens": 20_000})
        proceed.set()

    flow, _ = run(None, work)
    found, credits = flow.settled()
    assert (found.estimated, found.output_tokens, found.reasoning_tokens) == (False, 20_000, 19_995)
    assert credits == price(Usage(input_tokens=21, output_tokens=20_000))


@pytest.mark.parametrize("effort", [None, "none", "high"])
@pytest.mark.parametrize(
    "policy",
    [
        GatewayPolicy(max_drain_seconds=0.01),
        GatewayPolicy(max_drained_streams=0),
        GatewayPolicy(max_drain_bytes=10),
    ],
    ids=["time", "number", "bytes"],
)
def test_beyond_the_bounds_a_client_that_left_pays_the_hold_if_the_model_may_reason(
    policy: GatewayPolicy, effort: str | None
) -> None:
    """What no text shows may cost more than the text. Without reasoning, what arrived is estimated."""
    request = STREAMED if effort is None else {**STREAMED, "reasoning_effort": effort}

    async def work(flow: Flow) -> Answer:
        proceed = asyncio.Event()
        if policy.max_drain_bytes == 10:
            proceed.set()
        rest = chat_events(["word"] * 20, None)[:20]
        answer = Answer(STREAM[:1], headers=EVENTS, proceed=proceed, rest=rest, error=ConnectionError())
        await leave_after(flow, answer, 1, request)
        assert await flow.billing.background.wait_idle(5)
        assert flow.billing.drained_streams == 0
        return answer

    flow, answer = run(policy, work)
    usage, credits = flow.settled()
    assert (usage.estimated, answer.is_closed) == (True, True)
    assert credits == price(usage)
    assert (credits == flow.held()) == (effort != "none")


def test_a_client_that_stops_reading_does_not_hold_up_the_provider() -> None:
    """After a while it counts as gone, and the provider is read to its end and charged exactly."""
    words = ["word "] * 500

    async def work(flow: Flow) -> None:
        pieces = aiter(await flow.forward(STREAMED, Answer(chat_events(words, COUNTS), headers=EVENTS)))
        await anext(pieces)
        while not flow.entries():
            await asyncio.sleep(0.001)

    flow, _ = run(GatewayPolicy(stall_seconds=0.01), work)
    assert flow.settled() == (EXACT, price(EXACT))


def test_a_client_that_is_cancelled_while_it_waits_is_charged() -> None:
    """The framework cancels the handler of a client that disconnects; the answer is read and charged all the same."""

    async def work(flow: Flow) -> None:
        sent, proceed = asyncio.Event(), asyncio.Event()

        async def answer() -> Answer:
            sent.set()
            await proceed.wait()
            return Answer(STREAM, headers=EVENTS)

        waiting = asyncio.create_task(flow.forward(STREAMED, answer))
        await sent.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        proceed.set()

    flow, _ = run(None, work)
    assert flow.settled() == (EXACT, price(EXACT))


# Conventions of an upstream


def test_the_conventions_of_an_upstream_are_applied_and_recorded() -> None:
    """Cached tokens beside the prompt are charged in addition, and the record of the month names the upstream."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 100}}

    async def work(flow: Flow) -> None:
        for request, answer in (
            (CHAT, Answer([json.dumps({"choices": [], "usage": usage}).encode()])),
            (STREAMED, Answer(chat_events(["Hi"], usage), headers=EVENTS)),
        ):
            await read_all(await flow.forward(request, answer, upstream="beside"))

    flow, _ = run(None, work)
    expected = price(Usage(input_tokens=110, cache_read_tokens=100, output_tokens=5))
    assert [(entry.credits, entry.content["upstream"]) for entry in flow.entries()] == [(expected, "beside")] * 2


def test_an_unknown_upstream_is_refused_before_anything_is_held() -> None:
    """A misspelt upstream must not be billed by the usual conventions."""

    async def work(flow: Flow) -> None:
        with pytest.raises(BillingError, match="no upstream"):
            await flow.admit(CHAT, upstream="besid")

    flow, _ = run(None, work)
    assert flow.entries("hold") == []
