"""A bill from what was collected: lines, totals, what was saved, evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import (
    Rounding,
    decimal_from_scaled,
    format_plain,
    format_scaled,
    round_quotient,
    to_scaled,
)
from brivionix_billing.invoice.aggregation.aggregate import TREE_SCHEME, AccountUsage, UsageBucket
from brivionix_billing.invoice.header import Header, document_header, payment_section
from brivionix_billing.meters import METERS, Meter
from brivionix_billing.money import allocate, minor_digits
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.charge import UNIT_DECIMALS
from brivionix_billing.times import format_instant

__all__ = ["CREDIT_DIGITS", "build_invoice", "credits_used"]

CREDIT_DIGITS: Final = 6
"""Digits of shown Credits."""
_ROUNDING: Final = Rounding.HALF_UP


@dataclass(slots=True)
class _LineTotal:
    cell: UsageBucket
    meter: Meter
    quantity: int = 0
    channels: dict[str, int] = field(default_factory=dict)
    """Channel -> exact amount in 10^-(18 + places of the channel) of its currency."""

    @property
    def units(self) -> int:
        return self.quantity * (self.cell.card.unit_rates[self.meter.position] or 0)


def build_invoice(usage: AccountUsage, header: Header, book: PriceBook) -> dict[str, Any]:
    """The bill, not yet sealed: everything but ``hash`` and ``signature``.

    Raises ``unknown_channel`` for a channel that the price book lacks, ``invalid_argument`` for a balance that does not
    come out with the Credits used.
    """
    scales = _channel_scales(usage.cells)
    lines = _group_lines(usage.cells, scales)
    currency = book.currency
    per_credit, per_credit_places = to_scaled(book.nominal_per_credit)

    units = [line.units for line in lines]
    total = sum(units)
    columns = {"credits": _allocate_column(units, UNIT_DECIMALS, CREDIT_DIGITS)}
    nominal_units = [unit * per_credit for unit in units]
    nominal_places = UNIT_DECIMALS + per_credit_places
    columns["nominal"] = _allocate_column(nominal_units, nominal_places, minor_digits(currency))
    channel_columns = {
        name: _allocate_column(
            [line.channels.get(name, 0) for line in lines], UNIT_DECIMALS + places, minor_digits(code)
        )
        for name, (code, places) in scales.items()
    }

    def shown(index: int) -> dict[str, Any]:
        return {
            "credits": columns["credits"][index],
            "nominal": columns["nominal"][index],
            "channels": {name: column[index] for name, column in channel_columns.items()},
        }

    return {
        **document_header(header, "invoice", None),
        "payment": None if header.channel is None else payment_section(header.channel, book),
        "balance": None if header.balance is None else header.balance.reconcile(header.account, credits_used(usage)),
        "lines": [_line_section(line, shown(index)) for index, line in enumerate(lines)],
        "totals": {
            "requests": usage.requests,
            "credits": _exact_text(total, UNIT_DECIMALS),
            "nominal": {
                "currency": currency,
                "amount": _exact_text(total * per_credit, nominal_places),
                "per_credit": format_plain(book.nominal_per_credit),
            },
            "channels": {
                name: _channel_section(name, code, places, usage.cells, lines)
                for name, (code, places) in scales.items()
            },
            "estimated": _estimated_section(usage.cells),
            "rounded": shown(len(lines)),
        },
        "savings": _savings_section(usage.cells, total),
        "days": [
            {"day": day, "model": model, "requests": use.requests, "credits": _exact_text(use.units, UNIT_DECIMALS)}
            for (day, model), use in sorted(usage.days.items())
        ],
        "rounding": {"mode": str(_ROUNDING), "parts": "largest_remainder", "credit_digits": CREDIT_DIGITS},
        "evidence": {
            "price_book": book.digest,
            "price_book_before_end": book.digest_before(header.period.end),
            "records": usage.requests,
            "first": _request_reference(usage.first),
            "last": _request_reference(usage.last),
            "tree": TREE_SCHEME,
            "merkle_root": "sha256:" + usage.tree.root().hex(),
            "duplicates": usage.duplicates,
            "rejected": usage.rejected,
        },
        "signing_key": header.signing_key,
    }


def _group_lines(cells: Sequence[UsageBucket], scales: Mapping[str, tuple[str, int]]) -> list[_LineTotal]:
    """One line per model, group, service tier, context tier, meter and price.

    Cards that differ only in what a line does not show (say, a channel's price) share their lines.
    """
    lines: dict[tuple[Any, ...], _LineTotal] = {}
    for cell in cells:
        card = cell.card
        for meter in METERS:
            quantity = cell.quantities[meter.position]
            if not quantity:
                continue
            listed, price = card.list_prices[meter.position], card.unit_prices[meter.position]
            ratio = card.ratio_for(meter.position)
            key = (
                card.model,
                card.group,
                card.service_tier,
                card.context_tier != "short",
                card.price_since,
                meter.position,
                listed if listed is not None else Decimal(-1),
                -1 if ratio is None else ratio,
                price,
            )
            line = lines.setdefault(key, _LineTotal(cell, meter))
            line.quantity += quantity
            for name, rate in card.channels.items():
                coefficient, places = to_scaled(rate.price)
                amount = (
                    quantity * (card.unit_rates[meter.position] or 0) * coefficient * 10 ** (scales[name][1] - places)
                )
                line.channels[name] = line.channels.get(name, 0) + amount
    return [line for _, line in sorted(lines.items(), key=lambda item: item[0])]


def _line_section(line: _LineTotal, shown: dict[str, Any]) -> dict[str, Any]:
    card, place = line.cell.card, line.meter.position
    listed, unit_price, ratio = card.list_prices[place], card.unit_prices[place], card.ratio_for(place)
    return {
        "model": card.model,
        "group": card.group,
        "service_tier": card.service_tier,
        "context_tier": card.context_tier,
        "price_since": format_instant(card.price_since),
        "meter": line.meter.name,
        "quantity": str(line.quantity),
        "list_price": None if listed is None else format_plain(listed),
        "per": line.meter.per,
        "ratio": None if ratio is None else format_plain(ratio),
        "unit_price": format_plain(unit_price or Decimal(0)),
        "credits": _exact_text(line.units, UNIT_DECIMALS),
        "rounded": shown,
    }


def _channel_scales(cells: Sequence[UsageBucket]) -> dict[str, tuple[str, int]]:
    """Channel -> (currency, most digits behind the point that any of its prices has)."""
    scales: dict[str, tuple[str, int]] = {}
    for cell in cells:
        for name, rate in cell.card.channels.items():
            places = to_scaled(rate.price)[1]
            scales[name] = (rate.currency, max(places, scales.get(name, ("", 0))[1]))
    return scales


def _channel_section(
    name: str, currency: str, places: int, cells: Sequence[UsageBucket], lines: Sequence[_LineTotal]
) -> dict[str, Any]:
    parts: dict[tuple[datetime, Decimal], int] = {}
    missing = 0
    for cell in cells:
        units = _cell_units(cell)
        rate = cell.card.channels.get(name)
        if rate is None:
            missing += units
        else:
            parts[rate.since, rate.price] = parts.get((rate.since, rate.price), 0) + units
    return {
        "currency": currency,
        "amount": _exact_text(sum(line.channels.get(name, 0) for line in lines), UNIT_DECIMALS + places),
        "price_periods": [
            {
                "price_per_credit": format_plain(price),
                "since": format_instant(since),
                "credits": _exact_text(units, UNIT_DECIMALS),
            }
            for (since, price), units in sorted(parts.items())
        ],
        "credits_without_price": _exact_text(missing, UNIT_DECIMALS),
    }


def credits_used(usage: AccountUsage) -> Decimal:
    """The exact Credits of an account's bill."""
    return decimal_from_scaled(sum(map(_cell_units, usage.cells)), UNIT_DECIMALS)


def _estimated_section(cells: Sequence[UsageBucket]) -> dict[str, Any]:
    """How much of the bill stands on counts that no provider reported."""
    guessed = [cell for cell in cells if cell.estimated]
    return {
        "requests": sum(cell.requests for cell in guessed),
        "credits": _exact_text(sum(map(_cell_units, guessed)), UNIT_DECIMALS),
    }


def _cell_units(cell: UsageBucket) -> int:
    return sum(quantity * (cell.card.unit_rates[place] or 0) for place, quantity in enumerate(cell.quantities))


def _savings_section(cells: Sequence[UsageBucket], charged: int) -> dict[str, str]:
    listed = uncached = 0
    for cell in cells:
        for place, quantity in enumerate(cell.quantities):
            if quantity:
                here, full = cell.card.list_and_uncached_rates(place)
                listed += quantity * here
                uncached += quantity * full
    return {
        "list": _exact_text(uncached, UNIT_DECIMALS),
        "cache": _exact_text(uncached - listed, UNIT_DECIMALS),
        "group": _exact_text(listed - charged, UNIT_DECIMALS),
    }


def _allocate_column(amounts: Sequence[int], places: int, digits: int) -> list[str]:
    """Shown amounts of the lines, and last that of their total: rounded once, then shared out over the lines."""
    total = round_quotient(sum(amounts) * 10**digits, 10**places, _ROUNDING)
    return [format_scaled(part, digits) for part in [*allocate(total, amounts), total]]


def _exact_text(amount: int, places: int) -> str:
    return format_plain(decimal_from_scaled(amount, places))


def _request_reference(found: tuple[str, str] | None) -> dict[str, str] | None:
    return None if found is None else {"request_id": found[1], "at": found[0] + "Z"}
