"""FOCUS Cost and Usage of prepaid Credits: top-ups are purchases, and usage draws them down at the price of their lot.

As in the draw-down example of FOCUS, money is billed by the purchase, and its effective cost is zero. A row of usage is
billed at zero, and its effective cost is the price that was paid for its Credits. The ledger decides which lots the
usage of a day consumed. Over the life of a lot, effective costs and refunds add up to the payment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, multiply
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.exports.bookings import KIND_LABELS, AccountBooks, Booking
from brivionix_billing.exports.focus import CREDITS, FocusDays, UsageRow, period_columns, provider_columns
from brivionix_billing.exports.focus_columns import Row, Value
from brivionix_billing.exports.lots import PurchasedLot
from brivionix_billing.exports.transactions import unit_cost
from brivionix_billing.ledger.units import units_to_credits, units_to_text
from brivionix_billing.rating.units import UNIT_DECIMALS
from brivionix_billing.times import Period

__all__ = ["prepaid_rows"]

_ZERO = Decimal(0)
_SERVICE: Mapping[str, Value] = {
    "ServiceCategory": "AI and Machine Learning",
    "ServiceSubcategory": "Generative AI",
    "ServiceName": "LLM API",
}


class _Draw(NamedTuple):
    """Credits that the usage of a day took from one source."""

    lot: PurchasedLot | None
    """``None``: promotional Credits, or a debt."""
    units: int


@dataclass(frozen=True, slots=True)
class _Context:
    """The columns that all rows of an account share."""

    books: AccountBooks
    days: FocusDays
    shared: Mapping[str, Value]

    def row(self, day: str, columns: Mapping[str, Value]) -> Row:
        return {**self.shared, **self.days.columns(day), **columns}


def prepaid_rows(books: Iterable[AccountBooks], usage: Iterable[UsageRow], period: Period, issuer: str) -> list[Row]:
    """Return the rows of all accounts: purchases, usage, expired Credits, refunds and other adjustments.

    Credits of lots that are not in ``usage``, because they were priced elsewhere, are a row per lot and day. Raises
    ``invalid_argument`` if ``usage`` has more than the ledger charged on a day.
    """
    days = FocusDays(period)
    by_day: dict[tuple[str, str], list[UsageRow]] = {}
    for row in usage:
        by_day.setdefault((row.account, row.day), []).append(row)
    rows: list[Row] = []
    for each in books:
        shared = period_columns(period) | provider_columns(issuer) | {"BillingAccountId": each.account, **_SERVICE}
        context = _Context(each, days, shared)
        for booking in each.bookings:
            if booking.kind == "usage":
                rows += _usage_day(context, booking, by_day.pop((each.account, booking.day), []))
            else:
                rows += _other_booking(context, booking)
    for (account, day), missing in by_day.items():
        if any(row.units for row in missing):
            raise _excess_error(account, day, sum(row.units for row in missing), 0)
        rows += [_drawn(row.columns(), _Draw(None, 0)) for row in missing]
    return rows


def _usage_day(context: _Context, booking: Booking, usage: list[UsageRow]) -> Iterator[Row]:
    """Yield the rows of a day, each with the lot that it draws down."""
    charged, rated = -booking.net, sum(row.units for row in usage)
    if rated > charged:
        raise _excess_error(booking.account, booking.day, rated, charged)
    draws = [_Draw(context.books.lots[id], -change) for id, change in booking.lots.items() if change < 0]
    uncosted = -sum(booking.promotional.values()) - min(0, booking.owed)
    draws.append(_Draw(None, uncosted))
    draws.reverse()  # taken from the end
    for row in usage:
        yield from _draw_row(row, draws)
    # The rest was priced elsewhere, and what exceeds it has settled a debt.
    rest = charged - rated
    while draws:
        draw = draws.pop()
        part = min(rest, draw.units)
        rest -= part
        if part and draw.lot is not None:
            yield context.row(booking.day, _credits(draw.lot, part, "Usage priced elsewhere", "Used"))
        if draw.units > part and draw.lot is not None:
            settled = _credits(draw.lot, draw.units - part, "Debt settled", "Used")
            yield context.row(booking.day, settled)


def _draw_row(row: UsageRow, draws: list[_Draw]) -> Iterator[Row]:
    """Yield a row of usage, in one part per lot. Quantities of the parts are whole, and their costs are exact."""
    units, quantity = row.units, row.quantity
    while True:
        while draws and not draws[-1].units:
            draws.pop()
        draw = draws.pop() if draws else _Draw(None, units)
        part = min(units, draw.units)
        if draw.units > part:
            draws.append(_Draw(draw.lot, draw.units - part))
        taken = quantity if part == units else min(quantity, part * row.quantity // row.units)
        yield _drawn(row.columns(taken), _Draw(draw.lot, part))
        units, quantity = units - part, quantity - taken
        if not units:
            return


def _drawn(columns: Mapping[str, Value], draw: _Draw) -> Row:
    """Return a row of usage that is drawn from a lot. Its prices are those of the lot."""
    credits = units_to_credits(draw.units)
    if draw.lot is None:
        return {**columns, "BilledCost": _ZERO, "EffectiveCost": _ZERO, "PricingCurrencyEffectiveCost": credits}
    price = decimal_from_scaled(unit_cost(draw.lot), UNIT_DECIMALS)
    contracted = multiply(_number(columns, "PricingCurrencyContractedUnitPrice"), price)
    listed = multiply(_number(columns, "PricingCurrencyListUnitPrice"), price)
    quantity = _number(columns, "PricingQuantity")
    return {
        **columns,
        **_commitment(draw.lot, draw.units, "Used"),
        "BilledCost": _ZERO,
        "EffectiveCost": multiply(credits, price),
        "ContractedUnitPrice": contracted,
        "ContractedCost": multiply(contracted, quantity),
        "ListUnitPrice": listed,
        "ListCost": multiply(listed, quantity),
        "BillingCurrency": draw.lot.currency,
        "PricingCategory": "Committed",
        "PricingCurrencyEffectiveCost": credits,
        "x_PaymentChannel": draw.lot.channel,
    }


def _other_booking(context: _Context, booking: Booking) -> Iterator[Row]:
    """Yield the rows of a booking that is not usage: a purchase, expired Credits, a refund or another adjustment."""
    label = KIND_LABELS[booking.kind]
    if booking.kind == "lot_expired":
        for id, change in booking.lots.items():
            if change:
                yield context.row(booking.day, _credits(context.books.lots[id], -change, label, "Unused"))
        return
    if booking.kind == "top_up":
        yield context.row(booking.day, _purchase(context.books.lots[booking.id]))
        label = "Debt settled"
    for channel, currency in sorted({key[1:] for key in booking.money}):
        money = {key.name: amount for key, amount in booking.money.items() if key[1:] == (channel, currency)}
        tax = -money.get("tax", 0)
        # The customer is billed the money of the lot and its tax. Fees are paid by the seller.
        cash = 0 if booking.kind == "top_up" else money.get("cash", 0) - tax + money.get("fees", 0)
        revenue = -sum(money.get(name, 0) for name in ("usage", "breakage", "corrections"))
        if cash or revenue:
            yield context.row(booking.day, _adjustment(label, channel, currency, cash, revenue))
        if tax:
            columns = _adjustment(f"Tax: {KIND_LABELS[booking.kind]}", channel, currency, tax, tax)
            yield context.row(booking.day, {**columns, "ChargeCategory": "Tax"})


def _purchase(lot: PurchasedLot) -> dict[str, Value]:
    """Return the columns of a top-up. Its price is 1 per unit of its currency, so that no price is rounded."""
    paid = units_to_credits(lot.paid)
    one = Decimal(1)
    return {
        **_commitment(lot, lot.credits, None),
        "BilledCost": paid,
        "EffectiveCost": _ZERO,
        "ContractedCost": paid,
        "ContractedUnitPrice": one,
        "ListCost": paid,
        "ListUnitPrice": one,
        "BillingCurrency": lot.currency,
        "ChargeCategory": "Purchase",
        "ChargeDescription": f"Top-up of {units_to_text(lot.credits)} Credits by {lot.channel}",
        "ChargeFrequency": "One-Time",
        "PricingCategory": "Standard",
        "PricingCurrency": lot.currency,
        "PricingCurrencyContractedUnitPrice": one,
        "PricingCurrencyEffectiveCost": _ZERO,
        "PricingCurrencyListUnitPrice": one,
        "PricingQuantity": paid,
        "PricingUnit": lot.currency,
        "SkuId": "credits",
        "SkuMeter": CREDITS,
        "SkuPriceId": f"credits/{lot.channel}",
        "x_PaymentChannel": lot.channel,
    }


def _credits(lot: PurchasedLot, units: int, label: str, status: str) -> dict[str, Value]:
    """Return the columns of Credits that no row of the usage file has."""
    credits, price = units_to_credits(units), decimal_from_scaled(unit_cost(lot), UNIT_DECIMALS)
    cost, one = multiply(credits, price), Decimal(1)
    return {
        **_commitment(lot, units, status),
        "BilledCost": _ZERO,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "ContractedUnitPrice": price,
        "ListCost": cost,
        "ListUnitPrice": price,
        "BillingCurrency": lot.currency,
        "ChargeCategory": "Usage",
        "ChargeDescription": label,
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Committed",
        "PricingCurrency": CREDITS,
        "PricingCurrencyContractedUnitPrice": one,
        "PricingCurrencyEffectiveCost": credits,
        "PricingCurrencyListUnitPrice": one,
        "PricingQuantity": credits,
        "PricingUnit": CREDITS,
        "SkuId": "credits",
        "SkuMeter": CREDITS,
        "SkuPriceId": f"credits/{lot.channel}",
        "x_PaymentChannel": lot.channel,
        **({} if status == "Unused" else {"ConsumedQuantity": credits, "ConsumedUnit": CREDITS}),
    }


def _adjustment(label: str, channel: str, currency: str, cash: int, revenue: int) -> dict[str, Value]:
    """Return the columns of money that is paid back, or of revenue without usage."""
    billed, effective = units_to_credits(cash), units_to_credits(revenue)
    return {
        "BilledCost": billed,
        "EffectiveCost": effective,
        "ContractedCost": effective,
        "ListCost": effective,
        "BillingCurrency": currency,
        "ChargeCategory": "Adjustment",
        "ChargeDescription": label,
        "ChargeFrequency": "One-Time",
        "PricingCurrency": currency,
        "PricingCurrencyEffectiveCost": effective,
        "x_PaymentChannel": channel,
    }


def _commitment(lot: PurchasedLot, units: int, status: str | None) -> dict[str, Value]:
    return {
        "CommitmentDiscountCategory": "Spend",
        "CommitmentDiscountId": lot.id,
        "CommitmentDiscountName": f"Prepaid Credits of {lot.day}",
        "CommitmentDiscountQuantity": units_to_credits(units),
        "CommitmentDiscountStatus": status,
        "CommitmentDiscountType": "Prepaid Credits",
        "CommitmentDiscountUnit": CREDITS,
    }


def _number(columns: Mapping[str, Value], name: str) -> Decimal:
    value = columns[name]
    if not isinstance(value, Decimal):
        raise TypeError(name)
    return value


def _excess_error(account: str, day: str, rated: int, charged: int) -> BillingError:
    return BillingError(
        "invalid_argument",
        f"account {safe_repr(account)}, {day}: the usage has {units_to_text(rated)} Credits, but the ledger charged "
        f"{units_to_text(charged)}; use the records of this ledger, price file and time zone ('ledger records')",
    )
