"""What a gateway logs: enough to find and correct every charge, and never a text of a customer or a model."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import Usage
from brivionix_billing.errors import safe_repr
from brivionix_billing.gateway import GatewayError, GatewayPolicy, NotSentError, loggable
from brivionix_billing.gateway.safe_log import describe_body, without_quotes
from exchange_kit import AT, BOOK, CHAT, EVENTS, Answer, Flow, chat_events, run

SECRET = "Dear Ms Zhang\x1b[31m,\nyour diagnosis"
"""A text that must not be logged, with a control sequence and a second line."""
COUNTS: dict[str, Any] = {"prompt_tokens": 21, "completion_tokens": 13, "total_tokens": 34}
STREAMED = {**CHAT, "stream": True}


def whole(usage: Any, **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": SECRET}}], "usage": usage, **more}).encode()


ANSWERS: dict[str, Any] = {
    "an answer": Answer([whole(COUNTS)]),
    "no usage": Answer([whole(None)]),
    "a negative count": Answer([whole({**COUNTS, "completion_tokens": -1})]),
    "a text for a count": Answer([whole({**COUNTS, "completion_tokens": SECRET})]),
    "texts in the usage": Answer([whole({**COUNTS, SECRET: 5, "note": SECRET})]),
    "a text for a tier": Answer([whole(COUNTS, service_tier=SECRET, model=SECRET)]),
    "more cached than input": Answer([whole({**COUNTS, "prompt_tokens_details": {"cached_tokens": 99}})]),
    "unreadable": Answer([SECRET.encode()]),
    "unknown JSON": Answer([json.dumps({SECRET: SECRET}).encode()]),
    "an error with 200": Answer([json.dumps({"error": {"message": SECRET, "type": SECRET, "code": SECRET}}).encode()]),
    "a page": Answer([b"<html>" + SECRET.encode()]),
    "nothing": Answer([]),
    "a rejection": Answer([json.dumps({"error": {"message": SECRET, "code": SECRET}}).encode()], 401),
    "a text with 502": Answer([SECRET.encode()], 502),
    "cut": Answer([whole(COUNTS)[:40]], error=ConnectionError(SECRET)),
    "not sent": NotSentError(SECRET),
    "a bug": RuntimeError(SECRET),
    "a cut stream": Answer(chat_events([SECRET], COUNTS)[:1], headers=EVENTS, error=ConnectionError(SECRET)),
    "an error in a stream": Answer(
        [b"data: " + json.dumps({"error": {"message": SECRET}}).encode() + b"\n\n"], headers=EVENTS
    ),
    "a stream without usage": Answer(chat_events([SECRET], None), headers=EVENTS),
    "a stream with odd usage": Answer(chat_events([SECRET], {**COUNTS, "total_tokens": SECRET}), headers=EVENTS),
    "events that are not JSON": Answer([f"data: {SECRET!r}\n\n".encode()], headers=EVENTS),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("streamed", [False, True])
def test_no_text_is_logged(answer: Any, streamed: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the provider answers, whether it is charged or not: lines have no words of it, and no control signs."""
    request = {**CHAT, "stream": streamed, "messages": [{"role": "user", "content": SECRET}]}

    async def work(flow: Flow) -> None:
        try:
            found = await flow.forward(request, answer)
        except GatewayError:
            return
        async for _ in found:
            pass

    with caplog.at_level(logging.DEBUG, "brivionix_billing"):
        run(None, work)
    formatter = logging.Formatter()
    for record in caplog.records:
        if record.name.startswith("brivionix_billing"):
            line = formatter.format(record)
            assert not re.search("Zhang|diagnosis|Dear", line), line
            assert line.isprintable(), line


def logged(caplog: pytest.LogCaptureFixture, policy: GatewayPolicy | None, request: Any, answer: Answer) -> list[str]:
    """Return what is logged for one exchange, as LEVEL and message."""

    async def work(flow: Flow) -> None:
        async for _ in await flow.forward(request, answer):
            pass

    with caplog.at_level(logging.INFO, "brivionix_billing"):
        run(policy, work)
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records if record.name[:3] == "bri"]


def test_a_number_that_no_price_is_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the id of the request, its path and its value."""
    lines = logged(caplog, None, CHAT, Answer([whole({**COUNTS, "robot_minutes": 7})]))
    assert lines == ["WARNING req_1: not charged: usage.robot_minutes 7"]


def test_an_oddity_that_changes_no_price_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A total that is off by one is shown, and charged by its parts."""
    (line,) = logged(caplog, None, CHAT, Answer([whole({**COUNTS, "total_tokens": 35})]))
    assert line.startswith("WARNING req_1: ")
    assert "35" in line


@pytest.mark.parametrize(("output", "level"), [(501, "ERROR"), (10_000, "CRITICAL")])
def test_more_than_the_request_allowed_is_logged(output: int, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """A little above the limit is an error, and a charge far above the worst case is an alarm; both are charged."""
    usage = {"prompt_tokens": 21, "completion_tokens": output}
    (line,) = logged(caplog, None, CHAT, Answer([whole(usage)]))
    assert line.startswith(f"{level} req_1: ")
    assert ("ALARM" in line) == (level == "CRITICAL")
    charge = BOOK.rate(Usage.from_response({"usage": usage}), model="gpt-5.4-mini", group="default", at=AT)
    assert level == "ERROR" or f"charged {charge.credits.normalize():f} Credits" in line


def test_a_charge_by_the_policy_names_itself(caplog: pytest.LogCaptureFixture) -> None:
    """The operator sees what was charged, why, and that it may have to be corrected."""
    lines = logged(caplog, None, CHAT, Answer([b"\x00\x00"], headers={}))
    assert lines[0] == "ERROR req_1: 2 bytes arrived of which nothing could be read"
    assert re.fullmatch(r"ERROR req_1: charged [\d.]+ Credits, the worst case; correct it when .*", lines[1])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
        max_leaves=20,
    )
)
def test_what_is_loggable_is_a_line_of_names_and_numbers(value: Any) -> None:
    """Of any JSON data, no text with a space, a sign of a terminal or a letter beyond ASCII is left."""
    text = json.dumps(loggable(value))
    assert re.fullmatch(r"[\w\"\[\]{}:,./@+? -]*", text, re.ASCII), text
    for name in re.findall(r'"([^"]*)"', text):
        assert name == "?" or re.fullmatch(r"[A-Za-z0-9][\w.:/@+-]{0,63}", name, re.ASCII)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_body_can_be_described(body: bytes) -> None:
    """A body of any bytes is described by its size, in one printable line."""
    shown = describe_body(body)
    assert shown.startswith(f"{len(body)} bytes")
    assert shown.isprintable()


@given(
    st.text(), st.integers(0, 80), st.sampled_from([str, str.encode, lambda text: [text], lambda text: {text: [text]}])
)
def test_a_quoted_value_is_left_out_whatever_it_contains(text: str, padding: int, wrap: Any) -> None:
    """Signs of quotation in it, escapes, or a representation that was cut in the middle, end nothing early."""
    value = wrap("-" * padding + "x' ZHANG \"" + text.replace("ZHANG", "") + "\\' ZHANG")
    shown = without_quotes(f"usage.prompt_tokens is {safe_repr(value)}; expected a whole number of the provider's")
    assert "ZHANG" not in shown
    assert shown.startswith(
        ("usage.prompt_tokens is (value)", "usage.prompt_tokens is [(", "usage.prompt_tokens is {(")
    )
