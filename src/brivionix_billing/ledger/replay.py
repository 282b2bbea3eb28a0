"""The journal replayed: what all projections must be. Verifying compares them, rebuilding makes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import TABLE_MAPPINGS, JournalRow, Row, Store
from brivionix_billing.ledger.entry import SUBACCOUNTS, Entry, purchase_terms
from brivionix_billing.ledger.posting.api_tokens import apply_settings
from brivionix_billing.ledger.projections import (
    PAYBACK_KINDS,
    AccountRow,
    HoldRow,
    LotRow,
    TokenRow,
    UsageRow,
    add_usage,
    apply_lot_change,
    apply_postings,
    lot_value,
    quarter_hour,
)
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_text

__all__ = ["AccountReplay", "Inconsistency", "rebuild", "verify"]

_PAGE: Final = 1000


class Inconsistency(NamedTuple):
    """Something in the ledger that is not as it must be."""

    account: str
    number: int | None
    """Of the entry, or ``None``: not in the journal, but in what is derived from it."""
    message: str

    def __str__(self) -> str:
        where = "" if self.number is None else f", entry {self.number}"
        return f"account {self.account}{where}: {self.message}"


@dataclass
class AccountReplay:
    """What the entries of one account come to."""

    account: AccountRow
    lots: dict[str, LotRow] = field(default_factory=dict)
    holds: dict[str, HoldRow] = field(default_factory=dict)
    tokens: dict[str, TokenRow] = field(default_factory=dict)
    usage: dict[tuple[str, str, str], UsageRow] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUBACCOUNTS, 0))

    def apply(self, entry: Entry) -> None:
        """Take in the next entry. Raises ``journal_broken`` if it cannot come next."""
        try:
            self._apply(entry)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise _broken_entry_error(
                entry, f"it speaks of what was not there before ({type(error).__name__}: {error})"
            ) from None

    def _apply(self, entry: Entry) -> None:
        account, content, result = self.account, entry.content, entry.result
        if entry.number != account.number + 1 or entry.previous != account.head:
            raise _broken_entry_error(entry, f"it does not follow entry {account.number}")
        if sum(entry.postings.values()):
            raise _broken_entry_error(entry, "its postings do not balance")
        for book, amount in entry.postings.items():
            if book not in self.totals:
                raise _broken_entry_error(entry, f"there is no book {safe_repr(book)}")
            self.totals[book] += amount
        self._check_postings(entry)
        account.number, account.head = entry.number, entry.hash
        apply_postings(account, entry.postings)
        booked = format_timestamp(entry.booked_at)
        if entry.kind == "hold":
            amount = units_from_column(content["credits"])
            token = content.get("token")
            self.holds[entry.id] = HoldRow(entry.id, account.id, token, amount, booked, result["expires"], "open", None)
            if token is not None:
                self.tokens[token].held += amount
        elif entry.kind in _RESOLUTION_STATES:
            self._resolve(entry, self.holds[content["hold"]])
        elif entry.kind == "token":
            row = TokenRow(entry.id, account.id, result["hash"], "", "", None, None, 1, 0, 0)
            apply_settings(row, content)
            self.tokens[entry.id] = row
        elif entry.kind == "token_changed":
            apply_settings(self.tokens[content["token"]], content)
        for id, part in result.get("shrunk", ()):
            hold = self.holds[id]
            hold.credits -= units_from_column(part)
            if hold.token is not None:
                self.tokens[hold.token].held -= units_from_column(part)
        if entry.kind in ("settle", "charge"):
            self._charge(entry)
        for told in entry.lot_deltas:
            if told.kind == "opened":
                self.lots[entry.id] = self._open_lot(entry, booked)
            if told.lot not in self.lots or apply_lot_change(self.lots[told.lot], *told[1:4]) != told:
                raise _broken_entry_error(
                    entry, f"what it says of lot {safe_repr(told.lot)} does not follow from the entries before"
                )
            lot = self.lots[told.lot]
            if entry.purchases.get(lot.id) != (None if lot.currency is None else purchase_terms(lot)):
                raise _broken_entry_error(entry, f"it says that lot {safe_repr(lot.id)} was bought for something else")
        self._check_invariants(entry)

    @staticmethod
    def _check_postings(entry: Entry) -> None:
        """Whether an entry moves what its kind may move, and as much as it says."""
        about, others = _POSTING_RULES[entry.kind]
        if entry.postings.keys() - {about, *others}:
            raise _broken_entry_error(entry, f"an entry of kind {entry.kind} does not move {', '.join(entry.postings)}")
        said = entry.content.get("credits")
        moved = sum(told.credits for told in entry.lot_deltas if told.kind in PAYBACK_KINDS)
        if entry.kind in ("refund", "dispute"):
            right = moved
        elif said is None or entry.kind in ("release", "hold_expired"):
            return
        else:
            right = units_from_column(said) * (-1 if about in ("paid", "granted", "adjusted") else 1)
        opened = sum(told.credits for told in entry.lot_deltas if told.kind == "opened")
        if entry.postings.get(about, 0) != right or (right < 0 and opened != -right):
            raise _broken_entry_error(entry, "its postings are not what it says")

    def _resolve(self, entry: Entry, hold: HoldRow) -> None:
        late = entry.kind == "settle" and hold.state == "expired"
        if hold.state != "open" and not late:
            raise _broken_entry_error(entry, f"hold {safe_repr(hold.id)} was {hold.state} before")
        if entry.postings.get("held", 0) != (0 if late else -hold.credits):
            raise _broken_entry_error(entry, f"it does not return what hold {safe_repr(hold.id)} holds")
        if hold.token is not None and not late:
            self.tokens[hold.token].held -= hold.credits
        hold.state, hold.resolved_by = _RESOLUTION_STATES[entry.kind], entry.id

    def _charge(self, entry: Entry) -> None:
        amount = units_from_column(entry.content["credits"])
        if entry.postings.get("used", 0) != amount:
            raise _broken_entry_error(entry, "its postings do not charge what it says")
        token = entry.result.get("token")
        if token is not None:
            self.tokens[token].spent += amount
        key = (quarter_hour(format_timestamp(entry.at)), entry.content.get("model", ""), token or "")
        row = self.usage.setdefault(key, UsageRow(self.account.id, *key))
        add_usage(row, entry.result.get("counts"), amount)

    def _open_lot(self, entry: Entry, booked: str) -> LotRow:
        said = entry.content
        credits, (opened, *_) = units_from_column(said["credits"]), entry.lot_deltas
        return LotRow(
            entry.id,
            self.account.id,
            entry.number,
            booked,
            said.get("expires"),
            said.get("channel"),
            said.get("reference"),
            said.get("currency"),
            said.get("price_per_credit"),
            credits,
            credits,
            *(0, 0, 0),
            opened.money,
            *(0, 0),
        )

    def _check_invariants(self, entry: Entry) -> None:
        """What holds after every entry."""
        account, lots = self.account, [self.lots[told.lot] for told in entry.lot_deltas]
        wrong = None
        if min(account.held, account.owed, account.balance - account.held) < 0:
            wrong = (
                f"it leaves {units_to_text(account.balance - account.held)} Credits available, "
                f"{units_to_text(account.held)} held, "
                f"{units_to_text(account.owed)} owed"
            )
        for lot in lots:
            if min(lot.remaining, lot.used, lot.expired, lot.returned) < 0:
                wrong = f"it leaves less than nothing of lot {safe_repr(lot.id)}"
            elif lot.credits != lot.remaining + lot.used + lot.expired + lot.returned:
                wrong = f"the Credits of lot {safe_repr(lot.id)} do not add up"
            elif lot.paid != lot.recognised + lot.refunded + lot_value(lot, lot.remaining):
                wrong = f"the money of lot {safe_repr(lot.id)} does not add up"
        if wrong:
            raise _broken_entry_error(entry, wrong)

    def check_sums(self) -> Iterator[str]:
        """What the account's figures must be by its lots, holds and books."""
        account = self.account
        for what, has, parts in (
            ("the balance", account.balance, (lot.remaining for lot in self.lots.values())),
            ("what is held", account.held, (hold.credits for hold in self.holds.values() if hold.state == "open")),
            ("what is owed", account.owed, (-self.totals["owed"],)),
            ("the sum of all books", 0, self.totals.values()),
        ):
            if has != sum(parts):
                yield f"{what} is not the sum of its parts"

    def rows(self) -> Iterator[Row]:
        """All projections of the account."""
        expiries = [hold.expires for hold in self.holds.values() if hold.state == "open"]
        expiries += [lot.expires for lot in self.lots.values() if lot.remaining and lot.expires is not None]
        self.account.next_expiry = min(expiries, default=None)
        yield self.account
        for rows in (self.lots, self.holds, self.tokens, self.usage):
            yield from rows.values()


