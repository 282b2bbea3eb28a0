"""The list of a bill's records, and what it is good for: naming records that differ, and proving that one is in.

The list has a line per record, in tree order: the leaf hash in hex, a space, the request id. It is no evidence by
itself: its hashes must lead to the Merkle root of the bill.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.invoice.signing import document_hash
from brivionix_billing.merkle import RootBuilder, inclusion_proof, leaf_hash, merkle_root, root_from_proof
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import Period
from brivionix_billing.usage.record_file import Record, read_records

__all__ = [
    "PROOF_SCHEMA",
    "RecordComparison",
    "compare_records",
    "format_record_list",
    "check_inclusion_proof",
    "build_inclusion_proof",
]

PROOF_SCHEMA: Final = "brivionix-billing/inclusion-proof/1"


def format_record_list(leaves: list[bytes], ids: list[str]) -> str:
    """Lines of the list."""
    return "".join([f"{leaf.hex()} {request_id}\n" for leaf, request_id in zip(leaves, ids, strict=True)])


class RecordComparison(NamedTuple):
    """How a list of records and a usage file differ."""

    root_differs: bool
    """The list does not lead to the bill's root."""
    differences: list[tuple[str, str]]
    """(where, what), in tree order."""


def compare_records(
    lines: Iterable[bytes], book: PriceBook, period: Period, account: str, listed: Path, root: str
) -> RecordComparison:
    """Compare the bill's list of records with what the usage file has now."""
    now: dict[str, bytes] = {}

    def keep(_: str, leaves: list[bytes], ids: list[str]) -> None:
        now.update(zip(ids, leaves, strict=True))

    aggregate_usage(lines, book, period, account=account, on_leaves=keep)
    builder = RootBuilder()
    differences: list[tuple[str, str]] = []
    for request_id, leaf in _read_list(listed):
        builder.extend([leaf])
        found = now.pop(request_id, None)
        if found is None:
            differences.append(
                (f"record {request_id}", "is in the bill, but not billable in the usage file (left out?)")
            )
        elif found != leaf:
            differences.append((f"record {request_id}", "was altered: it is not the record that was billed"))
    differences += [(f"record {request_id}", "is in the usage file, but not in the bill") for request_id in now]
    return RecordComparison("sha256:" + builder.root().hex() != root, differences)


def _read_list(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                leaf, _, request_id = line.rstrip("\n").partition(" ")
                try:
                    yield request_id, bytes.fromhex(leaf)
                except ValueError:
                    raise BillingError("invalid_document", f"{path}:{number}: not a list of records") from None
    except UnicodeDecodeError:
        raise BillingError("invalid_document", f"{path}: not a list of records") from None
    except (OSError, ValueError) as error:
        raise BillingError("file_unreadable", f"cannot read {safe_repr(str(path), 200)}: {error}") from None


def build_inclusion_proof(
    document: Mapping[str, Any], lines: Iterable[bytes], book: PriceBook, request_id: str
) -> dict[str, Any]:
    """A proof that one request is in a bill; of the others it shows hashes only. Raises ``not_in_bill``.

    ``lines`` is the usage file; it is read once.
    """
    evidence, period = document["evidence"], document["period"]
    if evidence is None:
        raise BillingError("not_in_bill", f"{document['id']} holds no requests")
    leaves: list[bytes] = []
    place = -1
    text: list[bytes] = []

    def keep(_: str, more: list[bytes], ids: list[str]) -> None:
        nonlocal place
        if request_id in ids:
            place = len(leaves) + ids.index(request_id)
        leaves.extend(more)

    def watch() -> Iterator[bytes]:
        needle = request_id.encode("utf-8", "surrogatepass")
        for line in lines:
            if needle in line or b"\\" in line:  # an id may be written with escapes
                text.extend([line] if _request_id_of_line(line) == request_id else [])
            yield line

    span = Period.parse(period["name"], period["zone"])
    aggregate_usage(watch(), book, span, account=document["customer"]["account"], on_leaves=keep)
    root = merkle_root(leaves)
    if place < 0 or not text:
        raise BillingError(
            "not_in_bill", f"{document['id']} holds no request {safe_repr(request_id)} of this usage file"
        )
    if "sha256:" + root.hex() != evidence["merkle_root"]:
        raise BillingError(
            "not_in_bill", f"the usage file does not lead to the root of {document['id']}; verify it first"
        )
    return {
        "schema": PROOF_SCHEMA,
        "document": {"id": document["id"], "hash": document["hash"]},
        "record": loads_strict(text[0], "the record"),
        "leaf_index": place,
        "tree_size": len(leaves),
        "path": [node.hex() for node in inclusion_proof(leaves, place)],
    }


def _request_id_of_line(line: bytes) -> str | None:
    found = next(read_records([line]), None)
    return found.request_id if isinstance(found, Record) else None


def check_inclusion_proof(document: Mapping[str, Any], proof: Mapping[str, Any]) -> str | None:
    """What is wrong with an inclusion proof for a document, or ``None``. Neither is believed."""
    try:
        if proof["schema"] != PROOF_SCHEMA:
            return "not an inclusion proof of this version"
        if document["hash"] != document_hash(document):
            return f"the document {document['id']} was changed"
        if proof["document"] != {"id": document["id"], "hash": document["hash"]}:
            return f"the proof is for {proof['document']['id']}, not for this document"
        leaf = leaf_hash(canonical_json(proof["record"]))
        path = [bytes.fromhex(node) for node in proof["path"]]
        index, size = proof["leaf_index"], proof["tree_size"]
        if type(index) is not int or type(size) is not int or size != document["evidence"]["records"]:
            return "the tree of the proof has not as many records as the bill"
        root = root_from_proof(leaf, index, size, path)
        if root is None or "sha256:" + root.hex() != document["evidence"]["merkle_root"]:
            return "the proof does not lead to the bill's Merkle root: this record, as it stands, is not in the bill"
        owner, account = proof["record"]["account"], document["customer"]["account"]
        if owner != account:
            return f"the record is of account {safe_repr(owner)}, the bill of {safe_repr(account)}"
    except (KeyError, TypeError, ValueError, AttributeError, BillingError) as error:
        return f"not an inclusion proof: {type(error).__name__} at {error}"
    return None
