"""Starts processes that work for this one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import starmap
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future, ProcessPoolExecutor

__all__ = ["Workers", "create_pool", "running_pool", "running_workers"]

R = TypeVar("R")


def create_pool(
    workers: int, prepare: Callable[..., object] | None = None, values: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """Return a pool of processes. They start with its first work, and call ``prepare(*values)`` before.

    Everything is passed by ``pickle``. The processes import the calling script, so it must keep its own work under
    ``if __name__ == "__main__"``. They ignore Ctrl-C, because this process ends them, and end if this one dies.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # "spawn" starts clean processes: a fork of a process with threads can hang.
    return ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (prepare, values))


@contextmanager
def running_pool(
    workers: int, prepare: Callable[..., object] | None = None, values: tuple[Any, ...] = ()
) -> Iterator[Executor]:
    """Yield a pool like :func:`create_pool`, and end it. After an error, work that has not begun is left out.

    The caller must wait for all work. Then nothing waits for the end of the processes, which takes some time.
    """
    pool = create_pool(workers, prepare, values)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown(wait=False)


class Workers:
    """Processes that share a sequence of tasks. Without any, this process does each when its result is wanted."""

    def __init__(self, pool: Executor | None = None, count: int = 0) -> None:
        self._pool, self.count = pool, count

    def run(self, function: Callable[..., R], tasks: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """Yield the result of each task in order, where a task is the arguments of the function.

        The memory is bounded: at most two more tasks than processes are pending.
        """
        if self._pool is None:
            yield from starmap(function, tasks)
            return
        pending: deque[Future[R]] = deque()
        for task in tasks:
            pending.append(self._pool.submit(function, *task))
            if len(pending) > self.count + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def running_workers(
    count: int, prepare: Callable[..., object] | None = None, values: tuple[Any, ...] = ()
) -> Iterator[Workers]:
    """Yield processes like those of :func:`running_pool`, or none, which this process replaces, if ``count`` is 0."""
    if not count:
        yield Workers()
        return
    with running_pool(count, prepare, values) as pool:
        yield Workers(pool, count)


def _prepare(prepare: Callable[..., object] | None, values: tuple[Any, ...]) -> None:
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*values)


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)
