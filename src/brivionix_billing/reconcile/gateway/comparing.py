"""Compares the rows of a gateway's log with the price file, in the order of the log: the part common to all gateways.

Nearly all rows of a log repeat the prices of earlier ones. A row with prices that were found right is only multiplied
and compared. All others are checked in full, which takes ten times as long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any, Final, Protocol

from brivionix_billing.decimals import sum_amounts
from brivionix_billing.reconcile.gateway.reading import RawRow
from brivionix_billing.reconcile.result import ResultWriter
from brivionix_billing.reconcile.rows import Row, State
from brivionix_billing.tabular import format_csv

__all__ = ["UNUSUAL", "Gateway", "MatchedLines", "compare_rows", "parse_fast", "plain_text", "scan_json"]

_LINES: Final = 2_000
_scan_json: Final[Callable[[Any, int], tuple[Any, int]]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_is_plain_key: Final = re.compile(r"[0-9A-Za-z][\w.:-]*", re.ASCII).fullmatch


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
    """What is special about the log of one gateway."""

    unit: str
    """The unit of the amounts."""

    def read(self, raw: RawRow) -> Mapping[str, Any]:
        """Return a row, with the numbers of cells of CSV as JSON has them. Raises ``file_unreadable``."""

    def logged(self, row: Mapping[str, Any]) -> Decimal | int:
        """Return the amount of a row, as it counts in the total of the log."""

    def match(self, row: dict[str, Any], lines: MatchedLines) -> bool:
        """Add the line of a row that known prices show to be right, and return whether it is one.

        An unusual row may raise any of the errors of :data:`UNUSUAL`, before anything of it is kept.
        """

    def check(self, row: Mapping[str, Any]) -> Row | None:
        """Check a row in full; ``None``: it has to wait for the end of the log."""

    def remember(self, row: Mapping[str, Any], found: Row) -> None:
        """Keep the prices of a row that was found right."""

    def check_waiting(self) -> Iterator[tuple[Mapping[str, Any], Row]]:
        """Check the rows that had to wait."""


UNUSUAL: Final = (KeyError, TypeError, ValueError, AttributeError, StopIteration, RecursionError, ArithmeticError)
"""Errors of rows with missing keys or unusual values, which are checked in full."""


def compare_rows(rows: Iterable[RawRow], gateway: Gateway, writer: ResultWriter) -> None:
    """Write the result of every row: those that match by known prices as text, all others after a full check."""
    lines = MatchedLines(writer, gateway.unit)
    match = gateway.match
    for raw in rows:
        try:
            if match(parse_fast(raw) if type(raw) is str else dict(gateway.read(raw)), lines):
                continue
        except UNUSUAL:
            pass
        lines.flush()
        full = gateway.read(raw)
        found = gateway.check(full)
        if found is not None:
            _write(writer, gateway, full, found)
            if found.state is State.MATCHED:
                gateway.remember(full, found)
    lines.flush()
    for full, found in gateway.check_waiting():
        _write(writer, gateway, full, found)


def _write(writer: ResultWriter, gateway: Gateway, row: Mapping[str, Any], found: Row) -> None:
    writer.count(gateway.unit, theirs=gateway.logged(row), ours=_whole(found.ours))
    writer.add(found)


def _whole(amount: Decimal | None) -> Decimal | int:
    """Return an amount as an integer, which is added faster, if it is one."""
    if amount is None:
        return 0
    return int(amount) if amount == amount.to_integral_value() else amount


class MatchedLines:
    """Lines of CSV for rows that match, which are not made into objects."""

    def __init__(self, writer: ResultWriter, unit: str) -> None:
        self._writer, self._unit = writer, unit
        self._lines: list[str] = []
        self._amounts: dict[str, tuple[list[Decimal | int], list[Decimal | int]]] = {}
        """By cause, the amounts of their side and of ours."""

    def add(
        self,
        key: str,
        cause: str,
        amounts: tuple[Decimal | int, Decimal | int],
        texts: str,
        details: str,
    ) -> None:
        """Add a row: its key, its amounts (theirs, ours), the cells of both and of the difference, and the details.

        Raises ``ValueError`` for a key that has to be quoted.
        """
        if not _is_plain_key(key):
            raise ValueError("the key of the row is unusual")
        theirs, ours = amounts
        try:
            sums = self._amounts[cause]
        except KeyError:
            sums = self._amounts[cause] = [], []
        sums[0].append(theirs)
        sums[1].append(ours)
        self._lines.append(f"{key},matched,{cause},{texts},{self._unit},{details}\n")
        if len(self._lines) >= _LINES:
            self.flush()

    def flush(self) -> None:
        """Write the lines."""
        if not self._lines:
            return
        text = "".join(self._lines)
        for cause, (theirs, ours) in self._amounts.items():
            rows, total, expected = len(theirs), _sum(theirs), _sum(ours)
            self._writer.count(self._unit, theirs=total, ours=expected)
            self._writer.add_formatted(text, State.MATCHED, cause, self._unit, rows, total, expected)
            text = ""
        self._amounts.clear()
        self._lines.clear()


def _sum(amounts: Sequence[Decimal | int]) -> Decimal | int:
    """Return the exact sum of amounts of one type."""
    if type(amounts[0]) is int:
        return sum(amounts)
    return sum_amounts(amounts)  # type: ignore[arg-type]  # all are Decimal


def plain_text(text: str) -> str:
    """Return a text as a cell of CSV. Raises ``TypeError`` for another type."""
    if type(text) is not str:
        raise TypeError("the cell is no text")
    return format_csv([{"": text}]).split("\n", 1)[1].rstrip("\n") if text else ""  # alone in its row, it is quoted
