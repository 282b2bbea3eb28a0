"""Posts operations that the ledger misses, each once, under the id of its row of the statement.

A payment is posted as the notice of its processor would be: to its order, with its fee and the merchant's coupon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from brivionix_billing.decimals import format_plain, negate, subtract
from brivionix_billing.errors import BillingError
from brivionix_billing.ledger import Entry, Ledger, ReceivedPayment
from brivionix_billing.money import Payable
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.payments.compare import Pair
from brivionix_billing.reconcile.payments.ledger_side import LedgerOperation, LedgerSide
from brivionix_billing.reconcile.payments.statement import LineKind, StatementLine
from brivionix_billing.reconcile.rows import State

__all__ = ["Booking", "Outcome", "book_missing"]

_REASON: Final = "reconciled with the statement of the payment processor"
_UNDONE: Final = {LineKind.REFUND_FAILURE: LineKind.REFUND, LineKind.DISPUTE_REVERSAL: LineKind.DISPUTE}
_PREFERRED: Final = ("payment_intent_id", "微信订单号", "支付宝交易号", "charge_id", "source_id")
"""Columns whose ids are references if the ledger has none yet: those of the processors' notices, so that a notice that
arrives later is recognised."""


class Outcome(NamedTuple):
    """What became of a row that the ledger misses."""

    line: StatementLine
    cause: str
    """``booked``, or why it was not: ``account_unknown``, ``channel_unknown``, ``payment_unknown``, ``rejected``."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Booking:
    """The ledger to book in, and what the statement does not say."""

    ledger: Ledger
    side: LedgerSide
    book: PriceBook
    channels: Sequence[str]
    """Channels that the statement belongs to."""
    at: datetime
    """The current time, for the ledger."""
    reference_column: str = ""
    """The column of the statement whose ids the ledger has as references; ``""``: the usual one."""

    def post(self, line: StatementLine) -> Outcome:
        """Post the operation of a row. A row that cannot be posted without guessing is left, with the reason."""
        try:
            if line.kind is LineKind.PAYMENT:
                return self._top_up(line)
            return self._payback(line)
        except BillingError as error:
            return Outcome(line, "rejected", f"{error.message} [{error.code}]")

    def _top_up(self, line: StatementLine) -> Outcome:
        if self.side.has_elsewhere((line.id, *line.references.values())):
            return Outcome(line, "other_channel", "the payment was credited on another channel; name it by --channel")
        account = self.side.account_of(line)
        if account is None:
            return Outcome(
                line,
                "account_unknown",
                "no text of the row is the id of an order or account; post it by hand",
            )
        money = [(line.currency, line.gross)]
        if line.customer_currency and line.customer_amount is not None:
            money.insert(0, (line.customer_currency, line.customer_amount))
        order = self.side.order_of(line)
        for currency, amount in money:
            names = [name for name in self.channels if self.book.channel(name).currency == currency]
            if order is not None and order.channel in names:
                names = [order.channel]
            if len(names) == 1:
                has_parts = currency == line.currency
                payment = ReceivedPayment(
                    channel=names[0],
                    reference=self._reference(line),
                    gross=Payable(format_plain(amount), currency),
                    at=line.at,
                    fee=_part(line.fee, currency) if has_parts else None,
                    coupon=_part(subtract(line.order_amount, line.gross), currency)
                    if has_parts and line.order_amount is not None
                    else None,
                )
                self.ledger.receive_payment(
                    account, payment, id=line.id, at=self.at, order=None if order is None else order.id
                )
                return Outcome(line, "booked")
        return Outcome(line, "channel_unknown", f"not exactly one channel takes {line.currency}; name it by --channel")

    def _reference(self, line: StatementLine) -> str:
        for name in (self.reference_column, *_PREFERRED):
            if line.references.get(name):
                return line.references[name]
        return line.id

    def _payback(self, line: StatementLine) -> Outcome:
        tops = {top.id: top for text in line.references.values() for top in self.side.payment(text)}
        if len(tops) != 1:
            return Outcome(line, "payment_unknown", "the row does not name exactly one payment of the ledger")
        (top,) = tops.values()
        if line.kind in _UNDONE:
            undone = self._undone(line, top)
            if undone is None:
                return Outcome(
                    line, "payment_unknown", "the ledger does not have exactly one operation that this undoes"
                )
            self.ledger.reverse(top.account, undone, id=line.id, at=self.at, reason=_REASON)
            return Outcome(line, "booked")
        amount = line.gross if top.currency == line.currency else line.customer_amount
        if amount is None or top.currency not in (line.currency, line.customer_currency):
            return Outcome(line, "rejected", f"the payment is in {top.currency}, the row in {line.currency}")
        pay = Payable(format_plain(negate(amount)), top.currency)
        post: Callable[..., Entry] = self.ledger.refund if line.kind is LineKind.REFUND else self.ledger.dispute
        post(top.account, top.lot, id=line.booking_id, at=self.at, pay=pay)
        return Outcome(line, "booked")

    def _undone(self, line: StatementLine, top: LedgerOperation) -> str | None:
        """Return the id of the refund or dispute of a payment that a row undoes, if only one can be meant."""
        entries = list(self.ledger.journal(top.account))
        reversed_ids = {entry.content["undoes"] for entry in entries if entry.kind == "reverse"}
        kind = "refund" if _UNDONE[line.kind] is LineKind.REFUND else "dispute"
        found = [
            entry.id
            for entry in entries
            if entry.kind == kind
            and entry.content["lot"] == top.lot
            and entry.id not in reversed_ids
            and entry.refund_amount is not None
            and entry.refund_amount.amount == line.gross
        ]
        named = [id for id in found if id in line.operation_ids.values()]
        candidates = named or found
        return candidates[0] if len(candidates) == 1 else None


def _part(amount: Decimal, currency: str) -> Payable | None:
    """Return a part of a payment, or ``None`` if it is not above zero, or has parts of a minor unit."""
    try:
        part = Payable(format_plain(amount), currency)
    except BillingError:
        return None
    return part if part.minor > 0 else None


def book_missing(pairs: Iterable[Pair], booking: Booking) -> list[Outcome]:
    """Post the operations that the ledger misses, in the order of time: a refund needs its payment."""
    pairs = list(pairs)
    missing = [pair.line for pair in pairs if pair.line is not None and pair.state is State.ONLY_THEIRS]
    return [
        booking.post(line) for line in sorted(missing, key=lambda line: (line.at, line.kind is not LineKind.PAYMENT))
    ]


def usual_reference(pairs: Iterable[Pair]) -> str:
    """Return the column whose ids most matched payments have as references in the ledger; ``""`` for none."""
    columns: Counter[str] = Counter()
    for pair in pairs:
        if pair.line is not None and pair.operation is not None and pair.line.kind is LineKind.PAYMENT:
            columns.update(name for name, text in pair.line.references.items() if text == pair.operation.reference)
    return columns.most_common(1)[0][0] if columns else ""
