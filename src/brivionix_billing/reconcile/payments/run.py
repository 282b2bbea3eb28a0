"""Reconciles a statement with the ledger, and writes the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import json_digest
from brivionix_billing.decimals import format_plain, sum_exact
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger import Ledger
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.exported_files import read_files
from brivionix_billing.reconcile.payments.alipay import read_alipay
from brivionix_billing.reconcile.payments.booking import Booking, Outcome, book_missing, usual_reference
from brivionix_billing.reconcile.payments.compare import (
    COLUMNS,
    Comparison,
    Pair,
    compare,
    compared_amount,
    payment_rule,
    rows_of,
)
from brivionix_billing.reconcile.payments.ledger_side import LedgerSide
from brivionix_billing.reconcile.payments.statement import LEDGER_KINDS, LineKind, Statement
from brivionix_billing.reconcile.payments.stripe import read_stripe
from brivionix_billing.reconcile.payments.unbooked import UnbookedMoney, unbooked_money, unbooked_sums
from brivionix_billing.reconcile.payments.wechat import read_wechat
from brivionix_billing.reconcile.result import Input, Result, ResultWriter, input_of
from brivionix_billing.reconcile.rows import NO_CAUSE, State
from brivionix_billing.times import CalendarDays, Period, format_instant

__all__ = ["SOURCES", "PaymentOptions", "PaymentsRun", "read_statement", "reconcile_payments"]

SOURCES: Final = {"stripe": read_stripe, "wechat": read_wechat, "alipay": read_alipay}
"""Source -> the function that reads its files."""
ZONES: Final = {"stripe": "UTC", "wechat": "Asia/Shanghai", "alipay": "Asia/Shanghai"}
"""Source -> the time zone of its days."""
_CHANNEL_NAMES: Final = {
    "stripe": ("stripe",),
    "wechat": ("wechat", "wxpay", "weixin", "wechatpay", "wechat_pay"),
    "alipay": ("alipay",),
}


@dataclass(frozen=True, slots=True)
class PaymentOptions:
    """What a reconciliation of payments depends on beside its inputs."""

    channels: Sequence[str] = ()
    """Channels of the ledger that the statement belongs to. Empty: the channel named like the source, else all."""
    zone: str | None = None
    """Time zone of the statement's times and days. ``None``: that of the source."""
    period: str | None = None
    """The period to compare. ``None``: the days of the statement."""
    window: timedelta = timedelta(days=3)
    """How far apart the times of a payment may be that is matched by account and amount."""
    delay: timedelta = timedelta(days=1)
    """A movement that was booked later than this is late."""
    others: Sequence[tuple[str, str]] = ()
    """Source and path of statements of other processors that share the channel."""


class PaymentsRun(NamedTuple):
    """What a reconciliation of payments found."""

    result: Result
    outcomes: list[Outcome]
    """What became of each operation that the ledger missed, if they were to be posted."""
    unbooked: list[UnbookedMoney]
    """Fees, payouts and other money of the statement that the ledger does not have."""


def read_statement(paths: Sequence[str], source: str, zone: str | None = None) -> Statement:
    """Return the statement in the files. Raises ``invalid_argument`` for an unknown source, ``invalid_statement``."""
    if source not in SOURCES:
        raise BillingError("invalid_argument", f"no source {safe_repr(source)}; use one of {', '.join(SOURCES)}")
    files = read_files(paths)
    if not files:
        raise BillingError("invalid_statement", f"{paths[0]}: the archive is empty; download it again")
    return SOURCES[source](files, zone or ZONES[source])


def reconcile_payments(
    paths: Sequence[str],
    source: str,
    ledger: Ledger,
    book: PriceBook,
    out: Path,
    options: PaymentOptions | None = None,
    *,
    book_at: datetime | None = None,
    format: str = "csv",
) -> PaymentsRun:
    """Compare a statement with the ledger, and write the result to a folder.

    With ``book_at``, the current time, operations that the ledger misses are posted first. The prices of ``book`` are
    those of top-ups.
    """
    options = options or PaymentOptions()
    statement = read_statement(paths, source, options.zone)
    period = _period(statement, options)
    channels = _channels(statement, options, book)
    side = LedgerSide(ledger, channels, book.channels())
    rule = payment_rule(statement, channels, period, options.window, options.delay)
    others = [read_statement([path], name) for name, path in options.others]
    comparison = compare(statement, side, rule, period, others)
    if statement.lines and not comparison.pairs:
        times = [line.at for line in statement.lines]
        raise BillingError(
            "invalid_argument",
            f"neither the statement nor the ledger has a row in {period}; the statement is from "
            f"{format_instant(min(times))} to {format_instant(max(times))}: name another --period",
        )
    outcomes: list[Outcome] = []
    if book_at is not None:
        booking = Booking(ledger, side, book, channels, book_at, usual_reference(comparison.pairs))
        outcomes = book_missing(comparison.pairs, booking)
        comparison = _with_outcomes(compare(statement, side, rule, period, others), outcomes)
    unbooked = unbooked_money(comparison, statement.zone, channels, source)
    inputs = [*map(input_of, (*paths, *(path for _, path in options.others))), _ledger_input(comparison)]
    with ResultWriter(out, rule, COLUMNS, format) as writer:
        for pair in comparison.pairs:
            _count(writer, pair)
            for row in rows_of(pair):
                writer.add(row)
        notes = [*comparison.notes, *(f"{each.line.id}: {each.message}" for each in outcomes if each.message)]
        figures = _figures(statement, comparison, unbooked)
        result = writer.finish(inputs, book.digest if book_at else None, notes, figures)
    return PaymentsRun(result, outcomes, unbooked)


