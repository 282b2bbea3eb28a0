"""Reads from the ledger what a statement can have a row for: top-ups, refunds, disputes and their reversals."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Final

from brivionix_billing.decimals import negate, parse_decimal
from brivionix_billing.errors import BillingError
from brivionix_billing.ledger import Entry, Ledger, Order
from brivionix_billing.reconcile.payments.statement import LineKind, StatementLine
from brivionix_billing.times import Period

__all__ = ["LedgerOperation", "LedgerSide"]

_KINDS: Final = frozenset({"top_up", "refund", "dispute", "reverse", "void"})
_PAID_BACK: Final = {"refund": LineKind.REFUND, "void": LineKind.REFUND, "dispute": LineKind.DISPUTE}
_REVERSED: Final = {"refund": LineKind.REFUND_FAILURE, "dispute": LineKind.DISPUTE_REVERSAL}
_MAX_ID: Final = 256
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""A time for the state of orders, which is not used."""


@dataclass(frozen=True, slots=True)
class LedgerOperation:
    """An operation of the ledger that moved money."""

    id: str
    account: str
    kind: LineKind
    at: datetime
    """When it was booked, in UTC."""
    amount: Decimal
    """In units of the currency, with tax; negative if money was paid back."""
    currency: str
    channel: str
    reference: str
    """Id of the payment at its channel."""
    lot: str
    """Id of the top-up that the operation belongs to, or is."""
    fee: Decimal = Decimal(0)
    """Fee of the channel that the operation has; negative if it is given back."""
    is_void: bool = False
    """Whether it voids the top-up, because the payment was never received."""


class LedgerSide:
    """The ledger as one side of a reconciliation."""

    def __init__(self, ledger: Ledger, channels: Collection[str], all_channels: Collection[str]) -> None:
        """``channels`` are those of the statement. Operations of other channels are left out."""
        self._ledger = ledger
        self._channels, self._all_channels = frozenset(channels), frozenset(all_channels)
        self._accounts = frozenset(ledger.accounts())

    def order_of(self, line: StatementLine) -> Order | None:
        """Return the order that a row names, if exactly one of its texts is the id of an order."""
        found = {text for text in (*line.references.values(), *line.hints.values()) if text in self._orders}
        return self._orders[found.pop()] if len(found) == 1 else None

    def account_of(self, line: StatementLine) -> str | None:
        """Return the account of a row's order, else the one account whose id is a text of the row."""
        order = self.order_of(line)
        if order is not None:
            return order.account
        found = self._accounts.intersection(line.hints.values())
        return next(iter(found)) if len(found) == 1 else None

    @cached_property
    def _orders(self) -> dict[str, Order]:
        """Id -> order, of all accounts."""
        return {
            order.id: order
            for account in sorted(self._accounts)
            for order in self._ledger.orders(account, at=_ANY_TIME)
        }

    def operations(self, period: Period) -> list[LedgerOperation]:
        """Return the operations that were booked in a period, by account and time."""
        found = []
        for account in sorted(self._accounts):
            for movement in self._ledger.statement(account, period).movements:
                if movement.kind in _KINDS:
                    found += self._of_channels(self._ledger.entry(movement.id))
        return found

    def payment(self, reference: str) -> list[LedgerOperation]:
        """Return the top-ups with a reference or an id, at any time."""
        if not _is_id(reference):
            return []
        found = self._of_channels(self._ledger.entry(reference), LineKind.PAYMENT)
        for channel in sorted(self._channels):
            lot = self._lot(channel, reference)
            found += [] if lot is None else self._of_channels(self._ledger.entry(lot), LineKind.PAYMENT)
        return list({operation.id: operation for operation in found}.values())

    def has_elsewhere(self, references: Iterable[str]) -> bool:
        """Return whether a payment was credited on another channel: it must not be credited again."""
        return any(
            _is_id(reference) and self._lot(channel, reference) is not None
            for reference in references
            for channel in self._all_channels - self._channels
        )

    def _lot(self, channel: str, reference: str) -> str | None:
        try:
            return self._ledger.payment(channel, reference).id
        except BillingError:
            return None

    def operation(self, id: str) -> list[LedgerOperation]:
        """Return the operation with an id, at any time: a list of one, or of none."""
        if not _is_id(id):
            return []
        return self._of_channels(self._ledger.entry(id))

    def _of_channels(self, entry: Entry | None, kind: LineKind | None = None) -> list[LedgerOperation]:
        operation = None if entry is None else self._convert(entry)
        if operation is None or (self._channels and operation.channel not in self._channels):
            return []
        return [operation] if kind in (None, operation.kind) else []

    def _convert(self, entry: Entry) -> LedgerOperation | None:
        if entry.kind == "top_up":
            content = entry.content
            return LedgerOperation(
                entry.id,
                entry.account,
                LineKind.PAYMENT,
                entry.booked_at,
                parse_decimal(content.get("gross", content["paid"])),
                content["currency"],
                content["channel"],
                content["reference"],
                entry.id,
                parse_decimal(content.get("fee", "0")),
            )
        if entry.kind in _PAID_BACK:
            return self._payback(entry, entry, _PAID_BACK[entry.kind])
        if entry.kind == "reverse":
            undone = self._ledger.entry(entry.content["undoes"])
            return None if undone is None else self._payback(entry, undone, _REVERSED[undone.kind])
        return None

    def _payback(self, entry: Entry, undone: Entry, kind: LineKind) -> LedgerOperation | None:
        money = undone.refund_amount
        if money is None:  # a grant, or a lot of which nothing was left to pay back
            return None
        amount = money.amount if kind in _REVERSED.values() else negate(money.amount)
        result = undone.result
        if undone.kind == "void":
            result = self._ledger.entry(undone.content["lot"]).content  # type: ignore[union-attr]  # the lot exists
        return LedgerOperation(
            entry.id,
            entry.account,
            kind,
            entry.booked_at,
            amount,
            money.currency,
            result.get("channel") or "",
            result.get("reference") or "",
            undone.content["lot"],
            negate(parse_decimal(undone.result.get("fee", "0"))),
            undone.kind == "void",
        )


def _is_id(text: str) -> bool:
    """Return whether the ledger can have a text as an id."""
    return 0 < len(text) <= _MAX_ID and text.isprintable() and not text.startswith("sk-")
