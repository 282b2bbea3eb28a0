"""Compares a statement with the ledger: pairs their movements, and names one cause of every difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import format_plain
from brivionix_billing.reconcile.matching import Item, Key, Match, Rule, match
from brivionix_billing.reconcile.payments.ledger_side import LedgerOperation, LedgerSide
from brivionix_billing.reconcile.payments.payment_ids import PaymentIds
from brivionix_billing.reconcile.payments.repeated_payments import prefer_first_credit, prefer_first_row
from brivionix_billing.reconcile.payments.statement import LEDGER_KINDS, LineKind, Statement, StatementLine
from brivionix_billing.reconcile.rows import NO_CAUSE, Columns, Row, State
from brivionix_billing.times import Period, format_instant

__all__ = ["COLUMNS", "Comparison", "Pair", "compare", "compared_amount", "payment_rule", "rows_of"]

COLUMNS: Final = Columns(
    "id",
    "statement",
    "ledger",
    (
        *("kind", "at", "booked_at", "account", "operation", "reference", "matched_by"),
        *("gross", "fee", "net", "payout", "category", "place", "text"),
    ),
)
_SHIFTS: Final = range(2, 29)
"""Half hours by which the times of a whole statement may be shifted: 1 to 14 hours."""
_SHIFT_TOLERANCE: Final = timedelta(minutes=10)
_MIN_SHIFTED: Final = 3
_DIRECTIONS: Final = {
    LineKind.PAYMENT: "in",
    LineKind.REFUND: "back",
    LineKind.DISPUTE: "back",
    LineKind.REFUND_FAILURE: "in again",
    LineKind.DISPUTE_REVERSAL: "in again",
}
"""A refund of used Credits can only be booked as a dispute, so the two may stand for each other."""
_ONE: Final = ""
"""Amounts of all currencies are paired. The currency is compared afterwards, so that a wrong one is found."""


class Pair(NamedTuple):
    """A row of the statement and the operation of the ledger that belongs to it; either may be missing."""

    line: StatementLine | None
    operation: LedgerOperation | None
    state: State
    cause: str
    matched_by: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs, in the order of the statement, then operations that are only in the ledger."""

    pairs: tuple[Pair, ...]
    period: Period
    notes: tuple[str, ...] = field(default=())


def payment_rule(
    statement: Statement, channels: Sequence[str], period: Period, window: timedelta, delay: timedelta
) -> Rule:
    """Return the rule by which a statement and the ledger are compared."""
    keys = (
        Key(("kind", "operation")),
        Key(("kind", "payment"), same_amount=True),
        Key(("kind", "payment")),
        Key(("direction", "payment"), same_amount=True),
        Key(("kind", "account", "currency"), window, same_amount=True),
    )
    return Rule(
        f"payments {statement.source}",
        "statement",
        "ledger",
        keys,
        delay=delay,
        their_zone=statement.zone,
        settings={"channels": sorted(channels), "period": str(period)},
    )


def compare(
    statement: Statement, ledger: LedgerSide, rule: Rule, period: Period, others: Sequence[Statement] = ()
) -> Comparison:
    """Pair the rows of a statement with the operations of the ledger, and name the causes.

    Operations of payments that are on one of the ``others`` are left out: several processors may share a channel.
    """
    booked = ledger.operations(_extended(period, max(_window_of(rule), rule.delay)))
    unrepeated, repeated = _split_repeated(statement.lines)
    lines = [line for line in unrepeated if line.kind in LEDGER_KINDS]
    booked = _with_other_times(lines, booked, ledger)
    payments = PaymentIds([*lines, *(line for other in others for line in other.lines)], booked)
    elsewhere = {payments.of_line(line) for other in others for line in other.lines} - set(map(payments.of_line, lines))
    booked = [each for each in booked if payments.of_operation(each) not in elsewhere]
    by_id = {each.id: each for each in booked}
    theirs = [_line_item(line, payments, ledger, by_id) for line in lines]
    ours = [_operation_item(operation, payments) for operation in booked]
    matches = prefer_first_credit(prefer_first_row(match(theirs, ours, rule)))
    shift = _common_shift(matches)
    notes = list(statement.notes)
    if shift:
        notes.append(
            f"the times of the statement are {_hours(shift)} from those of the ledger; "
            "if it has the times of another zone, name it by --zone"
        )
    found = _with_voids([_classify(each, rule, shift, ledger) for each in matches])
    found += [Pair(line, None, State.DUPLICATE, "row_repeated") for line in repeated]
    found = [pair for pair in found if _is_within(pair, period)]
    found += [
        Pair(line, None, State.MATCHED, line.kind.value)
        for line in unrepeated
        if line.kind not in LEDGER_KINDS and period.contains(line.at)
    ]
    order = {line.place: index for index, line in enumerate(statement.lines)}
    found.sort(key=lambda pair: order[pair.line.place] if pair.line else len(order))
    return Comparison(tuple(found), period, tuple(notes))


