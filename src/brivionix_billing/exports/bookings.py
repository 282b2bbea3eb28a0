"""Bookings: the ledger as dated double entries in money and Credits, from which books and reports are made.

The usage of one account on one day is one booking; every other entry of the journal is a booking of its own. Money is
in minor units. Deferred revenue is, at every moment, the purchase price of the unused Credits of each lot, rounded half
up. Revenue is what is left: deferred revenue that decreased and was not paid back.

A booking has the date of its entry, in a time zone. A request may be older than the lot that pays for it. Its booking
is then a debt on the day of the request, which the lot settles on the day it was opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.exports.lots import MoneyKey, Position, PurchasedLot
from brivionix_billing.ledger.entry import SUBACCOUNTS, Entry
from brivionix_billing.ledger.statements import KIND_LABELS as ENTRY_LABELS
from brivionix_billing.ledger.units import units_from_column, units_to_text
from brivionix_billing.times import CalendarDays, Period

if TYPE_CHECKING:
    from brivionix_billing.ledger import Ledger, Statement

__all__ = [
    "KIND_LABELS",
    "AccountBooks",
    "Booking",
    "account_books",
    "require_whole_days",
]

KIND_LABELS: Final = {"usage": "Usage", **ENTRY_LABELS}
"""Kind of booking -> its label."""
_USAGE_KINDS: Final = ("settle", "charge", "release", "hold_expired")
"""Kinds of entries that are summed by day. A hold that ends may settle a debt."""
_SILENT_KINDS: Final = (
    "account",
    "token",
    "token_changed",
    "hold",
    "order",
    "order_cancelled",
    "secret_rotated",
    "account_frozen",
    "member_added",
    "member_frozen",
    "member_unfrozen",
    "member_removed",
    "account_unfrozen",
    "archived",
    "set_limit",
    "remove_limit",
    "expiry_changed",
    "set_signal",
    "remove_signal",
    "signals_acknowledged",
    "subscribed",
    "plan_order",
    "plan_cancelled",
)
"""Kinds of entries that change neither money nor the balance."""
_REVENUE: Final = ("usage", "breakage", "corrections")
"""Money accounts that are revenue."""
_TRIES: Final = 5
"""Number of times that a journal is read which is being written."""
_OTHER_MONEY: Final = ("tax", "fees")
"""Money accounts of an entry that are no money of a lot: tax on a payment, fees of the channel."""
_MAIN_REVENUE: Final = {"lot_expired": "breakage", "adjust": "corrections"}
"""Kind of booking -> its revenue, if it is not usage."""
_CHANGE_REVENUE: Final = {"expired": "breakage", "written_off": "breakage"}
"""Kind of lot change -> its revenue, if it is not that of the booking."""


class _Effect(NamedTuple):
    """The signs with which a change of a lot enters the books."""

    credits: int
    cash: int
    revenue: int
    promotional: str
    """Reason of the change of a promotional lot."""


_MOVES: Final = {"moved_out": -1, "moved_in": 1}
"""Kind of lot change -> the sign of money that moves between accounts."""
_EFFECTS: Final = {
    "opened": _Effect(1, 1, 0, "granted"),
    "used": _Effect(-1, 0, 1, "used"),
    "expired": _Effect(-1, 0, 1, "expired"),
    "refunded": _Effect(-1, -1, 0, "voided"),
    "restored": _Effect(1, 1, 0, "voided"),
    "reversed": _Effect(1, 0, -1, "used"),
    # These Credits had left the lot before.
    "taken_back": _Effect(0, -1, -1, "voided"),
    "moved_out": _Effect(-1, 0, 0, "moved"),
    "moved_in": _Effect(1, 0, 0, "moved"),
    "written_off": _Effect(0, -1, -1, "voided"),
}
"""Kind of lot change -> its effect."""


@dataclass(slots=True)
class Booking:
    """A dated double entry. Amounts are in units of 10^-18; debits are positive."""

    day: str
    account: str
    kind: str
    """A key of :data:`KIND_LABELS`."""
    id: str
    """Id of the entry; ``usage:ACCOUNT:DAY`` of summed usage."""
    reference: str = ""
    """Reference of the payment, if there is one."""
    lots: dict[str, int] = field(default_factory=dict)
    """Purchased lot -> change of its Credits."""
    promotional: dict[str, int] = field(default_factory=dict)
    """Reason -> change of the Credits that nothing was paid for: ``granted``, ``adjusted``, ``used``, ``expired``."""
    owed: int = 0
    """Change of the balance by debt: negative if the debt grows."""
    cash: dict[str, int] = field(default_factory=dict)
    """Purchased lot -> money received, negative if it was paid back."""
    other: dict[tuple[str, str], int] = field(default_factory=dict)
    """(Purchased lot, ``tax`` or ``fees``) -> amount, which is part of the cash."""
    moved: dict[str, int] = field(default_factory=dict)
    """Purchased lot -> purchase price of Credits that came from another account, negative if they went to one."""
    revenue: dict[tuple[str, str], int] = field(default_factory=dict)
    """(Purchased lot, name) -> revenue that is not that of the booking's kind."""
    money: dict[MoneyKey, int] = field(default_factory=dict)
    """The double entry in money. It sums to zero in every currency."""

    @property
    def net(self) -> int:
        """Change of the account's balance."""
        return sum(self.lots.values()) + sum(self.promotional.values()) + self.owed

    def post(self, name: str, lot: PurchasedLot, amount: int) -> None:
        """Add an amount to a money account."""
        if amount:
            key = MoneyKey(name, lot.channel, lot.currency)
            self.money[key] = self.money.get(key, 0) + amount


