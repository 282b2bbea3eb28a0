"""Inclusion proofs: they prove that a bill contains one request, without the rest of the usage file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.invoice.report import VerificationReport, check_document
from brivionix_billing.invoice.signing import SignatureState
from brivionix_billing.merkle import inclusion_proof, leaf_hash, merkle_root, root_from_proof
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import Period

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["PROOF_SCHEMA", "build_inclusion_proof", "check_inclusion_proof"]

PROOF_SCHEMA: Final = "brivionix-billing/inclusion-proof/1"


def build_inclusion_proof(
    document: Mapping[str, Any], lines: Iterable[bytes], book: PriceBook, request_id: str
) -> dict[str, Any]:
    """Return a proof that a bill contains one request. Of the other requests, it reveals hashes only.

    ``lines`` is the usage file; it is read once. Raises ``not_in_bill``.
    """
    evidence, period = document["evidence"], document["period"]
    if evidence is None:
        raise BillingError("not_in_bill", f"{document['id']} has no records; use the bill that it corrects")
    leaves: list[bytes] = []
    leaf_index: int | None = None

    def collect(_: str, partition_leaves: list[bytes], ids: list[str]) -> None:
        nonlocal leaf_index
        if request_id in ids:
            leaf_index = len(leaves) + ids.index(request_id)
        leaves.extend(partition_leaves)

    parsed_period = Period.parse(period["name"], period["zone"])
    account = document["customer"]["account"]
    usage = aggregate_usage(lines, book, parsed_period, account=account, on_leaves=collect, watch=request_id)
    if leaf_index is None or not usage.watched:
        raise BillingError(
            "not_in_bill", f"the usage file has no request {safe_repr(request_id)} that {document['id']} bills"
        )
    if "sha256:" + merkle_root(leaves).hex() != evidence["merkle_root"]:
        raise BillingError(
            "not_in_bill", f"the usage file does not match the Merkle root of {document['id']}; verify the bill first"
        )
    return {
        "schema": PROOF_SCHEMA,
        "document": {"id": document["id"], "hash": document["hash"]},
        "record": loads_strict(usage.watched[0], "the record"),
        "leaf_index": leaf_index,
        "tree_size": len(leaves),
        "path": [node.hex() for node in inclusion_proof(leaves, leaf_index)],
    }


def check_inclusion_proof(
    document: Mapping[str, Any],
    proof: Mapping[str, Any],
    *,
    key: Ed25519PublicKey | None = None,
    require_signature: bool = False,
) -> VerificationReport:
    """Check an inclusion proof against a document, trusting neither. Returns a report, which is ``ok`` or not.

    The document itself is checked as well: its schema, its hash and, with the issuer's public ``key``, its signature.
    Without a key, anyone may have written both document and proof: see ``signature`` of the report. With
    ``require_signature``, this is a difference.
    """
    report = check_document(document, key, require_signature=require_signature)
    if key is None and report.signature is SignatureState.UNSIGNED:
        report.notes.append("the issuer was not checked: the document is not signed, so anyone may have written it")
    if report.ok:
        error = _proof_error(document, proof)
        if error is not None:
            report.add_difference("proof", error)
    else:
        report.add_difference("proof", "proves nothing, because the document does not verify")
    return report


def _proof_error(document: Mapping[str, Any], proof: Mapping[str, Any]) -> str | None:
    """Check a proof against a document that matches its schema and its hash. Returns the error, or ``None``."""
    if document["evidence"] is None:
        return f"the document {document['id']} has no records; give the bill that it corrects"
    try:
        if proof["schema"] != PROOF_SCHEMA:
            return f"not an inclusion proof of this version; its schema must be {PROOF_SCHEMA}"
        if proof["document"] != {"id": document["id"], "hash": document["hash"]}:
            return f"it is for {safe_repr(proof['document']['id'])}, not for this document"
        leaf = leaf_hash(canonical_json(proof["record"]))
        path = [bytes.fromhex(node) for node in proof["path"]]
        index, size = proof["leaf_index"], proof["tree_size"]
        if type(index) is not int or type(size) is not int or size != document["evidence"]["records"]:
            return "its tree and the bill have different numbers of records"
        root = root_from_proof(leaf, index, size, path)
        if root is None or "sha256:" + root.hex() != document["evidence"]["merkle_root"]:
            return "it does not lead to the Merkle root of the bill: the bill does not contain this record"
        record_account, bill_account = proof["record"]["account"], document["customer"]["account"]
        if record_account != bill_account:
            return f"its record is of account {safe_repr(record_account)}, the bill of {safe_repr(bill_account)}"
    except (KeyError, TypeError, ValueError, AttributeError, BillingError) as error:
        return f"not an inclusion proof: {type(error).__name__} at {error}"
    return None
