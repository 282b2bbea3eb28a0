"""Reads long requests and answers in a process of its own.

Parsing and counting ten megabytes takes half a second to some seconds, in which Python lets the event loop of the same
process wait again and again. The other process has a lower priority, and dies with this one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from typing import Final, TypeVar

from brivionix_billing.gateway.admission import Api, CounterPool, PreparedRequest, count_request
from brivionix_billing.gateway.limits import overloaded
from brivionix_billing.gateway.workers import FairExecutor, Workers
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.processes import create_pool

__all__ = ["LONG_BYTES", "LongWork", "count_long_request"]

T = TypeVar("T")
_LOG: Final = logging.getLogger("brivionix_billing.gateway")
LONG_BYTES: Final = 256 * 1024
"""From this size, in bytes, a request or an answer is read in the other process."""
_NICENESS: Final = 10


class LongWork:
    """A process that does long work, one piece at a time; accounts take turns. It starts with the first one.

    If no process can be started, threads do the work.
    """

    def __init__(self, book: PriceBook, threads: Workers) -> None:
        self._book, self._threads = book, threads
        self._process: FairExecutor | None = None
        self._has_worked = self._is_unusable = False

    async def run(self, account: str, work: Callable[[], T], in_thread: Callable[[], T] | None = None) -> T:
        """Return the result of ``work()``, or raise its exception. Function, arguments and result must be picklable.

        ``in_thread`` is the same work for a thread, if that differs. Raises ``overloaded`` if the process dies.
        """
        process = None if self._is_unusable else self._process or self._start_process()
        if process is not None:
            try:
                result = await process.run(account, work)
            except BrokenProcessPool:
                if self._process is process:
                    self._process = None
                if self._has_worked:
                    _LOG.error("the process for long requests and answers has died; the next one starts another")
                    raise overloaded() from None
                # Most likely, the main module cannot be imported again.
                _LOG.error("no process can be started for long requests and answers; they delay the others")
                self._is_unusable = True
            else:
                self._has_worked = True
                return result
        return await self._threads.run(account, LONG_BYTES, in_thread or work)

    def _start_process(self) -> FairExecutor | None:
        """Return a new process, or ``None`` if the machine has no room for one now."""
        pool = create_pool(1, _start, (self._book,))
        try:
            pool.submit(os.getpid)  # which starts it
        except (OSError, RuntimeError) as error:
            _LOG.error("no process can be started for a long request or answer: %s", type(error).__name__)
            pool.shutdown(wait=False)
            return None
        self._process = FairExecutor(pool, 1)
        return self._process

    def close(self) -> None:
        """End the process as soon as its work is done, without waiting for it."""
        if self._process is not None:
            self._process.close()


_counters: CounterPool
_book: PriceBook


def _start(book: PriceBook) -> None:
    """Prepare the process."""
    global _counters, _book
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    _book, _counters = book, CounterPool(book)


def count_long_request(body: bytes, api: Api, group: str, at: datetime, max_json_values: int) -> PreparedRequest:
    """Check and count a request, in the other process. Returns it without its long fields."""
    return count_request(body, api, group, at, _book, _counters, max_json_values).without_content()