@dataclass(frozen=True, slots=True)
class AccountBooks:
    """The bookings of one account in a period, between its opening and its closing position."""

    account: str
    lots: Mapping[str, PurchasedLot]
    opening: Position
    bookings: list[Booking]
    """In the order of their days. On each day, usage is last."""
    closing: Position
    open_holds: int
    """Number of open holds made before the end of the period. Until they are resolved, usage may be added."""


def require_whole_days(period: Period) -> tuple[str, str]:
    """Return the first day of a period and the day after its last. Raises ``invalid_period`` for parts of days."""
    days = CalendarDays(period.zone)
    first, end = days.at(period.start), days.at(period.end)
    if first.start != period.start or end.start != period.end:
        raise BillingError(
            "invalid_period",
            f"{period} has parts of days in {period.zone}; books have dates, so use a month or FROM/TO with dates",
        )
    return first.value, end.value


def account_books(ledger: Ledger, account: str, period: Period) -> AccountBooks:
    """Return the books of one account in a period of whole days.

    Raises ``journal_broken`` if an entry has a kind, a subaccount or money that is unknown here, or if the books do not
    match the statement of the account: nothing is left out. The ledger may be written meanwhile.
    """
    first, end = require_whole_days(period)
    lots, raw, statement = _read_consistently(ledger, account, period)
    raw.sort(key=lambda booking: (booking.day, booking.kind == "usage"))  # stable: else the order of the journal
    state, opening = Position(), Position()
    bookings: list[Booking] = []
    for booking in raw:
        if booking.day >= end:
            break
        _apply(booking, state, lots)
        if booking.day < first:
            opening = Position({id: left for id, left in state.lots.items() if left}, state.promotional, state.owed)
        else:
            bookings.append(booking)
    closing = Position({id: left for id, left in state.lots.items() if left}, state.promotional, state.owed)
    for name, stated, computed in (
        ("opening", statement.opening, opening.net),
        ("closing", statement.closing, closing.net),
    ):
        if units_from_column(format_plain(stated)) != computed:
            raise BillingError(
                "journal_broken",
                f"account {safe_repr(account)}: the {name} of its statement is {format_plain(stated)} Credits, but its "
                f"bookings add up to {units_to_text(computed)}; run 'ledger verify'",
            )
    return AccountBooks(account, lots, opening, bookings, closing, statement.open_holds)


