"""Times as the columns of the ledger hold them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from brivionix_billing.errors import BillingError
from brivionix_billing.times import as_utc

__all__ = ["format_timestamp", "parse_timestamp", "expiry_timestamp"]


def format_timestamp(at: datetime) -> str:
    """A time as columns hold it: UTC, always with microseconds, so that texts sort as their times do."""
    return as_utc(at).isoformat("T", "microseconds")[: -len("+00:00")] + "Z"


def parse_timestamp(text: str) -> datetime:
    """The time of a column."""
    return datetime.fromisoformat(text).astimezone(UTC)


def expiry_timestamp(at: datetime, ttl: timedelta) -> str:
    """``at + ttl`` as a column. Raises ``invalid_argument`` for what is beyond the calendar."""
    try:
        return format_timestamp(as_utc(at) + ttl)
    except OverflowError:
        raise BillingError("invalid_argument", f"a hold of {ttl} ends beyond the calendar") from None
