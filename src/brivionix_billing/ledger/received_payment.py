"""A received payment and its parts: gross, tax, fee, coupon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.ids import require_id, require_new_id
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.money import Payable

__all__ = ["ReceivedPayment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedPayment:
    """A payment that a channel reports as received. All amounts are in the currency of ``gross``.

    Credits follow from ``gross - tax + coupon``: the price of the Credits without tax, before a discount.
    """

    channel: str
    """Payment channel of the price file."""
    reference: str
    """Id of the payment at its channel."""
    gross: Payable
    """Amount that was received for it, with tax."""
    at: datetime
    """Time of the payment at its channel. It decides the price, and whether an order was paid in time."""
    tax: Payable | None = None
    """Tax contained in ``gross``. ``None``: none, or the share of the order's tax."""
    fee: Payable | None = None
    """Fee that the channel deducts from ``gross``. It changes no Credits."""
    coupon: Payable | None = None
    """Discount that the seller granted. The customer gets the Credits of the undiscounted price."""

    def __post_init__(self) -> None:
        require_id(self.channel, "the channel")
        require_new_id(self.reference, "the reference")
        format_timestamp(self.at)
        if not isinstance(self.gross, Payable):
            raise BillingError("invalid_money", f"gross is {safe_repr(self.gross)}; use a Payable")
        for name in ("tax", "fee", "coupon"):
            part = getattr(self, name)
            if part is None:
                continue
            if not isinstance(part, Payable) or part.currency != self.gross.currency:
                raise BillingError(
                    "currency_mismatch",
                    f"{name} is {safe_repr(part)}; use a Payable in {self.gross.currency}, as gross",
                )
            if part.minor < 0 or (name == "tax" and part.minor >= self.gross.minor):
                raise BillingError("invalid_money", f"{name} is {part} of {self.gross}; use 0 or more, below gross")
        if self.gross.minor <= 0:
            raise BillingError("invalid_money", f"gross is {self.gross}; use an amount above zero")

    @property
    def net(self) -> Payable:
        """Amount that the channel pays out: ``gross - fee``. It still has the tax."""
        return self.minus(self.fee)

    def minus(self, part: Payable | None) -> Payable:
        """Return ``gross`` less one of its parts."""
        return Payable(self.gross.minor - (part.minor if part else 0), self.gross.currency)

    def content(self) -> Mapping[str, Any]:
        """Return the payment in the format of the journal. Amounts are in the main unit of the currency."""
        parts = {"tax": self.tax, "fee": self.fee, "coupon": self.coupon}
        return {
            "channel": self.channel,
            "reference": self.reference,
            "currency": self.gross.currency,
            "gross": str(self.gross.amount),
            "received": format_timestamp(self.at),
            **{name: str(part.amount) for name, part in parts.items() if part is not None and part.minor},
        }
