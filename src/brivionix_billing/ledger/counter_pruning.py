"""Deletes counters of limits by window that count no more.

A counter is derived from the journal, like every row but those of the journal, and each request adds to one for ever. A
window of an hour makes 8 760 counters a year. A counter is pruned long after its window ended, and then ``verify`` does
not miss it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.limits import CounterRow, LimitRow
from brivionix_billing.ledger.timestamps import parse_timestamp

__all__ = ["is_compared", "prune_counters"]

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_KEPT: Final = timedelta(days=62)
"""Time for which counters are kept after their windows ended."""
_COMPARED: Final = timedelta(days=31)
"""Time for which they are compared. It is shorter, because the clocks of machines may differ."""


def prune_counters(store: Store, account: str, number: int, now: datetime) -> int:
    """Delete the counters of an account that ended long before its last entry, and before now. Returns their number."""
    before = _earlier(min(parse_timestamp(store.last_booked(account, number)), now), _KEPT)
    limits = {row.id: row for row in store.fetch_all(LimitRow, store.sql.of_account[LimitRow], account)}
    ended = [
        (counter.limit, counter.starts)
        for counter in store.fetch_all(CounterRow, store.sql.of_account[CounterRow], account)
        if limits[counter.limit].has_ended(counter.starts, before)
    ]
    return sum(store.execute(store.sql.delete_counter, *key) for key in ended)


def is_compared(limit: LimitRow | None, starts: str, latest: datetime | None) -> bool:
    """Return whether ``verify`` compares a counter. ``latest`` is the time of the last entry of its account.

    An earlier counter may be missing. If it was pruned and a request of its window is settled, it has a part only.
    """
    if limit is None or latest is None:
        return True
    try:
        return not limit.has_ended(starts, _earlier(latest, _COMPARED))
    except (BillingError, ValueError):
        return True  # the start was altered


def _earlier(at: datetime, by: timedelta) -> datetime:
    """Return an earlier instant, but none before the calendar."""
    return at - by if at - _FIRST > by else _FIRST
