"""The ledger for async gateways: its operations on threads of their own, so that its loop never waits for a disk.

Drivers for asyncio would not make it faster: SQLite's is a thread as well, and with PostgreSQL the time is
the server's.
``benchmarks/ledger.py`` measures it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Self, TypeVar

__all__ = ["LedgerThreadPool"]

P = ParamSpec("P")
T = TypeVar("T")


class LedgerThreadPool:
    """Runs operations of a ledger (or anything else that blocks) on a few threads.

    One thread is right for SQLite, which has one writer at a time; for PostgreSQL as many as its pool has connections.

    An operation that has begun is always finished. If the task that waits for it is cancelled meanwhile (its client
    went away), the cancellation is raised when the operation is done, never in between: what follows, a release, say,
    meets a ledger in which it has happened. A scope of anyio that is cancelled cancels again at every turn of the loop,
    and keeps it busy meanwhile: in a handler of Starlette, let a task of your own do what must be done.

    >>> async def request(ledger, threads, now):
    ...     await threads.run(ledger.hold, "acct_1", "0.9", id="req_1", at=now)
    """

    def __init__(self, workers: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ledger")

    async def run(self, operation: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``operation(*args, **kwargs)``, or what it raises."""
        running = asyncio.wrap_future(self._pool.submit(operation, *args, **kwargs))
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                result = await asyncio.shield(running)
            except asyncio.CancelledError as error:
                if running.cancelled():
                    raise
                cancelled = error  # and wait on
                continue
            except BaseException:
                if cancelled is not None:
                    raise cancelled from None
                raise
            if cancelled is not None:
                raise cancelled
            return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what has begun, and end the threads."""
        self._pool.shutdown()
