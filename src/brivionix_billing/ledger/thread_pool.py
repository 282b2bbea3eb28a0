"""Threads for the ledger, so that the event loop of an async gateway never waits for the database.

Async drivers would not be faster: the SQLite driver for asyncio also uses a thread, and with PostgreSQL most of the
time is spent in the server. ``benchmarks/ledger.py`` measures it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, Self, TypeVar

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.ledger import Ledger

__all__ = ["LedgerThreadPool"]

P = ParamSpec("P")
T = TypeVar("T")
_GROUPED: Final = (Ledger.authenticate, Ledger.hold, Ledger.settle, Ledger.release, Ledger.charge)
"""Operations of requests, which may share a transaction."""
_MAX_GROUP: Final = 32
"""Maximum number of operations in a shared transaction. Other processes wait until it ends."""


class LedgerThreadPool:
    """A small thread pool that runs operations of a ledger, or any other blocking function.

    Use one thread for SQLite, which has one writer at a time. For PostgreSQL, use as many threads as its pool has
    connections.

    On SQLite, operations of requests that wait at the same time share a transaction (group commit). Each has its result
    when the transaction is on disk. Each fails by itself.

    An operation that has started is always finished. If the waiting task is cancelled meanwhile, for example because
    its client disconnected, the cancellation is raised when the operation is done. So whatever follows, such as a
    release, sees its result. A cancelled scope of anyio cancels again at every turn of the loop, and keeps the loop
    busy until then: in a handler of Starlette, run the operation in a task of its own.

    >>> async def request(ledger, threads, now):
    ...     await threads.run(ledger.hold, "acct_1", "0.9", id="req_1", at=now)
    """

    def __init__(self, workers: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ledger")
        self._lock = threading.RLock()
        """Guards the fields below."""
        self._waiting: deque[_Call] = deque()
        self._idle_workers = workers
        self._is_closed = False

    async def run(self, operation: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of ``operation(*args, **kwargs)``, or raise its exception."""
        call = _Call(operation, args, kwargs)
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the pool is closed")
            self._waiting.append(call)
        # At the next turn of the loop, so that its other tasks can add their operations to the group. They would also
        # compete with the worker for Python's lock.
        call.loop.call_soon(self._start_worker)
        result: T = await call.outcome()
        return result

    def _start_worker(self) -> None:
        with self._lock:
            if self._waiting and self._idle_workers and not self._is_closed:
                self._idle_workers -= 1
                self._pool.submit(self._work)

    def _work(self) -> None:
        """Run calls until none waits."""
        while calls := self._take():
            _run(calls)
            _deliver(calls)

    def _take(self) -> list[_Call]:
        """Take the next call, and those after it that may share its transaction."""
        with self._lock:
            if not self._waiting:
                self._idle_workers += 1
                return []
            calls = [self._waiting.popleft()]
            ledger = calls[0].sharing_ledger
            while ledger and self._waiting and self._waiting[0].sharing_ledger is ledger and len(calls) < _MAX_GROUP:
                calls.append(self._waiting.popleft())
            return calls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self, *, wait: bool = True) -> None:
        """Finish all operations, and end the threads. Without ``wait``, return at once and cancel what waits."""
        dropped: list[_Call] = []
        with self._lock:
            if wait:
                self._start_worker()
            else:
                dropped += self._waiting
                self._waiting.clear()
            self._is_closed = True
        for call in dropped:
            call.error = asyncio.CancelledError()
        _deliver(dropped)
        self._pool.shutdown(wait)


class _Call:
    """An operation, and the task that waits for its outcome."""

    __slots__ = ("_args", "_is_done", "_kwargs", "_operation", "_waiter", "error", "loop", "result", "sharing_ledger")

    def __init__(self, operation: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._operation, self._args, self._kwargs = operation, args, kwargs
        self.sharing_ledger = None if "connection" in kwargs else _sharing_ledger(operation)
        """The ledger in whose shared transaction the operation may run."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] = self.loop.create_future()
        self._is_done = False

    def __call__(self, **kwargs: Any) -> Any:
        return self._operation(*self._args, **self._kwargs, **kwargs)

    async def outcome(self) -> Any:
        """Return the result, or raise the error. If the task is cancelled meanwhile, raise that when all is done."""
        cancelled: asyncio.CancelledError | None = None
        while not self._is_done:
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
                self._waiter = self.loop.create_future()
        if cancelled is not None:
            raise cancelled
        if self.error is not None:
            raise self.error
        return self.result

    def finish(self) -> None:
        """Wake the task. Call it in the thread of the loop."""
        self._is_done = True
        if not self._waiter.done():
            self._waiter.set_result(None)


def _sharing_ledger(operation: Callable[..., Any]) -> Ledger | None:
    ledger = getattr(operation, "__self__", None)
    if isinstance(ledger, Ledger) and ledger.engine.dialect.name == "sqlite":
        return ledger if getattr(operation, "__func__", None) in _GROUPED else None
    return None


def _run(calls: Sequence[_Call]) -> None:
    """Run calls, and set their outcomes."""
    ledger = calls[0].sharing_ledger
    if ledger is not None and len(calls) > 1:
        try:
            outcomes = ledger.run_grouped(calls)
        except BaseException:
            pass  # one of them failed, or the database: each gets its own outcome below
        else:
            for call, outcome in zip(calls, outcomes, strict=True):
                if isinstance(outcome, BillingError):
                    call.error = outcome
                else:
                    call.result = outcome
            return
    for call in calls:
        try:
            call.result = call()
        except BaseException as error:
            call.error = error


def _deliver(calls: Iterable[_Call]) -> None:
    """Wake the tasks that wait, each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in calls:
        by_loop.setdefault(call.loop, []).append(call)
    for loop, finished in by_loop.items():
        try:
            loop.call_soon_threadsafe(_finish, finished)
        except RuntimeError:
            pass  # the loop is closed: no task waits


def _finish(calls: Iterable[_Call]) -> None:
    for call in calls:
        call.finish()
