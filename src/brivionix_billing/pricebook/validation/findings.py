"""What validation works on and returns, and the checks that several sections share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from brivionix_billing.errors import closest_name, safe_repr
from brivionix_billing.pricebook import schema
from brivionix_billing.times import format_instant

__all__ = ["ParsedSections", "Path", "UnlocatedFinding", "check_dates", "suggest"]

Path = tuple[int | str, ...]
_MAX_SUGGESTED: int = 500
"""Names are compared for a suggestion only if there are at most this many: it takes time for each of them."""


class UnlocatedFinding(NamedTuple):
    """A finding at ``path``; if ``at_key``, at the name itself instead of its value."""

    path: Path
    message: str
    hint: str
    at_key: bool = False


class ParsedSections(NamedTuple):
    """The sections of a file that could be parsed; ``names`` has all model names, parsed or not."""

    names: Sequence[str]
    credit: schema.Credit | None
    meters: dict[str, schema.CustomMeter]
    calendars: dict[str, schema.Calendar]
    service_tiers: dict[str, list[str]]
    regions: dict[str, list[str]]
    labels: schema.NameLabels
    exchange_rates: dict[str, list[schema.ExchangeRate]]
    aliases: dict[str, str]
    unaccounted: dict[str, str]
    cache_discount: Sequence[schema.CacheDiscount]
    tools: schema.Tools
    channels: dict[str, schema.Channel]
    plans: dict[str, schema.Plan]
    models: dict[str, schema.Model]
    groups: dict[str, schema.Group]


def check_dates(
    path: Path, entries: Sequence[schema.DatedEntry], indexes: Sequence[int] | None = None
) -> Iterator[UnlocatedFinding]:
    """Check that each entry starts after the previous one, and that no ``until`` overlaps the next."""
    places = range(len(entries)) if indexes is None else indexes
    before: schema.DatedEntry | None = None
    for place, entry in zip(places, entries, strict=True):
        if entry.until is not None and entry.until <= entry.since:
            yield UnlocatedFinding(
                (*path, place, "until"), "ends before it starts", f"write a time after {format_instant(entry.since)}"
            )
        if before is not None:
            if entry.since <= before.since:
                yield UnlocatedFinding(
                    (*path, place, "from"),
                    f"starts at {format_instant(entry.since)}, not after the entry before it "
                    f"({format_instant(before.since)})",
                    "keep entries in order of time; append the newest at the end",
                )
            elif before.until is not None and before.until > entry.since:
                yield UnlocatedFinding(
                    (*path, place, "from"),
                    f"starts at {format_instant(entry.since)}, while the entry before it is effective until "
                    f"{format_instant(before.until)}",
                    "dates may not overlap",
                )
        before = entry


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a hint: the known name that is closest, or ``otherwise``."""
    names = tuple(known)
    close = closest_name(name, names, 0.6) if len(names) <= _MAX_SUGGESTED else None
    return f"did you mean {safe_repr(close)}?" if close else otherwise
