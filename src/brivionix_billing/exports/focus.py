"""FOCUS Cost and Usage from a usage file: one row per day, price and meter, with the tokens themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, format_plain, multiply, sum_exact
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.exports.focus_columns import Row, Value
from brivionix_billing.invoice.aggregation.account_usage import AggregatedUsage, UsageBucket
from brivionix_billing.invoice.document import rounded_costs
from brivionix_billing.meters import Meter
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.rate_card import ChannelRate
from brivionix_billing.rating.units import UNIT_DECIMALS
from brivionix_billing.times import CalendarDays, Period, format_instant

__all__ = [
    "CREDITS",
    "Bill",
    "DailyUsage",
    "daily_usage",
    "FocusDays",
    "UsageRow",
    "billing_period_row",
    "invoice_detail_rows",
    "line_identity",
    "note_rows",
    "period_columns",
    "provider_columns",
    "usage_rows",
]

_SKU_METERS: Final = {
    "input": "Input Tokens",
    "output": "Output Tokens",
    "cache_read": "Cache Read Input Tokens",
    "cache_write": "Cache Write Input Tokens",
    "cache_storage": "Context Cache Storage",
}
"""Meter -> the name that FOCUS has for it. Others are named after the meter."""
_UNITS: Final = {
    "token": "Tokens",
    "call": "Calls",
    "session": "Sessions",
    "query": "Queries",
    "page": "Pages",
    "request": "Requests",
    "second": "Seconds",
    "image": "Images",
    "pixel": "Pixels",
    "character": "Characters",
    "gigabyte_day": "GB-Days",
    "token_hour": "Token-Hours",
    "credit": "Credits",
}
"""Unit of a meter -> the unit of FOCUS."""
CREDITS: Final = "Credits"
"""The pricing currency."""


class Bill(NamedTuple):
    """A bill of the period: its document, and its lines by their identity."""

    document: Mapping[str, Any]
    channel: str
    lines: Mapping[str, int]

    @classmethod
    def of(cls, document: Mapping[str, Any], channel: str) -> Bill:
        """Return the bill of a document, paid through a channel. Raises ``invalid_argument`` for an unknown one."""
        if channel not in document["totals"]["channels"]:
            raise BillingError(
                "invalid_argument",
                f"{safe_repr(document['id'])} has no cost through channel {safe_repr(channel)}; use one of the bill",
            )
        return cls(document, channel, {_document_identity(line): at for at, line in enumerate(document["lines"])})

    def detail_id(self, index: int) -> str:
        """Return the id of a line, from 0, in Invoice Detail."""
        return f"{self.document['id']}/{index + 1}"


def line_identity(card: RateCard, meter: str) -> str:
    """Return the identity of the line of a bill that has this meter of a card."""
    list_price, ratio = card.list_prices.get(meter), card.ratio_for(meter)
    return json.dumps(
        {
            "model": card.model,
            "group": card.group,
            "service_tier": card.service_tier,
            "context_tier": card.context_tier,
            **card.conditions(meter),
            "price_since": format_instant(card.price_since),
            "meter": meter,
            "list_price": None if list_price is None else format_plain(list_price),
            "ratio": None if ratio is None else format_plain(ratio),
            "unit_price": format_plain(card.unit_prices[meter]),
        },
        sort_keys=True,
    )


def _document_identity(line: Mapping[str, Any]) -> str:
    amounts = ("quantity", "per", "credits", "rounded")
    return json.dumps({name: value for name, value in line.items() if name not in amounts}, sort_keys=True)


def period_columns(period: Period) -> dict[str, Value]:
    """Return the columns of the billing period."""
    return {"BillingPeriodStart": format_instant(period.start), "BillingPeriodEnd": format_instant(period.end)}


def provider_columns(issuer: str) -> dict[str, Value]:
    """Return the columns that name the seller, of FOCUS 1.2 and of later versions."""
    names = ("HostProviderName", "InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceProviderName")
    return dict.fromkeys(names, issuer)


class DailyUsage(NamedTuple):
    """The usage of one account on one day at one rate card."""

    day: str
    bucket: UsageBucket


def daily_usage(usage: AggregatedUsage) -> list[DailyUsage]:
    """Return the usage of each day, of usage that was aggregated by the dimension ``day``."""
    return [DailyUsage(bucket.split[0], bucket) for each in usage.accounts.values() for bucket in each.buckets]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The usage of one meter of a rate card on one day."""

    account: str
    day: str
    card: RateCard
    meter: str
    rate: ChannelRate
    quantity: int
    shared: Mapping[str, Value]
    """The columns that do not depend on the quantity."""

    @property
    def units(self) -> int:
        """Credits, in units of 10^-18."""
        return self.quantity * self.card.unit_rates[self.meter]

    def columns(self, quantity: int | None = None) -> dict[str, Value]:
        """Return the columns of the row, or of a part of its quantity."""
        part = self.quantity if quantity is None else quantity
        return {**_usage_columns(self.card, self.meter, part, self.rate), **self.shared}


