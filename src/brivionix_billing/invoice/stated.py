"""The parts of a document that are not computed from the usage: verification takes them from the document itself."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.header import Balance, Header, payment_section
from brivionix_billing.invoice.report import VerificationReport
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import Period, parse_instant

__all__ = ["expected_balance", "expected_payment", "rebuild_header", "stated_channels"]


def rebuild_header(document: Mapping[str, Any], report: VerificationReport) -> Header:
    """Return the header that the document states, to recompute the document with it.

    Payment and balance are checked separately.
    """
    period, customer = document["period"], document["customer"]
    try:
        parsed_period = Period.parse(period["name"], period["zone"])
    except BillingError as error:
        report.add_difference("period", error.message)
        parsed_period = Period(parse_instant(period["from"]), parse_instant(period["to"]), period["zone"])
    header = Header(
        account=customer["account"],
        period=parsed_period,
        period_name=period["name"],
        issued=parse_instant(document["issued"]),
        series=document["series"],
        number=1,
        issuer=document["issuer"]["name"],
        issuer_tax_number=document["issuer"]["tax_number"],
        issuer_details=document["issuer"]["details"],
        customer=customer["name"],
        customer_tax_number=customer["tax_number"],
        customer_details=customer["details"],
        due=None if document["due"] is None else parse_instant(document["due"]),
        signing_key=document["signing_key"],
        split=(document.get("sections") or {}).get("by"),
        title=document.get("title"),
        terms=document.get("terms") or (),
        credit_digits=document["rounding"]["credit_digits"],
    )
    # The chain is checked separately, so a wrong number or link must not stop the recomputation here.
    put = object.__setattr__
    put(header, "number", document["number"])
    put(header, "previous", document["previous"])
    return header


def stated_channels(document: Mapping[str, Any]) -> frozenset[str]:
    """Return the payment channels that the document states: those of its totals, and that of the payment."""
    payment = document["payment"]
    return frozenset([*document["totals"]["channels"], *([] if payment is None else [payment["channel"]])])


def expected_payment(payment: Any, book: PriceBook, report: VerificationReport) -> Any:
    """Return the section that a bill with this channel of payment must have."""
    if payment is None:
        return None
    try:
        return payment_section(payment["channel"], book)
    except BillingError as error:
        report.add_difference("payment.channel", error.message)
        return payment


def expected_balance(section: Any, used: str, report: VerificationReport) -> Any:
    """Return the section that a bill with this opening balance and these movements must have."""
    if section is None:
        return None
    try:
        movements = [(movement["label"], movement["credits"]) for movement in section["movements"]]
        balance = Balance(section["opening"], movements, section["closing"])
    except BillingError as error:
        report.add_difference("balance", error.message)
        return section
    return {**balance.as_dict(), "closing": format_plain(balance.closing_after(Decimal(used)))}