def verify(store: Store, heads: Mapping[str, tuple[int, str]]) -> Iterator[Inconsistency]:
    """All that is wrong: in the journal, in what is derived from it, or against heads that were noted before."""
    known: set[str] = set()
    entries = 0
    for account in _iter_accounts(store):
        known.add(account)
        books = AccountReplay(AccountRow(account))
        noted = heads.get(account)
        try:
            for entry in _iter_entries(store, account):
                books.apply(entry)
                if noted is not None and entry.number == noted[0] and entry.hash != noted[1]:
                    yield Inconsistency(account, entry.number, "it is another one than at the checkpoint")
        except BillingError as error:
            yield Inconsistency(account, books.account.number + 1, error.message.partition(": ")[2] or error.message)
            entries += int(store.fetch_rows(store.sql.count_of, account)[0][0])
            continue
        entries += books.account.number
        if not books.account.number:
            yield Inconsistency(account, None, "no entry opened it")
        if noted is not None and noted[0] > books.account.number:
            yield Inconsistency(
                account, None, f"entries {books.account.number + 1} to {noted[0]} of the checkpoint are missing"
            )
        for wrong in books.check_sums():
            yield Inconsistency(account, None, wrong)
        yield from _compare_projections(store, books)
    for account in heads.keys() - known:
        yield Inconsistency(account, None, "it was there at the checkpoint, and is missing")
    for account, lot in store.fetch_rows(store.sql.live_flag_mismatches):
        yield Inconsistency(account, None, f"lot {lot}: live is not what its remaining Credits say")
    strangers = {name: store.fetch_rows(statement) for name, statement in store.sql.orphan_rows.items()}
    for name, found in strangers.items():
        for (account,) in found:
            yield Inconsistency(account, None, f"{name.partition('_')[2]} has rows of it, but there is no such account")
    if entries != store.fetch_rows(store.sql.count)[0][0] and not strangers["billing_journal"]:
        yield Inconsistency("?", None, "the journal has entries that stand in no account's chain")


