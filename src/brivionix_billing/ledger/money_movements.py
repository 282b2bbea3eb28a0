"""Money that an entry receives or pays back, with its tax."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from brivionix_billing.decimals import format_plain, negate
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.money import Money, Payable
from brivionix_billing.times import format_instant

__all__ = ["MoneyMovement", "money_movement"]


@dataclass(frozen=True, slots=True)
class MoneyMovement:
    """Money received from the customer by one entry; negative if it was paid back. Fees of the channel are no part."""

    id: str
    at: datetime
    kind: str
    """Kind of the entry: ``top_up``, ``refund``, ``dispute``, ``reverse`` or ``void``."""
    lot: str
    """Lot of the payment."""
    channel: str | None
    reference: str | None
    gross: Payable
    """Amount with tax."""
    tax: Payable

    @property
    def net(self) -> Payable:
        """Amount without tax: ``gross - tax``."""
        return Payable(self.gross.minor - self.tax.minor, self.gross.currency)

    def as_dict(self) -> dict[str, str | None]:
        """Return the movement as JSON values."""
        return {
            "id": self.id,
            "at": format_instant(self.at),
            "kind": self.kind,
            "lot": self.lot,
            "channel": self.channel,
            "reference": self.reference,
            "net": str(self.net),
            "tax": str(self.tax),
            "gross": str(self.gross),
        }


def money_movement(entry: Entry) -> MoneyMovement | None:
    """Return the money that an entry received or paid back, or ``None`` if it moved no money."""
    for currency, balances in entry.money().items():
        nothing = Money(0, currency)
        gross = balances.get("cash", nothing) + balances.get("fees", nothing)
        if gross.amount:
            return MoneyMovement(
                entry.id,
                entry.at,
                entry.kind,
                entry.lot_deltas[0].lot,
                entry.content.get("channel", entry.result.get("channel")),
                entry.content.get("reference", entry.result.get("reference")),
                _to_payable(gross),
                _to_payable(Money(negate(balances.get("tax", nothing).amount), currency)),
            )
    return None


def _to_payable(money: Money) -> Payable:
    """Return an amount that has no fraction of a minor unit."""
    return Payable(format_plain(money.amount), money.currency)
