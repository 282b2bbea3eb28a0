"""The gateway as OpenAI's own SDK sees it, and what the ledger and the bill say of it afterwards."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from openai import AsyncOpenAI, OpenAI

from brivionix_billing import Usage
from brivionix_billing.cli import main
from brivionix_billing.decimals import sum_exact
from brivionix_billing.invoice import Header, Verifier, aggregate_usage, build_invoice, seal
from brivionix_billing.ledger import Entry
from examples.gateway.recorded_provider import recordings
from gateway_kit import BOOK, CHAT, DAY, MODEL, RESPONSES, TOOLS, Customer, Stack, running
from ledger_kit import schema
from paths import ROOT

T = TypeVar("T")
STREAMS = 200
EVENTS = 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('gateway') / 'ledger.db'}") as found:
        yield found


@pytest.fixture(scope="module")
def on_postgresql(postgres: str) -> Iterator[Stack]:
    with schema(postgres) as url, running(url) as found:
        yield found


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own, without the garbage collector.

    The SDK leaves generators open when a stream says that it is done. The collector might close them on a thread of the
    servers while the loop closes them here, which never happens to a client with a process of its own.
    """
    gc.disable()
    try:
        return asyncio.run(work)
    finally:
        gc.enable()


def options(stack: Stack, customer: Customer, base: str = "/v1") -> dict[str, Any]:
    return {"base_url": stack.url + base, "api_key": customer.secret, "max_retries": 0, "timeout": 30}


def asked(api: str, tools: bool, stream: bool) -> dict[str, Any]:
    body = dict(CHAT if api == "chat" else RESPONSES)
    if tools:
        body["tools"] = TOOLS[api]
    if stream:
        body["stream"] = True
        if api == "chat":
            body["stream_options"] = {"include_usage": True}
    return body


def usage_in(api: str, events: list[Any]) -> Usage:
    """The usage that the SDK's objects of a stream tell."""
    if api == "chat":
        (found,) = (event for event in events if event.usage is not None)
        return Usage.from_response(found)
    (done,) = (event.response for event in events if event.type == "response.completed")
    return Usage.from_response(done)


def by_sdk(client: OpenAI, api: str, body: dict[str, Any]) -> Usage:
    create: Any = client.chat.completions.create if api == "chat" else client.responses.create
    answer = create(**body)
    return usage_in(api, list(answer)) if body.get("stream") else Usage.from_response(answer)


async def by_async_sdk(client: AsyncOpenAI, api: str, body: dict[str, Any]) -> Usage:
    create: Any = client.chat.completions.create if api == "chat" else client.responses.create
    answer = await create(**body)
    if body.get("stream"):
        return usage_in(api, [event async for event in answer])
    return Usage.from_response(answer)


def price(usage: Usage, entry: Entry, group: str = "default") -> Decimal:
    """The price of what the SDK reported, at the time that the journal states."""
    return BOOK.rate(usage, model=MODEL, group=group, at=entry.at).credits


CALLS = [(api, tools, stream) for api in ("chat", "responses") for tools in (False, True) for stream in (False, True)]


@pytest.mark.parametrize("base", ["/v1", ""])
@pytest.mark.parametrize(("api", "tools", "stream"), CALLS)
def test_the_charge_is_the_price_of_what_the_sdk_reported(
    stack: Stack, api: str, tools: bool, stream: bool, base: str
) -> None:
    """Whatever is called, streamed or not, with /v1 or without: the ledger charges the price of the SDK's usage."""
    customer = stack.customer()
    with OpenAI(**options(stack, customer, base)) as client:
        usage = by_sdk(client, api, asked(api, tools, stream))
    (entry,) = stack.booked(customer)
    assert entry.credits == price(usage, entry) > 0
    assert not usage.estimated
    assert Usage.from_response(entry.content["usage"]) == usage
    stack.settled_up(customer)


