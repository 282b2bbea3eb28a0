"""Entries of the journal: what an operation did to an account, chained by hash.

The text of an entry is its canonical JSON (RFC 8785), which holds the hash of the entry before it on the same account.
Its hash is SHA-256 over that text. So no byte of it can change, and no entry can be taken out or put in, without
breaking the chain up to the head that the account names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json, canonical_json_envelope
from brivionix_billing.decimals import Rounding, format_plain, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import JournalRow
from brivionix_billing.ledger.projections import PAYBACK_KINDS, LotDelta, LotRow
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_credits, units_to_payable, units_to_text
from brivionix_billing.money import Money, Payable

__all__ = ["SUBACCOUNTS", "Entry", "LotChange", "make_entry"]

VERSION: Final = 1
"""Of the text of an entry. A reader knows all versions there ever were: the journal is never rewritten."""

SUBACCOUNTS: Final = {
    "available": "what the account can spend",
    "held": "set aside for requests that are under way",
    "owed": "below zero: used, but not paid for",
    "paid": "Credits that were bought; below zero, as everything is that brings Credits in",
    "granted": "promotional Credits that were given",
    "adjusted": "corrections by hand",
    "used": "charges",
    "refunded": "bought Credits that were given back",
    "disputed": "bought Credits whose payment was taken back",
    "expired": "Credits that nobody used in time",
}
"""The books that the postings of an entry move Credits between. Over all of them an entry sums to zero."""


class LotChange(NamedTuple):
    """The part of an entry that one lot bore."""

    lot: str
    kind: str
    """``used``, ``expired``, ``refunded``, ``taken_back``, ``written_off``, ``restored`` or ``opened``."""
    credits: Decimal
    remaining: Decimal
    """Credits in the lot afterwards."""
    money: Payable | None
    """In whole coins: recognised as revenue if ``used`` or ``expired``, given back if ``refunded`` or ``taken_back``.
    ``None``: a promotional lot, nothing was paid for it. Most single charges are less than a coin; over the life of a
    lot the coins add up to what was paid."""
    cost: Money | None
    """What these Credits were bought for, to 10^-18: Credits x paid / Credits of the lot. Rounded so that the costs of
    all that became of a lot add up to what was paid for it, exactly."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the journal, and the result of the operation that made it."""

    id: str
    """The caller's operation id. Those of the ledger itself (what expires) begin with ``~``."""
    account: str
    number: int
    """Its place in the account's chain, from 1."""
    kind: str
    at: datetime
    """The time that it counts for: of a charge, when the request was made."""
    booked_at: datetime
    """The time that the caller of the operation gave as now."""
    content: Mapping[str, Any]
    """What the caller asked for; the same id with another content is a conflict."""
    postings: Mapping[str, int]
    """Book -> units of 10^-18 Credit. They sum to zero."""
    lot_deltas: tuple[LotDelta, ...]
    result: Mapping[str, Any]
    """What the ledger decided, beyond postings and lots."""
    previous: str
    hash: str
    purchases: Mapping[str, list[str]] = field(default_factory=dict)
    """Of each lot that was moved and paid for: currency, what was paid, and for how many Credits."""
    repeated: bool = field(default=False, compare=False)
    """This operation was done before, and nothing was done now."""

    def __repr__(self) -> str:
        again = ", repeated" if self.repeated else ""
        amount = f"{format_plain(self.credits)} Credits{again}"
        return f"<Entry {self.number} of {self.account}: {self.kind} {self.id}, {amount}>"

    @property
    def postings_in_credits(self) -> dict[str, Decimal]:
        """Book -> Credits that the entry moves into it, or out of it where it is negative."""
        return {book: units_to_credits(amount) for book, amount in self.postings.items()}

    @property
    def credits(self) -> Decimal:
        """The Credits that the operation was about: held, charged, bought, refunded, ... Never negative."""
        return units_to_credits(self.units)

    @property
    def units(self) -> int:
        """The same in units of 10^-18 Credit."""
        return max((abs(self.postings.get(book, 0)) for book in _PRIMARY_SUBACCOUNTS.get(self.kind, ())), default=0)

    @property
    def owed(self) -> Decimal:
        """Credits that the account owes more than before; negative where it owes less."""
        return units_to_credits(-self.postings.get("owed", 0))

    @property
    def lot_changes(self) -> tuple[LotChange, ...]:
        """The lots that bore it, in the order of use."""
        return tuple(
            LotChange(
                m.lot,
                m.kind,
                units_to_credits(m.credits),
                units_to_credits(m.remaining),
                *_delta_value(m, self.purchases.get(m.lot)),
            )
            for m in self.lot_deltas
        )

    @property
    def expires(self) -> datetime | None:
        """When the hold or the lot expires."""
        found = self.result.get("expires")
        return None if found is None else parse_timestamp(found)

    @property
    def refund_amount(self) -> Payable | None:
        """The money of a refund or dispute."""
        money = [use.money for use in self.lot_changes if use.kind in PAYBACK_KINDS and use.money]
        return Payable(sum(part.minor for part in money), money[0].currency) if money else None

    def money(self) -> dict[str, dict[str, Money]]:
        """The double entry in money, by currency: ``cash``, ``deferred`` (sold, not used yet) and ``revenue``.

        They sum to zero: cash comes in as deferred revenue, which becomes revenue when Credits are used or expire.
        """
        books: dict[str, dict[str, Money]] = {}
        for use in self.lot_changes:
            if use.money is None:
                continue
            one = use.money.money
            debit, credit = _MONEY_POSTINGS[use.kind]
            of = books.setdefault(one.currency, {})
            for book, amount in ((debit, one), (credit, -one)):
                of[book] = of.get(book, Money(0, one.currency)) + amount
        return books

    def as_dict(self) -> dict[str, Any]:
        """As JSON tells it; amounts are strings."""
        body = _entry_body(
            self.id,
            self.account,
            self.number,
            self.kind,
            format_timestamp(self.at),
            format_timestamp(self.booked_at),
            self.content,
            self.postings,
            self.lot_deltas,
            self.result,
            self.previous,
            self.purchases,
        )
        return {**body, "hash": self.hash}

    def match_repeat(self, account: str, kind: str, content: Mapping[str, Any]) -> Entry:
        """The result of asking for this entry again. Raises ``operation_conflict`` if something else is asked for."""
        differs = []
        if self.account != account:
            differs.append(f"account: then {safe_repr(self.account)}, now {safe_repr(account)}")
        if self.kind != kind:
            differs.append(f"kind: then {self.kind}, now {kind}")
        else:
            for key in sorted(self.content.keys() | content.keys()):
                then, now = self.content.get(key), content.get(key)
                if then != now and canonical_json(then) != canonical_json(now):
                    differs.append(f"{key}: then {safe_repr(then)}, now {safe_repr(now)}")
        if differs:
            raise BillingError(
                "operation_conflict",
                f"the operation {safe_repr(self.id)} was done before with other content ({'; '.join(differs)}); "
                "nothing "
                "was done now; an operation of its own needs an id of its own",
            )
        return replace(self, repeated=True)

    @classmethod
    def from_row(cls, row: JournalRow, *, canonical_text: bool = False) -> Entry:
        """From the database. Raises ``journal_broken`` where row, text and hash do not belong together.

        ``canonical_text``: also where the text is not exactly the one that an entry has.
        """
        try:
            body = json.loads(row.body)
            told = (body["id"], body["account"], body["number"], body["kind"], body["at"], body["booked"])
            sound = told == tuple(row[:6]) and sha256(row.body.encode()).hexdigest() == row.hash
            if canonical_text:
                sound = sound and body.keys() == _KEYS and canonical_json(body) == row.body.encode()
            if not sound or body["v"] != VERSION:
                raise ValueError("its columns, its text and its hash do not belong together")
            return cls(
                row.id,
                row.account,
                row.number,
                row.kind,
                parse_timestamp(row.at),
                parse_timestamp(row.booked),
                body["content"],
                {book: units_from_column(amount) for book, amount in body["postings"].items()},
                tuple(
                    LotDelta(lot, how, units_from_column(c), units_from_column(m), units_from_column(left))
                    for lot, how, c, m, left in body["lots"]
                ),
                body["result"],
                body["previous"],
                row.hash,
                {lot: what for lot, *what in body["bought"]},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BillingError(
                "journal_broken",
                f"entry {safe_repr(row.number)} ({safe_repr(row.id)}) of {safe_repr(row.account)}: it was "
                f"changed: {error}",
            ) from None


def make_entry(
    id: str,
    account: str,
    number: int,
    kind: str,
    at: str,
    booked: str,
    content: Mapping[str, Any],
    postings: Mapping[str, int],
    moves: list[LotDelta],
    result: Mapping[str, Any],
    previous: str,
    bought: Mapping[str, list[str]],
) -> tuple[JournalRow, Entry]:
    """A new entry: its row, and the entry itself."""
    postings = {book: amount for book, amount in postings.items() if amount}
    if sum(postings.values()):
        raise RuntimeError(f"an entry of kind {kind} does not balance: {dict(postings)}")  # a fault of ours
    body = _entry_body(id, account, number, kind, at, booked, content, postings, moves, result, previous, bought)
    text = canonical_json_envelope(body, "content")  # all the rest is the ledger's own
    hash = sha256(text).hexdigest()
    counts_for = parse_timestamp(at)
    return (
        JournalRow(id, account, number, kind, at, booked, text.decode(), hash),
        Entry(
            id,
            account,
            number,
            kind,
            counts_for,
            counts_for if booked == at else parse_timestamp(booked),
            content,
            postings,
            tuple(moves),
            result,
            previous,
            hash,
            bought,
        ),
    )


def purchase_terms(lot: LotRow) -> list[str]:
    """What a lot cost, as an entry that moves it says it."""
    return [str(lot.currency), units_to_text(lot.paid), units_to_text(lot.credits)]


def _delta_value(move: LotDelta, bought: list[str] | None) -> tuple[Payable | None, Money | None]:
    """What a move is worth in coins, and what its Credits were bought for."""
    if bought is None:
        return None, None
    currency, paid, credits = bought[0], units_from_column(bought[1]), units_from_column(bought[2])
    after = move.remaining if move.kind in _REDUCING_KINDS else move.remaining - move.credits
    if move.kind in ("taken_back", "written_off"):
        after = 0  # these had left the lot before: there is no place in it to count from
    cost = _cost_of_part(paid, credits, after + move.credits) - _cost_of_part(paid, credits, after)
    return units_to_payable(move.money, currency), Money(units_to_credits(cost), currency)


def _cost_of_part(paid: int, credits: int, part: int) -> int:
    return round_quotient(paid * part, credits, Rounding.HALF_UP)


def _entry_body(
    id: str,
    account: str,
    number: int,
    kind: str,
    at: str,
    booked: str,
    content: Mapping[str, Any],
    postings: Mapping[str, int],
    moves: Iterable[LotDelta],
    result: Mapping[str, Any],
    previous: str,
    bought: Mapping[str, list[str]],
) -> dict[str, Any]:
    return {
        "v": VERSION,
        "id": id,
        "account": account,
        "number": number,
        "kind": kind,
        "at": at,
        "booked": booked,
        "content": content,
        "postings": {book: units_to_text(amount) for book, amount in postings.items()},
        "lots": [
            [m.lot, m.kind, units_to_text(m.credits), units_to_text(m.money), units_to_text(m.remaining)] for m in moves
        ],
        "result": result,
        "previous": previous,
        "bought": [[lot, *what] for lot, what in bought.items()],
    }


_PRIMARY_SUBACCOUNTS: Final = {
    "hold": ("held",),
    "release": ("held",),
    "hold_expired": ("held",),
    "settle": ("used",),
    "charge": ("used",),
    "top_up": ("paid",),
    "grant": ("granted",),
    "adjust": ("adjusted",),
    "refund": ("refunded",),
    "dispute": ("disputed",),
    "lot_expired": ("expired",),
    "reverse": ("refunded", "disputed"),
}
# These keys are in journals, which are hashed and never rewritten: they cannot be renamed. `booked` is the attribute
# `booked_at`, and `bought` is `purchases`.
_KEYS: Final = {
    *("v", "id", "account", "number", "kind", "at", "booked", "content", "postings", "lots", "result"),
    *("previous", "bought"),
}
_REDUCING_KINDS: Final = ("used", "expired", "refunded")
_MONEY_POSTINGS: Final = {
    "opened": ("cash", "deferred"),
    "used": ("deferred", "revenue"),
    "expired": ("deferred", "revenue"),
    "refunded": ("deferred", "cash"),
    "taken_back": ("revenue", "cash"),
    "written_off": ("revenue", "cash"),
    "restored": ("cash", "deferred"),
}
