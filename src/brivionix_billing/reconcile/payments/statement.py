"""The rows of a statement of a payment processor, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from brivionix_billing.times import Period

__all__ = ["LEDGER_KINDS", "LineKind", "Statement", "StatementLine"]


class LineKind(StrEnum):
    """What a row of a statement is about."""

    PAYMENT = "payment"
    REFUND = "refund"
    REFUND_FAILURE = "refund_failure"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute_reversal"
    FEE = "fee"
    PAYOUT = "payout"
    PAYOUT_REVERSAL = "payout_reversal"
    OTHER = "other"


LEDGER_KINDS: Final = frozenset(
    {
        LineKind.PAYMENT,
        LineKind.REFUND,
        LineKind.REFUND_FAILURE,
        LineKind.DISPUTE,
        LineKind.DISPUTE_REVERSAL,
    }
)
"""Kinds that the ledger has an operation for. Fees, payouts and other movements are only on the statement."""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One movement of money. Amounts are in units of their currency, such as yuan, and exact."""

    place: str
    """File and line, for messages."""
    id: str
    """The processor's id of this movement, unique within its kind."""
    kind: LineKind
    at: datetime
    """In UTC."""
    currency: str
    """Currency of ``gross``, ``fee`` and ``net``."""
    gross: Decimal
    """What the movement adds to the merchant's balance before fees: negative for refunds, disputes and payouts. After
    coupons that the merchant does not receive."""
    fee: Decimal
    """Fee of the processor; negative if it is given back. ``net == gross - fee``."""
    net: Decimal
    references: dict[str, str] = field(default_factory=dict)
    """Name of a column -> id of the payment that the movement belongs to."""
    operation_ids: dict[str, str] = field(default_factory=dict)
    """Name of a column -> id of the refund or dispute itself."""
    hints: dict[str, str] = field(default_factory=dict)
    """Name of a column -> text that may name the account in the ledger."""
    order_amount: Decimal | None = None
    """What the customer ordered for, before coupons, with the sign of ``gross``; ``None`` if it is ``gross``."""
    customer_amount: Decimal | None = None
    """What the customer paid in ``customer_currency``, if that is another currency than that of the balance."""
    customer_currency: str | None = None
    payout: str = ""
    """Id of the payout that contains the movement."""
    category: str = ""
    """The processor's own word for the kind."""
    text: str = ""

    @property
    def booking_id(self) -> str:
        """The id under which ``--book`` posts the movement.

        For a refund or dispute of Stripe, it is the id of the refund or dispute, as in Stripe's events.
        """
        source = self.operation_ids.get("source_id", "")
        # A failed charge has the id of the charge there.
        is_own = source not in (text for name, text in self.references.items() if "metadata[" not in name)
        return source if source and is_own and self.kind in (LineKind.REFUND, LineKind.DISPUTE) else self.id


@dataclass(frozen=True, slots=True)
class Statement:
    """All rows of the files of one statement."""

    source: str
    zone: str
    """Time zone of the processor's days."""
    lines: tuple[StatementLine, ...]
    notes: tuple[str, ...] = ()
    period: Period | None = None
    """The time that the statement covers, if it says so."""
