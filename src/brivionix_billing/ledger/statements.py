"""Statements, usage by day and model, and usage records for bills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from brivionix_billing.ledger.money_movements import MoneyMovement, money_movement
from brivionix_billing.ledger.projections import HoldRow, UsageRow, add_usage, quarter_hour, reverse_usage
from brivionix_billing.ledger.reports import PAGE_SIZE, require_account, simulate_expiries
from brivionix_billing.ledger.restrictions import Restriction
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_credits
from brivionix_billing.ledger.usage_keys import UsageKeys
from brivionix_billing.times import CalendarDays, Period, format_instant

__all__ = ["KIND_LABELS", "Movement", "Statement", "UsageLine", "statement", "usage", "usage_bounds", "usage_records"]

_QUARTER_HOUR: Final = timedelta(minutes=15)
_CHARGE_KINDS: Final = ("settle", "charge")
"""Kinds of entries that charge usage."""
_MAX_LABEL_LENGTH: Final = 256
"""Maximum length of the label of a movement, in characters."""


@dataclass(frozen=True, slots=True)
class UsageLine:
    """Usage by some keys, such as day and model. A key by which it is not summed is ``""``."""

    day: str
    model: str
    """``""``: priced elsewhere, or all models."""
    token: str
    """``""``: no token, or all tokens."""
    requests: int
    estimated: int
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    credits: Decimal
    hour: str = ""
    """Local hour with its UTC offset, such as ``2026-10-25T02:00+01:00``."""
    month: str = ""
    """Such as ``2026-10``."""
    group: str = ""
    """``""``: priced elsewhere, or all groups."""
    member: str = ""
    """``""``: no member, or all members."""

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON values. It has ``hour``, ``month``, ``group`` and ``member`` only if not empty."""
        values = {slot: getattr(self, slot) for slot in self.__slots__}
        optional = ("hour", "month", "group", "member")
        return {
            **{name: value for name, value in values.items() if value or name not in optional},
            "credits": format_plain(self.credits),
        }


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of a balance other than usage."""

    id: str
    at: datetime
    kind: str
    credits: Decimal
    """Negative if the balance decreases."""
    label: str
    model: str = ""
    """Model of a reversed charge; ``""``: priced elsewhere, or no charge."""

    def as_dict(self) -> dict[str, str]:
        """Return the movement as JSON values."""
        return {
            "id": self.id,
            "at": format_instant(self.at),
            "kind": self.kind,
            "credits": format_plain(self.credits),
            "label": self.label,
        }


@dataclass(frozen=True, slots=True)
class Statement:
    """An account over a period, in Credits. Invariant: ``closing == opening + movements - used``.

    A balance in a statement is the remaining Credits of all lots, held or not, less the debt.
    """

    account: str
    period: Period
    opening: Decimal
    movements: tuple[Movement, ...]
    usage: tuple[UsageLine, ...]
    """Usage by day and model."""
    used: Decimal
    closing: Decimal
    open_holds: int
    """Number of open holds made before the end of the period. Until they are resolved, usage may be added."""
    reversals: tuple[Movement, ...] = ()
    """Charges reversed in the period. ``used`` and ``usage`` are less these Credits already."""
    payments: tuple[MoneyMovement, ...] = ()
    """Money received and paid back in the period, with tax."""
    members: tuple[UsageLine, ...] = ()
    """The usage by member, if the account has members. Without member: requests of the account itself."""

    def balance(self) -> invoice.Balance:
        """Return the balance for a bill. Movements beyond the limit of a bill are summed by kind.

        Credits that were priced elsewhere have no usage that a bill can show, so they are a movement. A bill shows the
        usage before reversals, so each reversed charge is a movement, too.
        """
        shown = (*self.movements, *self.reversals)
        movements = [(movement.label, movement.credits) for movement in shown]
        if len(movements) >= MAX_MOVEMENTS:
            sums: dict[str, int] = {}
            for movement in shown:
                sums[movement.kind] = sums.get(movement.kind, 0) + _to_units(movement.credits)
            movements = [(KIND_LABELS.get(kind, kind), units_to_credits(units)) for kind, units in sums.items()]
        elsewhere = sum(_to_units(line.credits) for line in self.usage if not line.model) + sum(
            _to_units(movement.credits) for movement in self.reversals if not movement.model
        )
        if elsewhere:
            movements.append(("Used, priced elsewhere", units_to_credits(-elsewhere)))
        return invoice.Balance(self.opening, movements, self.closing)

    def as_dict(self) -> dict[str, Any]:
        """Return the statement as JSON values, without reversals, payments and members if there are none."""
        reversals = [{**movement.as_dict(), "model": movement.model} for movement in self.reversals]
        return {
            "account": self.account,
            "from": format_instant(self.period.start),
            "to": format_instant(self.period.end),
            "zone": self.period.zone,
            "opening": format_plain(self.opening),
            "movements": [movement.as_dict() for movement in self.movements],
            **({"reversals": reversals} if reversals else {}),
            **({"payments": [payment.as_dict() for payment in self.payments]} if self.payments else {}),
            "usage": [line.as_dict() for line in self.usage],
            **({"members": [_member_line(line) for line in self.members]} if self.members else {}),
            "used": format_plain(self.used),
            "closing": format_plain(self.closing),
            "open_holds": self.open_holds,
        }


def _member_line(line: UsageLine) -> dict[str, Any]:
    empty = ("day", "model", "token")
    return {"member": line.member, **{name: value for name, value in line.as_dict().items() if name not in empty}}


def _to_units(credits: Decimal) -> int:
    return units_from_column(format_plain(credits))


def _usage_rows(store: Store, account: str, start: str, end: str) -> Iterator[UsageRow]:
    """Yield usage from ``start`` to before ``end``: stored sums of whole quarter hours, else from the journal."""
    first, last = _next_quarter_hour(start), quarter_hour(end)
    if first >= last:
        yield from (row for row, _ in _usage_from_journal(store, account, start, end))
        return
    yield from (row for row, _ in _usage_from_journal(store, account, start, first))
    yield from store.fetch_all(UsageRow, store.sql.usage_between, account, first, last)
    yield from (row for row, _ in _usage_from_journal(store, account, last, end))


def _next_quarter_hour(at: str) -> str:
    """Return the first quarter hour that starts at a timestamp or after it."""
    current = quarter_hour(at)
    start = f"{current}:00.000000Z"
    return current if start == at else quarter_hour(format_timestamp(parse_timestamp(start) + _QUARTER_HOUR))


def _usage_from_journal(store: Store, account: str, start: str, end: str) -> Iterator[tuple[UsageRow, str]]:
    """Yield the usage of each charge, and its group."""
    # A bound may be a quarter hour: "2026-10-01T00:15" sorts before every timestamp in it, and after all earlier ones.
    if start < end and not end.startswith(f"{start}:00.000000Z") and not start.startswith(f"{end}:00.000000Z"):
        for entry in _charges(store, account, start, end):
            is_reversal = entry.kind == "charge_reversed"
            model = entry.result["model"] if is_reversal else entry.content.get("model", "")
            token, member = (entry.result.get(name) or "" for name in ("token", "member"))
            row = UsageRow(account, quarter_hour(format_timestamp(entry.at)), model, token, member)
            counts = entry.result.get("counts")
            if is_reversal:
                reverse_usage(row, counts, entry.units, complete=entry.result["complete"])
            else:
                add_usage(row, counts, entry.units)
            yield row, _group(store, entry)


def _group(store: Store, entry: Entry) -> str:
    """Return the group of a charge or of a reversed charge; ``""`` if it was priced elsewhere."""
    if entry.kind == "charge_reversed":
        charge = store.fetch_entry(store.sql.entry, entry.result["charge"])
        return "" if charge is None else str(Entry.from_row(charge).content.get("group", ""))
    return str(entry.content.get("group", ""))


def _charges(store: Store, account: str, start: str, end: str) -> Iterator[Entry]:
    """Yield the entries that charged usage, or reversed a charge, from ``start`` to before ``end``."""
    # By time and not by number: the database would read all earlier entries to find the first numbers.
    number = 0
    while rows := store.fetch_rows(store.sql.entries_by_time, account, start, end, start, number, PAGE_SIZE):
        for row in rows:
            if row[3] in (*_CHARGE_KINDS, "charge_reversed"):
                yield Entry.from_row(JournalRow(*row))
        number, start = rows[-1][2], rows[-1][4]


def usage(store: Store, account: str, period: Period, *, by: Sequence[str]) -> list[UsageLine]:
    """Return usage by the keys ``by``: see :meth:`Ledger.usage`."""
    keys = UsageKeys(by, period.zone)
    require_account(store, account)
    start, end = format_timestamp(period.start), format_timestamp(period.end)
    rows: Iterator[tuple[UsageRow, str]]
    if "group" in by:
        rows = _usage_from_journal(store, account, start, end)
    else:
        rows = ((row, "") for row in _usage_rows(store, account, start, end))
    sums: dict[tuple[str, ...], UsageRow] = {}
    for row, group in rows:
        total = sums.setdefault(keys.of_row(row, group), UsageRow(account, "", "", "", ""))
        total.requests += row.requests
        total.estimated += row.estimated
        total.input_tokens += row.input_tokens
        total.cache_read_tokens += row.cache_read_tokens
        total.output_tokens += row.output_tokens
        total.credits += row.credits
    return [
        UsageLine(
            **dict.fromkeys(("day", "model", "token"), "") | dict(zip(by, key, strict=True)),
            requests=row.requests,
            estimated=row.estimated,
            input_tokens=row.input_tokens,
            cache_read_tokens=row.cache_read_tokens,
            output_tokens=row.output_tokens,
            credits=units_to_credits(row.credits),
        )
        for key, row in sorted(sums.items(), key=lambda item: item[0])
        if row.requests or row.credits or row.input_tokens or row.output_tokens  # else reversed
    ]


def usage_bounds(store: Store, account: str) -> tuple[datetime, datetime] | None:
    """Return the first and the last quarter hour with usage: see :meth:`Ledger.usage_bounds`."""
    require_account(store, account)
    first, last = next(iter(store.fetch_rows(store.sql.usage_bounds, account)))
    return None if first is None else (parse_timestamp(f"{first}:00.000000Z"), parse_timestamp(f"{last}:00.000000Z"))


def statement(store: Store, account: str, period: Period) -> Statement:
    """Return the statement of a period: see :meth:`Ledger.statement`."""
    row = require_account(store, account)
    days = CalendarDays(period.zone)
    start, end = format_timestamp(period.start), format_timestamp(period.end)
    rows = store.fetch_rows(store.sql.rare_entries, account, "", end)
    entries = [Entry.from_row(JournalRow(*values)) for values in rows]
    # A statement must not depend on whether due expiries have been posted, so those that are missing are simulated.
    simulated = simulate_expiries(store, row, end)
    entries += [Entry.from_row(expiry) for expiry in simulated if expiry.kind == "lot_expired" and expiry.at < end]
    opening, movements, reversals, payments = -_used_before(store, account, start), [], [], []
    for entry in entries:
        net = _net_change(entry)
        if format_timestamp(entry.at) < start:
            opening += net
            continue
        label = _movement_label(entry, days)
        if net:
            movements.append(Movement(entry.id, entry.at, entry.kind, units_to_credits(net), label))
        if entry.kind == "charge_reversed":
            model = entry.result["model"]
            reversals.append(Movement(entry.id, entry.at, entry.kind, entry.credits, label, model))
        payment = money_movement(entry)
        if payment is not None:
            payments.append(payment)
    lines = usage(store, account, period, by=("day", "model"))
    used = sum(_to_units(line.credits) for line in lines)
    closing = opening + sum(_to_units(movement.credits) for movement in movements) - used
    return Statement(
        account,
        period,
        units_to_credits(opening),
        tuple(movements),
        tuple(lines),
        units_to_credits(used),
        units_to_credits(closing),
        len(store.fetch_all(HoldRow, store.sql.holds_before, account, end)),
        tuple(reversals),
        tuple(payments),
        tuple(usage(store, account, period, by=("member",)) if store.fetch_rows(store.sql.members, account) else ()),
    )


def _net_change(entry: Entry) -> int:
    """Return the change of the balance that is not usage. The usage is less a reversed charge already."""
    net = sum(entry.postings.get(subaccount, 0) for subaccount in ("available", "held", "owed"))
    return net + entry.postings["used"] if entry.kind == "charge_reversed" else net


def _used_before(store: Store, account: str, end: str) -> int:
    last = quarter_hour(end)
    sums = store.fetch_rows(store.sql.credits_before, account, last)
    return sum(units_from_column(text) for (text,) in sums) + sum(
        row.credits for row, _ in _usage_from_journal(store, account, last, end)
    )


def _movement_label(entry: Entry, days: CalendarDays) -> str:
    label = f"{KIND_LABELS.get(entry.kind, entry.kind)} {days.at(entry.at).value}"
    money = entry.refund_amount
    if entry.kind == "top_up":
        paid = entry.content.get("gross", entry.content["paid"])
        label += f", {paid} {entry.content['currency']} by {entry.content['channel']}"
    elif money is not None and entry.kind != "void":
        label += f", {money}"
    elif entry.kind == "charge_reversed":
        label += f", {entry.result['charge']}: {entry.content['reason']}"
    elif entry.kind in ("transfer_out", "transfer_in"):
        other = entry.content.get("to", entry.content.get("from"))
        label += f" {'to' if 'to' in entry.content else 'from'} {other}: {entry.content['reason']}"
    elif entry.kind == "plan_changed":
        label += f" to {entry.content['terms']['plan']}"
    elif entry.content.get("reason"):
        label += f": {entry.content['reason']}"
    if "only" in entry.content:
        label += f" ({Restriction.from_dict(entry.content['only']).label})"
    return label[:_MAX_LABEL_LENGTH]


KIND_LABELS: Final = {
    "top_up": "Top-up",
    "grant": "Promotional Credits",
    "adjust": "Correction",
    "refund": "Refund",
    "dispute": "Disputed payment",
    "reverse": "Reversal",
    "lot_expired": "Expired Credits",
    "void": "Voided Credits",
    "charge_reversed": "Reversed charge",
    "transfer_out": "Transfer",
    "transfer_in": "Transfer",
    "plan_renewed": "Allowance of a free plan",
    "plan_changed": "Change of the plan",
}
"""Kind of entry -> its label."""


def usage_records(
    store: Store, account: str, period: Period, after: int, skip_unpriced: bool, estimated_only: bool
) -> tuple[list[dict[str, Any]], int]:
    """Return one page of usage records, of entries with numbers above ``after``, and the number of its last entry.

    The number is 0 if there are no more entries. Raises ``no_usage`` unless ``skip_unpriced``.
    """
    require_account(store, account)
    start, end = format_timestamp(period.start), format_timestamp(period.end)
    rows = store.fetch_rows(store.sql.entries_between, account, start, end, after, PAGE_SIZE)
    entries = [Entry.from_row(JournalRow(*row)) for row in rows if row[3] in _CHARGE_KINDS]
    records = [
        _record(entry)
        for entry in entries
        if not (skip_unpriced and "usage" not in entry.content)
        and not (estimated_only and "counts" in entry.result and not entry.result["counts"][0])
    ]
    return records, rows[-1][2] if rows else 0


def _record(entry: Entry) -> dict[str, Any]:
    content = entry.content
    if "usage" not in content:
        raise BillingError(
            "no_usage",
            f"operation {safe_repr(entry.id)} of account {safe_repr(entry.account)} charged Credits that were priced "
            "elsewhere, so it has no usage record; skip unpriced charges to leave it out",
        )
    return {
        "request_id": content["hold"] if entry.kind == "settle" else entry.id,
        "at": content["at"],
        "account": entry.account,
        **({"project": entry.result["member"]} if "member" in entry.result else {}),
        "group": content["group"],
        "model": content["model"],
        "service_tier": content["service_tier"],
        **{name: content[name] for name in ("region", "mode", "upstream") if name in content},
        "usage": content["usage"],
    }
