"""Threads that count and price. Accounts take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, TypeVar

from brivionix_billing.gateway.limits import gateway_stopping
from brivionix_billing.gateway.turns import Turns

__all__ = ["FairExecutor", "Workers"]

T = TypeVar("T")
_LONG_BYTES: Final = 256 * 1024
"""From this size, work takes up to seconds and has a thread of its own."""


class FairExecutor:
    """Runs work of accounts. If several accounts wait, they take turns, however much each has waiting.

    ``workers`` is the number of threads or processes of the executor.
    """

    def __init__(self, executor: Executor, workers: int) -> None:
        self._executor = executor
        self._turns = Turns(workers)
        self._is_closed = False

    async def run(self, account: str, work: Callable[[], T]) -> T:
        """Return the result of ``work()``, or raise its exception, when it is the account's turn.

        Raises ``gateway_stopping`` if it was closed before that.
        """
        await self._turns.take(account)
        try:
            if self._is_closed:
                raise gateway_stopping()
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._turns.give_back()

    def close(self) -> None:
        """End the executor as soon as the work that runs is done, without waiting for it. What waits is refused."""
        self._is_closed = True
        self._turns.admit_all()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _fair_threads(threads: int, name: str) -> FairExecutor:
    return FairExecutor(ThreadPoolExecutor(threads, thread_name_prefix=name), threads)


class Workers:
    """Threads for short and for long work, so that what is short never waits for what is long."""

    def __init__(self) -> None:
        self._short, self._long = _fair_threads(2, "count"), _fair_threads(1, "count-long")

    async def run(self, account: str, size: int, work: Callable[[], T]) -> T:
        """Return the result of ``work()``, which reads ``size`` bytes, or raise its exception."""
        threads = self._long if size >= _LONG_BYTES else self._short
        return await threads.run(account, work)

    def close(self) -> None:
        """End the threads as soon as their work is done, without waiting for them."""
        self._short.close()
        self._long.close()
