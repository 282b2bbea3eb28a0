"""Counts long requests in a process of its own.

Parsing and counting ten megabytes takes about half a second, in which Python lets the event loop of the same process
wait again and again. The other process has a lower priority, and dies with this one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from functools import partial
from typing import Final

from brivionix_billing.gateway.admission import Api, CounterPool, PreparedRequest, count_request
from brivionix_billing.gateway.limits import overloaded
from brivionix_billing.gateway.workers import FairExecutor
from brivionix_billing.pricebook import PriceBook

__all__ = ["LONG_REQUEST_BYTES", "LongRequests"]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")
LONG_REQUEST_BYTES: Final = 256 * 1024
"""From this size, in bytes, a request is counted in the other process."""
_NICENESS: Final = 10


class LongRequests:
    """A process that counts long requests, one at a time; accounts take turns. It starts with the first one."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._process: FairExecutor | None = None
        self._has_counted = self._is_unusable = False

    def count_waiting(self, account: str) -> int:
        """Return how many requests of an account wait to be counted."""
        return 0 if self._process is None else self._process.count_waiting(account)

    async def count(
        self, account: str, body: bytes, api: Api, group: str, at: datetime, max_json_values: int
    ) -> PreparedRequest | None:
        """Return a request without its long fields, or ``None`` if no other process can be started.

        Raises what ``prepare_request`` raises, and ``overloaded`` if the process dies.
        """
        if self._is_unusable:
            return None
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(self._book,))
            self._process = FairExecutor(pool, 1)
        process = self._process
        try:
            return await process.run(account, partial(_count, body, api, group, at, max_json_values))
        except BrokenProcessPool:
            if self._process is process:
                self._process = None
            if self._has_counted:
                _LOG.error("the process that counts long requests has died; the next one starts another")
                raise overloaded() from None
            # Most likely a main module that cannot be imported again.
            _LOG.error("no process can be started for long requests; they are counted in a thread, and delay others")
            self._is_unusable = True
            return None
        finally:
            self._has_counted |= self._process is process

    def close(self) -> None:
        """End the process as soon as its work is done, without waiting for it."""
        if self._process is not None:
            self._process.close()


_counters: CounterPool
_book: PriceBook


def _start(book: PriceBook) -> None:
    """Prepare the process."""
    global _counters, _book
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the service, which then ends this process
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _book, _counters = book, CounterPool(book)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)


def _count(body: bytes, api: Api, group: str, at: datetime, max_json_values: int) -> PreparedRequest:
    return count_request(body, api, group, at, _book, _counters, max_json_values).without_content()
