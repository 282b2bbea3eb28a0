"""The clock of the database, to which the times of callers are compared."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from brivionix_billing.ledger.database.transactions import run_lookup

__all__ = ["database_time"]

_MAX_AGE_SECONDS: Final = 60.0
"""Time after which the clock is read again, in seconds. Meanwhile, the monotonic clock of the machine is used."""
_READINGS: Final[WeakKeyDictionary[Engine, tuple[float, datetime]]] = WeakKeyDictionary()
"""Engine -> monotonic time and time of the database of the last reading."""


def database_time(engine: Engine) -> datetime:
    """Return the current time of the database: of its server, or of this machine for SQLite.

    Raises ``ledger_unavailable``.
    """
    if engine.dialect.name == "sqlite":
        return datetime.now(UTC)
    now = time.monotonic()
    reading = _READINGS.get(engine)
    if reading is None or now - reading[0] > _MAX_AGE_SECONDS:
        reading = _READINGS[engine] = (now, run_lookup(engine, _read).astimezone(UTC))
    return reading[1] + timedelta(seconds=now - reading[0])


def _read(cursor: object) -> datetime:
    cursor.execute("SELECT clock_timestamp()")  # type: ignore[attr-defined]  # a cursor of the driver
    value: datetime = cursor.fetchone()[0]  # type: ignore[attr-defined]
    return value
