"""Writes the bills of a run, in this process and in others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.cli.render import PageWriter
from brivionix_billing.invoice.files import write_bill
from brivionix_billing.processes import running_pool

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["Bill", "writing_bills"]

_PROCESS_BILLS: Final = 100
"""Bills that this process can write while another one starts."""
_BATCH_BILLS: Final = 4
"""Bills that are passed to a process together."""


class Bill(NamedTuple):
    """A sealed document, and where its files belong."""

    folder: Path
    document: Mapping[str, Any]
    records: Path | None
    """The list of records, which is moved."""


@contextmanager
def writing_bills(pages: PageWriter, count: int, workers: int) -> Iterator[Callable[[Bill], None]]:
    """Yield a function that writes a bill. All of about ``count`` bills are written at the end of the block.

    ``workers`` is the maximum number of processes that write, this one included. The bytes do not depend on it, nor
    does the error: it is that of the first bill that has one.
    """
    others = min(workers - 1, count // _PROCESS_BILLS)
    if others < 1:
        yield lambda bill: _write_bills(pages, [bill])
        return
    with running_pool(others) as pool:
        sharing = _SharedWork(pages, pool, others)
        try:
            yield sharing.add
            sharing.write_rest()
            sharing.wait()
        except Exception:
            sharing.wait()
            sharing.write_rest()
            raise


def _write_bills(pages: PageWriter, bills: Sequence[Bill]) -> None:
    for bill in bills:
        write_bill(bill.folder, bill.document, bill.records, pages.render(bill.document), **pages.text)


class _SharedWork:
    """Writes a bill here if all other processes are busy."""

    def __init__(self, pages: PageWriter, pool: Executor, workers: int) -> None:
        self._pages, self._pool, self._workers = pages, pool, workers
        self._bills: list[Bill] = []
        """The bills of the next batch."""
        self._pending: deque[Future[None]] = deque()
        """The batches of other processes, in the order of their bills."""

    def add(self, bill: Bill) -> None:
        """Write a bill now or later. Raises the error of this bill or of an earlier one."""
        self._bills.append(bill)
        if len(self._bills) < _BATCH_BILLS:
            return
        while self._pending and self._pending[0].done():
            self._wait_for_first()
        # One batch more than processes: none of them waits for the next one.
        if sum(not each.done() for each in self._pending) > self._workers:
            self.write_rest()
        else:
            self._pending.append(self._pool.submit(_write_bills, self._pages, self._bills))
            self._bills = []

    def write_rest(self) -> None:
        """Write the bills of the next batch here."""
        bills, self._bills = self._bills, []
        _write_bills(self._pages, bills)

    def wait(self) -> None:
        """Wait for the batches of other processes. Raises their first error."""
        while self._pending:
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        try:
            self._pending.popleft().result()
        except BaseException:
            self._bills = []  # all of them, and all that is pending, are later than the error
            self._pending.clear()
            raise
