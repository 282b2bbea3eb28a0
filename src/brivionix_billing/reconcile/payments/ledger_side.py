"""Reads from the ledger what a statement can have a row for: top-ups, refunds, disputes and their reversals."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import negate, parse_decimal
from brivionix_billing.errors import BillingError
from brivionix_billing.ledger import Entry, Ledger
from brivionix_billing.reconcile.payments.statement import LineKind
from brivionix_billing.times import Period

__all__ = ["LedgerOperation", "LedgerSide"]

_KINDS: Final = frozenset({"top_up", "refund", "dispute", "reverse"})
_REVERSED: Final = {"refund": LineKind.REFUND_FAILURE, "dispute": LineKind.DISPUTE_REVERSAL}
_MAX_ID: Final = 256


@dataclass(frozen=True, slots=True)
class LedgerOperation:
    """An operation of the ledger that moved money."""

    id: str
    account: str
    kind: LineKind
    at: datetime
    """When it was booked, in UTC."""
    amount: Decimal
    """In units of the currency; negative if money was paid back."""
    currency: str
    channel: str
    reference: str
    """Id of the payment at its channel."""
    lot: str
    """Id of the top-up that the operation belongs to, or is."""


class LedgerSide:
    """The ledger as one side of a reconciliation."""

    def __init__(self, ledger: Ledger, channels: Collection[str], all_channels: Collection[str]) -> None:
        """``channels`` are those of the statement. Operations of other channels are left out."""
        self._ledger = ledger
        self._channels, self._all_channels = frozenset(channels), frozenset(all_channels)
        self._accounts = frozenset(ledger.accounts())

    def is_account(self, id: str) -> bool:
        """Return whether the ledger has an account."""
        return id in self._accounts

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
                parse_decimal(content["paid"]),
                content["currency"],
                content["channel"],
                content["reference"],
                entry.id,
            )
        if entry.kind in ("refund", "dispute"):
            kind = LineKind.REFUND if entry.kind == "refund" else LineKind.DISPUTE
            return self._payback(entry, entry, kind)
        if entry.kind == "reverse":
            undone = self._ledger.entry(entry.content["undoes"])
            return None if undone is None else self._payback(entry, undone, _REVERSED[undone.kind])
        return None

    def _payback(self, entry: Entry, undone: Entry, kind: LineKind) -> LedgerOperation | None:
        money = undone.refund_amount
        if money is None:  # a lot of which nothing was left to pay back
            return None
        amount = money.amount if kind in _REVERSED.values() else negate(money.amount)
        result = undone.result
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
        )


def _is_id(text: str) -> bool:
    """Return whether the ledger can have a text as an id."""
    return 0 < len(text) <= _MAX_ID and text.isprintable() and not text.startswith("sk-")
