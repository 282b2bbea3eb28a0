"""Money of a statement that the ledger has no operation for: fees, payouts and other movements.

The ledger has the accounts of customers only. What a processor charges to the merchant or pays to its bank belongs to
the accounting system, so it becomes journal entries. Together with the journal of the ledger, they change the cash of
the channel by exactly the ``net`` of the statement, if the books agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from brivionix_billing.decimals import negate, subtract, sum_exact
from brivionix_billing.reconcile.payments.compare import Comparison, Pair
from brivionix_billing.reconcile.payments.statement import LEDGER_KINDS, LineKind, StatementLine
from brivionix_billing.times import CalendarDays

__all__ = ["UnbookedMoney", "unbooked_money", "unbooked_sums"]

_BANK_KINDS: Final = (LineKind.PAYOUT, LineKind.PAYOUT_REVERSAL)


class UnbookedMoney(NamedTuple):
    """An amount that left the cash of a channel for another account."""

    day: str
    """Its day, in the zone of the statement."""
    account: str
    """``fees``, ``bank`` or ``other``."""
    channel: str
    currency: str
    amount: Decimal
    """Negative if it came back to the cash."""
    text: str
    id: str
    """Id of its row in the statement."""


def unbooked_money(comparison: Comparison, zone: str, channels: Sequence[str], source: str) -> list[UnbookedMoney]:
    """Return the money of the rows of the period that the ledger does not have, in the order of the statement.

    The fee of a payment is less the one that its operation in the ledger has.
    """
    days = CalendarDays(zone)
    found = []
    for pair in comparison.pairs:
        line = pair.line
        if line is None or pair.cause == "row_repeated" or not comparison.period.contains(line.at):
            continue
        channel = pair.operation.channel if pair.operation else channels[0] if len(channels) == 1 else source
        text = ", ".join(part for part in (line.category or line.kind.value, line.text) if part)
        for account, amount in _parts(pair, line):
            if amount:
                found.append(
                    UnbookedMoney(days.at(line.at).value, account, channel, line.currency, amount, text, line.id)
                )
    return found


def _parts(pair: Pair, line: StatementLine) -> Iterator[tuple[str, Decimal]]:
    if line.kind in LEDGER_KINDS:
        booked = pair.operation
        yield "fees", subtract(line.fee, booked.fee if booked and booked.currency == line.currency else Decimal(0))
    elif line.kind is LineKind.FEE:
        yield "fees", negate(line.net)
    else:
        yield "bank" if line.kind in _BANK_KINDS else "other", negate(line.gross)
        yield "fees", line.fee


def unbooked_sums(money: Iterable[UnbookedMoney]) -> dict[str, dict[str, Decimal]]:
    """Return the sums by currency and account."""
    groups: dict[str, dict[str, list[Decimal]]] = {}
    for each in money:
        groups.setdefault(each.currency, {}).setdefault(each.account, []).append(each.amount)
    return {
        currency: {name: sum_exact(amounts) for name, amounts in sorted(accounts.items())}
        for currency, accounts in sorted(groups.items())
    }
