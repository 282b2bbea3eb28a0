"""Joins the parts of a log in their order, and finds the rows that repeat earlier ones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Hashable
from decimal import Decimal

from brivionix_billing.decimals import negate
from brivionix_billing.reconcile.gateway.log_part import LogPart, RepeatKeys
from brivionix_billing.reconcile.gateway.log_values import fingerprint
from brivionix_billing.reconcile.result import ResultWriter, Totals
from brivionix_billing.reconcile.rows import State
from brivionix_billing.tabular import CsvLines

__all__ = ["Amend", "PartMerger", "rewrite_row", "split_line"]

Amend = Callable[[LogPart, Collection[int]], None]
"""Changes rows of a part by what is known of the whole log. It is given the indexes of rows that repeat others."""


class PartMerger:
    """Writes the parts of one log."""

    def __init__(
        self, writer: ResultWriter, unit: str, describe: Callable[[RepeatKeys], str], amend: Amend | None = None
    ) -> None:
        """``describe`` returns the explanation of a row that repeats an earlier one with one of these keys."""
        self._writer, self._unit, self._describe, self._amend = writer, unit, describe, amend
        self._requests: set[Hashable] = set()
        self._calls: set[int] = set()
        """Hashes of the calls, which take less memory than what identifies them."""

    def add(self, part: LogPart) -> None:
        """Write a part."""
        repeated = {} if self._is_new(part) else self._find_repeated(part)
        for index, text in repeated.items():
            rewrite_row(part, index, State.DUPLICATE, "duplicate", text)
        if self._amend is not None:
            self._amend(part, repeated)
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


def rewrite_row(part: LogPart, index: int, state: State, cause: str, text: str) -> None:
    """Give a row another state, cause and explanation. A duplicate has no amount of our side."""
    key, old_state, old_cause, theirs, ours, difference, *details, _ = split_line(part.lines[index])
    logged, expected = Decimal(theirs or 0), Decimal(ours or 0)
    part.sums[State(old_state), old_cause].add(-1, negate(logged), negate(expected))
    if state is State.DUPLICATE:
        part.counted.add(0, 0, negate(expected))
        ours, expected, difference = "", Decimal(0), theirs or "0"
    part.sums.setdefault((state, cause), Totals()).add(1, logged, expected)
    line = CsvLines()
    line.add_row([key, state.value, cause, theirs, ours, difference, *details, text])
    part.lines[index] = line[0]


def split_line(line: str) -> list[str]:
    """Return the cells of a line: key, state, cause, theirs, ours, difference, unit, and details."""
    return next(csv.reader([line]))