def usage_rows(
    usage: Iterable[DailyUsage], period: Period, issuer: str, channels: Mapping[str, str], bills: Mapping[str, Bill]
) -> list[UsageRow]:
    """Return the rows of the usage: one per account, day, rate card and meter.

    ``channels`` has the payment channel of each account, in whose currency its usage is billed. ``bills`` has the bill
    of each account, or none at all. Costs are exact, so a bill differs from the sum of its rows by its rounding: less
    than a minor unit per line.

    Raises ``unknown_channel`` if the channel had no price, and ``invalid_argument`` if a bill does not have exactly the
    usage.
    """
    days = FocusDays(period)
    merged: dict[tuple[Any, ...], tuple[DailyUsage, str, int]] = {}
    for daily in usage:
        card = daily.bucket.card
        rate = card.channel(channels[daily.bucket.account])
        for meter, quantity in daily.bucket.quantities.items():
            key = (daily.bucket.account, daily.day, line_identity(card, meter), rate)
            known = merged.get(key)
            merged[key] = (daily, meter, quantity + (known[2] if known else 0))
    rows = []
    sums: dict[str, list[Decimal]] = {}
    for (account, day, identity, rate), (daily, meter, quantity) in sorted(
        merged.items(), key=lambda item: item[0][:3]
    ):
        shared = period_columns(period) | days.columns(day) | provider_columns(issuer)
        shared |= {"BillingAccountId": account, "x_PaymentChannel": channels[account]}
        if bills:
            units = quantity * daily.bucket.card.unit_rates[meter]
            shared |= _bill_columns(bills.get(account), identity, account, sums, units)
        rows.append(UsageRow(account, day, daily.bucket.card, meter, rate, quantity, shared))
    for bill in bills.values():
        _check_bill(bill, sums)
    return rows


class FocusDays:
    """The charge periods of calendar days."""

    def __init__(self, period: Period) -> None:
        self._days = CalendarDays(period.zone)
        self._known: dict[str, dict[str, Value]] = {}
        at = period.start
        while at < period.end:
            day = self._days.at(at)
            start, end = max(day.start, period.start), min(day.end, period.end)
            self._known[day.value] = {
                "ChargePeriodStart": format_instant(start),
                "ChargePeriodEnd": format_instant(end),
            }
            at = day.end

    def columns(self, day: str) -> dict[str, Value]:
        """Return the columns of the charge period of a day."""
        return self._known[day]


