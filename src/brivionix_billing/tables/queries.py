"""Long queries of DuckDB that Ctrl-C ends, and whose progress is reported."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar, cast

from brivionix_billing.tables.columns import SourcePosition

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

__all__ = ["Queries", "WorkProgress"]

T = TypeVar("T")
_INTERVAL: Final = 0.2
"""Seconds between two reports."""


class WorkProgress:
    """The part of some work that is done, in parts of any unit. Reports it as lines that were read."""

    def __init__(self, position: SourcePosition, lines: int, report: Callable[[int, int], None] | None) -> None:
        self._position, self._lines, self._report = position, lines, report
        self.total = 0
        """All parts of the work, as far as they are known."""
        self._done = 0

    @property
    def is_shown(self) -> bool:
        """Whether anyone gets the reports."""
        return self._report is not None

    def add(self, parts: int) -> None:
        """Report parts as done."""
        self._done += parts
        self.show(0)

    def finish(self) -> None:
        """Report all parts as done."""
        self.add(self.total - self._done)

    def show(self, parts: int) -> None:
        """Report the parts that are done, and ``parts`` of the present step."""
        if self._report is None or not self.total:
            return
        done = min(self._done + parts, self.total)
        self._position.total, self._position.done, self._position.size = self.total, done, 0
        self._report(self._lines * done // self.total, 0)


class Queries:
    """Runs the queries of a connection in a thread of their own.

    In the main thread, DuckDB would notice Ctrl-C late, and raise another error than ``KeyboardInterrupt``.
    """

    _end: Final = object()

    def __init__(self, connection: Connection, progress: WorkProgress | None = None) -> None:
        self._connection, self._progress = connection, progress
        if progress is not None and progress.is_shown:
            connection.execute("SET enable_progress_bar = true")
            connection.execute("SET enable_progress_bar_print = false")

    def run(self, call: Callable[[], T], parts: int = 0, meanwhile: Callable[[], object] | None = None) -> T:
        """Return the result of a function that queries. It is ``parts`` of the work, see :class:`WorkProgress`.

        ``meanwhile`` is called in this thread, and must not use the connection.
        """
        outcome: Future[T] = Future()
        thread = Thread(target=_complete, args=(outcome, call), daemon=True)
        thread.start()
        try:
            if meanwhile is not None:
                meanwhile()
            while wait([outcome], _INTERVAL).not_done:
                if self._progress is not None and parts:
                    percent = max(self._connection.query_progress(), 0.0)
                    self._progress.show(int(parts * percent / 100))
        except BaseException:
            while thread.is_alive():  # an interrupt just before a query starts does not end it
                self._connection.interrupt()
                thread.join(_INTERVAL)
            raise
        if self._progress is not None and parts:
            self._progress.add(parts)
        return outcome.result()

    def iterate(self, items: Iterator[T], ahead: int) -> Generator[T]:
        """Yield items, which query. Up to ``ahead`` of them are computed while the caller uses an earlier one.

        A caller that may raise an error must close it.
        """
        with ThreadPoolExecutor(1) as pool:
            pending = deque(pool.submit(next, items, self._end) for _ in range(ahead))
            try:
                while True:
                    while wait([pending[0]], _INTERVAL).not_done:
                        pass  # an endless wait would not notice Ctrl-C on Windows
                    item = pending.popleft().result()
                    if item is self._end:
                        return
                    pending.append(pool.submit(next, items, self._end))
                    yield cast("T", item)
            finally:
                running = [outcome for outcome in pending if not outcome.cancel()]
                while wait(running, _INTERVAL).not_done:
                    self._connection.interrupt()


def _complete(outcome: Future[T], call: Callable[[], T]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:
        outcome.set_exception(error)