def _split_repeated(lines: Iterable[StatementLine]) -> tuple[list[StatementLine], list[StatementLine]]:
    """Return the rows, and apart from them those that repeat a row: files of a statement may overlap."""
    first: dict[tuple[Any, ...], StatementLine] = {}
    repeated = []
    for line in lines:
        key: tuple[Any, ...] = line.kind, line.id or line.place, tuple(line.references.values())
        if line.kind not in LEDGER_KINDS:  # some processors give these movements the id of their payment
            key += line.at, line.currency, line.gross, line.fee, line.category, line.text
        if first.setdefault(key, line) is not line:
            repeated.append(line)
    return list(first.values()), repeated


def _window_of(rule: Rule) -> timedelta:
    return rule.keys[-1].window or timedelta(0)


def _extended(period: Period, margin: timedelta) -> Period:
    return Period(period.start - margin, period.end + margin, period.zone)


def _with_other_times(
    lines: Iterable[StatementLine], booked: Sequence[LedgerOperation], ledger: LedgerSide
) -> list[LedgerOperation]:
    """Add the operations that rows name and that were booked at any other time."""
    found = {operation.id: operation for operation in booked}
    known = {text for operation in booked for text in (operation.reference, operation.lot)}
    asked: set[str] = set()
    for line in lines:
        own = (line.id, *line.operation_ids.values())
        for text in (*line.references.values(), *own):
            if text in asked or (text in known and line.kind is LineKind.PAYMENT):
                continue
            asked.add(text)
            for operation in (*ledger.payment(text), *(ledger.operation(text) if text in own else ())):
                found.setdefault(operation.id, operation)
    return list(found.values())


def _line_item(
    line: StatementLine, payments: PaymentIds, ledger: LedgerSide, booked: Mapping[str, LedgerOperation]
) -> Item:
    payment = payments.of_line(line)
    # Merchants may number the refunds of each payment on their own, so the id alone may mean another one.
    own = [
        text
        for text in (line.id, *line.operation_ids.values())
        if text in booked and payment in ("", payments.of_operation(booked[text]))
    ]
    fields = {
        "kind": line.kind.value,
        "direction": _DIRECTIONS[line.kind],
        "operation": own[0] if own and line.kind is not LineKind.PAYMENT else "",
        "payment": payment,
        "account": ledger.account_of(line) or "",
        "currency": line.currency,
    }
    return Item(fields, _ONE, line.gross, line.at, line)


def _operation_item(operation: LedgerOperation, payments: PaymentIds) -> Item:
    fields = {
        "kind": operation.kind.value,
        "direction": _DIRECTIONS[operation.kind],
        "operation": operation.id,
        "payment": payments.of_operation(operation),
        "account": operation.account,
        "currency": operation.currency,
    }
    return Item(fields, _ONE, operation.amount, operation.at, operation)


def _is_within(pair: Pair, period: Period) -> bool:
    times = [each.at for each in (pair.line, pair.operation) if each is not None]
    return any(map(period.contains, times))


def _common_shift(matches: Iterable[Match]) -> timedelta:
    """Return the time by which most pairs are shifted, a multiple of half an hour; 0 if they are not."""
    shifts: Counter[int] = Counter()
    count = 0
    for each in matches:
        if each.theirs is None or each.ours is None:
            continue
        count += 1
        distance = _booked_after(each.theirs.at, each.ours.at)
        half_hours = round(distance / timedelta(minutes=30))
        if abs(distance - timedelta(minutes=30) * half_hours) <= _SHIFT_TOLERANCE:
            shifts[half_hours] += 1
    if not shifts:
        return timedelta(0)
    half_hours, times = shifts.most_common(1)[0]
    is_common = times >= _MIN_SHIFTED and times * 2 > count and abs(half_hours) in _SHIFTS
    return timedelta(minutes=30) * half_hours if is_common else timedelta(0)


def _booked_after(line: datetime | None, operation: datetime | None) -> timedelta:
    return operation - line if line and operation else timedelta(0)


def _hours(shift: timedelta) -> str:
    return f"{shift / timedelta(hours=1):+g} h"