@pytest.mark.parametrize("group", ["default", "partner", "free-trial"])
def test_the_async_sdk_is_charged_the_price_of_its_group(stack: Stack, group: str) -> None:
    """Four calls at once through the async SDK cost what its usages cost in the token's group."""
    customer = stack.customer(group=group)

    async def all_at_once() -> list[Usage]:
        async with AsyncOpenAI(**options(stack, customer)) as client:
            calls = [by_async_sdk(client, api, asked(api, tools, True)) for api, tools, stream in CALLS if stream]
            return await asyncio.gather(*calls)

    usages = run(all_at_once())
    entries = stack.booked(customer)
    expected = sorted(price(usage, entries[0], group) for usage in usages)
    assert sorted(entry.credits for entry in entries) == expected
    assert (sum(expected) == 0) == (group == "free-trial")
    stack.settled_up(customer)


def test_a_stream_that_nobody_asked_usage_of_shows_none_and_is_charged_exactly(stack: Stack) -> None:
    """Without include_usage the client's chunks all have choices, and the provider's usage is charged all the same."""
    customer = stack.customer()
    with OpenAI(**options(stack, customer)) as client:
        chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    recorded = recordings()["chat", False]["body"]
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        == (recorded["choices"][0]["message"]["content"])
    )
    (entry,) = stack.booked(customer)
    assert entry.credits == price(Usage.from_response(recorded), entry)
    assert "estimated" not in entry.content["usage"]["usage"]


def test_the_service_tier_is_passed_on_and_the_served_one_is_charged(stack: Stack) -> None:
    """The provider gets the tier that was asked for; what it says it served is what is charged."""
    customer = stack.customer()
    with OpenAI(**options(stack, customer)) as client:
        client.chat.completions.create(**CHAT, service_tier="priority", max_completion_tokens=300)
    assert stack.seen[-1]["service_tier"] == "priority"
    (entry,), (hold,) = stack.booked(customer), stack.booked(customer, "hold")
    assert entry.content["service_tier"] == "standard"
    assert Decimal(hold.content["credits"]) > entry.credits * 2


def test_models_are_listed_and_found_as_the_group_has_them(stack: Stack) -> None:
    """models.list() of the SDK gives what the book gives the group, and models.retrieve() one of them."""
    for group in ("default", "mini-only", "coding"):
        with OpenAI(**options(stack, stack.customer(group=group))) as client:
            listed = [model.id for model in client.models.list()]
            assert listed == BOOK.models(group=group, at=DAY.start)
            assert client.models.retrieve(listed[-1]).id == listed[-1]


def used_day(stack: Stack, customer: Customer) -> list[Usage]:
    with OpenAI(**options(stack, customer)) as client:
        return [by_sdk(client, api, asked(api, tools, stream)) for api, tools, stream in CALLS]


def test_the_bill_of_the_day_is_what_the_sdk_reported(stack: Stack, tmp_path: Path) -> None:
    """The ledger's records make a bill that verifies, shows the balance, and sums up the SDK's usages."""
    customer = stack.customer(pay="85")
    usages = used_day(stack, customer)
    entries = stack.booked(customer)
    total = sum_exact(price(usage, entries[0]) for usage in usages)

    statement = stack.ledger.statement(customer.account, DAY)
    moved = sum_exact(movement.credits for movement in statement.movements)
    assert (statement.opening, moved, statement.used, statement.open_holds) == (Decimal(0), Decimal(100), total, 0)
    assert statement.opening + moved - statement.used == statement.closing
    assert statement.closing == stack.ledger.balance(customer.account, at=DAY.end).available

    file = tmp_path / "usage.jsonl"
    records = stack.ledger.records(customer.account, DAY)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with file.open("rb") as lines:
        found = aggregate_usage(lines, BOOK, DAY).accounts[customer.account]
    header = Header(customer.account, DAY, str(DAY), issued=DAY.end, balance=statement.balance(), channel="rmb")
    bill = seal(build_invoice(found, header, BOOK))
    assert Verifier(lambda: file.open("rb"), BOOK).verify(bill).ok
    assert Decimal(bill["totals"]["credits"]) == total
    assert Decimal(bill["balance"]["closing"]) == 100 - total


