"""Receipts: small signed documents for one charge that a third party verifies from the price file and the public key.

>>> from datetime import UTC, datetime
>>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
>>> from brivionix_billing import PriceBook, Usage
>>> from brivionix_billing.invoice.receipts import make_receipt, verify_receipt
>>> key, book = Ed25519PrivateKey.generate(), PriceBook.load("pricing.yaml")
>>> usage = Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800)
>>> charge = book.rate(usage, model="gpt-5.4-mini", group="default", at=datetime(2026, 10, 20, tzinfo=UTC))
>>> receipt = make_receipt(charge, request_id="req_1", key=key, account="acct_7")
>>> report = verify_receipt(receipt, key=key.public_key(), book=book)
>>> report.ok, str(report.signature)
(True, 'signed, signature valid for the given key')
"""

from brivionix_billing.invoice.receipts.make import make_receipt
from brivionix_billing.invoice.receipts.rate_cards import rate_card_list
from brivionix_billing.invoice.receipts.schema import MAX_RECEIPT_BYTES, json_schema
from brivionix_billing.invoice.receipts.verify import ReceiptCheck, ReceiptReport, verify_receipt

__all__ = [
    "MAX_RECEIPT_BYTES",
    "ReceiptCheck",
    "ReceiptReport",
    "json_schema",
    "make_receipt",
    "rate_card_list",
    "verify_receipt",
]
