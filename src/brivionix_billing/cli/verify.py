"""The commands that check bills and receipts: verify, prove."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK, add_prices, add_workers, load_book, worker_count
from brivionix_billing.cli.files import (
    USAGE_HELP,
    add_usage_options,
    open_rereadable,
    open_usage,
    open_usage_file,
    source_position,
)
from brivionix_billing.cli.output import as_json, print_stdout, progress
from brivionix_billing.cli.receipts import is_receipt, verify_receipts
from brivionix_billing.cli.reports import report_dict, report_text
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.chain import figures_in_effect, find_changes, order_changes
from brivionix_billing.invoice.document import read_document, schema_errors
from brivionix_billing.invoice.files import DOCUMENT_FILE, RECORDS_FILE, find_documents, read_intact_document
from brivionix_billing.invoice.proofs import build_inclusion_proof, check_inclusion_proof
from brivionix_billing.invoice.report import VerificationReport
from brivionix_billing.invoice.signing import SignatureState, load_public_key
from brivionix_billing.invoice.verify import Verifier

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "verify",
        help="recompute bills and receipts, and report differences",
        description="Recomputes every figure of each document, and checks its hash, signature and number in the "
        "series. INVOICE may be a folder: all documents below it are verified. Receipts are recomputed from the price "
        "file alone.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "invoice", nargs="+", metavar="INVOICE.json", help="a document, a folder of documents, or a receipt"
    )
    parser.add_argument("--usage", metavar="USAGE", help=USAGE_HELP)
    add_usage_options(parser)
    parser.add_argument(
        "--proof", metavar="FILE", help="check the document and this inclusion proof, without the usage file"
    )
    parser.add_argument(
        "--key", metavar="FILE", help="the issuer's public key (PEM); without it, the issuer is not checked"
    )
    parser.add_argument(
        "--require-signature",
        action="store_true",
        help="fail every document whose signature is missing, or was not checked with --key",
    )
    parser.add_argument(
        "--previous", metavar="FILE", help="the previous document of the series (searched in the sibling folders)"
    )
    parser.add_argument("--corrects", metavar="FILE", help="for a note: the corrected bill")
    parser.add_argument("--records", metavar="FILE", help=f"the bill's list of records ({RECORDS_FILE} next to it)")
    parser.add_argument("--request", metavar="ID", help="for a receipt: the request that it must be for")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    add_workers(parser)
    add_prices(parser)
    parser.set_defaults(run=_verify)

    parser = commands.add_parser(
        "prove",
        help="prove that one request is in a bill",
        description="Prints an inclusion proof. It contains this request, and only hashes of all others. "
        "Check it with: brivionix-billing verify INVOICE.json --proof FILE --key FILE",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", metavar="INVOICE.json")
    parser.add_argument("--usage", metavar="USAGE", help=USAGE_HELP)
    add_usage_options(parser)
    parser.add_argument("--request", required=True, metavar="ID", help="the request id")
    add_prices(parser)
    parser.set_defaults(run=_prove)


def _verify(args: Namespace) -> int:
    paths = [path for given in args.invoice for path in find_documents(Path(given))]
    documents = {path: read_document(path) for path in paths}
    receipts = [path for path, document in documents.items() if is_receipt(document)]
    if receipts:
        return verify_receipts(receipts, len(documents), args)
    if args.request:
        raise BillingError("invalid_argument", "--request is for receipts; for a request of a bill, use --proof FILE")
    key = load_public_key(args.key) if args.key else None
    if args.proof:
        return _check_proof(documents, key, args)
    has_usage = args.usage is not None or args.query is not None
    if not has_usage and any(document.get("evidence") is not None for document in documents.values()):
        raise BillingError(
            "invalid_argument", "the usage file is missing; add --usage FILE, or --proof FILE to check a proof"
        )
    if len(documents) > 1 and (args.previous or args.corrects or args.records):
        raise BillingError(
            "invalid_argument",
            "--previous, --corrects and --records require exactly one document; remove them, or verify one document",
        )
    for given in (args.records, args.previous, args.corrects):
        if given and not Path(given).is_file():
            raise BillingError("file_unreadable", f"cannot read {safe_repr(given, 200)}: no such file; check the path")
    book = load_book(args)
    by_id = {document.get("id"): document for document in documents.values() if isinstance(document.get("id"), str)}
    reports = []
    with open_rereadable(args, book) if has_usage else nullcontext() as usage:
        # For one document, only the records of its account are priced. For several, the file is read once for all.
        single = next(iter(documents.values())) if len(documents) == 1 else {}
        customer = single.get("customer")
        account = customer.get("account") if isinstance(customer, dict) else None
        verifier = Verifier(
            usage, book, account=account, progress=progress(source_position(args)), workers=worker_count(args)
        )
        for path, document in documents.items():
            sibling = path.parent / RECORDS_FILE
            records = Path(args.records) if args.records else sibling if sibling.exists() else None
            report = verifier.verify(
                document,
                key=key,
                previous=_find_linked_document(document.get("previous"), path, by_id, args.previous),
                corrects=_find_linked_document(document.get("corrects"), path, by_id, args.corrects),
                records=records,
                require_signature=args.require_signature,
                find=_finder(path, by_id),
            )
            link = document.get("corrects")
            if isinstance(link, dict) and link.get("id") not in by_id:
                report.notes.append(f"the corrected bill {link.get('id')} was not verified here; verify it too")
            reports.append((path, report))
    _cross_check(documents, dict(reports))
    if args.format == "json":
        print_stdout(as_json([report_dict(path, report) for path, report in reports]))
    else:
        printed_notes: set[str] = set()
        for path, report in reports:
            verdict = "verified" if report.ok else "DOES NOT VERIFY"
            print_stdout(report_text(f"{report.id}: {verdict} ({report.signature})  {path}", report, printed_notes))
    return EXIT_OK if all(report.ok for _, report in reports) else EXIT_NEGATIVE


def _cross_check(documents: Mapping[Path, dict[str, Any]], reports: Mapping[Path, VerificationReport]) -> None:
    """Report what no single document shows: an amount that is billed or refunded twice."""
    numbers: dict[Any, str] = {}
    _check_changes(documents, reports)
    billed: dict[Any, list[tuple[str, str, str]]] = {}
    for path, document in documents.items():
        report = reports[path]
        try:
            name, kind = str(document["id"]), document["kind"]
            period = document["period"]
            number, account = (document["series"], document["number"]), document["customer"]["account"]
            if number in numbers:
                report.add_difference("number", f"{numbers[number]} has the same number")
            numbers[number] = str(path)
            if kind != "invoice":
                continue
            for other, start, end in billed.get(account, []):
                if period["from"] < end and start < period["to"]:
                    report.add_difference("period", f"overlaps the period of {other}, a bill of the same account")
            billed.setdefault(account, []).append((name, period["from"], period["to"]))
        except (KeyError, TypeError):
            continue  # its own report has the differences


def _check_changes(documents: Mapping[Path, dict[str, Any]], reports: Mapping[Path, VerificationReport]) -> None:
    """Report gaps and forks in the chain of changes of each bill, and the totals of a bill after them."""
    valid = {path: document for path, document in documents.items() if not schema_errors(document)}
    changes = {path: find_changes(document) for path, document in valid.items()}
    for path, bill in valid.items():
        if bill["kind"] != "invoice":
            continue
        try:
            ordered = order_changes(bill, valid.values())
        except BillingError as error:
            # It concerns every document that changes the bill, because none of them tells which one is right.
            for other, contained in changes.items():
                if any(change.content["corrects"]["id"] == bill["id"] for change in contained):
                    reports[other].add_difference("corrects", error.message)
            continue
        if ordered:
            totals = figures_in_effect(bill, ordered)["totals"]
            costs = [
                f"{amount} {totals['channels'][name]['currency']} ({name})"
                for name, amount in totals["rounded"]["channels"].items()
            ]
            names = ", ".join(change.id for change in ordered)
            reports[path].notes.append(
                f"{bill['id']} with {names}: {', '.join([totals['credits'] + ' Credits', *costs])}"
            )


def _finder(path: Path, by_id: Mapping[Any, dict[str, Any]]) -> Callable[[str], dict[str, Any] | None]:
    """Return a function that finds a document by its id, from the place of another one."""
    return lambda name: _find_linked_document({"id": name}, path, by_id, None)


def _find_linked_document(
    link: Any, path: Path, by_id: Mapping[Any, dict[str, Any]], given: str | None
) -> dict[str, Any] | None:
    """Return the linked document: the given one, one of those to verify, or one in a sibling folder."""
    if given is not None:
        return read_document(given)
    name = link.get("id") if isinstance(link, dict) else None
    if not isinstance(name, str):
        return None
    if name in by_id:
        return by_id[name]
    sibling = path.resolve().parent.parent / name / DOCUMENT_FILE
    safe = "/" not in name and "\\" not in name and name not in (".", "..")
    return read_document(sibling) if safe and sibling.exists() else None


def _check_proof(documents: Mapping[Path, dict[str, Any]], key: Ed25519PublicKey | None, args: Namespace) -> int:
    if len(documents) != 1:
        raise BillingError("invalid_argument", "--proof requires exactly one document; give the document of the proof")
    unused = [f"--{name}" for name in ("usage", "previous", "corrects", "records") if getattr(args, name)]
    if unused:
        raise BillingError(
            "invalid_argument",
            f"--proof checks the document and one request, without {', '.join(unused)}; verify these separately",
        )
    path, document = next(iter(documents.items()))
    with open_usage_file(args.proof) as file:
        proof = loads_strict(file.read(), args.proof)
    proof = proof if isinstance(proof, dict) else {}
    report = check_inclusion_proof(document, proof, key=key, require_signature=args.require_signature)
    request = proof["record"].get("request_id") if report.ok else None
    if args.format == "json":
        print_stdout(as_json([{**report_dict(path, report), "request": request}]))
    elif report.ok:
        # Only a document whose issuer was checked proves anything. The verdict precedes all texts of others.
        word = "proven" if report.signature is SignatureState.VALID else "the proof matches"
        verdict = f"{path}: {word} ({report.signature}): request {request} is in {report.id}"
        print_stdout(report_text(verdict, report, set()))
    else:
        print_stdout(report_text(f"{path}: the proof is NOT valid ({report.signature})", report, set()))
    return EXIT_OK if report.ok else EXIT_NEGATIVE


def _prove(args: Namespace) -> int:
    document = read_intact_document(Path(args.invoice))
    if document["evidence"] is None:
        raise BillingError("not_in_bill", f"{document['id']} contains no requests; give the bill that it corrects")
    book = load_book(args)
    with open_usage(args, book) as lines:
        proof = build_inclusion_proof(document, lines, book, args.request)
    print_stdout(as_json(proof))
    return EXIT_OK
