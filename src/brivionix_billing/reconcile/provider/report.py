"""The lines of a provider's report, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.canonical_json import sha256
from brivionix_billing.decimals import Rounding, decimal_from_scaled, decimal_places, round_to_places
from brivionix_billing.reconcile.exported_files import statement_error
from brivionix_billing.usage import Usage

__all__ = [
    "DIMENSIONS",
    "TOTAL",
    "Bucket",
    "Pages",
    "Report",
    "ReportLine",
    "ResponseLine",
    "decimals_of",
    "identity_of",
]

DIMENSIONS: Final = ("model", "tier", "project", "meter")
"""What a line may be about, beside its time."""
TOTAL: Final = "tokens"
"""The meter of a line that states the tokens of all kinds together."""

_MAX_PLACES: Final = 12
"""Maximum number of decimal places of an amount."""

Bucket = tuple[datetime, datetime]
"""The time that a line is about: start (inclusive) and end (exclusive) in UTC."""


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One line: a quantity, an amount, or both, of a time. ``None`` stands for what the report does not state."""

    place: str
    bucket: Bucket
    model: str | None = None
    """As the report names it."""
    tier: str | None = None
    project: str | None = None
    meter: str | None = None
    """A meter of this library; :data:`TOTAL` for tokens of all kinds."""
    quantity: int | None = None
    amount: Decimal | None = None
    """What the provider charges, in units of ``currency``."""
    list_amount: Decimal | None = None
    """What it would charge without a discount."""
    currency: str = "USD"
    requests: int = 0
    """Number of requests, if the report states it."""
    text: str = ""
    """The report's own words for what is charged."""
    identity: bytes = b""
    """Hash of the whole line with its bucket: two equal ones are one line that was exported twice."""


@dataclass(frozen=True, slots=True)
class ResponseLine:
    """What a provider charges for one response."""

    place: str
    id: str
    at: datetime | None
    model: str | None
    amount: Decimal
    usage: Usage | None
    """The counts that the provider states."""
    is_byok: bool = False
    """Whether the request was paid to another provider by a key of one's own; the amount is then a fee."""
    project: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The content of the files of a report."""

    source: str
    lines: tuple[ReportLine, ...] = ()
    buckets: frozenset[Bucket] = frozenset()
    """All times that the report covers, also those without a line."""
    responses: tuple[ResponseLine, ...] | None = None
    """The lines of a report by response; ``None`` for a report by time."""
    decimals: int | None = None
    """Decimal places of the amounts, if the report has any: its rounding."""
    rounding: Decimal | None = None
    """The most by which the amount of one request is rounded, if each is rounded on its own."""
    notes: tuple[str, ...] = ()


def identity_of(*parts: Any) -> bytes:
    """Return a hash of what makes a line unique."""
    return sha256(repr(parts).encode("utf-8", "surrogatepass"))


class Pages:
    """The pages of an answer, of which none may be missing."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._ends = 0
        self._open = ""

    def add(self, place: str, page: Mapping[str, Any], kinds: Iterable[str]) -> None:
        """Add a page with the kinds of reports in it."""
        self._kinds.update(kinds)
        if page.get("has_more") is True:
            self._open = place
        else:
            self._ends += 1

    def require_all(self) -> None:
        """Raise ``invalid_statement`` if the last page of a report is missing."""
        if self._open and self._ends < max(1, len(self._kinds)):
            raise statement_error(
                self._open, "the page says has_more, and the pages that follow are missing", "pass all pages"
            )


def decimals_of(amounts: Iterable[Decimal]) -> int | None:
    """Return the most decimal places of amounts, up to twelve; more are noise of binary floats."""
    places = [_places(amount) for amount in amounts]
    return max(places) if places else None


def _places(amount: Decimal) -> int:
    return decimal_places(decimal_from_scaled(round_to_places(amount, _MAX_PLACES, Rounding.HALF_EVEN), _MAX_PLACES))
