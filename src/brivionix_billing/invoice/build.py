"""Builds a bill from aggregated usage: lines, totals, savings and evidence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import (
    Rounding,
    decimal_from_scaled,
    format_plain,
    format_scaled,
    round_quotient,
    to_scaled,
)
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage, RequestReference, UsageBucket
from brivionix_billing.invoice.aggregation.aggregate import TREE_SCHEME
from brivionix_billing.invoice.header import CREDIT_DIGITS, Header, document_header, payment_section
from brivionix_billing.invoice.labels import labels_section
from brivionix_billing.invoice.taxes import taxes_on_payment
from brivionix_billing.meters import METERS, REQUEST_METERS, Meter, format_quantity
from brivionix_billing.money import allocate, minor_digits
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.digest import rate_cards_digest
from brivionix_billing.rating.rate_card import UNIT_DECIMALS, RateCard
from brivionix_billing.times import format_instant

__all__ = ["CREDIT_DIGITS", "build_invoice", "credits_used"]

_ROUNDING: Final = Rounding.HALF_UP


class _ChannelScale(NamedTuple):
    """The currency of a channel, and the most decimal places that any of its prices in the period has."""

    currency: str
    places: int


_METER_ORDER: Final = {name: position for position, name in enumerate((*METERS, *REQUEST_METERS))}


class _LineKey(NamedTuple):
    """The values that distinguish the lines of a bill. Lines sort by them."""

    model: str
    group: str
    service_tier: str
    context: int
    """The smallest number of input tokens of the context tier."""
    context_tier: str
    conditions: tuple[tuple[str, str], ...]
    price_since: datetime
    meter_position: int
    meter: str
    list_price: Decimal
    """-1 if there is none."""
    ratio: Decimal
    """-1 if the group has its own price instead."""
    unit_price: Decimal

    @classmethod
    def of(cls, card: RateCard, meter: str) -> _LineKey:
        """Return the key of the line for a card and a meter."""
        list_price, ratio = card.list_prices.get(meter), card.ratio_for(meter)
        lower = card.context.lower
        return cls(
            card.model,
            card.group,
            card.service_tier,
            0 if lower is None else lower.last_below + 1,
            card.context_tier,
            tuple(sorted(card.conditions(meter).items())),
            card.price_since,
            _METER_ORDER.get(meter, len(_METER_ORDER)),
            meter,
            Decimal(-1) if list_price is None else list_price,
            Decimal(-1) if ratio is None else ratio,
            card.unit_prices[meter],
        )


@dataclass(slots=True)
class _Line:
    """The sums of one line."""

    card: RateCard
    """One of its cards. Others differ only in values that the line does not state."""
    meter: Meter
    quantity: int = 0
    channels: dict[str, int] = field(default_factory=dict)
    """Channel -> exact amount in 10^-(18 + places of the channel's scale) of its currency."""

    @property
    def units(self) -> int:
        """10^-18 Credit."""
        return self.quantity * self.card.unit_rates[self.meter.name]


def build_invoice(
    usage: AccountUsage, header: Header, book: PriceBook, *, channels: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the bill without ``hash`` and ``signature``, which ``seal`` adds.

    It states the cost through each of ``channels``, or through every channel that had a price in the period. Give the
    channels of the issued bill when it is recomputed or corrected: a price file may get further ones at any time.

    Raises ``unknown_channel`` if the price book does not have the channel of payment, and ``invalid_argument`` if the
    balance does not reconcile with the Credits used, or the usage is not split as the header says.
    """
    scales = _channel_scales(usage.buckets, channels)
    lines = _group_lines(usage.buckets, scales)
    currency = book.currency
    per_credit, per_credit_places = to_scaled(book.nominal_per_credit)

    units = [line.units for line in lines]
    total_units = sum(units)
    credit_column = _round_column(units, UNIT_DECIMALS, header.credit_digits)
    nominal_places = UNIT_DECIMALS + per_credit_places
    nominal_column = _round_column([each * per_credit for each in units], nominal_places, minor_digits(currency))
    channel_columns = {
        name: _round_column(
            [line.channels.get(name, 0) for line in lines], UNIT_DECIMALS + scale.places, minor_digits(scale.currency)
        )
        for name, scale in scales.items()
    }

    def rounded(index: int) -> dict[str, Any]:
        return {
            "credits": credit_column[index],
            "nominal": nominal_column[index],
            "channels": {name: column[index] for name, column in channel_columns.items()},
        }

    document = {
        **document_header(header, "invoice", None),
        "payment": None if header.channel is None else payment_section(header.channel, book),
        "balance": None if header.balance is None else header.balance.reconcile(header.account, credits_used(usage)),
        "lines": [_line_section(line, rounded(index)) for index, line in enumerate(lines)],
        "totals": {
            "requests": usage.requests,
            "credits": _exact_text(total_units, UNIT_DECIMALS),
            "nominal": {
                "currency": currency,
                "amount": _exact_text(total_units * per_credit, nominal_places),
                "per_credit": format_plain(book.nominal_per_credit),
            },
            "channels": {name: _channel_section(name, scale, usage.buckets, lines) for name, scale in scales.items()},
            "estimated": _estimated_section(usage.buckets),
            "rounded": rounded(len(lines)),
        },
        "savings": _savings_section(usage.buckets, total_units),
        "days": [
            {"day": day, "model": model, "requests": daily.requests, "credits": _exact_text(daily.units, UNIT_DECIMALS)}
            for (day, model), daily in sorted(usage.days.items())
        ],
        **_split_section(header, usage.buckets, scales, book),
        "rounding": {"mode": str(_ROUNDING), "parts": "largest_remainder", "credit_digits": header.credit_digits},
        "evidence": {
            "price_book": book.digest,
            "prices": rate_cards_digest(_used_meters(usage.buckets), scales),
            "records": usage.requests,
            "first": _request_section(usage.first),
            "last": _request_section(usage.last),
            "tree": TREE_SCHEME,
            "merkle_root": "sha256:" + usage.tree.root().hex(),
            "duplicates": usage.duplicates,
            "rejected": usage.rejected,
            **_unaccounted_section(usage),
        },
        "signing_key": header.signing_key,
    }
    if header.taxes is not None:
        document["taxes"] = taxes_on_payment(header.taxes, document)
    return {**document, **labels_section(document, book)}


def _used_meters(buckets: Sequence[UsageBucket]) -> list[tuple[RateCard, set[str]]]:
    """Return each rate card with the meters that were used, whether the usage is split into sections or not."""
    found: dict[tuple[int, bool], tuple[RateCard, set[str]]] = {}
    for bucket in buckets:
        found.setdefault((id(bucket.card), bucket.estimated), (bucket.card, set()))[1].update(bucket.quantities)
    return list(found.values())


def credits_used(usage: AccountUsage) -> Decimal:
    """Return the exact Credits of an account's bill."""
    return decimal_from_scaled(sum(map(_bucket_units, usage.buckets)), UNIT_DECIMALS)


def _channel_scales(buckets: Sequence[UsageBucket], channels: Collection[str] | None) -> dict[str, _ChannelScale]:
    scales: dict[str, _ChannelScale] = {}
    for bucket in buckets:
        for name, rate in bucket.card.channels.items():
            if channels is not None and name not in channels:
                continue
            places = to_scaled(rate.price)[1]
            known = scales.get(name)
            scales[name] = _ChannelScale(rate.currency, places if known is None else max(places, known.places))
    return scales


def _group_lines(buckets: Sequence[UsageBucket], scales: Mapping[str, _ChannelScale]) -> list[_Line]:
    """Return one line per model, group, service tier, context tier, meter and price, in order.

    Cards that differ only in values that a line does not state, such as a channel's price, share their lines.
    """
    lines: dict[_LineKey, _Line] = {}
    for bucket in buckets:
        card = bucket.card
        for name, quantity in bucket.quantities.items():
            line = lines.setdefault(_LineKey.of(card, name), _Line(card, card.meter(name)))
            line.quantity += quantity
            units = quantity * card.unit_rates[name]
            for channel, rate in card.channels.items():
                if channel not in scales:
                    continue
                coefficient, places = to_scaled(rate.price)
                amount = units * coefficient * 10 ** (scales[channel].places - places)
                line.channels[channel] = line.channels.get(channel, 0) + amount
    return [lines[key] for key in sorted(lines)]


def _line_section(line: _Line, rounded: dict[str, Any]) -> dict[str, Any]:
    card, meter = line.card, line.meter
    list_price, ratio = card.list_prices.get(meter.name), card.ratio_for(meter.name)
    return {
        "model": card.model,
        "group": card.group,
        "service_tier": card.service_tier,
        "context_tier": card.context_tier,
        **card.conditions(meter.name),
        "price_since": format_instant(card.price_since),
        "meter": meter.name,
        "quantity": format_quantity(line.quantity, meter),
        "list_price": None if list_price is None else format_plain(list_price),
        "per": meter.per,
        "ratio": None if ratio is None else format_plain(ratio),
        "unit_price": format_plain(card.unit_prices[meter.name]),
        "credits": _exact_text(line.units, UNIT_DECIMALS),
        "rounded": rounded,
    }


def _channel_section(
    name: str, scale: _ChannelScale, buckets: Sequence[UsageBucket], lines: Sequence[_Line]
) -> dict[str, Any]:
    units_by_price: dict[tuple[datetime, Decimal], int] = {}
    unpriced_units = 0
    for bucket in buckets:
        units = _bucket_units(bucket)
        rate = bucket.card.channels.get(name)
        if rate is None:
            unpriced_units += units
        else:
            units_by_price[rate.since, rate.price] = units_by_price.get((rate.since, rate.price), 0) + units
    return {
        "currency": scale.currency,
        "amount": _exact_text(sum(line.channels.get(name, 0) for line in lines), UNIT_DECIMALS + scale.places),
        "price_periods": [
            {
                "price_per_credit": format_plain(price),
                "since": format_instant(since),
                "credits": _exact_text(units, UNIT_DECIMALS),
            }
            for (since, price), units in sorted(units_by_price.items())
        ],
        "credits_without_price": _exact_text(unpriced_units, UNIT_DECIMALS),
    }


def _estimated_section(buckets: Sequence[UsageBucket]) -> dict[str, Any]:
    """Return the part of the totals whose counts are estimates, because no provider reported them."""
    estimated = [bucket for bucket in buckets if bucket.estimated]
    return {
        "requests": sum(bucket.requests for bucket in estimated),
        "credits": _exact_text(sum(map(_bucket_units, estimated)), UNIT_DECIMALS),
    }


def _unaccounted_section(usage: AccountUsage) -> dict[str, Any]:
    """Return what nothing was charged for, if there is any."""
    if not usage.unaccounted:
        return {}
    return {
        "unaccounted": [
            {"path": path, "numbers": found.numbers, "total": format_plain(found.total)}
            for path, found in sorted(usage.unaccounted.items())
        ]
    }


def _bucket_units(bucket: UsageBucket) -> int:
    rates = bucket.card.unit_rates
    return sum(quantity * rates[name] for name, quantity in bucket.quantities.items())


def _savings_section(buckets: Sequence[UsageBucket], charged_units: int) -> dict[str, str]:
    listed = uncached = 0
    for bucket in buckets:
        listed += bucket.list_supplement
        uncached += bucket.uncached_supplement
        for name, quantity in bucket.quantities.items():
            list_rate, uncached_rate = bucket.card.list_and_uncached_rates(name)
            listed += quantity * list_rate
            uncached += quantity * uncached_rate
    return {
        "list": _exact_text(uncached, UNIT_DECIMALS),
        "cache": _exact_text(uncached - listed, UNIT_DECIMALS),
        "group": _exact_text(listed - charged_units, UNIT_DECIMALS),
    }


def _split_section(
    header: Header, buckets: Sequence[UsageBucket], scales: Mapping[str, _ChannelScale], book: PriceBook
) -> dict[str, Any]:
    """Return the sections of a bill that is split: the usage with each value, in the order of the values."""
    by = header.split
    if by is None:
        return {}
    groups: dict[str, list[UsageBucket]] = {}
    for bucket in buckets:
        if len(bucket.split) != 1:
            raise BillingError(
                "invalid_argument", f"the usage is not split by {by}; aggregate it with dimensions=Dimensions([{by!r}])"
            )
        groups.setdefault(bucket.split[0], []).append(bucket)
    names = sorted(groups)
    units = [sum(map(_bucket_units, groups[name])) for name in names]
    per_credit, places = to_scaled(book.nominal_per_credit)
    columns = {
        name: _round_column(
            [sum(line.channels.get(name, 0) for line in _group_lines(groups[part], scales)) for part in names],
            UNIT_DECIMALS + scale.places,
            minor_digits(scale.currency),
        )
        for name, scale in scales.items()
    }
    credit_column = _round_column(units, UNIT_DECIMALS, header.credit_digits)
    nominal_column = _round_column(
        [each * per_credit for each in units], UNIT_DECIMALS + places, minor_digits(book.currency)
    )
    parts = [
        {
            "name": name,
            "requests": sum(bucket.requests for bucket in groups[name]),
            "credits": _exact_text(units[index], UNIT_DECIMALS),
            "rounded": {
                "credits": credit_column[index],
                "nominal": nominal_column[index],
                "channels": {channel: column[index] for channel, column in columns.items()},
            },
        }
        for index, name in enumerate(names)
    ]
    return {"sections": {"by": by, "parts": parts}}


def _round_column(amounts: Sequence[int], places: int, digits: int) -> list[str]:
    """Return the rounded amounts of the lines, and then of their total.

    The total is rounded once, and then allocated to the lines, so that they add up to it.
    """
    total = round_quotient(sum(amounts) * 10**digits, 10**places, _ROUNDING)
    return [format_scaled(amount, digits) for amount in [*allocate(total, amounts), total]]


def _exact_text(amount: int, places: int) -> str:
    return format_plain(decimal_from_scaled(amount, places))


def _request_section(request: RequestReference | None) -> dict[str, str] | None:
    return None if request is None else {"request_id": request.request_id, "at": request.at + "Z"}
