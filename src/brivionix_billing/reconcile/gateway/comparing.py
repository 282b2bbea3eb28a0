"""Compares the rows of a gateway's log with the price file, in the order of the log: the part common to all gateways.

Nearly all rows of a log repeat the prices of earlier ones. A row with prices that were found right is only multiplied
and compared. All others are checked in full, which takes ten times as long.

Parts of a log are compared without regard to each other, so several processes can do it. What earlier rows decide is
found when the parts are joined, in the order of the log.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from brivionix_billing.processes import Workers, running_pool
from brivionix_billing.reconcile.gateway.log_part import LogPart, PartBuilder
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow, read_range
from brivionix_billing.reconcile.rows import Columns

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["UNUSUAL", "Gateway", "comparing_log", "parse_fast", "scan_json"]

_ROWS: Final = 2_000
"""Rows that are compared together."""
_BYTES: Final = 2 * 1024 * 1024
"""The size of what a process reads and compares at once."""
_scan_json: Final[Callable[[Any, int], tuple[Any, int]]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def scan_json(text: Any) -> Any:
    """Return the value of JSON without white space before it, faster than ``json.loads``. Raises as it does."""
    value, end = _scan_json(text, 0)
    if text[end:].strip(" \t\r\n"):
        raise ValueError("something follows the JSON value")
    return value


def _fastest_parser() -> Callable[[Any], Any]:
    """Return a parser of JSON for rows that known prices confirm: msgspec if it is installed, else the scanner of json.

    Both are faster than ``json.loads``, and give equal values for every text that they accept: exact integers, and the
    nearest double of other numbers. They may reject other texts, such as ``NaN``, with ``ValueError``. Then
    ``json.loads`` decides.
    """
    try:
        return import_module("msgspec.json").Decoder().decode  # type: ignore[no-any-return]
    except ImportError:
        return scan_json


parse_fast: Final = _fastest_parser()


class Gateway(Protocol):
    """What is special about the log of one gateway. It knows prices that were found right, but no other rows."""

    @property
    def unit(self) -> str:
        """The unit of the amounts."""

    @property
    def columns(self) -> Columns:
        """The columns of the result."""

    def read(self, raw: RawRow) -> Mapping[str, Any]:
        """Return a row, with the numbers of cells of CSV as JSON has them. Raises ``file_unreadable``."""

    def match(self, row: dict[str, Any], part: PartBuilder) -> bool:
        """Add a row that known prices show to be right, and return whether it is one.

        An unusual row may raise any of the errors of :data:`UNUSUAL`, before anything of it is kept.
        """

    def check(self, row: Mapping[str, Any], part: PartBuilder) -> None:
        """Check a row in full, add it, and keep its prices if it is right."""


UNUSUAL: Final = (KeyError, TypeError, ValueError, AttributeError, StopIteration, RecursionError, ArithmeticError)
"""Errors of rows with missing keys or unusual values, which are checked in full."""


Compare = Callable[[Callable[[], Gateway]], Iterator[LogPart]]
"""Begins to compare a log, with a new gateway for each process, and returns an iterator of its parts in order."""


@contextmanager
def comparing_log(source: LogSource, workers: int) -> Iterator[Compare]:
    """Yield a function that compares a log.

    ``workers`` is a number of processes that do it, if the log is a file of lines; with 0, this process does. They
    start at once, which takes some time.
    """
    if not workers or source.path is None:
        yield lambda make_gateway: _compare_here(source.rows(), make_gateway())
        return
    with running_pool(workers) as pool:
        for _ in range(workers):
            pool.submit(_start_worker)
        yield partial(_compare_there, source, source.path, pool, workers)


def _compare_here(rows: Iterator[RawRow], gateway: Gateway) -> Iterator[LogPart]:
    while part := list(islice(rows, _ROWS)):
        yield _compare_rows(part, gateway)


def _compare_there(
    source: LogSource, path: str, pool: Executor, workers: int, make_gateway: Callable[[], Gateway]
) -> Iterator[LogPart]:
    compare = partial(_compare_range, path, pickle.dumps(make_gateway))
    return Workers(pool, workers).run(compare, source.ranges(_BYTES))


def _compare_rows(rows: Iterable[RawRow], gateway: Gateway) -> LogPart:
    """Return the result of rows: those that match by known prices as text, all others after a full check."""
    part = PartBuilder(gateway.columns, gateway.unit)
    match = gateway.match
    for raw in rows:
        try:
            if match(parse_fast(raw) if type(raw) is str else dict(gateway.read(raw)), part):
                continue
        except UNUSUAL:
            pass
        gateway.check(gateway.read(raw), part)
    return part.finish()


_gateway: tuple[bytes, Gateway] | None = None
"""What a worker process compares rows with, and what it was made from."""


def _start_worker() -> None:
    """Do nothing: a process has imported this module before."""


def _compare_range(path: str, make_gateway: bytes, start: int, end: int) -> LogPart:
    global _gateway
    if _gateway is None or _gateway[0] != make_gateway:
        _gateway = make_gateway, pickle.loads(make_gateway)()  # noqa: S301  # it comes from the process that started this one
    return _compare_rows(read_range(path, start, end), _gateway[1])
