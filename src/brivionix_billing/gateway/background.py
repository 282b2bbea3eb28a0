"""Tasks of the service that a disconnecting client cannot cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["BackgroundTasks"]

T = TypeVar("T")


class BackgroundTasks:
    """Starts tasks, keeps a reference to each (the event loop alone does not), and waits for all at shutdown."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that belongs to the service. The caller may await it, or be cancelled without cancelling it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Let :meth:`wait_idle` wait for the end of a block that runs in another task."""
        end = asyncio.get_running_loop().create_future()
        self._tasks.add(end)
        try:
            yield
        finally:
            self._tasks.discard(end)
            if not end.done():
                end.set_result(None)

    async def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until no task is left, including tasks that these tasks start; at most ``timeout`` seconds.

        Return whether none is left.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while self._tasks:
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await asyncio.wait(self._tasks, timeout=left)
        return True

    def cancel(self) -> None:
        """Cancel every task that is left."""
        for task in list(self._tasks):
            task.cancel()
