"""The sums of a report: what the usage buckets of a row add up to, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.invoice.aggregation.account_usage import AggregatedUsage, UsageBucket
from brivionix_billing.invoice.aggregation.dimensions import CARD_DIMENSIONS
from brivionix_billing.invoice.build import CREDIT_DIGITS
from brivionix_billing.money import allocate, minor_digits
from brivionix_billing.rating.rate_card import UNIT_DECIMALS, RateCard
from brivionix_billing.report.comparison import COST, OTHER, Flags
from brivionix_billing.report.costs import MONEY_DECIMALS, CostBasis, channel_amount, cost_amount, nominal_amount

__all__ = ["NOMINAL", "Amounts", "RowKey", "Sums", "sum_rows"]

NOMINAL: Final = "nominal quota"
"""Key of the nominal price among the amounts of money, with a space, which no channel has."""
RowKey = tuple[str, ...]
Amounts = dict[str, int]
"""Channel, or ``NOMINAL`` -> 10^-36 of its currency."""


@dataclass(slots=True)
class Sums:
    """The sums of one row. Credits are in 10^-18, money is in 10^-36 of its currency."""

    requests: int = 0
    estimated: int = 0
    """Requests whose counts are estimates."""
    quantities: dict[str, int] = field(default_factory=dict)
    """Meter -> billed quantity, in its smallest parts."""
    units: int = 0
    listed: int = 0
    """Credits at list prices."""
    uncached: int = 0
    """Credits at list prices, if nothing had been cached."""
    money: Amounts = field(default_factory=dict)
    cost: Amounts = field(default_factory=dict)
    uncosted_requests: int = 0
    """Requests without a cost. The margin does not contain what they bring, see ``uncosted``."""
    uncosted: Amounts = field(default_factory=dict)
    other_units: int = 0
    other_money: Amounts = field(default_factory=dict)
    unpriced_requests: int = 0
    """Requests without a price in the other price file. The difference does not contain them."""
    unpriced_units: int = 0
    unpriced: Amounts = field(default_factory=dict)
    rounded_credits: int = 0
    """In 10^-6 Credit."""
    rounded_money: Amounts = field(default_factory=dict)
    """In minor units. The rounded amounts of all rows add up to those of the bills."""

    def add(self, other: Sums) -> None:
        """Add the sums of another row."""
        for name in self.__slots__:
            value = getattr(other, name)
            if isinstance(value, dict):
                _add_amounts(getattr(self, name), value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def margin(self, channel: str) -> int:
        """Return what remains of the requests whose cost is known: ``money - uncosted - cost``."""
        return self.money.get(channel, 0) - self.uncosted.get(channel, 0) - self.cost.get(channel, 0)

    def difference(self, channel: str) -> int:
        """Return what the requests that both price files price cost more in the other one."""
        return self.other_money.get(channel, 0) - self.money.get(channel, 0) + self.unpriced.get(channel, 0)

    @property
    def units_difference(self) -> int:
        """The same in Credits."""
        return self.other_units - self.units + self.unpriced_units


def sum_rows(
    usage: AggregatedUsage,
    by: Sequence[str],
    record_names: Sequence[str],
    bases: Mapping[str, CostBasis],
    currency: str,
) -> dict[RowKey, Sums]:
    """Return the sums by the values of ``by``, sorted; ``record_names`` are the dimensions of the buckets.

    Rounded amounts are those of the bill of each account, allocated to its rows by the largest remainder.
    """
    cells: dict[tuple[str, RowKey], Sums] = {}
    currencies: dict[str, str] = {NOMINAL: currency}
    for account in usage.accounts.values():
        for bucket in account.buckets:
            flags = _flags(bucket, record_names)
            cell = cells.setdefault((bucket.account, _row_key(bucket, by, record_names, None)), Sums())
            _add_billed(cell, bucket, flags)
            currencies |= {name: rate.currency for name, rate in bucket.card.channels.items()}
        for role, buckets in account.compared.items():
            for bucket in buckets:
                flags = _flags(bucket, record_names)
                cell = cells.setdefault((bucket.account, _row_key(bucket, by, record_names, flags)), Sums())
                if role == COST:
                    _add_cost(cell, bucket, bases, flags)
                elif role == OTHER:
                    _add_other(cell, bucket)
    rows: dict[RowKey, Sums] = {}
    by_account: dict[str, list[tuple[RowKey, Sums]]] = {}
    for (name, key), cell in sorted(cells.items(), key=lambda item: item[0]):
        by_account.setdefault(name, []).append((key, cell))
    for cells_of_account in by_account.values():
        _round([cell for _, cell in cells_of_account], currencies)
        for key, cell in cells_of_account:
            rows.setdefault(key, Sums()).add(cell)
    return dict(sorted(rows.items()))


def _flags(bucket: UsageBucket, record_names: Sequence[str]) -> Flags | None:
    further = bucket.split[len(record_names) :]
    return Flags(*further) if further else None


def _row_key(bucket: UsageBucket, by: Sequence[str], record_names: Sequence[str], compared: Flags | None) -> RowKey:
    """Return the values of a bucket. One of another book is in the row of the charge that it is compared with."""
    card = bucket.card
    names = compared[:3] if compared else (card.model, card.group, card.service_tier)
    values = dict(zip((*CARD_DIMENSIONS, *record_names), (bucket.account, *names, *bucket.split), strict=False))
    return tuple(values[name] for name in by)


def _add_billed(cell: Sums, bucket: UsageBucket, flags: Flags | None) -> None:
    card = bucket.card
    cell.requests += bucket.requests
    cell.estimated += bucket.requests if bucket.estimated else 0
    cell.listed += bucket.list_supplement
    cell.uncached += bucket.uncached_supplement
    for name, quantity in bucket.quantities.items():
        cell.quantities[name] = cell.quantities.get(name, 0) + quantity
        list_rate, uncached_rate = card.list_and_uncached_rates(name)
        cell.listed += quantity * list_rate
        cell.uncached += quantity * uncached_rate
    units = _units(bucket)
    money = _money(units, card)
    cell.units += units
    _add_amounts(cell.money, money)
    if flags and flags.uncosted:
        cell.uncosted_requests += bucket.requests
        _add_amounts(cell.uncosted, money)
    if flags and flags.unpriced:
        cell.unpriced_requests += bucket.requests
        cell.unpriced_units += units
        _add_amounts(cell.unpriced, money)


def _add_cost(cell: Sums, bucket: UsageBucket, bases: Mapping[str, CostBasis], flags: Flags | None) -> None:
    units, unsold = _units(bucket), flags.unsold.split("\t") if flags else ()
    for channel, basis in bases.items():
        if channel not in unsold:
            _add_amounts(cell.cost, {channel: cost_amount(units, bucket.card, basis) or 0})


def _add_other(cell: Sums, bucket: UsageBucket) -> None:
    units = _units(bucket)
    cell.other_units += units
    _add_amounts(cell.other_money, _money(units, bucket.card))


def _units(bucket: UsageBucket) -> int:
    rates = bucket.card.unit_rates
    return sum(quantity * rates[name] for name, quantity in bucket.quantities.items())


def _money(units: int, card: RateCard) -> Amounts:
    """Return what Credits cost: their nominal price, and that on every channel that has a price at that time."""
    return {NOMINAL: nominal_amount(units, card)} | {
        name: channel_amount(units, card, name) or 0 for name in card.channels
    }


def _add_amounts(sums: Amounts, amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        sums[name] = sums.get(name, 0) + amount


def _round(cells: Sequence[Sums], currencies: Mapping[str, str]) -> None:
    """Round the total of an account as its bill does, and allocate it to its rows."""
    for cell, part in zip(cells, _allocate([cell.units for cell in cells], UNIT_DECIMALS, CREDIT_DIGITS), strict=True):
        cell.rounded_credits = part
    for name, currency in currencies.items():
        amounts = [cell.money.get(name, 0) for cell in cells]
        for cell, part in zip(cells, _allocate(amounts, MONEY_DECIMALS, minor_digits(currency)), strict=True):
            if name in cell.money:
                cell.rounded_money[name] = part


def _allocate(amounts: Sequence[int], places: int, digits: int) -> Iterable[int]:
    return allocate(round_quotient(sum(amounts) * 10**digits, 10**places, Rounding.HALF_UP), amounts)
