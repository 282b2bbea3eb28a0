"""What the ledger tells: balances, lots, usage, statements, records for bills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger import api_tokens
from brivionix_billing.ledger.api_tokens import ApiToken
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.projections import (
    AccountRow,
    LotRow,
    TokenRow,
    lot_value,
)
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import units_to_credits, units_to_payable
from brivionix_billing.money import Payable
from brivionix_billing.times import format_instant

__all__ = [
    "PAGE_SIZE",
    "Balance",
    "Lot",
    "account_page",
    "balance",
    "entry_page",
    "lot_by_payment",
    "lots",
    "require_account",
    "simulate_expiries",
    "tokens_of",
]

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


def balance(store: Store, account: str, now: str) -> Balance:
    """See :meth:`Ledger.balance`."""
    row = require_account(store, account)
    simulate_expiries(store, row, now)
    return Balance(
        account,
        parse_timestamp(now),
        units_to_credits(row.balance - row.held),
        units_to_credits(row.held),
        units_to_credits(row.owed),
    )


def simulate_expiries(store: Store, row: AccountRow, now: str) -> list[JournalRow]:
    """Bring a row to where it is when all that has expired is booked; the entries that would. Nothing is written."""
    dry = store.dry_run()
    LockedAccount(dry, row, now).expire_due()
    return dry.written_entries


def require_account(store: Store, account: str) -> AccountRow:
    """Return the row of an account. Raises ``unknown_account``."""
    row = store.fetch_one(AccountRow, store.sql.account, require_id(account, "the account"))
    if row is None:
        raise BillingError("unknown_account", f"there is no account {safe_repr(account)}")
    return row


def lots(store: Store, account: str) -> list[Lot]:
    """See :meth:`Ledger.lots`."""
    require_account(store, account)
    return [lot_from_row(row) for row in store.fetch_all(LotRow, store.sql.lots, account)]


def tokens_of(store: Store, account: str) -> list[ApiToken]:
    """See :meth:`Ledger.tokens`."""
    require_account(store, account)
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
    require_account(store, account)
    return [Entry.from_row(JournalRow(*row)) for row in store.fetch_rows(store.sql.entries, account, after, PAGE_SIZE)]