def _classify(each: Match, rule: Rule, shift: timedelta, ledger: LedgerSide) -> Pair:
    line: StatementLine | None = each.theirs.source if each.theirs else None
    operation: LedgerOperation | None = each.ours.source if each.ours else None
    if line is None:
        assert operation is not None  # noqa: S101  # a match has a side
        if each.state is State.DUPLICATE and operation.kind is LineKind.PAYMENT:
            return Pair(None, operation, State.DUPLICATE, "credited_twice")
        return Pair(None, operation, State.ONLY_OURS, "not_in_statement")
    if operation is None:
        if not line.gross:
            return Pair(line, None, State.MATCHED, "no_money")
        if each.state is State.DUPLICATE and line.kind is LineKind.PAYMENT:
            return Pair(line, None, State.DUPLICATE, "paid_twice")
        return Pair(line, None, State.ONLY_THEIRS, _missing_cause(line, ledger))
    key = "" if each.key is None else "+".join(field for field in each.key.fields if field != "kind")
    state, cause = _compare_amounts(line, operation)
    if state is State.MATCHED and not _is_own_booking(line, operation):
        distance = _booked_after(line.at, operation.at)
        # A refund is booked when it is requested, and paid later.
        earliest = -rule.delay if line.kind is LineKind.PAYMENT else -max(rule.delay, _window_of(rule))
        if shift and abs(distance - shift) <= _SHIFT_TOLERANCE:
            cause = "time_zone"
        elif not earliest <= distance <= rule.delay:
            state, cause = State.DIFFERS, "late" if distance > timedelta(0) else "early"
    if state is State.MATCHED and operation.account != (ledger.account_of(line) or operation.account):
        state, cause = State.DIFFERS, "account"
    elif state is State.MATCHED and not cause and operation.kind is not line.kind:
        cause = "other_kind"
    return Pair(line, operation, state, cause, key)


def _with_voids(pairs: Iterable[Pair]) -> list[Pair]:
    """Explain a top-up and the operation that voids it by each other, if the statement has neither of them."""
    pairs = list(pairs)
    left = {pair.operation.id: pair.operation for pair in pairs if pair.line is None and pair.operation is not None}
    voids = {operation.id: operation.lot for operation in left.values() if operation.is_void and operation.lot in left}
    voided = {*voids, *voids.values()}
    return [
        Pair(None, pair.operation, State.MATCHED, "voided")
        if pair.line is None and pair.operation is not None and pair.operation.id in voided
        else pair
        for pair in pairs
    ]


def _is_own_booking(line: StatementLine, operation: LedgerOperation) -> bool:
    """Return whether an operation was booked from a statement, under the id of the row."""
    return operation.id in (line.id, line.booking_id)


def _missing_cause(line: StatementLine, ledger: LedgerSide) -> str:
    if line.kind is LineKind.PAYMENT:
        if ledger.has_elsewhere((line.id, *line.references.values())):
            return "other_channel"
        return "not_booked" if ledger.account_of(line) else "account_unknown"
    return "not_booked" if any(ledger.payment(text) for text in line.references.values()) else "payment_unknown"


def _compare_amounts(line: StatementLine, operation: LedgerOperation) -> tuple[State, str]:
    theirs = compared_amount(line, operation)
    if theirs is None:
        return State.DIFFERS, "currency"
    if theirs == operation.amount:
        return State.MATCHED, NO_CAUSE
    if line.order_amount == operation.amount:
        return State.DIFFERS, "coupon"
    if line.net == operation.amount and line.fee:
        return State.DIFFERS, "fee"
    return State.DIFFERS, "amount"


def compared_amount(line: StatementLine, operation: LedgerOperation | None) -> Decimal | None:
    """Return the amount of a row in the currency of an operation, or ``None`` if the row does not have it."""
    if operation is None or operation.currency == line.currency:
        return line.gross
    if operation.currency == line.customer_currency:
        return line.customer_amount
    return None


def rows_of(pair: Pair) -> Iterator[Row]:
    """Yield the rows of a pair: one, or for two currencies one of each, so that each currency adds up."""
    line, operation = pair.line, pair.operation
    key = line.id if line else operation.id if operation else ""
    details = _details(pair)
    if line is not None and line.kind not in LEDGER_KINDS:
        yield Row(key, pair.state, pair.cause, line.currency, None, None, details)
        return
    theirs = None if line is None else compared_amount(line, operation)
    ours = None if operation is None else operation.amount
    if line is not None and operation is not None and theirs is None:
        yield Row(key, pair.state, pair.cause, line.currency, line.gross, None, details)
        yield Row(key, pair.state, pair.cause, operation.currency, None, operation.amount, details)
        return
    unit = operation.currency if operation is not None else line.currency if line is not None else ""
    yield Row(key, pair.state, pair.cause, unit, theirs, ours, details)


def _details(pair: Pair) -> Mapping[str, str]:
    line, operation = pair.line, pair.operation
    found: dict[str, str] = {"matched_by": pair.matched_by}
    if line is not None:
        found |= {
            "kind": line.kind.value,
            "at": format_instant(line.at),
            "reference": next(iter(line.references.values()), ""),
            "gross": format_plain(line.gross),
            "fee": format_plain(line.fee),
            "net": format_plain(line.net),
            "payout": line.payout,
            "category": line.category,
            "place": line.place.replace("\\", "/").rpartition("/")[2],
            "text": line.text,
        }
    if operation is not None:
        found |= {
            "kind": operation.kind.value,
            "booked_at": format_instant(operation.at),
            "account": operation.account,
            "operation": operation.id,
            "reference": operation.reference or found.get("reference", ""),
        }
    return found
