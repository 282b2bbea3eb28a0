"""Receipts of top-ups: what the customer paid for a lot, with tax, and what was paid back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import JournalRow, Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.money_movements import MoneyMovement, money_movement
from brivionix_billing.ledger.reports import Lot, lots, payments
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.money import Payable
from brivionix_billing.times import END_OF_TIME, format_instant

__all__ = ["TopUpReceipt", "top_up_receipt"]


@dataclass(frozen=True, slots=True)
class TopUpReceipt:
    """A received payment as the customer sees it. Its fee is the seller's, and is no part of it."""

    lot: str
    account: str
    at: datetime
    """Time of the payment at its channel; if it is unknown, of the top-up."""
    channel: str
    reference: str
    order: str | None
    credits: Decimal
    price_per_credit: Decimal | None
    expires: datetime | None
    """Expiry of the Credits."""
    price: Payable
    """Price of the Credits without tax, before the coupon."""
    coupon: Payable
    net: Payable
    """Amount paid without tax: ``price - coupon``."""
    tax: Payable
    gross: Payable
    """Amount paid: ``net + tax``."""
    paid_back: tuple[MoneyMovement, ...]
    """Refunds, disputes and their reversals, the oldest first. Money paid back is negative."""
    kept: Payable
    """Amount paid less what was paid back, with tax."""

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON values."""
        return {
            "lot": self.lot,
            "account": self.account,
            "at": format_instant(self.at),
            "channel": self.channel,
            "reference": self.reference,
            "order": self.order,
            "credits": format_plain(self.credits),
            "price_per_credit": None if self.price_per_credit is None else format_plain(self.price_per_credit),
            "expires": None if self.expires is None else format_instant(self.expires),
            **{name: str(getattr(self, name)) for name in ("price", "coupon", "net", "tax", "gross")},
            "paid_back": [movement.as_dict() for movement in self.paid_back],
            "kept": str(self.kept),
        }


def top_up_receipt(store: Store, account: str, lot: str) -> TopUpReceipt:
    """Return the receipt of a purchased lot: see :meth:`Ledger.top_up_receipt`."""
    purchased = _purchased_lot(store, account, require_id(lot, "the lot"))
    payment = next(one for one in payments(store, account) if one.lot == lot)
    row = store.fetch_entry(store.sql.entry, lot)
    received = None if row is None else Entry.from_row(row).content.get("received")
    paid_back = tuple(_paid_back(store, account, lot))
    net = payment.gross.minor - payment.tax.minor
    currency = payment.gross.currency
    return TopUpReceipt(
        lot,
        account,
        purchased.at if received is None else parse_timestamp(received),
        payment.channel,
        payment.reference,
        payment.order,
        purchased.credits,
        purchased.price_per_credit,
        purchased.expires,
        Payable(net + payment.coupon.minor, currency),
        payment.coupon,
        Payable(net, currency),
        payment.tax,
        payment.gross,
        paid_back,
        Payable(payment.gross.minor + sum(movement.gross.minor for movement in paid_back), currency),
    )


def _purchased_lot(store: Store, account: str, lot: str) -> Lot:
    purchased = next((one for one in lots(store, account) if one.id == lot), None)
    if purchased is None or purchased.paid is None:
        problem = "there is no such lot" if purchased is None else "its Credits were not bought"
        raise BillingError(
            "unknown_lot",
            f"lot {safe_repr(lot)} of account {safe_repr(account)}: {problem}; use the lot of a payment",
        )
    return purchased


_FOREVER: Final = format_timestamp(END_OF_TIME)


def _paid_back(store: Store, account: str, lot: str) -> list[MoneyMovement]:
    rows = store.fetch_rows(store.sql.rare_entries, account, "", _FOREVER)
    moved = (money_movement(Entry.from_row(JournalRow(*row))) for row in rows)
    return [movement for movement in moved if movement is not None and movement.lot == lot != movement.id]