class _Journal:
    """Turns the entries of one account into bookings, without their money."""

    def __init__(self, account: str, days: CalendarDays) -> None:
        self.account, self.days = account, days
        self.lots: dict[str, PurchasedLot] = {}
        self.floors: dict[str, str] = {}
        """Lot -> the last day on which Credits were added to it. No booking reduces it earlier."""
        self.usage: dict[str, Booking] = {}
        self.bookings: list[Booking] = []
        self.last_number = 0
        """Number of the last posted entry."""

    def add(self, entry: Entry, *, posted: bool = True) -> None:
        """Add the next entry of the journal, or one that is due but not posted."""
        if posted:
            self.last_number = entry.number
        if entry.kind not in (*_USAGE_KINDS, *_SILENT_KINDS, *KIND_LABELS):
            raise _unknown_error(entry, f"kind {safe_repr(entry.kind)}")
        unknown = entry.postings.keys() - SUBACCOUNTS.keys()
        if unknown:
            raise _unknown_error(entry, f"subaccount {safe_repr(min(unknown))}")
        when = self.days.at(entry.at).value
        for delta in entry.lot_deltas:
            if delta.kind not in _EFFECTS:
                raise _unknown_error(entry, f"change {safe_repr(delta.kind)} of a lot")
            if _EFFECTS[delta.kind].credits > 0:
                self.floors[delta.lot] = max(when, self.floors.get(delta.lot, when))
        day = max([when, *(self.floors[delta.lot] for delta in entry.lot_deltas)])
        owed, net = entry.postings.get("owed", 0), _net_change(entry)
        if not entry.lot_deltas and not owed and not net:
            return
        booking = self._booking(entry, day)
        before = booking.net
        self._add_lots(entry, booking, day)
        booking.owed += owed
        if booking.net - before != net:
            raise _unknown_error(entry, "change of the balance")
        if day != when and net:
            self._booking(entry, when, "debt:").owed += net
            booking.owed -= net

    def _booking(self, entry: Entry, day: str, prefix: str = "") -> Booking:
        if entry.kind in _USAGE_KINDS:
            booking = self.usage.get(day)
            if booking is None:
                booking = self.usage[day] = Booking(day, self.account, "usage", f"usage:{self.account}:{day}")
                self.bookings.append(booking)
            return booking
        reference = entry.content.get("reference", entry.result.get("reference")) or ""
        booking = Booking(day, self.account, entry.kind, prefix + entry.id, reference)
        self.bookings.append(booking)
        return booking

    def _add_lots(self, entry: Entry, booking: Booking, day: str) -> None:
        main = _MAIN_REVENUE.get(entry.kind, "usage")
        recorded: dict[str, dict[str, int]] = {}
        for delta in entry.lot_deltas:
            effect = _EFFECTS[delta.kind]
            terms = entry.purchases.get(delta.lot)
            if terms is None:
                reason = "adjusted" if entry.kind == "adjust" else effect.promotional
                booking.promotional[reason] = booking.promotional.get(reason, 0) + effect.credits * delta.credits
                continue
            currency = terms[0]
            if delta.kind == "opened":
                paid, credits = units_from_column(terms[1]), units_from_column(terms[2])
                channel = str(entry.content["channel"])
                self.lots[delta.lot] = PurchasedLot(delta.lot, day, channel, currency, paid, credits)
            elif delta.kind == "moved_in":
                paid, credits = units_from_column(terms[1]), units_from_column(terms[2])
                channel = next(str(each["channel"]) for each in entry.result["lots"] if each["lot"] == delta.lot)
                self.lots[delta.lot] = PurchasedLot(delta.lot, day, channel, currency, paid, credits)
            booking.lots[delta.lot] = booking.lots.get(delta.lot, 0) + effect.credits * delta.credits
            cash, revenue = effect.cash * delta.money, effect.revenue * delta.money
            booking.cash[delta.lot] = booking.cash.get(delta.lot, 0) + cash
            name = _CHANGE_REVENUE.get(delta.kind, main)
            if name != main:
                key = delta.lot, name
                booking.revenue[key] = booking.revenue.get(key, 0) + revenue
            moved = _MOVES.get(delta.kind, 0) * delta.money
            if moved:
                booking.moved[delta.lot] = booking.moved.get(delta.lot, 0) + moved
            sums = recorded.setdefault(currency, {"cash": 0, "deferred": 0, "revenue": 0, "transfers": 0})
            sums["cash"] += cash
            sums["revenue"] -= revenue
            sums["transfers"] += moved
            sums["deferred"] += revenue - cash - moved
        _add_other_money(entry, booking, recorded)


