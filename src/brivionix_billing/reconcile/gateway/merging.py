"""Joins the parts of a log in their order, and finds the rows that repeat earlier ones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable
from decimal import Decimal
from typing import Any

from brivionix_billing.decimals import negate
from brivionix_billing.reconcile.gateway.log_part import LogPart, RepeatKeys
from brivionix_billing.reconcile.gateway.log_values import fingerprint
from brivionix_billing.reconcile.result import ResultWriter, Totals
from brivionix_billing.reconcile.rows import State
from brivionix_billing.tabular import CsvLines

__all__ = ["PartMerger"]


class PartMerger:
    """Writes the parts of one log."""

    def __init__(self, writer: ResultWriter, unit: str, describe: Callable[[RepeatKeys], str]) -> None:
        """``describe`` returns the explanation of a row that repeats an earlier one with one of these keys."""
        self._writer, self._unit, self._describe = writer, unit, describe
        self._requests: set[Hashable] = set()
        self._calls: set[int] = set()
        """Hashes of the calls, which take less memory than what identifies them."""
        self.events: list[Any] = []
        """What rows that repeat no other say about other rows."""

    def add(self, part: LogPart) -> None:
        """Write a part."""
        repeated = {} if self._is_new(part) else self._find_repeated(part)
        for index, text in repeated.items():
            _mark_duplicate(part, index, text)
        self.events += [event for index, event in part.events if index not in repeated]
        counted, lines = part.counted, "".join(part.lines)
        self._writer.count(self._unit, theirs=counted.theirs, ours=counted.ours)
        for (state, cause), totals in part.sums.items():
            if totals.rows:
                self._writer.add_formatted(lines, state, cause, self._unit, totals.rows, totals.theirs, totals.ours)
                lines = ""

    def find(self, keys: RepeatKeys) -> str:
        """Keep the keys of a row, and return by what it repeats an earlier one; empty if it does not."""
        request, call = keys
        if request is not None:
            if request in self._requests:
                return self._describe(RepeatKeys(request))
            self._requests.add(request)
        if call is not None:
            number = fingerprint(call)
            if number in self._calls:
                return self._describe(RepeatKeys(None, call))
            self._calls.add(number)
        return ""

    def _is_new(self, part: LogPart) -> bool:
        """Keep the keys of all rows and return true, if none of them is repeated."""
        requests = [request for request in part.requests if request is not None]
        calls = [fingerprint(call) for call in part.calls if call is not None]
        new_requests, new_calls = set(requests), set(calls)
        if (len(new_requests), len(new_calls)) != (len(requests), len(calls)):
            return False
        if not (self._requests.isdisjoint(new_requests) and self._calls.isdisjoint(new_calls)):
            return False
        self._requests |= new_requests
        self._calls |= new_calls
        return True

    def _find_repeated(self, part: LogPart) -> dict[int, str]:
        texts = map(self.find, map(RepeatKeys, part.requests, part.calls))
        return {index: text for index, text in enumerate(texts) if text}


def _mark_duplicate(part: LogPart, index: int, text: str) -> None:
    """Turn the line of a row into that of a duplicate, which has no amount of our side."""
    cells = next(csv.reader([part.lines[index]]))
    key, state, cause, theirs, ours, _, *details, _ = cells
    expected = negate(_amount(ours))
    part.sums[State(state), cause].add(-1, negate(_amount(theirs)), expected)
    part.sums.setdefault((State.DUPLICATE, "duplicate"), Totals()).add(1, _amount(theirs), 0)
    part.counted.add(0, 0, expected)
    line = CsvLines()
    line.add_row([key, State.DUPLICATE.value, "duplicate", theirs, "", theirs or "0", *details, text])
    part.lines[index] = line[0]


def _amount(cell: str) -> Decimal:
    return Decimal(cell or 0)
