"""Statements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from brivionix_billing import invoice
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.document import MAX_MOVEMENTS
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.projections import (
    HoldRow,
    UsageRow,
    add_usage,
    quarter_hour,
)
from brivionix_billing.ledger.reports import PAGE_SIZE, require_account, simulate_expiries
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_credits
from brivionix_billing.times import CalendarDays, Period, format_instant

__all__ = ["Movement", "Statement", "UsageLine", "statement", "usage", "usage_records"]

_QUARTER: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What was used on one day of one model by one token."""

    day: str
    model: str
    """``""``: priced elsewhere."""
    token: str
    requests: int
    estimated: int
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    credits: Decimal

    def as_dict(self) -> dict[str, Any]:
        """As JSON tells it."""
        told = {slot: getattr(self, slot) for slot in self.__slots__}
        return {**told, "credits": format_plain(self.credits)}


@dataclass(frozen=True, slots=True)
class Movement:
    """What changed a balance beside usage."""

    id: str
    at: datetime
    kind: str
    credits: Decimal
    """Negative where they go."""
    label: str


@dataclass(frozen=True, slots=True)
class Statement:
    """An account over a period: ``closing == opening + movements - used``. All in Credits.

    A balance here is what was brought in and not used up, held or not, less what is owed.
    """

    account: str
    period: Period
    opening: Decimal
    movements: tuple[Movement, ...]
    usage: tuple[UsageLine, ...]
    """By day and model."""
    used: Decimal
    closing: Decimal
    open_holds: int
    """Requests of the period, or from before it, that are not resolved: until they are, usage may be added."""

    def balance(self) -> invoice.Balance:
        """As it stands on a bill. More movements than a bill shows are summed up by kind.

        What was priced elsewhere is no usage that a bill can show, so it is a movement.
        """
        told = [(movement.label, movement.credits) for movement in self.movements]
        if len(told) >= MAX_MOVEMENTS:
            sums: dict[str, int] = {}
            for movement in self.movements:
                sums[movement.kind] = sums.get(movement.kind, 0) + units_from_column(format_plain(movement.credits))
            told = [(_LABELS.get(kind, kind), units_to_credits(units)) for kind, units in sums.items()]
        elsewhere = sum(units_from_column(format_plain(line.credits)) for line in self.usage if not line.model)
        if elsewhere:
            told.append(("Used, priced elsewhere", units_to_credits(-elsewhere)))
        return invoice.Balance(self.opening, told, self.closing)

    def as_dict(self) -> dict[str, Any]:
        """As JSON tells it."""
        return {
            "account": self.account,
            "from": format_instant(self.period.start),
            "to": format_instant(self.period.end),
            "zone": self.period.zone,
            "opening": format_plain(self.opening),
            "movements": [
                {
                    "id": m.id,
                    "at": format_instant(m.at),
                    "kind": m.kind,
                    "credits": format_plain(m.credits),
                    "label": m.label,
                }
                for m in self.movements
            ],
            "usage": [line.as_dict() for line in self.usage],
            "used": format_plain(self.used),
            "closing": format_plain(self.closing),
            "open_holds": self.open_holds,
        }


def usage_rows_between(store: Store, account: str, start: str, end: str) -> Iterator[UsageRow]:
    """What was used from ``start`` to before ``end``: whole quarters by their sums, the rest from the journal."""
    first, last = _next_quarter(start), quarter_hour(end)
    if first >= last:
        yield from _usage_from_journal(store, account, start, end)
        return
    yield from _usage_from_journal(store, account, start, first)
    yield from store.fetch_all(UsageRow, store.sql.usage_between, account, first, last)
    yield from _usage_from_journal(store, account, last, end)


def _next_quarter(at: str) -> str:
    """The first quarter that begins at a time or after it."""
    begun = quarter_hour(at)
    whole = f"{begun}:00.000000Z"
    return begun if whole == at else quarter_hour(format_timestamp(parse_timestamp(whole) + _QUARTER))


def _usage_from_journal(store: Store, account: str, start: str, end: str) -> Iterator[UsageRow]:
    # "2026-10-01T00:15" sorts before every time of that quarter, and after all others.
    if start < end and not end.startswith(f"{start}:00.000000Z") and not start.startswith(f"{end}:00.000000Z"):
        for entry in charges(store, account, start, end):
            key = (
                quarter_hour(format_timestamp(entry.at)),
                entry.content.get("model", ""),
                entry.result.get("token") or "",
            )
            used = UsageRow(account, *key)
            add_usage(used, entry.result.get("counts"), entry.units)
            yield used


def charges(store: Store, account: str, start: str, end: str) -> Iterator[Entry]:
    """The entries that charged something from ``start`` to before ``end``, some at a time."""
    after = 0
    while rows := store.fetch_rows(store.sql.entries_between, account, start, end, after, PAGE_SIZE):
        for row in rows:
            if row[3] in ("settle", "charge"):
                yield Entry.from_row(JournalRow(*row))
        after = rows[-1][2]


