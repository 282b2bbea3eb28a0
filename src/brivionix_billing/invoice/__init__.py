"""Bills: builds, seals and verifies them, corrects them by notes, and proves that a bill contains a request.

>>> from brivionix_billing import PriceBook
>>> from brivionix_billing.invoice import Header, Verifier, build_invoice, aggregate_usage, seal
>>> from brivionix_billing.times import Period
>>> book, period = PriceBook.load("pricing.yaml"), Period.parse("2026-10")
>>> with open("examples/usage.jsonl", "rb") as lines:
...     usage = aggregate_usage(lines, book, period)
>>> header = Header("acct_1", period, "2026-10", issued=period.end, issuer="Example Gateway Ltd")
>>> bill = seal(build_invoice(usage.accounts["acct_1"], header, book))
>>> Verifier(lambda: open("examples/usage.jsonl", "rb"), book).verify(bill).ok
True
"""

from typing import TYPE_CHECKING, Any

from brivionix_billing.lazy_names import import_name

if TYPE_CHECKING:
    from brivionix_billing.invoice.aggregation.account_usage import AccountUsage, AggregatedUsage, Duplicate
    from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
    from brivionix_billing.invoice.aggregation.dimensions import Dimensions
    from brivionix_billing.invoice.build import build_invoice
    from brivionix_billing.invoice.chain import Change, figures_in_effect, order_changes
    from brivionix_billing.invoice.csv_export import lines_csv
    from brivionix_billing.invoice.diff import Difference
    from brivionix_billing.invoice.document import json_schema, read_document
    from brivionix_billing.invoice.header import Balance, Header, Movement, document_id
    from brivionix_billing.invoice.late import add_late_usage, build_late_usage
    from brivionix_billing.invoice.notes import build_note, build_voiding_note
    from brivionix_billing.invoice.proofs import build_inclusion_proof, check_inclusion_proof
    from brivionix_billing.invoice.report import VerificationReport
    from brivionix_billing.invoice.signing import (
        SignatureState,
        check_signature,
        document_hash,
        key_id,
        load_private_key,
        load_public_key,
        seal,
    )
    from brivionix_billing.invoice.taxes import Tax, TaxTerms
    from brivionix_billing.invoice.text_page import render_text
    from brivionix_billing.invoice.verify import Verifier

__all__ = [
    "AccountUsage",
    "Balance",
    "AggregatedUsage",
    "Change",
    "Difference",
    "Dimensions",
    "Duplicate",
    "Header",
    "Movement",
    "SignatureState",
    "Tax",
    "TaxTerms",
    "VerificationReport",
    "Verifier",
    "build_invoice",
    "aggregate_usage",
    "build_note",
    "build_voiding_note",
    "build_late_usage",
    "add_late_usage",
    "order_changes",
    "figures_in_effect",
    "document_id",
    "document_hash",
    "json_schema",
    "key_id",
    "lines_csv",
    "load_private_key",
    "load_public_key",
    "render_text",
    "check_inclusion_proof",
    "check_signature",
    "build_inclusion_proof",
    "read_document",
    "seal",
]

_MODULES = {
    "AccountUsage": "aggregation.account_usage",
    "AggregatedUsage": "aggregation.account_usage",
    "Balance": "header",
    "Change": "chain",
    "Difference": "diff",
    "Dimensions": "aggregation.dimensions",
    "Duplicate": "aggregation.account_usage",
    "Header": "header",
    "Movement": "header",
    "SignatureState": "signing",
    "Tax": "taxes",
    "TaxTerms": "taxes",
    "VerificationReport": "report",
    "Verifier": "verify",
    "add_late_usage": "late",
    "aggregate_usage": "aggregation.aggregate",
    "build_inclusion_proof": "proofs",
    "build_invoice": "build",
    "build_late_usage": "late",
    "build_note": "notes",
    "build_voiding_note": "notes",
    "check_inclusion_proof": "proofs",
    "check_signature": "signing",
    "document_hash": "signing",
    "document_id": "header",
    "figures_in_effect": "chain",
    "json_schema": "document",
    "key_id": "signing",
    "lines_csv": "csv_export",
    "load_private_key": "signing",
    "load_public_key": "signing",
    "order_changes": "chain",
    "read_document": "document",
    "render_text": "text_page",
    "seal": "signing",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: processes that read usage need none of the modules that build bills."""
    return import_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
