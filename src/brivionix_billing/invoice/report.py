"""The result of a verification, and the checks that need nothing but the document: schema, hash and signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.diff import Difference
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.invoice.signing import SignatureState, check_signature, document_hash

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["VerificationReport", "check_document", "check_seal"]


@dataclass(slots=True)
class VerificationReport:
    """The result of verifying a document, or a proof against a document."""

    id: str
    signature: SignatureState
    """Without a valid signature by the issuer's key, anyone may have written the document."""
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Checks that were skipped, and other remarks."""

    @property
    def ok(self) -> bool:
        """Whether the document verifies: it has no differences. ``signature`` states whether its issuer was checked."""
        return not self.differences

    def add_difference(self, where: str, message: str) -> None:
        """Add a difference described by a message."""
        self.differences.append(Difference(where, "", "", message))


def check_document(
    document: Mapping[str, Any], key: Ed25519PublicKey | None, *, require_signature: bool
) -> VerificationReport:
    """Check the schema, the hash and the signature of a document. Returns a report with the differences.

    With ``require_signature``, a document without a signature that is valid for ``key`` has a difference.
    """
    report = VerificationReport(str(document.get("id")), SignatureState.UNSIGNED)
    for path, message in schema_errors(document):
        report.add_difference(path or "document", f"violates the schema: {message}")
    check_seal(document, key, report, require_signature=require_signature)
    return report


def check_seal(
    document: Mapping[str, Any], key: Ed25519PublicKey | None, report: VerificationReport, *, require_signature: bool
) -> None:
    """Check the hash and the signature of a document, and add the state of its signature and differences to a report.

    With ``require_signature``, a document without a signature that is valid for ``key`` has a difference.
    """
    signature, error = check_signature(document, key)
    report.signature = signature
    try:
        expected = document_hash(document)
    except BillingError as failure:
        report.add_difference("hash", failure.message)
        return
    if document.get("hash") != expected:
        report.add_difference(
            "hash",
            f"the document was altered: it states {safe_repr(document.get('hash'))}, its content has {expected}",
        )
    if error is not None:
        report.add_difference("signature", error)
    elif require_signature and signature is SignatureState.UNSIGNED:
        report.add_difference("signature", "the document is not signed, but a signature is required")
    elif require_signature and signature is SignatureState.UNCHECKED:
        report.add_difference("signature", "required, but not checked; give the issuer's public key with --key")
    if signature is SignatureState.UNCHECKED:
        report.notes.append(
            f"the issuer was not checked: no public key was given for the signature by key {document['signing_key']}"
        )
