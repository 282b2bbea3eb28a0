"""The commands that check bills: verify, prove."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK, add_prices, add_workers, load_book, worker_count
from brivionix_billing.cli.files import open_rereadable, open_usage_file
from brivionix_billing.cli.output import as_json, print_stdout, progress
from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.invoice.document import read_document
from brivionix_billing.invoice.files import DOCUMENT_FILE, RECORDS_FILE, find_documents, read_intact_document
from brivionix_billing.invoice.proofs import build_inclusion_proof, check_inclusion_proof
from brivionix_billing.invoice.signing import load_public_key
from brivionix_billing.invoice.verify import VerificationReport, Verifier

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "verify",
        help="redo bills from usage and price file, and say what differs",
        description="Redoes every figure of each document and checks its hash, signature and place in its series. "
        "INVOICE may be a folder: all documents below it.",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", nargs="+", metavar="INVOICE.json", help="a document, or a folder of them")
    parser.add_argument("--usage", metavar="USAGE.jsonl", help="the usage file; - is stdin")
    parser.add_argument("--proof", metavar="FILE", help="check only this inclusion proof; no usage file is needed")
    parser.add_argument("--key", metavar="FILE", help="the issuer's public key (PEM)")
    parser.add_argument("--previous", metavar="FILE", help="the document before it (looked for beside it)")
    parser.add_argument("--corrects", metavar="FILE", help="for a note: the bill that it corrects")
    parser.add_argument("--records", metavar="FILE", help=f"the bill's list of records ({RECORDS_FILE} beside it)")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    add_workers(parser)
    add_prices(parser)
    parser.set_defaults(run=_verify)

    parser = commands.add_parser(
        "prove",
        help="prove that one request is in a bill",
        description="Prints a proof that shows this request and of all others only hashes. "
        "Check it with: brivionix-billing verify INVOICE.json --proof FILE",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", metavar="INVOICE.json")
    parser.add_argument("--usage", required=True, metavar="USAGE.jsonl", help="the usage file; - is stdin")
    parser.add_argument("--request", required=True, metavar="ID", help="the request id")
    add_prices(parser)
    parser.set_defaults(run=_prove)


def _verify(args: Namespace) -> int:
    paths = [path for given in args.invoice for path in find_documents(Path(given))]
    documents = {path: read_document(path) for path in paths}
    if args.proof:
        return _check_proof(documents, args)
    if args.usage is None and any(document.get("evidence") is not None for document in documents.values()):
        raise BillingError("invalid_argument", "give the usage file by --usage, or a proof by --proof")
    if len(documents) > 1 and (args.previous or args.corrects or args.records):
        raise BillingError("invalid_argument", "--previous, --corrects and --records go with one document")
    for given in (args.records, args.previous, args.corrects):
        if given and not Path(given).is_file():
            raise BillingError("file_unreadable", f"cannot read {safe_repr(given, 200)}: no such file")
    key = load_public_key(args.key) if args.key else None
    book = load_book(args)
    by_id = {document.get("id"): document for document in documents.values() if isinstance(document.get("id"), str)}
    reports = []
    with open_rereadable(args.usage) if args.usage else nullcontext() as usage:
        # One account: its records alone are priced. Several: the file is read once for all of them.
        alone = next(iter(documents.values())) if len(documents) == 1 else {}
        customer = alone.get("customer")
        account = customer.get("account") if isinstance(customer, dict) else None
        verifier = Verifier(usage, book, account=account, progress=progress(), workers=worker_count(args))
        for path, document in documents.items():
            beside = path.parent / RECORDS_FILE
            records = Path(args.records) if args.records else beside if beside.exists() else None
            report = verifier.verify(
                document,
                key=key,
                previous=_find_linked_document(document.get("previous"), path, by_id, args.previous),
                corrects=_find_linked_document(document.get("corrects"), path, by_id, args.corrects),
                records=records,
            )
            link = document.get("corrects")
            if isinstance(link, dict) and link.get("id") not in by_id:
                report.notes.append(f"{link.get('id')}, which it corrects, was not itself redone here: verify it too")
            reports.append((path, report))
    _cross_check(documents, dict(reports))
    if args.format == "json":
        print_stdout(as_json([_report_dict(path, report) for path, report in reports]))
    else:
        told: set[str] = set()
        print_stdout("".join(_report_text(path, report, told) for path, report in reports))
    return EXIT_OK if all(report.ok for _, report in reports) else EXIT_NEGATIVE


def _cross_check(documents: Mapping[Path, dict[str, Any]], reports: Mapping[Path, VerificationReport]) -> None:
    """What only shows when documents are looked at side by side: money that is asked for, or given back, twice."""
    numbers: dict[Any, str] = {}
    corrected: dict[Any, str] = {}
    billed: dict[Any, list[tuple[str, str, str]]] = {}
    for path, document in documents.items():
        report = reports[path]
        try:
            name, kind = str(document["id"]), document["kind"]
            link, period = document["corrects"], document["period"]
            number, account = (document["series"], document["number"]), document["customer"]["account"]
            if number in numbers:
                report.add_difference("number", f"{numbers[number]} has the same")
            numbers[number] = str(path)
            if kind != "invoice":
                bill = link["id"]
                if bill in corrected:
                    report.add_difference("corrects", f"{bill} was corrected already by {corrected[bill]}")
                corrected[bill] = name
                continue
            for other, start, end in billed.get(account, []):
                if period["from"] < end and start < period["to"]:
                    report.add_difference("period", f"overlaps that of {other}, a bill of the same account")
            billed.setdefault(account, []).append((name, period["from"], period["to"]))
        except (KeyError, TypeError):
            continue  # its own report says what is wrong with it


def _find_linked_document(
    link: Any, path: Path, by_id: Mapping[Any, dict[str, Any]], given: str | None
) -> dict[str, Any] | None:
    """The document that a link means: the one given, or one among those at hand, or one in a folder beside."""
    if given is not None:
        return read_document(given)
    name = link.get("id") if isinstance(link, dict) else None
    if not isinstance(name, str):
        return None
    if name in by_id:
        return by_id[name]
    beside = path.resolve().parent.parent / name / DOCUMENT_FILE
    safe = "/" not in name and "\\" not in name and name not in (".", "..")
    return read_document(beside) if safe and beside.exists() else None


def _report_text(path: Path, report: VerificationReport, told: set[str]) -> str:
    out = [f"{report.id}: {'verified' if report.ok else 'DOES NOT VERIFY'}  {path}"]
    out += [f"  {difference}" for difference in report.differences[:200]]
    if len(report.differences) > 200:
        out.append(f"  ... and {len(report.differences) - 200} more differences")
    notes = [note for note in dict.fromkeys(report.notes) if note not in told]
    told.update(notes)  # what holds for all documents is said once
    out += [f"  note: {note}" for note in notes]
    return "".join("".join(c if c.isprintable() else "?" for c in line) + "\n" for line in out)


def _report_dict(path: Path, report: VerificationReport) -> dict[str, Any]:
    return {
        "path": str(path),
        "id": report.id,
        "verified": report.ok,
        "differences": [difference._asdict() for difference in report.differences],
        "notes": report.notes,
    }


def _check_proof(documents: Mapping[Path, dict[str, Any]], args: Namespace) -> int:
    if len(documents) != 1:
        raise BillingError("invalid_argument", "a proof is checked against one document")
    path, document = next(iter(documents.items()))
    with open_usage_file(args.proof) as file:
        proof = loads_strict(file.read(), args.proof)
    fault = check_inclusion_proof(document, proof if isinstance(proof, dict) else {})
    if fault:
        print_stdout(escape_unprintable(f"{path}: the proof does NOT hold: {fault}") + "\n")
        return EXIT_NEGATIVE
    request_id = proof["record"].get("request_id")
    print_stdout(escape_unprintable(f"{path}: proven: request {request_id} is in {document['id']}") + "\n")
    return EXIT_OK


def _prove(args: Namespace) -> int:
    document = read_intact_document(Path(args.invoice))
    if document["evidence"] is None:
        raise BillingError("not_in_bill", f"{document['id']} holds no requests")
    with open_usage_file(args.usage) as lines:
        proof = build_inclusion_proof(document, lines, load_book(args), args.request)
    print_stdout(as_json(proof))
    return EXIT_OK
