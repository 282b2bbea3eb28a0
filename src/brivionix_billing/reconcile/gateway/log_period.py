"""Limits a log to a period: a log or a table often has more than the month that is compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow
from brivionix_billing.reconcile.result import Result
from brivionix_billing.times import Period, format_instant

__all__ = ["LogPeriod", "litellm_time", "new_api_time"]

_MIN_UNIX_SECONDS: Final = 0
_MAX_UNIX_SECONDS: Final = 253_402_300_799
"""The end of the year 9999."""


class _Outside(NamedTuple):
    """How many rows are not in the period, and their first and last day in UTC."""

    rows: int
    first: str
    last: str


@dataclass(slots=True)
class LogPeriod:
    """The rows of a log in a period. All others are counted, and are as if the log did not have them.

    A row without a readable time is compared: only a known time shows that it belongs to another period.
    """

    period: Period
    time_of: Callable[[Mapping[str, Any]], datetime | None]
    """The time of a row; ``None`` if it has none."""
    _outside: _Outside | None = field(default=None)

    def limit(self, source: LogSource) -> LogSource:
        """Return a log that has only the rows in the period."""
        return LogSource(source.input, lambda: self._rows(source), source.place)

    def _rows(self, source: LogSource) -> Iterator[RawRow]:
        rows, first, last = 0, datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
        is_empty = True
        for raw in source.rows():
            at = self._time(raw)
            if at is None or self.period.contains(at):
                is_empty = False
                yield raw
            else:
                rows, first, last = rows + 1, min(first, at), max(last, at)
        # A log is read several times. Only a reading to its end has counted all.
        self._outside = _Outside(rows, format_instant(first)[:10], format_instant(last)[:10])
        if is_empty:
            raise BillingError(
                "invalid_argument",
                f"the log has no row in {self.period}, so nothing can be compared; its days in UTC are from "
                f"{self._outside.first} to {self._outside.last}: name another --period",
            )

    def _time(self, raw: RawRow) -> datetime | None:
        with suppress(ValueError, RecursionError, LookupError, TypeError, AttributeError, OverflowError):
            row = json.loads(raw) if isinstance(raw, str) else raw
            return self.time_of(row)
        return None

    def annotate(self, result: Result, folder: Path) -> Result:
        """Add the period to the rule of a result, and a note about the rows outside of it. Rewrites the summary."""
        rule = replace(result.rule, settings={**result.rule.settings, "period": str(self.period)})
        annotated = replace(result, rule=rule, notes=(*result.notes, *self._notes()))
        annotated.write_summary(folder)
        return annotated

    def _notes(self) -> Iterator[str]:
        outside = self._outside
        if outside is not None and outside.rows:
            yield (
                f"{outside.rows:,} {'row is' if outside.rows == 1 else 'rows are'} not in {self.period}, and not "
                f"compared; their days in UTC are from {outside.first} to {outside.last}."
            )


def new_api_time(row: Mapping[str, Any]) -> datetime | None:
    """Return the time of a row of new-api: ``created_at``, in seconds since 1970."""
    seconds = int(row["created_at"])
    return datetime.fromtimestamp(seconds, UTC) if _MIN_UNIX_SECONDS <= seconds <= _MAX_UNIX_SECONDS else None


def litellm_time(zone: tzinfo) -> Callable[[Mapping[str, Any]], datetime | None]:
    """Return the function for rows of litellm: ``startTime``, in ``zone`` if it has no offset."""

    def time_of(row: Mapping[str, Any]) -> datetime | None:
        found = datetime.fromisoformat(str(row.get("startTime")))
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)

    return time_of