def _compare_projections(store: Store, books: AccountReplay) -> Iterator[Inconsistency]:
    account = books.account.id
    right: dict[tuple[type, tuple[Any, ...]], Row] = {_row_key(row): row for row in books.rows()}
    for make in TABLE_MAPPINGS:
        try:
            rows = store.fetch_all(make, store.sql.of_account[make], account)
        except BillingError as error:
            yield Inconsistency(account, None, error.message)
            return
        for row in rows:
            expected = right.pop(_row_key(row), None)
            if expected is None:
                yield Inconsistency(account, None, f"{_row_label(row)} is not in the journal")
                continue
            for slot in row.__slots__:
                has, must = getattr(row, slot), getattr(expected, slot)
                if slot == "next_expiry":
                    # A bound: nothing expires before it. It is made sharp when it is reached.
                    if must is not None and (has is None or has > must):
                        yield Inconsistency(
                            account, None, f"{_row_label(row)}: next_expiry is {safe_repr(has)}, too late for {must}"
                        )
                elif has != must:
                    yield Inconsistency(
                        account,
                        None,
                        f"{_row_label(row)}: {slot} is {safe_repr(_display(has))}, by the journal "
                        f"{safe_repr(_display(must))}",
                    )
    for row in right.values():
        yield Inconsistency(account, None, f"{_row_label(row)} is missing")


