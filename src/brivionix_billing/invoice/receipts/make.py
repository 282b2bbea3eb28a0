"""Makes receipts from charges. Equal charges of one request have equal receipts, so a retry makes the same bytes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from brivionix_billing.canonical_json import canonical_json, json_digest
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.receipts.schema import MAX_RECEIPT_BYTES, SCHEMA
from brivionix_billing.invoice.signing import key_id, seal
from brivionix_billing.meters import format_quantity
from brivionix_billing.rating import Charge
from brivionix_billing.rating.charge import CombinedCharge
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import format_instant

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["charge_section", "make_receipt"]


def make_receipt(charge: Charge, *, request_id: str, key: Ed25519PrivateKey, account: str | None = None) -> bytes:
    """Return the signed receipt of a charge: its canonical JSON, at most ``MAX_RECEIPT_BYTES`` bytes.

    ``request_id`` and ``account`` are 1 to 256 printable characters; without ``account``, the receipt names none. If
    the list of unaccounted numbers makes the receipt too large, it has their count and hash instead.

    Raises ``invalid_argument`` for an invalid id or account, and ``receipt_too_large`` if the receipt is still too
    large: with more than about 25 lines, or with very long names.
    """
    charges = (charge.own, *charge.parts) if isinstance(charge, CombinedCharge) else (charge,)
    card = charge.card
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "request_id": require_text("request_id", request_id),
        "at": format_instant(charge.at),
        "group": card.group,
        "currency": card.currency,
        "nominal_per_credit": format_plain(card.nominal_per_credit),
        "charges": [charge_section(each) for each in charges],
        "credits": format_plain(charge.credits),
        "estimated": any(each.estimated for each in charges),
        "price_book": card.price_book_digest,
        "signing_key": key_id(key.public_key()),
    }
    if account is not None:
        document["account"] = require_text("account", account)
    numbers = [[path, format_plain(Decimal(value))] for each in charges for path, value in each.unaccounted]
    if numbers:
        document["unaccounted"] = numbers
    receipt = canonical_json(seal(document, key))
    if numbers and len(receipt) > MAX_RECEIPT_BYTES:
        document["unaccounted"] = {"numbers": str(len(numbers)), "hash": json_digest(numbers)}
        receipt = canonical_json(seal(document, key))
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise BillingError(
            "receipt_too_large",
            f"the receipt of request {safe_repr(request_id)} has {len(receipt)} bytes, at most {MAX_RECEIPT_BYTES} are "
            "allowed; use shorter names, or give the customer the explanation instead",
        )
    return receipt


def charge_section(charge: Charge) -> dict[str, Any]:
    """Return what a receipt states about the charge of one model."""
    usage, card, texts = charge.usage, charge.card, charge.card.texts
    lines: list[list[str | None]] = []
    for name, quantity in card.billed_quantities(usage):
        if quantity:
            meter, prices = texts.lines[name].meter, texts.lines[name].prices
            lines.append(
                [
                    name,
                    format_quantity(quantity, meter),
                    str(meter.per),
                    prices["unit_price"],
                    prices["list_price"],
                    prices["ratio"],
                ]
            )
    lines.sort(key=lambda line: str(line[0]))
    section: dict[str, Any] = {
        "model": card.model,
        "service_tier": card.service_tier,
        **texts.conditions,
        "price_since": texts.price_since,
        "group_since": texts.group_since,
        "lines": lines,
    }
    bounds = card.context.bounds
    if bounds:
        section["context"] = {
            "input_tokens": str(usage.input_tokens),
            **{bound: str(tokens) for bound, tokens in bounds.items()},
        }
    if card.exchange_rate is not None:
        nominal = [str(name) for name, *_ in lines if card.is_nominal(str(name))]
        if nominal:
            section["nominal_meters"] = nominal
    if card.minimum:
        section["minimum"] = format_plain(card.minimum)
    return section
