"""What was found about consecutive rows of a log, each by itself: their lines of CSV, their sums, and what repeats."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import sum_amounts
from brivionix_billing.reconcile.result import Totals, row_cells
from brivionix_billing.reconcile.rows import Columns, Row, State
from brivionix_billing.tabular import CsvLines, format_csv

__all__ = ["NO_KEYS", "LogPart", "PartBuilder", "RepeatKeys", "plain_text"]

_is_plain_cell: Final = re.compile(r"[0-9A-Za-z][\w.:/@ -]*", re.ASCII).fullmatch
_is_plain_key: Final = re.compile(r"[0-9A-Za-z][\w.:-]*", re.ASCII).fullmatch


class RepeatKeys(NamedTuple):
    """What a row has in common with a row that repeats it. ``None`` is never repeated."""

    request: Hashable = None
    """The id of the request."""
    call: tuple[object, ...] | None = None
    """What identifies the call without its id."""


NO_KEYS: Final = RepeatKeys()


class LogPart(NamedTuple):
    """The result of consecutive rows, as if no earlier row were repeated or refunded.

    It has texts, numbers and lists only, so that it passes quickly from a process to another.
    """

    lines: list[str]
    """The line of each row; empty for a row that is decided at the end of the log."""
    requests: list[Hashable]
    calls: list[tuple[object, ...] | None]
    """The :class:`RepeatKeys` of each row, in two lists."""
    sums: dict[tuple[State, str], Totals]
    """By state and cause."""
    counted: Totals
    """The amounts as they were read."""
    events: list[tuple[int, Any]]
    """Index of a row, and what it says about other rows."""


class PartBuilder:
    """Collects the results of consecutive rows."""

    def __init__(self, columns: Columns, unit: str) -> None:
        self._columns, self._unit = columns, unit
        self._formatter = CsvLines()
        self._amounts: dict[str, list[tuple[Decimal | int, Decimal | int]]] = {}
        """By cause, the amounts of rows that match by known prices: theirs and ours."""
        self._part = part = LogPart([], [], [], {}, Totals(), [])
        self._add_line, self._add_request, self._add_call = part.lines.append, part.requests.append, part.calls.append

    def add_matched(
        self,
        request: str,
        call: tuple[object, ...] | None,
        cause: str,
        amounts: tuple[Decimal | int, Decimal | int],
        texts: str,
        details: str,
    ) -> None:
        """Add a row that matches, without making it an object: its amounts (theirs, ours), and its cells.

        ``texts`` are the cells of both amounts and of the difference. Raises ``ValueError`` for an id that has to be
        quoted, and ``TypeError`` for one that is no text.
        """
        if not _is_plain_key(request):
            raise ValueError("the key of the row is unusual")
        try:
            self._amounts[cause].append(amounts)
        except KeyError:
            self._amounts[cause] = [amounts]
        self._add_line(f"{request},matched,{cause},{texts},{self._unit},{details}\n")
        self._add_request(request)
        self._add_call(call)

    def add(self, row: Row, logged: Decimal | int, keys: RepeatKeys = NO_KEYS) -> None:
        """Add a row with the amount that was read."""
        self._formatter.add_row(row_cells(row, self._columns))
        self._add_line(self._formatter.pop())
        self._add_request(keys.request)
        self._add_call(keys.call)
        ours = _whole(row.ours)
        self._part.sums.setdefault((row.state, row.cause), Totals()).add(1, _whole(row.theirs), ours)
        self._part.counted.add(1, logged, ours)

    def add_later(self, event: object) -> None:
        """Add a row that is decided at the end of the log, by an event."""
        self._add_line("")
        self._add_request(None)
        self._add_call(None)
        self.add_event(event)

    def add_event(self, event: object) -> None:
        """Add what the last row says about other rows. It is void if the row repeats another."""
        self._part.events.append((len(self._part.lines) - 1, event))

    def finish(self) -> LogPart:
        """Return the part."""
        for cause, amounts in self._amounts.items():
            theirs, ours = zip(*amounts, strict=True)
            totals = len(theirs), _sum(theirs), _sum(ours)
            self._part.sums.setdefault((State.MATCHED, cause), Totals()).add(*totals)
            self._part.counted.add(*totals)
        return self._part


def _whole(amount: Decimal | None) -> Decimal | int:
    """Return an amount as an integer, which is added faster, if it is one."""
    if amount is None:
        return 0
    return int(amount) if amount == amount.to_integral_value() else amount


def _sum(amounts: Sequence[Decimal | int]) -> Decimal | int:
    """Return the exact sum of amounts of one type."""
    if type(amounts[0]) is int:
        return sum(amounts)
    return sum_amounts(amounts)  # type: ignore[arg-type]  # all are Decimal


def plain_text(text: str) -> str:
    """Return a text as a cell of CSV. Raises ``TypeError`` for another type."""
    if type(text) is not str:
        raise TypeError("the cell is no text")
    if _is_plain_cell(text):
        return text
    return format_csv([{"": text}]).split("\n", 1)[1].rstrip("\n") if text else ""  # alone in its row, it is quoted