def test_the_command_line_bills_the_day_and_verifies_it(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`invoice` over the ledger's records writes a bill that `verify` accepts."""
    customer = stack.customer()
    used_day(stack, customer)
    stack.quiet()
    file, prices = tmp_path / "usage.jsonl", str(ROOT / "pricing.yaml")
    records = stack.ledger.records(customer.account, DAY)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    period = f"{DAY.start:%Y-%m-%d}/{DAY.end:%Y-%m-%d}"
    arguments = ["--period", period, "--out", str(tmp_path / "bill"), "--prices", prices]
    assert main(["invoice", str(file), "--account", customer.account, *arguments]) == 0
    assert main(["verify", str(tmp_path / "bill"), "--usage", str(file), "--prices", prices]) == 0
    assert "verified" in capsys.readouterr().out


def test_on_postgresql_the_charges_are_the_same(on_postgresql: Stack) -> None:
    """Calls of all kinds at once, against a real PostgreSQL, cost what the SDK's usages cost."""
    customer = on_postgresql.customer()

    async def all_at_once() -> list[Usage]:
        async with AsyncOpenAI(**options(on_postgresql, customer)) as client:
            return await asyncio.gather(*(by_async_sdk(client, api, asked(api, t, s)) for api, t, s in CALLS * 3))

    usages = run(all_at_once())
    entries = on_postgresql.booked(customer)
    assert sorted(entry.credits for entry in entries) == sorted(price(usage, entries[0]) for usage in usages)
    on_postgresql.settled_up(customer)


def test_two_hundred_streams_at_once_of_which_a_third_are_cut(stack: Stack) -> None:
    """Nothing is lost: each whole stream costs its exact price, each cut one an estimate, and no hold is left over."""
    customer = stack.customer(pay="850000")

    async def one(client: AsyncOpenAI, number: int) -> Usage | None:
        api = ("chat", "responses")[number % 2]
        body = asked(api, False, True)
        create: Any = client.chat.completions.create if api == "chat" else client.responses.create
        if number % 3:
            return await by_async_sdk(client, api, body)
        # The provider says so much and no more, so that what the client has seen is all that there was.
        answer = await create(**body, extra_headers={"x-demo": f"wait={EVENTS}"})
        came, enough = 0, asyncio.Event()

        async def read() -> None:
            nonlocal came
            async for _ in answer:
                came += 1
                if came == EVENTS:
                    enough.set()

        reading = asyncio.create_task(read())
        await enough.wait()
        reading.cancel()
        await asyncio.wait([reading])
        return None

    async def all_of_them() -> list[Usage | None]:
        async with AsyncOpenAI(**options(stack, customer)) as client:
            return await asyncio.gather(*(one(client, number) for number in range(STREAMS)))

    usages = [usage for usage in run(all_of_them()) if usage is not None]
    entries = stack.booked(customer)
    stack.settled_up(customer)
    cut = [entry for entry in entries if Usage.from_response(entry.content["usage"]).estimated]
    whole = [entry for entry in entries if entry not in cut]
    assert (len(entries), len(cut), len(usages)) == (STREAMS, -(-STREAMS // 3), STREAMS - -(-STREAMS // 3))
    assert sorted(entry.credits for entry in whole) == sorted(price(usage, whole[0]) for usage in usages)
    for entry in cut:
        usage = Usage.from_response(entry.content["usage"])
        assert entry.credits == price(usage, entry) > 0
        assert usage.input_tokens < 30
    used = sum_exact(entry.credits for entry in entries)
    assert stack.ledger.balance(customer.account, at=DAY.end).available == 10**6 - used
    (line,) = stack.ledger.usage(customer.account, DAY)
    assert (line.requests, line.estimated, line.credits) == (STREAMS, len(cut), used)
