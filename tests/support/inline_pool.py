"""Pools like that of ``processes.create_pool`` that work in this process, with everything passed as to another one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["InlinePool", "SlowPool"]


class InlinePool:
    """Does all work at once."""

    def __init__(self, _: int, prepare: Callable[..., object] | None = None, values: tuple[Any, ...] = ()) -> None:
        if prepare is not None:
            prepare(*pickle.loads(pickle.dumps(values)))

    def submit(self, run: Callable[..., Any], *values: Any) -> Future[Any]:
        future: Future[Any] = Future()
        _complete(future, pickle.dumps((run, values)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


class SlowPool(InlinePool):
    """Does no work before it is waited for."""

    def submit(self, run: Callable[..., Any], *values: Any) -> Future[Any]:
        return _SlowFuture(pickle.dumps((run, values)))


class _SlowFuture(Future[Any]):
    def __init__(self, packed: bytes) -> None:
        super().__init__()
        self._packed = packed

    def result(self, timeout: float | None = None) -> Any:
        _complete(self, self._packed)
        return super().result(timeout)


def _complete(future: Future[Any], packed: bytes) -> None:
    run, values = pickle.loads(packed)
    try:
        future.set_result(pickle.loads(pickle.dumps(run(*values))))
    except Exception as error:
        future.set_exception(pickle.loads(pickle.dumps(error)))