def usage(store: Store, account: str, period: Period, *, by_token: bool) -> list[UsageLine]:
    """See :meth:`Ledger.usage`."""
    require_account(store, account)
    days = CalendarDays(period.zone)
    sums: dict[tuple[str, str, str], UsageRow] = {}
    for row in usage_rows_between(store, account, format_timestamp(period.start), format_timestamp(period.end)):
        day = days.at(parse_timestamp(f"{row.quarter_hour}:00Z")).value
        key = (day, row.model, row.token if by_token else "")
        total = sums.setdefault(key, UsageRow(account, *key))
        total.requests += row.requests
        total.estimated += row.estimated
        total.input_tokens += row.input_tokens
        total.cache_read_tokens += row.cache_read_tokens
        total.output_tokens += row.output_tokens
        total.credits += row.credits
    return [
        UsageLine(
            *key,
            row.requests,
            row.estimated,
            row.input_tokens,
            row.cache_read_tokens,
            row.output_tokens,
            units_to_credits(row.credits),
        )
        for key, row in sorted(sums.items())
    ]


def statement(store: Store, account: str, period: Period) -> Statement:
    """See :meth:`Ledger.statement`."""
    row = require_account(store, account)
    start, end = format_timestamp(period.start), format_timestamp(period.end)
    rare = [Entry.from_row(JournalRow(*found)) for found in store.fetch_rows(store.sql.rare_entries, account, "", end)]
    # A statement does not depend on whether somebody has looked at the account since something on it expired.
    unbooked = (found for found in simulate_expiries(store, row, end) if found.kind == "lot_expired" and found.at < end)
    rare += map(Entry.from_row, unbooked)
    opening, movements = -_used_before(store, account, start), []
    for entry in rare:
        net = _net_change(entry)
        if format_timestamp(entry.at) < start:
            opening += net
        elif net:
            movements.append(Movement(entry.id, entry.at, entry.kind, units_to_credits(net), _movement_label(entry)))
    lines = usage(store, account, period, by_token=False)
    used = sum(units_from_column(format_plain(line.credits)) for line in lines)
    closing = opening + sum(units_from_column(format_plain(movement.credits)) for movement in movements) - used
    return Statement(
        account,
        period,
        units_to_credits(opening),
        tuple(movements),
        tuple(lines),
        units_to_credits(used),
        units_to_credits(closing),
        len(store.fetch_all(HoldRow, store.sql.holds_before, account, end)),
    )


def _net_change(entry: Entry) -> int:
    return sum(entry.postings.get(book, 0) for book in ("available", "held", "owed"))


def _used_before(store: Store, account: str, end: str) -> int:
    last = quarter_hour(end)
    sums = store.fetch_rows(store.sql.credits_before, account, last)
    return sum(units_from_column(text) for (text,) in sums) + sum(
        row.credits for row in _usage_from_journal(store, account, last, end)
    )


def _movement_label(entry: Entry) -> str:
    day, word = entry.at.date().isoformat(), _LABELS.get(entry.kind, entry.kind)
    money = entry.refund_amount
    if entry.kind == "top_up":
        return f"{word} {day}, {entry.content['paid']} {entry.content['currency']} by {entry.content['channel']}"[:256]
    if money is not None:
        return f"{word} {day}, {money}"
    reason = entry.content.get("reason")
    return f"{word} {day}" + (f": {reason}"[: 256 - len(word) - 11] if reason else "")


_LABELS: Final = {
    "top_up": "Top-up",
    "grant": "Promotional Credits",
    "adjust": "Correction",
    "refund": "Refund",
    "dispute": "Disputed payment",
    "reverse": "Reversal",
    "lot_expired": "Expired Credits",
}


def usage_records(
    store: Store, account: str, period: Period, after: int, skip: bool
) -> tuple[list[dict[str, Any]], int]:
    """Records of some entries behind number ``after``, and the number of the last of them; 0: there are no more."""
    require_account(store, account)
    rows = store.fetch_rows(
        store.sql.entries_between,
        account,
        format_timestamp(period.start),
        format_timestamp(period.end),
        after,
        PAGE_SIZE,
    )
    entries = [Entry.from_row(JournalRow(*row)) for row in rows if row[3] in ("settle", "charge")]
    found = [_record(entry) for entry in entries if not skip or "usage" in entry.content]
    return found, rows[-1][2] if rows else 0


def _record(entry: Entry) -> dict[str, Any]:
    said = entry.content
    if "usage" not in said:
        raise BillingError(
            "no_usage",
            f"operation {safe_repr(entry.id)} of account {safe_repr(entry.account)} charged Credits that were priced "
            "elsewhere; no record can be made of it",
        )
    return {
        "request_id": said["hold"] if entry.kind == "settle" else entry.id,
        "at": said["at"],
        "account": entry.account,
        "group": said["group"],
        "model": said["model"],
        "service_tier": said["service_tier"],
        "usage": said["usage"],
    }
