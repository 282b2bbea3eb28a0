"""Our side of a report: a usage file at the prices of a cost book, summed by quarter hour, rate card and meter."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge, RateCard
from brivionix_billing.usage.conventions import OPENAI_CONVENTIONS, Conventions
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records

__all__ = ["SLOT", "OurResponse", "Unpriced", "Upstreams", "UsageSide", "read_usage", "slot_of", "slot_start"]

SLOT: Final = timedelta(minutes=15)
"""Usage is summed by quarter hour: every time zone is a whole number of these from UTC."""
_SLOT_SECONDS: Final = 15 * 60
_OTHER_UPSTREAM: Final = frozenset({"model_not_allowed"})


class OurResponse(NamedTuple):
    """One request of ours, for a report by response."""

    request_id: str
    response_id: str
    """The id in the body of the response; ``""`` if the usage file does not have it."""
    record: Record
    group: str
    charge: Charge


class Unpriced(NamedTuple):
    """Requests of ours that the cost book has no price for."""

    day: str
    model: str
    code: str
    """The error code."""
    message: str


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The groups of the cost book that a report is about, and the project of each."""

    default: str | None
    """The group of requests that name no upstream. ``None``: they are left out."""
    projects: Mapping[str, str | None]
    """Group -> its project in the report; ``None`` if projects are not compared."""
    source: str = ""
    """The provider. Requests whose upstream has its name are those of ``default``."""

    @classmethod
    def choose(cls, book: PriceBook, source: str, name: str | None, projects: Mapping[str, str]) -> Upstreams:
        """Return the groups for a report. ``projects`` maps projects of the report to groups.

        Raises ``unknown_group``, and ``invalid_argument`` if the group is not clear.
        """
        groups = book.group_names
        for group in (*filter(None, (name,)), *projects.values()):
            if group not in groups:
                known = ", ".join(groups)
                raise BillingError(
                    "unknown_group", f"no upstream {safe_repr(group)} in the cost book; use one of {known}"
                )
        if projects:
            found: dict[str, str | None] = {}
            for project, group in projects.items():
                if group in found:
                    raise BillingError(
                        "invalid_argument", f"upstream {group} has two projects; name one project for it"
                    )
                found[group] = project
            return cls(name if name in found else None, found, source)
        usual = next((group for group in (source, "default") if group in groups), None)
        default = name or (groups[0] if len(groups) == 1 else usual)
        if default is None:
            raise BillingError(
                "invalid_argument", f"the cost book has the upstreams {', '.join(groups)}; name that of the report"
            )
        return cls(default, {default: None}, source)

    def group_of(self, record: Record) -> str | None:
        """Return the group whose prices apply to a request, or ``None`` if another upstream served it."""
        name = record.origin.upstream
        if name is None or (name == self.source and name not in self.projects):
            return self.default
        return name if name in self.projects else None


@dataclass(slots=True)
class UsageSide:
    """The usage of the upstreams of a report."""

    quantities: dict[tuple[int, RateCard, str, str | None], int] = field(default_factory=lambda: defaultdict(int))
    """(quarter hour, rate card, meter, project) -> stored quantity."""
    unpriced: Counter[Unpriced] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    """Error code -> lines that are no records."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Upstream -> requests that it served."""
    repeated: int = 0
    """Records with a request id that came before. The first one counts."""
    responses: list[OurResponse] = field(default_factory=list)


def slot_of(when: datetime) -> int:
    """Return the number of a quarter hour."""
    return int(when.timestamp()) // _SLOT_SECONDS


def slot_start(slot: int) -> datetime:
    """Return the start of a quarter hour."""
    return datetime.fromtimestamp(slot * _SLOT_SECONDS, UTC)


def read_usage(
    lines: Iterable[bytes], book: PriceBook, upstreams: Upstreams, *, keep_responses: bool = False
) -> UsageSide:
    """Return the usage of a file. With ``keep_responses``, each request is kept on its own instead of summed."""
    side = UsageSide()
    seen: set[str] = set()
    current = b""

    def watched() -> Iterator[bytes]:
        nonlocal current
        for line in lines:
            current = line
            yield line

    for record in read_records(watched(), conventions=_conventions(book)):
        if isinstance(record, RejectedRecord):
            side.rejected[record.code] += 1
            continue
        group = upstreams.group_of(record)
        if group is None:
            side.left_out[record.origin.upstream or "none"] += 1
            continue
        if record.request_id in seen:
            side.repeated += 1
            continue
        seen.add(record.request_id)
        try:
            charge = _rate(book, record, group)
        except BillingError as error:
            if error.code in _OTHER_UPSTREAM:
                side.left_out["another (the model is not sold by this one)"] += 1
            else:
                day = record.at_text[:10]
                side.unpriced[Unpriced(day, record.origin.model, error.code, error.message)] += 1
            continue
        if keep_responses:
            side.responses.append(OurResponse(record.request_id, _response_id(current), record, group, charge))
        else:
            _add(side, charge, slot_of(record.at), upstreams.projects[group])
    return side


def _conventions(book: PriceBook) -> Any:
    """Return a look-up of conventions. An upstream that is only a group of the cost book counts as OpenAI does."""

    def lookup(upstream: str) -> Conventions:
        try:
            return book.conventions(upstream)
        except BillingError:
            return OPENAI_CONVENTIONS

    return lookup


def _rate(book: PriceBook, record: Record, group: str) -> Charge:
    origin = record.origin
    return book.rate(
        record.usage,
        model=origin.model,
        group=group,
        at=record.at,
        service_tier=origin.service_tier,
        region=origin.region,
        mode=origin.mode,
    )


def _add(side: UsageSide, charge: Charge, slot: int, project: str | None) -> None:
    own = getattr(charge, "own", charge)
    for each in (own, *charge.parts):
        for meter, quantity in each.card.billed_quantities(each.usage):
            if quantity:
                side.quantities[slot, each.card, meter, project] += quantity


def _response_id(line: bytes) -> str:
    """Return the id in the body of a response."""
    try:
        usage = loads_strict(line, "the record")["usage"]
        found = usage.get("id")
    except (BillingError, KeyError, TypeError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""
