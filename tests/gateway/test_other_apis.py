"""Anthropic's Messages, embeddings, images and transcriptions: by the SDKs, and what the most can be that they cost."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from openai import OpenAI
from starlette.datastructures import Headers

from brivionix_billing import BillingError, Usage
from brivionix_billing.gateway import GatewayError, GatewayPolicy
from examples.gateway.web import parse_form
from exchange_kit import AT, BOOK, EVENTS, MESSAGES, Answer, Flow, run
from gateway_kit import Customer, Stack, clock, running

if TYPE_CHECKING:  # it is slow to import, and every process of a run imports this module
    from anthropic import Anthropic

FORM: dict[str, Any] = {"model": "whisper-test", "file": b"\0" * 9000, "file_name": "a.wav"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    url = f"sqlite:///{tmp_path_factory.mktemp('gateway') / 'ledger.db'}"
    with running(url, book=BOOK, policy=GatewayPolicy()) as found:
        yield found


def openai(stack: Stack, customer: Customer) -> OpenAI:
    return OpenAI(base_url=f"{stack.url}/v1", api_key=customer.secret, max_retries=0, timeout=20)


def claude(stack: Stack, secret: str) -> Anthropic:
    from anthropic import Anthropic

    return Anthropic(base_url=stack.url, api_key=secret, max_retries=0, timeout=20)


def charged(stack: Stack, customer: Customer, model: str) -> Usage:
    """Return the usage of the only charge, after checks of its price and of the hold."""
    (entry,), (hold,) = stack.booked(customer), stack.booked(customer, "hold")
    usage = Usage.from_response(entry.content["usage"])
    assert entry.credits == BOOK.rate(usage, model=model, group="default", at=clock()).credits > 0
    assert entry.credits <= Decimal(hold.content["credits"])
    stack.settled_up(customer)
    return usage


# Anthropic


def test_a_message_of_anthropics_sdk_is_charged_as_reported(stack: Stack) -> None:
    """Cached tokens stand beside the input; the provider gets its own key and the client's version."""
    customer = stack.customer()
    with claude(stack, customer.secret) as client:
        answer = client.messages.create(**MESSAGES)
        version = client.default_headers["anthropic-version"]
    usage = charged(stack, customer, "claude-test")
    assert usage == Usage.from_response(answer)
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (1045, 1024, 16)
    assert stack.headers[-1]["x-api-key"] == "sk-ant"
    assert stack.headers[-1]["anthropic-version"] == version
    assert customer.secret not in json.dumps(stack.headers)


def test_a_stream_of_anthropics_sdk_is_charged_as_reported(stack: Stack) -> None:
    """The input comes first and the output last; both are charged once."""
    customer = stack.customer()
    with claude(stack, customer.secret) as client, client.messages.stream(**MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "I can help plan it, but I cannot book flights from here."
    assert charged(stack, customer, "claude-test") == Usage.from_response(final)


@pytest.mark.parametrize("events", range(1, 8))
def test_a_client_of_anthropic_that_leaves_is_charged_as_reported(stack: Stack, events: int) -> None:
    """After any number of events, the provider is read to its end."""
    customer = stack.customer()
    with claude(stack, customer.secret) as client:
        stream = iter(opened := client.messages.create(**MESSAGES, stream=True))
        for _ in range(events):
            next(stream)
        opened.close()
    stack.wait_for(customer, 1)
    usage = charged(stack, customer, "claude-test")
    assert (usage.estimated, usage.output_tokens) == (False, 16)


def test_a_stream_of_anthropic_that_breaks_off_ends_with_an_error_and_costs_an_estimate(stack: Stack) -> None:
    """The SDK raises its own error, and what arrived is charged."""
    from anthropic import APIStatusError

    customer = stack.customer()
    with (
        claude(stack, customer.secret) as client,
        pytest.raises(APIStatusError, match="broke the answer off"),
    ):
        list(client.messages.create(**MESSAGES, stream=True, extra_headers={"x-demo": "cut=6"}))
    assert charged(stack, customer, "claude-test").estimated


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (529, "InternalServerError"),
        (401, "InternalServerError"),  # the gateway's own key is no matter of the client
    ],
)
def test_anthropics_sdk_hears_of_errors_in_its_own_format(stack: Stack, status: int, kind: str) -> None:
    """An error of the provider reaches the SDK as its class, and is free."""
    import anthropic

    customer = stack.customer()
    with claude(stack, customer.secret) as client, pytest.raises(getattr(anthropic, kind)) as caught:
        client.messages.create(**MESSAGES, extra_headers={"x-demo": f"status={status}"})
    assert caught.value.body["type"] == "error"
    assert caught.value.status_code == (502 if status == 401 else status)
    stack.settled_up(customer)


