"""What the ledger tells: balances, lots, usage, statements, records for bills."""

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
from brivionix_billing.ledger import api_tokens
from brivionix_billing.ledger.api_tokens import ApiToken
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotRow,
    TokenRow,
    UsageRow,
    add_usage,
    lot_value,
    quarter_hour,
)
from brivionix_billing.ledger.units import (
    format_timestamp,
    parse_timestamp,
    require_id,
    units_from_column,
    units_to_credits,
    units_to_payable,
)
from brivionix_billing.money import Payable
from brivionix_billing.times import CalendarDays, Period, format_instant

__all__ = ["Balance", "Lot", "Movement", "Statement", "UsageLine", "balance", "lots", "entry_page", "lot_by_payment"]

_QUARTER: Final = timedelta(minutes=15)
PAGE_SIZE: Final = 1000
"""Entries that are read at once."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has, in Credits."""

    account: str
    at: datetime
    available: Decimal
    """Can be spent."""
    held: Decimal
    """Set aside for requests that are under way."""
    owed: Decimal
    """Used, but not paid for. What comes in pays this first."""

    def as_dict(self) -> dict[str, str]:
        """As JSON tells it."""
        return {
            "account": self.account,
            "at": format_instant(self.at),
            "available": format_plain(self.available),
            "held": format_plain(self.held),
            "owed": format_plain(self.owed),
        }


@dataclass(frozen=True, slots=True)
class Lot:
    """Credits that came in at once, and what became of them and of their money."""

    id: str
    account: str
    at: datetime
    expires: datetime | None
    channel: str | None
    reference: str | None
    price_per_credit: Decimal | None
    """As quoted; a volume discount is not in it."""
    credits: Decimal
    remaining: Decimal
    used: Decimal
    expired: Decimal
    returned: Decimal
    """Refunded, or their payment was taken back."""
    paid: Payable | None
    """``None``, as all money here: nothing was paid."""
    recognised: Payable | None
    """Revenue: what was used or expired was bought for so much."""
    refunded: Payable | None
    deferred: Payable | None
    """What remains was bought for so much. ``paid == recognised + refunded + worth``."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON tells it."""
        told: dict[str, Any] = {}
        for slot in self.__slots__:
            has = getattr(self, slot)
            if isinstance(has, Decimal):
                has = format_plain(has)
            elif isinstance(has, datetime):
                has = format_instant(has)
            elif isinstance(has, Payable):
                has = str(has)
            told[slot] = has
        return told


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


def balance(store: Store, account: str, now: str) -> Balance:
    """See :meth:`Ledger.balance`."""
    row = _account(store, account)
    _with_expiries(store, row, now)
    return Balance(
        account,
        parse_timestamp(now),
        units_to_credits(row.balance - row.held),
        units_to_credits(row.held),
        units_to_credits(row.owed),
    )


def _with_expiries(store: Store, row: AccountRow, now: str) -> list[JournalRow]:
    """Bring a row to where it is when all that has expired is booked; the entries that would. Nothing is written."""
    dry = store.dry_run()
    LockedAccount(dry, row, now).expire_due()
    return dry.written_entries


def _account(store: Store, account: str) -> AccountRow:
    row = store.fetch_one(AccountRow, store.sql.account, require_id(account, "the account"))
    if row is None:
        raise BillingError("unknown_account", f"there is no account {safe_repr(account)}")
    return row


def lots(store: Store, account: str) -> list[Lot]:
    """See :meth:`Ledger.lots`."""
    _account(store, account)
    return [lot_from_row(row) for row in store.fetch_all(LotRow, store.sql.lots, account)]


def tokens_of(store: Store, account: str) -> list[ApiToken]:
    """See :meth:`Ledger.tokens`."""
    _account(store, account)
    return [api_tokens.api_token_from_row(row) for row in store.fetch_all(TokenRow, store.sql.tokens, account)]


def lot_by_payment(store: Store, channel: str, reference: str) -> Lot:
    """See :meth:`Ledger.payment`."""
    row = store.fetch_one(
        LotRow, store.sql.payment, require_id(channel, "the channel"), require_id(reference, "the reference")
    )
    if row is None:
        raise BillingError(
            "unknown_payment",
            f"no payment {safe_repr(reference)} on channel {safe_repr(channel)} was credited; if it is on its "
            "way, ask again",
        )
    return lot_from_row(row)


def lot_from_row(row: LotRow) -> Lot:
    """A lot for those who asked."""

    def money(amount: int) -> Payable | None:
        return None if row.currency is None else units_to_payable(amount, row.currency)

    return Lot(
        row.id,
        row.account,
        parse_timestamp(row.at),
        None if row.expires is None else parse_timestamp(row.expires),
        row.channel,
        row.reference,
        None if row.price is None else Decimal(row.price),
        units_to_credits(row.credits),
        units_to_credits(row.remaining),
        units_to_credits(row.used),
        units_to_credits(row.expired),
        units_to_credits(row.returned),
        money(row.paid),
        money(row.recognised),
        money(row.refunded),
        money(lot_value(row, row.remaining)),
    )


def account_page(store: Store, after: str) -> list[str]:
    """Some accounts behind one, in order."""
    return [row[0] for row in store.fetch_rows(store.sql.accounts, after, PAGE_SIZE)]


def entry_page(store: Store, account: str, after: int) -> list[Entry]:
    """Some entries of an account, in order."""
    _account(store, account)
    return [Entry.from_row(JournalRow(*row)) for row in store.fetch_rows(store.sql.entries, account, after, PAGE_SIZE)]


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
    _account(store, account)
    days = CalendarDays(period.zone)
    sums: dict[tuple[str, str, str], UsageRow] = {}
    for row in usage_rows_between(store, account, format_timestamp(period.start), format_timestamp(period.end)):
        day = days.at(parse_timestamp(f"{row.quarter}:00Z")).value
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
    row = _account(store, account)
    start, end = format_timestamp(period.start), format_timestamp(period.end)
    rare = [Entry.from_row(JournalRow(*found)) for found in store.fetch_rows(store.sql.rare_entries, account, "", end)]
    # A statement does not depend on whether somebody has looked at the account since something on it expired.
    unbooked = (found for found in _with_expiries(store, row, end) if found.kind == "lot_expired" and found.at < end)
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
    _account(store, account)
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
