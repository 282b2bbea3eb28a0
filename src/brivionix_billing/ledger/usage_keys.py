"""Keys by which usage is summed: hour, day and month in a time zone, model, token, member and group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.projections import UsageRow
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.times import CalendarDays, load_zone

__all__ = ["USAGE_KEYS", "UsageKeys"]

USAGE_KEYS: Final = ("hour", "day", "month", "model", "token", "member", "group")


class UsageKeys:
    """Computes the values of some keys. Raises ``invalid_argument`` for an unknown key, a repeated one, or none."""

    __slots__ = ("_days", "_names", "_times", "_zone")

    def __init__(self, names: Sequence[str], zone: str) -> None:
        unknown = next((name for name in names if name not in USAGE_KEYS), None)
        if unknown is not None and not isinstance(names, str):
            raise BillingError(
                "invalid_argument",
                f"{safe_repr(unknown)} is not a key of usage; use {', '.join(USAGE_KEYS)}",
                near=(unknown, USAGE_KEYS),
            )
        if isinstance(names, str) or not names or len({*names}) != len(names):
            raise BillingError(
                "invalid_argument", f"by is {safe_repr(names)}; use different ones of {', '.join(USAGE_KEYS)}"
            )
        self._names = names
        self._days, self._zone = CalendarDays(zone), load_zone(zone)
        self._times: dict[str, tuple[str, ...]] = {}

    def of_row(self, row: UsageRow, group: str) -> tuple[str, ...]:
        """Return the values of the keys, in their order. ``group`` is the group of the usage."""
        times = self._times.get(row.quarter_hour)
        if times is None:
            when = parse_timestamp(f"{row.quarter_hour}:00Z")
            times = tuple(_TIME_KEYS[name](self, when) for name in self._names if name in _TIME_KEYS)
            self._times[row.quarter_hour] = times
        others = {"model": row.model, "token": row.token, "member": row.member, "group": group}
        left = iter(times)
        return tuple(others[name] if name in others else next(left) for name in self._names)

    def _hour(self, when: datetime) -> str:
        """Return the start of the local hour. An hour that clocks repeat has two offsets."""
        try:
            local = when.astimezone(self._zone)
        except OverflowError:  # outside the calendar in this zone
            local = when.astimezone(UTC)
        return local.replace(minute=0).isoformat(timespec="minutes")

    def _day(self, when: datetime) -> str:
        return self._days.at(when).value


_TIME_KEYS: Final[dict[str, Callable[[UsageKeys, datetime], str]]] = {
    "hour": UsageKeys._hour,
    "day": UsageKeys._day,
    "month": lambda keys, when: keys._day(when)[:7],
}
"""Key -> its value at the start of a quarter of an hour."""
