"""Entries of the journal: the change of one account by one operation, chained by hashes.

The text of an entry is its canonical JSON (RFC 8785). It includes the hash of the previous entry of the account. The
hash of an entry is the SHA-256 of its text. So altering, removing or inserting an entry breaks the chain up to the
head that the row of the account names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archived_entries import archive_of, entry_archived_error
from brivionix_billing.ledger.database.store import JournalRow
from brivionix_billing.ledger.journal_text import encode_envelope
from brivionix_billing.ledger.lot_changes import MONEY_POSTINGS, LotChange, lot_change
from brivionix_billing.ledger.projections import (
    PAYBACK_KINDS,
    AccountRow,
    LotDelta,
    LotRow,
)
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_credits, units_to_text
from brivionix_billing.money import Money, Payable

__all__ = ["SUBACCOUNTS", "Entry", "EntryDraft", "LotChange", "make_entry", "purchase_terms"]

VERSION: Final = 1
"""Version of the text of an entry. A reader must support all versions, because the journal is never rewritten."""

SUBACCOUNTS: Final = {
    "available": "Credits that the account can spend",
    "held": "Credits held for requests in flight",
    "owed": "debt: Credits used but not paid for; negative",
    "paid": "Credits purchased; negative, as in every subaccount that Credits come from",
    "granted": "promotional Credits granted; negative",
    "adjusted": "manual corrections",
    "voided": "Credits of voided lots",
    "waived": "used Credits of voided lots that the customer does not owe; negative",
    "used": "Credits charged",
    "refunded": "purchased Credits refunded",
    "disputed": "purchased Credits whose payment was clawed back",
    "expired": "Credits expired without use",
    "moved": "Credits moved to another account, or exchanged by a change of the plan; negative if they came in",
}
"""Subaccounts of an account, with their meaning. The postings of an entry move Credits between them and sum to zero."""


@dataclass(slots=True)
class EntryDraft:
    """An entry that an operation is building."""

    kind: str
    at: str
    content: Mapping[str, Any]
    postings: dict[str, int] = field(default_factory=dict)
    lot_deltas: list[LotDelta] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    purchases: dict[str, list[str]] = field(default_factory=dict)

    @property
    def member(self) -> str | None:
        """The member that the entry concerns; ``None``: the account."""
        return self.result.get("member", self.content.get("member"))

    def post(self, subaccount: str, amount: int) -> None:
        """Add an amount to a subaccount."""
        self.postings[subaccount] = self.postings.get(subaccount, 0) + amount


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the journal, and the result of its operation."""

    id: str
    """Id of the operation, chosen by the caller. Ids of the ledger's own entries (expiries) start with ``~``."""
    account: str
    number: int
    """Position in the account's chain, from 1."""
    kind: str
    at: datetime
    """Effective time: for a charge, the time of the request."""
    booked_at: datetime
    """Time of the operation, as the caller passed it."""
    content: Mapping[str, Any]
    """Arguments of the operation. The same id with other content is a conflict."""
    postings: Mapping[str, int]
    """Subaccount -> units of 10^-18 Credit. They sum to zero."""
    lot_deltas: tuple[LotDelta, ...]
    result: Mapping[str, Any]
    """Decisions of the ledger, except for postings and lots."""
    previous: str
    hash: str
    purchases: Mapping[str, list[str]] = field(default_factory=dict)
    """Purchased lot that the entry changes -> currency, amount paid, Credits purchased."""
    repeated: bool = field(default=False, compare=False)
    """True if the operation had been done before, so that this call did nothing."""

    def __repr__(self) -> str:
        repeated = ", repeated" if self.repeated else ""
        amount = f"{format_plain(self.credits)} Credits{repeated}"
        return f"<Entry {self.number} of {self.account}: {self.kind} {self.id}, {amount}>"

    @property
    def postings_in_credits(self) -> dict[str, Decimal]:
        """Subaccount -> Credits that the entry adds to it; negative if it takes them away."""
        return {subaccount: units_to_credits(amount) for subaccount, amount in self.postings.items()}

    @property
    def credits(self) -> Decimal:
        """Amount of the operation: Credits held, charged, purchased, refunded, ... Never negative."""
        return units_to_credits(self.units)

    @property
    def units(self) -> int:
        """Amount of the operation, in units of 10^-18 Credit."""
        subaccounts = _PRIMARY_SUBACCOUNTS.get(self.kind, ())
        return max((abs(self.postings.get(subaccount, 0)) for subaccount in subaccounts), default=0)

    @property
    def owed(self) -> Decimal:
        """Increase of the account's debt, in Credits; negative if the debt decreases."""
        return units_to_credits(-self.postings.get("owed", 0))

    @property
    def lot_changes(self) -> tuple[LotChange, ...]:
        """Changes of lots, in the order in which the lots were changed."""
        return tuple(lot_change(delta, self.purchases.get(delta.lot)) for delta in self.lot_deltas)

    @property
    def expires(self) -> datetime | None:
        """Expiry of the hold or lot."""
        expires = self.result.get("expires")
        return None if expires is None else parse_timestamp(expires)

    @property
    def refund_amount(self) -> Payable | None:
        """Money that a refund, dispute or void pays back, with its tax."""
        money = [change.money for change in self.lot_changes if change.kind in PAYBACK_KINDS and change.money]
        if not money:
            return None
        currency = money[0].currency
        tax = Payable(self.result.get("tax", "0"), currency).minor
        return Payable(tax + sum(part.minor for part in money), currency)

    def money(self) -> dict[str, dict[str, Money]]:
        """Return the double entry in money by currency: ``cash``, ``deferred`` (sold, not used yet) and ``revenue``.

        They sum to zero. Cash comes in as deferred revenue, which becomes revenue when Credits are used or expire.
        ``tax`` is the tax that is owed to the state (negative), and ``fees`` are those of the channel, paid from cash.
        ``transfers`` are to other accounts, whose entries have the opposite.
        """
        accounts: dict[str, dict[str, Money]] = {}
        for change in self.lot_changes:
            if change.money is None:
                continue
            money = change.money.money
            debit, credit = MONEY_POSTINGS[change.kind]
            balances = accounts.setdefault(money.currency, {})
            for name, amount in ((debit, money), (credit, -money)):
                balances[name] = balances.get(name, Money(0, money.currency)) + amount
        tax, fee = self._tax_and_fee()
        for name, text in (("tax", tax), ("fees", fee)):
            if text is not None:
                currency = self.purchases[self.lot_deltas[0].lot][0]  # that of the payment
                balances = accounts[currency]
                balances[name] = Money(_negated(text) if name == "tax" else text, currency)
                balances["cash"] = balances.get("cash", Money(0, currency)) - balances[name]
        return accounts

    def _tax_and_fee(self) -> tuple[str | None, str | None]:
        """Return the tax received and the fee paid; negative if they are paid back."""
        if self.kind == "top_up":
            return self.content.get("tax"), self.content.get("fee")
        tax, fee = self.result.get("tax"), self.result.get("fee")
        return tax and _negated(tax), fee and _negated(fee)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values; amounts are strings."""
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
        """Return the entry, marked as repeated. Raises ``operation_conflict`` if the arguments differ."""
        differences = []
        if self.account != account:
            differences.append(f"account: then {safe_repr(self.account)}, now {safe_repr(account)}")
        if self.kind != kind:
            differences.append(f"kind: then {self.kind}, now {kind}")
        else:
            for key in sorted(self.content.keys() | content.keys()):
                then, now = self.content.get(key), content.get(key)
                if then != now and canonical_json(then) != canonical_json(now):
                    differences.append(f"{key}: then {safe_repr(then)}, now {safe_repr(now)}")
        if differences:
            raise BillingError(
                "operation_conflict",
                f"the operation {safe_repr(self.id)} was done before with other content ({'; '.join(differences)}); "
                "this call changed nothing; use a new id for a new operation",
            )
        return replace(self, repeated=True)

    @classmethod
    def from_row(cls, row: JournalRow, *, canonical_text: bool = False) -> Entry:
        """Read an entry. Raises ``journal_broken`` if columns, text and hash do not match, and ``entry_archived``.

        With ``canonical_text``, also if the text is not canonical JSON with exactly the keys of an entry.
        """
        try:
            body = json.loads(row.body)
            columns = (body["id"], body["account"], body["number"], body["kind"], body["at"], body["booked"])
            matches = columns == tuple(row[:6]) and sha256(row.body.encode()).hexdigest() == row.hash
            if canonical_text:
                matches = matches and body.keys() == _KEYS and canonical_json(body) == row.body.encode()
            if not matches or body["v"] != VERSION:
                raise ValueError("columns, text and hash do not match")
            return cls(
                row.id,
                row.account,
                row.number,
                row.kind,
                parse_timestamp(row.at),
                parse_timestamp(row.booked),
                body["content"],
                {subaccount: units_from_column(amount) for subaccount, amount in body["postings"].items()},
                tuple(
                    LotDelta(
                        lot, kind, units_from_column(credits), units_from_column(money), units_from_column(remaining)
                    )
                    for lot, kind, credits, money, remaining in body["lots"]
                ),
                body["result"],
                body["previous"],
                row.hash,
                {lot: terms for lot, *terms in body["bought"]},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            file = archive_of(row.body) if isinstance(row.body, str) else None
            if file is not None:
                raise entry_archived_error(row.number, row.id, row.account, file) from None
            raise BillingError(
                "journal_broken",
                f"entry {safe_repr(row.number)} ({safe_repr(row.id)}) of {safe_repr(row.account)}: altered: {error}",
            ) from None


def make_entry(id: str, account: AccountRow, draft: EntryDraft, booked: str) -> tuple[JournalRow, Entry]:
    """Build the next entry of an account from a draft. Returns its row and the entry."""
    postings = {subaccount: amount for subaccount, amount in draft.postings.items() if amount}
    if sum(postings.values()):
        raise RuntimeError(f"entry of kind {draft.kind} does not balance: {postings}")  # a bug of this library
    kind, at, number = draft.kind, draft.at, account.number + 1
    body = _entry_body(
        id,
        account.id,
        number,
        kind,
        at,
        booked,
        draft.content,
        postings,
        draft.lot_deltas,
        draft.result,
        account.head,
        draft.purchases,
    )
    is_usual = kind in _USUAL_KINDS and "scope" not in draft.result  # which has texts from the caller
    text = encode_envelope(body, "content") if is_usual else canonical_json(body)
    hash = sha256(text).hexdigest()
    effective = parse_timestamp(at)
    return (
        JournalRow(id, account.id, number, kind, at, booked, text.decode(), hash),
        Entry(
            id,
            account.id,
            number,
            kind,
            effective,
            effective if booked == at else parse_timestamp(booked),
            draft.content,
            postings,
            tuple(draft.lot_deltas),
            draft.result,
            account.head,
            hash,
            draft.purchases,
        ),
    )


def _negated(amount: str) -> str:
    return amount[1:] if amount.startswith("-") else f"-{amount}"


def purchase_terms(lot: LotRow) -> list[str]:
    """Return currency, amount paid and Credits of a purchased lot, as an entry that changes the lot states them."""
    return [str(lot.currency), units_to_text(lot.paid), units_to_text(lot.credits)]


def _entry_body(
    id: str,
    account: str,
    number: int,
    kind: str,
    at: str,
    booked: str,
    content: Mapping[str, Any],
    postings: Mapping[str, int],
    lot_deltas: Iterable[LotDelta],
    result: Mapping[str, Any],
    previous: str,
    purchases: Mapping[str, list[str]],
) -> dict[str, Any]:
    # The journal is hashed and never rewritten, so these keys and the kinds of lot changes keep their names, also where
    # the code has others: `booked` is `booked_at` in the code, `lots` is `lot_deltas`, `bought` is `purchases`.
    return {
        "v": VERSION,
        "id": id,
        "account": account,
        "number": number,
        "kind": kind,
        "at": at,
        "booked": booked,
        "content": content,
        "postings": {subaccount: units_to_text(amount) for subaccount, amount in postings.items()},
        "lots": [
            [
                delta.lot,
                delta.kind,
                units_to_text(delta.credits),
                units_to_text(delta.money),
                units_to_text(delta.remaining),
            ]
            for delta in lot_deltas
        ],
        "result": result,
        "previous": previous,
        "bought": [[lot, *terms] for lot, terms in purchases.items()],
    }


_KEYS: Final = {
    *("v", "id", "account", "number", "kind", "at", "booked", "content", "postings", "lots", "result"),
    *("previous", "bought"),
}
"""Keys of the text of an entry."""
_USUAL_KINDS: Final = frozenset({"hold", "settle", "release", "charge"})
"""Kinds of most entries. Besides ids and a scope, only their content has texts from the caller."""
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
    "void": ("voided",),
    "charge_reversed": ("used",),
    "transfer_out": ("moved",),
    "transfer_in": ("moved",),
    "plan_renewed": ("granted",),
    "plan_changed": ("moved",),
}
"""Kind of entry -> the subaccounts that give the entry its amount."""
