"""Bank transfers, which the operator reads from the statement of the bank."""

from __future__ import annotations

from datetime import datetime

from brivionix_billing.ledger.notices.notice import Notice
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.money import Payable

__all__ = ["bank_transfer"]


def bank_transfer(
    reference: str,
    gross: Payable,
    *,
    at: datetime,
    channel: str,
    order: str | None = None,
    account: str | None = None,
    tax: Payable | None = None,
    fee: Payable | None = None,
) -> Notice:
    """Return the notice of a bank transfer. ``reference`` is the id of the transfer on the bank's statement.

    ``at`` is the time at which the customer paid. Raises ``invalid_money``, ``currency_mismatch``.
    """
    payment = ReceivedPayment(channel=channel, reference=reference, gross=gross, at=at, tax=tax, fee=fee)
    return Notice(
        id=f"{channel}/{reference}",
        kind="payment",
        channel=channel,
        reference=reference,
        payment=payment,
        order=order,
        account=account,
    )
