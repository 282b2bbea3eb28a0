"""The commands about bills: invoice, verify, prove, credit-note."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Final

from brivionix_billing.canonical import loads_strict
from brivionix_billing.cli.common import (
    DONE,
    NO,
    WRONG,
    add_prices,
    add_workers,
    as_csv,
    emit,
    load_book,
    opened,
    progress,
    reopenable,
    tell,
    workers_for,
    write,
)
from brivionix_billing.errors import BillingError, ascii_safe, quoted
from brivionix_billing.invoice.build import Header, build
from brivionix_billing.invoice.collect import AccountUsage, Collected, collect
from brivionix_billing.invoice.correct import correction
from brivionix_billing.invoice.document import faults, read_document
from brivionix_billing.invoice.page import table
from brivionix_billing.invoice.records import proof_fault, prove
from brivionix_billing.invoice.seal import hash_of, key_id, load_private_key, load_public_key, seal
from brivionix_billing.invoice.shelf import DOCUMENT, RECORDS, Listings, documents_in, last_in, put
from brivionix_billing.invoice.verify import Report, Verifier
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usagefile import SetAside

__all__ = ["add_commands"]

_NAMED: Final = 20
SET_ASIDE: Final = "set_aside.jsonl"
BILLS: Final = "bills.csv"


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "invoice",
        help="bill one account, or all, for a period",
        description="Writes invoice.json, invoice.txt and records.txt into DIR; with --all, into a folder per bill. "
        "Records that cannot be billed are listed in DIR/set_aside.jsonl with the reason, and the exit status is 2.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE.jsonl", help="the usage file; - is stdin")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--account", metavar="A", help="bill this account")
    who.add_argument("--all", action="store_true", help="bill every account of the file, in order of their names")
    parser.add_argument("--period", required=True, metavar="P", help="a month (2026-10), or FROM/TO")
    parser.add_argument("--zone", default="UTC", metavar="Z", help="whose midnights bound the period (UTC)")
    _add_heading(parser)
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    add_workers(parser)
    add_prices(parser)
    parser.set_defaults(run=_invoice)

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
    parser.add_argument("--records", metavar="FILE", help=f"the bill's list of records ({RECORDS} beside it)")
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

    parser = commands.add_parser(
        "credit-note",
        help="correct a bill by a note",
        description="Writes a note into DIR: with --usage, the difference to what the bill should have been; "
        "without, it cancels the whole bill. The bill itself is never edited.",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", metavar="INVOICE.json", help="the bill to correct")
    parser.add_argument("--usage", metavar="USAGE.jsonl", help="the usage as it should have been; - is stdin")
    parser.add_argument("--reason", required=True, metavar="TEXT")
    _add_heading(parser, note=True)
    add_prices(parser)
    parser.set_defaults(run=_credit_note)


def _add_heading(parser: ArgumentParser, *, note: bool = False) -> None:
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write; nothing is written over")
    parser.add_argument(
        "--after",
        required=note,
        metavar="PATH",
        help="the last document of the series, or a folder that holds it; the number goes on from it",
    )
    parser.add_argument("--issued", metavar="T", help="date of issue (the end of the period)", required=note)
    if note:
        parser.add_argument("--sign-key", metavar="FILE", help="sign with this Ed25519 private key (PEM)")
        return
    parser.add_argument("--series", metavar="S", help="series of the numbers (INV, or that of --after)")
    parser.add_argument("--due", metavar="T", help="due date")
    parser.add_argument("--issuer", default="Example issuer", metavar="NAME", help="who issues the bill")
    parser.add_argument("--issuer-detail", action="append", default=[], metavar="LINE", help="a line below it; repeat")
    parser.add_argument("--customer", metavar="NAME", help="the customer's name")
    parser.add_argument("--customer-detail", action="append", default=[], metavar="LINE", help="a line below it")
    parser.add_argument("--sign-key", metavar="FILE", help="sign with this Ed25519 private key (PEM)")


def _invoice(args: Namespace) -> int:
    book = load_book(args)
    period = Period.parse(args.period, args.zone)
    out = Path(args.out)
    if any(out.glob(f"**/{DOCUMENT}")) or any((out / name).exists() for name in (SET_ASIDE, BILLS)):
        raise BillingError("document_exists", f"{out} holds bills already; they are never written over: choose another")
    key = load_private_key(args.sign_key) if args.sign_key else None
    previous = last_in(Path(args.after)) if args.after else None
    series = args.series or (previous["series"] if previous else "INV")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with ExitStack() as stack:
        lists = stack.enter_context(Listings(out))
        aside = stack.enter_context(_AsideFile(out / SET_ASIDE))
        lines = stack.enter_context(opened(args.usage))
        found = collect(
            lines,
            book,
            period,
            account=args.account,
            on_set_aside=aside.add,
            on_leaves=lists.add,
            progress=progress(),
            workers=workers_for(args),
        )
        billable = [found.accounts[name] for name in sorted(found.accounts) if found.accounts[name].requests]
        for usage in billable:
            header = Header(
                account=usage.account,
                period=period,
                period_name=args.period,
                issued=parse_instant(args.issued) if args.issued else period.end,
                series=series,
                number=1 if previous is None else previous["number"] + 1,
                previous=previous,
                issuer=args.issuer,
                issuer_details=args.issuer_detail,
                customer=args.customer,
                customer_details=args.customer_detail,
                due=parse_instant(args.due) if args.due else None,
                signing_key=None if key is None else key_id(key.public_key()),
            )
            document = seal(build(usage, header, book), key)
            folder = out / document["id"] if args.all else out
            path = put(folder, document, lists.take(usage.account))
            rows.append(_row(document, path))
            previous = document
    if rows:
        if args.all:
            (out / BILLS).write_text(as_csv(rows), encoding="utf-8")
        emit(rows, args.format, lambda: _bills_table(rows))
    _tell_rest(found, out / SET_ASIDE)
    if not rows:
        who = "any account" if args.all else f"account {quoted(args.account)}"
        raise BillingError("no_usage", f"no billable record of {who} in {args.period} ({period}); nothing was written")
    return WRONG if found.set_aside else DONE


def _row(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    totals = document["totals"]
    return {
        "id": document["id"],
        "kind": document["kind"],
        "account": document["customer"]["account"],
        "requests": totals["requests"],
        "credits": totals["credits"],
        "nominal": totals["nominal"]["amount"],
        "shown": {"credits": totals["shown"]["credits"], **totals["shown"]["channels"]},
        "hash": document["hash"],
        "path": str(path),
    }


def _bills_table(rows: list[dict[str, Any]]) -> str:
    channels = [name for name in dict.fromkeys(name for row in rows for name in row["shown"]) if name != "credits"]
    heads = ["bill", "account", "requests", "Credits", *channels, "file"]
    cells = [
        [row["id"], row["account"], str(row["requests"]), row["shown"]["credits"]]
        + [row["shown"].get(name, "") for name in channels]
        + [row["path"]]
        for row in rows
    ]
    return table([heads, *cells], left=2)


def _tell_rest(found: Collected, aside: Path) -> None:
    for duplicate in found.duplicates[:_NAMED]:
        tell(
            f"line {duplicate.line}: request id {duplicate.request_id} stands again with the same content; counted once"
        )
    if found.duplicate_count > _NAMED:
        tell(f"... {found.duplicate_count} repeated records in all")
    if found.elsewhere:
        tell(f"{found.elsewhere} records of other accounts or outside the period were not asked for")
    if found.set_aside:
        tell(f"{found.set_aside} records set aside, NOT billed; each with its reason in {aside}")


class _AsideFile:
    """The list of records that were not billed; it comes to be with its first record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None

    def __enter__(self) -> _AsideFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def add(self, record: SetAside) -> None:
        """Append a record."""
        if self.file is None:
            self.file = self.path.open("x", encoding="utf-8")
        self.file.write(json.dumps(record.as_dict(), ensure_ascii=False) + "\n")