def _period(statement: Statement, options: PaymentOptions) -> Period:
    if options.period is not None:
        return Period.parse(options.period, statement.zone)
    if statement.period is not None:
        return statement.period
    if not statement.lines:
        raise BillingError("invalid_argument", "the statement has no rows; name its period by --period")
    days = CalendarDays(statement.zone)
    times = [line.at for line in statement.lines]
    return Period(days.at(min(times)).start, days.at(max(times)).end, statement.zone)


def _channels(statement: Statement, options: PaymentOptions, book: PriceBook) -> list[str]:
    known = book.channels()
    if options.channels:
        return [book.channel(name).name for name in dict.fromkeys(options.channels)]
    named = [name for name in known if name.lower() in _CHANNEL_NAMES[statement.source]]
    if named:
        return named
    currencies = {line.currency for line in statement.lines} | {line.customer_currency for line in statement.lines}
    return [name for name, channel in known.items() if channel.currency in currencies] or list(known)


def _with_outcomes(comparison: Comparison, outcomes: Iterable[Outcome]) -> Comparison:
    """Name in each row what became of it: ``booked``, or why it was not."""
    causes = {(each.line.kind, each.line.id): each.cause for each in outcomes}
    pairs = []
    for pair in comparison.pairs:
        cause = causes.get((pair.line.kind, pair.line.id)) if pair.line else None
        is_named = cause == "booked" if pair.state is State.MATCHED else pair.state is State.ONLY_THEIRS
        if cause and is_named and pair.cause in (NO_CAUSE, "not_booked", "account_unknown", "payment_unknown"):
            pair = pair._replace(cause=cause)
        pairs.append(pair)
    return Comparison(tuple(pairs), comparison.period, comparison.notes)


def _count(writer: ResultWriter, pair: Pair) -> None:
    line, operation = pair.line, pair.operation
    if line is not None and line.kind in LEDGER_KINDS:
        amount = compared_amount(line, operation)
        unit = line.currency if amount is None or operation is None else operation.currency
        writer.count(unit, theirs=line.gross if amount is None else amount)
    if operation is not None:
        writer.count(operation.currency, ours=operation.amount)


def _ledger_input(comparison: Comparison) -> Input:
    """Return the digest of the operations that were compared: the ledger as a whole grows with every request."""
    operations = [
        [each.id, each.account, each.kind.value, format_instant(each.at), format_plain(each.amount), each.currency]
        for each in (pair.operation for pair in comparison.pairs)
        if each is not None
    ]
    return Input("ledger", json_digest(sorted(operations)))


def _figures(statement: Statement, comparison: Comparison, unbooked: Iterable[UnbookedMoney]) -> dict[str, Any]:
    """Return gross, fees and net of the statement by currency and kind, what the ledger does not have, and payouts."""
    lines = [pair.line for pair in comparison.pairs if pair.line is not None]
    kinds: dict[str, dict[str, Any]] = {}
    for currency in sorted({line.currency for line in lines}):
        own = [line for line in lines if line.currency == currency]
        kinds[currency] = {
            name: _sums([line for line in own if line.kind is kind])
            for kind in LineKind
            if any(line.kind is kind for line in own)
            for name in (kind.value,)
        }
        kinds[currency]["total"] = _sums(own)
    figures: dict[str, Any] = {"period": str(comparison.period), "zone": statement.zone, "statement": kinds}
    figures["journal"] = {
        currency: {name: format_plain(amount) for name, amount in accounts.items()}
        for currency, accounts in unbooked_sums(unbooked).items()
    }
    payouts = _payouts([pair.line for pair in comparison.pairs if pair.line and pair.cause != "row_repeated"])
    return figures | ({"payouts": payouts} if payouts else {})


def _sums(lines: Sequence[Any]) -> dict[str, Any]:
    return {
        "rows": len(lines),
        **{name: format_plain(sum_exact(getattr(line, name) for line in lines)) for name in ("gross", "fee", "net")},
    }


def _payouts(lines: Sequence[Any]) -> list[dict[str, str]]:
    """Return the payouts, each with the net of the rows that name it. Rows of earlier statements are not in it."""
    contained: dict[str, list[Decimal]] = {}
    paid: dict[str, Any] = {}
    for line in lines:
        if line.kind is LineKind.PAYOUT:
            paid[line.operation_ids.get("source_id") or line.id] = line
        elif line.payout:
            contained.setdefault(line.payout, []).append(line.net)
    found = []
    for id in sorted({*contained, *paid}):
        line, net = paid.get(id), sum_exact(contained.get(id, ()))
        found.append(
            {"id": id, "contained": format_plain(net), "paid_out": "" if line is None else format_plain(-line.net)}
        )
    return found
