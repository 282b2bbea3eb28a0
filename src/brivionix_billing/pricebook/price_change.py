"""A difference between two price books, and the comparison of values that change over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from brivionix_billing.decimals import Rounding, format_plain, format_scaled, round_quotient, to_scaled
from brivionix_billing.times import END_OF_TIME, Timeline, format_instant

__all__ = ["PriceChange", "Values", "boundaries", "compare_over_time", "percent_change"]

Values = Mapping[tuple[str, ...], Decimal | str]
"""Subject -> a price, a ratio, or another term as text."""


class PriceChange(NamedTuple):
    """A difference between two price books, over a period in which both values stay the same."""

    kind: str
    """``list_price``, ``price_entry``, ``group_price``, ``ratio``, ``access`` (to a model), ``channel``,
    ``channel_entry``, ``volume_discount`` or ``plan``; of settings ``credit``, ``priced_model``, ``unpriced_tokens``,
    ``calendar``, ``meter``, ``route`` and ``upstream``; of what a name means,
    ``name``, ``service_tier`` and ``region``."""
    subject: tuple[str, ...]
    """What changes: the model, the service tier, the context and so on; of terms, first the group."""
    start: datetime
    """Of what has no date, the start of the first price that depends on it."""
    end: datetime
    old: Decimal | str | None
    """``None``: there is no such price or term."""
    new: Decimal | str | None
    groups: tuple[str, ...] = ()
    """Of a list price, the groups that may use the model in that period and pay its list price x their ratio."""

    def as_dict(self) -> dict[str, Any]:
        """Return the change as JSON data. Prices are strings."""
        percent = percent_change(self.old, self.new)
        return {
            "kind": self.kind,
            "subject": list(self.subject),
            "from": format_instant(self.start),
            "until": None if self.end == END_OF_TIME else format_instant(self.end),
            "old": _text(self.old),
            "new": _text(self.new),
            "percent": percent,
            "groups": list(self.groups),
        }


def _text(value: Decimal | str | None) -> str | None:
    return format_plain(value) if isinstance(value, Decimal) else value


def percent_change(old: Decimal | str | None, new: Decimal | str | None) -> str | None:
    """Return the change in per cent with two decimal places, half up; ``None`` if there is no ratio of the two.

    >>> percent_change(Decimal("0.75"), Decimal("0.6"))
    '-20.00'
    """
    if not isinstance(old, Decimal) or not isinstance(new, Decimal) or not old:
        return None
    (before, before_places), (after, after_places) = to_scaled(old), to_scaled(new)
    before, after = before * 10**after_places, after * 10**before_places
    return format_scaled(round_quotient((after - before) * 10_000, before, Rounding.HALF_UP), 2)


def boundaries(timelines: Iterable[Timeline[Any]]) -> list[datetime]:
    """Return every time at which an entry starts or ends, in order."""
    return sorted(
        {moment for timeline in timelines for entry in timeline.entries for moment in (entry.start, entry.end)}
    )


def compare_over_time(
    kind: str, times: list[datetime], old: Callable[[datetime], Values], new: Callable[[datetime], Values]
) -> Iterator[PriceChange]:
    """Yield the differences of two functions of time, each over the longest period in which it stays the same."""
    running: dict[tuple[str, ...], PriceChange] = {}
    for start, end in pairwise([*times, END_OF_TIME]):
        if start == END_OF_TIME:
            break
        before, after = old(start), new(start)
        differing = {
            key: (before.get(key), after.get(key)) for key in {**before, **after} if before.get(key) != after.get(key)
        }
        for key in [key for key, change in running.items() if differing.get(key) != (change.old, change.new)]:
            yield running.pop(key)
        for key, (was, now) in differing.items():
            known = running.get(key)
            running[key] = known._replace(end=end) if known else PriceChange(kind, key, start, end, was, now)
    yield from running.values()