def test_anthropics_sdk_hears_of_refusals_in_its_own_format(stack: Stack) -> None:
    """A wrong token, an unknown model and too few Credits are the errors that Anthropic has for them."""
    from anthropic import APIStatusError

    poor = stack.customer(pay="0")
    for secret, model, status, kind in (
        ("sk-nobody-has-this-one-here", "claude-test", 401, "authentication_error"),
        (poor.secret, "claude-nobody", 404, "not_found_error"),
        (poor.secret, "claude-test", 402, "billing_error"),
    ):
        with claude(stack, secret) as client, pytest.raises(APIStatusError) as caught:
            client.messages.create(**{**MESSAGES, "model": model})
        error: Any = caught.value.body
        assert (caught.value.status_code, error["error"]["type"]) == (status, kind)


# Embeddings, images, transcriptions


def test_embeddings_are_charged_as_reported(stack: Stack) -> None:
    """By their input alone."""
    customer = stack.customer()
    with openai(stack, customer) as client:
        client.embeddings.create(model="embedding-test", input=["one", "two"], encoding_format="float")
    assert charged(stack, customer, "embedding-test") == Usage(input_tokens=5, model="embedding-test")


def test_images_are_charged_as_reported(stack: Stack) -> None:
    """By the tokens of the prompt and of the images."""
    customer = stack.customer()
    with openai(stack, customer) as client:
        client.images.generate(model="image-test", prompt="a cat", n=2)
    usage = charged(stack, customer, "image-test")
    assert (usage.input_tokens, usage.meters["image_output"]) == (9, 544)


