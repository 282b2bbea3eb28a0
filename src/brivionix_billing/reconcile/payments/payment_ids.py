"""Finds which ids of a statement and of the ledger name one payment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from brivionix_billing.reconcile.payments.ledger_side import LedgerOperation
from brivionix_billing.reconcile.payments.statement import LineKind, StatementLine

__all__ = ["PaymentIds"]


class PaymentIds:
    """Groups of ids that name one payment: order number, payment intent, charge, reference and id of the top-up."""

    def __init__(self, lines: Iterable[StatementLine], booked: Iterable[LedgerOperation]) -> None:
        self._parents: dict[str, str] = {}
        self._known = {text for operation in booked for text in (operation.reference, operation.lot) if text}
        for operation in booked:
            self._join([text for text in (operation.lot, operation.reference) if text])
        for line in lines:
            self._join(self.names(line))

    def names(self, line: StatementLine) -> list[str]:
        """Return the ids of a row's payment. Metadata count only if the ledger knows them: they may be anything."""
        own = {"id": line.id} if line.kind is LineKind.PAYMENT and line.id else {}
        texts = line.references | own
        return [text for name, text in texts.items() if "metadata[" not in name or text in self._known]

    def of_line(self, line: StatementLine) -> str:
        """Return the payment of a row, ``""`` if it names none."""
        names = self.names(line)
        return self._find(names[0]) if names else ""

    def of_operation(self, operation: LedgerOperation) -> str:
        """Return the payment of an operation."""
        return self._find(operation.lot)

    def _find(self, name: str) -> str:
        while (parent := self._parents.setdefault(name, name)) != name:
            self._parents[name] = self._parents[parent]
            name = parent
        return name

    def _join(self, names: Sequence[str]) -> None:
        for name in names[1:]:
            self._parents[self._find(name)] = self._find(names[0])
