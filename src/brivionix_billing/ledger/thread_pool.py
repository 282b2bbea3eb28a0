"""Threads for the ledger, so that the event loop of an async gateway never waits for the database.

Async drivers would not be faster: the SQLite driver for asyncio also uses a thread, and with PostgreSQL most of the
time is spent in the server. ``benchmarks/ledger.py`` measures it.
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
    """A small thread pool that runs operations of a ledger, or any other blocking function.

    Use one thread for SQLite, which has one writer at a time. For PostgreSQL, use as many threads as its pool has
    connections.

    An operation that has started is always finished. If the waiting task is cancelled meanwhile, for example because
    its client disconnected, the cancellation is raised when the operation is done. So whatever follows, such as a
    release, sees its result. A cancelled scope of anyio cancels again at every turn of the loop, and keeps the loop
    busy until then: in a handler of Starlette, run the operation in a task of its own.

    >>> async def request(ledger, threads, now):
    ...     await threads.run(ledger.hold, "acct_1", "0.9", id="req_1", at=now)
    """

    def __init__(self, workers: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ledger")

    async def run(self, operation: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of ``operation(*args, **kwargs)``, or raise its exception."""
        running = asyncio.wrap_future(self._pool.submit(operation, *args, **kwargs))
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                result = await asyncio.shield(running)
            except asyncio.CancelledError as error:
                if running.cancelled():
                    raise
                cancelled = error  # raised when the operation is done
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

    def close(self, *, wait: bool = True) -> None:
        """Finish all operations that have started, and end the threads; without ``wait``, return at once."""
        self._pool.shutdown(wait, cancel_futures=not wait)