def _verify(args: Namespace) -> int:
    paths = [path for given in args.invoice for path in documents_in(Path(given))]
    documents = {path: read_document(path) for path in paths}
    if args.proof:
        return _check_proof(documents, args)
    if args.usage is None and any(document.get("evidence") is not None for document in documents.values()):
        raise BillingError("bad_argument", "give the usage file by --usage, or a proof by --proof")
    key = load_public_key(args.key) if args.key else None
    book = load_book(args)
    by_id = {document.get("id"): document for document in documents.values() if isinstance(document.get("id"), str)}
    reports = []
    with reopenable(args.usage) if args.usage else nullcontext() as usage:
        # One account: its records alone are priced. Several: the file is read once for all of them.
        alone = next(iter(documents.values())) if len(documents) == 1 else {}
        customer = alone.get("customer")
        account = customer.get("account") if isinstance(customer, dict) else None
        verifier = Verifier(usage, book, account=account, progress=progress(), workers=workers_for(args))
        for path, document in documents.items():
            beside = path.parent / RECORDS
            records = Path(args.records) if args.records else beside if beside.exists() else None
            report = verifier.verify(
                document,
                key=key,
                previous=_linked(document.get("previous"), path, by_id, args.previous),
                corrects=_linked(document.get("corrects"), path, by_id, args.corrects),
                records=records,
            )
            reports.append((path, report))
    if args.format == "json":
        write(json.dumps([_report_dict(path, report) for path, report in reports], ensure_ascii=False, indent=2) + "\n")
    else:
        write("".join(_report_text(path, report) for path, report in reports))
    return DONE if all(report.ok for _, report in reports) else NO