def _add_other_money(entry: Entry, booking: Booking, recorded: Mapping[str, dict[str, int]]) -> None:
    """Add tax and fees, which are in the cash of the entry, but not in the money of its lot.

    Raises ``journal_broken`` if the entry has further money that the changes of its lots do not explain.
    """
    for currency, accounts in entry.money().items():
        expected = recorded.get(currency, {"cash": 0, "deferred": 0, "revenue": 0})
        found = {name: units_from_column(format_plain(amount.amount)) for name, amount in accounts.items()}
        ours = [delta.lot for delta in entry.lot_deltas if entry.purchases.get(delta.lot, [""])[0] == currency]
        for name in _OTHER_MONEY:
            amount = found.pop(name, 0)
            if amount and ours:
                expected["cash"] -= amount
                booking.other[ours[0], name] = booking.other.get((ours[0], name), 0) + amount
                booking.cash[ours[0]] -= amount
        for name, amount in found.items():
            if amount != expected.get(name, 0):
                raise _unknown_error(entry, f"money account {safe_repr(name)}")


def _unknown_error(entry: Entry, what: str) -> BillingError:
    return BillingError(
        "journal_broken",
        f"entry {entry.number} ({safe_repr(entry.id)}) of {safe_repr(entry.account)}: {what} is unknown to the "
        "exports; use the version of brivionix-billing that wrote it",
    )


def _net_change(entry: Entry) -> int:
    return sum(entry.postings.get(subaccount, 0) for subaccount in ("available", "held", "owed"))


def _read_consistently(
    ledger: Ledger, account: str, period: Period
) -> tuple[dict[str, PurchasedLot], list[Booking], Statement]:
    """Read the journal and the statement. If entries were posted in between, read both again."""
    for _ in range(_TRIES):
        journal = _Journal(account, CalendarDays(period.zone))
        for entry in ledger.journal(account):
            journal.add(entry)
        for entry in ledger.due_expiries(account, at=period.end):
            if entry.kind == "lot_expired" and entry.at < period.end:
                journal.add(entry, posted=False)
        statement = ledger.statement(account, period)
        if next(ledger.journal(account, after=journal.last_number), None) is None:
            break
    return journal.lots, journal.bookings, statement


def _apply(booking: Booking, state: Position, lots: Mapping[str, PurchasedLot]) -> None:
    """Apply a booking to the position, and derive its money from the change of deferred revenue."""
    main = _MAIN_REVENUE.get(booking.kind, "usage")
    for id, change in booking.lots.items():
        lot, before = lots[id], state.lots.get(id, 0)
        after = before + change
        if after < 0:
            raise BillingError(
                "journal_broken", f"lot {safe_repr(id)} has less than no Credits on {booking.day}; run 'ledger verify'"
            )
        state.lots[id] = after
        deferred, cash = lot.deferred(after) - lot.deferred(before), booking.cash.get(id, 0)
        booking.post("cash", lot, cash)
        booking.post("deferred", lot, -deferred)
        moved = booking.moved.get(id, 0)
        booking.post("transfers", lot, moved)
        rest = cash + moved - deferred
        for name in _OTHER_MONEY:
            part = booking.other.get((id, name), 0)
            rest += part
            booking.post(name, lot, part)
        for name in _REVENUE:
            part = booking.revenue.get((id, name), 0)
            rest -= part
            booking.post(name, lot, -part)
        booking.post(main, lot, -rest)
    state.promotional += sum(booking.promotional.values())
    state.owed += booking.owed
    for currency in {key.currency for key in booking.money}:
        if sum(amount for key, amount in booking.money.items() if key.currency == currency):
            raise RuntimeError(f"booking {booking.id} does not balance in {currency}")  # a bug of this library