def _display(has: object) -> object:
    return units_to_text(has) if isinstance(has, int) and abs(has) >= 10**9 else has


def _row_label(row: Row) -> str:
    table = TABLE_MAPPINGS[type(row)].table.name.partition("_")[2]
    return "its row" if isinstance(row, AccountRow) else f"{table} {' '.join(map(str, _row_key(row)[1]))}"


def _row_key(row: Row) -> tuple[type, tuple[Any, ...]]:
    if isinstance(row, UsageRow):
        return UsageRow, (row.quarter_hour, row.model, row.token)
    return type(row), (row.id,)


def rebuild(store: Store, *, accept_loss: bool) -> int:
    """Make all projections anew from the journal, which must be sound; how many rows. Raises ``journal_broken``."""
    if store.sql.lock_all:
        store.execute(store.sql.lock_all)
    for account, number, _ in store.fetch_rows(store.sql.heads):
        there = store.fetch_rows(store.sql.count_of, account)[0][0]
        if there < number and not accept_loss:
            # The tables know of entries that the journal has lost: they are the last trace of them.
            raise BillingError(
                "journal_broken",
                f"account {safe_repr(account)} had {number} entries, and the journal has {there}: entries were "
                "cut off, "
                "and rebuilding would cover it up; go back to a backup",
            )
    accounts = [row[0] for row in store.fetch_rows(store.sql.journal_accounts)]
    for make in TABLE_MAPPINGS:
        store.execute(store.sql.delete[make])
    made = 0
    for account in accounts:
        books = AccountReplay(AccountRow(account))
        for entry in _iter_entries(store, account):
            books.apply(entry)
        for row in books.rows():
            store.insert(row)
            made += 1
    return made


def _iter_accounts(store: Store) -> Iterator[str]:
    after = ""
    while page := store.fetch_rows(store.sql.accounts, after, _PAGE):
        for (account,) in page:
            yield account
        after = page[-1][0]


def _iter_entries(store: Store, account: str) -> Iterator[Entry]:
    after = 0
    while page := store.fetch_rows(store.sql.entries, account, after, _PAGE):
        for row in page:
            yield Entry.from_row(JournalRow(*row), canonical_text=True)
        after = page[-1][2]


def _broken_entry_error(entry: Entry, what: str) -> BillingError:
    return BillingError("journal_broken", f"entry {entry.number} ({safe_repr(entry.id)}): {what}")


_RELEASE_TARGETS: Final = ("available", "owed")
_POSTING_RULES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "account": ("", ()),
    "token": ("", ()),
    "token_changed": ("", ()),
    "hold": ("held", ("available",)),
    "release": ("held", _RELEASE_TARGETS),
    "hold_expired": ("held", _RELEASE_TARGETS),
    "settle": ("used", ("held", *_RELEASE_TARGETS)),
    "charge": ("used", _RELEASE_TARGETS),
    "top_up": ("paid", _RELEASE_TARGETS),
    "grant": ("granted", _RELEASE_TARGETS),
    "adjust": ("adjusted", _RELEASE_TARGETS),
    "refund": ("refunded", ("available",)),
    "dispute": ("disputed", ("held", "expired", *_RELEASE_TARGETS)),
    "reverse": ("", ("refunded", "disputed", "expired", *_RELEASE_TARGETS)),
    "lot_expired": ("expired", ("available",)),
}
"""The book that an entry of each kind is about, and the others that it may move."""
_RESOLUTION_STATES: Final = {"settle": "settled", "release": "released", "hold_expired": "expired"}