def _usage_columns(card: RateCard, name: str, quantity: int, rate: ChannelRate) -> dict[str, Value]:
    """Return the columns of a meter that depend on the price and the quantity."""
    meter = card.meter(name)
    per = meter.per if _is_decimal(meter.per) else 1
    consumed = decimal_from_scaled(quantity, meter.places)
    # The Credits of one pricing unit. Prices are exact, so cost = price x quantity holds exactly.
    unit_rate = card.unit_rates[name]
    list_rate = card.list_and_uncached_rates(name)[0] or unit_rate
    contracted, listed = (
        decimal_from_scaled(each * 10**meter.places * per, UNIT_DECIMALS) for each in (unit_rate, list_rate)
    )
    priced = decimal_from_scaled(quantity * (10**UNIT_DECIMALS // per), UNIT_DECIMALS + meter.places)
    credits = decimal_from_scaled(quantity * unit_rate, UNIT_DECIMALS)
    cost = multiply(credits, rate.price)
    unit = _UNITS.get(meter.unit, f"{meter.unit.replace('_', '-').title()}s")
    title = _SKU_METERS.get(name, name.replace("_", " ").title() + (" Tokens" if meter.is_token else ""))
    tiers = f"{card.service_tier}/{card.context_tier}"
    conditions = "/".join(f"{key}={value}" for key, value in card.conditions(name).items())
    return {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "ContractedUnitPrice": multiply(contracted, rate.price),
        "ListCost": multiply(multiply(listed, priced), rate.price),
        "ListUnitPrice": multiply(listed, rate.price),
        "BillingCurrency": rate.currency,
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{title}, {card.model}, {tiers}",
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": consumed,
        "ConsumedUnit": unit,
        "PricingCategory": "Standard",
        "PricingCurrency": CREDITS,
        "PricingCurrencyContractedUnitPrice": contracted,
        "PricingCurrencyEffectiveCost": credits,
        "PricingCurrencyListUnitPrice": listed,
        "PricingQuantity": priced,
        "PricingUnit": unit if per == 1 else f"{per} {unit}",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "LLM API",
        "SkuId": f"{card.model}/{name}",
        "SkuMeter": title,
        "SkuPriceDetails": json.dumps(_price_details(card, meter), ensure_ascii=False, sort_keys=True),
        "SkuPriceId": "/".join(
            part for part in (card.model, name, tiers, card.group, conditions, format_instant(card.price_since)) if part
        ),
        "x_PriceGroup": card.group,
    }


def _is_decimal(per: int) -> bool:
    """Return whether the reciprocal has at most 18 decimal places."""
    return 10**UNIT_DECIMALS % per == 0


def _price_details(card: RateCard, meter: Meter) -> dict[str, str]:
    """Return the key-value pairs of a price. FOCUS 1.4 has no keys for tokens, so all have the prefix."""
    details = {"x_ModelId": card.model, "x_ServiceTier": card.service_tier, "x_ContextTier": card.context_tier}
    if meter.direction is not None:
        details["x_TokenDirection"] = meter.direction.title()
        if meter.direction == "input":
            details["x_TokenCacheAction"] = "Uncached" if meter.cache is None else meter.cache.title()
    return details | {f"x_{key}": value for key, value in card.conditions(meter.name).items()}


def _bill_columns(
    bill: Bill | None, identity: str, account: str, sums: dict[str, list[Decimal]], units: int
) -> dict[str, Value]:
    index = None if bill is None else bill.lines.get(identity)
    if bill is None or index is None:
        raise BillingError(
            "invalid_argument",
            f"account {safe_repr(account)}: the bills have no line for {identity}; give the bills of this usage, price "
            "file and period",
        )
    detail = bill.detail_id(index)
    sums.setdefault(detail, []).append(decimal_from_scaled(units, UNIT_DECIMALS))
    return {"InvoiceId": bill.document["id"], "InvoiceDetailId": detail}


def _check_bill(bill: Bill, sums: Mapping[str, list[Decimal]]) -> None:
    """Raise ``invalid_argument`` unless the rows add up to every line of the bill, exactly."""
    for index, line in enumerate(bill.document["lines"]):
        found = format_plain(sum_exact(sums.get(bill.detail_id(index), [])))
        if found != line["credits"]:
            raise BillingError(
                "invalid_argument",
                f"{safe_repr(bill.document['id'])}, lines[{index}]: {line['credits']} Credits, but the usage has "
                f"{found}; give the usage of the bills",
            )


def invoice_detail_rows(bills: Iterable[Bill]) -> list[Row]:
    """Return the rows of Invoice Detail: one per line of a bill. They add up to its total, to the minor unit."""
    rows: list[Row] = []
    for bill in bills:
        document, channel = bill.document, bill.channel
        total = Decimal(document["totals"]["rounded"]["channels"][channel])
        amounts = [Decimal(rounded_costs(document, line["rounded"])[channel]) for line in document["lines"]]
        if sum_exact(amounts) != total:
            raise BillingError(
                "invalid_document", f"{safe_repr(document['id'])}: its lines do not add up to its total; run 'verify'"
            )
        for index, (line, amount) in enumerate(zip(document["lines"], amounts, strict=True)):
            grain = {f"x_{name}": str(line[name]) for name in ("model", "group", "service_tier", "meter")}
            rows.append(
                {
                    "BilledCost": amount,
                    "BillingAccountId": document["customer"]["account"],
                    "BillingCurrency": document["totals"]["channels"][channel]["currency"],
                    "BillingPeriodStart": document["period"]["from"],
                    "BillingPeriodEnd": document["period"]["to"],
                    "ChargeCategory": "Usage" if document["corrects"] is None else "Adjustment",
                    "InvoiceDetailCreated": document["issued"],
                    "InvoiceDetailDescription": f"{line['meter']}, {line['model']}, {line['service_tier']}",
                    "InvoiceDetailGrain": json.dumps(grain, ensure_ascii=False, sort_keys=True),
                    "InvoiceDetailId": bill.detail_id(index),
                    "InvoiceDetailLastUpdated": document["issued"],
                    "InvoiceId": document["id"],
                    "InvoiceIssueDate": document["issued"],
                    "InvoiceIssueStatus": "Issued",
                    "InvoiceIssuerName": document["issuer"]["name"],
                    "PaymentDueDate": document["due"],
                    "PaymentTerms": "Prepaid",
                    "ReferenceInvoiceId": (document["corrects"] or document)["id"],
                }
            )
    return rows


def note_rows(notes: Iterable[Bill], period: Period, issuer: str) -> list[Row]:
    """Return a row for every line of the notes that correct bills: an adjustment of the class ``Correction``.

    Usage is that of the bills, so a row has no quantity. Its cost is the rounded one of the note.
    """
    rows: list[Row] = []
    for note in notes:
        for index, line in enumerate(note.document["lines"]):
            cost = Decimal(rounded_costs(note.document, line["rounded"])[note.channel])
            rows.append(
                {
                    **period_columns(period),
                    **provider_columns(issuer),
                    **dict.fromkeys(("BilledCost", "EffectiveCost", "ContractedCost", "ListCost"), cost),
                    "BillingAccountId": note.document["customer"]["account"],
                    "BillingCurrency": note.document["totals"]["channels"][note.channel]["currency"],
                    "ChargeCategory": "Adjustment",
                    "ChargeClass": "Correction",
                    "ChargeDescription": f"{note.document['id']}, {line['meter']}, {line['model']}",
                    "ChargeFrequency": "One-Time",
                    "ChargePeriodStart": format_instant(period.start),
                    "ChargePeriodEnd": format_instant(period.end),
                    "InvoiceDetailId": note.detail_id(index),
                    "InvoiceId": note.document["id"],
                    "PricingCurrency": CREDITS,
                    "PricingCurrencyEffectiveCost": Decimal(line["credits"]),
                    "ServiceCategory": "AI and Machine Learning",
                    "ServiceSubcategory": "Generative AI",
                    "ServiceName": "LLM API",
                    "x_PaymentChannel": note.channel,
                    "x_PriceGroup": line["group"],
                }
            )
    return rows


def billing_period_row(period: Period, issuer: str, bills: Sequence[Bill]) -> Row:
    """Return the row of Billing Period. A period is closed once its bills are issued."""
    issued = max((str(bill.document["issued"]) for bill in bills), default=format_instant(period.end))
    return period_columns(period) | {
        "BillingPeriodCreated": format_instant(period.start),
        "BillingPeriodLastUpdated": issued,
        "BillingPeriodStatus": "Closed" if bills else "Open",
        "InvoiceIssuerName": issuer,
    }
