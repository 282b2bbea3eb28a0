"""Verifies receipts from the price file and the public key alone. Nothing in a receipt is trusted.

The checks have an order, and the first one that fails ends the verification. So every implementation reports the same
check for the same receipt; ``examples/receipts/vectors.jsonl`` has examples for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.decimals import format_plain, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.diff import Difference, diff
from brivionix_billing.invoice.receipts.arithmetic import arithmetic_errors
from brivionix_billing.invoice.receipts.make import charge_section
from brivionix_billing.invoice.receipts.schema import MAX_RECEIPT_BYTES, schema_error
from brivionix_billing.invoice.report import VerificationReport, check_seal
from brivionix_billing.invoice.signing import SignatureState, check_signature
from brivionix_billing.meters import BASIC_METERS, METERS, REQUEST_METERS
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import parse_instant
from brivionix_billing.usage import Usage
from brivionix_billing.usage.fields import make_fields

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["ReceiptCheck", "ReceiptReport", "verify_receipt"]

Json = Mapping[str, Any]
_METER_ORDER = {name: index for index, name in enumerate(METERS)}


class ReceiptCheck(StrEnum):
    """The checks of a receipt, in their order. The values are the codes of the conformance vectors."""

    SIZE = "size"
    """At most ``MAX_RECEIPT_BYTES`` bytes."""
    FORMAT = "format"
    """Canonical JSON that matches the schema."""
    HASH = "hash"
    """The hash is that of the content."""
    SIGNATURE = "signature"
    """Signed by the given key."""
    SUBJECT = "subject"
    """Of the expected request and account."""
    ARITHMETIC = "arithmetic"
    """The lines give the charge."""
    PRICES = "prices"
    """The price file gives these lines."""


@dataclass(slots=True)
class ReceiptReport(VerificationReport):
    """The result of verifying a receipt. ``id`` is its request id."""

    failed: ReceiptCheck | None = None
    """The check that failed; later checks were not made. ``None`` if the receipt verifies."""
    credits: str | None = None
    """The charge in Credits, if the receipt verifies."""


def verify_receipt(
    content: bytes,
    *,
    key: Ed25519PublicKey | None = None,
    book: PriceBook | None = None,
    request_id: str | None = None,
    account: str | None = None,
    require_signature: bool = False,
) -> ReceiptReport:
    """Verify the bytes of a receipt. Returns a report, which is ``ok`` or not.

    ``key`` is the issuer's public key, and ``book`` the issuer's price file. Without them, the report has a note on
    what was not checked; with ``require_signature``, a missing key is a difference. ``request_id`` and ``account`` are
    those that the receipt must be for.
    """
    report = ReceiptReport("", SignatureState.UNSIGNED)
    if len(content) > MAX_RECEIPT_BYTES:
        return _fail(report, ReceiptCheck.SIZE, "receipt", f"has more than {MAX_RECEIPT_BYTES} bytes")
    receipt = _read(content, key, report)
    if receipt is None:
        return report
    report.id = receipt["request_id"]
    check_seal(receipt, key, report, require_signature=require_signature)
    if report.differences:
        report.failed = ReceiptCheck(report.differences[0].where)
        return report
    for name, expected in (("request_id", request_id), ("account", account)):
        if expected is not None and receipt.get(name) != expected:
            stated = safe_repr(receipt.get(name))
            return _fail(report, ReceiptCheck.SUBJECT, name, f"the receipt is for {stated}, not {safe_repr(expected)}")
    for where, message in arithmetic_errors(receipt):
        _fail(report, ReceiptCheck.ARITHMETIC, where, message)
    if report.failed is not None:
        return report
    if book is None:
        report.notes.append("the prices were not checked: no price file was given")
    else:
        report.differences += _price_differences(receipt, book, report)
        if report.differences:
            report.failed = ReceiptCheck.PRICES
    if report.ok:
        report.credits = receipt["credits"]
    return report


def _fail(report: ReceiptReport, check: ReceiptCheck, where: str, message: str) -> ReceiptReport:
    report.failed = check
    report.add_difference(where, message)
    return report


def _read(content: bytes, key: Ed25519PublicKey | None, report: ReceiptReport) -> dict[str, Any] | None:
    """Return the receipt. If the bytes are not the canonical JSON of one, add the reason to the report."""
    receipt: Any = None
    try:
        receipt = loads_strict(content, "the receipt")
        place, error = schema_error(content) or ("receipt", "")
        if not error and canonical_json(receipt) != content:
            error = "not in canonical form; use the bytes as they were issued, without added spaces or line ends"
    except BillingError as failure:
        place, error = "receipt", failure.message
    if not error:
        checked: dict[str, Any] = receipt
        return checked
    if isinstance(receipt, dict):
        report.id = str(receipt.get("request_id"))
        report.signature, _ = check_signature(receipt, key)
    _fail(report, ReceiptCheck.FORMAT, place, error)
    return None


def _price_differences(receipt: Json, book: PriceBook, report: ReceiptReport) -> list[Difference]:
    """Rate the quantities of a receipt again. Returns the differences, and notes another digest of the price file."""
    found = diff("currency", receipt["currency"], book.currency)
    found += diff("nominal_per_credit", receipt["nominal_per_credit"], format_plain(book.nominal_per_credit))
    for index, section in enumerate(receipt["charges"]):
        place = f"charges[{index}]"
        try:
            found += diff(place, section, _rate_again(receipt, section, book))
        except BillingError as error:
            found.append(Difference(place, "", "", error.message))
    if not found and receipt["price_book"] != book.digest:
        # Prices are appended to a price file all the time. Those of this receipt have not changed.
        report.notes.append("the price file has changed since; the prices of this receipt are the same")
    return [
        each if each.message else each._replace(message=f"the receipt states {each.actual}, not {each.expected}")
        for each in found
    ]


def _rate_again(receipt: Json, section: Json, book: PriceBook) -> dict[str, Any]:
    """Return the section that the price file gives for the quantities of a section."""
    router = section.get("router")
    charge = book.rate(
        _usage_of(section, book, None if router is None else section["model"]),
        model=router or section["model"],
        group=receipt["group"],
        at=parse_instant(receipt["at"]),
        service_tier=section["service_tier"],
        region=section.get("region"),
        mode=section.get("mode"),
    )
    return charge_section(charge)


def _usage_of(section: Json, book: PriceBook, served_model: str | None) -> Usage:
    """Return a usage with the quantities of the lines. It is rated like the usage of the request.

    Tokens without a price of their own were billed on another meter, and have its price there as well.
    """
    quantities: dict[str, int] = {}
    for name, quantity, *_ in section["lines"]:
        meter = REQUEST_METERS.get(name) or book.meters.get(name)
        if meter is None:
            raise BillingError("meter_unpriced", f"the price file has no meter {name}")
        coefficient, places = to_scaled(Decimal(quantity))
        if places > meter.places:
            raise BillingError("invalid_usage", f"{quantity} of meter {name} has too many decimal places")
        quantities[name] = coefficient * int(10 ** (meter.places - places))
    reasoning = quantities.pop("reasoning", 0)
    quantities["output"] = quantities.get("output", 0) + reasoning
    stated = {name: quantity for name, quantity in quantities.items() if name not in REQUEST_METERS}
    others = sorted(stated.keys() - set(BASIC_METERS), key=lambda name: (_METER_ORDER.get(name, len(METERS)), name))
    return Usage.from_fields(
        make_fields(
            sum(quantity for name, quantity in stated.items() if book.meters[name].direction == "input"),
            stated.get("input", 0),
            stated.get("cache_read", 0),
            stated.get("output", 0),
            reasoning,
            None,
            served_model,
            tuple((name, stated[name]) for name in others),
        )
    )
