"""Requests of an account, the newest first: what each one cost, and its state.

A request is a hold with its outcome, or a charge without a hold. A charged request has the time of its charge, as in
usage and on bills; any other has the time of its hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archived_entries import archive_of
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.projections import HoldRow, quarter_hour
from brivionix_billing.ledger.reports import require_account
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_credits
from brivionix_billing.money import Money
from brivionix_billing.times import Period, format_instant

__all__ = ["MAX_REQUESTS", "Request", "RequestFilter", "RequestPage", "open_holds", "request_page"]

MAX_REQUESTS: Final = 1000
"""Maximum number of requests in a page."""
_MAX_SCANNED: Final = 4000
"""Maximum number of entries that one page reads. So its time does not depend on the number of entries."""
_QUARTER_HOUR: Final = timedelta(minutes=15)
_END: Final = "~"
"""Sorts after every timestamp."""
_MAX_DIGITS: Final = 18
"""Maximum length of the number of an entry in a cursor."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, with its state and what it cost."""

    id: str
    """Id of its hold; of a charge without a hold, id of the operation."""
    account: str
    at: datetime
    """Time of the charge; if there is none, of the hold."""
    state: str
    """``open``, ``settled``, ``released``, ``expired``; ``charged``: without a hold."""
    late: bool
    """Whether it was settled after its hold had expired."""
    token: str | None
    group: str | None
    """``None``: not charged, or priced elsewhere."""
    model: str | None
    """``None``: not charged, or priced elsewhere."""
    held: Decimal
    """Credits of the hold; 0 without a hold, and if the request is late."""
    credits: Decimal
    """Credits charged."""
    owed: Decimal
    """Part of ``credits`` that no lot covered at the time of the charge."""
    cost: tuple[Money, ...]
    """Purchase price of the Credits that it used, by currency. Promotional Credits cost nothing."""
    estimated: bool
    """Whether the counts are an estimate."""
    input_tokens: int | None
    """This and the other counts are ``None`` if the request was not charged, or priced elsewhere."""
    cache_read_tokens: int | None
    output_tokens: int | None
    expires: datetime | None
    """Expiry of the hold, if it was not settled."""
    lots: Mapping[str, Decimal] = field(default_factory=dict)
    """Lot that it used -> Credits. With ``owed``, they sum to ``credits``."""
    member: str | None = None
    """Member of the account that made it; ``None``: the account itself."""

    def as_dict(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return {
            **{slot: getattr(self, slot) for slot in self.__slots__},
            "at": format_instant(self.at),
            "held": format_plain(self.held),
            "credits": format_plain(self.credits),
            "owed": format_plain(self.owed),
            "cost": {money.currency: format_plain(money.amount) for money in self.cost},
            "expires": None if self.expires is None else format_instant(self.expires),
            "lots": {lot: format_plain(credits) for lot, credits in self.lots.items()},
        }


class RequestPage(NamedTuple):
    """Some requests, the newest first."""

    requests: tuple[Request, ...]
    next: str | None
    """Cursor of the next page, or ``None`` if there are no more requests. A page that is not full may have a cursor."""
    archived: str | None = None
    """Name of an archive file with charged requests that the page leaves out; ``None``: it is complete."""


class RequestFilter(NamedTuple):
    """The requests to return. ``None``: all."""

    token: str | None
    model: str | None
    """Only charged requests have a model."""
    period: Period | None
    member: str | None = None

    @property
    def names(self) -> dict[str, str]:
        """Token, member and model, as far as they are given."""
        given = {"token": self.token, "member": self.member, "model": self.model}
        return {name: value for name, value in given.items() if value is not None}


class _Cursor(NamedTuple):
    """A position in the journal: entries before ``at``, and those at ``at`` with a number below ``number``."""

    at: str
    number: int

    @classmethod
    def parse(cls, text: str) -> _Cursor:
        at, _, number = text.partition("/") if isinstance(text, str) else ("", "", "")
        try:
            if format_timestamp(parse_timestamp(at)) != at or not 0 < len(number) <= _MAX_DIGITS:
                raise ValueError
            return cls(at, int(number))
        except (ValueError, TypeError, OverflowError):
            raise BillingError(
                "invalid_argument", f"after is {safe_repr(text)}; use the cursor of the previous page"
            ) from None

    def __str__(self) -> str:
        return f"{self.at}/{self.number}"


class _FoundRow(NamedTuple):
    """An entry, and the hold with its id."""

    entry: JournalRow
    hold: HoldRow | None


def request_page(
    store: Store, account: str, now: str, wanted: RequestFilter, limit: int, after: str | None
) -> RequestPage:
    """Return a page of requests: see :meth:`Ledger.requests`."""
    if not isinstance(limit, int) or not 1 <= limit <= MAX_REQUESTS:
        raise BillingError("invalid_argument", f"limit is {safe_repr(limit)}; use 1 to {MAX_REQUESTS}")
    start, end = "", _END
    if wanted.period is not None:
        start, end = format_timestamp(wanted.period.start), format_timestamp(wanted.period.end)
    cursor: _Cursor | None = _Cursor(end, 0)
    if after is not None:
        cursor = min(_Cursor.parse(after), _Cursor(end, 0))
    require_account(store, account)
    patterns = _patterns(wanted)
    found: list[Request] = []
    archived: str | None = None
    left = _MAX_SCANNED
    while left and cursor is not None and (cursor := _skip(store, account, start, cursor, wanted)) is not None:
        count = min(left, 2 * limit + 2)  # most requests have two entries
        rows = list(_entries(store, account, start, cursor, count))
        left -= count
        for row in rows:
            cursor = _Cursor(row.entry.at, row.entry.number)
            if row.entry.kind in ("settle", "charge") and (file := archive_of(row.entry.body)) is not None:
                archived = file
                continue
            request = _request(row, wanted, patterns, now)
            if request is not None:
                found.append(request)
                if len(found) == limit:
                    return RequestPage(tuple(found), str(cursor), archived)
        if len(rows) < count:
            cursor = None
    return RequestPage(tuple(found), None if cursor is None else str(cursor), archived)


def open_holds(store: Store, account: str, now: str) -> list[Request]:
    """Return the open holds: see :meth:`Ledger.open_holds`."""
    require_account(store, account)
    rows = store.fetch_all(HoldRow, store.sql.open_holds, account)
    rows.sort(key=lambda row: (row.at, row.id), reverse=True)
    return [_held_request(row, now) for row in rows if row.expires > now]


def _entries(store: Store, account: str, start: str, cursor: _Cursor, count: int) -> Iterator[_FoundRow]:
    """Yield entries before a cursor, the newest first."""
    values = (account, start, cursor.at, cursor.at, cursor.number, count)
    for row in store.fetch_rows(store.sql.newest_entries, *values):
        entry, hold = row[: len(JournalRow._fields)], row[len(JournalRow._fields) :]
        yield _FoundRow(JournalRow(*entry), None if hold[0] is None else _hold_row(hold))


def _hold_row(columns: tuple[Any, ...]) -> HoldRow:
    row = HoldRow(*columns)
    row.credits = units_from_column(str(row.credits))
    return row


def _skip(store: Store, account: str, start: str, cursor: _Cursor, wanted: RequestFilter) -> _Cursor | None:
    """Move a cursor back to the newest entry that may match, or return ``None`` if there is none.

    The sums of usage name the quarter hours in which a model or a token was charged.
    """
    sql, upper, names = store.sql, cursor.at, wanted.names
    if not names:
        return cursor
    first_quarter = quarter_hour(start) if start else start
    last_quarter = upper if upper == _END else quarter_hour(upper)
    quarters = store.fetch_rows(sql.last_usage[tuple(names)], account, first_quarter, last_quarter, *names.values())
    times = [format_timestamp(parse_timestamp(f"{quarter}:00Z") + _QUARTER_HOUR) for (quarter,) in quarters]
    if wanted.model is None:
        for statement in sql.last_holds[tuple(names)]:
            # One microsecond later: the cursor is exclusive.
            times += [
                format_timestamp(parse_timestamp(at) + timedelta.resolution)
                for (at,) in store.fetch_rows(statement, account, start, upper, *names.values())
            ]
    return min(cursor, _Cursor(max(times), 0)) if times else None


def _patterns(wanted: RequestFilter) -> list[str]:
    """Return texts that are in the body of every charge that matches: most others need not be parsed."""
    return [f'"{name}":{canonical_json(value).decode()}' for name, value in wanted.names.items()]


def _request(row: _FoundRow, wanted: RequestFilter, patterns: list[str], now: str) -> Request | None:
    """Return the request of an entry, or ``None`` if it does not match, or another entry stands for it."""
    kind = row.entry.kind
    if kind == "hold":
        hold = row.hold
        if hold is None or hold.state == "settled" or wanted.model is not None:
            return None
        matches = wanted.token in (None, hold.token) and wanted.member in (None, hold.member)
        return _held_request(hold, now) if matches else None
    if kind not in ("settle", "charge") or not all(pattern in row.entry.body for pattern in patterns):
        return None
    request = _charged_request(Entry.from_row(row.entry))
    matches = all(getattr(request, name) == value for name, value in wanted.names.items())
    return request if matches else None


def _held_request(hold: HoldRow, now: str) -> Request:
    state = "expired" if hold.state == "open" and hold.expires <= now else hold.state
    held, expires = units_to_credits(hold.credits), parse_timestamp(hold.expires)
    zero, at = Decimal(0), parse_timestamp(hold.at)
    return Request(
        *(hold.id, hold.account, at, state, False, hold.token, None, None, held, zero, zero, ()),
        *(False, None, None, None, expires),
        member=hold.member,
    )


def _charged_request(entry: Entry) -> Request:
    content, result = entry.content, entry.result
    owed, cost, lots = _payment(entry)
    estimated, input_tokens, cached, output = result.get("counts") or (0, None, None, None)
    settled = entry.kind == "settle"
    return Request(
        content["hold"] if settled else entry.id,
        entry.account,
        entry.at,
        "settled" if settled else "charged",
        bool(result.get("late")),
        result.get("token"),
        content.get("group"),
        content.get("model"),
        units_to_credits(-entry.postings.get("held", 0)),
        entry.credits,
        owed,
        cost,
        bool(estimated),
        input_tokens,
        cached,
        output,
        None,
        lots,
        result.get("member"),
    )


def _payment(entry: Entry) -> tuple[Decimal, tuple[Money, ...], dict[str, Decimal]]:
    """Return the Credits of a charge that no lot covered, the price of the others by currency, and the lots."""
    left, parts = entry.units, []
    for delta in entry.lot_deltas:
        part = min(left, delta.credits)  # later changes of the entry settled an older debt
        if delta.kind == "used" and part:
            parts.append(delta._replace(credits=part, remaining=delta.remaining + delta.credits - part))
            left -= part
    cost: dict[str, Money] = {}
    for change in replace(entry, lot_deltas=tuple(parts)).lot_changes:
        if change.cost is not None:
            currency = change.cost.currency
            cost[currency] = cost.get(currency, Money(0, currency)) + change.cost
    lots = {part.lot: units_to_credits(part.credits) for part in parts}
    return units_to_credits(left), tuple(cost[currency] for currency in sorted(cost)), lots