def _linked(link: Any, path: Path, by_id: Mapping[Any, dict[str, Any]], given: str | None) -> dict[str, Any] | None:
    """The document that a link means: the one given, or one among those at hand, or one in a folder beside."""
    if given is not None:
        return read_document(given)
    name = link.get("id") if isinstance(link, dict) else None
    if not isinstance(name, str):
        return None
    if name in by_id:
        return by_id[name]
    beside = path.resolve().parent.parent / name / DOCUMENT
    safe = "/" not in name and "\\" not in name and name not in (".", "..")
    return read_document(beside) if safe and beside.exists() else None


def _report_text(path: Path, report: Report) -> str:
    out = [f"{report.id}: {'verified' if report.ok else 'DOES NOT VERIFY'}  {path}"]
    out += [f"  {difference}" for difference in report.differences[:200]]
    if len(report.differences) > 200:
        out.append(f"  ... and {len(report.differences) - 200} more differences")
    out += [f"  note: {note}" for note in dict.fromkeys(report.notes)]
    return "".join("".join(c if c.isprintable() else "?" for c in line) + "\n" for line in out)


def _report_dict(path: Path, report: Report) -> dict[str, Any]:
    return {
        "path": str(path),
        "id": report.id,
        "verified": report.ok,
        "differences": [difference._asdict() for difference in report.differences],
        "notes": report.notes,
    }


def _check_proof(documents: Mapping[Path, dict[str, Any]], args: Namespace) -> int:
    if len(documents) != 1:
        raise BillingError("bad_argument", "a proof is checked against one document")
    path, document = next(iter(documents.items()))
    with opened(args.proof) as file:
        proof = loads_strict(file.read(), args.proof)
    fault = proof_fault(document, proof if isinstance(proof, dict) else {})
    if fault:
        write(ascii_safe(f"{path}: the proof does NOT hold: {fault}") + "\n")
        return NO
    request_id = proof["record"].get("request_id")
    write(ascii_safe(f"{path}: proven: request {request_id} is in {document['id']}") + "\n")
    return DONE


def _prove(args: Namespace) -> int:
    document = _sound(Path(args.invoice))
    if document["evidence"] is None:
        raise BillingError("not_in_bill", f"{document['id']} holds no requests")
    with opened(args.usage) as lines:
        proof = prove(document, lines, load_book(args), args.request)
    write(json.dumps(proof, ensure_ascii=False, indent=2) + "\n")
    return DONE


def _credit_note(args: Namespace) -> int:
    bill = _sound(Path(args.invoice))
    out = Path(args.out)
    for name in (DOCUMENT, SET_ASIDE):
        if (out / name).exists():
            raise BillingError("document_exists", f"{out / name} stands already; choose another folder")
    key = load_private_key(args.sign_key) if args.sign_key else None
    previous = last_in(Path(args.after))
    period = Period.parse(bill["period"]["name"], bill["period"]["zone"])
    header = Header(
        account=bill["customer"]["account"],
        period=period,
        period_name=bill["period"]["name"],
        issued=parse_instant(args.issued),
        series=previous["series"],
        number=previous["number"] + 1,
        previous=previous,
        issuer=bill["issuer"]["name"],
        issuer_details=bill["issuer"]["details"],
        customer=bill["customer"]["name"],
        customer_details=bill["customer"]["details"],
        signing_key=None if key is None else key_id(key.public_key()),
    )
    right = None
    out.mkdir(parents=True, exist_ok=True)
    status = DONE
    with Listings(out) as lists, _AsideFile(out / SET_ASIDE) as aside:
        records = None
        if args.usage:
            book = load_book(args)
            with opened(args.usage) as lines:
                found = collect(
                    lines, book, period, account=header.account, on_set_aside=aside.add, on_leaves=lists.add
                )
            usage = found.accounts.get(header.account) or AccountUsage(header.account)
            right = build(usage, header, book)
            records = lists.take(header.account)
            _tell_rest(found, out / SET_ASIDE)
            status = WRONG if found.set_aside else DONE
        document = seal(correction(bill, right, header, args.reason), key)
        path = put(out, document, records)
    row = _row(document, path)
    emit([row], "table", lambda: _bills_table([row]))
    return status


def _sound(path: Path) -> dict[str, Any]:
    """A document that is what it says: by the schema, and by its hash."""
    document = read_document(path)
    wrong = faults(document)
    if wrong:
        raise BillingError("document_invalid", f"{path}: {wrong[0][0]}: {wrong[0][1]}")
    if document["hash"] != hash_of(document):
        raise BillingError("document_invalid", f"{path} was changed after it was issued: its hash does not fit")
    return document
