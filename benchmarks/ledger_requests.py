"""Times the queries of requests in a ledger with few and with many entries."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Any, Final

from brivionix_billing import Usage
from brivionix_billing.ledger import Ledger
from brivionix_billing.times import Period
from ledger_pairs import BOOK

__all__ = ["request_queries"]

_START: Final = datetime(2026, 10, 1, tzinfo=UTC)
_BODY: Final = {"usage": {"input_tokens": 12_000, "output_tokens": 800, "total_tokens": 12_800}}
_ROUNDS: Final = 15
_TOKENS: Final = ("often", "rare", "never")
_SPACING: Final = timedelta(seconds=8)


def request_queries(pairs: int) -> Iterator[tuple[str, float]]:
    """Fill a ledger with pairs of hold and settle, and yield each query with its median time in milliseconds.

    The token ``rare`` and the model ``gpt-5.4`` have the first 20 requests only, ``never`` has one released hold.
    """
    with _filled(pairs) as ledger:
        now = _START + _SPACING * (pairs + 1)
        hours = Period(now - timedelta(hours=2), now)
        before = Period(_START, _START + _SPACING * (pairs // 2))
        middle = ledger.requests("acct", at=now, period=before).next
        queries: dict[str, Callable[[], Any]] = {
            "newest 100": lambda: ledger.requests("acct", at=now),
            "page in the middle": lambda: ledger.requests("acct", at=now, after=middle),
            "frequent token": lambda: ledger.requests("acct", at=now, token="often"),
            "rare token": lambda: ledger.requests("acct", at=now, token="rare"),
            "token without charges": lambda: ledger.requests("acct", at=now, token="never"),
            "rare model": lambda: ledger.requests("acct", at=now, model="gpt-5.4"),
            "open holds": lambda: ledger.open_holds("acct", at=now),
            "usage of two hours": lambda: ledger.usage("acct", hours, by=("hour", "model", "token")),
            "balance": lambda: ledger.balance("acct", at=now),
        }
        assert len(queries["rare token"]().requests) == len(queries["rare model"]().requests) == 20
        assert len(queries["token without charges"]().requests) == 1
        for name, query in queries.items():
            yield name, _milliseconds(query)


def _milliseconds(query: Callable[[], Any]) -> float:
    times = []
    for _ in range(_ROUNDS):
        begin = perf_counter()
        query()
        times.append(perf_counter() - begin)
    return median(times) * 1000


@contextmanager
def _filled(pairs: int) -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder:
        path = f"{folder}/ledger.db"
        ledger = Ledger.open(f"sqlite:///{path}", BOOK, synchronous="NORMAL")
        ledger.open_account("acct", at=_START)
        ledger.top_up("acct", BOOK.quote("rmb", at=_START, pay="85000"), reference="pi", id="lot", at=_START)
        for token in _TOKENS:
            ledger.create_token("acct", id=token, at=_START, group="default", secret=f"{token:x>30}")
        ledger.hold("acct", "1", id="free", at=_START, token="never")
        ledger.release("free", at=_START)
        usage = Usage.from_response(_BODY)
        for first in range(0, pairs, 500):  # pairs in one transaction, because only the queries are timed
            numbers = range(first, min(first + 500, pairs))
            results = ledger.run_grouped([_pair(ledger, usage, number) for number in numbers])
            assert not any(results), results
        for number in range(5):
            ledger.hold("acct", "1", id=f"open{number}", at=_START + _SPACING * pairs, token="often")
        yield ledger
        ledger.close()


def _pair(ledger: Ledger, usage: Usage, number: int) -> Callable[..., object]:
    at, rare = _START + _SPACING * number, number < 20

    def work(connection: Any) -> None:
        charge = BOOK.rate(usage, model="gpt-5.4" if rare else "gpt-5.4-mini", group="default", at=at)
        ledger.hold("acct", "1", id=f"r{number}", at=at, token="rare" if rare else "often", connection=connection)
        ledger.settle(f"r{number}", charge, usage=_BODY, at=at, connection=connection)

    return work
