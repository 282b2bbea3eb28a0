"""The properties of records by which reports and bills are split, such as the token, a tag or the hour.

Every record has exactly one value of each dimension, which is empty if the record has none. So the parts of a sum add
up to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.times import CalendarDays, load_zone
from brivionix_billing.usage.record_file import Record

__all__ = ["CARD_DIMENSIONS", "RECORD_DIMENSIONS", "SECTION_DIMENSIONS", "Dimensions", "require_dimension"]
__all__ += ["require_section_dimension"]

CARD_DIMENSIONS: Final = ("account", "model", "group", "tier")
"""Dimensions of every usage bucket: its account, and the model, group and service tier that are priced."""
RECORD_DIMENSIONS: Final = ("upstream", "region", "token", "project", "tags", "day", "hour", "month")
"""Dimensions of a record. ``tag:NAME`` is one too: the value of that key of ``tags``."""
SECTION_DIMENSIONS: Final = ("token", "project", "tags", "upstream", "region")
"""Dimensions of a record by which a bill can be split, beside ``tag:NAME``."""
_TAG: Final = "tag:"
_KEPT_KEYS: Final = ("token", "project", "tags")
_SEPARATORS: Final = re.compile("[,;]")
_MAX_LENGTH: Final = 256
"""Maximum length of a value, in characters."""


def require_dimension(name: str) -> str:
    """Return the name of a dimension. Raises ``invalid_argument`` for any other name."""
    if name in CARD_DIMENSIONS or name in RECORD_DIMENSIONS or (name.startswith(_TAG) and name != _TAG):
        return name
    raise BillingError(
        "invalid_argument",
        f"{safe_repr(name)} is not a column to split by; use {', '.join((*CARD_DIMENSIONS, *RECORD_DIMENSIONS))} or "
        "tag:NAME",
        near=(name, (*CARD_DIMENSIONS, *RECORD_DIMENSIONS)),
    )


def require_section_dimension(name: str) -> str:
    """Return the name of a dimension by which a bill can be split. Raises ``invalid_argument`` for any other name."""
    if name in SECTION_DIMENSIONS or (name.startswith(_TAG) and name != _TAG):
        return name
    raise BillingError(
        "invalid_argument",
        f"a bill cannot be split by {safe_repr(name)}; use {', '.join(SECTION_DIMENSIONS)} or tag:NAME",
        near=(name, SECTION_DIMENSIONS),
    )


class Dimensions:
    """Finds the values of a record for some names of :data:`RECORD_DIMENSIONS`; days and hours are those of a zone.

    Raises ``invalid_argument`` for another name, and ``invalid_period`` if the time zone is unknown.
    """

    def __init__(self, names: Sequence[str], zone: str = "UTC") -> None:
        self.names = tuple(map(require_dimension, names))
        self._days = CalendarDays(zone)
        self._zone = load_zone(zone)
        self._times: dict[str, tuple[str, str]] = {}
        """Minute in UTC -> day and hour in the zone."""
        self._reads_line = any(name in _KEPT_KEYS or name.startswith(_TAG) for name in self.names)

    def values(self, record: Record, line: bytes) -> tuple[str, ...]:
        """Return the values of a record that was read from this line."""
        data: Mapping[str, Any] = {}
        if self._reads_line:
            from pydantic_core import from_json

            try:
                data = from_json(line, allow_inf_nan=False)
            except ValueError:  # a line in an unusual form, such as with a byte order mark
                data = loads_strict(line, "the line")
        return tuple(self._value(name, record, data) for name in self.names)

    def _value(self, name: str, record: Record, data: Mapping[str, Any]) -> str:
        if name == "day":
            return self._time(record)[0]
        if name == "month":
            return self._time(record)[0][:7]
        if name == "hour":
            return self._time(record)[1]
        if name == "upstream":
            return record.origin.upstream or ""
        if name == "region":
            return record.served_region or record.origin.region or ""
        if name == "token":
            return _text(data.get("token"))
        if name == "tags":
            return _text(data.get("tags"))
        tag = _tag(data.get("tags"), "project" if name == "project" else name.removeprefix(_TAG))
        return tag or (_text(data.get("project")) if name == "project" else "")

    def _time(self, record: Record) -> tuple[str, str]:
        """Return the day and the hour of a record in the zone.

        An hour has its offset to UTC, which distinguishes the two hours when clocks are put back.
        """
        # Since 1980, days and hours start with a minute of UTC in every zone.
        minute = record.at_text[:16]
        found = self._times.get(minute) if minute >= "1980" else None
        if found is None:
            try:
                local = record.at.astimezone(self._zone)
            except OverflowError:  # outside the calendar in this zone
                local = record.at
            offset = "Z" if self._zone is UTC else _offset(local.utcoffset() or timedelta(0))
            found = self._days.at(record.at).value, f"{local:%Y-%m-%dT%H}:00{offset}"
            if len(self._times) > 100_000:
                self._times.clear()  # a file with many made-up times must not fill the memory
            self._times[minute] = found
        return found


def _offset(offset: timedelta) -> str:
    minutes = int(offset.total_seconds()) // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def _text(value: Any) -> str:
    """Return a value of a record as text: JSON objects and lists in canonical form."""
    if value is None or value == "" or value == {} or value == []:
        return ""
    text = value if isinstance(value, str) else canonical_json(value).decode()
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"


def _tag(tags: Any, name: str) -> str:
    """Return the value of one tag: of an object, or of ``name:value`` or ``name=value`` in a list or a text."""
    if isinstance(tags, str) and tags.lstrip()[:1] in ("{", "["):
        try:
            tags = loads_strict(tags, "tags")
        except BillingError:
            return ""
    if isinstance(tags, Mapping):
        return _text(tags.get(name))
    parts = tags if isinstance(tags, list) else _SEPARATORS.split(tags) if isinstance(tags, str) else ()
    for part in parts:
        if isinstance(part, str):
            for sign in (":", "="):
                key, found, value = part.partition(sign)
                if found and key.strip() == name:
                    return _text(value.strip())
    return ""