@pytest.mark.parametrize("stream", [False, True])
def test_a_transcription_is_charged_by_its_seconds(stack: Stack, stream: bool) -> None:
    """The form reaches the provider with the file, its name and every field; streamed or not, 9 seconds are charged."""
    customer = stack.customer()
    file = ("speech.wav", io.BytesIO(FORM["file"]))
    with openai(stack, customer) as client:
        create: Any = client.audio.transcriptions.create
        found = create(model="whisper-test", file=file, language="en", stream=stream, timestamp_granularities=["word"])
        if stream:
            assert [event.type for event in found] == ["transcript.text.delta", "transcript.text.done"]
    assert charged(stack, customer, "whisper-test").meters == {"audio_input_seconds": 9}
    assert stack.seen[-1]["file"] == FORM["file"]
    assert (stack.seen[-1]["language"], stack.seen[-1]["timestamp_granularities[]"]) == ("en", "word")


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ({"model": "whisper-test"}, {}),
        ({"model": "whisper-test", "response_format": "srt"}, {"file": b"12"}),
        ({"model": "whisper-test"}, {"other": b"12"}),
        ({"model": ["whisper-test", "transcribe-test"]}, {"file": b"12"}),
        ({"model": "whisper-test", "stream": "yes"}, {"file": b"12"}),
        ({}, {"file": b"12"}),
    ],
    ids=["no file", "no usage in the format", "another file", "two models", "stream", "no model"],
)
def test_a_form_that_cannot_be_billed_is_refused(stack: Stack, fields: Any, files: Any) -> None:
    """With 400 and before anything is held: the provider might read what was not counted, or state no usage."""
    customer = stack.customer()
    sent = files or {"nothing": ""}
    answer = stack.http.post("/v1/audio/transcriptions", data=fields, files=sent, headers=customer.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert stack.booked(customer, "hold") == []


def _part(name: str, value: bytes) -> bytes:
    return f"--x\r\nContent-Disposition: form-data; name={name}\r\n\r\n".encode() + value + b"\r\n"


@pytest.mark.parametrize(
    ("part", "charset"),
    [
        (_part('"Model"', b"transcribe-test"), ""),
        (_part('"model[]"', b"transcribe-test"), ""),
        (_part('"a\\"; name=\\"model"', b"transcribe-test"), ""),
        (_part('""', b"1"), ""),
        (_part('"a\\r\\nb"', b"1"), "; charset=unicode_escape"),
        (_part('"prompt"', b"\\ud800"), "; charset=unicode_escape"),
        (_part('"prompt"; filename="a\x1bb"', b"1"), ""),
        (_part('"prompt"; filename="a\nb"', b"1"), ""),
    ],
    ids=["case", "list", "quotes", "no name", "two lines", "half a character", "control sign", "file of two lines"],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(stack: Stack, part: bytes, charset: str) -> None:
    """A provider might take another model, and what cannot be encoded again would look like a broken connection."""
    customer = stack.customer()
    body = _part('"model"', b"whisper-test") + _part('"file"; filename="a"', b"12") + part + b"--x--"
    if b"filename" in part:
        body = _part('"model"', b"whisper-test") + part.replace(b'"prompt"', b'"file"') + b"--x--"
    headers = {**customer.headers, "content-type": f"multipart/form-data; boundary=x{charset}"}
    answer: httpx.Response = stack.http.post("/v1/audio/transcriptions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert stack.booked(customer, "hold") == []


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-16"])
def test_a_form_in_another_encoding_is_refused(stack: Stack, charset: str) -> None:
    """Python's decoder of Punycode needs minutes for a megabyte, and that of "undefined" always fails."""
    customer = stack.customer()
    body = _part('"model-"', b"a-" + b"9" * 1_000_000) + b"--x--"
    headers = {**customer.headers, "content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer: httpx.Response = stack.http.post("/v1/audio/transcriptions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_form_with_long_fields_delays_nobody() -> None:
    """While 25 fields of almost 1 MiB are read, others wait 0.2 s at most."""
    body = b"".join(_part(f'"field{index}"', b"a" * 1_000_000) for index in range(25)) + b"--x--\r\n"

    async def work() -> float:
        reading = asyncio.create_task(parse_form(Headers({"content-type": "multipart/form-data; boundary=x"}), body))
        longest, last = 0.0, time.thread_time()  # of this thread: the load of the machine does not count
        while not reading.done():
            await asyncio.sleep(0)
            longest, last = max(longest, (now := time.thread_time()) - last), now
        assert len(await reading) == 25
        return longest

    assert asyncio.run(work()) < 0.2


@pytest.mark.parametrize("body", [b"", b"no form", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"])
def test_a_body_that_is_no_form_is_refused(stack: Stack, body: bytes) -> None:
    """With 400, whatever the content type says."""
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data", "application/json"):
        headers = {**stack.customer().headers, "content-type": kind}
        answer: httpx.Response = stack.http.post("/v1/audio/transcriptions", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), kind


# The worst case


def hold_of(request: dict[str, Any], api: Any) -> Decimal:
    """Return the Credits that are held for a request."""

    async def work(flow: Flow) -> None:
        await flow.billing.release(await flow.admit(request, api))

    return run(None, work)[0].held()


def credits(model: str, **counts: Any) -> Decimal:
    return BOOK.rate(Usage(**counts), model=model, group="default", at=AT).credits


def test_the_hold_for_images_is_that_of_the_largest() -> None:
    """By the token: a token per byte of the prompt and 64 more, and the model's maximum output for each image."""
    request = {"model": "image-test", "prompt": "äh", "n": 3, "partial_images": 2}
    output = 3 * (6240 + 200)
    assert hold_of(request, "images") == credits(
        "image-test", input_tokens=4 + 63, output_tokens=output, image_output_tokens=output
    )


def test_the_hold_for_images_at_a_price_each_is_their_number() -> None:
    """By the image, nothing else is charged."""
    assert hold_of({"model": "image-flat", "prompt": "a", "n": 3}, "images") == credits("image-flat", output_images=3)


def test_the_hold_for_a_transcription_follows_from_the_size_of_the_file() -> None:
    """At 750 bytes per second, the least that Opus has, 9000 bytes are at most 12 seconds."""
    assert hold_of(FORM, "transcriptions") == credits("whisper-test", audio_input_seconds=12)


def test_the_hold_for_a_transcription_by_the_token_is_that_of_the_models_limits() -> None:
    """All of the input at the dearer price of audio, and all of the output."""
    assert hold_of({**FORM, "model": "transcribe-test"}, "transcriptions") == credits(
        "transcribe-test", input_tokens=16000, audio_input_tokens=16000, output_tokens=2000
    )


@pytest.mark.parametrize(
    ("request_", "api", "code"),
    [
        ({"model": "image-unbounded", "prompt": "a"}, "images", "cost_unbounded"),
        ({"model": "image-test", "prompt": "a", "n": 11}, "images", "invalid_request"),
        ({"model": "image-test", "prompt": "a", "n": True}, "images", "invalid_request"),
        ({"model": "image-test", "prompt": ["a"]}, "images", "invalid_request"),
        ({"model": "gpt-5.4-mini", "prompt": "a"}, "images", "meter_unpriced"),
        ({"model": "image-test", "prompt": "a", "speed": "fast"}, "images", "service_tier_unavailable"),
        ({**FORM, "speed": "fast"}, "transcriptions", "service_tier_unavailable"),
        ({**FORM, "model": "image-flat"}, "transcriptions", "meter_unpriced"),
        ({**FORM, "model": "gpt-5.4-mini"}, "transcriptions", "meter_unpriced"),
        ({"model": "image-both", "prompt": "a"}, "images", "cost_unbounded"),
        ({**FORM, "model": "claude-test", "file": "text"}, "transcriptions", "invalid_request"),
        ({"model": "embedding-test", "input": "a", "stream": 1}, "embeddings", "invalid_request"),
    ],
)
def test_what_cannot_be_bounded_or_priced_is_refused(request_: dict[str, Any], api: Any, code: str) -> None:
    """Before anything is held."""

    async def work(flow: Flow) -> str:
        try:
            await flow.admit(request_, api)
        except (BillingError, GatewayError) as error:
            return error.code
        return "admitted"

    flow, found = run(None, work)
    assert found == code
    assert flow.entries("hold") == []


@pytest.mark.parametrize(
    "reported",
    [{"type": "duration", "seconds": 9}, {"type": "tokens", "input_tokens": 0, "output_tokens": 0, "total_tokens": 0}],
    ids=["unpriced", "zero"],
)
def test_a_transcription_whose_usage_cannot_be_billed_costs_the_hold(reported: dict[str, Any]) -> None:
    """Its text says nothing about its seconds, so it is not estimated from the text."""
    answer = Answer([json.dumps({"text": "Hi", "usage": reported}).encode()])

    async def work(flow: Flow) -> None:
        await flow.forward({**FORM, "model": "transcribe-test"}, answer, "transcriptions")

    flow, _ = run(None, work)
    usage, credits = flow.settled()
    assert usage.estimated
    assert credits == flow.held()


def test_a_fast_message_is_charged_in_the_mode_that_was_requested() -> None:
    """Anthropic's ``speed`` is the mode; a model without a price for it is refused before it is sent."""

    async def work(flow: Flow) -> str:
        with pytest.raises(BillingError) as caught:
            await flow.admit({**MESSAGES, "speed": "fast"}, "anthropic")
        return caught.value.code

    assert run(None, work)[1] in ("mode_unavailable", "service_tier_unavailable")


def test_a_message_without_usage_is_estimated() -> None:
    """The text of a stream of Anthropic without counts is counted."""
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}}
    answer = Answer([b"data: " + json.dumps(event).encode() + b"\n\n"], headers=EVENTS)

    async def work(flow: Flow) -> None:
        async for _ in await flow.forward({**MESSAGES, "stream": True}, answer, "anthropic"):
            await asyncio.sleep(0)

    usage, _ = run(None, work)[0].settled()
    assert usage.estimated
    assert usage.output_tokens >= 2
