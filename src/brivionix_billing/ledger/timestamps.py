"""Timestamps as text in the columns and entries of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from brivionix_billing.errors import BillingError
from brivionix_billing.times import as_utc, format_timestamp

__all__ = ["expiry_timestamp", "format_timestamp", "parse_timestamp"]


def parse_timestamp(text: str) -> datetime:
    """Parse the text of a column."""
    value = datetime.fromisoformat(text)
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def expiry_timestamp(at: datetime, ttl: timedelta) -> str:
    """Return ``at + ttl`` as text. Raises ``invalid_argument`` if it is later than the year 9999."""
    try:
        return format_timestamp(as_utc(at) + ttl)
    except OverflowError:
        raise BillingError("invalid_argument", f"ttl is {ttl}: the hold would expire after the year 9999") from None
