"""The parts of the gateway without a server: answers for errors of the provider, and the end of a hold."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.gateway import BackgroundTasks, HoldManager, from_provider_error
from brivionix_billing.gateway.stream_filter import UsageChunkFilter

AT = datetime(2026, 10, 20, tzinfo=UTC)
TOKEN = SimpleNamespace(account="acct_1", group="default", id="token-1")
ADMITTED: Any = SimpleNamespace(
    id="req_1", received_at=AT, token=TOKEN, model="alpha", service_tier=None, upstream=None
)
PRICED: Any = SimpleNamespace(charge=SimpleNamespace(credits=Decimal("0.5")), usage={"usage": {"input_tokens": 1}})


class RecordingLedger:
    """Records settlements; ``failures`` are raised by the first ones, in this order."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.posted = list(failures), list[tuple[Any, Any]]()

    def settle(self, id: str, charge: Any, *, at: datetime, usage: Any, upstream: str | None) -> None:
        """Record a settlement, or fail."""
        if self.failures:
            raise self.failures.pop(0)
        self.posted.append((charge, usage))


def settle(ledger: RecordingLedger, *retry_delays: float) -> list[tuple[Any, Any]]:
    """Settle ``PRICED``. Returns what was posted."""

    async def run(function: Any, *args: Any, **options: Any) -> Any:
        return function(*args, **options)

    async def work() -> None:
        threads: Any = SimpleNamespace(run=run)
        stub: Any = ledger
        await HoldManager(stub, threads, BackgroundTasks(), lambda: AT, retry_delays).settle(ADMITTED, PRICED)

    asyncio.run(work())
    return ledger.posted


@pytest.mark.parametrize("code", [["rate_limit"], {"a": 1}, 7, True, None])
def test_a_code_of_the_provider_that_is_no_text_is_replaced(code: Any) -> None:
    """The message still reaches the client."""
    error = from_provider_error(429, json.dumps({"error": {"message": "slow down", "code": code}}).encode())
    assert (error.status, error.code, error.message) == (429, "upstream_error", "slow down")


def test_credits_are_posted_without_a_rejected_usage_even_if_there_are_no_retries() -> None:
    """A journal that rejects the usage gets the same Credits without it; this is not a retry."""
    ledger = RecordingLedger(BillingError("invalid_usage", "the usage cannot be stored"))
    assert settle(ledger) == [(Decimal("0.5"), None)]


@pytest.mark.parametrize(("failures", "posted"), [(2, 1), (3, 0)])
def test_a_settlement_is_tried_once_more_than_there_are_delays(failures: int, posted: int) -> None:
    """Two delays allow three attempts."""
    ledger = RecordingLedger(*[BillingError("ledger_unavailable", "busy")] * failures)
    assert len(settle(ledger, 0, 0)) == posted


@pytest.mark.parametrize("failure", [BillingError("unknown_account", "gone"), RuntimeError("a bug")])
def test_a_charge_that_cannot_be_posted_is_logged_with_all_that_it_needs(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The CRITICAL line has account, model, usage and Credits."""
    with caplog.at_level(logging.CRITICAL, "brivionix_billing.gateway"):
        assert settle(RecordingLedger(failure, failure)) == []
    (line,) = [found.getMessage() for found in caplog.records if found.levelno == logging.CRITICAL]
    record = json.loads(line.partition(": ")[2])
    assert (record["account"], record["model"], record["credits"]) == ("acct_1", "alpha", "0.5")
    assert record["usage"] == PRICED.usage


EVENTS = [b'data: {"choices":[1]}', b": a comment", b"data: a\ndata: b", b"data: a\r\nid: 1"]
USAGE_CHUNK = b'data: {"choices":[],"usage":{}}'


@given(
    st.lists(st.tuples(st.sampled_from([*EVENTS, USAGE_CHUNK]), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\r\n"]))),
    st.lists(st.integers(0, 400)),
)
def test_only_the_usage_chunk_is_dropped_wherever_a_stream_is_cut(
    stream: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    """Each other event is forwarded unchanged and as a whole, with line ends of both kinds."""
    whole = b"".join(event + end for event, end in stream)
    bounds = [0, *sorted(cuts), len(whole)]
    events = UsageChunkFilter()
    fed = [event for start, end in pairwise(bounds) for event in events.feed(whole[start:end])]
    assert fed == [event + end for event, end in stream if event != USAGE_CHUNK]
    assert events.flush() == b""
