"""Rows that the engine cannot price, priced one by one as the records of a usage file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.frames.amounts import DIGITS, AmountColumns
from brivionix_billing.frames.layout import FrameLayout
from brivionix_billing.frames.times import to_instant
from brivionix_billing.meters import DESCENDANTS, METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.tables import Columns
from brivionix_billing.times import load_zone, local_instant
from brivionix_billing.usage.record_file import Record, RejectedRecord, read_records

__all__ = ["CoreRows", "RowOutcome"]


class RowOutcome(NamedTuple):
    """What a row costs, or why it has no price."""

    problem: str | None
    context_tier: str | None
    amounts: tuple[int | None, ...]
    """In the smallest parts of the columns of amounts."""
    at: datetime | None
    counts: tuple[int, ...] = ()
    """The stored quantity of each column of counts, if the row has a price."""


class CoreRows:
    """Prices rows as the records of a usage file: by ``Columns``, ``read_records`` and ``PriceBook.rate``."""

    def __init__(self, book: PriceBook, layout: FrameLayout, amounts: AmountColumns) -> None:
        self._book, self._layout, self._amounts = book, layout, amounts
        self._columns = Columns(list(layout.read), layout.options) if layout.read else None
        self._zone = None if layout.naive_time_zone is None else load_zone(layout.naive_time_zone)

    def card(self, keys: Sequence[str | None], at: datetime) -> RateCard:
        """Return the card of rows with these keys at a time: the one of the lowest context tier.

        Raises what reading and rating a record raise.
        """
        names = ["at", *self._layout.keys, "input_tokens"]
        values = {name: value for name, value in self._layout.options.values.items() if name not in names}
        columns = Columns(names, self._layout.options.__class__({}, values))
        record = self._record(columns, [at, *keys, 0])
        if isinstance(record, RejectedRecord):
            raise BillingError(record.code, record.message)
        return self._book.rate_record(record).card

    def _record(self, columns: Columns, values: Iterable[Any]) -> Record | RejectedRecord:
        (record,) = read_records([columns.line(list(values))], conventions=self._book.conventions)
        return record

    def outcome(self, time: int | None, values: Sequence[Any]) -> RowOutcome:
        """Return what a row costs. ``time`` is its instant, if the engine could read it."""
        row = dict(zip(self._layout.read, values, strict=True))
        at: datetime | None = None
        try:
            if self._layout.at is not None:
                row["at"] = to_instant(time) if time is not None else self._local_time(row["at"])
            if "usage" in row:
                row["usage"] = _without_nulls(row["usage"])
            assert self._columns is not None  # noqa: S101  # a row is read only if it has columns
            record = self._record(self._columns, row.values())
            at = record.at
            if isinstance(record, RejectedRecord):
                raise BillingError(record.code, record.message)
            charge = self._book.rate_record(record)
        except (BillingError, OverflowError) as error:
            code = error.code if isinstance(error, BillingError) else "invalid_time"
            return RowOutcome(code, None, (None,) * len(self._amounts.names), at)
        amounts: dict[str, Decimal] = {"credits": charge.credits, "nominal": charge.nominal.amount}
        amounts |= {f"cost_{name}": charge.cost(name).amount for name in charge.card.channels}
        stored = tuple(
            self._amounts.stored(name, amounts[name]) if name in amounts else None for name in self._amounts.names
        )
        if any(amount is not None and amount >= 10**DIGITS for amount in stored):
            return RowOutcome("invalid_money", None, (None,) * len(stored), at)
        return RowOutcome(None, charge.context_tier, stored, at, self._counts(record))

    def _counts(self, record: Record) -> tuple[int, ...]:
        usage = record.usage
        quantities = dict(usage.quantities())
        found = {"reasoning_tokens": usage.reasoning_tokens, "total_tokens": usage.total_tokens}
        for meter in self._layout.meters:
            argument = METERS[meter].argument if meter in METERS else meter
            found[argument] = sum(quantities.get(name, 0) for name in (meter, *DESCENDANTS.get(meter, ())))
        return tuple(found.get(count.argument, 0) for count in self._layout.counts)

    def _local_time(self, value: object) -> object:
        """Return a naive time of the frame in UTC. One that occurs twice or never is an error."""
        if self._zone is None or not isinstance(value, datetime) or value.tzinfo is not None:
            return value
        return local_instant(value, self._zone)


def _without_nulls(body: Any) -> Any:
    """Return a body without the keys that a column of structs adds, because other rows have them."""
    if isinstance(body, Mapping):
        return {name: _without_nulls(value) for name, value in body.items() if value is not None}
    return [_without_nulls(item) for item in body] if isinstance(body, list) else body
