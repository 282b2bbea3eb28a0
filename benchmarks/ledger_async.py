"""Hold and settle from an asyncio program, and how late its loop is meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import NamedTuple

from brivionix_billing.ledger import Ledger, LedgerThreadPool
from ledger_pairs import Pairs

__all__ = ["Loop", "asynchronous"]

TICK = 0.005


class Loop(NamedTuple):
    """Pairs a second of each round, and how late a ticker of 5 ms was in all of them."""

    tasks: list[float]
    threads: list[float]
    late: list[float]
    idle: list[float]
    """The same while nothing else is done: what the machine and asyncio do to it."""

    @property
    def ratio(self) -> float:
        return median(ours / plain for ours, plain in zip(self.tasks, self.threads, strict=True))

    def __str__(self) -> str:
        return (
            f"{median(self.tasks):.0f} pairs/s, synchronously {median(self.threads):.0f}; ratio {self.ratio:.2f}; "
            f"a tick of 5 ms comes late by {median(self.late) * 1e3:.2f} ms (median), {max(self.late) * 1e3:.1f} ms "
            f"(worst of {len(self.late)}); idle, {median(self.idle) * 1e3:.2f} and {max(self.idle) * 1e3:.1f} ms"
        )


def asynchronous(ledger: Ledger, pairs: int, rounds: int, workers: int, concurrent: int = 64) -> Loop:
    """Tasks on an account each, through ``workers`` threads, against the same from these threads without asyncio."""
    streams = [Pairs(ledger, f"acct_{index}") for index in range(concurrent)]
    for stream in streams:
        stream.open()
    numbers = [itertools.count() for _ in streams]
    each = pairs // concurrent
    found = Loop([], [], [], [])
    asyncio.run(_ticks(asyncio.sleep(0.5), found.idle))
    for _ in range(rounds):
        work = [(stream, itertools.islice(number, each)) for stream, number in zip(streams, numbers, strict=True)]
        start = time.perf_counter()
        asyncio.run(_ticks(_all(work, workers), found.late))
        found.tasks.append(each * concurrent / (time.perf_counter() - start))
        work = [(stream, itertools.islice(number, each)) for stream, number in zip(streams, numbers, strict=True)]
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(_one, stream, chosen) for stream, chosen in work]:
                done.result()
        found.threads.append(each * concurrent / (time.perf_counter() - start))
    assert ledger.verify() == []
    return found


def _one(stream: Pairs, numbers: Iterator[int]) -> None:
    for number in numbers:
        stream.one(number)


async def _all(work: Sequence[tuple[Pairs, Iterator[int]]], workers: int) -> None:
    threads = LedgerThreadPool(workers)

    async def task(stream: Pairs, numbers: Iterator[int]) -> None:
        for number in numbers:
            args, kwargs = stream.hold_arguments(number)
            await threads.run(stream.ledger.hold, *args, **kwargs)
            args, kwargs = stream.settle_arguments(number)
            await threads.run(stream.ledger.settle, *args, **kwargs)

    await asyncio.gather(*[task(*each) for each in work])
    threads.close()


async def _ticks(what: Awaitable[object], late: list[float]) -> None:
    async def tick() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(TICK)
            late.append(time.perf_counter() - start - TICK)

    ticker = asyncio.create_task(tick())
    await what
    ticker.cancel()
